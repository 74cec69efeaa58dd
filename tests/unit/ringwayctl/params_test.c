/* SPDX-License-Identifier: BSD-3-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <config/config.h>

#include <params.h>

/* NULL in `json`: refused. */
static void expect(const char *word, const char *json)
{
	char name[] = "p", copy[256], error[512] = "";
	char *words[] = {name, copy};
	json_t *params, *expected;

	snprintf(copy, sizeof(copy), "%s", word);
	params = params_build(command_find("port", "add"), words, 2, error, sizeof(error));
	if (json == NULL) {
		assert_null(params);
		assert_string_not_equal(error, "");
		return;
	}
	expected = json_loads(json, 0, NULL);
	assert_non_null(expected);
	json_object_set_new(expected, "name", json_string("p"));
	if (!json_equal(params, expected))
		fail_msg("'%s' became %s", word, json_dumps(params, JSON_COMPACT));
	json_decref(expected);
	json_decref(params);
}

static void values_have_the_type_of_their_key(void **state)
{
	expect("queues=4", "{\"queues\":4}");
	expect("mode=0660", "{\"mode\":\"0660\"}");
	expect("mode=poll", "{\"mode\":\"poll\"}");
	expect("coalesce.us=50", "{\"coalesce\":{\"us\":50}}");
	expect("owner=0", "{\"owner\":\"0\"}");
	expect("vlan.access=10", "{\"vlan\":{\"access\":10}}");
	expect("vlan.trunk=10", "{\"vlan\":{\"trunk\":[10]}}");
	expect("vlan.trunk=1,5-7,9", "{\"vlan\":{\"trunk\":[1,\"5-7\",9]}}");
	expect("device=net_tap0,iface=t", "{\"device\":\"net_tap0,iface=t\"}");
}

/* The daemon knows best, and its message names key and value. */
static void values_that_are_wrong_are_left_to_the_daemon(void **state)
{
	expect("queues=four", "{\"queues\":\"four\"}");
	expect("queues=", "{\"queues\":\"\"}");
	expect("queues=-1", "{\"queues\":\"-1\"}");
	expect("queues=99999999999999999999", "{\"queues\":\"99999999999999999999\"}");
	expect("vlan.trunk=", "{\"vlan\":{\"trunk\":[\"\"]}}");
	expect("colour=red", "{\"colour\":\"red\"}");
}

static void words_that_are_no_pair_are_refused(void **state)
{
	expect("queues", NULL);
	expect("=x", NULL);
	expect("", NULL);
	expect("name=x", NULL);
	expect("name.x=1", NULL);
	expect("mode=\xff", NULL);
	expect("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa=1", NULL);
}

static void every_key_of_the_table_is_one_the_daemon_knows(void **state)
{
	const struct command *add = command_find("port", "add");

	for (size_t i = 0; i < add->n_pairs; i++) {
		char name[] = "p", word[128], error[512];
		char *words[] = {name, word};
		struct config_error refusal = {""};
		struct config_port port;
		json_t *params;

		snprintf(word, sizeof(word), "%s=1", add->pairs[i].name);
		params = params_build(add, words, 2, error, sizeof(error));
		assert_non_null(params);
		config_port_from_json(params, &port, &refusal);
		if (strstr(refusal.message, "unknown key") != NULL)
			fail_msg("%s", refusal.message);
		json_decref(params);
	}
}

/* NULL in `json`: refused. */
static void expect_line(const char *noun, const char *verb, const char *line, const char *json)
{
	char copy[256], error[512] = "", *words[8], *rest = copy, *word;
	json_t *params, *expected;
	size_t n = 0;

	snprintf(copy, sizeof(copy), "%s", line);
	while ((word = strsep(&rest, " ")) != NULL) {
		if (word[0] != '\0')
			words[n++] = word;
	}
	params = params_build(command_find(noun, verb), words, n, error, sizeof(error));
	if (json == NULL) {
		assert_null(params);
		assert_string_not_equal(error, "");
		return;
	}
	expected = json_loads(json, 0, NULL);
	assert_non_null(expected);
	if (!json_equal(params, expected))
		fail_msg("'%s' became %s", line, json_dumps(params, JSON_COMPACT));
	json_decref(expected);
	json_decref(params);
}

static void optional_argument_may_stand_before_a_required_one(void **state)
{
	expect_line("worker", "mode", "poll", "{\"mode\":\"poll\"}");
	expect_line("worker", "mode", "1 poll", "{\"id\":1,\"mode\":\"poll\"}");
	expect_line("worker", "mode", "one poll", "{\"id\":\"one\",\"mode\":\"poll\"}");
	expect_line("worker", "mode", "", NULL);
	expect_line("worker", "mode", "1 poll x", NULL);
	expect_line("worker", "ping", "", "{}");
	expect_line("worker", "ping", "3", "{\"id\":3}");
	expect_line("port", "mode", "vm1 interrupt", "{\"name\":\"vm1\",\"mode\":\"interrupt\"}");
	expect_line("port", "mode", "vm1", NULL);
	expect_line("port", "coalesce", "vm1 frames=32 us=50",
		"{\"name\":\"vm1\",\"frames\":32,\"us\":50}");
	expect_line("port", "coalesce", "", NULL);
	expect_line("port", "coalesce", "vm1 32", NULL);
	expect_line("top", NULL, "interval=0.5 count=3", "{\"interval\":\"0.5\",\"count\":3}");
	expect_line("top", NULL, "1", NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(values_have_the_type_of_their_key),
		cmocka_unit_test(values_that_are_wrong_are_left_to_the_daemon),
		cmocka_unit_test(words_that_are_no_pair_are_refused),
		cmocka_unit_test(optional_argument_may_stand_before_a_required_one),
		cmocka_unit_test(every_key_of_the_table_is_one_the_daemon_knows),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
