/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Ringway's libraries without its daemon: two guest ports in a bridge; for mbufs, a NIC port over a DPDK ring device,
 * whose transmit and receive ring are one and the same: what dequeue sent into it is what enqueue receives.
 *
 * A burst is what lib/worker does in a round that has one (receive, forward, release, notify), by the same plan.
 */
#include <stdio.h>
#include <string.h>

#include <rte_ethdev.h>
#include <rte_malloc.h>
#include <rte_mbuf.h>

#include <bridge/forward.h>
#include <gmem/guard.h>
#include <port/guest.h>
#include <port/nic.h>
#include <vring/fence.h>

#include "engine.h"
#include "guest_control.h"
#include "plan.h"
#include "worker.h"

/* Port ids: the guests are 0 and 1. */
#define PORT_BACK DRAIN_GUESTS
#define N_PORTS   (DRAIN_GUESTS + 1)

#define POOL_PACKETS 4095
#define POOL_CACHE   256

/* Lets frames of 1518 bytes through: sizes are without FCS. */
#define BACK_MTU 1504

#define FDB_MAX   1024
#define FDB_AGE_S 300

static struct rte_mempool *pool;
static struct topology topology;
static struct port_host host;
static struct plan_worker spec;
/* Main thread's while the worker is paused, else the worker's. */
static struct plan *plan;
static struct plan_rx *rx_of[N_PORTS];            /* NULL: nothing to receive from there */
static struct vring_device *from_guest[DRAIN_GUESTS]; /* NULL: not there */
static struct vring_device *to_guest[DRAIN_GUESTS];
static struct frame_batch batch;

static struct rte_mempool *pool_of_node(int numa_node)
{
	return pool;
}

/* Makes the plan anew from the queues the ports list now. */
static void replan(void *ctx)
{
	static struct plan_inventory inventory;

	worker_pause();
	plan_free(plan);
	memset(rx_of, 0, sizeof(rx_of));
	plan_inventory_take(&inventory, &topology);
	plan_assign(&inventory, &spec.numa_node, 1);
	plan = plan_create(&topology, &inventory, &spec);
	for (unsigned int i = 0; plan != NULL && i < plan->n_rx; i++)
		rx_of[plan->rx[i].queue->port->id] = &plan->rx[i];
	for (unsigned int id = 0; id < DRAIN_GUESTS; id++) {
		struct guest_tx_queue *tx = inventory.n_tx_of[id] == 0
						    ? NULL
						    : (struct guest_tx_queue *)inventory.tx[id][0];

		from_guest[id] = rx_of[id] == NULL
					 ? NULL
					 : &((struct guest_rx_queue *)rx_of[id]->queue)->ring->device;
		to_guest[id] = tx == NULL ? NULL : &tx->ring->device;
	}
	worker_resume();
}

static int guests_open(const struct engine_config *config, char *error, size_t error_size)
{
	static const char *const names[DRAIN_GUESTS] = { "vm1", "vm2" };
	struct bridge *bridge = &topology.bridges[0];

	for (uint16_t id = 0; id < DRAIN_GUESTS; id++) {
		const struct guest_config guest = {
			.name = names[id],
			.id = id,
			.socket = { .path = config->sockets[id], .mode = 0600 },
			.role = GUEST_ROLE_LISTEN,
			.n_queue_pairs = 1,
		};

		topology.ports[id] = guest_create(&guest, &host, error, error_size);
		if (topology.ports[id] == NULL)
			return -1;
	}
	bridge->fdb = fdb_create("br0", FDB_MAX, FDB_AGE_S, SOCKET_ID_ANY, error, error_size);
	if (bridge->fdb == NULL)
		return -1;
	bridge->n_members = DRAIN_GUESTS;
	for (uint16_t id = 0; id < DRAIN_GUESTS; id++)
		bridge->members[id] = id;
	topology.n_bridges = 1;
	return 0;
}

static int ringway_open(const struct engine_config *config, char *error, size_t error_size)
{
	const struct nic_config back = {
		.name = "back",
		.id = PORT_BACK,
		.device = "net_ring0",
		.n_queues = 1,
		.mtu = BACK_MTU,
		.pool_of_node = pool_of_node,
	};

	if (gmem_guard_install() < 0) {
		snprintf(error, error_size, "the guard against vanishing memory cannot be installed");
		return -1;
	}
	host = (struct port_host){ .changed = replan, .offered = replan, .events = config->events };
	pool = rte_pktmbuf_pool_create(
		"packets", POOL_PACKETS, POOL_CACHE, 0, RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY);
	spec.n_workers = 1;
	spec.numa_node = SOCKET_ID_ANY;
	if (pool == NULL) {
		snprintf(error, error_size, "no memory for %d packets", POOL_PACKETS);
		return -1;
	}
	spec.offload = offload_create(pool, SOCKET_ID_ANY, error, error_size);
	if (spec.offload == NULL || guests_open(config, error, error_size) != 0)
		return -1;
	spec.caches[0] = fdb_cache_create(topology.bridges[0].fdb, SOCKET_ID_ANY);
	if (spec.caches[0] == NULL) {
		snprintf(error, error_size, "no memory for a cache of MAC addresses");
		return -1;
	}
	if (config->mbufs) {
		topology.ports[PORT_BACK] = nic_create(&back, &host, error, error_size);
		if (topology.ports[PORT_BACK] == NULL)
			return -1;
	}
	replan(NULL);
	return 0;
}

static void ringway_close(void)
{
	for (unsigned int id = 0; id < N_PORTS; id++) {
		struct port *port = topology.ports[id];

		if (port != NULL)
			port->ops->destroy(port);
		topology.ports[id] = NULL;
	}
	plan_free(plan);
	rte_free(spec.caches[0]);
	if (topology.bridges[0].fdb != NULL)
		fdb_destroy(topology.bridges[0].fdb);
	offload_destroy(spec.offload);
}

static uint64_t ringway_features(unsigned int guest)
{
	struct vu_backend *session = guest_of(topology.ports[guest])->front_end.session;

	return session == NULL ? 0 : vu_backend_features(session);
}

static bool ringway_is_ready(void)
{
	for (unsigned int id = 0; id < DRAIN_GUESTS; id++) {
		if (from_guest[id] == NULL || to_guest[id] == NULL)
			return false;
	}
	return true;
}

static bool ringway_has_frames(unsigned int guest, unsigned int n)
{
	return vring_device_backlog(from_guest[guest]) >= n;
}

static bool ringway_has_room(unsigned int guest, unsigned int n)
{
	return vring_device_backlog(to_guest[guest]) >= n;
}

static void signal_as_workers_do(struct plan_rx *rx, unsigned int n)
{
	plan_mark(plan, rx, n);
	if (plan->n_unsignalled >= PLAN_SIGNAL_AFTER)
		plan_signal(plan, 0, true);
}

static unsigned int ringway_forward(unsigned int from, unsigned int to, unsigned int max)
{
	struct plan_rx *rx = rx_of[from];
	struct port_counters *counters = rx->ingress->counters;
	unsigned int n = rx->queue->receive(rx->queue, counters, &batch, max);

	if (n == 0)
		return 0;
	bridge_forward(plan->forwarder, rx->bridge, rx->ingress, batch.frames, n,
		batch.is_one_flow);
	rx->queue->release(rx->queue, counters, &batch, n);
	signal_as_workers_do(rx, n);
	return n;
}

/* One burst from one port to another, whatever the bridge would say. */
static unsigned int carry(unsigned int from, unsigned int to, unsigned int max)
{
	struct plan_rx *rx = rx_of[from];
	struct port_counters *counters = rx->ingress->counters;
	unsigned int n = rx->queue->receive(rx->queue, counters, &batch, max);

	if (n == 0)
		return 0;
	cross_forward(plan->forwarder, &plan->forwarder->ports[to], rx->queue->index, batch.frames, n,
		batch.needs, NULL);
	rx->queue->release(rx->queue, counters, &batch, n);
	signal_as_workers_do(rx, n);
	return n;
}

static unsigned int ringway_dequeue(unsigned int from, unsigned int max)
{
	return carry(from, PORT_BACK, max);
}

static unsigned int ringway_enqueue(unsigned int to, unsigned int max)
{
	return carry(PORT_BACK, to, max);
}

const struct engine engine_ringway = {
	.name = "ringway",
	.open = ringway_open,
	.close = ringway_close,
	.features = ringway_features,
	.is_ready = ringway_is_ready,
	.has_frames = ringway_has_frames,
	.has_room = ringway_has_room,
	.forward = ringway_forward,
	.dequeue = ringway_dequeue,
	.enqueue = ringway_enqueue,
};
