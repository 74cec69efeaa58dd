/* SPDX-License-Identifier: BSD-3-Clause */
/* The control half's picture of one guest port. Control thread only, but for the queues (guest_internal.h). */
#ifndef PORT_GUEST_CONTROL_H
#define PORT_GUEST_CONTROL_H

#include <base/log.h>
#include <port/guest.h>

#include "front_end.h"
#include "guest_internal.h"

enum guest_state {
	GUEST_IDLE,       /* listening, nobody there */
	GUEST_CONNECTING, /* nobody listens there yet; tried again */
	GUEST_CONNECTED,  /* a front end is there, no ring runs */
	GUEST_RUNNING,    /* at least one ring runs */
	N_GUEST_STATES,
};

struct guest {
	struct port base;
	unsigned int n_queue_pairs;
	uint16_t mtu; /* configured, 0: none; base.mtu may be less while a front end asks for less */
	enum guest_state state;

	struct front_end front_end;

	struct msix *msix; /* vector i calls the driver of ring i */
	bool quiesced; /* list no queues: the session is about to change something */
	uint64_t n_faults_seen[VRING_N_FAULTS];
	struct log_limit state_log_limit; /* that the front end came or went */

	unsigned int n_rx, n_tx; /* usable now */
	struct guest_rx_queue *rx_usable[PORT_MAX_QUEUES];
	struct guest_tx_queue *tx_usable[PORT_MAX_QUEUES];
	struct guest_rx_queue rx[PORT_MAX_QUEUES]; /* by queue pair */
	struct guest_tx_queue tx[PORT_MAX_QUEUES];
};

static inline struct guest *guest_of(struct port *port)
{
	return (struct guest *)port;
}

const char *guest_state_name(enum guest_state state);

/* port_ops.describe */
void guest_describe(struct port *port, json_t *object);

#endif
