/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The driver side of a virtqueue (virtio 1.3, 2.7 split, 2.8 packed) for buffers that never change: each slot owns
 * one buffer, described once, and is offered again and again. In a split ring a buffer then costs an available
 * entry (not even rewritten when it is equal, so that its cache line stays shared) and a used
 * entry; in a packed ring, where the device overwrites descriptors, two stores from a private image. That
 * is what lets a load generator outrun the device. driver.h is for buffers that differ from post to post.
 *
 * A slot takes a chain of `n_chain` descriptors, or one descriptor that names a table of its own.
 * Split: the chain of a slot is [slot * n_chain, (slot + 1) * n_chain), and n_chain is a power of two: so chains
 * stay where they are even with IN_ORDER, which wants descriptors taken in table order (2.7.5.2), and the
 * slot of a used id is a shift away. Packed: chains follow each other from offer to offer, and a slot is its buffer's id.
 *
 * The device is not trusted: a used entry is believed if it names a slot that is outstanding,
 * lengths are clamped to what was writable, and nothing is read back from the descriptors. The
 * first lie breaks the ring for good.
 *
 * Thread rule: one thread.
 */
#ifndef VRING_FIXED_H
#define VRING_FIXED_H

#include <stdbool.h>
#include <stdint.h>

#include <vring/layout.h>

struct vring_fixed_config {
	uint16_t size;    /* 1..32768; split: a power of two */
	uint16_t n_chain; /* descriptors per buffer: power of two, 1..size, or without limit when
			     indirect */
	bool writable;    /* buffers are for the device to write */
	bool event_idx;
	bool in_order;
	bool indirect;
	bool packed;
	void *desc, *avail, *used; /* our addresses of the parts (layout.h), zeroed */
	struct vring_desc *tables; /* size * n_chain descriptors, with indirect */
	uint64_t tables_gpa;
};

struct vring_fixed_slot {
	uint32_t capacity; /* writable bytes */
	/* Not kept with in_order, where the counts say it. */
	uint16_t offered; /* packed: avail_idx when it was offered */
	bool outstanding;
};

enum vring_fixed_breakage {
	VRING_FIXED_INTACT,
	VRING_FIXED_BROKEN_USED_IDX, /* split: used index leads by more than what was offered */
	VRING_FIXED_BROKEN_USED_ID,  /* names nothing that is outstanding */
	VRING_FIXED_N_BREAKAGES,
};

struct vring_fixed {
	struct vring_desc *desc;
	struct vring_avail *avail;
	struct vring_used *used;
	struct vring_fixed_slot *slots;
	uint16_t mask; /* split */
	uint16_t n_slots;
	uint8_t chain_shift; /* slot -> head */
	uint8_t breakage;    /* enum vring_fixed_breakage */
	bool writable;
	bool event_idx;
	bool in_order;
	bool indirect;
	bool packed;
	/* Buffers, free-running; split: the indices of the ring. */
	uint16_t avail_idx;     /* next to fill */
	uint16_t published_idx; /* what the device can see */
	uint16_t kicked_idx;    /* published when the device's wish was last asked */
	uint16_t used_idx;      /* next to take */
	uint16_t n_chain;
	uint32_t n_collects;
	struct vring_desc *tables;
	uint64_t tables_gpa;
	/* Packed only. */
	struct vring_packed_desc *packed_desc;
	struct vring_packed_desc_event *driver_event;
	struct vring_packed_desc_event *device_event;
	struct vring_packed_desc *images; /* what is written for each slot: n_descs descriptors, AVAIL and USED clear */
	uint16_t size;
	uint16_t n_descs;        /* of the ring, for each buffer */
	uint16_t avail_position; /* next to write; slot and wrap counter, as all positions (layout.h) */
	uint16_t used_position;  /* next to take */
	uint16_t next_slot;      /* in_order: the oldest outstanding one */
	struct vring_packed_desc *held; /* first descriptor that publish makes available; NULL: none */
	uint64_t held_word;             /* its length, id and flags */
	uint32_t *ages;                 /* scratch for vring_fixed_resume() */
};

/* Slots come as n_slots = size / n_chain, or size with indirect. 0, -EINVAL or -ENOMEM. */
int vring_fixed_init(struct vring_fixed *ring, const struct vring_fixed_config *config);
void vring_fixed_fini(struct vring_fixed *ring);

/* Describes the buffer of `slot`: `len` (>= n_chain) bytes from `gpa` on, cut into n_chain even
 * pieces. */
void vring_fixed_describe(struct vring_fixed *ring, unsigned int slot, uint64_t gpa, uint32_t len);

/* For vring_fixed_offer() and vring_fixed_publish(). */
void vring_fixed_packed_offer(struct vring_fixed *ring, const uint16_t *slots, unsigned int n);
void vring_fixed_packed_publish(struct vring_fixed *ring);

/* Offers `n` slots, none of them outstanding, in this order; with in_order, slots have to come round in
 * their own order, from 0 on. */
static inline void vring_fixed_offer(struct vring_fixed *ring, const uint16_t *slots, unsigned int n)
{
	if (ring->packed) {
		vring_fixed_packed_offer(ring, slots, n);
		return;
	}
	/* In order each entry names the same slot every lap, and has done so since init. */
	for (unsigned int i = 0; !ring->in_order && i < n; i++) {
		uint16_t head = (uint16_t)(slots[i] << ring->chain_shift);
		uint16_t *entry = &ring->avail->ring[(uint16_t)(ring->avail_idx + i) & ring->mask];

		ring->slots[slots[i]].outstanding = true;
		if (*entry != head)
			*entry = head;
	}
	ring->avail_idx = (uint16_t)(ring->avail_idx + n);
}

/* Makes what was offered visible: release store of the available index (2.7.13.3.1), or of the first descriptor's
 * flags (2.8.21.1.1). */
static inline void vring_fixed_publish(struct vring_fixed *ring)
{
	if (ring->packed)
		vring_fixed_packed_publish(ring);
	else
		__atomic_store_n(&ring->avail->idx, ring->avail_idx, __ATOMIC_RELEASE);
	ring->published_idx = ring->avail_idx;
}

/* Whether the device wants a kick for what was published since this was last asked (2.7.10.1,
 * 2.8.21.3.1). */
bool vring_fixed_needs_kick(struct vring_fixed *ring);

/* Asks for calls or spares them (2.7.7.1, 2.8.10). After asking, collect once more before sleeping: the
 * fence is in here. */
void vring_fixed_set_call(struct vring_fixed *ring, bool wanted);

/*
 * Takes up to `max` used buffers in used order: their slots, and from a writable ring the bytes the device wrote into each,
 * clamped to the slot's capacity (`lens` may be NULL for a readable one). Returns how many, or -EPROTO for a broken ring.
 * With in_order one used entry may stand for several buffers (2.7.9, 2.8.8); those before the last count
 * as filled completely. More than `max` may be returned then, so both arrays have room for n_slots.
 */
int vring_fixed_collect(struct vring_fixed *ring, uint16_t *slots, uint32_t *lens, unsigned int max);

/* Buffers that the device has used and vring_fixed_collect() has not taken; in a packed ring counted one by one. */
uint16_t vring_fixed_pending(const struct vring_fixed *ring);

/* Buffers that were offered and not collected. */
static inline uint16_t vring_fixed_outstanding(const struct vring_fixed *ring)
{
	return (uint16_t)(ring->avail_idx - ring->used_idx);
}

/*
 * For a ring that no device serves, a new one or one whose device has gone, and in which everything offered was
 * published. What was offered and not used is available to the next device, in the order it was offered. Returns what
 * SET_VRING_BASE tells that device: the next available index (split), or the next available and used positions
 * (packed; bits 0-15 and 16-31, vhost-user "Ring states").
 *
 * A split ring is left as it is. In a packed ring a device overwrites descriptors in the order in which it is done with
 * buffers, and one that dies may have written used descriptors that it never made visible: the descriptors from the first
 * one that is not visibly used are written anew.
 */
uint32_t vring_fixed_resume(struct vring_fixed *ring);

const char *vring_fixed_breakage_name(enum vring_fixed_breakage breakage);

#endif
