/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Event sets: one wait over many channels, each a descriptor that somebody else makes readable.
 *
 * A channel that is waited for by edges is never read: each write to its eventfd is one edge, whatever the counter
 * says. So nothing is lost by a counter that nobody drains, no system call is spent on draining it, and a peer that
 * made its eventfd blocking, or keeps it readable for ever, gains nothing by that. A channel of level kind (a socket
 * or a tap) is reported as long as it is readable; whoever serves it drains it.
 *
 * The other side of a channel may be hostile. One that wakes its set again and again for nothing is shut out for a
 * while, longer each time (EVENT_SPURIOUS_MAX and below); when that has passed the channel is reported once, so that
 * what it may have had to say meanwhile is looked at. Such a peer makes itself slow and costs the others next to
 * nothing.
 *
 * Thread rule: channels are opened, closed and described by the control thread. Waiting and judging is for the one
 * thread that the set is for. Both may go on at the same time: an id that was reported may be closed, or stand for a
 * new channel, by the time it is looked at, so the waiting thread must know by itself which ids mean something to it.
 */
#ifndef EVENT_EVENT_H
#define EVENT_EVENT_H

#include <stdbool.h>
#include <stdint.h>


/* What a channel stands for, for whoever counts. */
enum event_cause {
	EVENT_KICK,    /* a guest made buffers available */
	EVENT_NIC,     /* a NIC received */
	EVENT_REQUEST, /* another thread of ours wants something */
	EVENT_N_CAUSES,
};

/* "kick", "nic", "request" */
const char *event_cause_name(enum event_cause cause);

struct event_channel_config {
	int fd; /* not taken over; stays open until the channel is closed */
	enum event_cause cause;
	bool is_level; /* not an eventfd: reported while readable */
	const void *owner; /* whom it belongs to; not looked at here */
};

struct event_set;

/* A set of at most `max` (1..EVENT_CHANNELS_MAX) channels. NULL with errno. */
#define EVENT_CHANNELS_MAX 65535
struct event_set *event_set_create(unsigned int max);

/* NULL is allowed. Channels that are open are closed. */
void event_set_destroy(struct event_set *set);

/*
 * Returns the channel's id, 0..max - 1, the lowest that is free. A descriptor that is readable already is reported by
 * the next wait. Or -ENOSPC: the set is full, or the kernel's limit of watches is reached; -ENOMEM; -EPERM: the
 * descriptor cannot be waited for (a file); -EBADF.
 */
int event_channel_open(struct event_set *set, const struct event_channel_config *config);

/*
 * The id is free then. To be called before the descriptor is closed: the peer holds the same open file, so that
 * closing our descriptor does not end the kernel's interest in it.
 */
void event_channel_close(struct event_set *set, int id);

/* The owner of an open channel, NULL of a closed one. Control thread. */
const void *event_channel_owner(const struct event_set *set, int id);

struct event_channel_report {
	uint64_t n_wakeups;  /* times it was reported */
	uint64_t n_spurious; /* of these, judged to be for nothing */
	uint64_t n_penalties; /* times it was shut out */
	bool is_shut_out;
};

void event_channel_report(const struct event_set *set, int id, struct event_channel_report *report);

/* What the set saw since it was made, its closed channels included. */
struct event_set_report {
	uint64_t n_wakeups[EVENT_N_CAUSES];
	uint64_t n_spurious;
	uint64_t n_penalties;
	uint64_t n_timeouts; /* waits that ended by time alone */
};

void event_set_report(const struct event_set *set, struct event_set_report *report);

/* Ids one wait reports at most; more come with the next. */
#define EVENT_WAIT_MAX 64

#define EVENT_FOREVER UINT64_MAX

/*
 * Waits until a channel is readable or until `until_us` (base/clock.h; 0: only looks). Returns how many ids it put
 * into `ids` (room for EVENT_WAIT_MAX); 0: nothing but the time, or a signal. The end of a penalty ends a wait as
 * well, and counts as time.
 */
unsigned int event_set_wait(struct event_set *set, uint64_t until_us, uint16_t *ids);

/*
 * In a row, and then the channel is shut out for EVENT_PENALTY_MIN_US; from then on for twice as long each time it
 * wakes the set for nothing, until it has something. Being reported at the end of a penalty does not count.
 */
#define EVENT_SPURIOUS_MAX   64
#define EVENT_PENALTY_MIN_US 1000
#define EVENT_PENALTY_MAX_US 100000

/*
 * Says whether a reported channel really had something. To be called once for each id that the waiting thread knows.
 * Returns true if the channel is now shut out.
 */
bool event_channel_judge(struct event_set *set, int id, bool was_real);

#endif
