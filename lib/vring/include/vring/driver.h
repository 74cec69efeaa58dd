/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The driver side of a virtqueue (virtio 1.3, 2.7 split, 2.8 packed): what a guest does, for the load generator, shadow
 * rings and tests.
 *
 * The device is hostile as well: free list, lengths and tokens are private, nothing is read back from the shared
 * descriptors, and a used entry is believed only if its id is outstanding. (checklist: used.id, used.len, used.idx)
 * In a packed ring a used descriptor is what a used entry is in a split one; its length counts if it says WRITE (2.8.4).
 *
 * Thread rule: one thread at a time per ring.
 */
#ifndef VRING_DRIVER_H
#define VRING_DRIVER_H

#include <stdbool.h>
#include <stdint.h>

#include <vring/layout.h>

struct vring_driver_config {
	uint16_t size;     /* 1..32768; split: a power of two */
	bool packed;
	bool event_idx;
	bool in_order;     /* descriptors are taken in slot order (2.7.5.2) and used entries may be batched (2.7.9, 2.8.8) */
	bool indirect;     /* buffers of two and more pieces go through a table of their own */
	uint16_t indirect_max; /* descriptors per table, with indirect */
	void *desc, *avail, *used; /* our addresses of the parts (layout.h: those of a packed ring as well), zeroed by create */
	void *indirect_area;       /* size * indirect_max * 16 bytes, with indirect */
	uint64_t indirect_gpa;
};

struct vring_driver; /* private */

/* NULL with errno EINVAL (size) or ENOMEM. */
struct vring_driver *vring_driver_create(const struct vring_driver_config *config);
void vring_driver_destroy(struct vring_driver *ring);

/* A run of guest memory. */
struct vring_extent {
	uint64_t gpa;
	uint32_t len;
};

/*
 * Makes a buffer of n_readable extents followed by n_writable ones available; `token` comes back with the used entry.
 * Not visible before vring_driver_publish(). -ENOSPC if no descriptors are left, -EINVAL for 0 or too many extents.
 */
int vring_driver_post(struct vring_driver *ring, const struct vring_extent *extents,
	unsigned int n_readable, unsigned int n_writable, uint32_t token);

/* Makes posted buffers visible: release store of the available index, or of the first descriptor's flags. */
void vring_driver_publish(struct vring_driver *ring);

/* Whether the device wants a kick for what was published since this was last asked (2.7.10.1, 2.8.21.3.1); full fence. */
bool vring_driver_needs_kick(struct vring_driver *ring);

struct vring_completion {
	uint32_t token;
	uint32_t len; /* bytes written by the device, clamped to the writable bytes posted */
};

/*
 * Takes up to `max` used buffers. Returns how many, or -EPROTO once the device has lied (unknown id, index jump), and
 * for ever after.
 */
int vring_driver_collect(struct vring_driver *ring, struct vring_completion *done, unsigned int max);

/* Asks for calls or spares them (2.7.7.1, 2.8.10). After asking, collect once more before sleeping. */
void vring_driver_set_call(struct vring_driver *ring, bool wanted);

/* Buffers posted and not yet collected. */
unsigned int vring_driver_outstanding(const struct vring_driver *ring);

/* Free descriptors (without indirect, one per extent). */
unsigned int vring_driver_free(const struct vring_driver *ring);

#endif
