# SPDX-License-Identifier: BSD-3-Clause
"""Runs one scenario inside its namespaces: child.py SCENARIO FOLDER BUILD CACHE; the verdict goes to FOLDER/verdict."""
import importlib
import subprocess
import sys
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from lib.bed import Bed, Failure, Skip  # noqa: E402


def enclose():
	"""What the namespaces leave shared: /run (DPDK's and ip-netns' files) and the view of network devices in /sys."""
	for command in (
			"mount -t tmpfs -o mode=755 tmpfs /run",
			"mount -t sysfs sysfs /sys",
			"ip link set lo up"):
		subprocess.run(command.split(), check=True)


def main():
	name, folder, build, cache = sys.argv[1:]
	enclose()
	bed = Bed(folder, build, cache)
	scenario = importlib.import_module(f"scenarios.{name}")
	try:
		scenario.run(bed)
		verdict = "PASS", ", ".join(bed.figures)
	except Skip as reason:
		verdict = "SKIP", str(reason)
	except Failure as reason:
		traceback.print_exc()
		verdict = "FAIL", str(reason)
	except Exception as error:
		traceback.print_exc()
		verdict = "FAIL", f"the scenario itself broke: {error!r}"
	if verdict[0] == "FAIL":
		bed.hear_witnesses()
	bed.path("verdict").write_text(" ".join(verdict).replace("\n", " | "))


main()
