# SPDX-License-Identifier: BSD-3-Clause
"""DPDK's virtio_user as guest: every mix of options in both roles, traffic both ways; killed and restarted under traffic.

Guests come in pairs on a bridge of their own; Ringway listens for one of a pair and connects to the other. One testpmd
plays four pairs, one for each mix of mergeable buffers and in-order completion; it forwards what it gets on one side of
a pair out of the other, so that a fixed set of frames circulates in both directions with the two guests' MAC addresses.
"""
import itertools
import time

from lib.bed import Failure, check, wait_until
from lib.ringway import guest_port, start_switch
from lib.testpmd import Testpmd

MIXES = list(itertools.product((0, 1), (0, 1)))  # mrg_rxbuf, in_order
ROLES = {"a": "listen", "b": "connect"}  # Ringway's, by the side of a pair
SIDES = tuple(ROLES)
FRAMES = 3000  # each port must get that many more: every ring of 1024 wraps at least twice per queue pair it has
FRAMES_KILLED = 1000  # more than four times as many as there are, so they do circulate
TRAFFIC_S = 60  # a deadline for loaded machines; a quiet one needs milliseconds
PLACE = 0x7fff  # of an index; in packed rings the bit above is the wrap counter
ALWAYS = {"VERSION_1", "INDIRECT_DESC", "PROTOCOL_FEATURES"}


def other(side):
	return SIDES[1 - SIDES.index(side)]


def port_name(mix, side):
	return f"{ROLES[side]}{MIXES.index(mix)}"


def bridge_name(mix):
	return f"br{MIXES.index(mix)}"


def mac(mix, side):
	return f"52:54:00:00:{MIXES.index(mix) + 1:02x}:{SIDES.index(side) + 1:02x}"


def vdev(bed, index, mix, side, queues, ring, packed=False):
	mrg_rxbuf, in_order = mix
	return (f"net_virtio_user{index},path={bed.path(port_name(mix, side))}.sock,mac={mac(mix, side)},"
		f"queues={queues},queue_size={ring},mrg_rxbuf={mrg_rxbuf},in_order={in_order},"
		f"packed_vq={int(packed)},"
		# The other end listens when ringway connects.
		f"server={1 if ROLES[side] == 'connect' else 0}")


def peers(order):
	"""testpmd's --eth-peer arguments: frames leaving port N carry the address of the other side."""
	return [f"--eth-peer={index},{mac(mix, other(side))}" for index, (mix, side) in enumerate(order)]


def expected_features(mix, queues, packed):
	mrg_rxbuf, in_order = mix
	names = set(ALWAYS)
	names |= {"MRG_RXBUF"} if mrg_rxbuf else set()
	names |= {"IN_ORDER"} if in_order else set()
	names |= {"RING_PACKED"} if packed else set()
	# virtio_user answers the control queue itself; more than one queue pair needs it.
	names |= {"MQ", "CTRL_RX"} if queues > 1 else set()
	return names


def plain(features):
	"""Names without the specifications' prefixes."""
	names = {name.upper() for name in features}
	for prefix in ("VIRTIO_F_", "VIRTIO_RING_F_", "VIRTIO_NET_F_", "VHOST_USER_F_", "F_"):
		names = {name.removeprefix(prefix) for name in names}
	return names


def rings_in_use(port):
	return [ring for ring in port["rings"] if ring["started"] and ring["enabled"]]


def wait_rings(switch, names, queues):
	if switch.is_reference:
		return
	wait_until(lambda: all(len(rings_in_use(switch.port(name))) == 2 * queues for name in names), 30,
		f"{', '.join(names)}: {2 * queues} rings each started and enabled")


def check_port(port, mix, queues, ring, packed):
	name = port["name"]
	got = plain(port["features"])
	expected = expected_features(mix, queues, packed)
	check(got == expected, f"{name}: negotiated {sorted(got)}, expected {sorted(expected)}")
	check(len(rings_in_use(port)) == 2 * queues, f"{name}: {len(rings_in_use(port))} rings in use, expected {2 * queues}")
	for used in rings_in_use(port):
		label = f"{name}: {used['dir']} ring {used['index']}"
		check(used["size"] == ring, f"{label} of {used['size']}, expected {ring}")
		check(not used["broken"], f"{label} is broken: {port['last_error']}")


def wait_all_rings_used(switch, names, queues):
	"""Every queue pair carries frames, in both directions. An index may be 0 because it has just come round, so it is
	looked at until it is not."""
	unused = {(name, index) for name in names for index in range(2 * queues)}

	def all_used():
		for name in {name for name, _ in unused}:
			unused.difference_update((name, ring["index"]) for ring in switch.port(name)["rings"] if ring["used_idx"] & PLACE > 0)
		return not unused
	try:
		wait_until(all_used, 30, "all rings are used")
	except Failure as late:
		raise Failure(f"{late}, but not {sorted(unused)}") from None


def run_point(bed, switch, queues, ring, packed):
	"""Four pairs with the same layout and size of rings and number of queues; frames per second."""
	label = f"{'packed' if packed else 'split'}-q{queues}-r{ring}"
	order = [(mix, side) for mix in MIXES for side in SIDES]
	guest = Testpmd(bed, label, [vdev(bed, i, mix, side, queues, ring, packed) for i, (mix, side) in enumerate(order)],
		queues=queues, ring=ring, args=["--forward-mode=mac", "--txonly-multi-flow", *peers(order)])
	guest.wait_ready()
	# Frames sent to a guest that is not there yet are dropped, and the set that circulates is never renewed.
	names = [port_name(mix, side) for mix, side in order]
	wait_rings(switch, names, queues)
	guest.command("start tx_first 7")
	start_s = time.monotonic()
	received = []

	def enough():
		received[:] = [rx for rx, _ in guest.counters()]
		return min(received) >= FRAMES * queues
	try:
		wait_until(enough, TRAFFIC_S, f"{label}: every port gets {FRAMES * queues} frames")
	except Failure as late:
		counts = [f"mrg_rxbuf={mix[0]} in_order={mix[1]} ringway {ROLES[side]}s: {frames}"
			for (mix, side), frames in zip(order, received)]
		raise Failure(f"{late}, but {'; '.join(counts)}") from None
	rate = sum(received) / (time.monotonic() - start_s)
	if not switch.is_reference:
		for mix, side in order:
			check_port(switch.port(port_name(mix, side)), mix, queues, ring, packed)
		wait_all_rings_used(switch, names, queues)
		check_learned(switch)
	guest.quit()
	if not switch.is_reference:
		for name in names:
			switch.wait_state(name, "idle", "connecting")
	return rate


def check_learned(switch):
	for mix in MIXES:
		learned = {(entry["mac"], entry["port"]) for entry in switch.ctl("fdb", "show", bridge_name(mix))["entries"]}
		for side in SIDES:
			check((mac(mix, side), port_name(mix, side)) in learned,
				f"{bridge_name(mix)}: {mac(mix, side)} not learned on {port_name(mix, side)}, but {sorted(learned)}")


def run_killed(bed, switch, hugepages):
	"""Each guest of a pair in turn is killed while frames circulate between two testpmds; a new one brings the traffic back."""
	mix = (1, 1)
	names = [port_name(mix, side) for side in SIDES]

	def start(side, life):
		guest = Testpmd(bed, f"{ROLES[side]}-life{life}", [vdev(bed, 0, mix, side, 1, 256)], memory_mb=128,
			hugepages=hugepages, args=["--forward-mode=mac", "--port-topology=loop", *peers([(mix, side)])])
		guest.wait_ready()
		return guest

	def begin(guest):
		wait_rings(switch, names, 1)
		guest.command("start tx_first 7")

	def check_moving():
		for guest in guests.values():
			first = guest.counters()[0][0]
			wait_until(lambda: guest.counters()[0][0] > first + FRAMES_KILLED, TRAFFIC_S, f"frames keep arriving at {guest.name}")

	guests = {side: start(side, 1) for side in SIDES}
	guests["a"].command("start")
	begin(guests["b"])
	check_moving()
	for side in SIDES:
		guests[side].process.kill()
		if not switch.is_reference:
			switch.wait_state(port_name(mix, side), "idle", "connecting")
			staying = switch.port(port_name(mix, other(side)))
			check(staying["state"] == "running", f"{staying['name']}: {staying['state']} since the other guest was killed")
		if ROLES[side] == "connect":
			bed.path(f"{port_name(mix, side)}.sock").unlink()  # the dead listener's; virtio_user does not clear it itself
		guests[side] = start(side, 2)
		begin(guests[side])
		check_moving()
	for guest in guests.values():
		guest.quit()


def run(bed):
	ports = [guest_port(bed, port_name(mix, side), role=ROLES[side], queues=4) for mix in MIXES for side in SIDES]
	switch = start_switch(bed, ports, {bridge_name(mix): [port_name(mix, side) for side in SIDES] for mix in MIXES})
	rates = [run_point(bed, switch, queues, ring, packed) for packed in (False, True)
		for queues in (1, 4) for ring in (256, 1024)]
	bed.figure(f"{len(rates) * len(MIXES)} mixes in both roles, {min(rates) / 1e6:.2f} to {max(rates) / 1e6:.2f} Mpps")
	hugepages = bed.reserve_hugepages(128)
	run_killed(bed, switch, hugepages)
	bed.figure(f"killed guests came back in both roles ({'with' if hugepages else 'no'} hugepages)")
	switch.stop()
