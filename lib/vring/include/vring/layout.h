/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The virtqueue as it lies in memory: split (virtio 1.3, 2.7) and packed (2.8). The structures are those of the kernel's
 * UAPI header; extents and event words are added here because a ring's parts are translated one by one.
 *
 * A packed ring has three parts as well, and they travel in the same three fields everywhere: the descriptor ring as
 * `desc`, the driver's event suppression structure as `avail`, the device's as `used` (as vhost-user does).
 */
#ifndef VRING_LAYOUT_H
#define VRING_LAYOUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <linux/virtio_ring.h>

/* Bytes of each part; the event word at the end of avail and used is always counted (2.7, 2.7.6, 2.7.8). */
static inline size_t vring_desc_bytes(uint32_t size)
{
	return 16 * (size_t)size;
}

static inline size_t vring_avail_bytes(uint32_t size)
{
	return 6 + 2 * (size_t)size;
}

static inline size_t vring_used_bytes(uint32_t size)
{
	return 6 + 8 * (size_t)size;
}

#define VRING_DESC_ALIGN  16
#define VRING_AVAIL_ALIGN 2
#define VRING_USED_ALIGN  4

/* used_event lies behind the available entries and is the driver's; avail_event behind the used ones and is the device's. */
static inline uint16_t *vring_used_event_of(struct vring_avail *avail, uint16_t size)
{
	return &avail->ring[size];
}

static inline uint16_t *vring_avail_event_of(struct vring_used *used, uint16_t size)
{
	return (uint16_t *)&used->ring[size];
}

/* Packed: both event suppression structures (2.8.10), and the alignment of all parts (2.8.10.1). */
#define VRING_EVENT_BYTES sizeof(struct vring_packed_desc_event)
#define VRING_EVENT_ALIGN 4

/*
 * A place in a packed ring: slot in bits 0..14, wrap counter in bit 15, as vhost-user and the event offsets have it. Both
 * counters start at 1 (2.8.1).
 */
#define VRING_PACKED_START ((uint16_t)(1u << 15))

static inline uint16_t vring_packed_slot(uint16_t position)
{
	return position & 0x7fff;
}

static inline bool vring_packed_wrap(uint16_t position)
{
	return position >> 15;
}

/* The place n <= size slots further on. */
static inline uint16_t vring_packed_advance(uint16_t position, uint32_t n, uint32_t size)
{
	uint32_t slot = vring_packed_slot(position) + n;

	return slot < size ? (uint16_t)((position & 0x8000) | slot)
			   : (uint16_t)(((position & 0x8000) ^ 0x8000) | (slot - size));
}

#endif
