/* SPDX-License-Identifier: BSD-3-Clause */
#include <string.h>

#include "layout.h"

#define KEY_WIDTH  19
#define TEXT_WIDTH 60
#define BAR_WIDTH  40

void layout_list(
	FILE *out, const json_t *list, const struct column *columns, size_t n_columns, int indent)
{
	struct table_column headers[COLUMNS_MAX];
	struct field_text text;
	struct table *table;

	for (size_t i = 0; i < n_columns; i++)
		headers[i] = columns[i].column;
	table = table_create(headers, n_columns);
	if (table == NULL)
		return;
	for (size_t row = 0; row < json_array_size(list); row++) {
		for (size_t i = 0; i < n_columns; i++)
			table_add(table, "%s",
				columns[i].show(json_array_get(list, row), columns[i].path, &text));
	}
	table_finish(table, out, indent);
}

void layout_section(FILE *out, const char *title, const json_t *list, const struct column *columns,
	size_t n_columns)
{
	if (json_array_size(list) == 0)
		return;
	fprintf(out, "\n%s:\n", title);
	layout_list(out, list, columns, n_columns, 2);
}

static void print_words(FILE *out, const json_t *words)
{
	size_t column = 0;

	for (size_t i = 0; i < json_array_size(words); i++) {
		const char *word = json_string_value(json_array_get(words, i));
		char shown[64];

		snprintf(shown, sizeof(shown), "%s", word != NULL ? word : "-");
		table_make_printable(shown);
		if (column > 0 && column + 1 + strlen(shown) > TEXT_WIDTH) {
			fprintf(out, "\n%*s", KEY_WIDTH, "");
			column = 0;
		}
		column += (size_t)fprintf(out, "%s%s", column > 0 ? " " : "", shown);
	}
	fputs(json_array_size(words) > 0 ? "\n" : "-\n", out);
}

void layout_block(FILE *out, const json_t *object, const struct line *lines, size_t n_lines,
	bool shows_missing)
{
	for (size_t i = 0; i < n_lines; i++) {
		const json_t *value = field_get(object, lines[i].path);
		struct field_text text;

		if (value == NULL && !shows_missing)
			continue;
		fprintf(out, "%s:%*s", lines[i].key, KEY_WIDTH - 1 - (int)strlen(lines[i].key), "");
		if (lines[i].show == NULL) {
			print_words(out, value);
			continue;
		}
		lines[i].show(object, lines[i].path, &text);
		table_make_printable(text.bytes);
		fprintf(out, "%s\n", text.bytes);
	}
}

static json_int_t bucket_count(const json_t *buckets, size_t i)
{
	json_int_t n = json_integer_value(json_object_get(json_array_get(buckets, i), "n"));

	return n > 0 ? n : 0;
}

static void print_bars(FILE *out, const json_t *buckets)
{
	static const struct table_column columns[] = {
		{"BELOW", TABLE_RIGHT},
		{"N", TABLE_RIGHT},
		{"BAR", TABLE_LEFT},
	};
	static const char bar[BAR_WIDTH + 1] = "########################################";
	struct table *table = table_create(columns, 3);
	json_int_t most = 1;

	if (table == NULL)
		return;
	for (size_t i = 0; i < json_array_size(buckets); i++) {
		if (bucket_count(buckets, i) > most)
			most = bucket_count(buckets, i);
	}
	for (size_t i = 0; i < json_array_size(buckets); i++) {
		json_int_t n = bucket_count(buckets, i);
		double part = (double)n / (double)most;
		int width = (int)(part * BAR_WIDTH);
		struct field_text text;

		/* One in a million is to be seen, too. */
		if (n > 0 && width == 0)
			width = 1;
		table_add(
			table, "%s", field_show_ns(json_array_get(buckets, i), "below_ns", &text));
		table_add(table, "%" JSON_INTEGER_FORMAT, n);
		table_add(table, "%.*s", width, bar);
	}
	table_finish(table, out, 2);
}

void layout_histogram(FILE *out, const char *title, const json_t *histogram)
{
	static const struct {
		const char *name;
		const char *path;
	} points[] = {{"median", "p50"}, {"p90", "p90"}, {"p99", "p99"}, {"max", "max"}};
	struct field_text text;

	fprintf(out, "\n%s:", title);
	if (json_integer_value(json_object_get(histogram, "n")) <= 0) {
		fputs(" -\n", out);
		return;
	}
	for (size_t i = 0; i < sizeof(points) / sizeof(points[0]); i++)
		fprintf(out, "%s %s %s", i > 0 ? "," : "", points[i].name,
			field_show_ns(histogram, points[i].path, &text));
	fprintf(out, ", n %s\n", field_show(histogram, "n", &text));
	print_bars(out, json_object_get(histogram, "buckets"));
}
