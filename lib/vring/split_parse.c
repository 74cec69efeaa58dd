/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * From available entries to buffers with translated pieces (virtio 2.7.4 to 2.7.6).
 *
 * Two stages over the whole burst, so that one cache miss serves several buffers: first all heads are read and checked;
 * then the descriptors are prefetched, read, checked and translated. Chains of one or two descriptors in the region used
 * last have loops of their own, all others go through chain_walk_split().
 */
#include <string.h>

#include "chain.h"
#include "parse.h"

/* Buffers between the one that is parsed and the one whose descriptor is fetched. */
#define PREFETCH_AHEAD 8

/*
 * Reads the heads of buffers [from, to), each once, into heads[from] and on; behind them lie PREFETCH_AHEAD more that
 * are good for prefetching only. Returns how far the heads are good.
 */
static inline __attribute__((always_inline)) unsigned int load_heads(
	const struct vring_device *ring, uint16_t *heads, unsigned int from, unsigned int to)
{
	const uint16_t *entries = ring->avail->ring;
	unsigned int slot = (ring->last_avail_idx + from) & ring->mask;
	unsigned int n_until_wrap = ring->size - slot;
	unsigned int n = to - from;
	unsigned int all = 0;

	if (n <= n_until_wrap) {
		shared_copy_u16(&heads[from], &entries[slot], n);
	} else {
		shared_copy_u16(&heads[from], &entries[slot], n_until_wrap);
		shared_copy_u16(&heads[from + n_until_wrap], entries, n - n_until_wrap);
	}
	memset(&heads[to], 0, PREFETCH_AHEAD * sizeof(heads[0]));
	/* The size is a power of two: a head is outside if and only if it has a bit that the mask has not. */
	for (unsigned int i = from; i < to; i++)
		all |= heads[i];
	if (__builtin_expect(all <= ring->mask, 1))
		return to;
	while (heads[from] <= ring->mask)
		from++;
	return from;
}

/* What the loops below share. */
struct run {
	const struct vring_desc *table;
	struct gmem_cache cache;
	uint32_t min_len; /* writable buffers */
	uint16_t mask;
};

/* The flags and length words of two descriptors have these shapes. */
static inline __attribute__((always_inline)) bool have_shapes(
	uint64_t one, uint64_t shape_one, uint64_t two, uint64_t shape_two)
{
	return (((one ^ shape_one) | (two ^ shape_two)) & DESC_SHAPE) == 0;
}

/* Buffers of one descriptor in the cached region, as long as there is one after the other. Returns how many. */
static inline __attribute__((always_inline)) unsigned int parse_singles(const struct run *run,
	const uint16_t *heads, unsigned int n, struct vring_buffer *buffer,
	struct vring_piece *piece, enum vring_direction direction)
{
	const uint64_t wanted = direction == VRING_WRITABLE ? DESC_WRITE : 0;
	const uint32_t min_len = direction == VRING_WRITABLE ? run->min_len : 1;
	const struct vring_desc *table = run->table;
	const struct gmem_cache cache = run->cache;
	const uint16_t *head = heads;

	for (; head < heads + n; head++, buffer++, piece++) {
		struct private_desc desc = desc_load(&table[*head]);
		uint32_t len = desc_len(desc.word);
		uint64_t offset = desc.addr - cache.gpa;

		__builtin_prefetch(&table[head[PREFETCH_AHEAD]]);
		if ((desc.word & DESC_SHAPE) != wanted || len < min_len ||
			!cache_holds(&cache, offset, len))
			break;
		piece->hva = cache.hva + offset;
		piece->len = len;
		__builtin_prefetch(piece->hva);
		buffer_set(buffer, piece, 1, len, *head, 1, VRING_OK);
	}
	return (unsigned int)(head - heads);
}

/* The same for two descriptors: both in the ring, or both in a table of two in sequence that is cached as well. */
static inline __attribute__((always_inline)) unsigned int parse_pairs(const struct run *run,
	const uint16_t *heads, unsigned int n, struct vring_buffer *buffer,
	struct vring_piece *piece, enum vring_direction direction, bool in_table)
{
	const uint64_t wanted = direction == VRING_WRITABLE ? DESC_WRITE : 0;
	const uint32_t min_len = direction == VRING_WRITABLE ? run->min_len : 1;
	const struct vring_desc *table = run->table;
	const struct gmem_cache cache = run->cache;
	const uint32_t mask = run->mask;
	const uint16_t *head = heads;

	for (; head < heads + n; head++, buffer++, piece += 2) {
		struct private_desc one = desc_load(&table[*head]);
		struct private_desc two;

		__builtin_prefetch(&table[head[PREFETCH_AHEAD]]);
		if (in_table) {
			const struct private_desc *entries = table_of_two(&cache, one);

			if (entries == NULL)
				break;
			one = desc_load(&entries[0]);
			two = desc_load(&entries[1]);
			if (desc_next(one.word) != 1)
				break;
		} else {
			if (desc_next(one.word) > mask)
				break;
			two = desc_load(&table[desc_next(one.word)]);
		}
		if (!have_shapes(one.word, wanted | DESC_NEXT, two.word, wanted) ||
			!buffer_set_pair(buffer, piece, &cache, one, two, direction, min_len, *head, 1))
			break;
	}
	return (unsigned int)(head - heads);
}

/*
 * One function for each shape and direction, called once per run of buffers and not inlined: only so does the compiler
 * keep in registers what the loop needs.
 */
#define RUN_FUNCTION(name, body, ...)                                                              \
	static __attribute__((noinline)) unsigned int name(const struct run *run,                  \
		const uint16_t *heads, unsigned int n, struct vring_buffer *buffer,                \
		struct vring_piece *piece)                                                         \
	{                                                                                          \
		return body(run, heads, n, buffer, piece, __VA_ARGS__);                            \
	}

RUN_FUNCTION(readable_singles, parse_singles, VRING_READABLE)
RUN_FUNCTION(readable_pairs, parse_pairs, VRING_READABLE, false)
RUN_FUNCTION(readable_tables, parse_pairs, VRING_READABLE, true)
RUN_FUNCTION(writable_singles, parse_singles, VRING_WRITABLE)
RUN_FUNCTION(writable_pairs, parse_pairs, VRING_WRITABLE, false)
RUN_FUNCTION(writable_tables, parse_pairs, VRING_WRITABLE, true)

/* What a buffer of each shape takes. */
static const struct shape {
	unsigned int (*parse[2])(const struct run *run, const uint16_t *heads, unsigned int n,
		struct vring_buffer *buffer, struct vring_piece *piece); /* by direction */
	uint8_t n_pieces;
	uint8_t n_slots;
} shapes[] = {
	{{readable_singles, writable_singles}, 1, 1},
	{{readable_pairs, writable_pairs}, 2, 2},
	{{readable_tables, writable_tables}, 2, 1}, /* last: only where tables are negotiated */
};

/*
 * Runs of the common shapes in a row have a loop each; what none of them takes is walked. What a loop had read of such a
 * chain is thrown away and the walk reads for itself: decision and use always rest on the same copy.
 */
void split_parse(struct vring_device *ring, struct vring_burst *burst,
	struct parse_progress *progress, enum vring_direction direction, unsigned int target)
{
	/* A ring of one descriptor may have no table of two entries. */
	const unsigned int n_shapes = ring->indirect && ring->size >= 2 ? 3 : 2;
	const uint64_t wanted = direction == VRING_WRITABLE ? DESC_WRITE : 0;
	struct run run = {
		.table = ring->desc,
		.cache = ring->cache,
		.min_len = ring->writable_min_len,
		.mask = ring->mask,
	};
	uint16_t heads[VRING_BURST_MAX + PREFETCH_AHEAD];
	unsigned int at = progress->n_parsed;
	unsigned int end = load_heads(ring, heads, at, target);
	unsigned int n_fruitless = 0; /* shapes that did not fit the buffer at `at` */

	if (end < target)
		progress->breakage = VRING_BROKEN_HEAD;
	for (unsigned int i = 0; at < end; i = i + 1 < n_shapes ? i + 1 : 0) {
		const struct shape *shape = &shapes[i];
		unsigned int n = shape->parse[direction](&run, &heads[at], end - at,
			&burst->buffers[at], &burst->pieces[burst->n_pieces]);

		burst->n_pieces += n * shape->n_pieces;
		progress->n_slots += n * shape->n_slots;
		at += n;
		n_fruitless = n > 0 ? 1 : n_fruitless + 1;
		if (n_fruitless < n_shapes)
			continue;
		n_fruitless = 0;
		if (!parse_chain(ring, burst, progress, at, chain_walk_split, heads[at], wanted))
			break;
		at++;
		run.cache = ring->cache;
	}
	progress->n_parsed = at;
}
