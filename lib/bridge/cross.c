/* SPDX-License-Identifier: BSD-3-Clause */
/* Cross-connects: everything from one port to one other, unseen. */
#include "lane.h"

unsigned int cross_forward(struct forwarder *forwarder, const struct forward_port *egress,
	uint16_t rx_queue_index, struct frame *frames, unsigned int n, uint8_t needs,
	uint16_t *n_segments_done)
{
	bool lossless = n_segments_done != NULL;
	struct lane *lane;
	unsigned int sent;

	if (egress->n_lanes == 0) {
		/* Back-pressure while the far side is away as well: lossless means the frames wait. */
		if (lossless)
			return 0;
		if (egress->counters != NULL)
			egress->counters->drops[DROP_PORT_DOWN] += n;
		return n;
	}
	/* Queue i goes to queue i, so one flow stays in one queue and in order. */
	lane = &forwarder->lanes[egress->first_lane + rx_queue_index % egress->n_lanes];
	sent = lane_send(lane, forwarder->offload, frames_list(forwarder, frames), n, needs,
		n_segments_done);
	lane_mark_dirty(forwarder, lane, sent);
	if (lossless)
		return sent;
	lane->counters->drops[lane->queue->full_reason] += n - sent;
	return n;
}
