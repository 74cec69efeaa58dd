/* SPDX-License-Identifier: BSD-3-Clause */
#include <inttypes.h>
#include <string.h>

#include "field.h"
#include "render.h"
#include "table.h"

/* A column is a header, the member that it shows, and how. */
struct column {
	struct table_column column;
	const char *path;
	const char *(*show)(const json_t *object, const char *path, struct field_text *text);
};

#define COLUMNS_MAX        12
#define N_COLUMNS(columns) (sizeof(columns) / sizeof((columns)[0]))

static const char *show_comma_list(const json_t *object, const char *path, struct field_text *text)
{
	return field_show_list(object, path, ",", text);
}

static void render_list(
	FILE *out, const json_t *list, const struct column *columns, size_t n_columns, int indent)
{
	struct table_column headers[COLUMNS_MAX];
	struct field_text text;
	struct table *table;

	for (size_t i = 0; i < n_columns; i++)
		headers[i] = columns[i].column;
	table = table_create(headers, n_columns);
	if (table == NULL)
		return;
	for (size_t row = 0; row < json_array_size(list); row++) {
		for (size_t i = 0; i < n_columns; i++)
			table_add(table, "%s",
				columns[i].show(json_array_get(list, row), columns[i].path, &text));
	}
	table_finish(table, out, indent);
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

	render_list(out, json_object_get(result, "ports"), columns, N_COLUMNS(columns), 0);
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

	render_list(out, json_object_get(result, "ports"), columns, N_COLUMNS(columns), 0);
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

	render_list(out, json_object_get(result, "entries"), columns, N_COLUMNS(columns), 0);
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

	render_list(out, json_object_get(result, "bridges"), bridges, N_COLUMNS(bridges), 0);
	if (json_array_size(pairs) == 0)
		return;
	fputs("\n", out);
	render_list(out, pairs, cross_connects, N_COLUMNS(cross_connects), 0);
}

static double number(const json_t *object, const char *path)
{
	return json_number_value(field_get(object, path));
}

/* Cycles spent on frames, of all cycles. */
static const char *show_busy(const json_t *worker, const char *path, struct field_text *text)
{
	double total = number(worker, "total_cycles");

	if (total <= 0)
		snprintf(text->bytes, sizeof(text->bytes), "-");
	else
		snprintf(text->bytes, sizeof(text->bytes), "%.1f%%",
			100.0 * number(worker, path) / total);
	return text->bytes;
}

static const char *show_cost(const json_t *worker, const char *path, struct field_text *text)
{
	double n_packets = number(worker, "packets");

	if (n_packets <= 0)
		snprintf(text->bytes, sizeof(text->bytes), "-");
	else
		snprintf(
			text->bytes, sizeof(text->bytes), "%.0f", number(worker, path) / n_packets);
	return text->bytes;
}

/* "vm1:0,vm1:1" */
static const char *show_worker_queues(
	const json_t *worker, const char *path, struct field_text *text)
{
	const json_t *queues = field_get(worker, path);

	text->bytes[0] = '\0';
	for (size_t i = 0; i < json_array_size(queues); i++) {
		const json_t *queue = json_array_get(queues, i);
		const char *port = json_string_value(json_object_get(queue, "port"));
		char one[128];

		snprintf(one, sizeof(one), "%s:%" JSON_INTEGER_FORMAT, port != NULL ? port : "-",
			json_integer_value(json_object_get(queue, "queue")));
		field_append(text, ",", one);
	}
	if (text->bytes[0] == '\0')
		field_append(text, "", "-");
	return text->bytes;
}

void render_workers(FILE *out, const json_t *result)
{
	static const struct column columns[] = {
		{{"ID", TABLE_RIGHT}, "id", field_show},
		{{"CPU", TABLE_RIGHT}, "cpu", field_show},
		{{"NUMA", TABLE_RIGHT}, "numa_node", field_show_id},
		{{"BUSY", TABLE_RIGHT}, "busy_cycles", show_busy},
		{{"CYCLES", TABLE_RIGHT}, "busy_cycles", show_cost},
		{{"PACKETS", TABLE_RIGHT}, "packets", field_show},
		{{"ROUNDS", TABLE_RIGHT}, "rounds", field_show},
		{{"QUEUES", TABLE_LEFT}, "queues", show_worker_queues},
	};

	render_list(out, json_object_get(result, "workers"), columns, N_COLUMNS(columns), 0);
}

/* One `key: value` line of a block; `show` NULL: a list of words, wrapped. */
struct line {
	const char *key;
	const char *path;
	const char *(*show)(const json_t *object, const char *path, struct field_text *text);
};

#define KEY_WIDTH  19
#define TEXT_WIDTH 60

static void render_words(FILE *out, const json_t *words)
{
	size_t column = 0;

	for (size_t i = 0; i < json_array_size(words); i++) {
		const char *word = json_string_value(json_array_get(words, i));
		char shown[64];

		snprintf(shown, sizeof(shown), "%s", word != NULL ? word : "-");
		table_make_printable(shown);
		if (column > 0 && column + 1 + strlen(shown) > TEXT_WIDTH) {
			fprintf(out, "\n%*s", KEY_WIDTH, "");
			column = 0;
		}
		column += (size_t)fprintf(out, "%s%s", column > 0 ? " " : "", shown);
	}
	fputs(json_array_size(words) > 0 ? "\n" : "-\n", out);
}

static void render_block(FILE *out, const json_t *object, const struct line *lines, size_t n_lines)
{
	for (size_t i = 0; i < n_lines; i++) {
		const json_t *value = field_get(object, lines[i].path);
		struct field_text text;

		if (value == NULL)
			continue;
		fprintf(out, "%s:%*s", lines[i].key, KEY_WIDTH - 1 - (int)strlen(lines[i].key), "");
		if (lines[i].show == NULL) {
			render_words(out, value);
			continue;
		}
		lines[i].show(object, lines[i].path, &text);
		table_make_printable(text.bytes);
		fprintf(out, "%s\n", text.bytes);
	}
}

static void render_section(FILE *out, const char *title, const json_t *list,
	const struct column *columns, size_t n_columns)
{
	if (json_array_size(list) == 0)
		return;
	fprintf(out, "\n%s:\n", title);
	render_list(out, list, columns, n_columns, 2);
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

void render_port(FILE *out, const json_t *result)
{
	static const struct line lines[] = {
		{"name", "name", field_show},
		{"id", "id", field_show},
		{"type", "type", field_show},
		{"NUMA node", "numa_node", field_show_id},
		{"VLAN", "vlan", field_show},
		{"link", "link", field_show_link},
		{"socket", "socket", field_show},
		{"role", "role", field_show},
		{"state", "state", field_show},
		{"last error", "last_error", field_show},
		{"connects", "connects", field_show},
		{"peer pid", "peer_pid", field_show_id},
		{"peer uid", "peer_uid", field_show_id},
		{"queue pairs", "queue_pairs", field_show},
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
	};
	const json_t *port = json_array_get(json_object_get(result, "ports"), 0);

	render_block(out, port, lines, sizeof(lines) / sizeof(lines[0]));
	render_section(out, "memory", json_object_get(port, "memory"), memory, N_COLUMNS(memory));
	render_section(out, "rings", json_object_get(port, "rings"), rings, N_COLUMNS(rings));
	render_drops(out, field_get(port, "counters.drops"));
}
