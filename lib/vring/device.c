/* SPDX-License-Identifier: BSD-3-Clause */
#include <vring/device.h>

#include "device_split.h"

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

/* The layout is chosen here and nowhere else: the packed ring gets its branch in these functions. */

int vring_device_init(struct vring_device *ring, const struct vring_config *config)
{
	return device_split_init(ring, config);
}

int vring_device_peek(struct vring_device *ring, struct vring_burst *burst,
	enum vring_direction direction, unsigned int max)
{
	return device_split_peek(ring, burst, direction, max);
}

int vring_device_reserve(struct vring_device *ring, struct vring_burst *burst,
	const uint32_t *lengths, unsigned int n_frames, struct vring_grant *grants)
{
	return device_split_reserve(ring, burst, lengths, n_frames, grants);
}

void vring_device_return(struct vring_device *ring, const struct vring_burst *burst, unsigned int n)
{
	device_split_return(ring, burst, n);
}

void vring_device_publish(struct vring_device *ring)
{
	device_split_publish(ring);
}

bool vring_device_needs_call(struct vring_device *ring)
{
	return device_split_needs_call(ring);
}

void vring_device_set_kick(struct vring_device *ring, bool wanted)
{
	device_split_set_kick(ring, wanted);
}

bool vring_device_has_available(const struct vring_device *ring)
{
	/* A lead that is not legal counts: the next peek has to see it and break the ring. */
	return ring->breakage == VRING_INTACT && device_split_lead(ring) != 0;
}

unsigned int vring_device_backlog(const struct vring_device *ring)
{
	unsigned int lead = ring->breakage == VRING_INTACT ? device_split_lead(ring) : 0;

	return lead <= ring->size ? lead : ring->size;
}
