# SPDX-License-Identifier: BSD-3-Clause
"""What nested_kvm runs inside the emulated machine: two KVM guests ping and move 100 MB, interrupts are counted."""
import re
from pathlib import Path

from lib.bed import Skip, check
from lib.ringway import guest_port, start_switch
from lib.transfer import make_disks, transfer
from lib.vm import LinuxGuest, vhost_user_nic

TRACING = Path("/sys/kernel/tracing")
MACS = {"vm1": "52:54:00:00:00:51", "vm2": "52:54:00:00:00:52"}
ADDRESSES = {"vm1": "10.80.0.1", "vm2": "10.80.0.2"}
PINGS = 20


def trace_interrupts(bed):
	"""From now on the kernel notes each MSI that an irqfd raises, and in whose context."""
	bed.run("mount", "-t", "tracefs", "tracefs", TRACING)
	(TRACING / "events/kvm/kvm_msi_set_irq/enable").write_text("1")


def interrupts_raised_by(pid):
	"""How many MSIs were raised in the context of a process's threads, that is by a write to an irqfd."""
	threads = {int(entry.name) for entry in Path(f"/proc/{pid}/task").iterdir()}
	writers = re.findall(r"^.*?-(\d+)\s+\[\d+\].*kvm_msi_set_irq", (TRACING / "trace").read_text(), re.M)
	return sum(int(writer) in threads for writer in writers)


def boot(bed, name):
	nic = vhost_user_nic(0, bed.path(f"{name}.sock"), MACS[name])
	return LinuxGuest(bed, name, [nic], make_disks(bed, name), accel="kvm", cpu="host", memory_mb=192)


def run(bed):
	if not Path("/dev/kvm").exists():
		raise Skip("the emulated machine has no /dev/kvm")
	trace_interrupts(bed)
	switch = start_switch(bed, [guest_port(bed, name) for name in MACS], {"br0": list(MACS)})
	guests = [boot(bed, name) for name in MACS]
	for guest in guests:
		guest.wait_booted()
		guest.set_address(ADDRESSES[guest.name])
	guests[0].ping(ADDRESSES["vm2"], PINGS)
	interrupts = sum(guest.interrupts(r"PCI-MSI.*virtio\d+-(input|output)") for guest in guests)
	check(interrupts > 0, "no MSI-X interrupt arrived in the guests")
	process = switch.testpmd.process if switch.is_reference else switch.process
	by_irqfd = interrupts_raised_by(process.pid)
	check(by_irqfd > 0, f"{interrupts} interrupts in the guests, but none raised in the context of {process.name}")
	bed.figure(f"{interrupts} MSI-X interrupts in the guests, {by_irqfd} raised by the worker's own write to an irqfd")
	bed.figure(f"{transfer(bed, switch, guests, ADDRESSES)}")
	for guest in guests:
		guest.check_alive()
	switch.stop()
