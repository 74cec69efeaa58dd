/* SPDX-License-Identifier: BSD-3-Clause */
#include <rte_cycles.h>
#include <rte_malloc.h>

#include "plan.h"

void plan_inventory_take(struct plan_inventory *inventory, const struct topology *topology)
{
	inventory->n_rx = inventory->n_tx = 0;
	inventory->serial++;
	for (unsigned int id = 0; id < PORT_MAX; id++) {
		struct port *port = topology->ports[id];

		inventory->n_tx_of[id] = 0;
		if (port == NULL)
			continue;
		inventory->n_rx +=
			port->ops->list_rx(port, &inventory->rx[inventory->n_rx]);
		inventory->n_tx_of[id] = port->ops->list_tx(port, inventory->tx[id]);
		inventory->n_tx += inventory->n_tx_of[id];
	}
	for (unsigned int i = 0; i < inventory->n_rx; i++)
		inventory->rx[i]->wake.serial = inventory->serial;
	for (unsigned int id = 0; id < PORT_MAX; id++) {
		for (unsigned int i = 0; i < inventory->n_tx_of[id]; i++)
			inventory->tx[id][i]->wake.serial = inventory->serial;
	}
}

void plan_assign(const struct plan_inventory *inventory, const int *numa_nodes, unsigned int n_workers)
{
	unsigned int load[PORT_MAX_WORKERS] = { 0 };

	for (unsigned int i = 0; i < inventory->n_rx; i++) {
		if (inventory->rx[i]->worker >= 0)
			load[inventory->rx[i]->worker]++;
	}
	for (unsigned int i = 0; i < inventory->n_rx; i++) {
		struct rx_queue *queue = inventory->rx[i];
		int best = -1, best_near = -1;

		if (queue->worker >= 0)
			continue;
		for (unsigned int w = 0; w < n_workers; w++) {
			if (best < 0 || load[w] < load[best])
				best = (int)w;
			if (numa_nodes[w] == queue->numa_node &&
				(best_near < 0 || load[w] < load[best_near]))
				best_near = (int)w;
		}
		queue->worker = best_near >= 0 ? best_near : best;
		if (queue->beside != NULL && queue->beside->worker >= 0)
			queue->worker = queue->beside->worker;
		load[queue->worker]++;
	}
}

bool plan_lane_is_mine(
	unsigned int i, unsigned int n, const struct plan_worker *worker, bool *shared)
{
	if (n >= worker->n_workers) {
		*shared = false;
		return i % worker->n_workers == worker->id;
	}
	*shared = i + n < worker->n_workers; /* worker i + n wraps round to it as well */
	return worker->id % n == i;
}

static struct event_moderation moderation_of(const struct port_coalesce *coalesce)
{
	return (struct event_moderation){
		.max_frames = coalesce->frames,
		.max_cycles = coalesce->us * rte_get_tsc_hz() / 1000000,
	};
}

static struct forwarder *forwarder_create(const struct topology *topology,
	const struct plan_inventory *inventory, const struct plan_worker *worker)
{
	size_t lanes_bytes = inventory->n_tx * sizeof(struct lane);
	size_t lists_bytes = inventory->n_tx * sizeof(uint16_t);
	struct forwarder *forwarder = rte_zmalloc_socket("forwarder",
		sizeof(*forwarder) + lanes_bytes + 2 * lists_bytes, RTE_CACHE_LINE_SIZE,
		worker->numa_node >= 0 ? worker->numa_node : SOCKET_ID_ANY);

	if (forwarder == NULL)
		return NULL;
	forwarder->active = (uint16_t *)&forwarder->lanes[inventory->n_tx];
	forwarder->dirty = forwarder->active + inventory->n_tx;
	forwarder->offload = worker->offload;
	for (unsigned int id = 0; id < PORT_MAX; id++) {
		struct forward_port *port = &forwarder->ports[id];

		if (topology->ports[id] == NULL)
			continue;
		port->port = topology->ports[id];
		port->counters = &port->port->counters[worker->id];
		port->first_lane = (uint16_t)forwarder->n_lanes;
		for (unsigned int q = 0; q < inventory->n_tx_of[id]; q++) {
			struct lane *lane = &forwarder->lanes[forwarder->n_lanes];
			bool shared;

			if (!plan_lane_is_mine(q, inventory->n_tx_of[id], worker, &shared))
				continue;
			lane->queue = inventory->tx[id][q];
			lane->counters = port->counters;
			lane->is_shared = shared;
			lane->moderation = moderation_of(&port->port->coalesce);
			forwarder->n_lanes++;
			port->n_lanes++;
		}
		forward_port_update(forwarder, port);
	}
	return forwarder;
}

static void rx_route(struct plan *plan, struct plan_rx *rx, const struct topology *topology)
{
	uint16_t id = rx->queue->port->id;

	rx->route = rx->queue->moves_by_itself ? PLAN_ROUTE_SELF : PLAN_ROUTE_NONE;
	for (unsigned int b = 0; b < topology->n_bridges; b++) {
		const struct bridge *bridge = &topology->bridges[b];

		for (unsigned int m = 0; m < bridge->n_members; m++) {
			if (bridge->members[m] == id) {
				rx->route = PLAN_ROUTE_BRIDGE;
				rx->bridge = &plan->bridges[b];
				return;
			}
		}
	}
	for (unsigned int c = 0; c < topology->n_crosses; c++) {
		const struct cross_connect *cross = &topology->crosses[c];

		for (unsigned int side = 0; side < 2; side++) {
			if (cross->ports[side] == id) {
				rx->route = PLAN_ROUTE_CROSS;
				rx->peer = &plan->forwarder->ports[cross->ports[!side]];
				rx->lossless = cross->lossless;
				if (rx->lossless)
					rx->lane = cross_lane(plan->forwarder, rx->peer, rx->queue->index);
				return;
			}
		}
	}
}

static void bridge_view_fill(
	struct bridge_view *view, const struct bridge *bridge, struct fdb_cache *cache)
{
	view->fdb = bridge->fdb;
	view->state = fdb_state(bridge->fdb);
	view->cache = cache;
	view->n_members = bridge->n_members;
	for (unsigned int m = 0; m < bridge->n_members; m++)
		view->members[m] = bridge->members[m];
}

/* Why the worker must not sleep while it serves the queue; NULL: it may. */
static const char *reason_to_poll(const struct rx_queue *queue, const struct plan_worker *worker)
{
	if (worker->mode == PORT_MODE_ADAPTIVE && queue->port->mode == PORT_MODE_POLL)
		return "the port's mode is poll";
	if (queue->wake.fd < 0)
		return queue->wake.missing;
	return queue->wake.channel < 0 ? "its descriptor cannot be waited for" : NULL;
}

/* How the queue wakes the worker, or that it cannot. */
static void plan_wake(struct plan *plan, struct plan_rx *rx, const struct plan_worker *worker)
{
	const char *why = reason_to_poll(rx->queue, worker);
	int channel = rx->queue->wake.channel;

	rx->keeps_awake = rx->queue->port->mode == PORT_MODE_ADAPTIVE;
	rx->is_unarmed = true;
	plan->unarmed[plan->n_unarmed++] = (uint16_t)(rx - plan->rx);
	if (why != NULL)
		plan->keepers[plan->n_keepers++] = (struct plan_keeper){ rx->queue, why };
	if (channel >= 0)
		plan->place_of_channel[channel] = (uint16_t)(rx - plan->rx);
	if (rx->lane != NULL && !rx->lane->is_shared && rx->lane->queue->wake.channel >= 0)
		plan->place_of_channel[rx->lane->queue->wake.channel] = PLAN_PLACE_ROOM;
}

/* How many queues of the inventory are the worker's. */
static unsigned int share_of(const struct plan_inventory *inventory, const struct plan_worker *worker)
{
	unsigned int n = 0;

	for (unsigned int i = 0; i < inventory->n_rx; i++)
		n += inventory->rx[i]->worker == (int)worker->id;
	return n;
}

static struct plan *plan_allocate(unsigned int n_rx, unsigned int n_channels, int node)
{
	size_t keepers_bytes = n_rx * sizeof(struct plan_keeper);
	size_t lists_bytes = (3 * n_rx + n_channels) * sizeof(uint16_t);
	struct plan *plan = rte_zmalloc_socket("plan",
		sizeof(*plan) + n_rx * sizeof(struct plan_rx) + keepers_bytes + lists_bytes,
		RTE_CACHE_LINE_SIZE, node);

	if (plan == NULL)
		return NULL;
	plan->keepers = (struct plan_keeper *)&plan->rx[n_rx];
	plan->order = (uint16_t *)&plan->keepers[n_rx];
	plan->dirty = plan->order + n_rx;
	plan->unarmed = plan->dirty + n_rx;
	plan->place_of_channel = plan->unarmed + n_rx;
	plan->n_channels = n_channels;
	for (unsigned int i = 0; i < n_channels; i++)
		plan->place_of_channel[i] = PLAN_NO_PLACE;
	return plan;
}

static uint64_t window_of(const struct plan_worker *worker)
{
	switch (worker->mode) {
	case PORT_MODE_POLL:
		return UINT64_MAX;
	case PORT_MODE_ADAPTIVE:
		return worker->idle_cycles;
	case PORT_MODE_INTERRUPT:
		break;
	}
	return 0;
}

struct plan *plan_create(const struct topology *topology, const struct plan_inventory *inventory,
	const struct plan_worker *worker)
{
	int node = worker->numa_node >= 0 ? worker->numa_node : SOCKET_ID_ANY;
	struct plan *plan = plan_allocate(share_of(inventory, worker), worker->n_channels, node);

	if (plan == NULL)
		return NULL;
	plan->window_max_cycles = window_of(worker);
	plan->forwarder = forwarder_create(topology, inventory, worker);
	plan->bridges = rte_zmalloc_socket("bridge_views",
		(topology->n_bridges + 1) * sizeof(*plan->bridges), RTE_CACHE_LINE_SIZE, node);
	if (plan->forwarder == NULL || plan->bridges == NULL) {
		plan_free(plan);
		return NULL;
	}
	for (unsigned int b = 0; b < topology->n_bridges; b++)
		bridge_view_fill(&plan->bridges[b], &topology->bridges[b], worker->caches[b]);
	for (unsigned int i = 0; i < inventory->n_rx; i++) {
		struct plan_rx *rx = &plan->rx[plan->n_rx];

		if (inventory->rx[i]->worker != (int)worker->id)
			continue;
		rx->queue = inventory->rx[i];
		rx->ingress = &plan->forwarder->ports[rx->queue->port->id];
		rx->moderation = moderation_of(&rx->queue->port->coalesce);
		rx_route(plan, rx, topology);
		plan_wake(plan, rx, worker);
		plan->order[plan->n_rx] = rx->at = (uint16_t)plan->n_rx;
		plan->n_rx++;
	}
	/* All are hot until they are known to be idle. */
	plan->n_hot = plan->n_rx;
	return plan;
}

void plan_signal(struct plan *plan, uint64_t now, bool everything)
{
	unsigned int n_waiting = 0;

	/* One fence for all: what was published, before what drivers wish (vring/device.h, fence A). */
	vring_fence();
	forward_notify(plan->forwarder, now, everything);
	for (unsigned int i = 0; i < plan->n_dirty; i++) {
		struct plan_rx *rx = &plan->rx[plan->dirty[i]];

		if (!event_moderation_is_due(&rx->moderation, now, everything)) {
			plan->dirty[n_waiting++] = plan->dirty[i];
			continue;
		}
		rx->queue->notify(rx->queue);
		rx->is_dirty = false;
	}
	plan->n_dirty = n_waiting;
	plan->n_unsignalled = 0;
}

void plan_free(struct plan *plan)
{
	if (plan == NULL)
		return;
	rte_free(plan->forwarder);
	rte_free(plan->bridges);
	rte_free(plan);
}
