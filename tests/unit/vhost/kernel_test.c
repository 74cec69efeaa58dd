/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The kernel's vhost-net as a session, against a kernel of our own: the linker puts __wrap_ioctl() in ioctl()'s place. It keeps
 * what it is told and refuses on demand. The real one is met in tests/wire/vhost/kernel_peer.c.
 */
#include <errno.h>
#include <linux/vhost.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <gmem/gmem.h>
#include <vhost/kernel.h>
#include <vring/layout.h>

#define BIT(n)     (UINT64_C(1) << (n))
#define ANY_FILE   "/dev/null"
#define RING_SIZE  256u
#define KICK       100
#define CALL       101
#define TAP        102
#define BASE       65530
#define MEMORY_END UINT64_C(0x140000000)
#define USED_GPA   UINT64_C(0x13ffff000)
#define LOG_BYTES  (MEMORY_END / 4096 / 8)
#define OFFERED    (BIT(15) | BIT(28) | BIT(29) | BIT(32))

#define N_ELEMENTS(array) (sizeof(array) / sizeof((array)[0]))

/* ---- the kernel ---- */

struct kernel_ring {
	unsigned int num;
	unsigned int base;
	struct vhost_vring_addr address;
	int kick, call, err, tap;
};

static struct {
	uint64_t offered;
	uint64_t features;
	uint64_t log_base;
	unsigned int n_regions;
	struct vhost_memory_region regions[GMEM_MAX_REGIONS];
	struct kernel_ring rings[2];
	/* What was asked, in order, and how many from which on are refused with `error`. */
	unsigned long asked[64];
	unsigned int n_asked;
	unsigned int refuse;
	unsigned int n_refusals;
	int error;
	bool is_owned;
} kernel;

static void kernel_memory(const struct vhost_memory *memory)
{
	assert_int_equal(memory->padding, 0);
	kernel.n_regions = memory->nregions;
	memcpy(kernel.regions, memory->regions, memory->nregions * sizeof(memory->regions[0]));
}

static void kernel_state(struct kernel_ring *ring, unsigned long request, struct vhost_vring_state *state)
{
	if (request == VHOST_GET_VRING_BASE) {
		state->num = ring->base;
		return;
	}
	/* As the real one: not with a tap. */
	assert_int_equal(ring->tap, -1);
	*(request == VHOST_SET_VRING_NUM ? &ring->num : &ring->base) = state->num;
}

static void kernel_file(struct kernel_ring *ring, unsigned long request, int fd)
{
	switch (request) {
	case VHOST_SET_VRING_KICK:
		ring->kick = fd;
		break;
	case VHOST_SET_VRING_CALL:
		ring->call = fd;
		break;
	case VHOST_SET_VRING_ERR:
		ring->err = fd;
		break;
	default:
		assert_int_equal(request, VHOST_NET_SET_BACKEND);
		ring->tap = fd;
	}
}

int __wrap_ioctl(int fd, unsigned long request, void *argument);
int __wrap_ioctl(int fd, unsigned long request, void *argument)
{
	assert_true(fd >= 0);
	assert_true(kernel.n_asked < N_ELEMENTS(kernel.asked));
	kernel.asked[kernel.n_asked] = request;
	if (kernel.n_asked++ >= kernel.refuse && kernel.n_refusals > 0) {
		kernel.n_refusals--;
		errno = kernel.error;
		return -1;
	}
	switch (request) {
	case VHOST_SET_OWNER:
		assert_false(kernel.is_owned);
		kernel.is_owned = true;
		break;
	case VHOST_GET_FEATURES:
		memcpy(argument, &kernel.offered, sizeof(kernel.offered));
		break;
	case VHOST_SET_FEATURES:
		memcpy(&kernel.features, argument, sizeof(kernel.features));
		break;
	case VHOST_SET_LOG_BASE:
		memcpy(&kernel.log_base, argument, sizeof(kernel.log_base));
		break;
	case VHOST_SET_MEM_TABLE:
		kernel_memory(argument);
		break;
	case VHOST_SET_VRING_NUM:
	case VHOST_SET_VRING_BASE:
	case VHOST_GET_VRING_BASE: {
		struct vhost_vring_state *state = argument;

		kernel_state(&kernel.rings[state->index], request, state);
		break;
	}
	case VHOST_SET_VRING_ADDR: {
		const struct vhost_vring_addr *address = argument;

		kernel.rings[address->index].address = *address;
		break;
	}
	default: {
		const struct vhost_vring_file *file = argument;

		kernel_file(&kernel.rings[file->index], request, file->fd);
	}
	}
	return 0;
}

static void kernel_refuse(unsigned int nth_from_now, int error)
{
	kernel.refuse = kernel.n_asked + nth_from_now;
	kernel.n_refusals = 1;
	kernel.error = error;
}

/* Whether the requests since `from` are these. */
static void expect_asked(unsigned int from, const unsigned long *requests, unsigned int n)
{
	assert_int_equal(kernel.n_asked - from, n);
	for (unsigned int i = 0; i < n; i++)
		assert_int_equal(kernel.asked[from + i], requests[i]);
}

static void expect_idle(unsigned int index)
{
	assert_int_equal(kernel.rings[index].tap, -1);
	assert_int_equal(kernel.rings[index].kick, -1);
	assert_int_equal(kernel.rings[index].call, -1);
}

/* ---- sessions ---- */

struct fixture {
	struct vhost_kernel *session;
	uint8_t *memory;
	uint8_t *log;
	struct vhost_kernel_region regions[2];
	int spare_fd; /* the lowest one that is free */
};

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	memset(&kernel, 0, sizeof(kernel));
	for (unsigned int i = 0; i < 2; i++)
		kernel.rings[i] = (struct kernel_ring){.kick = -1, .call = -1, .err = -1, .tap = -1};
	kernel.offered = OFFERED;
	f->spare_fd = dup(0);
	close(f->spare_fd);
	f->memory = aligned_alloc(4096, 0x10000);
	f->log = calloc(1, LOG_BYTES);
	f->regions[0] = (struct vhost_kernel_region){.gpa = 0, .size = 0x8000, .hva = f->memory};
	f->regions[1] =
		(struct vhost_kernel_region){.gpa = MEMORY_END - 0x8000, .size = 0x8000, .hva = f->memory + 0x8000};
	f->session = vhost_kernel_open(ANY_FILE);
	*state = f;
	return f->session != NULL ? 0 : -1;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;
	int fd;

	vhost_kernel_destroy(f->session);
	fd = dup(0);
	assert_int_equal(fd, f->spare_fd);
	close(fd);
	for (unsigned int i = 0; i < 2; i++)
		expect_idle(i);
	free(f->memory);
	free(f->log);
	free(f);
	return 0;
}

static struct vhost_kernel_ring ring_of(const struct fixture *f, unsigned int index)
{
	return (struct vhost_kernel_ring){
		.index = index,
		.size = RING_SIZE,
		.desc = f->memory,
		.avail = f->memory + 0x4000,
		.used = f->memory + 0x6000,
		.log_gpa = VHOST_KERNEL_NOT_LOGGED,
		.base = BASE,
		.kick_fd = KICK,
		.call_fd = CALL,
		.tap_fd = TAP,
	};
}

static void negotiate(const struct fixture *f)
{
	uint64_t taken = 0;

	assert_int_equal(vhost_kernel_negotiate(f->session, UINT64_MAX, &taken), 0);
	assert_true(taken == OFFERED);
}

static void start(const struct fixture *f, unsigned int index, uint64_t log_gpa)
{
	struct vhost_kernel_ring ring = ring_of(f, index);

	ring.log_gpa = log_gpa;
	assert_int_equal(vhost_kernel_ring_start(f->session, &ring), 0);
}

/* Negotiated, with memory and ring 0 running. */
static void run(const struct fixture *f)
{
	negotiate(f);
	assert_int_equal(vhost_kernel_set_memory(f->session, f->regions, 2), 0);
	start(f, 0, VHOST_KERNEL_NOT_LOGGED);
}

/* ---- tests ---- */

static void kernel_is_told_everything_in_the_order_it_needs(void **state)
{
	static const unsigned long negotiation[] = {VHOST_SET_OWNER, VHOST_GET_FEATURES, VHOST_SET_FEATURES};
	/* Nothing is polled before the ring is complete. */
	static const unsigned long starting[] = {VHOST_SET_VRING_NUM, VHOST_SET_VRING_BASE, VHOST_SET_VRING_ADDR,
		VHOST_SET_VRING_CALL, VHOST_SET_VRING_KICK, VHOST_NET_SET_BACKEND};
	/* The position is asked for when it cannot move any more. */
	static const unsigned long stopping[] = {
		VHOST_NET_SET_BACKEND, VHOST_GET_VRING_BASE, VHOST_SET_VRING_KICK, VHOST_SET_VRING_CALL};
	const struct fixture *f = *state;
	const struct kernel_ring *told = &kernel.rings[1];
	uint16_t base = 0;

	negotiate(f);
	expect_asked(0, negotiation, N_ELEMENTS(negotiation));
	assert_true(kernel.features == OFFERED);
	assert_int_equal(vhost_kernel_set_memory(f->session, f->regions, 2), 0);
	assert_int_equal(kernel.n_regions, 2);
	for (unsigned int i = 0; i < 2; i++) {
		assert_true(kernel.regions[i].guest_phys_addr == f->regions[i].gpa);
		assert_true(kernel.regions[i].memory_size == f->regions[i].size);
		assert_true(kernel.regions[i].userspace_addr == (uintptr_t)f->regions[i].hva);
	}

	kernel.n_asked = 0;
	start(f, 1, VHOST_KERNEL_NOT_LOGGED);
	expect_asked(0, starting, N_ELEMENTS(starting));
	assert_int_equal(told->num, RING_SIZE);
	assert_int_equal(told->base, BASE);
	assert_true(told->address.desc_user_addr == (uintptr_t)f->memory);
	assert_true(told->address.avail_user_addr == (uintptr_t)f->memory + 0x4000);
	assert_true(told->address.used_user_addr == (uintptr_t)f->memory + 0x6000);
	assert_int_equal(told->address.flags, 0);
	assert_int_equal(told->kick, KICK);
	assert_int_equal(told->call, CALL);
	assert_int_equal(told->tap, TAP);
	expect_idle(0);

	kernel.n_asked = 0;
	kernel.rings[1].base = 7;
	assert_int_equal(vhost_kernel_ring_stop(f->session, 1, &base), 0);
	expect_asked(0, stopping, N_ELEMENTS(stopping));
	assert_int_equal(base, 7);
	expect_idle(1);
	assert_string_equal(vhost_kernel_error(f->session), "");
}

static void bits_that_mean_something_else_here_are_never_taken(void **state)
{
	const struct fixture *f = *state;
	uint64_t taken;

	kernel.offered = UINT64_MAX;
	assert_int_equal(vhost_kernel_negotiate(f->session, UINT64_MAX, &taken), 0);
	assert_true(taken == (UINT64_MAX & ~(BIT(26) | BIT(27) | BIT(33) | BIT(34))));
	assert_true(kernel.features == taken);
	assert_true(vhost_kernel_offered(f->session) == taken);
	assert_true(vhost_kernel_features(f->session) == taken);
}

static void features_are_those_that_both_want(void **state)
{
	const struct fixture *f = *state;
	uint64_t taken;

	assert_int_equal(vhost_kernel_negotiate(f->session, BIT(29) | BIT(5) | BIT(32), &taken), 0);
	assert_true(taken == (BIT(29) | BIT(32)));
	assert_int_equal(vhost_kernel_set_features(f->session, BIT(15) | BIT(5), &taken), 0);
	assert_true(taken == BIT(15));
	assert_true(kernel.features == BIT(15));
	assert_true(vhost_kernel_features(f->session) == BIT(15));
	/* What was refused is not what there is. */
	kernel_refuse(0, EOPNOTSUPP);
	assert_int_equal(vhost_kernel_set_features(f->session, BIT(28), &taken), -EOPNOTSUPP);
	assert_true(vhost_kernel_features(f->session) == BIT(15));
}

static void missing_device_is_told_by_errno(void **state)
{
	errno = 0;
	assert_null(vhost_kernel_open("/dev/there is no such device"));
	assert_int_equal(errno, ENOENT);
	/* Nor is a machine's real one needed for this: a folder cannot be opened for writing. */
	assert_null(vhost_kernel_open("/dev"));
	assert_int_equal(errno, EISDIR);
	vhost_kernel_destroy(NULL);
}

static void rings_out_of_range_are_refused_and_nothing_is_said(void **state)
{
	const struct fixture *f = *state;
	const struct vhost_kernel_ring good = ring_of(f, 0);
	struct vhost_kernel_ring bad[14];
	unsigned int n = 0;

	negotiate(f);
	kernel.n_asked = 0;
	for (unsigned int i = 0; i < N_ELEMENTS(bad); i++)
		bad[i] = good;
	bad[n++].index = 2;
	bad[n++].index = UINT32_MAX;
	bad[n++].size = 0;
	bad[n++].size = 3;
	bad[n++].size = 65536;
	bad[n++].desc = NULL;
	bad[n++].desc = f->memory + 8;
	bad[n++].avail = f->memory + 1;
	bad[n++].avail = NULL;
	bad[n++].used = f->memory + 2;
	bad[n++].kick_fd = -1;
	bad[n++].tap_fd = -1;
	bad[n++].log_gpa = USED_GPA + 2;
	bad[n++].log_gpa = UINT64_MAX - 3;
	assert_int_equal(n, N_ELEMENTS(bad));
	for (unsigned int i = 0; i < n; i++) {
		assert_int_equal(vhost_kernel_ring_start(f->session, &bad[i]), -EINVAL);
		assert_string_not_equal(vhost_kernel_error(f->session), "");
	}
	assert_int_equal(vhost_kernel_ring_stop(f->session, 2, NULL), -EINVAL);
	assert_int_equal(vhost_kernel_ring_set_call(f->session, 2, CALL), -EINVAL);
	assert_int_equal(vhost_kernel_ring_set_err(f->session, 2, CALL), -EINVAL);
	assert_int_equal(kernel.n_asked, 0);
	assert_int_equal(vhost_kernel_ring_start(f->session, &good), 0);
}

static void regions_out_of_range_are_refused_and_nothing_is_said(void **state)
{
	static struct vhost_kernel_region many[GMEM_MAX_REGIONS + 1];
	const struct fixture *f = *state;
	const struct vhost_kernel_region bad[] = {
		{.gpa = 0, .size = 0, .hva = f->memory},
		{.gpa = 0, .size = 4096, .hva = NULL},
		{.gpa = UINT64_MAX - 4095, .size = 4096 + 1, .hva = f->memory},
		{.gpa = 0, .size = UINT64_MAX, .hva = f->memory},
	};

	negotiate(f);
	kernel.n_asked = 0;
	for (unsigned int i = 0; i < N_ELEMENTS(bad); i++) {
		struct vhost_kernel_region pair[2] = {f->regions[0], bad[i]};

		assert_int_equal(vhost_kernel_set_memory(f->session, pair, 2), -EINVAL);
	}
	for (unsigned int i = 0; i < N_ELEMENTS(many); i++)
		many[i] = (struct vhost_kernel_region){.gpa = i * UINT64_C(4096), .size = 4096, .hva = f->memory};
	assert_int_equal(vhost_kernel_set_memory(f->session, many, GMEM_MAX_REGIONS + 1), -EINVAL);
	assert_int_equal(kernel.n_asked, 0);
	assert_int_equal(vhost_kernel_set_memory(f->session, many, GMEM_MAX_REGIONS), 0);
	assert_int_equal(kernel.n_regions, GMEM_MAX_REGIONS);
	/* Guest memory that was taken away. */
	assert_int_equal(vhost_kernel_set_memory(f->session, NULL, 0), 0);
	assert_int_equal(kernel.n_regions, 0);
}

static void start_that_fails_anywhere_leaves_the_ring_stopped(void **state)
{
	const struct fixture *f = *state;
	const struct vhost_kernel_ring ring = ring_of(f, 1);

	negotiate(f);
	for (unsigned int i = 0; i < 6; i++) {
		kernel_refuse(i, EFAULT);
		assert_int_equal(vhost_kernel_ring_start(f->session, &ring), -EFAULT);
		assert_non_null(strstr(vhost_kernel_error(f->session), "ring 1: Bad address"));
		expect_idle(1);
		assert_int_equal(vhost_kernel_ring_stop(f->session, 1, NULL), -EINVAL);
		kernel.n_asked = 0;
	}
	assert_int_equal(vhost_kernel_ring_start(f->session, &ring), 0);
}

static void refusals_name_the_ioctl_and_the_first_one_counts(void **state)
{
	const struct fixture *f = *state;
	const struct vhost_kernel_ring ring = ring_of(f, 0);
	uint64_t taken;

	kernel_refuse(0, EBUSY);
	assert_int_equal(vhost_kernel_negotiate(f->session, 0, &taken), -EBUSY);
	assert_string_equal(vhost_kernel_error(f->session), "VHOST_SET_OWNER: Device or resource busy");
	kernel_refuse(0, E2BIG);
	assert_int_equal(vhost_kernel_set_memory(f->session, f->regions, 2), -E2BIG);
	assert_string_equal(vhost_kernel_error(f->session), "VHOST_SET_MEM_TABLE: Argument list too long");
	kernel_refuse(5, ENOTSOCK);
	assert_int_equal(vhost_kernel_ring_start(f->session, &ring), -ENOTSOCK);
	assert_string_equal(
		vhost_kernel_error(f->session), "VHOST_NET_SET_BACKEND: ring 0: Socket operation on non-socket");
	kernel_refuse(4, EINVAL);
	kernel.n_refusals = 2;
	assert_int_equal(vhost_kernel_ring_start(f->session, &ring), -EINVAL);
	assert_string_equal(vhost_kernel_error(f->session), "VHOST_SET_VRING_KICK: ring 0: Invalid argument");
	assert_int_equal(vhost_kernel_ring_start(f->session, &ring), 0);
	kernel_refuse(1, EFAULT);
	kernel.n_refusals = 2;
	assert_int_equal(vhost_kernel_ring_stop(f->session, 0, NULL), -EFAULT);
	assert_string_equal(vhost_kernel_error(f->session), "VHOST_GET_VRING_BASE: ring 0: Bad address");
	/* The fixture wants nothing held. */
	assert_int_equal(vhost_kernel_ring_start(f->session, &ring), 0);
}

static void what_runs_is_not_started_again_and_what_does_not_is_not_stopped(void **state)
{
	const struct fixture *f = *state;
	const struct vhost_kernel_ring ring = ring_of(f, 0);
	uint64_t taken;

	run(f);
	kernel.n_asked = 0;
	assert_int_equal(vhost_kernel_ring_start(f->session, &ring), -EBUSY);
	assert_int_equal(vhost_kernel_set_features(f->session, 0, &taken), -EBUSY);
	assert_int_equal(vhost_kernel_ring_stop(f->session, 1, NULL), -EINVAL);
	assert_int_equal(vhost_kernel_ring_set_call(f->session, 1, CALL), -EINVAL);
	assert_int_equal(kernel.n_asked, 0);
	assert_int_equal(kernel.rings[0].tap, TAP);
	assert_int_equal(vhost_kernel_ring_stop(f->session, 0, NULL), 0);
	assert_int_equal(vhost_kernel_set_features(f->session, 0, &taken), 0);
	assert_int_equal(vhost_kernel_ring_start(f->session, &ring), 0);
}

static void stop_that_is_refused_leaves_the_ring_running(void **state)
{
	const struct fixture *f = *state;
	uint16_t base = 1;

	run(f);
	kernel_refuse(0, EFAULT);
	assert_int_equal(vhost_kernel_ring_stop(f->session, 0, &base), -EFAULT);
	assert_int_equal(kernel.rings[0].tap, TAP);
	assert_int_equal(kernel.rings[0].kick, KICK);
	assert_int_equal(base, 1);
	/* Without its tap it is stopped, whatever else is refused. */
	kernel_refuse(1, EFAULT);
	assert_int_equal(vhost_kernel_ring_stop(f->session, 0, &base), -EFAULT);
	expect_idle(0);
	assert_int_equal(base, 1);
	assert_int_equal(vhost_kernel_ring_stop(f->session, 0, &base), -EINVAL);
}

static void call_and_error_descriptors_come_and_go(void **state)
{
	const struct fixture *f = *state;

	run(f);
	assert_int_equal(vhost_kernel_ring_set_call(f->session, 0, 55), 0);
	assert_int_equal(kernel.rings[0].call, 55);
	assert_int_equal(vhost_kernel_ring_set_call(f->session, 0, -9), 0);
	assert_int_equal(kernel.rings[0].call, VHOST_FILE_UNBIND);
	assert_int_equal(vhost_kernel_ring_set_err(f->session, 1, 56), 0);
	assert_int_equal(kernel.rings[1].err, 56);
	assert_int_equal(vhost_kernel_ring_set_err(f->session, 1, -1), 0);
	assert_int_equal(kernel.rings[1].err, VHOST_FILE_UNBIND);
}

static void log_reaches_running_and_later_rings_and_goes_again(void **state)
{
	const struct fixture *f = *state;

	run(f);
	assert_int_equal(vhost_kernel_ring_stop(f->session, 0, NULL), 0);
	start(f, 0, USED_GPA);
	assert_int_equal(kernel.rings[0].address.flags, 0);
	assert_int_equal(vhost_kernel_set_log(f->session, f->log, LOG_BYTES), 0);
	assert_true(kernel.log_base == (uintptr_t)f->log);
	assert_true(kernel.features == (OFFERED | BIT(VHOST_F_LOG_ALL)));
	assert_true(vhost_kernel_features(f->session) == OFFERED);
	assert_int_equal(kernel.rings[0].address.flags, 1u << VHOST_VRING_F_LOG);
	assert_true(kernel.rings[0].address.log_guest_addr == USED_GPA);
	assert_true(kernel.rings[0].address.used_user_addr == (uintptr_t)f->memory + 0x6000);
	start(f, 1, USED_GPA);
	assert_int_equal(kernel.rings[1].address.flags, 1u << VHOST_VRING_F_LOG);
	/* A ring in memory of our own is nobody's dirty page. */
	assert_int_equal(vhost_kernel_ring_stop(f->session, 1, NULL), 0);
	start(f, 1, VHOST_KERNEL_NOT_LOGGED);
	assert_int_equal(kernel.rings[1].address.flags, 0);

	assert_int_equal(vhost_kernel_set_log(f->session, NULL, 0), 0);
	assert_true(kernel.features == OFFERED);
	assert_int_equal(kernel.rings[0].address.flags, 0);
}

static void features_taken_anew_keep_the_log(void **state)
{
	const struct fixture *f = *state;
	uint64_t taken;

	negotiate(f);
	assert_int_equal(vhost_kernel_set_log(f->session, f->log, LOG_BYTES), 0);
	assert_int_equal(vhost_kernel_set_features(f->session, BIT(32), &taken), 0);
	assert_true(taken == BIT(32));
	assert_true(kernel.features == (BIT(32) | BIT(VHOST_F_LOG_ALL)));
}

static void kernel_never_gets_a_log_that_is_too_short(void **state)
{
	const struct fixture *f = *state;
	struct vhost_kernel_region larger = f->regions[1];
	struct vhost_kernel_ring ring = ring_of(f, 1);

	run(f);
	/* Of the running ring, of the memory. */
	kernel.n_asked = 0;
	assert_int_equal(vhost_kernel_set_log(f->session, f->log, LOG_BYTES - 1), -EINVAL);
	assert_int_equal(vhost_kernel_set_log(f->session, f->log, 0), -EINVAL);
	assert_int_equal(kernel.n_asked, 0);
	assert_int_equal(vhost_kernel_set_log(f->session, f->log, LOG_BYTES), 0);

	/* Of a later ring. */
	ring.log_gpa = MEMORY_END - vring_used_bytes(RING_SIZE) + 4;
	ring.log_gpa -= ring.log_gpa % 4;
	kernel.n_asked = 0;
	assert_int_equal(vhost_kernel_ring_start(f->session, &ring), -EINVAL);

	/* Of later memory. */
	larger.gpa += 8 * 4096;
	assert_int_equal(vhost_kernel_set_memory(f->session, &larger, 1), -EINVAL);
	assert_int_equal(kernel.n_asked, 0);
	assert_int_equal(vhost_kernel_set_memory(f->session, f->regions, 2), 0);

	/* Of a running ring that is not in the memory. */
	assert_int_equal(vhost_kernel_set_log(f->session, NULL, 0), 0);
	ring.log_gpa = MEMORY_END;
	assert_int_equal(vhost_kernel_ring_start(f->session, &ring), 0);
	assert_int_equal(vhost_kernel_set_log(f->session, f->log, LOG_BYTES), -EINVAL);
	assert_true(kernel.features == OFFERED);
}

static void end_of_a_session_stops_its_rings(void **state)
{
	struct fixture *f = *state;

	run(f);
	start(f, 1, VHOST_KERNEL_NOT_LOGGED);
	vhost_kernel_destroy(f->session);
	f->session = NULL;
	expect_idle(0);
	expect_idle(1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(kernel_is_told_everything_in_the_order_it_needs),
		TEST(bits_that_mean_something_else_here_are_never_taken),
		TEST(features_are_those_that_both_want),
		cmocka_unit_test(missing_device_is_told_by_errno),
		TEST(rings_out_of_range_are_refused_and_nothing_is_said),
		TEST(regions_out_of_range_are_refused_and_nothing_is_said),
		TEST(start_that_fails_anywhere_leaves_the_ring_stopped),
		TEST(refusals_name_the_ioctl_and_the_first_one_counts),
		TEST(what_runs_is_not_started_again_and_what_does_not_is_not_stopped),
		TEST(stop_that_is_refused_leaves_the_ring_running),
		TEST(call_and_error_descriptors_come_and_go),
		TEST(log_reaches_running_and_later_rings_and_goes_again),
		TEST(features_taken_anew_keep_the_log),
		TEST(kernel_never_gets_a_log_that_is_too_short),
		TEST(end_of_a_session_stops_its_rings),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
