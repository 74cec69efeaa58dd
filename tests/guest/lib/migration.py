# SPDX-License-Identifier: BSD-3-Clause
"""Live migration between two QEMUs on this machine, by QMP."""
import json
import mmap
import os
import socket
import time
from collections import namedtuple

from lib.bed import Failure, check, wait_until

ANSWER_S = 30
# Slow enough for a first round of seconds, so that traffic makes the following ones long as well.
THROTTLED_BYTES_S = 64 << 20
UNTHROTTLED_BYTES_S = 10 << 30
# QEMU stops the guest when it expects to send the rest within the downtime at this rate: not a page is little enough.
NEVER = {"avail-switchover-bandwidth": 1 << 20, "downtime-limit": 1}
# 0: at the rate that it measures.
SOON = {"avail-switchover-bandwidth": 0, "downtime-limit": 500}
PAGE_BYTES = 4096
PIECE_BYTES = 1 << 20


class Qmp:
	"""QEMU's monitor: QEMU connects to it when it starts."""

	def __init__(self, bed, name):
		self.name = name
		path = bed.path(f"{name}.qmp")
		self.listener = socket.socket(socket.AF_UNIX)
		self.listener.bind(str(path))
		self.listener.listen(1)
		self.listener.settimeout(ANSWER_S)
		self.arguments = ["-chardev", f"socket,id=qmp,path={path}", "-mon", "chardev=qmp,mode=control"]
		self.lines = None
		self.event_s = {}

	def _read(self):
		try:
			line = self.lines.readline()
		except TimeoutError:
			raise Failure(f"{self.name}: QEMU's monitor does not answer within {ANSWER_S} s") from None
		check(line, f"{self.name}: QEMU's monitor hung up")
		message = json.loads(line)
		if "event" in message:
			stamp = message["timestamp"]
			self.event_s[message["event"]] = stamp["seconds"] + stamp["microseconds"] / 1e6
		return message

	def connect(self):
		connection, _ = self.listener.accept()
		connection.settimeout(ANSWER_S)
		self.lines = connection.makefile("rw")
		self._read()
		self.command("qmp_capabilities")

	def command(self, name, **arguments):
		"""What it returns; Failure when QEMU refuses."""
		self.lines.write(json.dumps({"execute": name, "arguments": arguments}) + "\n")
		self.lines.flush()
		while True:
			message = self._read()
			if "error" in message:
				raise Failure(f"{self.name}: {name}: {message['error']['desc']}")
			if "return" in message:
				return message["return"]

	def event_time_s(self, event):
		"""When QEMU last told of the event, on the system's clock; it must have happened."""
		self.command("query-status")
		check(event in self.event_s, f"{self.name}: no {event} from QEMU")
		return self.event_s[event]


def guest_memory(vm):
	"""The guest's memory, as the file that QEMU shares with its back ends."""
	folder = f"/proc/{vm.process.pid}/fd"
	for number in os.listdir(folder):
		if os.readlink(f"{folder}/{number}").startswith("/memfd:memory-backend-memfd"):
			with open(f"{folder}/{number}", "rb") as file:
				return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
	raise Failure(f"{vm.name}: QEMU has no memory that it shares")


def check_same_memory(source, destination):
	"""Page by page; both must stand still. Returns the number of pages."""
	with guest_memory(source) as before, guest_memory(destination) as after:
		check(len(before) == len(after), "the two guests' memories differ in size")
		lost = []
		for start in range(0, len(before), PIECE_BYTES):
			if before[start:start + PIECE_BYTES] != after[start:start + PIECE_BYTES]:
				lost += [page for page in range(start, start + PIECE_BYTES, PAGE_BYTES)
					if before[page:page + PAGE_BYTES] != after[page:page + PAGE_BYTES]]
		check(not lost, f"{len(lost)} of {len(before) // PAGE_BYTES} pages came as they had been before, like those at "
			f"{', '.join(f'0x{page:x}' for page in lost[:8])}")
		return len(before) // PAGE_BYTES


# Times: *_s on the system's clock, as packets and ping -D have them. rounds: passes over the guest's memory. n_pages: compared.
Result = namedtuple("Result", "start_s stop_s resume_s rounds downtime_ms megabytes n_pages")


def migrate(source, destination, rounds, under_way, seconds, compare=False):
	"""Moves the guest from one LinuxGuest's QEMU to the other's, both with a Qmp, in no fewer rounds; under_way() is called in the midst.

	compare: the destination's QEMU has -S, and starts when its memory has been found the same as the source's.
	"""
	path = source.bed.path("migration.sock")
	destination.qmp.command("migrate-incoming", uri=f"unix:{path}")
	source.qmp.command("migrate-set-parameters", **{"max-bandwidth": THROTTLED_BYTES_S}, **NEVER)
	start_s = time.time()
	source.qmp.command("migrate", uri=f"unix:{path}")

	def look():
		state = source.qmp.command("query-migrate")
		status = state.get("status")
		check(status not in ("failed", "cancelled"), f"migration {status}: {state.get('error-desc')}")
		return status, state.get("ram", {}).get("dirty-sync-count", 0), state

	def advanced():
		status, count, _ = look()
		check(status != "completed" or count >= rounds, f"the migration was done after {count} rounds, expected at least {rounds}")
		return count >= rounds

	def arrived():
		return destination.qmp.command("query-status")["status"] == ("paused" if compare else "running")

	wait_until(lambda: look()[0] == "active", seconds, "the migration starts")
	under_way()
	wait_until(advanced, seconds, f"{rounds} rounds of migration")
	source.qmp.command("migrate-set-parameters", **{"max-bandwidth": UNTHROTTLED_BYTES_S}, **SOON)
	wait_until(lambda: look()[0] == "completed", seconds, "the migration ends")
	wait_until(arrived, seconds, "the guest arrives")
	n_pages = 0
	if compare:
		n_pages = check_same_memory(source, destination)
		destination.qmp.command("cont")
	_, count, state = look()
	return Result(start_s, source.qmp.event_time_s("STOP"), destination.qmp.event_time_s("RESUME"), count, state["downtime"],
		state["ram"]["transferred"] / 1e6, n_pages)
