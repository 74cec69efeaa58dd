/* SPDX-License-Identifier: BSD-3-Clause */
/* What happened per second between two looks at the daemon's counters. */
#ifndef RATES_H
#define RATES_H

#include <stdint.h>

#include <jansson.h>

/* One look; references are the holder's. */
struct rates_sample {
	json_t *workers;  /* the result of worker.show */
	json_t *stats;    /* the result of stats */
	uint64_t time_us; /* of base/clock.h, when the answers had come */
};

/*
 * A new object, NULL without memory:
 *
 *   {"interval_s", "reset",
 *    "workers": [{"id", "cpu", "mode", "state", "busy_percent", "idle_percent", "sleep_percent",
 *                 "packets_per_s", "rounds_per_s", "cycles_per_packet",
 *                 "wakeups_per_s": {cause: rate}}],
 *    "ports": [{"name", "rx_packets_per_s", "tx_packets_per_s", "drops_per_s": {reason: rate}}]}
 *
 * Those with most packets come first. What cannot be known is null: it is new, the daemon does not
 * tell it, or its counters are lower than they were. `reset` says that there are such counters: a
 * port was replaced or, if they are a worker's, the daemon was started again; then no counter is
 * the same as before, even if it is higher.
 */
json_t *rates_between(const struct rates_sample *before, const struct rates_sample *after);

#endif
