# SPDX-License-Identifier: BSD-3-Clause
"""Two Linux guests ping and move 100 MB, half each way, contents compared: MTU 1500 and 9000, offloads on and mixed.

One guest has split rings and the other, at first, packed ones.

Mixed means that one guest negotiated checksum and segmentation offloads and the other none: what the first leaves to
the device must be made good before the second sees it. Offloads off on both sides are in linux_lifecycle.
"""
from lib.bed import check
from lib.ringway import guest_port, start_switch
from lib.transfer import make_disks, transfer
from lib.vm import DEBIAN_QEMU, OFFLOADS_OFF, LinuxGuest, vhost_user_nic

MACS = {"vm1": "52:54:00:00:00:11", "vm2": "52:54:00:00:00:12"}
ADDRESSES = {"vm1": "10.77.0.1", "vm2": "10.77.0.2"}
OFFLOADS = {0: "CSUM", 1: "GUEST_CSUM", 7: "GUEST_TSO4", 8: "GUEST_TSO6", 11: "HOST_TSO4", 12: "HOST_TSO6"}
RING_PACKED = {34: "RING_PACKED"}
RING = {15: "MRG_RXBUF", 28: "INDIRECT_DESC", 29: "EVENT_IDX", 32: "VERSION_1"}
# What is offered once binds for ever: UFO and ECN never are.
REFUSED = {9: "GUEST_ECN", 10: "GUEST_UFO", 13: "HOST_ECN", 14: "HOST_UFO"}


def boot(bed, name, disks, properties="", **more):
	nic = vhost_user_nic(0, bed.path(f"{name}.sock"), MACS[name], properties=properties)
	return LinuxGuest(bed, name, [nic], disks, **more)


def check_features(guest, wanted, refused):
	features = guest.features()
	missing = [name for bit, name in wanted.items() if bit not in features]
	check(not missing, f"{guest.name}: {', '.join(missing)} not negotiated")
	surplus = [name for bit, name in refused.items() if bit in features]
	check(not surplus, f"{guest.name}: {', '.join(surplus)} negotiated")


def exercise(bed, switch, guests, label, both_take_segments):
	"""With segmentation offloads on both sides 64 KB pieces must pass uncut, or the offload is one in name only."""
	for mtu in (1500, 9000):
		for guest in guests:
			guest.set_address(ADDRESSES[guest.name], mtu=mtu)
		guests[0].ping(ADDRESSES["vm2"])
		guests[1].ping(ADDRESSES["vm1"], size=mtu - 28)
		result = transfer(bed, switch, guests, ADDRESSES)
		bed.figure(f"{label} MTU {mtu}: {result}")
		longest = mtu + 14
		if both_take_segments and mtu == 1500 and not switch.is_reference:
			# At MTU 9000 a slow sender's segments and the acknowledgements may well have less than that in the mean.
			check(result.mean_frame_bytes > longest, f"{label} MTU {mtu}: frames were cut: {result}")
		if not both_take_segments:
			check(result.mean_frame_bytes <= longest, f"{label} MTU {mtu}: frames were not cut: {result}")


def run(bed):
	switch = start_switch(bed, [guest_port(bed, "vm1"), guest_port(bed, "vm2")], {"br0": ["vm1", "vm2"]})
	disks = {name: make_disks(bed, name) for name in MACS}
	vm1 = boot(bed, "vm1", disks["vm1"])
	vm2 = boot(bed, "vm2", disks["vm2"], "packed=on")
	for guest, layout, other in ((vm1, {}, RING_PACKED), (vm2, RING_PACKED, {})):
		guest.wait_booted()
		if not switch.is_reference:
			check_features(guest, {**OFFLOADS, **RING, **layout}, {**REFUSED, **other})
	exercise(bed, switch, (vm1, vm2), "offloads on", True)

	# The other guest goes without a goodbye; its successor has no offloads and Debian 12's own QEMU.
	vm2.kill()
	vm2 = boot(bed, "vm2", disks["vm2"], OFFLOADS_OFF + ",vectors=0", qemu=DEBIAN_QEMU)
	vm2.wait_booted()
	check_features(vm2, RING, {**OFFLOADS, **REFUSED})
	exercise(bed, switch, (vm1, vm2), "mixed", False)
	for guest in (vm1, vm2):
		guest.check_alive()
	switch.stop()
