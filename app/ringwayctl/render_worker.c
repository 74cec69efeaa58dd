/* SPDX-License-Identifier: BSD-3-Clause */
#include "field.h"
#include "layout.h"
#include "render.h"

static double number(const json_t *object, const char *path)
{
	return json_number_value(field_get(object, path));
}

/* Cycles, of all cycles. */
static const char *show_share(const json_t *worker, const char *path, struct field_text *text)
{
	double total = number(worker, "total_cycles");

	if (total <= 0 || !json_is_number(field_get(worker, path)))
		return field_set(text, "-");
	return field_set(text, "%.1f%%", 100.0 * number(worker, path) / total);
}

static const char *show_cost(const json_t *worker, const char *path, struct field_text *text)
{
	double n_packets = number(worker, "packets");

	if (n_packets <= 0)
		return field_set(text, "-");
	return field_set(text, "%.0f", number(worker, path) / n_packets);
}

static const char *show_us(const json_t *worker, const char *path, struct field_text *text)
{
	const json_t *value = field_get(worker, path);

	if (!json_is_integer(value))
		return field_set(text, "-");
	return field_set(text, "%" JSON_INTEGER_FORMAT " us", json_integer_value(value));
}

/* A point of the histogram that holds it; it says nothing while nothing was measured. */
static const char *show_wake(const json_t *worker, const char *path, struct field_text *text)
{
	if (number(worker, "wake_ns.n") <= 0)
		return field_set(text, "-");
	return field_show_ns(worker, path, text);
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

/* Why a worker that could sleep does not, a line for each queue. */
static void render_keeps_polling(FILE *out, const json_t *worker)
{
	const json_t *queues = json_object_get(worker, "keeps_polling");
	struct field_text id, port, queue, why, text;

	for (size_t i = 0; i < json_array_size(queues); i++) {
		const json_t *one = json_array_get(queues, i);

		field_set(&text, "worker %.16s keeps polling for %.64s queue %.16s: %.512s",
			field_show(worker, "id", &id), field_show(one, "port", &port),
			field_show(one, "queue", &queue), field_show(one, "why", &why));
		table_make_printable(text.bytes);
		fprintf(out, "%s\n", text.bytes);
	}
}

void render_workers(FILE *out, const json_t *result)
{
	static const struct column columns[] = {
		{{"ID", TABLE_RIGHT}, "id", field_show},
		{{"CPU", TABLE_RIGHT}, "cpu", field_show},
		{{"NUMA", TABLE_RIGHT}, "numa_node", field_show_id},
		{{"MODE", TABLE_LEFT}, "mode", field_show},
		{{"STATE", TABLE_LEFT}, "state", field_show},
		{{"BUSY", TABLE_RIGHT}, "busy_cycles", show_share},
		{{"IDLE", TABLE_RIGHT}, "idle_cycles", show_share},
		{{"SLEEP", TABLE_RIGHT}, "sleep_cycles", show_share},
		{{"SLEEPS", TABLE_RIGHT}, "sleeps", field_show},
		{{"WINDOW", TABLE_RIGHT}, "window_us", show_us},
		{{"P50", TABLE_RIGHT}, "wake_ns.p50", show_wake},
		{{"P99", TABLE_RIGHT}, "wake_ns.p99", show_wake},
		{{"CYCLES", TABLE_RIGHT}, "busy_cycles", show_cost},
		{{"PACKETS", TABLE_RIGHT}, "packets", field_show},
		{{"WAKE-UPS", TABLE_LEFT}, "wakeups", field_show_counts},
		{{"QUEUES", TABLE_LEFT}, "queues", show_worker_queues},
	};
	const json_t *workers = json_object_get(result, "workers");

	layout_list(out, workers, columns, N_COLUMNS(columns), 0);
	for (size_t i = 0; i < json_array_size(workers); i++)
		render_keeps_polling(out, json_array_get(workers, i));
}

void render_worker(FILE *out, const json_t *result)
{
	static const struct line lines[] = {
		{"id", "id", field_show},
		{"CPU", "cpu", field_show},
		{"NUMA node", "numa_node", field_show_id},
		{"mode", "mode", field_show},
		{"state", "state", field_show},
		{"window", "window_us", show_us},
		{"longest window", "idle_us", show_us},
		{"busy", "busy_cycles", show_share},
		{"idle", "idle_cycles", show_share},
		{"sleep", "sleep_cycles", show_share},
		{"packets", "packets", field_show},
		{"cycles per packet", "busy_cycles", show_cost},
		{"rounds", "rounds", field_show},
		{"sleeps", "sleeps", field_show},
		{"wake-ups", "wakeups", field_show_counts},
		{"penalties", "penalties", field_show},
	};
	static const struct column queues[] = {
		{{"PORT", TABLE_LEFT}, "port", field_show},
		{{"QUEUE", TABLE_RIGHT}, "queue", field_show},
		{{"WAKE-UPS", TABLE_RIGHT}, "wakeups", field_show},
		{{"SPURIOUS", TABLE_RIGHT}, "spurious", field_show},
	};
	const json_t *worker = json_array_get(json_object_get(result, "workers"), 0);

	layout_block(out, worker, lines, N_LINES(lines), true);
	render_keeps_polling(out, worker);
	layout_section(out, "queues", json_object_get(worker, "queues"), queues, N_COLUMNS(queues));
	layout_histogram(out, "waking, until the first frame", json_object_get(worker, "wake_ns"));
	layout_histogram(out, "answering control", json_object_get(worker, "request_ns"));
}

void render_pings(FILE *out, const json_t *result)
{
	static const struct column columns[] = {
		{{"ID", TABLE_RIGHT}, "id", field_show},
		{{"CPU", TABLE_RIGHT}, "cpu", field_show},
		{{"ROUND-TRIP", TABLE_RIGHT}, "round_trip_ns", field_show_ns},
		{{"WAS-ASLEEP", TABLE_LEFT}, "was_asleep", field_show},
	};

	layout_list(out, json_object_get(result, "workers"), columns, N_COLUMNS(columns), 0);
}

void render_rates(FILE *out, const json_t *rates)
{
	static const struct column workers[] = {
		{{"ID", TABLE_RIGHT}, "id", field_show},
		{{"CPU", TABLE_RIGHT}, "cpu", field_show},
		{{"MODE", TABLE_LEFT}, "mode", field_show},
		{{"STATE", TABLE_LEFT}, "state", field_show},
		{{"BUSY", TABLE_RIGHT}, "busy_percent", field_show_percent},
		{{"IDLE", TABLE_RIGHT}, "idle_percent", field_show_percent},
		{{"SLEEP", TABLE_RIGHT}, "sleep_percent", field_show_percent},
		{{"PACKETS/S", TABLE_RIGHT}, "packets_per_s", field_show_rate},
		{{"ROUNDS/S", TABLE_RIGHT}, "rounds_per_s", field_show_rate},
		{{"CYCLES", TABLE_RIGHT}, "cycles_per_packet", field_show_rate},
		{{"WAKE-UPS/S", TABLE_LEFT}, "wakeups_per_s", field_show_counts},
	};
	static const struct column ports[] = {
		{{"PORT", TABLE_LEFT}, "name", field_show},
		{{"RX-PACKETS/S", TABLE_RIGHT}, "rx_packets_per_s", field_show_rate},
		{{"TX-PACKETS/S", TABLE_RIGHT}, "tx_packets_per_s", field_show_rate},
		{{"DROPS/S", TABLE_LEFT}, "drops_per_s", field_show_counts},
	};
	struct field_text text;

	fprintf(out, "interval %s s%s\n", field_show_rate(rates, "interval_s", &text),
		json_is_true(json_object_get(rates, "reset"))
			? "; counters began anew, their rates follow with the next interval"
			: "");
	layout_list(out, json_object_get(rates, "workers"), workers, N_COLUMNS(workers), 0);
	fputs("\n", out);
	layout_list(out, json_object_get(rates, "ports"), ports, N_COLUMNS(ports), 0);
}
