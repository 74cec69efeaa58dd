/* SPDX-License-Identifier: BSD-3-Clause */
/* What the control socket answers. */
#include <errno.h>
#include <string.h>

#include <rte_cycles.h>

#include <port/guest.h>

#include "daemon.h"

static void vlan_to_text(const struct port_vlan *vlan, char *text, size_t size)
{
	struct config_vlan config = {
		.kind = vlan->kind == PORT_VLAN_NONE   ? CONFIG_VLAN_NONE :
			vlan->kind == PORT_VLAN_ACCESS ? CONFIG_VLAN_ACCESS :
							 CONFIG_VLAN_TRUNK,
		.access = vlan->access,
		.native = vlan->native,
	};

	memcpy(config.trunk, vlan->allowed, sizeof(config.trunk));
	config_vlan_to_text(&config, text, size);
}

static const char *mode_name(enum port_mode mode)
{
	static const enum config_mode modes[] = {
		[PORT_MODE_POLL] = CONFIG_MODE_POLL,
		[PORT_MODE_ADAPTIVE] = CONFIG_MODE_ADAPTIVE,
		[PORT_MODE_INTERRUPT] = CONFIG_MODE_INTERRUPT,
	};

	return config_mode_name(modes[mode]);
}

static json_t *describe_port(struct port *port)
{
	char vlan[512];
	json_t *object;

	vlan_to_text(&port->vlan, vlan, sizeof(vlan));
	object = json_pack("{s:s, s:i, s:s, s:i, s:s, s:i, s:b}", "name", port->name, "id",
		(int)port->id, "type", port->ops->kind, "numa_node", -1, "vlan", vlan, "mtu",
		(int)port->mtu, "link", 0);
	port->ops->describe(port, object);
	json_object_set_new(object, "mode", json_string(mode_name(port->mode)));
	json_object_set_new(object, "counters", port_counters_json(port));
	return object;
}

/* The string `key` of the params, NULL if it is absent. -EINVAL and an error if it is something else. */
static int param_string(
	const json_t *params, const char *key, const char **value, struct control_error *error)
{
	const json_t *item = json_object_get(params, key);

	*value = json_string_value(item);
	if (item != NULL && *value == NULL)
		return control_fail(error, CONTROL_INVALID_PARAMS, -EINVAL,
			"%s: not a string; give a name", key);
	return 0;
}

/* The ports the params name: one, or all; each through `describe`, under the key "ports". */
static int ports_result(struct daemon *daemon, const json_t *params,
	json_t *(*describe)(struct port *port), json_t **result, struct control_error *error)
{
	json_t *list;
	const char *name;

	if (param_string(params, "name", &name, error) != 0)
		return -EINVAL;
	if (name != NULL && daemon_port_find(daemon, name) == NULL)
		return control_fail(error, CONTROL_REFUSED, -ENOENT,
			"port %s: no such port; see: ringwayctl port show", name);
	list = json_array();
	for (unsigned int id = 0; id < PORT_MAX; id++) {
		struct port *port = daemon->topology.ports[id];

		if (port != NULL && (name == NULL || strcmp(port->name, name) == 0))
			json_array_append_new(list, describe(port));
	}
	*result = json_pack("{s:o}", "ports", list);
	return 0;
}

static int port_show(void *ctx, const json_t *params, json_t **result, struct control_error *error)
{
	return ports_result(ctx, params, describe_port, result, error);
}

static json_t *describe_stats(struct port *port)
{
	json_t *object = port_counters_json(port);

	json_object_set_new(object, "name", json_string(port->name));
	return object;
}

static int stats(void *ctx, const json_t *params, json_t **result, struct control_error *error)
{
	return ports_result(ctx, params, describe_stats, result, error);
}

static int port_add(void *ctx, const json_t *params, json_t **result, struct control_error *error)
{
	struct config_port *port = NULL;
	struct config_error config_error;
	char why[1024];
	int rc;

	port = malloc(sizeof(*port));
	if (port == NULL)
		return -ENOMEM;
	rc = config_port_from_json(params, port, &config_error);
	if (rc != 0) {
		free(port);
		return control_fail(
			error, CONTROL_INVALID_PARAMS, rc, "%s", config_error.message);
	}
	rc = daemon_port_add(ctx, port, why, sizeof(why));
	if (rc == 0)
		*result = json_pack("{s:s}", "name", port->name);
	free(port);
	return rc == 0 ? 0 : control_fail(error, CONTROL_REFUSED, rc, "%s", why);
}

static int port_remove(void *ctx, const json_t *params, json_t **result, struct control_error *error)
{
	const char *name;
	char why[1024];
	int rc;

	if (param_string(params, "name", &name, error) != 0)
		return -EINVAL;
	if (name == NULL)
		return control_fail(error, CONTROL_INVALID_PARAMS, -EINVAL,
			"name: missing; say which port to remove");
	rc = daemon_port_remove(ctx, name, why, sizeof(why));
	return rc == 0 ? 0 : control_fail(error, CONTROL_REFUSED, rc, "%s", why);
}

static const char *port_name(const struct daemon *daemon, uint16_t id)
{
	const struct port *port = daemon->topology.ports[id];

	return port != NULL ? port->name : "?";
}

static json_t *describe_bridge(const struct daemon *daemon, const struct bridge *bridge)
{
	json_t *ports = json_array();

	for (unsigned int i = 0; i < bridge->n_members; i++)
		json_array_append_new(ports, json_string(port_name(daemon, bridge->members[i])));
	return json_pack("{s:s, s:o, s:I, s:I, s:I, s:I}", "name", bridge->name, "ports", ports,
		"fdb_entries", (json_int_t)fdb_count(bridge->fdb), "fdb_max",
		(json_int_t)fdb_max(bridge->fdb), "fdb_refused",
		(json_int_t)fdb_n_refused(bridge->fdb), "age_s", (json_int_t)fdb_age_s(bridge->fdb));
}

/* The bridge the params name, NULL for all. */
static int param_bridge(struct daemon *daemon, const json_t *params, const char *key,
	struct bridge **bridge, struct control_error *error)
{
	const char *name;

	*bridge = NULL;
	if (param_string(params, key, &name, error) != 0)
		return -EINVAL;
	if (name == NULL)
		return 0;
	*bridge = daemon_bridge_find(daemon, name);
	if (*bridge == NULL)
		return control_fail(error, CONTROL_REFUSED, -ENOENT,
			"bridge %s: no such bridge; see: ringwayctl bridge show", name);
	return 0;
}

static int bridge_show(void *ctx, const json_t *params, json_t **result, struct control_error *error)
{
	struct daemon *daemon = ctx;
	struct bridge *only;
	json_t *bridges, *crosses;
	int rc = param_bridge(daemon, params, "name", &only, error);

	if (rc != 0)
		return rc;
	bridges = json_array();
	crosses = json_array();
	for (unsigned int i = 0; i < daemon->topology.n_bridges; i++) {
		struct bridge *bridge = &daemon->topology.bridges[i];

		if (only == NULL || bridge == only)
			json_array_append_new(bridges, describe_bridge(daemon, bridge));
	}
	for (unsigned int i = 0; only == NULL && i < daemon->topology.n_crosses; i++) {
		const struct cross_connect *cross = &daemon->topology.crosses[i];

		json_array_append_new(crosses,
			json_pack("{s:[s, s], s:b}", "ports", port_name(daemon, cross->ports[0]),
				port_name(daemon, cross->ports[1]), "lossless", cross->lossless));
	}
	*result = json_pack("{s:o, s:o}", "bridges", bridges, "cross_connects", crosses);
	return 0;
}

static void fdb_append(const struct daemon *daemon, const struct bridge *bridge, json_t *entries)
{
	uint32_t cursor = 0;
	uint16_t vlan, port;
	unsigned int age_s;
	uint8_t mac[6];

	while (fdb_next(bridge->fdb, &cursor, mac, &vlan, &port, &age_s)) {
		char text[18];

		snprintf(text, sizeof(text), "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1],
			mac[2], mac[3], mac[4], mac[5]);
		json_array_append_new(entries,
			json_pack("{s:s, s:i, s:s, s:s, s:i}", "bridge", bridge->name, "vlan",
				(int)vlan, "mac", text, "port", port_name(daemon, port), "age_s",
				(int)age_s));
	}
}

static int fdb_show(void *ctx, const json_t *params, json_t **result, struct control_error *error)
{
	struct daemon *daemon = ctx;
	struct bridge *only;
	json_t *entries;
	int rc = param_bridge(daemon, params, "bridge", &only, error);

	if (rc != 0)
		return rc;
	entries = json_array();
	for (unsigned int i = 0; i < daemon->topology.n_bridges; i++) {
		if (only == NULL || only == &daemon->topology.bridges[i])
			fdb_append(daemon, &daemon->topology.bridges[i], entries);
	}
	*result = json_pack("{s:o}", "entries", entries);
	return 0;
}

#define QUEUES_SHOWN_MAX 1024

static json_t *describe_histogram(const struct histogram *histogram)
{
	json_t *buckets = json_array();
	uint64_t below = 1, n = 0;

	/* Shown by octaves: the bounds are powers of two. */
	for (unsigned int i = 0; i < HISTOGRAM_N_BUCKETS; i++) {
		uint64_t top = histogram_bucket_top(i);

		n += histogram->buckets[i];
		while (below != 0 && below <= top)
			below *= 2;
		if (top + 1 != below || n == 0)
			continue;
		json_array_append_new(buckets,
			json_pack("{s:I, s:I}", "below_ns", (json_int_t)below, "n", (json_int_t)n));
		n = 0;
	}
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:o}", "n", (json_int_t)histogram->n, "p50",
		(json_int_t)histogram_quantile(histogram, 0.5), "p90",
		(json_int_t)histogram_quantile(histogram, 0.9), "p99",
		(json_int_t)histogram_quantile(histogram, 0.99), "max", (json_int_t)histogram->max,
		"buckets", buckets);
}

static json_t *describe_wakeups(const struct event_set_report *events)
{
	json_t *object = json_object();

	for (unsigned int cause = 0; cause < EVENT_N_CAUSES; cause++)
		json_object_set_new(object, event_cause_name((enum event_cause)cause),
			json_integer((json_int_t)events->n_wakeups[cause]));
	json_object_set_new(object, "timer", json_integer((json_int_t)events->n_timeouts));
	json_object_set_new(object, "spurious", json_integer((json_int_t)events->n_spurious));
	return object;
}

/* The worker's queues, and those among them that keep it from sleeping. */
static void describe_queues(const struct daemon *daemon, unsigned int id, json_t *object)
{
	struct worker_queue_report queues[QUEUES_SHOWN_MAX];
	unsigned int n = workers_list_queues(daemon->workers, id, queues, QUEUES_SHOWN_MAX);
	json_t *list = json_array(), *keepers = json_array();

	for (unsigned int i = 0; i < RTE_MIN(n, (unsigned int)QUEUES_SHOWN_MAX); i++) {
		const struct worker_queue_report *report = &queues[i];
		const char *port = report->queue->port->name;
		int index = report->queue->index;

		json_array_append_new(list,
			json_pack("{s:s, s:i, s:I, s:I, s:I, s:b}", "port", port, "queue", index,
				"wakeups", (json_int_t)report->wake.n_wakeups, "spurious",
				(json_int_t)report->wake.n_spurious, "penalties",
				(json_int_t)report->wake.n_penalties, "shut_out",
				report->wake.is_shut_out));
		if (report->keeps_polling != NULL)
			json_array_append_new(keepers, json_pack("{s:s, s:i, s:s}", "port", port, "queue",
							       index, "why", report->keeps_polling));
	}
	json_object_set_new(object, "queues", list);
	json_object_set_new(object, "keeps_polling", keepers);
}

static json_t *describe_worker(const struct daemon *daemon, unsigned int id)
{
	static const char *const state_names[] = {
		[WORKER_POLLING] = "polling",
		[WORKER_PAUSING] = "pausing",
		[WORKER_ASLEEP] = "asleep",
	};
	struct worker_report report;
	json_t *object;

	workers_report(daemon->workers, id, &report);
	object = json_pack(
		"{s:i, s:i, s:i, s:s, s:s, s:i, s:i, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:o, s:I, s:o, s:o}",
		"id", (int)id, "cpu", (int)report.cpu, "numa_node", report.numa_node, "mode",
		mode_name(report.mode), "state", state_names[report.state], "idle_us",
		(int)report.idle_us, "window_us", (int)report.window_us, "busy_cycles",
		(json_int_t)report.busy_cycles, "idle_cycles", (json_int_t)report.idle_cycles,
		"sleep_cycles", (json_int_t)report.sleep_cycles, "total_cycles",
		(json_int_t)(report.busy_cycles + report.idle_cycles + report.sleep_cycles), "rounds",
		(json_int_t)report.rounds, "packets", (json_int_t)report.packets, "sleeps",
		(json_int_t)report.n_sleeps, "wakeups", describe_wakeups(&report.events), "penalties",
		(json_int_t)report.events.n_penalties, "wake_ns", describe_histogram(report.wake_ns),
		"request_ns", describe_histogram(report.request_ns));
	describe_queues(daemon, id, object);
	return object;
}

static int worker_show(void *ctx, const json_t *params, json_t **result, struct control_error *error)
{
	struct daemon *daemon = ctx;
	json_t *list = json_array();

	for (unsigned int id = 0; id < workers_count(daemon->workers); id++)
		json_array_append_new(list, describe_worker(daemon, id));
	*result = json_pack(
		"{s:o, s:I}", "workers", list, "tsc_hz", (json_int_t)rte_get_tsc_hz());
	return 0;
}

/* A mode, which must be there. */
static int param_mode(const json_t *params, enum port_mode *mode, struct control_error *error)
{
	enum config_mode parsed = CONFIG_MODE_ADAPTIVE;
	const char *name;

	*mode = PORT_MODE_ADAPTIVE;
	if (param_string(params, "mode", &name, error) != 0)
		return -EINVAL;
	if (!config_mode_parse(name, &parsed))
		return control_fail(error, CONTROL_INVALID_PARAMS, -EINVAL,
			"mode: value '%s' is not allowed; allowed: " CONFIG_MODE_ALLOWED,
			name != NULL ? name : "");
	*mode = daemon_port_mode(parsed);
	return 0;
}

/* An integer within bounds; -1 in *value if it is absent. */
static int param_integer(const json_t *params, const char *key, unsigned int max, int *value,
	struct control_error *error)
{
	const json_t *item = json_object_get(params, key);
	json_int_t number = json_integer_value(item);

	*value = -1;
	if (item == NULL)
		return 0;
	if (!json_is_integer(item) || number < 0 || number > (json_int_t)max)
		return control_fail(error, CONTROL_INVALID_PARAMS, -EINVAL,
			"%s: not an allowed number; allowed: 0..%u", key, max);
	*value = (int)number;
	return 0;
}

/* The workers that the params name: first and behind the last. */
static int param_workers(const struct daemon *daemon, const json_t *params, unsigned int *first,
	unsigned int *end, struct control_error *error)
{
	unsigned int n = workers_count(daemon->workers);
	int id;

	if (param_integer(params, "id", n - 1, &id, error) != 0)
		return -EINVAL;
	*first = id < 0 ? 0 : (unsigned int)id;
	*end = id < 0 ? n : *first + 1;
	return 0;
}

static int worker_mode(void *ctx, const json_t *params, json_t **result, struct control_error *error)
{
	struct daemon *daemon = ctx;
	unsigned int first, end;
	enum port_mode mode;

	if (param_workers(daemon, params, &first, &end, error) != 0 ||
		param_mode(params, &mode, error) != 0)
		return -EINVAL;
	for (unsigned int id = first; id < end; id++)
		workers_set_mode(daemon->workers, id, mode);
	daemon_replan(daemon);
	*result = json_object();
	return 0;
}

static int worker_ping(void *ctx, const json_t *params, json_t **result, struct control_error *error)
{
	struct daemon *daemon = ctx;
	unsigned int first, end;
	json_t *list;

	if (param_workers(daemon, params, &first, &end, error) != 0)
		return -EINVAL;
	list = json_array();
	for (unsigned int id = first; id < end; id++) {
		struct worker_report report;
		struct worker_ping ping;
		char why[256];

		if (workers_ping(daemon->workers, id, &ping, why, sizeof(why)) != 0) {
			json_decref(list);
			return control_fail(error, CONTROL_REFUSED, -ETIMEDOUT, "%s", why);
		}
		workers_report(daemon->workers, id, &report);
		json_array_append_new(list, json_pack("{s:i, s:i, s:I, s:b}", "id", (int)id, "cpu",
						    (int)report.cpu, "round_trip_ns",
						    (json_int_t)ping.round_trip_ns, "was_asleep",
						    ping.was_asleep));
	}
	*result = json_pack("{s:o}", "workers", list);
	return 0;
}

/* The port the params name, which must be there. */
static int param_port(const struct daemon *daemon, const json_t *params, struct port **port,
	struct control_error *error)
{
	const char *name;

	if (param_string(params, "name", &name, error) != 0)
		return -EINVAL;
	if (name == NULL)
		return control_fail(
			error, CONTROL_INVALID_PARAMS, -EINVAL, "name: missing; say which port");
	*port = daemon_port_find(daemon, name);
	if (*port == NULL)
		return control_fail(error, CONTROL_REFUSED, -ENOENT,
			"port %s: no such port; see: ringwayctl port show", name);
	return 0;
}

static int port_mode(void *ctx, const json_t *params, json_t **result, struct control_error *error)
{
	struct daemon *daemon = ctx;
	enum port_mode mode;
	struct port *port;

	if (param_port(daemon, params, &port, error) != 0 || param_mode(params, &mode, error) != 0)
		return -EINVAL;
	port->mode = mode;
	daemon_replan(daemon);
	*result = json_object();
	return 0;
}

static int port_coalesce(void *ctx, const json_t *params, json_t **result, struct control_error *error)
{
	struct daemon *daemon = ctx;
	struct port *port;
	int frames, us;

	if (param_port(daemon, params, &port, error) != 0 ||
		param_integer(params, "frames", CONFIG_COALESCE_FRAMES_MAX, &frames, error) != 0 ||
		param_integer(params, "us", CONFIG_COALESCE_US_MAX, &us, error) != 0)
		return -EINVAL;
	if (!port_is_guest(port))
		return control_fail(error, CONTROL_REFUSED, -EOPNOTSUPP,
			"port %s: is no guest port; only these send calls that can wait", port->name);
	if (frames >= 0)
		port->coalesce.frames = (uint32_t)frames;
	if (us >= 0)
		port->coalesce.us = (uint32_t)us;
	daemon_replan(daemon);
	*result = json_object();
	return 0;
}

const struct control_method rpc_methods[] = {
	{ "port.show", "ports, their state, rings and counters", port_show },
	{ "port.add", "makes a port while running", port_add },
	{ "port.remove", "removes a port while running", port_remove },
	{ "bridge.show", "bridges and cross-connects", bridge_show },
	{ "fdb.show", "learned addresses", fdb_show },
	{ "port.mode", "sets how long a port keeps its worker awake", port_mode },
	{ "port.coalesce", "sets how long calls to a guest wait for others", port_coalesce },
	{ "worker.show", "workers, their queues, cycles and sleep", worker_show },
	{ "worker.mode", "sets when workers sleep", worker_mode },
	{ "worker.ping", "measures a worker's answer", worker_ping },
	{ "stats", "counters of every port", stats },
	{ NULL, NULL, NULL },
};
