/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "cpu_list.h"

static void list_keeps_the_order_and_expands_ranges(void **state)
{
	static const uint16_t expected[] = {7, 1, 3, 4, 5, 1023};
	uint16_t *cpus = NULL;
	uint32_t n;

	assert_int_equal(cpu_list_parse("7,1,3-5,1023", &cpus, &n), 0);
	assert_int_equal(n, 6);
	assert_memory_equal(cpus, expected, sizeof(expected));
	free(cpus);
}

static void every_cpu_at_once_fits(void **state)
{
	uint16_t *cpus = NULL;
	uint32_t n;

	assert_int_equal(cpu_list_parse("0-1023", &cpus, &n), 0);
	assert_int_equal(n, 1024);
	assert_int_equal(cpus[1023], 1023);
	free(cpus);
}

static void malformed_lists_are_refused(void **state)
{
	static const char *const bad[] = {"", ",", "1,", ",1", "1,,2", "-1", "1-", "a", "1a", "1 2",
		" 1", "1 ", "+1", "01", "1024", "0-1024", "5-3", "1,1", "1-3,2", "1-2-3", "0x1",
		"99999999999999999999", "4294967296"};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		uint16_t *cpus = NULL;
		uint32_t n = 7;

		if (cpu_list_parse(bad[i], &cpus, &n) != -EINVAL)
			fail_msg("'%s' was taken", bad[i]);
		assert_null(cpus);
		assert_int_equal(n, 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(list_keeps_the_order_and_expands_ranges),
		cmocka_unit_test(every_cpu_at_once_fits),
		cmocka_unit_test(malformed_lists_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
