/* SPDX-License-Identifier: BSD-3-Clause */
/* The driver end: bookkeeping, the rules of V20-V32, and a device that lies (V90-V93, E1). */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <vring/driver.h>

#include "guest.h"

static struct guest guest;
static struct vring_driver *driver;
static struct vring_completion done[64];

/* Tables at TOP: 4 KiB hold 16 slots of 16 descriptors. */
static void start_with(uint16_t size, bool in_order, uint16_t indirect_max)
{
	struct vring_driver_config config = {
		.size = size,
		.in_order = in_order,
		.indirect = indirect_max > 0,
		.indirect_max = indirect_max,
		.indirect_gpa = TOP,
	};

	guest_create(&guest, size, 99);
	memset(guest.desc, 0xa5, vring_desc_bytes(size));
	memset(guest.used, 0xa5, vring_used_bytes(size));
	config.desc = guest.desc;
	config.avail = guest.avail;
	config.used = guest.used;
	config.indirect_area = guest.mem->regions[4].hva;
	driver = vring_driver_create(&config);
	assert_non_null(driver);
}

static void start(uint16_t size)
{
	start_with(size, false, 0);
}

static void end(void)
{
	vring_driver_destroy(driver);
	guest_destroy(&guest);
}

static int post(unsigned int n_readable, unsigned int n_writable, uint32_t token)
{
	struct vring_extent extents[64];

	for (unsigned int i = 0; i < n_readable + n_writable; i++)
		extents[i] = (struct vring_extent){LOW + 256 * i, 100 + i};
	return vring_driver_post(driver, extents, n_readable, n_writable, token);
}

/* What a device writes. */
static void use(uint32_t id, uint32_t len)
{
	vring_used_elem_t *entry = &guest.used->ring[guest.used->idx & (guest.size - 1)];

	entry->id = id;
	entry->len = len;
	__atomic_store_n(&guest.used->idx, (uint16_t)(guest.used->idx + 1), __ATOMIC_RELEASE);
}

static void refuses_bad_sizes(void **state)
{
	const uint16_t bad[] = {0, 3, 100, 32769, 65535};

	for (unsigned int i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct vring_driver_config config = {.size = bad[i]};

		errno = 0;
		assert_null(vring_driver_create(&config));
		assert_int_equal(errno, EINVAL);
	}
}

static void zeroes_the_ring_at_start(void **state)
{
	start(8);
	assert_int_equal(guest.avail->idx, 0);
	assert_int_equal(guest.used->idx, 0);
	assert_int_equal(guest.used->flags, 0);
	assert_int_equal(guest.desc[7].addr, 0);
	end();
}

/* V21, V23 */
static void writes_readable_before_writable_descriptors(void **state)
{
	start(8);
	assert_int_equal(post(2, 1, 7), 0);
	assert_int_equal(guest.avail->idx, 0);
	vring_driver_publish(driver);
	assert_int_equal(guest.avail->idx, 1);
	assert_int_equal(guest.avail->ring[0], 0);
	assert_int_equal(guest.desc[0].flags, VRING_DESC_F_NEXT);
	assert_int_equal(guest.desc[1].flags, VRING_DESC_F_NEXT);
	assert_int_equal(guest.desc[2].flags, VRING_DESC_F_WRITE);
	assert_int_equal(guest.desc[2].addr, LOW + 512);
	assert_int_equal(guest.desc[2].len, 102);
	end();
}

static void refuses_what_is_no_buffer(void **state)
{
	const struct vring_extent huge[] = {{LOW, UINT32_MAX}, {LOW, 1}};

	start(8);
	assert_int_equal(post(0, 0, 0), -EINVAL);
	assert_int_equal(post(5, 4, 0), -EINVAL);
	assert_int_equal(vring_driver_post(driver, huge, 1, 1, 0), -EINVAL);
	assert_int_equal(post(4, 4, 0), 0);
	assert_int_equal(post(1, 0, 0), -ENOSPC);
	end();
	start_with(8, false, 4);
	assert_int_equal(post(3, 2, 0), -EINVAL);
	assert_int_equal(post(3, 1, 0), 0);
	end();
}

static void gives_tokens_and_descriptors_back(void **state)
{
	for (unsigned int in_order = 0; in_order < 2; in_order++) {
		start_with(16, in_order, 0);
		for (unsigned int lap = 0; lap < 20000; lap++) {
			unsigned int n_readable = 1 + lap % 3;
			uint16_t heads[16];
			uint32_t n = 0;

			while (post(n_readable, n & 1, lap * 100 + n) == 0) {
				vring_driver_publish(driver);
				heads[n] = guest.avail->ring[(guest.avail->idx - 1) & 15];
				n++;
			}
			assert_int_equal(vring_driver_outstanding(driver), n);
			assert_in_range(vring_driver_free(driver), 0, n_readable);
			for (unsigned int i = 0; i < n; i++)
				use(heads[i], 5);
			assert_int_equal(vring_driver_collect(driver, done, 3), 3);
			assert_int_equal(done[0].token, lap * 100);
			assert_int_equal(done[0].len, 0);
			assert_int_equal(done[1].len, 5);
			assert_int_equal(vring_driver_collect(driver, done, 64), n - 3);
			assert_int_equal(done[n - 4].token, lap * 100 + n - 1);
			assert_int_equal(vring_driver_free(driver), 16);
			assert_int_equal(vring_driver_outstanding(driver), 0);
		}
		end();
	}
}

static void takes_used_buffers_in_any_order(void **state)
{
	uint64_t seed = seed_get();

	start(32);
	for (unsigned int lap = 0; lap < 5000; lap++) {
		uint16_t heads[32];
		unsigned int n = 0;

		while (post(1 + random_below(&seed, 5), 0, 0) == 0) {
			vring_driver_publish(driver);
			heads[n++] = guest.avail->ring[(guest.avail->idx - 1) & 31];
		}
		for (unsigned int i = n; i > 0; i--) {
			unsigned int at = random_below(&seed, i);

			use(heads[at], 0);
			heads[at] = heads[i - 1];
		}
		assert_int_equal(vring_driver_collect(driver, done, 64), n);
		assert_int_equal(vring_driver_free(driver), 32);
	}
	end();
}

/* V25: next is one more, 0 for the last slot; heads follow each other. */
static void takes_slots_in_order_when_in_order(void **state)
{
	unsigned int slot = 0;

	start_with(8, true, 0);
	for (unsigned int i = 0; i < 1000; i++) {
		unsigned int n = 1 + i % 5;

		assert_int_equal(post(n, 0, i), 0);
		vring_driver_publish(driver);
		assert_int_equal(guest.avail->ring[i & 7], slot);
		for (unsigned int d = 0; d + 1 < n; d++)
			assert_int_equal(guest.desc[(slot + d) & 7].next, (slot + d + 1) & 7);
		use(slot, 0);
		assert_int_equal(vring_driver_collect(driver, done, 8), 1);
		assert_int_equal(done[0].token, i);
		slot = (slot + n) & 7;
	}
	end();
}

/* D80: one entry, where the first would be, names the last; those passed over count as used completely (D82). */
static void understands_batched_used_entries(void **state)
{
	uint64_t seed = seed_get();
	unsigned int slot = 0;
	uint32_t token = 0;
	uint32_t expected = 0;

	start_with(16, true, 0);
	for (unsigned int lap = 0; lap < 20000; lap++) {
		unsigned int n = 1 + random_below(&seed, 8);
		unsigned int max = 1 + random_below(&seed, 10);
		unsigned int got = 0;
		uint32_t last = 0;

		for (unsigned int i = 0; i < n; i++) {
			last = slot;
			assert_int_equal(post(0, 2, token++), 0);
			slot = (slot + 2) & 15;
		}
		vring_driver_publish(driver);
		guest.used->ring[guest.used->idx & 15] = (vring_used_elem_t){last, 77};
		guest.used->idx = (uint16_t)(guest.used->idx + n);
		while (got < n) {
			int k = vring_driver_collect(driver, done, max);

			assert_in_range(k, 1, max);
			for (int i = 0; i < k; i++, got++) {
				assert_int_equal(done[i].token, expected++);
				assert_int_equal(done[i].len, got + 1 == n ? 77 : 201);
			}
		}
		assert_int_equal(vring_driver_collect(driver, done, 64), 0);
		assert_int_equal(vring_driver_free(driver), 16);
	}
	end();
}

static void breaks_on_a_batch_longer_than_the_index_grew(void **state)
{
	start_with(8, true, 0);
	for (unsigned int i = 0; i < 4; i++)
		assert_int_equal(post(1, 0, i), 0);
	vring_driver_publish(driver);
	guest.used->ring[0] = (vring_used_elem_t){2, 0};
	guest.used->idx = 2;
	assert_int_equal(vring_driver_collect(driver, done, 8), -EPROTO);
	end();
}

/* V24: a table of its own per buffer, sequential, never more than the head in the ring. */
static void puts_long_buffers_into_tables(void **state)
{
	const struct vring_desc *table;

	start_with(8, true, 16);
	assert_int_equal(post(1, 0, 0), 0);
	assert_int_equal(post(2, 1, 1), 0);
	assert_int_equal(vring_driver_free(driver), 6);
	assert_int_equal(guest.desc[0].flags, 0);
	assert_int_equal(guest.desc[1].flags, VRING_DESC_F_INDIRECT);
	assert_int_equal(guest.desc[1].addr, TOP + 256);
	assert_int_equal(guest.desc[1].len, 48);
	table = (const struct vring_desc *)(guest.mem->regions[4].hva + 256);
	assert_int_equal(table[0].flags, VRING_DESC_F_NEXT);
	assert_int_equal(table[0].next, 1);
	assert_int_equal(table[1].next, 2);
	assert_int_equal(table[2].flags, VRING_DESC_F_WRITE);
	end();
}

/* V90 */
static void breaks_on_ids_that_are_not_outstanding(void **state)
{
	for (uint32_t id = 0; id < 70000; id += id < 20 ? 1 : 997) {
		start(8);
		assert_int_equal(post(2, 0, 5), 0); /* head 0, tail 1 */
		vring_driver_publish(driver);
		use(id, 0);
		assert_int_equal(vring_driver_collect(driver, done, 8), id == 0 ? 1 : -EPROTO);
		assert_int_equal(vring_driver_collect(driver, done, 8), id == 0 ? 0 : -EPROTO);
		end();
	}
	start(8);
	assert_int_equal(post(1, 0, 5), 0);
	assert_int_equal(post(1, 0, 6), 0);
	vring_driver_publish(driver);
	use(0, 0);
	use(0, 0);
	/* The first is true and handed out, the second a lie. */
	assert_int_equal(vring_driver_collect(driver, done, 8), 1);
	assert_int_equal(vring_driver_collect(driver, done, 8), -EPROTO);
	end();
}

/* V91, V32 */
static void clamps_lengths_to_what_was_posted(void **state)
{
	const uint32_t lens[] = {0, 1, 203, 204, 0x7fffffff, 0xffffffff};

	start(8);
	for (unsigned int i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
		assert_int_equal(post(1, 2, 0), 0); /* 101 + 102 writable */
		vring_driver_publish(driver);
		use(guest.avail->ring[i], lens[i]);
		assert_int_equal(vring_driver_collect(driver, done, 8), 1);
		assert_int_equal(done[0].len, lens[i] < 203 ? lens[i] : 203);
	}
	end();
}

/* V92 */
static void breaks_on_an_index_beyond_what_is_outstanding(void **state)
{
	const uint16_t jumps[] = {3, 8, 9, 32768, 65535};

	for (unsigned int i = 0; i < sizeof(jumps) / sizeof(jumps[0]); i++) {
		start(8);
		assert_int_equal(post(1, 0, 0), 0);
		assert_int_equal(post(1, 0, 0), 0);
		vring_driver_publish(driver);
		guest.used->idx = jumps[i];
		assert_int_equal(vring_driver_collect(driver, done, 8), -EPROTO);
		guest.used->idx = 0;
		assert_int_equal(vring_driver_collect(driver, done, 8), -EPROTO);
		end();
	}
	/* Posted and not published: the device cannot have used it. */
	start(8);
	assert_int_equal(post(1, 0, 0), 0);
	use(0, 0);
	assert_int_equal(vring_driver_collect(driver, done, 8), -EPROTO);
	end();
}

/* V93: all the ring is scribbled over between any two steps; ids and indices alone stay true. */
static void relies_on_nothing_it_wrote_into_the_ring(void **state)
{
	uint64_t seed = seed_get();
	uint32_t expected = 0;
	uint32_t token = 0;

	start(16);
	for (unsigned int i = 0; i < 100000; i++) {
		uint16_t used_idx = guest.used->idx;
		uint16_t head;

		while (post(3, 0, token) == 0)
			token++;
		vring_driver_publish(driver);
		head = guest.avail->ring[i % 16];
		for (unsigned int w = 0; w < 32; w++)
			((uint64_t *)guest.desc)[w] = random_next(&seed);
		use(head, 0);
		assert_int_equal(guest.used->idx, (uint16_t)(used_idx + 1));
		assert_int_equal(vring_driver_collect(driver, done, 8), 1);
		assert_int_equal(done[0].token, expected++);
	}
	end();
}

/* Random used entries for ever: any answer, but no crash, and the count of descriptors holds. */
static void survives_a_device_that_writes_noise(void **state)
{
	uint64_t seed = seed_get();

	for (unsigned int round = 0; round < 3000; round++) {
		bool in_order = round & 1;

		start_with(16, in_order, round & 2 ? 16 : 0);
		for (unsigned int i = 0; i < 50; i++) {
			int n;

			while (post(random_below(&seed, 4), random_below(&seed, 4), 0) == 0 &&
				random_below(&seed, 8) != 0)
				;
			vring_driver_publish(driver);
			for (unsigned int e = 0; e < 16; e++)
				guest.used->ring[e] =
					(vring_used_elem_t){random_below(&seed, 17),
						(uint32_t)random_next(&seed)};
			guest.used->idx = (uint16_t)(guest.used->idx + random_below(&seed, 4));
			n = vring_driver_collect(driver, done, 64);
			assert_true(n == -EPROTO || (n >= 0 && n <= 64));
			assert_in_range(vring_driver_free(driver), 0, 16);
			vring_driver_needs_kick(driver);
		}
		end();
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(refuses_bad_sizes),
		cmocka_unit_test(zeroes_the_ring_at_start),
		cmocka_unit_test(writes_readable_before_writable_descriptors),
		cmocka_unit_test(refuses_what_is_no_buffer),
		cmocka_unit_test(gives_tokens_and_descriptors_back),
		cmocka_unit_test(takes_used_buffers_in_any_order),
		cmocka_unit_test(takes_slots_in_order_when_in_order),
		cmocka_unit_test(understands_batched_used_entries),
		cmocka_unit_test(breaks_on_a_batch_longer_than_the_index_grew),
		cmocka_unit_test(puts_long_buffers_into_tables),
		cmocka_unit_test(breaks_on_ids_that_are_not_outstanding),
		cmocka_unit_test(clamps_lengths_to_what_was_posted),
		cmocka_unit_test(breaks_on_an_index_beyond_what_is_outstanding),
		cmocka_unit_test(relies_on_nothing_it_wrote_into_the_ring),
		cmocka_unit_test(survives_a_device_that_writes_noise),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
