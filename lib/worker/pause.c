/* SPDX-License-Identifier: BSD-3-Clause */
#define ALLOW_EXPERIMENTAL_API
#include <stdbool.h>

#include <rte_cpuflags.h>
#include <rte_cycles.h>
#include <rte_power_intrinsics.h>

#include "pause.h"

/* A PAUSE takes 40 to 140 cycles on the CPUs of the last years, so all of them about a microsecond. */
#define PAUSES 16

static bool has_power_pause;

void pause_init(void)
{
	struct rte_cpu_intrinsics intrinsics;

	rte_cpu_get_intrinsics_support(&intrinsics);
	has_power_pause = intrinsics.power_pause;
}

void pause_long(void)
{
	if (has_power_pause && rte_power_pause(rte_rdtsc() + rte_get_tsc_hz() / 1000000) == 0)
		return;
	for (unsigned int i = 0; i < PAUSES; i++)
		rte_pause();
}
