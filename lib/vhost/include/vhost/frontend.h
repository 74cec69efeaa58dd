/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The front-end role of vhost-user: what a VMM does, for the load generator, shadow queues and
 * tests.
 *
 * Blocking calls over one connected stream socket, each bounded by the session's deadline. The back
 * end is not trusted: replies are checked (request, flags, exact size, no file descriptors), counts
 * are clamped, and the requests that it may send on its own channel are answered while we wait, so
 * that neither side can hang the other.
 *
 * The order of a session:
 *
 *     vu_frontend_memory_create()                 memory of our own, which the back end cannot
 * truncate vu_frontend_create(fd) vu_frontend_negotiate(wanted, &taken)       owner, features,
 * protocol features, queue pairs, memory slots vu_frontend_set_memory() vu_frontend_ring_start()
 * for each ring, vu_frontend_ring_enable(), vu_frontend_driver_ok()
 *     ... frames, through lib/vring's driver side ...
 *     vu_frontend_ring_stop() for each ring: after it returns the back end neither reads nor writes
 * that ring vu_frontend_destroy()
 *
 * All calls return 0 (or what they say) or a negative errno, and vu_frontend_error() has one line
 * about it: -EREMOTEIO   the back end refused the request (ack not 0); the session goes on
 *     -EOPNOTSUPP  the request needs a bit that was not negotiated; nothing was sent
 *     -EINVAL      an argument is out of range; nothing was sent
 *     -ECONNRESET  the back end has closed the connection            \
 *     -ETIMEDOUT   no (whole) answer before the deadline              > the session is over: every
 * later call -EPROTO      the answer breaks the protocol                    /  returns the same
 * code at once Without REPLY_ACK a refusal shows as nothing, or as a closed connection at the next
 * answer that is waited for.
 *
 * Thread rule: one thread at a time per session.
 */
#ifndef VHOST_FRONTEND_H
#define VHOST_FRONTEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <gmem/gmem.h>
#include <vhost/message.h>
#include <vring/layout.h>

/* Shared memory that the other side cannot shrink, grow or unseal. */
struct vu_frontend_memory {
	int fd;
	uint8_t *address; /* also the uva to tell the back end */
	uint64_t size;    /* bytes, rounded up to the page size used */
};

/*
 * Makes `size` (> 0) bytes of zeroed shared memory; with `hugepages` from the default hugepage
 * pool. Returns 0 or a negative errno (hugepages: -ENOMEM if the pool is too small). Owned by the
 * caller.
 */
int vu_frontend_memory_create(struct vu_frontend_memory *memory, uint64_t size, bool hugepages);
void vu_frontend_memory_destroy(struct vu_frontend_memory *memory);

struct vu_frontend_config {
	uint64_t deadline_us;       /* for each call; 0: VU_FRONTEND_DEADLINE_US */
	uint64_t protocol_features; /* taken where offered; 0: VU_FRONTEND_PROTOCOL_FEATURES */
};

#define VU_FRONTEND_DEADLINE_US (5 * 1000 * 1000)
#define VU_FRONTEND_PROTOCOL_FEATURES                                                              \
	(VU_BIT(VU_PROTOCOL_F_MQ) | VU_BIT(VU_PROTOCOL_F_REPLY_ACK) |                              \
		VU_BIT(VU_PROTOCOL_F_NET_MTU) | VU_BIT(VU_PROTOCOL_F_RARP) |                       \
		VU_BIT(VU_PROTOCOL_F_RESET_DEVICE) | VU_BIT(VU_PROTOCOL_F_CONFIGURE_MEM_SLOTS) |   \
		VU_BIT(VU_PROTOCOL_F_STATUS))

struct vu_frontend;

/* Takes over `fd` (connected stream socket) on success. `config` may be NULL. NULL with errno
 * ENOMEM or EINVAL. */
struct vu_frontend *vu_frontend_create(const struct vu_frontend_config *config, int fd);

/*
 * For an event loop: what to poll for POLLIN between calls, when nothing is due. If it becomes
 * readable, ask vu_frontend_check(): 0, or the code of the end of the session (-ECONNRESET: the
 * back end has gone). Does not block.
 */
int vu_frontend_fd(const struct vu_frontend *session);
int vu_frontend_check(struct vu_frontend *session);

/* Closes the connection: the back end stops every ring by itself. NULL is allowed. */
void vu_frontend_destroy(struct vu_frontend *session);

/* The last error in one line; "" if there was none. Valid until the next call. */
const char *vu_frontend_error(const struct vu_frontend *session);

/*
 * Sets the owner and takes every bit of `wanted` that the back end offers; *taken is the result
 * (virtio bits; bit 30 is handled here). If REPLY_ACK was taken, every later set call waits for its
 * ack.
 */
int vu_frontend_negotiate(struct vu_frontend *session, uint64_t wanted, uint64_t *taken);

/* After negotiate: what the back end offered and what was taken. */
uint64_t vu_frontend_offered(const struct vu_frontend *session);
uint64_t vu_frontend_features(const struct vu_frontend *session);
uint64_t vu_frontend_protocol_features(const struct vu_frontend *session);

/* Queue pairs the back end carries: 1 without MQ; clamped to 1..VU_FRONTEND_MAX_QUEUE_PAIRS. */
#define VU_FRONTEND_MAX_QUEUE_PAIRS 256
unsigned int vu_frontend_queue_pairs(const struct vu_frontend *session);

/* Regions the back end takes: 8 without CONFIGURE_MEM_SLOTS; clamped to 1..GMEM_MAX_REGIONS. */
unsigned int vu_frontend_memory_slots(const struct vu_frontend *session);

/* SET_FEATURES again, as a reset guest does; *taken as in negotiate. */
int vu_frontend_set_features(struct vu_frontend *session, uint64_t wanted, uint64_t *taken);

/* Replaces the whole table: SET_MEM_TABLE for up to 8 regions, ADD_MEM_REG for each beyond. The fds
 * stay the caller's. */
int vu_frontend_set_memory(
	struct vu_frontend *session, const struct gmem_region_spec *specs, unsigned int n);
int vu_frontend_add_memory(struct vu_frontend *session, const struct gmem_region_spec *spec);
int vu_frontend_remove_memory(struct vu_frontend *session, const struct gmem_region_spec *spec);

#define VU_FRONTEND_PACKED_START (VRING_PACKED_START | (uint32_t)VRING_PACKED_START << 16)

struct vu_frontend_ring {
	unsigned int index; /* 2 * pair: the guest receives; 2 * pair + 1: the guest transmits */
	uint32_t size;      /* 1..32768; without RING_PACKED a power of two */
	uint64_t desc_uva;
	uint64_t avail_uva;
	uint64_t used_uva;
	/* Where the back end begins. Split: the next available index, 0 for a new ring. Packed: the positions
	 * (vring/layout.h) of the next available descriptor in bits 0-15 and of the next used one in bits 16-31,
	 * VU_FRONTEND_PACKED_START for a new ring. */
	uint32_t base;
	int kick_fd;   /* eventfd, stays the caller's; -1: the back end polls */
	int call_fd;   /* eventfd, stays the caller's; -1: none */
};

/* NUM, BASE, ADDR, CALL, KICK: the ring is started when this returns. */
int vu_frontend_ring_start(struct vu_frontend *session, const struct vu_frontend_ring *ring);

/* SET_VRING_ENABLE. */
int vu_frontend_ring_enable(struct vu_frontend *session, unsigned int index, bool enabled);

/*
 * GET_VRING_BASE; *base (may be NULL) is where it got to, in the form of vu_frontend_ring.base. The back end is done with
 * the ring. -EPROTO also for a base no split ring can have; a packed one is not compared with the ring's size.
 */
int vu_frontend_ring_stop(struct vu_frontend *session, unsigned int index, uint32_t *base);

/* SET_VRING_CALL at any time; -1: no call. The fd stays the caller's. */
int vu_frontend_ring_set_call(struct vu_frontend *session, unsigned int index, int call_fd);

/* SET_VRING_ERR. The fd stays the caller's. */
int vu_frontend_ring_set_err(struct vu_frontend *session, unsigned int index, int err_fd);

/*
 * Tells the back end, after the rings were started and enabled, that the driver is ready:
 * SET_STATUS with DRIVER_OK where STATUS was taken (DPDK's back end waits for it). Then waits until
 * everything sent before has been done.
 */
int vu_frontend_driver_ok(struct vu_frontend *session);

/* Device status (virtio 2.1). -EOPNOTSUPP without STATUS. */
int vu_frontend_set_status(struct vu_frontend *session, uint8_t status);
int vu_frontend_get_status(struct vu_frontend *session, uint8_t *status);

/* RESET_DEVICE, or SET_STATUS 0, whichever was taken; -EOPNOTSUPP without either. Stop the rings
 * first. */
int vu_frontend_reset(struct vu_frontend *session);

/* 68..65535. -EOPNOTSUPP without NET_MTU. */
int vu_frontend_set_mtu(struct vu_frontend *session, uint16_t mtu);
/* -EOPNOTSUPP without RARP. */
int vu_frontend_send_rarp(struct vu_frontend *session, const uint8_t mac[6]);

/* Waits until everything sent so far has been handled (GET_FEATURES as barrier). */
int vu_frontend_barrier(struct vu_frontend *session);

/*
 * A message as given, right or wrong, for tests: header fields and bytes need not agree.
 * With `reply` the next message from the back end is awaited and stored unchecked, cut to the room
 * there is; file descriptors in it are closed and counted. The deadline applies.
 */
struct vu_frontend_raw {
	uint32_t request;
	uint32_t flags;
	uint32_t size;
	const void *payload; /* n_payload bytes follow the header */
	size_t n_payload;
	const int *fds; /* stay the caller's */
	unsigned int n_fds;
};

struct vu_frontend_raw_reply {
	struct vu_header header;
	uint8_t payload[VU_PAYLOAD_MAX];
	unsigned int n_fds;
};

int vu_frontend_raw(struct vu_frontend *session, const struct vu_frontend_raw *message,
	struct vu_frontend_raw_reply *reply);

/*
 * The back end's own channel, made by negotiate if BACKEND_REQ was taken. Whatever it asks is read,
 * counted and refused: nothing of what it could ask for is ever negotiated. A back end that breaks
 * the protocol there loses the channel.
 */
uint64_t vu_frontend_n_backend_requests(const struct vu_frontend *session);
/* Answers what waits on that channel. Not needed while calls are made. 0, or -EPROTO: there is no
 * channel (any more). */
int vu_frontend_process_backend_requests(struct vu_frontend *session);

#endif
