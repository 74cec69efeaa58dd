/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A back-end session and a bare client at the other end of a socket pair, in one process and one
 * thread: the client writes bytes, the session is asked to process, the client looks at what came
 * back. Whatever a test does, closing the fixture asserts that file descriptors, shared mappings
 * and heap are back to where they were before it was opened.
 */
#ifndef TESTS_SESSION_FIXTURE_H
#define TESTS_SESSION_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <vhost/backend.h>
#include <vhost/frontend.h>

/* VERSION_1, MRG_RXBUF, INDIRECT_DESC, EVENT_IDX, IN_ORDER, MQ, and checksum and segmentation
 * offloads. */
#define FIXTURE_FEATURES                                                                           \
	(VU_BIT(32) | VU_BIT(15) | VU_BIT(28) | VU_BIT(29) | VU_BIT(35) | VU_BIT(22) | VU_BIT(0) | \
		VU_BIT(1) | VU_BIT(7) | VU_BIT(8) | VU_BIT(11) | VU_BIT(12))
#define FIXTURE_RING_PACKED VU_BIT(34)
#define FIXTURE_QUEUE_PAIRS 2
#define FIXTURE_RINGS       (2 * FIXTURE_QUEUE_PAIRS)
#define FIXTURE_RING_SIZE   8
#define FIXTURE_PROTOCOL                                                                           \
	(VU_BIT(VU_PROTOCOL_F_LOG_SHMFD) | VU_BIT(VU_PROTOCOL_F_MQ) |                             \
		VU_BIT(VU_PROTOCOL_F_RARP) | VU_BIT(VU_PROTOCOL_F_REPLY_ACK) |                    \
		VU_BIT(VU_PROTOCOL_F_NET_MTU) | VU_BIT(VU_PROTOCOL_F_BACKEND_REQ) |                \
		VU_BIT(VU_PROTOCOL_F_RESET_DEVICE) | VU_BIT(VU_PROTOCOL_F_CONFIGURE_MEM_SLOTS) |   \
		VU_BIT(VU_PROTOCOL_F_STATUS))

/* Where the guest sees its memory; a ring's parts are a page apart, a ring's memory 16 KiB. */
#define GUEST_GPA        0x100000u
#define GUEST_BYTES      (1u << 20)
#define RING_BYTES       0x4000u
#define RING_AVAIL_SHIFT 0x1000u
#define RING_USED_SHIFT  0x2000u

struct resources {
	unsigned int n_fds;
	unsigned int n_shared_mappings;
	size_t heap_bytes;
};

struct fixture {
	struct vu_backend *session;
	int fd; /* the client's end; -1: closed */
	struct vu_frontend_memory memory;
	uint64_t features; /* offered */
	unsigned int n_quiesce;
	unsigned int n_resume;
	bool quiesced;
	unsigned int n_rarp;
	uint8_t rarp_mac[6];
	unsigned int n_mtu;
	uint16_t mtu;
	struct resources before;
};

struct resources resources_now(void);
void resources_assert_equal(const struct resources *before);
/* The same for use within a session: a live chunk of the heap may be a few bytes larger than
 * another of its kind. */
void resources_assert_flat(const struct resources *before);

/* `config` may be NULL, or override deadlines, features and queue pairs (0: the defaults above). */
void fixture_open(struct fixture *f, const struct vu_backend_config *config);
/* The defaults, with packed rings or without. */
void fixture_open_layout(struct fixture *f, bool packed);
bool fixture_is_packed(const struct fixture *f);
/* What GET_VRING_BASE says and SET_VRING_BASE is sent when a ring of FIXTURE_RING_SIZE has used n
 * buffers of one descriptor each. */
uint32_t fixture_base(const struct fixture *f, uint32_t n);
void fixture_close(struct fixture *f);

/* A message, or part of one: `n_payload` bytes follow the header whatever its size field says. */
void client_write(struct fixture *f, uint32_t request, uint32_t flags, uint32_t size,
	const void *payload, size_t n_payload, const int *fds, unsigned int n_fds);
void client_write_bytes(
	struct fixture *f, const void *bytes, size_t n, const int *fds, unsigned int n_fds);

/* Lets the session work until nothing is left to do. 0, or -1: the session is over. */
int session_run(struct fixture *f);

/* Takes one reply off the socket, without waiting: false if there is none. */
bool client_read(struct fixture *f, struct vu_header *header, void *payload, size_t room);

/* What became of a request. */
enum outcome {
	OUTCOME_OK,      /* ack 0 */
	OUTCOME_REFUSED, /* ack not 0; asserts that the stream is in step */
	OUTCOME_CLOSED,  /* session over */
	OUTCOME_SILENT,  /* no answer */
};

/* Sends with need_reply and asserts that exactly one well-formed ack comes, or the end. */
enum outcome client_call(struct fixture *f, uint32_t request, const void *payload, uint32_t size,
	const int *fds, unsigned int n_fds);
enum outcome client_call_u64(struct fixture *f, uint32_t request, uint64_t value);
enum outcome client_call_state(struct fixture *f, uint32_t request, uint32_t index, uint32_t num);
enum outcome client_call_fd(struct fixture *f, uint32_t request, uint64_t value, int fd);

/* A request with a reply of its own, which must have exactly `size` bytes. */
void client_ask(struct fixture *f, uint32_t request, const void *payload, uint32_t n_payload,
	void *reply, uint32_t size);
uint64_t client_ask_u64(struct fixture *f, uint32_t request);
uint32_t client_get_base(struct fixture *f, uint32_t index);

/* The steps of a set-up; each asserts that it was accepted. */
void client_negotiate(struct fixture *f);
struct vu_region_payload guest_region(const struct fixture *f);
struct vu_ring_addr_payload guest_ring_addr(const struct fixture *f, uint32_t index);
enum outcome client_set_table(
	struct fixture *f, const struct vu_region_payload *regions, const int *fds, uint32_t n);
enum outcome client_add_region(struct fixture *f, const struct vu_region_payload *region, int fd);
enum outcome client_remove_region(struct fixture *f, const struct vu_region_payload *region);
void client_set_memory(struct fixture *f);
/* NUM, BASE, ADDR, KICK (no descriptor), ENABLE. */
void client_start_ring(struct fixture *f, uint32_t index);
/* All of the above for every ring. */
void client_start(struct fixture *f);

/* Makes one buffer of 64 readable or writable bytes available in a ring of FIXTURE_RING_SIZE, as
 * the avail_idx-th since its start. */
void guest_offer(struct fixture *f, uint32_t index, uint16_t avail_idx, bool writable);

/* Value of an eventfd, which is 0 again afterwards. */
uint64_t eventfd_drain(int fd);

/* A well-formed message of each kind, for tests that go through all of them. n_fds descriptors of a
 * fitting kind. */
struct sample {
	uint32_t size;
	uint8_t payload[VU_PAYLOAD_MAX];
	unsigned int n_fds;
	int fds[8];
};
void sample_open(struct fixture *f, uint32_t request, struct sample *sample);
void sample_close(struct sample *sample);

#endif
