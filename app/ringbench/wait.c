/* SPDX-License-Identifier: BSD-3-Clause */
#include "wait.h"

#include <poll.h>
#include <unistd.h>

#define MAX_FDS (2 * OPTIONS_MAX_SOCKETS * OPTIONS_MAX_QUEUES)

struct waiter {
	unsigned int n;
	struct session_ring *rings[MAX_FDS];
	struct pollfd fds[MAX_FDS];
};

static void add(struct waiter *waiter, struct session_ring *ring)
{
	waiter->rings[waiter->n] = ring;
	waiter->fds[waiter->n] = (struct pollfd){.fd = ring->call_fd, .events = POLLIN};
	waiter->n++;
}

/* Every receive ring, and transmit rings that have no free slot for a frame that is due. */
static void gather(struct waiter *waiter, struct run *run)
{
	waiter->n = 0;
	for (unsigned int i = 0; i < run->n_lanes; i++) {
		add(waiter, run->lanes[i].receiver.ring);
		if (run->lanes[i].sender.blocked)
			add(waiter, run->lanes[i].sender.ring);
	}
}

static bool has_arrived(const struct waiter *waiter)
{
	for (unsigned int i = 0; i < waiter->n; i++)
		if (vring_fixed_pending(&waiter->rings[i]->ring) != 0)
			return true;
	return false;
}

/* Time until the next frame of the open loop. */
static uint64_t limit_us(const struct run *run, uint64_t max_us)
{
	uint64_t gap_us;

	if (run->options->rate_pps == 0 || !run->sending)
		return max_us;
	gap_us = 1000000 / run->options->rate_pps;
	return gap_us < max_us ? gap_us : max_us;
}

void wait_for_calls(struct run *run, uint64_t max_us)
{
	uint64_t us = limit_us(run, max_us);
	struct timespec timeout = {.tv_nsec = (long)us * 1000};
	struct waiter waiter;

	gather(&waiter, run);
	for (unsigned int i = 0; i < waiter.n; i++)
		vring_fixed_set_call(&waiter.rings[i]->ring, true);
	if (!has_arrived(&waiter) && us > 0)
		ppoll(waiter.fds, waiter.n, &timeout, NULL);
	for (unsigned int i = 0; i < waiter.n; i++) {
		uint64_t count;

		vring_fixed_set_call(&waiter.rings[i]->ring, false);
		if ((waiter.fds[i].revents & POLLIN) &&
			read(waiter.fds[i].fd, &count, sizeof(count)) < 0)
			continue; /* EAGAIN: somebody drained it, which is what we want */
	}
}
