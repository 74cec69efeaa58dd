/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The driver side of a split ring (virtio 1.3, 2.7) for buffers that never change: each slot owns
 * one buffer, described once, and is offered again and again. With that a buffer costs an available
 * entry (not even rewritten when it is equal, so that its cache line stays shared) and a used
 * entry, which is what lets a load generator outrun the device. driver.h is for
 * buffers that differ from post to post.
 *
 * A slot takes a chain of `n_chain` descriptors, [slot * n_chain, (slot + 1) * n_chain), or one
 * descriptor that names a table of its own. n_chain is a power of two: so chains stay where they
 * are even with IN_ORDER, which wants descriptors taken in table order (2.7.5.2), and the slot of a
 * used id is a shift away.
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
	uint16_t size;    /* power of two, 1..32768 */
	uint16_t n_chain; /* descriptors per buffer: power of two, 1..size, or without limit when
			     indirect */
	bool writable;    /* buffers are for the device to write */
	bool event_idx;
	bool in_order;
	bool indirect;
	void *desc, *avail, *used; /* our addresses of the parts, zeroed */
	struct vring_desc *tables; /* size * n_chain descriptors, with indirect */
	uint64_t tables_gpa;
};

struct vring_fixed_slot {
	uint32_t capacity; /* writable bytes */
	bool outstanding;
};

enum vring_fixed_breakage {
	VRING_FIXED_INTACT,
	VRING_FIXED_BROKEN_USED_IDX, /* used index leads by more than what was offered */
	VRING_FIXED_BROKEN_USED_ID,  /* names nothing that is outstanding */
	VRING_FIXED_N_BREAKAGES,
};

struct vring_fixed {
	struct vring_desc *desc;
	struct vring_avail *avail;
	struct vring_used *used;
	struct vring_fixed_slot *slots;
	uint16_t mask;
	uint16_t n_slots;
	uint8_t chain_shift; /* slot -> head */
	uint8_t breakage;    /* enum vring_fixed_breakage */
	bool writable;
	bool event_idx;
	bool in_order;
	bool indirect;
	uint16_t avail_idx;     /* next to fill */
	uint16_t published_idx; /* what the device can see */
	uint16_t kicked_idx;    /* published when the device's wish was last asked */
	uint16_t used_idx;      /* next to take */
	uint16_t n_chain;
	uint32_t n_collects;
	struct vring_desc *tables;
	uint64_t tables_gpa;
};

/* Slots come as n_slots = size / n_chain, or size with indirect. 0, -EINVAL or -ENOMEM. */
int vring_fixed_init(struct vring_fixed *ring, const struct vring_fixed_config *config);
void vring_fixed_fini(struct vring_fixed *ring);

/* Describes the buffer of `slot`: `len` (>= n_chain) bytes from `gpa` on, cut into n_chain even
 * pieces. */
void vring_fixed_describe(struct vring_fixed *ring, unsigned int slot, uint64_t gpa, uint32_t len);

/* Offers `n` slots, none of them outstanding, in this order; with in_order, slots come round in
 * their own order. */
static inline void vring_fixed_offer(struct vring_fixed *ring, const uint16_t *slots, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++) {
		uint16_t head = (uint16_t)(slots[i] << ring->chain_shift);
		uint16_t *entry = &ring->avail->ring[ring->avail_idx++ & ring->mask];

		ring->slots[slots[i]].outstanding = true;
		if (*entry != head)
			*entry = head;
	}
}

/* Makes what was offered visible: release store of the available index (2.7.13.3.1). */
static inline void vring_fixed_publish(struct vring_fixed *ring)
{
	__atomic_store_n(&ring->avail->idx, ring->avail_idx, __ATOMIC_RELEASE);
	ring->published_idx = ring->avail_idx;
}

/* Whether the device wants a kick for what was published since this was last asked (2.7.10.1). */
bool vring_fixed_needs_kick(struct vring_fixed *ring);

/* Asks for calls or spares them (2.7.7.1). After asking, collect once more before sleeping: the
 * fence is in here. */
void vring_fixed_set_call(struct vring_fixed *ring, bool wanted);

struct vring_fixed_used {
	uint16_t slot;
	uint32_t len; /* bytes written by the device, clamped to the slot's capacity */
};

/*
 * Takes up to `max` used buffers in used order. Returns how many, or -EPROTO for a broken ring.
 * With in_order one used entry may stand for several buffers (2.7.9); those before the last count
 * as filled completely. More than `max` may be returned then, so `used` has room for n_slots.
 */
int vring_fixed_collect(struct vring_fixed *ring, struct vring_fixed_used *used, unsigned int max);

/* Buffers that the device has used and vring_fixed_collect() has not taken. */
static inline uint16_t vring_fixed_pending(const struct vring_fixed *ring)
{
	return (uint16_t)(__atomic_load_n(&ring->used->idx, __ATOMIC_ACQUIRE) - ring->used_idx);
}

static inline uint16_t vring_fixed_outstanding(const struct vring_fixed *ring)
{
	return (uint16_t)(ring->avail_idx - ring->used_idx);
}

const char *vring_fixed_breakage_name(enum vring_fixed_breakage breakage);

#endif
