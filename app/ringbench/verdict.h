/* SPDX-License-Identifier: BSD-3-Clause */
/* Numbers that are reported and judged: one direction's or the sum over all. */
#ifndef RINGBENCH_VERDICT_H
#define RINGBENCH_VERDICT_H

#include "run.h"

struct verdict {
	double mpps; /* received, while sending went on */
	double gbps; /* bits of received frames, without FCS, preamble and gap */
	struct direction_counters counters;
	struct direction_totals totals;
	const struct histogram *latency;
	const struct histogram *kick_latency;
};

/* Where verdict_of_all() adds up those of the directions. */
struct verdict_sums {
	struct histogram latency;
	struct histogram kick_latency;
};

/* Seconds during which frames were sent. */
double verdict_duration_s(const struct run *run);

/* Of direction `index`; *verdict->latency lives in the run. */
void verdict_of_direction(const struct run *run, unsigned int index, struct verdict *verdict);

/* Over all directions; `sums` is filled and pointed to. */
void verdict_of_all(const struct run *run, struct verdict *verdict, struct verdict_sums *sums);

/*
 * Checks that do not hold for `verdict`, as names, into `failed` (room for VERDICT_MAX_CHECKS).
 * Returns how many. Loss counts in the closed loop only, where nothing has to be dropped;
 * reordering only with one queue pair.
 */
#define VERDICT_MAX_CHECKS 7
unsigned int verdict_check(
	const struct run *run, const struct verdict *verdict, const char **failed);

#endif
