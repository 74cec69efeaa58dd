/* SPDX-License-Identifier: BSD-3-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "value.h"

static void plain_scalars_are_typed_as_the_core_schema_says(void **state)
{
	static const struct {
		const char *text;
		json_type type;
		json_int_t number;
	} rows[] = {
		{"", JSON_NULL, 0},
		{"~", JSON_NULL, 0},
		{"null", JSON_NULL, 0},
		{"Null", JSON_NULL, 0},
		{"nULL", JSON_STRING, 0},
		{"true", JSON_TRUE, 0},
		{"True", JSON_TRUE, 0},
		{"FALSE", JSON_FALSE, 0},
		/* true and false in YAML 1.1, and a famous trap */
		{"yes", JSON_STRING, 0},
		{"no", JSON_STRING, 0},
		{"on", JSON_STRING, 0},
		{"0", JSON_INTEGER, 0},
		{"12", JSON_INTEGER, 12},
		{"-12", JSON_INTEGER, -12},
		{"+12", JSON_INTEGER, 12},
		{"0x1F", JSON_INTEGER, 31},
		{"0o17", JSON_INTEGER, 15},
		{"0o18", JSON_STRING, 0},
		{"0xg", JSON_STRING, 0},
		{"0x", JSON_STRING, 0},
		/* octal or decimal, by the version of YAML: left alone */
		{"0660", JSON_STRING, 0},
		{"00", JSON_STRING, 0},
		{"1_000", JSON_STRING, 0},
		{"9223372036854775807", JSON_INTEGER, INT64_MAX},
		{"9223372036854775808", JSON_STRING, 0},
		{"1.5", JSON_REAL, 0},
		{"1.", JSON_REAL, 0},
		{".5", JSON_REAL, 0},
		{"-1e3", JSON_REAL, 0},
		{"1e+3", JSON_REAL, 0},
		{"1e", JSON_STRING, 0},
		{".", JSON_STRING, 0},
		{"-", JSON_STRING, 0},
		{"+", JSON_STRING, 0},
		{"1e999", JSON_STRING, 0},
		{".inf", JSON_STRING, 0},
		{"1-3", JSON_STRING, 0},
		{"1.2.3", JSON_STRING, 0},
		{"0000:01:00.0", JSON_STRING, 0},
		{"1:30", JSON_STRING, 0},
		{"/run/x.sock", JSON_STRING, 0},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		json_t *value = value_from_plain(rows[i].text, strlen(rows[i].text));

		if (value == NULL || json_typeof(value) != rows[i].type)
			fail_msg("'%s' has a wrong type", rows[i].text);
		if (rows[i].type == JSON_INTEGER)
			assert_true(json_integer_value(value) == rows[i].number);
		if (rows[i].type == JSON_STRING)
			assert_string_equal(json_string_value(value), rows[i].text);
		json_decref(value);
	}
}

static void digits_beyond_any_number_stay_text(void **state)
{
	char digits[201];
	json_t *value;

	memset(digits, '1', 200);
	digits[200] = '\0';
	value = value_from_plain(digits, 200);
	assert_true(json_is_string(value));
	assert_int_equal(json_string_length(value), 200);
	json_decref(value);
}

static void bytes_that_are_no_utf8_are_no_value(void **state)
{
	assert_null(value_from_plain("\xff\xfe", 2));
}

static void description_cuts_long_text_and_hides_control_bytes(void **state)
{
	char long_text[300], shown[128];
	json_t *value;

	memset(long_text, 'x', sizeof(long_text));
	value = json_stringn(long_text, sizeof(long_text));
	value_describe(value, shown, sizeof(shown));
	assert_int_equal(strlen(shown), strlen("value ''...") + 64);
	json_decref(value);

	value = json_string("a\x1b[2J\nb\xc3\xa4");
	assert_string_equal(value_describe(value, shown, sizeof(shown)), "value 'a?[2J?b?"
									 "?'");
	json_decref(value);
}

static void number_has_one_spelling(void **state)
{
	const char *end;
	unsigned int n;

	assert_true(value_parse_number("0", &end, 5, &n));
	assert_true(value_parse_number("5x", &end, 5, &n));
	assert_int_equal(n, 5);
	assert_string_equal(end, "x");
	assert_false(value_parse_number("6", &end, 5, &n));
	assert_false(value_parse_number("05", &end, 5, &n));
	assert_false(value_parse_number("", &end, 5, &n));
	assert_false(value_parse_number("-1", &end, 5, &n));
	assert_false(value_parse_number("4294967297", &end, 5, &n));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(plain_scalars_are_typed_as_the_core_schema_says),
		cmocka_unit_test(digits_beyond_any_number_stay_text),
		cmocka_unit_test(bytes_that_are_no_utf8_are_no_value),
		cmocka_unit_test(description_cuts_long_text_and_hides_control_bytes),
		cmocka_unit_test(number_has_one_spelling),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
