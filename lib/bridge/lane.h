/* SPDX-License-Identifier: BSD-3-Clause */
/* What bridge and cross-connect do with lanes. Private to this library. */
#ifndef BRIDGE_LANE_H
#define BRIDGE_LANE_H

#include <string.h>

#include <bridge/forward.h>

/* Appends a frame to the lane; lanes_flush() sends it. */
static inline void lane_put(struct forwarder *forwarder, struct lane *lane, struct frame *frame)
{
	if (lane->n == 0)
		forwarder->active[forwarder->n_active++] = (uint16_t)(lane - forwarder->lanes);
	lane->frames[lane->n++] = frame;
	lane->needs |= frame->needs;
}

/* Pointers to n <= FRAME_BURST frames that lie side by side. */
static inline struct frame **frames_list(struct forwarder *forwarder, struct frame *frames)
{
	if (unlikely(forwarder->list[0] != frames)) {
		for (unsigned int i = 0; i < FRAME_BURST; i++)
			forwarder->list[i] = &frames[i];
	}
	return forwarder->list;
}

/* Appends frames [i, n) of a burst, which need nothing, to a lane that has frame i - 1 already. */
static inline void lane_append(struct forwarder *forwarder, struct lane *lane,
	struct frame *frames, unsigned int i, unsigned int n)
{
	struct frame **list = frames_list(forwarder, frames);

	memcpy(&lane->frames[lane->n], &list[i], (n - i) * sizeof(*list));
	lane->n += (uint16_t)(n - i);
}

/* Sends what was put into lanes; what finds no room is dropped and counted. */
void lanes_flush(struct forwarder *forwarder);

/*
 * Sends now; `needs` is of all frames together. Returns how many were dealt with; the rest found no room. Where
 * nothing may be lost, *n_segments_done says how many segments of the first frame went out earlier, and is left saying
 * so for the next call.
 */
unsigned int lane_send(struct lane *lane, struct offload *offload, struct frame *const *frames,
	unsigned int n, uint8_t needs, uint16_t *n_segments_done);

/* n frames were sent and want a signal. */
void lane_mark_dirty(struct forwarder *forwarder, struct lane *lane, unsigned int n);

#endif
