/* SPDX-License-Identifier: BSD-3-Clause */
/* The driver end of a packed ring: the rules of V40-V49, and a device that lies (V90-V93). */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <vring/driver.h>

#include "packed_model.h"

static struct model model;
static struct vring_driver *driver;
static struct vring_completion done[512];
static struct guarded tables;

static const uint16_t sizes[] = {1, 2, 3, 4, 5, 7, 8, 9, 255, 256, 257};
#define N_SIZES (sizeof(sizes) / sizeof(sizes[0]))

static void start_with(uint16_t size, bool in_order, uint16_t indirect_max, bool event_idx)
{
	struct vring_driver_config config = {
		.size = size,
		.packed = true,
		.in_order = in_order,
		.event_idx = event_idx,
		.indirect = indirect_max > 0,
		.indirect_max = indirect_max,
		.indirect_gpa = TOP,
	};

	model_create(&model, size);
	tables = guarded_alloc(16u * size * (indirect_max + 1u), 16);
	memset(model.desc, 0xa5, vring_desc_bytes(size));
	memset(model.device_event, 0xa5, VRING_EVENT_BYTES);
	config.desc = model.desc;
	config.avail = model.driver_event;
	config.used = model.device_event;
	config.indirect_area = tables.data;
	driver = vring_driver_create(&config);
	assert_non_null(driver);
}

static void start(uint16_t size)
{
	start_with(size, false, 0, false);
}

static void end(void)
{
	vring_driver_destroy(driver);
	guarded_free(&tables);
	model_destroy(&model);
}

static int post(unsigned int n_readable, unsigned int n_writable, uint32_t token)
{
	struct vring_extent extents[64];

	for (unsigned int i = 0; i < n_readable + n_writable; i++)
		extents[i] = (struct vring_extent){LOW + 256 * i, 100 + i};
	return vring_driver_post(driver, extents, n_readable, n_writable, token);
}

static void takes_every_size_that_is_legal(void **state)
{
	const uint16_t bad[] = {0, 32769, 65535};

	for (unsigned int i = 0; i < 3; i++) {
		struct vring_driver_config config = {.size = bad[i], .packed = true};

		errno = 0;
		assert_null(vring_driver_create(&config));
		assert_int_equal(errno, EINVAL);
	}
	for (uint32_t size = 1; size <= 32768; size += size < 10 ? 1 : 32758) {
		start((uint16_t)size);
		assert_int_equal(vring_driver_free(driver), size);
		end();
	}
}

static void starts_with_a_ring_that_looks_empty(void **state)
{
	start(5);
	for (unsigned int i = 0; i < 5; i++)
		assert_int_equal(model.desc[i].flags, 0);
	assert_int_equal(model.device_event->flags, VRING_PACKED_EVENT_FLAG_ENABLE);
	assert_int_equal(model_take(&model).n_descs, 0);
	assert_int_equal(vring_driver_collect(driver, done, 8), 0);
	end();
}

/* V44, V49 */
static void writes_consecutive_descriptors_with_flags_and_id_in_each(void **state)
{
	for (unsigned int s = 4; s < N_SIZES; s++) {
		start(sizes[s]);
		/* Lengths that make chains end before, at and behind the end of the ring. */
		for (unsigned int i = 0; i < 2000; i++) {
			unsigned int n = 1 + i % 5;
			struct model_buffer buffer;

			assert_int_equal(post(n - 1, 1, i), 0);
			vring_driver_publish(driver);
			buffer = model_take(&model);
			assert_int_equal(buffer.n_descs, n);
			for (unsigned int d = 0; d < n; d++) {
				assert_int_equal(buffer.descs[d].addr, LOW + 256 * d);
				assert_int_equal(buffer.descs[d].len, 100 + d);
				assert_int_equal(buffer.descs[d].id, buffer.id);
				assert_int_equal(buffer.descs[d].flags & ~(AVAIL_BIT | USED_BIT),
					d + 1 < n ? VRING_DESC_F_NEXT : VRING_DESC_F_WRITE);
			}
			model_use(&model, buffer.id, 1, n);
			assert_int_equal(vring_driver_collect(driver, done, 8), 1);
			assert_int_equal(done[0].token, i);
		}
		end();
	}
}

/* V43: whatever is posted, the device finds nothing until all of it is there. */
static void shows_nothing_before_publish_and_then_everything(void **state)
{
	for (unsigned int s = 4; s < N_SIZES; s++) {
		start(sizes[s]);
		for (unsigned int lap = 0; lap < 1000; lap++) {
			unsigned int n = 0;

			while (n < 3 && post(1 + lap % 2, 0, n) == 0) {
				assert_int_equal(model_take(&model).n_descs, 0);
				n++;
			}
			assert_true(n >= 2);
			vring_driver_publish(driver);
			vring_driver_publish(driver);
			for (unsigned int i = 0; i < n; i++) {
				struct model_buffer buffer = model_take(&model);

				assert_int_equal(buffer.n_descs, 1 + lap % 2);
				model_use(&model, buffer.id, 0, buffer.n_descs);
			}
			assert_int_equal(model_take(&model).n_descs, 0);
			assert_int_equal(vring_driver_collect(driver, done, 8), n);
		}
		end();
	}
}

/* V42 */
static void refuses_what_does_not_fit(void **state)
{
	const struct vring_extent huge[] = {{LOW, UINT32_MAX}, {LOW, 1}};

	start(7);
	assert_int_equal(post(0, 0, 0), -EINVAL);
	assert_int_equal(post(4, 4, 0), -EINVAL);
	assert_int_equal(vring_driver_post(driver, huge, 1, 1, 0), -EINVAL);
	assert_int_equal(post(3, 3, 0), 0);
	assert_int_equal(post(2, 0, 0), -ENOSPC);
	assert_int_equal(post(1, 0, 0), 0);
	assert_int_equal(post(1, 0, 0), -ENOSPC);
	assert_int_equal(vring_driver_outstanding(driver), 2);
	end();
	start_with(7, false, 4, false);
	assert_int_equal(post(3, 2, 0), -EINVAL);
	assert_int_equal(post(3, 1, 0), 0);
	end();
}

/* V48: chains of random lengths come back in random order, over many laps of rings of any size. */
static void gives_tokens_back_in_any_order(void **state)
{
	uint64_t seed = seed_get();

	for (unsigned int s = 0; s < N_SIZES; s++) {
		start(sizes[s]);
		for (unsigned int lap = 0; lap < 3000; lap++) {
			struct model_buffer taken[512];
			uint32_t tokens[512];
			uint32_t token = lap * 1000;
			unsigned int n = 0;

			while (post(1 + random_below(&seed, sizes[s] < 5 ? sizes[s] : 5), 0, token) == 0)
				token++;
			vring_driver_publish(driver);
			while ((taken[n] = model_take(&model)).n_descs != 0) {
				tokens[n] = lap * 1000 + n;
				n++;
			}
			assert_int_equal(n, token - lap * 1000);
			assert_int_equal(vring_driver_outstanding(driver), n);
			for (unsigned int i = n; i > 0; i--) {
				unsigned int at = random_below(&seed, i);

				model_use(&model, taken[at].id, 0, taken[at].n_descs);
				assert_int_equal(vring_driver_collect(driver, done, 1), 1);
				assert_int_equal(done[0].token, tokens[at]);
				taken[at] = taken[i - 1];
				tokens[at] = tokens[i - 1];
			}
			assert_int_equal(vring_driver_collect(driver, done, 1), 0);
			assert_int_equal(vring_driver_free(driver), sizes[s]);
		}
		end();
	}
}

/* D81: one used descriptor, where the first one belongs, names the last; those passed over count as used completely. */
static void understands_batches_when_in_order(void **state)
{
	uint64_t seed = seed_get();

	for (unsigned int s = 5; s < N_SIZES; s++) {
		uint32_t token = 0, expected = 0;

		start_with(sizes[s], true, 0, false);
		for (unsigned int lap = 0; lap < 5000; lap++) {
			unsigned int n = 1 + random_below(&seed, 3);
			unsigned int max = 1 + random_below(&seed, 4);
			unsigned int n_descs = 0, got = 0;
			uint16_t last = 0;

			for (unsigned int i = 0; i < n; i++) {
				struct model_buffer buffer;

				assert_int_equal(post(0, 2, token++), 0);
				vring_driver_publish(driver);
				buffer = model_take(&model);
				last = buffer.id;
				n_descs += buffer.n_descs;
			}
			model_use(&model, last, 77, n_descs);
			while (got < n) {
				int k = vring_driver_collect(driver, done, max);

				assert_in_range(k, 1, max);
				for (int i = 0; i < k; i++, got++) {
					assert_int_equal(done[i].token, expected++);
					assert_int_equal(done[i].len, got + 1 == n ? 77 : 201);
				}
			}
			assert_int_equal(vring_driver_collect(driver, done, 8), 0);
		}
		end();
	}
}

/* V45: consecutive entries, WRITE alone means something in a table. */
static void puts_long_buffers_into_tables(void **state)
{
	struct model_buffer buffer;
	const struct vring_packed_desc *table;

	start_with(3, false, 16, false);
	assert_int_equal(post(1, 0, 0), 0);
	assert_int_equal(post(2, 1, 1), 0);
	assert_int_equal(vring_driver_free(driver), 1);
	vring_driver_publish(driver);
	assert_int_equal(model_take(&model).descs[0].flags, AVAIL_BIT);
	buffer = model_take(&model);
	assert_int_equal(buffer.n_descs, 1);
	assert_int_equal(buffer.descs[0].flags, AVAIL_BIT | VRING_DESC_F_INDIRECT);
	assert_int_equal(buffer.descs[0].addr, TOP + 256 * buffer.id);
	assert_int_equal(buffer.descs[0].len, 48);
	table = (const struct vring_packed_desc *)tables.data + 16 * buffer.id;
	for (unsigned int i = 0; i < 3; i++) {
		assert_int_equal(table[i].addr, LOW + 256 * i);
		assert_int_equal(table[i].flags, i == 2 ? VRING_DESC_F_WRITE : 0);
	}
	end();
}

/* V90 */
static void breaks_on_ids_that_are_not_with_the_device(void **state)
{
	for (uint32_t id = 0; id < 65536; id += id < 20 ? 1 : 997) {
		struct model_buffer buffer;

		start(9);
		assert_int_equal(post(2, 0, 5), 0);
		vring_driver_publish(driver);
		assert_int_equal(post(1, 0, 6), 0); /* posted, and not to be seen yet */
		buffer = model_take(&model);
		model_use(&model, (uint16_t)id, 0, 2);
		assert_int_equal(vring_driver_collect(driver, done, 8), id == buffer.id ? 1 : -EPROTO);
		assert_int_equal(vring_driver_collect(driver, done, 8), id == buffer.id ? 0 : -EPROTO);
		end();
	}
	for (unsigned int in_order = 0; in_order < 2; in_order++) {
		struct model_buffer buffer;

		start_with(9, in_order, 0, false);
		assert_int_equal(post(1, 0, 5), 0);
		assert_int_equal(post(1, 0, 6), 0);
		vring_driver_publish(driver);
		buffer = model_take(&model);
		model_use(&model, buffer.id, 0, 1);
		model_use(&model, buffer.id, 0, 1);
		/* The first is true and handed out, the second a lie. */
		assert_int_equal(vring_driver_collect(driver, done, 8), 1);
		assert_int_equal(vring_driver_collect(driver, done, 8), -EPROTO);
		end();
	}
}

/* V91, V32, D48: without WRITE the length says nothing. */
static void clamps_lengths_to_what_was_posted(void **state)
{
	const uint32_t lens[] = {0, 1, 203, 204, 0x7fffffff, 0xffffffff};

	start(5);
	for (unsigned int i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
		struct model_buffer buffer;

		assert_int_equal(post(1, 2, 0), 0); /* 101 + 102 writable */
		vring_driver_publish(driver);
		buffer = model_take(&model);
		model_use(&model, buffer.id, lens[i], 3);
		assert_int_equal(vring_driver_collect(driver, done, 8), 1);
		assert_int_equal(done[0].len, lens[i] < 203 ? lens[i] : 203);
	}
	assert_int_equal(post(0, 1, 0), 0);
	vring_driver_publish(driver);
	model.desc[model.used % 5] = (struct vring_packed_desc){
		.id = model_take(&model).id, .len = 99, .flags = model_used_flags(&model, model.used)};
	assert_int_equal(vring_driver_collect(driver, done, 8), 1);
	assert_int_equal(done[0].len, 0);
	end();
}

/* V93: all that is not yet used is scribbled over; what the device says of a buffer stays true. */
static void relies_on_nothing_it_wrote_into_the_ring(void **state)
{
	uint64_t seed = seed_get();
	uint32_t expected = 0, token = 0;

	start(16);
	for (unsigned int i = 0; i < 50000; i++) {
		struct model_buffer buffer;

		assert_int_equal(post(3, 0, token++), 0);
		vring_driver_publish(driver);
		buffer = model_take(&model);
		for (unsigned int w = 0; w < 16; w++) {
			model.desc[w].addr = random_next(&seed);
			model.desc[w].len = (uint32_t)random_next(&seed);
			model.desc[w].id = (uint16_t)random_next(&seed);
		}
		model_use(&model, buffer.id, 0, 3);
		assert_int_equal(vring_driver_collect(driver, done, 8), 1);
		assert_int_equal(done[0].token, expected++);
		assert_int_equal(vring_driver_free(driver), 16);
	}
	end();
}

/* Any answer to a device that writes at random, but no crash, and the counts hold. */
static void survives_a_device_that_writes_noise(void **state)
{
	uint64_t seed = seed_get();

	for (unsigned int round = 0; round < 3000; round++) {
		uint16_t size = sizes[round % N_SIZES];

		start_with(size, round & 1, round & 2 ? 16 : 0, round & 4);
		for (unsigned int i = 0; i < 50; i++) {
			uint64_t *noise = model.parts[0].data;
			int n;

			while (post(random_below(&seed, 4), random_below(&seed, 4), 0) == 0 &&
				random_below(&seed, 8) != 0)
				;
			vring_driver_publish(driver);
			for (unsigned int e = 0; e < 4; e++) {
				uint64_t at = random_below(&seed, size);

				noise[2 * at + 1] = random_next(&seed);
				model.desc[at].id = (uint16_t)random_below(&seed, size + 1u);
			}
			model.device_event->off_wrap = (uint16_t)random_next(&seed);
			model.device_event->flags = (uint16_t)random_next(&seed);
			n = vring_driver_collect(driver, done, 64);
			assert_true(n == -EPROTO || (n >= 0 && n <= 64));
			assert_in_range(vring_driver_free(driver), 0, size);
			vring_driver_needs_kick(driver);
			vring_driver_set_call(driver, random_below(&seed, 2));
		}
		end();
	}
}

/* D66 mirrored, V46: random batches and wishes against the predicate, over many laps. */
static void kicks_when_the_device_wants_it(void **state)
{
	uint64_t seed = seed_get();

	for (unsigned int s = 0; s < N_SIZES; s++)
		for (unsigned int event_idx = 0; event_idx < 2; event_idx++) {
			uint64_t asked = 0, posted = 0;

			start_with(sizes[s], false, 0, event_idx);
			for (unsigned int i = 0; i < 5000; i++) {
				unsigned int n = random_below(&seed, sizes[s] < 9 ? sizes[s] + 1u : 9);
				bool expected;

				while (n > 0 && post(1, 0, 0) == 0) {
					posted++;
					n--;
				}
				vring_driver_publish(driver);
				for (;;) {
					struct model_buffer buffer = model_take(&model);

					if (buffer.n_descs == 0)
						break;
					model_use(&model, buffer.id, 0, 1);
				}
				assert_true(vring_driver_collect(driver, done, 512) >= 0);
				if (random_below(&seed, 3) == 0)
					continue;
				/* Some of them posted behind what was published: they do not count yet. */
				n = sizes[s] > 1 && random_below(&seed, 2) ? 1 : 0;
				if (n == 1)
					assert_int_equal(post(1, 0, 0), 0);
				model.device_event->flags = (uint16_t)random_below(&seed, 4);
				model.device_event->off_wrap = model_position(
					&model, posted + 3 * sizes[s] - random_below(&seed, 2u * sizes[s]) - 1);
				expected = posted > asked &&
					   model_wants_kick(&model, event_idx, asked, posted);
				assert_int_equal(vring_driver_needs_kick(driver), expected);
				asked = posted;
				posted += n;
			}
			end();
		}
}

static void asks_for_calls_or_spares_them(void **state)
{
	for (unsigned int event_idx = 0; event_idx < 2; event_idx++) {
		start_with(3, false, 0, event_idx);
		for (unsigned int i = 0; i < 20; i++) {
			vring_driver_set_call(driver, true);
			assert_int_equal(model.driver_event->flags,
				event_idx ? VRING_PACKED_EVENT_FLAG_DESC : VRING_PACKED_EVENT_FLAG_ENABLE);
			if (event_idx)
				assert_int_equal(model.driver_event->off_wrap, model_position(&model, model.used));
			vring_driver_set_call(driver, false);
			assert_int_equal(model.driver_event->flags, VRING_PACKED_EVENT_FLAG_DISABLE);
			assert_int_equal(post(2, 0, 0), 0);
			vring_driver_publish(driver);
			model_use(&model, model_take(&model).id, 0, 2);
			assert_int_equal(vring_driver_collect(driver, done, 8), 1);
		}
		end();
	}
}

/* Both ends of this library: chains of all lengths through rings of all sizes. */
static void exchanges_buffers_with_the_device_side(void **state)
{
	uint64_t seed = seed_get();

	for (unsigned int kind = 0; kind < 4 * N_SIZES; kind++) {
		uint16_t size = sizes[kind / 4];
		static uint8_t memory[65536];
		struct vring_device device;
		static struct vring_burst burst;
		struct vring_config config = {.size = size,
			.packed = true,
			.event_idx = kind & 1,
			.in_order = kind & 2,
			.indirect = true,
			.avail_idx = VRING_PACKED_START,
			.used_idx = VRING_PACKED_START};
		uint32_t token = 0, expected = 0;
		struct gmem *mem;

		start_with(size, kind & 2, 0, kind & 1);
		assert_int_equal(gmem_create_identity(memory, sizeof(memory), &mem), 0);
		config.desc = model.desc;
		config.avail = model.driver_event;
		config.used = model.device_event;
		config.mem = mem;
		assert_int_equal(vring_device_init(&device, &config), 0);
		vring_device_set_kick(&device, true);
		for (unsigned int round = 0; round < 3000; round++) {
			unsigned int n_posted = random_below(&seed, 5);
			int n;

			for (unsigned int i = 0; i < n_posted; i++) {
				unsigned int n_pieces = 1 + random_below(&seed, size < 4 ? size : 4);
				struct vring_extent extents[4];

				for (unsigned int k = 0; k < n_pieces; k++)
					extents[k] = (struct vring_extent){
						(uintptr_t)memory + 256 * k, 1 + (token + k) % 200};
				if (vring_driver_post(driver, extents, n_pieces, 0, token) == 0)
					token++;
			}
			vring_driver_publish(driver);
			assert_int_equal(vring_driver_outstanding(driver), token - expected);
			n = vring_device_peek(&device, &burst, VRING_READABLE, 3);
			assert_in_range(n, 0, token - expected);
			for (int i = 0; i < n; i++) {
				assert_int_equal(burst.buffers[i].fault, VRING_OK);
				assert_int_equal(burst.buffers[i].pieces[0].len, 1 + (expected + i) % 200);
			}
			vring_device_return(&device, &burst, (unsigned int)n);
			vring_device_publish(&device);
			assert_int_equal(vring_driver_collect(driver, done, 512), n);
			for (int i = 0; i < n; i++)
				assert_int_equal(done[i].token, expected++);
		}
		gmem_free(mem);
		end();
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(takes_every_size_that_is_legal),
		cmocka_unit_test(starts_with_a_ring_that_looks_empty),
		cmocka_unit_test(writes_consecutive_descriptors_with_flags_and_id_in_each),
		cmocka_unit_test(shows_nothing_before_publish_and_then_everything),
		cmocka_unit_test(refuses_what_does_not_fit),
		cmocka_unit_test(gives_tokens_back_in_any_order),
		cmocka_unit_test(understands_batches_when_in_order),
		cmocka_unit_test(puts_long_buffers_into_tables),
		cmocka_unit_test(breaks_on_ids_that_are_not_with_the_device),
		cmocka_unit_test(clamps_lengths_to_what_was_posted),
		cmocka_unit_test(relies_on_nothing_it_wrote_into_the_ring),
		cmocka_unit_test(survives_a_device_that_writes_noise),
		cmocka_unit_test(kicks_when_the_device_wants_it),
		cmocka_unit_test(asks_for_calls_or_spares_them),
		cmocka_unit_test(exchanges_buffers_with_the_device_side),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
