/* SPDX-License-Identifier: BSD-3-Clause */
/* Parsing of available buffers into a burst, for the verbs in device_split.c. */
#ifndef VRING_SPLIT_PARSE_H
#define VRING_SPLIT_PARSE_H

#include <vring/device.h>

/* How far a call has come with its burst. */
struct split_progress {
	unsigned int n_available; /* buffers there are, at most VRING_BURST_MAX */
	unsigned int n_parsed;
	unsigned int n_slots;  /* descriptors of the ring they take */
	unsigned int n_wasted; /* descriptors looked at that left no piece: charged like pieces, work is bounded */
	bool no_room;
	bool bad_head; /* buffer n_parsed has no head */
};

/*
 * Parses buffers n_parsed and on, up to buffer `target` (at most n_available). Stops before a chain that has no room in
 * the burst, or a head that is none. Refused buffers are in the burst like any other, with their fault and no bytes.
 */
void split_parse(struct vring_device *ring, struct vring_burst *burst,
	struct split_progress *progress, enum vring_direction direction, unsigned int target);

#endif
