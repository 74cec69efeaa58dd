/* SPDX-License-Identifier: BSD-3-Clause */
/* The ring itself: indices, sizes, heads, order, what a refusal leaves behind. Chains are in chain_test.c. */
#include <errno.h>
#include <string.h>

#include "guest.h"

static struct guest guest;
static struct vring_device ring;
static struct vring_burst burst;

static void start(uint16_t size, uint16_t idx)
{
	struct vring_config config;

	guest_create(&guest, size, idx);
	config = guest_config(&guest);
	assert_int_equal(vring_device_init(&ring, &config), 0);
}

static void refuses_sizes_that_are_no_power_of_two_or_too_large(void **state)
{
	const uint16_t bad[] = {0, 3, 5, 6, 255, 32767, 32769, 49152, 65535};
	struct vring_config config;

	guest_create(&guest, 8, 0);
	config = guest_config(&guest);
	for (unsigned int i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		config.size = bad[i];
		assert_int_equal(vring_device_init(&ring, &config), -EINVAL);
	}
	guest_destroy(&guest);
}

/* D40 */
static void takes_packed_rings_of_any_size_and_places_inside_them(void **state)
{
	const uint16_t sizes[] = {1, 2, 3, 5, 8, 255, 256, 257, 1000, 32767, 32768};
	struct vring_config config;

	for (unsigned int i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		guest_create(&guest, sizes[i], 0);
		for (unsigned int wrap = 0; wrap < 2; wrap++) {
			config = guest_config(&guest);
			config.avail_idx = (uint16_t)(wrap << 15 | (sizes[i] - 1));
			config.used_idx = config.avail_idx;
			assert_int_equal(vring_device_init(&ring, &config), 0);
			assert_int_equal(vring_device_position(&ring),
				config.avail_idx | (uint32_t)config.avail_idx << 16);
			if (sizes[i] == 32768)
				continue;
			config.avail_idx++;
			assert_int_equal(vring_device_init(&ring, &config), -EINVAL);
			config.avail_idx--;
			config.used_idx++;
			assert_int_equal(vring_device_init(&ring, &config), -EINVAL);
		}
		guest_destroy(&guest);
	}
	guest_create(&guest, 8, 0);
	config = guest_config(&guest);
	config.size = 0;
	assert_int_equal(vring_device_init(&ring, &config), -EINVAL);
	config.size = 32769;
	assert_int_equal(vring_device_init(&ring, &config), -EINVAL);
	guest_destroy(&guest);
}

static void refuses_misaligned_parts(void **state)
{
	guest_create(&guest, 8, 0);
	for (unsigned int off = 1; off < 16; off++) {
		struct vring_config config = guest_config(&guest);

		config.desc = (uint8_t *)config.desc - off;
		assert_int_equal(vring_device_init(&ring, &config), -EINVAL);
		config = guest_config(&guest);
		config.avail = (uint8_t *)config.avail - off;
		assert_int_equal(vring_device_init(&ring, &config), off % (guest.packed ? 4 : 2) ? -EINVAL : 0);
		config = guest_config(&guest);
		config.used = (uint8_t *)config.used - off;
		assert_int_equal(vring_device_init(&ring, &config), off % 4 ? -EINVAL : 0);
	}
	guest_destroy(&guest);
}

static void yields_nothing_from_an_empty_ring(void **state)
{
	start(8, 77);
	assert_int_equal(vring_device_peek(&ring, &burst, VRING_READABLE, 32), 0);
	assert_int_equal(burst.n, 0);
	assert_false(vring_device_has_available(&ring));
	assert_int_equal(vring_device_position(&ring), guest_position(&guest, 77));
	guest_destroy(&guest);
}

/* Q1, Q2, D28, D41: over the wrap of both indices, and of both wrap counters. */
static void pass_the_wrap(uint32_t size)
{
	uint32_t idx = 65530;

	start((uint16_t)size, (uint16_t)idx);
	for (unsigned int round = 0; round < 40; round++) {
		unsigned int n = 1 + round % 7;
		int got;

		if (n > size)
			n = size;
		for (unsigned int i = 0; i < n; i++) {
			unsigned int head = (idx + i * 5) % size;

			guest_put(&guest, head, LOW + head % 64, 60 + (head & 1), 0, 0);
			guest_offer(&guest, (uint16_t)head);
		}
		assert_true(vring_device_has_available(&ring));
		assert_int_equal(vring_device_backlog(&ring), n);
		got = vring_device_peek(&ring, &burst, VRING_READABLE, 64);
		assert_int_equal(got, n);
		finish(&ring, &burst, n);
		for (unsigned int i = 0; i < n; i++)
			guest_expect_used(&guest, (uint16_t)((idx + i * 5) % size), 0);
		guest_expect_no_used(&guest);
		assert_false(vring_device_has_available(&ring));
		idx += n;
		assert_int_equal(vring_device_position(&ring), guest_position(&guest, idx));
	}
	guest_destroy(&guest);
}

static void passes_the_wrap_with_every_size(void **state)
{
	const uint32_t odd[] = {3, 5, 6, 7, 9, 255, 257, 32767};

	for (uint32_t size = 1; size <= 32768; size *= 2)
		pass_the_wrap(size);
	for (unsigned int i = 0; guest_is_packed && i < sizeof(odd) / sizeof(odd[0]); i++)
		pass_the_wrap(odd[i]);
}

/* A ring filled to the brim is legal: the lead is the size. */
static void takes_a_full_ring(void **state)
{
	start(32768, 40000);
	for (unsigned int i = 0; i < 32768; i++) {
		guest_put(&guest, i, LEFT, 100, 0, 0);
		guest_offer(&guest, (uint16_t)i);
	}
	assert_int_equal(vring_device_backlog(&ring), 32768);
	for (unsigned int i = 0; i < 32768 / VRING_BURST_MAX; i++) {
		assert_int_equal(vring_device_peek(&ring, &burst, VRING_READABLE, 100000),
			VRING_BURST_MAX);
		assert_int_equal(burst.buffers[0].id, i * VRING_BURST_MAX);
		finish(&ring, &burst, VRING_BURST_MAX);
	}
	assert_int_equal(vring_device_peek(&ring, &burst, VRING_READABLE, 32), 0);
	for (unsigned int i = 0; i < 32768; i++)
		guest_expect_used(&guest, (uint16_t)i, 0);
	guest_destroy(&guest);
}

/* Q3, D29 */
static void breaks_on_an_index_that_leads_too_far(void **state)
{
	const uint16_t jumps[] = {9, 10, 32768, 65535, 65534};

	for (unsigned int i = 0; i < sizeof(jumps) / sizeof(jumps[0]); i++) {
		uint32_t length = 60;
		struct vring_grant grant;

		start(8, 65533);
		guest.avail->idx = (uint16_t)(65533 + jumps[i]);
		assert_true(vring_device_has_available(&ring));
		assert_int_equal(vring_device_backlog(&ring), 8);
		assert_int_equal(vring_device_peek(&ring, &burst, VRING_READABLE, 32), -EPROTO);
		assert_int_equal(ring.breakage, VRING_BROKEN_AVAIL_IDX);
		/* For ever, even if the driver takes it back. */
		guest.avail->idx = 65533;
		assert_int_equal(vring_device_peek(&ring, &burst, VRING_READABLE, 32), -EPROTO);
		assert_int_equal(
			vring_device_reserve(&ring, &burst, &length, 1, &grant), -EPROTO);
		assert_int_equal(burst.n, 0);
		assert_false(vring_device_has_available(&ring));
		assert_int_equal(vring_device_backlog(&ring), 0);
		guest_destroy(&guest);
	}
}

/* Q4: the good ones before the bad head are served; then the ring is at its end. */
static void breaks_on_a_head_outside_the_table(void **state)
{
	const uint16_t bad[] = {8, 9, 0x7fff, 0xffff};

	for (unsigned int i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		start(8, 0);
		guest_put(&guest, 3, LOW, 60, 0, 0);
		guest_offer(&guest, 3);
		guest_offer(&guest, bad[i]);
		guest_offer(&guest, 3);
		assert_int_equal(vring_device_peek(&ring, &burst, VRING_READABLE, 32), 1);
		finish(&ring, &burst, 1);
		assert_int_equal(vring_device_peek(&ring, &burst, VRING_READABLE, 32), -EPROTO);
		assert_int_equal(ring.breakage, VRING_BROKEN_HEAD);
		assert_int_equal(guest.used->idx, 1);
		guest_destroy(&guest);
	}
}

/* Q6 */
static void survives_the_same_head_twice_and_heads_inside_chains(void **state)
{
	start(8, 0);
	guest_put(&guest, 0, LOW, 60, VRING_DESC_F_NEXT, 1);
	guest_put(&guest, 1, LOW + 64, 61, VRING_DESC_F_NEXT, 2);
	guest_put(&guest, 2, LOW + 128, 62, 0, 0);
	guest_offer(&guest, 0);
	guest_offer(&guest, 1);
	guest_offer(&guest, 0);
	assert_int_equal(vring_device_peek(&ring, &burst, VRING_READABLE, 32), 3);
	assert_int_equal(burst.buffers[0].len, 183);
	assert_int_equal(burst.buffers[1].len, 123);
	assert_int_equal(burst.buffers[1].id, 1);
	assert_int_equal(burst.buffers[2].len, 183);
	guest_destroy(&guest);
}

/* Q7: parts on top of each other, so that used entries become descriptors and heads. Only survival is asked. */
static void survives_overlapping_ring_parts(void **state)
{
	uint64_t seed = seed_get();

	for (unsigned int round = 0; round < 2000; round++) {
		struct vring_config config;

		guest_create(&guest, 16, 0);
		config = guest_config(&guest);
		for (unsigned int i = 0; i < 256 / 8; i++)
			((uint64_t *)guest.desc)[i] = random_next(&seed) & 0x000f0007000000ffULL;
		config.avail = (uint8_t *)config.desc + 2 * random_below(&seed, 100);
		config.used = (uint8_t *)config.desc + 4 * random_below(&seed, 30);
		assert_int_equal(vring_device_init(&ring, &config), 0);
		for (unsigned int i = 0; i < 20; i++) {
			int n;

			*(uint16_t *)((uint8_t *)config.avail + 2) =
				(uint16_t)(ring.last_avail_idx + random_below(&seed, 17));
			n = vring_device_peek(&ring, &burst, VRING_READABLE, 32);
			if (n > 0)
				finish(&ring, &burst, (unsigned int)n);
			vring_device_needs_call(&ring);
		}
		guest_destroy(&guest);
	}
}

static void shows_again_what_was_not_returned(void **state)
{
	start(8, 65535);
	for (unsigned int i = 0; i < 5; i++) {
		guest_put(&guest, i, LOW, 60 + i, 0, 0);
		guest_offer(&guest, (uint16_t)i);
	}
	assert_int_equal(vring_device_peek(&ring, &burst, VRING_READABLE, 3), 3);
	assert_int_equal(vring_device_peek(&ring, &burst, VRING_READABLE, 32), 5);
	finish(&ring, &burst, 2);
	guest_expect_used(&guest, 0, 0);
	guest_expect_used(&guest, 1, 0);
	guest_expect_no_used(&guest);
	assert_int_equal(vring_device_peek(&ring, &burst, VRING_READABLE, 32), 3);
	assert_int_equal(burst.buffers[0].id, 2);
	assert_int_equal(burst.buffers[0].len, 62);
	assert_int_equal(vring_device_peek(&ring, &burst, VRING_READABLE, 0), 0);
	guest_destroy(&guest);
}

/* D50: however many were returned and in how many calls, the driver sees all or nothing. */
static void hides_returned_buffers_until_publish(void **state)
{
	start(8, 5);
	for (uint16_t i = 0; i < 6; i++) {
		guest_put(&guest, i, LOW, 60, 0, 0);
		guest_offer(&guest, i);
	}
	for (unsigned int n = 1; n <= 3; n++) {
		assert_int_equal(vring_device_peek(&ring, &burst, VRING_READABLE, n), n);
		vring_device_return(&ring, &burst, n);
		guest_expect_no_used(&guest);
	}
	vring_device_publish(&ring);
	for (uint16_t i = 0; i < 6; i++)
		guest_expect_used(&guest, i, 0);
	/* Nothing more to say. */
	vring_device_publish(&ring);
	guest_expect_no_used(&guest);
	guest_destroy(&guest);
}

/* Q40, D24: one bad chain at each place of a burst of 64 harms no other, and is given back empty. */
static void serves_good_buffers_around_a_bad_one(void **state)
{
	struct vring_desc before[64];

	for (unsigned int bad = 0; bad < 64; bad++) {
		start(64, 65500);
		for (unsigned int i = 0; i < 64; i++) {
			guest_put(&guest, i, i == bad ? HOLE : LOW + i * 100, 60 + i, 0, 0);
			guest_offer(&guest, (uint16_t)i);
		}
		memcpy(before, guest.parts[0].data, sizeof(before));
		assert_int_equal(vring_device_peek(&ring, &burst, VRING_READABLE, 64), 64);
		for (unsigned int i = 0; i < 64; i++) {
			const struct vring_buffer *buffer = &burst.buffers[i];

			assert_int_equal(buffer->id, i);
			assert_int_equal(buffer->fault, i == bad ? VRING_FAULT_ADDRESS : VRING_OK);
			assert_int_equal(buffer->len, i == bad ? 0 : 60 + i);
			assert_int_equal(buffer->n_pieces, i == bad ? 0 : 1);
		}
		assert_memory_equal(before, guest.parts[0].data, sizeof(before));
		finish(&ring, &burst, 64);
		for (unsigned int i = 0; i < 64; i++)
			guest_expect_used(&guest, (uint16_t)i, 0);
		assert_int_equal(ring.n_faults[VRING_FAULT_ADDRESS], 1);
		assert_int_equal(ring.breakage, VRING_INTACT);
		/* In a packed ring used descriptors take the places of available ones. */
		if (!guest.packed)
			assert_memory_equal(before, guest.desc, sizeof(before));
		guest_destroy(&guest);
	}
}

/* A buffer seen twice because it was not returned at first is one fault, not two. */
static void counts_a_fault_when_returned(void **state)
{
	start(8, 0);
	guest_put(&guest, 0, HOLE, 60, 0, 0);
	guest_offer(&guest, 0);
	assert_int_equal(vring_device_peek(&ring, &burst, VRING_READABLE, 32), 1);
	assert_int_equal(vring_device_peek(&ring, &burst, VRING_READABLE, 32), 1);
	finish(&ring, &burst, 1);
	assert_int_equal(ring.n_faults[VRING_FAULT_ADDRESS], 1);
	guest_destroy(&guest);
}

static void names_every_fault_and_breakage(void **state)
{
	for (unsigned int i = 0; i < VRING_N_FAULTS; i++)
		assert_non_null(vring_fault_name(i));
	for (unsigned int i = 0; i < VRING_N_BREAKAGES; i++)
		assert_non_null(vring_breakage_name(i));
	assert_string_equal(vring_fault_name(VRING_N_FAULTS), "unknown");
	assert_string_equal(vring_breakage_name(99), "unknown");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		SPLIT(refuses_sizes_that_are_no_power_of_two_or_too_large),
		PACKED(takes_packed_rings_of_any_size_and_places_inside_them),
		BOTH_LAYOUTS(refuses_misaligned_parts),
		BOTH_LAYOUTS(yields_nothing_from_an_empty_ring),
		BOTH_LAYOUTS(passes_the_wrap_with_every_size),
		BOTH_LAYOUTS(takes_a_full_ring),
		SPLIT(breaks_on_an_index_that_leads_too_far),
		SPLIT(breaks_on_a_head_outside_the_table),
		SPLIT(survives_the_same_head_twice_and_heads_inside_chains),
		SPLIT(survives_overlapping_ring_parts),
		BOTH_LAYOUTS(shows_again_what_was_not_returned),
		BOTH_LAYOUTS(hides_returned_buffers_until_publish),
		BOTH_LAYOUTS(serves_good_buffers_around_a_bad_one),
		BOTH_LAYOUTS(counts_a_fault_when_returned),
		SPLIT(names_every_fault_and_breakage),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
