/* SPDX-License-Identifier: BSD-3-Clause */
/* A request slot between two threads: this one is the control thread, the other a worker that polls and sleeps. */
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#include <base/clock.h>

#include "slot.h"

#define LONG_US (20 * 1000 * 1000) /* only a hang takes so long, however busy the machine */
#define N_TRIPS 100000

static struct slot slot;

static int setup(void **state)
{
	return slot_open(&slot);
}

static int teardown(void **state)
{
	slot_close(&slot);
	return 0;
}

/* What was written to it since the last time. */
static uint64_t written(int fd)
{
	uint64_t value;

	return eventfd_read(fd, &value) == 0 ? value : 0;
}

static void add_one(void *arg)
{
	(*(unsigned int *)arg)++;
}

static void a_request_is_submitted_done_and_collected_once(void **state)
{
	unsigned int n = 0;

	assert_false(slot_is_submitted(&slot));
	assert_false(slot_collect(&slot));
	slot_submit(&slot, add_one, &n);
	assert_true(slot_is_submitted(&slot));
	assert_false(slot_collect(&slot));
	assert_int_equal(n, 0);
	slot_serve(&slot);
	assert_int_equal(n, 1);
	assert_false(slot_is_submitted(&slot));
	assert_int_equal(slot.state, SLOT_DONE);
	assert_true(slot_collect(&slot));
	assert_int_equal(slot.state, SLOT_IDLE);
	assert_false(slot_collect(&slot));
	assert_int_equal(n, 1);
}

static void a_request_for_nothing_but_the_answer_is_answered(void **state)
{
	slot_submit(&slot, NULL, NULL);
	slot_serve(&slot);
	assert_true(slot_collect(&slot));
}

static void a_side_that_does_not_sleep_is_not_written_to(void **state)
{
	slot_submit(&slot, NULL, NULL);
	slot_wake(&slot);
	slot_serve(&slot);
	assert_int_equal(written(slot.worker_fd), 0);
	assert_int_equal(written(slot.control_fd), 0);
	assert_true(slot_collect(&slot));
}

static void a_worker_that_sleeps_is_woken_by_a_request(void **state)
{
	slot_sleep_begin(&slot);
	assert_int_equal(written(slot.worker_fd), 0);
	slot_submit(&slot, NULL, NULL);
	assert_int_equal(written(slot.worker_fd), 1);
	slot_sleep_end(&slot);
	slot_serve(&slot);
	assert_int_equal(written(slot.control_fd), 0);
	assert_true(slot_collect(&slot));
	slot_submit(&slot, NULL, NULL);
	assert_int_equal(written(slot.worker_fd), 0);
}

static void a_worker_that_sleeps_is_woken_without_a_request_as_well(void **state)
{
	slot_sleep_begin(&slot);
	slot_wake(&slot);
	assert_int_equal(written(slot.worker_fd), 1);
	assert_false(slot_is_submitted(&slot));
	slot_sleep_end(&slot);
	slot_wake(&slot);
	assert_int_equal(written(slot.worker_fd), 0);
}

static void a_control_thread_that_sleeps_is_woken_by_the_answer(void **state)
{
	slot_submit(&slot, NULL, NULL);
	slot_await_begin(&slot);
	assert_int_equal(written(slot.control_fd), 0);
	slot_serve(&slot);
	assert_int_equal(written(slot.control_fd), 1);
	slot_await_end(&slot);
	assert_true(slot_collect(&slot));
	slot_submit(&slot, NULL, NULL);
	slot_serve(&slot);
	assert_int_equal(written(slot.control_fd), 0);
}

static void without_descriptors_it_does_not_open_and_leaves_none(void **state)
{
	struct rlimit before, few;
	struct slot other;
	int fds[64];
	unsigned int n = 0;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	few = (struct rlimit){ 64, before.rlim_max };
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	while (n < 64 && (fds[n] = dup(slot.worker_fd)) >= 0)
		n++;
	/* Enough for the first of the two, which is given back. */
	close(fds[--n]);
	for (unsigned int i = 0; i < 2; i++) {
		assert_true(slot_open(&other) < 0);
		assert_int_equal(other.worker_fd, -1);
		assert_int_equal(other.control_fd, -1);
	}
	while (n > 0)
		close(fds[--n]);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
}

/* The worker of the tests with two threads. */
static struct {
	pthread_t thread;
	bool sleeps; /* sometimes, else it polls only */
	bool ends;
	uint64_t n_served;
	uint64_t n_lost; /* woken by nobody in all that time */
} worker;

static void wait_readable(int fd, uint64_t *n_lost)
{
	struct pollfd waits = { .fd = fd, .events = POLLIN };

	if (poll(&waits, 1, LONG_US / 1000) <= 0)
		__atomic_fetch_add(n_lost, 1, __ATOMIC_RELAXED);
	written(fd);
}

/* As long as it takes the other side to see what was stored, more or less. */
static void wait_a_moment(unsigned int *seed)
{
	for (unsigned int turns = (unsigned int)rand_r(seed) % 1024; turns > 0; turns--)
		__asm__ volatile("" ::: "memory");
}

static void *worker_thread(void *argument)
{
	unsigned int seed = 20261120;

	while (!__atomic_load_n(&worker.ends, __ATOMIC_ACQUIRE)) {
		if (slot_is_submitted(&slot)) {
			slot_serve(&slot);
			__atomic_fetch_add(&worker.n_served, 1, __ATOMIC_RELAXED);
		} else if (worker.sleeps && rand_r(&seed) % 2 == 0) {
			wait_a_moment(&seed);
			slot_sleep_begin(&slot);
			if (!slot_is_submitted(&slot) && !__atomic_load_n(&worker.ends, __ATOMIC_ACQUIRE))
				wait_readable(slot.worker_fd, &worker.n_lost);
			slot_sleep_end(&slot);
		} else if (rand_r(&seed) % 8 == 0) {
			sched_yield();
		}
	}
	return NULL;
}

static void worker_start(bool sleeps)
{
	worker.sleeps = sleeps;
	worker.ends = false;
	worker.n_served = worker.n_lost = 0;
	assert_int_equal(pthread_create(&worker.thread, NULL, worker_thread, NULL), 0);
}

static void worker_end(void)
{
	__atomic_store_n(&worker.ends, true, __ATOMIC_RELEASE);
	slot_wake(&slot);
	pthread_join(worker.thread, NULL);
}

static void between_a_polling_worker_and_a_waiting_control_no_descriptor_is_written(void **state)
{
	unsigned int n_handled = 0;

	worker_start(false);
	for (unsigned int i = 0; i < 1000; i++) {
		slot_submit(&slot, add_one, &n_handled);
		while (!slot_collect(&slot))
			sched_yield();
		assert_int_equal(n_handled, i + 1);
	}
	worker_end();
	assert_int_equal(written(slot.worker_fd), 0);
	assert_int_equal(written(slot.control_fd), 0);
}

static void no_request_and_no_answer_is_lost_however_both_sides_sleep(void **state)
{
	unsigned int n_handled = 0;
	uint64_t n_lost = 0;
	unsigned int seed = 1120;
	uint64_t begin_us = clock_now_us();

	worker_start(true);
	for (unsigned int i = 0; i < N_TRIPS && n_lost == 0; i++) {
		bool is_done = false;

		wait_a_moment(&seed);
		slot_submit(&slot, add_one, &n_handled);
		/* An answer that is found by looking is followed by the next request while the worker goes to sleep. */
		for (unsigned int looks = i % 4 == 0 ? 0 : 2000; looks > 0 && !is_done; looks--)
			is_done = slot_collect(&slot);
		wait_a_moment(&seed);
		slot_await_begin(&slot);
		while (!is_done && !(is_done = slot_collect(&slot)) && n_lost == 0)
			wait_readable(slot.control_fd, &n_lost);
		slot_await_end(&slot);
		/* The handler's work is there when its answer is. */
		assert_int_equal(n_handled, i + 1);
	}
	worker_end();
	assert_int_equal(n_lost, 0);
	assert_int_equal(worker.n_lost, 0);
	assert_int_equal(worker.n_served, N_TRIPS);
	print_message("%d round trips in %lu ms\n", N_TRIPS,
		(unsigned long)((clock_now_us() - begin_us) / 1000));
}

#define slot_test(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		slot_test(a_request_is_submitted_done_and_collected_once),
		slot_test(a_request_for_nothing_but_the_answer_is_answered),
		slot_test(a_side_that_does_not_sleep_is_not_written_to),
		slot_test(a_worker_that_sleeps_is_woken_by_a_request),
		slot_test(a_worker_that_sleeps_is_woken_without_a_request_as_well),
		slot_test(a_control_thread_that_sleeps_is_woken_by_the_answer),
		slot_test(without_descriptors_it_does_not_open_and_leaves_none),
		slot_test(between_a_polling_worker_and_a_waiting_control_no_descriptor_is_written),
		slot_test(no_request_and_no_answer_is_lost_however_both_sides_sleep),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
