/* SPDX-License-Identifier: BSD-3-Clause */
/* What bridge and cross-connect do with lanes. Private to this library. */
#ifndef BRIDGE_LANE_H
#define BRIDGE_LANE_H

#include <bridge/forward.h>

/* Appends a frame to the lane; lanes_flush() sends it. */
static inline void lane_put(struct forwarder *forwarder, struct lane *lane, struct frame *frame)
{
	if (lane->n == 0)
		forwarder->active[forwarder->n_active++] = (uint16_t)(lane - forwarder->lanes);
	lane->frames[lane->n++] = frame;
	lane->needs |= frame->needs;
}

/* Appends n frames that lie side by side and need nothing to a lane that has some already. Returns n. */
static inline unsigned int lane_append(struct lane *lane, struct frame *frames, unsigned int n)
{
	struct frame **to = &lane->frames[lane->n];

	for (unsigned int i = 0; i < n; i++)
		to[i] = &frames[i];
	lane->n += (uint16_t)n;
	return n;
}

/* Sends what was put into lanes; what finds no room is dropped and counted. */
void lanes_flush(struct forwarder *forwarder);

/*
 * Sends now; `needs` is of all frames together. Returns how many were dealt with; the rest found no room. Where nothing may be lost, *n_segments_done says
 * how many segments of the first frame went out earlier, and is left saying so for the next call.
 */
unsigned int lane_send(struct lane *lane, struct offload *offload, struct frame *const *frames,
	unsigned int n, uint8_t needs, uint16_t *n_segments_done);

void lane_mark_dirty(struct forwarder *forwarder, struct lane *lane);

#endif
