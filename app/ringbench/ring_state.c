/* SPDX-License-Identifier: BSD-3-Clause */
#include "ring_state.h"

#include <stdio.h>

static uint16_t load16(const void *at)
{
	return __atomic_load_n((const uint16_t *)at, __ATOMIC_RELAXED);
}

static void take_packed(struct ring_state *state, const struct vring_fixed *ring)
{
	state->avail = ring->avail_position;
	state->collected = ring->used_position;
	state->device_flags = load16(&ring->device_event->flags);
	state->device_event = load16(&ring->device_event->off_wrap);
	state->driver_flags = load16(&ring->driver_event->flags);
	state->driver_event = load16(&ring->driver_event->off_wrap);
}

static void take_split(struct ring_state *state, const struct vring_fixed *ring)
{
	uint16_t size = (uint16_t)(ring->mask + 1);

	state->avail = ring->published_idx;
	state->used = load16(&ring->used->idx);
	state->collected = ring->used_idx;
	state->device_flags = load16(&ring->used->flags);
	state->device_event = load16(vring_avail_event_of(ring->used, size));
	state->driver_flags = load16(&ring->avail->flags);
	state->driver_event = load16(vring_used_event_of(ring->avail, size));
}

void ring_state_take(struct ring_state *state, const struct session_ring *entry)
{
	const struct vring_fixed *ring = &entry->ring;

	*state = (struct ring_state){
		.packed = ring->packed,
		.event_idx = ring->event_idx,
		.n_pending = vring_fixed_pending(ring),
		.kick_unread = session_kick_is_unread(entry),
	};
	state->n_with_device = (uint16_t)(vring_fixed_outstanding(ring) - state->n_pending);
	if (ring->packed)
		take_packed(state, ring);
	else
		take_split(state, ring);
}

void ring_state_print(const struct ring_state *state, char *text, size_t size)
{
	if (state->packed)
		snprintf(text, size, "next available %u wrap %u, next used %u wrap %u", state->avail & 0x7fffu,
			state->avail >> 15, state->collected & 0x7fffu, state->collected >> 15);
	else
		snprintf(text, size, "available index %u, used index %u, taken up to %u", state->avail, state->used,
			state->collected);
	while (*text != '\0') {
		text++;
		size--;
	}
	snprintf(text, size,
		", %u with the device, %u used and not taken, device flags %u event %u, driver flags %u event %u%s%s",
		state->n_with_device, state->n_pending, state->device_flags, state->device_event, state->driver_flags,
		state->driver_event, state->event_idx ? "" : " (events not negotiated)",
		state->kick_unread ? ", kick not read" : "");
}
