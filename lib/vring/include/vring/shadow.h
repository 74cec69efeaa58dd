/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Shadow virtqueues: a guest's ring relayed to the ring of another device, so that somebody who can log dirty pages
 * sees every buffer that the device used.
 *
 *     guest's driver --> guest's ring --forward--> our split ring --> device
 *                                     <--return---                <--
 *
 * Descriptors are forwarded and not what they describe: the device has the guest's memory in its table and writes
 * there by itself. What it says about that is believed only as far as it can be checked: an id must be outstanding, a
 * length is at most what was offered. The guest's side may be split or packed; chains and indirect tables are
 * forwarded as plain chains.
 *
 * Buffers come back to the guest in the order in which the device used them; in ring order if the guest negotiated
 * IN_ORDER. When the device has stopped (vring_shadow_stop()), buffers that it has not used are the guest's available
 * ones again, as if nobody had ever taken them, so that whoever serves the guest's ring next finds them: the device
 * itself, or another shadow.
 *
 * Thread rule: one thread at a time, which is also the one of the guest's ring.
 */
#ifndef VRING_SHADOW_H
#define VRING_SHADOW_H

#include <vring/device.h>
#include <vring/dirty.h>
#include <vring/driver.h>

struct vring_shadow_config {
	struct vring_device *guest; /* initialised; nobody else uses it until the shadow is destroyed */
	enum vring_direction direction;
	/* The device's ring: split, of our own memory, which the device has in its table. */
	uint16_t size; /* a power of two */
	bool event_idx; /* negotiated with the device */
	bool in_order;  /* dito */
	void *desc, *avail, *used; /* layout.h */
};

struct vring_shadow; /* private */

/* NULL with errno EINVAL (size) or ENOMEM. */
struct vring_shadow *vring_shadow_create(const struct vring_shadow_config *config);

/* After vring_shadow_stop(), or the device has gone and so has the guest. NULL is allowed. */
void vring_shadow_destroy(struct vring_shadow *shadow);

/*
 * Makes up to `max` of the guest's available buffers available to the device, as far as its ring has room. Returns how
 * many were taken from the guest, 0 if there are none or no room, or -EPROTO: the guest's ring is broken. Buffers that
 * are refused (vring/device.h) are returned to the guest at once and counted there.
 */
int vring_shadow_forward(struct vring_shadow *shadow, unsigned int max);

/* Whether the device wants a kick for what was forwarded since this was last asked; contains the fence. */
bool vring_shadow_needs_kick(struct vring_shadow *shadow);

/*
 * Returns up to `max` buffers that the device has used to the guest. With `dirty` (NULL: none) the pages that were
 * written are noted. Returns how many, or -EPROTO, then and for ever: the device lied. Afterwards
 * vring_device_needs_call() of the guest's ring.
 */
int vring_shadow_return(struct vring_shadow *shadow, const struct vring_dirty *dirty, unsigned int max);

/*
 * Asks the device for calls or spares them. After asking, vring_shadow_return() once more before sleeping. (The
 * guest's kicks: vring_device_set_kick().)
 */
void vring_shadow_set_call(struct vring_shadow *shadow, bool wanted);

/* Buffers taken from the guest and not returned yet. */
unsigned int vring_shadow_outstanding(const struct vring_shadow *shadow);

/*
 * The device has stopped for good: what it has used is returned, what it has not is the guest's to offer again. A
 * device that used buffers and left older ones out gives no way to offer those alone again: they are returned as used
 * with nothing written. Returns how many were given back to be offered again.
 */
unsigned int vring_shadow_stop(struct vring_shadow *shadow, const struct vring_dirty *dirty);

#endif
