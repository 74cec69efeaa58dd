/* SPDX-License-Identifier: BSD-3-Clause */
#include "parse.h"

#define N_PIECES (sizeof(((struct vring_burst *)0)->pieces) / sizeof(struct vring_piece))

/* The first chain of a burst always has room, whatever its shape; so every chain gets its turn. */
_Static_assert(N_PIECES >= VRING_CHAIN_MAX + 2 * (VRING_BURST_MAX - 1), "room for any first chain");

static unsigned int larger(unsigned int a, unsigned int b)
{
	return a > b ? a : b;
}

bool parse_chain(struct vring_device *ring, struct vring_burst *burst,
	struct parse_progress *progress, unsigned int at, chain_walk_function *walk, uint16_t place,
	uint64_t wanted)
{
	struct chain chain = {
		.pieces = &burst->pieces[burst->n_pieces],
		.n_before = progress->n_slots,
		.id = place,
		.n_taken = 1,
	};
	uint32_t min_len = wanted == DESC_WRITE ? ring->writable_min_len : 1;
	unsigned int room, spent;
	int fault;

	/* Two pieces are kept for each buffer that may follow, so that the fast path need not count. */
	room = N_PIECES - burst->n_pieces - progress->n_wasted - 2 * (VRING_BURST_MAX - 1 - at);
	chain.max = room < VRING_CHAIN_MAX ? room : VRING_CHAIN_MAX;
	fault = walk(ring, place, wanted, &chain);
	if (fault == CHAIN_NO_ROOM) {
		progress->no_room = true;
		return false;
	}
	if (fault == CHAIN_NONE) {
		progress->n_available = at;
		return false;
	}
	if (fault == CHAIN_ENDLESS) {
		progress->breakage = VRING_BROKEN_CHAIN;
		return false;
	}
	if (fault == VRING_OK && chain.len < min_len)
		fault = VRING_FAULT_LENGTH;
	spent = larger(chain.n_pieces, larger(chain.n_descs, chain.n_taken));
	if (fault != VRING_OK) {
		chain.n_pieces = 0;
		chain.len = 0;
	}
	buffer_set(&burst->buffers[at], chain.pieces, chain.n_pieces, (uint32_t)chain.len, chain.id,
		(uint16_t)chain.n_taken, (uint8_t)fault);
	burst->n_pieces += chain.n_pieces;
	progress->n_wasted += spent - chain.n_pieces;
	progress->n_slots += chain.n_slots;
	return true;
}
