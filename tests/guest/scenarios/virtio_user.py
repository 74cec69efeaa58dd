# SPDX-License-Identifier: BSD-3-Clause
"""DPDK's virtio_user as guest: every mix of options in both roles, traffic both ways; killed and restarted under traffic.

Guests come in pairs on a bridge of their own. One testpmd plays four pairs, one for each mix of mergeable buffers and
in-order completion; it forwards what it gets on one side of a pair out of the other, so that a fixed set of frames
circulates in both directions with the MAC addresses of the two guests.
"""
import itertools
import time

from lib.bed import Failure, check, wait_until
from lib.ringway import guest_port, start_switch
from lib.testpmd import Testpmd

MIXES = list(itertools.product((0, 1), (0, 1)))  # mrg_rxbuf, in_order
SIDES = ("a", "b")
ROLES = ("listen", "connect")
FRAMES = 3000  # each port must get that many more: every ring of 1024 wraps at least twice per queue pair it has
TRAFFIC_S = 30  # a deadline for loaded machines; a quiet one needs milliseconds
ALWAYS = {"VERSION_1", "INDIRECT_DESC", "PROTOCOL_FEATURES"}


def port_name(role, mix, side):
	return f"{role}{MIXES.index(mix)}{side}"


def mac(mix, side):
	return f"52:54:00:00:{MIXES.index(mix) + 1:02x}:{SIDES.index(side) + 1:02x}"


def vdev(bed, index, role, mix, side, queues, ring):
	mrg_rxbuf, in_order = mix
	return (f"net_virtio_user{index},path={bed.path(port_name(role, mix, side))}.sock,mac={mac(mix, side)},"
		f"queues={queues},queue_size={ring},mrg_rxbuf={mrg_rxbuf},in_order={in_order},"
		# The other end listens when ringway connects.
		f"server={1 if role == 'connect' else 0}")


def peers(order):
	"""testpmd's --eth-peer arguments: frames leaving port N carry the address of the other side."""
	return [f"--eth-peer={index},{mac(mix, SIDES[1 - SIDES.index(side)])}"
		for index, (mix, side) in enumerate(order)]


def expected_features(mix, queues):
	mrg_rxbuf, in_order = mix
	names = set(ALWAYS)
	names |= {"MRG_RXBUF"} if mrg_rxbuf else set()
	names |= {"IN_ORDER"} if in_order else set()
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
	wait_until(lambda: all(len(rings_in_use(switch.port(name))) == 2 * queues for name in names), 10,
		f"{', '.join(names)}: {2 * queues} rings each started and enabled")


def check_port(port, mix, queues, ring):
	name = port["name"]
	got = plain(port["features"])
	check(got == expected_features(mix, queues),
		f"{name}: negotiated {sorted(got)}, expected {sorted(expected_features(mix, queues))}")
	check(len(rings_in_use(port)) == 2 * queues, f"{name}: {len(rings_in_use(port))} rings in use, expected {2 * queues}")
	for used in rings_in_use(port):
		label = f"{name}: {used['dir']} ring {used['index']}"
		check(used["size"] == ring, f"{label} of {used['size']}, expected {ring}")
		check(not used["broken"], f"{label} is broken: {port['last_error']}")
		check(used["used_idx"] > 0, f"{label} was never used")


def run_point(bed, switch, role, queues, ring):
	"""Four pairs with the same ring size and number of queues."""
	label = f"{role}-q{queues}-r{ring}"
	order = [(mix, side) for mix in MIXES for side in SIDES]
	guest = Testpmd(bed, label, [vdev(bed, i, role, mix, side, queues, ring) for i, (mix, side) in enumerate(order)],
		queues=queues, ring=ring, args=["--forward-mode=mac", "--txonly-multi-flow", *peers(order)])
	guest.wait_ready()
	# Frames sent to a guest that is not there yet are dropped, and the set that circulates is never renewed.
	names = [port_name(role, mix, side) for mix, side in order]
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
		counts = [f"mrg_rxbuf={mix[0]} in_order={mix[1]} side {side}: {frames}"
			for (mix, side), frames in zip(order, received)]
		raise Failure(f"{late}, but {'; '.join(counts)}") from None
	rate = sum(received) / (time.monotonic() - start_s)
	if not switch.is_reference:
		for mix, side in order:
			check_port(switch.port(port_name(role, mix, side)), mix, queues, ring)
		check_learned(switch, role)
	guest.quit()
	if not switch.is_reference:
		for name in names:
			switch.wait_state(name, "idle", "connecting")
	return rate


def check_learned(switch, role):
	for mix in MIXES:
		bridge = f"{role}{MIXES.index(mix)}"
		learned = {(entry["mac"], entry["port"]) for entry in switch.ctl("fdb", "show", bridge)["entries"]}
		for side in SIDES:
			check((mac(mix, side), port_name(role, mix, side)) in learned,
				f"{bridge}: {mac(mix, side)} not learned on {port_name(role, mix, side)}, but {sorted(learned)}")


def run_killed(bed, switch, role, hugepages):
	"""One guest is killed while frames circulate between two testpmds; a new one brings the traffic back."""
	mix = (1, 1)

	def start(name, side):
		other = SIDES[1 - SIDES.index(side)]
		guest = Testpmd(bed, f"{name}-{role}", [vdev(bed, 0, role, mix, side, 1, 256)], memory_mb=128, hugepages=hugepages,
			args=["--forward-mode=mac", "--port-topology=loop", f"--eth-peer=0,{mac(mix, other)}"])
		guest.wait_ready()
		return guest

	def moving(guest):
		first = guest.counters()[0][0]
		return wait_until(lambda: guest.counters()[0][0] > first + FRAMES, TRAFFIC_S,
			f"{role}: frames keep arriving at {guest.name}")

	names = [port_name(role, mix, side) for side in SIDES]
	staying = start("staying", "a")
	victim = start("victim", "b")
	wait_rings(switch, names, 1)
	staying.command("start")
	victim.command("start tx_first 3")
	moving(staying)
	victim.process.kill()
	if not switch.is_reference:
		switch.wait_state(port_name(role, mix, "b"), "idle", "connecting")
		check(switch.port(port_name(role, mix, "a"))["state"] == "running", f"{role}: the other guest's port suffered")
	if role == "connect":
		bed.path(port_name(role, mix, "b") + ".sock").unlink()  # the dead listener's; virtio_user does not clear it itself
	victim = start("revived", "b")
	wait_rings(switch, names, 1)
	victim.command("start tx_first 3")
	start_s = time.monotonic()
	moving(staying)
	moving(victim)
	victim.quit()
	staying.quit()
	return time.monotonic() - start_s


def run(bed):
	ports = [guest_port(bed, port_name(role, mix, side), role=role, queues=4)
		for role in ROLES for mix in MIXES for side in SIDES]
	bridges = {f"{role}{MIXES.index(mix)}": [port_name(role, mix, side) for side in SIDES]
		for role in ROLES for mix in MIXES}
	switch = start_switch(bed, ports, bridges)
	rates = [run_point(bed, switch, role, queues, ring) for role in ROLES for queues in (1, 4) for ring in (256, 1024)]
	bed.figure(f"{len(rates) * len(MIXES)} mixes, {min(rates) / 1e6:.2f} to {max(rates) / 1e6:.2f} Mpps")
	hugepages = bed.reserve_hugepages(192)
	for role in ROLES:
		run_killed(bed, switch, role, hugepages)
	bed.figure(f"killed guests came back in both roles ({'with' if hugepages else 'no'} hugepages)")
	switch.stop()
