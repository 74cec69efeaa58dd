/* SPDX-License-Identifier: BSD-3-Clause */
#include "direction.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <linux/virtio_net.h>

/* Frames in flight unless --window says otherwise: what the receiving ring can take, less
 * an eighth. */
static uint64_t default_window(const struct direction *direction, const struct options *options)
{
	const struct vring_fixed *rx = &direction->to->queues[0].rx.ring;
	const struct vring_fixed *tx = &direction->from->queues[0].tx.ring;
	uint32_t size = options_max_size(options) + FRAME_VLAN_LEN;
	uint64_t buffers = session_buffers_per_frame(direction->to, size);
	uint64_t frames;

	if (direction->mss != 0 && !session_has(direction->to, VIRTIO_NET_F_GUEST_TSO4)) {
		uint32_t n_segments = direction->frame_payload / direction->mss + 1;

		buffers = n_segments * (uint64_t)session_buffers_per_frame(direction->to,
					       direction->mss + direction->received.payload);
	}
	frames = rx->n_slots / buffers;
	if (frames > tx->n_slots)
		frames = tx->n_slots;
	/* Of all queues together: how frames are spread over the receiving ones is up to the
	 * device. */
	return frames * 7 / 8;
}

int direction_init(struct direction *direction, const struct options *options, struct session *from,
	struct session *to, bool active, uint64_t seed)
{
	bool tcp;

	*direction = (struct direction){.from = from, .to = to, .active = active};
	direction->partial_csum = session_has(from, VIRTIO_NET_F_CSUM);
	tcp = session_has(from, VIRTIO_NET_F_HOST_TSO4) && !options->imix &&
	      options->size >
		      options->mss + FRAME_ETH_LEN + FRAME_IP_LEN + FRAME_TCP_LEN + FRAME_VLAN_LEN;
	direction->mss = tcp ? (uint16_t)options->mss : 0;
	frame_format_init(
		&direction->sent, from->number, to->number, from->socket->vlan, tcp, seed);
	frame_format_init(
		&direction->received, from->number, to->number, to->socket->vlan, tcp, seed);
	direction->sent.trailer = direction->received.trailer =
		options->verify == VERIFY_ALL && !tcp;
	frame_format_set_addresses(&direction->sent, options->n_macs);
	frame_format_set_addresses(&direction->received, options->n_macs);
	direction->received.any_mac = from == to;
	direction->mergeable = session_has(to, VIRTIO_NET_F_MRG_RXBUF);
	direction->rules = (struct offload_rules){
		.guest_csum = session_has(to, VIRTIO_NET_F_GUEST_CSUM),
		.guest_tso4 = session_has(to, VIRTIO_NET_F_GUEST_TSO4),
		.sent_partial_csum = direction->partial_csum,
		.sent_mss = direction->mss,
	};
	if (tcp) {
		direction->frame_payload = options->size - direction->sent.payload;
		direction->bare_size = frame_bare_size(&direction->sent, options->size);
	}
	if (options->rate_pps == 0) {
		uint64_t window =
			options->window != 0 ? options->window : default_window(direction, options);

		direction->window = window / options->n_queues;
		if (direction->window == 0)
			direction->window = 1;
	}
	direction->n_flows = options->n_flows;
	direction->flows = calloc(direction->n_flows, sizeof(*direction->flows));
	direction->learned = calloc((options->n_macs + 63) / 64, sizeof(*direction->learned));
	if (direction->flows == NULL || direction->learned == NULL)
		return -ENOMEM;
	for (unsigned int i = 0; i < direction->n_flows; i++)
		direction->flows[i].queue = (uint8_t)(i % options->n_queues);
	return 0;
}

void direction_fini(struct direction *direction)
{
	free(direction->flows);
	free(direction->learned);
	direction->flows = NULL;
	direction->learned = NULL;
}

void direction_learn(struct direction *direction, uint32_t address)
{
	direction->n_learned += !direction_has_learned(direction, address);
	direction->learned[address / 64] |= UINT64_C(1) << (address % 64);
}

void direction_unlearn(struct direction *direction)
{
	memset(direction->learned, 0, (direction->sent.n_addresses + 63) / 64 * sizeof(*direction->learned));
	direction->n_learned = 0;
	direction->next_address = 0;
}

uint64_t direction_total_in_flight(const struct direction *direction, unsigned int n_queues)
{
	uint64_t total = 0;

	for (unsigned int i = 0; i < n_queues; i++)
		total += direction_in_flight(direction, i);
	return total;
}

void direction_suspend(struct direction *direction, unsigned int n_queues)
{
	for (unsigned int i = 0; i < direction->n_flows; i++)
		flow_suspend(&direction->flows[i].window);
	for (unsigned int i = 0; i < n_queues; i++)
		direction->queues[i].n_suspended += direction_in_flight(direction, i);
	direction->counters.n_stalls++;
}

void direction_settle_lost(struct direction_queue *share, uint64_t n_lost)
{
	share->n_settled += n_lost;
	share->n_suspended -= n_lost < share->n_suspended ? n_lost : share->n_suspended;
}

uint64_t direction_flush(struct direction *direction)
{
	uint64_t n_lost = 0;

	for (unsigned int i = 0; i < direction->n_flows; i++) {
		struct direction_flow *flow = &direction->flows[i];
		uint64_t n = flow_flush(&flow->window);

		flow->segments.next_offset = 0;
		direction_settle_lost(&direction->queues[flow->queue], n);
		n_lost += n;
	}
	return n_lost;
}

void direction_sum(const struct direction *direction, struct direction_totals *totals)
{
	*totals = (struct direction_totals){0};
	for (unsigned int i = 0; i < direction->n_flows; i++) {
		const struct flow *flow = &direction->flows[i].window;

		totals->n_lost += flow->n_lost;
		totals->n_duplicated += flow->n_duplicated;
		totals->n_reordered += flow->n_reordered;
		totals->n_late += flow->n_late;
	}
	totals->n_lost -= direction->counters.n_outage_lost;
	totals->n_duplicated -= direction->counters.n_outage_duplicated;
	for (unsigned int i = 0; i < FRAME_N_FAULTS; i++)
		totals->n_corrupted += direction->counters.n_faults[i];
}
