/* SPDX-License-Identifier: BSD-3-Clause */
/* The part of the report about notifications: kicks, calls, how long a kicked back end takes, what was lost. */
#ifndef RINGBENCH_NOTIFY_REPORT_H
#define RINGBENCH_NOTIFY_REPORT_H

#include <jansson.h>

#include "verdict.h"

/* New references. */
json_t *notify_ports_json(const struct run *run);
json_t *notify_kick_latency_json(const struct histogram *latency);
json_t *notify_losses_json(const struct run *run);

/* On standard output: a line per socket, then on/off traffic and kicks, where there were any. */
void notify_print(const struct run *run, const struct verdict *all);

#endif
