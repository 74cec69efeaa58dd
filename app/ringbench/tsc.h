/* SPDX-License-Identifier: BSD-3-Clause */
/* The time stamp counter: what frames are stamped with and costs are counted in. */
#ifndef RINGBENCH_TSC_H
#define RINGBENCH_TSC_H

#include <stdint.h>

#if defined(__x86_64__)
#include <x86intrin.h>

static inline uint64_t tsc_now(void)
{
	return __rdtsc();
}
#elif defined(__aarch64__)
static inline uint64_t tsc_now(void)
{
	uint64_t now;

	__asm__ volatile("mrs %0, cntvct_el0" : "=r"(now));
	return now;
}
#endif

/*
 * Cycles per second: from CPUID where the processor tells (leaf 0x15), else measured against
 * CLOCK_MONOTONIC for 20 ms. The first call may take that long; later ones return the same value.
 * One thread.
 */
uint64_t tsc_hz(void);

#endif
