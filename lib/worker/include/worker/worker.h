/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Workers: lcores that move frames by a plan.
 *
 * A plan says which queues a worker polls and how it reaches each port. What it says never changes; a new one is published
 * by one pointer store, and the old one is freed when the worker has passed a quiescent point (rte_rcu_qsbr), which it
 * does in each round that leaves nothing to be signalled. So after workers_update() no worker is in the middle of anything the old plan named: that is how a
 * ring is stopped, a memory table replaced or a port removed.
 *
 * Thread rule: everything here belongs to the control thread.
 */
#ifndef WORKER_WORKER_H
#define WORKER_WORKER_H

#include <signal.h>
#include <stddef.h>
#include <stdint.h>

#include <worker/topology.h>

struct rte_mempool;
struct workers;

struct workers_config {
	unsigned int n_workers;                  /* 1..PORT_MAX_WORKERS */
	unsigned int lcore_ids[PORT_MAX_WORKERS]; /* EAL lcores, idle, pinned to one CPU each */
	struct rte_mempool *(*pool_of_node)(int numa_node); /* packet pool for software offloads */
};

/* Launches the workers with an empty plan. NULL and a line in `error`. */
struct workers *workers_create(
	const struct workers_config *config, char *error, size_t error_size);

/* Stops the workers and waits for them (one round each). */
void workers_destroy(struct workers *workers);

/*
 * Makes new plans from the topology as it is now and returns when every worker is done with the old ones. Takes microseconds
 * per worker; frames of queues in both plans are not delayed.
 */
void workers_update(struct workers *workers, const struct topology *topology);

/* As workers_update() but without the wait: for changes that only add queues. Workers may use the old plans for a while. */
void workers_publish(struct workers *workers, const struct topology *topology);

/* Returns when every worker has passed a quiescent point since the call. */
void workers_synchronize(struct workers *workers);

/*
 * To be called every few milliseconds: interrupts the system call of a worker that has not finished a round since the
 * last call. Only one can be in the way at all, a write to a peer's call eventfd. The signal is WORKERS_SIGNAL, whose
 * handler does nothing, so a worker that was merely not scheduled is not harmed.
 */
void workers_watch(struct workers *workers);

#define WORKERS_SIGNAL SIGURG

struct worker_report {
	unsigned int id;
	unsigned int cpu;
	int numa_node;
	uint64_t busy_cycles;  /* TSC cycles of rounds that moved something */
	uint64_t total_cycles; /* TSC cycles since start */
	uint64_t rounds;
	uint64_t packets; /* frames dealt with */
	unsigned int n_queues;
};

unsigned int workers_count(const struct workers *workers);
void workers_report(const struct workers *workers, unsigned int id, struct worker_report *report);

/* Queues the worker polls now: up to `max` into `queues`; returns how many there are. */
unsigned int workers_list_queues(const struct workers *workers, unsigned int id,
	const struct rx_queue **queues, unsigned int max);

#endif
