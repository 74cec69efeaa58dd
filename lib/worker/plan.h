/* SPDX-License-Identifier: BSD-3-Clause */
/* A worker's plan. Private to this library. */
#ifndef WORKER_PLAN_H
#define WORKER_PLAN_H

#include <bridge/forward.h>
#include <worker/topology.h>

enum plan_route {
	PLAN_ROUTE_BRIDGE,
	PLAN_ROUTE_CROSS,
	PLAN_ROUTE_NONE, /* the port is connected to nothing: frames are dropped and counted */
};

struct plan_rx {
	struct rx_queue *queue;
	const struct forward_port *ingress;
	enum plan_route route;
	bool lossless;                   /* cross */
	uint16_t n_segments_done;        /* cross, lossless: see cross_forward() */
	bool is_dirty;                   /* something was released since plan_signal() */
	uint8_t n_idle_polls;            /* in a row */
	const struct bridge_view *bridge; /* bridge */
	const struct forward_port *peer; /* cross */
};

struct plan {
	struct forwarder *forwarder;
	struct bridge_view *bridges; /* [topology.n_bridges] */
	/* order[] names each of rx[] once: first n_hot queues that are looked at every round, then the others. */
	unsigned int n_hot;
	unsigned int next_cold; /* place in order[] that was looked at last */
	uint16_t *order;
	/* What is to be signalled: places in rx[], and frames moved since the last time. */
	unsigned int n_unsignalled;
	unsigned int n_dirty;
	uint16_t *dirty;
	unsigned int n_rx;
	struct plan_rx rx[];
};

/*
 * Frames that are moved before anybody is told, as long as there are more: with frames few at a time the fence that it
 * takes would be a good part of what they cost.
 */
#define PLAN_SIGNAL_AFTER 32

/* The queue has something to signal, and `n` frames were moved. */
static inline void plan_mark(struct plan *plan, struct plan_rx *rx, unsigned int n)
{
	plan->n_unsignalled += n;
	if (rx->is_dirty)
		return;
	rx->is_dirty = true;
	plan->dirty[plan->n_dirty++] = (uint16_t)(rx - plan->rx);
}

/* Signals whatever is due on rings that frames came from or went to. */
void plan_signal(struct plan *plan);

static inline void plan_swap(struct plan *plan, unsigned int a, unsigned int b)
{
	uint16_t at_a = plan->order[a];

	plan->order[a] = plan->order[b];
	plan->order[b] = at_a;
}

/* What a plan is made for. */
struct plan_worker {
	unsigned int id;
	unsigned int n_workers;
	int numa_node;
	struct offload *offload;
	struct fdb_cache *caches[TOPOLOGY_MAX_BRIDGES]; /* of the topology's bridges */
};

/* Every queue the ports list at one moment. All zero: none. */
struct plan_inventory {
	unsigned int n_rx, n_tx;
	struct rx_queue *rx[PORT_MAX * PORT_MAX_QUEUES];
	struct tx_queue *tx[PORT_MAX][PORT_MAX_QUEUES]; /* by port id */
	unsigned int n_tx_of[PORT_MAX];
};

void plan_inventory_take(struct plan_inventory *inventory, const struct topology *topology);

/* Gives queues that nobody polls to the worker with the fewest, on the queue's NUMA node if there is one. */
void plan_assign(
	const struct plan_inventory *inventory, const int *numa_nodes, unsigned int n_workers);

/* The plan of one worker, or NULL if out of memory. */
struct plan *plan_create(const struct topology *topology, const struct plan_inventory *inventory,
	const struct plan_worker *worker);
void plan_free(struct plan *plan);

#endif
