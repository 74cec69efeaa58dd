/* SPDX-License-Identifier: BSD-3-Clause */
/* The verbs of vring/device.h for the split layout; same contracts, called by device.c. */
#ifndef VRING_DEVICE_SPLIT_H
#define VRING_DEVICE_SPLIT_H

#include <vring/device.h>

int device_split_init(struct vring_device *ring, const struct vring_config *config);
int device_split_peek(struct vring_device *ring, struct vring_burst *burst,
	enum vring_direction direction, unsigned int max);
int device_split_reserve(struct vring_device *ring, struct vring_burst *burst,
	const uint32_t *lengths, unsigned int n_frames, struct vring_grant *grants);
void device_split_return(struct vring_device *ring, const struct vring_burst *burst,
	unsigned int n);
void device_split_publish(struct vring_device *ring);
bool device_split_needs_call(struct vring_device *ring);
void device_split_set_kick(struct vring_device *ring, bool wanted);
unsigned int device_split_lead(const struct vring_device *ring);

#endif
