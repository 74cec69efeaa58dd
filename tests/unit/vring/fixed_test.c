/* SPDX-License-Identifier: BSD-3-Clause */
/* The prepared ring against lib/vring's device side, and against a device that lies. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <gmem/gmem.h>
#include <vring/device.h>

#include <vring/fixed.h>

#define SIZE   8u
#define BUFFER 256u

/* Guest memory: ring parts, tables, buffers. */
struct memory {
	struct vring_desc desc[SIZE] __attribute__((aligned(4096)));
	uint8_t avail[64] __attribute__((aligned(64)));
	uint8_t used[128] __attribute__((aligned(64)));
	struct vring_desc tables[SIZE * 4];
	uint8_t buffers[SIZE][BUFFER];
};

struct fixture {
	struct memory *memory;
	struct gmem *gmem;
	struct vring_fixed ring;
	struct vring_device device;
	struct vring_burst *burst;
	uint16_t slots[SIZE];
	uint32_t lens[SIZE];
};

static struct fixture open_layout(
	bool packed, uint16_t n_chain, bool writable, bool in_order, bool indirect, bool event_idx)
{
	struct fixture fixture = {
		.memory = aligned_alloc(4096, (sizeof(struct memory) + 4095) / 4096 * 4096)};
	struct vring_fixed_config config = {.size = SIZE,
		.n_chain = n_chain,
		.packed = packed,
		.writable = writable,
		.in_order = in_order,
		.indirect = indirect,
		.event_idx = event_idx};
	struct vring_config device = {.size = SIZE,
		.packed = packed,
		.avail_idx = packed ? VRING_PACKED_START : 0,
		.used_idx = packed ? VRING_PACKED_START : 0,
		.indirect = true,
		.in_order = in_order,
		.event_idx = event_idx,
		.header_len = 12};

	assert_non_null(fixture.memory);
	memset(fixture.memory, 0, sizeof(*fixture.memory));
	fixture.burst = calloc(1, sizeof(*fixture.burst));
	assert_non_null(fixture.burst);
	assert_int_equal(
		gmem_create_identity(fixture.memory, sizeof(*fixture.memory), &fixture.gmem), 0);
	config.desc = device.desc = fixture.memory->desc;
	config.avail = device.avail = fixture.memory->avail;
	config.used = device.used = fixture.memory->used;
	config.tables = fixture.memory->tables;
	config.tables_gpa = (uintptr_t)fixture.memory->tables;
	device.mem = fixture.gmem;
	assert_int_equal(vring_fixed_init(&fixture.ring, &config), 0);
	for (unsigned int slot = 0; slot < fixture.ring.n_slots; slot++)
		vring_fixed_describe(
			&fixture.ring, slot, (uintptr_t)fixture.memory->buffers[slot], BUFFER);
	assert_int_equal(vring_device_init(&fixture.device, &device), 0);
	return fixture;
}

static struct fixture open_ring(
	uint16_t n_chain, bool writable, bool in_order, bool indirect, bool event_idx)
{
	return open_layout(false, n_chain, writable, in_order, indirect, event_idx);
}

static void close_ring(struct fixture *fixture)
{
	vring_fixed_fini(&fixture->ring);
	gmem_free(fixture->gmem);
	free(fixture->burst);
	free(fixture->memory);
}

static void offer_all(struct fixture *fixture)
{
	for (uint16_t slot = 0; slot < fixture->ring.n_slots; slot++)
		vring_fixed_offer(&fixture->ring, &slot, 1);
	vring_fixed_publish(&fixture->ring);
}

static struct vring_used *used_of(struct fixture *fixture)
{
	return (struct vring_used *)fixture->memory->used;
}

/* A used entry and index as a device may write them. */
static void forge(struct fixture *fixture, uint16_t at, uint32_t id, uint32_t len, uint16_t idx)
{
	used_of(fixture)->ring[at % SIZE] = (struct vring_used_elem){.id = id, .len = len};
	used_of(fixture)->idx = idx;
}

static void buffers_go_round_for_ever_through_a_real_device(void **state)
{
	for (unsigned int kind = 0; kind < 32; kind++) {
		struct fixture fixture = open_layout(
			kind & 16, kind & 1 ? 4 : 1, false, kind & 2, kind & 4, kind & 8);
		unsigned int n_slots = fixture.ring.n_slots;

		assert_int_equal(n_slots, (kind & 5) == 1 ? SIZE / 4 : SIZE);
		offer_all(&fixture);
		/* Past the wrap of the 16-bit indices. */
		for (unsigned int round = 0; round < 70000 / n_slots; round++) {
			int n = vring_device_peek(
				&fixture.device, fixture.burst, VRING_READABLE, n_slots);
			uint16_t slots[SIZE];

			assert_int_equal(n, n_slots);
			for (int i = 0; i < n; i++) {
				assert_int_equal(fixture.burst->buffers[i].fault, VRING_OK);
				assert_int_equal(fixture.burst->buffers[i].len, BUFFER);
				assert_ptr_equal(fixture.burst->buffers[i].pieces[0].hva,
					fixture.memory->buffers[i]);
			}
			vring_device_return(&fixture.device, fixture.burst, (unsigned int)n);
			vring_device_publish(&fixture.device);
			assert_int_equal(
				vring_fixed_collect(&fixture.ring, fixture.slots, fixture.lens, n_slots), n_slots);
			for (unsigned int i = 0; i < n_slots; i++)
				slots[i] = fixture.slots[i];
			vring_fixed_offer(&fixture.ring, slots, n_slots);
			vring_fixed_publish(&fixture.ring);
		}
		close_ring(&fixture);
	}
}

static void lengths_of_received_frames_come_through(void **state)
{
	for (int kind = 0; kind < 4; kind++) {
		struct fixture fixture = open_layout(kind & 2, 1, true, kind & 1, false, false);
		uint32_t lengths[3] = {20, 200, 12};
		struct vring_grant grants[3];

		offer_all(&fixture);
		assert_int_equal(
			vring_device_reserve(&fixture.device, fixture.burst, lengths, 3, grants),
			3);
		for (unsigned int i = 0; i < 3; i++)
			fixture.burst->buffers[i].used_len = lengths[i];
		vring_device_return(&fixture.device, fixture.burst, fixture.burst->n);
		vring_device_publish(&fixture.device);
		assert_int_equal(vring_fixed_collect(&fixture.ring, fixture.slots, fixture.lens, SIZE), 3);
		for (unsigned int i = 0; i < 3; i++) {
			assert_int_equal(fixture.slots[i], i);
			assert_int_equal(fixture.lens[i], lengths[i]);
		}
		close_ring(&fixture);
	}
}

static void one_entry_may_stand_for_a_batch_with_in_order_only(void **state)
{
	struct fixture fixture = open_ring(1, true, true, false, false);

	offer_all(&fixture);
	forge(&fixture, 0, 4, 33, 5);
	assert_int_equal(vring_fixed_collect(&fixture.ring, fixture.slots, fixture.lens, SIZE), 5);
	assert_int_equal(fixture.lens[0], BUFFER);
	assert_int_equal(fixture.slots[4], 4);
	assert_int_equal(fixture.lens[4], 33);
	forge(&fixture, 5, 5, 10, 6);
	assert_int_equal(vring_fixed_collect(&fixture.ring, fixture.slots, fixture.lens, SIZE), 1);
	close_ring(&fixture);

	fixture = open_ring(1, true, false, false, false);
	offer_all(&fixture);
	forge(&fixture, 0, 4, 33, 1);
	assert_int_equal(vring_fixed_collect(&fixture.ring, fixture.slots, fixture.lens, SIZE), 1);
	/* Entry 1 still says 0, which is outstanding; entry 2 says it again. */
	used_of(&fixture)->idx = 3;
	assert_int_equal(vring_fixed_collect(&fixture.ring, fixture.slots, fixture.lens, SIZE), -EPROTO);
	close_ring(&fixture);
}

static void a_used_length_beyond_the_buffer_is_cut(void **state)
{
	for (int in_order = 0; in_order < 2; in_order++) {
		struct fixture fixture = open_ring(1, true, in_order, false, false);

		offer_all(&fixture);
		forge(&fixture, 0, 0, UINT32_MAX, 1);
		assert_int_equal(vring_fixed_collect(&fixture.ring, fixture.slots, fixture.lens, SIZE), 1);
		assert_int_equal(fixture.lens[0], BUFFER);
		close_ring(&fixture);
	}
}

static void a_lie_breaks_the_ring_for_good(void **state)
{
	static const struct {
		uint32_t id;
		uint16_t idx;
		bool in_order;
		bool chained;
		enum vring_fixed_breakage breakage;
	} lies[] = {
		{SIZE, 1, false, false, VRING_FIXED_BROKEN_USED_ID},
		{UINT32_MAX, 1, false, false, VRING_FIXED_BROKEN_USED_ID},
		{0x10000, 1, false, false, VRING_FIXED_BROKEN_USED_ID},
		{7, 1, false, false, VRING_FIXED_BROKEN_USED_ID}, /* not offered */
		{1, 1, false, true, VRING_FIXED_BROKEN_USED_ID},  /* in the middle of a chain */
		{SIZE, 1, true, false, VRING_FIXED_BROKEN_USED_ID},
		{3, 1, true, false, VRING_FIXED_BROKEN_USED_ID}, /* a batch longer than the index says */
		{0, 5, false, false, VRING_FIXED_BROKEN_USED_IDX},
		{0, 5, true, false, VRING_FIXED_BROKEN_USED_IDX},
		{0, 0x8000, false, false, VRING_FIXED_BROKEN_USED_IDX},
		{0, UINT16_MAX, true, false, VRING_FIXED_BROKEN_USED_IDX},
	};

	for (unsigned int i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
		struct fixture fixture =
			open_ring(lies[i].chained ? 2 : 1, true, lies[i].in_order, false, false);

		for (uint16_t slot = 0; slot < 4; slot++)
			vring_fixed_offer(&fixture.ring, &slot, 1);
		vring_fixed_publish(&fixture.ring);
		forge(&fixture, 0, lies[i].id, 10, lies[i].idx);
		assert_int_equal(vring_fixed_collect(&fixture.ring, fixture.slots, fixture.lens, SIZE), -EPROTO);
		assert_int_equal(fixture.ring.breakage, lies[i].breakage);
		forge(&fixture, 0, 0, 10, 1);
		assert_int_equal(vring_fixed_collect(&fixture.ring, fixture.slots, fixture.lens, SIZE), -EPROTO);
		close_ring(&fixture);
	}
}

static void a_buffer_used_twice_breaks_the_ring(void **state)
{
	struct fixture fixture = open_ring(1, false, false, false, false);

	offer_all(&fixture);
	forge(&fixture, 0, 2, 0, 1);
	assert_int_equal(vring_fixed_collect(&fixture.ring, fixture.slots, fixture.lens, SIZE), 1);
	forge(&fixture, 1, 2, 0, 2);
	assert_int_equal(vring_fixed_collect(&fixture.ring, fixture.slots, fixture.lens, SIZE), -EPROTO);
	close_ring(&fixture);
}

static void the_kick_follows_the_wish_of_the_device(void **state)
{
	for (int kind = 0; kind < 4; kind++) {
		struct fixture fixture = open_layout(kind & 2, 1, false, true, false, kind & 1);
		uint16_t slot = 0;

		vring_device_set_kick(&fixture.device, true);
		assert_false(vring_fixed_needs_kick(&fixture.ring));
		vring_fixed_offer(&fixture.ring, &slot, 1);
		vring_fixed_publish(&fixture.ring);
		assert_true(vring_fixed_needs_kick(&fixture.ring));
		assert_false(vring_fixed_needs_kick(&fixture.ring));
		assert_int_equal(
			vring_device_peek(&fixture.device, fixture.burst, VRING_READABLE, 8), 1);
		vring_device_set_kick(&fixture.device, false);
		slot = 1;
		vring_fixed_offer(&fixture.ring, &slot, 1);
		vring_fixed_publish(&fixture.ring);
		assert_false(vring_fixed_needs_kick(&fixture.ring));
		close_ring(&fixture);
	}
}

static void use_one(struct fixture *fixture)
{
	assert_int_equal(vring_device_peek(&fixture->device, fixture->burst, VRING_READABLE, 1), 1);
	vring_device_return(&fixture->device, fixture->burst, 1);
	vring_device_publish(&fixture->device);
}

static void the_device_is_asked_for_a_call_or_spared_it(void **state)
{
	for (int kind = 0; kind < 4; kind++) {
		struct fixture fixture = open_layout(kind & 2, 1, false, true, false, kind & 1);

		offer_all(&fixture);
		use_one(&fixture);
		/* A device may call once for a ring that it has just begun with. */
		vring_device_needs_call(&fixture.device);
		use_one(&fixture);
		assert_false(vring_device_needs_call(&fixture.device));
		vring_fixed_collect(&fixture.ring, fixture.slots, fixture.lens, SIZE);
		vring_fixed_set_call(&fixture.ring, true);
		use_one(&fixture);
		assert_true(vring_device_needs_call(&fixture.device));
		close_ring(&fixture);
	}
}

static void shapes_that_cannot_be_are_refused(void **state)
{
	struct vring_fixed ring;

	assert_int_equal(
		vring_fixed_init(&ring, &(struct vring_fixed_config){.size = 12, .n_chain = 1}), -EINVAL);
	assert_int_equal(vring_fixed_init(&ring, &(struct vring_fixed_config){.size = 8, .n_chain = 3}), -EINVAL);
	assert_int_equal(
		vring_fixed_init(&ring, &(struct vring_fixed_config){.size = 8, .n_chain = 16}), -EINVAL);
	assert_int_equal(vring_fixed_init(&ring, &(struct vring_fixed_config){.size = 0, .n_chain = 1}), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(buffers_go_round_for_ever_through_a_real_device),
		cmocka_unit_test(lengths_of_received_frames_come_through),
		cmocka_unit_test(one_entry_may_stand_for_a_batch_with_in_order_only),
		cmocka_unit_test(a_used_length_beyond_the_buffer_is_cut),
		cmocka_unit_test(a_lie_breaks_the_ring_for_good),
		cmocka_unit_test(a_buffer_used_twice_breaks_the_ring),
		cmocka_unit_test(the_kick_follows_the_wish_of_the_device),
		cmocka_unit_test(the_device_is_asked_for_a_call_or_spared_it),
		cmocka_unit_test(shapes_that_cannot_be_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
