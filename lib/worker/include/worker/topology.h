/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What is connected to what: the control thread's picture from which the workers' plans are made. The control thread
 * owns and changes it, and calls workers_update() afterwards.
 */
#ifndef WORKER_TOPOLOGY_H
#define WORKER_TOPOLOGY_H

#include <bridge/fdb.h>
#include <port/port.h>

#define TOPOLOGY_MAX_BRIDGES 64
#define TOPOLOGY_MAX_CROSSES (PORT_MAX / 2)

struct bridge {
	char name[PORT_NAME_SIZE];
	struct fdb *fdb;
	unsigned int n_members;
	uint16_t members[PORT_MAX]; /* port ids */
};

struct cross_connect {
	uint16_t ports[2]; /* ids */
	bool lossless;
};

struct topology {
	struct port *ports[PORT_MAX]; /* by id; NULL: free */
	unsigned int n_bridges;
	struct bridge bridges[TOPOLOGY_MAX_BRIDGES];
	unsigned int n_crosses;
	struct cross_connect crosses[TOPOLOGY_MAX_CROSSES];
};

#endif
