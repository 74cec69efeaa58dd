/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The messages of vhost-user as both roles see them: numbers, payloads and, in one row per message,
 * what is legal.
 *
 * Plain data, no state, any thread. Integers are in the host's byte order.
 */
#ifndef VHOST_MESSAGE_H
#define VHOST_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VU_BIT(n) (UINT64_C(1) << (n))

/* Virtio-level feature bits that belong to the transport, not to the device. */
#define VHOST_USER_F_LOG_ALL           26
#define VHOST_USER_F_PROTOCOL_FEATURES 30

enum vu_protocol_feature {
	VU_PROTOCOL_F_MQ = 0,
	VU_PROTOCOL_F_LOG_SHMFD = 1,
	VU_PROTOCOL_F_RARP = 2,
	VU_PROTOCOL_F_REPLY_ACK = 3,
	VU_PROTOCOL_F_NET_MTU = 4,
	VU_PROTOCOL_F_BACKEND_REQ = 5,
	VU_PROTOCOL_F_CROSS_ENDIAN = 6,
	VU_PROTOCOL_F_CRYPTO_SESSION = 7,
	VU_PROTOCOL_F_PAGEFAULT = 8,
	VU_PROTOCOL_F_CONFIG = 9,
	VU_PROTOCOL_F_BACKEND_SEND_FD = 10,
	VU_PROTOCOL_F_HOST_NOTIFIER = 11,
	VU_PROTOCOL_F_INFLIGHT_SHMFD = 12,
	VU_PROTOCOL_F_RESET_DEVICE = 13,
	VU_PROTOCOL_F_INBAND_NOTIFICATIONS = 14,
	VU_PROTOCOL_F_CONFIGURE_MEM_SLOTS = 15,
	VU_PROTOCOL_F_STATUS = 16,
	VU_PROTOCOL_F_XEN_MMAP = 17,
	VU_PROTOCOL_F_SHARED_OBJECT = 18,
	VU_PROTOCOL_F_DEVICE_STATE = 19,
	VU_PROTOCOL_F_GET_VRING_BASE_INFLIGHT = 20,
	VU_PROTOCOL_F_GPA_ADDRESSES = 21,
	VU_PROTOCOL_F_SHMEM = 22,
	VU_PROTOCOL_F_GET_VRING_BASE_SKIP_DRAIN = 23,
	VU_N_PROTOCOL_FEATURES,
};

/* Bits 0-1 of the flags hold the version, always 1. Bits 4-31 are reserved and never echoed. */
#define VU_FLAGS_VERSION_MASK 0x3u
#define VU_FLAGS_VERSION      0x1u
#define VU_FLAGS_REPLY        0x4u
#define VU_FLAGS_NEED_REPLY   0x8u

struct vu_header {
	uint32_t request;
	uint32_t flags;
	uint32_t size; /* bytes of the payload alone */
};

/* A longer payload closes the connection before it is read. The longest known has 2056 bytes. */
#define VU_PAYLOAD_MAX 4096

/* Regions of one SET_MEM_TABLE. */
#define VU_MEM_TABLE_MAX 8

/* The u64 of SET_VRING_KICK, _CALL and _ERR. */
#define VU_RING_FD_INDEX_MASK 0xffu
#define VU_RING_FD_NONE       0x100u

struct vu_ring_state_payload {
	uint32_t index;
	uint32_t num;
};

struct vu_ring_addr_payload {
	uint32_t index;
	uint32_t flags;
	uint64_t desc_uva;
	uint64_t used_uva;
	uint64_t avail_uva;
	uint64_t log_gpa;
};
#define VU_RING_ADDR_LOG 0x1u

struct vu_region_payload {
	uint64_t gpa;
	uint64_t size;
	uint64_t uva;
	uint64_t mmap_offset;
};

struct vu_mem_table_payload {
	uint32_t n_regions;
	uint32_t padding;
	struct vu_region_payload regions[VU_MEM_TABLE_MAX];
};

struct vu_mem_region_payload {
	uint64_t padding;
	struct vu_region_payload region;
};

struct vu_log_payload {
	uint64_t mmap_size;
	uint64_t mmap_offset;
};

/* Older QEMU left out the last four bytes of the single region, half of an offset that was zero. */
#define VU_MEM_REGION_BYTES_OLD 36

_Static_assert(sizeof(struct vu_header) == 12, "as on the wire");
_Static_assert(sizeof(struct vu_ring_state_payload) == 8, "as on the wire");
_Static_assert(sizeof(struct vu_ring_addr_payload) == 40, "as on the wire");
_Static_assert(sizeof(struct vu_region_payload) == 32, "as on the wire");
_Static_assert(sizeof(struct vu_mem_table_payload) == 264, "as on the wire");
_Static_assert(sizeof(struct vu_mem_region_payload) == 40, "as on the wire");
_Static_assert(sizeof(struct vu_log_payload) == 16, "as on the wire");

/* How many file descriptors a message carries. */
enum vu_fd_rule {
	VU_FDS_NONE,
	VU_FDS_ONE,
	VU_FDS_BY_RING,    /* 0 with VU_RING_FD_NONE in the u64, otherwise 1 */
	VU_FDS_PER_REGION, /* as many as the table has regions */
	VU_FDS_TOLERATED,  /* 0; 1 is closed unused (REM_MEM_REG of older QEMU) */
};

/* What must have been negotiated: a protocol feature bit, or a virtio feature bit so marked. */
#define VU_GATE_NONE        (-1)
#define VU_GATE_VIRTIO(bit) (64 + (bit))

/* Payload bytes of the message's own reply, or one of these. */
#define VU_REPLY_ACK      (-1) /* none of its own; the u64 of REPLY_ACK if asked for */
#define VU_REPLY_VARIABLE (-2)

/*
 * One row per front-end request:
 *   X(id, name, payload min, payload max, fd rule, gate, reply, handler of the back end)
 * `unsupported` stands for messages whose gate a net back end never offers (or, without a gate,
 * that are not for net).
 */
#define VU_REQUESTS(X) \
	X(1, GET_FEATURES, 0, 0, VU_FDS_NONE, VU_GATE_NONE, 8, get_features) \
	X(2, SET_FEATURES, 8, 8, VU_FDS_NONE, VU_GATE_NONE, VU_REPLY_ACK, set_features) \
	X(3, SET_OWNER, 0, 0, VU_FDS_NONE, VU_GATE_NONE, VU_REPLY_ACK, set_owner) \
	X(4, RESET_OWNER, 0, 0, VU_FDS_NONE, VU_GATE_NONE, VU_REPLY_ACK, reset_owner) \
	X(5, SET_MEM_TABLE, 8, 264, VU_FDS_PER_REGION, VU_GATE_NONE, VU_REPLY_ACK, set_mem_table) \
	X(6, SET_LOG_BASE, 16, 16, VU_FDS_ONE, VU_PROTOCOL_F_LOG_SHMFD, 16, set_log_base) \
	X(7, SET_LOG_FD, 0, 8, VU_FDS_ONE, VU_GATE_NONE, VU_REPLY_ACK, set_log_fd) \
	X(8, SET_VRING_NUM, 8, 8, VU_FDS_NONE, VU_GATE_NONE, VU_REPLY_ACK, set_vring_num) \
	X(9, SET_VRING_ADDR, 40, 40, VU_FDS_NONE, VU_GATE_NONE, VU_REPLY_ACK, set_vring_addr) \
	X(10, SET_VRING_BASE, 8, 8, VU_FDS_NONE, VU_GATE_NONE, VU_REPLY_ACK, set_vring_base) \
	X(11, GET_VRING_BASE, 8, 8, VU_FDS_NONE, VU_GATE_NONE, 8, get_vring_base) \
	X(12, SET_VRING_KICK, 8, 8, VU_FDS_BY_RING, VU_GATE_NONE, VU_REPLY_ACK, set_vring_kick) \
	X(13, SET_VRING_CALL, 8, 8, VU_FDS_BY_RING, VU_GATE_NONE, VU_REPLY_ACK, set_vring_call) \
	X(14, SET_VRING_ERR, 8, 8, VU_FDS_BY_RING, VU_GATE_NONE, VU_REPLY_ACK, set_vring_err) \
	X(15, GET_PROTOCOL_FEATURES, 0, 0, VU_FDS_NONE, VU_GATE_NONE, 8, get_protocol_features) \
	X(16, SET_PROTOCOL_FEATURES, 8, 8, VU_FDS_NONE, VU_GATE_NONE, VU_REPLY_ACK, \
		set_protocol_features) \
	X(17, GET_QUEUE_NUM, 0, 0, VU_FDS_NONE, VU_PROTOCOL_F_MQ, 8, get_queue_num) \
	X(18, SET_VRING_ENABLE, 8, 8, VU_FDS_NONE, VU_GATE_VIRTIO(VHOST_USER_F_PROTOCOL_FEATURES), \
		VU_REPLY_ACK, set_vring_enable) \
	X(19, SEND_RARP, 8, 8, VU_FDS_NONE, VU_PROTOCOL_F_RARP, VU_REPLY_ACK, send_rarp) \
	X(20, NET_SET_MTU, 8, 8, VU_FDS_NONE, VU_PROTOCOL_F_NET_MTU, VU_REPLY_ACK, net_set_mtu) \
	X(21, SET_BACKEND_REQ_FD, 0, 8, VU_FDS_ONE, VU_PROTOCOL_F_BACKEND_REQ, VU_REPLY_ACK, \
		set_backend_req_fd) \
	X(22, IOTLB_MSG, 26, 32, VU_FDS_NONE, VU_GATE_VIRTIO(33), 8, unsupported) \
	X(23, SET_VRING_ENDIAN, 8, 8, VU_FDS_NONE, VU_PROTOCOL_F_CROSS_ENDIAN, VU_REPLY_ACK, \
		unsupported) \
	X(24, GET_CONFIG, 12, 268, VU_FDS_NONE, VU_PROTOCOL_F_CONFIG, VU_REPLY_VARIABLE, \
		unsupported) \
	X(25, SET_CONFIG, 12, 268, VU_FDS_NONE, VU_PROTOCOL_F_CONFIG, VU_REPLY_ACK, unsupported) \
	X(26, CREATE_CRYPTO_SESSION, 0, VU_PAYLOAD_MAX, VU_FDS_NONE, VU_PROTOCOL_F_CRYPTO_SESSION, \
		VU_REPLY_VARIABLE, unsupported) \
	X(27, CLOSE_CRYPTO_SESSION, 8, 8, VU_FDS_NONE, VU_PROTOCOL_F_CRYPTO_SESSION, VU_REPLY_ACK, \
		unsupported) \
	X(28, POSTCOPY_ADVISE, 0, 0, VU_FDS_NONE, VU_PROTOCOL_F_PAGEFAULT, 0, unsupported) \
	X(29, POSTCOPY_LISTEN, 0, 0, VU_FDS_NONE, VU_PROTOCOL_F_PAGEFAULT, VU_REPLY_ACK, \
		unsupported) \
	X(30, POSTCOPY_END, 0, 0, VU_FDS_NONE, VU_PROTOCOL_F_PAGEFAULT, 8, unsupported) \
	X(31, GET_INFLIGHT_FD, 20, 24, VU_FDS_NONE, VU_PROTOCOL_F_INFLIGHT_SHMFD, \
		VU_REPLY_VARIABLE, unsupported) \
	X(32, SET_INFLIGHT_FD, 20, 24, VU_FDS_ONE, VU_PROTOCOL_F_INFLIGHT_SHMFD, VU_REPLY_ACK, \
		unsupported) \
	X(33, GPU_SET_SOCKET, 0, 0, VU_FDS_ONE, VU_GATE_NONE, VU_REPLY_ACK, unsupported) \
	X(34, RESET_DEVICE, 0, 0, VU_FDS_NONE, VU_PROTOCOL_F_RESET_DEVICE, VU_REPLY_ACK, \
		reset_device) \
	X(35, VRING_KICK, 8, 8, VU_FDS_NONE, VU_PROTOCOL_F_INBAND_NOTIFICATIONS, VU_REPLY_ACK, \
		unsupported) \
	X(36, GET_MAX_MEM_SLOTS, 0, 0, VU_FDS_NONE, VU_PROTOCOL_F_CONFIGURE_MEM_SLOTS, 8, \
		get_max_mem_slots) \
	X(37, ADD_MEM_REG, VU_MEM_REGION_BYTES_OLD, 40, VU_FDS_ONE, \
		VU_PROTOCOL_F_CONFIGURE_MEM_SLOTS, VU_REPLY_ACK, add_mem_reg) \
	X(38, REM_MEM_REG, VU_MEM_REGION_BYTES_OLD, 40, VU_FDS_TOLERATED, \
		VU_PROTOCOL_F_CONFIGURE_MEM_SLOTS, VU_REPLY_ACK, rem_mem_reg) \
	X(39, SET_STATUS, 8, 8, VU_FDS_NONE, VU_PROTOCOL_F_STATUS, VU_REPLY_ACK, set_status) \
	X(40, GET_STATUS, 0, 0, VU_FDS_NONE, VU_PROTOCOL_F_STATUS, 8, get_status) \
	X(41, GET_SHARED_OBJECT, 16, 16, VU_FDS_NONE, VU_PROTOCOL_F_SHARED_OBJECT, \
		VU_REPLY_VARIABLE, unsupported) \
	X(42, SET_DEVICE_STATE_FD, 8, 8, VU_FDS_ONE, VU_PROTOCOL_F_DEVICE_STATE, 8, unsupported) \
	X(43, CHECK_DEVICE_STATE, 0, 0, VU_FDS_NONE, VU_PROTOCOL_F_DEVICE_STATE, 8, unsupported) \
	X(44, GET_SHMEM_CONFIG, 0, 0, VU_FDS_NONE, VU_PROTOCOL_F_SHMEM, 2056, unsupported) \
	X(45, GET_VRING_BASE_SKIP_DRAIN, 8, 8, VU_FDS_NONE, \
		VU_PROTOCOL_F_GET_VRING_BASE_SKIP_DRAIN, 8, unsupported)

enum vu_request {
#define VU_ENUM(id, name, ...) VU_REQUEST_##name = (id),
	VU_REQUESTS(VU_ENUM)
#undef VU_ENUM
		VU_N_REQUESTS,
};

/* As VU_REQUESTS, without handlers, for the requests a back end sends on its own channel. */
#define VU_BACKEND_REQUESTS(X) \
	X(1, IOTLB_MSG, 26, 32, VU_FDS_NONE, VU_GATE_VIRTIO(33), VU_REPLY_ACK) \
	X(2, CONFIG_CHANGE, 0, 0, VU_FDS_NONE, VU_PROTOCOL_F_CONFIG, VU_REPLY_ACK) \
	X(3, VRING_HOST_NOTIFIER, 24, 24, VU_FDS_BY_RING, VU_PROTOCOL_F_HOST_NOTIFIER, \
		VU_REPLY_ACK) \
	X(4, VRING_CALL, 8, 8, VU_FDS_NONE, VU_PROTOCOL_F_INBAND_NOTIFICATIONS, VU_REPLY_ACK) \
	X(5, VRING_ERR, 8, 8, VU_FDS_NONE, VU_PROTOCOL_F_INBAND_NOTIFICATIONS, VU_REPLY_ACK) \
	X(6, SHARED_OBJECT_ADD, 16, 16, VU_FDS_NONE, VU_PROTOCOL_F_SHARED_OBJECT, VU_REPLY_ACK) \
	X(7, SHARED_OBJECT_REMOVE, 16, 16, VU_FDS_NONE, VU_PROTOCOL_F_SHARED_OBJECT, VU_REPLY_ACK) \
	X(8, SHARED_OBJECT_LOOKUP, 16, 16, VU_FDS_NONE, VU_PROTOCOL_F_SHARED_OBJECT, 8) \
	X(9, SHMEM_MAP, 40, 40, VU_FDS_ONE, VU_PROTOCOL_F_SHMEM, VU_REPLY_ACK) \
	X(10, SHMEM_UNMAP, 40, 40, VU_FDS_NONE, VU_PROTOCOL_F_SHMEM, VU_REPLY_ACK)

enum vu_backend_request {
#define VU_ENUM(id, name, ...) VU_BACKEND_REQUEST_##name = (id),
	VU_BACKEND_REQUESTS(VU_ENUM)
#undef VU_ENUM
		VU_N_BACKEND_REQUESTS,
};

struct vu_rule {
	const char *name;
	uint16_t payload_min;
	uint16_t payload_max;
	uint8_t fds;   /* enum vu_fd_rule */
	int8_t gate;   /* VU_GATE_* or protocol feature bit */
	int16_t reply; /* VU_REPLY_* or payload bytes */
};

/* NULL for a number without a row. */
const struct vu_rule *vu_request_rule(uint32_t request);
const struct vu_rule *vu_backend_request_rule(uint32_t request);

/* "SET_MEM_TABLE", or "request" for a number without a row. */
const char *vu_request_name(uint32_t request);

/* True if what the message needs is among the negotiated bits. */
bool vu_rule_gate_is_open(
	const struct vu_rule *rule, uint64_t features, uint64_t protocol_features);

/* Names of feature and protocol feature bits ("MRG_RXBUF", "REPLY_ACK"); NULL: it has none. */
const char *vu_feature_name(unsigned int bit);
const char *vu_protocol_feature_name(unsigned int bit);

/*
 * Virtio 5.1.3.1: some features need others. Returns -1 if the set is consistent, otherwise a bit
 * whose prerequisite is missing; *needed (may be NULL) is that prerequisite, or one of several that
 * would do. Those that lie in the control queue are not asked for: a VMM that serves that queue
 * itself does not pass its bit on.
 */
int vu_features_inconsistent(uint64_t features, unsigned int *needed);

#endif
