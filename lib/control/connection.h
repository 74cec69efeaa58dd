/* SPDX-License-Identifier: BSD-3-Clause */
/* One client of the control socket: lines in, answers out, its bounds kept. */
#ifndef CONNECTION_H
#define CONNECTION_H

#include <sys/queue.h>

#include <event2/util.h>

#include <control/control.h>

#include "rpc.h"

struct connection;
TAILQ_HEAD(connection_list, connection);

struct control_server {
	struct event_base *base;
	struct evconnlistener *listener;
	struct event *accept_retry; /* after accept(2) ran out of descriptors */
	struct rpc_table table;
	struct control_limits limits;
	struct connection_list connections;
	uint32_t n_connections;
	char path[UNIX_SOCKET_PATH_MAX + 1];
	struct unix_socket_identity identity;
};

/* Takes `fd` over in any case. 0 or -ENOMEM. */
int connection_open(struct control_server *server, evutil_socket_t fd);

/* Disconnects at once, without sending what waits. */
void connection_close(struct connection *connection);

#endif
