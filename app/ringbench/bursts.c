/* SPDX-License-Identifier: BSD-3-Clause */
#include "bursts.h"

#include <errno.h>
#include <stdio.h>

#include "run.h"
#include "tsc.h"
#include "wait.h"

static const char *const kind_names[] = {
	[LOSS_KICK] = "kick",
	[LOSS_CALL] = "call",
	[LOSS_FRAME] = "frame",
};

const char *loss_kind_name(enum loss_kind kind)
{
	return kind_names[kind];
}

static bool takes_part(const struct lane *lane)
{
	return lane->sender.direction->active;
}

void bursts_init(struct run *run)
{
	const struct options *options = run->options;

	for (unsigned int i = 0; options_are_bursts(options) && i < run->n_lanes; i++)
		pause_source_init(&run->lanes[i].burst.source, options->seed, i, options->pause_us);
}

/* ---- Sending ---- */

static void end_burst(struct lane *lane, uint64_t now)
{
	struct direction_counters *counters = &lane->sender.direction->counters;
	struct burst *burst = &lane->burst;

	counters->n_bursts++;
	counters->n_kicked_bursts += lane->sender.ring->n_kicks != burst->kicks_before;
	burst->n_done++;
	burst->n_frames = 0;
	burst->next_tsc = now + (uint64_t)((__uint128_t)pause_length_ns(&burst->source) * tsc_hz() / 1000000000);
}

static void begin_burst(const struct options *options, struct lane *lane)
{
	uint64_t window = lane->sender.direction->window;
	struct burst *burst = &lane->burst;

	burst->n_frames = pause_burst_length(
		&burst->source, window < options->batch ? (unsigned int)window : options->batch);
	burst->n_unsent = burst->n_frames;
	burst->kicks_before = lane->sender.ring->n_kicks;
	burst->waited_us = 0;
	burst->reported = false;
}

static bool is_done(const struct options *options, const struct burst *burst)
{
	return options->n_bursts != 0 && burst->n_done >= options->n_bursts;
}

unsigned int bursts_allowance(struct run *run, struct lane *lane, uint64_t now)
{
	struct burst *burst = &lane->burst;

	if (burst->n_frames != 0 && burst->n_unsent == 0 &&
		direction_in_flight(lane->sender.direction, lane->sender.queue) == 0)
		end_burst(lane, now);
	if (!run->sending)
		return 0;
	if (burst->n_frames == 0 && now >= burst->next_tsc && !is_done(run->options, burst))
		begin_burst(run->options, lane);
	return burst->n_frames == 0 ? 0 : burst->n_unsent;
}

bool bursts_are_done(const struct run *run)
{
	for (unsigned int i = 0; i < run->n_lanes; i++)
		if (takes_part(&run->lanes[i]) && !is_done(run->options, &run->lanes[i].burst))
			return false;
	return true;
}

uint64_t bursts_next_tsc(const struct run *run)
{
	uint64_t next = UINT64_MAX;

	for (unsigned int i = 0; run->sending && i < run->n_lanes; i++) {
		const struct burst *burst = &run->lanes[i].burst;

		if (takes_part(&run->lanes[i]) && burst->n_frames == 0 && !is_done(run->options, burst) &&
			burst->next_tsc < next)
			next = burst->next_tsc;
	}
	return next;
}

/* ---- What does not come ---- */

static struct lane *lanes_of(struct run *run, const struct session *session)
{
	return &run->lanes[(session->number - 1) * run->options->n_queues];
}

/* The receiving queue pair that sleeps although frames lie there, or NULL. */
static struct lane *uncalled(struct run *run, const struct direction *direction)
{
	struct lane *lanes = lanes_of(run, direction->to);

	for (unsigned int i = 0; i < run->options->n_queues; i++)
		if (lanes[i].asleep && vring_fixed_pending(&lanes[i].receiver.ring->ring) != 0)
			return &lanes[i];
	return NULL;
}

static void print_loss(const struct run *run, const struct loss *loss)
{
	char number[32] = "", transmit[256], receive[256];
	double seconds = (double)run->options->stall_us / 1e6;
	static const char *const what[] = {
		[LOSS_KICK] = "lost wake-up: the back end has not taken",
		[LOSS_CALL] = "lost call: no call has told of",
		[LOSS_FRAME] = "lost frames: the back end has taken and not delivered",
	};

	if (loss->burst != UINT64_MAX)
		snprintf(number, sizeof(number), ", burst %llu", (unsigned long long)loss->burst);
	ring_state_print(&loss->transmit, transmit, sizeof(transmit));
	ring_state_print(&loss->receive, receive, sizeof(receive));
	fprintf(stderr,
		"ringbench: socket %u (%s) to %u, queue pair %u%s: %s %llu of %llu frames for %g s\n"
		"ringbench:   transmit ring: %s\n"
		"ringbench:   receive ring: %s\n",
		loss->socket, run->sessions[loss->socket - 1].socket->path, loss->to, loss->queue, number,
		what[loss->kind], (unsigned long long)loss->n_missing, (unsigned long long)loss->n_sent, seconds,
		transmit, receive);
}

static void report(struct run *run, struct lane *lane, enum loss_kind kind, const struct lane *receiving,
	uint64_t burst, uint64_t n_sent, uint64_t n_missing)
{
	struct direction *direction = lane->sender.direction;
	struct loss loss = {
		.kind = kind,
		.socket = direction->from->number,
		.to = direction->to->number,
		.queue = lane->sender.queue,
		.burst = burst,
		.n_sent = n_sent,
		.n_missing = n_missing,
	};

	ring_state_take(&loss.transmit, lane->sender.ring);
	ring_state_take(&loss.receive, receiving->receiver.ring);
	direction->counters.n_lost_wakeups++;
	if (run->n_losses == BURSTS_MAX_LOSSES)
		return;
	run->losses[run->n_losses++] = loss;
	print_loss(run, &loss);
}

static void report_burst(struct run *run, struct lane *lane)
{
	struct direction *direction = lane->sender.direction;
	struct vring_fixed *ring = &lane->sender.ring->ring;
	const struct burst *burst = &lane->burst;
	uint64_t n_missing = direction_in_flight(direction, lane->sender.queue);
	uint16_t n_untaken = (uint16_t)(vring_fixed_outstanding(ring) - vring_fixed_pending(ring));
	struct lane *receiving = lanes_of(run, direction->to) + lane->sender.queue;
	struct lane *asleep = uncalled(run, direction);

	if (n_untaken != 0)
		report(run, lane, LOSS_KICK, receiving, burst->n_done, burst->n_frames, n_untaken);
	else if (asleep != NULL)
		report(run, lane, LOSS_CALL, asleep, burst->n_done, burst->n_frames, n_missing);
	else
		report(run, lane, LOSS_FRAME, receiving, burst->n_done, burst->n_frames, n_missing);
}

static void wake_lanes(struct run *run, const struct session *session)
{
	struct lane *lanes = lanes_of(run, session);

	for (unsigned int i = 0; i < run->options->n_queues; i++)
		wait_wake(&lanes[i]);
}

/* Whatever was missed is made up for: a burst that comes now was lost for want of a notification. */
static void rouse(struct run *run, struct lane *lane)
{
	struct direction *direction = lane->sender.direction;
	struct lane *receiving = lanes_of(run, direction->to);

	wake_lanes(run, direction->to);
	/* How long this one takes says nothing. */
	lane->sender.kick_tsc = 0;
	session_kick(lane->sender.ring);
	for (unsigned int i = 0; i < run->options->n_queues; i++)
		session_kick(receiving[i].receiver.ring);
}

int bursts_check(struct run *run, uint64_t elapsed_us)
{
	const struct options *options = run->options;

	for (unsigned int i = 0; i < run->n_lanes; i++) {
		struct lane *lane = &run->lanes[i];
		struct burst *burst = &lane->burst;

		if (!takes_part(lane) || burst->n_frames == 0)
			continue;
		burst->waited_us += elapsed_us;
		if (burst->waited_us >= 2 * options->stall_us) {
			run_set_error(run,
				"socket %u (%s), queue pair %u: burst %llu does not come through, even after a kick",
				lane->session->number, lane->session->socket->path, lane->sender.queue,
				(unsigned long long)burst->n_done);
			return -ETIMEDOUT;
		}
		if (burst->waited_us >= options->stall_us && !burst->reported) {
			burst->reported = true;
			report_burst(run, lane);
			rouse(run, lane);
		}
	}
	return 0;
}

bool bursts_find_lost_calls(struct run *run, unsigned int index)
{
	struct direction *direction = &run->directions[index];
	struct lane *asleep = uncalled(run, direction);
	uint64_t n_in_flight;

	if (asleep == NULL)
		return false;
	n_in_flight = direction_total_in_flight(direction, run->options->n_queues);
	report(run, lanes_of(run, direction->from), LOSS_CALL, asleep, UINT64_MAX, n_in_flight,
		vring_fixed_pending(&asleep->receiver.ring->ring));
	wake_lanes(run, direction->to);
	return true;
}

void bursts_restart(struct run *run)
{
	for (unsigned int i = 0; i < run->n_lanes; i++) {
		run->lanes[i].burst.waited_us = 0;
		run->lanes[i].sender.kick_tsc = 0;
	}
}
