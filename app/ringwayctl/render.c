/* SPDX-License-Identifier: BSD-3-Clause */
#include <inttypes.h>
#include <string.h>

#include "field.h"
#include "layout.h"
#include "render.h"
#include "table.h"

static const char *show_comma_list(const json_t *object, const char *path, struct field_text *text)
{
	return field_show_list(object, path, ",", text);
}

/* A guest's state; a NIC has none but its link. */
static const char *show_state(const json_t *port, const char *path, struct field_text *text)
{
	if (json_is_string(field_get(port, path)))
		return field_show(port, path, text);
	return field_show_link(port, "link", text);
}

static const char *show_queues(const json_t *port, const char *path, struct field_text *text)
{
	return field_show(port, field_get(port, path) != NULL ? path : "queues", text);
}

void render_ports(FILE *out, const json_t *result)
{
	static const struct column columns[] = {
		{{"NAME", TABLE_LEFT}, "name", field_show},
		{{"TYPE", TABLE_LEFT}, "type", field_show},
		{{"STATE", TABLE_LEFT}, "state", show_state},
		{{"LINK", TABLE_LEFT}, "link", field_show_link},
		{{"QUEUES", TABLE_RIGHT}, "queue_pairs", show_queues},
		{{"VLAN", TABLE_LEFT}, "vlan", field_show},
		{{"NUMA", TABLE_RIGHT}, "numa_node", field_show_id},
		{{"RX-PACKETS", TABLE_RIGHT}, "counters.rx_packets", field_show},
		{{"TX-PACKETS", TABLE_RIGHT}, "counters.tx_packets", field_show},
		{{"DROPS", TABLE_LEFT}, "counters.drops", field_show_drops},
	};

	layout_list(out, json_object_get(result, "ports"), columns, N_COLUMNS(columns), 0);
}

void render_stats(FILE *out, const json_t *result)
{
	static const struct column columns[] = {
		{{"NAME", TABLE_LEFT}, "name", field_show},
		{{"RX-PACKETS", TABLE_RIGHT}, "rx_packets", field_show},
		{{"RX-BYTES", TABLE_RIGHT}, "rx_bytes", field_show},
		{{"TX-PACKETS", TABLE_RIGHT}, "tx_packets", field_show},
		{{"TX-BYTES", TABLE_RIGHT}, "tx_bytes", field_show},
		{{"DROPS", TABLE_LEFT}, "drops", field_show_drops},
	};

	layout_list(out, json_object_get(result, "ports"), columns, N_COLUMNS(columns), 0);
}

void render_fdb(FILE *out, const json_t *result)
{
	static const struct column columns[] = {
		{{"BRIDGE", TABLE_LEFT}, "bridge", field_show},
		{{"VLAN", TABLE_RIGHT}, "vlan", field_show},
		{{"MAC", TABLE_LEFT}, "mac", field_show},
		{{"PORT", TABLE_LEFT}, "port", field_show},
		{{"AGE-S", TABLE_RIGHT}, "age_s", field_show},
	};

	layout_list(out, json_object_get(result, "entries"), columns, N_COLUMNS(columns), 0);
}

void render_bridges(FILE *out, const json_t *result)
{
	static const struct column bridges[] = {
		{{"BRIDGE", TABLE_LEFT}, "name", field_show},
		{{"MACS", TABLE_RIGHT}, "fdb_entries", field_show},
		{{"MACS-MAX", TABLE_RIGHT}, "fdb_max", field_show},
		{{"AGE-S", TABLE_RIGHT}, "age_s", field_show},
		{{"PORTS", TABLE_LEFT}, "ports", show_comma_list},
	};
	static const struct column cross_connects[] = {
		{{"CROSS-CONNECT", TABLE_LEFT}, "ports", show_comma_list},
		{{"LOSSLESS", TABLE_LEFT}, "lossless", field_show},
	};
	const json_t *pairs = json_object_get(result, "cross_connects");

	layout_list(out, json_object_get(result, "bridges"), bridges, N_COLUMNS(bridges), 0);
	if (json_array_size(pairs) == 0)
		return;
	fputs("\n", out);
	layout_list(out, pairs, cross_connects, N_COLUMNS(cross_connects), 0);
}

static void render_drops(FILE *out, const json_t *drops)
{
	static const struct table_column columns[] = {
		{"REASON", TABLE_LEFT},
		{"FRAMES", TABLE_RIGHT},
	};
	struct table *table = json_object_size(drops) > 0 ? table_create(columns, 2) : NULL;
	const char *reason;
	json_t *count;

	if (table == NULL)
		return;
	fputs("\ndrops:\n", out);
	json_object_foreach((json_t *)drops, reason, count)
	{
		table_add(table, "%s", reason);
		table_add(table, "%" JSON_INTEGER_FORMAT, json_integer_value(count));
	}
	table_finish(table, out, 2);
}

/* When a guest is called: "32 frames or 50 us". */
static const char *show_coalesce(const json_t *port, const char *path, struct field_text *text)
{
	const json_t *coalesce = field_get(port, path);
	json_int_t frames = json_integer_value(json_object_get(coalesce, "frames"));
	json_int_t us = json_integer_value(json_object_get(coalesce, "us"));

	if (!json_is_object(coalesce))
		return field_set(text, "-");
	if (us == 0)
		return field_set(text, "off");
	if (frames == 0)
		return field_set(text, "%" JSON_INTEGER_FORMAT " us", us);
	return field_set(
		text, "%" JSON_INTEGER_FORMAT " frames or %" JSON_INTEGER_FORMAT " us", frames, us);
}

/* The guest's interrupt, where it goes through a vector of its own. */
static const char *show_vector(const json_t *ring, const char *path, struct field_text *text)
{
	const json_t *vector = field_get(ring, path);

	if (!json_is_object(vector))
		return field_set(text, "-");
	return field_set(text, "%s%s",
		json_is_true(json_object_get(vector, "masked")) ? "masked" : "open",
		json_is_true(json_object_get(vector, "pending")) ? ",pending" : "");
}

void render_port(FILE *out, const json_t *result)
{
	static const struct line lines[] = {
		{"name", "name", field_show},
		{"id", "id", field_show},
		{"type", "type", field_show},
		{"NUMA node", "numa_node", field_show_id},
		{"VLAN", "vlan", field_show},
		{"link", "link", field_show_link},
		{"mode", "mode", field_show},
		{"socket", "socket", field_show},
		{"role", "role", field_show},
		{"state", "state", field_show},
		{"last error", "last_error", field_show},
		{"connects", "connects", field_show},
		{"peer pid", "peer_pid", field_show_id},
		{"peer uid", "peer_uid", field_show_id},
		{"queue pairs", "queue_pairs", field_show},
		{"coalesce", "coalesce", show_coalesce},
		{"features", "features", NULL},
		{"protocol features", "protocol_features", NULL},
		{"device", "device", field_show},
		{"driver", "driver", field_show},
		{"MAC", "mac", field_show},
		{"queues", "queues", field_show},
		{"rx packets", "counters.rx_packets", field_show},
		{"rx bytes", "counters.rx_bytes", field_show},
		{"tx packets", "counters.tx_packets", field_show},
		{"tx bytes", "counters.tx_bytes", field_show},
	};
	static const struct column memory[] = {
		{{"GPA", TABLE_RIGHT}, "gpa", field_show_hex},
		{{"SIZE", TABLE_RIGHT}, "size", field_show_bytes},
		{{"UVA", TABLE_RIGHT}, "uva", field_show_hex},
	};
	static const struct column rings[] = {
		{{"RING", TABLE_RIGHT}, "index", field_show},
		{{"DIR", TABLE_LEFT}, "dir", field_show},
		{{"SIZE", TABLE_RIGHT}, "size", field_show},
		{{"STARTED", TABLE_LEFT}, "started", field_show},
		{{"ENABLED", TABLE_LEFT}, "enabled", field_show},
		{{"BROKEN", TABLE_LEFT}, "broken", field_show},
		{{"AVAIL-IDX", TABLE_RIGHT}, "avail_idx", field_show},
		{{"USED-IDX", TABLE_RIGHT}, "used_idx", field_show},
		{{"WORKER", TABLE_RIGHT}, "worker", field_show_id},
		{{"CALLS", TABLE_RIGHT}, "calls", field_show},
		{{"VECTOR", TABLE_LEFT}, "vector", show_vector},
	};
	const json_t *port = json_array_get(json_object_get(result, "ports"), 0);

	layout_block(out, port, lines, N_LINES(lines), false);
	layout_section(out, "memory", json_object_get(port, "memory"), memory, N_COLUMNS(memory));
	layout_section(out, "rings", json_object_get(port, "rings"), rings, N_COLUMNS(rings));
	render_drops(out, field_get(port, "counters.drops"));
}
