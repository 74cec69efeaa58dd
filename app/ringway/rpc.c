/* SPDX-License-Identifier: BSD-3-Clause */
/* What the control socket answers. */
#include <errno.h>
#include <string.h>

#include <rte_cycles.h>

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

static json_t *describe_port(struct port *port)
{
	char vlan[512];
	json_t *object;

	vlan_to_text(&port->vlan, vlan, sizeof(vlan));
	object = json_pack("{s:s, s:i, s:s, s:i, s:s, s:i, s:b}", "name", port->name, "id",
		(int)port->id, "type", port->ops->kind, "numa_node", -1, "vlan", vlan, "mtu",
		(int)port->mtu, "link", 0);
	port->ops->describe(port, object);
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

static json_t *describe_worker(const struct daemon *daemon, unsigned int id)
{
	const struct rx_queue *queues[QUEUES_SHOWN_MAX];
	unsigned int n = workers_list_queues(daemon->workers, id, queues, QUEUES_SHOWN_MAX);
	json_t *list = json_array();
	struct worker_report report;

	for (unsigned int i = 0; i < RTE_MIN(n, (unsigned int)QUEUES_SHOWN_MAX); i++)
		json_array_append_new(list, json_pack("{s:s, s:i}", "port", queues[i]->port->name,
						    "queue", (int)queues[i]->index));
	workers_report(daemon->workers, id, &report);
	return json_pack("{s:i, s:i, s:i, s:I, s:I, s:I, s:I, s:o}", "id", (int)id, "cpu",
		(int)report.cpu, "numa_node", report.numa_node, "busy_cycles",
		(json_int_t)report.busy_cycles, "total_cycles", (json_int_t)report.total_cycles,
		"rounds", (json_int_t)report.rounds, "packets", (json_int_t)report.packets, "queues",
		list);
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

const struct control_method rpc_methods[] = {
	{ "port.show", "ports, their state, rings and counters", port_show },
	{ "port.add", "makes a port while running", port_add },
	{ "port.remove", "removes a port while running", port_remove },
	{ "bridge.show", "bridges and cross-connects", bridge_show },
	{ "fdb.show", "learned addresses", fdb_show },
	{ "worker.show", "workers, their queues and cycles", worker_show },
	{ "stats", "counters of every port", stats },
	{ NULL, NULL, NULL },
};
