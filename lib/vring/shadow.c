/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Theory of operation. Each buffer that is out has an entry in `order`, in the order in which it was taken from the
 * guest. Entries leave at the front, when they are done; at the back, when the device has stopped, and then the
 * guest's ring is taken back to where it was before them. A packed ring allows that as well as a split one: used
 * descriptors are written from the front on, over as many slots as the buffers that they stand for had, so the slots
 * of those at the back are as the driver left them.
 */
#include <errno.h>
#include <stdlib.h>

#include <vring/shadow.h>

#include "device_packed.h"
#include "device_split.h"
#include "packed_desc.h"
#include "shared.h"

/* A piece of a buffer, for the dirty log: what the device has of it is in memory that it can write. */
struct extent {
	uint64_t gpa;
	uint32_t len;
	uint32_t next; /* of the buffer, or free; NONE: the last */
};

#define NONE UINT32_MAX

struct entry {
	uint16_t id;
	uint16_t n_descs;
	uint32_t extents; /* first, NONE: none is kept, nothing is written */
	uint32_t len;     /* written, once it is done */
	bool is_done;
	bool is_used; /* the guest has it back */
};

struct vring_shadow {
	struct vring_device *guest;
	struct vring_driver *driver;
	enum vring_direction direction;
	uint16_t mask;
	/* Free-running: entries [first, end) are out. */
	uint32_t first, end;
	uint32_t free_extents;
	struct entry *order;     /* [mask + 1] */
	struct extent *extents;  /* [mask + 1]: the device's ring has no more descriptors */
	struct vring_burst burst;
};

struct vring_shadow *vring_shadow_create(const struct vring_shadow_config *config)
{
	const struct vring_driver_config driver = {
		.size = config->size,
		.event_idx = config->event_idx,
		.in_order = config->in_order,
		.desc = config->desc,
		.avail = config->avail,
		.used = config->used,
	};
	struct vring_shadow *shadow = calloc(1, sizeof(*shadow));

	if (shadow == NULL)
		return NULL;
	shadow->driver = vring_driver_create(&driver);
	shadow->order = calloc(config->size, sizeof(*shadow->order));
	shadow->extents = calloc(config->size, sizeof(*shadow->extents));
	if (shadow->driver == NULL || shadow->order == NULL || shadow->extents == NULL) {
		int error = shadow->driver == NULL ? errno : ENOMEM;

		vring_shadow_destroy(shadow);
		errno = error;
		return NULL;
	}
	shadow->guest = config->guest;
	shadow->direction = config->direction;
	shadow->mask = config->size - 1;
	for (uint32_t i = 0; i < config->size; i++)
		shadow->extents[i].next = i + 1 < config->size ? i + 1 : NONE;
	return shadow;
}

void vring_shadow_destroy(struct vring_shadow *shadow)
{
	if (shadow == NULL)
		return;
	vring_driver_destroy(shadow->driver);
	free(shadow->order);
	free(shadow->extents);
	free(shadow);
}

static struct entry *entry_at(struct vring_shadow *shadow, uint32_t place)
{
	return &shadow->order[place & shadow->mask];
}

/* The buffer is no longer available, and not used yet. */
static void guest_take(struct vring_device *guest, const struct vring_buffer *buffer)
{
	guest->last_avail_idx =
		guest->packed ? vring_packed_advance(guest->last_avail_idx, buffer->n_descs, guest->size)
			      : (uint16_t)(guest->last_avail_idx + 1);
}

/* The last one that was taken is available again. */
static void guest_untake(struct vring_device *guest, const struct entry *entry)
{
	/* A lap back is a lap ahead with the other wrap counter. */
	guest->last_avail_idx =
		guest->packed ? vring_packed_advance(guest->last_avail_idx, guest->size - entry->n_descs,
					guest->size) ^ VRING_PACKED_START
			      : (uint16_t)(guest->last_avail_idx - 1);
}

static void guest_use(struct vring_shadow *shadow, struct entry *entry)
{
	struct vring_device *guest = shadow->guest;

	entry->is_used = true;
	if (guest->packed) {
		packed_desc_use(guest, guest->used_idx, entry->id, entry->len,
			shadow->direction == VRING_WRITABLE);
		guest->used_idx = vring_packed_advance(guest->used_idx, entry->n_descs, guest->size);
		return;
	}
	device_split_use(guest, entry->id, entry->len);
}

/*
 * Keeps the pieces of a buffer that the device will write to. There are enough: each has a descriptor of the device's
 * ring.
 */
static uint32_t extents_keep(struct vring_shadow *shadow, const struct vring_extent *list, unsigned int n)
{
	uint32_t first = NONE;

	for (unsigned int i = n; i-- > 0;) {
		uint32_t at = shadow->free_extents;
		struct extent *extent = &shadow->extents[at];

		shadow->free_extents = extent->next;
		*extent = (struct extent){ .gpa = list[i].gpa, .len = list[i].len, .next = first };
		first = at;
	}
	return first;
}

static void extents_free(struct vring_shadow *shadow, struct entry *entry)
{
	while (entry->extents != NONE) {
		uint32_t at = entry->extents;

		entry->extents = shadow->extents[at].next;
		shadow->extents[at].next = shadow->free_extents;
		shadow->free_extents = at;
	}
}

/* Returns to the guest what is done and may be returned now. */
static unsigned int use_done(struct vring_shadow *shadow)
{
	unsigned int n = 0;

	while (shadow->first != shadow->end && entry_at(shadow, shadow->first)->is_done) {
		struct entry *entry = entry_at(shadow, shadow->first++);

		if (!entry->is_used) {
			guest_use(shadow, entry);
			n++;
		}
	}
	return n;
}

/* Forwards one buffer. False: the device's ring has no room for it now. */
static bool forward_one(struct vring_shadow *shadow, const struct vring_buffer *buffer)
{
	bool is_written = shadow->direction == VRING_WRITABLE;
	struct vring_extent list[VRING_CHAIN_MAX];
	struct entry *entry = entry_at(shadow, shadow->end);
	uint8_t fault = buffer->fault;

	if (shadow->end - shadow->first > shadow->mask)
		return false;
	/* Longer than the whole ring: it would wait for ever. */
	if (fault == VRING_OK && buffer->n_pieces > shadow->mask + 1u)
		fault = VRING_FAULT_CHAIN;
	for (unsigned int i = 0; fault == VRING_OK && i < buffer->n_pieces; i++) {
		list[i].len = buffer->pieces[i].len;
		list[i].gpa = gmem_untranslate(
			shadow->guest->mem, &shadow->guest->cache, buffer->pieces[i].hva);
	}
	if (fault == VRING_OK &&
		vring_driver_post(shadow->driver, list, is_written ? 0 : buffer->n_pieces,
			is_written ? buffer->n_pieces : 0, shadow->end & shadow->mask) != 0)
		return false;
	*entry = (struct entry){
		.id = buffer->id,
		.n_descs = buffer->n_descs,
		.extents = NONE,
		.is_done = fault != VRING_OK,
	};
	if (fault != VRING_OK)
		shadow->guest->n_faults[fault]++;
	else if (is_written)
		entry->extents = extents_keep(shadow, list, buffer->n_pieces);
	guest_take(shadow->guest, buffer);
	shadow->end++;
	return true;
}

int vring_shadow_forward(struct vring_shadow *shadow, unsigned int max)
{
	int n = vring_device_peek(shadow->guest, &shadow->burst, shadow->direction,
		max < VRING_BURST_MAX ? max : VRING_BURST_MAX);
	int n_forwarded = 0;

	if (n < 0)
		return n;
	while (n_forwarded < n && forward_one(shadow, &shadow->burst.buffers[n_forwarded]))
		n_forwarded++;
	if (n_forwarded > 0)
		vring_driver_publish(shadow->driver);
	return n_forwarded;
}

bool vring_shadow_needs_kick(struct vring_shadow *shadow)
{
	return vring_driver_needs_kick(shadow->driver);
}

/* Notes the pages of a buffer that the device has written. */
static void note_written(struct vring_shadow *shadow, const struct vring_dirty *dirty, const struct entry *entry)
{
	uint32_t left = entry->len;

	for (uint32_t at = entry->extents; at != NONE && left > 0; at = shadow->extents[at].next) {
		const struct extent *extent = &shadow->extents[at];
		uint32_t len = extent->len < left ? extent->len : left;

		gmem_log_mark(dirty->log, extent->gpa, len);
		left -= len;
	}
}

/* Publishes what was used from `from` on, and notes it. */
static void publish(struct vring_shadow *shadow, const struct vring_dirty *dirty, uint16_t from)
{
	if (shadow->guest->used_idx == from)
		return;
	vring_device_publish(shadow->guest);
	if (dirty != NULL)
		vring_dirty_used(dirty, shadow->guest, from);
}

#define COLLECT_MAX 64

int vring_shadow_return(struct vring_shadow *shadow, const struct vring_dirty *dirty, unsigned int max)
{
	struct vring_completion done[COLLECT_MAX];
	uint16_t from = shadow->guest->used_idx;
	/* Those that were refused are done already. */
	unsigned int n_used = use_done(shadow);
	int n = vring_driver_collect(shadow->driver, done, max < COLLECT_MAX ? max : COLLECT_MAX);

	if (n > 0 && dirty != NULL)
		vring_fence(); /* L: between what the device wrote, which a used entry says is done, and the bits */
	for (int i = 0; i < n; i++) {
		struct entry *entry = &shadow->order[done[i].token];

		entry->is_done = true;
		entry->len = done[i].len;
		if (dirty != NULL)
			note_written(shadow, dirty, entry);
		extents_free(shadow, entry);
		if (!shadow->guest->in_order) {
			guest_use(shadow, entry);
			n_used++;
		}
	}
	n_used += use_done(shadow);
	publish(shadow, dirty, from);
	return n < 0 ? n : (int)n_used;
}

void vring_shadow_set_call(struct vring_shadow *shadow, bool wanted)
{
	vring_driver_set_call(shadow->driver, wanted);
}

unsigned int vring_shadow_outstanding(const struct vring_shadow *shadow)
{
	unsigned int n = 0;

	for (uint32_t place = shadow->first; place != shadow->end; place++)
		n += !shadow->order[place & shadow->mask].is_used;
	return n;
}

unsigned int vring_shadow_stop(struct vring_shadow *shadow, const struct vring_dirty *dirty)
{
	unsigned int n_given_back = 0;
	uint16_t from;

	while (vring_shadow_return(shadow, dirty, COLLECT_MAX) > 0)
		;
	while (shadow->end != shadow->first && !entry_at(shadow, shadow->end - 1)->is_done) {
		struct entry *entry = entry_at(shadow, --shadow->end);

		guest_untake(shadow->guest, entry);
		extents_free(shadow, entry);
		n_given_back++;
	}
	from = shadow->guest->used_idx;
	for (uint32_t place = shadow->first; place != shadow->end; place++) {
		struct entry *entry = entry_at(shadow, place);

		entry->is_done = true;
		extents_free(shadow, entry);
	}
	use_done(shadow);
	publish(shadow, dirty, from);
	return n_given_back;
}
