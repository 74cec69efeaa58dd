/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A guest port's control half: its socket, its session, and which rings the workers may use. Control thread.
 *
 * Theory of operation. The vhost-user session calls quiesce() before and resume() after it changes anything a worker may be
 * using. quiesce() lists no queues and has the host make new plans, so when it returns no worker touches this guest;
 * resume() looks at the rings as they are now and lists those that can be used. A guest that is not connected lists
 * none, so a session's end is a quiesce that stays.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <event2/event.h>
#include <linux/virtio_config.h>
#include <numa.h>
#include <numaif.h>
#include <rte_malloc.h>

#include <base/clock.h>
#include <base/log.h>
#include <port/guest.h>
#include <vhost/eventfd.h>

#include "guest_control.h"

/*
 * What DPDK's own back end offers, so that guests' drivers take the same path, less UFO and ECN: what is offered once
 * binds for ever, because a running guest keeps the bits it took across our restart.
 */
#define GUEST_FEATURES                                                                            \
	(1ULL << VIRTIO_NET_F_CSUM | 1ULL << VIRTIO_NET_F_GUEST_CSUM |                            \
		1ULL << VIRTIO_NET_F_GUEST_TSO4 | 1ULL << VIRTIO_NET_F_GUEST_TSO6 |               \
		1ULL << VIRTIO_NET_F_HOST_TSO4 | 1ULL << VIRTIO_NET_F_HOST_TSO6 |                 \
		1ULL << VIRTIO_NET_F_MRG_RXBUF | 1ULL << VIRTIO_NET_F_CTRL_VQ |                   \
		1ULL << VIRTIO_NET_F_CTRL_RX | 1ULL << VIRTIO_NET_F_GUEST_ANNOUNCE |              \
		1ULL << VIRTIO_NET_F_MTU | 1ULL << VIRTIO_NET_F_MQ | 1ULL << VIRTIO_F_ANY_LAYOUT |                           \
		1ULL << VIRTIO_RING_F_INDIRECT_DESC | 1ULL << VIRTIO_RING_F_EVENT_IDX |           \
		1ULL << VIRTIO_F_VERSION_1 | 1ULL << VIRTIO_F_IN_ORDER |                      \
		1ULL << VIRTIO_F_RING_PACKED | 1ULL << VHOST_USER_F_LOG_ALL)

static const struct port_ops guest_ops;

bool port_is_guest(const struct port *port)
{
	return port->ops == &guest_ops;
}

static void set_state(struct guest *guest, enum guest_state state)
{
	if (guest->state == state)
		return;
	log_limited(&guest->state_log_limit, LOG_LEVEL_INFO, "port %s: %s -> %s", guest->base.name,
		guest_state_name(guest->state), guest_state_name(state));
	guest->state = state;
}

/* The NUMA node a page of guest memory lies on, -1 if the kernel does not say. */
static int node_of(void *hva)
{
	int node = -1;

	if (numa_available() < 0 || numa_move_pages(0, 1, &hva, NULL, &node, 0) != 0 || node < 0)
		return -1;
	return node;
}

/* Moves the ring state that a worker reads each burst to where the ring itself lies. Best effort: it works anywhere. */
static void ring_to_node(struct vu_ring *ring, int node)
{
	uintptr_t page_bytes = (uintptr_t)sysconf(_SC_PAGESIZE);
	uintptr_t first = (uintptr_t)ring & ~(page_bytes - 1);
	uintptr_t last = ((uintptr_t)(ring + 1) - 1) & ~(page_bytes - 1);

	if (node < 0 || numa_max_node() == 0)
		return;
	for (uintptr_t page = first; page <= last; page += page_bytes) {
		void *address = (void *)page;
		int status;

		numa_move_pages(0, 1, &address, &node, &status, MPOL_MF_MOVE);
	}
}

static bool has(uint64_t features, unsigned int bit)
{
	return features >> bit & 1;
}

static uint8_t offloads_of(uint64_t features, unsigned int csum, unsigned int tso4, unsigned int tso6)
{
	return (uint8_t)((has(features, csum) ? FRAME_NEEDS_CSUM : 0) |
			 (has(features, tso4) ? FRAME_NEEDS_TSO4 : 0) |
			 (has(features, tso6) ? FRAME_NEEDS_TSO6 : 0));
}

/* A worker that looks at the ring needs no kicks. */
static void kicks_decline(struct vu_ring *ring)
{
	vring_device_set_kick(&ring->device, false);
	if (ring->dirty.log != NULL)
		vring_dirty_wish(&ring->dirty, &ring->device);
}

/*
 * Finds the usable rings and sets their queues up for what was negotiated. A worker looks at a new queue at once, and asks
 * for kicks if it goes to sleep.
 */
static void queues_update(struct guest *guest)
{
	uint64_t features = vu_backend_features(guest->front_end.session);
	bool long_header = has(features, VIRTIO_F_VERSION_1) || has(features, VIRTIO_NET_F_MRG_RXBUF);
	uint16_t header_len = long_header ? 12 : 10;

	guest->n_rx = 0;
	guest->n_tx = 0;
	for (unsigned int pair = 0; pair < guest->n_queue_pairs; pair++) {
		struct guest_rx_queue *rx = &guest->rx[pair];
		struct guest_tx_queue *tx = &guest->tx[pair];

		tx->ring = vu_backend_ring(guest->front_end.session, 2 * pair);
		tx->caller.blocks = tx->is_alarm_said = false;
		tx->header_len = header_len;
		tx->checks_csum = has(features, VIRTIO_NET_F_GUEST_CSUM);
		tx->base.accepts = offloads_of(features, VIRTIO_NET_F_GUEST_CSUM,
			VIRTIO_NET_F_GUEST_TSO4, VIRTIO_NET_F_GUEST_TSO6);
		guest_tx_queue_update(tx);
		/* A disabled receive ring gets nothing; a disabled transmit ring is emptied all the same. */
		if (tx->ring->state == VU_RING_RUNNING && tx->ring->enabled) {
			tx->base.numa_node = node_of(tx->ring->device.used);
			ring_to_node(tx->ring, tx->base.numa_node);
			kicks_decline(tx->ring);
			tx->base.is_armed = false;
			tx->base.wake.fd = tx->ring->kick_fd;
			guest->tx_usable[guest->n_tx++] = tx;
		}
		rx->ring = vu_backend_ring(guest->front_end.session, 2 * pair + 1);
		rx->caller.blocks = rx->is_alarm_said = false;
		rx->header_len = header_len;
		rx->offloads = offloads_of(features, VIRTIO_NET_F_CSUM, VIRTIO_NET_F_HOST_TSO4,
			VIRTIO_NET_F_HOST_TSO6);
		guest_rx_queue_update(rx);
		if (rx->ring->state == VU_RING_RUNNING) {
			rx->base.numa_node = node_of(rx->ring->device.used);
			ring_to_node(rx->ring, rx->base.numa_node);
			kicks_decline(rx->ring);
			rx->base.is_armed = false;
			rx->base.wake.fd = rx->ring->kick_fd;
			rx->base.wake.missing = "the front end gave no kick descriptor";
			guest->rx_usable[guest->n_rx++] = rx;
		}
	}
	set_state(guest, guest->n_rx + guest->n_tx > 0 ? GUEST_RUNNING : GUEST_CONNECTED);
}

static void on_quiesce(void *ctx)
{
	struct guest *guest = ctx;

	if (guest->n_rx + guest->n_tx > 0 && !guest->quiesced) {
		guest->quiesced = true;
		guest->base.host->changed(guest->base.host->ctx);
	}
	guest->quiesced = true;
}

/* The driver of a ring, for a call that was pending; see msix_fire_fn. */
static void on_fire(void *ctx, unsigned int vector)
{
	struct guest *guest = ctx;

	vu_eventfd_signal(vu_backend_ring(guest->front_end.session, vector)->call_fd);
}

/*
 * Rings that have a call descriptor now get what is pending; those without keep what comes until they have one. No worker is
 * using a descriptor: one that was replaced is closed.
 */
static void vectors_update(struct guest *guest)
{
	for (unsigned int i = 0; i < 2 * guest->n_queue_pairs; i++) {
		if (vu_backend_ring(guest->front_end.session, i)->call_fd >= 0)
			msix_unmask(guest->msix, i);
		else
			msix_mask(guest->msix, i);
	}
}

/* Between quiesce and resume: made when vectors_update() has the descriptor. */
static void on_call(void *ctx, unsigned int index)
{
	struct guest *guest = ctx;

	msix_mask(guest->msix, index);
	msix_notify(guest->msix, index);
}

static void on_resume(void *ctx)
{
	struct guest *guest = ctx;

	queues_update(guest);
	vectors_update(guest);
	guest->quiesced = false;
	if (guest->n_rx + guest->n_tx > 0)
		guest->base.host->offered(guest->base.host->ctx);
}

static void on_send_rarp(void *ctx, const uint8_t *mac)
{
	struct guest *guest = ctx;

	/* The first pair: the one ring every guest uses. Its worker may sleep; with a new plan it looks at all queues. */
	guest_rx_queue_announce(&guest->rx[0], mac);
	guest->base.host->offered(guest->base.host->ctx);
}

static void on_set_mtu(void *ctx, uint16_t mtu)
{
	struct guest *guest = ctx;

	guest->base.mtu = guest->mtu != 0 && guest->mtu < mtu ? guest->mtu : mtu;
}

static uint64_t on_features(void *ctx, unsigned int *n_queue_pairs, unsigned int *n_memory_slots)
{
	return GUEST_FEATURES;
}

static void on_begun(void *ctx)
{
	set_state(ctx, GUEST_CONNECTED);
}

static void on_ended(void *ctx)
{
	struct guest *guest = ctx;

	guest->n_rx = 0;
	guest->n_tx = 0;
	/* The next driver is owed nothing. */
	msix_reset(guest->msix);
	msix_enable(guest->msix);
	guest->quiesced = false;
	guest->base.mtu = guest->mtu;
	memset(guest->n_faults_seen, 0, sizeof(guest->n_faults_seen));
	set_state(guest, guest->front_end.role == GUEST_ROLE_CONNECT ? GUEST_CONNECTING : GUEST_IDLE);
}

static const struct front_end_ops front_end_ops = {
	.session = {
		.quiesce = on_quiesce,
		.resume = on_resume,
		.call = on_call,
		.send_rarp = on_send_rarp,
		.set_mtu = on_set_mtu,
	},
	.features = on_features,
	.begun = on_begun,
	.ended = on_ended,
};

static unsigned int guest_list_rx(struct port *port, struct rx_queue **queues)
{
	struct guest *guest = guest_of(port);

	if (guest->quiesced)
		return 0;
	for (unsigned int i = 0; i < guest->n_rx; i++)
		queues[i] = &guest->rx_usable[i]->base;
	return guest->n_rx;
}

static unsigned int guest_list_tx(struct port *port, struct tx_queue **queues)
{
	struct guest *guest = guest_of(port);

	if (guest->quiesced)
		return 0;
	for (unsigned int i = 0; i < guest->n_tx; i++)
		queues[i] = &guest->tx_usable[i]->base;
	return guest->n_tx;
}

/* Says what a worker could only count: refused buffers. */
static void report_faults(struct guest *guest, unsigned int index, const struct vring_device *device)
{
	for (unsigned int fault = VRING_OK + 1; fault < VRING_N_FAULTS; fault++) {
		uint64_t n = __atomic_load_n(&device->n_faults[fault], __ATOMIC_RELAXED);

		if (n > guest->n_faults_seen[fault]) {
			guest->n_faults_seen[fault] = n;
			log_limited(&guest->front_end.log_limit, LOG_LEVEL_WARN,
				"port %s: ring %u: buffer refused: %s (%lu so far)", guest->base.name,
				index, vring_fault_name((enum vring_fault)fault), (unsigned long)n);
		}
	}
}

static bool a_call_blocks(const struct guest *guest)
{
	for (unsigned int pair = 0; pair < guest->n_queue_pairs; pair++) {
		if (__atomic_load_n(&guest->rx[pair].caller.blocks, __ATOMIC_RELAXED) ||
			__atomic_load_n(&guest->tx[pair].caller.blocks, __ATOMIC_RELAXED))
			return true;
	}
	return false;
}

static void guest_tick(struct port *port)
{
	struct guest *guest = guest_of(port);

	if (guest->front_end.session == NULL)
		return;
	if (a_call_blocks(guest)) {
		front_end_lose(&guest->front_end, "a call eventfd is full and was made blocking");
		return;
	}
	for (unsigned int i = 0; i < 2 * guest->n_queue_pairs; i++) {
		struct vu_ring *ring = vu_backend_ring(guest->front_end.session, i);
		uint8_t breakage;

		if (ring->state != VU_RING_RUNNING)
			continue;
		report_faults(guest, i, &ring->device);
		breakage = __atomic_load_n(&ring->device.breakage, __ATOMIC_RELAXED);
		if (breakage == VRING_INTACT)
			continue;
		snprintf(guest->front_end.last_error, sizeof(guest->front_end.last_error), "ring %u broken: %s", i,
			vring_breakage_name((enum vring_breakage)breakage));
		log_limited(&guest->front_end.log_limit, LOG_LEVEL_WARN,
			"port %s: %s; it stands still until the guest resets it", port->name,
			guest->front_end.last_error);
		on_quiesce(guest);
		vu_backend_ring_broken(guest->front_end.session, i);
		on_resume(guest);
	}
}

void guest_check_memory(struct port *port)
{
	struct guest *guest = guest_of(port);

	if (guest->front_end.session != NULL && vu_backend_memory_is_broken(guest->front_end.session))
		front_end_lose(&guest->front_end, "the front end took memory away that it had shared");
}

static void guest_destroy(struct port *port)
{
	struct guest *guest = guest_of(port);

	front_end_close(&guest->front_end);
	msix_destroy(guest->msix);
	port_fini(port);
	rte_free(guest);
}

static const struct port_ops guest_ops = {
	.kind = "guest",
	.list_rx = guest_list_rx,
	.list_tx = guest_list_tx,
	.describe = guest_describe,
	.tick = guest_tick,
	.destroy = guest_destroy,
};

static int guest_open(struct guest *guest, const struct guest_config *config, char *error,
	size_t error_size)
{
	const struct front_end_config front_end = {
		.name = guest->base.name,
		.role = config->role,
		.socket = &config->socket,
		.events = guest->base.host->events,
		.n_queue_pairs = guest->n_queue_pairs,
		.ops = &front_end_ops,
		.ctx = guest,
	};

	guest->state = config->role == GUEST_ROLE_CONNECT ? GUEST_CONNECTING : GUEST_IDLE;
	return front_end_open(&guest->front_end, &front_end, error, error_size);
}

static int guest_vectors_open(struct guest *guest, char *error, size_t error_size)
{
	guest->msix = msix_create(2 * guest->n_queue_pairs, on_fire, guest);
	if (guest->msix == NULL) {
		snprintf(error, error_size, "out of memory");
		return -ENOMEM;
	}
	msix_enable(guest->msix);
	for (unsigned int pair = 0; pair < guest->n_queue_pairs; pair++) {
		guest->tx[pair].caller = (struct guest_caller){ .msix = guest->msix, .vector = 2 * pair };
		guest->rx[pair].caller = (struct guest_caller){ .msix = guest->msix, .vector = 2 * pair + 1 };
	}
	return 0;
}

struct port *guest_create(const struct guest_config *config, const struct port_host *host,
	char *error, size_t error_size)
{
	struct guest *guest = rte_zmalloc("guest", sizeof(*guest), RTE_CACHE_LINE_SIZE);
	char why[UNIX_SOCKET_ERROR_MAX];

	if (guest == NULL || port_init(&guest->base, &guest_ops, host, config->name, config->id) != 0) {
		snprintf(error, error_size, "port %s: out of memory", config->name);
		rte_free(guest);
		return NULL;
	}
	guest->n_queue_pairs = config->n_queue_pairs;
	guest->mtu = guest->base.mtu = config->mtu;
	guest->base.vlan = config->vlan;
	guest->base.mode = config->mode;
	guest->base.coalesce = config->coalesce;
	for (unsigned int i = 0; i < PORT_MAX_QUEUES; i++) {
		guest->rx[i].base.port = guest->tx[i].base.port = &guest->base;
		guest->rx[i].base.index = guest->tx[i].base.index = (uint16_t)i;
		guest->rx[i].base.worker = -1;
		guest->rx[i].base.wake.channel = guest->tx[i].base.wake.channel = -1;
		guest_rx_queue_init(&guest->rx[i]);
		guest_tx_queue_init(&guest->tx[i]);
	}
	if (guest_vectors_open(guest, why, sizeof(why)) != 0 ||
		guest_open(guest, config, why, sizeof(why)) != 0) {
		snprintf(error, error_size, "port %s: %s", config->name, why);
		guest_destroy(&guest->base);
		return NULL;
	}
	return &guest->base;
}
