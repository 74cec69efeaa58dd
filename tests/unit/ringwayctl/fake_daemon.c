/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <event2/event.h>

#include <control/control.h>

#include "fake_daemon.h"

#define VM1_COUNTERS                                                                               \
	"\"rx_packets\":1000,\"rx_bytes\":64000,\"tx_packets\":900,\"tx_bytes\":57600,"            \
	"\"drops\":{\"rx_ring_full\":10,\"vlan\":0,\"no_buffer\":2}"
#define UP0_COUNTERS                                                                               \
	"\"rx_packets\":5,\"rx_bytes\":320,\"tx_packets\":6,\"tx_bytes\":384,\"drops\":{}"

static const struct {
	const char *method;
	const char *json;
} results[] = {
	{"port.show",
		"{\"ports\":[{\"name\":\"vm1\",\"id\":0,\"type\":\"guest\",\"numa_node\":0,"
		"\"vlan\":\"access 10\",\"link\":true,\"socket\":\"/run/ringway/vm1.sock\","
		"\"role\":\"listen\",\"state\":\"running\",\"peer_pid\":4711,\"peer_uid\":64055,"
		"\"mode\":\"adaptive\",\"coalesce\":{\"frames\":32,\"us\":50},"
		"\"queue_pairs\":2,\"features\":[\"VERSION_1\",\"MRG_RXBUF\",\"RING_INDIRECT_"
		"DESC\","
		"\"RING_EVENT_IDX\",\"IN_ORDER\",\"CSUM\",\"MQ\"],"
		"\"protocol_features\":[\"MQ\",\"REPLY_ACK\"],"
		"\"memory\":[{\"gpa\":0,\"size\":536870912,\"uva\":139637976727552}],"
		"\"last_error\":null,\"connects\":3,"
		"\"rings\":[{\"index\":0,\"dir\":\"rx\",\"size\":256,\"started\":true,\"enabled\":"
		"true,"
		"\"broken\":false,\"avail_idx\":512,\"used_idx\":256,\"worker\":0,"
		"\"calls\":42,\"vector\":{\"masked\":true,\"pending\":true}},"
		"{\"index\":1,\"dir\":\"tx\",\"size\":1024,\"started\":false,\"enabled\":false,"
		"\"broken\":true,\"avail_idx\":65535,\"used_idx\":0,\"worker\":-1}],"
		"\"counters\":{" VM1_COUNTERS "}},"
		"{\"name\":\"up0\",\"id\":1,\"type\":\"nic\",\"numa_node\":-1,\"vlan\":\"\","
		"\"link\":false,\"device\":\"net_tap0,iface=tap0\",\"driver\":\"net_tap\","
		"\"mac\":\"52:54:00:00:00:01\",\"queues\":1,\"counters\":{" UP0_COUNTERS "}}]}"},
	{"bridge.show",
		"{\"bridges\":[{\"name\":\"br0\",\"ports\":[\"vm1\",\"up0\"],\"fdb_entries\":2,"
		"\"fdb_max\":65536,\"age_s\":300}],"
		"\"cross_connects\":[{\"ports\":[\"a\",\"b\"],\"lossless\":true}]}"},
	{"fdb.show", "{\"entries\":[{\"bridge\":\"br0\",\"vlan\":10,\"mac\":\"52:54:00:72:62:01\","
		     "\"port\":\"vm1\",\"age_s\":4}]}"},
	{"worker.show",
		"{\"workers\":[{\"id\":0,\"cpu\":1,\"numa_node\":0,\"mode\":\"adaptive\","
		"\"state\":\"asleep\",\"idle_us\":200,\"window_us\":20,\"busy_cycles\":1000,"
		"\"idle_cycles\":500,\"sleep_cycles\":2500,\"total_cycles\":4000,"
		"\"rounds\":77,\"packets\":10,\"sleeps\":12,"
		"\"wakeups\":{\"kick\":8,\"nic\":0,\"request\":3,\"timer\":1,\"spurious\":2},"
		"\"penalties\":1,\"keeps_polling\":[],"
		"\"wake_ns\":{\"n\":10,\"p50\":1500,\"p90\":12000,\"p99\":131072,"
		"\"max\":1999999,"
		"\"buckets\":[{\"below_ns\":1024,\"n\":1},{\"below_ns\":2048,\"n\":8},"
		"{\"below_ns\":2097152,\"n\":1}]},"
		"\"request_ns\":{\"n\":0,\"p50\":0,\"p90\":0,\"p99\":0,\"max\":0,\"buckets\":[]},"
		"\"queues\":[{\"port\":\"vm1\",\"queue\":1,\"wakeups\":8,\"spurious\":2},"
		"{\"port\":\"up0\",\"queue\":0,\"wakeups\":0,\"spurious\":0}]},"
		"{\"id\":1,\"cpu\":3,\"numa_node\":0,\"mode\":\"adaptive\",\"state\":\"polling\","
		"\"idle_us\":200,\"window_us\":200,\"busy_cycles\":100,\"idle_cycles\":3900,"
		"\"sleep_cycles\":0,\"total_cycles\":4000,\"rounds\":4000,\"packets\":0,"
		"\"sleeps\":0,"
		"\"wakeups\":{\"kick\":0,\"nic\":0,\"request\":0,\"timer\":0,\"spurious\":0},"
		"\"penalties\":0,\"keeps_polling\":[{\"port\":\"nic0\",\"queue\":0,"
		"\"why\":\"net_af_packet has no receive interrupts\"}],"
		"\"wake_ns\":{\"n\":0},\"request_ns\":{\"n\":0},"
		"\"queues\":[{\"port\":\"nic0\",\"queue\":0,\"wakeups\":0,\"spurious\":0}]}],"
		"\"tsc_hz\":2000000000}"},
	{"worker.ping", "{\"workers\":[{\"id\":0,\"cpu\":1,\"round_trip_ns\":23456,"
			"\"was_asleep\":true},"
			"{\"id\":1,\"cpu\":3,\"round_trip_ns\":800,\"was_asleep\":false}]}"},
	{"stats", "{\"ports\":[{\"name\":\"vm1\"," VM1_COUNTERS "},{\"name\":\"up0\"," UP0_COUNTERS
		  "}]}"},
};

json_t *fake_daemon_result(const char *method)
{
	for (size_t i = 0; i < sizeof(results) / sizeof(results[0]); i++) {
		if (strcmp(results[i].method, method) == 0)
			return json_loads(results[i].json, 0, NULL);
	}
	return NULL;
}

/* As the daemon does: only the port that is named. */
static int handle_port_show(
	void *ctx, const json_t *params, json_t **result, struct control_error *error)
{
	const char *name = json_string_value(json_object_get(params, "name"));
	json_t *ports, *found = json_array();

	*result = fake_daemon_result("port.show");
	ports = json_object_get(*result, "ports");
	for (size_t i = 0; i < json_array_size(ports); i++) {
		json_t *port = json_array_get(ports, i);

		if (name == NULL ||
			strcmp(name, json_string_value(json_object_get(port, "name"))) == 0)
			json_array_append(found, port);
	}
	if (json_array_size(found) == 0) {
		json_decref(found);
		return control_fail(error, CONTROL_REFUSED, -ENOENT,
			"name: value '%s' is not allowed; allowed: vm1, up0; see 'port show'",
			name);
	}
	json_object_set_new(*result, "ports", found);
	return 0;
}

static int handle_bridge_show(
	void *ctx, const json_t *params, json_t **result, struct control_error *error)
{
	*result = fake_daemon_result("bridge.show");
	return 0;
}

static int handle_fdb_show(
	void *ctx, const json_t *params, json_t **result, struct control_error *error)
{
	*result = fake_daemon_result("fdb.show");
	return 0;
}

static int handle_worker_show(
	void *ctx, const json_t *params, json_t **result, struct control_error *error)
{
	*result = fake_daemon_result("worker.show");
	return 0;
}

static int handle_stats(
	void *ctx, const json_t *params, json_t **result, struct control_error *error)
{
	*result = fake_daemon_result("stats");
	return 0;
}

static int handle_worker_ping(
	void *ctx, const json_t *params, json_t **result, struct control_error *error)
{
	*result = fake_daemon_result("worker.ping");
	return 0;
}

/* What was asked for is the answer. */
static int handle_echo(
	void *ctx, const json_t *params, json_t **result, struct control_error *error)
{
	*result = json_deep_copy(params);
	return 0;
}

static int handle_port_remove(
	void *ctx, const json_t *params, json_t **result, struct control_error *error)
{
	return control_fail(error, CONTROL_REFUSED, -EBUSY,
		"port '%s' is busy\n\x1b[31m; try again",
		json_string_value(json_object_get(params, "name")));
}

static const struct control_method methods[] = {
	{"port.show", "", handle_port_show},
	{"port.add", "", handle_echo},
	{"port.mode", "", handle_echo},
	{"port.coalesce", "", handle_echo},
	{"worker.mode", "", handle_echo},
	{"worker.ping", "", handle_worker_ping},
	{"port.remove", "", handle_port_remove},
	{"bridge.show", "", handle_bridge_show},
	{"fdb.show", "", handle_fdb_show},
	{"worker.show", "", handle_worker_show},
	{"stats", "", handle_stats},
	{NULL, NULL, NULL},
};

static void serve(const struct fake_daemon *daemon, int ready_fd)
{
	struct unix_socket_spec spec = {.path = daemon->path, .mode = 0600};
	struct event_base *base = event_base_new();
	char error[UNIX_SOCKET_ERROR_MAX];

	/* A test that dies leaves no child behind. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (control_server_create(base, &spec, methods, NULL, NULL, error, sizeof(error)) == NULL)
		_exit(1);
	(void)!write(ready_fd, "x", 1);
	event_base_dispatch(base);
	_exit(0);
}

int fake_daemon_start(struct fake_daemon *daemon)
{
	int ready[2], ret;
	char byte;

	strcpy(daemon->dir, "/tmp/ringway-test-XXXXXX");
	if (mkdtemp(daemon->dir) == NULL || pipe(ready) < 0)
		return -1;
	snprintf(daemon->path, sizeof(daemon->path), "%s/c.sock", daemon->dir);
	daemon->child = fork();
	if (daemon->child == 0)
		serve(daemon, ready[1]);
	close(ready[1]);
	ret = daemon->child > 0 && read(ready[0], &byte, 1) == 1 ? 0 : -1;
	close(ready[0]);
	return ret;
}

int fake_daemon_stop(struct fake_daemon *daemon)
{
	kill(daemon->child, SIGKILL);
	waitpid(daemon->child, NULL, 0);
	unlink(daemon->path);
	return rmdir(daemon->dir);
}
