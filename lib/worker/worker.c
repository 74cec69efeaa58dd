/* SPDX-License-Identifier: BSD-3-Clause */
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <rte_cycles.h>
#include <rte_launch.h>
#include <rte_lcore.h>
#include <rte_malloc.h>
#include <rte_pause.h>
#include <rte_rcu_qsbr.h>

#include <base/clock.h>
#include <base/log.h>
#include <worker/worker.h>

#include "plan.h"

struct worker {
	/* Written by the control thread, read by the worker between rounds. */
	struct plan *plan;
	bool is_wanted; /* set before the launch; cleared to end the worker */
	/* The worker's own; the counters are read by the control thread. */
	struct rte_rcu_qsbr *rcu __rte_cache_aligned;
	uint64_t busy_cycles;
	uint64_t total_cycles;
	uint64_t rounds; /* not 0: `thread` is valid */
	uint64_t packets;
	pthread_t thread;
	bool has_ended; /* touches nothing any more */
	struct frame_batch batch;
	/* The control thread's. */
	uint64_t rounds_watched; /* `rounds` at the last workers_watch() */
	struct plan_worker spec;
	unsigned int lcore_id;
};

/* Plans kept until the next synchronisation, at most. */
#define RETIRED_MAX 256

struct workers {
	unsigned int n;
	struct rte_rcu_qsbr *rcu;
	struct worker *worker[PORT_MAX_WORKERS];
	int numa_nodes[PORT_MAX_WORKERS];
	struct plan_inventory inventory;
	/* Replaced, and perhaps still in use. */
	unsigned int n_retired;
	struct plan *retired[RETIRED_MAX];
};

/* What a plan of nothing is made from. */
static const struct topology no_topology;
static const struct plan_inventory no_queues;

/* For a counter with one writer, read by others at any time. */
static inline void count(uint64_t *counter, uint64_t n)
{
	__atomic_store_n(counter, *counter + n, __ATOMIC_RELAXED);
}

/* One burst of one queue. Returns how many frames it brought, those that stay in the queue included. */
static unsigned int serve(struct worker *worker, struct plan *plan, struct plan_rx *rx)
{
	struct port_counters *counters = rx->ingress->counters;
	struct frame_batch *batch = &worker->batch;
	unsigned int n = rx->queue->receive(rx->queue, counters, batch, FRAME_BURST);
	unsigned int n_done = n;

	if (n == 0)
		return 0;
	switch (rx->route) {
	case PLAN_ROUTE_BRIDGE:
		bridge_forward(plan->forwarder, rx->bridge, rx->ingress, batch->frames, n,
			batch->is_one_flow);
		break;
	case PLAN_ROUTE_CROSS:
		n_done = cross_forward(plan->forwarder, rx->peer, rx->queue->index, batch->frames,
			n, batch->needs, rx->lossless ? &rx->n_segments_done : NULL);
		break;
	case PLAN_ROUTE_NONE:
		counters->drops[DROP_NO_DESTINATION] += n;
		break;
	}
	rx->queue->release(rx->queue, counters, batch, n_done);
	plan_mark(plan, rx, n);
	count(&worker->packets, n_done);
	return n;
}

/*
 * Queues that had nothing for a while are cold and looked at in turn, a few each round, so that many idle guests cost the
 * busy ones next to nothing. With nothing to do anywhere the rounds are short and every queue's turn comes soon.
 */
#define COLD_AFTER_POLLS 64
#define COLD_SHARE       16 /* one in so many each round */

static unsigned int serve_all(struct worker *worker, struct plan *plan)
{
	unsigned int n_cold = plan->n_rx - plan->n_hot;
	unsigned int n = 0;

	for (unsigned int i = 0; i < plan->n_hot; i++) {
		struct plan_rx *rx = &plan->rx[plan->order[i]];
		unsigned int n_now = serve(worker, plan, rx);

		n += n_now;
		rx->n_idle_polls = n_now > 0 ? 0 : rx->n_idle_polls + 1;
		if (unlikely(rx->n_idle_polls == COLD_AFTER_POLLS))
			plan_swap(plan, i--, --plan->n_hot);
	}
	for (unsigned int left = (n_cold + COLD_SHARE - 1) / COLD_SHARE; left > 0; left--) {
		unsigned int i;
		struct plan_rx *rx;
		unsigned int n_now;

		if (++plan->next_cold >= plan->n_rx || plan->next_cold < plan->n_hot)
			plan->next_cold = plan->n_hot;
		if (plan->next_cold == plan->n_rx)
			break; /* all have become hot */
		i = plan->next_cold;
		rx = &plan->rx[plan->order[i]];
		n_now = serve(worker, plan, rx);
		n += n_now;
		if (n_now > 0) {
			rx->n_idle_polls = 0;
			plan_swap(plan, i, plan->n_hot++);
		}
	}
	return n;
}

/* One round: a burst of every queue that may have one, then the signals if they are due. */
static unsigned int round_run(struct worker *worker, struct plan *plan)
{
	unsigned int n = serve_all(worker, plan);

	if (plan->n_unsignalled >= PLAN_SIGNAL_AFTER || (n == 0 && plan->n_dirty > 0))
		plan_signal(plan);
	return n;
}

static int worker_main(void *argument)
{
	struct worker *worker = argument;
	struct plan *plan = NULL;
	uint64_t last, now;

	worker->thread = pthread_self();
	rte_rcu_qsbr_thread_register(worker->rcu, worker->spec.id);
	rte_rcu_qsbr_thread_online(worker->rcu, worker->spec.id);
	last = rte_rdtsc();
	while (__atomic_load_n(&worker->is_wanted, __ATOMIC_ACQUIRE)) {
		unsigned int n;

		/* A plan is used until all that it moved is signalled, which is soon. */
		if (plan == NULL || plan->n_dirty == 0)
			plan = __atomic_load_n(&worker->plan, __ATOMIC_ACQUIRE);
		n = round_run(worker, plan);
		now = rte_rdtsc();
		count(&worker->total_cycles, now - last);
		__atomic_store_n(&worker->rounds, worker->rounds + 1, __ATOMIC_RELEASE);
		if (n > 0)
			count(&worker->busy_cycles, now - last);
		else
			rte_pause();
		last = now;
		if (plan->n_dirty == 0)
			rte_rcu_qsbr_quiescent(worker->rcu, worker->spec.id);
	}
	if (plan != NULL)
		plan_signal(plan);
	rte_rcu_qsbr_thread_offline(worker->rcu, worker->spec.id);
	rte_rcu_qsbr_thread_unregister(worker->rcu, worker->spec.id);
	__atomic_store_n(&worker->has_ended, true, __ATOMIC_RELEASE);
	return 0;
}

void workers_watch(struct workers *workers)
{
	for (unsigned int i = 0; i < workers->n; i++) {
		struct worker *worker = workers->worker[i];
		uint64_t rounds = __atomic_load_n(&worker->rounds, __ATOMIC_ACQUIRE);

		if (rounds == worker->rounds_watched && rounds > 0)
			pthread_kill(worker->thread, WORKERS_SIGNAL);
		worker->rounds_watched = rounds;
	}
}

/* A round takes a few microseconds; so long the wait is a spin. */
#define ROUND_SPIN_US 20

/* Longer than any round; a worker that takes so long is stuck in a system call or was not scheduled. */
#define ROUND_MAX_US 10000

void workers_synchronize(struct workers *workers)
{
	const struct timespec nap = { .tv_nsec = 50 * 1000 };
	uint64_t token = rte_rcu_qsbr_start(workers->rcu);
	uint64_t now_us = clock_now_us();
	uint64_t spin_us = now_us + ROUND_SPIN_US;
	uint64_t watch_us = now_us + ROUND_MAX_US;

	while (rte_rcu_qsbr_check(workers->rcu, token, false) == 0) {
		now_us = clock_now_us();
		if (now_us < spin_us) {
			rte_pause();
			continue;
		}
		/*
		 * The worker is not running: it may be waiting for this very CPU. Sleep and not yield: a thread that
		 * yields in a loop forfeits, in newer kernels, more time with each call and then waits for all
		 * others.
		 */
		nanosleep(&nap, NULL);
		if (now_us >= watch_us) {
			workers_watch(workers);
			watch_us = now_us + ROUND_MAX_US;
		}
	}
}

/* Frees plans that no worker can be using: to be called right after a synchronisation. */
static void plans_free_retired(struct workers *workers)
{
	for (unsigned int i = 0; i < workers->n_retired; i++)
		plan_free(workers->retired[i]);
	workers->n_retired = 0;
}

static void plan_retire(struct workers *workers, struct plan *plan)
{
	if (workers->n_retired == RETIRED_MAX) {
		workers_synchronize(workers);
		plans_free_retired(workers);
	}
	workers->retired[workers->n_retired++] = plan;
}

/* Bridges come with their first topology and stay. False: out of memory. */
static bool caches_create(struct worker *worker, const struct topology *topology)
{
	for (unsigned int b = 0; b < topology->n_bridges; b++) {
		struct fdb_cache **cache = &worker->spec.caches[b];

		if (*cache == NULL)
			*cache = fdb_cache_create(topology->bridges[b].fdb, worker->spec.numa_node);
		if (*cache == NULL)
			return false;
	}
	return true;
}

void workers_publish(struct workers *workers, const struct topology *topology)
{
	plan_inventory_take(&workers->inventory, topology);
	plan_assign(&workers->inventory, workers->numa_nodes, workers->n);
	for (unsigned int i = 0; i < workers->n; i++) {
		struct worker *worker = workers->worker[i];
		struct plan *old = worker->plan;
		struct plan *plan = NULL;

		if (caches_create(worker, topology))
			plan = plan_create(topology, &workers->inventory, &worker->spec);
		if (plan == NULL) {
			/* The old plan must not be used any longer: better nothing moves than into freed memory. */
			log_error("worker %u: no memory for a plan; its queues stand still until "
				  "the next change",
				i);
			plan = plan_create(&no_topology, &no_queues, &worker->spec);
			if (plan == NULL)
				rte_panic("worker %u: no memory for an empty plan\n", i);
		}
		__atomic_store_n(&worker->plan, plan, __ATOMIC_RELEASE);
		plan_retire(workers, old);
	}
}

void workers_update(struct workers *workers, const struct topology *topology)
{
	workers_publish(workers, topology);
	workers_synchronize(workers);
	plans_free_retired(workers);
}

static struct worker *worker_start(struct workers *workers, unsigned int id,
	const struct workers_config *config, char *error, size_t error_size)
{
	unsigned int lcore_id = config->lcore_ids[id];
	int node = (int)rte_lcore_to_socket_id(lcore_id);
	struct worker *worker = rte_zmalloc_socket("worker", sizeof(*worker), RTE_CACHE_LINE_SIZE, node);

	if (worker == NULL) {
		snprintf(error, error_size, "worker %u: out of memory on NUMA node %d", id, node);
		return NULL;
	}
	worker->rcu = workers->rcu;
	worker->lcore_id = lcore_id;
	worker->spec.id = id;
	worker->spec.n_workers = workers->n;
	worker->spec.numa_node = node;
	worker->spec.offload =
		offload_create(config->pool_of_node(node), node, error, error_size);
	worker->plan = plan_create(&no_topology, &no_queues, &worker->spec);
	return worker;
}

static void worker_free(struct worker *worker)
{
	if (worker == NULL)
		return;
	for (unsigned int b = 0; b < TOPOLOGY_MAX_BRIDGES; b++)
		rte_free(worker->spec.caches[b]);
	offload_destroy(worker->spec.offload);
	plan_free(worker->plan);
	rte_free(worker);
}

static void on_workers_signal(int signal_number)
{
}

struct workers *workers_create(const struct workers_config *config, char *error, size_t error_size)
{
	struct workers *workers = rte_zmalloc("workers", sizeof(*workers), 0);
	size_t rcu_size = rte_rcu_qsbr_get_memsize(PORT_MAX_WORKERS);
	/* Without SA_RESTART: the call that it interrupts is to fail. */
	const struct sigaction action = { .sa_handler = on_workers_signal };

	sigaction(WORKERS_SIGNAL, &action, NULL);
	error[0] = '\0';
	if (workers != NULL)
		workers->rcu = rte_zmalloc("rcu", rcu_size, RTE_CACHE_LINE_SIZE);
	if (workers == NULL || workers->rcu == NULL ||
		rte_rcu_qsbr_init(workers->rcu, PORT_MAX_WORKERS) != 0) {
		snprintf(error, error_size, "workers: out of memory");
		workers_destroy(workers);
		return NULL;
	}
	workers->n = config->n_workers;
	for (unsigned int id = 0; id < workers->n; id++) {
		struct worker *worker = worker_start(workers, id, config, error, error_size);

		workers->worker[id] = worker;
		if (worker == NULL || worker->spec.offload == NULL || worker->plan == NULL ||
			error[0] != '\0') {
			workers_destroy(workers);
			return NULL;
		}
		workers->numa_nodes[id] = worker->spec.numa_node;
		__atomic_store_n(&worker->is_wanted, true, __ATOMIC_RELEASE);
		rte_eal_remote_launch(worker_main, worker, worker->lcore_id);
	}
	return workers;
}

/* Waits for a worker that was told to end. */
static void worker_join(struct worker *worker)
{
	rte_eal_wait_lcore(worker->lcore_id);
	while (!__atomic_load_n(&worker->has_ended, __ATOMIC_ACQUIRE))
		rte_pause();
}

void workers_destroy(struct workers *workers)
{
	bool launched[PORT_MAX_WORKERS] = { false };

	if (workers == NULL)
		return;
	for (unsigned int id = 0; id < workers->n; id++) {
		struct worker *worker = workers->worker[id];

		launched[id] = worker != NULL && worker->is_wanted;
		if (launched[id])
			__atomic_store_n(&worker->is_wanted, false, __ATOMIC_RELEASE);
	}
	for (unsigned int id = 0; id < workers->n; id++) {
		if (launched[id])
			worker_join(workers->worker[id]);
		worker_free(workers->worker[id]);
	}
	plans_free_retired(workers);
	rte_free(workers->rcu);
	rte_free(workers);
}

unsigned int workers_count(const struct workers *workers)
{
	return workers->n;
}

/* The one CPU the lcore is pinned to. EAL's own "CPU id" is a core's number within its package. */
static unsigned int cpu_of(unsigned int lcore_id)
{
	rte_cpuset_t set = rte_lcore_cpuset(lcore_id);
	unsigned int cpu = 0;

	while (cpu < CPU_SETSIZE - 1 && !CPU_ISSET(cpu, &set))
		cpu++;
	return cpu;
}

void workers_report(const struct workers *workers, unsigned int id, struct worker_report *report)
{
	const struct worker *worker = workers->worker[id];

	*report = (struct worker_report){
		.id = id,
		.cpu = cpu_of(worker->lcore_id),
		.numa_node = worker->spec.numa_node,
		.busy_cycles = __atomic_load_n(&worker->busy_cycles, __ATOMIC_RELAXED),
		.total_cycles = __atomic_load_n(&worker->total_cycles, __ATOMIC_RELAXED),
		.rounds = __atomic_load_n(&worker->rounds, __ATOMIC_RELAXED),
		.packets = __atomic_load_n(&worker->packets, __ATOMIC_RELAXED),
		.n_queues = worker->plan->n_rx,
	};
}

unsigned int workers_list_queues(const struct workers *workers, unsigned int id,
	const struct rx_queue **queues, unsigned int max)
{
	const struct plan *plan = workers->worker[id]->plan;

	for (unsigned int i = 0; i < plan->n_rx && i < max; i++)
		queues[i] = plan->rx[i].queue;
	return plan->n_rx;
}
