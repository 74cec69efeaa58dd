/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Event suppression structures of a packed ring (virtio 1.3, 2.8.10). Both sides have one of the same shape: the device
 * writes its own and reads the driver's, the driver the other way round. Fences are the callers'.
 */
#ifndef VRING_PACKED_EVENT_H
#define VRING_PACKED_EVENT_H

#include <stdbool.h>
#include <stdint.h>

#include <vring/layout.h>

typedef uint32_t __attribute__((may_alias)) event_word;

/* Slots from one place on to another, 0..2 * size - 1: within two laps, where both wrap counters are as they were. */
static inline uint32_t packed_distance(uint16_t from, uint16_t to, uint32_t size)
{
	uint32_t n = vring_packed_slot(to) + size - vring_packed_slot(from);

	/* The lap that was added is there if the wrap counters differ. */
	if (vring_packed_wrap(from) != vring_packed_wrap(to))
		return n;
	return n < size ? n + size : n - size;
}

/* Our wish to be notified: not at all, always, or with event index from the descriptor at `position` on. */
static inline void packed_event_store(
	void *structure, bool wanted, bool event_idx, uint16_t position)
{
	uint32_t flags = VRING_PACKED_EVENT_FLAG_DISABLE;

	if (wanted)
		flags = event_idx ? VRING_PACKED_EVENT_FLAG_DESC : VRING_PACKED_EVENT_FLAG_ENABLE;
	/* One store, so that no flag is ever seen with another wish's position; which counts with DESC only. */
	__atomic_store_n((event_word *)structure, position | flags << 16, __ATOMIC_RELAXED);
}

enum packed_wish {
	PACKED_WISH_NEVER,
	PACKED_WISH_ALWAYS,
	PACKED_WISH_AT, /* a descriptor */
};

/*
 * The other side's wish; with PACKED_WISH_AT its *position, a slot of the ring. What is not legal, the reserved value, a
 * descriptor without event index, one outside the ring, counts as a wish for everything: too many notifications are
 * harmless.
 */
static inline enum packed_wish packed_event_load(
	const void *structure, bool event_idx, uint32_t size, uint16_t *position)
{
	/* Once: flags and position belong together. */
	uint32_t word = __atomic_load_n((const event_word *)structure, __ATOMIC_RELAXED);

	*position = (uint16_t)word;
	switch (word >> 16 & 3) {
	case VRING_PACKED_EVENT_FLAG_DISABLE:
		return PACKED_WISH_NEVER;
	case VRING_PACKED_EVENT_FLAG_DESC:
		return event_idx && vring_packed_slot(*position) < size ? PACKED_WISH_AT : PACKED_WISH_ALWAYS;
	default:
		return PACKED_WISH_ALWAYS;
	}
}

/* Whether `event` is among the last n slots before `now`; two laps pass every slot. */
static inline bool packed_event_passed(uint16_t event, uint16_t now, uint32_t n, uint32_t size)
{
	return n >= 2 * size || packed_distance(event, now, size) - 1 < n;
}

#endif
