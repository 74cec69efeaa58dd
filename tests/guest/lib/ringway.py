# SPDX-License-Identifier: BSD-3-Clause
"""The daemon under test: its configuration file, its life, its control tool."""
import json
import os
import shlex

from lib.bed import Failure, check, wait_until
from lib.reference import Reference

READY_S = 150  # in an emulated machine on a loaded one; a quiet one needs a second
STOP_S = 10  # the daemon promises less than 1 s; the rest is for a loaded machine


def guest_port(bed, name, role="listen", **more):
	return dict(name=name, type="guest", socket=str(bed.path(f"{name}.sock")), role=role, **more)


def nic_port(name, device, **more):
	return dict(name=name, type="nic", device=device, **more)


def configuration(cpu, ports, control, bridges=None, cross_connects=(), **more):
	"""The daemon's file, one object a line, so that an error's line number tells something."""
	lines = ["workers: " + json.dumps({"cpus": str(cpu)}), "ports:"]
	lines += ["  - " + json.dumps(port) for port in ports]
	lines += ["bridges:" if bridges else "bridges: []"]
	lines += ["  - " + json.dumps({"name": name, "ports": members}) for name, members in (bridges or {}).items()]
	lines += ["cross_connects:" if cross_connects else "cross_connects: []"]
	lines += ["  - " + json.dumps({"ports": members}) for members in cross_connects]
	lines += ["control: " + json.dumps({"socket": str(control)})]
	lines += [f"{key}: {json.dumps(value)}" for key, value in more.items()]
	return "\n".join(lines) + "\n"


def start_switch(bed, ports, bridges, **more):
	"""A running switch: Ringway, or testpmd in its place when the run asks for the reference."""
	kind = Reference if os.environ.get("RINGWAY_REFERENCE") else Ringway
	return kind(bed, ports, bridges, **more)


class Ringway:
	is_reference = False

	def __init__(self, bed, ports, bridges, name="ringway"):
		self.bed = bed
		self.name = name
		self.program = bed.build / "app" / "ringway" / "ringway"
		self.ctl_program = bed.build / "app" / "ringwayctl" / "ringwayctl"
		self.control = bed.path(f"{name}.control")
		config = bed.path(f"{name}.yaml")
		config.write_text(configuration(bed.worker_cpu, ports, self.control, bridges))
		self.process = bed.start(name, [self.program, "--config", config], cpus=os.sched_getaffinity(0))
		bed.witness(f"{name}.ports.json", lambda: bed.run(self.ctl_program, "-s", self.control, "-j", "port", "show"))
		wait_until(self._ready, READY_S, f"{name} answers 'ringwayctl port show'")

	def _ready(self):
		if not self.process.alive():
			raise Failure(f"{self.name} ended with {self.process.child.returncode}: {self.last_lines()}")
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
		check(self.process.alive(), f"{self.name} died ({self.process.child.poll()}): {self.last_lines()}")

	def stop(self):
		"""Ends it and holds it to a clean exit."""
		self.check_alive()
		status = self.process.terminate(STOP_S)
		check(status == 0, f"{self.name} ended with status {status}: {self.last_lines()}")


class GuestRingway:
	"""The daemon inside a HostGuest, which sees its program where it lies on this machine.

	SHARE is the guest's folder on this machine: the configuration and the log are there, so that they outlive the guest.
	"""

	def __init__(self, bed, guest, share, name, cpu, ports, **config):
		self.guest = guest
		self.name = name
		self.log = share / f"{name}.log"
		self.log.touch()
		# 9p does not carry sockets.
		self.control = f"/tmp/{name}.sock"
		self.ctl_program = bed.build / "app" / "ringwayctl" / "ringwayctl"
		path = share / f"{name}.yaml"
		path.write_text(configuration(cpu, ports, self.control, **config))
		guest.type(f"{bed.build / 'app' / 'ringway' / 'ringway'} --config {path} >{self.log} 2>&1 & ringway=$!")
		bed.witness(f"{name}.ports.json", lambda: self._ctl_text("port", "show"))
		bed.witness(f"{name}.workers.json", lambda: self._ctl_text("worker", "show"))
		wait_until(self._ready, READY_S, f"{name} answers 'ringwayctl port show'")

	def _ctl_text(self, *words, check_status=True):
		return self.guest.run(shlex.join([str(self.ctl_program), "-s", self.control, "-j", *words]), check_status=check_status)

	def _ready(self):
		check(self.guest.run("kill -0 $ringway && echo alive", check_status=False) == "alive\n",
			f"{self.name} ended: {self.last_lines()}")
		output = self._ctl_text("port", "show", check_status=False)
		return output.startswith("{") and "error" not in json.loads(output)

	def last_lines(self):
		return " | ".join(self.log.read_text(errors="replace").splitlines()[-3:])

	def ctl(self, *words):
		return json.loads(self._ctl_text(*words))

	def port(self, name):
		return self.ctl("port", "show", name)["ports"][0]

	def stop(self):
		"""Ends it and holds it to a clean exit."""
		status = self.guest.run("kill $ringway; wait $ringway; echo $?", STOP_S).strip()
		check(status == "0", f"{self.name} ended with status {status}: {self.last_lines()}")
