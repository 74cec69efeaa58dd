/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Descriptors of a packed ring (virtio 2.8): how one is read, when it is available, and how it is used. In memory its
 * second word is len | id << 32 | flags << 48.
 */
#ifndef VRING_PACKED_DESC_H
#define VRING_PACKED_DESC_H

#include <stdbool.h>

#include <vring/device.h>

#include "shared.h"

#define PACKED_AVAIL (1U << VRING_PACKED_DESC_F_AVAIL)
#define PACKED_USED  (1U << VRING_PACKED_DESC_F_USED)

/* In a word as it lies in memory, and in private memory. */
#define PACKED_WORD_FLAG(flag) ((uint64_t)(flag) << 48)
#define DESC_AVAIL             DESC_WORD_FLAG(PACKED_AVAIL)
#define DESC_USED              DESC_WORD_FLAG(PACKED_USED)

/* Both, as they are in a descriptor that is available when the driver's wrap counter is `wrap` (2.8.1). */
static inline uint64_t packed_state_available(bool wrap)
{
	return wrap ? DESC_AVAIL : DESC_USED;
}

/* The flags of a used descriptor: AVAIL and USED equal to the device's wrap counter (2.8.1), WRITE if the length counts. */
static inline uint16_t packed_flags_used(bool wrap, bool is_written)
{
	return (uint16_t)((wrap ? PACKED_AVAIL | PACKED_USED : 0) | (is_written ? VRING_DESC_F_WRITE : 0));
}

/* `position` as in vring/layout.h. */
static inline struct vring_packed_desc *packed_desc_at(
	const struct vring_device *ring, uint16_t position)
{
	return (struct vring_packed_desc *)(void *)ring->desc + vring_packed_slot(position);
}

/* From memory to private order (shared.h): id and flags change places. */
static inline uint64_t packed_word_to_private(uint64_t word)
{
	uint32_t upper = (uint32_t)(word >> 32);

	return (uint32_t)word | (uint64_t)(upper >> 16 | upper << 16) << 32;
}

/*
 * The second word of a descriptor, flags, id and length at once, before anything else of it. (Fence C; the address is
 * read after it.) Where ThreadSanitizer looks on, which matches release and acquire by address, the flags are read by
 * themselves as well, since drivers release either.
 */
static inline uint64_t packed_word_load(const struct vring_packed_desc *desc)
{
	const shared_word *word = (const shared_word *)(const void *)&desc->len;
#if SHARED_LOADS_MUST_BE_ATOMIC
	uint16_t flags = __atomic_load_n(&desc->flags, __ATOMIC_ACQUIRE);

	return (__atomic_load_n(word, __ATOMIC_ACQUIRE) & ~PACKED_WORD_FLAG(UINT16_MAX)) |
	       PACKED_WORD_FLAG(flags);
#else
	return __atomic_load_n(word, __ATOMIC_ACQUIRE);
#endif
}

/* A copy in private order. What it says holds only if it is available. */
static inline struct private_desc packed_desc_load(const struct vring_packed_desc *desc)
{
	uint64_t word = packed_word_to_private(packed_word_load(desc));

	return (struct private_desc){
		.addr = __atomic_load_n(&desc->addr, __ATOMIC_RELAXED),
		.word = word,
	};
}

/* A word in private order, read at `position` of the available descriptors. */
static inline bool packed_is_available(uint64_t word, uint16_t position)
{
	return (word & (DESC_AVAIL | DESC_USED)) ==
	       packed_state_available(vring_packed_wrap(position));
}

static inline uint16_t packed_id(uint64_t word)
{
	return desc_next(word);
}

/* All of a used descriptor but the address, which stays what it was: len | id << 32 | flags << 48. */
static inline void packed_word_store(struct vring_packed_desc *desc, uint64_t word)
{
	__atomic_store_n((shared_word *)(void *)&desc->len, word, __ATOMIC_RELAXED);
}

/*
 * To be called for the first used descriptor since the last publish, which is at ring->used_idx: notes its flags for
 * publish (2.8.9) and returns those that it has until then, of a descriptor that is still available. Drivers look at
 * descriptors in ring order, so none behind it is seen earlier, whatever its flags.
 */
static inline uint64_t packed_hold(struct vring_device *ring, bool is_written)
{
	bool wrap = vring_packed_wrap(ring->used_idx);

	ring->held_slot = vring_packed_slot(ring->used_idx);
	ring->held_flags = packed_flags_used(wrap, is_written);
	ring->is_held = true;
	return PACKED_WORD_FLAG((wrap ? PACKED_AVAIL : PACKED_USED) | (is_written ? VRING_DESC_F_WRITE : 0));
}

/* Writes a used descriptor at `position`, which is ring->used_idx if it is the first since the last publish. */
static inline void packed_desc_use(struct vring_device *ring, uint16_t position, uint16_t id,
	uint32_t len, bool is_written)
{
	uint64_t flags = PACKED_WORD_FLAG(packed_flags_used(vring_packed_wrap(position), is_written));

	if (__builtin_expect(!ring->is_held, 0))
		flags = packed_hold(ring, is_written);
	packed_word_store(packed_desc_at(ring, position), len | (uint64_t)id << 32 | flags);
}

#endif
