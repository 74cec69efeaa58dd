/* SPDX-License-Identifier: BSD-3-Clause */
#include "wait.h"

#include <poll.h>
#include <sys/prctl.h>

#include "tsc.h"

#define MAX_FDS (2 * OPTIONS_MAX_SOCKETS * OPTIONS_MAX_QUEUES)

/* What is due sooner is not slept for: it would come late. */
#define AWAKE_NS 30000

/* How long a back end that was kicked is watched, which is what its reaction is measured by. */
#define WATCH_US 1000

struct waiter {
	unsigned int n;
	struct lane *lanes[MAX_FDS]; /* whose receive ring it is; NULL: a transmit ring */
	struct session_ring *rings[MAX_FDS];
	struct pollfd fds[MAX_FDS];
};

void wait_prepare(void)
{
	/* Without it the kernel adds 50 us to each sleep; where it is refused it does. */
	prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);
}

void wait_wake(struct lane *lane)
{
	if (!lane->asleep)
		return;
	lane->asleep = false;
	vring_fixed_set_call(&lane->receiver.ring->ring, false);
}

static void add(struct waiter *waiter, struct lane *lane, struct session_ring *ring)
{
	waiter->lanes[waiter->n] = lane;
	waiter->rings[waiter->n] = ring;
	waiter->fds[waiter->n] = (struct pollfd){.fd = ring->call_fd, .events = POLLIN};
	waiter->n++;
}

/* False if something has arrived meanwhile. */
static bool fall_asleep(struct lane *lane)
{
	struct vring_fixed *ring = &lane->receiver.ring->ring;

	vring_fixed_set_call(ring, true);
	lane->asleep = true;
	if (vring_fixed_pending(ring) == 0)
		return true;
	wait_wake(lane);
	return false;
}

/* The receive rings that sleep or can, and transmit rings that have no free slot for a frame that is due. Returns
 * whether there is something to do. */
static bool gather(struct waiter *waiter, struct run *run)
{
	bool ready = false;

	waiter->n = 0;
	for (unsigned int i = 0; i < run->n_lanes; i++) {
		struct lane *lane = &run->lanes[i];
		struct session_ring *tx = lane->sender.ring;

		if (lane->asleep || (lane->found_nothing && fall_asleep(lane)))
			add(waiter, lane, lane->receiver.ring);
		else
			ready = true;
		if (lane->sender.blocked) {
			vring_fixed_set_call(&tx->ring, true);
			ready = ready || vring_fixed_pending(&tx->ring) != 0;
			add(waiter, NULL, tx);
		}
	}
	return ready;
}

static bool watches_kick(const struct run *run, uint64_t now)
{
	for (unsigned int i = 0; i < run->n_lanes; i++) {
		uint64_t kick_tsc = run->lanes[i].sender.kick_tsc;

		if (kick_tsc != 0 && now - kick_tsc < tsc_hz() / 1000000 * WATCH_US)
			return true;
	}
	return false;
}

/* Until the next frame is due; at most max_us. */
static uint64_t limit_ns(struct run *run, uint64_t max_us)
{
	uint64_t now = tsc_now(), due = run_next_tsc(run);
	uint64_t ns = max_us * 1000;

	if (watches_kick(run, now) || due <= now)
		return 0;
	if (due - now < tsc_hz())
		due = (due - now) * 1000000000 / tsc_hz();
	else
		due = ns;
	if (due < ns)
		ns = due;
	return ns < AWAKE_NS ? 0 : ns;
}

void wait_for_calls(struct run *run, bool idle, uint64_t max_us)
{
	struct timespec timeout = {0};
	struct waiter waiter;
	bool ready = gather(&waiter, run);

	if (idle && !ready)
		timeout.tv_nsec = (long)limit_ns(run, max_us);
	if (waiter.n > 0 || timeout.tv_nsec > 0)
		ppoll(waiter.fds, waiter.n, &timeout, NULL);
	for (unsigned int i = 0; i < waiter.n; i++) {
		bool called = (waiter.fds[i].revents & POLLIN) && session_take_calls(waiter.rings[i]) != 0;

		if (waiter.lanes[i] == NULL)
			vring_fixed_set_call(&waiter.rings[i]->ring, false);
		else if (called)
			wait_wake(waiter.lanes[i]);
	}
}
