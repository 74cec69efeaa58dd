"""scratch"""
import json
from scenarios.linux_offloads import *
def run(bed):
	switch = start_switch(bed, [guest_port(bed, "vm1"), guest_port(bed, "vm2")], {"br0": ["vm1", "vm2"]})
	disks = {name: make_disks(bed, name) for name in MACS}
	vm1, vm2 = (boot(bed, name, disks[name]) for name in MACS)
	for guest in (vm1, vm2):
		print(guest.name, guest.wait_booted())
		guest.set_address(ADDRESSES[guest.name], mtu=1500)
		print(sorted(guest.features()))
	print(json.dumps(switch.ctl("port", "show"), indent=1))
	print(vm1.run("ping -c 5 -W 1 10.77.0.2", check_status=False))
	print(json.dumps(switch.ctl("port", "show"), indent=1))
	print(vm1.run("cat /proc/interrupts; ip -s link; ip neigh", check_status=False))
