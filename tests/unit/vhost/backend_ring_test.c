/* SPDX-License-Identifier: BSD-3-Clause */
/* Rings through messages: set-up in any order, start, stop, enable, notification descriptors,
 * broken rings. */
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "session_fixture.h"

#define N_ELEMENTS(array) (sizeof(array) / sizeof((array)[0]))

static const uint32_t state_requests[] = {
	VU_REQUEST_SET_VRING_NUM, VU_REQUEST_SET_VRING_BASE, VU_REQUEST_SET_VRING_ENABLE};
static const uint32_t fd_requests[] = {
	VU_REQUEST_SET_VRING_KICK, VU_REQUEST_SET_VRING_CALL, VU_REQUEST_SET_VRING_ERR};

static int use_all(struct vu_ring *ring, enum vring_direction direction)
{
	static struct vring_burst burst;
	int n = vring_device_peek(&ring->device, &burst, direction, 32);

	if (n > 0) {
		vring_device_return(&ring->device, &burst, (unsigned int)n);
		vring_device_publish(&ring->device);
	}
	return n;
}

static void ring_index_is_never_cut(void **state)
{
	static const uint32_t bad[] = {FIXTURE_RINGS, FIXTURE_RINGS + 1, 0x80, 0xff, 0x101, 0x200,
		0x10000, 0x10001, 0x80000000, UINT32_MAX};
	struct fixture f;

	fixture_open(&f, NULL);
	client_negotiate(&f);
	for (size_t i = 0; i < N_ELEMENTS(bad); i++) {
		struct vu_ring_addr_payload addr = guest_ring_addr(&f, 0);
		uint64_t with_high_bits = (uint64_t)bad[i] << 32;

		for (size_t r = 0; r < N_ELEMENTS(state_requests); r++)
			assert_int_equal(client_call_state(&f, state_requests[r], bad[i], 1),
				OUTCOME_REFUSED);
		addr.index = bad[i];
		assert_int_equal(
			client_call(&f, VU_REQUEST_SET_VRING_ADDR, &addr, sizeof(addr), NULL, 0),
			OUTCOME_REFUSED);
		for (size_t r = 0; r < N_ELEMENTS(fd_requests); r++) {
			assert_int_equal(
				client_call_fd(&f, fd_requests[r], bad[i] | VU_RING_FD_NONE, -1),
				bad[i] == 0x101 ? OUTCOME_OK : OUTCOME_REFUSED);
			assert_int_equal(client_call_fd(&f, fd_requests[r],
						 with_high_bits | VU_RING_FD_NONE, -1),
				OUTCOME_REFUSED);
		}
	}
	/* 0x101 is ring 1 without a descriptor, and legal. */
	for (uint32_t i = 0; i < FIXTURE_RINGS; i++) {
		assert_int_equal(vu_backend_ring(f.session, i)->state,
			i == 1 ? VU_RING_STARTED : VU_RING_STOPPED);
		assert_int_equal(vu_backend_ring(f.session, i)->size, 0);
		assert_false(vu_backend_ring(f.session, i)->enabled);
	}
	fixture_close(&f);
}

static void base_of_a_ring_that_cannot_exist_ends_the_session(void **state)
{
	static const uint32_t bad[] = {FIXTURE_RINGS, 0x100, 0x10000, UINT32_MAX};
	struct fixture f;

	for (size_t i = 0; i < N_ELEMENTS(bad); i++) {
		fixture_open(&f, NULL);
		client_negotiate(&f);
		assert_int_equal(client_call_state(&f, VU_REQUEST_GET_VRING_BASE, bad[i], 0),
			OUTCOME_CLOSED);
		assert_int_equal(vu_backend_close_reason(f.session), VU_CLOSE_PROTOCOL);
		fixture_close(&f);
	}
}

static void size_must_be_a_power_of_two_up_to_32768(void **state)
{
	static const uint32_t bad[] = {
		0, 3, 5, 255, 32767, 32769, 65535, 65536, 1u << 31, UINT32_MAX};
	struct fixture f;

	fixture_open(&f, NULL);
	client_negotiate(&f);
	for (size_t i = 0; i < N_ELEMENTS(bad); i++)
		assert_int_equal(client_call_state(&f, VU_REQUEST_SET_VRING_NUM, 0, bad[i]),
			OUTCOME_REFUSED);
	assert_int_equal(vu_backend_ring(f.session, 0)->size, 0);
	for (uint32_t size = 1; size <= 32768; size *= 2) {
		assert_int_equal(
			client_call_state(&f, VU_REQUEST_SET_VRING_NUM, 0, size), OUTCOME_OK);
		assert_int_equal(vu_backend_ring(f.session, 0)->size, size);
	}
	fixture_close(&f);
}

static void base_beyond_16_bits_is_refused(void **state)
{
	struct fixture f;

	fixture_open(&f, NULL);
	client_negotiate(&f);
	assert_int_equal(
		client_call_state(&f, VU_REQUEST_SET_VRING_BASE, 0, 65536 + 5), OUTCOME_REFUSED);
	assert_int_equal(
		client_call_state(&f, VU_REQUEST_SET_VRING_BASE, 0, UINT32_MAX), OUTCOME_REFUSED);
	assert_int_equal(client_get_base(&f, 0), 0);
	assert_int_equal(client_call_state(&f, VU_REQUEST_SET_VRING_BASE, 0, 65535), OUTCOME_OK);
	assert_int_equal(client_get_base(&f, 0), 65535);
	fixture_close(&f);
}

static void base_far_from_the_available_index_breaks_the_ring_only(void **state)
{
	struct fixture f;

	fixture_open(&f, NULL);
	client_negotiate(&f);
	client_set_memory(&f);
	client_start_ring(&f, 1);
	assert_int_equal(client_get_base(&f, 1), 0);
	assert_int_equal(client_call_state(&f, VU_REQUEST_SET_VRING_BASE, 1, 1000), OUTCOME_OK);
	assert_int_equal(
		client_call_fd(&f, VU_REQUEST_SET_VRING_KICK, 1 | VU_RING_FD_NONE, -1), OUTCOME_OK);
	assert_true(use_all(vu_backend_ring(f.session, 1), VRING_READABLE) < 0);
	client_start_ring(&f, 3);
	guest_offer(&f, 3, 0, false);
	assert_int_equal(use_all(vu_backend_ring(f.session, 3), VRING_READABLE), 1);
	fixture_close(&f);
}

/* The messages of a set-up whose order is free. */
enum step { NUM, ADDR, BASE, KICK, CALL, ENABLE, TABLE, N_STEPS };

static void step_send(struct fixture *f, enum step step, int call_fd)
{
	const struct vu_ring_addr_payload addr = guest_ring_addr(f, 1);
	enum outcome outcome = OUTCOME_SILENT;

	switch (step) {
	case NUM:
		outcome = client_call_state(f, VU_REQUEST_SET_VRING_NUM, 1, FIXTURE_RING_SIZE);
		break;
	case ADDR:
		outcome = client_call(f, VU_REQUEST_SET_VRING_ADDR, &addr, sizeof(addr), NULL, 0);
		break;
	case BASE:
		outcome = client_call_state(f, VU_REQUEST_SET_VRING_BASE, 1, fixture_base(f, 0));
		break;
	case KICK:
		outcome = client_call_fd(f, VU_REQUEST_SET_VRING_KICK, 1 | VU_RING_FD_NONE, -1);
		break;
	case CALL:
		outcome = client_call_fd(f, VU_REQUEST_SET_VRING_CALL, 1, call_fd);
		break;
	case ENABLE:
		outcome = client_call_state(f, VU_REQUEST_SET_VRING_ENABLE, 1, 1);
		break;
	case TABLE:
		client_set_memory(f);
		outcome = OUTCOME_OK;
		break;
	case N_STEPS:
		break;
	}
	assert_int_equal(outcome, OUTCOME_OK);
}

static void expect_after_setup(struct fixture *f, unsigned int missing)
{
	struct vu_ring *ring = vu_backend_ring(f->session, 1);
	bool runs = missing == N_STEPS || missing == CALL || missing == ENABLE;

	assert_int_equal(ring->state == VU_RING_RUNNING, runs);
	assert_int_equal(ring->enabled, missing != ENABLE);
	assert_int_equal(ring->call_fd >= 0, missing != CALL);
	if (!runs)
		return;
	guest_offer(f, 1, 0, false);
	assert_int_equal(use_all(ring, VRING_READABLE), 1);
	assert_int_equal(client_get_base(f, 1), fixture_base(f, 1));
}

/* As a new session would find it. */
static void setup_undo(struct fixture *f)
{
	assert_int_equal(client_call(f, VU_REQUEST_RESET_DEVICE, NULL, 0, NULL, 0), OUTCOME_OK);
	assert_int_equal(
		client_call_fd(f, VU_REQUEST_SET_VRING_CALL, 1 | VU_RING_FD_NONE, -1), OUTCOME_OK);
	assert_int_equal(client_set_table(f, NULL, NULL, 0), OUTCOME_OK);
	assert_int_equal(client_call_u64(f, VU_REQUEST_SET_FEATURES,
				 f->features | VU_BIT(VHOST_USER_F_PROTOCOL_FEATURES)),
		OUTCOME_OK);
	memset(f->memory.address + RING_BYTES, 0, RING_BYTES);
}

static void steps_swap(enum step *steps, unsigned int a, unsigned int b)
{
	enum step swap = steps[a];

	steps[a] = steps[b];
	steps[b] = swap;
}

/* Everything but `missing`, in each order (Heap's algorithm, iterative). */
static unsigned int each_order_without(unsigned int missing, bool packed)
{
	unsigned int n = 0;
	unsigned int n_orders = 0;
	unsigned int counters[N_STEPS] = {0};
	enum step steps[N_STEPS];
	unsigned int i = 1;
	struct fixture f;
	int call_fd;

	for (unsigned int s = 0; s < N_STEPS; s++) {
		if (s != missing)
			steps[n++] = (enum step)s;
	}
	fixture_open_layout(&f, packed);
	client_negotiate(&f);
	call_fd = eventfd(0, EFD_CLOEXEC);
	for (;;) {
		for (unsigned int s = 0; s < n; s++) {
			if (s + 1 < n && missing == N_STEPS)
				assert_false(
					vu_backend_ring(f.session, 1)->state == VU_RING_RUNNING &&
					vu_backend_ring(f.session, 1)->enabled &&
					vu_backend_ring(f.session, 1)->call_fd >= 0);
			step_send(&f, steps[s], call_fd);
		}
		expect_after_setup(&f, missing);
		setup_undo(&f);
		n_orders++;

		while (i < n && counters[i] >= i) {
			counters[i] = 0;
			i++;
		}
		if (i >= n)
			break;
		steps_swap(steps, i, i % 2 == 0 ? 0 : counters[i]);
		counters[i]++;
		i = 1;
	}
	close(call_fd);
	fixture_close(&f);
	return n_orders;
}

static void ring_runs_after_setup_in_any_of_5040_orders(void **state)
{
	for (unsigned int packed = 0; packed < 2; packed++)
		assert_int_equal(each_order_without(N_STEPS, packed), 5040);
}

static void ring_with_a_part_of_the_setup_missing_does_not_run(void **state)
{
	for (unsigned int missing = 0; missing < N_STEPS; missing++) {
		for (unsigned int packed = 0; packed < 2; packed++)
			assert_int_equal(each_order_without(missing, packed), 720);
	}
}

static void ring_without_negotiated_features_does_not_run(void **state)
{
	struct fixture f;

	fixture_open(&f, NULL);
	client_call_u64(&f, VU_REQUEST_SET_PROTOCOL_FEATURES, VU_BIT(VU_PROTOCOL_F_REPLY_ACK));
	for (unsigned int s = 0; s < N_STEPS; s++) {
		if (s != CALL && s != ENABLE)
			step_send(&f, (enum step)s, -1);
	}
	assert_int_equal(vu_backend_ring(f.session, 1)->state, VU_RING_STARTED);
	/* Without bit 30 every ring is enabled at once. */
	assert_int_equal(client_call_u64(&f, VU_REQUEST_SET_FEATURES, VU_BIT(32)), OUTCOME_OK);
	assert_int_equal(vu_backend_ring(f.session, 1)->state, VU_RING_RUNNING);
	assert_true(vu_backend_ring(f.session, 1)->enabled);
	assert_true(vu_backend_ring(f.session, 0)->enabled);
	assert_int_equal(client_call_state(&f, VU_REQUEST_SET_VRING_ENABLE, 1, 0), OUTCOME_REFUSED);
	fixture_close(&f);
}

static void header_length_follows_the_features(void **state)
{
	static const struct {
		uint64_t features;
		uint16_t header_len;
	} cases[] = {{0, 10}, {VU_BIT(15), 12}, {VU_BIT(32), 12}, {VU_BIT(32) | VU_BIT(15), 12},
		{VU_BIT(28), 10}};
	struct fixture f;

	for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
		const struct vring_device *device;

		fixture_open(&f, NULL);
		client_negotiate(&f);
		assert_int_equal(
			client_call_u64(&f, VU_REQUEST_SET_FEATURES,
				cases[i].features | VU_BIT(VHOST_USER_F_PROTOCOL_FEATURES)),
			OUTCOME_OK);
		client_set_memory(&f);
		client_start_ring(&f, 0);
		device = &vu_backend_ring(f.session, 0)->device;
		assert_int_equal(device->writable_min_len, cases[i].header_len);
		assert_int_equal(device->mergeable, (cases[i].features & VU_BIT(15)) != 0);
		assert_int_equal(device->indirect, (cases[i].features & VU_BIT(28)) != 0);
		assert_false(device->event_idx);
		fixture_close(&f);
	}
}

static void stopping_is_answered_in_every_state_and_twice_the_same(void **state)
{
	struct fixture f;

	fixture_open(&f, NULL);
	assert_int_equal(client_get_base(&f, 0), 0);
	client_start(&f);
	guest_offer(&f, 1, 0, false);
	assert_int_equal(use_all(vu_backend_ring(f.session, 1), VRING_READABLE), 1);
	for (unsigned int i = 0; i < 3; i++) {
		assert_int_equal(client_get_base(&f, 1), 1);
		assert_int_equal(vu_backend_ring(f.session, 1)->state, VU_RING_STOPPED);
		assert_null(vu_backend_ring(f.session, 1)->device.desc);
	}
	/* Enabled is another thing. */
	assert_true(vu_backend_ring(f.session, 1)->enabled);
	/* Started, but never complete. */
	assert_int_equal(client_get_base(&f, 0), 0);
	assert_int_equal(client_call(&f, VU_REQUEST_RESET_DEVICE, NULL, 0, NULL, 0), OUTCOME_OK);
	assert_int_equal(
		client_call_fd(&f, VU_REQUEST_SET_VRING_KICK, VU_RING_FD_NONE, -1), OUTCOME_OK);
	assert_int_equal(vu_backend_ring(f.session, 0)->state, VU_RING_STARTED);
	assert_int_equal(client_get_base(&f, 0), 0);
	assert_int_equal(vu_backend_ring(f.session, 0)->state, VU_RING_STOPPED);
	fixture_close(&f);
}

static void stop_is_answered_after_the_last_access(void **state)
{
	unsigned int n_quiesce;
	struct fixture f;

	fixture_open(&f, NULL);
	client_start(&f);
	n_quiesce = f.n_quiesce;
	client_get_base(&f, 1);
	assert_int_equal(f.n_quiesce, n_quiesce + 1);
	assert_int_equal(f.n_resume, f.n_quiesce);
	/* Nothing runs any more: nothing to wait for. */
	client_get_base(&f, 1);
	assert_int_equal(f.n_quiesce, n_quiesce + 1);
	fixture_close(&f);
}

static void stopped_ring_restarts_where_it_was(void **state)
{
	for (unsigned int packed = 0; packed < 2; packed++) {
		unsigned int n_used = 0;
		struct vu_ring *ring;
		struct fixture f;
		uint16_t idx = 0;

		fixture_open_layout(&f, packed);
		client_start(&f);
		ring = vu_backend_ring(f.session, 1);
		for (unsigned int i = 0; i < 10000; i++) {
			guest_offer(&f, 1, idx++, false);
			if (i % 3 != 0) {
				int n = use_all(ring, VRING_READABLE);

				assert_true(n > 0);
				n_used += (unsigned int)n;
			}
			assert_int_equal(client_get_base(&f, 1), fixture_base(&f, n_used));
			assert_int_equal(client_call_fd(&f, VU_REQUEST_SET_VRING_KICK,
						 1 | VU_RING_FD_NONE, -1),
				OUTCOME_OK);
			assert_int_equal(ring->state, VU_RING_RUNNING);
		}
		use_all(ring, VRING_READABLE);
		/* Every buffer was used once. */
		assert_int_equal(client_get_base(&f, 1), fixture_base(&f, idx));
		if (!packed)
			assert_int_equal(((struct vring_used *)(f.memory.address + RING_BYTES +
						 RING_USED_SHIFT))
						 ->idx,
				idx);
		fixture_close(&f);
	}
}

static void ring_can_come_back_with_other_size_and_addresses(void **state)
{
	struct vu_ring_addr_payload addr;
	struct fixture f;

	fixture_open(&f, NULL);
	client_start(&f);
	client_get_base(&f, 1);
	addr = guest_ring_addr(&f, 7);
	addr.index = 1;
	assert_int_equal(client_call_state(&f, VU_REQUEST_SET_VRING_NUM, 1, 16), OUTCOME_OK);
	assert_int_equal(client_call(&f, VU_REQUEST_SET_VRING_ADDR, &addr, sizeof(addr), NULL, 0),
		OUTCOME_OK);
	assert_int_equal(client_call_state(&f, VU_REQUEST_SET_VRING_BASE, 1, 0), OUTCOME_OK);
	assert_int_equal(
		client_call_fd(&f, VU_REQUEST_SET_VRING_KICK, 1 | VU_RING_FD_NONE, -1), OUTCOME_OK);
	assert_int_equal(vu_backend_ring(f.session, 1)->state, VU_RING_RUNNING);
	assert_int_equal(vu_backend_ring(f.session, 1)->device.size, 16);
	for (uint32_t i = 0; i < FIXTURE_RINGS; i++)
		assert_int_equal(vu_backend_ring(f.session, i)->state, VU_RING_RUNNING);
	fixture_close(&f);
}

static void sparse_rings_run_alone(void **state)
{
	const struct vu_backend_config config = {.n_queue_pairs = VU_MAX_QUEUE_PAIRS};
	struct fixture f;

	fixture_open(&f, &config);
	client_negotiate(&f);
	client_set_memory(&f);
	client_start_ring(&f, 31);
	client_start_ring(&f, 4);
	for (uint32_t i = 0; i < VU_MAX_RINGS; i++)
		assert_int_equal(vu_backend_ring(f.session, i)->state,
			i == 31 || i == 4 ? VU_RING_RUNNING : VU_RING_STOPPED);
	assert_null(vu_backend_ring(f.session, VU_MAX_RINGS));
	fixture_close(&f);
}

static void running_ring_refuses_changes_and_takes_the_same_again(void **state)
{
	struct vu_ring_addr_payload addr;
	struct fixture f;

	fixture_open(&f, NULL);
	client_start(&f);
	addr = guest_ring_addr(&f, 1);
	assert_int_equal(client_call_state(&f, VU_REQUEST_SET_VRING_NUM, 1, 16), OUTCOME_REFUSED);
	assert_int_equal(
		client_call_state(&f, VU_REQUEST_SET_VRING_NUM, 1, FIXTURE_RING_SIZE), OUTCOME_OK);
	assert_int_equal(client_call_state(&f, VU_REQUEST_SET_VRING_BASE, 1, 1), OUTCOME_REFUSED);
	assert_int_equal(client_call_state(&f, VU_REQUEST_SET_VRING_BASE, 1, 0), OUTCOME_OK);
	assert_int_equal(client_call(&f, VU_REQUEST_SET_VRING_ADDR, &addr, sizeof(addr), NULL, 0),
		OUTCOME_OK);
	/* The log flag may flip, with the addresses unchanged. */
	addr.flags = VU_RING_ADDR_LOG;
	assert_int_equal(client_call(&f, VU_REQUEST_SET_VRING_ADDR, &addr, sizeof(addr), NULL, 0),
		OUTCOME_OK);
	addr.flags = 2;
	assert_int_equal(client_call(&f, VU_REQUEST_SET_VRING_ADDR, &addr, sizeof(addr), NULL, 0),
		OUTCOME_REFUSED);
	addr.flags = 0;
	addr.used_uva += 4;
	assert_int_equal(client_call(&f, VU_REQUEST_SET_VRING_ADDR, &addr, sizeof(addr), NULL, 0),
		OUTCOME_REFUSED);
	assert_int_equal(vu_backend_ring(f.session, 1)->state, VU_RING_RUNNING);
	assert_int_equal(vu_backend_ring(f.session, 1)->device.size, FIXTURE_RING_SIZE);
	fixture_close(&f);
}

static void ring_filled_before_kick_and_enable_is_looked_at_again(void **state)
{
	struct vu_ring *ring;
	unsigned int n_resume;
	struct fixture f;

	fixture_open(&f, NULL);
	client_negotiate(&f);
	client_set_memory(&f);
	guest_offer(&f, 1, 0, false);
	for (unsigned int s = 0; s < N_STEPS; s++) {
		if (s != KICK && s != ENABLE && s != CALL && s != TABLE)
			step_send(&f, (enum step)s, -1);
	}
	n_resume = f.n_resume;
	step_send(&f, KICK, -1);
	assert_int_equal(f.n_resume, n_resume + 1);
	step_send(&f, ENABLE, -1);
	/* The user of the session is told to look after each of the two, without any kick. */
	assert_int_equal(f.n_resume, n_resume + 2);
	ring = vu_backend_ring(f.session, 1);
	assert_int_equal(use_all(ring, VRING_READABLE), 1);
	fixture_close(&f);
}

static void enable_is_tracked_apart_from_started_and_only_0_or_1(void **state)
{
	struct vu_ring *ring;
	struct fixture f;

	fixture_open(&f, NULL);
	client_negotiate(&f);
	ring = vu_backend_ring(f.session, 0);
	assert_false(ring->enabled);
	assert_int_equal(client_call_state(&f, VU_REQUEST_SET_VRING_ENABLE, 0, 1), OUTCOME_OK);
	assert_true(ring->enabled);
	assert_int_equal(ring->state, VU_RING_STOPPED);
	assert_int_equal(client_call_state(&f, VU_REQUEST_SET_VRING_ENABLE, 0, 2), OUTCOME_REFUSED);
	assert_int_equal(
		client_call_state(&f, VU_REQUEST_SET_VRING_ENABLE, 0, UINT32_MAX), OUTCOME_REFUSED);
	assert_true(ring->enabled);
	client_set_memory(&f);
	client_start_ring(&f, 0);
	assert_int_equal(client_call_state(&f, VU_REQUEST_SET_VRING_ENABLE, 0, 0), OUTCOME_OK);
	assert_false(ring->enabled);
	assert_int_equal(ring->state, VU_RING_RUNNING);
	fixture_close(&f);
}

static void replaced_call_fd_is_signalled_once_and_the_old_one_never(void **state)
{
	struct resources before;
	struct fixture f;
	int old_fd;
	int new_fd;

	fixture_open(&f, NULL);
	client_start(&f);
	old_fd = eventfd(0, EFD_CLOEXEC);
	new_fd = eventfd(0, EFD_CLOEXEC);
	before = resources_now();
	for (unsigned int i = 0; i < 2000; i++) {
		assert_int_equal(
			client_call_fd(&f, VU_REQUEST_SET_VRING_CALL, 1, old_fd), OUTCOME_OK);
		assert_int_equal(eventfd_drain(old_fd), 1);
		assert_int_equal(
			client_call_fd(&f, VU_REQUEST_SET_VRING_CALL, 1, new_fd), OUTCOME_OK);
		assert_int_equal(eventfd_drain(new_fd), 1);
		assert_int_equal(eventfd_drain(old_fd), 0);
		/* Every change of a descriptor happens while nobody uses it. */
		assert_int_equal(f.n_quiesce, f.n_resume);
	}
	assert_int_equal(
		client_call_fd(&f, VU_REQUEST_SET_VRING_CALL, 1 | VU_RING_FD_NONE, -1), OUTCOME_OK);
	assert_int_equal(vu_backend_ring(f.session, 1)->call_fd, -1);
	resources_assert_flat(&before);
	/* A ring that does not run has nothing to tell. */
	client_get_base(&f, 1);
	assert_int_equal(client_call_fd(&f, VU_REQUEST_SET_VRING_CALL, 1, new_fd), OUTCOME_OK);
	assert_int_equal(eventfd_drain(new_fd), 0);
	close(old_fd);
	close(new_fd);
	fixture_close(&f);
}

static void kick_fd_goes_with_the_stop_and_is_replaced_while_running(void **state)
{
	struct vu_ring *ring;
	struct fixture f;
	int first;
	int second;

	fixture_open(&f, NULL);
	client_start(&f);
	ring = vu_backend_ring(f.session, 1);
	assert_int_equal(ring->kick_fd, -1);
	first = eventfd(0, EFD_CLOEXEC);
	second = eventfd(0, EFD_CLOEXEC);
	assert_int_equal(client_call_fd(&f, VU_REQUEST_SET_VRING_KICK, 1, first), OUTCOME_OK);
	assert_true(ring->kick_fd >= 0);
	assert_int_equal(client_call_fd(&f, VU_REQUEST_SET_VRING_KICK, 1, second), OUTCOME_OK);
	assert_int_equal(eventfd_write(second, 7), 0);
	assert_int_equal(eventfd_drain(ring->kick_fd), 7);
	client_get_base(&f, 1);
	assert_int_equal(ring->kick_fd, -1);
	close(first);
	close(second);
	fixture_close(&f);
}

/* Makes the driver's side lie, and the "worker" find out. */
static void ring_break(struct fixture *f, uint32_t index)
{
	struct vu_ring *ring = vu_backend_ring(f->session, index);
	struct vring_avail *avail =
		(struct vring_avail *)(f->memory.address + index * RING_BYTES + RING_AVAIL_SHIFT);

	avail->idx = (uint16_t)(ring->device.last_avail_idx + FIXTURE_RING_SIZE + 1);
	assert_true(use_all(ring, VRING_READABLE) < 0);
}

static void broken_ring_is_reported_and_only_a_stop_ends_it(void **state)
{
	struct vu_ring *ring;
	struct fixture f;
	int err_fd;

	fixture_open(&f, NULL);
	client_start(&f);
	ring = vu_backend_ring(f.session, 1);
	err_fd = eventfd(0, EFD_CLOEXEC);
	assert_int_equal(client_call_fd(&f, VU_REQUEST_SET_VRING_ERR, 1, err_fd), OUTCOME_OK);
	/* A report about a ring that is fine is a late one. */
	vu_backend_ring_broken(f.session, 1);
	assert_int_equal(ring->state, VU_RING_RUNNING);

	ring_break(&f, 1);
	vu_backend_ring_broken(f.session, 1);
	vu_backend_ring_broken(f.session, 1);
	assert_int_equal(ring->state, VU_RING_BROKEN);
	assert_int_equal(eventfd_drain(err_fd), 1);
	assert_int_equal(client_ask_u64(&f, VU_REQUEST_GET_STATUS), 0x40);
	assert_int_equal(vu_backend_ring(f.session, 3)->state, VU_RING_RUNNING);

	/* Neither a kick nor new memory nor features revive it. */
	assert_int_equal(
		client_call_fd(&f, VU_REQUEST_SET_VRING_KICK, 1 | VU_RING_FD_NONE, -1), OUTCOME_OK);
	client_set_memory(&f);
	assert_int_equal(ring->state, VU_RING_BROKEN);
	assert_int_equal(client_call_state(&f, VU_REQUEST_SET_VRING_NUM, 1, 16), OUTCOME_REFUSED);
	/* An error descriptor that comes late still tells. */
	assert_int_equal(client_call_fd(&f, VU_REQUEST_SET_VRING_ERR, 1, err_fd), OUTCOME_OK);
	assert_int_equal(eventfd_drain(err_fd), 1);

	assert_int_equal(client_get_base(&f, 1), 0);
	assert_int_equal(client_ask_u64(&f, VU_REQUEST_GET_STATUS), 0);
	((struct vring_avail *)(f.memory.address + RING_BYTES + RING_AVAIL_SHIFT))->idx = 0;
	assert_int_equal(
		client_call_fd(&f, VU_REQUEST_SET_VRING_KICK, 1 | VU_RING_FD_NONE, -1), OUTCOME_OK);
	assert_int_equal(ring->state, VU_RING_RUNNING);
	/* The report of its earlier life arrives now. */
	vu_backend_ring_broken(f.session, 1);
	assert_int_equal(ring->state, VU_RING_RUNNING);
	close(err_fd);
	fixture_close(&f);
}

static void ring_found_broken_during_a_memory_change_stays_broken(void **state)
{
	struct fixture f;
	int err_fd;

	fixture_open(&f, NULL);
	client_start(&f);
	err_fd = eventfd(0, EFD_CLOEXEC);
	assert_int_equal(client_call_fd(&f, VU_REQUEST_SET_VRING_ERR, 1, err_fd), OUTCOME_OK);
	ring_break(&f, 1);
	/* The worker's report is still on its way. */
	client_set_memory(&f);
	assert_int_equal(vu_backend_ring(f.session, 1)->state, VU_RING_BROKEN);
	assert_int_equal(eventfd_drain(err_fd), 1);
	vu_backend_ring_broken(f.session, 1);
	assert_int_equal(eventfd_drain(err_fd), 0);
	close(err_fd);
	fixture_close(&f);
}

static void broken_report_about_no_ring_is_ignored(void **state)
{
	struct fixture f;

	fixture_open(&f, NULL);
	vu_backend_ring_broken(f.session, FIXTURE_RINGS);
	vu_backend_ring_broken(f.session, UINT32_MAX);
	fixture_close(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ring_index_is_never_cut),
		cmocka_unit_test(base_of_a_ring_that_cannot_exist_ends_the_session),
		cmocka_unit_test(size_must_be_a_power_of_two_up_to_32768),
		cmocka_unit_test(base_beyond_16_bits_is_refused),
		cmocka_unit_test(base_far_from_the_available_index_breaks_the_ring_only),
		cmocka_unit_test(ring_runs_after_setup_in_any_of_5040_orders),
		cmocka_unit_test(ring_with_a_part_of_the_setup_missing_does_not_run),
		cmocka_unit_test(ring_without_negotiated_features_does_not_run),
		cmocka_unit_test(header_length_follows_the_features),
		cmocka_unit_test(stopping_is_answered_in_every_state_and_twice_the_same),
		cmocka_unit_test(stop_is_answered_after_the_last_access),
		cmocka_unit_test(stopped_ring_restarts_where_it_was),
		cmocka_unit_test(ring_can_come_back_with_other_size_and_addresses),
		cmocka_unit_test(sparse_rings_run_alone),
		cmocka_unit_test(running_ring_refuses_changes_and_takes_the_same_again),
		cmocka_unit_test(ring_filled_before_kick_and_enable_is_looked_at_again),
		cmocka_unit_test(enable_is_tracked_apart_from_started_and_only_0_or_1),
		cmocka_unit_test(replaced_call_fd_is_signalled_once_and_the_old_one_never),
		cmocka_unit_test(kick_fd_goes_with_the_stop_and_is_replaced_while_running),
		cmocka_unit_test(broken_ring_is_reported_and_only_a_stop_ends_it),
		cmocka_unit_test(ring_found_broken_during_a_memory_change_stays_broken),
		cmocka_unit_test(broken_report_about_no_ring_is_ignored),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
