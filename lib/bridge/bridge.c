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

void bridge_forward(struct forwarder *forwarder, const struct bridge_view *bridge,
	const struct forward_port *ingress, struct frame *frames, unsigned int n)
{
	struct passage passage = {
		.forwarder = forwarder,
		.ingress = ingress,
		.frames = frames,
	};
	const struct port_vlan *ingress_vlan = &ingress->port->vlan;
	uint16_t ingress_id = ingress->port->id;
	/*
	 * Frames of one flow come in runs: one with the addresses of the frame before it, and no tag on its way, needs no
	 * second decision. NULL: the last frame's decision cannot be used again.
	 */
	struct lane *run_lane = NULL;
	uint64_t run_destination = 0, run_source = 0;

	for (unsigned int i = 0; i < n; i++) {
		struct frame *frame = &frames[i];
		const uint64_t mac_mask = 0xffffffffffffULL;
		uint64_t destination = load_le64(frame->head) & mac_mask;
		uint64_t source = load_le64(frame->head + 4) >> 16;
		uint16_t port_id;
		int vlan = 0;

		if (run_lane != NULL && destination == run_destination && source == run_source &&
			!frame->tagged) {
			lane_put(forwarder, run_lane, frame);
			continue;
		}
		run_lane = NULL;
		if (unlikely(frame->tagged || ingress_vlan->kind != PORT_VLAN_NONE)) {
			vlan = port_vlan_ingress(ingress_vlan, frame);
			if (vlan < 0) {
				ingress->counters->drops[DROP_VLAN_REFUSED]++;
				continue;
			}
		}
		frame->vlan = (uint16_t)vlan;
		/* Bit 0 of the first byte marks a group address: never a sender's, always flooded. */
		if (likely((source & 1) == 0))
			fdb_learn(bridge->fdb, bridge->state, bridge->cache,
				fdb_key_make(source, frame->vlan), ingress_id);
		if (unlikely(destination & 1)) {
			flood(&passage, bridge, i);
			continue;
		}
		port_id = fdb_lookup(bridge->fdb, bridge->state, bridge->cache,
			fdb_key_make(destination, frame->vlan));
		if (unlikely(port_id == FDB_NO_PORT ||
			    forwarder->ports[port_id].port == NULL)) {
			flood(&passage, bridge, i);
		} else if (unlikely(port_id == ingress_id)) {
			ingress->counters->drops[DROP_NO_DESTINATION]++;
		} else if (unlikely(!send_to_port(&passage, i, &forwarder->ports[port_id]))) {
			ingress->counters->drops[DROP_VLAN_REFUSED]++;
		} else if (likely(is_untouched(frame, &forwarder->ports[port_id]))) {
			run_lane = &forwarder->lanes[forwarder->ports[port_id].first_lane];
		}
		run_destination = destination;
		run_source = source;
	}
	lanes_flush(forwarder);
}
