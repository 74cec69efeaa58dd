/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A relay port's rings in shadow mode. Workers.
 *
 * One descriptor tells of both sides: the device is given the guest's kick descriptor as its call descriptor, since
 * both mean that there is something to do for this ring. It is waited for by edges and never read.
 */
#include <errno.h>
#include <sys/eventfd.h>

#include <rte_branch_prediction.h>

#include "relay_internal.h"

#define RELAY_BURST 64

static const struct vring_dirty *dirty_of(const struct vu_ring *ring)
{
	return ring->dirty.log != NULL ? &ring->dirty : NULL;
}

/*
 * Wakes the device if it wants to be; as of guest ports, a write that had to be interrupted costs the one that caused
 * it.
 */
static void kick_device(struct relay_queue *queue)
{
	if (!vring_shadow_needs_kick(queue->shadow) || __atomic_load_n(&queue->kick_blocks, __ATOMIC_RELAXED))
		return;
	if (eventfd_write(queue->kick_fd, 1) != 0 && errno == EINTR) {
		__atomic_store_n(&queue->kick_blocks, true, __ATOMIC_RELAXED);
		port_alarm(queue->base.port, &queue->is_alarm_said);
	}
}

/* Everything that the guest has made available for receiving: there is room for it, the rings being of one size. */
static int forward_all(struct relay_queue *queue)
{
	int sum = 0, n;

	do {
		n = vring_shadow_forward(queue->shadow, RELAY_BURST);
		sum += n > 0 ? n : 0;
	} while (n == RELAY_BURST && sum < VRING_SIZE_MAX);
	return n < 0 ? n : sum;
}

/*
 * A guest posts buffers before it sends what is answered into them; the device must not get them the other way round,
 * or it drops the answer.
 */
static int forward(struct relay_queue *queue)
{
	struct relay_queue *receiving = (struct relay_queue *)queue->base.beside;

	if (!queue->is_transmit)
		return forward_all(queue);
	if (receiving->shadow != NULL && forward_all(receiving) > 0) {
		receiving->was_served = true;
		kick_device(receiving);
	}
	return vring_shadow_forward(queue->shadow, RELAY_BURST);
}

/* Moves buffers both ways. Returns how many. */
static unsigned int relay_receive(struct rx_queue *base, struct port_counters *counters,
	struct frame_batch *batch, unsigned int max)
{
	struct relay_queue *queue = (struct relay_queue *)base;
	int n_forwarded = forward(queue);
	int n_returned = vring_shadow_return(queue->shadow, dirty_of(queue->ring), RELAY_BURST);

	if (unlikely(n_returned < 0))
		__atomic_store_n(&queue->is_lying, true, __ATOMIC_RELAXED);
	if (unlikely(n_forwarded < 0 || n_returned < 0))
		port_alarm(base->port, &queue->is_alarm_said);
	n_forwarded = n_forwarded > 0 ? n_forwarded : 0;
	n_returned = n_returned > 0 ? n_returned : 0;
	if (queue->is_transmit)
		counters->rx_packets += (unsigned int)n_returned;
	else
		counters->tx_packets += (unsigned int)n_returned;
	return (unsigned int)(n_forwarded + n_returned);
}

static void relay_notify(struct rx_queue *base)
{
	struct relay_queue *queue = (struct relay_queue *)base;
	const struct vu_ring *ring = queue->ring;

	kick_device(queue);
	if (!vring_device_wants_call(&queue->ring->device) || ring->call_fd < 0 ||
		__atomic_load_n(&queue->blocks, __ATOMIC_RELAXED))
		return;
	if (eventfd_write(ring->call_fd, 1) != 0 && errno == EINTR) {
		__atomic_store_n(&queue->blocks, true, __ATOMIC_RELAXED);
		port_alarm(base->port, &queue->is_alarm_said);
	}
}

static void relay_arm(struct rx_queue *base, bool wanted)
{
	struct relay_queue *queue = (struct relay_queue *)base;

	vring_device_set_kick(&queue->ring->device, wanted);
	vring_shadow_set_call(queue->shadow, wanted);
	if (queue->ring->dirty.log != NULL)
		vring_dirty_wish(&queue->ring->dirty, &queue->ring->device);
}

/* Does what there is to do: whether there was anything is known then. */
static bool relay_is_ready(struct rx_queue *base)
{
	struct relay_queue *queue = (struct relay_queue *)base;
	bool was_served = queue->was_served;

	queue->was_served = false;
	if (relay_receive(base, &base->port->counters[base->worker], NULL, 0) == 0)
		return was_served;
	vring_fence();
	relay_notify(base);
	return true;
}

void relay_queue_init(struct relay_queue *queue)
{
	queue->base.receive = relay_receive;
	queue->base.notify = relay_notify;
	queue->base.arm = relay_arm;
	queue->base.is_ready = relay_is_ready;
	queue->base.moves_by_itself = true;
	queue->base.worker = -1;
	queue->base.wake.channel = -1;
}
