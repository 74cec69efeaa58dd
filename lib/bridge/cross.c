/* SPDX-License-Identifier: BSD-3-Clause */
/* Cross-connects: everything from one port to one other, unseen. */
#include "lane.h"

struct lane *cross_lane(struct forwarder *forwarder, const struct forward_port *egress, uint16_t rx_queue_index)
{
	if (egress->n_lanes == 0)
		return NULL;
	return &forwarder->lanes[egress->first_lane + rx_queue_index % egress->n_lanes];
}

unsigned int cross_forward(struct forwarder *forwarder, const struct forward_port *egress,
	uint16_t rx_queue_index, struct frame *frames, unsigned int n, uint8_t needs,
	uint16_t *n_segments_done)
{
	bool lossless = n_segments_done != NULL;
	struct lane *lane = cross_lane(forwarder, egress, rx_queue_index);
	unsigned int sent;

	if (lane == NULL) {
		/* Back-pressure while the far side is away as well: lossless means the frames wait. */
		if (lossless)
			return 0;
		if (egress->counters != NULL)
			egress->counters->drops[DROP_PORT_DOWN] += n;
		return n;
	}
	sent = lane_send(lane, forwarder->offload, frames_list(forwarder, frames), n, needs,
		n_segments_done);
	lane_mark_dirty(forwarder, lane, sent);
	if (lossless)
		return sent;
	lane->counters->drops[lane->queue->full_reason] += n - sent;
	return n;
}
