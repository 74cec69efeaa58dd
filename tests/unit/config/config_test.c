/* SPDX-License-Identifier: BSD-3-Clause */
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

static struct config *load_text(const char *text)
{
	struct config_error error;
	struct config *config = NULL;

	if (config_load_text("f", text, strlen(text), &config, &error) != 0)
		fail_msg("refused: %s", error.message);
	return config;
}

static struct config *load_sample(const char *name)
{
	struct config_error error;
	struct config *config = NULL;
	char path[512];

	snprintf(path, sizeof(path), "%s/%s", SAMPLES_DIR, name);
	if (config_load(path, &config, &error) != 0)
		fail_msg("refused: %s", error.message);
	return config;
}

static void sample_with_every_kind_of_port_loads(void **state)
{
	struct config *c = load_sample("ringway.yaml");
	const struct config_port *p = c->ports;
	char text[64];

	assert_int_equal(c->workers.n_cpus, 1);
	assert_int_equal(c->workers.cpus[0], 1);
	assert_int_equal(c->n_ports, 4);
	assert_int_equal(c->n_bridges, 1);
	assert_int_equal(c->n_cross_connects, 0);

	assert_string_equal(p[0].name, "vm1");
	assert_int_equal(p[0].type, CONFIG_PORT_GUEST);
	assert_int_equal(p[0].role, CONFIG_ROLE_LISTEN);
	assert_string_equal(p[0].socket.path, "/run/ringway/vm1.sock");
	assert_int_equal(p[0].socket.mode, 0660);
	assert_int_equal(p[0].mode, CONFIG_MODE_ADAPTIVE);
	assert_int_equal(p[0].coalesce_us, 0);
	assert_int_equal(p[0].queue_pairs, 16);
	assert_int_equal(p[0].mtu, 0);
	assert_int_equal(p[0].vlan.kind, CONFIG_VLAN_NONE);
	assert_int_equal(p[0].line, 4);
	assert_int_equal(p[1].role, CONFIG_ROLE_CONNECT);
	assert_int_equal(p[1].queue_pairs, 4);
	assert_int_equal(p[2].vlan.kind, CONFIG_VLAN_ACCESS);
	assert_int_equal(p[2].vlan.access, 10);
	assert_int_equal(p[3].type, CONFIG_PORT_NIC);
	assert_string_equal(p[3].device, "net_af_packet0,iface=eth1");
	assert_int_equal(p[3].queue_pairs, 1);
	assert_int_equal(p[3].vlan.kind, CONFIG_VLAN_TRUNK);
	assert_string_equal(config_vlan_to_text(&p[3].vlan, text, sizeof(text)), "trunk 10,20");
	assert_int_equal(p[3].vlan.native, 0);
	assert_int_equal(p[3].line, 7);

	assert_string_equal(c->bridges[0].name, "br0");
	assert_int_equal(c->bridges[0].n_ports, 4);
	for (uint32_t i = 0; i < 4; i++) {
		assert_int_equal(c->bridges[0].port_indexes[i], i);
		assert_int_equal(p[i].bridge_index, 0);
		assert_int_equal(p[i].cross_connect_index, -1);
		assert_string_equal(p[i].bridge_name, "");
	}
	assert_int_equal(c->workers.simd, CONFIG_SIMD_AUTO);
	assert_int_equal(c->bridges[0].age_s, 300);
	assert_int_equal(c->bridges[0].fdb_max, 65536);
	assert_string_equal(c->control.path, "/run/ringway/control.sock");
	assert_int_equal(c->control.mode, 0660);
	assert_int_equal(c->log.level, LOG_LEVEL_INFO);
	assert_int_equal(c->memory.hugepages, CONFIG_HUGEPAGES_AUTO);
	config_free(c);
}

static void json_sample_means_the_same_as_the_yaml_sample(void **state)
{
	struct config *yaml = load_sample("ringway.yaml"), *json = load_sample("ringway.json");

	assert_int_equal(yaml->n_ports, json->n_ports);
	for (uint32_t i = 0; i < yaml->n_ports; i++) {
		assert_int_not_equal(json->ports[i].line, 0);
		json->ports[i].line = yaml->ports[i].line;
	}
	assert_memory_equal(yaml->ports, json->ports, yaml->n_ports * sizeof(yaml->ports[0]));
	assert_memory_equal(&yaml->control, &json->control, sizeof(yaml->control));
	assert_int_equal(json->workers.n_cpus, 1);
	assert_int_equal(json->n_bridges, 1);
	assert_int_equal(json->bridges[0].n_ports, 4);
	config_free(yaml);
	config_free(json);
}

static void samples_of_the_other_kinds_load(void **state)
{
	struct config *c = load_sample("two-guests.yaml");

	assert_int_equal(c->n_ports, 2);
	assert_int_equal(c->ports[1].role, CONFIG_ROLE_CONNECT);
	assert_int_equal(c->workers.n_cpus, 0);
	config_free(c);

	c = load_sample("cross-connect.yaml");
	assert_int_equal(c->workers.n_cpus, 2);
	assert_int_equal(c->n_cross_connects, 1);
	assert_int_equal(c->cross_connects[0].n_ports, 2);
	assert_int_equal(c->cross_connects[0].port_indexes[0], 0);
	assert_int_equal(c->cross_connects[0].port_indexes[1], 1);
	assert_true(c->cross_connects[0].lossless);
	assert_int_equal(c->ports[0].cross_connect_index, 0);
	assert_int_equal(c->ports[0].bridge_index, -1);
	assert_string_equal(c->ports[0].socket.group, "kvm");
	assert_int_equal(c->ports[0].mtu, 9000);
	assert_int_equal(c->ports[0].socket.mode, 0660);
	assert_int_equal(c->workers.mode, CONFIG_MODE_POLL);
	assert_int_equal(c->memory.mb, 512);
	config_free(c);
}

static void empty_file_gives_every_default(void **state)
{
	struct config *c = load_text("ports:\nbridges:\nworkers:\n");

	assert_int_equal(c->n_ports, 0);
	assert_int_equal(c->n_bridges, 0);
	assert_int_equal(c->workers.n_cpus, 0);
	assert_int_equal(c->workers.mode, CONFIG_MODE_ADAPTIVE);
	assert_int_equal(c->workers.idle_us, 200);
	assert_string_equal(c->control.path, CONFIG_CONTROL_SOCKET);
	assert_int_equal(c->control.mode, 0660);
	config_free(c);
	config_free(NULL);
}

static void bridges_may_come_before_the_ports_they_name(void **state)
{
	struct config *c = load_text("bridges: [{name: b, ports: [q, p]}, {name: empty}]\n"
				     "ports:\n"
				     "- {name: p, type: guest, socket: p.sock}\n"
				     "- {name: q, type: guest, socket: q.sock}\n");

	assert_int_equal(c->bridges[0].port_indexes[0], 1);
	assert_int_equal(c->bridges[0].port_indexes[1], 0);
	assert_int_equal(c->bridges[1].n_ports, 0);
	config_free(c);
}

static void trunk_takes_numbers_and_ranges_and_always_carries_its_native_vlan(void **state)
{
	struct config *c = load_text("ports: [{name: p, type: guest, socket: s,"
				     " vlan: {trunk: [4094, 1, 100-199, 150-210], native: 7}}]");
	const struct config_vlan *vlan = &c->ports[0].vlan;
	char text[64], cut[8];
	unsigned int n = 0;

	assert_int_equal(vlan->kind, CONFIG_VLAN_TRUNK);
	assert_int_equal(vlan->native, 7);
	assert_int_equal(vlan->access, 0);
	for (unsigned int vid = 0; vid < 65536; vid++)
		n += config_vlan_carries(vlan, (uint16_t)vid);
	assert_int_equal(n, 1 + 1 + 1 + 111);
	assert_true(config_vlan_carries(vlan, 210));
	assert_false(config_vlan_carries(vlan, 211));
	assert_string_equal(
		config_vlan_to_text(vlan, text, sizeof(text)), "trunk 1,7,100-210,4094 native 7");
	assert_string_equal(config_vlan_to_text(vlan, cut, sizeof(cut)), "trunk 1");
	config_free(c);
}

static void mode_and_cpus_may_be_written_without_quotes(void **state)
{
	struct config *c = load_text("workers: {cpus: 3}\n"
				     "control: {mode: 0600, owner: root, group: \"0\"}\n");

	assert_int_equal(c->control.mode, 0600);
	assert_string_equal(c->control.owner, "root");
	assert_string_equal(c->control.group, "0");
	assert_int_equal(c->workers.n_cpus, 1);
	assert_int_equal(c->workers.cpus[0], 3);
	config_free(c);
}

static void worker_and_port_say_when_to_sleep_and_a_guest_when_to_be_called(void **state)
{
	struct config *c = load_text(
		"workers: {mode: interrupt, idle_us: 100000}\n"
		"ports:\n"
		"- {name: a, type: guest, socket: a, mode: poll, coalesce: {frames: 1024, us: "
		"10000}}\n"
		"- {name: b, type: nic, device: d, mode: interrupt}\n"
		"- {name: c, type: guest, socket: c, role: listen, coalesce: {us: 50}, "
		"mode: adaptive, socket_mode: 0600}\n");

	assert_int_equal(c->workers.mode, CONFIG_MODE_INTERRUPT);
	assert_int_equal(c->workers.idle_us, 100000);
	assert_int_equal(c->ports[0].mode, CONFIG_MODE_POLL);
	assert_int_equal(c->ports[0].coalesce_frames, 1024);
	assert_int_equal(c->ports[0].coalesce_us, 10000);
	assert_int_equal(c->ports[1].mode, CONFIG_MODE_INTERRUPT);
	assert_int_equal(c->ports[2].mode, CONFIG_MODE_ADAPTIVE);
	assert_int_equal(c->ports[2].coalesce_frames, 0);
	assert_int_equal(c->ports[2].coalesce_us, 50);
	assert_int_equal(c->ports[2].socket.mode, 0600);
	config_free(c);
}

static void one_of_workers_keys_leaves_the_others_at_their_defaults(void **state)
{
	struct config *c = load_text("workers: {idle_us: 1}\n"
				     "ports: [{name: a, type: nic, device: d}]\n");

	assert_int_equal(c->workers.mode, CONFIG_MODE_ADAPTIVE);
	assert_int_equal(c->workers.idle_us, 1);
	assert_int_equal(c->ports[0].mode, CONFIG_MODE_ADAPTIVE);
	config_free(c);
}

/* Files written before ports had modes. */
static void octal_mode_of_a_listening_port_is_its_sockets(void **state)
{
	struct config *c =
		load_text("ports:\n"
			  "- {name: a, type: guest, socket: a, role: listen, mode: \"0600\"}\n"
			  "- {name: b, type: guest, socket: b, role: listen}\n");

	assert_int_equal(c->ports[0].socket.mode, 0600);
	assert_int_equal(c->ports[0].mode, CONFIG_MODE_ADAPTIVE);
	assert_int_equal(c->ports[1].socket.mode, 0660);
	config_free(c);
}

static void modes_have_names_and_names_have_modes(void **state)
{
	enum config_mode mode = CONFIG_MODE_ADAPTIVE;

	for (int i = CONFIG_MODE_POLL; i <= CONFIG_MODE_INTERRUPT; i++) {
		assert_true(config_mode_parse(config_mode_name((enum config_mode)i), &mode));
		assert_int_equal(mode, i);
	}
	assert_false(config_mode_parse("Poll", &mode));
	assert_false(config_mode_parse(NULL, &mode));
	assert_int_equal(mode, CONFIG_MODE_INTERRUPT);
	assert_string_equal(config_mode_name(CONFIG_MODE_POLL), "poll");
}

static void limits_of_ports_and_bridges_can_be_reached(void **state)
{
	char *text = malloc(1 << 20);
	size_t n = (size_t)sprintf(text, "ports:\n");
	struct config *c;

	for (int i = 0; i < CONFIG_PORTS_MAX; i++)
		n += (size_t)sprintf(
			text + n, "- {name: p%d, type: guest, socket: /run/%d}\n", i, i);
	n += (size_t)sprintf(text + n, "bridges:\n");
	for (int i = 0; i < CONFIG_BRIDGES_MAX; i++)
		n += (size_t)sprintf(text + n, "- {name: b%d, ports: [p%d]}\n", i, i);
	c = load_text(text);
	assert_int_equal(c->n_ports, CONFIG_PORTS_MAX);
	assert_int_equal(c->n_bridges, CONFIG_BRIDGES_MAX);
	assert_int_equal(c->ports[63].bridge_index, 63);
	assert_int_equal(c->ports[64].bridge_index, -1);
	config_free(c);
	free(text);
}

static void port_of_an_rpc_reads_as_one_of_a_file(void **state)
{
	json_t *object = json_pack("{s:s, s:s, s:s, s:s, s:i, s:{s:[i,s]}, s:s, s:s, s:{s:i,s:i}}",
		"name", "vm9", "type", "guest", "socket", "/run/vm9.sock", "role", "listen",
		"queues", 2, "vlan", "trunk", 5, "7-8", "bridge", "br0", "mode", "interrupt",
		"coalesce", "frames", 32, "us", 50);
	struct config_error error;
	struct config_port port;
	char text[64];

	assert_non_null(object);
	if (config_port_from_json(object, &port, &error) != 0)
		fail_msg("refused: %s", error.message);
	assert_string_equal(port.name, "vm9");
	assert_string_equal(port.bridge_name, "br0");
	assert_int_equal(port.queue_pairs, 2);
	assert_int_equal(port.mode, CONFIG_MODE_INTERRUPT);
	assert_int_equal(port.coalesce_frames, 32);
	assert_int_equal(port.coalesce_us, 50);
	assert_int_equal(port.line, 0);
	assert_int_equal(port.bridge_index, -1);
	assert_string_equal(config_vlan_to_text(&port.vlan, text, sizeof(text)), "trunk 5,7-8");
	json_decref(object);
}

static void missing_file_and_directory_are_named(void **state)
{
	struct config_error error;
	struct config *config;

	assert_int_equal(config_load("/no/such/file.yaml", &config, &error), -ENOENT);
	assert_string_equal(error.message, "/no/such/file.yaml: cannot open: No such file or "
					   "directory; check the path and its rights");
	assert_int_equal(config_load("/", &config, &error), -EISDIR);
	assert_string_equal(error.message, "/: cannot read: Is a directory");
}

static void file_beyond_the_limit_is_refused(void **state)
{
	struct config_error error;
	struct config *config;

	assert_int_equal(config_load("/dev/zero", &config, &error), -EFBIG);
	assert_non_null(strstr(error.message, "file is too large; allowed: 1048576 bytes"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sample_with_every_kind_of_port_loads),
		cmocka_unit_test(json_sample_means_the_same_as_the_yaml_sample),
		cmocka_unit_test(samples_of_the_other_kinds_load),
		cmocka_unit_test(empty_file_gives_every_default),
		cmocka_unit_test(bridges_may_come_before_the_ports_they_name),
		cmocka_unit_test(trunk_takes_numbers_and_ranges_and_always_carries_its_native_vlan),
		cmocka_unit_test(mode_and_cpus_may_be_written_without_quotes),
		cmocka_unit_test(worker_and_port_say_when_to_sleep_and_a_guest_when_to_be_called),
		cmocka_unit_test(one_of_workers_keys_leaves_the_others_at_their_defaults),
		cmocka_unit_test(octal_mode_of_a_listening_port_is_its_sockets),
		cmocka_unit_test(modes_have_names_and_names_have_modes),
		cmocka_unit_test(limits_of_ports_and_bridges_can_be_reached),
		cmocka_unit_test(port_of_an_rpc_reads_as_one_of_a_file),
		cmocka_unit_test(missing_file_and_directory_are_named),
		cmocka_unit_test(file_beyond_the_limit_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
