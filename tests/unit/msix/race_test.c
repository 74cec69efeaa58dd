/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Two threads notify; control masks, unmasks, masks the function, and replaces call descriptors meanwhile. Each
 * notification that became pending is waited for, so that a single one lost stops the test; the calls that arrive are
 * counted, so that one too many shows. What passes along with a notification, and with an unmask, is plain memory:
 * ThreadSanitizer sees whether it is handed over in order. Two vectors are shared by both threads, and each has one of
 * its own. RINGWAY_RACE_MS sets the time.
 */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "sink.h"

#define N_NOTIFIERS 2
#define N_SHARED    2
#define N_VECTORS   (N_SHARED + N_NOTIFIERS)

/* Longer than any scheduler takes; then a notification counts as lost. */
#define LOST_MS 20000

static struct msix *msix;
static atomic_bool stop;
static atomic_uint n_left; /* notifiers still running */

/* Written by control while the vector is masked and nobody is on the way to the old one. Plain. */
static int call_fds[N_VECTORS];
static uint64_t n_calls[N_VECTORS]; /* counted from descriptors that were replaced; control's */

struct notifier {
	unsigned int id;
	/* Number of the notification that is under way; what a driver would find in the used ring. */
	atomic_uint n_published;
	unsigned int plain; /* the same, for the thread's own vector alone */
	atomic_uint n_quiescent; /* times it was not between a notification and its call */
	/* What control saw of n_published when it fired the vector. */
	atomic_uint n_fired[N_VECTORS];

	unsigned int n_true[N_VECTORS];
	unsigned int n_false[N_VECTORS];
	bool has_lost;
};

static struct notifier notifiers[N_NOTIFIERS];
static unsigned int n_fires[N_VECTORS]; /* control's */

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static uint64_t race_ms(void)
{
	const char *text = getenv("RINGWAY_RACE_MS");

	return text != NULL ? strtoull(text, NULL, 0) : 1000;
}

static uint32_t random_next(uint32_t *seed)
{
	*seed = *seed * 1664525 + 1013904223;
	return *seed >> 8;
}

static void call(unsigned int vector)
{
	uint64_t one = 1;

	if (write(call_fds[vector], &one, sizeof(one)) != sizeof(one))
		abort();
}

static void fire(void *ctx, unsigned int vector)
{
	n_fires[vector]++;
	call(vector);
	for (unsigned int i = 0; i < N_NOTIFIERS; i++) {
		struct notifier *notifier = &notifiers[i];
		unsigned int n;

		if (vector >= N_SHARED && vector != N_SHARED + i)
			continue;
		n = atomic_load_explicit(&notifier->n_published, memory_order_relaxed);
		if (vector == N_SHARED + i && notifier->plain != n)
			abort();
		atomic_store_explicit(&notifier->n_fired[vector], n, memory_order_release);
	}
}

/* False: it never came. */
static bool wait_for(struct notifier *notifier, unsigned int vector, unsigned int number)
{
	uint64_t deadline_ms = now_ms() + LOST_MS;

	while (atomic_load_explicit(&notifier->n_fired[vector], memory_order_acquire) != number) {
		if (now_ms() > deadline_ms)
			return false;
		atomic_fetch_add(&notifier->n_quiescent, 1);
		sched_yield();
	}
	return true;
}

static void *notify(void *argument)
{
	struct notifier *notifier = argument;
	uint32_t seed = notifier->id + 1;
	unsigned int number = 0;
	unsigned int vector = 0;

	while (!atomic_load_explicit(&stop, memory_order_relaxed) && !notifier->has_lost) {
		/* Several in a row, lest both wait for the same masked vector most of the time. */
		if (random_next(&seed) % 8 == 0) {
			vector = random_next(&seed) % (N_SHARED + 1);
			if (vector == N_SHARED)
				vector += notifier->id;
		}
		number++;
		notifier->plain = number;
		atomic_store_explicit(&notifier->n_published, number, memory_order_relaxed);
		if (msix_notify(msix, vector)) {
			call(vector);
			notifier->n_true[vector]++;
		} else {
			notifier->n_false[vector]++;
			notifier->has_lost = !wait_for(notifier, vector, number);
		}
		atomic_fetch_add(&notifier->n_quiescent, 1);
	}
	atomic_fetch_sub_explicit(&n_left, 1, memory_order_release);
	return NULL;
}

/*
 * As SET_VRING_CALL does it. Quiescent points are counted by locked instructions, and so is the mask one: who has passed
 * such a point since has seen it. Control only reads the count, so nothing but the unmask hands the new descriptor over.
 */
static void wait_for_quiescent_points(unsigned int n)
{
	for (unsigned int i = 0; i < N_NOTIFIERS; i++) {
		unsigned int before = atomic_load(&notifiers[i].n_quiescent);

		while (atomic_load(&notifiers[i].n_quiescent) - before < n && atomic_load(&n_left) == N_NOTIFIERS)
			sched_yield();
	}
}

static void replace_call_fd(unsigned int vector)
{
	uint64_t n = 0;

	msix_mask(msix, vector);
	wait_for_quiescent_points(1);
	if (read(call_fds[vector], &n, sizeof(n)) == sizeof(n))
		n_calls[vector] += n;
	close(call_fds[vector]);
	call_fds[vector] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (call_fds[vector] < 0)
		abort();
	msix_unmask(msix, vector);
	/* Time to use it, before anything else that control does could hand it over by chance. */
	wait_for_quiescent_points(64);
}

/* Masks and unmasks at random until no notifier is left; what is masked is unmasked again within a few rounds. */
static void control(void)
{
	uint64_t end_ms = now_ms() + race_ms();
	uint32_t seed = 12345;

	while (atomic_load_explicit(&n_left, memory_order_acquire) > 0) {
		unsigned int vector = random_next(&seed) % N_VECTORS;

		switch (random_next(&seed) % 8) {
		case 0:
			msix_mask_function(msix);
			break;
		case 1:
			msix_disable(msix);
			break;
		case 2:
		case 3:
			msix_unmask_function(msix);
			break;
		case 4:
			msix_enable(msix);
			break;
		case 5:
			msix_mask(msix, vector);
			break;
		default:
			msix_unmask(msix, vector);
		}
		if (random_next(&seed) % 4 == 0)
			sched_yield();
		if (random_next(&seed) % 64 == 0 && atomic_load(&n_left) == N_NOTIFIERS)
			replace_call_fd(vector);
		if (now_ms() >= end_ms)
			atomic_store_explicit(&stop, true, memory_order_relaxed);
	}
}

static void no_notification_is_lost_or_doubled_while_masks_change(void **state)
{
	pthread_t threads[N_NOTIFIERS];

	msix = msix_create(N_VECTORS, fire, NULL);
	assert_non_null(msix);
	msix_enable(msix);
	for (unsigned int vector = 0; vector < N_VECTORS; vector++)
		call_fds[vector] = -1;
	atomic_store(&n_left, N_NOTIFIERS);
	for (unsigned int i = 0; i < N_NOTIFIERS; i++) {
		notifiers[i].id = i;
		assert_int_equal(pthread_create(&threads[i], NULL, notify, &notifiers[i]), 0);
	}
	/* The call descriptors arrive while there are notifications already. */
	for (unsigned int vector = 0; vector < N_VECTORS; vector++)
		replace_call_fd(vector);
	control();
	for (unsigned int i = 0; i < N_NOTIFIERS; i++)
		pthread_join(threads[i], NULL);

	for (unsigned int vector = 0; vector < N_VECTORS; vector++) {
		unsigned int n_true = 0, n_false = 0;
		uint64_t n = 0;

		for (unsigned int i = 0; i < N_NOTIFIERS; i++) {
			assert_false(notifiers[i].has_lost);
			n_true += notifiers[i].n_true[vector];
			n_false += notifiers[i].n_false[vector];
		}
		assert_false(msix_is_pending(msix, vector));
		/* One delivery stands for one notification of each thread at most. */
		assert_true(n_fires[vector] <= n_false);
		assert_true(n_false <= n_fires[vector] * (vector < N_SHARED ? N_NOTIFIERS : 1));
		if (read(call_fds[vector], &n, sizeof(n)) == sizeof(n))
			n_calls[vector] += n;
		assert_int_equal(n_calls[vector], n_true + n_fires[vector]);
		/* Else nothing was raced. */
		assert_true(n_true > 0);
		assert_true(n_fires[vector] > 0);
		close(call_fds[vector]);
	}
	msix_destroy(msix);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_notification_is_lost_or_doubled_while_masks_change),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
