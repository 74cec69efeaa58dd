# SPDX-License-Identifier: BSD-3-Clause
"""A Linux guest talks to Linux namespaces through NIC ports: ping and iperf3 both ways over af_packet and over tap.

The guest has two NICs, each on a bridge with one NIC port. It negotiates all offloads; neither af_packet nor tap has
any, so that whatever the guest leaves undone in a frame must be done before the frame leaves the switch. The worker polls
as long as it serves af_packet, which has no interrupts, and without it sleeps between the pings that come by tap.
"""
import json

from lib.bed import check, wait_until
from lib.net import add_peer_namespace, in_namespace
from lib.ringway import guest_port, nic_port, start_switch
from lib.vm import LinuxGuest, vhost_user_nic
from lib.worker import Interval, check_quiet, worker_state

IPERF_S = 2
PINGS = 20
MIN_MBIT = 1  # that data flows; how fast it does is no subject on a shared machine
NAMESPACE = "peer"
# guest's address, the other side's address
PACKET_NET = ("10.78.1.2", "10.78.1.1")
TAP_NET = ("10.78.2.2", "10.78.2.1")


def iperf(bed, guest, address, prefix, label):
	"""Both directions against an iperf3 server on the host's side."""
	server = bed.start(f"iperf3-{label}", [*prefix, "iperf3", "-s", "-B", address, "--forceflush"])
	wait_until(lambda: "Server listening" in server.text(), 10, f"iperf3 server for {label} starts")
	rates = []
	for arguments in ("", "-R"):
		report = json.loads(guest.run(f"iperf3 -J -t {IPERF_S} -c {address} {arguments}", 30))
		rates.append(report["end"]["sum_received"]["bits_per_second"] / 1e6)
	server.kill()
	check(min(rates) >= MIN_MBIT, f"{label}: {rates[0]:.1f} Mb/s out, {rates[1]:.1f} Mb/s in")
	bed.figure(f"{label} {rates[0]:.0f} Mb/s out, {rates[1]:.0f} in")


def check_sleep(bed, switch, guest):
	"""As long as af_packet is there the worker must poll; without it, it sleeps until the tap or the guest wakes it."""
	before = worker_state(switch)
	reasons = Interval.since(before, switch).keeps_polling()
	check(list(reasons) == [("up0", 0)] and reasons["up0", 0], f"with af_packet keeps_polling is {reasons}")
	switch.ctl("port", "remove", "up0")
	before = worker_state(switch)
	bed.run("ping", "-c", PINGS, "-i", 0.1, "-W", 2, TAP_NET[0])
	guest.ping(TAP_NET[1])
	interval = Interval.since(before, switch)
	check_quiet(interval, "pings by tap", {"tap0": "nic", "vm2": "kick"}, PINGS // 2)
	bed.figure(f"pings by tap: {interval}")


def run(bed):
	add_peer_namespace(bed, NAMESPACE, "rwveth0", PACKET_NET[1])
	switch = start_switch(bed,
		[guest_port(bed, "vm1"), nic_port("up0", "net_af_packet0,iface=rwveth0"),
			guest_port(bed, "vm2"), nic_port("tap0", "net_tap0,iface=rwtap0")],
		{"br0": ["vm1", "up0"], "br1": ["vm2", "tap0"]})
	guest = LinuxGuest(bed, "guest", [
		vhost_user_nic(0, bed.path("vm1.sock"), "52:54:00:00:00:31"),
		vhost_user_nic(1, bed.path("vm2.sock"), "52:54:00:00:00:32")])
	# The tap's own end is in the namespace the switch runs in.
	bed.run("ip", "addr", "add", f"{TAP_NET[1]}/24", "dev", "rwtap0")
	bed.run("ip", "link", "set", "rwtap0", "up")
	guest.wait_booted()
	guest.set_address(PACKET_NET[0], "eth0")
	guest.set_address(TAP_NET[0], "eth1")

	for address, prefix, label in ((PACKET_NET, in_namespace(NAMESPACE), "af_packet"), (TAP_NET, [], "tap")):
		guest.ping(address[1])
		guest.ping(address[1], size=1472)
		bed.run(*prefix, "ping", "-c", 3, "-i", 0.2, "-W", 2, address[0])
		iperf(bed, guest, address[1], prefix, label)
	if not switch.is_reference:
		check_sleep(bed, switch, guest)
	guest.check_alive()
	switch.stop()
