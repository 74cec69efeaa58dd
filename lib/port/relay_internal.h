/* SPDX-License-Identifier: BSD-3-Clause */
/* What the control half and the datapath half of a relay port share: the rings in shadow mode. */
#ifndef PORT_RELAY_INTERNAL_H
#define PORT_RELAY_INTERNAL_H

#include <port/port.h>
#include <vhost/backend.h>
#include <vring/shadow.h>

/* Written by the control thread while no worker knows the queue, used by its worker afterwards. */
struct relay_queue {
	struct rx_queue base;
	struct vu_ring *ring;        /* the guest's */
	struct vring_shadow *shadow; /* NULL: not in shadow mode, or the ring does not run */
	int kick_fd;                 /* ours, wakes the device */
	bool is_transmit;            /* the guest's transmit ring */
	bool is_lying;               /* the device: said what cannot be */
	bool kick_blocks;            /* the device: a write to its kick descriptor, which it shares, had to be interrupted */
	bool blocks;                 /* a write to the guest's call descriptor had to be interrupted */
	bool is_alarm_said;
	bool was_served;             /* the worker's: by the transmit ring's turn, so a kick may still come for it */
};

void relay_queue_init(struct relay_queue *queue);

#endif
