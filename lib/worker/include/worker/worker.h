/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Workers: lcores that move frames by a plan, and sleep when there are none.
 *
 * A plan says which queues a worker polls and how it reaches each port. What it says never changes; a new one is
 * published by one pointer store. Whatever must wait for a worker is a request: it goes through the worker's slot, and
 * is answered when the worker has let go of every older plan and has signalled all that it moved by it. So after
 * workers_update() no worker is in the middle of anything the old plan named: that is how a ring is stopped, a memory
 * table replaced or a port removed. Where nobody needs to wait, old plans are freed when rte_rcu_qsbr says that nobody
 * uses them.
 *
 * Thread rule: everything here belongs to the control thread, but for workers_alarm().
 */
#ifndef WORKER_WORKER_H
#define WORKER_WORKER_H

#include <signal.h>
#include <stddef.h>
#include <stdint.h>

#include <base/histogram.h>
#include <event/event.h>
#include <worker/topology.h>

struct rte_mempool;
struct workers;

struct workers_config {
	unsigned int n_workers;                  /* 1..PORT_MAX_WORKERS */
	unsigned int lcore_ids[PORT_MAX_WORKERS]; /* EAL lcores, idle, pinned to one CPU each */
	struct rte_mempool *(*pool_of_node)(int numa_node); /* packet pool for software offloads */
	enum port_mode mode;   /* POLL and INTERRUPT count for all queues, ADAPTIVE leaves it to the ports */
	unsigned int idle_us;  /* ADAPTIVE: the longest a worker looks in vain before it sleeps */
};

/* Launches the workers with an empty plan. NULL and a line in `error`. */
struct workers *workers_create(
	const struct workers_config *config, char *error, size_t error_size);

/* Stops the workers and waits for them. */
void workers_destroy(struct workers *workers);

/*
 * Makes new plans from the topology as it is now and returns when every worker is done with the old ones. Takes
 * microseconds per worker; frames of queues in both plans are not delayed.
 */
void workers_update(struct workers *workers, const struct topology *topology);

/*
 * As workers_update() but without the wait: for changes that only add queues. Workers may use the old plans for a
 * while.
 */
void workers_publish(struct workers *workers, const struct topology *topology);

/* Returns when every worker has answered a request made now. */
void workers_synchronize(struct workers *workers);

/*
 * Sets the mode of one worker; it counts from the next plan on.
 */
void workers_set_mode(struct workers *workers, unsigned int id, enum port_mode mode);

/* How long a request may take before the worker is reported. A round takes microseconds. */
#define WORKERS_DEADLINE_US (1000 * 1000)

struct worker_ping {
	uint64_t round_trip_ns;
	bool was_asleep;
};

/*
 * Measures a request that does nothing. 0, or -ETIMEDOUT and a line that names the worker, if it has not answered
 * within WORKERS_DEADLINE_US.
 */
int workers_ping(struct workers *workers, unsigned int id, struct worker_ping *ping, char *error,
	size_t error_size);

/*
 * To be called every few milliseconds while it returns true: interrupts the system call of a worker that has not
 * finished a round since the last call. Only one can be in the way at all, a write to a peer's call eventfd. The
 * signal is WORKERS_SIGNAL, whose handler does nothing, so a worker that was merely not scheduled is not harmed.
 * False: all workers sleep, none of them wants watching until there is news that one is awake (WORKER_NEWS_AWAKE).
 */
bool workers_watch(struct workers *workers);

#define WORKERS_SIGNAL SIGURG

/* What workers tell without being asked. */
enum worker_news_kind {
	WORKER_NEWS_ALARM,    /* a port found something that its tick() should look at */
	WORKER_NEWS_SHUT_OUT, /* a queue woke the worker for nothing too often and may not for a while */
	WORKER_NEWS_AWAKE,    /* a worker woke up, and workers_watch() had returned false */
};

struct worker_news {
	enum worker_news_kind kind;
	uint16_t worker;
	uint16_t port;  /* id; the port may be gone, or another have its id */
	uint16_t queue;
};

/* An eventfd that is readable when there is news; whoever reads it takes all of it then. */
int workers_news_fd(const struct workers *workers);

/* Takes one piece; false: there is no more. */
bool workers_next_news(struct workers *workers, struct worker_news *news);

/* As port_host.alarm: called by a worker, from within a port. */
void workers_alarm(struct workers *workers, const struct port *port);

enum worker_state {
	WORKER_POLLING,
	WORKER_PAUSING, /* looks in vain, with pauses in between */
	WORKER_ASLEEP,
};

struct worker_report {
	unsigned int id;
	unsigned int cpu;
	int numa_node;
	enum port_mode mode;
	enum worker_state state;
	unsigned int idle_us;
	unsigned int window_us; /* the idle window now: it adapts, idle_us at most */
	/*
	 * TSC cycles: rounds that moved something, rounds that did not and going to sleep, sleep. Together all since
	 * start.
	 */
	uint64_t busy_cycles;
	uint64_t idle_cycles;
	uint64_t sleep_cycles;
	uint64_t rounds;
	uint64_t packets; /* frames dealt with */
	uint64_t n_sleeps;
	struct event_set_report events;
	unsigned int n_queues;
	const struct histogram *wake_ns;    /* from the end of a wait to the end of the burst it was for */
	const struct histogram *request_ns; /* from a request to its answer, both seen by the control thread */
};

unsigned int workers_count(const struct workers *workers);
void workers_report(const struct workers *workers, unsigned int id, struct worker_report *report);

/* A queue the worker polls now. */
struct worker_queue_report {
	const struct rx_queue *queue;
	struct event_channel_report wake; /* all 0 where the queue cannot wake the worker */
	const char *keeps_polling; /* why the worker must not sleep for its sake; NULL: it may; static */
};

/* Up to `max` into `queues`; returns how many there are. */
unsigned int workers_list_queues(const struct workers *workers, unsigned int id,
	struct worker_queue_report *queues, unsigned int max);

#endif
