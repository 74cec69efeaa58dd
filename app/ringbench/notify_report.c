/* SPDX-License-Identifier: BSD-3-Clause */
#include "notify_report.h"

#include <stdio.h>

#include "tsc.h"

static const struct {
	const char *name;
	double fraction;
} quantiles[] = {{"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}};

#define N_QUANTILES (sizeof(quantiles) / sizeof(quantiles[0]))

static uint64_t ns(uint64_t tsc_cycles)
{
	return (uint64_t)((double)tsc_cycles * 1e9 / (double)tsc_hz());
}

/* ---- Kick to first buffer used ---- */

/* The first power of two from 256 on that the value lies below. */
static unsigned int octave_of(uint64_t value_ns)
{
	return value_ns < 256 ? 8 : 64 - (unsigned int)__builtin_clzll(value_ns);
}

/* counts[n]: values of 2^(n - 1) to 2^n - 1 ns; those of up to 255 are all in counts[8]. */
static void count_octaves(const struct histogram *latency, uint64_t counts[65])
{
	for (unsigned int bucket = 0; bucket < HISTOGRAM_N_BUCKETS; bucket++)
		if (latency->buckets[bucket] != 0)
			counts[octave_of(ns(histogram_bucket_top(bucket)))] += latency->buckets[bucket];
}

json_t *notify_kick_latency_json(const struct histogram *latency)
{
	json_t *object = json_pack("{s:I, s:I}", "n", (json_int_t)latency->n, "max", (json_int_t)ns(latency->max));
	json_t *buckets = json_array();
	uint64_t counts[65] = {0};

	for (unsigned int i = 0; i < N_QUANTILES; i++)
		json_object_set_new(object, quantiles[i].name,
			json_integer((json_int_t)ns(histogram_quantile(latency, quantiles[i].fraction))));
	count_octaves(latency, counts);
	for (unsigned int n = 8; n < 63; n++)
		if (counts[n] != 0)
			json_array_append_new(buckets, json_pack("{s:I, s:I}", "below_ns",
							       (json_int_t)(UINT64_C(1) << n), "n", (json_int_t)counts[n]));
	json_object_set_new(object, "buckets", buckets);
	return object;
}

static void print_kick_latency(const struct histogram *latency)
{
	uint64_t counts[65] = {0};

	printf("kick to first buffer used, %llu kicks:", (unsigned long long)latency->n);
	for (unsigned int i = 0; i < N_QUANTILES; i++)
		printf(" %s %.1f us,", quantiles[i].name,
			(double)ns(histogram_quantile(latency, quantiles[i].fraction)) / 1e3);
	printf(" max %.1f us\n", (double)ns(latency->max) / 1e3);
	count_octaves(latency, counts);
	for (unsigned int n = 8; n < 63; n++)
		if (counts[n] != 0)
			printf("%12llu below %.3f us\n", (unsigned long long)counts[n],
				(double)(UINT64_C(1) << n) / 1e3);
}

/* ---- Kicks and calls of a socket ---- */

struct port_counts {
	uint64_t n_received; /* frames */
	uint64_t n_calls;    /* of receive rings */
	uint64_t n_transmit_calls;
	uint64_t n_kicks; /* of transmit rings */
	uint64_t n_receive_kicks;
};

static void count_port(const struct run *run, unsigned int index, struct port_counts *counts)
{
	unsigned int n_queues = run->options->n_queues;

	*counts = (struct port_counts){0};
	for (unsigned int i = 0; i < run->n_directions; i++)
		if (run->directions[i].to == &run->sessions[index])
			counts->n_received += run->directions[i].counters.n_received;
	for (unsigned int i = index * n_queues; i < (index + 1) * n_queues; i++) {
		const struct session_ring *rx = run->lanes[i].receiver.ring, *tx = run->lanes[i].sender.ring;

		counts->n_calls += rx->n_calls;
		counts->n_transmit_calls += tx->n_calls;
		counts->n_kicks += tx->n_kicks - tx->n_kicks_before;
		counts->n_receive_kicks += rx->n_kicks - rx->n_kicks_before;
	}
}

static double per_call(const struct port_counts *counts)
{
	return counts->n_calls == 0 ? 0 : (double)counts->n_received / (double)counts->n_calls;
}

json_t *notify_ports_json(const struct run *run)
{
	json_t *list = json_array();

	for (unsigned int i = 0; i < run->n_sessions; i++) {
		struct port_counts counts;

		count_port(run, i, &counts);
		json_array_append_new(list,
			json_pack("{s:i, s:I, s:I, s:f, s:I, s:I, s:I}", "number", (int)run->sessions[i].number,
				"received", (json_int_t)counts.n_received, "calls", (json_int_t)counts.n_calls,
				"frames_per_call", per_call(&counts), "transmit_calls",
				(json_int_t)counts.n_transmit_calls, "kicks", (json_int_t)counts.n_kicks,
				"receive_kicks", (json_int_t)counts.n_receive_kicks));
	}
	return list;
}

static void print_port(const struct run *run, unsigned int index)
{
	double seconds = verdict_duration_s(run);
	struct port_counts counts;

	count_port(run, index, &counts);
	if (counts.n_calls + counts.n_transmit_calls + counts.n_kicks + counts.n_receive_kicks == 0)
		return;
	printf("socket %u  %llu calls for %llu frames (%.1f frames per call, %.0f calls/s), %llu for sent ones; "
	       "%llu kicks for frames, %llu for buffers\n",
		run->sessions[index].number, (unsigned long long)counts.n_calls, (unsigned long long)counts.n_received,
		per_call(&counts), seconds <= 0 ? 0 : (double)counts.n_calls / seconds,
		(unsigned long long)counts.n_transmit_calls, (unsigned long long)counts.n_kicks,
		(unsigned long long)counts.n_receive_kicks);
}

/* ---- On/off traffic ---- */

static json_t *ring_state_json(const struct ring_state *state)
{
	json_t *object = json_pack("{s:b, s:b, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:b}", "packed",
		(int)state->packed, "event_idx", (int)state->event_idx, "available", (int)state->avail, "taken",
		(int)state->collected, "with_device", (int)state->n_with_device, "pending", (int)state->n_pending,
		"device_flags", (int)state->device_flags, "device_event", (int)state->device_event, "driver_flags",
		(int)state->driver_flags, "driver_event", (int)state->driver_event, "kick_unread",
		(int)state->kick_unread);

	if (!state->packed)
		json_object_set_new(object, "used", json_integer(state->used));
	return object;
}

json_t *notify_losses_json(const struct run *run)
{
	json_t *list = json_array();

	for (unsigned int i = 0; i < run->n_losses; i++) {
		const struct loss *loss = &run->losses[i];
		json_t *object = json_pack("{s:s, s:i, s:i, s:i, s:I, s:I, s:o, s:o}", "kind",
			loss_kind_name(loss->kind), "from", (int)loss->socket, "to", (int)loss->to, "queue",
			(int)loss->queue, "frames", (json_int_t)loss->n_sent, "missing", (json_int_t)loss->n_missing,
			"transmit_ring", ring_state_json(&loss->transmit), "receive_ring",
			ring_state_json(&loss->receive));

		json_object_set_new(object, "burst",
			loss->burst == UINT64_MAX ? json_null() : json_integer((json_int_t)loss->burst));
		json_array_append_new(list, object);
	}
	return list;
}

void notify_print(const struct run *run, const struct verdict *all)
{
	const struct direction_counters *counters = &all->counters;

	for (unsigned int i = 0; i < run->n_sessions; i++)
		print_port(run, i);
	if (options_are_bursts(run->options))
		printf("%llu bursts have come through, for %llu of them the back end asked for a kick\n",
			(unsigned long long)counters->n_bursts, (unsigned long long)counters->n_kicked_bursts);
	if (all->kick_latency->n != 0)
		print_kick_latency(all->kick_latency);
	if (counters->n_lost_wakeups != 0)
		printf("%12llu lost wake-ups or calls\n", (unsigned long long)counters->n_lost_wakeups);
}
