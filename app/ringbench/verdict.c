/* SPDX-License-Identifier: BSD-3-Clause */
#include "verdict.h"

#include "tsc.h"

double verdict_duration_s(const struct run *run)
{
	uint64_t end = run->stop_tsc != 0 ? run->stop_tsc : tsc_now();

	return run->start_tsc == 0 ? 0 : (double)(end - run->start_tsc) / (double)tsc_hz();
}

static void set_rates(
	struct verdict *verdict, const struct direction_counters *counters, double seconds)
{
	if (seconds <= 0)
		return;
	verdict->mpps += (double)counters->n_received / seconds / 1e6;
	verdict->gbps += (double)counters->received_bytes * 8 / seconds / 1e9;
}

void verdict_of_direction(const struct run *run, unsigned int index, struct verdict *verdict)
{
	const struct direction *direction = &run->directions[index];

	*verdict = (struct verdict){.counters = direction->counters,
		.latency = &direction->latency,
		.kick_latency = &direction->kick_latency};
	direction_sum(direction, &verdict->totals);
	set_rates(verdict, run->stop_tsc != 0 ? &run->at_stop[index] : &direction->counters,
		verdict_duration_s(run));
}

static void add_counters(struct direction_counters *to, const struct direction_counters *from)
{
	to->n_sent += from->n_sent;
	to->sent_bytes += from->sent_bytes;
	to->n_received += from->n_received;
	to->received_bytes += from->received_bytes;
	to->n_segmented += from->n_segmented;
	for (unsigned int i = 0; i < FRAME_N_FAULTS; i++)
		to->n_faults[i] += from->n_faults[i];
	to->n_misdirected += from->n_misdirected;
	to->n_foreign += from->n_foreign;
	to->n_stalls += from->n_stalls;
	to->n_unsent_late += from->n_unsent_late;
	to->n_bursts += from->n_bursts;
	to->n_kicked_bursts += from->n_kicked_bursts;
	to->n_lost_wakeups += from->n_lost_wakeups;
	to->n_outage_lost += from->n_outage_lost;
	to->n_outage_duplicated += from->n_outage_duplicated;
}

void verdict_of_all(const struct run *run, struct verdict *verdict, struct verdict_sums *sums)
{
	*verdict = (struct verdict){.latency = &sums->latency, .kick_latency = &sums->kick_latency};
	*sums = (struct verdict_sums){0};
	for (unsigned int i = 0; i < run->n_directions; i++) {
		struct verdict one;

		verdict_of_direction(run, i, &one);
		verdict->mpps += one.mpps;
		verdict->gbps += one.gbps;
		add_counters(&verdict->counters, &one.counters);
		verdict->totals.n_lost += one.totals.n_lost;
		verdict->totals.n_duplicated += one.totals.n_duplicated;
		verdict->totals.n_reordered += one.totals.n_reordered;
		verdict->totals.n_late += one.totals.n_late;
		verdict->totals.n_corrupted += one.totals.n_corrupted;
		histogram_merge(&sums->latency, one.latency);
		histogram_merge(&sums->kick_latency, one.kick_latency);
	}
}

unsigned int verdict_check(
	const struct run *run, const struct verdict *verdict, const char **failed)
{
	unsigned int n = 0;

	if (verdict->counters.n_received == 0 && !run->options->idle)
		failed[n++] = "received";
	if (verdict->totals.n_lost != 0 && run->options->rate_pps == 0)
		failed[n++] = "lost";
	if (verdict->counters.n_lost_wakeups != 0)
		failed[n++] = "lost_wakeups";
	if (verdict->totals.n_duplicated != 0)
		failed[n++] = "duplicated";
	if (verdict->totals.n_reordered != 0 && run->options->n_queues == 1)
		failed[n++] = "reordered";
	if (verdict->totals.n_corrupted != 0)
		failed[n++] = "corrupted";
	if (verdict->counters.n_misdirected != 0)
		failed[n++] = "misdirected";
	return n;
}
