/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdbool.h>
#include <stddef.h>

#include "field.h"
#include "rates.h"

/* An object of now, the same one of before (NULL: there is none to compare with), and the time in
 * between. */
struct pair {
	const json_t *before;
	const json_t *after;
	double seconds;
};

/* The entry of `list` whose member `key` is that of `entry`. */
static const json_t *counterpart(const json_t *list, const char *key, const json_t *entry)
{
	const json_t *name = json_object_get(entry, key);

	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *other = json_array_get(list, i);

		if (name != NULL && json_equal(json_object_get(other, key), name))
			return other;
	}
	return NULL;
}

static bool is_lower(const json_t *before, const json_t *after)
{
	return json_is_integer(before) && json_is_integer(after) &&
	       json_integer_value(after) < json_integer_value(before);
}

/* Whether one of the counters `paths`, up to a NULL, went back. */
static bool began_anew(const json_t *before, const json_t *after, const char *const *paths)
{
	for (; *paths != NULL; paths++) {
		if (is_lower(field_get(before, *paths), field_get(after, *paths)))
			return true;
	}
	return false;
}

/* Of counters that only grow; the shares of a worker's cycles are read one after the other and may
 * be a little off, so they are not among them. */
static const char *const worker_counters[] = {"total_cycles", "rounds", "packets", NULL};
static const char *const port_counters[] = {
	"rx_packets", "rx_bytes", "tx_packets", "tx_bytes", NULL};

static bool list_began_anew(
	const json_t *before, const json_t *after, const char *key, const char *const *counters)
{
	for (size_t i = 0; i < json_array_size(after); i++) {
		const json_t *entry = json_array_get(after, i);

		if (began_anew(counterpart(before, key, entry), entry, counters))
			return true;
	}
	return false;
}

/* False if it cannot be known. */
static bool growth(const json_t *before, const json_t *after, double *n)
{
	if (!json_is_integer(before) || !json_is_integer(after) || is_lower(before, after))
		return false;
	*n = (double)json_integer_value(after) - (double)json_integer_value(before);
	return true;
}

static bool pair_growth(const struct pair *pair, const char *path, double *n)
{
	return growth(field_get(pair->before, path), field_get(pair->after, path), n);
}

static json_t *per_second(const struct pair *pair, const char *path)
{
	double n;

	return pair->seconds > 0 && pair_growth(pair, path, &n) ? json_real(n / pair->seconds)
								: json_null();
}

static json_t *each_per_second(const struct pair *pair, const char *path)
{
	const json_t *before = field_get(pair->before, path);
	json_t *after = (json_t *)field_get(pair->after, path), *rates, *value;
	const char *key;
	double n;

	if (!json_is_object(before) || !json_is_object(after) || pair->seconds <= 0)
		return json_null();
	rates = json_object();
	json_object_foreach(after, key, value)
	{
		/* A reason that was never counted before. */
		const json_t *old = json_object_get(before, key);
		bool is_known = old != NULL ? growth(old, value, &n) : json_is_integer(value);

		if (old == NULL)
			n = (double)json_integer_value(value);
		json_object_set_new(
			rates, key, is_known ? json_real(n / pair->seconds) : json_null());
	}
	return rates;
}

/* Per cent of the worker's time; what is a little off stays within 0 and 100. */
static json_t *share(const struct pair *pair, const char *path)
{
	const json_t *before = field_get(pair->before, path), *after = field_get(pair->after, path);
	double total, part;

	if (!pair_growth(pair, "total_cycles", &total) || total <= 0 || !json_is_integer(before) ||
		!json_is_integer(after))
		return json_null();
	part = (double)json_integer_value(after) - (double)json_integer_value(before);
	if (part < 0)
		part = 0;
	return json_real(part < total ? 100.0 * part / total : 100.0);
}

static json_t *cost(const struct pair *pair)
{
	double n_packets, cycles;

	if (!pair_growth(pair, "packets", &n_packets) || n_packets <= 0 ||
		!pair_growth(pair, "busy_cycles", &cycles))
		return json_null();
	return json_real(cycles / n_packets);
}

static json_t *copy(const json_t *object, const char *key)
{
	const json_t *value = json_object_get(object, key);

	return value != NULL ? json_deep_copy(value) : json_null();
}

static json_t *worker_rates(const struct pair *pair)
{
	return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "id",
		copy(pair->after, "id"), "cpu", copy(pair->after, "cpu"), "mode",
		copy(pair->after, "mode"), "state", copy(pair->after, "state"), "busy_percent",
		share(pair, "busy_cycles"), "idle_percent", share(pair, "idle_cycles"),
		"sleep_percent", share(pair, "sleep_cycles"), "packets_per_s",
		per_second(pair, "packets"), "rounds_per_s", per_second(pair, "rounds"),
		"cycles_per_packet", cost(pair), "wakeups_per_s", each_per_second(pair, "wakeups"));
}

static json_t *port_rates(const struct pair *pair)
{
	return json_pack("{s:o, s:o, s:o, s:o}", "name", copy(pair->after, "name"),
		"rx_packets_per_s", per_second(pair, "rx_packets"), "tx_packets_per_s",
		per_second(pair, "tx_packets"), "drops_per_s", each_per_second(pair, "drops"));
}

/* What a list is sorted by; what is not known comes last. */
static double traffic(const json_t *rates)
{
	static const char *const paths[] = {
		"packets_per_s", "rx_packets_per_s", "tx_packets_per_s"};
	double sum = -1;

	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
		const json_t *value = json_object_get(rates, paths[i]);

		if (json_is_real(value))
			sum = (sum < 0 ? 0 : sum) + json_real_value(value);
	}
	return sum;
}

/* Those alike stay in the daemon's order. */
static void insert_sorted(json_t *list, json_t *rates)
{
	size_t i = json_array_size(list);

	while (i > 0 && traffic(json_array_get(list, i - 1)) < traffic(rates))
		i--;
	json_array_insert_new(list, i, rates);
}

json_t *rates_between(const struct rates_sample *before, const struct rates_sample *after)
{
	const json_t *old_workers = json_object_get(before->workers, "workers");
	const json_t *workers = json_object_get(after->workers, "workers");
	const json_t *old_ports = json_object_get(before->stats, "ports");
	const json_t *ports = json_object_get(after->stats, "ports");
	bool is_restarted = list_began_anew(old_workers, workers, "id", worker_counters);
	bool is_reset = is_restarted || list_began_anew(old_ports, ports, "name", port_counters);
	double seconds = (double)(after->time_us - before->time_us) / 1e6;
	json_t *worker_list = json_array(), *port_list = json_array();

	for (size_t i = 0; i < json_array_size(workers); i++) {
		struct pair pair = {.after = json_array_get(workers, i), .seconds = seconds};

		if (!is_restarted)
			pair.before = counterpart(old_workers, "id", pair.after);
		insert_sorted(worker_list, worker_rates(&pair));
	}
	for (size_t i = 0; i < json_array_size(ports); i++) {
		struct pair pair = {.after = json_array_get(ports, i), .seconds = seconds};
		const json_t *old = counterpart(old_ports, "name", pair.after);

		if (!is_restarted && !began_anew(old, pair.after, port_counters))
			pair.before = old;
		insert_sorted(port_list, port_rates(&pair));
	}
	return json_pack("{s:f, s:b, s:o, s:o}", "interval_s", seconds, "reset", is_reset,
		"workers", worker_list, "ports", port_list);
}
