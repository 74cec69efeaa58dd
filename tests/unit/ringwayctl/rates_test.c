/* SPDX-License-Identifier: BSD-3-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <rates.h>
#include <render.h>

#define WORKERS(list) "{\"workers\":[" list "]}"
#define PORTS(list)   "{\"ports\":[" list "]}"

/* A worker that has run since the start for `total` cycles. */
#define WORKER(id, busy, idle, sleep, total, rounds, packets, kick, spurious)                      \
	"{\"id\":" #id                                                                             \
	",\"cpu\":1,\"mode\":\"adaptive\",\"state\":\"asleep\",\"busy_cycles\":" #busy             \
	",\"idle_cycles\":" #idle ",\"sleep_cycles\":" #sleep ",\"total_cycles\":" #total          \
	",\"rounds\":" #rounds ",\"packets\":" #packets ",\"wakeups\":{\"kick\":" #kick            \
	",\"spurious\":" #spurious "}}"

#define PORT(name, rx, tx, vlan)                                                                   \
	"{\"name\":\"" name "\",\"rx_packets\":" #rx ",\"tx_packets\":" #tx                        \
	",\"drops\":{\"vlan\":" #vlan "}}"

static json_t *between(const char *workers_before, const char *stats_before,
	const char *workers_after, const char *stats_after, uint64_t time_us)
{
	struct rates_sample before = {.workers = json_loads(workers_before, JSON_DECODE_ANY, NULL),
		.stats = json_loads(stats_before, JSON_DECODE_ANY, NULL),
		.time_us = 5000000};
	struct rates_sample after = {.workers = json_loads(workers_after, JSON_DECODE_ANY, NULL),
		.stats = json_loads(stats_after, JSON_DECODE_ANY, NULL),
		.time_us = 5000000 + time_us};
	json_t *rates;

	assert_non_null(before.workers);
	assert_non_null(before.stats);
	assert_non_null(after.workers);
	assert_non_null(after.stats);
	rates = rates_between(&before, &after);
	assert_non_null(rates);
	json_decref(before.workers);
	json_decref(before.stats);
	json_decref(after.workers);
	json_decref(after.stats);
	return rates;
}

static void expect(json_t *rates, const char *expected)
{
	char *text = NULL;
	size_t n_bytes;
	FILE *out = open_memstream(&text, &n_bytes);

	render_rates(out, rates);
	fclose(out);
	json_decref(rates);
	assert_string_equal(text, expected);
	free(text);
}

static void counters_become_rates_and_shares_of_the_interval(void **state)
{
	expect(between(WORKERS(WORKER(0, 1000, 1000, 8000, 10000, 100, 10, 7, 1)),
		       PORTS(PORT("vm1", 100, 200, 3)),
		       WORKERS(WORKER(0, 2000, 1500, 8500, 12000, 300, 30, 27, 1)),
		       PORTS(PORT("vm1", 1100, 201, 10)), 2000000),
		"interval 2 s\n"
		"ID  CPU  MODE      STATE    BUSY   IDLE  SLEEP  PACKETS/S  ROUNDS/S  CYCLES  "
		"WAKE-UPS/S\n"
		" 0    1  adaptive  asleep  50.0%  25.0%  25.0%         10       100      50  kick "
		"10\n"
		"\n"
		"PORT  RX-PACKETS/S  TX-PACKETS/S  DROPS/S\n"
		"vm1            500           0.5  vlan 3.5\n");
}

static void those_with_most_traffic_come_first_and_the_unknown_last(void **state)
{
	json_t *rates = between(WORKERS(WORKER(0, 0, 0, 0, 10, 1, 10, 0, 0) "," WORKER(
					1, 0, 0, 0, 10, 1, 10, 0, 0)),
		PORTS(PORT("a", 0, 0, 0) "," PORT("b", 0, 0, 0) "," PORT("c", 0, 0, 0)),
		WORKERS(WORKER(0, 0, 0, 0, 20, 2, 11, 0, 0) "," WORKER(
			1, 0, 0, 0, 20, 2, 20, 0, 0)),
		PORTS(PORT("new", 9, 9, 0) "," PORT("a", 1, 0, 0) "," PORT("b", 0, 5, 0) "," PORT(
			"c", 1, 0, 0)),
		1000000);
	static const char *const names[] = {"b", "a", "c", "new"};

	for (size_t i = 0; i < 2; i++)
		assert_int_equal(
			json_integer_value(json_object_get(
				json_array_get(json_object_get(rates, "workers"), i), "id")),
			1 - i);
	for (size_t i = 0; i < 4; i++)
		assert_string_equal(
			json_string_value(json_object_get(
				json_array_get(json_object_get(rates, "ports"), i), "name")),
			names[i]);
	assert_true(json_is_false(json_object_get(rates, "reset")));
	json_decref(rates);
}

/* The port's counters are even higher than before: they are another life's all the same. */
static void restarted_daemon_gives_no_rates_but_says_so(void **state)
{
	expect(between(WORKERS(WORKER(0, 1000, 1000, 8000, 10000, 100, 10, 7, 1)),
		       PORTS(PORT("vm1", 100, 200, 3)),
		       WORKERS(WORKER(0, 20, 20, 60, 100, 300, 30, 27, 1)),
		       PORTS(PORT("vm1", 1100, 201, 10)), 1000000),
		"interval 1 s; counters began anew, their rates follow with the next "
		"interval\n"
		"ID  CPU  MODE      STATE   BUSY  IDLE  SLEEP  PACKETS/S  ROUNDS/S  CYCLES  "
		"WAKE-UPS/S\n"
		" 0    1  adaptive  asleep     -     -      -          -         -       -  -\n"
		"\n"
		"PORT  RX-PACKETS/S  TX-PACKETS/S  DROPS/S\n"
		"vm1              -             -  -\n");
}

static void replaced_port_does_not_hide_the_others(void **state)
{
	json_t *rates = between(WORKERS(""), PORTS(PORT("a", 100, 0, 0) "," PORT("b", 0, 0, 0)),
		WORKERS(""), PORTS(PORT("a", 0, 50, 0) "," PORT("b", 10, 0, 0)), 1000000);
	const json_t *ports = json_object_get(rates, "ports");

	assert_true(json_is_true(json_object_get(rates, "reset")));
	assert_true(json_real_value(
			    json_object_get(json_array_get(ports, 0), "rx_packets_per_s")) == 10);
	assert_true(json_is_null(json_object_get(json_array_get(ports, 1), "tx_packets_per_s")));
	json_decref(rates);
}

/* Control reads the counters while the worker goes on. */
static void share_that_is_a_little_off_stays_between_0_and_100(void **state)
{
	json_t *rates = between(WORKERS(WORKER(0, 100, 500, 0, 1000, 1, 1, 0, 0)), PORTS(""),
		WORKERS(WORKER(0, 1300, 499, 0, 2000, 2, 2, 0, 0)), PORTS(""), 1000000);
	const json_t *worker = json_array_get(json_object_get(rates, "workers"), 0);

	assert_true(json_is_false(json_object_get(rates, "reset")));
	assert_true(json_real_value(json_object_get(worker, "busy_percent")) == 100);
	assert_true(json_real_value(json_object_get(worker, "idle_percent")) == 0);
	json_decref(rates);
}

static void older_daemon_gives_what_it_tells(void **state)
{
	expect(between(WORKERS("{\"id\":0,\"cpu\":1,\"busy_cycles\":0,\"total_cycles\":100,"
			       "\"rounds\":1,\"packets\":0}"),
		       PORTS(""),
		       WORKERS("{\"id\":0,\"cpu\":1,\"busy_cycles\":50,\"total_cycles\":200,"
			       "\"rounds\":2,\"packets\":5}"),
		       PORTS(""), 500000),
		"interval 0.5 s\n"
		"ID  CPU  MODE  STATE   BUSY  IDLE  SLEEP  PACKETS/S  ROUNDS/S  CYCLES  "
		"WAKE-UPS/S\n"
		" 0    1  -     -      50.0%     -      -         10         2      10  -\n"
		"\n"
		"PORT  RX-PACKETS/S  TX-PACKETS/S  DROPS/S\n");
}

static void answers_of_another_shape_are_no_rates(void **state)
{
	static const char *const answers[] = {"{}", "[]", "null", WORKERS("1,null,{}"),
		PORTS("1,null,{}"), WORKERS("{\"id\":0,\"packets\":\"x\",\"wakeups\":{\"a\":[]}}"),
		PORTS("{\"name\":\"a\",\"rx_packets\":-9223372036854775808,\"drops\":1}"),
		PORTS("{\"name\":\"a\",\"rx_packets\":9223372036854775807,\"drops\":{}}")};
	const size_t n = sizeof(answers) / sizeof(answers[0]);

	for (size_t i = 0; i < n * n; i++)
		json_decref(between(
			answers[i / n], answers[i / n], answers[i % n], answers[i % n], i % 2));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(counters_become_rates_and_shares_of_the_interval),
		cmocka_unit_test(those_with_most_traffic_come_first_and_the_unknown_last),
		cmocka_unit_test(restarted_daemon_gives_no_rates_but_says_so),
		cmocka_unit_test(replaced_port_does_not_hide_the_others),
		cmocka_unit_test(share_that_is_a_little_off_stays_between_0_and_100),
		cmocka_unit_test(older_daemon_gives_what_it_tells),
		cmocka_unit_test(answers_of_another_shape_are_no_rates),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
