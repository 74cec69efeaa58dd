/* SPDX-License-Identifier: BSD-3-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <command.h>
#include <ctl.h>

#include "fake_daemon.h"

#define WORDS_MAX 16

static struct fake_daemon fake;

/* What one run of the program gave. */
struct run {
	enum ctl_status status;
	char *out;
	char *err;
};

static struct run run(const char *line)
{
	char name[] = "ringwayctl", copy[1024], *words[WORDS_MAX] = {name}, *rest = copy, *word;
	size_t n_out, n_err;
	struct run r = {0};
	int n = 1;
	FILE *out = open_memstream(&r.out, &n_out), *err = open_memstream(&r.err, &n_err);

	snprintf(copy, sizeof(copy), "%s", line);
	while ((word = strsep(&rest, " ")) != NULL) {
		if (word[0] != '\0')
			words[n++] = word;
	}
	r.status = ctl_run(n, words, out, err);
	fclose(out);
	fclose(err);
	return r;
}

static void expect(const char *line, enum ctl_status status, const char *out, const char *err)
{
	struct run r = run(line);

	if (r.status != status)
		fail_msg("'%s' gave %d: %s", line, r.status, r.err);
	assert_string_equal(r.out, out);
	assert_string_equal(r.err, err);
	free(r.out);
	free(r.err);
}

static int group_setup(void **state)
{
	int ret = fake_daemon_start(&fake);

	setenv(CTL_SOCKET_VARIABLE, fake.path, 1);
	return ret;
}

static int group_teardown(void **state)
{
	return fake_daemon_stop(&fake);
}

static void every_show_command_prints_text_and_the_same_result_as_json(void **state)
{
	size_t n = 0;

	for (size_t i = 0; i < n_commands; i++) {
		json_t *expected, *got;
		char line[128];
		struct run r;

		if (commands[i].render == NULL || commands[i].is_live)
			continue;
		expected = fake_daemon_result(commands[i].method);
		snprintf(line, sizeof(line), "%s %s", commands[i].noun,
			commands[i].verb ? commands[i].verb : "");
		r = run(line);
		assert_int_equal(r.status, CTL_DONE);
		assert_string_equal(r.err, "");
		assert_non_null(strchr(r.out, '\n'));
		free(r.out);
		free(r.err);

		strcat(line, " -j");
		r = run(line);
		assert_int_equal(r.status, CTL_DONE);
		got = json_loads(r.out, 0, NULL);
		assert_non_null(got);
		assert_true(json_equal(got, expected));
		json_decref(got);
		json_decref(expected);
		free(r.out);
		free(r.err);
		n++;
	}
	assert_int_equal(n, 6);
}

static void port_show_with_a_name_shows_that_port_in_full(void **state)
{
	struct run r = run("port show up0");

	assert_int_equal(r.status, CTL_DONE);
	assert_non_null(strstr(r.out, "device:            net_tap0,iface=tap0\n"));
	assert_null(strstr(r.out, "vm1"));
	free(r.out);
	free(r.err);
}

static void port_add_sends_typed_and_nested_values_and_prints_nothing(void **state)
{
	expect("port add vm9 type=guest socket=/run/vm9.sock queues=4 vlan.trunk=10,20-29 "
	       "vlan.native=7 mode=0660 bridge=br0",
		CTL_DONE, "", "");
	expect("-j port add vm9 type=guest queues=4 vlan.trunk=10,20-29 vlan.native=7 mode=0660",
		CTL_DONE,
		"{\"name\":\"vm9\",\"type\":\"guest\",\"queues\":4,"
		"\"vlan\":{\"trunk\":[10,\"20-29\"],\"native\":7},\"mode\":\"0660\"}\n",
		"");
}

static void modes_and_coalescing_are_sent_as_the_daemon_takes_them(void **state)
{
	expect("worker mode poll", CTL_DONE, "", "");
	expect("-j worker mode 1 interrupt", CTL_DONE, "{\"id\":1,\"mode\":\"interrupt\"}\n", "");
	expect("-j worker mode poll", CTL_DONE, "{\"mode\":\"poll\"}\n", "");
	expect("-j port mode vm1 adaptive", CTL_DONE, "{\"name\":\"vm1\",\"mode\":\"adaptive\"}\n",
		"");
	expect("-j port coalesce vm1 frames=32 us=50", CTL_DONE,
		"{\"name\":\"vm1\",\"frames\":32,\"us\":50}\n", "");
}

static void worker_show_with_an_id_shows_that_worker_in_full(void **state)
{
	struct run r = run("worker show 1");
	json_t *got, *workers;

	assert_int_equal(r.status, CTL_DONE);
	assert_non_null(strstr(r.out, "CPU:               3\n"));
	assert_non_null(strstr(r.out, "\nanswering control: -\n"));
	free(r.out);
	free(r.err);
	r = run("-j worker show 1");
	got = json_loads(r.out, 0, NULL);
	workers = json_object_get(got, "workers");
	assert_int_equal(json_array_size(workers), 1);
	assert_int_equal(json_integer_value(json_object_get(json_array_get(workers, 0), "cpu")), 3);
	assert_int_equal(json_integer_value(json_object_get(got, "tsc_hz")), 2000000000);
	json_decref(got);
	free(r.out);
	free(r.err);
	expect("worker show 7", CTL_REFUSED, "",
		"ringwayctl: id: value '7' is not allowed; allowed: 0, 1; see 'ringwayctl worker "
		"show'\n");
	expect("worker show one", CTL_REFUSED, "",
		"ringwayctl: id: value 'one' is not allowed; allowed: 0, 1; see 'ringwayctl worker "
		"show'\n");
}

static void refusal_of_the_daemon_is_status_1_with_its_line(void **state)
{
	expect("port show vm7", CTL_REFUSED, "",
		"ringwayctl: name: value 'vm7' is not allowed; allowed: vm1, up0; see 'port "
		"show'\n");
	expect("port show vm7 -j", CTL_REFUSED, "",
		"{\"error\":{\"code\":-32000,\"message\":\"name: value 'vm7' is not allowed; "
		"allowed: "
		"vm1, up0; see 'port show'\",\"exit_status\":1}}\n");
	/* whatever the daemon says cannot drive the terminal */
	expect("port remove vm1", CTL_REFUSED, "",
		"ringwayctl: port 'vm1' is busy??[31m; try again\n");
}

static void daemon_that_is_not_there_is_status_3_with_the_path(void **state)
{
	expect("-s /no/such.sock port show", CTL_UNREACHABLE, "",
		"ringwayctl: cannot connect to socket '/no/such.sock': No such file or directory; "
		"is "
		"ringway running, and is this its control socket?\n");
	expect("--json --socket=/no/such.sock stats", CTL_UNREACHABLE, "",
		"{\"error\":{\"code\":0,\"message\":\"cannot connect to socket '/no/such.sock': No "
		"such "
		"file or directory; is ringway running, and is this its control socket?\","
		"\"exit_status\":3}}\n");
}

static void usage_errors_are_status_2_and_say_what_is_allowed(void **state)
{
	static const struct {
		const char *line;
		const char *message;
	} rows[] = {
		{"", "command is missing; see 'ringwayctl --help'"},
		{"prot show",
			"command 'prot' is unknown; allowed: port, bridge, fdb, worker, stats, "
			"top; "
			"see 'ringwayctl --help'"},
		{"port", "command 'port' is not complete; allowed after it: show, add, remove, "
			 "mode, coalesce; see 'ringwayctl --help'"},
		{"port list", "command 'port list' is unknown; allowed after 'port': show, add, "
			      "remove, mode, coalesce"},
		{"port show vm1 vm2",
			"'vm2' is one word too many; usage: ringwayctl port show [NAME]"},
		{"worker show 1 2", "'2' is one word too many; usage: ringwayctl worker show [ID]"},
		{"worker mode", "MODE is missing; usage: ringwayctl worker mode [ID] MODE"},
		{"port mode vm1", "MODE is missing; usage: ringwayctl port mode NAME MODE"},
		{"port coalesce",
			"NAME is missing; usage: ringwayctl port coalesce NAME [frames=N] [us=N]"},
		{"port coalesce vm1 50",
			"'50' is not allowed; allowed: KEY=VALUE, such as frames=4"},
		{"top interval=0.05", "interval: value '0.05' is not allowed; allowed: 0.1 to 3600 "
				      "(seconds), such as interval=0.5"},
		{"top interval=1e2", "interval: value '1e2' is not allowed; allowed: 0.1 to 3600 "
				     "(seconds), such as interval=0.5"},
		{"top count=0", "count: value '0' is not allowed; allowed: 1 to 1000000000 "
				"(intervals); leave it out to go on until interrupted"},
		{"top delay=1", "'delay' is not allowed; allowed: interval, count; see 'ringwayctl "
				"top --help'"},
		{"stats vm1 x", "'x' is one word too many; usage: ringwayctl stats [PORT]"},
		{"port remove", "NAME is missing; usage: ringwayctl port remove NAME"},
		{"port add", "NAME is missing; usage: ringwayctl port add NAME KEY=VALUE..."},
		{"port add vm9 queues",
			"'queues' is not allowed; allowed: KEY=VALUE, such as queues=4"},
		{"port add vm9 =4", "'=4' is not allowed; allowed: KEY=VALUE, such as queues=4"},
		{"port add vm9 mtu=1 mtu=2", "key of 'mtu=2' is given twice; remove one of them"},
		{"port add vm9 name=x", "key of 'name=x' is given twice; remove one of them"},
		{"--colour port show", "option '--colour' is unknown; see 'ringwayctl --help'"},
		{"port show -s", "option '-s' needs a value; see 'ringwayctl --help'"},
	};
	char text[512];

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		snprintf(text, sizeof(text), "ringwayctl: %s\n", rows[i].message);
		expect(rows[i].line, CTL_USAGE, "", text);
	}
	expect("--colour -j", CTL_USAGE, "",
		"{\"error\":{\"code\":0,\"message\":\"option '--colour' is unknown; see "
		"'ringwayctl "
		"--help'\",\"exit_status\":2}}\n");
}

static void help_names_every_command_and_every_key(void **state)
{
	struct run r = run("--help");

	assert_int_equal(r.status, CTL_DONE);
	for (size_t i = 0; i < n_commands; i++)
		assert_non_null(strstr(r.out, commands[i].summary));
	free(r.out);
	free(r.err);
	r = run("port add -h");
	assert_int_equal(r.status, CTL_DONE);
	for (size_t i = 0; i < command_find("port", "add")->n_pairs; i++)
		assert_non_null(strstr(r.out, command_find("port", "add")->pairs[i].name));
	free(r.out);
	free(r.err);
	expect("--version", CTL_DONE, "ringwayctl " RINGWAY_VERSION "\n", "");
}

static void every_row_of_the_table_is_complete(void **state)
{
	for (size_t i = 0; i < n_commands; i++) {
		const struct command *c = &commands[i];

		assert_non_null(c->noun);
		assert_non_null(c->summary);
		assert_non_null(c->details);
		assert_non_null(c->method);
		for (size_t j = 0; j < ARGUMENTS_MAX; j++) {
			const struct argument *a = &c->arguments[j];

			assert_true((a->name == NULL) == (a->parameter == NULL));
			assert_true(a->name != NULL || !a->is_required);
		}
		assert_true((c->pairs == NULL) == (c->n_pairs == 0));
		assert_ptr_equal(command_find(c->noun, c->verb), c);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_show_command_prints_text_and_the_same_result_as_json),
		cmocka_unit_test(port_show_with_a_name_shows_that_port_in_full),
		cmocka_unit_test(port_add_sends_typed_and_nested_values_and_prints_nothing),
		cmocka_unit_test(modes_and_coalescing_are_sent_as_the_daemon_takes_them),
		cmocka_unit_test(worker_show_with_an_id_shows_that_worker_in_full),
		cmocka_unit_test(refusal_of_the_daemon_is_status_1_with_its_line),
		cmocka_unit_test(daemon_that_is_not_there_is_status_3_with_the_path),
		cmocka_unit_test(usage_errors_are_status_2_and_say_what_is_allowed),
		cmocka_unit_test(help_names_every_command_and_every_key),
		cmocka_unit_test(every_row_of_the_table_is_complete),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
