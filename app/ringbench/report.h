/* SPDX-License-Identifier: BSD-3-Clause */
/* What a run found out, as text or as JSON (schema: doc/ringbench.md), on standard output. */
#ifndef RINGBENCH_REPORT_H
#define RINGBENCH_REPORT_H

#include "run.h"

/* One live line. */
void report_interval(struct run *run);

/* The end: conditions, table, verdict. Returns whether every check holds. `status` and run->error
 * say how the run ended. */
bool report_result(struct run *run, enum run_status status);

/* There was no run: with JSON an object that says why; the line for humans goes to standard error.
 */
void report_failure(bool json, const char *error);

#endif
