/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the files of the back-end role share. Each message of VU_REQUESTS has a handler:
 *
 *     int backend_handle_<name>(session, message)
 *
 * It is called with size, number of descriptors and gate checked. It returns 0 (and has sent its
 * own reply, if the message has one), or a negative errno through backend_refuse(), having changed
 * nothing.
 */
#ifndef VHOST_BACKEND_PRIVATE_H
#define VHOST_BACKEND_PRIVATE_H

#include <string.h>

#include <base/log.h>
#include <vhost/backend.h>
#include <vhost/connection.h>

#define VIRTIO_STATUS_NEEDS_RESET 0x40u

/*
 * Not offered, and why:
 *   CONFIG         the VMM owns the configuration space of a network device
 *   PAGEFAULT      a missing page would stall a polling worker and with it every other port
 *   INFLIGHT_SHMFD buffers are used in order and returned at once: nothing to remember
 *   DEVICE_STATE   no state yet that the VMM does not have
 *   GPA_ADDRESSES  bit 21 means SHMEM to older front ends
 *   CROSS_ENDIAN, CRYPTO_SESSION, HOST_NOTIFIER, INBAND_NOTIFICATIONS and the rest are not for this device
 */
#define VU_BACKEND_PROTOCOL_FEATURES                                                               \
	(VU_BIT(VU_PROTOCOL_F_LOG_SHMFD) | VU_BIT(VU_PROTOCOL_F_MQ) | VU_BIT(VU_PROTOCOL_F_RARP) | VU_BIT(VU_PROTOCOL_F_REPLY_ACK) | \
		VU_BIT(VU_PROTOCOL_F_NET_MTU) | VU_BIT(VU_PROTOCOL_F_BACKEND_REQ) |                \
		VU_BIT(VU_PROTOCOL_F_RESET_DEVICE) | VU_BIT(VU_PROTOCOL_F_CONFIGURE_MEM_SLOTS) |   \
		VU_BIT(VU_PROTOCOL_F_STATUS))

/* A ring and what the front end said about it. Addresses are kept as it knows them, for they
 * outlive a memory table. */
struct backend_ring {
	struct vu_ring shared;
	bool has_addr;
	bool has_base;
	struct vu_ring_addr_payload addr;
	uint32_t base; /* where to start, as SET_VRING_BASE has it; after a stop, where it stopped */
};

struct vu_backend {
	struct vu_connection connection;
	char name[64];
	const struct vu_backend_ops *ops;
	void *ctx;

	uint64_t offered;  /* with bit 30 */
	uint64_t features; /* acked */
	bool has_features;
	uint64_t protocol_features;
	uint8_t status;
	struct gmem *mem;
	unsigned int n_memory_slots;
	bool keeps_memory;
	uint64_t memory_serial;
	unsigned int n_specs;
	struct gmem_region_spec *specs; /* keeps_memory; descriptors are ours */
	struct gmem_log *log; /* SET_LOG_BASE; NULL: none */
	int channel_fd; /* SET_BACKEND_REQ_FD; -1: none */
	unsigned int n_rings;
	struct backend_ring rings[VU_MAX_RINGS];

	pid_t peer_pid;
	uid_t peer_uid;
	bool closed;
	enum vu_close_reason close_reason;
	char error[256]; /* of the message being handled, then of the end */
	uint64_t n_refused;
	struct log_limit *log_limit;  /* the user's, or own_log_limit */
	struct log_limit own_log_limit;
};

#define VU_DECLARE(id, name, min, max, fds, gate, reply, handler)                                  \
	int backend_handle_##handler(struct vu_backend *session, struct vu_message *message);
VU_REQUESTS(VU_DECLARE)
#undef VU_DECLARE

/* Notes why the message is refused and hands the code through. */
int backend_refuse(struct vu_backend *session, int code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* Sends the reply of the message being handled. */
int backend_reply(struct vu_backend *session, const void *payload, size_t size);
int backend_reply_u64(struct vu_backend *session, uint64_t value);

/* RUNNING or BROKEN: what it was initialised with may not change under it. */
static inline bool backend_ring_is_live(const struct backend_ring *ring)
{
	return ring->shared.state == VU_RING_RUNNING || ring->shared.state == VU_RING_BROKEN;
}

bool backend_has_live_ring(const struct vu_backend *session);

/* Between quiesce and resume: makes a STARTED ring RUNNING if nothing is missing any more. */
void backend_ring_evaluate(struct vu_backend *session, unsigned int index);

/* 0, or a refusal: these features say that this memory is logged, and the log is too short for it. */
int backend_log_check(struct vu_backend *session, uint64_t features, const struct gmem *mem);

/* Between quiesce and resume: makes rings log, or not, by what is set now. */
void backend_ring_log_update(struct vu_backend *session, unsigned int index);
void backend_rings_log_update(struct vu_backend *session);

/* Between quiesce and resume: takes a running ring back to STARTED, keeping its position, before
 * memory goes away. */
void backend_ring_suspend(struct vu_backend *session, unsigned int index);

/* Forgets what was kept of the memory table. */
void backend_memory_forget(struct vu_backend *session);

/* Between quiesce and resume: stops every ring and forgets its set-up; call and error descriptors
 * stay. */
void backend_rings_reset(struct vu_backend *session);

/* Between quiesce and resume, from SET_FEATURES and RESET_OWNER. */
void backend_rings_enable_all(struct vu_backend *session, bool enabled);

/* Closes what the rings own. */
void backend_rings_close(struct vu_backend *session);

static inline uint64_t message_u64(const struct vu_message *message)
{
	uint64_t value;

	memcpy(&value, message->payload, sizeof(value));
	return value;
}

#endif
