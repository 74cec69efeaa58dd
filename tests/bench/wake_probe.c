/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * wake_probe: how long a thread that waits for an eventfd on one CPU takes to run when it is written on another.
 *
 * From just before the write to the moment the writer sees the first store of the thread that was woken, with epoll_wait()
 * around it and nothing else: system calls, scheduler, interrupt to the other CPU, and where CPUs are virtual the
 * host's way of resuming one that was idle. Nobody who sleeps on an eventfd is faster on this machine. Prints
 * quantiles in nanoseconds.
 */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define N_WAKES 800

/* Between two, so that the other CPU has gone idle: all of them together less than real-time threads may take in a row. */
#define PAUSE_NS 600000

#define TIMEOUT_S 5

static struct {
	_Alignas(128) _Atomic uint32_t n_woken;
	_Alignas(128) int eventfd;
	int epoll;
} shared;

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void *sleeper_main(void *arg)
{
	for (uint32_t i = 1; i <= N_WAKES; i++) {
		struct epoll_event event;
		uint64_t n;

		if (epoll_wait(shared.epoll, &event, 1, -1) != 1)
			return (void *)1;
		atomic_store_explicit(&shared.n_woken, i, memory_order_release);
		if (read(shared.eventfd, &n, sizeof(n)) != sizeof(n))
			return (void *)1;
	}
	return NULL;
}

/* A thread on its CPU: from birth, as a real-time caller on this one would never let it start. */
static int start_sleeper(int cpu, pthread_t *thread)
{
	struct epoll_event event = {.events = EPOLLIN};
	pthread_attr_t attr;
	cpu_set_t set;
	int rc;

	shared.eventfd = eventfd(0, 0);
	shared.epoll = epoll_create1(0);
	if (shared.eventfd < 0 || shared.epoll < 0 ||
		epoll_ctl(shared.epoll, EPOLL_CTL_ADD, shared.eventfd, &event) < 0)
		return -1;
	CPU_ZERO(&set);
	CPU_SET((unsigned)cpu, &set);
	pthread_attr_init(&attr);
	rc = pthread_attr_setaffinity_np(&attr, sizeof(set), &set);
	if (rc == 0)
		rc = pthread_create(thread, &attr, sleeper_main, NULL);
	pthread_attr_destroy(&attr);
	return -rc;
}

static uint64_t wake(uint32_t number)
{
	uint64_t one = 1, begin = now_ns();

	if (write(shared.eventfd, &one, sizeof(one)) != sizeof(one))
		return 0; /* cannot be; the sleeper never ends then, and the alarm does */
	while (atomic_load_explicit(&shared.n_woken, memory_order_acquire) != number)
		;
	return now_ns() - begin;
}

static int compare(const void *a, const void *b)
{
	uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;

	return left < right ? -1 : left > right;
}

int main(int argc, char **argv)
{
	static uint64_t times[N_WAKES];
	void *failed = NULL;
	pthread_t thread;
	cpu_set_t set;

	if (argc != 3) {
		fputs("usage: wake_probe CPU_THAT_SLEEPS OTHER_CPU\n", stderr);
		return 2;
	}
	int sleeping = atoi(argv[1]), other = atoi(argv[2]);

	CPU_ZERO(&set);
	CPU_SET((unsigned)other, &set);
	if (sleeping == other || sched_setaffinity(0, sizeof(set), &set) < 0 || start_sleeper(sleeping, &thread) != 0) {
		fprintf(stderr, "wake_probe: CPUs %s and %s: allowed are two different ones of ours\n", argv[1], argv[2]);
		return 2;
	}
	alarm(TIMEOUT_S);
	for (uint32_t i = 0; i < N_WAKES; i++) {
		uint64_t until = now_ns() + PAUSE_NS;

		while (now_ns() < until)
			;
		times[i] = wake(i + 1);
	}
	if (pthread_join(thread, &failed) != 0 || failed != NULL) {
		fputs("wake_probe: the sleeping thread failed\n", stderr);
		return 1;
	}
	qsort(times, N_WAKES, sizeof(times[0]), compare);
	printf("{\"p50\": %llu, \"p90\": %llu, \"p99\": %llu}\n", (unsigned long long)times[N_WAKES / 2],
		(unsigned long long)times[N_WAKES * 9 / 10], (unsigned long long)times[N_WAKES * 99 / 100]);
	return 0;
}
