/* SPDX-License-Identifier: BSD-3-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "pause.h"

#define N 40000

static void every_power_of_two_is_equally_often_met(void **state)
{
	unsigned int n[11] = {0};
	struct pause_source source;

	/* 0..1 us, 1..2, ... 512..1000: eleven of them. */
	pause_source_init(&source, 1, 0, 1000);
	for (unsigned int i = 0; i < N; i++) {
		uint64_t us = pause_length_ns(&source) / 1000;

		n[us == 0 ? 0 : 64 - __builtin_clzll(us)]++;
	}
	for (unsigned int i = 0; i < 11; i++)
		assert_in_range(n[i], N / 11 * 9 / 10, N / 11 * 11 / 10);
}

static void no_pause_is_longer_than_the_longest_and_the_longest_is_nearly_reached(void **state)
{
	static const uint64_t longest[] = {0, 1, 2, 3, 1000, 1024, 10000000};

	for (unsigned int i = 0; i < sizeof(longest) / sizeof(longest[0]); i++) {
		struct pause_source source;
		uint64_t most = 0;

		pause_source_init(&source, 2, 0, longest[i]);
		for (unsigned int j = 0; j < N; j++) {
			uint64_t ns = pause_length_ns(&source);

			assert_in_range(ns, 0, longest[i] * 1000);
			if (ns > most)
				most = ns;
		}
		assert_true(most >= longest[i] * 990);
	}
}

static void each_burst_length_is_equally_often_met(void **state)
{
	unsigned int n[33] = {0};
	struct pause_source source;

	pause_source_init(&source, 3, 0, 1000);
	for (unsigned int i = 0; i < N; i++) {
		unsigned int length = pause_burst_length(&source, 32);

		assert_in_range(length, 1, 32);
		n[length]++;
	}
	for (unsigned int i = 1; i <= 32; i++)
		assert_in_range(n[i], N / 32 * 8 / 10, N / 32 * 12 / 10);
	for (unsigned int i = 0; i < 100; i++)
		assert_int_equal(pause_burst_length(&source, 1), 1);
}

static void a_seed_and_stream_say_all(void **state)
{
	struct pause_source a, b, other_stream, other_seed;
	unsigned int n_same_stream = 0, n_same_seed = 0;

	pause_source_init(&a, 4, 1, 1000);
	pause_source_init(&b, 4, 1, 1000);
	pause_source_init(&other_stream, 4, 2, 1000);
	pause_source_init(&other_seed, 5, 1, 1000);
	for (unsigned int i = 0; i < 1000; i++) {
		uint64_t ns = pause_length_ns(&a);

		assert_int_equal(pause_length_ns(&b), ns);
		n_same_stream += pause_length_ns(&other_stream) == ns;
		n_same_seed += pause_length_ns(&other_seed) == ns;
	}
	assert_in_range(n_same_stream, 0, 20);
	assert_in_range(n_same_seed, 0, 20);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_power_of_two_is_equally_often_met),
		cmocka_unit_test(no_pause_is_longer_than_the_longest_and_the_longest_is_nearly_reached),
		cmocka_unit_test(each_burst_length_is_equally_often_met),
		cmocka_unit_test(a_seed_and_stream_say_all),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
