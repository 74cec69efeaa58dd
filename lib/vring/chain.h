/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Chains of any shape: many descriptors, indirect tables, pieces that cross regions. The common shapes never come here
 * (split_parse.c, packed_parse.c); this is where everything odd or hostile ends, so it is written to be read.
 */
#ifndef VRING_CHAIN_H
#define VRING_CHAIN_H

#include <vring/device.h>

#include "shared.h"

/* Outcomes beside enum vring_fault that leave no buffer. */
#define CHAIN_NO_ROOM (VRING_N_FAULTS + 0) /* not in this burst; it comes next time */
#define CHAIN_NONE    (VRING_N_FAULTS + 1) /* packed: nothing is available there */
#define CHAIN_ENDLESS (VRING_N_FAULTS + 2) /* packed: there is no end, and so no id */

struct chain {
	struct vring_piece *pieces; /* where they go */
	unsigned int max;           /* of pieces and of descriptors, <= VRING_CHAIN_MAX */
	unsigned int n_before;      /* slots of the ring taken by the burst so far */
	unsigned int n_pieces;
	unsigned int n_descs;  /* with data or without, tables not counted */
	unsigned int n_slots;  /* descriptors of the ring itself */
	unsigned int n_taken;  /* slots to skip when it is returned: 1 in a split ring, n_slots in a packed one */
	uint16_t id;           /* split: the head */
	uint64_t len;
};

/*
 * Walks the chain that begins at `place` and reads each of its descriptors once. `wanted` is DESC_WRITE or 0. Returns
 * an enum vring_fault or one of the outcomes above; the counts of `chain` are valid in any case, so that the work done
 * can be charged.
 */
typedef int chain_walk_function(
	struct vring_device *ring, uint16_t place, uint64_t wanted, struct chain *chain);

chain_walk_function chain_walk_split;  /* place: head, < size */
chain_walk_function chain_walk_packed; /* place: slot and wrap counter */

#endif
