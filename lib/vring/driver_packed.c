/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The packed ring, driver side (virtio 2.8).
 *
 * A buffer takes consecutive descriptors from the next free place on and is called by an id from a first-in first-out
 * list of `size` ids. With IN_ORDER buffers come back as they went, so ids go round: the one behind an outstanding
 * buffer's is the next buffer's.
 *
 * There is no index to publish with. Of all descriptors written since the last publish, the first one's second word is
 * held back; as a device takes descriptors in ring order (2.8.12), it sees none of the others before publish stores that
 * word (fence C). This holds for each chain as 2.8.17 asks, and for the whole batch.
 *
 * Fences: A to D as in device_split.c.
 */
#include <errno.h>
#include <string.h>

#include "driver_private.h"
#include "packed_driver.h"

void driver_packed_init(struct vring_driver *ring, const struct vring_driver_config *config)
{
	ring->packed_desc = config->desc;
	ring->driver_event = config->avail;
	ring->device_event = config->used;
	memset(ring->packed_desc, 0, vring_desc_bytes(ring->size));
	memset(ring->driver_event, 0, VRING_EVENT_BYTES);
	memset(ring->device_event, 0, VRING_EVENT_BYTES);
	ring->avail_position = ring->used_position = VRING_PACKED_START;
}

static uint16_t next_id(const struct vring_driver *ring, uint16_t id)
{
	return id + 1 < ring->size ? (uint16_t)(id + 1) : 0;
}

static void put(struct vring_driver *ring, const struct vring_extent *extent, uint16_t id, unsigned int flags)
{
	struct vring_packed_desc *desc = &ring->packed_desc[vring_packed_slot(ring->avail_position)];
	shared_word *words = packed_words(desc);
	uint64_t word = packed_word(extent->len, id, flags) | packed_avail_bits(ring->avail_position);

	__atomic_store_n(&words[0], extent->gpa, __ATOMIC_RELAXED);
	if (ring->n_unpublished++ == 0) {
		ring->held = desc;
		ring->held_word = word;
	} else {
		__atomic_store_n(&words[1], word, __ATOMIC_RELAXED);
	}
	ring->avail_position = vring_packed_advance(ring->avail_position, 1, ring->size);
}

/* In a table the order says what NEXT says in the ring, and ids are nothing (2.8.7). */
static void write_table(struct vring_driver *ring, uint16_t id, const struct vring_extent *extents,
	unsigned int n_readable, unsigned int n)
{
	struct vring_extent table = driver_table(ring, id, n);
	size_t first = (size_t)id * ring->indirect_max;

	for (unsigned int i = 0; i < n; i++)
		driver_store(&ring->indirect_area[first + i], extents[i].gpa,
			packed_word(extents[i].len, 0, i >= n_readable ? VRING_DESC_F_WRITE : 0));
	put(ring, &table, id, VRING_DESC_F_INDIRECT);
}

static void write_chain(struct vring_driver *ring, uint16_t id, const struct vring_extent *extents,
	unsigned int n_readable, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++)
		/* The id counts in the last descriptor (2.8.6); it is in all, so that nobody can read a wrong one. */
		put(ring, &extents[i], id,
			(i >= n_readable ? VRING_DESC_F_WRITE : 0) | (i + 1 < n ? VRING_DESC_F_NEXT : 0));
}

int driver_packed_post(struct vring_driver *ring, const struct vring_extent *extents,
	unsigned int n_readable, unsigned int n, uint32_t token)
{
	uint16_t id = ring->free_head;
	struct driver_slot *slot = &ring->slots[id];
	int ret = driver_measure(ring, slot, extents, n_readable, n);

	if (ret < 0)
		return ret;
	/* A free descriptor implies a free id: no buffer takes less than one descriptor. */
	slot->token = token;
	slot->number = ring->next_number++;
	if (driver_takes_table(ring, n))
		write_table(ring, id, extents, n_readable, n);
	else
		write_chain(ring, id, extents, n_readable, n);
	ring->free_head = ring->next[id];
	ring->n_free -= slot->n_descs;
	ring->n_posted++;
	return 0;
}

void driver_packed_publish(struct vring_driver *ring)
{
	if (ring->n_unpublished == 0)
		return;
	if (ring->n_unkicked <= UINT16_MAX)
		ring->n_unkicked += ring->n_unpublished;
	ring->n_unpublished = 0;
	ring->published_number = ring->next_number;
	/* Fence C: everything else before the word that shows it. */
	__atomic_store_n(&packed_words(ring->held)[1], ring->held_word, __ATOMIC_RELEASE);
}

bool driver_packed_needs_kick(struct vring_driver *ring)
{
	uint32_t n_unkicked = ring->n_unkicked;
	uint16_t end = ring->avail_position;

	if (n_unkicked == 0)
		return false;
	ring->n_unkicked = 0;
	if (ring->n_unpublished != 0)
		end = vring_packed_advance(end, ring->size - ring->n_unpublished, ring->size) ^
		      VRING_PACKED_START; /* that many back: a lap less one */
	return packed_wants_kick(ring->device_event, ring->event_idx, end, n_unkicked, ring->size);
}

/* Buffers posted that the device cannot see yet. */
static uint32_t n_hidden(const struct vring_driver *ring)
{
	return ring->next_number - ring->published_number;
}

static bool is_with_device(const struct vring_driver *ring, uint16_t id)
{
	return id < ring->size && ring->slots[id].n_descs != 0 &&
	       ring->slots[id].number - ring->published_number >= n_hidden(ring);
}

/* How many buffers a used descriptor with this id stands for (2.8.8): 0 for a lie. */
static unsigned int batch_length(struct vring_driver *ring, uint16_t id)
{
	unsigned int n;

	if (!is_with_device(ring, id))
		return 0;
	if (!ring->in_order) {
		ring->order_head = id;
		return 1;
	}
	n = id - ring->order_head + (id < ring->order_head ? ring->size : 0u) + 1;
	return n <= ring->n_posted - n_hidden(ring) ? n : 0;
}

static struct vring_completion complete(struct vring_driver *ring, uint16_t id, uint32_t len)
{
	struct driver_slot *slot = &ring->slots[id];

	if (ring->n_posted == ring->size)
		ring->free_head = id; /* the list was empty */
	ring->next[ring->free_tail] = id;
	ring->free_tail = id;
	ring->n_free += slot->n_descs;
	ring->n_posted--;
	/* The used descriptor lies where the buffer's first one did, and the next one behind all of its (2.8.6). */
	ring->used_position = vring_packed_advance(ring->used_position, slot->n_descs, ring->size);
	slot->n_descs = 0;
	return driver_completion(slot, len);
}

int driver_packed_collect(struct vring_driver *ring, struct vring_completion *done, unsigned int max)
{
	unsigned int n = 0;

	if (ring->is_broken)
		return -EPROTO;
	while (n < max) {
		uint16_t id = ring->order_head;
		uint32_t len = UINT32_MAX; /* passed over: used completely */

		if (ring->n_in_batch == 0) {
			struct packed_used used;

			if (!packed_load_used(&ring->packed_desc[vring_packed_slot(ring->used_position)],
				    packed_used_bits(ring->used_position), &used))
				break;
			ring->n_in_batch = batch_length(ring, used.id);
			ring->batch_len = used.len;
			if (ring->n_in_batch == 0) {
				ring->is_broken = true;
				break;
			}
			id = ring->order_head;
		}
		if (--ring->n_in_batch == 0)
			len = ring->batch_len;
		ring->order_head = next_id(ring, id);
		done[n++] = complete(ring, id, len);
	}
	/* What came before the lie is handed out; the next call reports it. */
	return n > 0 || !ring->is_broken ? (int)n : -EPROTO;
}

void driver_packed_set_call(struct vring_driver *ring, bool wanted)
{
	packed_set_call(ring->driver_event, wanted, ring->event_idx, ring->used_position);
}
