/* SPDX-License-Identifier: BSD-3-Clause */
#include <pthread.h>
#include <time.h>

#include <rte_common.h>
#include <rte_cycles.h>
#include <rte_pause.h>

#include "worker.h"

/* A backlog that stays short for so long will not grow: 200 us. */
#define PATIENCE_PER_S 5000

/* A guest's frames must all be gone before its rings are: what is left is worked through in bursts of that many. */
#define SWEEP_BURST 32

enum gate {
	GATE_OPEN,
	GATE_CLOSING, /* the worker is to park */
	GATE_CLOSED,  /* it has */
};

static struct stage_counters stages[N_STAGES];
/* The worker moves CLOSING to CLOSED; everything else is the pausing thread's. CLOSED at first: nobody runs. */
static enum gate gate = GATE_CLOSED;
static bool is_running; /* under pause_lock: open the gate on resume */
static bool is_wanted = true;
static pthread_mutex_t pause_lock = PTHREAD_MUTEX_INITIALIZER;

static void nap(void)
{
	/* Both threads may share a CPU: a spin would wait for the other's time slice to end. */
	const struct timespec moment = { .tv_nsec = 50 * 1000 };

	nanosleep(&moment, NULL);
}

void worker_pause(void)
{
	enum gate open = GATE_OPEN;

	pthread_mutex_lock(&pause_lock);
	__atomic_compare_exchange_n(
		&gate, &open, GATE_CLOSING, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
	while (__atomic_load_n(&gate, __ATOMIC_ACQUIRE) != GATE_CLOSED)
		nap();
}

void worker_resume(void)
{
	if (is_running)
		__atomic_store_n(&gate, GATE_OPEN, __ATOMIC_RELEASE);
	pthread_mutex_unlock(&pause_lock);
}

void worker_stop(void)
{
	worker_pause();
	is_running = false;
	__atomic_store_n(&is_wanted, false, __ATOMIC_RELEASE);
	worker_resume();
}

void worker_read(enum stage stage, struct stage_counters *counters)
{
	const struct stage_counters *of = &stages[stage];

	counters->packets = __atomic_load_n(&of->packets, __ATOMIC_RELAXED);
	counters->cycles = __atomic_load_n(&of->cycles, __ATOMIC_RELAXED);
	counters->n_bursts = __atomic_load_n(&of->n_bursts, __ATOMIC_RELAXED);
	counters->n_short = __atomic_load_n(&of->n_short, __ATOMIC_RELAXED);
}

/* The measured calls, each a function of its own, so that instructions can be counted from its entry to its return. */
static __rte_noinline unsigned int drain_forward(
	const struct engine *engine, unsigned int from, unsigned int to, unsigned int n, unsigned int burst)
{
	unsigned int left = n;

	while (left > 0) {
		unsigned int done = engine->forward(from, to, RTE_MIN(left, burst));

		if (done == 0)
			break;
		left -= done;
	}
	return n - left;
}

static __rte_noinline unsigned int drain_dequeue(
	const struct engine *engine, unsigned int from, unsigned int n, unsigned int burst)
{
	unsigned int left = n;

	while (left > 0) {
		unsigned int done = engine->dequeue(from, RTE_MIN(left, burst));

		if (done == 0)
			break;
		left -= done;
	}
	return n - left;
}

static __rte_noinline unsigned int drain_enqueue(
	const struct engine *engine, unsigned int to, unsigned int n, unsigned int burst)
{
	unsigned int left = n;

	while (left > 0) {
		unsigned int done = engine->enqueue(to, RTE_MIN(left, burst));

		if (done == 0)
			break;
		left -= done;
	}
	return n - left;
}

static void count(uint64_t *counter, uint64_t n)
{
	__atomic_store_n(counter, *counter + n, __ATOMIC_RELAXED);
}

static void stage_count(const struct worker_config *config, enum stage stage, unsigned int n_done, uint64_t cycles)
{
	struct stage_counters *counters = &stages[stage];

	if (n_done < config->n_backlog) {
		count(&counters->n_short, 1);
		return;
	}
	count(&counters->cycles, cycles);
	count(&counters->n_bursts, (n_done + config->n_burst - 1) / config->n_burst);
	count(&counters->packets, n_done);
}

/* One measured round: a whole backlog from one guest to the other. */
static void round_measure(const struct worker_config *config, unsigned int from, unsigned int to)
{
	const struct engine *engine = config->engine;
	uint64_t begin = rte_rdtsc();
	uint64_t end;
	unsigned int n;

	if (!config->mbufs) {
		n = drain_forward(engine, from, to, config->n_backlog, config->n_burst);
		stage_count(config, STAGE_FORWARD, n, rte_rdtsc() - begin);
		return;
	}
	n = drain_dequeue(engine, from, config->n_backlog, config->n_burst);
	end = rte_rdtsc();
	stage_count(config, STAGE_DEQUEUE, n, end - begin);
	begin = rte_rdtsc();
	n = drain_enqueue(engine, to, n, config->n_burst);
	end = rte_rdtsc();
	stage_count(config, STAGE_ENQUEUE, n, end - begin);
}

static void sweep(const struct worker_config *config, unsigned int from, unsigned int to)
{
	const struct engine *engine = config->engine;

	if (!config->mbufs)
		engine->forward(from, to, SWEEP_BURST);
	else if (engine->dequeue(from, SWEEP_BURST) > 0)
		engine->enqueue(to, SWEEP_BURST);
}

int worker_main(void *argument)
{
	const struct worker_config *config = argument;
	const struct engine *engine = config->engine;
	uint64_t patience = rte_get_tsc_hz() / PATIENCE_PER_S;
	uint64_t since[DRAIN_GUESTS] = { 0 };

	pthread_mutex_lock(&pause_lock);
	is_running = __atomic_load_n(&is_wanted, __ATOMIC_ACQUIRE);
	if (is_running)
		__atomic_store_n(&gate, GATE_OPEN, __ATOMIC_RELEASE);
	pthread_mutex_unlock(&pause_lock);
	while (__atomic_load_n(&is_wanted, __ATOMIC_ACQUIRE)) {
		enum gate state = __atomic_load_n(&gate, __ATOMIC_ACQUIRE);

		if (state != GATE_OPEN) {
			if (state == GATE_CLOSING)
				__atomic_store_n(&gate, GATE_CLOSED, __ATOMIC_RELEASE);
			nap();
			continue;
		}
		if (!engine->is_ready()) {
			nap();
			continue;
		}
		for (unsigned int from = 0; from < DRAIN_GUESTS; from++) {
			unsigned int to = !from;

			if (engine->has_frames(from, config->n_backlog) &&
				engine->has_room(to, config->n_backlog)) {
				round_measure(config, from, to);
				since[from] = rte_rdtsc();
			} else if (rte_rdtsc() - since[from] > patience) {
				sweep(config, from, to);
				since[from] = rte_rdtsc();
			}
		}
		rte_pause();
	}
	return 0;
}
