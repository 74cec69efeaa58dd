/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One guest: a connection to a back end, sealed memory, and the rings and buffers in it.
 *
 *   gpa SESSION_GPA
 *   | per queue pair: rx desc, avail, used | tx desc, avail, used | tx tables | a share of all buffers |
 *   | a share of all buffers | ...                                  as many as there are regions (--regions)
 *
 * The regions follow each other in gpa and in the file, and each is announced by itself. Buffer n of any ring lies in region
 * n % regions, so that neighbours in a ring never share one.
 *
 * A buffer is header and frame in one piece (VERSION_1 allows that), placed so that the frame
 * starts on a cache line: the header then shares none with what changes.
 *
 * When the back end goes away the rings stay as they are; session_reopen() tells the next one to go
 * on at the used index, as guests do. What the old one had taken and not returned is thus offered
 * again. From a packed ring alone nobody could tell, as a device uses it up: there we go on from what
 * we know, see vring_fixed_resume().
 *
 * Thread rule: one thread.
 */
#ifndef RINGBENCH_SESSION_H
#define RINGBENCH_SESSION_H

#include <signal.h>

#include <base/unix_socket.h>
#include <vhost/frontend.h>

#include "dirty_log.h"
#include "options.h"
#include <vring/fixed.h>

#define SESSION_GPA UINT64_C(0x100000000)

/* A ring, its buffers and its two eventfds. */
struct session_ring {
	struct vring_fixed ring;
	uint8_t **buffers;     /* slot n's: header and frame */
	uint32_t buffer_bytes; /* of each, header included */
	int kick_fd;
	int call_fd;
	uint64_t n_kicks;
	uint64_t n_kicks_before; /* measuring began */
	uint64_t n_calls; /* taken from call_fd by session_take_calls() */
	/* Addresses of the parts, as the back end is told. */
	uint64_t desc_uva, avail_uva, used_uva;
};

struct session_queue {
	struct session_ring rx;
	struct session_ring tx;
};

struct session {
	unsigned int number; /* 1.. */
	const struct options *options;
	const struct options_socket *socket;
	const volatile sig_atomic_t *stop; /* set: give up waiting */
	struct vu_frontend *frontend;      /* NULL: not connected */
	int connection_fd; /* the frontend's, to look whether the back end is still there */
	int listen_fd;     /* -1: we connect */
	struct unix_socket_identity listen_identity;
	struct vu_frontend_memory memory;
	struct gmem_region_spec *regions; /* options->n_regions, in the order of their addresses */
	uint64_t rings_bytes;             /* at the beginning of the first one */
	bool hugepages;
	uint64_t features;
	struct dirty_log log; /* with options->log */
	struct session_queue queues[OPTIONS_MAX_QUEUES];
	char error[OPTIONS_ERROR_MAX]; /* one line after a failure */
};

/*
 * Connects, negotiates and starts all rings, receive buffers offered, transmit slots described and
 * empty. 0 or a negative errno with a line in session->error; either way session_close() ends it.
 * -EINTR: stop was set.
 */
int session_open(struct session *session, const struct options *options, unsigned int index,
	const volatile sig_atomic_t *stop);
void session_close(struct session *session);

/* Whether the back end still holds the connection. */
bool session_is_alive(const struct session *session);

/* Connects again after the back end has gone and restarts the rings where it left them. As
 * session_open(). */
int session_reopen(struct session *session);

/* Buffers a received frame of `size` bytes takes. */
unsigned int session_buffers_per_frame(const struct session *session, uint32_t size);

static inline bool session_has(const struct session *session, unsigned int feature_bit)
{
	return session->features >> feature_bit & 1;
}

static inline uint8_t *session_buffer(const struct session_ring *ring, unsigned int slot)
{
	return ring->buffers[slot];
}

void session_kick(struct session_ring *ring);

/* Counts the calls that have come since this was last asked, and makes the eventfd unreadable. Returns how many. */
uint64_t session_take_calls(struct session_ring *ring);

/* Whether the back end has yet to read the kicks it got. */
bool session_kick_is_unread(const struct session_ring *ring);

#endif
