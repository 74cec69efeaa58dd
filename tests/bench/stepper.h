/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Single-steps one thread of another process and counts the instructions it executes.
 *
 * Counting by stepping needs no performance counters (virtual machines often have none) and is
 * exact: the same work gives the same number whatever else the machine is doing. The stepped
 * thread runs about a thousand times slower, so the count tells nothing about time.
 *
 * Thread rule: ptrace binds a stepper to the thread that attached it; call everything from there.
 */
#ifndef TESTS_BENCH_STEPPER_H
#define TESTS_BENCH_STEPPER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct stepper {
	pid_t tid;
	/* address of the instruction the thread will execute next */
	uint64_t ip;
	/* instructions executed since stepper_attach */
	uint64_t n_instructions;
	/* resumed and not yet seen to stop */
	bool running;
	/* a fault of the thread's own, to hand to it with the next step; 0 for none */
	int fault_signal;
	/* the step under way carries a signal */
	bool delivering;
	/* signals kept back until stepper_detach, bit N - 1 for signal N */
	uint64_t held_signals;
	/* string instructions trap once per iteration; the last one decoded, and what it was */
	uint64_t repeat_ip;
	bool repeat_known;
	bool repeat_is_string;
};

/*
 * Stops thread `tid` between two instructions. The thread stays stopped until stepper_step or
 * stepper_detach. Returns 0, or -ESRCH (no such thread), -EPERM (not allowed to trace it).
 */
int stepper_attach(struct stepper *st, pid_t tid);

/*
 * Executes one instruction of the thread. A string instruction with a repeat prefix counts once,
 * however often it repeats and traps. Faults are delivered, in a step that is not counted; other
 * signals wait until stepper_detach, so that no handler is counted. Returns 0, -ESRCH when the
 * thread ended, or -EINTR when the caller received a signal while the thread was blocked in the
 * kernel (call again, nothing is lost).
 */
int stepper_step(struct stepper *st);

/*
 * Where the function will return to whose first instruction the thread is about to execute. Returns
 * 0 and *address, or -errno when the stack cannot be read.
 */
int stepper_return_address(const struct stepper *st, uint64_t *address);

/*
 * Lets the thread run on at full speed, with the signals it missed. Safe after any error of
 * stepper_step.
 */
void stepper_detach(struct stepper *st);

#endif
