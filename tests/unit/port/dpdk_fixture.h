/* SPDX-License-Identifier: BSD-3-Clause */
/* EAL without hugepages, devices or files, and packet pools that must be full again at the end. */
#ifndef TEST_DPDK_FIXTURE_H
#define TEST_DPDK_FIXTURE_H

#include <stdio.h>
#include <stdlib.h>

#include <rte_eal.h>
#include <rte_mbuf.h>

static inline void dpdk_start(void)
{
	/* EAL may write to its arguments. */
	static char text[][20] = {"test", "--no-huge", "--no-pci", "-m", "128", "--no-shconf",
		"--no-telemetry", "--log-level=error"};
	char *args[RTE_DIM(text)];

	for (size_t i = 0; i < RTE_DIM(text); i++)
		args[i] = text[i];
	if (rte_eal_init(RTE_DIM(args), args) < 0) {
		fprintf(stderr, "EAL does not start; see its message above\n");
		exit(EXIT_FAILURE);
	}
}

/* A pool of exactly n mbufs with `room` bytes each behind the headroom. */
static inline struct rte_mempool *dpdk_pool(const char *name, unsigned int n, unsigned int room)
{
	struct rte_mempool *pool =
		rte_pktmbuf_pool_create(name, n, 0, 0, RTE_PKTMBUF_HEADROOM + room, SOCKET_ID_ANY);

	if (pool == NULL) {
		fprintf(stderr, "no memory for pool %s\n", name);
		exit(EXIT_FAILURE);
	}
	return pool;
}

#endif
