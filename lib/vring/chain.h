/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Chains of any shape: many descriptors, indirect tables, pieces that cross regions. The common shapes never come here
 * (split_parse.c); this is where everything odd or hostile ends, so it is written to be read.
 */
#ifndef VRING_CHAIN_H
#define VRING_CHAIN_H

#include <vring/device.h>

#include "shared.h"

/* Not a fault of the driver: the burst has no room left for this chain, it comes next time. */
#define CHAIN_NO_ROOM VRING_N_FAULTS

struct chain {
	struct vring_piece *pieces; /* where they go */
	unsigned int max;           /* of pieces and of descriptors, <= VRING_CHAIN_MAX */
	unsigned int n_pieces;
	unsigned int n_descs;  /* with data or without, tables not counted */
	unsigned int n_slots;  /* descriptors of the ring itself */
	uint64_t len;
};

/*
 * Walks the chain from `head` on (< size) and reads each of its descriptors once. `wanted` is DESC_WRITE or 0. Returns
 * an enum vring_fault or CHAIN_NO_ROOM; the counts of `chain` are valid in any case, so that the work done can be
 * charged.
 */
int chain_walk(struct vring_device *ring, uint16_t head, uint64_t wanted, struct chain *chain);

#endif
