/* SPDX-License-Identifier: BSD-3-Clause */
#include "sender.h"

#include <errno.h>
#include <stdlib.h>

static unsigned int n_free(const struct sender *sender)
{
	return sender->free_tail - sender->free_head;
}

static int collect(struct sender *sender)
{
	struct vring_fixed *ring = &sender->ring->ring;
	int n = vring_fixed_collect(ring, sender->used, ring->n_slots);

	for (int i = 0; i < n; i++)
		sender->free_slots[sender->free_tail++ & (ring->n_slots - 1u)] =
			sender->used[i].slot;
	return n;
}

/* Leave for how many of `wanted` frames there are slots for. */
static int take_slots(struct sender *sender, unsigned int wanted)
{
	int ret = 0;

	/* Seldom, so that the used ring's cache lines stay with the device. */
	if (n_free(sender) < wanted)
		ret = collect(sender);
	if (ret < 0)
		return ret;
	sender->blocked = n_free(sender) < wanted;
	return (int)(sender->blocked ? n_free(sender) : wanted);
}

static uint16_t pop_slot(struct sender *sender)
{
	return sender->free_slots[sender->free_head++ & (sender->ring->ring.n_slots - 1u)];
}

static void offer(struct sender *sender, unsigned int n)
{
	vring_fixed_offer(&sender->ring->ring, sender->slots, n);
	vring_fixed_publish(&sender->ring->ring);
	if (vring_fixed_needs_kick(&sender->ring->ring))
		session_kick(sender->ring);
}

int sender_send(struct sender *sender, unsigned int max, uint64_t now)
{
	struct direction *direction = sender->direction;
	const struct frame_format *format = &direction->sent;
	uint64_t bytes = 0;
	int n = take_slots(sender, max);

	if (n <= 0)
		return n;
	for (int i = 0; i < n; i++) {
		uint16_t slot = pop_slot(sender);
		uint8_t *frame = session_buffer(sender->ring, slot) + OFFLOAD_HEADER_LEN;
		uint32_t size = sender->sizes[slot];
		unsigned int flow = sender->next_flow;

		frame_stamp(
			format, frame, size, slot, flow, direction->flows[flow].window.sent++, now);
		sender->next_flow = flow + sender->n_queues < direction->n_flows
					    ? flow + sender->n_queues
					    : sender->queue;
		sender->slots[i] = slot;
		bytes += size;
	}
	offer(sender, (unsigned int)n);
	direction->queues[sender->queue].n_sent += (unsigned int)n;
	direction->counters.n_sent += (unsigned int)n;
	direction->counters.sent_bytes += bytes;
	return n;
}

int sender_send_warmup(struct sender *sender, uint64_t now)
{
	const struct frame_format *format = &sender->direction->sent;
	int n = take_slots(sender, 1);

	if (n == 1) {
		uint16_t slot = pop_slot(sender);
		uint8_t *frame = session_buffer(sender->ring, slot) + OFFLOAD_HEADER_LEN;

		frame_stamp(format, frame, sender->sizes[slot], slot,
			FRAME_WARMUP_FLOW - sender->queue, 0, now);
		sender->slots[0] = slot;
		offer(sender, 1);
	}
	return n;
}

int sender_init(struct sender *sender, struct session_ring *ring, struct direction *direction,
	unsigned int queue, const struct options *options)
{
	unsigned int n_slots = ring->ring.n_slots;

	*sender = (struct sender){
		.ring = ring,
		.direction = direction,
		.queue = queue,
		.n_queues = options->n_queues,
		.next_flow = queue,
		.free_slots = calloc(n_slots, sizeof(*sender->free_slots)),
		.sizes = calloc(n_slots, sizeof(*sender->sizes)),
		.used = calloc(n_slots, sizeof(*sender->used)),
		.slots = calloc(n_slots, sizeof(*sender->slots)),
	};
	if (sender->free_slots == NULL || sender->sizes == NULL || sender->used == NULL ||
		sender->slots == NULL)
		return -ENOMEM;
	for (unsigned int slot = 0; slot < n_slots; slot++) {
		uint8_t *buffer = session_buffer(ring, slot);

		sender->sizes[slot] = options_slot_size(options, slot);
		offload_write((struct virtio_net_hdr_v1 *)buffer, &direction->sent,
			direction->partial_csum, direction->mss);
		frame_build(&direction->sent, buffer + OFFLOAD_HEADER_LEN, sender->sizes[slot],
			(uint16_t)slot, (uint16_t)queue, direction->partial_csum);
		sender->free_slots[sender->free_tail++] = (uint16_t)slot;
	}
	return 0;
}

void sender_fini(struct sender *sender)
{
	free(sender->free_slots);
	free(sender->sizes);
	free(sender->used);
	free(sender->slots);
}
