/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The back-end role of vhost-user: one session with one front end over one connected stream socket.
 *
 * The session owns what the front end set up (features, memory, ring addresses, file descriptors)
 * and knows no packets. Its user (a guest port) moves the packets and is told before anything it
 * may be using changes:
 *
 *     quiesce(ctx)   on return no thread touches this device's rings, memory or descriptors,
 *                    nor signals them
 *     ... the session changes one thing ...
 *     resume(ctx)    look at the rings again (vu_backend_ring()) and use those that are running
 *
 * Every message that changes something a running ring depends on is handled between these two,
 * SET_VRING_CALL included: that is what makes a closed fd number safe from being signalled after
 * its reuse. GET_VRING_BASE is answered after resume, hence after the last access.
 *
 * Thread rule: everything here belongs to the control thread; ring->device of a running ring
 * belongs to its worker between resume and quiesce.
 */
#ifndef VHOST_BACKEND_H
#define VHOST_BACKEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <base/log.h>
#include <gmem/gmem.h>
#include <vhost/message.h>
#include <vring/dirty.h>

/* Queue pairs a session can carry at most; two rings each. */
#define VU_MAX_QUEUE_PAIRS 16
#define VU_MAX_RINGS       (2 * VU_MAX_QUEUE_PAIRS)

/* A partial message must be complete, and a reply taken, within this time. */
#define VU_DEADLINE_US (3 * 1000 * 1000)

enum vu_ring_state {
	VU_RING_STOPPED, /* initial, and after GET_VRING_BASE */
	VU_RING_STARTED, /* after SET_VRING_KICK; features, size, addresses, base or memory is missing */
	VU_RING_RUNNING, /* `device` is initialised */
	VU_RING_BROKEN,  /* the worker found device.breakage; only stop or reset ends it */
};

struct vu_ring {
	enum vu_ring_state state;
	/* SET_VRING_ENABLE, or bit 30 was not negotiated; tracked while stopped too. */
	bool enabled;
	uint32_t size;
	int kick_fd; /* -1: none, poll */
	int call_fd; /* -1: none */
	int err_fd;  /* -1: none */
	struct vring_device device; /* valid while RUNNING or BROKEN */
	struct vring_dirty dirty;   /* what to log; dirty.log NULL: nothing. Changes between quiesce and resume only */
	uint64_t desc_uva, avail_uva, used_uva; /* its parts, as the front end knows them */
};

/* Why a session ended; the policy for each class is in its comment. */
enum vu_close_reason {
	VU_CLOSE_PEER,     /* orderly end of file or reset: the usual way a guest goes */
	VU_CLOSE_PROTOCOL, /* the peer broke the protocol: drop, count, log one limited line */
	VU_CLOSE_DEADLINE, /* the peer sent half a message, or did not take a reply, in time */
	VU_CLOSE_MEMORY,   /* the peer took memory away under a mapping */
	VU_CLOSE_RESOURCE, /* we are short of something: worth a retry */
};

struct vu_backend_ops {
	void (*quiesce)(void *ctx);
	void (*resume)(void *ctx);
	/*
	 * Between quiesce and resume: the driver of this running ring is to be called once, by the descriptor that the ring
	 * has at resume. For whoever served the ring before may have gone with a call not made, and a call made on a
	 * descriptor that is replaced may never be seen; one too many is legal. NULL: the session signals the descriptor.
	 */
	void (*call)(void *ctx, unsigned int index);
	/* SEND_RARP: broadcast a RARP for this 6-byte MAC from the port. May be NULL. */
	void (*send_rarp)(void *ctx, const uint8_t *mac);
	/* NET_SET_MTU: 68..65535, already checked. May be NULL. */
	void (*set_mtu)(void *ctx, uint16_t mtu);
};

struct vu_backend_config {
	const char *name;           /* for log lines; copied */
	uint64_t features;          /* virtio bits offered; bit 30 is added */
	unsigned int n_queue_pairs; /* 1..VU_MAX_QUEUE_PAIRS, answered to GET_QUEUE_NUM */
	uint64_t deadline_us;       /* 0: VU_DEADLINE_US */
	uint64_t first_message_us;  /* a peer silent for so long is disconnected; 0: never */
	unsigned int n_memory_slots; /* regions the front end may give, 1..GMEM_MAX_REGIONS; 0: as many */
	bool keeps_memory;          /* vu_backend_memory_specs() is wanted: costs a file descriptor for each region */
	/* Outlives the session and is shared by those that follow it, lest a peer that reconnects floods the log; NULL: own. */
	struct log_limit *log_limit;
	/* Outlive the session; quiesce and resume are required. */
	const struct vu_backend_ops *ops;
	void *ctx;
};

/* Virtio bits that need what this library does not have: an IOTLB. */
#define VU_BACKEND_FEATURES_REFUSED VU_BIT(33)

struct vu_backend;
struct vu_transport;

/*
 * Takes over `fd` (connected stream socket) on success. NULL with errno ENOMEM, ENOTSOCK,
 * EPROTOTYPE (no stream), or EINVAL: queue pairs out of range, a feature of
 * VU_BACKEND_FEATURES_REFUSED, or one whose prerequisite is not offered.
 */
struct vu_backend *vu_backend_create(const struct vu_backend_config *config, int fd);

/* The same over any transport (vhost/connection.h): tests, fuzzing. Takes it over on success. */
struct vu_backend *vu_backend_create_on(
	const struct vu_backend_config *config, const struct vu_transport *transport);

/* Quiesces (and does not resume), closes everything the session owns, frees it. NULL is allowed. */
void vu_backend_destroy(struct vu_backend *session);

/* For the event loop: what to poll, and for which events: POLLIN, or POLLOUT while a reply waits. */
int vu_backend_fd(const struct vu_backend *session);
short vu_backend_events(const struct vu_backend *session);

/* When to call vu_backend_process() even if nothing happens (base/clock.h); UINT64_MAX: never. */
uint64_t vu_backend_deadline_us(const struct vu_backend *session);

/*
 * Reads and answers what is there, at most a bounded number of messages so that other sessions get
 * their turn; never blocks. Returns 0, or -1 when the session is over: vu_backend_close_reason()
 * says why and the caller destroys it.
 */
int vu_backend_process(struct vu_backend *session);

enum vu_close_reason vu_backend_close_reason(const struct vu_backend *session);
/* One line naming message, value and limit; "" if the peer simply went. Valid until destroy. */
const char *vu_backend_close_text(const struct vu_backend *session);

/* Negotiated so far. */
uint64_t vu_backend_features(const struct vu_backend *session);
uint64_t vu_backend_protocol_features(const struct vu_backend *session);
/* Whether the peer took away memory that it had shared, the log included; see gmem/guard.h. */
bool vu_backend_memory_is_broken(const struct vu_backend *session);
/* NULL before the first table. Replaced only between quiesce and resume. */
const struct gmem *vu_backend_memory(const struct vu_backend *session);
/* Goes up whenever memory is replaced. */
uint64_t vu_backend_memory_serial(const struct vu_backend *session);
/*
 * The regions as the front end described them, with file descriptors that stay the session's, for who hands them on. With
 * keeps_memory only. Valid until memory is replaced.
 */
const struct gmem_region_spec *vu_backend_memory_specs(const struct vu_backend *session, unsigned int *n);
/* index < 2 * n_queue_pairs. Even: receive ring (device writes); odd: transmit ring. */
struct vu_ring *vu_backend_ring(struct vu_backend *session, unsigned int index);

/*
 * Called by the user when a worker reported a broken ring: state becomes BROKEN, err fd is
 * signalled, NEEDS_RESET shown. Does nothing if device.breakage is VRING_INTACT or the ring is not
 * running: the report was about an earlier life.
 */
void vu_backend_ring_broken(struct vu_backend *session, unsigned int index);

/* Peer credentials (SO_PEERCRED) at creation; -1 if unknown. */
pid_t vu_backend_peer_pid(const struct vu_backend *session);
uid_t vu_backend_peer_uid(const struct vu_backend *session);

/* Requests that were refused, with or without the end of the session. */
uint64_t vu_backend_n_refused(const struct vu_backend *session);

#endif
