/* SPDX-License-Identifier: BSD-3-Clause */
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "field.h"

const char *field_set(struct field_text *text, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(text->bytes, sizeof(text->bytes), format, args);
	va_end(args);
	return text->bytes;
}

void field_append(struct field_text *text, const char *separator, const char *more)
{
	size_t length = strlen(text->bytes), room = sizeof(text->bytes) - length;
	int n = snprintf(text->bytes + length, room, "%s%s", length > 0 ? separator : "", more);

	if ((size_t)n >= room)
		strcpy(text->bytes + sizeof(text->bytes) - sizeof("..."), "...");
}

const json_t *field_get(const json_t *object, const char *path)
{
	char name[64];
	const char *dot;

	while ((dot = strchr(path, '.')) != NULL) {
		snprintf(name, sizeof(name), "%.*s", (int)(dot - path), path);
		object = json_object_get(object, name);
		path = dot + 1;
	}
	return json_object_get(object, path);
}

static const char *show_value(const json_t *value, struct field_text *text)
{
	if (json_is_string(value))
		return field_set(
			text, "%s", json_string_value(value)[0] ? json_string_value(value) : "-");
	if (json_is_integer(value))
		return field_set(text, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
	if (json_is_real(value))
		return field_set(text, "%.2f", json_real_value(value));
	if (json_is_boolean(value))
		return field_set(text, "%s", json_is_true(value) ? "yes" : "no");
	return field_set(text, "-");
}

const char *field_show(const json_t *object, const char *path, struct field_text *text)
{
	return show_value(field_get(object, path), text);
}

const char *field_show_id(const json_t *object, const char *path, struct field_text *text)
{
	const json_t *value = field_get(object, path);

	return json_integer_value(value) < 0 ? field_set(text, "-") : show_value(value, text);
}

const char *field_show_link(const json_t *object, const char *path, struct field_text *text)
{
	const json_t *link = field_get(object, path);

	if (!json_is_boolean(link))
		return field_set(text, "-");
	return field_set(text, "%s", json_is_true(link) ? "up" : "down");
}

const char *field_show_hex(const json_t *object, const char *path, struct field_text *text)
{
	const json_t *value = field_get(object, path);

	if (!json_is_integer(value))
		return show_value(value, text);
	return field_set(text, "0x%" PRIx64, (uint64_t)json_integer_value(value));
}

const char *field_show_bytes(const json_t *object, const char *path, struct field_text *text)
{
	static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
	const json_t *value = field_get(object, path);
	uint64_t n = (uint64_t)json_integer_value(value);
	unsigned int unit = 0;

	if (!json_is_integer(value))
		return show_value(value, text);
	while (n != 0 && n % 1024 == 0 && unit + 1 < sizeof(units) / sizeof(units[0])) {
		n /= 1024;
		unit++;
	}
	return field_set(text, "%" PRIu64 " %s", n, units[unit]);
}

const char *field_show_ns(const json_t *object, const char *path, struct field_text *text)
{
	static const char *const units[] = {"ns", "us", "ms", "s"};
	const json_t *value = field_get(object, path);
	double n = json_number_value(value);
	unsigned int unit = 0;

	if (!json_is_number(value))
		return field_set(text, "-");
	/* What would be rounded to 1000 is 1 of the next unit. */
	while (n >= 999.5 && unit + 1 < sizeof(units) / sizeof(units[0])) {
		n /= 1000;
		unit++;
	}
	return field_set(text, n < 999.5 ? "%.3g %s" : "%.0f %s", n, units[unit]);
}

/* Whole numbers exactly; others with one digit after the point while that says something. */
static const char *show_number(const json_t *value, struct field_text *text)
{
	double number = json_number_value(value);

	if (!json_is_real(value))
		return show_value(value, text);
	if (number <= -100 || number >= 100 || number == (int)number)
		return field_set(text, "%.0f", number);
	return field_set(text, "%.1f", number);
}

const char *field_show_rate(const json_t *object, const char *path, struct field_text *text)
{
	return show_number(field_get(object, path), text);
}

const char *field_show_percent(const json_t *object, const char *path, struct field_text *text)
{
	const json_t *value = field_get(object, path);

	if (!json_is_number(value))
		return field_set(text, "-");
	return field_set(text, "%.1f%%", json_number_value(value));
}

const char *field_show_list(
	const json_t *object, const char *path, const char *separator, struct field_text *text)
{
	const json_t *list = field_get(object, path);
	struct field_text item;

	text->bytes[0] = '\0';
	for (size_t i = 0; i < json_array_size(list); i++)
		field_append(text, separator, show_value(json_array_get(list, i), &item));
	return text->bytes[0] != '\0' ? text->bytes : field_set(text, "-");
}

uint64_t field_sum(const json_t *object, const char *path)
{
	const json_t *counters = field_get(object, path);
	uint64_t sum = 0;
	const char *key;
	json_t *value;

	json_object_foreach((json_t *)counters, key, value) sum +=
		(uint64_t)json_integer_value(value);
	return sum;
}

/* "reason 10, other 2" of an object of counters or rates; those that are 0 are left out. */
static const char *show_nonzero(const json_t *counters, struct field_text *text)
{
	const char *key;
	json_t *value;

	text->bytes[0] = '\0';
	json_object_foreach((json_t *)counters, key, value)
	{
		struct field_text one, number;

		if (json_number_value(value) != 0)
			field_append(text, ", ",
				field_set(&one, "%s %s", key, show_number(value, &number)));
	}
	return text->bytes;
}

const char *field_show_counts(const json_t *object, const char *path, struct field_text *text)
{
	const json_t *counters = field_get(object, path);

	if (!json_is_object(counters))
		return field_set(text, "-");
	return show_nonzero(counters, text)[0] != '\0' ? text->bytes : field_set(text, "0");
}

const char *field_show_drops(const json_t *object, const char *path, struct field_text *text)
{
	struct field_text reasons;

	if (show_nonzero(field_get(object, path), &reasons)[0] == '\0')
		return field_set(text, "0");
	field_set(text, "%" PRIu64 " (", field_sum(object, path));
	field_append(text, "", reasons.bytes);
	field_append(text, "", ")");
	return text->bytes;
}
