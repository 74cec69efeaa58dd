/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Tickets: several threads serve one ring, and none waits while another copies.
 *
 * Theory of operation. Reserving and publishing are short, filling the buffers in between is not; so a ring's lock covers
 * the first two only. Whoever has reserved draws a ticket: the buffers are off the available ring at once, and the ticket
 * is the place in the used ring where their entries belong. Entries are written there, and bytes into the buffers,
 * without the lock. Used entries become visible in ring order, so a ticket that is committed while an older one is out
 * cannot be shown yet: it joins the one before it, and whoever commits that shows both. Nobody waits for anybody, and
 * what is out is a list of the tickets themselves: as many as there are threads, however far the others get while
 * one of them is not scheduled.
 *
 *     lock
 *     k = vring_device_reserve(ring, &burst, lengths, n, grants);    or vring_run_peek(ring, &run, VRING_WRITABLE, ...)
 *     vring_ticket_draw(&tickets, ring, &ticket, &burst);            or _draw_run(), if there is at least one buffer
 *     unlock
 *     ... fill the pieces of the granted buffers, set used_len ...
 *     vring_device_return(&ticket.ring, &burst, burst.n);            or vring_run_return_written(&ticket.ring, ...)
 *     lock
 *     vring_ticket_commit(&tickets, ring, &ticket);
 *     unlock
 *
 * Split ring: the used index moves over the oldest ticket and all that have joined it, with one store. Packed ring: there
 * is no index, and drivers look at descriptors in ring order (2.8), so a ticket's used descriptors may be completed at
 * its commit, wherever it stands: the first descriptor of an older ticket is not used yet, and hides them.
 *
 * Between draw and commit the ring's used_idx and last_avail_idx are ahead of what the driver can see; they are the
 * position of the ring (vring_device_position()) when no ticket is out. vring_device_return() and _publish() on the ring
 * itself are for then only. A ring that breaks (-EPROTO) yields no more buffers, but tickets drawn before are committed as ever.
 * A hostile driver can have one buffer reserved twice, by offering it again before it was used: then two threads write
 * to the same guest memory, which is its own, and to the same used entries.
 *
 * Fences (beside A to D of the ring, see device_split.c and device_packed.c):
 *   D  as there, in commit
 *   L  the caller's lock: what a thread wrote before it unlocked after its commit comes before what the next one to lock
 *      does; so the one that publishes for others (D) publishes their entries and bytes as well
 *   A  whoever asks for the wish for calls (vring_device_wants_call(), under the lock) has issued the fence after its own
 *      commit. What another thread published meanwhile is in order by L: its store was visible before its unlock was.
 *
 * Thread rule: draw, commit and every verb on the ring itself under one lock, the same for all threads of the ring. A
 * ticket is its thread's.
 */
#ifndef VRING_TICKET_H
#define VRING_TICKET_H

#include <vring/device.h>

/* Anywhere the thread likes, its stack included; must stay where it is from draw to commit. */
struct vring_ticket {
	/* The ring as from this ticket's place on, for the verbs that write used entries and for no other. */
	struct vring_device ring;
	/* Everything below under the lock. */
	struct vring_ticket *older, *newer; /* those that are out; NULL: none */
	uint16_t end_idx; /* behind this ticket and those that have joined it, as used_idx */
};

/* The tickets of one ring that are out. All zero: none. */
struct vring_tickets {
	struct vring_ticket *oldest, *newest;
};

/* Takes the buffers of a burst from vring_device_reserve() off the available ring, all burst->n > 0 of them. */
void vring_ticket_draw(struct vring_tickets *tickets, struct vring_device *ring,
	struct vring_ticket *ticket, const struct vring_burst *burst);

/* The same for the first n > 0 buffers of a run from vring_run_peek(). */
void vring_ticket_draw_run(struct vring_tickets *tickets, struct vring_device *ring,
	struct vring_ticket *ticket, unsigned int n);

/*
 * All buffers of the ticket have been returned to ticket->ring: they become visible now, or with the oldest ticket that
 * is out. Faults are counted on the ring, and what becomes visible counts for its vring_device_wants_call().
 */
void vring_ticket_commit(struct vring_tickets *tickets, struct vring_device *ring,
	struct vring_ticket *ticket);

#endif
