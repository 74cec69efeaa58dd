/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Event sets over real eventfds. The test is both ends: what it writes, a peer could have written; what it keeps of a
 * descriptor after a channel is closed (dup()), a peer keeps as well.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

#include <base/clock.h>
#include <event/event.h>

#define MAX     4
#define LONG_US (20 * 1000 * 1000) /* only a hang takes so long, however busy the machine */

static struct event_set *set;
static uint16_t ids[EVENT_WAIT_MAX];

static int setup(void **state)
{
	set = event_set_create(MAX);
	return set == NULL;
}

static int teardown(void **state)
{
	event_set_destroy(set);
	return 0;
}

static int kick_fd(void)
{
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	assert_true(fd >= 0);
	return fd;
}

static void kick(int fd)
{
	assert_int_equal(eventfd_write(fd, 1), 0);
}

static int open_channel(int fd, enum event_cause cause, bool is_level)
{
	const struct event_channel_config config = { .fd = fd, .cause = cause, .is_level = is_level, .owner = &set };

	return event_channel_open(set, &config);
}

static int open_kick(int fd)
{
	return open_channel(fd, EVENT_KICK, false);
}

static unsigned int look(void)
{
	return event_set_wait(set, 0, ids);
}

static struct event_channel_report report_of(int id)
{
	struct event_channel_report report;

	event_channel_report(set, id, &report);
	return report;
}

static struct event_set_report report_of_set(void)
{
	struct event_set_report report;

	event_set_report(set, &report);
	return report;
}

static void each_kick_is_reported_once_and_none_is_drained(void **state)
{
	int fd = kick_fd();
	int id = open_kick(fd);
	uint64_t value;

	assert_int_equal(look(), 0);
	for (unsigned int i = 0; i < 10; i++) {
		kick(fd);
		assert_int_equal(look(), 1);
		assert_int_equal(ids[0], id);
		assert_int_equal(look(), 0);
	}
	assert_int_equal(report_of(id).n_wakeups, 10);
	assert_int_equal(eventfd_read(fd, &value), 0);
	assert_int_equal(value, 10);
	close(fd);
}

static void kicks_before_a_wait_are_one_report(void **state)
{
	int fd = kick_fd();

	open_kick(fd);
	for (unsigned int i = 0; i < 5; i++)
		kick(fd);
	assert_int_equal(look(), 1);
	assert_int_equal(look(), 0);
	close(fd);
}

/* A peer can make its eventfd so that no read would ever end that. */
static void a_descriptor_that_is_readable_for_ever_does_not_spin(void **state)
{
	int fd = eventfd(1U << 30, EFD_CLOEXEC | EFD_SEMAPHORE);

	open_kick(fd);
	assert_int_equal(look(), 1);
	for (unsigned int i = 0; i < 100; i++)
		assert_int_equal(look(), 0);
	close(fd);
}

static void a_peer_that_reads_its_own_eventfd_gains_nothing(void **state)
{
	int fd = kick_fd();
	uint64_t value;

	open_kick(fd);
	kick(fd);
	assert_int_equal(look(), 1);
	assert_int_equal(eventfd_read(fd, &value), 0);
	assert_int_equal(look(), 0);
	kick(fd);
	assert_int_equal(look(), 1);
	close(fd);
}

static void what_was_kicked_before_the_channel_was_opened_is_reported(void **state)
{
	int fd = kick_fd();

	kick(fd);
	open_kick(fd);
	assert_int_equal(look(), 1);
	assert_int_equal(look(), 0);
	close(fd);
}

static void a_level_channel_is_reported_while_it_is_readable(void **state)
{
	int ends[2];
	char byte = 0;
	int id;

	assert_int_equal(pipe(ends), 0);
	id = open_channel(ends[0], EVENT_NIC, true);
	assert_int_equal(look(), 0);
	assert_int_equal(write(ends[1], &byte, 1), 1);
	for (unsigned int i = 0; i < 5; i++) {
		assert_int_equal(look(), 1);
		assert_int_equal(ids[0], id);
	}
	assert_int_equal(read(ends[0], &byte, 1), 1);
	assert_int_equal(look(), 0);
	event_channel_close(set, id);
	close(ends[0]);
	close(ends[1]);
}

static void many_channels_are_reported_over_several_waits_each_once(void **state)
{
	enum { N = 2 * EVENT_WAIT_MAX + 7 };
	unsigned int n_reported[N] = { 0 };
	unsigned int n_now, n = 0;
	int fds[N];

	event_set_destroy(set);
	set = event_set_create(N);
	for (unsigned int i = 0; i < N; i++) {
		fds[i] = kick_fd();
		assert_int_equal(open_kick(fds[i]), i);
		kick(fds[i]);
	}
	while ((n_now = look()) > 0) {
		assert_true(n_now <= EVENT_WAIT_MAX);
		for (unsigned int i = 0; i < n_now; i++)
			n_reported[ids[i]]++;
		n += n_now;
	}
	assert_int_equal(n, N);
	for (unsigned int i = 0; i < N; i++) {
		assert_int_equal(n_reported[i], 1);
		close(fds[i]);
	}
}

static void the_lowest_free_id_is_used_again(void **state)
{
	int fds[MAX];

	for (int i = 0; i < MAX; i++) {
		fds[i] = kick_fd();
		assert_int_equal(open_kick(fds[i]), i);
		assert_ptr_equal(event_channel_owner(set, i), &set);
	}
	event_channel_close(set, 2);
	event_channel_close(set, 1);
	assert_null(event_channel_owner(set, 1));
	kick(fds[2]);
	assert_int_equal(open_kick(fds[2]), 1);
	assert_int_equal(look(), 1);
	assert_int_equal(ids[0], 1);
	assert_int_equal(report_of(1).n_wakeups, 1);
	assert_int_equal(open_kick(fds[1]), 2);
	for (int i = 0; i < MAX; i++)
		close(fds[i]);
}

static void a_new_channel_starts_without_what_was_counted_of_the_old(void **state)
{
	int fd = kick_fd();
	int id = open_kick(fd);

	for (unsigned int i = 0; i < EVENT_SPURIOUS_MAX - 1; i++) {
		kick(fd);
		assert_int_equal(look(), 1);
		assert_false(event_channel_judge(set, id, false));
	}
	event_channel_close(set, id);
	assert_int_equal(open_kick(fd), id);
	assert_int_equal(report_of(id).n_wakeups, 0);
	assert_int_equal(report_of(id).n_spurious, 0);
	assert_int_equal(look(), 1);
	assert_false(event_channel_judge(set, id, false));
	assert_int_equal(report_of(id).n_spurious, 1);
	/* What the set saw is not forgotten. */
	assert_int_equal(report_of_set().n_spurious, EVENT_SPURIOUS_MAX);
	close(fd);
}

static void a_closed_channel_reports_nothing_though_the_peer_still_writes(void **state)
{
	int fd = kick_fd();
	int peer = dup(fd);
	int id = open_kick(fd);

	kick(peer);
	event_channel_close(set, id);
	close(fd);
	for (unsigned int i = 0; i < 10; i++) {
		kick(peer);
		assert_int_equal(look(), 0);
	}
	assert_int_equal(report_of_set().n_wakeups[EVENT_KICK], 0);
	close(peer);
}

static void a_regular_file_is_refused(void **state)
{
	FILE *file = tmpfile();

	assert_non_null(file);
	assert_int_equal(open_kick(fileno(file)), -EPERM);
	fclose(file);
}

static void a_closed_descriptor_is_refused(void **state)
{
	int fd = kick_fd();

	close(fd);
	assert_int_equal(open_kick(fd), -EBADF);
}

static void what_was_refused_takes_no_place(void **state)
{
	int fd = kick_fd();

	assert_int_equal(open_kick(-1), -EBADF);
	assert_int_equal(open_kick(fd), 0);
	close(fd);
}

static void a_full_set_refuses_and_goes_on(void **state)
{
	int fds[MAX + 1];

	for (int i = 0; i <= MAX; i++) {
		fds[i] = kick_fd();
		assert_int_equal(open_kick(fds[i]), i < MAX ? i : -ENOSPC);
	}
	kick(fds[MAX]);
	assert_int_equal(look(), 0);
	kick(fds[0]);
	assert_int_equal(look(), 1);
	for (int i = 0; i <= MAX; i++)
		close(fds[i]);
}

static void a_set_of_no_channels_or_of_too_many_is_refused(void **state)
{
	struct event_set *largest;

	errno = 0;
	assert_null(event_set_create(0));
	assert_int_equal(errno, EINVAL);
	errno = 0;
	assert_null(event_set_create(EVENT_CHANNELS_MAX + 1));
	assert_int_equal(errno, EINVAL);
	largest = event_set_create(EVENT_CHANNELS_MAX);
	assert_non_null(largest);
	event_set_destroy(largest);
	event_set_destroy(NULL);
}

/* Kicks and judges for nothing until the channel is shut out. */
static void shut_out(int fd, int id)
{
	for (unsigned int i = 1; i <= EVENT_SPURIOUS_MAX; i++) {
		kick(fd);
		assert_int_equal(look(), 1);
		assert_int_equal(event_channel_judge(set, id, false), i == EVENT_SPURIOUS_MAX);
	}
}

static void wake_ups_for_nothing_in_a_row_shut_a_channel_out(void **state)
{
	int fd = kick_fd(), other = kick_fd();
	int id = open_kick(fd), other_id = open_kick(other);

	shut_out(fd, id);
	assert_true(report_of(id).is_shut_out);
	assert_int_equal(report_of(id).n_penalties, 1);
	assert_int_equal(report_of(id).n_spurious, EVENT_SPURIOUS_MAX);
	assert_false(report_of(other_id).is_shut_out);
	assert_int_equal(report_of_set().n_penalties, 1);
	close(fd);
	close(other);
}

static void one_real_event_in_between_keeps_a_channel_in(void **state)
{
	int fd = kick_fd();
	int id = open_kick(fd);

	for (unsigned int i = 1; i <= 3 * EVENT_SPURIOUS_MAX; i++) {
		kick(fd);
		assert_int_equal(look(), 1);
		assert_false(event_channel_judge(set, id, i % EVENT_SPURIOUS_MAX == 0));
	}
	assert_int_equal(report_of(id).n_penalties, 0);
	close(fd);
}

/* Waits for the end of a penalty; returns how long it took at most. */
static uint64_t penalty_us(int fd, int id, uint64_t begin_us)
{
	unsigned int n;

	/* All this does not matter while it is shut out. */
	kick(fd);
	do {
		n = event_set_wait(set, begin_us + LONG_US, ids);
	} while (n == 0 && clock_now_us() < begin_us + LONG_US);
	assert_int_equal(n, 1);
	assert_int_equal(ids[0], id);
	assert_false(report_of(id).is_shut_out);
	return clock_now_us() - begin_us;
}

static void the_penalty_doubles_up_to_a_maximum_and_a_real_event_ends_that(void **state)
{
	int fd = kick_fd();
	int id = open_kick(fd);
	uint64_t expected_us = EVENT_PENALTY_MIN_US;
	uint64_t begin_us = clock_now_us(), shortest_us = LONG_US;

	shut_out(fd, id);
	for (unsigned int round = 0; round < 12; round++) {
		uint64_t took_us = penalty_us(fd, id, begin_us);

		/* The penalty began after begin_us, so this is a lower bound on the penalty that is sure. */
		assert_true(took_us >= expected_us);
		/* More than three times the maximum by now, if there were none. */
		if (round >= 9)
			shortest_us = took_us < shortest_us ? took_us : shortest_us;
		expected_us = 2 * expected_us < EVENT_PENALTY_MAX_US ? 2 * expected_us : EVENT_PENALTY_MAX_US;
		begin_us = clock_now_us();
		/* One kick for nothing is enough now, at most the one after what ended the penalty. */
		for (unsigned int i = 0; i < 2 && !event_channel_judge(set, id, false); i++) {
			kick(fd);
			assert_int_equal(look(), 1);
		}
		assert_true(report_of(id).is_shut_out);
		assert_int_equal(report_of(id).n_penalties, round + 2);
	}
	assert_true(shortest_us < 3 * EVENT_PENALTY_MAX_US);
	penalty_us(fd, id, begin_us);
	/* On a machine that is too busy to see that the penalty starts anew: again. */
	for (unsigned int turn = 0; turn < 50; turn++) {
		assert_false(event_channel_judge(set, id, true));
		while (look() > 0)
			event_channel_judge(set, id, true);
		begin_us = clock_now_us();
		shut_out(fd, id);
		if (penalty_us(fd, id, begin_us) < EVENT_PENALTY_MAX_US) {
			close(fd);
			return;
		}
	}
	fail_msg("the penalty is as long as before the real event");
}

/* Kicks while it is shut out do not wake; the end of the penalty has the channel looked at, once. */
static void the_end_of_a_penalty_reports_the_channel_once(void **state)
{
	int fd = kick_fd();
	int id = open_kick(fd);
	uint64_t begin_us = clock_now_us(), n_wakeups;

	shut_out(fd, id);
	n_wakeups = report_of_set().n_wakeups[EVENT_KICK];
	do {
		kick(fd);
	} while (look() == 0 && clock_now_us() < begin_us + LONG_US);
	assert_true(clock_now_us() - begin_us >= EVENT_PENALTY_MIN_US);
	assert_int_equal(ids[0], id);
	assert_false(event_channel_judge(set, id, true));
	assert_int_equal(look(), 0);
	assert_true(report_of_set().n_wakeups[EVENT_KICK] <= n_wakeups + 1);
	/* From now on as ever. */
	kick(fd);
	assert_int_equal(look(), 1);
	close(fd);
}

/* Else a port that does nothing any more would wake its worker for ever, and its next frame would have to wait. */
static void a_channel_that_is_quiet_after_its_penalty_is_left_alone(void **state)
{
	int fd = kick_fd();
	int id = open_kick(fd);
	uint64_t begin_us = clock_now_us(), n_penalties;

	shut_out(fd, id);
	while (event_set_wait(set, begin_us + LONG_US, ids) != 1)
		assert_true(clock_now_us() < begin_us + LONG_US);
	event_channel_judge(set, id, false);
	n_penalties = report_of(id).n_penalties;
	begin_us = clock_now_us();
	assert_int_equal(event_set_wait(set, begin_us + 3 * EVENT_PENALTY_MIN_US, ids), 0);
	assert_false(report_of(id).is_shut_out);
	assert_int_equal(report_of(id).n_penalties, n_penalties);
	kick(fd);
	assert_int_equal(look(), 1);
	close(fd);
}

static void a_penalty_ends_also_while_others_wake_the_set_without_pause(void **state)
{
	int fd = kick_fd(), other = kick_fd();
	int id = open_kick(fd);
	uint64_t begin_us;
	bool is_reported = false;

	open_kick(other);
	shut_out(fd, id);
	begin_us = clock_now_us();
	while (!is_reported && clock_now_us() < begin_us + LONG_US / 10) {
		unsigned int n;

		kick(other);
		n = look();
		for (unsigned int i = 0; i < n; i++)
			is_reported |= ids[i] == id;
	}
	assert_true(is_reported);
	close(fd);
	close(other);
}

static void a_channel_that_is_shut_out_can_be_closed(void **state)
{
	int fd = kick_fd(), other = kick_fd();
	int id = open_kick(fd), other_id = open_kick(other);
	uint64_t begin_us;

	shut_out(fd, id);
	shut_out(other, other_id);
	event_channel_close(set, id);
	assert_false(report_of(id).is_shut_out);
	begin_us = clock_now_us();
	/* Only the other one comes back. */
	while (event_set_wait(set, begin_us + LONG_US, ids) != 1)
		assert_true(clock_now_us() < begin_us + LONG_US);
	assert_int_equal(ids[0], other_id);
	assert_int_equal(open_kick(fd), id);
	assert_false(report_of(id).is_shut_out);
	close(fd);
	close(other);
}

static void a_judgement_that_comes_too_late_shuts_nothing_out(void **state)
{
	int fd = kick_fd();
	int id = open_kick(fd);

	for (unsigned int i = 1; i < EVENT_SPURIOUS_MAX; i++)
		event_channel_judge(set, id, false);
	kick(fd);
	assert_int_equal(look(), 1);
	event_channel_close(set, id);
	assert_false(event_channel_judge(set, id, false));
	assert_int_equal(report_of_set().n_penalties, 0);
	close(fd);
}

static void a_wait_ends_when_its_time_has_come_and_that_is_counted(void **state)
{
	uint64_t begin_us = clock_now_us();

	assert_int_equal(event_set_wait(set, begin_us + 20000, ids), 0);
	assert_true(clock_now_us() >= begin_us + 20000);
	assert_int_equal(report_of_set().n_timeouts, 1);
	/* A time that has passed. */
	assert_int_equal(event_set_wait(set, begin_us, ids), 0);
	assert_int_equal(report_of_set().n_timeouts, 2);
	/* Looking is no wait. */
	assert_int_equal(look(), 0);
	assert_int_equal(report_of_set().n_timeouts, 2);
}

struct waiter {
	pthread_t thread;
	uint16_t ids[EVENT_WAIT_MAX];
	unsigned int n;
	bool has_ended;
};

static void *wait_thread(void *argument)
{
	struct waiter *waiter = argument;

	waiter->n = event_set_wait(set, EVENT_FOREVER, waiter->ids);
	__atomic_store_n(&waiter->has_ended, true, __ATOMIC_RELEASE);
	return NULL;
}

static void waiter_start(struct waiter *waiter)
{
	memset(waiter, 0, sizeof(*waiter));
	assert_int_equal(pthread_create(&waiter->thread, NULL, wait_thread, waiter), 0);
}

static void ignore_signal(int signal_number)
{
}

static void a_signal_ends_a_wait_and_is_not_counted(void **state)
{
	const struct sigaction action = { .sa_handler = ignore_signal };
	struct waiter waiter;

	sigaction(SIGURG, &action, NULL);
	waiter_start(&waiter);
	/* Until one comes while it waits. */
	for (unsigned int i = 0; i < 4000 && !__atomic_load_n(&waiter.has_ended, __ATOMIC_ACQUIRE); i++) {
		usleep(5000);
		pthread_kill(waiter.thread, SIGURG);
	}
	assert_true(__atomic_load_n(&waiter.has_ended, __ATOMIC_ACQUIRE));
	pthread_join(waiter.thread, NULL);
	assert_int_equal(waiter.n, 0);
	assert_int_equal(report_of_set().n_timeouts, 0);
}

static void events_are_counted_by_cause(void **state)
{
	int fds[EVENT_N_CAUSES];

	for (unsigned int cause = 0; cause < EVENT_N_CAUSES; cause++) {
		fds[cause] = kick_fd();
		open_channel(fds[cause], (enum event_cause)cause, false);
		for (unsigned int i = 0; i <= cause; i++) {
			kick(fds[cause]);
			assert_int_equal(look(), 1);
		}
	}
	for (unsigned int cause = 0; cause < EVENT_N_CAUSES; cause++) {
		event_channel_close(set, (int)cause);
		close(fds[cause]);
		assert_int_equal(report_of_set().n_wakeups[cause], cause + 1);
	}
	assert_string_equal(event_cause_name(EVENT_KICK), "kick");
	assert_string_equal(event_cause_name(EVENT_NIC), "nic");
	assert_string_equal(event_cause_name(EVENT_REQUEST), "request");
}

static void a_channel_opened_while_another_thread_waits_wakes_it(void **state)
{
	struct waiter waiter;
	int fd = kick_fd();

	waiter_start(&waiter);
	usleep(20000);
	assert_int_equal(open_kick(fd), 0);
	kick(fd);
	pthread_join(waiter.thread, NULL);
	assert_int_equal(waiter.n, 1);
	assert_int_equal(waiter.ids[0], 0);
	close(fd);
}

#define N_TURNS 2000

static bool ends;
static uint64_t n_seen;

/* Judges for nothing half of the time, so that channels are shut out and let in while they are opened and closed. */
static void *judging_thread(void *argument)
{
	uint16_t mine[EVENT_WAIT_MAX];

	while (!__atomic_load_n(&ends, __ATOMIC_ACQUIRE)) {
		unsigned int n = event_set_wait(set, clock_now_us() + 1000, mine);

		for (unsigned int i = 0; i < n; i++)
			event_channel_judge(set, mine[i], mine[i] % 2 == 0);
		__atomic_fetch_add(&n_seen, n, __ATOMIC_RELAXED);
	}
	return NULL;
}

static void channels_come_and_go_while_another_thread_waits(void **state)
{
	struct event_channel_report report;
	pthread_t thread;
	int fds[MAX], opened[MAX];
	int steady, last;
	uint64_t before, begin_us;

	ends = false;
	n_seen = 0;
	steady = kick_fd();
	open_kick(steady); /* id 0, always real */
	assert_int_equal(pthread_create(&thread, NULL, judging_thread, NULL), 0);
	for (unsigned int turn = 0; turn < N_TURNS; turn++) {
		unsigned int n = 1 + turn % (MAX - 1);

		for (unsigned int i = 0; i < n; i++) {
			fds[i] = kick_fd();
			opened[i] = open_kick(fds[i]);
			assert_true(opened[i] > 0);
		}
		for (unsigned int k = 0; k < 4; k++) {
			for (unsigned int i = 0; i < n; i++)
				kick(fds[i]);
			kick(steady);
			sched_yield();
		}
		for (unsigned int i = 0; i < n; i++) {
			event_channel_report(set, opened[i], &report);
			event_channel_close(set, opened[i]);
			close(fds[i]);
		}
	}
	/* What is there after all that works. */
	last = kick_fd();
	assert_int_equal(open_kick(last), 1);
	event_channel_report(set, 0, &report);
	before = report.n_wakeups;
	kick(steady);
	begin_us = clock_now_us();
	do {
		usleep(100);
		event_channel_report(set, 0, &report);
	} while (report.n_wakeups == before && clock_now_us() < begin_us + LONG_US);
	assert_int_not_equal(report.n_wakeups, before);
	__atomic_store_n(&ends, true, __ATOMIC_RELEASE);
	pthread_join(thread, NULL);
	assert_int_not_equal(n_seen, 0);
	close(last);
	close(steady);
}

#define event_test(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		event_test(each_kick_is_reported_once_and_none_is_drained),
		event_test(kicks_before_a_wait_are_one_report),
		event_test(a_descriptor_that_is_readable_for_ever_does_not_spin),
		event_test(a_peer_that_reads_its_own_eventfd_gains_nothing),
		event_test(what_was_kicked_before_the_channel_was_opened_is_reported),
		event_test(a_level_channel_is_reported_while_it_is_readable),
		event_test(many_channels_are_reported_over_several_waits_each_once),
		event_test(the_lowest_free_id_is_used_again),
		event_test(a_new_channel_starts_without_what_was_counted_of_the_old),
		event_test(a_closed_channel_reports_nothing_though_the_peer_still_writes),
		event_test(a_regular_file_is_refused),
		event_test(a_closed_descriptor_is_refused),
		event_test(what_was_refused_takes_no_place),
		event_test(a_full_set_refuses_and_goes_on),
		event_test(a_set_of_no_channels_or_of_too_many_is_refused),
		event_test(wake_ups_for_nothing_in_a_row_shut_a_channel_out),
		event_test(one_real_event_in_between_keeps_a_channel_in),
		event_test(the_penalty_doubles_up_to_a_maximum_and_a_real_event_ends_that),
		event_test(the_end_of_a_penalty_reports_the_channel_once),
		event_test(a_channel_that_is_quiet_after_its_penalty_is_left_alone),
		event_test(a_penalty_ends_also_while_others_wake_the_set_without_pause),
		event_test(a_channel_that_is_shut_out_can_be_closed),
		event_test(a_judgement_that_comes_too_late_shuts_nothing_out),
		event_test(a_wait_ends_when_its_time_has_come_and_that_is_counted),
		event_test(a_signal_ends_a_wait_and_is_not_counted),
		event_test(events_are_counted_by_cause),
		event_test(a_channel_opened_while_another_thread_waits_wakes_it),
		event_test(channels_come_and_go_while_another_thread_waits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
