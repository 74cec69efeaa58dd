# SPDX-License-Identifier: BSD-3-Clause
"""What nested_kvm runs inside the emulated machine: a KVM guest pings that machine's tap, interrupts and sleeps are counted."""
import re
from pathlib import Path

from lib.bed import Skip, check
from lib.ringway import guest_port, nic_port, start_switch
from lib.vm import LinuxGuest, vhost_user_nic
from lib.worker import Interval, check_quiet, worker_state

TRACING = Path("/sys/kernel/tracing")
GUEST, HERE = "10.80.0.2", "10.80.0.1"
PINGS = 20  # each way


def trace_interrupts(bed):
	"""From now on the kernel notes each MSI that an irqfd raises, and in whose context."""
	bed.run("mount", "-t", "tracefs", "tracefs", TRACING)
	(TRACING / "events/kvm/kvm_msi_set_irq/enable").write_text("1")


def interrupts_raised_by(pid):
	"""How many MSIs were raised in the context of a process's threads, that is by a write to an irqfd."""
	threads = {int(entry.name) for entry in Path(f"/proc/{pid}/task").iterdir()}
	writers = re.findall(r"^.*?-(\d+)\s+\[\d+\].*kvm_msi_set_irq", (TRACING / "trace").read_text(), re.M)
	return sum(int(writer) in threads for writer in writers)


def run(bed):
	if not Path("/dev/kvm").exists():
		raise Skip("the emulated machine has no /dev/kvm")
	trace_interrupts(bed)
	switch = start_switch(bed, [guest_port(bed, "vm1"), nic_port("tap0", "net_tap0,iface=rwtap0")], {"br0": ["vm1", "tap0"]})
	bed.run("ip", "addr", "add", f"{HERE}/24", "dev", "rwtap0")
	bed.run("ip", "link", "set", "rwtap0", "up")
	guest = LinuxGuest(bed, "vm1", [vhost_user_nic(0, bed.path("vm1.sock"), "52:54:00:00:00:51")], accel="kvm", cpu="host")
	guest.wait_booted()
	guest.set_address(GUEST)
	before = None if switch.is_reference else worker_state(switch)
	guest.ping(HERE, PINGS)
	bed.run("ping", "-c", PINGS, "-i", 0.1, "-W", 2, GUEST)
	interval = None if switch.is_reference else Interval.since(before, switch)
	interrupts = guest.interrupts(r"PCI-MSI.*virtio\d+-(input|output)")
	check(interrupts > 0, "no MSI-X interrupt arrived in the guest")
	process = switch.testpmd.process if switch.is_reference else switch.process
	by_irqfd = interrupts_raised_by(process.pid)
	check(by_irqfd > 0, f"{interrupts} interrupts in the guest, but none raised in the context of {process.name}")
	bed.figure(f"{interrupts} MSI-X interrupts in the guest, {by_irqfd} raised by the worker's own write to an irqfd")
	if interval:
		# A ping from the guest begins with a kick, which is an ioeventfd of KVM's, and one to it comes by the tap.
		check_quiet(interval, "pings", {"vm1": "kick", "tap0": "nic"}, PINGS // 2)
		bed.figure(f"between pings {interval}")
	guest.check_alive()
	switch.stop()
