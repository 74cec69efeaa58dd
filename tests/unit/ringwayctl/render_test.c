/* SPDX-License-Identifier: BSD-3-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <render.h>

#include "fake_daemon.h"

typedef void (*renderer)(FILE *out, const json_t *result);

static char *rendered(renderer render, const json_t *result)
{
	char *text = NULL;
	size_t n_bytes;
	FILE *out = open_memstream(&text, &n_bytes);

	render(out, result);
	fclose(out);
	return text;
}

static void expect(renderer render, const char *method, const char *expected)
{
	json_t *result = fake_daemon_result(method);
	char *text = rendered(render, result);

	assert_string_equal(text, expected);
	free(text);
	json_decref(result);
}

static void ports_are_a_list(void **state)
{
	expect(render_ports, "port.show",
		"NAME  TYPE   STATE    LINK  QUEUES  VLAN       NUMA  RX-PACKETS  TX-PACKETS  "
		"DROPS\n"
		"vm1   guest  running  up         2  access 10     0        1000         900  12 "
		"(rx_ring_full 10, no_buffer 2)\n"
		"up0   nic    down     down       1  -             -           5           6  0\n");
}

static void guest_port_is_shown_with_features_memory_rings_and_drops(void **state)
{
	expect(render_port, "port.show",
		"name:              vm1\n"
		"id:                0\n"
		"type:              guest\n"
		"NUMA node:         0\n"
		"VLAN:              access 10\n"
		"link:              up\n"
		"mode:              adaptive\n"
		"socket:            /run/ringway/vm1.sock\n"
		"role:              listen\n"
		"state:             running\n"
		"last error:        -\n"
		"connects:          3\n"
		"peer pid:          4711\n"
		"peer uid:          64055\n"
		"queue pairs:       2\n"
		"coalesce:          32 frames or 50 us\n"
		"features:          VERSION_1 MRG_RXBUF RING_INDIRECT_DESC RING_EVENT_IDX\n"
		"                   IN_ORDER CSUM MQ\n"
		"protocol features: MQ REPLY_ACK\n"
		"rx packets:        1000\n"
		"rx bytes:          64000\n"
		"tx packets:        900\n"
		"tx bytes:          57600\n"
		"\nmemory:\n"
		"  GPA     SIZE             UVA\n"
		"  0x0  512 MiB  0x7f0000000000\n"
		"\nrings:\n"
		"  RING  DIR  SIZE  STARTED  ENABLED  BROKEN  AVAIL-IDX  USED-IDX  WORKER  CALLS  "
		"VECTOR\n"
		"     0  rx    256  yes      yes      no            512       256       0     42  "
		"masked,pending\n"
		"     1  tx   1024  no       no       yes         65535         0       -      -  "
		"-\n"
		"\ndrops:\n"
		"  REASON        FRAMES\n"
		"  rx_ring_full      10\n"
		"  vlan               0\n"
		"  no_buffer          2\n");
}

static void bridges_cross_connects_addresses_workers_and_counters_are_lists(void **state)
{
	expect(render_bridges, "bridge.show",
		"BRIDGE  MACS  MACS-MAX  AGE-S  PORTS\n"
		"br0        2     65536    300  vm1,up0\n"
		"\n"
		"CROSS-CONNECT  LOSSLESS\n"
		"a,b            yes\n");
	expect(render_fdb, "fdb.show",
		"BRIDGE  VLAN  MAC                PORT  AGE-S\n"
		"br0       10  52:54:00:72:62:01  vm1       4\n");
	expect(render_workers, "worker.show",
		"ID  CPU  NUMA  MODE      STATE     BUSY   IDLE  SLEEP  SLEEPS  WINDOW     P50  "
		"   P99  CYCLES  PACKETS  WAKE-UPS                                QUEUES\n"
		" 0    1     0  adaptive  asleep   25.0%  12.5%  62.5%      12   20 us  1.5 us  "
		"131 us     100       10  kick 8, request 3, timer 1, spurious 2  vm1:1,up0:0\n"
		" 1    3     0  adaptive  polling   2.5%  97.5%   0.0%       0  200 us       -  "
		"     -       -        0  0                                       nic0:0\n"
		"worker 1 keeps polling for nic0 queue 0: net_af_packet has no receive "
		"interrupts\n");
	expect(render_pings, "worker.ping",
		"ID  CPU  ROUND-TRIP  WAS-ASLEEP\n"
		" 0    1     23.5 us  yes\n"
		" 1    3      800 ns  no\n");
	expect(render_stats, "stats",
		"NAME  RX-PACKETS  RX-BYTES  TX-PACKETS  TX-BYTES  DROPS\n"
		"vm1         1000     64000         900     57600  12 (rx_ring_full 10, no_buffer "
		"2)\n"
		"up0            5       320           6       384  0\n");
}

static void worker_is_shown_with_its_queues_and_how_its_times_are_spread(void **state)
{
	expect(render_worker, "worker.show",
		"id:                0\n"
		"CPU:               1\n"
		"NUMA node:         0\n"
		"mode:              adaptive\n"
		"state:             asleep\n"
		"window:            20 us\n"
		"longest window:    200 us\n"
		"busy:              25.0%\n"
		"idle:              12.5%\n"
		"sleep:             62.5%\n"
		"packets:           10\n"
		"cycles per packet: 100\n"
		"rounds:            77\n"
		"sleeps:            12\n"
		"wake-ups:          kick 8, request 3, timer 1, spurious 2\n"
		"penalties:         1\n"
		"\nqueues:\n"
		"  PORT  QUEUE  WAKE-UPS  SPURIOUS\n"
		"  vm1       1         8         2\n"
		"  up0       0         0         0\n"
		"\nwaking, until the first frame: median 1.5 us, p90 12 us, p99 131 us, max 2 ms, "
		"n "
		"10\n"
		"    BELOW  N  BAR\n"
		"  1.02 us  1  #####\n"
		"  2.05 us  8  ########################################\n"
		"   2.1 ms  1  #####\n"
		"\nanswering control: -\n");
}

static void worker_of_an_older_daemon_shows_what_it_does_not_tell_as_unknown(void **state)
{
	json_t *result =
		json_loads("{\"workers\":[{\"id\":0,\"cpu\":1,\"numa_node\":0,\"busy_cycles\":1000,"
			   "\"total_cycles\":4000,\"rounds\":77,\"packets\":10,"
			   "\"queues\":[{\"port\":\"vm1\",\"queue\":1}]}],\"tsc_hz\":2000000000}",
			0, NULL);
	char *text = rendered(render_workers, result);

	assert_string_equal(text,
		"ID  CPU  NUMA  MODE  STATE   BUSY  IDLE  SLEEP  SLEEPS  WINDOW  P50  P99  CYCLES  "
		"PACKETS  WAKE-UPS  QUEUES\n"
		" 0    1     0  -     -      25.0%     -      -       -       -    -    -     100  "
		"     10  -         vm1:1\n");
	free(text);
	text = rendered(render_worker, result);
	assert_non_null(strstr(text, "mode:              -\n"));
	assert_non_null(strstr(text, "sleep:             -\n"));
	assert_non_null(strstr(text, "  vm1       1         -         -\n"));
	assert_non_null(strstr(text, "waking, until the first frame: -\n"));
	free(text);
	json_decref(result);
}

/* The daemon's words end up in a line that is not a table's. */
static void reason_to_keep_polling_cannot_drive_the_terminal(void **state)
{
	json_t *result = json_loads("{\"workers\":[{\"id\":0,\"keeps_polling\":[{\"port\":\"p\","
				    "\"queue\":1,\"why\":\"a\\u001b[31m\\nb\"}]}]}",
		0, NULL);
	char *text = rendered(render_worker, result);

	assert_non_null(strstr(text, "worker 0 keeps polling for p queue 1: a?[31m?b\n"));
	free(text);
	json_decref(result);
}

static void port_without_a_peer_has_no_pid(void **state)
{
	json_t *result = json_loads(
		"{\"ports\":[{\"name\":\"p\",\"peer_pid\":-1,\"peer_uid\":-1}]}", 0, NULL);
	char *text = rendered(render_port, result);

	assert_string_equal(text, "name:              p\n"
				  "peer pid:          -\n"
				  "peer uid:          -\n");
	free(text);
	json_decref(result);
}

/* Results that another version, or something else, might give. */
static void results_of_another_shape_are_shown_as_far_as_they_go(void **state)
{
	static const char *const results[] = {"{}", "[]", "null",
		"{\"ports\":[],\"bridges\":[],\"entries\":[],\"workers\":[]}",
		"{\"ports\":[{}],\"bridges\":[{}],\"entries\":[{}],\"workers\":[{}]}",
		"{\"ports\":[1],\"bridges\":1,\"entries\":[[]],\"workers\":[null]}",
		"{\"ports\":[{\"name\":1,\"features\":[1],\"memory\":[1],\"rings\":{},"
		"\"counters\":{\"drops\":[1]}}],\"workers\":[{\"queues\":[1,{}],\"packets\":\"x\"}]"
		"}",
		"{\"workers\":[{\"wake_ns\":{\"n\":1,\"p50\":\"x\",\"buckets\":[1,{\"n\":-5},"
		"{\"n\":9223372036854775807,\"below_ns\":1e300}]},\"wakeups\":[],"
		"\"keeps_polling\":[1,{}],\"total_cycles\":-1,\"window_us\":1.5,"
		"\"packets_per_s\":-1e300}],\"interval_s\":1e300}"};
	static const renderer renderers[] = {render_ports, render_port, render_bridges, render_fdb,
		render_workers, render_worker, render_pings, render_rates, render_stats};

	for (size_t i = 0; i < sizeof(results) / sizeof(results[0]); i++) {
		json_t *result = json_loads(results[i], JSON_DECODE_ANY, NULL);

		assert_non_null(result);
		for (size_t j = 0; j < sizeof(renderers) / sizeof(renderers[0]); j++)
			free(rendered(renderers[j], result));
		json_decref(result);
	}
}

static void list_beyond_its_room_ends_with_dots(void **state)
{
	json_t *ports = json_array(), *result;
	char *text;

	for (int i = 0; i < 2000; i++)
		json_array_append_new(ports, json_string("a-port-with-a-long-name"));
	result = json_pack("{s:[{s:s, s:o}]}", "bridges", "name", "br0", "ports", ports);
	text = rendered(render_bridges, result);
	assert_string_equal(text + strlen(text) - 4, "...\n");
	free(text);
	json_decref(result);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ports_are_a_list),
		cmocka_unit_test(guest_port_is_shown_with_features_memory_rings_and_drops),
		cmocka_unit_test(bridges_cross_connects_addresses_workers_and_counters_are_lists),
		cmocka_unit_test(worker_is_shown_with_its_queues_and_how_its_times_are_spread),
		cmocka_unit_test(worker_of_an_older_daemon_shows_what_it_does_not_tell_as_unknown),
		cmocka_unit_test(reason_to_keep_polling_cannot_drive_the_terminal),
		cmocka_unit_test(port_without_a_peer_has_no_pid),
		cmocka_unit_test(results_of_another_shape_are_shown_as_far_as_they_go),
		cmocka_unit_test(list_beyond_its_room_ends_with_dots),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
