/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Guest ports: the vhost-user back end of one guest's network device.
 *
 * Roles: `listen`, the socket is ours and one front end at a time is served; `connect`, the socket is the front end's
 * and we try again for ever, quietly. In both a guest may go and come back at any time.
 *
 * Thread rule: control thread, EAL initialised.
 */
#ifndef PORT_GUEST_H
#define PORT_GUEST_H

#include <base/unix_socket.h>
#include <port/port.h>

enum guest_role {
	GUEST_ROLE_LISTEN,
	GUEST_ROLE_CONNECT,
};

struct guest_config {
	const char *name;
	uint16_t id;
	struct unix_socket_spec socket; /* strings are copied */
	enum guest_role role;
	unsigned int n_queue_pairs; /* 1..PORT_MAX_QUEUES, offered to the guest */
	uint16_t mtu;               /* frames to the guest are held to it, the VMM tells the guest; 0: not limited */
	struct port_vlan vlan;
	enum port_mode mode;
	struct port_coalesce coalesce; /* of calls */
};

/* Returns the port, listening or connecting, or NULL and one line in `error`. */
struct port *guest_create(const struct guest_config *config, const struct port_host *host,
	char *error, size_t error_size);

/* Disconnects the guest if the peer took memory away under it; called when the memory guard's eventfd fired. */
void guest_check_memory(struct port *port);

/* Whether this port is a guest port. */
bool port_is_guest(const struct port *port);

#endif
