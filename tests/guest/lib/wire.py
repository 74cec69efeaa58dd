# SPDX-License-Identifier: BSD-3-Clause
"""The far ends of a guest's emulated NICs: taps, numbered frames written into one and looked for at another."""
import socket
import struct
import time
from pathlib import Path

from lib.bed import check

MAGIC = b"ringway?"
ETHER_LEN, IP_LEN, UDP_LEN = 14, 20, 8
PAYLOAD = struct.Struct(">8sI20x")
ARRIVE_S = 10


def _checksum(header):
	total = sum(struct.unpack(f">{len(header) // 2}H", header))
	while total > 0xffff:
		total = (total & 0xffff) + (total >> 16)
	return total ^ 0xffff


def frame(number, destination, source):
	"""A UDP packet; its addresses and port differ from one number to the next, so that a NIC spreads them over its queues."""
	payload = PAYLOAD.pack(MAGIC, number)
	udp = struct.pack(">HHHH", 1000 + number % 1000, 2000, UDP_LEN + len(payload), 0)
	ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, IP_LEN + len(udp) + len(payload), 0, 0, 64, 17, 0,
		bytes([10, 0, 0, 1 + number % 200]), bytes([10, 0, 1, 1]))
	ip = ip[:10] + struct.pack(">H", _checksum(ip)) + ip[12:]
	return destination + source + b"\x08\x00" + ip + udp + payload


def number_of(data):
	"""A frame's number, None for what is not ours."""
	at = ETHER_LEN + IP_LEN + UDP_LEN
	if len(data) < at + PAYLOAD.size:
		return None
	magic, number = PAYLOAD.unpack_from(data, at)
	return number if magic == MAGIC else None


class Tap:
	"""A tap that a QEMU opens, and a packet socket on it. Nothing but what we send comes out of it."""

	def __init__(self, bed, name, queues=1):
		self.name = name
		self.queues = queues
		bed.run("ip", "tuntap", "add", name, "mode", "tap", *(["multi_queue"] if queues > 1 else []))
		no_ipv6 = Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6")
		if no_ipv6.exists():
			no_ipv6.write_text("1")
		bed.run("ip", "link", "set", name, "up")
		self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
		self.socket.bind((name, 0x0800))
		self.socket.setblocking(False)

	def netdev(self, identifier):
		queues = f",queues={self.queues}" if self.queues > 1 else ""
		return f"tap,id={identifier},ifname={self.name},script=no,downscript=no,vhost=off{queues}"

	def send(self, data):
		self.socket.send(data)

	def received(self):
		"""All frames that came since the last call."""
		frames = []
		while True:
			try:
				data, address = self.socket.recvfrom(65536)
			except BlockingIOError:
				return frames
			if address[2] != socket.PACKET_OUTGOING:
				frames.append(data)


def send_bursts(source, sinks, addresses, bursts, frames, pause_s):
	"""BURSTS times FRAMES frames, each burst followed by a pause; every sink gets every frame once and unchanged, or Failure.

	addresses: destination's and source's MAC. Returns how many bursts had not come completely when their pause was over.
	"""
	for sink in sinks:
		sink.received()
	sent = {}
	n_late = 0
	got = {sink: [] for sink in sinks}

	def collect():
		for sink in sinks:
			got[sink] += [data for data in sink.received() if number_of(data) is not None]

	for number in range(bursts * frames):
		sent[number] = frame(number, *addresses)
		source.send(sent[number])
		if number % frames == frames - 1:
			time.sleep(pause_s)
			collect()
			n_late += any(len(arrived) < len(sent) for arrived in got.values())

	end = time.monotonic() + ARRIVE_S
	while any(len(arrived) < len(sent) for arrived in got.values()) and time.monotonic() < end:
		time.sleep(0.01)
		collect()
	for sink, arrived in got.items():
		numbers = {number_of(data) for data in arrived}
		what = f"of {len(sent)} frames into {source.name} {sink.name}"
		check(numbers == set(sent), f"{what} got {len(numbers & set(sent))}")
		check(len(arrived) == len(sent), f"{what} got some twice: {len(arrived)}")
		changed = [number_of(data) for data in arrived if data != sent[number_of(data)]]
		check(not changed, f"{what} got some changed: {changed[:5]}")
	return n_late
