# SPDX-License-Identifier: BSD-3-Clause
"""A Linux guest under traffic moves from one Ringway to another and back, with split rings, and with two pairs of packed ones.

Two daemons stand for two hosts, and a bridge of Linux for the network between them. While its memory is copied, in several
rounds, the guest is pinged, writes a stream to its disk, and lets another one wait in its receive buffer: what waits there has
been written by the daemon alone, so that a page missing from the log is a hole in what the guest reads on the other host. On the
way back the whole memory is compared before the guest goes on. Who moves must be found at the new place at once: by its own
word (GUEST_ANNOUNCE), or, where it has none, by the daemon's RARP.
"""
import re
import signal
import socket
import struct
import time

from lib.bed import check, wait_until
from lib.migration import Qmp, migrate
from lib.ringway import guest_port, nic_port, start_switch
from lib.stream import Stream
from lib.vm import LinuxGuest, vhost_user_nic

LAN = "lan"
PEER = "10.80.0.1"
GUEST = "10.80.0.2"
MAC = "52:54:00:00:00:51"
SIDES = ("east", "west")
ROUNDS = 3  # before it may end
MIGRATION_S = 90
SETTLE_S = 1  # of traffic before and after
PING_EVERY_S = 0.01
# For a loaded machine; a quiet one needs a tenth.
PAUSE_MAX_S = 10
DISK_BYTES = 1 << 30  # sparse
# A stream that waits must fit the guest's buffer.
WAITING_PAUSE_S = 0.1
WAITING_PORT, WRITTEN_PORT = 9001, 9000
WAITING_BUFFER_BYTES = 16 << 20
RARP, ARP = 0x8035, 0x0806
TIMESTAMP = 35  # SO_TIMESTAMPNS, which Python does not name


def layout_of(name):
	"""(queue pairs, properties of the NIC, how it makes itself known)"""
	return {"split": (1, "", ARP), "packed": (2, "packed=on,guest_announce=off", RARP)}[name]


class Announcements:
	"""Hears who makes itself known on the network: [(when, protocol)]."""

	def __init__(self):
		self.sockets = []
		for protocol in (RARP, ARP):
			heard = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(protocol))
			heard.setsockopt(socket.SOL_SOCKET, TIMESTAMP, 1)
			heard.bind((LAN, protocol))
			heard.setblocking(False)
			self.sockets.append((protocol, heard))

	def of(self, mac):
		found = []
		for protocol, heard in self.sockets:
			while True:
				try:
					frame, control, _, address = heard.recvmsg(2048, 64)
				except BlockingIOError:
					break
				is_own = frame[6:12] == mac
				# ARP that asks for oneself is an announcement, any other just ARP.
				is_gratuitous = protocol == RARP or frame[28:32] == frame[38:42]
				if address[2] != socket.PACKET_OUTGOING and is_own and is_gratuitous:
					seconds, nanoseconds = struct.unpack("qq", control[0][2])
					found.append((seconds + nanoseconds / 1e9, protocol))
		return sorted(found)


class Pinger:
	"""The peer's pings in short intervals, until report()."""

	def __init__(self, bed, name):
		self.process = bed.start(f"{name}.ping", ["ping", "-D", "-n", "-i", PING_EVERY_S, GUEST])

	def last_s(self):
		stamps = re.findall(r"^\[([0-9.]+)\] \d+ bytes from", self.process.text(), re.M)
		return float(stamps[-1]) if stamps else 0

	def report(self, start_s, end_s):
		"""(lost and sent in all, longest time without an answer between two moments)"""
		self.process.child.send_signal(signal.SIGINT)
		self.process.wait(10)
		text = self.process.text()
		sent, received = (int(count) for count in re.search(r"(\d+) packets transmitted, (\d+) received", text).groups())
		stamps = [float(stamp) for stamp in re.findall(r"^\[([0-9.]+)\] \d+ bytes from", text, re.M)]
		stamps = [stamp for stamp in stamps if start_s <= stamp <= end_s]
		gap = max((after - before for before, after in zip(stamps, stamps[1:])), default=0)
		return sent - received, sent, gap


def start_side(bed, layout, side):
	"""One host: a daemon between its guest and the network."""
	queues = layout_of(layout)[0]
	switch = start_switch(bed, [guest_port(bed, side, queues=queues), nic_port(f"up-{side}", f"net_tap0,iface=rw{side}")],
		{"br0": [side, f"up-{side}"]}, name=f"ringway-{layout}-{side}")
	bed.run("ip", "link", "set", f"rw{side}", "master", LAN, "up")
	return switch


def boot(bed, layout, side, disks, name, *arguments):
	queues, properties, _ = layout_of(layout)
	qmp = Qmp(bed, f"{layout}-{name}")
	nic = vhost_user_nic(0, bed.path(f"{side}.sock"), MAC, queues=queues, properties=properties)
	# A kernel that clears each page it hands out would write to all the daemon's pages itself.
	guest = LinuxGuest(bed, f"{layout}-{name}", [nic], disks, smp=queues, kernel_arguments="init_on_alloc=0",
		arguments=[*qmp.arguments, *arguments])
	qmp.connect()
	guest.qmp = qmp
	return guest


def listen(guest, variable, port, disk, options=""):
	guest.type(f"socat -u -b131072 TCP-LISTEN:{port},reuseaddr{options} FILE:{disk} & {variable}=$!")
	wait_until(lambda: f":{port:04X} 00000000:0000 0A" in guest.run("cat /proc/net/tcp"), 20, f"{guest.name} listens on {port}")


def check_logs(switch, side):
	"""While the guest moves its daemon must have been asked for the log, and agreed."""
	if not switch.is_reference:
		features = switch.port(side)["features"]
		check("LOG_ALL" in str(features), f"LOG_ALL is not among {features}")


def place(switch):
	"""The port behind which a daemon believes the guest."""
	return [entry["port"] for entry in switch.ctl("fdb", "show")["entries"] if entry["mac"] == MAC]


def check_moved(bed, switches, old, new, queues):
	"""Everybody knows the new place; the old one's port is idle, the new one's runs."""
	wait_until(lambda: f"{MAC} dev rw{new}" in bed.run("bridge", "fdb", "show", "br", LAN), PAUSE_MAX_S,
		"Linux' bridge learns the new place")
	if switches[old].is_reference:
		return
	for side, port in ((old, f"up-{old}"), (new, new)):
		wait_until(lambda: place(switches[side]) == [port], PAUSE_MAX_S, f"the daemon at {side} finds the guest at {port}")
	left, taken = (switches[side].port(side) for side in (old, new))
	started = [sum(ring["started"] for ring in port["rings"]) for port in (left, taken)]
	check(started == [0, 2 * queues], f"rings started: {started}, expected none and {2 * queues}")
	check(taken["state"] == "running", f"the port at {new} is {taken['state']}: {taken['last_error']}")
	broken = [ring["index"] for ring in taken["rings"] if ring["broken"]]
	check(not broken, f"rings {broken} at {new} are broken: {taken['last_error']}")


def frames(switch, name):
	"""Frames through a port, both ways."""
	if switch.is_reference:
		return 0
	port = switch.ctl("stats", name)["ports"][0]
	return port["tx_packets"] + port["rx_packets"]


def move(bed, layout, switches, guest, disks, pinger, old, new, compare):
	"""(the guest at its new place, migrate()'s result, the moment of the first announcement or None)"""
	queues, _, announced_by = layout_of(layout)
	moved = boot(bed, layout, new, disks, f"moved-{new}", "-incoming", "defer", *(["-S"] if compare else []))
	announcements = Announcements()
	result = migrate(guest, moved, ROUNDS, lambda: check_logs(switches[old], old), MIGRATION_S, compare)
	wait_until(lambda: pinger.last_s() > result.resume_s, PAUSE_MAX_S, "pings after the migration", every=0.1)
	check_moved(bed, switches, old, new, queues)
	before = [frames(switches[side], side) for side in (old, new)]
	time.sleep(SETTLE_S)
	grown = [frames(switches[side], side) - count for side, count in zip((old, new), before)]
	if not switches[old].is_reference:
		check(grown[0] == 0 and grown[1] > 0, f"frames through the guest's ports afterwards: {grown[0]} at {old}, {grown[1]} at {new}")
	guest.check_alive()
	guest.kill()
	heard = [moment for moment, protocol in announcements.of(bytes.fromhex(MAC.replace(":", ""))) if protocol == announced_by]
	check(heard, f"the guest has not been announced by {'RARP' if announced_by == RARP else 'ARP'}")
	return moved, result, heard[0]


def exercise(bed, layout):
	switches = {side: start_side(bed, layout, side) for side in SIDES}
	disks = []
	for name in ("written", "waiting"):
		disks.append(bed.path(f"{layout}.{name}.sink"))
		with open(disks[-1], "wb") as disk:
			disk.truncate(DISK_BYTES)
	old, new = SIDES
	guest = boot(bed, layout, old, disks, "booted")
	guest.wait_booted()
	guest.set_address(GUEST)
	guest.ping(PEER)
	guest.run(f"echo {WAITING_BUFFER_BYTES} > /proc/sys/net/core/rmem_max")
	listen(guest, "written", WRITTEN_PORT, "/dev/vda")
	listen(guest, "waiting", WAITING_PORT, "/dev/vdb", f",so-rcvbuf={WAITING_BUFFER_BYTES}")
	# Its connection is made by the kernel alone.
	guest.run("kill -STOP $waiting")
	pinger = Pinger(bed, layout)
	begun_s = time.time()
	written = Stream(GUEST, WRITTEN_PORT, bed.path(f"{layout}.written.source"))
	waiting = Stream(GUEST, WAITING_PORT, bed.path(f"{layout}.waiting.source"), WAITING_PAUSE_S)
	time.sleep(SETTLE_S)

	guest, there, announced_s = move(bed, layout, switches, guest, disks, pinger, old, new, False)
	settled_s = time.time()
	guest, back, _ = move(bed, layout, switches, guest, disks, pinger, new, old, True)
	n_waited = waiting.n_bytes
	guest.run("kill -CONT $waiting")
	n_bytes = {"waiting": waiting.finish(), "written": written.finish()}
	guest.run("wait $written && wait $waiting && sync", 60)
	lost, sent, gap_s = pinger.report(there.start_s, back.start_s)
	guest.ping(PEER)
	for name, count in n_bytes.items():
		bed.run("cmp", "-n", count, bed.path(f"{layout}.{name}.source"), bed.path(f"{layout}.{name}.sink"))
	bed.figure(f"{layout}: paused {there.downtime_ms} ms by QEMU, {gap_s * 1000:.0f} ms by pings ({lost} of {sent} lost), "
		f"announced after {(announced_s - there.resume_s) * 1000:.0f} ms, {there.rounds} rounds with "
		f"{there.megabytes:.0f} MB in {there.stop_s - there.start_s:.1f} s, stream of "
		f"{written.rate_mb_s(begun_s, there.start_s):.0f} MB/s before, {written.rate_mb_s(there.start_s, there.stop_s):.0f} during, "
		f"{written.rate_mb_s(there.resume_s, settled_s):.0f} after, {n_waited / 1e6:.0f} MB waited; back: {back.rounds} rounds, "
		f"{back.n_pages} pages the same")
	guest.check_alive()
	guest.kill()
	for switch in switches.values():
		switch.stop()


def run(bed):
	bed.run("ip", "link", "add", LAN, "type", "bridge")
	bed.run("ip", "addr", "add", f"{PEER}/24", "dev", LAN)
	bed.run("ip", "link", "set", LAN, "up")
	for layout in ("split", "packed"):
		exercise(bed, layout)
