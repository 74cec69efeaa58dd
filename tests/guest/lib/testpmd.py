# SPDX-License-Identifier: BSD-3-Clause
"""DPDK's testpmd, typed into through a pipe: as a guest (virtio_user ports) or as the reference switch."""
import re
import subprocess

from lib.bed import check, wait_until

START_S = 90


class Testpmd:
	"""One testpmd with its lcores on one CPU; memory from memfd pages unless hugepages are asked for."""

	def __init__(self, bed, name, vdevs, queues=1, ring=256, cpu=None, memory_mb=512, hugepages=False, args=()):
		cpu = bed.guest_cpus[0] if cpu is None else cpu
		memory = ["--in-memory", "--single-file-segments"] if hugepages else ["--no-huge", "--no-shconf"]
		self.n_ports = len(vdevs)
		self.process = bed.start(name, [
			# Line buffering: what it says must be readable while it runs.
			"stdbuf", "-oL", "dpdk-testpmd", "--lcores", f"0@{cpu},1@{cpu}", "--no-pci", "--no-telemetry",
			"--file-prefix", name, *memory, "-m", str(memory_mb),
			*[word for vdev in vdevs for word in ("--vdev", vdev)],
			"--", "-i", "--no-mlockall", "--no-flush-rx", "--nb-cores=1",
			# virtio's free threshold only works with descriptor counts that equal the ring's size.
			f"--rxq={queues}", f"--txq={queues}", f"--rxd={ring}", f"--txd={ring}",
			f"--total-num-mbufs={2048 + 2 * ring * queues * len(vdevs)}", *args],
			cpus={cpu}, stdin=subprocess.PIPE)
		self.name = name

	def wait_ready(self, seconds=START_S):
		wait_until(lambda: "testpmd>" in self._text_of_the_living(), seconds, f"{self.name} (testpmd) starts")

	def _text_of_the_living(self):
		check(self.process.alive(), f"{self.name} (testpmd) ended: {self.process.text()[-300:]}")
		return self.process.text()

	def command(self, line):
		self.process.child.stdin.write(f"{line}\n".encode())
		self.process.child.stdin.flush()

	def counters(self):
		"""[(received, sent)] per port."""
		seen = len(self.process.text())
		self.command("show port stats all")
		pattern = re.compile(r"RX-packets: (\d+).*?TX-packets: (\d+).*?Tx-pps", re.S)

		def complete():
			found = pattern.findall(self._text_of_the_living()[seen:])
			return found if len(found) == self.n_ports else None
		return [(int(rx), int(tx)) for rx, tx in wait_until(complete, 30, f"{self.name} shows its counters")]

	def quit(self):
		self.command("stop")
		self.command("quit")
		status = self.process.wait(40)
		check(status == 0, f"{self.name} (testpmd) ended with status {status}")
