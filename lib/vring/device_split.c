/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The split ring, device side (virtio 2.7).
 *
 * Parsing has two stages over the whole burst, so that one cache miss serves several buffers: first all heads are read
 * and checked; then the descriptors are prefetched, read, checked and translated. Chains of one or two descriptors in the
 * region used last are done in the loop itself, all others by chain_walk().
 *
 * Fences (the partner has the same letter; a guest's driver has its own equivalents):
 *   A  full: used index (publish) before the driver's wish for calls (needs_call)      partner: driver.c, set_call
 *   B  full: our wish for kicks (set_kick) before the available index (has_available)  partner: driver.c, needs_kick
 *   C  acquire of the available index: entries and descriptors are read after it       partner: driver.c, publish
 *   D  release of the used index: used entries and buffer bytes are written before it  partner: driver.c, collect
 */
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "chain.h"
#include "device_split.h"

/* Buffers between the one that is parsed and the one whose descriptor is fetched. */
#define PREFETCH_AHEAD 8

#define N_PIECES (sizeof(((struct vring_burst *)0)->pieces) / sizeof(struct vring_piece))

/* The first chain of a burst always has room, whatever its shape; so every chain gets its turn. */
_Static_assert(N_PIECES >= VRING_CHAIN_MAX + 2 * (VRING_BURST_MAX - 1), "room for any first chain");

/* How far a call has come with its burst. */
struct progress {
	unsigned int n_available; /* buffers there are, at most VRING_BURST_MAX */
	unsigned int n_parsed;
	unsigned int n_slots;  /* descriptors of the ring they take */
	unsigned int n_wasted; /* descriptors looked at that left no piece: charged like pieces, work is bounded */
	bool no_room;
	bool bad_head; /* buffer n_parsed has no head */
};

int device_split_init(struct vring_device *ring, const struct vring_config *config)
{
	uint16_t size = config->size;

	if (size == 0 || size > VRING_SIZE_MAX || (size & (size - 1)) != 0)
		return -EINVAL;
	if ((uintptr_t)config->desc % VRING_DESC_ALIGN != 0 ||
		(uintptr_t)config->avail % VRING_AVAIL_ALIGN != 0 ||
		(uintptr_t)config->used % VRING_USED_ALIGN != 0)
		return -EINVAL;
	memset(ring, 0, sizeof(*ring));
	ring->desc = config->desc;
	ring->avail = config->avail;
	ring->used = config->used;
	ring->mem = config->mem;
	ring->size = size;
	ring->mask = size - 1;
	ring->last_avail_idx = config->avail_idx;
	ring->used_idx = __atomic_load_n(&ring->used->idx, __ATOMIC_RELAXED);
	ring->published_idx = ring->used_idx;
	/* A buffer of no bytes is refused in either direction. */
	ring->writable_min_len = config->header_len > 0 ? config->header_len : 1;
	ring->event_idx = config->event_idx;
	ring->indirect = config->indirect;
	ring->mergeable = config->mergeable;
	/* Whoever served the ring before may have published without calling. */
	ring->call_is_due = true;
	return 0;
}

unsigned int device_split_lead(const struct vring_device *ring)
{
	/* Fence C. */
	return (uint16_t)(__atomic_load_n(&ring->avail->idx, __ATOMIC_ACQUIRE) -
		ring->last_avail_idx);
}

/* Starts a call. Returns false if the ring is broken. */
static bool begin(struct vring_device *ring, struct vring_burst *burst, struct progress *progress)
{
	unsigned int lead;

	burst->n = 0;
	burst->n_pieces = 0;
	if (ring->breakage != VRING_INTACT)
		return false;
	lead = device_split_lead(ring);
	if (lead > ring->size) {
		ring->breakage = VRING_BROKEN_AVAIL_IDX;
		return false;
	}
	*progress = (struct progress){
		.n_available = lead < VRING_BURST_MAX ? lead : VRING_BURST_MAX,
	};
	return true;
}

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
	struct vring_burst *burst, struct progress *progress, unsigned int at, uint16_t head,
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
 * Parses on up to buffer `target` (at most n_available). Stops before a chain that has no room, or a head that is none.
 *
 * Runs of the common shapes in a row have a loop each; what none of them takes is walked. What a loop had read of such a
 * chain is thrown away and the walk reads for itself: decision and use always rest on the same copy.
 */
static void parse(struct vring_device *ring, struct vring_burst *burst, struct progress *progress,
	enum vring_direction direction, unsigned int target)
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

int device_split_peek(struct vring_device *ring, struct vring_burst *burst,
	enum vring_direction direction, unsigned int max)
{
	struct progress progress;

	if (!begin(ring, burst, &progress))
		return -EPROTO;
	if (max > progress.n_available)
		max = progress.n_available;
	parse(ring, burst, &progress, direction, max);
	/* Those before a bad head are good, and served first. */
	if (progress.bad_head && progress.n_parsed == 0) {
		ring->breakage = VRING_BROKEN_HEAD;
		return -EPROTO;
	}
	burst->n = progress.n_parsed;
	return (int)progress.n_parsed;
}

/* Makes buffer `at` and about n_more behind it known. Returns false if there is none, or none that has room. */
static bool parse_more(struct vring_device *ring, struct vring_burst *burst,
	struct progress *progress, unsigned int at, unsigned int n_more)
{
	unsigned int target = at + n_more;

	if (target > progress->n_available)
		target = progress->n_available;
	if (target > progress->n_parsed && !progress->no_room && !progress->bad_head)
		parse(ring, burst, progress, VRING_WRITABLE, target);
	return at < progress->n_parsed;
}

/*
 * Whether a frame that took all parsed buffers, from the first of the burst on, will find no more next time either:
 * the burst is exhausted, or the driver has nothing left to give.
 */
static bool is_hopeless(const struct vring_device *ring, const struct progress *progress)
{
	return progress->no_room || progress->n_parsed == VRING_BURST_MAX ||
		progress->n_slots >= ring->size;
}

/*
 * Finds the buffers of a frame that does not simply fit into buffer *at, and moves *at behind them. Returns false if
 * the frame has to wait for buffers: then *at lies behind the refused ones only.
 */
static __attribute__((noinline)) bool reserve_frame(struct vring_device *ring,
	struct vring_burst *burst, struct progress *progress, uint32_t length,
	unsigned int n_frames, unsigned int *at, struct vring_grant *grant)
{
	unsigned int first = *at;
	unsigned int next = first;
	uint64_t len = 0;
	bool waits;

	while (len < length) {
		const struct vring_buffer *buffer = &burst->buffers[next];

		if (next == progress->n_parsed && !parse_more(ring, burst, progress, next, n_frames))
			break;
		if (buffer->fault != VRING_OK) {
			/*
			 * A refused buffer in the middle of a frame: the driver takes as many used entries
			 * as the frame's header says, one after the other, so the frame starts anew behind
			 * it and what it had is returned empty.
			 */
			next++;
			first = next;
			len = 0;
			continue;
		}
		if (!ring->mergeable && buffer->len < length)
			break;
		next++;
		len += buffer->len;
	}
	*grant = (struct vring_grant){.first = (uint16_t)first};
	if (len >= length) {
		grant->n = (uint16_t)(next - first);
		*at = next;
		return true;
	}
	/* Not enough: what the frame had taken is left for the next one. */
	waits = next == progress->n_parsed &&
		(first > 0 || next == 0 || !is_hopeless(ring, progress));
	*at = first;
	return !waits;
}

int device_split_reserve(struct vring_device *ring, struct vring_burst *burst,
	const uint32_t *lengths, unsigned int n_frames, struct vring_grant *grants)
{
	struct progress progress;
	unsigned int at = 0; /* buffer to be looked at next */
	unsigned int frame;

	if (!begin(ring, burst, &progress))
		return -EPROTO;
	parse_more(ring, burst, &progress, 0, n_frames);
	for (frame = 0; frame < n_frames; frame++) {
		/* Enough of a test for the common case: a refused buffer has no bytes. */
		if (at < progress.n_parsed && burst->buffers[at].len >= lengths[frame])
			grants[frame] = (struct vring_grant){.first = (uint16_t)at++, .n = 1};
		else if (!reserve_frame(ring, burst, &progress, lengths[frame], n_frames - frame,
				 &at, &grants[frame]))
			break;
	}
	burst->n = at;
	/* Nothing can ever be taken past a bad head; with buffers before it returned, the next call says so. */
	if (at == 0 && frame < n_frames && progress.bad_head) {
		ring->breakage = VRING_BROKEN_HEAD;
		if (frame == 0)
			return -EPROTO;
	}
	return (int)frame;
}

void device_split_return(struct vring_device *ring, const struct vring_burst *burst, unsigned int n)
{
	vring_used_elem_t *entries = ring->used->ring;
	unsigned int mask = ring->mask;
	unsigned int idx = ring->used_idx;

	for (unsigned int i = 0; i < n; i++) {
		const struct vring_buffer *buffer = &burst->buffers[i];
		vring_used_elem_t *entry = &entries[(idx + i) & mask];

		__atomic_store_n(&entry->id, buffer->id, __ATOMIC_RELAXED);
		__atomic_store_n(&entry->len, buffer->used_len, __ATOMIC_RELAXED);
		/* Counted here and not when parsed: what is not returned is parsed again. */
		if (__builtin_expect(buffer->fault != VRING_OK, 0))
			ring->n_faults[buffer->fault]++;
	}
	ring->used_idx = (uint16_t)(idx + n);
	ring->last_avail_idx = (uint16_t)(ring->last_avail_idx + n);
}

void device_split_publish(struct vring_device *ring)
{
	uint16_t n = (uint16_t)(ring->used_idx - ring->published_idx);

	/* Saturating: all that matters beyond 65535 is that it is beyond. */
	if (ring->n_uncalled <= UINT16_MAX)
		ring->n_uncalled += n;
	ring->published_idx = ring->used_idx;
	/* Fence D. */
	__atomic_store_n(&ring->used->idx, ring->used_idx, __ATOMIC_RELEASE);
}

bool device_split_needs_call(struct vring_device *ring)
{
	uint32_t n_uncalled = ring->n_uncalled;
	bool is_due = ring->call_is_due;
	uint16_t event;

	if (n_uncalled == 0)
		return false;
	ring->n_uncalled = 0;
	full_fence(); /* A */
	if (!ring->event_idx)
		return (__atomic_load_n(&ring->avail->flags, __ATOMIC_RELAXED) &
			VRING_AVAIL_F_NO_INTERRUPT) == 0;
	ring->call_is_due = false;
	event = __atomic_load_n(vring_used_event_of(ring->avail, ring->size), __ATOMIC_RELAXED);
	return is_due || event_passed(event, ring->published_idx, n_uncalled);
}

void device_split_set_kick(struct vring_device *ring, bool wanted)
{
	uint16_t flags = wanted || ring->event_idx ? 0 : VRING_USED_F_NO_NOTIFY;

	/* With event index the flags stay 0 (2.7.10.2) and the wish not to be kicked is an index just gone by. */
	__atomic_store_n(&ring->used->flags, flags, __ATOMIC_RELAXED);
	if (ring->event_idx)
		__atomic_store_n(vring_avail_event_of(ring->used, ring->size),
			(uint16_t)(ring->last_avail_idx - !wanted), __ATOMIC_RELAXED);
	if (wanted)
		full_fence(); /* B */
}
