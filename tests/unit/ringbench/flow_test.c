/* SPDX-License-Identifier: BSD-3-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "flow.h"

/* A flow that has sent and received everything before `start`. */
static struct flow flow_at(uint32_t start)
{
	struct flow flow = {.next = start,
		.base = start & ~63u,
		.floor = start,
		.sent = start,
		.suspended = start & ~63u};

	return flow;
}

static void receive(struct flow *flow, uint32_t first, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		assert_int_equal(flow_receive(flow, first + i), FLOW_NEW);
}

static void assert_counts(const struct flow *flow, uint64_t received, uint64_t lost,
	uint64_t duplicated, uint64_t reordered, uint64_t late)
{
	assert_int_equal(flow->n_received, received);
	assert_int_equal(flow->n_lost, lost);
	assert_int_equal(flow->n_duplicated, duplicated);
	assert_int_equal(flow->n_reordered, reordered);
	assert_int_equal(flow->n_late, late);
}

static void frames_in_order_raise_nothing(void **state)
{
	/* Over the end of the number range as well. */
	for (uint32_t start = 0;; start = UINT32_MAX - 5000) {
		struct flow flow = flow_at(start);

		flow.sent = start + 20000;
		receive(&flow, start, 20000);
		assert_int_equal(flow_flush(&flow), 0);
		assert_counts(&flow, 20000, 0, 0, 0, 0);
		if (start != 0)
			break;
	}
}

static void a_gap_is_lost_when_the_window_has_passed_and_not_before(void **state)
{
	struct flow flow = flow_at(0);

	flow.sent = 20000;
	receive(&flow, 0, 100);
	receive(&flow, 103, 1000);
	assert_counts(&flow, 1100, 0, 0, 0, 0);
	receive(&flow, 1103, FLOW_WINDOW);
	assert_counts(&flow, 1100 + FLOW_WINDOW, 3, 0, 0, 0);
}

static void a_frame_that_overtakes_is_reordering_not_loss(void **state)
{
	struct flow flow = flow_at(0);

	flow.sent = 12;
	receive(&flow, 0, 5);
	receive(&flow, 6, 4);
	receive(&flow, 5, 1);
	receive(&flow, 10, 2);
	assert_int_equal(flow_flush(&flow), 0);
	assert_counts(&flow, 12, 0, 0, 1, 0);
}

static void a_second_copy_is_a_duplicate_wherever_the_window_is(void **state)
{
	struct flow flow = flow_at(0);

	flow.sent = 9000;
	for (uint32_t seq = 0; seq < 9000; seq++) {
		assert_int_equal(flow_receive(&flow, seq), FLOW_NEW);
		assert_int_equal(flow_receive(&flow, seq), FLOW_DUPLICATED);
	}
	assert_counts(&flow, 9000, 0, 9000, 0, 0);
}

static void behind_the_window_a_frame_is_late(void **state)
{
	struct flow flow = flow_at(0);

	flow.sent = 10000;
	receive(&flow, 1, 9000);
	assert_int_equal(flow_receive(&flow, 0), FLOW_LATE);
	assert_counts(&flow, 9000, 1, 0, 0, 1);
}

static void a_jump_over_more_than_the_window_loses_all_between(void **state)
{
	struct flow flow = flow_at(0);

	flow.sent = 1000000;
	receive(&flow, 0, 10);
	receive(&flow, 900000, 1);
	flow_flush(&flow);
	assert_int_equal(flow.n_lost, 1000000 - 11);
	assert_int_equal(flow.n_received, 11);
}

static void a_number_never_sent_is_not_counted(void **state)
{
	struct flow flow = flow_at(0);

	flow.sent = 10;
	receive(&flow, 0, 10);
	assert_int_equal(flow_receive(&flow, 10), FLOW_UNSENT);
	assert_int_equal(flow_receive(&flow, 5000), FLOW_UNSENT);
	assert_counts(&flow, 10, 0, 0, 0, 0);
}

static void after_a_flush_the_missing_are_lost_once_and_late_if_they_come(void **state)
{
	struct flow flow = flow_at(0);

	flow.sent = 100;
	receive(&flow, 0, 70);
	assert_int_equal(flow_flush(&flow), 30);
	assert_int_equal(flow_flush(&flow), 0);
	assert_int_equal(flow_receive(&flow, 80), FLOW_LATE);
	flow.sent = 5000;
	receive(&flow, 100, 4900);
	assert_int_equal(flow_flush(&flow), 0);
	assert_counts(&flow, 4970, 30, 0, 0, 1);
}

static void suspended_frames_may_still_come_in_any_order(void **state)
{
	struct flow flow = flow_at(0);

	flow.sent = 200;
	receive(&flow, 0, 100);
	flow_suspend(&flow);
	flow.sent = 300;
	receive(&flow, 200, 50);
	assert_int_equal(flow_receive(&flow, 150), FLOW_DELAYED);
	assert_int_equal(flow_receive(&flow, 120), FLOW_DELAYED);
	assert_int_equal(flow_receive(&flow, 120), FLOW_DUPLICATED);
	receive(&flow, 250, 50);
	assert_int_equal(flow_flush(&flow), 98);
	assert_counts(&flow, 202, 98, 1, 0, 0);
}

static void marks_do_not_come_back_after_half_the_number_range(void **state)
{
	struct flow flow = flow_at(64);

	/* Moves the window on by steps that touch every word, past 2^31 numbers. */
	flow_suspend(&flow);
	for (uint32_t seq = 64; seq < UINT32_C(0x90000000); seq += FLOW_WINDOW / 2) {
		flow.sent = seq + 2;
		assert_int_equal(flow_receive(&flow, seq + 1), FLOW_NEW);
		assert_int_equal(flow_receive(&flow, seq), FLOW_NEW);
	}
}

/* Whatever the order of arrival, each number ends up in exactly one of: received, lost. */
static void random_arrivals_add_up(void **state)
{
	enum { N = 50000 };
	uint32_t *arrivals = malloc(2 * N * sizeof(*arrivals));
	struct flow flow = flow_at(UINT32_MAX - N / 2 - UINT32_MAX % 64);
	uint32_t start = flow.next;
	uint64_t seed = 7;
	unsigned int n = 0, n_dropped = 0, n_doubled = 0;

	assert_non_null(arrivals);
	for (uint32_t i = 0; i < N; i++) {
		seed = seed * UINT64_C(6364136223846793005) + 1;
		if (seed >> 60 == 0) {
			n_dropped++;
			continue;
		}
		arrivals[n++] = start + i;
		if (seed >> 60 == 1) {
			arrivals[n++] = start + i;
			n_doubled++;
		}
	}
	/* Neighbours up to 30 apart change places. */
	for (unsigned int i = 0; i + 30 < n; i++) {
		unsigned int other;
		uint32_t swap = arrivals[i];

		seed = seed * UINT64_C(6364136223846793005) + 1;
		other = i + (unsigned int)(seed >> 40) % 30;
		arrivals[i] = arrivals[other];
		arrivals[other] = swap;
	}
	flow.sent = start + N;
	for (unsigned int i = 0; i < n; i++)
		flow_receive(&flow, arrivals[i]);
	flow_flush(&flow);
	assert_int_equal(flow.n_received, N - n_dropped);
	assert_int_equal(flow.n_lost, n_dropped);
	assert_int_equal(flow.n_duplicated, n_doubled);
	assert_int_equal(flow.n_late, 0);
	free(arrivals);
}

/* Runs of any length, in order, early, late and doubled: what flow_receive_run() takes, it notes as flow_receive() does. */
static void a_run_is_noted_as_its_numbers_one_by_one(void **state)
{
	uint32_t start = UINT32_MAX - 100000;
	struct flow whole = flow_at(start), single = flow_at(start);
	uint64_t seed = 11;
	unsigned int n_taken = 0;

	whole.sent = single.sent = start + 64;
	for (unsigned int i = 0; i < 20000; i++) {
		uint32_t first, n;

		seed = seed * UINT64_C(6364136223846793005) + 1;
		first = whole.next + (seed >> 60 == 0 ? (uint32_t)(seed >> 50) % 200 - 100 : 0);
		n = 1 + (uint32_t)(seed >> 40) % (64 - first % 64);
		if (first + n - whole.sent < 300)
			whole.sent = single.sent = first + n + (uint32_t)(seed >> 20) % 3 - 1;
		if (flow_receive_run(&whole, first, n))
			n_taken++;
		else
			for (uint32_t k = 0; k < n; k++)
				flow_receive(&whole, first + k);
		for (uint32_t k = 0; k < n; k++)
			flow_receive(&single, first + k);
		assert_memory_equal(&whole, &single, sizeof(whole));
	}
	assert_true(n_taken > 5000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(frames_in_order_raise_nothing),
		cmocka_unit_test(a_gap_is_lost_when_the_window_has_passed_and_not_before),
		cmocka_unit_test(a_frame_that_overtakes_is_reordering_not_loss),
		cmocka_unit_test(a_second_copy_is_a_duplicate_wherever_the_window_is),
		cmocka_unit_test(behind_the_window_a_frame_is_late),
		cmocka_unit_test(a_jump_over_more_than_the_window_loses_all_between),
		cmocka_unit_test(a_number_never_sent_is_not_counted),
		cmocka_unit_test(after_a_flush_the_missing_are_lost_once_and_late_if_they_come),
		cmocka_unit_test(suspended_frames_may_still_come_in_any_order),
		cmocka_unit_test(marks_do_not_come_back_after_half_the_number_range),
		cmocka_unit_test(random_arrivals_add_up),
		cmocka_unit_test(a_run_is_noted_as_its_numbers_one_by_one),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
