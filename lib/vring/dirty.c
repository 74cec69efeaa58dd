/* SPDX-License-Identifier: BSD-3-Clause */
#include <vring/dirty.h>

#include "packed_event.h"

#define USED_IDX_OFFSET   2 /* struct vring_used: flags, idx, ring[] */
#define USED_RING_OFFSET  4
#define USED_ENTRY_BYTES  8
#define PACKED_DESC_BYTES 16

static void mark_slots(const struct vring_dirty *dirty, uint32_t slot, uint32_t n, uint32_t size,
	uint64_t offset, uint32_t bytes)
{
	uint32_t n_first = n < size - slot ? n : size - slot;

	if (n == 0)
		return;
	gmem_log_mark(dirty->log, dirty->ring_gpa + offset + (uint64_t)slot * bytes, (uint64_t)n_first * bytes);
	if (n > n_first)
		gmem_log_mark(dirty->log, dirty->ring_gpa + offset, (uint64_t)(n - n_first) * bytes);
}

static void mark_used(const struct vring_dirty *dirty, const struct vring_device *ring, uint16_t from)
{
	if (!dirty->logs_ring)
		return;
	if (ring->packed) {
		uint32_t n = packed_distance(from, ring->used_idx, ring->size);

		mark_slots(dirty, vring_packed_slot(from), n < ring->size ? n : ring->size, ring->size, 0,
			PACKED_DESC_BYTES);
		return;
	}
	mark_slots(dirty, from & ring->mask, (uint16_t)(ring->used_idx - from), ring->size,
		USED_RING_OFFSET, USED_ENTRY_BYTES);
	gmem_log_mark(dirty->log, dirty->ring_gpa + USED_IDX_OFFSET, sizeof(uint16_t));
}

void vring_dirty_run(const struct vring_dirty *dirty, const struct vring_device *ring,
	const struct vring_run *run, const uint32_t *lengths, unsigned int n, uint16_t from)
{
	/*
	 * Copies, which the compiler knows that bits do not change. Buffers were found through the ring's cache,
	 * mostly; the way back begins there.
	 */
	struct gmem_log log = *dirty->log;
	struct gmem_cache cache = ring->cache;
	const bool packed = ring->packed;
	uint64_t noted = UINT64_MAX; /* page: small buffers share one */

	vring_fence(); /* L */
	for (unsigned int i = 0; i < n; i++) {
		uint64_t gpa = packed ? run->addr[i]
				      : gmem_untranslate(ring->mem, &cache,
						(const void *)(uintptr_t)run->hva[i]);
		uint64_t last = (gpa + lengths[i] - 1) / GMEM_LOG_PAGE_BYTES;

		if (last == noted && gpa / GMEM_LOG_PAGE_BYTES == noted)
			continue;
		noted = last;
		gmem_log_mark(&log, gpa, lengths[i]);
	}
	mark_used(dirty, ring, from);
}

static void mark_buffer(const struct vring_dirty *dirty, const struct vring_device *ring,
	struct gmem_cache *cache, const struct vring_buffer *buffer)
{
	uint32_t left = buffer->used_len;

	for (unsigned int i = 0; i < buffer->n_pieces && left > 0; i++) {
		const struct vring_piece *piece = &buffer->pieces[i];
		uint32_t len = piece->len < left ? piece->len : left;

		gmem_log_mark(dirty->log, gmem_untranslate(ring->mem, cache, piece->hva), len);
		left -= len;
	}
}

void vring_dirty_burst(const struct vring_dirty *dirty, const struct vring_device *ring,
	const struct vring_burst *burst, unsigned int n, uint16_t from)
{
	struct gmem_cache cache = ring->cache;

	vring_fence(); /* L */
	for (unsigned int i = 0; i < n; i++)
		mark_buffer(dirty, ring, &cache, &burst->buffers[i]);
	mark_used(dirty, ring, from);
}

void vring_dirty_used(
	const struct vring_dirty *dirty, const struct vring_device *ring, uint16_t from)
{
	vring_fence(); /* L */
	mark_used(dirty, ring, from);
}

void vring_dirty_wish(const struct vring_dirty *dirty, const struct vring_device *ring)
{
	if (!dirty->logs_ring)
		return;
	vring_fence(); /* L */
	if (ring->packed) {
		gmem_log_mark(dirty->log, dirty->event_gpa, VRING_EVENT_BYTES);
		return;
	}
	/* The flags, and the index behind the last entry. */
	gmem_log_mark(dirty->log, dirty->ring_gpa, sizeof(uint16_t));
	gmem_log_mark(dirty->log,
		dirty->ring_gpa + USED_RING_OFFSET + (uint64_t)ring->size * USED_ENTRY_BYTES, sizeof(uint16_t));
}
