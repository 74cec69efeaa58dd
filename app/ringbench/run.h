/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A whole run: sessions, directions, and the loop that serves every queue of every socket in turn.
 *
 *     run_open() -> run_measure() -> report -> run_close()
 *
 * run_open() connects everything and sends warm-up frames until each direction and queue has passed
 * one, so that rings are enabled and a learning bridge knows every address before the first frame
 * counts. run_measure() sends for the time or the number asked for, then waits for what is still on
 * its way.
 *
 * Thread rule: one thread.
 */
#ifndef RINGBENCH_RUN_H
#define RINGBENCH_RUN_H

#include <signal.h>

#include "bursts.h"
#include "direction.h"
#include "receiver.h"
#include "sender.h"

/* One queue pair of one socket. */
struct lane {
	struct session *session;
	struct receiver receiver;
	struct sender sender;
	struct burst burst;
	bool found_nothing; /* in the receive ring, in the last turn */
	bool asleep;        /* --sleep: the receive ring is left alone until a call comes */
};

enum run_status {
	RUN_OK,
	RUN_FAILED,     /* run->error; what was measured before is valid */
	RUN_NO_SESSION, /* could not connect, negotiate or pass a first frame */
};

struct run {
	const struct options *options;
	const volatile sig_atomic_t *stop;
	unsigned int n_sessions;
	struct session sessions[OPTIONS_MAX_SOCKETS];
	unsigned int n_directions;
	struct direction directions[OPTIONS_MAX_SOCKETS]; /* directions[i].from is sessions[i] */
	unsigned int n_lanes;
	struct lane *lanes;
	bool sending;
	uint64_t start_tsc;
	uint64_t stop_tsc; /* the last frame was sent */
	uint64_t last_tick_tsc;
	uint64_t next_tick_tsc;
	uint64_t next_interval_tsc;
	uint64_t next_log_tsc; /* with options->log */
	/* Open loop: pace from here on; moved when sending was interrupted. */
	uint64_t pace_tsc;
	double frames_per_cycle;
	/*
	 * Own cost: turns through a lane in which it sent or received, and their TSC cycles and
	 * frames. Turns in which another program must have had the CPU are left out.
	 */
	uint64_t busy_cycles;
	uint64_t busy_frames; /* sent plus received */
	uint64_t n_busy_turns;
	uint64_t n_disturbed_turns;
	uint64_t disturbed_cycles;
	long n_preempted; /* involuntary context switches while measuring */
	/* What had been received when sending ended; rates are computed from this. */
	struct direction_counters at_stop[OPTIONS_MAX_SOCKETS];
	/* The first lost wake-ups and calls; how many there were is in the directions' counters. */
	unsigned int n_losses;
	struct loss losses[BURSTS_MAX_LOSSES];
	unsigned int n_outages;
	uint64_t outage_us;
	/* Progress, to notice a stall. */
	struct {
		uint64_t n_settled;
		uint64_t silent_us; /* that we have looked and nothing came */
		uint64_t pace_base; /* frames sent or skipped before pace_tsc */
	} progress[OPTIONS_MAX_SOCKETS];
	void (*interval)(struct run *run); /* called every options->interval_us; may be NULL */
	char error[OPTIONS_ERROR_MAX];
};

/* On any return but RUN_OK, run->error has one line. run_close() ends it either way. */
enum run_status run_open(
	struct run *run, const struct options *options, const volatile sig_atomic_t *stop);
enum run_status run_measure(struct run *run);
void run_close(struct run *run);

/* For warmup.c: serves every lane once. 1 if something was sent or received, 0, or -EPROTO with
 * run->error. */
int run_turn(struct run *run);
/* When the next frame may be sent: TSC; UINT64_MAX: not before something arrives. */
uint64_t run_next_tsc(const struct run *run);
/* The first session whose back end has gone, or NULL. */
struct session *run_dead_session(struct run *run);
__attribute__((format(printf, 2, 3))) void run_set_error(struct run *run, const char *format, ...);

#endif
