# SPDX-License-Identifier: BSD-3-Clause
"""A Linux guest with two queue pairs reloads its driver, reboots, is killed and comes back; Ringway in both roles.

The other guest stays up all the time and must be reachable after each of these, with all offloads off on both sides. What
has been through all that, with packed rings, then moves 100 MB at MTU 1500 and 9000.
"""
from lib.bed import check
from lib.ringway import guest_port, start_switch
from lib.transfer import make_disks, transfer
from lib.vm import OFFLOADS_OFF, LinuxGuest, vhost_user_nic

QUEUES = 2
MACS = {"vm1": "52:54:00:00:00:21", "vm2": "52:54:00:00:00:22"}
ROLES = {"vm1": "connect", "vm2": "listen"}
ADDRESSES = {"vm1": "10.77.0.1", "vm2": "10.77.0.2"}
PACKED = ("vm1",)
MQ = 22
RING_PACKED = 34


def boot(bed, name, disks):
	layout = ",packed=on" if name in PACKED else ""
	nic = vhost_user_nic(0, bed.path(f"{name}.sock"), MACS[name], ROLES[name], QUEUES, OFFLOADS_OFF + layout)
	return LinuxGuest(bed, name, [nic], disks[name], smp=QUEUES)


def set_up(guest):
	guest.set_address(ADDRESSES[guest.name])
	check(MQ in guest.features(), f"{guest.name}: multiqueue not negotiated")
	check((RING_PACKED in guest.features()) == (guest.name in PACKED), f"{guest.name}: wrong layout of rings")
	queues = guest.run("ls /sys/class/net/eth0/queues").split()
	check(len(queues) == 2 * QUEUES, f"{guest.name}: has queues {queues}, expected {QUEUES} pairs")


def check_talk(switch, changed, staying, what):
	switch.check_alive()
	changed.ping(ADDRESSES[staying.name], count=5)
	staying.ping(ADDRESSES[changed.name], count=5, size=1400)
	if not switch.is_reference:
		port = switch.port(changed.name)
		check(port["state"] == "running", f"{what}: port {changed.name} is {port['state']}: {port['last_error']}")
		enabled = sum(ring["started"] and ring["enabled"] for ring in port["rings"])
		check(enabled == 2 * QUEUES, f"{what}: port {changed.name} has {enabled} rings enabled, expected {2 * QUEUES}")
		broken = [ring["index"] for ring in port["rings"] if ring["broken"]]
		check(not broken, f"{what}: rings {broken} of {changed.name} are broken: {port['last_error']}")


def check_both_queues(changed, staying):
	"""Pings pinned to one CPU each leave by that CPU's queue: both must work."""
	before = changed.interrupts(r"virtio\d+-input")
	for cpu in range(QUEUES):
		changed.run(f"taskset {1 << cpu:x} ping -c 4 -i 0.1 -W 2 {ADDRESSES[staying.name]}")
	check(changed.interrupts(r"virtio\d+-input") > before, f"{changed.name}: no receive interrupts")


def run(bed):
	switch = start_switch(bed, [guest_port(bed, name, ROLES[name], queues=QUEUES) for name in MACS], {"br0": list(MACS)})
	disks = {name: make_disks(bed, name) for name in MACS}
	vm1, vm2 = (boot(bed, name, disks) for name in MACS)
	for guest in (vm1, vm2):
		guest.wait_booted()
		set_up(guest)
	check_talk(switch, vm1, vm2, "start")
	check_both_queues(vm1, vm2)

	for changed, staying in ((vm1, vm2), (vm2, vm1)):
		changed.run("rmmod virtio_net && insmod /modules/virtio_net.ko")
		set_up(changed)
		check_talk(switch, changed, staying, "driver reload")
	bed.figure("driver reload")

	# One with Ringway connecting, one with Ringway listening, so that both roles see a reset under a live QEMU.
	for guest in (vm1, vm2):
		guest.type("reboot -f")
	for guest in (vm1, vm2):
		guest.wait_booted()
		set_up(guest)
	check_talk(switch, vm1, vm2, "reboot")
	bed.figure("reboot")

	# Under traffic: the survivor's pings go on while its peer dies and is born again.
	vm1.type(f"ping -q -i 0.05 {ADDRESSES['vm2']} >/dev/null & endless=$!")
	vm2.kill()
	vm2 = boot(bed, "vm2", disks)
	vm2.wait_booted()
	set_up(vm2)
	check_talk(switch, vm2, vm1, "SIGKILL, listening")
	vm1.run("kill $endless")
	vm2.type(f"ping -q -i 0.05 {ADDRESSES['vm1']} >/dev/null & endless=$!")
	vm1.kill()
	vm1 = boot(bed, "vm1", disks)
	vm1.wait_booted()
	set_up(vm1)
	check_talk(switch, vm1, vm2, "SIGKILL, connecting")
	check_both_queues(vm1, vm2)
	vm2.run("kill $endless")
	bed.figure(f"SIGKILL in both roles, {QUEUES} queue pairs")
	for mtu in (1500, 9000):
		for guest in (vm1, vm2):
			guest.set_address(ADDRESSES[guest.name], mtu=mtu)
		vm1.ping(ADDRESSES["vm2"], size=mtu - 28)
		bed.figure(f"offloads off MTU {mtu}: {transfer(bed, switch, (vm1, vm2), ADDRESSES)}")
	for guest in (vm1, vm2):
		guest.check_alive()
	switch.stop()
