/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Relay ports: a guest on one side, another vhost-user device on the other.
 *
 * In pass-through the device gets the guest's memory, rings and descriptors, and frames do not come by here at all. In
 * shadow mode each ring of the guest is relayed to a ring of ours (vring/shadow.h), so that what the device writes can
 * be noted in the dirty log of a guest that is being migrated, although the device knows no such log. `auto` is
 * pass-through but while the front end wants the log.
 *
 * The guest is offered what the device offers, less what a shadow ring cannot carry. It can come when the device is
 * there, and its front end is disconnected when the device has gone.
 *
 * Thread rule: control thread; in shadow mode workers serve the rings.
 */
#ifndef PORT_RELAY_H
#define PORT_RELAY_H

#include <base/unix_socket.h>
#include <port/guest.h>
#include <port/port.h>

/* Queue pairs of a relay port; each ring is a queue of its own. */
#define RELAY_MAX_QUEUE_PAIRS (PORT_MAX_QUEUES / 2)

enum relay_mode {
	RELAY_AUTO,
	RELAY_PASS_THROUGH,
	RELAY_SHADOW,
};

/* "auto", "pass-through", "shadow" */
const char *relay_mode_name(enum relay_mode mode);

struct relay_config {
	const char *name;
	uint16_t id;
	struct unix_socket_spec socket; /* the guest's; strings are copied */
	enum guest_role role;
	unsigned int n_queue_pairs; /* 1..RELAY_MAX_QUEUE_PAIRS, the most that are offered */
	const char *device;         /* path of the device's socket, to which we connect; copied */
	enum relay_mode relay;
	enum port_mode mode;
};

/* Returns the port, or NULL and one line in `error`. */
struct port *relay_create(const struct relay_config *config, const struct port_host *host, char *error,
	size_t error_size);

/* As guest_check_memory(). */
void relay_check_memory(struct port *port);

bool port_is_relay(const struct port *port);

#endif
