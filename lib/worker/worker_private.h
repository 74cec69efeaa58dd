/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the worker's thread and the control thread share, and what the files of either side do. Private to this
 * library.
 */
#ifndef WORKER_WORKER_PRIVATE_H
#define WORKER_WORKER_PRIVATE_H

#include <pthread.h>

#include <rte_rcu_qsbr.h>
#include <rte_ring.h>

#include <base/histogram.h>
#include <event/event.h>
#include <worker/worker.h>

#include "plan.h"
#include "slot.h"

/* Plans kept because a worker may still use them, at most. */
#define RETIRED_MAX 256

struct worker {
	/* Written by the control thread, read by the worker between rounds. */
	struct plan *plan;
	struct slot slot;
	bool is_wanted; /* set before the launch; cleared to end the worker */
	/* The worker's own. Counters, and what says how it is doing, are read by the control thread. */
	struct rte_rcu_qsbr *rcu __rte_cache_aligned;
	struct event_set *events;
	struct rte_ring *news;
	int news_fd;
	uint64_t busy_cycles;
	uint64_t idle_cycles;
	uint64_t sleep_cycles;
	uint64_t asleep_since; /* TSC; 0: it is not */
	uint64_t window_cycles; /* how long it looks in vain before it sleeps, now */
	uint64_t last_busy;     /* TSC: when a frame came last that keeps it awake, or it woke up */
	uint64_t rounds;        /* not 0: `thread` is valid */
	uint64_t packets;
	uint64_t n_sleeps;
	uint64_t n_keeping;     /* frames that keep it awake */
	bool is_pausing;
	bool has_ended; /* touches nothing any more */
	bool tells_waking; /* set by the control thread, cleared by the worker that has told */
	pthread_t thread;
	struct frame_batch batch;
	struct histogram wake_ns; /* from the end of the wait to the end of the burst that it was for */
	/* The control thread's. */
	uint64_t rounds_watched; /* `rounds` at the last workers_watch() */
	int request_channel;     /* in `events`, of slot.worker_fd */
	int answer_channel;      /* in workers.answers, of slot.control_fd */
	struct histogram request_ns;
	struct plan_worker spec;
	unsigned int lcore_id;
};

struct workers {
	unsigned int n;
	uint64_t tsc_hz;
	unsigned int idle_us; /* as configured */
	struct rte_rcu_qsbr *rcu;
	struct event_set *answers; /* the slots' control_fd */
	int news_fd;
	struct worker *worker[PORT_MAX_WORKERS];
	int numa_nodes[PORT_MAX_WORKERS];
	struct plan_inventory inventory;
	/* Replaced, and perhaps still in use by a worker that has not passed a quiescent point since. */
	unsigned int n_retired;
	struct {
		struct plan *plan;
		uint64_t token;
	} retired[RETIRED_MAX];
};

/* For a counter with one writer, read by others at any time. */
static inline void count(uint64_t *counter, uint64_t n)
{
	__atomic_store_n(counter, *counter + n, __ATOMIC_RELAXED);
}

/* The thread of a worker; argument: struct worker. */
int worker_main(void *argument);

/* Serves one burst of one queue. Returns how many frames were dealt with; those that wait for room are not. Worker. */
unsigned int worker_serve(struct worker *worker, struct plan *plan, struct plan_rx *rx);

/*
 * After a round with nothing to do, which ended at TSC `now`: waits a moment, or sleeps if that is due. Returns the
 * time, in TSC cycles, when the worker went on, with *plan the one to go on with. Worker.
 */
uint64_t worker_idle(struct worker *worker, struct plan **plan, uint64_t now);

/* The event set, the slot and the ring of news. -1 and a line. Control thread. */
int channels_start(struct worker *worker, struct event_set *answers, char *error, size_t error_size);
void channels_stop(struct worker *worker);

/*
 * Opens event channels for the worker's queues that have none yet, and for those where frames may have to wait for
 * room.
 */
void channels_open(struct worker *worker, const struct topology *topology,
	const struct plan_inventory *inventory);

/* Closes those of queues that the inventory does not have; no worker may be using these any more. */
void channels_close(struct worker *worker, const struct plan_inventory *inventory);

/* Tells the control thread something. Worker; never waits. False: there is no room. */
bool news_tell(struct worker *worker, enum worker_news_kind kind, uint16_t port, uint16_t queue);

#endif
