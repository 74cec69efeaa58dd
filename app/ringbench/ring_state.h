/* SPDX-License-Identifier: BSD-3-Clause */
/* What both sides of a ring say at one moment, to explain why nothing happens in it. */
#ifndef RINGBENCH_RING_STATE_H
#define RINGBENCH_RING_STATE_H

#include <stddef.h>

#include "session.h"

struct ring_state {
	bool packed;
	bool event_idx;
	/* Split: available index published, used index published, and that up to which we took. Packed: the descriptor to be
	 * made available next and the one to be used next, with the wrap counter in bit 15; `used` is not known. */
	uint16_t avail;
	uint16_t used;
	uint16_t collected;
	/* Of the buffers that are offered: those not used, and those used that we have not taken. */
	uint16_t n_with_device;
	uint16_t n_pending;
	/* The wishes: used.flags and avail_event, avail.flags and used_event; packed: flags and position of each event
	 * suppression structure. */
	uint16_t device_flags;
	uint16_t device_event;
	uint16_t driver_flags;
	uint16_t driver_event;
	bool kick_unread; /* our last kick waits in the eventfd */
};

void ring_state_take(struct ring_state *state, const struct session_ring *ring);

/* As words, without a line's end. */
void ring_state_print(const struct ring_state *state, char *text, size_t size);

#endif
