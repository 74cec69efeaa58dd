# SPDX-License-Identifier: BSD-3-Clause
"""100 MB between two Linux guests, half each way at once, contents compared.

Each guest sends its source disk through TCP and writes what it receives to its sink disk; both are files here, so that
the comparison costs the emulated CPUs nothing.
"""
import os
import time
from collections import namedtuple

BYTES_EACH_WAY = 50_000_384  # whole sectors
DEADLINE_S = 150
BLOCK = "-b131072"


class Result(namedtuple("Result", "rate_mb_s retransmits mean_frame_bytes drops")):
	def __str__(self):
		lost = "".join(f", {count} {reason}" for reason, count in self.drops.items())
		return f"{self.rate_mb_s:.0f} MB/s ({self.mean_frame_bytes:.0f} B/frame, {self.retransmits} retransmits{lost})"


def make_disks(bed, name):
	source = bed.path(f"{name}.source")
	source.write_bytes(os.urandom(BYTES_EACH_WAY))
	return [source, empty_sink(bed, name)]


def empty_sink(bed, name):
	"""All zeros: what an earlier transfer left must not pass for this one's."""
	sink = bed.path(f"{name}.sink")
	with open(sink, "wb") as disk:
		disk.truncate(BYTES_EACH_WAY)
	return sink


def _retransmits(guest):
	"""TCP segments this guest has sent again since it booted."""
	names, values = (line.split() for line in guest.run("grep ^Tcp: /proc/net/snmp").splitlines())
	return int(dict(zip(names, values))["RetransSegs"])


def _counters(switch, guests):
	"""What the switch has delivered and dropped at the guests' ports."""
	total = {"tx_packets": 0, "tx_bytes": 0, "drops": {}}
	for guest in guests if not switch.is_reference else ():
		port = switch.ctl("stats", guest.name)["ports"][0]
		total["tx_packets"] += port["tx_packets"]
		total["tx_bytes"] += port["tx_bytes"]
		for reason, count in port["drops"].items():
			total["drops"][reason] = total["drops"].get(reason, 0) + count
	return total


def transfer(bed, switch, guests, addresses):
	"""Moves and compares; Failure when a byte differs."""
	for guest in guests:
		empty_sink(bed, guest.name)
		guest.run("echo 3 > /proc/sys/vm/drop_caches")
		guest.type(f"socat -u {BLOCK} TCP-LISTEN:9000,reuseaddr FILE:/dev/vdb & receiver=$!")
	retransmits = sum(_retransmits(guest) for guest in guests)
	before = _counters(switch, guests)
	start_s = time.monotonic()
	for guest, peer in (guests, guests[::-1]):
		guest.type(f"socat -u {BLOCK} FILE:/dev/vda TCP:{addresses[peer.name]}:9000,retry=50,interval=0.2 & sender=$!")
	for guest in guests:
		guest.run("wait $sender && wait $receiver && sync", DEADLINE_S)
	took_s = time.monotonic() - start_s
	after = _counters(switch, guests)
	for guest, peer in (guests, guests[::-1]):
		bed.run("cmp", bed.path(f"{guest.name}.source"), bed.path(f"{peer.name}.sink"))
	frames = after["tx_packets"] - before["tx_packets"]
	return Result(
		2 * BYTES_EACH_WAY / took_s / 1e6,
		sum(_retransmits(guest) for guest in guests) - retransmits,
		(after["tx_bytes"] - before["tx_bytes"]) / frames if frames else 0,
		{reason: count - before["drops"].get(reason, 0) for reason, count in after["drops"].items()
			if count > before["drops"].get(reason, 0)})
