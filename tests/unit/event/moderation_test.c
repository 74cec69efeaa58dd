/* SPDX-License-Identifier: BSD-3-Clause */
/* Moderation: when a signal is due, with a clock that the test moves. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <event/moderation.h>

#define NOW 1000000

static void what_is_off_is_due_at_once(void **state)
{
	struct event_moderation moderation = { .max_frames = 32 };

	for (unsigned int i = 0; i < 3; i++) {
		event_moderation_add(&moderation, 1);
		assert_true(event_moderation_is_due(&moderation, NOW, false));
	}
}

static void frames_enough_are_due_before_their_time(void **state)
{
	struct event_moderation moderation = { .max_frames = 32, .max_cycles = 500 };

	event_moderation_add(&moderation, 31);
	assert_false(event_moderation_is_due(&moderation, NOW, false));
	event_moderation_add(&moderation, 1);
	assert_true(event_moderation_is_due(&moderation, NOW, false));
	/* They do not count for the next. */
	event_moderation_add(&moderation, 31);
	assert_false(event_moderation_is_due(&moderation, NOW, false));
	event_moderation_add(&moderation, 100);
	assert_true(event_moderation_is_due(&moderation, NOW, false));
}

static void few_frames_are_due_when_the_first_has_waited_long_enough(void **state)
{
	struct event_moderation moderation = { .max_frames = 32, .max_cycles = 500 };

	event_moderation_add(&moderation, 1);
	assert_false(event_moderation_is_due(&moderation, NOW, false));
	/* What comes later does not prolong it. */
	event_moderation_add(&moderation, 1);
	assert_false(event_moderation_is_due(&moderation, NOW + 499, false));
	assert_true(event_moderation_is_due(&moderation, NOW + 500, false));
}

static void the_time_of_the_next_frames_starts_anew(void **state)
{
	struct event_moderation moderation = { .max_frames = 32, .max_cycles = 500 };

	event_moderation_add(&moderation, 1);
	assert_false(event_moderation_is_due(&moderation, NOW, false));
	assert_true(event_moderation_is_due(&moderation, NOW + 600, false));
	event_moderation_add(&moderation, 1);
	assert_false(event_moderation_is_due(&moderation, NOW + 10000, false));
	assert_false(event_moderation_is_due(&moderation, NOW + 10499, false));
	assert_true(event_moderation_is_due(&moderation, NOW + 10500, false));
}

static void without_a_bound_by_frames_only_time_counts(void **state)
{
	struct event_moderation moderation = { .max_cycles = 500 };

	event_moderation_add(&moderation, 1000000);
	assert_false(event_moderation_is_due(&moderation, NOW, false));
	assert_true(event_moderation_is_due(&moderation, NOW + 500, false));
}

static void asked_for_at_once_it_is_due_and_counts_anew(void **state)
{
	struct event_moderation moderation = { .max_frames = 32, .max_cycles = 500 };

	event_moderation_add(&moderation, 31);
	assert_false(event_moderation_is_due(&moderation, NOW, false));
	assert_true(event_moderation_is_due(&moderation, NOW + 1, true));
	event_moderation_add(&moderation, 31);
	assert_false(event_moderation_is_due(&moderation, NOW + 400, false));
	/* The time runs from the question after the last signal. */
	assert_false(event_moderation_is_due(&moderation, NOW + 899, false));
	assert_true(event_moderation_is_due(&moderation, NOW + 900, false));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_off_is_due_at_once),
		cmocka_unit_test(frames_enough_are_due_before_their_time),
		cmocka_unit_test(few_frames_are_due_when_the_first_has_waited_long_enough),
		cmocka_unit_test(the_time_of_the_next_frames_starts_anew),
		cmocka_unit_test(without_a_bound_by_frames_only_time_counts),
		cmocka_unit_test(asked_for_at_once_it_is_due_and_counts_anew),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
