/* SPDX-License-Identifier: BSD-3-Clause */
/* Who is told what and when (D60-D67, K2, K5, V28, V29), both sides against the predicate of the specification. */
#include <stdlib.h>
#include <string.h>

#include <vring/driver.h>

#include "guest.h"

static struct guest guest;
static struct vring_device ring;
static struct vring_burst burst;

static void start(uint16_t size, uint16_t idx, bool event_idx)
{
	struct vring_config config;

	guest_create(&guest, size, idx);
	config = guest_config(&guest);
	config.event_idx = event_idx;
	assert_int_equal(vring_device_init(&ring, &config), 0);
}

/* n buffers through the ring, published at once. */
static void pass(unsigned int n)
{
	while (n > 0) {
		unsigned int k = n < guest.size ? n : guest.size;

		k = k < VRING_BURST_MAX ? k : VRING_BURST_MAX;
		for (unsigned int i = 0; i < k; i++) {
			guest_put(&guest, 0, LOW, 60, 0, 0);
			guest_offer(&guest, 0);
		}
		assert_int_equal(vring_device_peek(&ring, &burst, VRING_READABLE, k), k);
		finish(&ring, &burst, k);
		n -= k;
	}
}

/* The driver asks to be told of the used entry that is the idx-th since the start; with event index. */
static void ask_for_call_at(uint32_t idx)
{
	if (guest.packed) {
		guest.driver_event->flags = VRING_PACKED_EVENT_FLAG_DESC;
		guest.driver_event->off_wrap = (uint16_t)guest_position(&guest, idx);
	} else {
		*vring_used_event_of(guest.avail, guest.size) = (uint16_t)idx;
	}
}

static bool specification_says(uint16_t event, uint16_t new_idx, uint16_t old_idx)
{
	return (uint16_t)(new_idx - event - 1) < (uint16_t)(new_idx - old_idx);
}

/* D60: the flag decides, whatever lies in used_event. */
static void heeds_the_flag_without_event_index(void **state)
{
	start(8, 0, false);
	for (unsigned int i = 0; i < 1000; i++) {
		*vring_used_event_of(guest.avail, 8) = (uint16_t)(i * 77);
		guest.avail->flags = i % 3 == 0 ? VRING_AVAIL_F_NO_INTERRUPT : 0;
		pass(1 + i % 8);
		assert_int_equal(vring_device_needs_call(&ring), i % 3 != 0);
		/* Once is enough. */
		assert_false(vring_device_needs_call(&ring));
	}
	guest_destroy(&guest);
}

/* D61, K2: random batches and events, over the wrap, asked now and then. */
static void agrees_with_the_specification_on_event_index(void **state)
{
	uint64_t seed = seed_get();
	uint16_t asked;

	start(256, 65000, true);
	pass(1);
	assert_true(vring_device_needs_call(&ring));
	asked = ring.published_idx;
	for (unsigned int i = 0; i < 300000; i++) {
		unsigned int n = random_below(&seed, 4) == 0 ? random_below(&seed, 257)
							     : random_below(&seed, 5);
		uint16_t event = (uint16_t)(ring.published_idx + random_below(&seed, 600) - 300);

		if (random_below(&seed, 8) == 0)
			event = (uint16_t)random_next(&seed);
		/* Used.idx and bookkeeping are the point here, not the buffers. */
		guest.avail_idx = (uint16_t)(guest.avail_idx + n);
		guest.avail->idx = guest.avail_idx;
		ring.last_avail_idx = guest.avail_idx;
		ring.used_idx = (uint16_t)(ring.used_idx + n);
		vring_device_publish(&ring);
		*vring_used_event_of(guest.avail, 256) = event;
		guest.avail->flags = (uint16_t)random_next(&seed); /* to be ignored */
		if (random_below(&seed, 3) == 0 || (uint16_t)(ring.published_idx - asked) > 60000) {
			assert_int_equal(vring_device_needs_call(&ring),
				specification_says(event, ring.published_idx, asked));
			asked = ring.published_idx;
		}
	}
	guest_destroy(&guest);
}

/* D66, P9: what is no legal wish is one for everything. */
static void heeds_the_flags_of_a_packed_driver(void **state)
{
	static const bool expected[2][4] = {{true, false, true, true}, {true, false, false, true}};

	for (unsigned int event_idx = 0; event_idx < 2; event_idx++) {
		for (uint32_t offset = 0; offset < 65536; offset += 251) {
			uint16_t flags = (uint16_t)(offset % 4);
			bool outside = vring_packed_slot((uint16_t)offset) >= 7;

			start(7, 0, event_idx);
			pass(2);
			assert_true(vring_device_needs_call(&ring));
			guest.driver_event->flags = (uint16_t)(flags | (offset & 0xfffc));
			guest.driver_event->off_wrap = (uint16_t)(outside ? offset : 0x8001);
			pass(1);
			assert_int_equal(vring_device_needs_call(&ring),
				expected[event_idx][flags] ||
					(flags == VRING_PACKED_EVENT_FLAG_DESC && outside));
			assert_false(vring_device_needs_call(&ring));
			guest_destroy(&guest);
		}
	}
}

/* D66, K2: against a walk over every place that was used since the last question; sizes that are no power of two. */
static void agrees_with_the_specification_on_packed_events(void **state)
{
	const uint16_t sizes[] = {1, 2, 3, 5, 8, 255, 256, 257};
	uint64_t seed = seed_get();

	for (unsigned int s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
		uint16_t size = sizes[s];

		start(size, 0, true);
		ask_for_call_at(0);
		pass(1);
		assert_true(vring_device_needs_call(&ring));
		for (unsigned int i = 0; i < 20000; i++) {
			uint32_t most = random_below(&seed, 8) == 0 ? 3 * size : size;
			uint16_t at = ring.published_idx;
			uint16_t event = (uint16_t)(random_below(&seed, size) |
				(random_below(&seed, 2) ? VRING_PACKED_START : 0));
			unsigned int n = random_below(&seed, most + 1);
			bool expected = false;

			for (unsigned int k = 0; k < n; k++) {
				expected = expected || at == event;
				at = vring_packed_advance(at, 1, size);
			}
			guest.driver_event->flags = VRING_PACKED_EVENT_FLAG_DESC;
			guest.driver_event->off_wrap = event;
			pass(n);
			assert_int_equal(ring.published_idx, at);
			assert_int_equal(vring_device_needs_call(&ring), expected);
		}
		guest_destroy(&guest);
	}
}

/* More than a lap of the index between two questions passes every event there is, though the difference is small. */
static void calls_after_more_than_65535_entries_unasked(void **state)
{
	const unsigned int counts[] = {65535, 65536, 65537, 131072, 200000};

	for (unsigned int i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
		start(256, 0, true);
		ask_for_call_at(500);
		pass(1);
		assert_true(vring_device_needs_call(&ring));
		pass(counts[i]);
		assert_true(vring_device_needs_call(&ring));
		guest_destroy(&guest);
	}
}

/* K5: who served the ring before may have died between publishing and calling. */
static void calls_at_the_first_publication_after_a_start(void **state)
{
	for (uint32_t idx = 0; idx < 65536; idx += 4369) {
		start(8, (uint16_t)idx, true);
		ask_for_call_at((uint16_t)(idx - 3));
		assert_false(vring_device_needs_call(&ring));
		pass(1);
		assert_true(vring_device_needs_call(&ring));
		pass(1);
		assert_false(vring_device_needs_call(&ring));
		guest_destroy(&guest);
	}
}

/* D63, D64 */
static void writes_flags_or_event_but_never_both(void **state)
{
	start(8, 65535, false);
	*vring_avail_event_of(guest.used, 8) = 0x5a5a;
	vring_device_set_kick(&ring, false);
	assert_int_equal(guest.used->flags, VRING_USED_F_NO_NOTIFY);
	vring_device_set_kick(&ring, true);
	assert_int_equal(guest.used->flags, 0);
	assert_int_equal(*vring_avail_event_of(guest.used, 8), 0x5a5a);
	guest_destroy(&guest);

	start(8, 65535, true);
	guest.used->flags = VRING_USED_F_NO_NOTIFY; /* left by someone without the feature */
	vring_device_set_kick(&ring, true);
	assert_int_equal(guest.used->flags, 0);
	assert_int_equal(*vring_avail_event_of(guest.used, 8), 65535);
	pass(3);
	vring_device_set_kick(&ring, true);
	assert_int_equal(*vring_avail_event_of(guest.used, 8), 2);
	vring_device_set_kick(&ring, false);
	assert_int_equal(guest.used->flags, 0);
	assert_int_equal(*vring_avail_event_of(guest.used, 8), 1);
	guest_destroy(&guest);
}

static void expect_device_event(uint16_t flags, uint16_t off_wrap)
{
	assert_int_equal(guest.device_event->flags, flags);
	assert_int_equal(guest.device_event->off_wrap, off_wrap);
}

static void writes_its_wish_as_a_packed_device(void **state)
{
	for (unsigned int event_idx = 0; event_idx < 2; event_idx++) {
		start(7, 5, event_idx);
		memset(guest.device_event, 0xff, sizeof(*guest.device_event));
		vring_device_set_kick(&ring, false);
		assert_int_equal(guest.device_event->flags, VRING_PACKED_EVENT_FLAG_DISABLE);
		vring_device_set_kick(&ring, true);
		if (!event_idx) {
			assert_int_equal(guest.device_event->flags, VRING_PACKED_EVENT_FLAG_ENABLE);
			guest_destroy(&guest);
			continue;
		}
		expect_device_event(VRING_PACKED_EVENT_FLAG_DESC, 5 | VRING_PACKED_START);
		pass(1);
		vring_device_set_kick(&ring, true);
		expect_device_event(VRING_PACKED_EVENT_FLAG_DESC, 6 | VRING_PACKED_START);
		pass(1);
		vring_device_set_kick(&ring, true);
		expect_device_event(VRING_PACKED_EVENT_FLAG_DESC, 0);
		guest_destroy(&guest);
	}
}

/* One fence for the rings of a round: the answer is the same without it where nobody writes meanwhile. */
static void answers_alike_with_one_fence_for_many_rings(void **state)
{
	for (unsigned int event_idx = 0; event_idx < 2; event_idx++) {
		start(8, 0, event_idx);
		assert_false(vring_device_wants_call(&ring));
		ask_for_call_at(2);
		if (!event_idx && guest.packed)
			guest.driver_event->flags = VRING_PACKED_EVENT_FLAG_ENABLE;
		pass(1);
		vring_fence();
		assert_true(vring_device_wants_call(&ring));
		assert_false(vring_device_wants_call(&ring));
		pass(1);
		assert_int_equal(vring_device_wants_call(&ring), !event_idx);
		pass(1);
		assert_true(vring_device_wants_call(&ring));
		guest_destroy(&guest);
	}
}

/* D67: a buffer that came before the wish was written brings no kick and has to be seen. */
static void sees_what_came_before_it_asked_for_kicks(void **state)
{
	start(8, 0, true);
	assert_false(vring_device_has_available(&ring));
	guest_put(&guest, 0, LOW, 60, 0, 0);
	guest_offer(&guest, 0);
	vring_device_set_kick(&ring, true);
	assert_true(vring_device_has_available(&ring));
	guest_destroy(&guest);
}

/* Both ends of ours on one ring: whoever asked to be told is told when, and only when, something came since. */
static void tells_the_other_end_exactly_when_it_asked(void **state)
{
	uint64_t seed = seed_get();

	for (unsigned int event_idx = 0; event_idx < 2; event_idx++) {
		struct vring_driver_config driver_config = {.size = 64, .event_idx = event_idx};
		struct vring_completion done[64];
		struct vring_driver *driver;
		struct vring_config config;
		bool kick_wanted = true;
		bool call_wanted = true;

		guest_create(&guest, 64, 0);
		driver_config.packed = guest.packed;
		driver_config.desc = guest.parts[0].data;
		driver_config.avail = guest.parts[1].data;
		driver_config.used = guest.parts[2].data;
		driver = vring_driver_create(&driver_config);
		assert_non_null(driver);
		config = guest_config(&guest);
		config.event_idx = event_idx;
		assert_int_equal(vring_device_init(&ring, &config), 0);
		vring_device_set_kick(&ring, true);
		vring_driver_set_call(driver, true);
		for (unsigned int i = 0; i < 200000; i++) {
			const struct vring_extent extent = {LOW, 60};
			unsigned int n = random_below(&seed, 20);
			unsigned int n_posted = 0;
			int got;

			while (n_posted < n && vring_driver_post(driver, &extent, 1, 0, 0) == 0)
				n_posted++;
			vring_driver_publish(driver);
			assert_int_equal(
				vring_driver_needs_kick(driver), kick_wanted && n_posted > 0);
			got = vring_device_peek(&ring, &burst, VRING_READABLE, 64);
			assert_int_equal(got, n_posted);
			finish(&ring, &burst, n_posted);
			/* The very first answer may be one more than needed. */
			if (i > 0 || n_posted == 0)
				assert_int_equal(vring_device_needs_call(&ring),
					call_wanted && n_posted > 0);
			else
				vring_device_needs_call(&ring);
			assert_int_equal(vring_driver_collect(driver, done, 64), n_posted);
			kick_wanted = random_below(&seed, 2) != 0;
			call_wanted = random_below(&seed, 2) != 0;
			vring_device_set_kick(&ring, kick_wanted);
			vring_driver_set_call(driver, call_wanted);
		}
		vring_driver_destroy(driver);
		guest_destroy(&guest);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		SPLIT(heeds_the_flag_without_event_index),
		SPLIT(agrees_with_the_specification_on_event_index),
		PACKED(heeds_the_flags_of_a_packed_driver),
		PACKED(agrees_with_the_specification_on_packed_events),
		BOTH_LAYOUTS(calls_after_more_than_65535_entries_unasked),
		BOTH_LAYOUTS(calls_at_the_first_publication_after_a_start),
		SPLIT(writes_flags_or_event_but_never_both),
		PACKED(writes_its_wish_as_a_packed_device),
		BOTH_LAYOUTS(answers_alike_with_one_fence_for_many_rings),
		BOTH_LAYOUTS(sees_what_came_before_it_asked_for_kicks),
		BOTH_LAYOUTS(tells_the_other_end_exactly_when_it_asked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
