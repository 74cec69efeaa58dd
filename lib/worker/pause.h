/* SPDX-License-Identifier: BSD-3-Clause */
/* Moments of rest for a worker that looks in vain. */
#ifndef WORKER_PAUSE_H
#define WORKER_PAUSE_H

#include <rte_pause.h>

static inline void pause_short(void)
{
	rte_pause();
}

/* Before the first pause: finds out what the CPU has. */
void pause_init(void);

/* About a microsecond; where the CPU has TPAUSE, in its light sleep, so that a sibling thread has the core. */
void pause_long(void);

#endif
