/* SPDX-License-Identifier: BSD-3-Clause */
/* Buffers that never change in a packed ring: against a plain device, a lying one, and one that dies half-way. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <vring/fixed.h>

#include "packed_model.h"

#define BUFFER 256u

static struct model model;
static struct vring_fixed ring;
static struct vring_packed_desc *tables;
static uint16_t used[512];
static uint32_t lens[512];

static void start(uint16_t size, uint16_t n_chain, bool writable, bool in_order, bool indirect, bool event_idx)
{
	struct vring_fixed_config config = {
		.size = size,
		.n_chain = n_chain,
		.packed = true,
		.writable = writable,
		.in_order = in_order,
		.indirect = indirect,
		.event_idx = event_idx,
		.tables_gpa = 0x5000,
	};

	model_create(&model, size);
	tables = calloc((size_t)size * n_chain, sizeof(*tables));
	assert_non_null(tables);
	config.desc = model.desc;
	config.avail = model.driver_event;
	config.used = model.device_event;
	config.tables = (struct vring_desc *)tables;
	assert_int_equal(vring_fixed_init(&ring, &config), 0);
	for (unsigned int slot = 0; slot < ring.n_slots; slot++)
		vring_fixed_describe(&ring, slot, 0x100000 + slot * BUFFER, BUFFER);
}

static void end(void)
{
	vring_fixed_fini(&ring);
	free(tables);
	model_destroy(&model);
}

static void offer_all(void)
{
	for (uint16_t slot = 0; slot < ring.n_slots; slot++)
		vring_fixed_offer(&ring, &slot, 1);
	vring_fixed_publish(&ring);
}

static void assert_is_slot(const struct model_buffer *buffer, unsigned int slot, unsigned int n_chain)
{
	assert_int_equal(buffer->id, slot);
	assert_int_equal(buffer->n_descs, n_chain);
	for (unsigned int i = 0; i < n_chain; i++) {
		assert_int_equal(buffer->descs[i].addr, 0x100000 + slot * BUFFER + i * (BUFFER / n_chain));
		assert_int_equal(buffer->descs[i].len, BUFFER / n_chain);
		assert_int_equal(buffer->descs[i].id, slot);
	}
}

static void buffers_go_round_in_rings_of_any_size(void **state)
{
	static const uint16_t sizes[] = {1, 2, 3, 5, 7, 8, 9, 255, 257};
	uint64_t seed = seed_get();

	for (unsigned int s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++)
		for (unsigned int kind = 0; kind < 4; kind++) {
			unsigned int n_chain = kind & 1 && sizes[s] >= 4 ? 4 : 1;
			bool in_order = kind & 2;

			start(sizes[s], (uint16_t)n_chain, false, in_order, false, false);
			assert_int_equal(ring.n_slots, sizes[s] / n_chain);
			offer_all();
			/* Past the wrap of the 16-bit counters. */
			for (unsigned int round = 0, n_used = 0; n_used < 70000; round++) {
				unsigned int n = 1 + random_below(&seed, ring.n_slots);
				uint16_t slots[512];

				for (unsigned int i = 0; i < n; i++) {
					struct model_buffer buffer = model_take(&model);

					assert_is_slot(&buffer, buffer.id, n_chain);
					if (in_order)
						assert_int_equal(buffer.id, (n_used + i) % ring.n_slots);
					slots[i] = buffer.id;
				}
				for (unsigned int i = n; i > 0; i--) {
					unsigned int at = in_order ? n - i : random_below(&seed, i);

					model_use(&model, slots[at], 0, n_chain);
					if (!in_order)
						slots[at] = slots[i - 1];
				}
				assert_int_equal(vring_fixed_pending(&ring), n);
				assert_int_equal(vring_fixed_collect(&ring, used, lens, 512), n);
				assert_int_equal(vring_fixed_outstanding(&ring), ring.n_slots - n);
				for (unsigned int i = 0; i < n; i++)
					slots[i] = used[i];
				vring_fixed_offer(&ring, slots, n);
				vring_fixed_publish(&ring);
				n_used += n;
			}
			end();
		}
}

/* V43 */
static void nothing_is_seen_before_publish(void **state)
{
	start(5, 1, true, false, false, false);
	for (unsigned int lap = 0; lap < 100; lap++) {
		uint16_t slots[2] = {(uint16_t)(2 * lap % 5), (uint16_t)((2 * lap + 1) % 5)};

		vring_fixed_offer(&ring, slots, 1);
		vring_fixed_offer(&ring, slots + 1, 1);
		assert_int_equal(model_take(&model).n_descs, 0);
		vring_fixed_publish(&ring);
		for (unsigned int i = 0; i < 2; i++) {
			struct model_buffer buffer = model_take(&model);

			assert_is_slot(&buffer, slots[i], 1);
			assert_true(buffer.descs[0].flags & VRING_DESC_F_WRITE);
			model_use(&model, buffer.id, 9, 1);
		}
		assert_int_equal(model_take(&model).n_descs, 0);
		assert_int_equal(vring_fixed_collect(&ring, used, lens, 5), 2);
		assert_int_equal(lens[0], 9);
	}
	end();
}

static void a_table_takes_one_descriptor(void **state)
{
	struct model_buffer buffer;

	start(3, 8, false, false, true, false);
	assert_int_equal(ring.n_slots, 3);
	offer_all();
	for (unsigned int slot = 0; slot < 3; slot++) {
		buffer = model_take(&model);
		assert_int_equal(buffer.n_descs, 1);
		assert_int_equal(buffer.id, slot);
		assert_int_equal(buffer.descs[0].addr, 0x5000 + slot * 128);
		assert_int_equal(buffer.descs[0].len, 128);
		assert_int_equal(buffer.descs[0].flags, AVAIL_BIT | VRING_DESC_F_INDIRECT);
		for (unsigned int i = 0; i < 8; i++) {
			assert_int_equal(tables[8 * slot + i].addr, 0x100000 + slot * BUFFER + i * 32);
			assert_int_equal(tables[8 * slot + i].flags, 0);
		}
	}
	end();
}

/* D81 */
static void one_descriptor_may_stand_for_a_batch_with_in_order_only(void **state)
{
	start(7, 1, true, true, false, false);
	offer_all();
	model_use(&model, 4, 33, 5);
	assert_int_equal(vring_fixed_pending(&ring), 5);
	assert_int_equal(vring_fixed_collect(&ring, used, lens, 1), 5);
	for (unsigned int i = 0; i < 5; i++) {
		assert_int_equal(used[i], i);
		assert_int_equal(lens[i], i < 4 ? BUFFER : 33);
	}
	/* Over the end of the ring. */
	vring_fixed_offer(&ring, (const uint16_t[]){0, 1, 2}, 3);
	vring_fixed_publish(&ring);
	model_use(&model, 1, 10, 4);
	assert_int_equal(vring_fixed_collect(&ring, used, lens, 7), 4);
	assert_int_equal(used[0], 5);
	assert_int_equal(used[3], 1);
	end();

	start(7, 1, true, false, false, false);
	offer_all();
	model_use(&model, 4, 33, 1);
	assert_int_equal(vring_fixed_collect(&ring, used, lens, 7), 1);
	assert_int_equal(used[0], 4);
	end();
}

static void a_used_length_is_cut_and_needs_the_write_flag(void **state)
{
	start(4, 1, true, false, false, false);
	offer_all();
	model_use(&model, 0, UINT32_MAX, 1);
	model_use(&model, 1, 12, 1);
	model.desc[1].flags &= (uint16_t)~VRING_DESC_F_WRITE;
	assert_int_equal(vring_fixed_collect(&ring, used, lens, 4), 2);
	assert_int_equal(lens[0], BUFFER);
	assert_int_equal(lens[1], 0);
	end();
}

static void a_lie_breaks_the_ring_for_good(void **state)
{
	static const struct {
		uint16_t id;
		bool in_order;
	} lies[] = {
		{7, false}, {UINT16_MAX, false}, {4, false}, /* not offered */
		{7, true}, {4, true}, /* behind what was offered */
	};

	for (unsigned int i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
		start(7, 1, true, lies[i].in_order, false, false);
		vring_fixed_offer(&ring, (const uint16_t[]){0, 1, 2, 3}, 4);
		vring_fixed_publish(&ring);
		model_use(&model, lies[i].id, 10, 1);
		assert_int_equal(vring_fixed_collect(&ring, used, lens, 7), -EPROTO);
		assert_int_equal(ring.breakage, VRING_FIXED_BROKEN_USED_ID);
		model.used = 0;
		model_use(&model, 0, 10, 1);
		assert_int_equal(vring_fixed_collect(&ring, used, lens, 7), -EPROTO);
		end();
	}
	for (unsigned int in_order = 0; in_order < 2; in_order++) {
		start(7, 1, false, in_order, false, false);
		offer_all();
		model_use(&model, 0, 0, 1);
		model_use(&model, 0, 0, 1);
		assert_int_equal(vring_fixed_collect(&ring, used, lens, 1), 1);
		assert_int_equal(vring_fixed_collect(&ring, used, lens, 1), -EPROTO);
		end();
	}
}

/* Random words in every descriptor: any answer, no crash, never more slots than there are. */
static void noise_in_the_ring_is_survived(void **state)
{
	uint64_t seed = seed_get();

	for (unsigned int round = 0; round < 4000; round++) {
		uint64_t *noise;

		start((uint16_t)(4 + round % 9), round & 1 ? 4 : 1, true, round & 2, round & 4, round & 8);
		noise = model.parts[0].data;
		offer_all();
		for (unsigned int i = 0; i < 20; i++) {
			uint16_t slots[16];
			int n;

			for (unsigned int e = 0; e < 4; e++) {
				unsigned int at = random_below(&seed, model.size);

				noise[2 * at + 1] = random_next(&seed);
				model.desc[at].id = (uint16_t)random_below(&seed, ring.n_slots + 1u);
			}
			assert_in_range(vring_fixed_pending(&ring), 0, ring.n_slots);
			if (random_below(&seed, 4) == 0)
				vring_fixed_resume(&ring);
			n = vring_fixed_collect(&ring, used, lens, 3);
			if (n == -EPROTO)
				break;
			assert_in_range(n, 0, ring.n_slots);
			for (int j = 0; j < n; j++)
				slots[j] = used[j];
			vring_fixed_offer(&ring, slots, (unsigned int)n);
			vring_fixed_publish(&ring);
		}
		end();
	}
}

/*
 * A device takes buffers, uses some of them out of order, makes used descriptors visible for a part and writes others
 * that nobody will ever see, and dies. The next one finds everything else, oldest first, where the driver says.
 */
static void what_a_dead_device_left_is_offered_to_the_next(void **state)
{
	uint64_t seed = seed_get();

	for (unsigned int round = 0; round < 3000; round++) {
		bool in_order = round & 1;
		unsigned int n_chain = round & 2 ? 2 : 1;
		unsigned int n_taken, n_used, n_hidden, n_collected = 0, n_seen;
		uint16_t taken[64], expected[64];
		unsigned int offered_at[64], n_offered = 0;
		uint32_t base;

		start((uint16_t)(3 + round % 19), (uint16_t)n_chain, true, in_order, false, false);
		offer_all();
		for (unsigned int i = 0; i < ring.n_slots; i++)
			offered_at[i] = n_offered++;
		for (unsigned int life = 0; life < 5; life++) {
			/* Alive: some buffers round and round first. */
			n_taken = random_below(&seed, ring.n_slots + 1u);
			for (unsigned int i = 0; i < n_taken; i++)
				taken[i] = model_take(&model).id;
			for (unsigned int i = 0; !in_order && i + 1 < n_taken; i++) {
				unsigned int at = i + random_below(&seed, n_taken - i);
				uint16_t swapped = taken[i];

				taken[i] = taken[at];
				taken[at] = swapped;
			}
			n_used = random_below(&seed, n_taken + 1);
			for (unsigned int i = 0; i < n_used; i++)
				model_use(&model, taken[i], 20, n_chain);
			/* Used descriptors behind one that was held back. */
			n_hidden = n_taken - n_used;
			for (unsigned int i = 1; i < n_hidden; i++) {
				uint64_t at = model.used + i * n_chain;

				model.desc[at % model.size] = (struct vring_packed_desc){
					.id = taken[n_used + i], .flags = model_used_flags(&model, at)};
			}
			/* The driver has seen a part of it. */
			n_seen = random_below(&seed, n_used + 1);
			n_collected = (unsigned int)vring_fixed_collect(&ring, used, lens, n_seen);
			assert_int_equal(n_collected, n_seen);

			base = vring_fixed_resume(&ring);
			assert_int_equal(base & 0xffff, base >> 16);
			assert_int_equal(base & 0xffff, model_position(&model, model.used));
			/* The new device begins there. What is outstanding and not used, oldest first: */
			model.avail = model.used;
			for (unsigned int i = 0; i < ring.n_slots - n_used; i++) {
				struct model_buffer buffer = model_take(&model);

				assert_is_slot(&buffer, buffer.id, n_chain);
				expected[i] = buffer.id;
				for (unsigned int j = 0; j < i; j++)
					assert_int_not_equal(expected[j], buffer.id);
				for (unsigned int j = 0; j < n_used; j++)
					assert_int_not_equal(taken[j], buffer.id);
				if (i > 0)
					assert_true(offered_at[expected[i - 1]] < offered_at[buffer.id]);
				model_use(&model, buffer.id, 30, n_chain);
			}
			assert_int_equal(model_take(&model).n_descs, 0);
			/* What the dead one had used is collected first. */
			for (unsigned int i = 0; i < n_collected; i++)
				assert_int_equal(used[i], taken[i]);
			assert_int_equal(vring_fixed_collect(&ring, used + n_collected, lens + n_collected, ring.n_slots),
				ring.n_slots - n_collected);
			for (unsigned int i = n_collected; i < ring.n_slots; i++) {
				assert_int_equal(used[i], i < n_used ? taken[i] : expected[i - n_used]);
				assert_int_equal(lens[i], i < n_used ? 20 : 30);
			}
			for (unsigned int i = 0; i < ring.n_slots; i++) {
				vring_fixed_offer(&ring, &used[i], 1);
				offered_at[used[i]] = n_offered++;
			}
			vring_fixed_publish(&ring);
		}
		end();
	}
}

static void the_kick_follows_the_wish_of_the_device(void **state)
{
	uint64_t seed = seed_get();

	for (unsigned int kind = 0; kind < 4; kind++) {
		unsigned int n_chain = kind & 2 ? 2 : 1;
		uint64_t asked = 0, offered = 0;

		start(7, (uint16_t)n_chain, false, false, false, kind & 1);
		for (unsigned int i = 0; i < 5000; i++) {
			uint16_t slots[7] = {0, 1, 2, 3, 4, 5, 6};
			unsigned int n = random_below(&seed, ring.n_slots + 1u);
			bool expected;

			vring_fixed_offer(&ring, slots, n);
			vring_fixed_publish(&ring);
			offered += n * n_chain;
			for (unsigned int j = 0; j < n; j++)
				model_use(&model, model_take(&model).id, 0, n_chain);
			assert_int_equal(vring_fixed_collect(&ring, used, lens, 7), n);
			if (random_below(&seed, 3) == 0)
				continue;
			model.device_event->flags = (uint16_t)random_below(&seed, 4);
			model.device_event->off_wrap =
				model_position(&model, offered + 20 - random_below(&seed, 14));
			expected = offered > asked && model_wants_kick(&model, kind & 1, asked, offered);
			assert_int_equal(vring_fixed_needs_kick(&ring), expected);
			assert_false(vring_fixed_needs_kick(&ring));
			asked = offered;
		}
		end();
	}
}

static void the_device_is_asked_for_a_call_or_spared_it(void **state)
{
	for (unsigned int event_idx = 0; event_idx < 2; event_idx++) {
		start(3, 1, false, false, false, event_idx);
		assert_int_equal(model.driver_event->flags, VRING_PACKED_EVENT_FLAG_DISABLE);
		offer_all();
		for (unsigned int i = 0; i < 10; i++) {
			vring_fixed_set_call(&ring, true);
			assert_int_equal(model.driver_event->flags,
				event_idx ? VRING_PACKED_EVENT_FLAG_DESC : VRING_PACKED_EVENT_FLAG_ENABLE);
			assert_int_equal(model.driver_event->off_wrap, model_position(&model, model.used));
			vring_fixed_set_call(&ring, false);
			assert_int_equal(model.driver_event->flags, VRING_PACKED_EVENT_FLAG_DISABLE);
			model_use(&model, model_take(&model).id, 0, 1);
			assert_int_equal(vring_fixed_collect(&ring, used, lens, 3), 1);
			vring_fixed_offer(&ring, &used[0], 1);
			vring_fixed_publish(&ring);
		}
		end();
	}
}

static void shapes_that_cannot_be_are_refused(void **state)
{
	static const struct vring_fixed_config bad[] = {
		{.packed = true, .size = 0, .n_chain = 1},
		{.packed = true, .size = 32769, .n_chain = 1},
		{.packed = true, .size = 9, .n_chain = 3},
		{.packed = true, .size = 7, .n_chain = 8},
	};

	for (unsigned int i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct vring_fixed refused;

		assert_int_equal(vring_fixed_init(&refused, &bad[i]), -EINVAL);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(buffers_go_round_in_rings_of_any_size),
		cmocka_unit_test(nothing_is_seen_before_publish),
		cmocka_unit_test(a_table_takes_one_descriptor),
		cmocka_unit_test(one_descriptor_may_stand_for_a_batch_with_in_order_only),
		cmocka_unit_test(a_used_length_is_cut_and_needs_the_write_flag),
		cmocka_unit_test(a_lie_breaks_the_ring_for_good),
		cmocka_unit_test(noise_in_the_ring_is_survived),
		cmocka_unit_test(what_a_dead_device_left_is_offered_to_the_next),
		cmocka_unit_test(the_kick_follows_the_wish_of_the_device),
		cmocka_unit_test(the_device_is_asked_for_a_call_or_spared_it),
		cmocka_unit_test(shapes_that_cannot_be_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
