/* SPDX-License-Identifier: BSD-3-Clause */
/* Bad configurations: each row is a file and the line that a user sees. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <config/config.h>

#define NAMES   "1..31 characters of A-Z a-z 0-9 _ . - (not '.' or '..')"
#define CONNECT "name, type, role, socket, queues, mtu, vlan, mode, coalesce"
#define LISTEN                                                                                     \
	"name, type, role, socket, owner, group, socket_mode, queues, mtu, vlan, mode, coalesce"
#define MODES "poll, adaptive, interrupt"

/* A port and what it needs, on line 1. */
#define PORT(more) "ports: [{name: p, type: guest, socket: s" more "}]\n"
#define PORTS      "ports: [{name: p, type: guest, socket: s}, {name: q, type: guest, socket: t}]\n"
#define X31        "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
#define X108       X31 X31 X31 "xxxxxxxxxxxxxxx"
#define USED_ONCE  "allowed: a port that is used once; it is in "

static const struct row {
	const char *text;
	const char *message; /* after "f:LINE: " */
	int line;
} rows[] = {
	/* keys */
	{"prots: []\n",
		"prots: unknown key; allowed: workers, ports, bridges, cross_connects, control, "
		"log, "
		"memory, eal; did you mean 'ports'?",
		1},
	{"ports:\n- name: p\n  type: guest\n  sokcet: s\n",
		"ports[0].sokcet: unknown key; allowed: " CONNECT "; did you mean 'socket'?", 4},
	{"log:\n  colour: red\n", "log.colour: unknown key; allowed: level; remove the key", 2},
	{PORT(", owner: root"),
		"ports[0].owner: key is not allowed for type guest with role connect (the other "
		"side "
		"makes the socket); allowed: " CONNECT
		"; remove the key, or change what it belongs to",
		1},
	{PORT(", device: d, role: listen"),
		"ports[0].device: key is not allowed for type guest with role listen; "
		"allowed: " LISTEN "; remove the key, or change what it belongs to",
		1},
	{"ports: [{name: n, type: nic, device: d, socket: s}]\n",
		"ports[0].socket: key is not allowed for type nic; allowed: name, type, device, "
		"queues, mtu, vlan, mode; remove the key, or change what it belongs to",
		1},
	{PORT(", bridge: br0"),
		"ports[0].bridge: key is not allowed in a file; allowed: " CONNECT
		"; list the port under 'ports' of the bridge",
		1},
	{"ports:\n- type: guest\n  socket: s\n",
		"ports[0].name: key is missing; allowed: " NAMES "; add 'name: ...' here", 2},
	{"ports:\n- name: p\n",
		"ports[0].type: key is missing; allowed: guest, nic, relay; add 'type: ...' here", 2},
	{"ports:\n- {name: p, type: guest}\n",
		"ports[0].socket: key is missing; allowed: a path of 1 to 107 bytes; add 'socket: "
		"...' here",
		2},
	{"ports:\n- {name: p, type: nic}\n",
		"ports[0].device: key is missing; allowed: a PCI address, a virtual device with "
		"its arguments, or, of a relay, the path of the device's socket, 1 to 511 bytes; add 'device: ...' here",
		2},
	/* shapes */
	{"ports: {}\n",
		"ports: a mapping is not allowed; allowed: a list of ports; write one '- {...}' "
		"line "
		"per entry",
		1},
	{"ports: [vm1]\n",
		"ports[0]: value 'vm1' is not allowed; allowed: a mapping with the keys name, "
		"type, "
		"role, socket, owner, group, socket_mode, device, relay, queues, mtu, vlan, mode, "
		"coalesce; write 'key: value' pairs",
		1},
	{"control: /run/x\n",
		"control: value '/run/x' is not allowed; allowed: a mapping with the keys socket, "
		"owner, group, mode; write 'key: value' pairs",
		1},
	/* names */
	{"ports:\n- {name: \"a/b\", type: guest, socket: s}\n",
		"ports[0].name: value 'a/b' is not allowed; allowed: " NAMES "; correct the value",
		2},
	{"ports:\n- {name: .., type: guest, socket: s}\n",
		"ports[0].name: value '..' is not allowed; allowed: " NAMES "; correct the value",
		2},
	{"ports:\n- {name: '', type: guest, socket: s}\n",
		"ports[0].name: value '' is not allowed; allowed: " NAMES "; correct the value", 2},
	{"ports:\n- {name: x" X31 ", type: guest, socket: s}\n",
		"ports[0].name: value 'x" X31 "' is not allowed; allowed: " NAMES
		"; correct the value",
		2},
	{"ports:\n- {name: 12, type: guest, socket: s}\n",
		"ports[0].name: value '12' is not allowed; allowed: " NAMES
		"; write it in quotes if this is what you mean",
		2},
	{"ports:\n- {name: p, type: guest, socket: s}\n- name: p\n  type: nic\n  device: d\n",
		"ports[1].name: value 'p' is not allowed; allowed: a name that no other port has "
		"(line "
		"2 has it); choose another",
		3},
	/* choices */
	{"ports:\n- {name: p, type: guests, socket: s}\n",
		"ports[0].type: value 'guests' is not allowed; allowed: guest, nic, relay; correct the "
		"value",
		2},
	{PORT(", role: server"),
		"ports[0].role: value 'server' is not allowed; allowed: connect, listen; correct "
		"the "
		"value",
		1},
	{"log: {level: verbose}\n",
		"log.level: value 'verbose' is not allowed; allowed: error, warn, info, debug; "
		"correct "
		"the value",
		1},
	{"workers: {simd: sse9}\n",
		"workers.simd: value 'sse9' is not allowed; allowed: auto, portable, avx2, avx512; "
		"correct the value",
		1},
	{"memory: {hugepages: yes}\n",
		"memory.hugepages: value 'yes' is not allowed; allowed: auto, never; correct the "
		"value",
		1},
	/* sockets */
	{"ports:\n- {name: p, type: guest, socket: " X108 "}\n",
		"ports[0].socket: socket path '" X108 "' is 108 bytes long; allowed: 1..107 bytes; "
		"choose a shorter directory or name",
		2},
	{"ports:\n- {name: p, type: guest, socket: ''}\n",
		"ports[0].socket: socket path is empty; give a path of 1..107 bytes", 2},
	{"ports:\n- {name: p, type: guest, socket: s}\n- {name: q, type: guest, socket: s}\n",
		"ports[1].socket: value 's' is not allowed; allowed: a socket that no other port "
		"has "
		"(line 2 has it); choose another",
		3},
	{"control: {socket: s}\n" PORT(""),
		"ports[0].socket: value 's' is not allowed; allowed: a path other than the control "
		"socket's; choose another",
		2},
	{"control: {mode: 660}\n",
		"control.mode: value '660' is not allowed; allowed: an octal text \"0000\" to "
		"\"0777\"; write it in quotes if this is what you mean",
		1},
	{"control: {mode: \"1777\"}\n",
		"control.mode: value '1777' is not allowed; allowed: an octal text \"0000\" to "
		"\"0777\"; write for example mode: \"0660\"",
		1},
	{"control: {mode: \"0680\"}\n",
		"control.mode: value '0680' is not allowed; allowed: an octal text \"0000\" to "
		"\"0777\"; write for example mode: \"0660\"",
		1},
	{"control: {owner: \"\"}\n",
		"control.owner: value '' is not allowed; allowed: a user name or number of 1 to 63 "
		"bytes; correct the value",
		1},
	/* numbers */
	{PORT(", queues: 0"),
		"ports[0].queues: value '0' is not allowed; allowed: 1 to 16 (queue pairs); "
		"correct "
		"the value",
		1},
	{PORT(", queues: 17"),
		"ports[0].queues: value '17' is not allowed; allowed: 1 to 16 (queue pairs); "
		"correct "
		"the value",
		1},
	{PORT(", queues: -4294967295"),
		"ports[0].queues: value '-4294967295' is not allowed; allowed: 1 to 16 (queue "
		"pairs); "
		"correct the value",
		1},
	{PORT(", queues: 4294967297"),
		"ports[0].queues: value '4294967297' is not allowed; allowed: 1 to 16 (queue "
		"pairs); "
		"correct the value",
		1},
	{PORT(", queues: \"4\""),
		"ports[0].queues: value '4' is not allowed; allowed: 1 to 16 (queue pairs); write "
		"a "
		"plain decimal number, without quotes",
		1},
	{PORT(", queues: 1.5"),
		"ports[0].queues: value '1.5' is not allowed; allowed: 1 to 16 (queue pairs); "
		"correct "
		"the value",
		1},
	{PORT(", queues: "),
		"ports[0].queues: an empty value is not allowed; allowed: 1 to 16 (queue pairs); "
		"correct the value",
		1},
	{PORT(", mtu: 67"),
		"ports[0].mtu: value '67' is not allowed; allowed: 68 to 65535; correct the value",
		1},
	{PORT(", mtu: 65536"),
		"ports[0].mtu: value '65536' is not allowed; allowed: 68 to 65535; correct the "
		"value",
		1},
	{"ports:\n- {name: r, type: relay, socket: s, device: d, queues: 9}\n",
		"ports[0].queues: value '9' is not allowed; allowed: 1 to 8 (queue pairs of a relay); "
		"correct the value",
		2},
	{"ports:\n- {name: r, type: relay, socket: s, device: d, relay: both}\n",
		"ports[0].relay: value 'both' is not allowed; allowed: auto, pass-through, shadow; "
		"correct the value",
		2},
	{"ports:\n- {name: r, type: relay, socket: s, device: d}\nbridges:\n- {name: b, ports: [r]}\n",
		"bridges[0].ports[0]: value 'r' is not allowed; allowed: ports of type guest and nic, "
		"since what a relay port moves goes to its device; remove it",
		4},
	{"ports:\n- {name: r, type: relay, socket: s, device: s}\n",
		"ports[0].device: value 's' is not allowed; allowed: another socket than the port's own; "
		"correct the value",
		2},
	{"ports:\n- {name: g, type: guest, socket: s}\n- {name: r, type: relay, socket: t, device: s}\n",
		"ports[1].device: value 's' is not allowed; allowed: a device that no other port has "
		"(line 2 has it); choose another",
		3},
	{"eal: {vfio_intr: intx}\n",
		"eal.vfio_intr: value 'intx' is not allowed; allowed: auto, msix, msi, legacy; "
		"correct the value",
		1},
	{"memory: {mb: 15}\n",
		"memory.mb: value '15' is not allowed; allowed: 16 to 1048576 (MiB); correct the "
		"value",
		1},
	/* VLANs */
	{PORT(", vlan: {access: 0}"),
		"ports[0].vlan.access: value '0' is not allowed; allowed: 1 to 4094; correct the "
		"value",
		1},
	{PORT(", vlan: {access: 4095}"),
		"ports[0].vlan.access: value '4095' is not allowed; allowed: 1 to 4094; correct "
		"the "
		"value",
		1},
	{PORT(", vlan: {trunk: [10, 4095]}"),
		"ports[0].vlan.trunk[1]: value '4095' is not allowed; allowed: a list of VLANs 1 "
		"to "
		"4094 and ranges such as 100-199; write for example trunk: [10, 20, 100-199]",
		1},
	{PORT(", vlan: {trunk: [20-10]}"),
		"ports[0].vlan.trunk[0]: value '20-10' is not allowed; allowed: a list of VLANs 1 "
		"to "
		"4094 and ranges such as 100-199; write for example trunk: [10, 20, 100-199]",
		1},
	{PORT(", vlan: {trunk: []}"),
		"ports[0].vlan.trunk: a list is not allowed; allowed: a list of VLANs 1 to 4094 "
		"and "
		"ranges such as 100-199; write for example trunk: [10, 20, 100-199]",
		1},
	{PORT(", vlan: {access: 1, trunk: [2]}"),
		"ports[0].vlan: a port is either access or trunk; allowed: one of the keys access, "
		"trunk; remove one of them",
		1},
	{PORT(", vlan: {native: 3}"),
		"ports[0].vlan: a port is either access or trunk; allowed: one of the keys access, "
		"trunk; add one of them, or remove 'vlan'",
		1},
	{PORT(", vlan: {access: 2, native: 3}"),
		"ports[0].vlan: key 'native' needs a trunk; allowed: native beside trunk; remove "
		"it, "
		"or use 'trunk'",
		1},
	/* NICs */
	{"ports:\n- {name: a, type: nic, device: \"net_tap0,iface=x\"}\n"
	 "- {name: b, type: nic, device: net_tap0}\n",
		"ports[1].device: value 'net_tap0' is not allowed; allowed: a device that no other "
		"port has (line 2 has it); choose another",
		3},
	/* workers */
	{"workers:\n  cpus: 1,1\n",
		"workers.cpus: value '1,1' is not allowed; allowed: CPUs 0 to 1023 and ranges, "
		"each "
		"once, such as \"1,3-5\"; see 'lscpu -e' for the CPUs there are",
		2},
	{"workers: {cpus: 1024}\n",
		"workers.cpus: value '1024' is not allowed; allowed: CPUs 0 to 1023 and ranges, "
		"each "
		"once, such as \"1,3-5\"; see 'lscpu -e' for the CPUs there are",
		1},
	{"workers: {cpus: [1]}\n",
		"workers.cpus: a list is not allowed; allowed: a CPU list such as \"1,3-5\"; see "
		"'lscpu -e' for the CPUs there are",
		1},
	{"workers: {mode: busy}\n",
		"workers.mode: value 'busy' is not allowed; allowed: " MODES "; correct the value",
		1},
	{"workers: {idle_us: 0}\n",
		"workers.idle_us: value '0' is not allowed; allowed: 1 to 100000 (microseconds); "
		"correct the value",
		1},
	{"workers:\n  mode: adaptive\n  idle_us: 100001\n",
		"workers.idle_us: value '100001' is not allowed; allowed: 1 to 100000 "
		"(microseconds); correct the value",
		3},
	/* modes of ports */
	{PORT(", mode: sleep"),
		"ports[0].mode: value 'sleep' is not allowed; allowed: " MODES
		"; correct the value",
		1},
	{PORT(", mode: 0660"),
		"ports[0].mode: value '0660' is not allowed; allowed: " MODES "; correct the value",
		1},
	{"ports: [{name: n, type: nic, device: d, mode: \"0660\"}]\n",
		"ports[0].mode: value '0660' is not allowed; allowed: " MODES "; correct the value",
		1},
	{PORT(", socket_mode: 0660"),
		"ports[0].socket_mode: key is not allowed for type guest with role connect (the "
		"other side makes the socket); allowed: " CONNECT
		"; remove the key, or change what it belongs to",
		1},
	{PORT(", role: listen, socket_mode: poll"),
		"ports[0].socket_mode: value 'poll' is not allowed; allowed: an octal text "
		"\"0000\" to \"0777\"; write for example socket_mode: \"0660\"",
		1},
	{PORT(", role: listen, mode: 0600, socket_mode: 0660"),
		"ports[0].mode: value '0600' is not allowed beside 'socket_mode'; allowed: " MODES
		"; remove one",
		1},
	/* calls to guests */
	{PORT(", coalesce: {frames: 1025}"),
		"ports[0].coalesce.frames: value '1025' is not allowed; allowed: 0 to 1024 "
		"(frames); correct the value",
		1},
	{PORT(", coalesce: {frames: -1}"),
		"ports[0].coalesce.frames: value '-1' is not allowed; allowed: 0 to 1024 "
		"(frames); correct the value",
		1},
	{"ports:\n- name: p\n  type: guest\n  socket: s\n  coalesce:\n    us: 10001\n",
		"ports[0].coalesce.us: value '10001' is not allowed; allowed: 0 to 10000 "
		"(microseconds); correct the value",
		6},
	{PORT(", coalesce: {usec: 50}"),
		"ports[0].coalesce.usec: unknown key; allowed: frames, us; did you mean 'us'?", 1},
	{PORT(", coalesce: 50"),
		"ports[0].coalesce: value '50' is not allowed; allowed: a mapping with the keys "
		"frames, us; write 'key: value' pairs",
		1},
	{"ports: [{name: n, type: nic, device: d, coalesce: {us: 50}}]\n",
		"ports[0].coalesce: key is not allowed for type nic; allowed: name, type, device, "
		"queues, mtu, vlan, mode; remove the key, or change what it belongs to",
		1},
	/* bridges and cross-connects */
	{PORTS "bridges:\n- {name: b, ports: [p, x]}\n",
		"bridges[0].ports[1]: value 'x' is not allowed; allowed: the names under 'ports'; "
		"add "
		"the port there, or correct the name",
		3},
	{PORTS "bridges: [{name: b, ports: [p, p]}]\n",
		"bridges[0].ports[1]: value 'p' is not allowed; " USED_ONCE
		"bridges[0] already, remove it from one of them",
		2},
	{PORTS "bridges: [{name: b, ports: [p]}, {name: c, ports: [p]}]\n",
		"bridges[1].ports[0]: value 'p' is not allowed; " USED_ONCE
		"bridges[0] already, remove it from one of them",
		2},
	{PORTS "bridges: [{name: b, ports: [p]}]\ncross_connects: [{ports: [q, p]}]\n",
		"cross_connects[0].ports[1]: value 'p' is not allowed; " USED_ONCE
		"bridges[0] already, remove it from one of them",
		3},
	{PORTS "cross_connects: [{ports: [p, p]}]\n",
		"cross_connects[0].ports[1]: value 'p' is not allowed; " USED_ONCE
		"cross_connects[0] already, remove it from one of them",
		2},
	{PORTS "cross_connects: [{ports: [p]}]\n",
		"cross_connects[0].ports: a list of 1 is not allowed; allowed: the names of two "
		"different ports; write for example ports: [a, b]",
		2},
	{PORTS "cross_connects: [{ports: [p, q, p]}]\n",
		"cross_connects[0].ports: a list of 3 is not allowed; allowed: the names of two "
		"different ports; write for example ports: [a, b]",
		2},
	{PORTS "cross_connects: [{ports: [p, q], lossless: yes}]\n",
		"cross_connects[0].lossless: value 'yes' is not allowed; allowed: true, false; "
		"correct "
		"the value",
		2},
	{PORTS "bridges: [{name: b}, {name: b}]\n",
		"bridges[1].name: value 'b' is not allowed; allowed: a name that no other bridge "
		"has "
		"(line 2 has it); choose another",
		2},
	{"bridges: [{name: b, fdb_max: 1}]\n",
		"bridges[0].fdb_max: value '1' is not allowed; allowed: 16 to 1048576 (MAC "
		"addresses); "
		"correct the value",
		1},
	{"bridges: [{name: b, age_s: 0}]\n",
		"bridges[0].age_s: value '0' is not allowed; allowed: 1 to 86400 (seconds); "
		"correct "
		"the value",
		1},
};

static void bad_file_is_refused_with_line_key_value_and_what_is_allowed(void **state)
{
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct config_error error = {""};
		struct config *config = NULL;
		char expected[CONFIG_ERROR_MAX];
		int ret =
			config_load_text("f", rows[i].text, strlen(rows[i].text), &config, &error);

		snprintf(expected, sizeof(expected), "f:%d: %s", rows[i].line, rows[i].message);
		if (ret != -EINVAL)
			fail_msg("row %zu gave %d for: %s", i, ret, rows[i].text);
		assert_string_equal(error.message, expected);
		assert_null(config);
	}
}

static void one_port_too_many_is_refused(void **state)
{
	char *text = malloc(1 << 20);
	size_t n = (size_t)sprintf(text, "ports:\n");
	struct config_error error;
	struct config *config;

	for (int i = 0; i <= CONFIG_PORTS_MAX; i++)
		n += (size_t)sprintf(
			text + n, "- {name: p%d, type: guest, socket: /run/%d}\n", i, i);
	assert_int_equal(config_load_text("f", text, n, &config, &error), -EINVAL);
	assert_string_equal(error.message,
		"f:1: ports: a list of 257 is not allowed; allowed: 0 to "
		"256 entries; write one '- {...}' line per entry");
	free(text);
}

static void value_in_a_message_cannot_break_the_line_or_the_terminal(void **state)
{
	const char *text = "log: {level: \"a\\nb\\e[31m\"}\n";
	struct config_error error;
	struct config *config;

	assert_int_equal(config_load_text("f", text, strlen(text), &config, &error), -EINVAL);
	assert_string_equal(error.message,
		"f:1: log.level: value 'a?b?[31m' is not allowed; allowed: "
		"error, warn, info, debug; correct the value");
}

static void bad_port_of_an_rpc_is_refused_without_a_file(void **state)
{
	static const struct {
		const char *json;
		const char *message;
	} ports[] = {
		{"[]", "a list is not allowed; allowed: a mapping with the keys name, type, role, "
		       "socket, owner, group, socket_mode, device, relay, queues, mtu, vlan, mode, "
		       "coalesce, bridge; write 'key: value' pairs"},
		{"{}", "name: key is missing; allowed: " NAMES "; add 'name: ...' here"},
		{"{\"name\": \"p\", \"type\": \"guest\", \"socket\": \"s\", \"mtu\": 1}",
			"mtu: value '1' is not allowed; allowed: 68 to 65535; correct the value"},
		{"{\"name\": \"p\", \"type\": \"guest\", \"socket\": \"s\", \"vlan\": "
		 "{\"access\": 5000}}",
			"vlan.access: value '5000' is not allowed; allowed: 1 to 4094; correct the "
			"value"},
		{"{\"name\": \"p\", \"type\": \"guest\", \"socket\": \"s\", \"brigde\": \"b\"}",
			"brigde: unknown key; allowed: " CONNECT
			", bridge; did you mean 'bridge'?"},
		{"{\"name\": \"p\", \"type\": \"guest\", \"socket\": \"s\", \"mode\": \"x\"}",
			"mode: value 'x' is not allowed; allowed: " MODES "; correct the value"},
		{"{\"name\": \"p\", \"type\": \"guest\", \"socket\": \"s\", \"coalesce\": "
		 "{\"us\": \"50\"}}",
			"coalesce.us: value '50' is not allowed; allowed: 0 to 10000 "
			"(microseconds); write a plain decimal number, without quotes"},
		{"{\"name\": \"p\", \"type\": \"guest\", \"socket\": \"s\\u0000x\"}",
			"socket: value 's' is not allowed; allowed: a path of 1 to 107 bytes; "
			"correct "
			"the value"},
	};

	for (size_t i = 0; i < sizeof(ports) / sizeof(ports[0]); i++) {
		json_t *object = json_loads(ports[i].json, JSON_ALLOW_NUL, NULL);
		struct config_error error = {""};
		struct config_port port;

		assert_non_null(object);
		assert_int_equal(config_port_from_json(object, &port, &error), -EINVAL);
		assert_string_equal(error.message, ports[i].message);
		json_decref(object);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bad_file_is_refused_with_line_key_value_and_what_is_allowed),
		cmocka_unit_test(one_port_too_many_is_refused),
		cmocka_unit_test(value_in_a_message_cannot_break_the_line_or_the_terminal),
		cmocka_unit_test(bad_port_of_an_rpc_is_refused_without_a_file),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
