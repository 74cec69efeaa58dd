/* SPDX-License-Identifier: BSD-3-Clause */
/* What concerns the whole device: creation, features, protocol features, status and reset, MTU,
 * RARP, owner. */
#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "session_fixture.h"

#define N_ELEMENTS(array) (sizeof(array) / sizeof((array)[0]))
#define BIT30             VU_BIT(VHOST_USER_F_PROTOCOL_FEATURES)

static void nothing(void *ctx)
{
}

static void bad_configuration_is_refused_and_the_socket_stays_ours(void **state)
{
	static const struct vu_backend_ops ops = {.quiesce = nothing, .resume = nothing};
	static const struct {
		uint64_t features;
		unsigned int n_queue_pairs;
	} bad[] = {
		{VU_BIT(32), 0}, {VU_BIT(32), VU_MAX_QUEUE_PAIRS + 1},
		{VU_BIT(32) | VU_BIT(33), 1},             /* IOTLB */
		{VU_BIT(32) | VU_BIT(7), 1},              /* GUEST_TSO4 alone */
		{VU_BIT(32) | VU_BIT(0) | VU_BIT(13), 1}, /* HOST_ECN without TSO */
	};
	struct resources before = resources_now();
	int ends[2];
	int fd;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	for (size_t i = 0; i < N_ELEMENTS(bad); i++) {
		const struct vu_backend_config config = {.name = "x",
			.features = bad[i].features,
			.n_queue_pairs = bad[i].n_queue_pairs,
			.ops = &ops};

		assert_null(vu_backend_create(&config, ends[0]));
		assert_int_equal(errno, EINVAL);
	}
	{
		const struct vu_backend_config config = {
			.name = "x", .features = VU_BIT(32), .n_queue_pairs = 1, .ops = &ops};

		fd = eventfd(0, EFD_CLOEXEC);
		assert_null(vu_backend_create(&config, fd));
		assert_int_equal(errno, ENOTSOCK);
		close(fd);
		fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
		assert_null(vu_backend_create(&config, fd));
		assert_int_equal(errno, EPROTOTYPE);
		close(fd);
	}
	close(ends[0]);
	close(ends[1]);
	resources_assert_equal(&before);
	vu_backend_destroy(NULL);
}

static void peer_is_known_by_process_and_user(void **state)
{
	struct fixture f;

	fixture_open(&f, NULL);
	assert_int_equal(vu_backend_peer_pid(f.session), getpid());
	assert_int_equal(vu_backend_peer_uid(f.session), getuid());
	fixture_close(&f);
}

static void features_not_offered_are_refused_one_by_one(void **state)
{
	struct fixture f;

	fixture_open(&f, NULL);
	client_negotiate(&f);
	for (unsigned int bit = 0; bit < 64; bit++) {
		uint64_t features = FIXTURE_FEATURES | BIT30;

		if ((features & VU_BIT(bit)) != 0)
			continue;
		assert_int_equal(
			client_call_u64(&f, VU_REQUEST_SET_FEATURES, features | VU_BIT(bit)),
			OUTCOME_REFUSED);
		assert_true(vu_backend_features(f.session) == features);
	}
	fixture_close(&f);
}

static void child_feature_without_its_parent_is_refused(void **state)
{
	static const struct {
		unsigned int child;
		uint64_t parents;
	} rules[] = {
		{7, VU_BIT(1)},               /* GUEST_TSO4: GUEST_CSUM */
		{8, VU_BIT(1)},               /* GUEST_TSO6 */
		{10, VU_BIT(1)},              /* GUEST_UFO */
		{9, VU_BIT(7) | VU_BIT(8)},   /* GUEST_ECN: GUEST_TSO4 or 6 */
		{11, VU_BIT(0)},              /* HOST_TSO4: CSUM */
		{12, VU_BIT(0)},              /* HOST_TSO6 */
		{14, VU_BIT(0)},              /* HOST_UFO */
		{13, VU_BIT(11) | VU_BIT(12)} /* HOST_ECN: HOST_TSO4 or 6 */
	};
	const uint64_t offloads = 0x7f83;
	const struct vu_backend_config config = {.features = VU_BIT(32) | offloads};
	struct fixture f;

	fixture_open(&f, &config);
	client_negotiate(&f);
	for (uint64_t set = 0; set <= offloads; set++) {
		bool legal = true;
		enum outcome outcome;

		if ((set & ~offloads) != 0)
			continue;
		for (size_t i = 0; i < N_ELEMENTS(rules); i++) {
			if ((set & VU_BIT(rules[i].child)) != 0 && (set & rules[i].parents) == 0)
				legal = false;
		}
		outcome = client_call_u64(&f, VU_REQUEST_SET_FEATURES, set | VU_BIT(32) | BIT30);
		assert_int_equal(outcome, legal ? OUTCOME_OK : OUTCOME_REFUSED);
	}
	fixture_close(&f);
}

static void multiqueue_without_control_queue_is_taken(void **state)
{
	const struct vu_backend_config config = {
		.features = VU_BIT(32) | VU_BIT(22) | VU_BIT(21) | VU_BIT(17)};
	struct fixture f;

	/* QEMU serves the control queue itself and passes on MQ without CTRL_VQ. */
	fixture_open(&f, &config);
	client_negotiate(&f);
	assert_int_equal(client_call_u64(&f, VU_REQUEST_SET_FEATURES,
				 VU_BIT(32) | VU_BIT(22) | VU_BIT(21) | BIT30),
		OUTCOME_OK);
	fixture_close(&f);
}

static void features_are_frozen_while_a_ring_runs(void **state)
{
	static const uint64_t other[] = {VU_BIT(32) | BIT30, FIXTURE_FEATURES, BIT30, 0};
	struct fixture f;

	fixture_open(&f, NULL);
	client_start(&f);
	for (size_t i = 0; i < N_ELEMENTS(other); i++)
		assert_int_equal(
			client_call_u64(&f, VU_REQUEST_SET_FEATURES, other[i]), OUTCOME_REFUSED);
	assert_int_equal(
		client_call_u64(&f, VU_REQUEST_SET_FEATURES, FIXTURE_FEATURES | BIT30), OUTCOME_OK);
	assert_true(vu_backend_features(f.session) == (FIXTURE_FEATURES | BIT30));
	assert_int_equal(vu_backend_ring(f.session, 0)->state, VU_RING_RUNNING);
	for (uint32_t i = 0; i < FIXTURE_RINGS; i++)
		client_get_base(&f, i);
	assert_int_equal(
		client_call_u64(&f, VU_REQUEST_SET_FEATURES, VU_BIT(32) | BIT30), OUTCOME_OK);
	fixture_close(&f);
}

static void same_features_are_accepted_again_after_each_reset(void **state)
{
	struct fixture f;

	fixture_open(&f, NULL);
	client_start(&f);
	for (unsigned int i = 0; i < 1000; i++) {
		if (i % 2 == 0)
			assert_int_equal(client_call(&f, VU_REQUEST_RESET_DEVICE, NULL, 0, NULL, 0),
				OUTCOME_OK);
		else
			assert_int_equal(client_call_u64(&f, VU_REQUEST_SET_STATUS, 0), OUTCOME_OK);
		assert_true(vu_backend_features(f.session) == 0);
		assert_true(
			client_ask_u64(&f, VU_REQUEST_GET_FEATURES) == (FIXTURE_FEATURES | BIT30));
		assert_int_equal(
			client_call_u64(&f, VU_REQUEST_SET_FEATURES, FIXTURE_FEATURES | BIT30),
			OUTCOME_OK);
		/* Memory was not part of the reset. */
		client_start_ring(&f, 1);
	}
	fixture_close(&f);
}

static void reset_under_traffic_stops_everything_and_forgets_positions(void **state)
{
	static const uint32_t requests[] = {VU_REQUEST_SET_STATUS, VU_REQUEST_RESET_DEVICE};
	static struct vring_burst burst;
	struct vu_ring *ring;
	struct fixture f;
	int call_fd;

	for (size_t r = 0; r < N_ELEMENTS(requests); r++) {
		fixture_open(&f, NULL);
		client_start(&f);
		ring = vu_backend_ring(f.session, 1);
		call_fd = eventfd(0, EFD_CLOEXEC);
		assert_int_equal(
			client_call_fd(&f, VU_REQUEST_SET_VRING_CALL, 1, call_fd), OUTCOME_OK);
		eventfd_drain(call_fd);
		for (uint16_t i = 0; i < 5; i++)
			guest_offer(&f, 1, i, false);
		assert_int_equal(vring_device_peek(&ring->device, &burst, VRING_READABLE, 5), 5);
		vring_device_return(&ring->device, &burst, 5);
		vring_device_publish(&ring->device);
		if (requests[r] == VU_REQUEST_SET_STATUS)
			assert_int_equal(client_call_u64(&f, requests[r], 0), OUTCOME_OK);
		else
			assert_int_equal(
				client_call(&f, requests[r], NULL, 0, NULL, 0), OUTCOME_OK);
		for (uint32_t i = 0; i < FIXTURE_RINGS; i++) {
			ring = vu_backend_ring(f.session, i);
			assert_int_equal(ring->state, VU_RING_STOPPED);
			assert_false(ring->enabled);
			assert_int_equal(ring->size, 0);
			assert_null(ring->device.desc);
		}
		assert_int_equal(f.n_quiesce, f.n_resume);
		assert_int_equal(eventfd_drain(call_fd), 0);
		/* A position of before would make a fresh ring look as if its buffers had been
		 * taken. */
		assert_int_equal(client_get_base(&f, 1), 0);
		assert_int_equal(vu_backend_memory(f.session)->n_regions, 1);
		close(call_fd);
		fixture_close(&f);
	}
}

static void owner_reset_disables_rings_and_keeps_the_rest(void **state)
{
	struct fixture f;

	fixture_open(&f, NULL);
	client_start(&f);
	assert_int_equal(client_call(&f, VU_REQUEST_RESET_OWNER, NULL, 0, NULL, 0), OUTCOME_OK);
	for (uint32_t i = 0; i < FIXTURE_RINGS; i++) {
		assert_false(vu_backend_ring(f.session, i)->enabled);
		assert_int_equal(vu_backend_ring(f.session, i)->state, VU_RING_RUNNING);
	}
	assert_int_equal(client_call_state(&f, VU_REQUEST_SET_VRING_ENABLE, 1, 1), OUTCOME_OK);
	assert_true(vu_backend_ring(f.session, 1)->enabled);
	fixture_close(&f);
}

static void owner_reset_without_enable_messages_changes_nothing(void **state)
{
	struct fixture f;

	fixture_open(&f, NULL);
	client_call_u64(&f, VU_REQUEST_SET_PROTOCOL_FEATURES, VU_BIT(VU_PROTOCOL_F_REPLY_ACK));
	assert_int_equal(client_call_u64(&f, VU_REQUEST_SET_FEATURES, VU_BIT(32)), OUTCOME_OK);
	assert_int_equal(client_call(&f, VU_REQUEST_RESET_OWNER, NULL, 0, NULL, 0), OUTCOME_OK);
	assert_true(vu_backend_ring(f.session, 0)->enabled);
	/* And with bit 30 the rings wait for their message. */
	assert_int_equal(
		client_call_u64(&f, VU_REQUEST_SET_FEATURES, VU_BIT(32) | BIT30), OUTCOME_OK);
	assert_false(vu_backend_ring(f.session, 0)->enabled);
	fixture_close(&f);
}

static void protocol_features_not_offered_are_refused(void **state)
{
	struct fixture f;

	fixture_open(&f, NULL);
	client_negotiate(&f);
	for (unsigned int bit = 0; bit < 64; bit++) {
		bool offered = (FIXTURE_PROTOCOL & VU_BIT(bit)) != 0;

		assert_int_equal(client_call_u64(&f, VU_REQUEST_SET_PROTOCOL_FEATURES,
					 VU_BIT(bit) | VU_BIT(VU_PROTOCOL_F_REPLY_ACK)),
			offered ? OUTCOME_OK : OUTCOME_REFUSED);
	}
	fixture_close(&f);
}

static void status_is_kept_and_has_8_bits(void **state)
{
	struct fixture f;

	fixture_open(&f, NULL);
	client_negotiate(&f);
	for (uint64_t status = 1; status < 0x40; status = status * 2 + 1) {
		assert_int_equal(client_call_u64(&f, VU_REQUEST_SET_STATUS, status), OUTCOME_OK);
		assert_int_equal(client_ask_u64(&f, VU_REQUEST_GET_STATUS), status);
	}
	assert_int_equal(client_call_u64(&f, VU_REQUEST_SET_STATUS, 0x100), OUTCOME_REFUSED);
	assert_int_equal(client_call_u64(&f, VU_REQUEST_SET_STATUS, UINT64_MAX), OUTCOME_REFUSED);
	/* The hint alone starts nothing. */
	assert_int_equal(client_call_u64(&f, VU_REQUEST_SET_STATUS, 0x0f), OUTCOME_OK);
	for (uint32_t i = 0; i < FIXTURE_RINGS; i++)
		assert_int_equal(vu_backend_ring(f.session, i)->state, VU_RING_STOPPED);
	fixture_close(&f);
}

static void mtu_is_checked_before_it_is_passed_on(void **state)
{
	static const struct {
		uint64_t mtu;
		enum outcome outcome;
	} cases[] = {{0, OUTCOME_REFUSED}, {67, OUTCOME_REFUSED}, {68, OUTCOME_OK},
		{1500, OUTCOME_OK}, {65535, OUTCOME_OK}, {65536, OUTCOME_REFUSED},
		{65536 + 1500, OUTCOME_REFUSED}, {UINT64_MAX, OUTCOME_REFUSED}};
	unsigned int n = 0;
	struct fixture f;

	fixture_open(&f, NULL);
	client_negotiate(&f);
	for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
		assert_int_equal(client_call_u64(&f, VU_REQUEST_NET_SET_MTU, cases[i].mtu),
			cases[i].outcome);
		n += cases[i].outcome == OUTCOME_OK;
		assert_int_equal(f.n_mtu, n);
		if (cases[i].outcome == OUTCOME_OK)
			assert_int_equal(f.mtu, cases[i].mtu);
	}
	fixture_close(&f);
}

static void rarp_is_asked_for_with_the_mac_as_sent(void **state)
{
	static const uint8_t payload[8] = {0x52, 0x54, 0x00, 0x12, 0x34, 0x56, 0xff, 0xff};
	struct fixture f;

	fixture_open(&f, NULL);
	client_negotiate(&f);
	assert_int_equal(client_call(&f, VU_REQUEST_SEND_RARP, payload, sizeof(payload), NULL, 0),
		OUTCOME_OK);
	assert_int_equal(f.n_rarp, 1);
	assert_memory_equal(f.rarp_mac, payload, 6);
	fixture_close(&f);
}

static void message_of_a_bit_that_was_not_taken_is_refused(void **state)
{
	struct fixture f;

	fixture_open(&f, NULL);
	client_call_u64(&f, VU_REQUEST_SET_PROTOCOL_FEATURES, VU_BIT(VU_PROTOCOL_F_REPLY_ACK));
	assert_int_equal(client_call_u64(&f, VU_REQUEST_NET_SET_MTU, 1500), OUTCOME_REFUSED);
	assert_int_equal(f.n_mtu, 0);
	assert_int_equal(client_call_u64(&f, VU_REQUEST_SET_STATUS, 1), OUTCOME_REFUSED);
	assert_int_equal(
		client_call(&f, VU_REQUEST_RESET_DEVICE, NULL, 0, NULL, 0), OUTCOME_REFUSED);
	fixture_close(&f);
}

static void end_of_the_session_quiesces_and_closes_all(void **state)
{
	struct fixture f;

	fixture_open(&f, NULL);
	client_start(&f);
	close(f.fd);
	f.fd = -1;
	assert_int_equal(session_run(&f), -1);
	assert_int_equal(session_run(&f), -1);
	assert_int_equal(vu_backend_close_reason(f.session), VU_CLOSE_PEER);
	assert_string_equal(vu_backend_close_text(f.session), "");
	/* fixture_close() looks at what is left. */
	fixture_close(&f);
	assert_int_equal(f.n_quiesce, f.n_resume + 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bad_configuration_is_refused_and_the_socket_stays_ours),
		cmocka_unit_test(peer_is_known_by_process_and_user),
		cmocka_unit_test(features_not_offered_are_refused_one_by_one),
		cmocka_unit_test(child_feature_without_its_parent_is_refused),
		cmocka_unit_test(multiqueue_without_control_queue_is_taken),
		cmocka_unit_test(features_are_frozen_while_a_ring_runs),
		cmocka_unit_test(same_features_are_accepted_again_after_each_reset),
		cmocka_unit_test(reset_under_traffic_stops_everything_and_forgets_positions),
		cmocka_unit_test(owner_reset_disables_rings_and_keeps_the_rest),
		cmocka_unit_test(owner_reset_without_enable_messages_changes_nothing),
		cmocka_unit_test(protocol_features_not_offered_are_refused),
		cmocka_unit_test(status_is_kept_and_has_8_bits),
		cmocka_unit_test(mtu_is_checked_before_it_is_passed_on),
		cmocka_unit_test(rarp_is_asked_for_with_the_mac_as_sent),
		cmocka_unit_test(message_of_a_bit_that_was_not_taken_is_refused),
		cmocka_unit_test(end_of_the_session_quiesces_and_closes_all),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
