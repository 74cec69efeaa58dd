/* SPDX-License-Identifier: BSD-3-Clause */
#include "run.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>

#include <base/clock.h>

#include "tsc.h"
#include "wait.h"
#include "warmup.h"

/* Between looks at the clock, the connections and the progress. */
#define TICK_US 1000

void run_set_error(struct run *run, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(run->error, sizeof(run->error), format, args);
	va_end(args);
}

static uint64_t cycles(uint64_t us)
{
	/* 128 bits: a duration without end stays without end. */
	__uint128_t wide = (__uint128_t)us * tsc_hz() / 1000000;

	return wide > UINT64_MAX / 2 ? UINT64_MAX / 2 : (uint64_t)wide;
}

struct session *run_dead_session(struct run *run)
{
	for (unsigned int i = 0; i < run->n_sessions; i++)
		if (!session_is_alive(&run->sessions[i]))
			return &run->sessions[i];
	return NULL;
}

/* ---- A turn ---- */

/* Open loop: frames of this direction that are due. */
static uint64_t frames_due(struct run *run, struct direction *direction, uint64_t now)
{
	uint64_t handled = direction->counters.n_sent + direction->counters.n_unsent_late -
			   run->progress[direction - run->directions].pace_base;
	uint64_t due = (uint64_t)((double)(now - run->pace_tsc) * run->frames_per_cycle);
	uint64_t backlog_max = (uint64_t)run->options->ring_size * run->options->n_queues;

	if (due <= handled)
		return 0;
	due -= handled;
	/* What cannot be sent in time is not sent in a later burst: the rate asked for is never
	 * exceeded for long. */
	if (due > backlog_max) {
		direction->counters.n_unsent_late += due - backlog_max;
		due = backlog_max;
	}
	return due;
}

static unsigned int allowance(struct run *run, struct lane *lane, uint64_t now)
{
	struct sender *sender = &lane->sender;
	struct direction *direction = sender->direction;
	const struct options *options = run->options;
	uint64_t allowed = options->batch;
	uint64_t left;

	if (options_are_bursts(options) && direction->active)
		return bursts_allowance(run, lane, now);
	if (!run->sending || !direction->active || options->idle)
		return 0;
	if (direction->window != 0) {
		uint64_t in_flight = direction_in_flight(direction, sender->queue);

		left = direction->window > in_flight ? direction->window - in_flight : 0;
	} else {
		left = frames_due(run, direction, now);
	}
	if (allowed > left)
		allowed = left;
	if (options->count != 0 && allowed > options->count - direction->counters.n_sent)
		allowed = options->count - direction->counters.n_sent;
	return (unsigned int)allowed;
}

static int fail_ring(
	struct run *run, const struct lane *lane, const char *name, const struct vring_fixed *ring)
{
	run_set_error(run, "socket %u (%s): %s ring of queue pair %u: %s", lane->session->number,
		lane->session->socket->path, name, lane->sender.queue,
		vring_fixed_breakage_name(ring->breakage));
	return -EPROTO;
}

/* Even two bursts of the longest frames take less time. */
#define DISTURBED_US 500

static void count_busy(struct run *run, uint64_t n_cycles, unsigned int n_frames)
{
	if (n_cycles > run->disturbed_cycles) {
		run->n_disturbed_turns++;
		return;
	}
	run->n_busy_turns++;
	run->busy_cycles += n_cycles;
	run->busy_frames += n_frames;
}

static int lane_turn(struct run *run, struct lane *lane)
{
	uint64_t start = tsc_now();
	int n_received = lane->asleep ? 0 : receiver_poll(&lane->receiver, run->options->batch, start);
	unsigned int allowed;
	int n_sent = 0;

	if (n_received < 0)
		return fail_ring(run, lane, "receive", &lane->receiver.ring->ring);
	lane->found_nothing = n_received == 0;
	if (lane->sender.kick_tsc != 0)
		sender_time_kick(&lane->sender, start);
	allowed = allowance(run, lane, start);
	if (allowed != 0) {
		n_sent = sender_send(&lane->sender, allowed, tsc_now());
		if (n_sent < 0)
			return fail_ring(run, lane, "transmit", &lane->sender.ring->ring);
		if (options_are_bursts(run->options))
			lane->burst.n_unsent -= (unsigned int)n_sent;
	}
	if (n_received == 0 && n_sent == 0)
		return 0;
	count_busy(run, tsc_now() - start, (unsigned int)(n_received + n_sent));
	return 1;
}

uint64_t run_next_tsc(const struct run *run)
{
	uint64_t next = UINT64_MAX;

	if (options_are_bursts(run->options))
		return bursts_next_tsc(run);
	if (run->options->rate_pps == 0 || !run->sending)
		return UINT64_MAX;
	for (unsigned int i = 0; i < run->n_directions; i++) {
		const struct direction_counters *counters = &run->directions[i].counters;
		uint64_t handled = counters->n_sent + counters->n_unsent_late - run->progress[i].pace_base;
		uint64_t due = run->pace_tsc + (uint64_t)((double)(handled + 1) / run->frames_per_cycle);

		if (run->directions[i].active && due < next)
			next = due;
	}
	return next;
}

int run_turn(struct run *run)
{
	int busy = 0;

	for (unsigned int i = 0; i < run->n_lanes; i++) {
		int ret = lane_turn(run, &run->lanes[i]);

		if (ret < 0)
			return ret;
		busy |= ret;
	}
	return busy;
}

/* ---- Opening ---- */

static int add_directions(struct run *run)
{
	bool loop = run->options->topology == TOPOLOGY_LOOP;
	uint64_t seed;
	int ret = 0;

	/* Frames of an earlier run that are still on their way must not look like ours. */
	if (getrandom(&seed, sizeof(seed), 0) != sizeof(seed))
		return -EIO;
	run->n_directions = run->n_sessions;
	for (unsigned int i = 0; ret == 0 && i < run->n_directions; i++) {
		unsigned int to = loop ? i : i ^ 1;
		bool active = !(run->options->one_way && i % 2 == 1);

		ret = direction_init(&run->directions[i], run->options, &run->sessions[i],
			&run->sessions[to], active, seed + i * UINT64_C(0x9e3779b97f4a7c15));
	}
	return ret;
}

static int add_lanes(struct run *run)
{
	unsigned int n_queues = run->options->n_queues;
	bool loop = run->options->topology == TOPOLOGY_LOOP;
	int ret = 0;

	run->lanes = calloc((size_t)run->n_sessions * n_queues, sizeof(*run->lanes));
	if (run->lanes == NULL)
		return -ENOMEM;
	for (unsigned int i = 0; ret == 0 && i < run->n_sessions * n_queues; i++) {
		unsigned int from = i / n_queues, queue = i % n_queues;
		struct session *session = &run->sessions[from];
		struct lane *lane = &run->lanes[i];

		lane->session = session;
		ret = receiver_init(&lane->receiver, &session->queues[queue].rx,
			&run->directions[loop ? from : from ^ 1], run->options);
		lane->receiver.all = run->directions;
		lane->receiver.n_all = run->n_directions;
		if (ret == 0)
			ret = sender_init(&lane->sender, &session->queues[queue].tx,
				&run->directions[from], queue, run->options);
		run->n_lanes++;
	}
	return ret;
}

enum run_status run_open(
	struct run *run, const struct options *options, const volatile sig_atomic_t *stop)
{
	int ret;

	*run = (struct run){.options = options, .stop = stop};
	for (unsigned int i = 0; i < options->n_sockets; i++) {
		run->n_sessions++;
		ret = session_open(&run->sessions[i], options, i, stop);
		if (ret != 0) {
			run_set_error(run, "%s", run->sessions[i].error);
			return RUN_NO_SESSION;
		}
	}
	ret = add_directions(run);
	if (ret == 0)
		ret = add_lanes(run);
	if (ret != 0) {
		run_set_error(run, "cannot set up: %s", strerror(-ret));
		return RUN_FAILED;
	}
	bursts_init(run);
	ret = warmup(run);
	return ret == 0 ? RUN_OK : RUN_NO_SESSION;
}

void run_close(struct run *run)
{
	for (unsigned int i = 0; i < run->n_lanes; i++) {
		receiver_fini(&run->lanes[i].receiver);
		sender_fini(&run->lanes[i].sender);
	}
	free(run->lanes);
	for (unsigned int i = 0; i < run->n_directions; i++)
		direction_fini(&run->directions[i]);
	for (unsigned int i = 0; i < run->n_sessions; i++)
		session_close(&run->sessions[i]);
}

/* ---- Measuring ---- */

static uint64_t n_settled(const struct run *run, const struct direction *direction)
{
	uint64_t total = 0;

	for (unsigned int i = 0; i < run->options->n_queues; i++)
		total += direction->queues[i].n_settled;
	return total;
}

/* Frames the back end has been offered and has not taken. */
static bool has_untaken(struct run *run, const struct direction *direction)
{
	unsigned int n_queues = run->options->n_queues;
	struct lane *lanes = &run->lanes[(direction->from->number - 1) * n_queues];

	for (unsigned int i = 0; i < n_queues; i++)
		if (vring_fixed_outstanding(&lanes[i].sender.ring->ring) !=
			vring_fixed_pending(&lanes[i].sender.ring->ring))
			return true;
	return false;
}

/*
 * Nothing has come for a while although frames are in flight. If the back end has taken them all,
 * they are not waited for any more and the window is open again; if it has not, it is not running,
 * and that is an error at some point. The time counts in which we have looked, not the time in
 * which other programs had the CPU.
 */
static int check_stall(struct run *run, unsigned int index, uint64_t elapsed_us)
{
	struct direction *direction = &run->directions[index];
	uint64_t settled = n_settled(run, direction);

	if (settled != run->progress[index].n_settled ||
		direction_total_in_flight(direction, run->options->n_queues) == 0) {
		run->progress[index].n_settled = settled;
		run->progress[index].silent_us = 0;
		return 0;
	}
	run->progress[index].silent_us += elapsed_us;
	if (run->progress[index].silent_us < run->options->stall_us)
		return 0;
	if (bursts_find_lost_calls(run, index)) {
		run->progress[index].silent_us = 0;
		return 0;
	}
	if (!has_untaken(run, direction)) {
		direction_suspend(direction, run->options->n_queues);
		run->progress[index].silent_us = 0;
		return 0;
	}
	if (run->progress[index].silent_us < run->options->deadline_us)
		return 0;
	run_set_error(run,
		"socket %u (%s): the back end has taken no frame for %g s; is it still running?",
		direction->from->number, direction->from->socket->path,
		(double)run->options->deadline_us / 1e6);
	return -ETIMEDOUT;
}

static int check_stalls(struct run *run, uint64_t now)
{
	uint64_t elapsed_us = (now - run->last_tick_tsc) * 1000000 / tsc_hz();
	int ret = 0;

	run->last_tick_tsc = now;
	if (elapsed_us > 2 * TICK_US)
		elapsed_us = 2 * TICK_US;
	if (options_are_bursts(run->options))
		return bursts_check(run, elapsed_us);
	for (unsigned int i = 0; ret == 0 && i < run->n_directions; i++)
		ret = check_stall(run, i, elapsed_us);
	return ret;
}

static void restart_pace(struct run *run)
{
	run->pace_tsc = run->last_tick_tsc = tsc_now();
	for (unsigned int i = 0; i < run->n_directions; i++) {
		const struct direction_counters *counters = &run->directions[i].counters;

		run->progress[i].pace_base = counters->n_sent + counters->n_unsent_late;
		run->progress[i].silent_us = 0;
	}
}

/*
 * A back end has gone: connect again, let warm-up frames pass, go on. The rings keep their order,
 * so whatever was on its way and has not arrived before the warm-up frames is lost, and lost (or
 * doubled) because of the outage.
 */
static int sit_out_outage(struct run *run)
{
	struct direction_totals before[OPTIONS_MAX_SOCKETS];
	uint64_t start_us = clock_now_us();
	bool sending = run->sending;
	int ret;

	run->n_outages++;
	run->sending = false;
	/* Nobody calls for what the old back end left. */
	for (unsigned int i = 0; i < run->n_lanes; i++)
		wait_wake(&run->lanes[i]);
	for (unsigned int i = 0; i < run->n_directions; i++)
		direction_sum(&run->directions[i], &before[i]);
	do {
		struct session *dead;

		while ((dead = run_dead_session(run)) != NULL) {
			ret = session_reopen(dead);
			if (ret != 0) {
				run_set_error(run, "%s", dead->error);
				return ret;
			}
		}
		ret = warmup(run);
	} while (ret == -ECONNRESET);
	if (ret != 0)
		return ret;
	for (unsigned int i = 0; i < run->n_directions; i++) {
		struct direction *direction = &run->directions[i];
		struct direction_totals after;

		direction_flush(direction);
		direction_sum(direction, &after);
		direction->counters.n_outage_lost += after.n_lost - before[i].n_lost;
		direction->counters.n_outage_duplicated +=
			after.n_duplicated - before[i].n_duplicated;
	}
	run->outage_us += clock_now_us() - start_us;
	run->sending = sending;
	bursts_restart(run);
	restart_pace(run);
	return 0;
}

static int check_sessions(struct run *run)
{
	struct session *dead = run_dead_session(run);

	if (dead == NULL)
		return 0;
	if (run->options->reconnect)
		return sit_out_outage(run);
	run_set_error(run,
		"socket %u (%s): the back end went away; --reconnect goes on when it is back",
		dead->number, dead->socket->path);
	return -ECONNRESET;
}

static int tick(struct run *run, uint64_t now)
{
	int ret = check_sessions(run);

	if (ret == 0)
		ret = check_stalls(run, now);
	if (ret != 0)
		return ret;
	if (run->options->log && now >= run->next_log_tsc) {
		for (unsigned int i = 0; i < run->n_sessions; i++)
			dirty_log_take(&run->sessions[i].log);
		run->next_log_tsc = now + cycles(DIRTY_LOG_US);
	}
	if (run->interval != NULL && now >= run->next_interval_tsc) {
		run->interval(run);
		run->next_interval_tsc += cycles(run->options->interval_us);
		/* After an outage the lines that were due are not made up for. */
		if (run->next_interval_tsc < now)
			run->next_interval_tsc = now + cycles(run->options->interval_us);
	}
	run->next_tick_tsc = tsc_now() + cycles(TICK_US);
	return 0;
}

static bool has_sent_all(const struct run *run)
{
	if (options_are_bursts(run->options))
		return bursts_are_done(run);
	if (run->options->count == 0)
		return false;
	for (unsigned int i = 0; i < run->n_directions; i++)
		if (run->directions[i].active &&
			run->directions[i].counters.n_sent < run->options->count)
			return false;
	return true;
}

static bool has_arrived_all(const struct run *run)
{
	for (unsigned int i = 0; i < run->n_directions; i++)
		if (direction_total_in_flight(&run->directions[i], run->options->n_queues) != 0)
			return false;
	return true;
}

/* One turn and what belongs between turns. 0 or a negative errno. */
static int step(struct run *run)
{
	int ret = run_turn(run);
	uint64_t now = tsc_now();

	if (ret < 0)
		return ret;
	if (now >= run->next_tick_tsc)
		return tick(run, now);
	if (run->options->sleep)
		wait_for_calls(run, ret == 0, TICK_US);
	return 0;
}

static long n_preempted(void)
{
	struct rusage usage = {0};

	getrusage(RUSAGE_THREAD, &usage);
	return usage.ru_nivcsw;
}

static void forget_notifications_of(struct session_ring *ring)
{
	session_take_calls(ring);
	ring->n_calls = 0;
	ring->n_kicks_before = ring->n_kicks;
}

/* Those of the warm-up are not counted. */
static void forget_notifications(struct run *run)
{
	for (unsigned int i = 0; i < run->n_lanes; i++) {
		forget_notifications_of(run->lanes[i].receiver.ring);
		forget_notifications_of(run->lanes[i].sender.ring);
		run->lanes[i].sender.kick_tsc = 0;
	}
	for (unsigned int i = 0; i < run->n_directions; i++)
		run->directions[i].kick_latency = (struct histogram){0};
}

enum run_status run_measure(struct run *run)
{
	uint64_t end_tsc;
	int ret = 0;

	run->frames_per_cycle = (double)run->options->rate_pps / (double)tsc_hz();
	run->busy_cycles = run->busy_frames = 0;
	run->n_busy_turns = run->n_disturbed_turns = 0;
	run->disturbed_cycles = cycles(DISTURBED_US);
	run->n_preempted = n_preempted();
	forget_notifications(run);
	if (run->options->sleep)
		wait_prepare();
	restart_pace(run);
	run->start_tsc = run->pace_tsc;
	run->next_interval_tsc = run->start_tsc + cycles(run->options->interval_us);
	end_tsc = run->start_tsc + cycles(run->options->duration_us);
	run->sending = true;
	while (ret == 0 && !*run->stop && !has_sent_all(run) && tsc_now() < end_tsc)
		ret = step(run);
	run->sending = false;
	run->stop_tsc = tsc_now();
	run->n_preempted = n_preempted() - run->n_preempted;
	for (unsigned int i = 0; i < run->n_directions; i++)
		run->at_stop[i] = run->directions[i].counters;
	/* What is still on its way: check_stall() ends the wait if it does not come. */
	while (ret == 0 && !has_arrived_all(run))
		ret = step(run);
	for (unsigned int i = 0; i < run->n_directions; i++)
		direction_flush(&run->directions[i]);
	for (unsigned int i = 0; i < run->n_lanes; i++) {
		session_take_calls(run->lanes[i].receiver.ring);
		session_take_calls(run->lanes[i].sender.ring);
	}
	return ret == 0 ? RUN_OK : RUN_FAILED;
}
