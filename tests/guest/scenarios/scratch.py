"""scratch"""
import json, sys
from scenarios import virtio_user
from scenarios.virtio_user import *
def run(bed):
	role, queues, ring = "listen", 4, 256
	ports = [guest_port(bed, port_name(role, mix, side), role=role, queues=4) for mix in MIXES for side in SIDES]
	bridges = {f"{role}{MIXES.index(mix)}": [port_name(role, mix, side) for side in SIDES] for mix in MIXES}
	switch = start_switch(bed, ports, bridges)
	order = [(mix, side) for mix in MIXES for side in SIDES]
	guest = Testpmd(bed, "label", [vdev(bed, i, role, mix, side, queues, ring) for i, (mix, side) in enumerate(order)],
		queues=queues, ring=ring, args=["--forward-mode=mac", *peers(order)])
	guest.wait_ready()
	guest.command("start tx_first 7")
	for i in range(4):
		time.sleep(2)
		print(guest.counters())
	for p in switch.ctl("port", "show")["ports"]:
		print(p["name"], p["state"], p["counters"], p["last_error"])
		for r in p["rings"]: print("  ", r)
	print(json.dumps(switch.ctl("worker", "show")))
	print(json.dumps(switch.ctl("fdb", "show")))
	guest.command("stop"); time.sleep(1); print(guest.process.text()[-6000:])
