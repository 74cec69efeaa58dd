/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Parsing of available buffers into a burst, for take.c: what the layouts have in common, and the choice between them.
 * The layouts themselves are in split_parse.c and packed_parse.c.
 */
#ifndef VRING_PARSE_H
#define VRING_PARSE_H

#include <stddef.h>
#include <string.h>

#include <vring/device.h>

#include "chain.h"

/* How far a call has come with its burst. */
struct parse_progress {
	unsigned int n_available; /* buffers there are, as far as known; at most VRING_BURST_MAX */
	unsigned int n_parsed;
	unsigned int n_slots;  /* descriptors of the ring they take */
	unsigned int n_wasted; /* descriptors looked at that left no piece: charged like pieces, work is bounded */
	bool no_room;
	uint8_t breakage; /* enum vring_breakage: why buffer n_parsed is none */
};

void split_parse(struct vring_device *ring, struct vring_burst *burst,
	struct parse_progress *progress, enum vring_direction direction, unsigned int target);
void packed_parse(struct vring_device *ring, struct vring_burst *burst,
	struct parse_progress *progress, enum vring_direction direction, unsigned int target);

/*
 * Parses buffers n_parsed and on, up to buffer `target` (at most n_available). Stops before a chain that has no room in
 * the burst, one that breaks the ring, or where the driver has no more. Refused buffers are in the burst like any other,
 * with their fault and no bytes.
 */
static inline void parse(struct vring_device *ring, struct vring_burst *burst,
	struct parse_progress *progress, enum vring_direction direction, unsigned int target)
{
	if (ring->packed)
		packed_parse(ring, burst, progress, direction, target);
	else
		split_parse(ring, burst, progress, direction, target);
}

/*
 * Parses buffer `at`, which begins at `place` (split: head, packed: slot and wrap counter), by walking its chain. Returns
 * false if that leaves no buffer; `progress` says why.
 */
bool parse_chain(struct vring_device *ring, struct vring_burst *burst,
	struct parse_progress *progress, unsigned int at, chain_walk_function *walk, uint16_t place,
	uint64_t wanted);

static inline __attribute__((always_inline)) void buffer_set(struct vring_buffer *buffer,
	struct vring_piece *pieces, unsigned int n_pieces, uint32_t len, uint16_t id,
	uint16_t n_descs, uint8_t fault)
{
	/* As two words: the fields one by one cost more than all the rest of the fast path writes. */
	const uint64_t lens = len;
	const uint64_t rest = id | (uint64_t)n_pieces << 16 | (uint64_t)n_descs << 32 | (uint64_t)fault << 48;

	buffer->pieces = pieces;
	memcpy((uint8_t *)buffer + offsetof(struct vring_buffer, len), &lens, sizeof(lens));
	memcpy((uint8_t *)buffer + offsetof(struct vring_buffer, id), &rest, sizeof(rest));
}

_Static_assert(offsetof(struct vring_buffer, used_len) == offsetof(struct vring_buffer, len) + 4 &&
		offsetof(struct vring_buffer, n_pieces) == offsetof(struct vring_buffer, id) + 2 &&
		offsetof(struct vring_buffer, n_descs) == offsetof(struct vring_buffer, id) + 4 &&
		offsetof(struct vring_buffer, fault) == offsetof(struct vring_buffer, id) + 6 &&
		sizeof(struct vring_buffer) == offsetof(struct vring_buffer, id) + 8,
	"the two words of buffer_set()");

/* Whether len bytes from `offset` on lie in the cached region, where offset is any address less the region's first. */
static inline __attribute__((always_inline)) bool cache_holds(
	const struct gmem_cache *cache, uint64_t offset, uint64_t len)
{
	return len <= cache->size && offset <= cache->size - len;
}

/*
 * Makes a buffer of two descriptors whose flags have been looked at. Returns false if one is empty or not in the cached
 * region, or their sum too short (writable) or too long.
 */
static inline __attribute__((always_inline)) bool buffer_set_pair(struct vring_buffer *buffer,
	struct vring_piece *piece, const struct gmem_cache *cache, struct private_desc one,
	struct private_desc two, enum vring_direction direction, uint32_t min_len, uint16_t id,
	uint16_t n_descs)
{
	uint64_t len = desc_len(one.word);
	uint64_t offset = one.addr - cache->gpa;
	uint64_t sum;

	if (len == 0 || !cache_holds(cache, offset, len))
		return false;
	piece[0].hva = cache->hva + offset;
	piece[0].len = (uint32_t)len;
	sum = len;
	len = desc_len(two.word);
	offset = two.addr - cache->gpa;
	if (len == 0 || !cache_holds(cache, offset, len))
		return false;
	piece[1].hva = cache->hva + offset;
	piece[1].len = (uint32_t)len;
	__builtin_prefetch(piece[1].hva);
	sum += len;
	if ((direction == VRING_WRITABLE && sum < min_len) || sum > UINT32_MAX)
		return false;
	buffer_set(buffer, piece, 2, (uint32_t)sum, id, n_descs, VRING_OK);
	return true;
}

/*
 * The entries of a table of two in the cached region, if that is what the descriptor names and they are aligned; else
 * NULL. WRITE is ignored here (2.7.5.3.2, 2.8.7).
 */
static inline __attribute__((always_inline)) const struct private_desc *table_of_two(
	const struct gmem_cache *cache, struct private_desc desc)
{
	const uint64_t bytes = 2 * sizeof(struct private_desc);
	uint64_t offset = desc.addr - cache->gpa;
	const struct private_desc *entries;

	if ((desc.word & (DESC_NEXT | DESC_INDIRECT)) != DESC_INDIRECT ||
		desc_len(desc.word) != bytes || !cache_holds(cache, offset, bytes))
		return NULL;
	entries = (const struct private_desc *)(cache->hva + offset);
	return (uintptr_t)entries % sizeof(uint64_t) == 0 ? entries : NULL;
}

#endif
