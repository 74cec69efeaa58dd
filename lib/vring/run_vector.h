/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Runs several buffers at a time. run_avx2.c and run_avx512.c each include this once, after saying what a vector is:
 *
 *     LANES                            buffers handled together, a power of two
 *     lanes_load_row(desc, &a, &w)     LANES descriptors side by side: addresses, and words of length and flags
 *     lanes_load_each(table, heads, &a, &w)
 *     lanes_store_row(desc, a, w)
 *     lanes_signs(v)                   bit i: lane i is negative as a signed number
 *     lanes_gather_u32/u64(p, v)       p[lane] for each lane
 *     lanes_from_u16/u32(p), lanes_to_u16/u32/u64(p, v)
 *
 * The rest is the compiler's vector extensions: operators work lane by lane, and a scalar counts for every lane.
 *
 * One buffer's way: available entry -> descriptor -> classify(): shape, length and region checked, address translated ->
 * columns of the run. And back: columns -> used entries. The first buffer that is not plain is left with all behind it to
 * run_portable.c, and so are the last few that do not fill a vector.
 */
#ifndef VRING_RUN_VECTOR_H
#define VRING_RUN_VECTOR_H

#define ALWAYS_INLINE inline __attribute__((always_inline))

/* The region of each lane. */
struct places {
	lanes gpa, size, hva;
};

static ALWAYS_INLINE struct places places_cached(const struct gmem_cache *cache)
{
	const lanes zero = {0};

	return (struct places){cache->gpa + zero, cache->size + zero, (uintptr_t)cache->hva + zero};
}

/* Where gmem.h says that addresses may be; what is not there is found out when it is checked. */
static ALWAYS_INLINE struct places places_find(const struct gmem *mem, lanes addr)
{
	const uint64_t *regions = (const uint64_t *)mem->regions;
	const unsigned int n_words = sizeof(mem->regions[0]) / sizeof(uint64_t);
	lanes slot = (addr - mem->slot_base) >> mem->slot_shift;
	lanes at;

	slot &= (lanes)(slot < mem->n_slots);
	at = lanes_gather_u32(mem->slots, slot) * n_words;
	return (struct places){
		.gpa = lanes_gather_u64(regions, at + offsetof(struct gmem_region, gpa) / 8),
		.size = lanes_gather_u64(regions, at + offsetof(struct gmem_region, size) / 8),
		.hva = lanes_gather_u64(regions, at + offsetof(struct gmem_region, hva) / 8),
	};
}

/*
 * Checks and translates LANES descriptors in private memory and puts them into the run from `at` on. All tests are
 * brought into sign bits, which every instruction set can collect at once. False if one of them is not plain or not in
 * its place; then nothing of them counts.
 */
static ALWAYS_INLINE bool classify(struct vring_run *run, unsigned int at, lanes addr, lanes word,
	const struct run_limits *limits, struct places places)
{
	lanes len = word & UINT32_MAX;
	lanes offset = addr - places.gpa;
	lanes left = places.size - len; /* a region has less than 2^63 bytes, so the sign says whether it wraps */
	lanes shape = (word ^ limits->wanted) & limits->shape;

	lanes_to_u64(&run->hva[at], offset + places.hva);
	lanes_to_u32(&run->len[at], len);
	return lanes_signs(offset | left | (left - offset) | (len - limits->min_len) |
			   (limits->max_len - len) | -shape) == 0;
}

/* The same wherever the buffers are; most are where the last one was. */
static ALWAYS_INLINE bool take(const struct vring_device *ring, struct vring_run *run,
	unsigned int at, lanes addr, lanes word, const struct run_limits *limits,
	struct places cached)
{
	if (__builtin_expect(classify(run, at, addr, word, limits, cached), 1))
		return true;
	return ring->mem->n_slots != 0 &&
	       classify(run, at, addr, word, limits, places_find(ring->mem, addr));
}

/* ---- Split ring (virtio 2.7) ---- */

/* Whether heads[0..n) follow each other, and the OR of them all. `n` is a constant where it matters. */
static ALWAYS_INLINE bool heads_are_row(
	const uint16_t *heads, unsigned int n, unsigned int *all)
{
	unsigned int bits = 0, apart = 0;

	for (unsigned int i = 0; i < n; i++) {
		bits |= heads[i];
		apart |= (uint16_t)(heads[i] ^ (heads[0] + i));
	}
	*all = bits;
	return apart == 0;
}

/*
 * Reads the next n heads into run->id, each once; zeroes follow them. Returns how many are in the descriptor table.
 */
static ALWAYS_INLINE unsigned int heads_load(
	const struct vring_device *ring, struct vring_run *run, unsigned int n, bool *is_row)
{
	const uint16_t *entries = &ring->avail->ring[ring->last_avail_idx & ring->mask];
	uint16_t *heads = run->id;
	unsigned int all;

	if (__builtin_expect(n == VRING_RUN_MAX, 1)) {
		shared_copy_u16(heads, entries, VRING_RUN_MAX);
		*is_row = heads_are_row(heads, VRING_RUN_MAX, &all);
	} else {
		memset(heads, 0, VRING_RUN_MAX * sizeof(heads[0]));
		shared_copy_u16(heads, entries, n);
		*is_row = heads_are_row(heads, n, &all);
	}
	/* The size is a power of two: a head is outside if and only if it has a bit that the mask has not. */
	if (__builtin_expect(all <= ring->mask, 1))
		return n;
	for (n = 0; heads[n] <= ring->mask; n++)
		;
	memset(&heads[n], 0, (VRING_RUN_MAX - n) * sizeof(heads[0]));
	return n;
}

/* Asks for the descriptors that the next call will want if drivers go on in a row, and for their available entries. */
static ALWAYS_INLINE void descs_prefetch(const struct vring_device *ring, unsigned int head)
{
	__builtin_prefetch(&ring->avail->ring[head & ring->mask]);
	for (unsigned int i = 0; i < VRING_RUN_MAX; i += 4)
		__builtin_prefetch(&ring->desc[(head + i) & ring->mask]);
}

/* n >= LANES buffers. Not inlined, so that a few have not to pay for what vectors need. */
static __attribute__((noinline)) int split_peek_many(struct vring_device *ring,
	struct vring_run *run, unsigned int n, enum vring_direction direction, uint32_t min_len,
	uint32_t max_len)
{
	const struct run_limits limits = run_limits_split(direction, min_len, max_len);
	const struct places cached = places_cached(&ring->cache);
	const struct vring_desc *table = ring->desc;
	unsigned int n_heads, at;
	lanes addr, word;
	bool is_row;

	n_heads = heads_load(ring, run, n, &is_row);
	if (is_row)
		descs_prefetch(ring, run->id[0] + n);
	for (at = 0; at + LANES <= n_heads; at += LANES) {
		if (is_row)
			lanes_load_row(&table[run->id[at]], &addr, &word);
		else
			lanes_load_each(table, &run->id[at], &addr, &word);
		if (__builtin_expect(!take(ring, run, at, addr, word, &limits, cached), 0))
			break;
	}
	if (at < n_heads)
		at = run_split_rest(ring, run, at, n_heads, &limits);
	return run_result(at, n);
}

static int split_peek(struct vring_device *ring, struct vring_run *run,
	enum vring_direction direction, uint32_t min_len, uint32_t max_len, unsigned int max)
{
	int n = run_split_room(ring, max);

	if (n >= LANES)
		return split_peek_many(ring, run, (unsigned int)n, direction, min_len, max_len);
	return n <= 0 ? n : run_split_few(ring, run, (unsigned int)n, direction, min_len, max_len);
}

/* Used entries for the buffers of the run, lengths NULL: all 0. */
static ALWAYS_INLINE void split_return(struct vring_device *ring, const struct vring_run *run,
	const uint32_t *lengths, unsigned int n)
{
	unsigned int slot = ring->used_idx & ring->mask;
	unsigned int i = 0;

	/* At the end of the ring one by one. */
	for (; i + LANES <= n && slot + i + LANES <= ring->size; i += LANES) {
		lanes entries = lanes_from_u16(&run->id[i]);

		if (lengths != NULL)
			entries |= lanes_from_u32(&lengths[i]) << 32;
		memcpy(&ring->used->ring[slot + i], &entries, sizeof(entries));
	}
	for (; i < n; i++)
		run_used_write(ring, i, run->id[i], lengths != NULL ? lengths[i] : 0);
	run_split_advance(ring, n);
}

static void split_return_written(struct vring_device *ring, const struct vring_run *run,
	const uint32_t *lengths, unsigned int n)
{
	split_return(ring, run, lengths, n);
}

static void split_return_read(
	struct vring_device *ring, const struct vring_run *run, unsigned int n)
{
	split_return(ring, run, NULL, n);
}

/* ---- Packed ring (virtio 2.8); a plain buffer takes one slot ---- */

/* How many of the next n descriptors, which end before the ring does, are available one after the other. */
static ALWAYS_INLINE unsigned int available_count(const struct vring_device *ring, unsigned int n)
{
	const struct vring_desc *table = &ring->desc[vring_packed_slot(ring->last_avail_idx)];
	const uint64_t state = PACKED_WORD_FLAG(PACKED_AVAIL | PACKED_USED);
	const uint64_t wanted = PACKED_WORD_FLAG(
		vring_packed_wrap(ring->last_avail_idx) ? PACKED_AVAIL : PACKED_USED);
	unsigned int at;

	for (at = 0; at + LANES <= n; at += LANES) {
		lanes addr, word, apart;
		unsigned int others;

		lanes_load_row(&table[at], &addr, &word);
		apart = (word ^ wanted) & state;
		others = lanes_signs(apart | -apart);
		if (others != 0)
			return at + (unsigned int)__builtin_ctz(others);
	}
	while (at < n && run_is_available(ring, at))
		at++;
	return at;
}

/*
 * Descriptors are loaded twice: first for their flags alone, which say how many are available; then, behind an acquire
 * fence, whole. So what is used was written before the flags that were seen (2.8.2), without relying on the CPU to load
 * sixteen bytes at once.
 */
static int packed_peek(struct vring_device *ring, struct vring_run *run,
	enum vring_direction direction, uint32_t min_len, uint32_t max_len, unsigned int max)
{
	const struct run_limits limits = run_limits_packed(direction, min_len, max_len);
	const struct places cached = places_cached(&ring->cache);
	const struct vring_desc *table = &ring->desc[vring_packed_slot(ring->last_avail_idx)];
	unsigned int n, at;

	if (__builtin_expect(ring->breakage != VRING_INTACT, 0))
		return VRING_RUN_ODD;
	n = available_count(ring, run_packed_room(ring, ring->last_avail_idx, max));
	if (n == 0)
		return 0;
	__atomic_thread_fence(__ATOMIC_ACQUIRE); /* Fence C of device_packed.c. */
	for (at = 0; at + LANES <= n; at += LANES) {
		lanes addr, word;

		lanes_load_row(&table[at], &addr, &word);
		lanes_to_u64(&run->addr[at], addr);
		lanes_to_u16(&run->id[at], word >> 32 & UINT16_MAX);
		if (__builtin_expect(!take(ring, run, at, addr, word, &limits, cached), 0))
			break;
	}
	if (at < n)
		at = run_packed_rest(ring, run, at, n, &limits);
	return run_result(at, n);
}

/*
 * A used descriptor for each buffer, address and all, since that is how a row of them is stored at once; drivers get the
 * address back that they gave. The first since the last publish keeps the flags of an available one until then, see
 * packed_desc_use().
 */
static ALWAYS_INLINE void packed_return(struct vring_device *ring, const struct vring_run *run,
	const uint32_t *lengths, unsigned int n)
{
	const bool is_written = lengths != NULL;

	for (unsigned int i = 0, end; i < n; i = end) {
		struct vring_desc *row = &ring->desc[vring_packed_slot(ring->used_idx)];
		uint64_t flags = PACKED_WORD_FLAG(
			packed_flags_used(vring_packed_wrap(ring->used_idx), is_written));
		lanes row_flags = flags - (lanes){0};
		unsigned int from = i;

		end = i + run_packed_room(ring, ring->used_idx, n - i);
		if (!ring->is_held)
			row_flags[0] = packed_hold(ring, is_written);
		for (; i + LANES <= end; i += LANES) {
			lanes word = lanes_from_u16(&run->id[i]) << 32 | row_flags;
			lanes addr;

			if (is_written)
				word |= lanes_from_u32(&lengths[i]);
			memcpy(&addr, &run->addr[i], sizeof(addr));
			lanes_store_row(&row[i - from], addr, word);
			row_flags = flags - (lanes){0};
		}
		for (; i < end; i++)
			packed_word_store((struct vring_packed_desc *)(void *)&row[i - from],
				(is_written ? lengths[i] : 0) | (uint64_t)run->id[i] << 32 |
					(i == from ? row_flags[0] : flags));
		run_packed_advance(ring, end - from);
	}
}

static void packed_return_written(struct vring_device *ring, const struct vring_run *run,
	const uint32_t *lengths, unsigned int n)
{
	packed_return(ring, run, lengths, n);
}

static void packed_return_read(
	struct vring_device *ring, const struct vring_run *run, unsigned int n)
{
	packed_return(ring, run, NULL, n);
}

#define RUN_OPS(name)                                                                              \
	const struct vring_run_ops name[RUN_N_KINDS] = {                                           \
		[RUN_SPLIT] = {split_peek, split_return_read, split_return_written},               \
		[RUN_SPLIT_IN_ORDER] = {split_peek, run_split_return_read_in_order,                \
			split_return_written},                                                     \
		[RUN_PACKED] = {packed_peek, packed_return_read, packed_return_written},           \
		[RUN_PACKED_IN_ORDER] = {packed_peek, run_packed_return_read_in_order,             \
			packed_return_written},                                                    \
	}

#endif
