# SPDX-License-Identifier: BSD-3-Clause
"""Two Linux guests ping and move 100 MB, half each way, contents compared: MTU 1500 and 9000, offloads on and mixed.

Each guest sends its source disk through TCP and writes what it receives to its sink disk; both are files here, so
that the comparison costs the emulated CPUs nothing. Mixed means that one guest negotiated checksum and segmentation
offloads and the other none: what the first leaves to the device must be made good before the second sees it.
"""
import os
import time

from lib.bed import check
from lib.ringway import guest_port, start_switch
from lib.vm import DEBIAN_QEMU, OFFLOADS_OFF, LinuxGuest, vhost_user_nic

TRANSFER_BYTES = 50_000_384  # each way; whole sectors
TRANSFER_S = 90
MACS = {"vm1": "52:54:00:00:00:11", "vm2": "52:54:00:00:00:12"}
ADDRESSES = {"vm1": "10.77.0.1", "vm2": "10.77.0.2"}
CSUM, GUEST_CSUM, GUEST_TSO4, HOST_TSO4, MRG_RXBUF = 0, 1, 7, 11, 15


def make_disks(bed, name):
	source = bed.path(f"{name}.source")
	source.write_bytes(os.urandom(TRANSFER_BYTES))
	return [source, empty_sink(bed, name)]


def empty_sink(bed, name):
	"""All zeros: what an earlier transfer left must not pass for this one's."""
	sink = bed.path(f"{name}.sink")
	with open(sink, "wb") as disk:
		disk.truncate(TRANSFER_BYTES)
	return sink


def boot(bed, name, disks, properties="", **more):
	nic = vhost_user_nic(0, bed.path(f"{name}.sock"), MACS[name], properties=properties)
	return LinuxGuest(bed, name, [nic], disks, **more)


def transfer(bed, guests):
	"""Both directions at once; seconds taken."""
	for guest in guests:
		empty_sink(bed, guest.name)
		guest.run("echo 3 > /proc/sys/vm/drop_caches")
		guest.type("socat -u -b131072 TCP-LISTEN:9000,reuseaddr FILE:/dev/vdb & receiver=$!")
	start_s = time.monotonic()
	for guest, peer in (guests, guests[::-1]):
		guest.type(f"socat -u -b131072 FILE:/dev/vda TCP:{ADDRESSES[peer.name]}:9000,retry=20,interval=0.2 & sender=$!")
	for guest in guests:
		guest.run("wait $sender && wait $receiver && sync", TRANSFER_S)
	took_s = time.monotonic() - start_s
	for guest, peer in (guests, guests[::-1]):
		bed.run("cmp", bed.path(f"{guest.name}.source"), bed.path(f"{peer.name}.sink"))
	return took_s


def exercise(bed, guests, label):
	for mtu in (1500, 9000):
		for guest in guests:
			guest.set_address(ADDRESSES[guest.name], mtu=mtu)
		guests[0].ping(ADDRESSES["vm2"])
		guests[1].ping(ADDRESSES["vm1"], size=mtu - 28)
		took_s = transfer(bed, guests)
		bed.figure(f"{label} MTU {mtu}: {2 * TRANSFER_BYTES / took_s / 1e6:.0f} MB/s")


def run(bed):
	switch = start_switch(bed, [guest_port(bed, "vm1"), guest_port(bed, "vm2")], {"br0": ["vm1", "vm2"]})
	disks = {name: make_disks(bed, name) for name in MACS}
	vm1, vm2 = (boot(bed, name, disks[name]) for name in MACS)
	for guest in (vm1, vm2):
		guest.wait_booted()
		if not switch.is_reference:
			missing = {CSUM, GUEST_CSUM, GUEST_TSO4, HOST_TSO4, MRG_RXBUF} - guest.features()
			check(not missing, f"{guest.name}: feature bits {missing} not negotiated")
	exercise(bed, (vm1, vm2), "offloads on")

	# The other guest goes without a goodbye; its successor has no offloads and Debian 12's own QEMU.
	vm2.kill()
	vm2 = boot(bed, "vm2", disks["vm2"], OFFLOADS_OFF + ",vectors=0", qemu=DEBIAN_QEMU)
	vm2.wait_booted()
	left = {CSUM, GUEST_CSUM, GUEST_TSO4, HOST_TSO4} & vm2.features()
	check(not left, f"vm2: feature bits {left} negotiated although off")
	exercise(bed, (vm1, vm2), "mixed")
	for guest in (vm1, vm2):
		guest.check_alive()
	switch.stop()
