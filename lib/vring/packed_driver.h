/* SPDX-License-Identifier: BSD-3-Clause */
/* What both packed drivers (driver_packed.c, fixed_packed.c) say to and read from a device (virtio 1.3, 2.8). */
#ifndef VRING_PACKED_DRIVER_H
#define VRING_PACKED_DRIVER_H

#include "packed_desc.h"
#include "packed_event.h"

/*
 * A descriptor as a driver writes it: the address, and a word of length, id and flags, whose store makes it available. A
 * device overwrites all of the word, and the address as well if it likes.
 */
#define PACKED_WORD_AVAIL_FLIP PACKED_WORD_FLAG(PACKED_AVAIL | PACKED_USED)

static inline uint64_t packed_word(uint32_t len, uint16_t id, unsigned int flags)
{
	return len | (uint64_t)id << 32 | PACKED_WORD_FLAG(flags);
}

/* What makes a descriptor available in the lap of `position` (2.8.1): AVAIL as the wrap counter, USED the opposite. */
static inline uint64_t packed_avail_bits(uint16_t position)
{
	return PACKED_WORD_FLAG(vring_packed_wrap(position) ? PACKED_AVAIL : PACKED_USED);
}

static inline shared_word *packed_words(struct vring_packed_desc *desc)
{
	return (shared_word *)desc;
}

/* A used descriptor, as a private copy. */
struct packed_used {
	uint32_t len; /* 0 if the device says that it wrote nothing (2.8.4) */
	uint16_t id;
};

/* AVAIL and USED of a descriptor used in the lap of `position`: as the wrap counter, both (2.8.1). */
static inline uint16_t packed_used_bits(uint16_t position)
{
	return vring_packed_wrap(position) ? PACKED_AVAIL | PACKED_USED : 0;
}

/* Whether a descriptor is used in a lap with these bits, and then what it says. */
static inline bool packed_load_used(struct vring_packed_desc *desc, uint16_t used_bits, struct packed_used *used)
{
	/* Fence D: id, length and the buffer's bytes after the flags. */
	uint16_t flags = __atomic_load_n(&desc->flags, __ATOMIC_ACQUIRE);
	uint64_t word;

	if ((flags & (PACKED_AVAIL | PACKED_USED)) != used_bits)
		return false;
	word = __atomic_load_n(&packed_words(desc)[1], __ATOMIC_RELAXED);
	used->len = flags & VRING_DESC_F_WRITE ? (uint32_t)word : 0;
	used->id = (uint16_t)(word >> 32);
	return true;
}

/*
 * Whether the device wants to hear of the last `n_descs` (> 0) descriptors made available, which end before `position`
 * (2.8.21.3.1).
 */
static inline bool packed_wants_kick(const struct vring_packed_desc_event *device_event, bool event_idx,
	uint16_t position, uint32_t n_descs, uint32_t size)
{
	uint16_t event;

	full_fence(); /* B: descriptors before the device's wish */
	switch (packed_event_load(device_event, event_idx, size, &event)) {
	case PACKED_WISH_NEVER:
		return false;
	case PACKED_WISH_AT:
		return packed_event_passed(event, position, n_descs, size);
	default:
		return true;
	}
}

/* Our wish for calls: all, or with event index from the used descriptor at `position` on. */
static inline void packed_set_call(
	struct vring_packed_desc_event *driver_event, bool wanted, bool event_idx, uint16_t position)
{
	packed_event_store(driver_event, wanted, event_idx, position);
	if (wanted)
		full_fence(); /* A: our wish before the used descriptors, which the caller looks at next */
}

#endif
