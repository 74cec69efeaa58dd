/* SPDX-License-Identifier: BSD-3-Clause */
/* Notification descriptors under a peer that fills the counter and takes O_NONBLOCK away. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <base/clock.h>
#include <vhost/eventfd.h>

#include "session_fixture.h"

static void signal_adds_one(void **state)
{
	int fd = eventfd(0, EFD_CLOEXEC);

	for (unsigned int i = 0; i < 1000; i++)
		assert_int_equal(vu_eventfd_signal(fd), 0);
	assert_int_equal(eventfd_drain(fd), 1000);
	close(fd);
	assert_int_equal(vu_eventfd_signal(-1), 0);
	assert_true(vu_eventfd_signal(fd) < 0);
}

static void full_counter_is_left_alone(void **state)
{
	int fd = eventfd(0, EFD_CLOEXEC);

	assert_int_equal(eventfd_write(fd, UINT64_MAX - 1), 0);
	assert_int_equal(vu_eventfd_signal(fd), -EAGAIN);
	assert_true(eventfd_drain(fd) == UINT64_MAX - 1);
	close(fd);
}

struct filler {
	int fd;
	bool stop;
	bool caller_was_held;
	unsigned int n_calls; /* written by the caller */
	pthread_t thread;
};

/* Waits for the caller to come back from the call it is in, and for one more. */
static bool caller_goes_on(const struct filler *filler)
{
	unsigned int n_calls = __atomic_load_n(&filler->n_calls, __ATOMIC_RELAXED);
	uint64_t end_us = clock_now_us() + 2000000;

	while (__atomic_load_n(&filler->n_calls, __ATOMIC_RELAXED) - n_calls < 2) {
		if (clock_now_us() > end_us)
			return __atomic_load_n(&filler->stop, __ATOMIC_RELAXED);
		sched_yield();
	}
	return true;
}

/* Empty for a moment, then full, and blocking: a look and a write would soon sleep. */
static void *fill(void *arg)
{
	struct filler *filler = arg;
	eventfd_t value;

	while (!__atomic_load_n(&filler->stop, __ATOMIC_RELAXED)) {
		fcntl(filler->fd, F_SETFL, O_NONBLOCK);
		eventfd_read(filler->fd, &value);
		/* What the caller added meanwhile is in the way of filling it up at once. */
		for (uint64_t step = UINT64_C(1) << 63; step > 0; step /= 2) {
			while (eventfd_write(filler->fd, step) == 0)
				;
		}
		fcntl(filler->fd, F_SETFL, 0);
		if (!caller_goes_on(filler))
			filler->caller_was_held = true;
	}
	fcntl(filler->fd, F_SETFL, O_NONBLOCK);
	eventfd_read(filler->fd, &value);
	return NULL;
}

static void peer_that_plays_with_the_counter_cannot_hold_us(void **state)
{
	struct filler filler = {.fd = eventfd(0, EFD_CLOEXEC)};
	uint64_t end_us = clock_now_us() + 500000;

	assert_int_equal(pthread_create(&filler.thread, NULL, fill, &filler), 0);
	while (clock_now_us() < end_us) {
		vu_eventfd_signal(filler.fd);
		__atomic_add_fetch(&filler.n_calls, 1, __ATOMIC_RELAXED);
	}
	__atomic_store_n(&filler.stop, true, __ATOMIC_RELAXED);
	assert_int_equal(pthread_join(filler.thread, NULL), 0);
	assert_false(filler.caller_was_held);
	close(filler.fd);
}

static void check_knows_an_eventfd_by_its_name(void **state)
{
	int fd = eventfd(0, EFD_CLOEXEC);

	assert_int_equal(vu_eventfd_check(fd), 0);
	close(fd);
	assert_int_equal(vu_eventfd_check(fd), -EINVAL);
	assert_int_equal(vu_eventfd_check(-1), -EINVAL);
	fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	assert_int_equal(vu_eventfd_check(fd), -EINVAL);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(signal_adds_one),
		cmocka_unit_test(full_counter_is_left_alone),
		cmocka_unit_test(peer_that_plays_with_the_counter_cannot_hold_us),
		cmocka_unit_test(check_knows_an_eventfd_by_its_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
