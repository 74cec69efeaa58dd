/* SPDX-License-Identifier: BSD-3-Clause */
/* The receive side of one ring: takes used buffers, judges the frames in them, offers the buffers
 * again in their order. */
#ifndef RINGBENCH_RECEIVER_H
#define RINGBENCH_RECEIVER_H

#include "direction.h"

/* A used buffer. */
struct receiver_part {
	uint16_t slot;
	uint32_t len;
};

struct receiver {
	struct session_ring *ring;
	struct direction *direction; /* the one whose frames arrive here */
	const struct direction *all; /* every direction, to tell where a stray frame belongs */
	unsigned int n_all;
	unsigned int verify_every; /* 1: look at every byte of all frames; 0: of none */
	unsigned int until_verify;
	/* A frame over several buffers (VIRTIO_NET_F_MRG_RXBUF) of which `n_parts` of `n_wanted`
	 * are here; n_wanted 0: none. */
	unsigned int n_parts;
	unsigned int n_wanted;
	uint32_t parts_len;
	struct receiver_part *parts; /* n_slots */
	/* Scratch for one poll. */
	uint16_t *used;  /* n_slots, and some to look ahead at */
	uint32_t *lens;  /* n_slots */
	uint16_t *slots; /* 2 * n_slots */
	uint8_t *frame; /* a frame in one piece, header included */
};

int receiver_init(struct receiver *receiver, struct session_ring *ring, struct direction *direction,
	const struct options *options);
void receiver_fini(struct receiver *receiver);

/* Takes up to `max` buffers. Returns how many, or -EPROTO for a broken ring. `now` is the TSC. */
int receiver_poll(struct receiver *receiver, unsigned int max, uint64_t now);

#endif
