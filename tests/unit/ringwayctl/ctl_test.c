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
		json_t *expected = fake_daemon_result(commands[i].method), *got;
		char line[128];
		struct run r;

		if (commands[i].render == NULL)
			continue;
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
	assert_int_equal(n, 5);
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
			"command 'prot' is unknown; allowed: port, bridge, fdb, worker, stats; "
			"see 'ringwayctl --help'"},
		{"port", "command 'port' is not complete; allowed after it: show, add, remove; see "
			 "'ringwayctl --help'"},
		{"port list",
			"command 'port list' is unknown; allowed after 'port': show, add, remove"},
		{"port show vm1 vm2",
			"'vm2' is one word too many; usage: ringwayctl port show [NAME]"},
		{"worker show 1", "'1' is one word too many; usage: ringwayctl worker show"},
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
	for (size_t i = 0; i < n_pair_keys; i++)
		assert_non_null(strstr(r.out, pair_keys[i].name));
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
		assert_true((c->argument == NULL) == (c->parameter == NULL));
		assert_true(c->argument != NULL || !c->is_argument_required);
		assert_ptr_equal(command_find(c->noun, c->verb), c);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_show_command_prints_text_and_the_same_result_as_json),
		cmocka_unit_test(port_show_with_a_name_shows_that_port_in_full),
		cmocka_unit_test(port_add_sends_typed_and_nested_values_and_prints_nothing),
		cmocka_unit_test(refusal_of_the_daemon_is_status_1_with_its_line),
		cmocka_unit_test(daemon_that_is_not_there_is_status_3_with_the_path),
		cmocka_unit_test(usage_errors_are_status_2_and_say_what_is_allowed),
		cmocka_unit_test(help_names_every_command_and_every_key),
		cmocka_unit_test(every_row_of_the_table_is_complete),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
