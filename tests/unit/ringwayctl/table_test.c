/* SPDX-License-Identifier: BSD-3-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <table.h>

static const struct table_column columns[] = {
	{"NAME", TABLE_LEFT},
	{"N", TABLE_RIGHT},
	{"REST", TABLE_LEFT},
};

static void expect(struct table *table, int indent, const char *expected)
{
	char *text = NULL;
	size_t n_bytes;
	FILE *out = open_memstream(&text, &n_bytes);

	table_finish(table, out, indent);
	fclose(out);
	assert_string_equal(text, expected);
	free(text);
}

static void columns_are_as_wide_as_their_widest_cell(void **state)
{
	struct table *table = table_create(columns, 3);

	for (int i = 0; i < 2; i++) {
		table_add(table, "%s", i == 0 ? "a" : "longer");
		table_add(table, "%d", i == 0 ? 1000 : 7);
		table_add(table, "x");
	}
	expect(table, 1,
		" NAME       N  REST\n"
		" a       1000  x\n"
		" longer     7  x\n");
}

static void table_without_rows_is_its_header(void **state)
{
	expect(table_create(columns, 3), 0, "NAME  N  REST\n");
}

static void cells_cannot_drive_the_terminal(void **state)
{
	struct table *table = table_create(columns, 3);

	table_add(table, "a\x1b[31m");
	table_add(table, "\n");
	table_add(table, "\xc3\xa4");
	expect(table, 0,
		"NAME    N  REST\na?[31m  ?  "
		"?"
		"?\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(columns_are_as_wide_as_their_widest_cell),
		cmocka_unit_test(table_without_rows_is_its_header),
		cmocka_unit_test(cells_cannot_drive_the_terminal),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
