/* SPDX-License-Identifier: BSD-3-Clause */
/* Verbs of vring/device.h for the split layout; same contracts less the fences, called by device.c. */
#ifndef VRING_DEVICE_SPLIT_H
#define VRING_DEVICE_SPLIT_H

#include <vring/device.h>

/* Whether the configuration is one of a split ring. */
bool device_split_accepts(const struct vring_config *config);
void device_split_return(struct vring_device *ring, const struct vring_burst *burst,
	unsigned int n);
void device_split_publish(struct vring_device *ring);
/* The same for the used entries before `idx` only. */
void device_split_publish_to(struct vring_device *ring, uint16_t idx);
bool device_split_wants_call(struct vring_device *ring);
/* Writes one used entry, for a buffer that was taken before; not yet visible. */
void device_split_use(struct vring_device *ring, uint16_t id, uint32_t len);
void device_split_set_kick(struct vring_device *ring, bool wanted);
void device_split_set_kick_at(struct vring_device *ring, uint16_t idx);
/* How far the available index leads: more than the size is a lie. */
unsigned int device_split_lead(const struct vring_device *ring);

#endif
