/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * From available descriptors to buffers with translated pieces (virtio 2.8.1 to 2.8.7).
 *
 * Whether a slot holds a buffer shows in its flags only, so there is no stage of its own for that. Buffers of one
 * descriptor, of two, and of a table of two, in the region used last, have a loop each, where state and shape are one
 * comparison; all others go through chain_walk_packed().
 */
#include "packed_desc.h"
#include "parse.h"

/* Descriptors between the one that is parsed and the one that is fetched: four to a cache line. */
#define PREFETCH_AHEAD 8

/* What the loops share. */
struct run {
	const struct vring_packed_desc *desc; /* of the first */
	struct gmem_cache cache;
	uint64_t state;  /* AVAIL and USED of what is available, in private order */
	uint64_t wanted; /* DESC_WRITE or 0 */
	uint32_t min_len;
};

#define DESC_STATE (DESC_AVAIL | DESC_USED)

/*
 * Buffers of each shape as long as there is one after the other, at most n, none of which crosses the end of the ring.
 * Return how many.
 */

static __attribute__((noinline)) unsigned int parse_singles(const struct run *run, unsigned int n,
	struct vring_buffer *buffer, struct vring_piece *piece)
{
	const struct vring_packed_desc *first = run->desc;
	const struct gmem_cache cache = run->cache;
	const uint64_t wanted = run->state | run->wanted;
	const uint32_t min_len = run->min_len;
	unsigned int i;

	for (i = 0; i < n; i++, buffer++, piece++) {
		struct private_desc desc = packed_desc_load(&first[i]);
		uint32_t len = desc_len(desc.word);
		uint64_t offset = desc.addr - cache.gpa;

		/* Beyond the ring's end as well: that is a hint, not an access. */
		__builtin_prefetch(&first[i] + PREFETCH_AHEAD);
		if ((desc.word & (DESC_SHAPE | DESC_STATE)) != wanted || len < min_len ||
			!cache_holds(&cache, offset, len))
			break;
		piece->hva = cache.hva + offset;
		piece->len = len;
		__builtin_prefetch(piece->hva);
		buffer_set(buffer, piece, 1, len, packed_id(desc.word), 1, VRING_OK);
	}
	return i;
}

static __attribute__((noinline)) unsigned int parse_pairs(const struct run *run, unsigned int n,
	struct vring_buffer *buffer, struct vring_piece *piece)
{
	const struct vring_packed_desc *first = run->desc;
	const struct gmem_cache cache = run->cache;
	const uint64_t wanted = run->state | run->wanted;
	unsigned int i;

	for (i = 0; i < n; i++, buffer++, piece += 2) {
		struct private_desc one = packed_desc_load(&first[2 * i]);
		struct private_desc two;

		__builtin_prefetch(&first[2 * i] + PREFETCH_AHEAD);
		/* The second is read after the first has been seen to be available. */
		if ((one.word & (DESC_SHAPE | DESC_STATE)) != (wanted | DESC_NEXT))
			break;
		two = packed_desc_load(&first[2 * i + 1]);
		if ((two.word & (DESC_SHAPE | DESC_STATE)) != wanted ||
			!buffer_set_pair(buffer, piece, &cache, one, two, VRING_WRITABLE,
				run->min_len, packed_id(two.word), 2))
			break;
	}
	return i;
}

static __attribute__((noinline)) unsigned int parse_tables(const struct run *run, unsigned int n,
	struct vring_buffer *buffer, struct vring_piece *piece)
{
	const struct vring_packed_desc *first = run->desc;
	const struct gmem_cache cache = run->cache;
	unsigned int i;

	for (i = 0; i < n; i++, buffer++, piece += 2) {
		struct private_desc head = packed_desc_load(&first[i]);
		const struct private_desc *entries;
		struct private_desc one, two;

		__builtin_prefetch(&first[i] + PREFETCH_AHEAD);
		if ((head.word & DESC_STATE) != run->state)
			break;
		entries = table_of_two(&cache, head);
		if (entries == NULL)
			break;
		one = desc_load(&entries[0]);
		two = desc_load(&entries[1]);
		one.word = packed_word_to_private(one.word);
		two.word = packed_word_to_private(two.word);
		if (((one.word ^ run->wanted) & DESC_WRITE) != 0 ||
			((two.word ^ run->wanted) & DESC_WRITE) != 0 ||
			!buffer_set_pair(buffer, piece, &cache, one, two, VRING_WRITABLE,
				run->min_len, packed_id(head.word), 1))
			break;
	}
	return i;
}

/* What a buffer of each shape takes. */
static const struct shape {
	unsigned int (*parse)(const struct run *run, unsigned int n, struct vring_buffer *buffer,
		struct vring_piece *piece);
	uint8_t n_pieces;
	uint8_t n_slots;
} shapes[] = {
	{parse_singles, 1, 1},
	{parse_pairs, 2, 2},
	{parse_tables, 2, 1}, /* last: only where tables are negotiated */
};

static inline unsigned int smaller(unsigned int a, unsigned int b)
{
	return a < b ? a : b;
}

void packed_parse(struct vring_device *ring, struct vring_burst *burst,
	struct parse_progress *progress, enum vring_direction direction, unsigned int target)
{
	/* A ring of one descriptor may have no table of two entries. */
	const unsigned int n_shapes = ring->indirect && ring->size >= 2 ? 3 : 2;
	struct run run = {
		.cache = ring->cache,
		.wanted = direction == VRING_WRITABLE ? DESC_WRITE : 0,
		/* A buffer of no bytes is refused in either direction. */
		.min_len = direction == VRING_WRITABLE ? ring->writable_min_len : 1,
	};
	uint16_t position =
		vring_packed_advance(ring->last_avail_idx, progress->n_slots, ring->size);
	const struct shape *shape = shapes;
	unsigned int at = progress->n_parsed;
	unsigned int n_fruitless = 0; /* shapes that did not fit the buffer at `at` */

	/* Not farther than once around, whatever the flags say: the first slot is not returned yet. */
	while (at < target && progress->n_slots < ring->size) {
		unsigned int n_until_wrap = ring->size - vring_packed_slot(position);
		unsigned int n_slots = smaller(n_until_wrap, ring->size - progress->n_slots);
		unsigned int limit = smaller(n_slots / shape->n_slots, target - at);
		unsigned int n;

		run.desc = packed_desc_at(ring, position);
		run.state = packed_state_available(vring_packed_wrap(position));
		n = shape->parse(&run, limit, &burst->buffers[at], &burst->pieces[burst->n_pieces]);
		burst->n_pieces += n * shape->n_pieces;
		progress->n_slots += n * shape->n_slots;
		at += n;
		position = vring_packed_advance(position, n * shape->n_slots, ring->size);
		/* Stopped by the end of the ring, or done. */
		if (n == limit && n > 0)
			continue;
		/* The usual end: nothing more is available. */
		if (!packed_is_available(packed_word_to_private(packed_word_load(
						 packed_desc_at(ring, position))),
			    position)) {
			progress->n_available = at;
			break;
		}
		n_fruitless = n > 0 ? 1 : n_fruitless + 1;
		shape = shape + 1 < shapes + n_shapes ? shape + 1 : shapes;
		if (n_fruitless < n_shapes)
			continue;
		n_fruitless = 0;
		if (!parse_chain(ring, burst, progress, at, chain_walk_packed, position, run.wanted))
			break;
		position = vring_packed_advance(position, burst->buffers[at++].n_descs, ring->size);
		run.cache = ring->cache;
	}
	progress->n_parsed = at;
}
