/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a worker does when there is nothing to do: look a little longer, pause, sleep. Worker.
 *
 * Theory of operation. A worker that has looked in vain for its idle window goes to sleep. First it arms the queues
 * that are not armed yet: asks their far sides to tell. Then, behind a full fence, it looks at these once more, since
 * what came before the far side knew will not be told. Queues that have been armed since an earlier time need neither:
 * whatever came into one of them was told, and the descriptor is readable. A queue stays armed until it tells, or
 * until something is found in it, so a worker with many idle queues that is woken by one of them arms that one only.
 *
 * Then the worker announces that it sleeps, and looks whether there is a new plan or a request (slot.h). It goes
 * offline for RCU, for while it sleeps it uses no plan; the one it had may be gone when it wakes up, so it looks for
 * the newest.
 *
 * The window is learned. A sleep that was shorter than the longest window would have been better spent looking: the
 * window doubles. After a longer one it is halved. So a worker whose frames come a few at a time with long pauses
 * sleeps in all of them, and one whose pauses are short does not lose time with going to sleep and waking up.
 */
#include <limits.h>

#include <rte_cycles.h>

#include "pause.h"
#include "worker_private.h"

/* The window does not get shorter than this: about what it costs to sleep and to wake up. */
#define WINDOW_MIN_US 8

static uint64_t window_min(const struct plan *plan)
{
	return RTE_MIN(WINDOW_MIN_US * rte_get_tsc_hz() / 1000000, plan->window_max_cycles);
}

static void window_learn(struct worker *worker, const struct plan *plan, uint64_t slept)
{
	uint64_t window = slept < plan->window_max_cycles ? worker->window_cycles * 2
							   : worker->window_cycles / 2;

	window = RTE_MIN(RTE_MAX(window, window_min(plan)), plan->window_max_cycles);
	__atomic_store_n(&worker->window_cycles, window, __ATOMIC_RELAXED);
}

/* Arms a queue; if its frames wait for room in another queue, that one. */
static void arm(struct plan_rx *rx)
{
	if (!rx->is_held) {
		rx->queue->arm(rx->queue, true);
		rx->queue->is_armed = true;
	} else if (plan_tells_of_room(rx)) {
		rx->lane->queue->arm(rx->lane->queue, true);
		rx->lane->queue->is_armed = true;
	}
}

/* Whether there is something to do that nobody will tell of. */
static bool is_ready(const struct plan_rx *rx)
{
	unsigned int room;

	if (!rx->is_held)
		return rx->queue->is_ready(rx->queue);
	if (!plan_tells_of_room(rx))
		return rx->lane != NULL; /* whoever comes where nobody is comes with a new plan */
	room = rx->lane->queue->room(rx->lane->queue);
	return room > rx->room_seen || room == UINT_MAX;
}

/* Returns true if every queue will tell; false if one has something already, and it is hot now. */
static bool arm_all(struct plan *plan)
{
	unsigned int n = plan->n_unarmed;
	bool all_tell = true;

	for (unsigned int i = 0; i < n; i++)
		arm(&plan->rx[plan->unarmed[i]]);
	if (n > 0)
		vring_fence(); /* B, and its like of NICs */
	plan->n_unarmed = 0;
	for (unsigned int i = 0; i < n; i++) {
		struct plan_rx *rx = &plan->rx[plan->unarmed[i]];
		bool ready = is_ready(rx);

		rx->is_unarmed = false;
		if (ready) {
			plan_heat(plan, rx);
			rx->may_have_told = true;
			all_tell = false;
		}
		/*
		 * What is there already will not be told. Nor what follows, if this is taken without a frame to show
		 * for it: the place where it was armed is behind then. And a queue whose frames wait was not armed
		 * itself.
		 */
		if (ready || rx->is_held)
			plan_disarm(plan, rx);
	}
	return all_tell;
}

/*
 * Serves a queue that told, or for whose frames there may be room; adds to *n_frames. Returns whether it was not for
 * nothing: there is something, though perhaps no frames, or was before it could tell.
 */
static bool serve_one(
	struct worker *worker, struct plan *plan, struct plan_rx *rx, unsigned int *n_frames)
{
	bool was_real = rx->may_have_told || is_ready(rx);

	plan_heat(plan, rx);
	*n_frames += worker_serve(worker, plan, rx);
	if (rx->queue->is_armed)
		plan_disarm(plan, rx);
	rx->may_have_told = false;
	return was_real;
}

static bool serve_held(struct worker *worker, struct plan *plan, unsigned int *n_frames)
{
	bool was_real = false;

	for (unsigned int i = 0; i < plan->n_rx; i++) {
		if (plan->rx[i].is_held)
			was_real |= serve_one(worker, plan, &plan->rx[i], n_frames);
	}
	return was_real;
}

static void tell_shut_out(
	struct worker *worker, const struct plan *plan, unsigned int place, int channel)
{
	if (place != PLAN_PLACE_ROOM) {
		const struct rx_queue *queue = plan->rx[place].queue;

		news_tell(worker, WORKER_NEWS_SHUT_OUT, queue->port->id, queue->index);
		return;
	}
	for (unsigned int i = 0; i < plan->n_rx; i++) {
		const struct lane *lane = plan->rx[i].lane;

		if (lane != NULL && lane->queue->wake.channel == channel) {
			news_tell(worker, WORKER_NEWS_SHUT_OUT, lane->queue->port->id, lane->queue->index);
			return;
		}
	}
}

/* Serves the queues that told. `woken`: TSC when the wait ended. Returns how many frames there were. */
static unsigned int serve_woken(struct worker *worker, struct plan *plan, const uint16_t *channels, unsigned int n,
	uint64_t woken)
{
	unsigned int n_frames = 0;

	for (unsigned int i = 0; i < n; i++) {
		unsigned int place = plan_place_of_channel(plan, channels[i]);
		bool is_first = n_frames == 0, was_real;

		if (place == PLAN_NO_PLACE)
			continue; /* the slot's, or of a queue that is gone */
		was_real = place == PLAN_PLACE_ROOM ?
				   serve_held(worker, plan, &n_frames) :
				   serve_one(worker, plan, &plan->rx[place], &n_frames);
		if (n_frames > 0 && is_first)
			histogram_add(&worker->wake_ns,
				(rte_rdtsc() - woken) * 1000000 / (rte_get_tsc_hz() / 1000), 1);
		if (event_channel_judge(worker->events, channels[i], was_real))
			tell_shut_out(worker, plan, place, channels[i]);
	}
	return n_frames;
}

/* Waits until something wakes the worker. Returns the newest plan, or NULL if there is a reason not to sleep. */
static struct plan *wait(struct worker *worker, const struct plan *plan, uint16_t *channels,
	unsigned int *n_channels)
{
	slot_sleep_begin(&worker->slot);
	if (plan != __atomic_load_n(&worker->plan, __ATOMIC_RELAXED) ||
		slot_is_submitted(&worker->slot) ||
		!__atomic_load_n(&worker->is_wanted, __ATOMIC_ACQUIRE)) {
		slot_sleep_end(&worker->slot);
		return NULL;
	}
	rte_rcu_qsbr_thread_offline(worker->rcu, worker->spec.id);
	*n_channels = event_set_wait(worker->events, EVENT_FOREVER, channels);
	rte_rcu_qsbr_thread_online(worker->rcu, worker->spec.id);
	slot_sleep_end(&worker->slot);
	return __atomic_load_n(&worker->plan, __ATOMIC_ACQUIRE);
}

/*
 * The worker sleeps no more, or has only looked so for a moment. Either it sees that the control thread wants to be
 * told, or that thread, who looks whether all workers sleep after it has said so, sees that this one does not.
 */
static void say_awake(struct worker *worker)
{
	__atomic_store_n(&worker->asleep_since, 0, __ATOMIC_RELEASE);
	vring_fence();
	if (unlikely(__atomic_load_n(&worker->tells_waking, __ATOMIC_RELAXED)) &&
		news_tell(worker, WORKER_NEWS_AWAKE, 0, 0))
		__atomic_store_n(&worker->tells_waking, false, __ATOMIC_RELAXED);
}

/* Returns the plan to go on with. */
static struct plan *sleep_until_told(struct worker *worker, struct plan *plan)
{
	uint16_t channels[EVENT_WAIT_MAX];
	unsigned int n_channels;
	uint64_t begin = rte_rdtsc(), end;
	struct plan *next;

	__atomic_store_n(&worker->asleep_since, begin, __ATOMIC_RELAXED);
	next = wait(worker, plan, channels, &n_channels);
	end = rte_rdtsc();
	if (next != NULL) {
		count(&worker->sleep_cycles, end - begin);
		count(&worker->n_sleeps, 1);
	}
	say_awake(worker);
	if (next == NULL)
		return plan;
	/* The old one may be gone. The new one has all its queues looked at. */
	if (next != plan)
		return next;
	window_learn(worker, plan, end - begin);
	if (serve_woken(worker, plan, channels, n_channels, end))
		count(&worker->busy_cycles, rte_rdtsc() - end);
	return plan;
}

uint64_t worker_idle(struct worker *worker, struct plan **in_use, uint64_t now)
{
	struct plan *plan = *in_use;
	uint64_t idle = now - worker->last_busy;
	uint64_t n_keeping = worker->n_keeping;
	uint64_t counted = worker->sleep_cycles + worker->busy_cycles;
	bool may_sleep = plan->n_keepers == 0 && plan->window_max_cycles != UINT64_MAX;
	bool pauses = may_sleep && idle > worker->window_cycles / 2;
	uint64_t end;

	if (likely(!may_sleep || idle < RTE_MIN(worker->window_cycles, plan->window_max_cycles))) {
		if (worker->is_pausing != pauses)
			__atomic_store_n(&worker->is_pausing, pauses, __ATOMIC_RELAXED);
		if (pauses)
			pause_long();
		else
			pause_short();
		return now;
	}
	__atomic_store_n(&worker->is_pausing, false, __ATOMIC_RELAXED);
	if (plan_has_signals(plan))
		plan_signal(plan, now, true);
	if (arm_all(plan))
		*in_use = sleep_until_told(worker, plan);
	end = rte_rdtsc();
	counted = worker->sleep_cycles + worker->busy_cycles - counted;
	count(&worker->idle_cycles, end - now - counted);
	if (worker->n_keeping != n_keeping)
		worker->last_busy = end;
	return end;
}
