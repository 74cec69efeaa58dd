/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the device side of a ring wrote, as bits of a dirty log (gmem/log.h). For rings of a guest that is being
 * migrated; others have nothing to do with it.
 *
 * All verbs are called after the writes that they are about were published, and contain the fence between those and
 * the bits (fence L of gmem/log.h).
 *
 * Thread rule: as of the ring. With tickets (vring/ticket.h), `ring` is the ticket's and no lock is needed.
 */
#ifndef VRING_DIRTY_H
#define VRING_DIRTY_H

#include <gmem/log.h>
#include <vring/device.h>
#include <vring/run.h>

/* Where writes are noted. Plain data; the log outlives the ring's use of it. */
struct vring_dirty {
	struct gmem_log *log;
	bool logs_ring;     /* writes to the ring's own parts too (vhost-user, VHOST_VRING_F_LOG) */
	uint64_t ring_gpa;  /* of the used ring; packed: of the descriptor ring */
	uint64_t event_gpa; /* packed: of the device event suppression structure */
};

/* The first n buffers of a run were returned as written, lengths[i] bytes each; their used entries begin at `from`. */
void vring_dirty_run(const struct vring_dirty *dirty, const struct vring_device *ring,
	const struct vring_run *run, const uint32_t *lengths, unsigned int n, uint16_t from);

/* The same for the first n buffers of a burst. */
void vring_dirty_burst(const struct vring_dirty *dirty, const struct vring_device *ring,
	const struct vring_burst *burst, unsigned int n, uint16_t from);

/* Used entries from `from` (a used_idx) on, for buffers into which nothing was written. */
void vring_dirty_used(
	const struct vring_dirty *dirty, const struct vring_device *ring, uint16_t from);

/* The wish for kicks was changed: vring_device_set_kick(). */
void vring_dirty_wish(const struct vring_dirty *dirty, const struct vring_device *ring);

#endif
