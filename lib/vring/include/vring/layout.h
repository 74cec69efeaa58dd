/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The split virtqueue as it lies in memory (virtio 1.3, 2.7). The structures are those of the kernel's UAPI header;
 * extents and event words are added here because a ring's parts are translated one by one.
 */
#ifndef VRING_LAYOUT_H
#define VRING_LAYOUT_H

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

#endif
