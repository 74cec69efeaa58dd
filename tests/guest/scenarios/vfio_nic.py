# SPDX-License-Identifier: BSD-3-Clause
"""Ringway in an emulated machine drives virtio, vmxnet3, igb and e1000e by vfio-pci; its worker sleeps between bursts.

The machine has Intel's IOMMU with interrupt remapping and runs on this machine's root file system. The far end of each
NIC is a tap here; what is written into one must come out of the NIC that its port is joined with, once and unchanged. The
frames come in bursts with pauses in which the worker has nothing to do. That it is awake for each burst and asleep
between them is seen from three sides: its own account, the guest kernel's count of each NIC's interrupts, the frames.
"""
import os
import re

from lib.bed import Skip, check
from lib.ringway import GuestRingway, nic_port
from lib.vm import HostGuest
from lib.wire import Tap, send_bursts
from lib.worker import Interval, check_quiet, worker_state

BURSTS = 40
FRAMES = 3  # of a burst
PAUSE_S = 0.03
HUGEPAGES = 128  # the daemon takes 96
# Bursts may meet a worker that is awake for another reason.
ENOUGH = BURSTS * 3 // 4
EVERYBODY = b"\xff" * 6
# Of a process, not of a NIC: which kind of interrupt VFIO is asked for.
BY_MSI = {"eal": {"vfio_intr": "msi"}}


class Nic:
	"""One emulated NIC: what QEMU is told, what DPDK must make of it."""

	def __init__(self, name, model, driver, slot, queues=1, tap_queues=1, root_port=False):
		self.name = name
		self.model = model
		self.driver = driver
		self.slot = slot
		self.queues = queues
		self.tap_queues = tap_queues
		self.root_port = root_port
		self.address = "0000:01:00.0" if root_port else f"0000:00:{slot:02x}.0"
		self.mac = bytes([0x52, 0x54, 0, 0, 0x60, slot])
		self.peer_mac = bytes([0x52, 0x54, 0, 0, 0x61, slot])
		self.tap = None

	def port(self):
		return nic_port(self.name, self.address, queues=self.queues)

	def arguments(self, bed):
		self.tap = Tap(bed, f"rw{self.name}", self.tap_queues)
		place = f"bus=pcie.0,addr={self.slot:#x}"
		words = ["-netdev", self.tap.netdev(self.name)]
		if self.root_port:
			words += ["-device", f"pcie-root-port,id=root-{self.name},chassis=1,{place}"]
			place = f"bus=root-{self.name}"
		return [*words, "-device", f"{self.model},netdev={self.name},mac={self.mac.hex(':')},romfile=,{place}"]


VIRTIO = "virtio-net-pci,iommu_platform=on,disable-legacy=on,mq=on,rss=on,vectors=6"
SPLIT = Nic("split", VIRTIO, "net_virtio", 0x10, queues=2, tap_queues=2)
PACKED = Nic("packed", VIRTIO + ",packed=on", "net_virtio", 0x11, queues=2, tap_queues=2)
# QEMU's vmxnet3 delivers everything to the first queue.
VMXNET3 = Nic("vmxnet3", "vmxnet3", "net_vmxnet3", 0x12)
# QEMU's igb has virtual functions whose addresses do not fit on the root bus.
IGB = Nic("igb", "igb", "net_e1000_igb", 0x13, queues=2, root_port=True)
E1000E = tuple(Nic(f"e1000e{i}", "e1000e", "net_e1000_em", 0x14 + i) for i in range(2))
NICS = (SPLIT, PACKED, VMXNET3, IGB, *E1000E)


def boot(bed):
	share = bed.path("inside")
	share.mkdir()
	guest = HostGuest(bed, "machine", share, machine="q35,kernel-irqchip=split", memory_mb=1024, smp=2,
		kernel_arguments=f"intel_iommu=on hugepages={HUGEPAGES}",
		# No worker here wants a CPU for itself.
		host_cpus={*bed.guest_cpus, bed.worker_cpu},
		arguments=["-device", "intel-iommu,intremap=on", *[word for nic in NICS for word in nic.arguments(bed)]])
	guest.wait_booted()
	return guest, share


def bind(guest, nics):
	"""To vfio-pci; the initramfs has given virtio NICs to the kernel's virtio_pci."""
	guest.run("modprobe vfio-pci")
	for nic in nics:
		device = f"/sys/bus/pci/devices/{nic.address}"
		guest.run(f"echo vfio-pci >{device}/driver_override"
			f" && {{ [ ! -e {device}/driver ] || echo {nic.address} >{device}/driver/unbind; }}"
			f" && echo {nic.address} >/sys/bus/pci/drivers/vfio-pci/bind")


class Measure:
	"""What a NIC's bursts did to the worker and to the machine's interrupts, from now to end()."""

	def __init__(self, guest, switch, nic):
		self.guest = guest
		self.switch = switch
		self.nic = nic
		self.interval = None
		self.n_late = None  # bursts that took longer than their pause
		self.vectors = None  # {"vfio-msix[1](0000:00:10.0)": interrupts}, those that have counted
		self.interrupts = self._interrupts()
		self.before = worker_state(switch)

	def _interrupts(self):
		return self.guest.interrupts_by_name(rf"vfio-\S*\({re.escape(self.nic.address)}\)")

	def end(self):
		self.interval = Interval.since(self.before, self.switch)
		grown = {name: count - self.interrupts.get(name, 0) for name, count in self._interrupts().items()}
		self.vectors = {name: count for name, count in grown.items() if count}


def exercise(guest, switch, nic, sinks):
	"""Bursts into one NIC. Forwarding, and in time, is checked here, sleeping by check_slept()."""
	measure = Measure(guest, switch, nic)
	destination = sinks[0].peer_mac if len(sinks) == 1 else EVERYBODY
	measure.n_late = send_bursts(nic.tap, [sink.tap for sink in sinks], (destination, nic.peer_mac), BURSTS, FRAMES, PAUSE_S)
	measure.end()
	# A worker that no interrupt wakes gets at them in the end, when something else does.
	check(measure.n_late <= BURSTS // 4, f"{nic.name}: {measure.n_late} of {BURSTS} bursts took longer than {PAUSE_S} s")
	return measure


def check_ports(switch, nics):
	for nic in nics:
		port = switch.port(nic.name)
		check(port["driver"] == nic.driver, f"{nic.name}: driver {port['driver']}, expected {nic.driver}")
		check(port["queues"] == nic.queues, f"{nic.name}: {port['queues']} queues, expected {nic.queues}")


def check_slept(bed, measure, kind, n_vectors):
	name, interval, vectors = measure.nic.name, measure.interval, measure.vectors
	wakeups, spurious = interval.wakeups_by(name)
	interrupts = sum(vectors.values())
	said = (f"{name}: {BURSTS} bursts of {FRAMES} frames, {measure.n_late} late, {wakeups} wakeups, {spurious} spurious;"
		f" interrupts {vectors}; worker {interval}")
	print(said, flush=True)
	check_quiet(interval, said, {name: "nic"}, ENOUGH)
	check(len(vectors) == n_vectors, f"{said}: expected {n_vectors} vectors that count")
	check(all(vector.startswith(f"{kind}[") for vector in vectors), f"{said}: expected {kind}")
	# What is seen of interrupts begins before and ends after what is seen of the worker.
	check(wakeups <= interrupts, f"{said}: woken more often than interrupted")
	# A burst may come in pieces, and vmxnet3 tells of what it has sent by the same vector.
	check(interrupts <= BURSTS * FRAMES * 2, f"{said}: too many interrupts")
	bed.figure(f"{name} {wakeups} wakeups by {interrupts} interrupts, {interval.asleep():.0%} asleep")


def run_msix(bed, guest, share):
	nics = (SPLIT, PACKED, VMXNET3, IGB)
	switch = GuestRingway(bed, guest, share, "msix", 1, [nic.port() for nic in nics],
		cross_connects=[[SPLIT.name, PACKED.name]], bridges={"br0": [VMXNET3.name, IGB.name]})
	check_ports(switch, nics)
	measures = [exercise(guest, switch, nic, [sink]) for nic, sink in
		((SPLIT, PACKED), (PACKED, SPLIT), (VMXNET3, IGB), (IGB, VMXNET3))]
	for measure in measures:
		check_slept(bed, measure, "vfio-msix", measure.nic.queues)

	# With MSI-X DPDK's driver of the 82574 gets no receive interrupts: a worker that slept on it would never wake up.
	silent = E1000E[0]
	switch.ctl("port", "add", silent.name, "type=nic", f"device={silent.address}", "bridge=br0")
	check_ports(switch, [silent])
	measure = exercise(guest, switch, silent, [VMXNET3, IGB])
	reasons = measure.interval.keeps_polling()
	check(list(reasons) == [(silent.name, 0)] and reasons[silent.name, 0], f"{silent.name} with MSI-X: keeps_polling is {reasons}")
	bed.figure(f"{silent.name} with MSI-X keeps the worker polling")
	switch.stop()


def run_msi(bed, guest, share):
	switch = GuestRingway(bed, guest, share, "msi", 1, [nic.port() for nic in E1000E],
		cross_connects=[[nic.name for nic in E1000E]], **BY_MSI)
	check_ports(switch, E1000E)
	measures = [exercise(guest, switch, nic, [sink]) for nic, sink in (E1000E, E1000E[::-1])]
	for measure in measures:
		check_slept(bed, measure, "vfio-msi", 1)
	switch.stop()


def run(bed):
	if os.environ.get("RINGWAY_REFERENCE"):
		raise Skip("the reference never sleeps")
	guest, share = boot(bed)
	bind(guest, NICS)
	run_msix(bed, guest, share)
	run_msi(bed, guest, share)
	guest.check_alive()
