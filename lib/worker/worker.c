/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The worker's thread: rounds over the queues of its plan.
 *
 * Theory of operation. Between rounds the worker looks whether there is a new plan or a request. If so it signals all
 * that the old plan has moved, passes its quiescent point, and only then takes the new plan; what it is asked for is
 * done with the new one. So a queue never leaves a plan with a call due, and whoever waited for the worker knows that
 * the driver was told as well. Nothing else in the loop has to do with other threads.
 */
#include <rte_cycles.h>
#include <rte_pause.h>

#include "worker_private.h"

/*
 * How much there is in the queue where frames wait for it. Looked at before another try, for what comes during it is
 * new.
 */
static unsigned int room_of(const struct plan_rx *rx)
{
	return plan_tells_of_room(rx) ? rx->lane->queue->room(rx->lane->queue) : 0;
}

/*
 * Sends a lossless burst, and notes whether frames wait for room; if some did, and do no more, nobody need tell of it.
 * Returns how many were dealt with.
 */
static unsigned int forward_lossless(
	struct plan *plan, struct plan_rx *rx, struct frame_batch *batch, unsigned int n)
{
	uint16_t n_segments = rx->n_segments_done;
	unsigned int n_done;

	if (unlikely(rx->is_held))
		rx->room_seen = room_of(rx);
	n_done = cross_forward(plan->forwarder, rx->peer, rx->queue->index, batch->frames, n,
		batch->needs, &rx->n_segments_done);
	rx->is_held = n_done < n;
	/* Some of the room was taken: what there is now was not seen. */
	if (n_done > 0 || rx->n_segments_done != n_segments)
		rx->room_seen = 0;
	if (n_done > 0 && rx->lane->queue->is_armed) {
		rx->lane->queue->arm(rx->lane->queue, false);
		rx->lane->queue->is_armed = false;
	}
	return n_done;
}

unsigned int worker_serve(struct worker *worker, struct plan *plan, struct plan_rx *rx)
{
	struct port_counters *counters = rx->ingress->counters;
	struct frame_batch *batch = &worker->batch;
	unsigned int n = rx->queue->receive(rx->queue, counters, batch, FRAME_BURST);
	unsigned int n_done = n;

	if (n == 0) {
		rx->is_held = false;
		return 0;
	}
	/* It is looked at anyway: whoever fills it need not tell. */
	if (unlikely(rx->queue->is_armed)) {
		plan_disarm(plan, rx);
		rx->may_have_told = true;
	}
	switch (rx->route) {
	case PLAN_ROUTE_BRIDGE:
		bridge_forward(plan->forwarder, rx->bridge, rx->ingress, batch->frames, n,
			batch->is_one_flow);
		break;
	case PLAN_ROUTE_CROSS:
		n_done = rx->lossless ?
				 forward_lossless(plan, rx, batch, n) :
				 cross_forward(plan->forwarder, rx->peer, rx->queue->index,
					 batch->frames, n, batch->needs, NULL);
		break;
	case PLAN_ROUTE_NONE:
		counters->drops[DROP_NO_DESTINATION] += n;
		break;
	case PLAN_ROUTE_SELF:
		break;
	}
	if (likely(rx->route != PLAN_ROUTE_SELF))
		rx->queue->release(rx->queue, counters, batch, n_done);
	if (n_done == 0)
		return 0;
	plan_mark(plan, rx, n_done);
	count(&worker->packets, n_done);
	worker->n_keeping += rx->keeps_awake ? n_done : 0;
	return n_done;
}

/*
 * Queues that had nothing for a while are cold and looked at in turn, a few each round, so that many idle guests cost
 * the busy ones next to nothing. With nothing to do anywhere the rounds are short and every queue's turn comes soon.
 */
#define COLD_AFTER_POLLS 64
#define COLD_SHARE       16 /* one in so many each round */

static unsigned int serve_all(struct worker *worker, struct plan *plan)
{
	unsigned int n_cold = plan->n_rx - plan->n_hot;
	unsigned int n = 0;

	for (unsigned int i = 0; i < plan->n_hot; i++) {
		struct plan_rx *rx = &plan->rx[plan->order[i]];
		unsigned int n_now = worker_serve(worker, plan, rx);

		n += n_now;
		rx->n_idle_polls = n_now > 0 ? 0 : rx->n_idle_polls + 1;
		if (unlikely(rx->n_idle_polls == COLD_AFTER_POLLS))
			plan_swap(plan, i--, --plan->n_hot);
	}
	for (unsigned int left = (n_cold + COLD_SHARE - 1) / COLD_SHARE; left > 0; left--) {
		struct plan_rx *rx;
		unsigned int n_now;

		if (++plan->next_cold >= plan->n_rx || plan->next_cold < plan->n_hot)
			plan->next_cold = plan->n_hot;
		if (plan->next_cold == plan->n_rx)
			break; /* all have become hot */
		rx = &plan->rx[plan->order[plan->next_cold]];
		n_now = worker_serve(worker, plan, rx);
		n += n_now;
		if (n_now > 0)
			plan_heat(plan, rx);
	}
	return n;
}

/* One round: a burst of every queue that may have one, then the signals if they are due. `now`: TSC of about now. */
static unsigned int round_run(struct worker *worker, struct plan *plan, uint64_t now)
{
	unsigned int n = serve_all(worker, plan);

	if (plan->n_unsignalled >= PLAN_SIGNAL_AFTER || (n == 0 && plan_has_signals(plan)))
		plan_signal(plan, now, false);
	return n;
}

/* Lets go of the old plan and takes the newest. Returns it. */
static struct plan *plan_turn(struct worker *worker, struct plan *plan)
{
	if (plan != NULL)
		plan_signal(plan, 0, true);
	rte_rcu_qsbr_quiescent(worker->rcu, worker->spec.id);
	return __atomic_load_n(&worker->plan, __ATOMIC_ACQUIRE);
}

int worker_main(void *argument)
{
	struct worker *worker = argument;
	struct plan *plan = NULL;
	uint64_t last, now;

	worker->thread = pthread_self();
	rte_rcu_qsbr_thread_register(worker->rcu, worker->spec.id);
	rte_rcu_qsbr_thread_online(worker->rcu, worker->spec.id);
	worker->last_busy = last = rte_rdtsc();
	while (__atomic_load_n(&worker->is_wanted, __ATOMIC_ACQUIRE)) {
		uint64_t n_keeping = worker->n_keeping;
		unsigned int n;

		if (unlikely(plan != __atomic_load_n(&worker->plan, __ATOMIC_RELAXED) ||
			     slot_is_submitted(&worker->slot))) {
			plan = plan_turn(worker, plan);
			if (slot_is_submitted(&worker->slot))
				slot_serve(&worker->slot);
		}
		n = round_run(worker, plan, last);
		now = rte_rdtsc();
		__atomic_store_n(&worker->rounds, worker->rounds + 1, __ATOMIC_RELEASE);
		if (n > 0) {
			count(&worker->busy_cycles, now - last);
			if (worker->n_keeping != n_keeping)
				worker->last_busy = now;
		} else {
			count(&worker->idle_cycles, now - last);
			now = worker_idle(worker, &plan, now);
		}
		last = now;
	}
	if (plan != NULL)
		plan_signal(plan, 0, true);
	rte_rcu_qsbr_thread_offline(worker->rcu, worker->spec.id);
	rte_rcu_qsbr_thread_unregister(worker->rcu, worker->spec.id);
	__atomic_store_n(&worker->has_ended, true, __ATOMIC_RELEASE);
	return 0;
}
