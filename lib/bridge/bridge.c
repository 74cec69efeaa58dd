/* SPDX-License-Identifier: BSD-3-Clause */
/* A learning bridge with a forwarding database per VLAN (802.1Q, 8.6). */
#include <string.h>

#include "lane.h"

#define MAC_MASK  0xffffffffffffULL
#define GROUP_BIT 1ULL /* bit 0 of the first byte marks a group address: never a sender's, always flooded */

/* One burst on its way through a bridge. */
struct passage {
	struct forwarder *forwarder;
	const struct forward_port *ingress;
	struct frame *frames;
	bool is_plain_ingress; /* its untagged frames travel in VLAN 0 */
	bool is_retagged[FRAME_BURST];
};

static __rte_always_inline uint64_t load_le64(const uint8_t *bytes)
{
	uint64_t value;

	memcpy(&value, bytes, sizeof(value));
	return value;
}

/* The frame as a port wants it: as it came, or with its tag pushed or popped (made at most once per frame). */
static struct frame *frame_in_form(struct passage *passage, unsigned int i, bool tagged)
{
	struct forwarder *forwarder = passage->forwarder;
	struct frame *frame = &passage->frames[i];

	if (frame->tagged == tagged)
		return frame;
	if (!passage->is_retagged[i]) {
		frame_retag(frame, tagged, &forwarder->retagged[i], &forwarder->retagged_rooms[i]);
		passage->is_retagged[i] = true;
	}
	return &forwarder->retagged[i];
}

/* Which of a port's lanes a flow goes by, 0..n_lanes - 1. */
static __rte_always_inline uint32_t lane_of_flow(
	const struct frame *frame, const struct forward_port *egress)
{
	return (uint32_t)((uint64_t)frame_flow_hash(frame) * egress->n_lanes >> 32);
}

/* Puts frame i into a lane of the port. False if the port is not in the frame's VLAN. */
static __rte_always_inline bool send_to_port(
	struct passage *passage, unsigned int i, const struct forward_port *egress)
{
	struct forwarder *forwarder = passage->forwarder;
	struct frame *frame = &passage->frames[i];
	uint32_t lane = egress->first_lane;
	bool tagged;

	if (likely(egress->port->vlan.kind == PORT_VLAN_NONE))
		tagged = frame->vlan != 0;
	else if (!port_vlan_egress(&egress->port->vlan, frame->vlan, &tagged))
		return false;
	if (unlikely(egress->n_lanes == 0)) {
		egress->counters->drops[DROP_PORT_DOWN]++;
		return true;
	}
	if (unlikely(egress->n_lanes != 1))
		lane += lane_of_flow(frame, egress);
	lane_put(forwarder, &forwarder->lanes[lane], frame_in_form(passage, i, tagged));
	return true;
}

static void flood(struct passage *passage, const struct bridge_view *bridge, unsigned int i)
{
	unsigned int n_sent = 0;

	for (unsigned int m = 0; m < bridge->n_members; m++) {
		const struct forward_port *egress =
			&passage->forwarder->ports[bridge->members[m]];

		/* A port that is down misses a flooded frame as a cable that is not plugged in does: no drop. */
		if (egress != passage->ingress && egress->n_lanes != 0)
			n_sent += send_to_port(passage, i, egress);
	}
	if (n_sent == 0)
		passage->ingress->counters->drops[DROP_NO_DESTINATION]++;
}

/* MAC addresses and EtherType of a frame, as two words that overlap. */
struct addresses {
	uint64_t first;  /* bytes 0..7 */
	uint64_t second; /* bytes 6..13 */
};

static __rte_always_inline struct addresses addresses_of(const struct frame *frame)
{
	return (struct addresses){load_le64(frame->head), load_le64(frame->head + 6)};
}

static __rte_always_inline bool are_same(struct addresses a, struct addresses b)
{
	return ((a.first ^ b.first) | (a.second ^ b.second)) == 0;
}

/* The port that a frame goes to as it is, and to no other, or NULL: then it takes forward_any() to say where it goes. */
static __rte_always_inline const struct forward_port *find_plain_egress(const struct passage *passage,
	const struct bridge_view *bridge, const struct frame *frame, struct addresses addresses)
{
	const struct forward_port *ingress = passage->ingress;
	uint64_t destination = addresses.first & MAC_MASK;
	uint64_t source = addresses.second & MAC_MASK;
	const struct forward_port *egress;
	uint16_t port_id;

	if (unlikely(frame->tagged || !passage->is_plain_ingress ||
		    ((destination | source) & GROUP_BIT) != 0))
		return NULL;
	fdb_learn(bridge->fdb, bridge->state, bridge->cache, fdb_key_make(source, 0), ingress->port->id);
	port_id = fdb_lookup(
		bridge->fdb, bridge->state, bridge->cache, fdb_key_make(destination, 0));
	if (unlikely(port_id == FDB_NO_PORT || port_id == ingress->port->id))
		return NULL;
	egress = &passage->forwarder->ports[port_id];
	return likely(egress->plain_lane != NULL) ? egress : NULL;
}

/* Forwards frame i, whatever it is and wherever it goes. */
static __attribute__((noinline)) void forward_any(struct passage *passage,
	const struct bridge_view *bridge, unsigned int i, struct addresses addresses)
{
	struct forwarder *forwarder = passage->forwarder;
	const struct forward_port *ingress = passage->ingress;
	uint64_t destination = addresses.first & MAC_MASK;
	uint64_t source = addresses.second & MAC_MASK;
	struct frame *frame = &passage->frames[i];
	int vlan = port_vlan_ingress(&ingress->port->vlan, frame);
	uint16_t port_id;

	if (vlan < 0) {
		ingress->counters->drops[DROP_VLAN_REFUSED]++;
		return;
	}
	frame->vlan = (uint16_t)vlan;
	if ((source & GROUP_BIT) == 0)
		fdb_learn(bridge->fdb, bridge->state, bridge->cache,
			fdb_key_make(source, frame->vlan), ingress->port->id);
	if ((destination & GROUP_BIT) != 0) {
		flood(passage, bridge, i);
		return;
	}
	port_id = fdb_lookup(bridge->fdb, bridge->state, bridge->cache,
		fdb_key_make(destination, frame->vlan));
	if (port_id == FDB_NO_PORT || forwarder->ports[port_id].port == NULL)
		flood(passage, bridge, i);
	else if (port_id == ingress->port->id)
		ingress->counters->drops[DROP_NO_DESTINATION]++;
	else if (!send_to_port(passage, i, &forwarder->ports[port_id]))
		ingress->counters->drops[DROP_VLAN_REFUSED]++;
}

/* Fewer frames are not waited for any shorter. */
#define PREFETCH_WORTHWHILE 4

/* Asks for what the decisions on a burst of different flows will look at. */
static void addresses_prefetch(
	const struct bridge_view *bridge, const struct frame *frames, unsigned int n)
{
	/* In VLAN 0; others are found without help. */
	for (unsigned int i = 0; i < n; i++) {
		struct addresses addresses = addresses_of(&frames[i]);

		fdb_prefetch(bridge->cache, fdb_key_make(addresses.second & MAC_MASK, 0));
		fdb_prefetch(bridge->cache, fdb_key_make(addresses.first & MAC_MASK, 0));
	}
}

void bridge_forward(struct forwarder *forwarder, const struct bridge_view *bridge,
	const struct forward_port *ingress, struct frame *frames, unsigned int n, bool is_one_flow)
{
	struct passage passage = {
		.forwarder = forwarder,
		.ingress = ingress,
		.frames = frames,
		.is_plain_ingress = ingress->port->vlan.kind == PORT_VLAN_NONE,
	};
	/*
	 * Frames of one flow come in runs: one with the addresses of the frame before it needs no second decision. NULL:
	 * the last frame's cannot be used again.
	 */
	const struct forward_port *egress = NULL;
	struct addresses decided = { 0 };

	if (!is_one_flow && n >= PREFETCH_WORTHWHILE)
		addresses_prefetch(bridge, frames, n);
	for (unsigned int i = 0; i < n; i++) {
		struct addresses addresses = addresses_of(&frames[i]);

		if (egress == NULL || !are_same(addresses, decided)) {
			egress = find_plain_egress(&passage, bridge, &frames[i], addresses);
			decided = addresses;
		}
		if (unlikely(egress == NULL)) {
			forward_any(&passage, bridge, i, addresses);
		} else if (unlikely(egress->n_lanes != 1)) {
			lane_put(forwarder, &egress->plain_lane[lane_of_flow(&frames[i], egress)],
				&frames[i]);
		} else {
			lane_put(forwarder, egress->plain_lane, &frames[i]);
			if (is_one_flow && i + 1 < n) {
				lane_append(forwarder, egress->plain_lane, frames, i + 1, n);
				break;
			}
		}
	}
	lanes_flush(forwarder);
}
