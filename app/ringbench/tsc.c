/* SPDX-License-Identifier: BSD-3-Clause */
#include "tsc.h"

#include <time.h>

#if defined(__x86_64__)
#include <cpuid.h>

static uint64_t hz_from_cpu(void)
{
	unsigned int denominator, numerator, crystal_hz, unused;

	/* Leaf 0x15: TSC = crystal * numerator / denominator; a zero means that the processor does
	 * not say. */
	if (!__get_cpuid(0x15, &denominator, &numerator, &crystal_hz, &unused))
		return 0;
	if (denominator == 0 || numerator == 0 || crystal_hz == 0)
		return 0;
	return (uint64_t)crystal_hz * numerator / denominator;
}
#elif defined(__aarch64__)
static uint64_t hz_from_cpu(void)
{
	uint64_t hz;

	__asm__ volatile("mrs %0, cntfrq_el0" : "=r"(hz));
	return hz;
}
#endif

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* A clock reading and the counter at the same moment: of five tries the one the scheduler disturbed
 * least. */
static void read_pair(uint64_t *ns, uint64_t *tsc)
{
	uint64_t best = UINT64_MAX;

	*ns = *tsc = 0;
	for (int i = 0; i < 5; i++) {
		uint64_t before = tsc_now();
		uint64_t clock = now_ns();
		uint64_t width = tsc_now() - before;

		if (width < best) {
			best = width;
			*ns = clock;
			*tsc = before + width / 2;
		}
	}
}

static uint64_t measure_hz(void)
{
	uint64_t start_ns, start_tsc, end_ns, end_tsc;
	struct timespec pause = {.tv_nsec = 20 * 1000 * 1000};

	read_pair(&start_ns, &start_tsc);
	nanosleep(&pause, NULL);
	read_pair(&end_ns, &end_tsc);
	return (uint64_t)((double)(end_tsc - start_tsc) * 1e9 / (double)(end_ns - start_ns));
}

uint64_t tsc_hz(void)
{
	static uint64_t hz;

	if (hz == 0)
		hz = hz_from_cpu();
	if (hz == 0)
		hz = measure_hz();
	return hz;
}
