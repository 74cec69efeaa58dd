/* SPDX-License-Identifier: BSD-3-Clause */
/* Messages as such: header, sizes, order in the stream, replies, floods. */
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <base/clock.h>

#include "session_fixture.h"

#define N_ELEMENTS(array) (sizeof(array) / sizeof((array)[0]))

static const uint32_t cut_deadline_us = 20000;

static void wrong_version_or_reply_bit_ends_the_session(void **state)
{
	static const uint32_t bad[] = {0, 2, 3, 1 | VU_FLAGS_REPLY, 2 | VU_FLAGS_NEED_REPLY};
	struct fixture f;

	for (size_t i = 0; i < N_ELEMENTS(bad); i++) {
		fixture_open(&f, NULL);
		client_write(&f, VU_REQUEST_GET_FEATURES, bad[i], 0, NULL, 0, NULL, 0);
		assert_int_equal(session_run(&f), -1);
		assert_int_equal(vu_backend_close_reason(f.session), VU_CLOSE_PROTOCOL);
		assert_string_not_equal(vu_backend_close_text(f.session), "");
		fixture_close(&f);
	}
}

static void reserved_flags_are_ignored_and_not_echoed(void **state)
{
	struct vu_header header;
	uint64_t features;
	struct fixture f;

	fixture_open(&f, NULL);
	/* need_reply, without REPLY_ACK and on a question, asks for nothing more. */
	client_write(&f, VU_REQUEST_GET_FEATURES, 0xfffffff0u | VU_FLAGS_NEED_REPLY | 1, 0, NULL, 0,
		NULL, 0);
	assert_int_equal(session_run(&f), 0);
	assert_true(client_read(&f, &header, &features, sizeof(features)));
	assert_int_equal(header.flags, 5);
	assert_false(client_read(&f, &header, &features, sizeof(features)));
	fixture_close(&f);
}

static void need_reply_before_it_is_negotiated_gets_no_reply(void **state)
{
	struct fixture f;

	fixture_open(&f, NULL);
	assert_int_equal(client_call(&f, VU_REQUEST_SET_OWNER, NULL, 0, NULL, 0), OUTCOME_SILENT);
	assert_int_equal(client_call_u64(&f, VU_REQUEST_SET_FEATURES, VU_BIT(32)), OUTCOME_SILENT);
	fixture_close(&f);
}

/* Bytes of the sample message for `request`. */
static size_t message_bytes(uint32_t request, const struct sample *sample, uint8_t *bytes)
{
	const struct vu_header header = {
		.request = request,
		.flags = VU_FLAGS_VERSION,
		.size = sample->size,
	};

	memcpy(bytes, &header, sizeof(header));
	memcpy(bytes + sizeof(header), sample->payload, sample->size);
	return sizeof(header) + sample->size;
}

static void connection_closed_at_any_byte_of_any_message_leaves_nothing(void **state)
{
	static uint8_t bytes[sizeof(struct vu_header) + VU_PAYLOAD_MAX];
	struct sample sample;
	struct fixture f;

	for (uint32_t request = 1; request < VU_N_REQUESTS; request++) {
		for (size_t cut = 0;; cut++) {
			size_t n;

			fixture_open(&f, NULL);
			sample_open(&f, request, &sample);
			n = message_bytes(request, &sample, bytes);
			if (cut < n && cut > 0)
				client_write_bytes(&f, bytes, cut, sample.fds, sample.n_fds);
			sample_close(&sample);
			close(f.fd);
			f.fd = -1;
			if (cut < n) {
				assert_int_equal(session_run(&f), -1);
				assert_int_equal(vu_backend_close_reason(f.session), VU_CLOSE_PEER);
				assert_int_equal(
					vu_backend_close_text(f.session)[0] == '\0', cut == 0);
			}
			fixture_close(&f);
			/* The long ones are all alike in the middle. */
			if (cut == 64 && n > 128)
				cut = n - 3;
			if (cut >= n)
				break;
		}
	}
}

static void half_a_message_ends_the_session_at_the_deadline(void **state)
{
	const struct vu_backend_config config = {.deadline_us = cut_deadline_us};
	const struct vu_header header = {VU_REQUEST_SET_VRING_NUM, VU_FLAGS_VERSION, 8};
	static const size_t cuts[] = {1, 11, 12};
	struct fixture f;

	for (size_t i = 0; i < N_ELEMENTS(cuts); i++) {
		fixture_open(&f, &config);
		assert_true(vu_backend_deadline_us(f.session) == UINT64_MAX);
		client_write_bytes(&f, &header, cuts[i], NULL, 0);
		assert_int_equal(session_run(&f), 0);
		assert_true(vu_backend_deadline_us(f.session) <= clock_now_us() + cut_deadline_us);
		usleep(cut_deadline_us + 1000);
		assert_int_equal(session_run(&f), -1);
		assert_int_equal(vu_backend_close_reason(f.session), VU_CLOSE_DEADLINE);
		fixture_close(&f);
	}
}

static void dripping_sender_does_not_move_the_deadline(void **state)
{
	const struct vu_backend_config config = {.deadline_us = cut_deadline_us};
	uint8_t bytes[sizeof(struct vu_header) + 264] = {VU_REQUEST_SET_MEM_TABLE};
	uint64_t start_us;
	struct fixture f;
	size_t i;

	bytes[4] = VU_FLAGS_VERSION;
	bytes[8] = 200;
	fixture_open(&f, &config);
	start_us = clock_now_us();
	for (i = 0; i < 200; i++) {
		client_write_bytes(&f, bytes + i, 1, NULL, 0);
		if (session_run(&f) < 0)
			break;
		usleep(1000);
	}
	assert_true(i < 200);
	assert_true(clock_now_us() - start_us >= cut_deadline_us);
	assert_int_equal(vu_backend_close_reason(f.session), VU_CLOSE_DEADLINE);
	fixture_close(&f);
}

static void peer_that_never_speaks_is_dropped_if_that_is_wanted(void **state)
{
	const struct vu_backend_config config = {.first_message_us = cut_deadline_us};
	struct fixture f;

	fixture_open(&f, &config);
	usleep(cut_deadline_us + 1000);
	assert_int_equal(session_run(&f), -1);
	assert_int_equal(vu_backend_close_reason(f.session), VU_CLOSE_DEADLINE);
	fixture_close(&f);

	/* One word is enough: after it a peer may stay silent. */
	fixture_open(&f, &config);
	client_ask_u64(&f, VU_REQUEST_GET_FEATURES);
	usleep(cut_deadline_us + 1000);
	assert_int_equal(session_run(&f), 0);
	assert_true(vu_backend_deadline_us(f.session) == UINT64_MAX);
	fixture_close(&f);
}

static void every_short_and_long_payload_is_refused(void **state)
{
	struct sample sample;
	struct fixture f;

	for (uint32_t request = 1; request < VU_N_REQUESTS; request++) {
		const struct vu_rule *rule = vu_request_rule(request);
		/* The longest ones are refused for their gate anyway. */
		uint32_t end = rule->payload_max < 300 ? rule->payload_max + 9u : 300;

		for (uint32_t size = 0; size < end; size++) {
			enum outcome outcome;

			if (size >= rule->payload_min && size <= rule->payload_max &&
				request != VU_REQUEST_SET_MEM_TABLE)
				continue;
			/* Far from every limit one stands for its neighbours. */
			if (size > 64 && size + 1 < rule->payload_max && size % 8 != 0)
				continue;
			fixture_open(&f, NULL);
			client_negotiate(&f);
			sample_open(&f, request, &sample);
			if (size != sample.size) {
				outcome = client_call(&f, request, sample.payload, size, sample.fds,
					sample.n_fds);
				assert_true(
					outcome == OUTCOME_REFUSED || outcome == OUTCOME_CLOSED);
			}
			sample_close(&sample);
			fixture_close(&f);
		}
	}
}

static void old_short_region_message_is_understood(void **state)
{
	struct vu_mem_region_payload payload;
	struct fixture f;

	fixture_open(&f, NULL);
	client_negotiate(&f);
	/* Fills the buffer with bytes that must not be taken for the end of the next message. */
	memset(&payload, 0xff, sizeof(payload));
	assert_int_equal(
		client_call(&f, VU_REQUEST_ADD_MEM_REG, &payload, sizeof(payload), &f.memory.fd, 1),
		OUTCOME_REFUSED);
	payload = (struct vu_mem_region_payload){.region = guest_region(&f)};
	assert_int_equal(client_call(&f, VU_REQUEST_ADD_MEM_REG, &payload, VU_MEM_REGION_BYTES_OLD,
				 &f.memory.fd, 1),
		OUTCOME_OK);
	assert_int_equal(vu_backend_memory(f.session)->n_regions, 1);
	assert_int_equal(
		client_call(&f, VU_REQUEST_REM_MEM_REG, &payload, VU_MEM_REGION_BYTES_OLD, NULL, 0),
		OUTCOME_OK);
	assert_int_equal(vu_backend_memory(f.session)->n_regions, 0);
	fixture_close(&f);
}

static void unknown_request_is_answered_or_skipped_in_step(void **state)
{
	static const uint32_t unknown[] = {
		0, 46, 47, 100, 255, 256, 65536 + 1, 1u << 31, UINT32_MAX};
	static const uint8_t payload[VU_PAYLOAD_MAX];
	struct fixture f;

	fixture_open(&f, NULL);
	client_negotiate(&f);
	for (size_t i = 0; i < N_ELEMENTS(unknown); i++) {
		assert_int_equal(client_call(&f, unknown[i], NULL, 0, NULL, 0), OUTCOME_REFUSED);
		assert_int_equal(
			client_call(&f, unknown[i], payload, VU_PAYLOAD_MAX, &f.memory.fd, 1),
			OUTCOME_REFUSED);
		client_write(&f, unknown[i], VU_FLAGS_VERSION, 77, payload, 77, &f.memory.fd, 1);
		assert_int_equal(session_run(&f), 0);
		client_ask_u64(&f, VU_REQUEST_GET_FEATURES);
	}
	assert_int_equal(vu_backend_n_refused(f.session), 3 * N_ELEMENTS(unknown));
	fixture_close(&f);
}

static void oversized_payload_ends_the_session_before_it_is_read(void **state)
{
	static const uint32_t sizes[] = {4097, 65536, INT32_MAX, 1u << 31, UINT32_MAX};
	struct fixture f;

	for (size_t i = 0; i < N_ELEMENTS(sizes); i++) {
		fixture_open(&f, NULL);
		client_write(
			&f, VU_REQUEST_SET_MEM_TABLE, VU_FLAGS_VERSION, sizes[i], NULL, 0, NULL, 0);
		assert_int_equal(session_run(&f), -1);
		assert_int_equal(vu_backend_close_reason(f.session), VU_CLOSE_PROTOCOL);
		fixture_close(&f);
	}
}

static void region_count_is_compared_with_the_bytes_present(void **state)
{
	static const uint32_t counts[] = {0, 2, 7, 8, 9, 255, 256, 0x08000001, UINT32_MAX};
	struct fixture f;

	for (size_t i = 0; i < N_ELEMENTS(counts); i++) {
		struct vu_mem_table_payload table = {.n_regions = counts[i]};
		enum outcome outcome;

		fixture_open(&f, NULL);
		client_negotiate(&f);
		table.regions[0] = guest_region(&f);
		/* The bytes of one region and one descriptor, whatever the count says. */
		outcome =
			client_call(&f, VU_REQUEST_SET_MEM_TABLE, &table, 8 + 32, &f.memory.fd, 1);
		assert_int_equal(outcome, OUTCOME_REFUSED);
		assert_null(vu_backend_memory(f.session));
		fixture_close(&f);
	}
}

static void messages_of_features_not_offered_are_refused(void **state)
{
	struct sample sample;
	struct fixture f;

	for (uint32_t request = 1; request < VU_N_REQUESTS; request++) {
		const struct vu_rule *rule = vu_request_rule(request);
		enum outcome outcome;

		if (vu_rule_gate_is_open(rule, UINT64_MAX & ~VU_BIT(33), FIXTURE_PROTOCOL) &&
			request != VU_REQUEST_GPU_SET_SOCKET)
			continue;
		fixture_open(&f, NULL);
		client_negotiate(&f);
		sample_open(&f, request, &sample);
		outcome = client_call(
			&f, request, sample.payload, sample.size, sample.fds, sample.n_fds);
		/* A reply of its own has no form that says no. */
		assert_int_equal(
			outcome, rule->reply == VU_REPLY_ACK ? OUTCOME_REFUSED : OUTCOME_CLOSED);
		sample_close(&sample);
		fixture_close(&f);
	}
}

static void any_message_as_the_first_has_a_defined_result(void **state)
{
	struct sample sample;
	struct fixture f;

	for (uint32_t request = 1; request < VU_N_REQUESTS; request++) {
		fixture_open(&f, NULL);
		sample_open(&f, request, &sample);
		client_write(&f, request, VU_FLAGS_VERSION, sample.size, sample.payload,
			sample.size, sample.fds, sample.n_fds);
		if (session_run(&f) < 0)
			assert_string_not_equal(vu_backend_close_text(f.session), "");
		for (unsigned int i = 0; i < FIXTURE_RINGS; i++)
			assert_int_not_equal(vu_backend_ring(f.session, i)->state, VU_RING_RUNNING);
		sample_close(&sample);
		fixture_close(&f);
	}
}

static void owner_can_be_set_twice(void **state)
{
	struct fixture f;

	fixture_open(&f, NULL);
	client_negotiate(&f);
	assert_int_equal(client_call(&f, VU_REQUEST_SET_OWNER, NULL, 0, NULL, 0), OUTCOME_OK);
	fixture_close(&f);
}

static void refused_request_without_acks_ends_the_session(void **state)
{
	const struct vu_ring_state_payload bad = {.index = 0, .num = 3};
	struct fixture f;

	fixture_open(&f, NULL);
	client_write(&f, VU_REQUEST_SET_VRING_NUM, VU_FLAGS_VERSION, sizeof(bad), &bad, sizeof(bad),
		NULL, 0);
	assert_int_equal(session_run(&f), -1);
	assert_int_equal(vu_backend_close_reason(f.session), VU_CLOSE_PROTOCOL);
	assert_non_null(strstr(vu_backend_close_text(f.session), "SET_VRING_NUM"));
	assert_non_null(strstr(vu_backend_close_text(f.session), "3"));
	assert_non_null(strstr(vu_backend_close_text(f.session), "32768"));
	fixture_close(&f);
}

static void thousands_of_each_message_leave_resources_flat(void **state)
{
	struct resources after_first = {0};
	struct sample sample;
	struct fixture f;

	for (uint32_t request = 1; request < VU_N_REQUESTS; request++) {
		fixture_open(&f, NULL);
		client_negotiate(&f);
		client_set_memory(&f);
		sample_open(&f, request, &sample);
		for (unsigned int i = 0; i < 1000; i++) {
			struct vu_header header;
			uint8_t reply[64];

			client_write(&f, request, VU_FLAGS_VERSION | VU_FLAGS_NEED_REPLY,
				sample.size, sample.payload, sample.size, sample.fds, sample.n_fds);
			if (session_run(&f) < 0)
				break;
			while (client_read(&f, &header, reply, sizeof(reply)))
				;
			if (i == 0)
				after_first = resources_now();
			if (i > 0 && i % 250 == 0)
				resources_assert_flat(&after_first);
		}
		sample_close(&sample);
		fixture_close(&f);
	}
}

static void peer_that_asks_and_does_not_listen_is_dropped(void **state)
{
	const struct vu_backend_config config = {.deadline_us = cut_deadline_us};
	const struct vu_header header = {VU_REQUEST_GET_FEATURES, VU_FLAGS_VERSION, 0};
	struct resources before;
	struct fixture f;
	int ret = 0;

	fixture_open(&f, &config);
	before = resources_now();
	for (unsigned int i = 0; i < 100000; i++) {
		if (send(f.fd, &header, sizeof(header), MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
			break;
		ret = vu_backend_process(f.session);
		if (ret < 0)
			break;
	}
	assert_int_equal(ret, 0);
	resources_assert_flat(&before);
	/* Held back: it wants to send, and does not read on. */
	assert_int_equal(vu_backend_events(f.session) & 1 /* POLLIN */, 0);
	assert_true(vu_backend_deadline_us(f.session) != UINT64_MAX);
	usleep(cut_deadline_us + 1000);
	assert_int_equal(vu_backend_process(f.session), -1);
	assert_int_equal(vu_backend_close_reason(f.session), VU_CLOSE_DEADLINE);
	fixture_close(&f);
}

static void messages_glued_and_cut_anywhere_are_parsed_exactly(void **state)
{
	enum { N_MESSAGES = 3000 };
	const struct vu_ring_state_payload num = {.index = 1, .num = 64};
	const struct vu_header set = {VU_REQUEST_SET_VRING_NUM, VU_FLAGS_VERSION, sizeof(num)};
	const struct vu_header get = {VU_REQUEST_GET_FEATURES, VU_FLAGS_VERSION, 0};
	const size_t unit = sizeof(set) + sizeof(num) + sizeof(get);
	size_t n = N_MESSAGES * unit;
	uint8_t *stream = malloc(n);
	unsigned int n_replies = 0;
	uint64_t seed = 1;
	struct fixture f;

	assert_non_null(stream);
	for (size_t i = 0; i < N_MESSAGES; i++) {
		uint8_t *p = stream + i * unit;

		memcpy(p, &set, sizeof(set));
		memcpy(p + sizeof(set), &num, sizeof(num));
		memcpy(p + sizeof(set) + sizeof(num), &get, sizeof(get));
	}
	fixture_open(&f, NULL);
	for (size_t done = 0; done < n;) {
		struct vu_header header;
		uint64_t features;
		size_t chunk;

		seed = seed * 6364136223846793005u + 1442695040888963407u;
		chunk = 1 + (seed >> 33) % ((seed >> 60) == 0 ? 4000 : 40);
		chunk = chunk < n - done ? chunk : n - done;
		client_write_bytes(&f, stream + done, chunk, NULL, 0);
		done += chunk;
		assert_int_equal(session_run(&f), 0);
		while (client_read(&f, &header, &features, sizeof(features))) {
			assert_int_equal(header.request, VU_REQUEST_GET_FEATURES);
			n_replies++;
		}
	}
	assert_int_equal(n_replies, N_MESSAGES);
	assert_int_equal(vu_backend_ring(f.session, 1)->size, 64);
	fixture_close(&f);
	free(stream);
}

static void every_own_reply_has_its_size_and_comes_once(void **state)
{
	struct fixture f;

	fixture_open(&f, NULL);
	client_start(&f);
	/* client_ask() compares request, flags, size and number. */
	assert_true(client_ask_u64(&f, VU_REQUEST_GET_FEATURES) ==
		    (FIXTURE_FEATURES | VU_BIT(VHOST_USER_F_PROTOCOL_FEATURES)));
	assert_true(client_ask_u64(&f, VU_REQUEST_GET_PROTOCOL_FEATURES) == FIXTURE_PROTOCOL);
	assert_int_equal(client_ask_u64(&f, VU_REQUEST_GET_QUEUE_NUM), FIXTURE_QUEUE_PAIRS);
	assert_int_equal(client_ask_u64(&f, VU_REQUEST_GET_MAX_MEM_SLOTS), 509);
	assert_int_equal(client_ask_u64(&f, VU_REQUEST_GET_STATUS), 0);
	assert_int_equal(client_get_base(&f, 0), 0);
	fixture_close(&f);
}

static void questions_may_come_before_their_bit_is_negotiated(void **state)
{
	struct fixture f;

	fixture_open(&f, NULL);
	assert_int_equal(client_ask_u64(&f, VU_REQUEST_GET_QUEUE_NUM), FIXTURE_QUEUE_PAIRS);
	assert_int_equal(client_ask_u64(&f, VU_REQUEST_GET_MAX_MEM_SLOTS), 509);
	fixture_close(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(wrong_version_or_reply_bit_ends_the_session),
		cmocka_unit_test(reserved_flags_are_ignored_and_not_echoed),
		cmocka_unit_test(need_reply_before_it_is_negotiated_gets_no_reply),
		cmocka_unit_test(connection_closed_at_any_byte_of_any_message_leaves_nothing),
		cmocka_unit_test(half_a_message_ends_the_session_at_the_deadline),
		cmocka_unit_test(dripping_sender_does_not_move_the_deadline),
		cmocka_unit_test(peer_that_never_speaks_is_dropped_if_that_is_wanted),
		cmocka_unit_test(every_short_and_long_payload_is_refused),
		cmocka_unit_test(old_short_region_message_is_understood),
		cmocka_unit_test(unknown_request_is_answered_or_skipped_in_step),
		cmocka_unit_test(oversized_payload_ends_the_session_before_it_is_read),
		cmocka_unit_test(region_count_is_compared_with_the_bytes_present),
		cmocka_unit_test(messages_of_features_not_offered_are_refused),
		cmocka_unit_test(any_message_as_the_first_has_a_defined_result),
		cmocka_unit_test(owner_can_be_set_twice),
		cmocka_unit_test(refused_request_without_acks_ends_the_session),
		cmocka_unit_test(thousands_of_each_message_leave_resources_flat),
		cmocka_unit_test(peer_that_asks_and_does_not_listen_is_dropped),
		cmocka_unit_test(messages_glued_and_cut_anywhere_are_parsed_exactly),
		cmocka_unit_test(every_own_reply_has_its_size_and_comes_once),
		cmocka_unit_test(questions_may_come_before_their_bit_is_negotiated),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
