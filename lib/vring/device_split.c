/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The split ring, device side (virtio 2.7): indices, used entries, notification. Descriptors are read in split_parse.c.
 *
 * Fences (the partner has the same letter; a guest's driver has its own equivalents):
 *   A  full: used index (publish) before the driver's wish for calls (wants_call)      partner: driver.c, set_call
 *   B  full: our wish for kicks (set_kick) before the available index (has_available)  partner: driver.c, needs_kick
 *   C  acquire of the available index: entries and descriptors are read after it       partner: driver.c, publish
 *   D  release of the used index: used entries and buffer bytes are written before it  partner: driver.c, collect
 * A and B are issued in device.c, for both layouts.
 */
#include "device_split.h"
#include "shared.h"

bool device_split_accepts(const struct vring_config *config)
{
	uint16_t size = config->size;

	return size != 0 && size <= VRING_SIZE_MAX && (size & (size - 1)) == 0 &&
	       (uintptr_t)config->desc % VRING_DESC_ALIGN == 0 &&
	       (uintptr_t)config->avail % VRING_AVAIL_ALIGN == 0 &&
	       (uintptr_t)config->used % VRING_USED_ALIGN == 0;
}

unsigned int device_split_lead(const struct vring_device *ring)
{
	/* Fence C. */
	return (uint16_t)(__atomic_load_n(&ring->avail->idx, __ATOMIC_ACQUIRE) -
		ring->last_avail_idx);
}

void device_split_return(struct vring_device *ring, const struct vring_burst *burst, unsigned int n)
{
	vring_used_elem_t *entries = ring->used->ring;
	unsigned int mask = ring->mask;
	unsigned int idx = ring->used_idx;

	for (unsigned int i = 0; i < n; i++) {
		const struct vring_buffer *buffer = &burst->buffers[i];
		vring_used_elem_t *entry = &entries[(idx + i) & mask];

		__atomic_store_n(&entry->id, buffer->id, __ATOMIC_RELAXED);
		__atomic_store_n(&entry->len, buffer->used_len, __ATOMIC_RELAXED);
		/* Counted here and not when parsed: what is not returned is parsed again. */
		if (__builtin_expect(buffer->fault != VRING_OK, 0))
			ring->n_faults[buffer->fault]++;
	}
	ring->used_idx = (uint16_t)(idx + n);
	ring->last_avail_idx = (uint16_t)(ring->last_avail_idx + n);
}

void device_split_use(struct vring_device *ring, uint16_t id, uint32_t len)
{
	vring_used_elem_t *entry = &ring->used->ring[ring->used_idx & ring->mask];

	__atomic_store_n(&entry->id, id, __ATOMIC_RELAXED);
	__atomic_store_n(&entry->len, len, __ATOMIC_RELAXED);
	ring->used_idx++;
}

void device_split_publish_to(struct vring_device *ring, uint16_t idx)
{
	uint16_t n = (uint16_t)(idx - ring->published_idx);

	/* Saturating: all that matters beyond 65535 is that it is beyond. */
	if (ring->n_uncalled <= UINT16_MAX)
		ring->n_uncalled += n;
	ring->published_idx = idx;
	/* Fence D. */
	__atomic_store_n(&ring->used->idx, idx, __ATOMIC_RELEASE);
}

void device_split_publish(struct vring_device *ring)
{
	device_split_publish_to(ring, ring->used_idx);
}

bool device_split_wants_call(struct vring_device *ring)
{
	uint32_t n_uncalled = ring->n_uncalled;
	bool is_due = ring->call_is_due;
	uint16_t event;

	if (n_uncalled == 0)
		return false;
	ring->n_uncalled = 0;
	if (!ring->event_idx)
		return (__atomic_load_n(&ring->avail->flags, __ATOMIC_RELAXED) &
			VRING_AVAIL_F_NO_INTERRUPT) == 0;
	ring->call_is_due = false;
	event = __atomic_load_n(vring_used_event_of(ring->avail, ring->size), __ATOMIC_RELAXED);
	return is_due || event_passed(event, ring->published_idx, n_uncalled);
}

/* With event index the flags stay 0 (2.7.10.2) and the index counts, without it the flags. */
static void wish_store(struct vring_device *ring, uint16_t flags, uint16_t idx)
{
	__atomic_store_n(&ring->used->flags, ring->event_idx ? 0 : flags, __ATOMIC_RELAXED);
	if (ring->event_idx)
		__atomic_store_n(vring_avail_event_of(ring->used, ring->size), idx, __ATOMIC_RELAXED);
}

void device_split_set_kick(struct vring_device *ring, bool wanted)
{
	/* The wish not to be kicked is an index just gone by. */
	wish_store(ring, wanted ? 0 : VRING_USED_F_NO_NOTIFY, (uint16_t)(ring->last_avail_idx - !wanted));
}

void device_split_set_kick_at(struct vring_device *ring, uint16_t idx)
{
	wish_store(ring, 0, idx);
}
