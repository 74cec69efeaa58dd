/* SPDX-License-Identifier: BSD-3-Clause */
#include <stddef.h>
#include <string.h>

#include <vring/ticket.h>

#include "device_packed.h"
#include "device_split.h"

/* Buffers that take n_slots of the ring. */
static void draw(struct vring_tickets *tickets, struct vring_device *ring, struct vring_ticket *ticket,
	uint32_t n_slots)
{
	/* Its counters start anew, and are added to the ring's at the end. */
	memcpy(&ticket->ring, ring, offsetof(struct vring_device, n_faults));
	memset(ticket->ring.n_faults, 0, sizeof(ticket->ring.n_faults));
	if (ring->packed) {
		ring->used_idx = vring_packed_advance(ring->used_idx, n_slots, ring->size);
		ring->last_avail_idx = vring_packed_advance(ring->last_avail_idx, n_slots, ring->size);
	} else {
		ring->used_idx = (uint16_t)(ring->used_idx + n_slots);
		ring->last_avail_idx = (uint16_t)(ring->last_avail_idx + n_slots);
	}
	ticket->end_idx = ring->used_idx;
	ticket->older = tickets->newest;
	ticket->newer = NULL;
	if (ticket->older != NULL)
		ticket->older->newer = ticket;
	else
		tickets->oldest = ticket;
	tickets->newest = ticket;
}

void vring_ticket_draw(struct vring_tickets *tickets, struct vring_device *ring,
	struct vring_ticket *ticket, const struct vring_burst *burst)
{
	uint32_t n_slots = 0;

	for (unsigned int i = 0; i < burst->n; i++)
		n_slots += burst->buffers[i].n_descs;
	draw(tickets, ring, ticket, n_slots);
}

void vring_ticket_draw_run(struct vring_tickets *tickets, struct vring_device *ring,
	struct vring_ticket *ticket, unsigned int n)
{
	draw(tickets, ring, ticket, n);
}

/* Shows the driver what lies before `idx`. */
static void publish_to(struct vring_device *ring, uint16_t idx)
{
	if (ring->packed)
		device_packed_count_published(ring, idx);
	else
		device_split_publish_to(ring, idx);
}

void vring_ticket_commit(struct vring_tickets *tickets, struct vring_device *ring,
	struct vring_ticket *ticket)
{
	struct vring_ticket *older = ticket->older;

	for (unsigned int fault = 0; fault < VRING_N_FAULTS; fault++) {
		if (__builtin_expect(ticket->ring.n_faults[fault] != 0, 0))
			ring->n_faults[fault] += ticket->ring.n_faults[fault];
	}
	/* The flags that were held back. With an older ticket out, nobody looks at them yet. */
	if (ring->packed)
		device_packed_publish(&ticket->ring);
	/* It joins the one before it, or is the oldest: then those that have joined it are shown with it. */
	if (older != NULL)
		older->end_idx = ticket->end_idx;
	else
		publish_to(ring, ticket->end_idx);

	if (older != NULL)
		older->newer = ticket->newer;
	else
		tickets->oldest = ticket->newer;
	if (ticket->newer != NULL)
		ticket->newer->older = older;
	else
		tickets->newest = older;
}
