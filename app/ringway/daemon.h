/* SPDX-License-Identifier: BSD-3-Clause */
/* The running daemon: what the configuration asked for, wired together. Control thread. */
#ifndef RINGWAY_DAEMON_H
#define RINGWAY_DAEMON_H

#include <config/config.h>
#include <control/control.h>
#include <worker/worker.h>

struct event_base;

struct daemon {
	const struct config *config;
	struct event_base *events;
	struct port_host port_host;
	struct topology topology;
	struct workers *workers;
	struct control_server *control;
	struct event *tick;
	struct event *watch; /* pending while a worker is awake */
	struct event *news;
	struct event *guard;
	struct event *signals[2];
	struct log_limit shut_out_log_limits[PORT_MAX]; /* by port id: one peer must not use up the others' lines */
};

/* Starts everything, serves until SIGINT or SIGTERM, stops everything. 0, or -1 after an error line. */
int daemon_run(const struct config *config);

/* Makes a port and connects it to the bridge `port->bridge_name`, if one is named. 0, or a negative errno and a line. */
int daemon_port_add(struct daemon *daemon, const struct config_port *port, char *error,
	size_t error_size);

/* Makes workers follow what was changed in the topology, in a port's mode or coalescing, or in a worker's mode. */
void daemon_replan(struct daemon *daemon);

enum port_mode daemon_port_mode(enum config_mode mode);

/* -ENOENT and a line if there is no such port. */
int daemon_port_remove(
	struct daemon *daemon, const char *name, char *error, size_t error_size);

struct port *daemon_port_find(const struct daemon *daemon, const char *name);
struct bridge *daemon_bridge_find(struct daemon *daemon, const char *name);

/* The methods of the control socket; ctx is the daemon. */
extern const struct control_method rpc_methods[];

#endif
