/* SPDX-License-Identifier: BSD-3-Clause */
/* The transmit side of one ring: built frames that are stamped and offered when there is leave to
 * send. */
#ifndef RINGBENCH_SENDER_H
#define RINGBENCH_SENDER_H

#include "direction.h"

/* The frame of a slot, and what of it goes into its check word. */
struct sender_slot {
	uint8_t *frame;
	uint64_t identity;
};

struct sender {
	struct session_ring *ring;
	struct direction *direction;
	unsigned int queue;
	unsigned int n_queues;
	unsigned int next_flow; /* of the flows queue, queue + n_queues, ... */
	/* Slots that can be filled, first used first: in order, that is ring order. */
	uint16_t *free_slots; /* n_slots more than the free_mask + 1 entries used: collect() writes on behind the end */
	uint32_t free_mask;
	uint32_t free_head;   /* free-running; next to take */
	uint32_t free_tail;   /* next to put */
	struct sender_slot *frames;
	uint32_t *sizes;
	uint32_t even_size; /* of all frames; 0: they differ */
	bool blocked; /* frames were due and all slots taken */
	/* The kick that is being timed: when it was sent, and which buffer it told of first, as a free-running number. */
	uint64_t kick_tsc; /* 0: none */
	uint16_t kick_first;
};

/* Builds the frames. 0 or -ENOMEM. */
int sender_init(struct sender *sender, struct session_ring *ring, struct direction *direction,
	unsigned int queue, const struct options *options);
void sender_fini(struct sender *sender);

/* Sends up to `max` (<= n_slots) frames, stamped `now`. Returns how many, or -EPROTO for a broken
 * ring. */
int sender_send(struct sender *sender, unsigned int max, uint64_t now);

/* Sends one warm-up frame from MAC address `address`. 1, 0 if there is no slot, or -EPROTO. */
int sender_send_warmup(struct sender *sender, uint32_t address, uint64_t now);

/* Takes back the slots that the device has used. Returns how many, or -EPROTO. Sending does it when it runs short. */
int sender_collect(struct sender *sender);

/*
 * While a kick is being timed: looks whether the first buffer it told of has been used, and notes how long that took.
 * Whoever calls this seldom measures how seldom. A kick that follows another one before the device has reacted is not
 * timed.
 */
void sender_time_kick(struct sender *sender, uint64_t now);

/* Frames the device has taken and not returned. */
static inline unsigned int sender_outstanding(const struct sender *sender)
{
	return sender->ring->ring.n_slots - (sender->free_tail - sender->free_head);
}

#endif
