/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cpu_list.h"
#include "schema.h"
#include "value.h"

static const struct choice log_levels[] = {
	{"error", LOG_LEVEL_ERROR},
	{"warn", LOG_LEVEL_WARN},
	{"info", LOG_LEVEL_INFO},
	{"debug", LOG_LEVEL_DEBUG},
	{NULL, 0},
};

static const struct choice simd_names[] = {
	{"auto", CONFIG_SIMD_AUTO},
	{"portable", CONFIG_SIMD_PORTABLE},
	{"avx2", CONFIG_SIMD_AVX2},
	{"avx512", CONFIG_SIMD_AVX512},
	{NULL, 0},
};

const struct choice schema_modes[] = {
	{"poll", CONFIG_MODE_POLL},
	{"adaptive", CONFIG_MODE_ADAPTIVE},
	{"interrupt", CONFIG_MODE_INTERRUPT},
	{NULL, 0},
};

static const struct choice hugepages[] = {
	{"auto", CONFIG_HUGEPAGES_AUTO},
	{"never", CONFIG_HUGEPAGES_NEVER},
	{NULL, 0},
};

static const struct choice vfio_intrs[] = {
	[CONFIG_VFIO_INTR_AUTO] = {"auto", CONFIG_VFIO_INTR_AUTO},
	[CONFIG_VFIO_INTR_MSIX] = {"msix", CONFIG_VFIO_INTR_MSIX},
	[CONFIG_VFIO_INTR_MSI] = {"msi", CONFIG_VFIO_INTR_MSI},
	[CONFIG_VFIO_INTR_LEGACY] = {"legacy", CONFIG_VFIO_INTR_LEGACY},
	{NULL, 0},
};

const char *config_vfio_intr_name(enum config_vfio_intr kind)
{
	return vfio_intrs[kind].name;
}

int schema_read_socket_path(
	struct reader *r, const struct key_rule *rule, const json_t *value, void *field)
{
	struct key_rule row = *rule;
	char text[UNIX_SOCKET_ERROR_MAX];

	if (!json_is_string(value))
		return reader_refuse_text(r, rule, value);
	if (unix_socket_path_check(json_string_value(value), text, sizeof(text)) < 0)
		return reader_refuse(r, "%s", text);
	row.min = 1;
	row.max = UNIX_SOCKET_PATH_MAX;
	return reader_text(r, &row, value, field);
}

bool schema_mode_parse(const json_t *value, mode_t *mode)
{
	const char *text = json_string_value(value);
	size_t n_digits = text != NULL ? strspn(text, "01234567") : 0;

	if (text == NULL || json_string_length(value) != n_digits || n_digits < 3 || n_digits > 4 ||
		(n_digits == 4 && text[0] != '0'))
		return false;
	*mode = (mode_t)strtoul(text, NULL, 8);
	return true;
}

int schema_read_mode(
	struct reader *r, const struct key_rule *rule, const json_t *value, void *field)
{
	return schema_mode_parse(value, field) ? 0 : reader_refuse_text(r, rule, value);
}

/* Field: the pointer; its count stands at count_offset. "cpus: 1" is a list of one, too. */
static int read_cpus(
	struct reader *r, const struct key_rule *rule, const json_t *value, void *field)
{
	uint32_t *n_cpus = (uint32_t *)((char *)field - rule->offset + rule->count_offset);
	char number[24];
	const char *text = json_string_value(value);
	int ret;

	if (json_is_integer(value)) {
		snprintf(
			number, sizeof(number), "%" JSON_INTEGER_FORMAT, json_integer_value(value));
		text = number;
	}
	if (text == NULL)
		return reader_refuse_value(r, rule, value);
	ret = cpu_list_parse(text, field, n_cpus);
	if (ret == -EINVAL)
		return reader_refuse(r,
			"value '%.64s' is not allowed; allowed: CPUs 0 to 1023 and ranges, each "
			"once, "
			"such as \"1,3-5\"; see 'lscpu -e' for the CPUs there are",
			text);
	return ret;
}

static int port_index_find(const struct config *config, const char *name)
{
	for (uint32_t i = 0; i < config->n_ports; i++) {
		if (strcmp(config->ports[i].name, name) == 0)
			return (int)i;
	}
	return -1;
}

static int member_read(struct reader *r, const json_t *value, uint32_t *port_index)
{
	const char *name = json_string_value(value);
	const struct config_port *port;
	char shown[128];
	int index;

	if (name == NULL)
		return reader_refuse(r,
			"%s is not allowed; allowed: the name of a port; write it in quotes if it "
			"looks like a number",
			value_describe(value, shown, sizeof(shown)));
	index = port_index_find(r->config, name);
	if (index < 0)
		return reader_refuse(r,
			"%s is not allowed; allowed: the names under 'ports'; add the port there, "
			"or "
			"correct the name",
			value_describe(value, shown, sizeof(shown)));
	port = &r->config->ports[index];
	if (port->type == CONFIG_PORT_RELAY)
		return reader_refuse(r,
			"value '%s' is not allowed; allowed: ports of type guest and nic, since what "
			"a relay port moves goes to its device; remove it",
			name);
	if (port->bridge_index >= 0 || port->cross_connect_index >= 0)
		return reader_refuse(r,
			"value '%s' is not allowed; allowed: a port that is used once; it is in "
			"%s[%d] "
			"already, remove it from one of them",
			name, port->bridge_index >= 0 ? "bridges" : "cross_connects",
			port->bridge_index >= 0 ? port->bridge_index : port->cross_connect_index);
	*port_index = (uint32_t)index;
	return 0;
}

/*
 * A list of names of ports. Field: a pointer to indexes; its count stands at count_offset.
 * `index_offset` is which index of the port is to say where it is used now.
 */
static int members_read(struct reader *r, const struct key_rule *rule, const json_t *value,
	void *field, size_t index_offset, uint32_t index)
{
	uint32_t *n_members = (uint32_t *)((char *)field - rule->offset + rule->count_offset);
	size_t n = json_array_size(value);
	uint32_t *members;

	if (!json_is_array(value))
		return reader_refuse_value(r, rule, value);
	if (n < rule->min || n > rule->max)
		return reader_refuse(r, "a list of %zu is not allowed; allowed: %s; %s", n,
			rule->allowed, rule->next);
	members = calloc(n + 1, sizeof(*members));
	if (members == NULL)
		return -ENOMEM;
	*(uint32_t **)field = members;
	for (size_t i = 0; i < n; i++) {
		size_t length = reader_enter_index(r, i);
		int ret = member_read(r, json_array_get(value, i), &members[i]);

		if (ret < 0)
			return ret;
		*(int *)((char *)&r->config->ports[members[i]] + index_offset) = (int)index;
		*n_members = (uint32_t)i + 1;
		reader_leave(r, length);
	}
	return 0;
}

static int read_bridge_ports(
	struct reader *r, const struct key_rule *rule, const json_t *value, void *field)
{
	return members_read(r, rule, value, field, offsetof(struct config_port, bridge_index),
		r->config->n_bridges - 1);
}

static int read_cross_connect_ports(
	struct reader *r, const struct key_rule *rule, const json_t *value, void *field)
{
	return members_read(r, rule, value, field,
		offsetof(struct config_port, cross_connect_index), r->config->n_cross_connects - 1);
}

static void bridge_set_defaults(void *object)
{
	struct config_bridge *bridge = object;

	bridge->age_s = 300;
	bridge->fdb_max = 65536;
}

static int bridge_finish(struct reader *r, void *object)
{
	struct config_bridge *bridge = object;

	bridge->line = reader_line(r);
	for (const struct config_bridge *other = r->config->bridges; other < bridge; other++) {
		if (strcmp(other->name, bridge->name) == 0) {
			reader_enter_key(r, "name");
			return reader_refuse(r,
				"value '%s' is not allowed; allowed: a name that no other bridge "
				"has "
				"(line %u has it); choose another",
				bridge->name, other->line);
		}
	}
	return 0;
}

static int cross_connect_finish(struct reader *r, void *object)
{
	((struct config_cross_connect *)object)->line = reader_line(r);
	return 0;
}

static void control_set_defaults(void *object)
{
	struct config_socket *control = object;

	strcpy(control->path, CONFIG_CONTROL_SOCKET);
	control->mode = SOCKET_MODE_DEFAULT;
}

static void workers_set_defaults(void *object)
{
	__typeof__(((struct config *)0)->workers) *workers = object;

	workers->mode = CONFIG_MODE_ADAPTIVE;
	workers->idle_us = CONFIG_IDLE_US_DEFAULT;
}

static void file_set_defaults(void *object)
{
	struct config *config = object;

	workers_set_defaults(&config->workers);
	control_set_defaults(&config->control);
	config->log.level = LOG_LEVEL_INFO;
}

/* The control socket and the ports' sockets must be different files, even if the control key is
 * left to its default. */
static int file_finish(struct reader *r, void *object)
{
	const struct config *config = object;

	for (uint32_t i = 0; i < config->n_ports; i++) {
		const struct config_port *port = &config->ports[i];

		if (port->type == CONFIG_PORT_GUEST &&
			strcmp(port->socket.path, config->control.path) == 0) {
			reader_enter_key(r, "ports");
			reader_enter_index(r, i);
			reader_enter_key(r, "socket");
			return reader_refuse(r,
				"value '%s' is not allowed; allowed: a path other than the control "
				"socket's; choose another",
				port->socket.path);
		}
	}
	return 0;
}

static const struct key_rule worker_keys[] = {
	KEY("cpus", read_cpus, offsetof(__typeof__(((struct config *)0)->workers), cpus),
		"a CPU list such as \"1,3-5\"", .next = "see 'lscpu -e' for the CPUs there are",
		.count_offset = offsetof(__typeof__(((struct config *)0)->workers), n_cpus)),
	KEY("simd", reader_choice, offsetof(__typeof__(((struct config *)0)->workers), simd),
		"auto, portable, avx2, avx512", .choices = simd_names),
	KEY("mode", reader_choice, offsetof(__typeof__(((struct config *)0)->workers), mode),
		CONFIG_MODE_ALLOWED, .choices = schema_modes),
	KEY("idle_us", reader_number, offsetof(__typeof__(((struct config *)0)->workers), idle_us),
		"1 to 100000 (microseconds)", .min = 1, .max = CONFIG_IDLE_US_MAX),
};

static const struct key_rule bridge_keys[] = {
	KEY("name", reader_name, offsetof(struct config_bridge, name), NAME_ALLOWED, .min = 1,
		.max = CONFIG_NAME_MAX, .is_required = true),
	KEY("ports", read_bridge_ports, offsetof(struct config_bridge, port_indexes),
		"a list of up to 256 names of ports", .next = "write for example ports: [vm1, vm2]",
		.max = CONFIG_PORTS_MAX, .count_offset = offsetof(struct config_bridge, n_ports)),
	KEY("age_s", reader_number, offsetof(struct config_bridge, age_s), "1 to 86400 (seconds)",
		.min = 1, .max = 86400),
	KEY("fdb_max", reader_number, offsetof(struct config_bridge, fdb_max),
		"16 to 1048576 (MAC addresses)", .min = 16, .max = 1048576),
};

static const struct key_rule cross_connect_keys[] = {
	KEY("ports", read_cross_connect_ports, offsetof(struct config_cross_connect, port_indexes),
		"the names of two different ports", .next = "write for example ports: [a, b]",
		.min = 2, .max = 2, .is_required = true,
		.count_offset = offsetof(struct config_cross_connect, n_ports)),
	KEY("lossless", reader_bool, offsetof(struct config_cross_connect, lossless),
		"true, false"),
};

static const struct key_rule control_keys[] = {
	KEY("socket", schema_read_socket_path, offsetof(struct config_socket, path),
		SOCKET_PATH_ALLOWED),
	KEY("owner", reader_text, offsetof(struct config_socket, owner),
		"a user name or number of 1 to 63 bytes", .min = 1, .max = CONFIG_USER_MAX),
	KEY("group", reader_text, offsetof(struct config_socket, group),
		"a group name or number of 1 to 63 bytes", .min = 1, .max = CONFIG_USER_MAX),
	KEY("mode", schema_read_mode, offsetof(struct config_socket, mode), SOCKET_MODE_ALLOWED,
		.next = SOCKET_MODE_NEXT),
};

static const struct key_rule log_keys[] = {
	KEY("level", reader_choice, offsetof(__typeof__(((struct config *)0)->log), level),
		"error, warn, info, debug", .choices = log_levels),
};

static const struct key_rule memory_keys[] = {
	KEY("hugepages", reader_choice,
		offsetof(__typeof__(((struct config *)0)->memory), hugepages), "auto, never",
		.choices = hugepages),
	KEY("mb", reader_number, offsetof(__typeof__(((struct config *)0)->memory), mb),
		"16 to 1048576 (MiB)", .min = 16, .max = 1048576),
};

static const struct key_rule eal_keys[] = {
	KEY("vfio_intr", reader_choice, offsetof(__typeof__(((struct config *)0)->eal), vfio_intr),
		"auto, msix, msi, legacy", .choices = vfio_intrs),
};

static const struct object_rule worker_rule = {
	.keys = worker_keys,
	.n_keys = N_ROWS(worker_keys),
	.size = sizeof(((struct config *)0)->workers),
	.set_defaults = workers_set_defaults,
};

static const struct object_rule bridge_rule = {
	.keys = bridge_keys,
	.n_keys = N_ROWS(bridge_keys),
	.size = sizeof(struct config_bridge),
	.set_defaults = bridge_set_defaults,
	.finish = bridge_finish,
};

static const struct object_rule cross_connect_rule = {
	.keys = cross_connect_keys,
	.n_keys = N_ROWS(cross_connect_keys),
	.size = sizeof(struct config_cross_connect),
	.finish = cross_connect_finish,
};

static const struct object_rule control_rule = {
	.keys = control_keys,
	.n_keys = N_ROWS(control_keys),
	.size = sizeof(struct config_socket),
	.set_defaults = control_set_defaults,
};

static void log_set_defaults(void *object)
{
	*(enum log_level *)object = LOG_LEVEL_INFO;
}

static const struct object_rule log_rule = {
	.keys = log_keys,
	.n_keys = N_ROWS(log_keys),
	.size = sizeof(((struct config *)0)->log),
	.set_defaults = log_set_defaults,
};

static const struct object_rule memory_rule = {
	.keys = memory_keys,
	.n_keys = N_ROWS(memory_keys),
	.size = sizeof(((struct config *)0)->memory),
};

static const struct object_rule eal_rule = {
	.keys = eal_keys,
	.n_keys = N_ROWS(eal_keys),
	.size = sizeof(((struct config *)0)->eal),
};

#define LIST_NEXT "write one '- {...}' line per entry"

/* Ports come before bridges and cross-connects, which refer to them. */
static const struct key_rule file_keys[] = {
	KEY("workers", reader_object, offsetof(struct config, workers), "a mapping",
		.item = &worker_rule),
	KEY("ports", reader_list, offsetof(struct config, ports), "a list of ports",
		.next = LIST_NEXT, .max = CONFIG_PORTS_MAX, .item = &schema_port,
		.count_offset = offsetof(struct config, n_ports)),
	KEY("bridges", reader_list, offsetof(struct config, bridges), "a list of bridges",
		.next = LIST_NEXT, .max = CONFIG_BRIDGES_MAX, .item = &bridge_rule,
		.count_offset = offsetof(struct config, n_bridges)),
	KEY("cross_connects", reader_list, offsetof(struct config, cross_connects),
		"a list of cross-connects", .next = LIST_NEXT, .max = CONFIG_CROSS_CONNECTS_MAX,
		.item = &cross_connect_rule,
		.count_offset = offsetof(struct config, n_cross_connects)),
	KEY("control", reader_object, offsetof(struct config, control), "a mapping",
		.item = &control_rule),
	KEY("log", reader_object, offsetof(struct config, log), "a mapping", .item = &log_rule),
	KEY("memory", reader_object, offsetof(struct config, memory), "a mapping",
		.item = &memory_rule),
	KEY("eal", reader_object, offsetof(struct config, eal), "a mapping", .item = &eal_rule),
};

const struct object_rule schema_file = {
	.keys = file_keys,
	.n_keys = N_ROWS(file_keys),
	.size = sizeof(struct config),
	.set_defaults = file_set_defaults,
	.finish = file_finish,
};
