/* SPDX-License-Identifier: BSD-3-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <base/histogram.h>

static void a_bucket_is_at_most_an_eighth_wide(void **state)
{
	for (uint64_t value = 1; value < UINT64_C(1) << 62; value += value / 7 + 1) {
		uint64_t top = histogram_bucket_top(histogram_bucket(value));

		assert_true(top >= value);
		assert_true(top - value <= value / 8);
	}
}

static void buckets_follow_each_other_without_gap(void **state)
{
	for (unsigned int bucket = 0; bucket + 1 < HISTOGRAM_N_BUCKETS; bucket++) {
		uint64_t top = histogram_bucket_top(bucket);

		assert_int_equal(histogram_bucket(top), bucket);
		assert_int_equal(histogram_bucket(top + 1), bucket + 1);
	}
	assert_int_equal(histogram_bucket(UINT64_MAX), HISTOGRAM_N_BUCKETS - 1);
}

static void a_quantile_is_never_too_low_nor_an_eighth_too_high(void **state)
{
	struct histogram histogram = {0};

	for (uint64_t value = 1; value <= 100000; value++)
		histogram_add(&histogram, value, 1);
	for (double fraction = 0.001; fraction < 1; fraction += 0.01) {
		uint64_t exact = (uint64_t)(fraction * 100000);
		uint64_t found = histogram_quantile(&histogram, fraction);

		assert_in_range(found, exact, exact + exact / 8 + 1);
	}
	assert_int_equal(histogram_quantile(&histogram, 1), 100000);
}

static void an_empty_histogram_has_only_zeros(void **state)
{
	struct histogram histogram = {0};

	assert_int_equal(histogram_quantile(&histogram, 0.5), 0);
}

static void merging_is_like_adding_everything_to_one(void **state)
{
	struct histogram one = {0}, other = {0}, both = {0};

	for (uint64_t value = 1; value < 5000; value += 3) {
		histogram_add(value % 2 ? &one : &other, value * value, 3);
		for (int times = 0; times < 3; times++)
			histogram_add(&both, value * value, 1);
	}
	histogram_merge(&one, &other);
	assert_memory_equal(&one, &both, sizeof(one));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_bucket_is_at_most_an_eighth_wide),
		cmocka_unit_test(buckets_follow_each_other_without_gap),
		cmocka_unit_test(a_quantile_is_never_too_low_nor_an_eighth_too_high),
		cmocka_unit_test(an_empty_histogram_has_only_zeros),
		cmocka_unit_test(merging_is_like_adding_everything_to_one),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
