/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <event2/event.h>

#include <base/clock.h>
#include <base/log.h>
#include <gmem/guard.h>
#include <port/guest.h>
#include <port/nic.h>
#include <port/relay.h>
#include <vring/run.h>

#include "daemon.h"
#include "eal.h"

#define TICK_MS  100
#define WATCH_MS 10

static void on_ports_changed(void *ctx)
{
	daemon_replan(ctx);
}

static void on_ports_offered(void *ctx)
{
	struct daemon *daemon = ctx;

	workers_publish(daemon->workers, &daemon->topology);
}

static void on_port_alarm(void *ctx, struct port *port)
{
	struct daemon *daemon = ctx;

	workers_alarm(daemon->workers, port);
}

void daemon_replan(struct daemon *daemon)
{
	workers_update(daemon->workers, &daemon->topology);
}

static void synchronize(void *ctx)
{
	struct daemon *daemon = ctx;

	workers_synchronize(daemon->workers);
}

struct port *daemon_port_find(const struct daemon *daemon, const char *name)
{
	for (unsigned int id = 0; id < PORT_MAX; id++) {
		struct port *port = daemon->topology.ports[id];

		if (port != NULL && strcmp(port->name, name) == 0)
			return port;
	}
	return NULL;
}

struct bridge *daemon_bridge_find(struct daemon *daemon, const char *name)
{
	for (unsigned int i = 0; i < daemon->topology.n_bridges; i++) {
		if (strcmp(daemon->topology.bridges[i].name, name) == 0)
			return &daemon->topology.bridges[i];
	}
	return NULL;
}

enum port_mode daemon_port_mode(enum config_mode mode)
{
	static const enum port_mode modes[] = {
		[CONFIG_MODE_POLL] = PORT_MODE_POLL,
		[CONFIG_MODE_ADAPTIVE] = PORT_MODE_ADAPTIVE,
		[CONFIG_MODE_INTERRUPT] = PORT_MODE_INTERRUPT,
	};

	return modes[mode];
}

static struct port_vlan vlan_of(const struct config_vlan *config)
{
	struct port_vlan vlan = { .access = config->access, .native = config->native };

	switch (config->kind) {
	case CONFIG_VLAN_NONE:
		vlan.kind = PORT_VLAN_NONE;
		break;
	case CONFIG_VLAN_ACCESS:
		vlan.kind = PORT_VLAN_ACCESS;
		break;
	case CONFIG_VLAN_TRUNK:
		vlan.kind = PORT_VLAN_TRUNK;
		break;
	}
	memcpy(vlan.allowed, config->trunk, sizeof(vlan.allowed));
	return vlan;
}

static struct unix_socket_spec socket_of(const struct config_port *config)
{
	return (struct unix_socket_spec){
		.path = config->socket.path,
		.owner = config->socket.owner,
		.group = config->socket.group,
		.mode = config->socket.mode,
	};
}

static enum guest_role role_of(const struct config_port *config)
{
	return config->role == CONFIG_ROLE_LISTEN ? GUEST_ROLE_LISTEN : GUEST_ROLE_CONNECT;
}

static enum relay_mode relay_of(enum config_relay relay)
{
	static const enum relay_mode modes[] = {
		[CONFIG_RELAY_AUTO] = RELAY_AUTO,
		[CONFIG_RELAY_PASS_THROUGH] = RELAY_PASS_THROUGH,
		[CONFIG_RELAY_SHADOW] = RELAY_SHADOW,
	};

	return modes[relay];
}

static struct port *port_create(struct daemon *daemon, const struct config_port *config,
	uint16_t id, char *error, size_t error_size)
{
	if (config->type == CONFIG_PORT_GUEST) {
		struct guest_config guest = {
			.name = config->name,
			.id = id,
			.socket = socket_of(config),
			.role = role_of(config),
			.n_queue_pairs = config->queue_pairs,
			.mtu = (uint16_t)config->mtu,
			.vlan = vlan_of(&config->vlan),
			.mode = daemon_port_mode(config->mode),
			.coalesce = { config->coalesce_frames, config->coalesce_us },
		};

		return guest_create(&guest, &daemon->port_host, error, error_size);
	}

	if (config->type == CONFIG_PORT_RELAY) {
		struct relay_config relay = {
			.name = config->name,
			.id = id,
			.socket = socket_of(config),
			.role = role_of(config),
			.n_queue_pairs = config->queue_pairs,
			.device = config->device,
			.relay = relay_of(config->relay),
			.mode = daemon_port_mode(config->mode),
		};

		return relay_create(&relay, &daemon->port_host, error, error_size);
	}

	struct nic_config nic = {
		.name = config->name,
		.id = id,
		.device = config->device,
		.n_queues = config->queue_pairs,
		.mtu = (uint16_t)config->mtu,
		.vlan = vlan_of(&config->vlan),
		.mode = daemon_port_mode(config->mode),
		.is_msix = daemon->config->eal.vfio_intr <= CONFIG_VFIO_INTR_MSIX,
		.pool_of_node = eal_pool_of_node,
	};

	return nic_create(&nic, &daemon->port_host, error, error_size);
}

int daemon_port_add(
	struct daemon *daemon, const struct config_port *config, char *error, size_t error_size)
{
	struct bridge *bridge = NULL;
	struct port *port;
	uint16_t id = 0;

	if (daemon_port_find(daemon, config->name) != NULL) {
		snprintf(error, error_size, "port %s: the name is taken; choose another or remove that port first",
			config->name);
		return -EEXIST;
	}
	if (config->bridge_name[0] != '\0') {
		bridge = daemon_bridge_find(daemon, config->bridge_name);
		if (bridge == NULL) {
			snprintf(error, error_size,
				"port %s: no bridge '%s'; see: ringwayctl bridge show", config->name,
				config->bridge_name);
			return -ENOENT;
		}
	}
	while (id < PORT_MAX && daemon->topology.ports[id] != NULL)
		id++;
	if (id == PORT_MAX) {
		snprintf(error, error_size, "port %s: there are %d ports already, which is the limit; remove one first",
			config->name, PORT_MAX);
		return -ENOSPC;
	}
	port = port_create(daemon, config, id, error, error_size);
	if (port == NULL)
		return -EINVAL;
	daemon->topology.ports[id] = port;
	if (bridge != NULL)
		bridge->members[bridge->n_members++] = id;
	daemon_replan(daemon);
	return 0;
}

static void member_remove(struct bridge *bridge, uint16_t id)
{
	for (unsigned int i = 0; i < bridge->n_members; i++) {
		if (bridge->members[i] == id) {
			bridge->members[i] = bridge->members[--bridge->n_members];
			return;
		}
	}
}

int daemon_port_remove(struct daemon *daemon, const char *name, char *error, size_t error_size)
{
	struct port *port = daemon_port_find(daemon, name);
	struct topology *topology = &daemon->topology;

	if (port == NULL) {
		snprintf(error, error_size, "port %s: no such port; see: ringwayctl port show", name);
		return -ENOENT;
	}
	for (unsigned int i = 0; i < topology->n_crosses; i++) {
		const uint16_t *ends = topology->crosses[i].ports;

		if (ends[0] == port->id || ends[1] == port->id) {
			snprintf(error, error_size,
				"port %s: is an end of a cross-connect; change the configuration file "
				"and restart to remove both",
				name);
			return -EBUSY;
		}
	}
	topology->ports[port->id] = NULL;
	for (unsigned int i = 0; i < topology->n_bridges; i++)
		member_remove(&topology->bridges[i], port->id);
	workers_update(daemon->workers, topology);
	for (unsigned int i = 0; i < topology->n_bridges; i++)
		fdb_flush_port(topology->bridges[i].fdb, port->id, synchronize, daemon);
	port->ops->destroy(port);
	return 0;
}

static void on_tick(evutil_socket_t fd, short what, void *ctx)
{
	struct daemon *daemon = ctx;
	uint64_t now_us = clock_now_us();

	for (unsigned int id = 0; id < PORT_MAX; id++) {
		struct port *port = daemon->topology.ports[id];

		if (port != NULL && port->ops->tick != NULL)
			port->ops->tick(port);
	}
	for (unsigned int i = 0; i < daemon->topology.n_bridges; i++)
		fdb_age(daemon->topology.bridges[i].fdb, now_us, synchronize, daemon);
}

static void on_watch(evutil_socket_t fd, short what, void *ctx)
{
	struct daemon *daemon = ctx;

	if (!workers_watch(daemon->workers))
		event_del(daemon->watch);
}

static void watch_start(struct daemon *daemon)
{
	const struct timeval watch = { .tv_usec = WATCH_MS * 1000 };

	event_add(daemon->watch, &watch);
}

static void on_news(evutil_socket_t fd, short what, void *ctx)
{
	struct daemon *daemon = ctx;
	struct worker_news news;
	uint64_t n;

	if (read(fd, &n, sizeof(n)) < 0)
		return;
	while (workers_next_news(daemon->workers, &news)) {
		struct port *port = news.port < PORT_MAX ? daemon->topology.ports[news.port] : NULL;

		switch (news.kind) {
		case WORKER_NEWS_ALARM:
			if (port != NULL && port->ops->tick != NULL)
				port->ops->tick(port);
			break;
		case WORKER_NEWS_SHUT_OUT:
			if (port != NULL)
				log_limited(&daemon->shut_out_log_limits[port->id], LOG_LEVEL_WARN,
					"port %s: queue %u woke worker %u for nothing %d times in a row; it "
					"may not for a while (see: ringwayctl worker show)",
					port->name, news.queue, news.worker, EVENT_SPURIOUS_MAX);
			break;
		case WORKER_NEWS_AWAKE:
			watch_start(daemon);
			break;
		}
	}
}

static void on_guard(evutil_socket_t fd, short what, void *ctx)
{
	struct daemon *daemon = ctx;
	uint64_t n;

	if (read(fd, &n, sizeof(n)) < 0)
		return;
	for (unsigned int id = 0; id < PORT_MAX; id++) {
		struct port *port = daemon->topology.ports[id];

		if (port != NULL && port_is_guest(port))
			guest_check_memory(port);
		else if (port != NULL && port_is_relay(port))
			relay_check_memory(port);
	}
}

static void on_signal(evutil_socket_t signal_number, short what, void *ctx)
{
	struct daemon *daemon = ctx;

	log_info("stopping: signal %d", (int)signal_number);
	event_base_loopexit(daemon->events, NULL);
}

static int events_start(struct daemon *daemon, char *error, size_t error_size)
{
	static const int signals[] = { SIGINT, SIGTERM };
	const struct timeval tick = { .tv_usec = TICK_MS * 1000 };
	int guard_fd = gmem_guard_install();

	if (guard_fd < 0) {
		snprintf(error, error_size, "cannot guard guest memory: %s", strerror(-guard_fd));
		return guard_fd;
	}
	signal(SIGPIPE, SIG_IGN);
	daemon->events = event_base_new();
	if (daemon->events == NULL)
		goto no_memory;
	daemon->tick = event_new(daemon->events, -1, EV_PERSIST, on_tick, daemon);
	daemon->watch = event_new(daemon->events, -1, EV_PERSIST, on_watch, daemon);
	daemon->guard = event_new(daemon->events, guard_fd, EV_READ | EV_PERSIST, on_guard, daemon);
	if (daemon->tick == NULL || daemon->watch == NULL || daemon->guard == NULL)
		goto no_memory;
	event_add(daemon->tick, &tick);
	event_add(daemon->guard, NULL);
	for (unsigned int i = 0; i < 2; i++) {
		daemon->signals[i] = evsignal_new(daemon->events, signals[i], on_signal, daemon);
		if (daemon->signals[i] == NULL)
			goto no_memory;
		event_add(daemon->signals[i], NULL);
	}
	return 0;

no_memory:
	snprintf(error, error_size, "out of memory");
	return -ENOMEM;
}

static int topology_start(
	struct daemon *daemon, const struct config *config, char *error, size_t error_size)
{
	struct topology *topology = &daemon->topology;

	for (uint32_t i = 0; i < config->n_bridges; i++) {
		const struct config_bridge *from = &config->bridges[i];
		struct bridge *bridge = &topology->bridges[i];

		snprintf(bridge->name, sizeof(bridge->name), "%s", from->name);
		bridge->fdb =
			fdb_create(from->name, from->fdb_max, from->age_s, -1, error, error_size);
		if (bridge->fdb == NULL)
			return -ENOMEM;
		topology->n_bridges++;
	}
	/* Ports get their place in the file as id, so indexes of the file are ids. */
	for (uint32_t i = 0; i < config->n_bridges; i++) {
		struct bridge *bridge = &topology->bridges[i];

		for (uint32_t m = 0; m < config->bridges[i].n_ports; m++)
			bridge->members[bridge->n_members++] =
				(uint16_t)config->bridges[i].port_indexes[m];
	}
	for (uint32_t i = 0; i < config->n_cross_connects; i++) {
		struct cross_connect *cross = &topology->crosses[topology->n_crosses++];

		cross->ports[0] = (uint16_t)config->cross_connects[i].port_indexes[0];
		cross->ports[1] = (uint16_t)config->cross_connects[i].port_indexes[1];
		cross->lossless = config->cross_connects[i].lossless;
	}
	for (uint32_t i = 0; i < config->n_ports; i++) {
		int rc = daemon_port_add(daemon, &config->ports[i], error, error_size);

		if (rc != 0)
			return rc;
	}
	return 0;
}

/* Before any ring is. */
static int simd_choose(enum config_simd wanted, char *error, size_t error_size)
{
	static const enum vring_isa isas[] = {
		[CONFIG_SIMD_AUTO] = VRING_N_ISAS - 1,
		[CONFIG_SIMD_PORTABLE] = VRING_ISA_PORTABLE,
		[CONFIG_SIMD_AVX2] = VRING_ISA_AVX2,
		[CONFIG_SIMD_AVX512] = VRING_ISA_AVX512,
	};

	vring_isa_limit(isas[wanted]);
	if (wanted == CONFIG_SIMD_AUTO || vring_isa_best() == isas[wanted])
		return 0;
	snprintf(error, error_size,
		"workers.simd: value '%s' is not allowed; allowed on this CPU: auto, portable%s; "
		"write auto",
		vring_isa_name(isas[wanted]),
		vring_isa_best() == VRING_ISA_AVX2 ? ", avx2" : "");
	return -ENOTSUP;
}

static int daemon_start(struct daemon *daemon, const struct config *config,
	const struct workers_config *workers, char *error, size_t error_size)
{
	struct unix_socket_spec socket = {
		.path = config->control.path,
		.owner = config->control.owner,
		.group = config->control.group,
		.mode = config->control.mode,
	};
	int rc = events_start(daemon, error, error_size);

	if (rc == 0)
		rc = simd_choose(config->workers.simd, error, error_size);
	if (rc != 0)
		return rc;
	daemon->port_host.changed = on_ports_changed;
	daemon->port_host.offered = on_ports_offered;
	daemon->port_host.alarm = on_port_alarm;
	daemon->port_host.ctx = daemon;
	daemon->port_host.events = daemon->events;
	daemon->workers = workers_create(workers, error, error_size);
	if (daemon->workers == NULL)
		return -ENOMEM;
	daemon->news = event_new(daemon->events, workers_news_fd(daemon->workers), EV_READ | EV_PERSIST,
		on_news, daemon);
	if (daemon->news == NULL || event_add(daemon->news, NULL) != 0) {
		snprintf(error, error_size, "out of memory");
		return -ENOMEM;
	}
	watch_start(daemon);
	rc = topology_start(daemon, config, error, error_size);
	if (rc != 0)
		return rc;
	daemon->control = control_server_create(
		daemon->events, &socket, rpc_methods, daemon, NULL, error, error_size);
	return daemon->control != NULL ? 0 : -errno;
}

static void daemon_stop(struct daemon *daemon)
{
	struct port *ports[PORT_MAX];

	control_server_destroy(daemon->control);
	memcpy(ports, daemon->topology.ports, sizeof(ports));
	memset(daemon->topology.ports, 0, sizeof(daemon->topology.ports));
	if (daemon->workers != NULL)
		workers_update(daemon->workers, &daemon->topology);
	for (unsigned int id = 0; id < PORT_MAX; id++) {
		if (ports[id] != NULL)
			ports[id]->ops->destroy(ports[id]);
	}
	if (daemon->news != NULL)
		event_free(daemon->news);
	workers_destroy(daemon->workers);
	for (unsigned int i = 0; i < daemon->topology.n_bridges; i++)
		fdb_destroy(daemon->topology.bridges[i].fdb);
	for (unsigned int i = 0; i < 2; i++) {
		if (daemon->signals[i] != NULL)
			event_free(daemon->signals[i]);
	}
	if (daemon->guard != NULL)
		event_free(daemon->guard);
	if (daemon->watch != NULL)
		event_free(daemon->watch);
	if (daemon->tick != NULL)
		event_free(daemon->tick);
	if (daemon->events != NULL)
		event_base_free(daemon->events);
	eal_stop();
}

int daemon_run(const struct config *config)
{
	struct daemon *daemon = calloc(1, sizeof(*daemon));
	struct workers_config workers = { 0 };
	char error[1024] = "";
	int rc;

	if (daemon == NULL) {
		log_error("out of memory");
		return -1;
	}
	daemon->config = config;
	workers.mode = daemon_port_mode(config->workers.mode);
	workers.idle_us = config->workers.idle_us;
	rc = eal_start(config, &workers, error, sizeof(error));
	if (rc != 0) {
		log_error("%s", error);
		free(daemon);
		return -1;
	}
	rc = daemon_start(daemon, config, &workers, error, sizeof(error));
	if (rc != 0) {
		log_error("%s", error);
	} else {
		log_info("ready: %u ports, %u bridges, %u workers (%s), control socket %s",
			config->n_ports, config->n_bridges, workers_count(daemon->workers),
			vring_isa_name(vring_isa_best()), config->control.path);
		event_base_dispatch(daemon->events);
	}
	daemon_stop(daemon);
	free(daemon);
	return rc == 0 ? 0 : -1;
}
