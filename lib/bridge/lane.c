/* SPDX-License-Identifier: BSD-3-Clause */
/* Lanes: sending what forwarding collected, with offloads done in software where the far side cannot. */
#include "lane.h"

static unsigned int send_frames(struct lane *lane, struct frame *const *frames, unsigned int n)
{
	struct tx_queue *queue = lane->queue;

	return lane->is_shared ? queue->send_shared(queue, lane->counters, frames, n)
			       : queue->send(queue, lane->counters, frames, n);
}

/*
 * One frame the far side cannot take as it is. Returns false if it, or the rest of it, should wait for room.
 * `n_segments_done` is NULL where frames may be lost: then what a full queue leaves over is dropped, since a frame that
 * went out in part cannot be taken back.
 */
static bool send_resolved(struct lane *lane, struct offload *offload, const struct frame *frame,
	uint16_t *n_segments_done)
{
	struct frame *segments[OFFLOAD_SEGMENTS_MAX];
	struct frame *out;
	uint8_t reason;
	unsigned int sent = n_segments_done != NULL ? *n_segments_done : 0;
	unsigned int first = sent;
	unsigned int n = offload_resolve(offload, frame, lane->queue->accepts, &out, &reason);

	if (n == 0) {
		lane->counters->drops[reason]++;
		return true;
	}
	for (unsigned int i = 0; i < n; i++)
		segments[i] = &out[i];
	while (sent < n) {
		unsigned int burst = RTE_MIN(n - sent, (unsigned int)FRAME_BURST);
		unsigned int done = send_frames(lane, &segments[sent], burst);

		sent += done;
		if (done < burst)
			break;
	}
	offload_release(offload);
	if (n_segments_done != NULL) {
		*n_segments_done = (uint16_t)(sent < n ? sent : 0);
		return sent >= n;
	}
	if (sent == first)
		return false;
	lane->counters->drops[lane->queue->full_reason] += n - sent;
	return true;
}

unsigned int lane_send(struct lane *lane, struct offload *offload, struct frame *const *frames,
	unsigned int n, uint8_t needs, uint16_t *n_segments_done)
{
	uint8_t refused = (uint8_t)~lane->queue->accepts;
	unsigned int sent = 0;

	while (sent < n) {
		unsigned int run = (needs & refused) == 0 ? n - sent : 0;
		unsigned int done;

		while (sent + run < n && (frames[sent + run]->needs & refused) == 0)
			run++;
		if (run > 0) {
			done = send_frames(lane, &frames[sent], run);
			sent += done;
			if (done < run)
				break;
		} else if (send_resolved(lane, offload, frames[sent], n_segments_done)) {
			sent++;
		} else {
			break;
		}
	}
	return sent;
}

void forward_port_update(struct forwarder *forwarder, struct forward_port *port)
{
	bool is_plain = port->n_lanes != 0 && port->port->vlan.kind == PORT_VLAN_NONE;

	port->plain_lane = is_plain ? &forwarder->lanes[port->first_lane] : NULL;
}

void lane_mark_dirty(struct forwarder *forwarder, struct lane *lane, unsigned int n)
{
	event_moderation_add(&lane->moderation, n);
	if (lane->is_dirty)
		return;
	lane->is_dirty = true;
	forwarder->dirty[forwarder->n_dirty++] = (uint16_t)(lane - forwarder->lanes);
}

void lanes_flush(struct forwarder *forwarder)
{
	for (unsigned int i = 0; i < forwarder->n_active; i++) {
		struct lane *lane = &forwarder->lanes[forwarder->active[i]];
		unsigned int sent = lane_send(lane, forwarder->offload, lane->frames, lane->n,
			lane->needs, NULL);

		lane->counters->drops[lane->queue->full_reason] += lane->n - sent;
		lane->n = 0;
		lane->needs = 0;
		lane_mark_dirty(forwarder, lane, sent);
	}
	forwarder->n_active = 0;
}

void forward_notify(struct forwarder *forwarder, uint64_t now, bool everything)
{
	unsigned int n_waiting = 0;

	for (unsigned int i = 0; i < forwarder->n_dirty; i++) {
		struct lane *lane = &forwarder->lanes[forwarder->dirty[i]];

		if (!event_moderation_is_due(&lane->moderation, now, everything)) {
			forwarder->dirty[n_waiting++] = forwarder->dirty[i];
			continue;
		}
		if (lane->is_shared)
			lane->queue->notify_shared(lane->queue);
		else
			lane->queue->notify(lane->queue);
		lane->is_dirty = false;
	}
	forwarder->n_dirty = n_waiting;
}
