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

#include "tree.h"

static void expect_json(const char *text, const char *json)
{
	struct config_error error;
	struct tree tree;
	char *dumped;

	if (tree_parse(&tree, "f", text, strlen(text), &error) != 0)
		fail_msg("refused: %s", error.message);
	dumped = json_dumps(tree.root, JSON_COMPACT);
	assert_string_equal(dumped, json);
	free(dumped);
	tree_clear(&tree);
}

static void expect_refusal(const char *text, size_t n_bytes, const char *message)
{
	struct config_error error = {""};
	struct tree tree;

	assert_int_equal(tree_parse(&tree, "f", text, n_bytes, &error), -EINVAL);
	assert_string_equal(error.message, message);
	assert_null(tree.root);
	assert_null(tree.lines);
}

static void yaml_becomes_the_json_it_means(void **state)
{
	expect_json("a: 1\nb: [x, 'y', \"1\", true]\nc: {d: ~}\n",
		"{\"a\":1,\"b\":[\"x\",\"y\",\"1\",true],\"c\":{\"d\":null}}");
	expect_json("a: |\n  two\n  lines\n", "{\"a\":\"two\\nlines\\n\"}");
	expect_json("---\na: 1\n...\n", "{\"a\":1}");
	expect_json("{a: [], b: {}}", "{\"a\":[],\"b\":{}}");
}

static void json_is_read_as_it_is(void **state)
{
	const char *json =
		"{\"a\":[1,-2,3.5,true,false,null,\"x\\\"y\\/\\u00e4\"],\"b\":{\"c\":\"\"}}";
	struct config_error error;
	struct tree tree;
	json_t *expected = json_loads(json, 0, NULL);

	assert_non_null(expected);
	assert_int_equal(tree_parse(&tree, "f", json, strlen(json), &error), 0);
	assert_true(json_equal(tree.root, expected));
	tree_clear(&tree);
	json_decref(expected);

	expect_json("{\n\t\"a\": {\n\t\t\"b\": 1\n\t}\n}\n", "{\"a\":{\"b\":1}}");
}

static void file_without_content_is_an_empty_object(void **state)
{
	expect_json("", "{}");
	expect_json("# a comment\n\n", "{}");
}

static void every_key_and_entry_knows_its_line(void **state)
{
	const char *text = "a: 1\n\nb:\n  - c: 2\n    d: {e: 3,\n       f: 4}\n  - 5\n";
	struct config_error error;
	struct tree tree;

	assert_int_equal(tree_parse(&tree, "f", text, strlen(text), &error), 0);
	assert_int_equal(tree_line(&tree, "a"), 1);
	assert_int_equal(tree_line(&tree, "b"), 3);
	assert_int_equal(tree_line(&tree, "b[0]"), 4);
	assert_int_equal(tree_line(&tree, "b[0].d.e"), 5);
	assert_int_equal(tree_line(&tree, "b[0].d.f"), 6);
	assert_int_equal(tree_line(&tree, "b[1]"), 7);
	/* a key that is not there: the nearest around it */
	assert_int_equal(tree_line(&tree, "b[0].d.missing"), 5);
	assert_int_equal(tree_line(&tree, "zzz"), 1);
	tree_clear(&tree);
}

static void what_a_settings_file_does_not_need_is_refused_with_its_line(void **state)
{
	static const char decorated[] =
		"aliases (*x), anchors (&x) and tags (!x) are not supported; write the value out";
	static const struct {
		const char *text;
		const char *where;
		const char *what;
	} rows[] = {
		{"a: &x 1\n", "f:1: a: ", decorated},
		{"a: 1\nb: !!str 1\n", "f:2: b: ", decorated},
		{"a: &x [1]\n", "f:1: a: ", decorated},
		{"b: !t {a: 1}\n", "f:1: b: ", decorated},
		{"a: [*x]\n", "f:1: a[0]: ", decorated},
		{"*x : 1\n", "f:1: ", "a key must be plain text; write 'key: value'"},
		{"&x a: 1\n",
			"f:1: ", "anchors and tags are not supported; write the key as it is"},
		{"[a]: 1\n", "f:1: ", "a key must be plain text; write 'key: value'"},
		{"a:\n  b: 1\n  c: 2\n  b: 3\n",
			"f:4: a.b: ", "key is given twice, first on line 2; remove one of them"},
		{"a: 1\n---\nb: 1\n",
			"f:2: ", "a second document starts; remove the '---' and what follows"},
		{"- a\n",
			"f:1: ", "the file must be a mapping; start with a line such as 'ports:'"},
		{"just text",
			"f:1: ", "the file must be a mapping; start with a line such as 'ports:'"},
		{"a: \"x\\0y\"\n", "f:1: a: ", "text has a zero byte; remove it"},
	};
	char message[256];

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		snprintf(message, sizeof(message), "%s%s", rows[i].where, rows[i].what);
		expect_refusal(rows[i].text, strlen(rows[i].text), message);
	}
}

static void text_that_is_no_yaml_is_refused_with_its_line(void **state)
{
	static const char *const rows[] = {"a: [1, 2\n", "a: b: c\n", "a: 'x\n", "a: 1\n b: 2\n",
		"\ta: 1\n", "a: {b: 1\nc: 2\n", "a: @x\n", "a: \x01\n", "\xff\xff\xff",
		"%YAML 9.9\n", "}"};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct config_error error = {""};
		struct tree tree;

		assert_int_equal(tree_parse(&tree, "f", rows[i], strlen(rows[i]), &error), -EINVAL);
		assert_memory_equal(error.message, "f:", 2);
		if (strstr(error.message, "not valid YAML: ") == NULL)
			fail_msg("'%s' gave: %s", rows[i], error.message);
	}
}

static void depth_and_number_of_values_are_bounded(void **state)
{
	static char text[200016];
	size_t n = sizeof(text) - 16;

	memcpy(text, "a: ", 3);
	memset(text + 3, '[', n);
	expect_refusal(text, n + 3,
		"f:1: a[0][0][0][0][0][0][0][0][0][0][0][0][0][0][0]: "
		"nested too deeply; allowed: 16 levels");
	memcpy(text, "a: [", 4);
	for (size_t i = 4; i < n; i += 2)
		memcpy(text + i, "1,", 2);
	expect_refusal(text, n, "f:1: a[65534]: too many values; allowed: 65536");
}

static void key_longer_than_a_path_is_refused(void **state)
{
	char text[1024];

	memset(text, 'k', sizeof(text));
	memcpy(text + 600, ": 1", 4);
	{
		struct config_error error = {""};
		struct tree tree;

		assert_int_equal(tree_parse(&tree, "f", text, strlen(text), &error), -EINVAL);
		assert_non_null(strstr(error.message, "key is too long"));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(yaml_becomes_the_json_it_means),
		cmocka_unit_test(json_is_read_as_it_is),
		cmocka_unit_test(file_without_content_is_an_empty_object),
		cmocka_unit_test(every_key_and_entry_knows_its_line),
		cmocka_unit_test(what_a_settings_file_does_not_need_is_refused_with_its_line),
		cmocka_unit_test(text_that_is_no_yaml_is_refused_with_its_line),
		cmocka_unit_test(depth_and_number_of_values_are_bounded),
		cmocka_unit_test(key_longer_than_a_path_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
