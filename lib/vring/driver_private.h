/* SPDX-License-Identifier: BSD-3-Clause */
/* What both layouts of the driver side share: driver.c has the verbs and the split ring, driver_packed.c the packed one. */
#ifndef VRING_DRIVER_PRIVATE_H
#define VRING_DRIVER_PRIVATE_H

#include <vring/driver.h>

#include "shared.h"

/* A buffer, found by what the device calls it: the index of its head (split) or its id (packed). */
struct driver_slot {
	uint32_t token;
	uint32_t writable; /* bytes */
	uint16_t n_descs;  /* of the ring; 0: nothing outstanding */
	uint16_t tail;     /* split: last descriptor of the chain */
	uint32_t number;   /* packed: which post it was */
};

struct vring_driver {
	struct vring_desc *desc;
	struct vring_avail *avail;
	struct vring_used *used;
	/* The same three parts of a packed ring. */
	struct vring_packed_desc *packed_desc;
	struct vring_packed_desc_event *driver_event;
	struct vring_packed_desc_event *device_event;
	uint16_t size;
	uint16_t mask;         /* split */
	uint16_t indirect_max; /* 0: not negotiated */
	bool packed;
	bool event_idx;
	bool in_order;
	bool is_broken;
	uint16_t avail_idx;     /* split: next to be posted */
	uint16_t published_idx; /* split: what the device can see */
	uint16_t last_used_idx; /* split: next to be collected */
	uint16_t free_head;     /* in order: next slot */
	uint16_t free_tail;
	uint16_t order_head;    /* in order: oldest outstanding buffer */
	uint32_t n_free;        /* descriptors */
	uint32_t n_in_batch;    /* buffers the used entry taken last stands for, still to be handed out */
	uint32_t batch_len;     /* used length of the last one of them */
	uint32_t n_posted;      /* buffers posted and not collected */
	/* Published since needs_kick was asked: buffers (split), descriptors (packed). Stops counting beyond 65535. */
	uint32_t n_unkicked;
	/* Packed: slot and wrap counter. */
	uint16_t avail_position; /* next to write */
	uint16_t used_position;  /* next to collect */
	uint16_t n_unpublished;  /* descriptors */
	uint32_t next_number;      /* of a buffer, free-running */
	uint32_t published_number; /* the first one that the device cannot see */
	struct vring_packed_desc *held; /* the first of them ... */
	uint64_t held_word;             /* ... whose second word is written by publish */
	struct vring_desc *indirect_area;
	uint64_t indirect_gpa;
	struct driver_slot *slots;
	uint16_t *next;    /* free list, chains; private: what lies in the ring may have been scribbled over */
	uint16_t *entries; /* split: what we wrote into the available ring */
};

/* Both words of a descriptor of either layout. */
static inline void driver_store(void *desc, uint64_t addr, uint64_t word)
{
	shared_word *words = desc;

	__atomic_store_n(&words[0], addr, __ATOMIC_RELAXED);
	__atomic_store_n(&words[1], word, __ATOMIC_RELAXED);
}

static inline bool driver_takes_table(const struct vring_driver *ring, unsigned int n)
{
	return ring->indirect_max > 0 && n > 1;
}

/* Extents in a table of their own for the buffer called `name`. */
static inline struct vring_extent driver_table(const struct vring_driver *ring, uint16_t name, unsigned int n)
{
	return (struct vring_extent){
		.gpa = ring->indirect_gpa + (uint64_t)name * ring->indirect_max * sizeof(struct vring_desc),
		.len = n * (uint32_t)sizeof(struct vring_desc),
	};
}

/*
 * Whether the extents can be one buffer now: -EINVAL, -ENOSPC, or 0 with the slot's bytes and descriptors filled in. A
 * chain may not be longer than the ring, tables counted (2.7.5.3.1, 2.8.17).
 */
int driver_measure(const struct vring_driver *ring, struct driver_slot *slot,
	const struct vring_extent *extents, unsigned int n_readable, unsigned int n);

static inline struct vring_completion driver_completion(const struct driver_slot *slot, uint32_t len)
{
	return (struct vring_completion){
		.token = slot->token,
		.len = len < slot->writable ? len : slot->writable,
	};
}

/* The verbs of driver.h for a packed ring. */
void driver_packed_init(struct vring_driver *ring, const struct vring_driver_config *config);
int driver_packed_post(struct vring_driver *ring, const struct vring_extent *extents,
	unsigned int n_readable, unsigned int n, uint32_t token);
void driver_packed_publish(struct vring_driver *ring);
bool driver_packed_needs_kick(struct vring_driver *ring);
int driver_packed_collect(struct vring_driver *ring, struct vring_completion *done, unsigned int max);
void driver_packed_set_call(struct vring_driver *ring, bool wanted);

#endif
