/* SPDX-License-Identifier: BSD-3-Clause */
#include "report.h"

#include <stdio.h>
#include <string.h>

#include <jansson.h>

#include "notify_report.h"
#include "tsc.h"
#include "verdict.h"
#include "virtio_features.h"

static const char *const verify_names[] = {
	[VERIFY_SAMPLED] = "sampled",
	[VERIFY_HEADER] = "header",
	[VERIFY_ALL] = "all",
};

static const struct {
	const char *name; /* in the table */
	const char *json;
	double fraction;
} quantiles[] = {
	{"p50", "p50", 0.5},
	{"p90", "p90", 0.9},
	{"p99", "p99", 0.99},
	{"p99.9", "p99_9", 0.999},
};

#define N_QUANTILES (sizeof(quantiles) / sizeof(quantiles[0]))

static uint64_t ns(uint64_t tsc_cycles)
{
	return (uint64_t)((double)tsc_cycles * 1e9 / (double)tsc_hz());
}

/* A frame is sent once and received once, so each is half of it. */
static double cycles_per_frame(const struct run *run)
{
	return run->busy_frames == 0 ? 0 : 2 * (double)run->busy_cycles / (double)run->busy_frames;
}

static double busy_percent(const struct run *run)
{
	double total = verdict_duration_s(run) * (double)tsc_hz();

	return total <= 0 ? 0 : 100 * (double)run->busy_cycles / total;
}

static double frames_per_turn(const struct run *run)
{
	return run->n_busy_turns == 0 ? 0
				      : (double)run->busy_frames / 2 / (double)run->n_busy_turns;
}

/* System calls the back end asked for, since the session began. */
static uint64_t n_kicks(const struct run *run)
{
	uint64_t total = 0;

	for (unsigned int i = 0; i < run->n_lanes; i++)
		total += run->lanes[i].receiver.ring->n_kicks + run->lanes[i].sender.ring->n_kicks;
	return total;
}

static void print_json(json_t *object)
{
	/* Whoever reads a pipe wants whole lines at once. */
	json_dumpf(object, stdout, JSON_COMPACT | JSON_REAL_PRECISION(6));
	putchar('\n');
	fflush(stdout);
	json_decref(object);
}

/* ---- JSON ---- */

static json_t *faults_json(const struct direction_counters *counters)
{
	json_t *faults = json_object();

	for (unsigned int i = FRAME_OK + 1; i < FRAME_N_FAULTS; i++)
		if (counters->n_faults[i] != 0)
			json_object_set_new(faults, frame_fault_name((enum frame_fault)i),
				json_integer((json_int_t)counters->n_faults[i]));
	return faults;
}

static json_t *latency_json(const struct histogram *latency)
{
	json_t *object = json_object();

	for (unsigned int i = 0; i < N_QUANTILES; i++)
		json_object_set_new(object, quantiles[i].json,
			json_integer((json_int_t)ns(
				histogram_quantile(latency, quantiles[i].fraction))));
	json_object_set_new(object, "max", json_integer((json_int_t)ns(latency->max)));
	return object;
}

static json_t *verdict_json(const struct verdict *verdict)
{
	const struct direction_counters *counters = &verdict->counters;
	const struct {
		const char *name;
		uint64_t value;
	} numbers[] = {
		{"sent", counters->n_sent},
		{"received", counters->n_received},
		{"sent_bytes", counters->sent_bytes},
		{"received_bytes", counters->received_bytes},
		{"lost", verdict->totals.n_lost},
		{"duplicated", verdict->totals.n_duplicated},
		{"reordered", verdict->totals.n_reordered},
		{"late", verdict->totals.n_late},
		{"corrupted", verdict->totals.n_corrupted},
		{"misdirected", counters->n_misdirected},
		{"foreign", counters->n_foreign},
		{"segmented", counters->n_segmented},
		{"stalls", counters->n_stalls},
		{"not_sent_in_time", counters->n_unsent_late},
		{"bursts", counters->n_bursts},
		{"kicked_bursts", counters->n_kicked_bursts},
		{"lost_wakeups", counters->n_lost_wakeups},
		{"outage_lost", counters->n_outage_lost},
		{"outage_duplicated", counters->n_outage_duplicated},
	};
	json_t *object = json_object();

	json_object_set_new(object, "mpps", json_real(verdict->mpps));
	json_object_set_new(object, "gbps", json_real(verdict->gbps));
	for (unsigned int i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		json_object_set_new(
			object, numbers[i].name, json_integer((json_int_t)numbers[i].value));
	json_object_set_new(object, "faults", faults_json(counters));
	json_object_set_new(object, "latency_ns", latency_json(verdict->latency));
	json_object_set_new(object, "kick_ns", notify_kick_latency_json(verdict->kick_latency));
	return object;
}

static json_t *directions_json(const struct run *run)
{
	json_t *list = json_array();

	for (unsigned int i = 0; i < run->n_directions; i++) {
		const struct direction *direction = &run->directions[i];
		struct verdict verdict;
		json_t *object;

		if (!direction->active)
			continue;
		verdict_of_direction(run, i, &verdict);
		object = verdict_json(&verdict);
		json_object_set_new(object, "from", json_integer(direction->from->number));
		json_object_set_new(object, "to", json_integer(direction->to->number));
		json_array_append_new(list, object);
	}
	return list;
}

static json_t *sockets_json(const struct run *run)
{
	json_t *list = json_array();

	for (unsigned int i = 0; i < run->n_sessions; i++) {
		const struct session *session = &run->sessions[i];
		char features[256];

		features_print(session->features, features, sizeof(features));
		json_array_append_new(
			list, json_pack("{s:i, s:s, s:s, s:s, s:b, s:i}", "number",
				      (int)session->number, "path", session->socket->path, "role",
				      session->socket->listen ? "listen" : "connect", "features",
				      features, "hugepages", (int)session->hugepages, "vlan",
				      (int)session->socket->vlan));
	}
	return list;
}

static json_t *conditions_json(const struct run *run)
{
	const struct options *options = run->options;
	json_t *object = json_pack("{s:o, s:s, s:b, s:i, s:i, s:i, s:i, s:i, s:i, s:s, s:b, s:I}", "sockets",
		sockets_json(run), "topology", options->topology == TOPOLOGY_LOOP ? "loop" : "pair",
		"one_way", (int)options->one_way, "queues", (int)options->n_queues, "ring",
		(int)options->ring_size, "flows", (int)options->n_flows, "macs", (int)options->n_macs, "regions",
		(int)options->n_regions, "batch",
		(int)options->batch, "verify", verify_names[options->verify], "sleep",
		(int)options->sleep, "tsc_hz", (json_int_t)tsc_hz());

	json_object_set_new(object, "size",
		options->imix ? json_string("imix") : json_integer((json_int_t)options->size));
	if (options_are_bursts(options))
		json_object_set_new(object, "bursts",
			json_pack("{s:I, s:I, s:I}", "per_queue", (json_int_t)options->n_bursts, "pause_us",
				(json_int_t)options->pause_us, "seed", (json_int_t)options->seed));
	if (options->log) {
		uint64_t n_pages = 0;

		for (unsigned int i = 0; i < run->n_sessions; i++)
			n_pages += run->sessions[i].log.n_pages;
		json_object_set_new(object, "pages_logged", json_integer((json_int_t)n_pages));
	}
	if (options->rate_pps != 0)
		json_object_set_new(
			object, "rate_pps", json_integer((json_int_t)options->rate_pps));
	else if (options->idle)
		json_object_set_new(object, "idle", json_true());
	else
		json_object_set_new(object, "window",
			json_integer((json_int_t)(run->directions[0].window * options->n_queues)));
	return object;
}

static json_t *own_json(const struct run *run)
{
	return json_pack("{s:f, s:f, s:f, s:I, s:I, s:I}", "cycles_per_frame",
		cycles_per_frame(run), "busy_percent", busy_percent(run), "frames_per_turn",
		frames_per_turn(run), "disturbed_turns", (json_int_t)run->n_disturbed_turns,
		"preempted", (json_int_t)run->n_preempted, "kicks", (json_int_t)n_kicks(run));
}

static void result_json(const struct run *run, const struct verdict *all, const char *const *failed,
	unsigned int n_failed)
{
	json_t *names = json_array();

	for (unsigned int i = 0; i < n_failed; i++)
		json_array_append_new(names, json_string(failed[i]));
	print_json(json_pack("{s:s, s:b, s:o, s:s?, s:o, s:f, s:o, s:o, s:o, s:o, s:o, s:i, s:f}", "type",
		"result", "ok", n_failed == 0, "failed", names, "error",
		run->error[0] != '\0' ? run->error : NULL, "conditions", conditions_json(run),
		"duration_s", verdict_duration_s(run), "directions", directions_json(run), "total",
		verdict_json(all), "ports", notify_ports_json(run), "losses", notify_losses_json(run), "own",
		own_json(run), "outages", (int)run->n_outages, "outage_s",
		(double)run->outage_us / 1e6));
}

/* ---- Text ---- */

static void print_conditions(const struct run *run)
{
	const struct options *options = run->options;

	for (unsigned int i = 0; i < run->n_sessions; i++) {
		const struct session *session = &run->sessions[i];
		char features[256];

		features_print(session->features, features, sizeof(features));
		printf("socket %u  %s (%s)  %s%s\n", session->number, session->socket->path,
			session->socket->listen ? "listening" : "connected", features,
			session->hugepages ? "" : "  no hugepages");
	}
	if (options->imix)
		printf("frames    imix");
	else
		printf("frames    %u bytes", options->size);
	printf(", %u queue pair%s, ring %u, %u flow%s, ", options->n_queues,
		options->n_queues == 1 ? "" : "s", options->ring_size, options->n_flows,
		options->n_flows == 1 ? "" : "s");
	if (options->n_macs > 1)
		printf("%u MAC addresses each, ", options->n_macs);
	if (options->n_regions > 1)
		printf("%u memory regions each, ", options->n_regions);
	printf("batch %u, verify %s, ", options->batch, verify_names[options->verify]);
	if (options->rate_pps != 0)
		printf("open loop at %llu frames/s per direction\n",
			(unsigned long long)options->rate_pps);
	else if (options->idle)
		printf("idle\n");
	else if (options_are_bursts(options))
		printf("on/off traffic with pauses of up to %llu us, seed %llu\n",
			(unsigned long long)options->pause_us, (unsigned long long)options->seed);
	else
		printf("closed loop, %llu in flight per direction\n",
			(unsigned long long)(run->directions[0].window * options->n_queues));
}

static void print_row(const char *name, const struct verdict *verdict)
{
	printf("%-8s %12llu %12llu %8.3f %8.2f %8llu %6llu %6llu %6llu", name,
		(unsigned long long)verdict->counters.n_sent,
		(unsigned long long)verdict->counters.n_received, verdict->mpps, verdict->gbps,
		(unsigned long long)verdict->totals.n_lost,
		(unsigned long long)verdict->totals.n_duplicated,
		(unsigned long long)verdict->totals.n_reordered,
		(unsigned long long)verdict->totals.n_corrupted);
	for (unsigned int i = 0; i < N_QUANTILES; i++)
		printf(" %8.1f",
			(double)ns(histogram_quantile(verdict->latency, quantiles[i].fraction)) /
				1e3);
	printf(" %8.1f\n", (double)ns(verdict->latency->max) / 1e3);
}

static void print_table(const struct run *run, const struct verdict *all)
{
	printf("\n%-8s %12s %12s %8s %8s %8s %6s %6s %6s", "", "sent", "received", "Mpps", "Gb/s",
		"lost", "dup", "reord", "corr");
	for (unsigned int i = 0; i < N_QUANTILES; i++)
		printf(" %5s us", quantiles[i].name);
	printf(" %5s us\n", "max");
	for (unsigned int i = 0; i < run->n_directions; i++) {
		struct verdict verdict;
		char name[16];

		if (!run->directions[i].active)
			continue;
		snprintf(name, sizeof(name), "%u -> %u", run->directions[i].from->number,
			run->directions[i].to->number);
		verdict_of_direction(run, i, &verdict);
		print_row(name, &verdict);
	}
	print_row("total", all);
}

/* What is seldom there is said in words, when it is. */
static void print_remarks(const struct run *run, const struct verdict *all)
{
	const struct direction_counters *counters = &all->counters;
	const struct {
		uint64_t value;
		const char *text;
	} remarks[] = {
		{counters->n_misdirected, "frames came out at the wrong socket"},
		{counters->n_foreign, "frames received that are not ours"},
		{counters->n_segmented, "frames were segmented on the way and put together again"},
		{counters->n_stalls,
			"stalls: nothing arrived, and sending went on without what was in flight"},
		{all->totals.n_late,
			"frames arrived after they had been counted as lost, or again"},
		{counters->n_unsent_late, "frames could not be sent in time"},
		{counters->n_outage_lost, "frames lost in outages (not counted above)"},
		{counters->n_outage_duplicated, "frames doubled by outages (not counted above)"},
	};

	for (unsigned int i = 0; i < sizeof(remarks) / sizeof(remarks[0]); i++)
		if (remarks[i].value != 0)
			printf("%12llu %s\n", (unsigned long long)remarks[i].value,
				remarks[i].text);
	for (unsigned int i = FRAME_OK + 1; i < FRAME_N_FAULTS; i++)
		if (counters->n_faults[i] != 0)
			printf("%12llu frames with a wrong %s\n",
				(unsigned long long)counters->n_faults[i],
				frame_fault_name((enum frame_fault)i));
	if (run->n_outages != 0)
		printf("%12u outages, %.3f s in all\n", run->n_outages,
			(double)run->outage_us / 1e6);
}

static void result_text(const struct run *run, const struct verdict *all, const char *const *failed,
	unsigned int n_failed)
{
	print_conditions(run);
	print_table(run, all);
	print_remarks(run, all);
	notify_print(run, all);
	printf("own cost  %.1f TSC cycles per frame sent and received, %.1f frames per turn, busy "
	       "%.0f %% of %.3f s, "
	       "preempted %ld times, %llu kicks\n",
		cycles_per_frame(run), frames_per_turn(run), busy_percent(run),
		verdict_duration_s(run), run->n_preempted, (unsigned long long)n_kicks(run));
	if (n_failed == 0) {
		printf("all checks hold\n");
		return;
	}
	printf("FAILED:");
	for (unsigned int i = 0; i < n_failed; i++)
		printf("%s %s", i == 0 ? "" : ",", failed[i]);
	printf("\n");
}

void report_interval(struct run *run)
{
	struct verdict_sums sums;
	struct verdict all;

	verdict_of_all(run, &all, &sums);
	if (run->options->json) {
		print_json(json_pack("{s:s, s:f, s:o, s:o, s:o, s:i}", "type", "interval", "time_s",
			verdict_duration_s(run), "directions", directions_json(run), "total",
			verdict_json(&all), "own", own_json(run), "outages", (int)run->n_outages));
		return;
	}
	printf("%8.1f s %14llu frames %8.3f Mpps %8.2f Gb/s  lost %llu  dup %llu  reord %llu  corr "
	       "%llu  p50 %.1f us\n",
		verdict_duration_s(run), (unsigned long long)all.counters.n_received, all.mpps,
		all.gbps, (unsigned long long)all.totals.n_lost,
		(unsigned long long)all.totals.n_duplicated,
		(unsigned long long)all.totals.n_reordered,
		(unsigned long long)all.totals.n_corrupted,
		(double)ns(histogram_quantile(&sums.latency, 0.5)) / 1e3);
	fflush(stdout);
}

bool report_result(struct run *run, enum run_status status)
{
	const char *failed[VERDICT_MAX_CHECKS + 1];
	struct verdict_sums sums;
	struct verdict all;
	unsigned int n_failed;

	verdict_of_all(run, &all, &sums);
	n_failed = verdict_check(run, &all, failed);
	if (status != RUN_OK)
		failed[n_failed++] = "finished";
	if (run->options->json)
		result_json(run, &all, failed, n_failed);
	else
		result_text(run, &all, failed, n_failed);
	return n_failed == 0;
}

void report_failure(bool json, const char *error)
{
	fprintf(stderr, "ringbench: %s\n", error);
	if (json)
		print_json(json_pack("{s:s, s:b, s:s}", "type", "result", "ok", 0, "error", error));
}
