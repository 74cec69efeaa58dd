/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Waiting for calls instead of polling (--sleep), as a guest's driver does: a receive ring in which a turn found
 * nothing is asked for a call, looked at once more, and then left alone until the call comes. A call that does not
 * come is missed.
 */
#ifndef RINGBENCH_WAIT_H
#define RINGBENCH_WAIT_H

#include "run.h"

/* More exact pauses than the kernel gives unasked. To be called once. */
void wait_prepare(void);

/*
 * Between turns. Takes the calls that have come; `idle`, when the last turn did nothing, sleeps until one comes, a
 * frame is due, or `max_us` have passed. What is due very soon, and a back end that has just been kicked, are waited
 * for awake.
 */
void wait_for_calls(struct run *run, bool idle, uint64_t max_us);

/* The ring is to be looked at in the next turn, called for or not. */
void wait_wake(struct lane *lane);

#endif
