/* SPDX-License-Identifier: BSD-3-Clause */
/* Starting DPDK's environment as the configuration and the machine allow. */
#ifndef RINGWAY_EAL_H
#define RINGWAY_EAL_H

#include <config/config.h>
#include <worker/worker.h>

struct rte_mempool;

/*
 * Chooses CPUs and memory and calls rte_eal_init(). Worker i gets lcore lcore_ids[i], pinned to one CPU; the caller's
 * thread becomes the main lcore, on the CPUs that are left (or shared, if none is).
 * Returns 0, or a negative errno and one line in `error`. To be called once per process.
 */
int eal_start(const struct config *config, struct workers_config *workers, char *error,
	size_t error_size);

/* The packet pool of a NUMA node (-1: any), made when first asked for; NULL if there is no memory. Control thread. */
struct rte_mempool *eal_pool_of_node(int numa_node);

void eal_stop(void);

#endif
