# SPDX-License-Identifier: BSD-3-Clause
"""Under KVM, nested in an emulated machine: calls reach the guest as MSI-X through real irqfds, kicks wake the worker.

The outer guest is emulated with AMD's virtualization extension and runs on this machine's root file system; inside it
nested_kvm_inside starts Ringway and a guest of its own with -accel kvm.
"""
import os

from lib.bed import Failure, Skip
from lib.vm import HostGuest

INSIDE_S = 400


def run(bed):
	share = bed.path("inside")
	share.mkdir()
	outer = HostGuest(bed, "outer", share, memory_mb=2048, smp=2,
		# The only worker is inside.
		host_cpus={*bed.guest_cpus, bed.worker_cpu})
	outer.wait_booted()
	outer.run("modprobe kvm_amd && modprobe tun")
	reference = "RINGWAY_REFERENCE=1" if os.environ.get("RINGWAY_REFERENCE") else ""
	# A network of its own, but no pid namespace: the kernel's trace knows processes by their first names.
	# Sockets cannot live on 9p: the scenario's folder is the guest's own, and what it leaves is copied out.
	outer.run(f"mkdir /tmp/inside; cd {os.path.dirname(os.path.dirname(__file__))}; "
		f"{reference} unshare --mount --net python3 -B lib/child.py nested_kvm_inside /tmp/inside {bed.build} {bed.cache} >{share}/scenario.log; "
		f"for file in /tmp/inside/*.{{log,console,json}} /tmp/inside/verdict; do [ ! -e $file ] || cp $file {share}/; done", INSIDE_S)
	verdict, _, text = (share / "verdict").read_text().partition(" ")
	if verdict == "FAIL":
		raise Failure(text)
	if verdict == "SKIP":
		raise Skip(text)
	bed.figure(text)
