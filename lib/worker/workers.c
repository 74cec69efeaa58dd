/* SPDX-License-Identifier: BSD-3-Clause */
/* The control thread's side: starting and ending workers, new plans, requests, reports. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <rte_cycles.h>
#include <rte_launch.h>
#include <rte_lcore.h>
#include <rte_malloc.h>
#include <rte_pause.h>

#include <base/clock.h>
#include <base/log.h>

#include "pause.h"
#include "worker_private.h"

/* What a plan of nothing is made from. */
static const struct topology no_topology;
static const struct plan_inventory no_queues;

/* The one CPU the lcore is pinned to. EAL's own "CPU id" is a core's number within its package. */
static unsigned int cpu_of(unsigned int lcore_id)
{
	rte_cpuset_t set = rte_lcore_cpuset(lcore_id);
	unsigned int cpu = 0;

	while (cpu < CPU_SETSIZE - 1 && !CPU_ISSET(cpu, &set))
		cpu++;
	return cpu;
}

bool workers_watch(struct workers *workers)
{
	bool any_awake = false;

	for (unsigned int i = 0; i < workers->n; i++) {
		struct worker *worker = workers->worker[i];
		uint64_t rounds = __atomic_load_n(&worker->rounds, __ATOMIC_ACQUIRE);
		bool is_asleep = __atomic_load_n(&worker->asleep_since, __ATOMIC_RELAXED) != 0;

		if (rounds == worker->rounds_watched && rounds > 0 && !is_asleep)
			pthread_kill(worker->thread, WORKERS_SIGNAL);
		any_awake |= !is_asleep || rounds != worker->rounds_watched;
		worker->rounds_watched = rounds;
	}
	if (any_awake)
		return true;
	/* One that wakes up from now on tells; one that did before this is as if it had not slept. */
	for (unsigned int i = 0; i < workers->n; i++)
		__atomic_store_n(&workers->worker[i]->tells_waking, true, __ATOMIC_SEQ_CST);
	for (unsigned int i = 0; i < workers->n; i++)
		any_awake |= __atomic_load_n(&workers->worker[i]->asleep_since, __ATOMIC_SEQ_CST) == 0;
	return any_awake;
}

static bool is_pending(const struct worker *worker)
{
	/* IDLE is this thread's own word. */
	return __atomic_load_n(&worker->slot.state, __ATOMIC_RELAXED) != SLOT_IDLE;
}

static bool collect(struct workers *workers, struct worker *worker)
{
	uint64_t now = rte_rdtsc();

	if (!is_pending(worker))
		return true;
	if (!slot_collect(&worker->slot))
		return false;
	histogram_add(&worker->request_ns,
		(now - worker->slot.submitted_tsc) * 1000000 / (workers->tsc_hz / 1000), 1);
	return true;
}

/* Of the n workers from `first` on. */
static bool collect_all(struct workers *workers, unsigned int first, unsigned int n)
{
	bool all = true;

	for (unsigned int i = first; i < first + n; i++)
		all &= collect(workers, workers->worker[i]);
	return all;
}

/* A round takes a few microseconds; so long the wait is a spin. */
#define ROUND_SPIN_US 20

/* Longer than any round; a worker that takes so long is stuck in a system call or was not scheduled. */
#define ROUND_MAX_US 10000

/* Waits until n workers from `first` on have answered, or until the time has come: false. */
static bool answers_wait(struct workers *workers, unsigned int first, unsigned int n, uint64_t until_us)
{
	uint16_t ids[EVENT_WAIT_MAX];
	uint64_t now_us = clock_now_us();
	uint64_t spin_us = now_us + ROUND_SPIN_US;
	uint64_t watch_us = now_us + ROUND_MAX_US;
	bool done = false;

	while (!done && now_us < spin_us) {
		rte_pause();
		done = collect_all(workers, first, n);
		now_us = clock_now_us();
	}
	if (done)
		return true;
	for (unsigned int i = first; i < first + n; i++)
		slot_await_begin(&workers->worker[i]->slot);
	while (!(done = collect_all(workers, first, n)) && now_us < until_us) {
		event_set_wait(workers->answers, RTE_MIN(watch_us, until_us), ids);
		now_us = clock_now_us();
		if (now_us >= watch_us) {
			workers_watch(workers);
			watch_us = now_us + ROUND_MAX_US;
		}
	}
	for (unsigned int i = first; i < first + n; i++)
		slot_await_end(&workers->worker[i]->slot);
	return done;
}

static void stuck_to_text(const struct worker *worker, char *text, size_t size)
{
	snprintf(text, size,
		"worker %u (CPU %u) has not answered a request for %d ms; see what else runs on its CPU "
		"(top -H), and give the worker one of its own (workers.cpus)",
		worker->spec.id, cpu_of(worker->lcore_id), WORKERS_DEADLINE_US / 1000);
}

/* The same without an end: for what must not go on before. A worker that is stuck is reported again and again. */
static void answers_wait_all(struct workers *workers)
{
	static struct log_limit limit;
	char text[256];

	while (!answers_wait(workers, 0, workers->n, clock_now_us() + WORKERS_DEADLINE_US)) {
		for (unsigned int i = 0; i < workers->n; i++) {
			if (!is_pending(workers->worker[i]))
				continue;
			stuck_to_text(workers->worker[i], text, sizeof(text));
			log_limited(&limit, LOG_LEVEL_ERROR, "%s", text);
		}
	}
}

void workers_synchronize(struct workers *workers)
{
	/* One that was given up on, perhaps. */
	answers_wait_all(workers);
	for (unsigned int i = 0; i < workers->n; i++)
		slot_submit(&workers->worker[i]->slot, NULL, NULL);
	answers_wait_all(workers);
}

int workers_ping(struct workers *workers, unsigned int id, struct worker_ping *ping, char *error,
	size_t error_size)
{
	struct worker *worker = workers->worker[id];
	uint64_t until_us = clock_now_us() + WORKERS_DEADLINE_US;

	/* One that was given up on may be answered by now. */
	if (collect(workers, worker)) {
		ping->was_asleep = __atomic_load_n(&worker->asleep_since, __ATOMIC_RELAXED) != 0;
		slot_submit(&worker->slot, NULL, NULL);
		if (answers_wait(workers, id, 1, until_us)) {
			uint64_t cycles = rte_rdtsc() - worker->slot.submitted_tsc;

			ping->round_trip_ns = cycles * 1000000 / (workers->tsc_hz / 1000);
			return 0;
		}
	}
	stuck_to_text(worker, error, error_size);
	return -ETIMEDOUT;
}

static void retired_take_out(struct workers *workers, unsigned int i)
{
	plan_free(workers->retired[i].plan);
	workers->retired[i] = workers->retired[--workers->n_retired];
}

/* Frees old plans that no worker uses any more. */
static void plans_free_retired(struct workers *workers)
{
	for (unsigned int i = 0; i < workers->n_retired;) {
		if (rte_rcu_qsbr_check(workers->rcu, workers->retired[i].token, false) == 1)
			retired_take_out(workers, i);
		else
			i++;
	}
}

/* To be called when the next plan is published. */
static void plan_retire(struct workers *workers, struct plan *plan)
{
	if (workers->n_retired == RETIRED_MAX) {
		workers_synchronize(workers);
		plans_free_retired(workers);
	}
	workers->retired[workers->n_retired].plan = plan;
	workers->retired[workers->n_retired].token = rte_rcu_qsbr_start(workers->rcu);
	workers->n_retired++;
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
	plans_free_retired(workers);
	plan_inventory_take(&workers->inventory, topology);
	plan_assign(&workers->inventory, workers->numa_nodes, workers->n);
	for (unsigned int i = 0; i < workers->n; i++) {
		struct worker *worker = workers->worker[i];
		struct plan *old = worker->plan;
		struct plan *plan = NULL;

		channels_open(worker, topology, &workers->inventory);
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
		slot_wake(&worker->slot);
		plan_retire(workers, old);
	}
}

void workers_update(struct workers *workers, const struct topology *topology)
{
	workers_publish(workers, topology);
	workers_synchronize(workers);
	for (unsigned int i = 0; i < workers->n; i++)
		channels_close(workers->worker[i], &workers->inventory);
	plans_free_retired(workers);
}

void workers_set_mode(struct workers *workers, unsigned int id, enum port_mode mode)
{
	workers->worker[id]->spec.mode = mode;
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
	worker->news_fd = workers->news_fd;
	worker->lcore_id = lcore_id;
	worker->slot.worker_fd = worker->slot.control_fd = -1;
	worker->spec.id = id;
	worker->spec.n_workers = workers->n;
	worker->spec.numa_node = node;
	worker->spec.mode = config->mode;
	worker->spec.idle_cycles = config->idle_us * workers->tsc_hz / 1000000;
	worker->window_cycles = worker->spec.idle_cycles;
	worker->spec.offload =
		offload_create(config->pool_of_node(node), node, error, error_size);
	worker->plan = plan_create(&no_topology, &no_queues, &worker->spec);
	if (channels_start(worker, workers->answers, error, error_size) == 0 &&
		(worker->spec.offload == NULL || worker->plan == NULL) && error[0] == '\0')
		snprintf(error, error_size, "worker %u: out of memory on NUMA node %d", id, node);
	return worker;
}

static void worker_free(struct worker *worker)
{
	if (worker == NULL)
		return;
	for (unsigned int b = 0; b < TOPOLOGY_MAX_BRIDGES; b++)
		rte_free(worker->spec.caches[b]);
	channels_stop(worker);
	offload_destroy(worker->spec.offload);
	plan_free(worker->plan);
	rte_free(worker);
}

static void on_workers_signal(int signal_number)
{
}

/* What the workers share. False: out of memory or descriptors. */
static bool commons_create(struct workers *workers)
{
	workers->news_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	workers->answers = event_set_create(PORT_MAX_WORKERS);
	workers->rcu = rte_zmalloc(
		"rcu", rte_rcu_qsbr_get_memsize(PORT_MAX_WORKERS), RTE_CACHE_LINE_SIZE);
	return workers->news_fd >= 0 && workers->answers != NULL && workers->rcu != NULL &&
	       rte_rcu_qsbr_init(workers->rcu, PORT_MAX_WORKERS) == 0;
}

struct workers *workers_create(const struct workers_config *config, char *error, size_t error_size)
{
	struct workers *workers = rte_zmalloc("workers", sizeof(*workers), 0);
	/* Without SA_RESTART: the call that it interrupts is to fail. */
	const struct sigaction action = { .sa_handler = on_workers_signal };

	sigaction(WORKERS_SIGNAL, &action, NULL);
	pause_init();
	error[0] = '\0';
	if (workers == NULL || !commons_create(workers)) {
		snprintf(error, error_size, "workers: out of memory or file descriptors");
		workers_destroy(workers);
		return NULL;
	}
	workers->n = config->n_workers;
	workers->tsc_hz = rte_get_tsc_hz();
	workers->idle_us = config->idle_us;
	for (unsigned int id = 0; id < workers->n; id++) {
		struct worker *worker = worker_start(workers, id, config, error, error_size);

		workers->worker[id] = worker;
		if (error[0] != '\0') {
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
	slot_wake(&worker->slot);
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
	while (workers->n_retired > 0)
		retired_take_out(workers, 0);
	event_set_destroy(workers->answers);
	if (workers->news_fd >= 0)
		close(workers->news_fd);
	rte_free(workers->rcu);
	rte_free(workers);
}

void workers_alarm(struct workers *workers, const struct port *port)
{
	for (unsigned int i = 0; i < workers->n; i++) {
		if (workers->worker[i]->lcore_id == rte_lcore_id())
			news_tell(workers->worker[i], WORKER_NEWS_ALARM, port->id, 0);
	}
}

unsigned int workers_count(const struct workers *workers)
{
	return workers->n;
}

static uint64_t read_counter(const uint64_t *counter)
{
	return __atomic_load_n(counter, __ATOMIC_RELAXED);
}

void workers_report(const struct workers *workers, unsigned int id, struct worker_report *report)
{
	const struct worker *worker = workers->worker[id];
	uint64_t asleep_since, sleep_cycles, now;

	/* The sleep that goes on is not in the counter yet; one that ends meanwhile must not count twice. */
	do {
		asleep_since = __atomic_load_n(&worker->asleep_since, __ATOMIC_ACQUIRE);
		sleep_cycles = __atomic_load_n(&worker->sleep_cycles, __ATOMIC_ACQUIRE);
		now = rte_rdtsc();
	} while (asleep_since != read_counter(&worker->asleep_since));
	if (asleep_since != 0 && now > asleep_since)
		sleep_cycles += now - asleep_since;
	*report = (struct worker_report){
		.id = id,
		.cpu = cpu_of(worker->lcore_id),
		.numa_node = worker->spec.numa_node,
		.mode = worker->spec.mode,
		.state = asleep_since != 0 ? WORKER_ASLEEP :
			 __atomic_load_n(&worker->is_pausing, __ATOMIC_RELAXED) ? WORKER_PAUSING :
										  WORKER_POLLING,
		.idle_us = workers->idle_us,
		.window_us = (unsigned int)((read_counter(&worker->window_cycles) * 1000000 + workers->tsc_hz / 2) /
					    workers->tsc_hz),
		.busy_cycles = read_counter(&worker->busy_cycles),
		.idle_cycles = read_counter(&worker->idle_cycles),
		.sleep_cycles = sleep_cycles,
		.rounds = read_counter(&worker->rounds),
		.packets = read_counter(&worker->packets),
		.n_sleeps = read_counter(&worker->n_sleeps),
		.n_queues = worker->plan->n_rx,
		.wake_ns = &worker->wake_ns,
		.request_ns = &worker->request_ns,
	};
	event_set_report(worker->events, &report->events);
}

static const char *keeper_reason(const struct plan *plan, const struct rx_queue *queue)
{
	for (unsigned int i = 0; i < plan->n_keepers; i++) {
		if (plan->keepers[i].queue == queue)
			return plan->keepers[i].why;
	}
	return NULL;
}

unsigned int workers_list_queues(const struct workers *workers, unsigned int id,
	struct worker_queue_report *queues, unsigned int max)
{
	const struct worker *worker = workers->worker[id];
	const struct plan *plan = worker->plan;

	for (unsigned int i = 0; i < plan->n_rx && i < max; i++) {
		const struct rx_queue *queue = plan->rx[i].queue;

		queues[i] = (struct worker_queue_report){
			.queue = queue,
			.keeps_polling = keeper_reason(plan, queue),
		};
		if (queue->wake.channel >= 0)
			event_channel_report(worker->events, queue->wake.channel, &queues[i].wake);
	}
	return plan->n_rx;
}
