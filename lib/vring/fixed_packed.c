/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Buffers that never change in a packed ring (virtio 2.8). What driver_packed.c says about holding back the first
 * descriptor of a publication holds here too; the fences are those of device_split.c.
 *
 * A buffer's id is its slot, and with IN_ORDER slots come back as they come round, so that the next one is known before
 * its used descriptor is read.
 */
#include "fixed_packed.h"

#include <errno.h>
#include <stdlib.h>

#include "packed_driver.h"

int fixed_packed_init(struct vring_fixed *ring, const struct vring_fixed_config *config)
{
	ring->packed_desc = config->desc;
	ring->driver_event = config->avail;
	ring->device_event = config->used;
	ring->size = config->size;
	ring->n_descs = config->indirect ? 1 : config->n_chain;
	ring->avail_position = ring->used_position = VRING_PACKED_START;
	ring->images = calloc((size_t)ring->n_slots * ring->n_descs, sizeof(*ring->images));
	ring->ages = calloc(ring->n_slots, sizeof(*ring->ages));
	return ring->images == NULL || ring->ages == NULL ? -ENOMEM : 0;
}

void fixed_packed_describe(struct vring_fixed *ring, unsigned int slot, uint64_t gpa, uint32_t len)
{
	struct vring_packed_desc *image = &ring->images[slot * ring->n_descs];
	struct vring_packed_desc *pieces =
		ring->indirect ? (struct vring_packed_desc *)&ring->tables[slot * ring->n_chain] : image;
	uint32_t piece = len / ring->n_chain;

	for (uint32_t i = 0; i < ring->n_chain; i++) {
		bool last = i + 1 == ring->n_chain;

		pieces[i] = (struct vring_packed_desc){
			.addr = gpa + (uint64_t)i * piece,
			.len = last ? len - i * piece : piece,
			.id = (uint16_t)slot,
			/* In a table the order is what NEXT says in the ring (2.8.7). */
			.flags = (uint16_t)((last || ring->indirect ? 0 : VRING_DESC_F_NEXT) |
					    (ring->writable ? VRING_DESC_F_WRITE : 0)),
		};
	}
	if (ring->indirect)
		*image = (struct vring_packed_desc){
			.addr = ring->tables_gpa + (uint64_t)slot * ring->n_chain * sizeof(*pieces),
			.len = (uint32_t)(ring->n_chain * sizeof(*pieces)),
			.id = (uint16_t)slot,
			.flags = VRING_DESC_F_INDIRECT,
		};
}

/* Where the next descriptor goes. A private copy: for all the compiler knows, a descriptor may be the ring's state. */
struct writer {
	struct vring_packed_desc *ring;
	struct vring_packed_desc *images;
	uint32_t size;
	uint32_t at;
	uint64_t avail_bits;
};

static struct writer writer_at(const struct vring_fixed *ring, uint16_t position)
{
	return (struct writer){
		.ring = ring->packed_desc,
		.images = ring->images,
		.size = ring->size,
		.at = vring_packed_slot(position),
		.avail_bits = packed_avail_bits(position),
	};
}

static uint16_t writer_position(const struct writer *writer)
{
	return (uint16_t)(writer->at |
			  (writer->avail_bits & PACKED_WORD_FLAG(PACKED_AVAIL) ? VRING_PACKED_START : 0));
}

/* Writes an image but for its second word, which is returned; *desc is where that goes. */
static inline uint64_t write_first(struct writer *writer, size_t image, struct vring_packed_desc **desc)
{
	shared_word *words = packed_words(&writer->images[image]);
	uint64_t word = words[1] | writer->avail_bits;

	*desc = &writer->ring[writer->at];
	__atomic_store_n(&packed_words(*desc)[0], words[0], __ATOMIC_RELAXED);
	if (++writer->at == writer->size) {
		writer->at = 0;
		writer->avail_bits ^= PACKED_WORD_AVAIL_FLIP;
	}
	return word;
}

static inline void write_one(struct writer *writer, size_t image)
{
	struct vring_packed_desc *desc;
	uint64_t word = write_first(writer, image, &desc);

	__atomic_store_n(&packed_words(desc)[1], word, __ATOMIC_RELAXED);
}

static inline void write_chain(struct writer *writer, size_t image, unsigned int n_descs)
{
	for (unsigned int i = 0; i < n_descs; i++)
		write_one(writer, image + i);
}

static inline __attribute__((always_inline)) void offer(
	struct vring_fixed *ring, const uint16_t *slots, unsigned int n, unsigned int n_descs)
{
	struct writer writer = writer_at(ring, ring->avail_position);
	unsigned int i = 0;

	if (ring->held == NULL) {
		size_t image = (size_t)slots[0] * n_descs;

		ring->held_word = write_first(&writer, image, &ring->held);
		write_chain(&writer, image + 1, n_descs - 1);
		i = 1;
	}
	for (; i < n; i++)
		write_chain(&writer, (size_t)slots[i] * n_descs, n_descs);
	ring->avail_position = writer_position(&writer);
}

void vring_fixed_packed_offer(struct vring_fixed *ring, const uint16_t *slots, unsigned int n)
{
	if (n == 0)
		return;
	/* In order the counts say which ones are outstanding, and since when. */
	for (unsigned int i = 0; !ring->in_order && i < n; i++) {
		ring->slots[slots[i]].outstanding = true;
		ring->slots[slots[i]].offered = (uint16_t)(ring->avail_idx + i);
	}
	ring->avail_idx = (uint16_t)(ring->avail_idx + n);
	if (ring->n_descs == 1)
		offer(ring, slots, n, 1);
	else
		offer(ring, slots, n, ring->n_descs);
}

void vring_fixed_packed_publish(struct vring_fixed *ring)
{
	if (ring->held == NULL)
		return;
	/* Fence C: everything else before the word that shows it. */
	__atomic_store_n(&packed_words(ring->held)[1], ring->held_word, __ATOMIC_RELEASE);
	ring->held = NULL;
}

bool fixed_packed_needs_kick(const struct vring_fixed *ring, uint16_t n_published)
{
	return packed_wants_kick(ring->device_event, ring->event_idx, ring->avail_position,
		(uint32_t)n_published * ring->n_descs, ring->size);
}

void fixed_packed_set_call(struct vring_fixed *ring, bool wanted)
{
	packed_set_call(ring->driver_event, wanted, ring->event_idx, ring->used_position);
}

static inline uint32_t slot_after(const struct vring_fixed *ring, uint32_t slot)
{
	return slot + 1 < ring->n_slots ? slot + 1 : 0;
}

/*
 * How many buffers, of the `limit` > 0 that the device can see, a used descriptor with this id stands for when
 * `next_slot` is the oldest of them: 0 for a lie. With IN_ORDER all from that one to the one named (2.8.8).
 */
static inline unsigned int batch_length(
	const struct vring_fixed *ring, uint32_t id, uint32_t next_slot, unsigned int limit)
{
	unsigned int n = id - next_slot + (id < next_slot ? ring->n_slots : 0u) + 1;

	if (id >= ring->n_slots)
		return 0;
	if (!ring->in_order)
		return ring->slots[id].outstanding;
	return n <= limit ? n : 0;
}

static uint16_t n_with_device(const struct vring_fixed *ring)
{
	return (uint16_t)(ring->published_idx - ring->used_idx);
}

/* What is passed over by a used descriptor: used completely. */
static unsigned int collect_passed_over(
	const struct vring_fixed *ring, uint16_t *slots, uint32_t *lens, uint32_t slot, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++, slot = slot_after(ring, slot)) {
		slots[i] = (uint16_t)slot;
		if (ring->writable)
			lens[i] = ring->slots[slot].capacity;
	}
	return n;
}

static inline __attribute__((always_inline)) int collect(
	struct vring_fixed *ring, uint16_t *slots, uint32_t *lens, unsigned int max, bool writable, bool in_order)
{
	uint32_t next_slot = ring->next_slot, n_slots = ring->n_slots, n_descs = ring->n_descs;
	uint32_t at = vring_packed_slot(ring->used_position), size = ring->size;
	uint16_t used_bits = packed_used_bits(ring->used_position);
	struct vring_packed_desc *descs = ring->packed_desc;
	struct vring_fixed_slot *own = ring->slots;
	unsigned int limit = n_with_device(ring), n = 0;
	struct packed_used used;

	if (limit == 0)
		return packed_load_used(&descs[at], used_bits, &used) ? -EPROTO : 0;
	if (max > limit)
		max = limit;
	while (n < max && packed_load_used(&descs[at], used_bits, &used)) {
		uint32_t passed = n_descs;

		if (in_order && __builtin_expect(used.id != next_slot, 0)) {
			unsigned int n_batch = batch_length(ring, used.id, next_slot, limit - n);

			if (n_batch == 0)
				return -EPROTO;
			n += collect_passed_over(
				ring, slots + n, writable ? lens + n : NULL, next_slot, n_batch - 1);
			passed = n_batch * n_descs;
			next_slot = used.id;
		}
		if (!in_order) {
			if (batch_length(ring, used.id, 0, 1) == 0)
				return -EPROTO;
			own[used.id].outstanding = false;
		}
		slots[n] = used.id;
		if (writable)
			lens[n] = fixed_clamp(&own[used.id], used.len);
		n++;
		next_slot = next_slot + 1 < n_slots ? next_slot + 1 : 0;
		at += passed;
		if (at >= size) {
			at -= size;
			used_bits ^= PACKED_AVAIL | PACKED_USED;
		}
	}
	ring->used_position = (uint16_t)(at | (used_bits != 0 ? VRING_PACKED_START : 0));
	ring->next_slot = (uint16_t)next_slot;
	ring->used_idx = (uint16_t)(ring->used_idx + n);
	return (int)n;
}

int fixed_packed_collect(struct vring_fixed *ring, uint16_t *slots, uint32_t *lens, unsigned int max)
{
	if (!ring->in_order)
		return collect(ring, slots, lens, max, ring->writable, false);
	return ring->writable ? collect(ring, slots, lens, max, true, true)
			      : collect(ring, slots, lens, max, false, true);
}

/*
 * Goes over what was used and not collected, up to a lie. Returns how many buffers that are; *position is behind them.
 * With `ages` these slots are marked there by 1.
 */
static uint16_t walk_pending(const struct vring_fixed *ring, uint16_t *position, uint32_t *ages)
{
	unsigned int limit = n_with_device(ring), n = 0;
	uint32_t slot = ring->next_slot;
	struct packed_used used;

	*position = ring->used_position;
	while (n < limit && packed_load_used(&ring->packed_desc[vring_packed_slot(*position)],
				    packed_used_bits(*position), &used)) {
		unsigned int n_batch = batch_length(ring, used.id, slot, limit - n);

		if (!ring->in_order)
			slot = used.id;
		if (n_batch == 0 || (ages != NULL && ages[slot] != 0))
			break; /* used twice is a lie as well */
		for (unsigned int i = 0; i < n_batch; i++, slot = slot_after(ring, slot))
			if (ages != NULL)
				ages[slot] = 1;
		n += n_batch;
		*position = vring_packed_advance(*position, n_batch * ring->n_descs, ring->size);
	}
	return (uint16_t)n;
}

uint16_t fixed_packed_pending(const struct vring_fixed *ring)
{
	uint16_t position;

	return walk_pending(ring, &position, NULL);
}

static int compare_ages(const void *one, const void *other)
{
	uint32_t a = *(const uint32_t *)one, b = *(const uint32_t *)other;

	return a < b ? 1 : a > b ? -1 : 0;
}

/* Those that stay with the device, oldest first: ages in the upper halves, slots in the lower ones. Returns how many. */
static unsigned int gather_outstanding(struct vring_fixed *ring, uint16_t n_pending)
{
	uint32_t slot = (ring->next_slot + n_pending) % ring->n_slots;
	unsigned int n = 0;

	if (ring->in_order) {
		for (; n < n_with_device(ring) - (unsigned int)n_pending; slot = slot_after(ring, slot))
			ring->ages[n++] = slot;
		return n;
	}
	/* Entries are overwritten from the beginning, never before they have been looked at. */
	for (slot = 0; slot < ring->n_slots; slot++) {
		uint16_t age = (uint16_t)(ring->avail_idx - ring->slots[slot].offered);

		if (ring->slots[slot].outstanding && ring->ages[slot] == 0)
			ring->ages[n++] = (uint32_t)age << 16 | slot;
	}
	qsort(ring->ages, n, sizeof(*ring->ages), compare_ages);
	return n;
}

uint32_t fixed_packed_resume(struct vring_fixed *ring)
{
	struct writer writer;
	uint16_t position;
	unsigned int n;

	for (unsigned int slot = 0; slot < ring->n_slots; slot++)
		ring->ages[slot] = 0;
	n = gather_outstanding(ring, walk_pending(ring, &position, ring->ages));
	/* Behind the used ones they take what is left up to our own position: every buffer takes as many descriptors. */
	writer = writer_at(ring, position);
	for (unsigned int i = 0; i < n; i++)
		write_chain(&writer, (ring->ages[i] & 0xffff) * (size_t)ring->n_descs, ring->n_descs);
	return position | (uint32_t)position << 16;
}
