/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <string.h>

#include <vring/device.h>

#include "device_packed.h"
#include "device_split.h"
#include "run_internal.h"

static const char *const fault_names[] = {
	[VRING_OK] = "none",
	[VRING_FAULT_ADDRESS] = "address outside the guest's memory",
	[VRING_FAULT_NEXT] = "next descriptor outside the ring or table",
	[VRING_FAULT_CHAIN] = "looping or overlong chain",
	[VRING_FAULT_DIRECTION] = "descriptor of the wrong direction",
	[VRING_FAULT_INDIRECT] = "bad indirect table",
	[VRING_FAULT_LENGTH] = "bad length",
};
_Static_assert(sizeof(fault_names) / sizeof(fault_names[0]) == VRING_N_FAULTS, "one name each");

static const char *const breakage_names[] = {
	[VRING_INTACT] = "intact",
	[VRING_BROKEN_AVAIL_IDX] = "available index leads by more than the ring size",
	[VRING_BROKEN_HEAD] = "available entry names no descriptor",
	[VRING_BROKEN_CHAIN] = "chain without an end",
};
_Static_assert(
	sizeof(breakage_names) / sizeof(breakage_names[0]) == VRING_N_BREAKAGES, "one name each");

const char *vring_fault_name(enum vring_fault fault)
{
	return (unsigned int)fault < VRING_N_FAULTS ? fault_names[fault] : "unknown";
}

const char *vring_breakage_name(enum vring_breakage breakage)
{
	return (unsigned int)breakage < VRING_N_BREAKAGES ? breakage_names[breakage] : "unknown";
}

/* The layout is chosen here, and in parse.h for the verbs of take.c. */

int vring_device_init(struct vring_device *ring, const struct vring_config *config)
{
	if (config->packed ? !device_packed_accepts(config) : !device_split_accepts(config))
		return -EINVAL;
	memset(ring, 0, sizeof(*ring));
	ring->desc = config->desc;
	ring->avail = config->avail;
	ring->used = config->used;
	ring->mem = config->mem;
	ring->size = config->size;
	ring->mask = config->size - 1;
	ring->last_avail_idx = config->avail_idx;
	ring->used_idx = config->packed ? config->used_idx
					: __atomic_load_n(&ring->used->idx, __ATOMIC_RELAXED);
	ring->published_idx = ring->used_idx;
	/* A buffer of no bytes is refused in either direction. */
	ring->writable_min_len = config->header_len > 0 ? config->header_len : 1;
	ring->packed = config->packed;
	ring->event_idx = config->event_idx;
	ring->indirect = config->indirect;
	ring->in_order = config->in_order;
	ring->mergeable = config->mergeable;
	/* Whoever served the ring before may have published without calling. */
	ring->call_is_due = true;
	ring->run = run_choose(config);
	return 0;
}

void vring_device_return(struct vring_device *ring, const struct vring_burst *burst, unsigned int n)
{
	if (ring->packed)
		device_packed_return(ring, burst, n);
	else
		device_split_return(ring, burst, n);
}

void vring_device_publish(struct vring_device *ring)
{
	if (ring->packed)
		device_packed_publish(ring);
	else
		device_split_publish(ring);
}

bool vring_device_wants_call(struct vring_device *ring)
{
	return ring->packed ? device_packed_wants_call(ring) : device_split_wants_call(ring);
}

bool vring_device_needs_call(struct vring_device *ring)
{
	if (ring->n_uncalled == 0)
		return false;
	vring_fence(); /* A */
	return vring_device_wants_call(ring);
}

void vring_device_set_kick(struct vring_device *ring, bool wanted)
{
	if (ring->packed)
		device_packed_set_kick(ring, wanted);
	else
		device_split_set_kick(ring, wanted);
	if (wanted)
		vring_fence(); /* B */
}

void vring_device_set_kick_behind(struct vring_device *ring)
{
	if (ring->packed)
		device_packed_set_kick_at(ring, device_packed_backlog(ring).end);
	else
		device_split_set_kick_at(ring, (uint16_t)(ring->last_avail_idx + device_split_lead(ring)));
	vring_fence(); /* B */
}

bool vring_device_has_available(const struct vring_device *ring)
{
	if (ring->breakage != VRING_INTACT)
		return false;
	/* A lead that is not legal counts: the next peek has to see it and break the ring. */
	return ring->packed ? device_packed_has_available(ring) : device_split_lead(ring) != 0;
}

unsigned int vring_device_backlog(const struct vring_device *ring)
{
	unsigned int n;

	if (ring->breakage != VRING_INTACT)
		return 0;
	n = ring->packed ? device_packed_backlog(ring).n : device_split_lead(ring);
	return n <= ring->size ? n : ring->size;
}
