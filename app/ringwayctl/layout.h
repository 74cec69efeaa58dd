/* SPDX-License-Identifier: BSD-3-Clause */
/* How results are laid out: lists as tables, objects as `key: value` lines, counts as bars. */
#ifndef LAYOUT_H
#define LAYOUT_H

#include <stdbool.h>
#include <stdio.h>

#include <jansson.h>

#include "field.h"
#include "table.h"

/* Shows the member `path` of an object in `text`, and returns that. */
typedef const char *(*layout_show)(const json_t *object, const char *path, struct field_text *text);

/* A column is a header, the member that it shows, and how. */
struct column {
	struct table_column column;
	const char *path;
	layout_show show;
};

/* One `key: value` line of a block; `show` NULL: a list of words, wrapped. */
struct line {
	const char *key;
	const char *path;
	layout_show show;
};

#define COLUMNS_MAX        16
#define N_COLUMNS(columns) (sizeof(columns) / sizeof((columns)[0]))
#define N_LINES(lines)     (sizeof(lines) / sizeof((lines)[0]))

/* At most COLUMNS_MAX columns. */
void layout_list(
	FILE *out, const json_t *list, const struct column *columns, size_t n_columns, int indent);

/* The same under a title; nothing for an empty list. */
void layout_section(FILE *out, const char *title, const json_t *list, const struct column *columns,
	size_t n_columns);

/* Members that are not there have no line, or a '-' if `shows_missing`. */
void layout_block(FILE *out, const json_t *object, const struct line *lines, size_t n_lines,
	bool shows_missing);

/* A histogram as the RPC gives it, {"n", "p50", ..., "buckets": [{"below_ns", "n"}]}, as a line
 * and a bar for each bucket. */
void layout_histogram(FILE *out, const char *title, const json_t *histogram);

#endif
