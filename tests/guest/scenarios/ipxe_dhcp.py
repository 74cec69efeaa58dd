# SPDX-License-Identifier: BSD-3-Clause
"""iPXE in QEMU's virtio-net option ROM gets an address by DHCP and a file by TFTP from dnsmasq behind an af_packet port.

iPXE polls one queue pair, checks checksums, and brings its own driver: the least a guest can be.
"""
from lib.bed import wait_until
from lib.net import add_peer_namespace, in_namespace
from lib.ringway import guest_port, nic_port, start_switch
from lib.vm import Vm, vhost_user_nic

NAMESPACE = "dhcp"
SERVER = "10.79.0.1"
LEASE = "10.79.0.50"
MAC = "52:54:00:00:00:41"
GREETING = "fetched through the bridge"
BOOT_S = 60


def run(bed):
	add_peer_namespace(bed, NAMESPACE, "rwveth0", SERVER)
	tftp = bed.path("tftp")
	tftp.mkdir()
	tftp.chmod(0o755)
	(tftp / "hello.ipxe").write_text(f"#!ipxe\necho {GREETING}\npoweroff\n")
	server = bed.start("dnsmasq", in_namespace(NAMESPACE, "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null",
		"--port=0", "--interface=eth0", "--bind-interfaces", "--user=root", "--log-facility=-", "--log-dhcp",
		f"--pid-file={bed.path('dnsmasq.pid')}", f"--dhcp-leasefile={bed.path('leases')}",
		f"--dhcp-range={LEASE},{LEASE},255.255.255.0", "--dhcp-boot=hello.ipxe",
		"--enable-tftp", f"--tftp-root={tftp}"))
	switch = start_switch(bed, [guest_port(bed, "vm1"), nic_port("up0", "net_af_packet0,iface=rwveth0")],
		{"br0": ["vm1", "up0"]})
	guest = Vm(bed, "ipxe", [
		# SeaBIOS and iPXE print to the first serial port when the machine has no graphics.
		"-M", "pc,graphics=off", *vhost_user_nic(0, bed.path("vm1.sock"), MAC, properties="bootindex=1")])

	def fetched():
		guest_said = guest.console_text()
		if GREETING not in guest_said:
			guest.check_alive()
		return GREETING in guest_said
	wait_until(fetched, BOOT_S, "iPXE runs the script it got by TFTP", every=0.2)
	wait_until(lambda: f"DHCPACK(eth0) {LEASE} {MAC}" in server.text(), 5, f"dnsmasq logs DHCPACK for {MAC}")
	bed.figure(f"lease {LEASE} and a TFTP file")
	guest.kill()
	switch.stop()
