/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "table.h"

#define GAP "  "

struct table {
	const struct table_column *columns;
	size_t n_columns;
	char **cells;
	size_t n_cells;
};

struct table *table_create(const struct table_column *columns, size_t n_columns)
{
	struct table *table = calloc(1, sizeof(*table));

	if (table != NULL) {
		table->columns = columns;
		table->n_columns = n_columns;
	}
	return table;
}

void table_make_printable(char *text)
{
	for (; *text != '\0'; text++) {
		if (*text < ' ' || *text > '~')
			*text = '?';
	}
}

void table_add(struct table *table, const char *format, ...)
{
	char **cells = reallocarray(table->cells, table->n_cells + 1, sizeof(*cells));
	va_list args;
	char *text = NULL;

	if (cells == NULL)
		return;
	table->cells = cells;
	va_start(args, format);
	if (vasprintf(&text, format, args) < 0)
		text = NULL;
	va_end(args);
	if (text != NULL)
		table_make_printable(text);
	cells[table->n_cells++] = text;
}

static const char *cell(const struct table *table, size_t row, size_t column)
{
	const char *text = table->cells[row * table->n_columns + column];

	return text != NULL ? text : "";
}

static size_t width_of(const struct table *table, size_t n_rows, size_t column)
{
	size_t width = strlen(table->columns[column].header);

	for (size_t row = 0; row < n_rows; row++) {
		size_t length = strlen(cell(table, row, column));

		if (length > width)
			width = length;
	}
	return width;
}

/* No blanks at the end of a line. */
static void print_cell(
	const struct table *table, FILE *out, size_t column, const char *text, size_t width)
{
	if (table->columns[column].align == TABLE_RIGHT)
		fprintf(out, "%*s", (int)width, text);
	else if (column + 1 < table->n_columns)
		fprintf(out, "%-*s", (int)width, text);
	else
		fprintf(out, "%s", text);
	fputs(column + 1 < table->n_columns ? GAP : "\n", out);
}

void table_finish(struct table *table, FILE *out, int indent)
{
	size_t n_rows = table->n_cells / table->n_columns;
	size_t *widths = calloc(table->n_columns, sizeof(*widths));

	for (size_t column = 0; widths != NULL && column < table->n_columns; column++)
		widths[column] = width_of(table, n_rows, column);
	/* The header is line 0. */
	for (size_t line = 0; widths != NULL && line <= n_rows; line++) {
		fprintf(out, "%*s", indent, "");
		for (size_t column = 0; column < table->n_columns; column++)
			print_cell(table, out, column,
				line == 0 ? table->columns[column].header
					  : cell(table, line - 1, column),
				widths[column]);
	}
	for (size_t i = 0; i < table->n_cells; i++)
		free(table->cells[i]);
	free(table->cells);
	free(widths);
	free(table);
}
