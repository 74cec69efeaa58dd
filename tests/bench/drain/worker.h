/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The loop both engines are measured in.
 *
 * It waits until a guest has n_backlog frames in its ring and the other guest room for them, reads the TSC, works
 * through exactly those frames in bursts, and reads the TSC again. So neither waiting nor bursts that shrink because a
 * generator is slow are in the figure. A backlog that does not grow is worked through unmeasured: guests that connect
 * send single frames.
 *
 * Thread rule: the main thread, but for worker_pause() and worker_resume(), which any thread except the worker may use.
 */
#ifndef BENCH_DRAIN_WORKER_H
#define BENCH_DRAIN_WORKER_H

#include "engine.h"

enum stage {
	STAGE_FORWARD,
	STAGE_DEQUEUE,
	STAGE_ENQUEUE,
	N_STAGES,
};

struct stage_counters {
	uint64_t packets;  /* frames of measured rounds */
	uint64_t cycles;   /* TSC cycles of these */
	uint64_t n_bursts; /* calls of the engine in these */
	uint64_t n_short;  /* rounds left out because the engine took fewer frames than there were */
};

struct worker_config {
	const struct engine *engine;
	bool mbufs;
	unsigned int n_backlog; /* 1..DRAIN_BACKLOG_MAX */
	unsigned int n_burst;   /* 1..32 */
};

/* Runs on an EAL lcore until worker_stop(). `argument` is a struct worker_config. Returns 0. */
int worker_main(void *argument);
void worker_stop(void);

/* Returns when the worker is between two rounds and stays there; does not nest. A worker that never ran is paused. */
void worker_pause(void);
void worker_resume(void);

/* Readable at any time, also while the worker is held by a tracer. */
void worker_read(enum stage stage, struct stage_counters *counters);

#endif
