/* SPDX-License-Identifier: BSD-3-Clause */
/* What the control half and the datapath half of a guest port share: the queues. */
#ifndef PORT_GUEST_INTERNAL_H
#define PORT_GUEST_INTERNAL_H

#include <msix/msix.h>
#include <port/port.h>
#include <vhost/backend.h>
#include <vring/ticket.h>

struct guest_run_ops;

/* How a ring's driver is called. */
struct guest_caller {
	struct msix *msix; /* the guest's; a vector for each ring, masked while the ring has no call descriptor */
	unsigned int vector;
	bool blocks;      /* set by a worker: see call_driver() */
	uint64_t n_calls; /* counted by workers */
};

/*
 * Written by the control thread while no worker knows the queue, read by its worker afterwards; but for the words whose
 * comment says otherwise.
 */
struct guest_rx_queue {
	struct rx_queue base;
	const struct guest_run_ops *run; /* guest_run.h; NULL: the header is of a length they do not know */
	struct vu_ring *ring;            /* the guest's transmit ring */
	struct guest_caller caller;
	uint16_t header_len;  /* bytes of virtio-net header: 12, or 10 for a legacy driver without MRG_RXBUF */
	uint8_t offloads;     /* FRAME_NEEDS_* the guest negotiated to send */
	bool is_alarm_said;   /* port_alarm() */
	/* SEND_RARP: set by the control thread, cleared by the worker that has sent the announcement. */
	bool announce;
	bool is_announcing; /* the worker's: it is the burst that was received */
	uint8_t announce_mac[6];
};

struct guest_tx_queue {
	struct tx_queue base;
	const struct guest_run_ops *run;
	struct vu_ring *ring; /* the guest's receive ring */
	struct guest_caller caller;
	uint16_t header_len;
	bool checks_csum; /* GUEST_CSUM: may be told DATA_VALID */
	bool is_alarm_said; /* port_alarm() */
	/* Of workers that share the queue; under base.lock, as is ring->device then. */
	struct vring_tickets tickets;
};

/* Chooses the run functions for what the queue has now: header length, offloads. Control thread. */
void guest_rx_queue_update(struct guest_rx_queue *queue);
void guest_tx_queue_update(struct guest_tx_queue *queue);

/* Has the queue's worker broadcast a RARP for `mac` as if the guest had sent it. Control thread. */
void guest_rx_queue_announce(struct guest_rx_queue *queue, const uint8_t mac[6]);

/* Sets the datapath functions. */
void guest_rx_queue_init(struct guest_rx_queue *queue);
void guest_tx_queue_init(struct guest_tx_queue *queue);

#endif
