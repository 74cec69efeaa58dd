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
	PLAN_ROUTE_SELF, /* rx_queue.moves_by_itself */
};

struct plan_rx {
	struct rx_queue *queue;
	const struct forward_port *ingress;
	enum plan_route route;
	bool lossless;                   /* cross */
	bool is_held;                    /* cross, lossless: frames wait in the queue for room in the other */
	uint16_t n_segments_done;        /* cross, lossless: see cross_forward() */
	unsigned int room_seen;          /* is_held: how much there was, at least, when it was too little */
	bool is_dirty;                   /* something was released that plan_signal() has not signalled */
	bool is_unarmed;                 /* is in unarmed[] */
	bool may_have_told;              /* of what was found before anybody looked at its channel */
	uint16_t at;                     /* place in order[] */
	bool keeps_awake;                /* its frames keep the worker awake for the idle window */
	uint8_t n_idle_polls;            /* in a row */
	const struct bridge_view *bridge; /* bridge */
	const struct forward_port *peer; /* cross */
	struct lane *lane;               /* cross, lossless: where its frames go; NULL: nowhere now */
	struct event_moderation moderation;
};

/* A queue for whose sake the worker must not sleep. */
struct plan_keeper {
	const struct rx_queue *queue;
	const char *why; /* static */
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
	/* Queues that would not wake the worker: places in rx[]. All at first. */
	unsigned int n_unarmed;
	uint16_t *unarmed;
	unsigned int n_channels;
	uint16_t *place_of_channel; /* [n_channels], place in rx[], PLAN_NO_PLACE or PLAN_PLACE_ROOM */
	/* Whether and when the worker may sleep. */
	uint64_t window_max_cycles; /* of looking in vain; UINT64_MAX: never */
	unsigned int n_keepers;
	struct plan_keeper *keepers;
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
	event_moderation_add(&rx->moderation, n);
	if (rx->is_dirty)
		return;
	rx->is_dirty = true;
	plan->dirty[plan->n_dirty++] = (uint16_t)(rx - plan->rx);
}

/* Whether the queue where the frames of `rx` wait for room can wake this worker. */
static inline bool plan_tells_of_room(const struct plan_rx *rx)
{
	return rx->lane != NULL && !rx->lane->is_shared && rx->lane->queue->wake.channel >= 0;
}

static inline bool plan_has_signals(const struct plan *plan)
{
	return plan->n_dirty > 0 || plan->forwarder->n_dirty > 0;
}

/*
 * Signals what is due on rings that frames came from or went to; with `everything` also what moderation would hold back.
 * `now` in TSC cycles.
 */
void plan_signal(struct plan *plan, uint64_t now, bool everything);

#define PLAN_NO_PLACE   UINT16_MAX
#define PLAN_PLACE_ROOM (UINT16_MAX - 1) /* the channel tells that there is room for frames that are held */

/* The place in rx[] of the queue that an event channel is for, or one of the two above. */
static inline unsigned int plan_place_of_channel(const struct plan *plan, unsigned int channel)
{
	return channel < plan->n_channels ? plan->place_of_channel[channel] : PLAN_NO_PLACE;
}

/* Has the far side be spared from telling that there is something: the queue is looked at anyway. */
static inline void plan_disarm(struct plan *plan, struct plan_rx *rx)
{
	if (rx->queue->is_armed)
		rx->queue->arm(rx->queue, false);
	rx->queue->is_armed = false;
	if (rx->is_unarmed)
		return;
	rx->is_unarmed = true;
	plan->unarmed[plan->n_unarmed++] = (uint16_t)(rx - plan->rx);
}

static inline void plan_swap(struct plan *plan, unsigned int a, unsigned int b)
{
	uint16_t at_a = plan->order[a];

	plan->order[a] = plan->order[b];
	plan->order[b] = at_a;
	plan->rx[plan->order[a]].at = (uint16_t)a;
	plan->rx[plan->order[b]].at = (uint16_t)b;
}

/* From now on the queue is looked at every round. */
static inline void plan_heat(struct plan *plan, struct plan_rx *rx)
{
	rx->n_idle_polls = 0;
	if (rx->at >= plan->n_hot)
		plan_swap(plan, rx->at, plan->n_hot++);
}

/* What a plan is made for. */
struct plan_worker {
	unsigned int id;
	unsigned int n_workers;
	unsigned int n_channels; /* ids of its event channels are below */
	int numa_node;
	struct offload *offload;
	struct fdb_cache *caches[TOPOLOGY_MAX_BRIDGES]; /* of the topology's bridges */
	enum port_mode mode; /* POLL and INTERRUPT: whatever the ports say */
	uint64_t idle_cycles; /* the idle window at most */
};

/* Every queue the ports list at one moment. All zero: none. */
struct plan_inventory {
	uint64_t serial; /* of this moment; queues in it have it in wake.serial */
	unsigned int n_rx, n_tx;
	struct rx_queue *rx[PORT_MAX * PORT_MAX_QUEUES];
	struct tx_queue *tx[PORT_MAX][PORT_MAX_QUEUES]; /* by port id */
	unsigned int n_tx_of[PORT_MAX];
};

/* Whether this worker may use transmit queue i of n, and whether it shares it with another. */
bool plan_lane_is_mine(
	unsigned int i, unsigned int n, const struct plan_worker *worker, bool *shared);

void plan_inventory_take(struct plan_inventory *inventory, const struct topology *topology);

/* Gives queues that nobody polls to the worker with the fewest, on the queue's NUMA node if there is one. */
void plan_assign(
	const struct plan_inventory *inventory, const int *numa_nodes, unsigned int n_workers);

/* The plan of one worker, or NULL if out of memory. */
struct plan *plan_create(const struct topology *topology, const struct plan_inventory *inventory,
	const struct plan_worker *worker);
void plan_free(struct plan *plan);

#endif
