/* SPDX-License-Identifier: BSD-3-Clause */
/* Masks, enable and pending bits, one thread: every transition of a vector. */
#include <errno.h>

#include "sink.h"

static struct sink sink;

static const unsigned int counts[] = {1, 2, 63, 64, 65, 2048};
#define N_COUNTS (sizeof(counts) / sizeof(counts[0]))

static void reset_state_is_what_pci_says(void **state)
{
	for (unsigned int i = 0; i < N_COUNTS; i++) {
		uint64_t value;

		sink_create(&sink, counts[i]);
		assert_int_equal(msix_n_vectors(sink.msix), counts[i]);
		assert_int_equal(msix_control_read(sink.msix), counts[i] - 1);
		for (unsigned int vector = 0; vector < counts[i]; vector++) {
			assert_true(msix_is_masked(sink.msix, vector));
			assert_false(msix_is_pending(sink.msix, vector));
			assert_int_equal(msix_table_read(sink.msix, vector * 16, 8, &value), 0);
			assert_int_equal(value, 0);
			assert_int_equal(msix_table_read(sink.msix, vector * 16 + 8, 8, &value), 0);
			assert_true(value == (uint64_t)MSIX_VECTOR_MASKED << 32);
		}
		sink_expect_none(&sink);
		sink_destroy(&sink);
	}
}

static void no_vectors_and_more_than_2048_are_refused(void **state)
{
	static const unsigned int bad[] = {0, 2049, 65536, 65537, UINT32_MAX};

	for (unsigned int i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		errno = 0;
		assert_null(msix_create(bad[i], NULL, NULL));
		assert_int_equal(errno, EINVAL);
	}
	msix_destroy(NULL);
}

static void an_open_vector_is_the_callers_to_deliver_every_time(void **state)
{
	sink_create_open(&sink, 2);
	for (unsigned int i = 0; i < 10; i++) {
		assert_true(msix_notify(sink.msix, i % 2));
		assert_false(msix_is_pending(sink.msix, i % 2));
	}
	sink_expect_none(&sink);
	sink_destroy(&sink);
}

static void a_masked_vector_keeps_any_number_of_notifications_as_one(void **state)
{
	for (unsigned int i = 0; i < N_COUNTS; i++) {
		unsigned int vector = counts[i] - 1;

		sink_create_open(&sink, counts[i]);
		for (unsigned int n = 1; n <= 3; n++) {
			msix_mask(sink.msix, vector);
			assert_true(msix_is_masked(sink.msix, vector));
			for (unsigned int k = 0; k < n; k++) {
				assert_false(msix_notify(sink.msix, vector));
				assert_true(msix_is_pending(sink.msix, vector));
			}
			/* Nor does a second mask drop it. */
			msix_mask(sink.msix, vector);
			assert_true(msix_is_pending(sink.msix, vector));
			sink_expect_none(&sink);
			msix_unmask(sink.msix, vector);
			sink_expect(&sink, vector);
			msix_unmask(sink.msix, vector);
			sink_expect_none(&sink);
			assert_true(msix_notify(sink.msix, vector));
		}
		sink_destroy(&sink);
	}
}

static void a_mask_without_a_notification_delivers_nothing(void **state)
{
	sink_create_open(&sink, 3);
	for (unsigned int vector = 0; vector < 3; vector++) {
		msix_mask(sink.msix, vector);
		msix_unmask(sink.msix, vector);
	}
	msix_mask_function(sink.msix);
	msix_unmask_function(sink.msix);
	msix_disable(sink.msix);
	msix_enable(sink.msix);
	sink_expect_none(&sink);
	sink_destroy(&sink);
}

static void a_vectors_mask_touches_no_other_vector(void **state)
{
	sink_create_open(&sink, 64);
	msix_mask(sink.msix, 31);
	for (unsigned int vector = 0; vector < 64; vector++) {
		assert_int_equal(msix_is_masked(sink.msix, vector), vector == 31);
		assert_int_equal(msix_notify(sink.msix, vector), vector != 31);
		assert_int_equal(msix_is_pending(sink.msix, vector), vector == 31);
	}
	msix_unmask(sink.msix, 30);
	sink_expect_none(&sink);
	msix_unmask(sink.msix, 31);
	sink_expect(&sink, 31);
	sink_destroy(&sink);
}

static void the_function_mask_holds_back_all_vectors_and_delivers_each_once(void **state)
{
	for (unsigned int i = 0; i < N_COUNTS; i++) {
		sink_create_open(&sink, counts[i]);
		msix_mask_function(sink.msix);
		assert_int_equal(msix_control_read(sink.msix) & ~MSIX_CONTROL_TABLE_SIZE,
			MSIX_CONTROL_ENABLE | MSIX_CONTROL_FUNCTION_MASK);
		for (unsigned int vector = 0; vector < counts[i]; vector++) {
			assert_true(msix_is_masked(sink.msix, vector));
			assert_false(msix_notify(sink.msix, vector));
		}
		sink_expect_none(&sink);
		msix_unmask_function(sink.msix);
		assert_int_equal(msix_control_read(sink.msix) & ~MSIX_CONTROL_TABLE_SIZE, MSIX_CONTROL_ENABLE);
		sink_expect_all(&sink);
		msix_unmask_function(sink.msix);
		sink_expect_none(&sink);
		sink_destroy(&sink);
	}
}

static void disabling_holds_back_all_vectors_and_enabling_delivers_each_once(void **state)
{
	for (unsigned int i = 0; i < N_COUNTS; i++) {
		sink_create_open(&sink, counts[i]);
		msix_disable(sink.msix);
		assert_int_equal(msix_control_read(sink.msix) & ~MSIX_CONTROL_TABLE_SIZE, 0);
		for (unsigned int vector = 0; vector < counts[i]; vector++) {
			assert_true(msix_is_masked(sink.msix, vector));
			assert_false(msix_notify(sink.msix, vector));
		}
		sink_expect_none(&sink);
		msix_enable(sink.msix);
		assert_int_equal(msix_control_read(sink.msix) & ~MSIX_CONTROL_TABLE_SIZE, MSIX_CONTROL_ENABLE);
		sink_expect_all(&sink);
		msix_enable(sink.msix);
		sink_expect_none(&sink);
		sink_destroy(&sink);
	}
}

/* All eight settings of a vector, and from each all three ways out. */
static void a_vector_is_open_only_if_nothing_at_all_blocks_it(void **state)
{
	for (unsigned int from = 0; from < 8; from++) {
		for (unsigned int change = 0; change < 3; change++) {
			unsigned int to = from ^ 1u << change;

			sink_create_open(&sink, 1);
			if (from & 1)
				msix_mask(sink.msix, 0);
			if (from & 2)
				msix_mask_function(sink.msix);
			if (from & 4)
				msix_disable(sink.msix);
			assert_int_equal(msix_is_masked(sink.msix, 0), from != 0);
			assert_int_equal(msix_notify(sink.msix, 0), from == 0);
			if (change == 0)
				(to & 1 ? msix_mask : msix_unmask)(sink.msix, 0);
			else if (change == 1)
				(to & 2 ? msix_mask_function : msix_unmask_function)(sink.msix);
			else
				(to & 4 ? msix_disable : msix_enable)(sink.msix);
			assert_int_equal(msix_is_masked(sink.msix, 0), to != 0);
			assert_int_equal(msix_is_pending(sink.msix, 0), from != 0 && to != 0);
			if (to == 0)
				sink_expect(&sink, 0);
			else
				sink_expect_none(&sink);
			assert_int_equal(msix_notify(sink.msix, 0), to == 0);
			sink_destroy(&sink);
		}
	}
}

static void a_vector_with_its_own_mask_waits_for_both(void **state)
{
	sink_create_open(&sink, 3);
	msix_mask(sink.msix, 1);
	msix_mask_function(sink.msix);
	for (unsigned int vector = 0; vector < 3; vector++)
		assert_false(msix_notify(sink.msix, vector));
	msix_unmask_function(sink.msix);
	assert_int_equal(sink.n, 2);
	assert_int_equal(sink.n_fired[1], 0);
	assert_true(msix_is_pending(sink.msix, 1));
	sink_forget(&sink);
	msix_unmask(sink.msix, 1);
	sink_expect(&sink, 1);
	sink_destroy(&sink);
}

static void a_reset_drops_what_is_pending(void **state)
{
	sink_create_open(&sink, 65);
	msix_mask_function(sink.msix);
	for (unsigned int vector = 0; vector < 65; vector++)
		assert_false(msix_notify(sink.msix, vector));
	msix_reset(sink.msix);
	assert_int_equal(msix_control_read(sink.msix), 64);
	msix_enable(sink.msix);
	for (unsigned int vector = 0; vector < 65; vector++) {
		assert_true(msix_is_masked(sink.msix, vector));
		assert_false(msix_is_pending(sink.msix, vector));
		msix_unmask(sink.msix, vector);
		assert_false(msix_is_masked(sink.msix, vector));
	}
	sink_expect_none(&sink);
	sink_destroy(&sink);
}

/* As a guest port does it: MSI-X enabled from the start, the mask follows the call descriptor. */
static void a_removed_call_descriptor_holds_back_and_a_new_one_delivers(void **state)
{
	sink_create(&sink, 2);
	msix_enable(sink.msix);
	/* Before there is any descriptor. */
	assert_false(msix_notify(sink.msix, 0));
	msix_unmask(sink.msix, 0);
	sink_expect(&sink, 0);
	assert_true(msix_notify(sink.msix, 0));
	/* Replaced, with traffic in between. */
	msix_mask(sink.msix, 0);
	assert_false(msix_notify(sink.msix, 0));
	assert_false(msix_notify(sink.msix, 1));
	msix_unmask(sink.msix, 0);
	sink_expect(&sink, 0);
	/* Removed and never given back: nobody is told, and the model goes away. */
	msix_mask(sink.msix, 0);
	assert_false(msix_notify(sink.msix, 0));
	sink_expect_none(&sink);
	sink_destroy(&sink);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reset_state_is_what_pci_says),
		cmocka_unit_test(no_vectors_and_more_than_2048_are_refused),
		cmocka_unit_test(an_open_vector_is_the_callers_to_deliver_every_time),
		cmocka_unit_test(a_masked_vector_keeps_any_number_of_notifications_as_one),
		cmocka_unit_test(a_mask_without_a_notification_delivers_nothing),
		cmocka_unit_test(a_vectors_mask_touches_no_other_vector),
		cmocka_unit_test(the_function_mask_holds_back_all_vectors_and_delivers_each_once),
		cmocka_unit_test(disabling_holds_back_all_vectors_and_enabling_delivers_each_once),
		cmocka_unit_test(a_vector_is_open_only_if_nothing_at_all_blocks_it),
		cmocka_unit_test(a_vector_with_its_own_mask_waits_for_both),
		cmocka_unit_test(a_reset_drops_what_is_pending),
		cmocka_unit_test(a_removed_call_descriptor_holds_back_and_a_new_one_delivers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
