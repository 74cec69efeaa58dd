/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A packed ring between killing pages, and a device for it that does what virtio 1.3, 2.8 says in the plainest way: one
 * descriptor at a time, positions counted without end. For tests of the driver side.
 */
#ifndef TESTS_UNIT_VRING_PACKED_MODEL_H
#define TESTS_UNIT_VRING_PACKED_MODEL_H

#include "guest.h"

#define AVAIL_BIT (1u << VRING_PACKED_DESC_F_AVAIL)
#define USED_BIT  (1u << VRING_PACKED_DESC_F_USED)

struct model {
	struct guarded parts[3];
	struct vring_packed_desc *desc;
	struct vring_packed_desc_event *driver_event;
	struct vring_packed_desc_event *device_event;
	uint32_t size;
	uint64_t avail; /* descriptors ever taken */
	uint64_t used;  /* descriptors ever passed by used buffers */
};

/* A buffer as the device finds it. */
struct model_buffer {
	uint16_t id;
	unsigned int n_descs; /* 0: nothing available */
	struct vring_packed_desc descs[64];
};

static inline void model_create(struct model *model, uint32_t size)
{
	*model = (struct model){.size = size};
	model->parts[0] = guarded_alloc(vring_desc_bytes(size), VRING_DESC_ALIGN);
	model->parts[1] = guarded_alloc(VRING_EVENT_BYTES, VRING_EVENT_ALIGN);
	model->parts[2] = guarded_alloc(VRING_EVENT_BYTES, VRING_EVENT_ALIGN);
	model->desc = model->parts[0].data;
	model->driver_event = model->parts[1].data;
	model->device_event = model->parts[2].data;
}

static inline void model_destroy(struct model *model)
{
	for (unsigned int i = 0; i < 3; i++)
		guarded_free(&model->parts[i]);
}

/* Wrap counter at the n-th descriptor from the beginning. */
static inline bool model_wrap(const struct model *model, uint64_t n)
{
	return n / model->size % 2 == 0;
}

/* As a base and an event offset have it. */
static inline uint16_t model_position(const struct model *model, uint64_t n)
{
	return (uint16_t)(n % model->size | (unsigned int)model_wrap(model, n) << 15);
}

static inline bool model_is_available(const struct model *model, uint64_t n)
{
	uint16_t flags = __atomic_load_n(&model->desc[n % model->size].flags, __ATOMIC_ACQUIRE);

	return !!(flags & AVAIL_BIT) == model_wrap(model, n) && !!(flags & USED_BIT) != model_wrap(model, n);
}

/* Takes the next buffer; a chain must be available as a whole and have its id in its last descriptor. */
static inline struct model_buffer model_take(struct model *model)
{
	struct model_buffer buffer = {0};

	if (!model_is_available(model, model->avail))
		return buffer;
	do {
		assert_true(model_is_available(model, model->avail));
		assert_in_range(buffer.n_descs, 0, 63);
		buffer.descs[buffer.n_descs++] = model->desc[model->avail++ % model->size];
	} while (buffer.descs[buffer.n_descs - 1].flags & VRING_DESC_F_NEXT);
	buffer.id = buffer.descs[buffer.n_descs - 1].id;
	return buffer;
}

static inline uint16_t model_used_flags(const struct model *model, uint64_t n)
{
	return model_wrap(model, n) ? AVAIL_BIT | USED_BIT : 0;
}

/* Writes the used descriptor where the next one belongs, and skips what the buffers took. */
static inline void model_use(struct model *model, uint16_t id, uint32_t len, unsigned int n_descs)
{
	struct vring_packed_desc *desc = &model->desc[model->used % model->size];

	desc->id = id;
	desc->len = len;
	__atomic_store_n(&desc->flags,
		(uint16_t)(model_used_flags(model, model->used) | (len != 0 ? VRING_DESC_F_WRITE : 0)),
		__ATOMIC_RELEASE);
	model->used += n_descs;
}

/* Whether the device's event structure asks for a kick when descriptors [old, new) became available (2.8.14, 2.8.21). */
static inline bool model_wants_kick(const struct model *model, bool event_idx, uint64_t old, uint64_t new)
{
	uint16_t flags = model->device_event->flags & 3;

	if (flags == VRING_PACKED_EVENT_FLAG_DISABLE)
		return false;
	if (flags != VRING_PACKED_EVENT_FLAG_DESC || !event_idx)
		return true;
	for (; old < new; old++)
		if (model_position(model, old) == model->device_event->off_wrap)
			return true;
	return false;
}

#endif
