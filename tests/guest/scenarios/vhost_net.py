# SPDX-License-Identifier: BSD-3-Clause
"""The kernel's vhost-net in an emulated machine: frames both ways between a tap and rings of lib/vring, over stops and restarts.

The program that does it is tests/wire/vhost/kernel_peer.c. The machine runs on this machine's root file system. The kernel's
module copies what is transmitted or sends it from where it lies; it has to keep the same promises either way.
"""
import re

from lib.bed import Skip, check
from lib.vm import HostGuest

PEER_S = 200


def run_peer(bed, guest, share, program, zero_copy):
	what = "zero copy" if zero_copy else "copies"
	log = share / f"peer.{zero_copy}.log"
	guest.run(f"modprobe vhost_net experimental_zcopytx={zero_copy}")
	status = guest.run(f"{program} >{log} 2>&1; echo $?", PEER_S).strip()
	guest.run("modprobe -r vhost_net")
	output = log.read_text(errors="replace")
	failed = re.findall(r"^\[  FAILED  \] (\w+)$", output, re.M)
	check(status == "0", f"{what}: {program.name} ended with {status}, failed: {', '.join(failed)} (see {log})")
	bed.figure(f"{what}: {len(re.findall(r'^.       OK . ', output, re.M))} tests")
	for mergeable, event_idx, words in re.findall(r"^mergeable (\d), event index (\d): (.*)", output, re.M):
		bed.figure(f"{'mergeable' if mergeable == '1' else 'plain'}{' with event index' if event_idx == '1' else ''}: {words}")


def run(bed):
	program = bed.build / "tests" / "wire" / "vhost" / "vhost_kernel_peer"
	if not program.exists():
		raise Skip(f"no {program}: built without tests")
	share = bed.path("inside")
	share.mkdir()
	guest = HostGuest(bed, "machine", share, memory_mb=512, smp=2,
		# No worker here wants a CPU for itself.
		host_cpus={*bed.guest_cpus, bed.worker_cpu})
	guest.wait_booted()
	guest.run("modprobe tun")
	for zero_copy in 0, 1:
		run_peer(bed, guest, share, program, zero_copy)
	guest.check_alive()
