/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What is peculiar to the packed ring (D41-D52, D81, P1-P7): who owns a descriptor and from when on, whose id is returned
 * and where, and chains that have no end. What it shares with the split ring is in the other files.
 */
#include <errno.h>
#include <string.h>

#include "guest.h"

#define N VRING_DESC_F_NEXT
#define W VRING_DESC_F_WRITE
#define I VRING_DESC_F_INDIRECT

#define AVAIL (1 << VRING_PACKED_DESC_F_AVAIL)
#define USED  (1 << VRING_PACKED_DESC_F_USED)

static struct guest guest;
static struct vring_device ring;
static struct vring_burst burst;

static void start_with(uint16_t size, uint16_t idx, bool in_order)
{
	struct vring_config config;

	guest_create(&guest, size, idx);
	config = guest_config(&guest);
	config.in_order = in_order;
	assert_int_equal(vring_device_init(&ring, &config), 0);
}

static void start(uint16_t size, uint16_t idx)
{
	start_with(size, idx, false);
}

/* n available buffers of one readable descriptor in slots 0..n, with ids 100.. */
static void offer_plain(unsigned int n)
{
	for (unsigned int i = 0; i < n; i++)
		guest_put_slot(&guest, i, LOW, 60 + i, (uint16_t)(100 + i), AVAIL);
}

/* D42, P7 */
static void takes_descriptors_of_its_lap_only(void **state)
{
	static const uint16_t flags[] = {0, AVAIL, USED, AVAIL | USED};

	for (unsigned int lap = 0; lap < 2; lap++) {
		for (unsigned int i = 0; i < 4; i++) {
			bool is_available = flags[i] == (lap == 0 ? AVAIL : USED);

			start(8, (uint16_t)(lap * 8));
			for (unsigned int slot = 0; slot < 8; slot++)
				guest_put_slot(&guest, slot, LOW, 60, 0, flags[i]);
			assert_int_equal(vring_device_has_available(&ring), is_available);
			assert_int_equal(vring_device_backlog(&ring), is_available ? 8 : 0);
			assert_int_equal(vring_device_peek(&ring, &burst, VRING_READABLE, 32),
				is_available ? 8 : 0);
			guest_destroy(&guest);
		}
	}
}

/* P7: one slot spoilt hides those behind it, and no more. */
static void stops_at_a_slot_with_a_wrong_wrap_bit(void **state)
{
	static const uint16_t wrong[] = {0, USED, AVAIL | USED};

	for (unsigned int at = 0; at < 8; at++) {
		for (unsigned int i = 0; i < 3; i++) {
			start(8, 0);
			offer_plain(8);
			guest_put_slot(&guest, at, LOW, 60, 100, wrong[i]);
			assert_int_equal(
				vring_device_peek(&ring, &burst, VRING_READABLE, 32), at);
			assert_int_equal(vring_device_backlog(&ring), at);
			guest_destroy(&guest);
		}
	}
}

/* P1 */
static void refuses_each_slot_of_a_batch_bad_in_each_way(void **state)
{
	static const struct {
		uint64_t gpa;
		uint32_t len;
		uint16_t flags;
		enum vring_fault fault;
	} bad[] = {
		{LOW, 0, 0, VRING_FAULT_LENGTH}, {HOLE, 60, 0, VRING_FAULT_ADDRESS},
		{0, 60, 0, VRING_FAULT_ADDRESS}, {LOW, 60, W, VRING_FAULT_DIRECTION},
		{LOW, 60, I, VRING_FAULT_INDIRECT}, {HOLE, 16, I, VRING_FAULT_ADDRESS},
		{UINT64_MAX, 60, 0, VRING_FAULT_ADDRESS}, {LOW, UINT32_MAX, 0, VRING_FAULT_ADDRESS},
	};

	for (unsigned int at = 0; at < 16; at++) {
		for (unsigned int i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
			start(16, 0);
			offer_plain(16);
			guest_put_slot(&guest, at, bad[i].gpa, bad[i].len, 7, AVAIL | bad[i].flags);
			assert_int_equal(
				vring_device_peek(&ring, &burst, VRING_READABLE, 32), 16);
			for (unsigned int b = 0; b < 16; b++) {
				const struct vring_buffer *buffer = &burst.buffers[b];

				assert_int_equal(buffer->fault, b == at ? bad[i].fault : VRING_OK);
				assert_int_equal(buffer->id, b == at ? 7 : 100 + b);
				assert_int_equal(buffer->len, b == at ? 0 : 60 + b);
				assert_int_equal(buffer->n_descs, 1);
			}
			guest_destroy(&guest);
		}
	}
}

/* P2, D49 */
static void returns_any_id_unchanged(void **state)
{
	start(3, 0);
	for (uint32_t id = 0; id < 65536; id++) {
		uint16_t position = (uint16_t)vring_device_position(&ring);
		uint16_t slot = vring_packed_slot(position);

		guest_put_slot(&guest, slot, LOW, 60, (uint16_t)id, guest_avail_flags(position));
		assert_int_equal(vring_device_peek(&ring, &burst, VRING_READABLE, 32), 1);
		finish(&ring, &burst, 1);
		assert_int_equal(guest.slots[slot].id, id);
	}
	guest_destroy(&guest);
}

/*
 * P3, P4, D41, D44, D46, D47: a chain of each length from each slot of a small ring. The id is right in the last descriptor
 * only, and the used descriptor lies where the first was; the next one follows behind the whole chain.
 */
static void takes_chains_of_any_length_across_the_end(void **state)
{
	for (uint16_t size = 1; size <= 9; size++) {
		for (unsigned int first = 0; first < 2u * size; first++) {
			for (unsigned int n = 1; n <= size; n++) {
				uint16_t position;

				start(size, (uint16_t)first);
				position = guest.avail_position;
				for (unsigned int i = 0; i < n; i++)
					guest_put(&guest, i, LOW + i * 100, 10 + i,
						i + 1 < n ? N : 0, (uint16_t)(i + 1));
				guest_offer(&guest, 0);
				assert_int_equal(
					vring_device_peek(&ring, &burst, VRING_READABLE, 32), 1);
				assert_int_equal(burst.buffers[0].id, 0);
				assert_int_equal(burst.buffers[0].n_descs, n);
				assert_int_equal(burst.buffers[0].n_pieces, n);
				for (unsigned int i = 0; i < n; i++)
					assert_int_equal(burst.buffers[0].pieces[i].len, 10 + i);
				finish(&ring, &burst, 1);
				guest_expect_used(&guest, 0, 0);
				guest_expect_no_used(&guest);
				assert_int_equal(ring.used_idx, vring_packed_advance(position, n, size));
				assert_int_equal(ring.last_avail_idx, ring.used_idx);
				assert_false(vring_device_has_available(&ring));
				guest_destroy(&guest);
			}
		}
	}
}

/* A whole lap is the most there can be: behind it the same descriptors come again. */
static void goes_around_once_at_most(void **state)
{
	for (uint16_t size = 1; size <= 9; size++) {
		start(size, 0);
		offer_plain(size);
		assert_int_equal(vring_device_peek(&ring, &burst, VRING_READABLE, 100), size);
		for (unsigned int i = 0; i < size; i++)
			assert_int_equal(burst.buffers[i].id, 100 + i);
		guest_destroy(&guest);
	}
}

/* P6, D52: bounded, and the good ones before are served first. */
static void breaks_on_a_chain_without_an_end(void **state)
{
	const uint16_t sizes[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 255, 256, 257, 32768};

	for (unsigned int s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
		for (unsigned int n_good = 0; n_good < 3 && n_good < sizes[s]; n_good++) {
			start(sizes[s], 0);
			for (unsigned int i = 0; i < sizes[s]; i++)
				guest_put_slot(&guest, i, LOW, 1, 5, AVAIL | (i < n_good ? 0 : N));
			assert_true(vring_device_has_available(&ring));
			if (n_good > 0) {
				assert_int_equal(vring_device_peek(&ring, &burst, VRING_READABLE, 32),
					n_good);
				finish(&ring, &burst, n_good);
			}
			assert_int_equal(
				vring_device_peek(&ring, &burst, VRING_READABLE, 32), -EPROTO);
			assert_int_equal(ring.breakage, VRING_BROKEN_CHAIN);
			assert_int_equal(burst.n, 0);
			assert_false(vring_device_has_available(&ring));
			assert_int_equal(vring_device_backlog(&ring), 0);
			assert_int_equal(vring_device_position(&ring),
				guest_position(&guest, n_good));
			guest_destroy(&guest);
		}
	}
}

/* P6: whichever follower is missing, and whatever its flags are instead. */
static void breaks_on_a_follower_that_is_not_available(void **state)
{
	static const uint16_t stale[] = {0, USED, AVAIL | USED};

	for (unsigned int first = 0; first < 8; first++) {
		for (unsigned int n = 2; n <= 8; n++) {
			for (unsigned int i = 0; i < 3; i++) {
				unsigned int missing = (first + n - 1) % 8;
				uint16_t position;

				start(8, (uint16_t)first);
				position = guest.avail_position;
				for (unsigned int d = 0; d < n; d++) {
					guest_put_slot(&guest, vring_packed_slot(position), LOW, 60, 3,
						guest_avail_flags(position) | (d + 1 < n ? N : 0));
					position = vring_packed_advance(position, 1, 8);
				}
				/* Behind the end "used" and "available" have changed places. */
				guest_put_slot(&guest, missing, LOW, 60, 3,
					missing < first && stale[i] == USED ? AVAIL : stale[i]);
				assert_int_equal(vring_device_peek(&ring, &burst, VRING_READABLE, 32),
					-EPROTO);
				assert_int_equal(ring.breakage, VRING_BROKEN_CHAIN);
				guest_destroy(&guest);
			}
		}
	}
}

/* A fault costs the buffer only: its end is looked for, its id returned, and the next one found. */
static void returns_a_bad_chain_by_the_id_at_its_end(void **state)
{
	static const struct {
		uint64_t gpa;
		uint32_t len;
		uint16_t flags;
		enum vring_fault fault;
	} bad[] = {
		{HOLE, 60, 0, VRING_FAULT_ADDRESS}, {LOW, 60, W, VRING_FAULT_DIRECTION},
		{LOW, 60, I, VRING_FAULT_INDIRECT}, {LOW, 16, I, VRING_FAULT_INDIRECT},
	};

	for (unsigned int i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		for (unsigned int at = 0; at < 5; at++) {
			/* An indirect descriptor may be the last one (D71). */
			enum vring_fault fault = bad[i].len == 16 && at == 4 ? VRING_OK : bad[i].fault;

			start(8, 0);
			guest_put_in_table(&guest, LOW, 0, LOW, 60, 0, 0);
			for (unsigned int d = 0; d < 5; d++)
				guest_put_slot(&guest, d, d == at ? bad[i].gpa : LOW,
					d == at ? bad[i].len : 60, d == 4 ? 0x1234 : 0xffff,
					AVAIL | (d < 4 ? N : 0) | (d == at ? bad[i].flags : 0));
			guest_put_slot(&guest, 5, LOW, 61, 9, AVAIL);
			assert_int_equal(vring_device_peek(&ring, &burst, VRING_READABLE, 32), 2);
			assert_int_equal(burst.buffers[0].fault, fault);
			assert_int_equal(burst.buffers[0].id, 0x1234);
			assert_int_equal(burst.buffers[0].n_descs, 5);
			assert_int_equal(burst.buffers[1].fault, VRING_OK);
			assert_int_equal(burst.buffers[1].id, 9);
			finish(&ring, &burst, 2);
			assert_int_equal(guest.slots[0].id, 0x1234);
			assert_int_equal(guest.slots[5].id, 9);
			assert_int_equal(vring_device_position(&ring), guest_position(&guest, 6));
			guest_destroy(&guest);
		}
	}
}

/* D72: in a table only WRITE means anything; put otherwise, any other bit changes nothing. */
static void ignores_all_flags_of_table_entries_but_write(void **state)
{
	start(8, 0);
	for (uint32_t flags = 0; flags < 65536; flags++) {
		uint16_t position = (uint16_t)vring_device_position(&ring);
		const struct vring_packed_desc entries[2] = {
			{.addr = LOW, .len = 40, .id = (uint16_t)~flags, .flags = (uint16_t)flags},
			{.addr = LOW, .len = 20, .id = (uint16_t)flags, .flags = (uint16_t)(~flags & ~W)},
		};

		guest_write(&guest, HIGH, entries, sizeof(entries));
		guest_put_slot(&guest, vring_packed_slot(position), HIGH, sizeof(entries), 6,
			I | guest_avail_flags(position));
		assert_int_equal(vring_device_peek(&ring, &burst, VRING_READABLE, 32), 1);
		assert_int_equal(burst.buffers[0].fault, flags & W ? VRING_FAULT_DIRECTION : VRING_OK);
		assert_int_equal(burst.buffers[0].len, flags & W ? 0 : 60);
		assert_int_equal(burst.buffers[0].n_descs, 1);
		finish(&ring, &burst, 1);
	}
	guest_destroy(&guest);
}

/* Q12: no bit but the five is looked at. */
static void ignores_unknown_flags(void **state)
{
	start(8, 0);
	for (uint32_t flags = 0; flags < 65536; flags++) {
		uint16_t position = (uint16_t)vring_device_position(&ring);
		uint16_t unknown = (uint16_t)(flags & ~(N | W | I | AVAIL | USED));

		guest_put_slot(&guest, vring_packed_slot(position), LOW, 60, 6,
			unknown | guest_avail_flags(position));
		assert_int_equal(vring_device_peek(&ring, &burst, VRING_READABLE, 32), 1);
		assert_int_equal(burst.buffers[0].fault, VRING_OK);
		finish(&ring, &burst, 1);
	}
	guest_destroy(&guest);
}

/* D50: of a burst only the first keeps its flags back, and it is the one the driver waits for. */
static void marks_the_first_descriptor_last(void **state)
{
	for (unsigned int first = 0; first < 7; first++) {
		uint16_t places[3];

		start(7, (uint16_t)first);
		for (uint16_t i = 0; i < 3; i++) {
			places[i] = guest.avail_position;
			guest_put(&guest, i, LOW, 60, W, 0);
			guest_offer(&guest, i);
		}
		assert_int_equal(vring_device_peek(&ring, &burst, VRING_WRITABLE, 32), 3);
		for (unsigned int i = 0; i < 3; i++)
			burst.buffers[i].used_len = 20 + i;
		vring_device_return(&ring, &burst, 3);
		assert_int_equal(guest.slots[vring_packed_slot(places[0])].flags,
			guest_avail_flags(places[0]) | W);
		for (unsigned int i = 1; i < 3; i++)
			assert_int_equal(guest.slots[vring_packed_slot(places[i])].flags,
				(vring_packed_wrap(places[i]) ? AVAIL | USED : 0) | W);
		vring_device_publish(&ring);
		for (uint16_t i = 0; i < 3; i++)
			guest_expect_used(&guest, i, 20u + i);
		guest_destroy(&guest);
	}
}

/* D45: once published a descriptor is the driver's, which uses it again at once. */
static void never_touches_a_descriptor_after_it_is_published(void **state)
{
	start(4, 0);
	for (uint16_t i = 0; i < 400; i++) {
		struct vring_packed_desc before[4];
		uint16_t position = (uint16_t)vring_device_position(&ring);
		uint16_t slot = vring_packed_slot(position);

		guest_put_slot(&guest, slot, LOW, 60, i, guest_avail_flags(position));
		assert_int_equal(vring_device_peek(&ring, &burst, VRING_READABLE, 32), 1);
		finish(&ring, &burst, 1);
		guest_put_slot(&guest, slot, 0x5a5a5a5a5a5a5a5a, 0x5a5a5a5a, 0x5a5a,
			guest_avail_flags((uint16_t)(position ^ VRING_PACKED_START)) | N);
		memcpy(before, guest.slots, sizeof(before));
		vring_device_publish(&ring);
		vring_device_return(&ring, &burst, 0);
		vring_device_publish(&ring);
		vring_device_needs_call(&ring);
		vring_device_set_kick(&ring, i & 1);
		vring_device_has_available(&ring);
		assert_memory_equal(before, guest.slots, sizeof(before));
	}
	guest_destroy(&guest);
}

/* D48 */
static void says_write_for_writable_buffers_only(void **state)
{
	for (unsigned int writable = 0; writable < 2; writable++) {
		struct guest_used used;

		start(4, 0);
		for (uint16_t i = 0; i < 3; i++) {
			guest_put(&guest, i, i == 1 ? HOLE : LOW, 60, writable ? W : 0, 0);
			guest_offer(&guest, i);
		}
		assert_int_equal(vring_device_peek(&ring, &burst,
					 writable ? VRING_WRITABLE : VRING_READABLE, 32),
			3);
		burst.buffers[0].used_len = writable ? 33 : 0;
		finish(&ring, &burst, 3);
		for (uint16_t i = 0; i < 3; i++) {
			assert_true(guest_take_used(&guest, &used));
			assert_int_equal(used.is_written, writable);
			assert_int_equal(used.len, i == 0 && writable ? 33 : 0);
		}
		guest_destroy(&guest);
	}
}

/* D81, P8: readable buffers share one, in the first's place and with the last's id; refused ones do not take part. */
static void lets_one_descriptor_stand_for_a_batch_in_order(void **state)
{
	/* Which buffers of six are bad, and which of them then have a used descriptor. */
	static const struct {
		uint8_t bad;
		uint8_t n;
		uint8_t slots[6];
		uint8_t ids[6];
	} cases[] = {
		{0, 1, {0}, {5}},
		{1 << 2, 3, {0, 2, 3}, {1, 2, 5}},
		{1 << 0, 2, {0, 1}, {0, 5}},
		{1 << 5, 2, {0, 5}, {4, 5}},
		{1 << 2 | 1 << 3, 4, {0, 2, 3, 4}, {1, 2, 3, 5}},
		{0x3f, 6, {0, 1, 2, 3, 4, 5}, {0, 1, 2, 3, 4, 5}},
	};

	for (unsigned int i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		for (uint16_t first = 0; first < 16; first++) {
			uint16_t begin;

			start_with(8, first, true);
			begin = guest.avail_position;
			for (uint16_t b = 0; b < 6; b++) {
				guest_put(&guest, b, cases[i].bad >> b & 1 ? HOLE : LOW, 60, 0, 0);
				guest_offer(&guest, b);
			}
			assert_int_equal(vring_device_peek(&ring, &burst, VRING_READABLE, 32), 6);
			finish(&ring, &burst, 6);
			for (unsigned int u = 0; u < cases[i].n; u++) {
				uint16_t next = u + 1 < cases[i].n ? cases[i].slots[u + 1] : 6;

				guest.used_position = vring_packed_advance(begin, cases[i].slots[u], 8);
				guest_expect_used(&guest, cases[i].ids[u], 0);
				guest.used_position = vring_packed_advance(begin, next, 8);
			}
			guest_expect_no_used(&guest);
			assert_int_equal(vring_device_position(&ring),
				guest_position(&guest, first + 6u));
			guest_destroy(&guest);
		}
	}
}

/* D82: a driver wants the length of every buffer that was written to. */
static void writes_every_length_also_in_order(void **state)
{
	start_with(8, 3, true);
	for (uint16_t i = 0; i < 6; i++) {
		guest_put(&guest, i, LOW, 60, W, 0);
		guest_offer(&guest, i);
	}
	assert_int_equal(vring_device_peek(&ring, &burst, VRING_WRITABLE, 32), 6);
	for (unsigned int i = 0; i < 6; i++)
		burst.buffers[i].used_len = 20 + i;
	finish(&ring, &burst, 6);
	for (uint16_t i = 0; i < 6; i++)
		guest_expect_used(&guest, i, 20u + i);
	guest_expect_no_used(&guest);
	guest_destroy(&guest);
}

/* D44: two places, for whoever served the ring before may have taken more than it gave back. */
static void writes_where_used_descriptors_go_and_reads_where_available_ones_are(void **state)
{
	struct vring_config config;

	guest_create(&guest, 5, 0);
	config = guest_config(&guest);
	config.avail_idx = (uint16_t)guest_position(&guest, 3);
	assert_int_equal(vring_device_init(&ring, &config), 0);
	for (unsigned int slot = 0; slot < 5; slot++)
		guest_put_slot(&guest, slot, LOW, 60, (uint16_t)slot, AVAIL);
	assert_int_equal(vring_device_peek(&ring, &burst, VRING_READABLE, 32), 2);
	assert_int_equal(burst.buffers[0].id, 3);
	finish(&ring, &burst, 2);
	assert_int_equal(guest.slots[0].id, 3);
	assert_int_equal(guest.slots[0].flags, AVAIL | USED);
	assert_int_equal(guest.slots[1].id, 4);
	assert_int_equal(guest.slots[2].flags, AVAIL);
	assert_int_equal(vring_device_position(&ring),
		(guest_position(&guest, 5) & 0xffff) | (guest_position(&guest, 2) & 0xffff) << 16);
	guest_destroy(&guest);
}

/* Noise in every part, and parts on top of each other: only survival is asked, and that work is bounded. */
static void survives_noise_and_overlapping_parts(void **state)
{
	uint64_t seed = seed_get();

	for (unsigned int round = 0; round < 2000; round++) {
		struct vring_config config;

		start((uint16_t)(1 + random_below(&seed, 16)), (uint16_t)random_next(&seed));
		config = guest_config(&guest);
		config.avail = (uint8_t *)config.desc + 4 * random_below(&seed, 4u * guest.size);
		config.used = (uint8_t *)config.desc + 4 * random_below(&seed, 4u * guest.size);
		config.event_idx = round & 1;
		config.in_order = round & 2;
		assert_int_equal(vring_device_init(&ring, &config), 0);
		for (unsigned int i = 0; i < 50; i++) {
			enum vring_direction direction = i & 1 ? VRING_READABLE : VRING_WRITABLE;
			int n;

			for (unsigned int s = 0; s < guest.size; s++)
				guest_put_slot(&guest, s, LOW + random_below(&seed, 0x12000),
					random_below(&seed, 300), (uint16_t)random_next(&seed),
					(uint16_t)(random_next(&seed) & (N | W | I | AVAIL | USED)));
			n = vring_device_peek(&ring, &burst, direction, 32);
			assert_true(n <= guest.size);
			if (n > 0)
				finish(&ring, &burst, (unsigned int)n);
			vring_device_needs_call(&ring);
			vring_device_set_kick(&ring, i & 4);
			if (n < 0)
				assert_int_equal(vring_device_init(&ring, &config), 0);
		}
		guest_destroy(&guest);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		PACKED(takes_descriptors_of_its_lap_only),
		PACKED(stops_at_a_slot_with_a_wrong_wrap_bit),
		PACKED(refuses_each_slot_of_a_batch_bad_in_each_way),
		PACKED(returns_any_id_unchanged),
		PACKED(takes_chains_of_any_length_across_the_end),
		PACKED(goes_around_once_at_most),
		PACKED(breaks_on_a_chain_without_an_end),
		PACKED(breaks_on_a_follower_that_is_not_available),
		PACKED(returns_a_bad_chain_by_the_id_at_its_end),
		PACKED(ignores_all_flags_of_table_entries_but_write),
		PACKED(ignores_unknown_flags),
		PACKED(marks_the_first_descriptor_last),
		PACKED(never_touches_a_descriptor_after_it_is_published),
		PACKED(says_write_for_writable_buffers_only),
		PACKED(lets_one_descriptor_stand_for_a_batch_in_order),
		PACKED(writes_every_length_also_in_order),
		PACKED(writes_where_used_descriptors_go_and_reads_where_available_ones_are),
		PACKED(survives_noise_and_overlapping_parts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
