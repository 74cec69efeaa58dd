/* SPDX-License-Identifier: BSD-3-Clause */
/* Verbs of vring/device.h for the packed layout; same contracts less the fences, called by device.c. */
#ifndef VRING_DEVICE_PACKED_H
#define VRING_DEVICE_PACKED_H

#include <vring/device.h>

/* Whether the configuration is one of a packed ring. */
bool device_packed_accepts(const struct vring_config *config);
void device_packed_return(struct vring_device *ring, const struct vring_burst *burst,
	unsigned int n);
void device_packed_publish(struct vring_device *ring);
/* Notes that the driver can see the used descriptors before `position`. */
void device_packed_count_published(struct vring_device *ring, uint16_t position);
bool device_packed_wants_call(struct vring_device *ring);
void device_packed_set_kick(struct vring_device *ring, bool wanted);
void device_packed_set_kick_at(struct vring_device *ring, uint16_t position);
bool device_packed_has_available(const struct vring_device *ring);

struct packed_backlog {
	unsigned int n; /* buffers; the ring's size if there were more slots to look at than are */
	uint16_t end;   /* position behind them */
};

struct packed_backlog device_packed_backlog(const struct vring_device *ring);

#endif
