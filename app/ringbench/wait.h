/* SPDX-License-Identifier: BSD-3-Clause */
/* Waiting for calls instead of polling (--sleep). */
#ifndef RINGBENCH_WAIT_H
#define RINGBENCH_WAIT_H

#include "run.h"

/*
 * Asks every ring that matters for calls and sleeps until one comes, a paced frame is due, or
 * `max_us` have passed. Returns at once if something has arrived meanwhile.
 */
void wait_for_calls(struct run *run, uint64_t max_us);

#endif
