/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The verbs of the driver side, and behind them the split ring (virtio 2.7); driver_packed.c has the packed one.
 *
 * Free descriptors: without IN_ORDER a first-in first-out list, so that in steady state a slot of the available ring gets
 * the same head every lap and need not be written again; its cache line then stays shared with the device. With IN_ORDER
 * (2.7.5.2) the descriptor table itself is the list: the next free one follows the last taken one.
 *
 * Fences: A, B, C and D are explained in device_split.c; here are the other halves.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "driver_private.h"

static void desc_store(struct vring_desc *desc, const struct vring_extent *extent, uint16_t flags,
	uint16_t next)
{
	driver_store(desc, extent->gpa, extent->len | DESC_WORD_FLAG(flags) | (uint64_t)next << 48);
}

static void split_init(struct vring_driver *ring, const struct vring_driver_config *config)
{
	ring->desc = config->desc;
	ring->avail = config->avail;
	ring->used = config->used;
	memset(ring->desc, 0, vring_desc_bytes(ring->size));
	memset(ring->avail, 0, vring_avail_bytes(ring->size));
	memset(ring->used, 0, vring_used_bytes(ring->size));
	ring->mask = ring->size - 1;
}

struct vring_driver *vring_driver_create(const struct vring_driver_config *config)
{
	uint16_t size = config->size;
	struct vring_driver *ring;

	if (size == 0 || size > 32768 || (!config->packed && (size & (size - 1)) != 0) ||
		(config->indirect && config->indirect_max == 0)) {
		errno = EINVAL;
		return NULL;
	}
	ring = calloc(1, sizeof(*ring));
	if (ring == NULL)
		return NULL;
	ring->slots = calloc(size, sizeof(ring->slots[0]));
	ring->next = calloc(size, sizeof(ring->next[0]));
	ring->entries = calloc(size, sizeof(ring->entries[0]));
	if (ring->slots == NULL || ring->next == NULL || ring->entries == NULL) {
		vring_driver_destroy(ring);
		errno = ENOMEM;
		return NULL;
	}
	ring->size = size;
	ring->packed = config->packed;
	if (config->packed)
		driver_packed_init(ring, config);
	else
		split_init(ring, config);
	ring->event_idx = config->event_idx;
	ring->in_order = config->in_order;
	if (config->indirect) {
		ring->indirect_max = config->indirect_max;
		ring->indirect_area = config->indirect_area;
		ring->indirect_gpa = config->indirect_gpa;
	}
	ring->n_free = size;
	ring->free_tail = size - 1;
	for (unsigned int i = 0; i < size; i++)
		ring->next[i] = (uint16_t)(i + 1 < size ? i + 1 : 0);
	return ring;
}

void vring_driver_destroy(struct vring_driver *ring)
{
	if (ring == NULL)
		return;
	free(ring->slots);
	free(ring->next);
	free(ring->entries);
	free(ring);
}

/* Writes extents into consecutive entries of a table of their own (2.7.5.3); the head only names it. */
static void write_table(struct vring_driver *ring, uint16_t head,
	const struct vring_extent *extents, unsigned int n_readable, unsigned int n)
{
	size_t first = (size_t)head * ring->indirect_max;
	struct vring_extent table = driver_table(ring, head, n);

	for (unsigned int i = 0; i < n; i++) {
		uint16_t flags = i >= n_readable ? VRING_DESC_F_WRITE : 0;

		if (i + 1 < n)
			flags |= VRING_DESC_F_NEXT;
		desc_store(&ring->indirect_area[first + i], &extents[i], flags,
			(uint16_t)(i + 1 < n ? i + 1 : 0));
	}
	desc_store(&ring->desc[head], &table, VRING_DESC_F_INDIRECT, 0);
}

/* Writes extents into n free descriptors from head on. Returns the last. */
static uint16_t write_chain(struct vring_driver *ring, uint16_t head,
	const struct vring_extent *extents, unsigned int n_readable, unsigned int n)
{
	uint16_t at = head;

	for (unsigned int i = 0;; i++) {
		uint16_t flags = i >= n_readable ? VRING_DESC_F_WRITE : 0;

		if (i + 1 == n) {
			desc_store(&ring->desc[at], &extents[i], flags, 0);
			return at;
		}
		desc_store(&ring->desc[at], &extents[i], flags | VRING_DESC_F_NEXT,
			ring->next[at]);
		at = ring->next[at];
	}
}

int driver_measure(const struct vring_driver *ring, struct driver_slot *slot,
	const struct vring_extent *extents, unsigned int n_readable, unsigned int n)
{
	bool has_table = driver_takes_table(ring, n);
	unsigned int n_descs = has_table ? 1 : n;
	uint64_t readable = 0, writable = 0;

	if (n == 0 || n > ring->size || (has_table && n > ring->indirect_max))
		return -EINVAL;
	for (unsigned int i = 0; i < n; i++)
		*(i < n_readable ? &readable : &writable) += extents[i].len;
	if (readable + writable > UINT32_MAX) /* 2.7.5.2, 2.8.17 */
		return -EINVAL;
	if (n_descs > ring->n_free)
		return -ENOSPC;
	slot->writable = (uint32_t)writable;
	slot->n_descs = (uint16_t)n_descs;
	return 0;
}

/* Writes a buffer of any number of extents from `head` on and fills in its slot but for the token. */
static __attribute__((noinline)) int write_buffer(struct vring_driver *ring, uint16_t head,
	const struct vring_extent *extents, unsigned int n_readable, unsigned int n)
{
	struct driver_slot *slot = &ring->slots[head];
	int ret = driver_measure(ring, slot, extents, n_readable, n);

	if (ret < 0)
		return ret;
	slot->tail = head;
	if (driver_takes_table(ring, n))
		write_table(ring, head, extents, n_readable, n);
	else
		slot->tail = write_chain(ring, head, extents, n_readable, n);
	return 0;
}

int vring_driver_post(struct vring_driver *ring, const struct vring_extent *extents,
	unsigned int n_readable, unsigned int n_writable, uint32_t token)
{
	uint16_t head = ring->free_head;
	struct driver_slot *slot = &ring->slots[head];
	unsigned int at;

	if (ring->packed)
		return driver_packed_post(ring, extents, n_readable, n_readable + n_writable, token);
	if (n_readable + n_writable == 1 && ring->n_free > 0) {
		desc_store(&ring->desc[head], extents, n_writable ? VRING_DESC_F_WRITE : 0, 0);
		slot->writable = n_writable ? extents->len : 0;
		slot->n_descs = 1;
		slot->tail = head;
	} else {
		int ret = write_buffer(ring, head, extents, n_readable, n_readable + n_writable);

		if (ret < 0)
			return ret;
	}
	slot->token = token;
	ring->free_head = ring->next[slot->tail];
	ring->n_free -= slot->n_descs;
	ring->n_posted++;
	at = ring->avail_idx & ring->mask;
	if (ring->entries[at] != head) {
		ring->entries[at] = head;
		__atomic_store_n(&ring->avail->ring[at], head, __ATOMIC_RELAXED);
	}
	ring->avail_idx++;
	return 0;
}

void vring_driver_publish(struct vring_driver *ring)
{
	uint16_t n = (uint16_t)(ring->avail_idx - ring->published_idx);

	if (ring->packed) {
		driver_packed_publish(ring);
		return;
	}
	if (ring->n_unkicked <= UINT16_MAX)
		ring->n_unkicked += n;
	ring->published_idx = ring->avail_idx;
	/* Fence C: descriptors and entries before the index. */
	__atomic_store_n(&ring->avail->idx, ring->avail_idx, __ATOMIC_RELEASE);
}

bool vring_driver_needs_kick(struct vring_driver *ring)
{
	uint32_t n_unkicked = ring->n_unkicked;
	uint16_t event;

	if (ring->packed)
		return driver_packed_needs_kick(ring);
	if (n_unkicked == 0)
		return false;
	ring->n_unkicked = 0;
	full_fence(); /* B: available index before the device's wish */
	if (!ring->event_idx)
		return (__atomic_load_n(&ring->used->flags, __ATOMIC_RELAXED) &
			VRING_USED_F_NO_NOTIFY) == 0;
	event = __atomic_load_n(vring_avail_event_of(ring->used, ring->size), __ATOMIC_RELAXED);
	return event_passed(event, ring->published_idx, n_unkicked);
}

/* Gives the descriptors of an outstanding buffer back. `len` is what the device says it wrote. */
static struct vring_completion complete(struct vring_driver *ring, uint16_t head, uint32_t len)
{
	struct driver_slot *slot = &ring->slots[head];

	/* In order all this says what is true already: the chain lies behind the last free descriptor. */
	if (ring->n_free == 0)
		ring->free_head = head;
	ring->next[ring->free_tail] = head;
	ring->free_tail = slot->tail;
	ring->n_free += slot->n_descs;
	ring->n_posted--;
	slot->n_descs = 0;
	return driver_completion(slot, len);
}

/*
 * With IN_ORDER one used entry may stand for all buffers up to the one it names (2.7.9); it lies where the first of them
 * would, and the used index has grown by all. Returns how many they are, at most `n`, or 0 if it names none of those.
 */
static unsigned int batch_length(const struct vring_driver *ring, uint32_t id, unsigned int n)
{
	unsigned int head = ring->order_head;

	for (unsigned int i = 1; i <= n; i++) {
		if (head == id)
			return i;
		head = (head + ring->slots[head].n_descs) & ring->mask;
	}
	return 0;
}

static int collect_in_order(struct vring_driver *ring, struct vring_completion *done,
	unsigned int n_used, unsigned int max)
{
	unsigned int n = 0;

	while (n < max && n < n_used) {
		uint16_t head = ring->order_head;
		uint32_t len = UINT32_MAX; /* passed over: used completely */

		if (ring->n_in_batch == 0) {
			const vring_used_elem_t *entry =
				&ring->used->ring[(ring->last_used_idx + n) & ring->mask];
			uint32_t id = __atomic_load_n(&entry->id, __ATOMIC_RELAXED);

			ring->n_in_batch = batch_length(ring, id, n_used - n);
			ring->batch_len = __atomic_load_n(&entry->len, __ATOMIC_RELAXED);
			if (ring->n_in_batch == 0) {
				ring->is_broken = true;
				break;
			}
		}
		if (--ring->n_in_batch == 0)
			len = ring->batch_len;
		ring->order_head = (head + ring->slots[head].n_descs) & ring->mask;
		done[n++] = complete(ring, head, len);
	}
	return (int)n;
}

static int collect_any_order(struct vring_driver *ring, struct vring_completion *done,
	unsigned int n_used, unsigned int max)
{
	unsigned int n;

	for (n = 0; n < max && n < n_used; n++) {
		const vring_used_elem_t *entry =
			&ring->used->ring[(ring->last_used_idx + n) & ring->mask];
		uint32_t id = __atomic_load_n(&entry->id, __ATOMIC_RELAXED);

		if (id >= ring->size || ring->slots[id].n_descs == 0) {
			ring->is_broken = true;
			break;
		}
		done[n] = complete(
			ring, (uint16_t)id, __atomic_load_n(&entry->len, __ATOMIC_RELAXED));
	}
	return (int)n;
}

int vring_driver_collect(struct vring_driver *ring, struct vring_completion *done, unsigned int max)
{
	unsigned int n_used;
	int n;

	if (ring->packed)
		return driver_packed_collect(ring, done, max);
	if (ring->is_broken)
		return -EPROTO;
	/* Fence D: entries and bytes after the index. */
	n_used = (uint16_t)(__atomic_load_n(&ring->used->idx, __ATOMIC_ACQUIRE) -
		ring->last_used_idx);
	/* More than what the device could see is a lie; posted and unpublished buffers are not the device's yet. */
	if (n_used >
		ring->n_posted - (unsigned int)(uint16_t)(ring->avail_idx - ring->published_idx)) {
		ring->is_broken = true;
		return -EPROTO;
	}
	n = ring->in_order ? collect_in_order(ring, done, n_used, max)
			   : collect_any_order(ring, done, n_used, max);
	ring->last_used_idx = (uint16_t)(ring->last_used_idx + n);
	/* What came before the lie is handed out; the next call reports it. */
	return n > 0 || !ring->is_broken ? n : -EPROTO;
}

void vring_driver_set_call(struct vring_driver *ring, bool wanted)
{
	uint16_t flags = wanted || ring->event_idx ? 0 : VRING_AVAIL_F_NO_INTERRUPT;

	if (ring->packed) {
		driver_packed_set_call(ring, wanted);
		return;
	}
	if (ring->event_idx)
		__atomic_store_n(vring_used_event_of(ring->avail, ring->size),
			(uint16_t)(ring->last_used_idx - !wanted), __ATOMIC_RELAXED);
	else
		__atomic_store_n(&ring->avail->flags, flags, __ATOMIC_RELAXED);
	if (wanted)
		full_fence(); /* A: our wish before the used index, which the caller looks at next */
}

unsigned int vring_driver_outstanding(const struct vring_driver *ring)
{
	return ring->n_posted;
}

unsigned int vring_driver_free(const struct vring_driver *ring)
{
	return ring->n_free;
}
