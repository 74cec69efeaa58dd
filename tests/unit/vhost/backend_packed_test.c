/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Packed rings through messages (D40, M10, X1, X12): sizes, alignment and places, which are checked
 * when they come if the layout is known by then, and in any case before the ring runs. What is the
 * same for both layouts is in backend_ring_test.c.
 */
#include <errno.h>

#include "session_fixture.h"

#define N_ELEMENTS(array) (sizeof(array) / sizeof((array)[0]))

/* avail and used in slots and wrap counters. */
#define BASE(avail_slot, avail_wrap, used_slot, used_wrap)                                        \
	((uint32_t)(avail_slot) | (uint32_t)(avail_wrap) << 15 | (uint32_t)(used_slot) << 16 |    \
		(uint32_t)(used_wrap) << 31)

static enum outcome set_base(struct fixture *f, uint32_t base)
{
	return client_call_state(f, VU_REQUEST_SET_VRING_BASE, 1, base);
}

static enum outcome set_size(struct fixture *f, uint32_t size)
{
	return client_call_state(f, VU_REQUEST_SET_VRING_NUM, 1, size);
}

static enum outcome set_addr(struct fixture *f, const struct vu_ring_addr_payload *addr)
{
	return client_call(f, VU_REQUEST_SET_VRING_ADDR, addr, sizeof(*addr), NULL, 0);
}

static enum vu_ring_state kick(struct fixture *f)
{
	assert_int_equal(
		client_call_fd(f, VU_REQUEST_SET_VRING_KICK, 1 | VU_RING_FD_NONE, -1), OUTCOME_OK);
	return vu_backend_ring(f->session, 1)->state;
}

static void open_negotiated(struct fixture *f)
{
	fixture_open_layout(f, true);
	client_negotiate(f);
	client_set_memory(f);
}

static void packed_ring_takes_any_size_up_to_32768(void **state)
{
	static const uint32_t bad[] = {0, 32769, 65535, 65536, 1u << 31, UINT32_MAX};
	static const uint32_t good[] = {1, 2, 3, 5, 8, 255, 256, 257, 1000};
	struct fixture f;

	open_negotiated(&f);
	for (size_t i = 0; i < N_ELEMENTS(bad); i++)
		assert_int_equal(set_size(&f, bad[i]), OUTCOME_REFUSED);
	for (uint32_t size = 1; size <= 32768; size += 4681)
		assert_int_equal(set_size(&f, size), OUTCOME_OK);
	for (size_t i = 0; i < N_ELEMENTS(good); i++) {
		struct vu_ring_addr_payload addr = guest_ring_addr(&f, 1);

		assert_int_equal(set_size(&f, good[i]), OUTCOME_OK);
		assert_int_equal(set_base(&f, BASE(0, 1, 0, 1)), OUTCOME_OK);
		assert_int_equal(set_addr(&f, &addr), OUTCOME_OK);
		assert_int_equal(kick(&f), VU_RING_RUNNING);
		assert_int_equal(vu_backend_ring(f.session, 1)->device.size, good[i]);
		assert_true(vu_backend_ring(f.session, 1)->device.packed);
		assert_int_equal(client_get_base(&f, 1), BASE(0, 1, 0, 1));
	}
	fixture_close(&f);
}

/* Features may come last; what was taken until then may be wrong for the layout they choose. */
static void ring_waits_if_the_layout_negotiated_later_does_not_fit(void **state)
{
	static const struct {
		uint32_t size;
		uint32_t base;
		bool packed;
		bool runs;
	} cases[] = {
		{8, 5, false, true}, {3, 0, false, false}, {8, 65536 + 5, false, false},
		{3, BASE(2, 1, 2, 1), true, true}, {3, BASE(3, 1, 2, 1), true, false},
		{3, BASE(2, 1, 3, 1), true, false}, {8, 5, true, true}, {8, 8, true, false},
	};

	for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
		const uint64_t bits = FIXTURE_FEATURES | VU_BIT(VHOST_USER_F_PROTOCOL_FEATURES);
		struct vu_ring_addr_payload addr;
		struct fixture f;

		fixture_open_layout(&f, true);
		client_call_u64(&f, VU_REQUEST_SET_PROTOCOL_FEATURES,
			VU_BIT(VU_PROTOCOL_F_REPLY_ACK) | VU_BIT(VU_PROTOCOL_F_RESET_DEVICE));
		client_set_memory(&f);
		addr = guest_ring_addr(&f, 1);
		assert_int_equal(set_size(&f, cases[i].size), OUTCOME_OK);
		assert_int_equal(set_base(&f, cases[i].base), OUTCOME_OK);
		assert_int_equal(set_addr(&f, &addr), OUTCOME_OK);
		assert_int_equal(kick(&f), VU_RING_STARTED);
		assert_int_equal(client_call_u64(&f, VU_REQUEST_SET_FEATURES,
					 bits | (cases[i].packed ? FIXTURE_RING_PACKED : 0)),
			OUTCOME_OK);
		assert_int_equal(vu_backend_ring(f.session, 1)->state,
			cases[i].runs ? VU_RING_RUNNING : VU_RING_STARTED);
		if (cases[i].runs)
			assert_int_equal(
				vu_backend_ring(f.session, 1)->device.packed, cases[i].packed);
		/* And what comes afterwards is measured by it at once. */
		client_get_base(&f, 1);
		assert_int_equal(set_size(&f, 5), cases[i].packed ? OUTCOME_OK : OUTCOME_REFUSED);
		fixture_close(&f);
	}
}

/* X12 */
static void places_beyond_the_size_are_refused(void **state)
{
	static const struct {
		uint32_t base;
		enum outcome outcome;
	} cases[] = {
		{BASE(6, 0, 6, 0), OUTCOME_OK}, {BASE(0, 1, 6, 0), OUTCOME_OK},
		{BASE(6, 1, 0, 1), OUTCOME_OK}, {BASE(7, 0, 6, 0), OUTCOME_REFUSED},
		{BASE(6, 0, 7, 0), OUTCOME_REFUSED}, {BASE(0x7fff, 1, 6, 0), OUTCOME_REFUSED},
		{BASE(6, 1, 0x7fff, 1), OUTCOME_REFUSED}, {UINT32_MAX, OUTCOME_REFUSED},
		{65535, OUTCOME_REFUSED},
	};
	struct fixture f;

	open_negotiated(&f);
	assert_int_equal(set_size(&f, 7), OUTCOME_OK);
	for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
		uint32_t before = client_get_base(&f, 1);

		assert_int_equal(set_base(&f, cases[i].base), cases[i].outcome);
		assert_int_equal(client_get_base(&f, 1),
			cases[i].outcome == OUTCOME_OK ? cases[i].base : before);
	}
	/* The size may come, and change, after the place. */
	assert_int_equal(set_base(&f, BASE(6, 1, 6, 1)), OUTCOME_OK);
	assert_int_equal(set_size(&f, 6), OUTCOME_OK);
	{
		struct vu_ring_addr_payload addr = guest_ring_addr(&f, 1);

		assert_int_equal(set_addr(&f, &addr), OUTCOME_OK);
	}
	assert_int_equal(kick(&f), VU_RING_STARTED);
	assert_int_equal(set_base(&f, BASE(5, 1, 5, 1)), OUTCOME_OK);
	assert_int_equal(vu_backend_ring(f.session, 1)->state, VU_RING_RUNNING);
	fixture_close(&f);
}

static void ring_starts_at_both_places(void **state)
{
	static const struct {
		uint32_t base;
		uint16_t avail, used;
	} cases[] = {
		{BASE(3, 1, 2, 1), 0x8003, 0x8002}, {BASE(0, 0, 7, 1), 0x0000, 0x8007},
		{BASE(5, 0, 5, 0), 5, 5}, {0, 0, 0},
		/* Front ends that have sixteen bits only, as DPDK's: nothing is in flight. */
		{0x8000, 0x8000, 0x8000}, {0x8005, 0x8005, 0x8005}, {3, 3, 3},
	};

	for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
		struct vu_ring_addr_payload addr;
		struct vu_ring *ring;
		struct fixture f;

		open_negotiated(&f);
		addr = guest_ring_addr(&f, 1);
		assert_int_equal(set_size(&f, FIXTURE_RING_SIZE), OUTCOME_OK);
		assert_int_equal(set_addr(&f, &addr), OUTCOME_OK);
		assert_int_equal(set_base(&f, cases[i].base), OUTCOME_OK);
		assert_int_equal(kick(&f), VU_RING_RUNNING);
		ring = vu_backend_ring(f.session, 1);
		assert_int_equal(ring->device.last_avail_idx, cases[i].avail);
		assert_int_equal(ring->device.used_idx, cases[i].used);
		assert_int_equal(client_get_base(&f, 1),
			cases[i].avail | (uint32_t)cases[i].used << 16);
		fixture_close(&f);
	}
}

/* D40 */
static void parts_of_a_packed_ring_have_their_own_alignment_and_extent(void **state)
{
	struct vu_ring_addr_payload addr;
	uint64_t end;
	struct fixture f;

	open_negotiated(&f);
	end = (uintptr_t)f.memory.address + f.memory.size;
	assert_int_equal(set_size(&f, 257), OUTCOME_OK);
	for (unsigned int off = 1; off <= 16; off++) {
		addr = guest_ring_addr(&f, 1);
		addr.desc_uva += off;
		assert_int_equal(set_addr(&f, &addr), off == 16 ? OUTCOME_OK : OUTCOME_REFUSED);
		addr = guest_ring_addr(&f, 1);
		addr.avail_uva += off;
		assert_int_equal(set_addr(&f, &addr), off % 4 == 0 ? OUTCOME_OK : OUTCOME_REFUSED);
		addr = guest_ring_addr(&f, 1);
		addr.used_uva += off;
		assert_int_equal(set_addr(&f, &addr), off % 4 == 0 ? OUTCOME_OK : OUTCOME_REFUSED);
	}
	/* To the last byte, and not one more. */
	addr = guest_ring_addr(&f, 1);
	addr.desc_uva = end - 257 * 16;
	assert_int_equal(set_addr(&f, &addr), OUTCOME_OK);
	addr.desc_uva += 16;
	assert_int_equal(set_addr(&f, &addr), OUTCOME_REFUSED);
	addr = guest_ring_addr(&f, 1);
	addr.avail_uva = end - 4;
	addr.used_uva = end - 4;
	assert_int_equal(set_addr(&f, &addr), OUTCOME_OK);
	addr.avail_uva = end;
	assert_int_equal(set_addr(&f, &addr), OUTCOME_REFUSED);
	addr.avail_uva = end - 8;
	addr.used_uva = end;
	assert_int_equal(set_addr(&f, &addr), OUTCOME_REFUSED);
	fixture_close(&f);
}

/* P6: a driver error that costs the ring is reported like any other. */
static void chain_without_an_end_breaks_the_ring_only(void **state)
{
	static struct vring_burst burst;
	struct vring_packed_desc *desc;
	struct vu_ring *ring;
	struct fixture f;

	fixture_open_layout(&f, true);
	client_start(&f);
	ring = vu_backend_ring(f.session, 1);
	guest_offer(&f, 1, 0, false);
	desc = (struct vring_packed_desc *)(f.memory.address + RING_BYTES);
	desc->flags |= VRING_DESC_F_NEXT;
	assert_int_equal(vring_device_peek(&ring->device, &burst, VRING_READABLE, 32), -EPROTO);
	vu_backend_ring_broken(f.session, 1);
	assert_int_equal(ring->state, VU_RING_BROKEN);
	assert_int_equal(client_ask_u64(&f, VU_REQUEST_GET_STATUS), 0x40);
	assert_int_equal(vu_backend_ring(f.session, 3)->state, VU_RING_RUNNING);
	assert_int_equal(client_get_base(&f, 1), fixture_base(&f, 0));
	desc->flags &= (uint16_t)~VRING_DESC_F_NEXT;
	assert_int_equal(kick(&f), VU_RING_RUNNING);
	assert_int_equal(vring_device_peek(&ring->device, &burst, VRING_READABLE, 32), 1);
	fixture_close(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(packed_ring_takes_any_size_up_to_32768),
		cmocka_unit_test(ring_waits_if_the_layout_negotiated_later_does_not_fit),
		cmocka_unit_test(places_beyond_the_size_are_refused),
		cmocka_unit_test(ring_starts_at_both_places),
		cmocka_unit_test(parts_of_a_packed_ring_have_their_own_alignment_and_extent),
		cmocka_unit_test(chain_without_an_end_breaks_the_ring_only),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
