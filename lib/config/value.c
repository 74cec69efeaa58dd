/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "value.h"

#define NUMBER_BYTES_MAX 64
#define SHOWN_BYTES_MAX  64

static bool is_one_of(const char *text, const char *const *words)
{
	for (; *words != NULL; words++) {
		if (strcmp(text, *words) == 0)
			return true;
	}
	return false;
}

static bool all_in(const char *text, const char *set)
{
	return text[0] != '\0' && text[strspn(text, set)] == '\0';
}

static bool is_integer(const char *text, int *base)
{
	*base = 10;
	if (strncmp(text, "0x", 2) == 0 && all_in(text + 2, "0123456789abcdefABCDEF")) {
		*base = 16;
		return true;
	}
	if (strncmp(text, "0o", 2) == 0 && all_in(text + 2, "01234567")) {
		*base = 8;
		return true;
	}
	if (text[0] == '-' || text[0] == '+')
		text++;
	return all_in(text, "0123456789") && (text[0] != '0' || text[1] == '\0');
}

/* [-+]? ( \. [0-9]+ | [0-9]+ ( \. [0-9]* )? ) ( [eE] [-+]? [0-9]+ )? */
static bool is_real(const char *text)
{
	size_t n_before, n_after = 0;

	if (text[0] == '-' || text[0] == '+')
		text++;
	n_before = strspn(text, "0123456789");
	if (n_before > 1 && text[0] == '0')
		return false;
	text += n_before;
	if (text[0] == '.') {
		n_after = strspn(text + 1, "0123456789");
		text += 1 + n_after;
	}
	if (n_before + n_after == 0)
		return false;
	if (text[0] == 'e' || text[0] == 'E') {
		text++;
		if (text[0] == '-' || text[0] == '+')
			text++;
		return all_in(text, "0123456789");
	}
	return text[0] == '\0';
}

json_t *value_from_plain(const char *text, size_t n_bytes)
{
	static const char *const nothing[] = {"", "~", "null", "Null", "NULL", NULL};
	static const char *const yes[] = {"true", "True", "TRUE", NULL};
	static const char *const no[] = {"false", "False", "FALSE", NULL};
	char copy[NUMBER_BYTES_MAX + 1];
	int base;

	if (n_bytes > NUMBER_BYTES_MAX)
		return json_stringn(text, n_bytes);
	memcpy(copy, text, n_bytes);
	copy[n_bytes] = '\0';
	if (is_one_of(copy, nothing))
		return json_null();
	if (is_one_of(copy, yes))
		return json_true();
	if (is_one_of(copy, no))
		return json_false();
	errno = 0;
	if (is_integer(copy, &base)) {
		long long number = strtoll(base == 8 ? copy + 2 : copy, NULL, base);

		if (errno == 0)
			return json_integer(number);
	} else if (is_real(copy)) {
		double number = strtod(copy, NULL);

		if (isfinite(number))
			return json_real(number);
	}
	return json_stringn(text, n_bytes);
}

void value_make_printable(char *text)
{
	for (; *text != '\0'; text++) {
		if (*text < ' ' || *text > '~')
			*text = '?';
	}
}

const char *value_describe(const json_t *value, char *text, size_t size)
{
	switch (json_typeof(value)) {
	case JSON_STRING:
		snprintf(text, size, "value '%.*s%s'", SHOWN_BYTES_MAX, json_string_value(value),
			json_string_length(value) > SHOWN_BYTES_MAX ? "..." : "");
		break;
	case JSON_INTEGER:
		snprintf(text, size, "value '%" JSON_INTEGER_FORMAT "'", json_integer_value(value));
		break;
	case JSON_REAL:
		snprintf(text, size, "value '%g'", json_real_value(value));
		break;
	case JSON_TRUE:
	case JSON_FALSE:
		snprintf(text, size, "value '%s'", json_is_true(value) ? "true" : "false");
		break;
	case JSON_NULL:
		snprintf(text, size, "an empty value");
		break;
	case JSON_ARRAY:
		snprintf(text, size, "a list");
		break;
	case JSON_OBJECT:
		snprintf(text, size, "a mapping");
		break;
	}
	value_make_printable(text);
	return text;
}

bool value_parse_number(const char *text, const char **end, unsigned int max, unsigned int *number)
{
	size_t n_digits = strspn(text, "0123456789");
	unsigned long value;

	/* Nine digits fit; more are beyond any limit of this file format. */
	if (n_digits == 0 || n_digits > 9 || (text[0] == '0' && n_digits > 1))
		return false;
	value = strtoul(text, NULL, 10);
	*end = text + n_digits;
	*number = (unsigned int)value;
	return value <= max;
}
