/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The packed ring, device side (virtio 2.8): used descriptors and notification. Descriptors are read in packed_parse.c.
 *
 * There are no indices to publish. Descriptors change hands one by one through their flags, so what belongs together, a
 * burst and the buffers of a frame in it, is written from the second descriptor on, and the flags of the first come last.
 *
 * Fences (letters as in device_split.c):
 *   A  full: flags of the first used descriptor (publish) before the driver's event structure (wants_call)
 *   B  full: our event structure (set_kick) before the flags of the next descriptor (has_available)
 *   C  acquire of a descriptor's flags: the rest of its chain is read after it (packed_desc.h)
 *   D  release of the first used descriptor's flags: all other used descriptors and buffer bytes are written before it
 */
#include "device_packed.h"
#include "packed_desc.h"
#include "packed_event.h"

bool device_packed_accepts(const struct vring_config *config)
{
	return config->size != 0 && config->size <= VRING_SIZE_MAX &&
	       vring_packed_slot(config->avail_idx) < config->size &&
	       vring_packed_slot(config->used_idx) < config->size &&
	       (uintptr_t)config->desc % VRING_DESC_ALIGN == 0 &&
	       (uintptr_t)config->avail % VRING_EVENT_ALIGN == 0 &&
	       (uintptr_t)config->used % VRING_EVENT_ALIGN == 0;
}

/*
 * Skipped buffers count as used completely (2.8.8). Of readable ones nobody asks more; but a refused one was not used at
 * all, and writable ones have lengths. So a batch is a run of good readable buffers.
 */
static bool ends_batch(const struct vring_burst *burst, unsigned int i, unsigned int n)
{
	return i + 1 == n || burst->buffers[i].fault != VRING_OK ||
	       burst->buffers[i + 1].fault != VRING_OK;
}

void device_packed_return(
	struct vring_device *ring, const struct vring_burst *burst, unsigned int n)
{
	const bool is_written = burst->direction == VRING_WRITABLE;
	const bool is_batched = ring->in_order && !is_written;
	const uint32_t size = ring->size;
	uint16_t used_idx = ring->used_idx;
	unsigned int n_unused = 0; /* slots since the last used descriptor */
	unsigned int n_slots = 0;

	for (unsigned int i = 0; i < n; i++) {
		const struct vring_buffer *buffer = &burst->buffers[i];

		n_unused += buffer->n_descs;
		/* Counted here and not when parsed: what is not returned is parsed again. */
		if (__builtin_expect(buffer->fault != VRING_OK, 0))
			ring->n_faults[buffer->fault]++;
		if (is_batched && !ends_batch(burst, i, n))
			continue;
		/* A batch's descriptor lies where its first buffer did and has the id of its last. */
		packed_desc_use(ring, used_idx, buffer->id, buffer->used_len, is_written);
		used_idx = vring_packed_advance(used_idx, n_unused, size);
		n_slots += n_unused;
		n_unused = 0;
	}
	ring->used_idx = used_idx;
	ring->last_avail_idx = vring_packed_advance(ring->last_avail_idx, n_slots, size);
}

void device_packed_count_published(struct vring_device *ring, uint16_t position)
{
	/* Saturating: all that matters beyond 65535, which is two laps of any ring, is that it is beyond. */
	if (ring->n_uncalled <= UINT16_MAX)
		ring->n_uncalled += packed_distance(ring->published_idx, position, ring->size);
	ring->published_idx = position;
}

void device_packed_publish(struct vring_device *ring)
{
	if (!ring->is_held)
		return;
	device_packed_count_published(ring, ring->used_idx);
	ring->is_held = false;
	/* Fence D. */
	__atomic_store_n(&packed_desc_at(ring, ring->held_slot)->flags, ring->held_flags, __ATOMIC_RELEASE);
}

bool device_packed_wants_call(struct vring_device *ring)
{
	uint32_t n_uncalled = ring->n_uncalled;
	bool is_due = ring->call_is_due;
	enum packed_wish wish;
	uint16_t event;

	if (n_uncalled == 0)
		return false;
	ring->n_uncalled = 0;
	wish = packed_event_load(ring->avail, ring->event_idx, ring->size, &event);
	if (wish == PACKED_WISH_NEVER)
		return false;
	ring->call_is_due = false;
	return is_due || wish == PACKED_WISH_ALWAYS ||
	       packed_event_passed(event, ring->published_idx, n_uncalled, ring->size);
}

void device_packed_set_kick(struct vring_device *ring, bool wanted)
{
	packed_event_store(ring->used, wanted, ring->event_idx, ring->last_avail_idx);
}

void device_packed_set_kick_at(struct vring_device *ring, uint16_t position)
{
	packed_event_store(ring->used, true, ring->event_idx, position);
}

/* The word of the descriptor at `position`, in private order. */
static uint64_t word_at(const struct vring_device *ring, uint16_t position)
{
	return packed_word_to_private(packed_word_load(packed_desc_at(ring, position)));
}

bool device_packed_has_available(const struct vring_device *ring)
{
	return packed_is_available(word_at(ring, ring->last_avail_idx), ring->last_avail_idx);
}

struct packed_backlog device_packed_backlog(const struct vring_device *ring)
{
	unsigned int n_slots = ring->size < VRING_BACKLOG_SLOTS ? ring->size : VRING_BACKLOG_SLOTS;
	struct packed_backlog backlog = { .n = 0, .end = ring->last_avail_idx };

	for (; n_slots > 0; n_slots--) {
		uint64_t word = word_at(ring, backlog.end);

		if (!packed_is_available(word, backlog.end))
			return backlog;
		if ((word & DESC_NEXT) == 0)
			backlog.n++;
		backlog.end = vring_packed_advance(backlog.end, 1, ring->size);
	}
	backlog.n = ring->size;
	return backlog;
}
