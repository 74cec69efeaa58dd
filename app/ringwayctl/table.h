/* SPDX-License-Identifier: BSD-3-Clause */
/* Text in aligned columns. Whatever is not printable ASCII is shown as '?': a name must not drive a
 * terminal. */
#ifndef TABLE_H
#define TABLE_H

#include <stddef.h>
#include <stdio.h>

enum table_align {
	TABLE_LEFT,
	TABLE_RIGHT,
};

struct table_column {
	const char *header;
	enum table_align align;
};

struct table;

/* `columns` must outlive the table. NULL: out of memory. */
struct table *table_create(const struct table_column *columns, size_t n_columns);

/* The next cell, from left to right and from top to bottom. */
void table_add(struct table *table, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Prints with `indent` blanks before each line, and frees. */
void table_finish(struct table *table, FILE *out, int indent);

void table_make_printable(char *text);

#endif
