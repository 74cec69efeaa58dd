/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The run engine inside. run_portable.c does everything, one buffer after the other. run_vector.h does the common part
 * of it several buffers at a time, and where it meets a buffer that it cannot take lets run_portable.c go on from there.
 * run.c chooses.
 */
#ifndef VRING_RUN_INTERNAL_H
#define VRING_RUN_INTERNAL_H

#include <stddef.h>
#include <string.h>

#include <vring/run.h>

#include "packed_desc.h"
#include "shared.h"

/* A shorter run that ends at an odd buffer is not worth two calls. */
#define RUN_WORTHWHILE 4

/* What an instance is specialised for, apart from the instruction set. */
enum run_kind {
	RUN_SPLIT,
	RUN_SPLIT_IN_ORDER,
	RUN_PACKED,
	RUN_PACKED_IN_ORDER,
	RUN_N_KINDS,
};

extern const struct vring_run_ops run_portable[RUN_N_KINDS];
extern const struct vring_run_ops run_avx2[RUN_N_KINDS];
extern const struct vring_run_ops run_avx512[RUN_N_KINDS];

/* The ring's instance. */
const struct vring_run_ops *run_choose(const struct vring_config *config);

/* What makes a buffer plain, for descriptor words as they lie in memory. */
struct run_limits {
	uint64_t wanted; /* the shape bits as they have to be */
	uint64_t shape;  /* which bits of the word say what a descriptor is */
	uint64_t min_len;
	uint64_t max_len;
};

static inline struct run_limits run_limits_split(
	enum vring_direction direction, uint32_t min_len, uint32_t max_len)
{
	return (struct run_limits){
		.wanted = direction == VRING_WRITABLE ? DESC_WRITE : 0,
		.shape = DESC_SHAPE,
		.min_len = min_len,
		.max_len = max_len,
	};
}

static inline struct run_limits run_limits_packed(
	enum vring_direction direction, uint32_t min_len, uint32_t max_len)
{
	return (struct run_limits){
		.wanted = direction == VRING_WRITABLE ? PACKED_WORD_FLAG(VRING_DESC_F_WRITE) : 0,
		.shape = PACKED_WORD_FLAG(
			VRING_DESC_F_NEXT | VRING_DESC_F_WRITE | VRING_DESC_F_INDIRECT),
		.min_len = min_len,
		.max_len = max_len,
	};
}

/* Takes buffers [at, n) of a run one by one. Returns how far the run is good. Split: their heads are in run->id. */
unsigned int run_split_rest(struct vring_device *ring, struct vring_run *run, unsigned int at,
	unsigned int n, const struct run_limits *limits);
unsigned int run_packed_rest(struct vring_device *ring, struct vring_run *run, unsigned int at,
	unsigned int n, const struct run_limits *limits);

/* A whole run of n buffers one by one, heads and all; returns what the peek returns. */
int run_split_few(struct vring_device *ring, struct vring_run *run, unsigned int n,
	enum vring_direction direction, uint32_t min_len, uint32_t max_len);

/* Readable buffers of drivers with IN_ORDER. */
void run_split_return_read_in_order(
	struct vring_device *ring, const struct vring_run *run, unsigned int n);
void run_packed_return_read_in_order(
	struct vring_device *ring, const struct vring_run *run, unsigned int n);

/* Split: how many buffers a run may have, looking at the indices alone; 0 or VRING_RUN_ODD as vring_run_peek(). */
static inline int run_split_room(const struct vring_device *ring, unsigned int max)
{
	/* Fence C of device_split.c. */
	unsigned int lead = (uint16_t)(__atomic_load_n(&ring->avail->idx, __ATOMIC_ACQUIRE) -
				       ring->last_avail_idx);
	unsigned int n_until_wrap = ring->size - (ring->last_avail_idx & ring->mask);

	if (lead == 0)
		return 0;
	if (__builtin_expect(lead > ring->size || ring->breakage != VRING_INTACT, 0))
		return VRING_RUN_ODD;
	if (max > lead)
		max = lead;
	return (int)(max < n_until_wrap ? max : n_until_wrap);
}

/* The end of every peek: n_plain buffers of `n` that were looked for. */
static inline int run_result(unsigned int n_plain, unsigned int n)
{
	return n_plain >= n || n_plain >= RUN_WORTHWHILE ? (int)n_plain : VRING_RUN_ODD;
}

/* The used entry `at` places on. */
static inline void run_used_write(
	struct vring_device *ring, unsigned int at, uint16_t id, uint32_t len)
{
	vring_used_elem_t *entry = &ring->used->ring[(ring->used_idx + at) & ring->mask];

	__atomic_store_n(&entry->id, id, __ATOMIC_RELAXED);
	__atomic_store_n(&entry->len, len, __ATOMIC_RELAXED);
}

/*
 * Packed: how many slots there are from `position` to the end of the ring, at most `max`. Where buffers are taken and where
 * they are returned are two places, which SET_VRING_BASE may set apart.
 */
static inline unsigned int run_packed_room(
	const struct vring_device *ring, uint16_t position, unsigned int max)
{
	unsigned int n_until_wrap = ring->size - vring_packed_slot(position);

	return max < n_until_wrap ? max : n_until_wrap;
}

/* Packed: whether the descriptor `at` slots on, and not past the end, is available. */
static inline bool run_is_available(const struct vring_device *ring, unsigned int at)
{
	uint64_t word = packed_word_load(packed_desc_at(ring, ring->last_avail_idx) + at);

	return packed_is_available(packed_word_to_private(word), ring->last_avail_idx);
}

static inline void run_split_advance(struct vring_device *ring, unsigned int n)
{
	ring->used_idx = (uint16_t)(ring->used_idx + n);
	ring->last_avail_idx = (uint16_t)(ring->last_avail_idx + n);
}

static inline void run_packed_advance(struct vring_device *ring, unsigned int n)
{
	ring->used_idx = vring_packed_advance(ring->used_idx, n, ring->size);
	ring->last_avail_idx = vring_packed_advance(ring->last_avail_idx, n, ring->size);
}

#endif
