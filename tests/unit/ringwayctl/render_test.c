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
		"socket:            /run/ringway/vm1.sock\n"
		"role:              listen\n"
		"state:             running\n"
		"last error:        -\n"
		"connects:          3\n"
		"peer pid:          4711\n"
		"peer uid:          64055\n"
		"queue pairs:       2\n"
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
		"  RING  DIR  SIZE  STARTED  ENABLED  BROKEN  AVAIL-IDX  USED-IDX  WORKER\n"
		"     0  rx    256  yes      yes      no            512       256       0\n"
		"     1  tx   1024  no       no       yes         65535         0       -\n"
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
		"ID  CPU  NUMA   BUSY  CYCLES  PACKETS  ROUNDS  QUEUES\n"
		" 0    1     0  25.0%     100       10      77  vm1:1,up0:0\n");
	expect(render_stats, "stats",
		"NAME  RX-PACKETS  RX-BYTES  TX-PACKETS  TX-BYTES  DROPS\n"
		"vm1         1000     64000         900     57600  12 (rx_ring_full 10, no_buffer "
		"2)\n"
		"up0            5       320           6       384  0\n");
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
		"}"};
	static const renderer renderers[] = {render_ports, render_port, render_bridges, render_fdb,
		render_workers, render_stats};

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
		cmocka_unit_test(port_without_a_peer_has_no_pid),
		cmocka_unit_test(results_of_another_shape_are_shown_as_far_as_they_go),
		cmocka_unit_test(list_beyond_its_room_ends_with_dots),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
