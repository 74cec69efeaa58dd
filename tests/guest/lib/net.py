# SPDX-License-Identifier: BSD-3-Clause
"""Interfaces and namespaces inside the scenario's own network namespace; they vanish with it."""


def add_peer_namespace(bed, name, interface, address):
	"""A namespace behind a veth pair: INTERFACE stays here, for a NIC port; the other end has the address."""
	bed.run("ip", "netns", "add", name)
	bed.run("ip", "link", "add", interface, "type", "veth", "peer", "name", "eth0", "netns", name)
	for end in (["ip"], ["ip", "-n", name]):
		device = interface if len(end) == 1 else "eth0"
		bed.run(*end, "link", "set", device, "up")
	bed.run("ip", "-n", name, "link", "set", "lo", "up")
	bed.run("ip", "-n", name, "addr", "add", f"{address}/24", "dev", "eth0")
	# A veth leaves checksums and segmentation to whoever takes the frame out, and the af_packet PMD does not.
	bed.run("ip", "netns", "exec", name, "ethtool", "-K", "eth0", "tx", "off", "tso", "off", "gso", "off")


def in_namespace(name, *argv):
	return ["ip", "netns", "exec", name, *argv]
