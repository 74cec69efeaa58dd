/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * From available entries to buffers with translated pieces (virtio 2.7.4 to 2.7.6).
 *
 * Two stages over the whole burst, so that one cache miss serves several buffers: first all heads are read and checked;
 * then the descriptors are prefetched, read, checked and translated. Chains of one or two descriptors in the region used
 * last have loops of their own, all others go through chain_walk().
 */
#include <stddef.h>
#include <string.h>

#include "chain.h"
#include "split_parse.h"

/* Buffers between the one that is parsed and the one whose descriptor is fetched. */
#define PREFETCH_AHEAD 8

#define N_PIECES (sizeof(((struct vring_burst *)0)->pieces) / sizeof(struct vring_piece))

/* The first chain of a burst always has room, whatever its shape; so every chain gets its turn. */
_Static_assert(N_PIECES >= VRING_CHAIN_MAX + 2 * (VRING_BURST_MAX - 1), "room for any first chain");

static inline __attribute__((always_inline)) void buffer_set(struct vring_buffer *buffer,
	struct vring_piece *pieces, unsigned int n_pieces, uint32_t len, uint16_t head,
	uint8_t fault)
{
	/* As two words: the fields one by one cost more than all the rest of the fast path writes. */
	const uint64_t lens = len;
	const uint64_t rest = head | (uint64_t)n_pieces << 16 | 1ULL << 32 | (uint64_t)fault << 48;

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

/* Parses buffer `at` by walking its chain. Returns false if it has no room in this burst. */
static __attribute__((noinline)) bool parse_chain(struct vring_device *ring,
	struct vring_burst *burst, struct split_progress *progress, unsigned int at, uint16_t head,
	uint64_t wanted)
{
	struct chain chain = {.pieces = &burst->pieces[burst->n_pieces]};
	uint32_t min_len = wanted == DESC_WRITE ? ring->writable_min_len : 1;
	unsigned int room, spent;
	int fault;

	/* Two pieces are kept for each buffer that may follow, so that the fast path need not count. */
	room = N_PIECES - burst->n_pieces - progress->n_wasted - 2 * (VRING_BURST_MAX - 1 - at);
	chain.max = room < VRING_CHAIN_MAX ? room : VRING_CHAIN_MAX;
	fault = chain_walk(ring, head, wanted, &chain);
	if (fault == CHAIN_NO_ROOM) {
		progress->no_room = true;
		return false;
	}
	if (fault == VRING_OK && chain.len < min_len)
		fault = VRING_FAULT_LENGTH;
	spent = chain.n_descs > chain.n_pieces ? chain.n_descs : chain.n_pieces;
	if (fault != VRING_OK) {
		chain.n_pieces = 0;
		chain.len = 0;
	}
	buffer_set(&burst->buffers[at], chain.pieces, chain.n_pieces, (uint32_t)chain.len, head,
		(uint8_t)fault);
	burst->n_pieces += chain.n_pieces;
	progress->n_wasted += spent - chain.n_pieces;
	progress->n_slots += chain.n_slots;
	return true;
}

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

/* Whether len bytes from `offset` on lie in the cached region, where offset is any address less the region's first. */
static inline __attribute__((always_inline)) bool cache_holds(
	const struct gmem_cache *cache, uint64_t offset, uint64_t len)
{
	return len <= cache->size && offset <= cache->size - len;
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
		buffer_set(buffer, piece, 1, len, *head, VRING_OK);
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
		uint64_t offset, len, sum;

		__builtin_prefetch(&table[head[PREFETCH_AHEAD]]);
		if (in_table) {
			const struct private_desc *entries;

			/* WRITE is ignored here (2.7.5.3.2). */
			offset = one.addr - cache.gpa;
			if ((one.word & (DESC_NEXT | DESC_INDIRECT)) != DESC_INDIRECT ||
				desc_len(one.word) != 2 * sizeof(one) ||
				!cache_holds(&cache, offset, 2 * sizeof(one)))
				break;
			entries = (const struct private_desc *)(cache.hva + offset);
			if ((uintptr_t)entries % sizeof(uint64_t) != 0)
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
		if (!have_shapes(one.word, wanted | DESC_NEXT, two.word, wanted))
			break;
		len = desc_len(one.word);
		offset = one.addr - cache.gpa;
		if (len == 0 || !cache_holds(&cache, offset, len))
			break;
		piece[0].hva = cache.hva + offset;
		piece[0].len = (uint32_t)len;
		sum = len;
		len = desc_len(two.word);
		offset = two.addr - cache.gpa;
		if (len == 0 || !cache_holds(&cache, offset, len))
			break;
		piece[1].hva = cache.hva + offset;
		piece[1].len = (uint32_t)len;
		__builtin_prefetch(piece[1].hva);
		sum += len;
		if ((direction == VRING_WRITABLE && sum < min_len) || sum > UINT32_MAX)
			break;
		buffer_set(buffer, piece, 2, (uint32_t)sum, *head, VRING_OK);
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
	struct split_progress *progress, enum vring_direction direction, unsigned int target)
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

	progress->bad_head = end < target;
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
		if (!parse_chain(ring, burst, progress, at, heads[at], wanted))
			break;
		at++;
		run.cache = ring->cache;
	}
	progress->n_parsed = at;
}
