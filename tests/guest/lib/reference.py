# SPDX-License-Identifier: BSD-3-Clause
"""testpmd with net_vhost in Ringway's place: each bridge of two ports becomes a pair that it forwards between."""
from lib.bed import Failure, check
from lib.testpmd import Testpmd


class Reference:
	is_reference = True

	def __init__(self, bed, ports, bridges, name="reference"):
		by_name = {port["name"]: port for port in ports}
		vdevs = []
		queues = max(port.get("queues", 1) for port in ports)
		for members in bridges.values():
			check(len(members) == 2, "the reference forwards between pairs only")
			for member in members:
				vdevs.append(self._vdev(len(vdevs), by_name[member]))
		self.testpmd = Testpmd(bed, name, vdevs, queues=queues, cpu=bed.worker_cpu, memory_mb=768)
		self.testpmd.wait_ready()
		self.testpmd.command("set fwd io")
		self.testpmd.command("start")

	@staticmethod
	def _vdev(index, port):
		if port["type"] == "nic":
			return port["device"]
		role = 1 if port["role"] == "connect" else 0
		return f"net_vhost{index},iface={port['socket']},queues={port.get('queues', 1)},client={role}"

	def check_alive(self):
		if not self.testpmd.process.alive():
			raise Failure(f"{self.testpmd.name} (testpmd) died")

	def stop(self):
		self.testpmd.quit()
