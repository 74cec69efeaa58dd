# SPDX-License-Identifier: BSD-3-Clause
"""The daemon under test: its configuration file, its life, its control tool."""
import json
import os

from lib.bed import Failure, check, wait_until
from lib.reference import Reference

READY_S = 150  # in an emulated machine on a loaded one; a quiet one needs a second
STOP_S = 10  # the daemon promises less than 1 s; the rest is for a loaded machine


def guest_port(bed, name, role="listen", **more):
	return dict(name=name, type="guest", socket=str(bed.path(f"{name}.sock")), role=role, **more)


def nic_port(name, device):
	return dict(name=name, type="nic", device=device)


def start_switch(bed, ports, bridges):
	"""A running switch: Ringway, or testpmd in its place when the run asks for the reference."""
	kind = Reference if os.environ.get("RINGWAY_REFERENCE") else Ringway
	return kind(bed, ports, bridges)


class Ringway:
	is_reference = False

	def __init__(self, bed, ports, bridges):
		self.bed = bed
		self.program = bed.build / "app" / "ringway" / "ringway"
		self.ctl_program = bed.build / "app" / "ringwayctl" / "ringwayctl"
		self.control = bed.path("control.sock")
		config = bed.path("ringway.yaml")
		config.write_text(self._config(ports, bridges))
		self.process = bed.start("ringway", [self.program, "--config", config], cpus=os.sched_getaffinity(0))
		bed.witness("ports.json", lambda: bed.run(self.ctl_program, "-s", self.control, "-j", "port", "show"))
		wait_until(self._ready, READY_S, "ringway answers 'ringwayctl port show'")

	def _config(self, ports, bridges):
		lines = ["workers: " + json.dumps({"cpus": str(self.bed.worker_cpu)}), "ports:"]
		lines += ["  - " + json.dumps(port) for port in ports]
		lines += ["bridges:"]
		lines += ["  - " + json.dumps({"name": name, "ports": members}) for name, members in bridges.items()]
		lines += ["control: " + json.dumps({"socket": str(self.control)})]
		return "\n".join(lines) + "\n"

	def _ready(self):
		if not self.process.alive():
			raise Failure(f"ringway ended with {self.process.child.returncode}: {self.last_lines()}")
		if not self.control.exists():
			return False
		output = self.bed.run(self.ctl_program, "-s", self.control, "-j", "port", "show", check_status=False)
		return output.lstrip().startswith("{") and "error" not in json.loads(output)

	def last_lines(self):
		return " | ".join(self.process.text().splitlines()[-3:])

	def ctl(self, *words):
		"""The parsed JSON of one ringwayctl command."""
		self.check_alive()
		return json.loads(self.bed.run(self.ctl_program, "-s", self.control, "-j", *words))

	def port(self, name):
		return self.ctl("port", "show", name)["ports"][0]

	def wait_state(self, name, *states, seconds=30):
		"""The port once it is in one of the states."""
		def reached():
			port = self.port(name)
			return port if port["state"] in states else None
		return wait_until(reached, seconds, f"port {name} becomes {' or '.join(states)}")

	def check_alive(self):
		check(self.process.alive(), f"ringway died ({self.process.child.poll()}): {self.last_lines()}")

	def stop(self):
		"""Ends it and holds it to a clean exit."""
		self.check_alive()
		status = self.process.terminate(STOP_S)
		check(status == 0, f"ringway ended with status {status}: {self.last_lines()}")
