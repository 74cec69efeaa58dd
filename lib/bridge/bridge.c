/* SPDX-License-Identifier: BSD-3-Clause */
/* A learning bridge with a forwarding database per VLAN (802.1Q, 8.6). */
#include <string.h>

#include "lane.h"

/* One burst on its way through a bridge. */
struct passage {
	struct forwarder *forwarder;
	const struct forward_port *ingress;
	struct frame *frames;
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
		lane += frame_flow_hash(frame) % egress->n_lanes;
	lane_put(forwarder, &forwarder->lanes[lane], frame_in_form(passage, i, tagged));
	return true;
}

/* Whether the port gets the frame as it is, by its only lane. */
static __rte_always_inline bool is_untouched(
	const struct frame *frame, const struct forward_port *egress)
{
	return egress->n_lanes == 1 && !frame->tagged && frame->vlan == 0 &&
	       egress->port->vlan.kind == PORT_VLAN_NONE;
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

/*
 * Appends frames to a lane that has some, until one has not these addresses and this EtherType. Frames of one flow come in
 * runs, and one decision is enough for a run. Returns how many.
 */
static __rte_always_inline unsigned int follow(
	struct lane *lane, struct frame *frames, unsigned int n, struct addresses wanted)
{
	struct frame **to = &lane->frames[lane->n];
	uint8_t needs = 0;
	unsigned int i;

	for (i = 0; i < n; i++) {
		struct addresses next = addresses_of(&frames[i]);

		if (((next.first ^ wanted.first) | (next.second ^ wanted.second)) != 0)
			break;
		needs |= frames[i].needs;
		to[i] = &frames[i];
	}
	lane->needs |= needs;
	lane->n += (uint16_t)i;
	return i;
}

/*
 * Forwards frame i. Returns the lane it was put into if any other frame of its addresses and EtherType would go there just
 * so, or NULL.
 */
static __rte_always_inline struct lane *forward_one(struct passage *passage,
	const struct bridge_view *bridge, unsigned int i, struct addresses addresses)
{
	struct forwarder *forwarder = passage->forwarder;
	const struct forward_port *ingress = passage->ingress;
	const uint64_t mac_mask = 0xffffffffffffULL;
	uint64_t destination = addresses.first & mac_mask;
	uint64_t source = addresses.second & mac_mask;
	struct frame *frame = &passage->frames[i];
	const struct forward_port *egress;
	uint16_t port_id;
	int vlan = 0;

	if (unlikely(frame->tagged || ingress->port->vlan.kind != PORT_VLAN_NONE)) {
		vlan = port_vlan_ingress(&ingress->port->vlan, frame);
		if (vlan < 0) {
			ingress->counters->drops[DROP_VLAN_REFUSED]++;
			return NULL;
		}
	}
	frame->vlan = (uint16_t)vlan;
	/* Bit 0 of the first byte marks a group address: never a sender's, always flooded. */
	if (likely((source & 1) == 0))
		fdb_learn(bridge->fdb, bridge->state, bridge->cache,
			fdb_key_make(source, frame->vlan), ingress->port->id);
	if (unlikely(destination & 1)) {
		flood(passage, bridge, i);
		return NULL;
	}
	port_id = fdb_lookup(bridge->fdb, bridge->state, bridge->cache,
		fdb_key_make(destination, frame->vlan));
	if (unlikely(port_id == FDB_NO_PORT || forwarder->ports[port_id].port == NULL)) {
		flood(passage, bridge, i);
		return NULL;
	}
	if (unlikely(port_id == ingress->port->id)) {
		ingress->counters->drops[DROP_NO_DESTINATION]++;
		return NULL;
	}
	egress = &forwarder->ports[port_id];
	if (unlikely(!send_to_port(passage, i, egress))) {
		ingress->counters->drops[DROP_VLAN_REFUSED]++;
		return NULL;
	}
	return is_untouched(frame, egress) ? &forwarder->lanes[egress->first_lane] : NULL;
}

/* Fewer frames are not waited for any shorter. */
#define PREFETCH_WORTHWHILE 4

/* Asks for what the decisions on a burst of different flows will look at. */
static void addresses_prefetch(
	const struct bridge_view *bridge, const struct frame *frames, unsigned int n)
{
	const uint64_t mac_mask = 0xffffffffffffULL;

	/* In VLAN 0; others are found without help. */
	for (unsigned int i = 0; i < n; i++) {
		struct addresses addresses = addresses_of(&frames[i]);

		fdb_prefetch(bridge->cache, fdb_key_make(addresses.second & mac_mask, 0));
		fdb_prefetch(bridge->cache, fdb_key_make(addresses.first & mac_mask, 0));
	}
}

void bridge_forward(struct forwarder *forwarder, const struct bridge_view *bridge,
	const struct forward_port *ingress, struct frame *frames, unsigned int n, bool is_one_flow)
{
	struct passage passage = {
		.forwarder = forwarder,
		.ingress = ingress,
		.frames = frames,
	};
	unsigned int i = 0;

	if (!is_one_flow && n >= PREFETCH_WORTHWHILE)
		addresses_prefetch(bridge, frames, n);
	while (i < n) {
		struct addresses addresses = addresses_of(&frames[i]);
		struct lane *lane = forward_one(&passage, bridge, i, addresses);

		i++;
		if (lane == NULL || i == n)
			continue;
		if (likely(is_one_flow)) {
			lane_append(forwarder, lane, frames, i, n);
			break;
		}
		i += follow(lane, &frames[i], n - i, addresses);
	}
	lanes_flush(forwarder);
}
