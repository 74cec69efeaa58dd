/* SPDX-License-Identifier: BSD-3-Clause */
/* DPDK's own back end by its own calls: no ethdev, no statistics. */
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include <linux/virtio_ring.h>

#include <rte_mbuf.h>
#include <rte_vhost.h>

#include "engine.h"
#include "worker.h"

/* Queues as the guest numbers them. */
#define QUEUE_TO_GUEST   0
#define QUEUE_FROM_GUEST 1

#define BURST_MAX 32

#define FEATURE_PACKED (1ULL << 34)
#define PACKED_AVAIL   (1u << 7)
#define PACKED_USED    (1u << 15)
#define PACKED_WRAP    (1u << 15) /* of a position: the wrap counter */

#define POOL_PACKETS 4095
#define POOL_CACHE   256

struct guest {
	const char *path;
	int vid; /* -1: not there */
	uint64_t features;
	struct rte_vhost_vring rings[2];
};

static struct guest guests[DRAIN_GUESTS] = { { .vid = -1 }, { .vid = -1 } };
static struct rte_mempool *pool;
/* Between dequeue and enqueue. */
static struct rte_mbuf *waiting[DRAIN_BACKLOG_MAX];
static unsigned int n_waiting, n_gone;

static struct guest *guest_of(int vid)
{
	char path[PATH_MAX];

	if (rte_vhost_get_ifname(vid, path, sizeof(path)) != 0)
		return NULL;
	for (unsigned int i = 0; i < DRAIN_GUESTS; i++) {
		if (strcmp(guests[i].path, path) == 0)
			return &guests[i];
	}
	return NULL;
}

static int on_new_device(int vid)
{
	struct guest *guest = guest_of(vid);

	if (guest == NULL || rte_vhost_get_negotiated_features(vid, &guest->features) != 0)
		return -1;
	for (uint16_t q = 0; q < RTE_DIM(guest->rings); q++) {
		if (rte_vhost_get_vhost_vring(vid, q, &guest->rings[q]) != 0)
			return -1;
		rte_vhost_enable_guest_notification(vid, q, 0);
	}
	worker_pause();
	guest->vid = vid;
	worker_resume();
	return 0;
}

static void on_destroy_device(int vid)
{
	struct guest *guest = guest_of(vid);

	worker_pause();
	if (guest != NULL)
		guest->vid = -1;
	worker_resume();
}

static const struct rte_vhost_device_ops device_ops = {
	.new_device = on_new_device,
	.destroy_device = on_destroy_device,
};

static int vhost_open(const struct engine_config *config, char *error, size_t error_size)
{
	pool = rte_pktmbuf_pool_create(
		"packets", POOL_PACKETS, POOL_CACHE, 0, RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY);
	if (pool == NULL) {
		snprintf(error, error_size, "no memory for %d packets", POOL_PACKETS);
		return -1;
	}
	for (unsigned int i = 0; i < DRAIN_GUESTS; i++) {
		const char *path = config->sockets[i];

		guests[i].path = path;
		if (rte_vhost_driver_register(path, RTE_VHOST_USER_NET_COMPLIANT_OL_FLAGS) != 0 ||
			rte_vhost_driver_callback_register(path, &device_ops) != 0 ||
			rte_vhost_driver_start(path) != 0) {
			snprintf(error, error_size, "%s: librte_vhost cannot listen there", path);
			return -1;
		}
	}
	return 0;
}

static void vhost_close(void)
{
	for (unsigned int i = 0; i < DRAIN_GUESTS; i++) {
		if (guests[i].path != NULL)
			rte_vhost_driver_unregister(guests[i].path);
	}
}

static uint64_t vhost_features(unsigned int guest)
{
	return guests[guest].vid < 0 ? 0 : guests[guest].features;
}

static bool vhost_is_ready(void)
{
	return guests[0].vid >= 0 && guests[1].vid >= 0;
}

/*
 * Whether a ring has n buffers that were not taken. librte_vhost counts those of a split ring only. In a packed ring
 * the n-th descriptor is looked at: of drivers that use one descriptor per frame, in order, it comes last.
 */
static bool ring_has(const struct guest *guest, uint16_t queue, unsigned int n)
{
	const struct rte_vhost_vring *ring = &guest->rings[queue];
	uint16_t position, used_position;
	bool wrap;

	if (rte_vhost_get_vring_base(guest->vid, queue, &position, &used_position) != 0)
		return false;
	if ((guest->features & FEATURE_PACKED) == 0)
		return (uint16_t)(__atomic_load_n(&ring->avail->idx, __ATOMIC_ACQUIRE) - position) >= n;
	wrap = (position & PACKED_WRAP) != 0;
	unsigned int slot = (position & (uint16_t)~PACKED_WRAP) + n - 1;
	if (slot >= ring->size) {
		slot -= ring->size;
		wrap = !wrap;
	}
	if (slot >= ring->size)
		return false; /* more than the ring holds */
	uint16_t flags = __atomic_load_n(&ring->desc_packed[slot].flags, __ATOMIC_ACQUIRE);
	return ((flags & PACKED_AVAIL) != 0) == wrap && ((flags & PACKED_USED) != 0) != wrap;
}

static bool vhost_has_frames(unsigned int guest, unsigned int n)
{
	return ring_has(&guests[guest], QUEUE_FROM_GUEST, n);
}

static bool vhost_has_room(unsigned int guest, unsigned int n)
{
	return ring_has(&guests[guest], QUEUE_TO_GUEST, n);
}

static unsigned int vhost_forward(unsigned int from, unsigned int to, unsigned int max)
{
	struct rte_mbuf *mbufs[BURST_MAX];
	uint16_t n = rte_vhost_dequeue_burst(
		guests[from].vid, QUEUE_FROM_GUEST, pool, mbufs, (uint16_t)max);

	if (n == 0)
		return 0;
	rte_vhost_enqueue_burst(guests[to].vid, QUEUE_TO_GUEST, mbufs, n);
	rte_pktmbuf_free_bulk(mbufs, n);
	return n;
}

static unsigned int vhost_dequeue(unsigned int from, unsigned int max)
{
	if (n_gone == n_waiting)
		n_gone = n_waiting = 0;
	uint16_t n = rte_vhost_dequeue_burst(guests[from].vid, QUEUE_FROM_GUEST, pool,
		&waiting[n_waiting], (uint16_t)RTE_MIN(max, RTE_DIM(waiting) - n_waiting));

	n_waiting += n;
	return n;
}

static unsigned int vhost_enqueue(unsigned int to, unsigned int max)
{
	uint16_t n = (uint16_t)RTE_MIN(max, n_waiting - n_gone);

	if (n == 0)
		return 0;
	rte_vhost_enqueue_burst(guests[to].vid, QUEUE_TO_GUEST, &waiting[n_gone], n);
	rte_pktmbuf_free_bulk(&waiting[n_gone], n);
	n_gone += n;
	return n;
}

const struct engine engine_rte_vhost = {
	.name = "rte_vhost",
	.open = vhost_open,
	.close = vhost_close,
	.features = vhost_features,
	.is_ready = vhost_is_ready,
	.has_frames = vhost_has_frames,
	.has_room = vhost_has_room,
	.forward = vhost_forward,
	.dequeue = vhost_dequeue,
	.enqueue = vhost_enqueue,
};
