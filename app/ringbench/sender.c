/* SPDX-License-Identifier: BSD-3-Clause */
#include "sender.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tsc.h"

static unsigned int n_free(const struct sender *sender)
{
	return sender->free_tail - sender->free_head;
}

int sender_collect(struct sender *sender)
{
	struct vring_fixed *ring = &sender->ring->ring;
	uint32_t n_entries = sender->free_mask + 1;
	uint32_t tail = sender->free_tail & sender->free_mask;
	int n = vring_fixed_collect(ring, sender->free_slots + tail, NULL, ring->n_slots);

	if (n <= 0)
		return n;
	/* What went over the end belongs to the beginning. */
	if (tail + (unsigned int)n > n_entries)
		memcpy(sender->free_slots, sender->free_slots + n_entries,
			(tail + (unsigned int)n - n_entries) * sizeof(*sender->free_slots));
	sender->free_tail += (unsigned int)n;
	return n;
}

/* Leave for how many of `wanted` frames there are slots for. */
static int take_slots(struct sender *sender, unsigned int wanted)
{
	int ret = 0;

	/* Seldom, so that the used ring's cache lines stay with the device. */
	if (n_free(sender) < wanted)
		ret = sender_collect(sender);
	if (ret < 0)
		return ret;
	sender->blocked = n_free(sender) < wanted;
	return (int)(sender->blocked ? n_free(sender) : wanted);
}

static uint16_t slot_at(const struct sender *sender, uint32_t at)
{
	return sender->free_slots[at & sender->free_mask];
}

/* The device asked for it, so it does not look by itself: what follows is its way out of sleep. */
static void kick(struct sender *sender, uint16_t first_buffer)
{
	if (sender->kick_tsc == 0) {
		sender->kick_first = first_buffer;
		sender->kick_tsc = tsc_now();
	}
	session_kick(sender->ring);
}

void sender_time_kick(struct sender *sender, uint64_t now)
{
	const struct vring_fixed *ring = &sender->ring->ring;
	uint16_t n_used = (uint16_t)(ring->used_idx + vring_fixed_pending(ring));

	/* No more than 32768 buffers are ever outstanding. */
	if ((uint16_t)(n_used - sender->kick_first - 1) >= 0x8000)
		return;
	histogram_add(&sender->direction->kick_latency, now > sender->kick_tsc ? now - sender->kick_tsc : 0, 1);
	sender->kick_tsc = 0;
}

/* Takes the n oldest free slots, whose frames are stamped, and hands them to the device. */
static void offer(struct sender *sender, unsigned int n)
{
	struct vring_fixed *ring = &sender->ring->ring;
	uint32_t first = sender->free_head & sender->free_mask;
	unsigned int n_to_end = sender->free_mask + 1 - first;
	uint16_t first_buffer = ring->avail_idx;

	/* Where the list goes over its end, in two parts. */
	vring_fixed_offer(ring, sender->free_slots + first, n < n_to_end ? n : n_to_end);
	if (n > n_to_end)
		vring_fixed_offer(ring, sender->free_slots, n - n_to_end);
	sender->free_head += n;
	vring_fixed_publish(ring);
	if (vring_fixed_needs_kick(ring))
		kick(sender, first_buffer);
}

/* Stamps the frame of any kind. */
static void stamp(struct sender *sender, uint16_t slot, unsigned int flow, uint32_t seq, uint32_t address, uint64_t now)
{
	const struct frame_format *format = &sender->direction->sent;
	uint8_t *frame = sender->frames[slot].frame;

	frame_stamp(format, frame, sender->sizes[slot], slot, flow, seq, now);
	if (format->n_addresses > 1)
		frame_set_macs(format, frame, address);
}

static unsigned int flow_after(const struct sender *sender, unsigned int flow)
{
	return flow + sender->n_queues < sender->direction->n_flows ? flow + sender->n_queues : sender->queue;
}

/* What frame_stamp() does to a frame that has neither a trailer nor a TCP header, n of them in one go. */
static inline __attribute__((always_inline)) void stamp_plain(
	struct sender *sender, unsigned int n, uint64_t now, bool one_flow, bool one_address)
{
	struct direction_flow *flows = sender->direction->flows;
	const struct frame_format *format = &sender->direction->sent;
	const struct sender_slot *frames = sender->frames;
	const uint16_t *free_slots = sender->free_slots;
	uint32_t at = sender->free_head, end = at + n, mask = sender->free_mask;
	uint64_t burst_mix = frame_burst_mix(format->seed, now);
	uint32_t ports_at = format->l4, record_at = format->payload;
	unsigned int flow = sender->next_flow;
	uint64_t numbers = frame_numbers(flows[flow].window.sent, frame_ports(flow));

	for (; at != end; at++) {
		const struct sender_slot slot = frames[free_slots[at & mask]];
		uint64_t check = frame_check_finish(burst_mix + (numbers ^ slot.identity));
		uint32_t ports = (uint32_t)numbers;
		struct frame_record record = {
			.seq = (uint32_t)(numbers >> 32), .check = (uint32_t)(check >> 32), .tsc = now};

		memcpy(slot.frame + ports_at, &ports, sizeof(ports));
		memcpy(slot.frame + record_at, &record, sizeof(record));
		if (!one_address)
			frame_set_macs(format, slot.frame, frame_address(format, flow, record.seq));
		numbers += UINT64_C(1) << 32;
		if (!one_flow) {
			flows[flow].window.sent = (uint32_t)(numbers >> 32);
			flow = flow_after(sender, flow);
			numbers = frame_numbers(flows[flow].window.sent, frame_ports(flow));
		}
	}
	flows[flow].window.sent = (uint32_t)(numbers >> 32);
	sender->next_flow = flow;
}

static uint64_t stamp_any(struct sender *sender, unsigned int n, uint64_t now)
{
	struct direction *direction = sender->direction;
	uint64_t bytes = 0;

	for (unsigned int i = 0; i < n; i++) {
		uint16_t slot = slot_at(sender, sender->free_head + i);
		unsigned int flow = sender->next_flow;
		uint32_t seq = direction->flows[flow].window.sent++;

		stamp(sender, slot, flow, seq, frame_address(&direction->sent, flow, seq), now);
		sender->next_flow = flow_after(sender, flow);
		bytes += sender->sizes[slot];
	}
	return bytes;
}

int sender_send(struct sender *sender, unsigned int max, uint64_t now)
{
	struct direction *direction = sender->direction;
	const struct frame_format *format = &direction->sent;
	uint64_t bytes;
	int n = take_slots(sender, max);

	if (n <= 0)
		return n;
	bytes = (uint64_t)n * sender->even_size;
	if (format->tcp || format->trailer || sender->even_size == 0)
		bytes = stamp_any(sender, (unsigned int)n, now);
	else if (format->n_addresses > 1)
		stamp_plain(sender, (unsigned int)n, now, false, false);
	else if (flow_after(sender, sender->next_flow) != sender->next_flow)
		stamp_plain(sender, (unsigned int)n, now, false, true);
	else
		stamp_plain(sender, (unsigned int)n, now, true, true);
	offer(sender, (unsigned int)n);
	direction->queues[sender->queue].n_sent += (unsigned int)n;
	direction->counters.n_sent += (unsigned int)n;
	direction->counters.sent_bytes += bytes;
	return n;
}

int sender_send_warmup(struct sender *sender, uint32_t address, uint64_t now)
{
	int n = take_slots(sender, 1);

	if (n == 1) {
		stamp(sender, slot_at(sender, sender->free_head), FRAME_WARMUP_FLOW - sender->queue, address, address,
			now);
		offer(sender, 1);
	}
	return n;
}

int sender_init(struct sender *sender, struct session_ring *ring, struct direction *direction,
	unsigned int queue, const struct options *options)
{
	unsigned int n_slots = ring->ring.n_slots;
	uint32_t n_entries = 1;

	while (n_entries < n_slots)
		n_entries *= 2;
	*sender = (struct sender){
		.ring = ring,
		.direction = direction,
		.queue = queue,
		.n_queues = options->n_queues,
		.next_flow = queue,
		.free_slots = calloc(n_entries + n_slots, sizeof(*sender->free_slots)),
		.free_mask = n_entries - 1,
		.frames = calloc(n_slots, sizeof(*sender->frames)),
		.sizes = calloc(n_slots, sizeof(*sender->sizes)),
		.even_size = options->imix ? 0 : options->size,
	};
	if (sender->free_slots == NULL || sender->frames == NULL || sender->sizes == NULL)
		return -ENOMEM;
	for (unsigned int slot = 0; slot < n_slots; slot++) {
		uint8_t *buffer = session_buffer(ring, slot);
		uint32_t size = options_slot_size(options, slot);

		sender->frames[slot] = (struct sender_slot){
			.frame = buffer + OFFLOAD_HEADER_LEN,
			.identity = frame_identity(htons((uint16_t)slot), frame_bare_size(&direction->sent, size)),
		};
		sender->sizes[slot] = size;
		offload_write((struct virtio_net_hdr_v1 *)buffer, &direction->sent,
			direction->partial_csum, direction->mss);
		frame_build(&direction->sent, buffer + OFFLOAD_HEADER_LEN, size, (uint16_t)slot,
			(uint16_t)queue, direction->partial_csum);
		sender->free_slots[sender->free_tail++] = (uint16_t)slot;
	}
	return 0;
}

void sender_fini(struct sender *sender)
{
	free(sender->free_slots);
	free(sender->frames);
	free(sender->sizes);
}
