/* SPDX-License-Identifier: BSD-3-Clause */
/* Chains: which are taken, which refused and why (Q5, Q10-Q15, I1-I7, R10, R11, D21-D23, D70-D75). */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "guest.h"

#define N VRING_DESC_F_NEXT
#define W VRING_DESC_F_WRITE
#define I VRING_DESC_F_INDIRECT

#define RING_SIZE 16
#define TABLE (LOW + 0x8000)

struct link {
	uint64_t gpa;
	uint32_t len;
	uint16_t flags;
	uint16_t next;
};

/* The ring's descriptors from 0 on, and those of a table at `table` (0: none). Head is 0. */
struct chain_case {
	const char *name;
	enum vring_direction direction;
	struct link ring[8];
	uint64_t table;
	struct link entries[8];
	bool no_indirect;
	bool split_only; /* `next` decides, of which a packed ring has none, or the table's order does */
	enum vring_fault fault;
	uint32_t len;
	unsigned int n_pieces;
};

static const struct chain_case cases[] = {
	{"one", VRING_READABLE, {{LOW, 60, 0, 0}}, .len = 60, .n_pieces = 1},
	{"two", VRING_READABLE, {{LOW, 12, N, 1}, {LOW + 99, 60, 0, 0}}, .len = 72, .n_pieces = 2},
	{"two, backwards", VRING_READABLE, {{LOW, 12, N, 5}, [5] = {HIGH, 60, 0, 0}}, .len = 72,
		.n_pieces = 2},
	{"three", VRING_READABLE, {{LOW, 5, N, 1}, {LOW, 7, N, 2}, {LOW, 60, 0, 0}}, .len = 72,
		.n_pieces = 3},
	{"one writable", VRING_WRITABLE, {{LOW, 60, W, 0}}, .len = 60, .n_pieces = 1},
	{"two writable", VRING_WRITABLE, {{LOW, 12, W | N, 1}, {LOW, 60, W, 0}}, .len = 72,
		.n_pieces = 2},
	{"header alone too short, sum enough", VRING_WRITABLE,
		{{LOW, 1, W | N, 1}, {LOW, 11, W, 0}}, .len = 12, .n_pieces = 2},

	/* Q5 */
	{"next is size", VRING_READABLE, {{LOW, 60, N, RING_SIZE}}, .fault = VRING_FAULT_NEXT, .split_only = true},
	{"next is 0xffff", VRING_READABLE, {{LOW, 60, N, 0xffff}}, .fault = VRING_FAULT_NEXT, .split_only = true},
	{"next of the second is size", VRING_READABLE, {{LOW, 60, N, 1}, {LOW, 1, N, RING_SIZE}},
		.fault = VRING_FAULT_NEXT, .split_only = true},
	{"next without NEXT is ignored", VRING_READABLE, {{LOW, 60, 0, 0xffff}}, .len = 60,
		.n_pieces = 1},
	/* Q10 */
	{"loop of one", VRING_READABLE, {{LOW, 60, N, 0}}, .fault = VRING_FAULT_CHAIN, .split_only = true},
	{"loop of two", VRING_READABLE, {{LOW, 1, N, 1}, {LOW, 1, N, 0}},
		.fault = VRING_FAULT_CHAIN, .split_only = true},
	{"loop in the tail", VRING_READABLE, {{LOW, 1, N, 1}, {LOW, 1, N, 2}, {LOW, 1, N, 1}},
		.fault = VRING_FAULT_CHAIN, .split_only = true},
	{"loop of empty ones", VRING_READABLE, {{LOW, 0, N, 1}, {LOW, 0, N, 0}},
		.fault = VRING_FAULT_CHAIN, .split_only = true},
	/* Q11, D21 */
	{"empty", VRING_READABLE, {{LOW, 0, 0, 0}}, .fault = VRING_FAULT_LENGTH},
	{"two empty", VRING_READABLE, {{LOW, 0, N, 1}, {LOW, 0, 0, 0}},
		.fault = VRING_FAULT_LENGTH},
	{"empty ones between", VRING_READABLE,
		{{LOW, 0, N, 1}, {LOW, 12, N, 2}, {HOLE, 0, N, 3}, {LOW, 48, N, 4}, {LOW, 0, 0, 0}},
		.len = 60, .n_pieces = 2},
	{"empty, then data", VRING_READABLE, {{LOW, 0, N, 1}, {LOW, 48, 0, 0}}, .len = 48,
		.n_pieces = 1},
	{"data, then empty", VRING_READABLE, {{LOW, 48, N, 1}, {LOW, 0, 0, 0}}, .len = 48,
		.n_pieces = 1},
	/* Q15, D22, D23 */
	{"writable in transmit", VRING_READABLE, {{LOW, 60, W, 0}}, .fault = VRING_FAULT_DIRECTION},
	{"readable in receive", VRING_WRITABLE, {{LOW, 60, 0, 0}}, .fault = VRING_FAULT_DIRECTION},
	{"second writable in transmit", VRING_READABLE, {{LOW, 60, N, 1}, {LOW, 60, W, 0}},
		.fault = VRING_FAULT_DIRECTION},
	{"second readable in receive", VRING_WRITABLE, {{LOW, 60, W | N, 1}, {LOW, 60, 0, 0}},
		.fault = VRING_FAULT_DIRECTION},
	{"first readable in receive", VRING_WRITABLE, {{LOW, 60, N, 1}, {LOW, 60, W, 0}},
		.fault = VRING_FAULT_DIRECTION},
	{"third mixed", VRING_READABLE, {{LOW, 6, N, 1}, {LOW, 6, N, 2}, {LOW, 6, W, 0}},
		.fault = VRING_FAULT_DIRECTION},
	/* N4 */
	{"shorter than the header", VRING_WRITABLE, {{LOW, 11, W, 0}}, .fault = VRING_FAULT_LENGTH},
	{"two shorter than the header", VRING_WRITABLE, {{LOW, 5, W | N, 1}, {LOW, 6, W, 0}},
		.fault = VRING_FAULT_LENGTH},
	{"header only", VRING_WRITABLE, {{LOW, 12, W, 0}}, .len = 12, .n_pieces = 1},
	{"one byte of transmit", VRING_READABLE, {{LOW, 1, 0, 0}}, .len = 1, .n_pieces = 1},
	/* R10, R11 */
	{"byte before a region", VRING_READABLE, {{LOW - 1, 2, 0, 0}},
		.fault = VRING_FAULT_ADDRESS},
	{"last byte", VRING_READABLE, {{HOLE - 1, 1, 0, 0}}, .len = 1, .n_pieces = 1},
	{"one past the last", VRING_READABLE, {{HOLE - 1, 2, 0, 0}}, .fault = VRING_FAULT_ADDRESS},
	{"at the end", VRING_READABLE, {{HOLE, 1, 0, 0}}, .fault = VRING_FAULT_ADDRESS},
	{"second outside", VRING_READABLE, {{LOW, 12, N, 1}, {HOLE, 1, 0, 0}},
		.fault = VRING_FAULT_ADDRESS},
	{"whole region", VRING_READABLE, {{LOW, LOW_BYTES, 0, 0}}, .len = LOW_BYTES, .n_pieces = 1},
	{"adjacent in gpa only: two pieces", VRING_READABLE, {{HIGH - 20, 60, 0, 0}}, .len = 60,
		.n_pieces = 2},
	{"both regions, all of them", VRING_READABLE, {{LOW, LOW_BYTES + HIGH_BYTES, 0, 0}},
		.len = LOW_BYTES + HIGH_BYTES, .n_pieces = 2},
	{"over both and one more", VRING_READABLE, {{LOW, LOW_BYTES + HIGH_BYTES + 1, 0, 0}},
		.fault = VRING_FAULT_ADDRESS},
	{"adjacent in both: one piece", VRING_READABLE, {{RIGHT - 20, 60, 0, 0}}, .len = 60,
		.n_pieces = 1},
	{"length 2^32-1", VRING_READABLE, {{LOW, UINT32_MAX, 0, 0}}, .fault = VRING_FAULT_ADDRESS},
	{"last byte of all", VRING_READABLE, {{UINT64_MAX, 1, 0, 0}}, .len = 1, .n_pieces = 1},
	{"over the end of all", VRING_READABLE, {{UINT64_MAX, 2, 0, 0}},
		.fault = VRING_FAULT_ADDRESS},
	{"over the end, second", VRING_READABLE, {{LOW, 12, N, 1}, {TOP, 4097, 0, 0}},
		.fault = VRING_FAULT_ADDRESS},
	{"address 0", VRING_READABLE, {{0, 60, 0, 0}}, .fault = VRING_FAULT_ADDRESS},
	/* N5 */
	{"sum of 2^32", VRING_READABLE, {{LOW, 0x80000000, N, 1}, {LOW, 0x80000000, 0, 0}},
		.fault = VRING_FAULT_ADDRESS},

	/* I: the good ones */
	{"table of one", VRING_READABLE, {{TABLE, 16, I, 0}}, TABLE, {{LOW, 60, 0, 0}}, .len = 60,
		.n_pieces = 1},
	{"table of three, shuffled", VRING_READABLE, {{TABLE, 48, I, 0}}, TABLE,
		{{LOW, 12, N, 2}, {LOW, 48, 0, 0}, {LOW, 20, N, 1}}, .len = 80, .n_pieces = 3, .split_only = true},
	{"WRITE on the table is ignored (D70)", VRING_READABLE, {{TABLE, 16, I | W, 0}}, TABLE,
		{{LOW, 60, 0, 0}}, .len = 60, .n_pieces = 1},
	{"no WRITE on the table of a receive buffer", VRING_WRITABLE, {{TABLE, 16, I, 0}}, TABLE,
		{{LOW, 60, W, 0}}, .len = 60, .n_pieces = 1},
	{"header direct, data indirect (D71)", VRING_READABLE, {{LOW, 12, N, 1}, {TABLE, 32, I, 0}},
		TABLE, {{LOW, 40, N, 1}, {LOW, 20, 0, 0}}, .len = 72, .n_pieces = 3},
	{"unaligned table (I4)", VRING_READABLE, {{TABLE + 3, 32, I, 0}}, TABLE + 3,
		{{LOW, 40, N, 1}, {LOW, 20, 0, 0}}, .len = 60, .n_pieces = 2},
	{"table across regions (I4)", VRING_READABLE, {{HIGH - 16, 48, I, 0}}, HIGH - 16,
		{{LOW, 40, N, 1}, {LOW, 20, N, 2}, {LOW, 3, 0, 0}}, .len = 63, .n_pieces = 3},
	{"entry across regions (I4)", VRING_READABLE, {{HIGH - 21, 48, I, 0}}, HIGH - 21,
		{{LOW, 40, N, 1}, {LOW, 20, N, 2}, {LOW, 3, 0, 0}}, .len = 63, .n_pieces = 3},
	{"table across joined regions", VRING_READABLE, {{RIGHT - 24, 48, I, 0}}, RIGHT - 24,
		{{LOW, 40, N, 1}, {LOW, 20, N, 2}, {LOW, 3, 0, 0}}, .len = 63, .n_pieces = 3},
	{"more entries than used", VRING_READABLE, {{TABLE, 8 * 16, I, 0}}, TABLE,
		{{LOW, 40, N, 7}, [7] = {LOW, 1, 0, 0}}, .len = 41, .n_pieces = 2},
	/* and the bad ones */
	{"not negotiated (I2)", VRING_READABLE, {{TABLE, 16, I, 0}}, TABLE, {{LOW, 60, 0, 0}},
		.no_indirect = true, .fault = VRING_FAULT_INDIRECT},
	{"length 0 (I1)", VRING_READABLE, {{TABLE, 0, I, 0}}, .fault = VRING_FAULT_INDIRECT},
	{"length 1", VRING_READABLE, {{TABLE, 1, I, 0}}, .fault = VRING_FAULT_INDIRECT},
	{"length 8", VRING_READABLE, {{TABLE, 8, I, 0}}, .fault = VRING_FAULT_INDIRECT},
	{"length 15", VRING_READABLE, {{TABLE, 15, I, 0}}, .fault = VRING_FAULT_INDIRECT},
	{"length 17", VRING_READABLE, {{TABLE, 17, I, 0}}, .fault = VRING_FAULT_INDIRECT},
	{"length 24", VRING_READABLE, {{TABLE, 24, I, 0}}, .fault = VRING_FAULT_INDIRECT},
	{"more entries than the ring (D75)", VRING_READABLE, {{TABLE, 16 * (RING_SIZE + 1), I, 0}},
		.fault = VRING_FAULT_INDIRECT},
	{"65535 entries", VRING_READABLE, {{TABLE, 16 * 65535, I, 0}},
		.fault = VRING_FAULT_INDIRECT},
	{"length 2^32-16", VRING_READABLE, {{TABLE, 0xfffffff0, I, 0}},
		.fault = VRING_FAULT_INDIRECT},
	{"nested (I2)", VRING_READABLE, {{TABLE, 16, I, 0}}, TABLE, {{TABLE, 16, I, 0}},
		.fault = VRING_FAULT_INDIRECT, .split_only = true},
	{"INDIRECT and NEXT (I2)", VRING_READABLE, {{TABLE, 16, I | N, 1}, {LOW, 60, 0, 0}}, TABLE,
		{{LOW, 60, 0, 0}}, .fault = VRING_FAULT_INDIRECT},
	{"two tables (I2)", VRING_READABLE, {{TABLE, 16, I | N, 1}, {TABLE, 16, I, 0}}, TABLE,
		{{LOW, 60, 0, 0}}, .fault = VRING_FAULT_INDIRECT},
	{"next outside the table (I3)", VRING_READABLE, {{TABLE, 32, I, 0}}, TABLE,
		{{LOW, 60, N, 2}}, .fault = VRING_FAULT_NEXT, .split_only = true},
	{"table of two", VRING_READABLE, {{TABLE, 32, I, 0}}, TABLE,
		{{LOW, 12, N, 1}, {LOW, 60, 0, 0}}, .len = 72, .n_pieces = 2},
	{"table of two, writable", VRING_WRITABLE, {{TABLE, 32, I | W, 0}}, TABLE,
		{{LOW, 12, N | W, 1}, {LOW, 60, W, 0}}, .len = 72, .n_pieces = 2},
	{"table of two, one used", VRING_READABLE, {{TABLE, 32, I, 0}}, TABLE,
		{{LOW, 12, 0, 1}, {LOW, 60, 0, 0}}, .len = 12, .n_pieces = 1, .split_only = true},
	{"table of two, next 0 (I3)", VRING_READABLE, {{TABLE, 32, I, 0}}, TABLE,
		{{LOW, 12, N, 0}, {LOW, 60, 0, 0}}, .fault = VRING_FAULT_CHAIN, .split_only = true},
	{"table of two, next 2 (I3)", VRING_READABLE, {{TABLE, 32, I, 0}}, TABLE,
		{{LOW, 12, N, 2}, {LOW, 60, 0, 0}}, .fault = VRING_FAULT_NEXT, .split_only = true},
	{"table of two, nested second (I2)", VRING_READABLE, {{TABLE, 32, I, 0}}, TABLE,
		{{LOW, 12, N, 1}, {TABLE, 32, I, 0}}, .fault = VRING_FAULT_INDIRECT, .split_only = true},
	{"table of two, second of the other direction", VRING_READABLE, {{TABLE, 32, I, 0}}, TABLE,
		{{LOW, 12, N, 1}, {LOW, 60, W, 0}}, .fault = VRING_FAULT_DIRECTION},
	{"table of two, INDIRECT and NEXT (I2)", VRING_READABLE,
		{{TABLE, 32, I | N, 1}, {LOW, 1, 0, 0}}, TABLE, {{LOW, 12, N, 1}, {LOW, 60, 0, 0}},
		.fault = VRING_FAULT_INDIRECT},
	{"table of two, not negotiated (I2)", VRING_READABLE, {{TABLE, 32, I, 0}}, TABLE,
		{{LOW, 12, N, 1}, {LOW, 60, 0, 0}}, .no_indirect = true,
		.fault = VRING_FAULT_INDIRECT},
	{"loop in the table (I3)", VRING_READABLE, {{TABLE, 48, I, 0}}, TABLE,
		{{LOW, 60, N, 1}, {LOW, 60, N, 0}}, .fault = VRING_FAULT_CHAIN, .split_only = true},
	{"empty loop in the table", VRING_READABLE, {{TABLE, 48, I, 0}}, TABLE,
		{{LOW, 0, N, 1}, {LOW, 0, N, 0}}, .fault = VRING_FAULT_CHAIN, .split_only = true},
	{"table in a hole (D75)", VRING_READABLE, {{HOLE, 16, I, 0}}, .fault = VRING_FAULT_ADDRESS},
	{"table running out of its region", VRING_READABLE, {{HOLE - 16, 32, I, 0}}, HOLE - 16,
		{{LOW, 60, N, 1}}, .fault = VRING_FAULT_ADDRESS},
	{"table over the end of all", VRING_READABLE, {{UINT64_MAX - 15, 32, I, 0}},
		UINT64_MAX - 15, {{LOW, 60, N, 1}}, .fault = VRING_FAULT_ADDRESS},
	{"direction inside the table", VRING_READABLE, {{TABLE, 16, I, 0}}, TABLE,
		{{LOW, 60, W, 0}}, .fault = VRING_FAULT_DIRECTION},
	{"empty buffer in a table", VRING_READABLE, {{TABLE, 16, I, 0}}, TABLE, {{LOW, 0, 0, 0}},
		.fault = VRING_FAULT_LENGTH},
};

static struct guest guest;
static struct vring_device ring;
static struct vring_burst burst;

static void start(uint16_t size)
{
	struct vring_config config;

	guest_create(&guest, size, 65535);
	config = guest_config(&guest);
	assert_int_equal(vring_device_init(&ring, &config), 0);
}

static void check_pieces(const struct vring_buffer *buffer)
{
	uint64_t sum = 0;

	for (unsigned int i = 0; i < buffer->n_pieces; i++) {
		assert_true(buffer->pieces[i].len > 0);
		sum += buffer->pieces[i].len;
	}
	assert_int_equal(sum, buffer->len);
}

static void takes_or_refuses_each_shape_as_listed(void **state)
{
	for (unsigned int i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const struct chain_case *test = &cases[i];
		const struct vring_buffer *buffer = &burst.buffers[0];

		if (guest_is_packed && test->split_only)
			continue;
		start(RING_SIZE);
		ring.indirect = !test->no_indirect;
		for (unsigned int d = 0; d < 8; d++) {
			guest_put(&guest, d, test->ring[d].gpa, test->ring[d].len,
				test->ring[d].flags, test->ring[d].next);
			if (test->entries[d].gpa != 0)
				guest_put_in_table(&guest, test->table, d, test->entries[d].gpa,
					test->entries[d].len, test->entries[d].flags,
					test->entries[d].next);
		}
		for (unsigned int pass = 0; pass < 2; pass++) {
			if (pass == 1) {
				/* Once more with the region of all good addresses in the cache. */
				guest_put(&guest, 15, LOW, 60,
					test->direction == VRING_WRITABLE ? W : 0, 0);
				guest_offer(&guest, 15);
				assert_int_equal(
					vring_device_peek(&ring, &burst, test->direction, 32), 1);
				assert_int_equal(buffer->fault, VRING_OK);
				finish(&ring, &burst, 1);
			}
			guest_offer(&guest, 0);
			assert_int_equal(
				vring_device_peek(&ring, &burst, test->direction, 32), 1);
			if (buffer->fault != test->fault || buffer->len != test->len ||
				buffer->n_pieces != test->n_pieces)
				fail_msg("%s: fault \"%s\", %u bytes, %u pieces; expected \"%s\", "
					 "%u, %u",
					test->name, vring_fault_name(buffer->fault), buffer->len,
					buffer->n_pieces, vring_fault_name(test->fault), test->len,
					test->n_pieces);
			check_pieces(buffer);
			finish(&ring, &burst, 1);
		}
		assert_int_equal(ring.n_faults[test->fault], test->fault == VRING_OK ? 0 : 2);
		guest_expect_used(&guest, 0, 0);
		guest_expect_used(&guest, 15, 0);
		guest_expect_used(&guest, 0, 0);
		guest_expect_no_used(&guest);
		assert_int_equal(ring.breakage, VRING_INTACT);
		guest_destroy(&guest);
	}
}

/* Pieces must name the bytes the addresses name, cut by regions or not. */
static void finds_exactly_the_bytes_of_the_chain(void **state)
{
	uint64_t seed = seed_get();

	for (unsigned int round = 0; round < 3000; round++) {
		const uint64_t starts[] = {LOW, HIGH - 64, RIGHT - 64, TOP, LEFT};
		unsigned int n = 1 + random_below(&seed, 12);
		bool has_table = random_below(&seed, 2) != 0;
		uint64_t table = HIGH - random_below(&seed, 400);
		uint8_t expected[12 * 100];
		uint8_t found[12 * 100];
		size_t n_expected = 0;
		size_t n_found = 0;
		uint16_t order[12];

		start(16);
		for (unsigned int i = 0; i < 4096; i++) {
			uint64_t word = random_next(&seed);

			for (unsigned int r = 0; r < 5; r++)
				guest_write(&guest, starts[r] + i % 120, &word, 1);
		}
		for (unsigned int i = 0; i < n; i++)
			order[i] = (uint16_t)i;
		/* The entries of a packed ring's table have one order. */
		for (unsigned int i = guest.packed && has_table ? 0 : n; i > 2; i--) {
			unsigned int j = 1 + random_below(&seed, i - 1);
			uint16_t swap = order[i - 1];

			order[i - 1] = order[j];
			order[j] = swap;
		}
		for (unsigned int i = 0; i < n; i++) {
			uint64_t gpa = starts[random_below(&seed, 5)] + random_below(&seed, 60);
			uint32_t len = random_below(&seed, 60) + (i == 0);
			uint16_t flags = i + 1 < n ? N : 0;
			uint16_t next = i + 1 < n ? order[i + 1] : 0;

			guest_read(&guest, gpa, expected + n_expected, len);
			n_expected += len;
			if (has_table)
				guest_put_in_table(&guest, table, order[i], gpa, len, flags, next);
			else
				guest_put(&guest, order[i], gpa, len, flags, next);
		}
		if (has_table) {
			/* The table may lie on the bytes it names: take them again. */
			guest_put(&guest, 0, table, n * 16, I, 0);
			n_expected = 0;
			for (unsigned int i = 0; i < n; i++) {
				struct vring_desc entry;

				guest_read(&guest, table + order[i] * 16, &entry, 16);
				guest_read(&guest, entry.addr, expected + n_expected, entry.len);
				n_expected += entry.len;
			}
		}
		guest_offer(&guest, 0);
		assert_int_equal(vring_device_peek(&ring, &burst, VRING_READABLE, 32), 1);
		assert_int_equal(burst.buffers[0].fault, VRING_OK);
		assert_int_equal(burst.buffers[0].len, n_expected);
		check_pieces(&burst.buffers[0]);
		for (unsigned int i = 0; i < burst.buffers[0].n_pieces; i++) {
			const struct vring_piece *piece = &burst.buffers[0].pieces[i];

			memcpy(found + n_found, piece->hva, piece->len);
			n_found += piece->len;
		}
		assert_memory_equal(expected, found, n_expected);
		guest_destroy(&guest);
	}
}

/* Q12: no bit but the three is looked at. */
static void ignores_unknown_flags(void **state)
{
	start(RING_SIZE);
	for (uint32_t flags = 0; flags < 65536; flags++) {
		enum vring_fault expected = VRING_OK;

		guest_put(&guest, 0, LOW, 60, (uint16_t)flags, 1);
		guest_put(&guest, 1, LOW, 60, 0, 0);
		if (flags & I)
			expected = VRING_FAULT_INDIRECT; /* 60 is no table length */
		else if (flags & W)
			expected = VRING_FAULT_DIRECTION;
		guest_offer(&guest, 0);
		assert_int_equal(vring_device_peek(&ring, &burst, VRING_READABLE, 32), 1);
		assert_int_equal(burst.buffers[0].fault, expected);
		if (expected == VRING_OK)
			assert_int_equal(burst.buffers[0].len, flags & N ? 120 : 60);
		finish(&ring, &burst, 1);
	}
	guest_destroy(&guest);
}

static void build_chain(unsigned int first, unsigned int n, uint64_t gpa, uint32_t len)
{
	for (unsigned int i = 0; i < n; i++)
		guest_put(&guest, first + i, gpa, len, i + 1 < n ? N : 0, (uint16_t)(first + i + 1));
}

/* Q13: up to the limit exact, beyond it refused; a chain as long as a small ring is fine. */
static void limits_chains_to_the_ring_and_the_maximum(void **state)
{
	const struct {
		uint16_t size;
		unsigned int n;
		bool good;
	} rows[] = {
		{1, 1, true}, {2, 2, true}, {256, 256, true}, {1024, 1024, true},
		{32768, VRING_CHAIN_MAX, true}, {32768, VRING_CHAIN_MAX + 1, false},
		{32768, 32768, false},
	};

	for (unsigned int i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		start(rows[i].size);
		build_chain(0, rows[i].n, LOW, 1);
		guest_offer(&guest, 0);
		if (guest.packed && !rows[i].good) {
			/* Its id is too far away to look for. */
			assert_int_equal(
				vring_device_peek(&ring, &burst, VRING_READABLE, 32), -EPROTO);
			assert_int_equal(ring.breakage, VRING_BROKEN_CHAIN);
			guest_destroy(&guest);
			continue;
		}
		assert_int_equal(vring_device_peek(&ring, &burst, VRING_READABLE, 32), 1);
		assert_int_equal(
			burst.buffers[0].fault, rows[i].good ? VRING_OK : VRING_FAULT_CHAIN);
		assert_int_equal(burst.buffers[0].n_pieces, rows[i].good ? rows[i].n : 0);
		finish(&ring, &burst, 1);
		guest_expect_used(&guest, 0, 0);
		assert_int_equal(vring_device_position(&ring),
			guest_position(&guest, 65535 + (guest.packed ? rows[i].n : 1)));
		guest_destroy(&guest);
	}
}

/* N5: 2^32 bytes out of one mapping; needs address space only. */
static void refuses_a_sum_that_does_not_fit_in_32_bits(void **state)
{
	struct {
		struct gmem mem;
		struct gmem_region regions[1];
	} big = {.mem.n_regions = 1};
	struct guarded block = guarded_alloc(1ULL << 31, 4096);

	start(RING_SIZE);
	big.mem.regions[0] = (struct gmem_region){.gpa = 0, .size = 1ULL << 31, .hva = block.data};
	ring.mem = &big.mem;
	guest_put(&guest, 0, 0, 0x80000000, N, 1);
	guest_put(&guest, 1, 0, 0x7fffffff, 0, 0);
	guest_put(&guest, 2, 0, 0x80000000, N, 3);
	guest_put(&guest, 3, 0, 0x80000000, 0, 0);
	guest_put(&guest, 4, 0, 0x80000000, N, 5);
	guest_put(&guest, 5, 0, 0x80000000, N, 6);
	guest_put(&guest, 6, 0, 64, 0, 0);
	guest_offer(&guest, 0);
	guest_offer(&guest, 2);
	guest_offer(&guest, 4);
	assert_int_equal(vring_device_peek(&ring, &burst, VRING_READABLE, 32), 3);
	assert_int_equal(burst.buffers[0].fault, VRING_OK);
	assert_int_equal(burst.buffers[0].len, UINT32_MAX);
	assert_int_equal(burst.buffers[1].fault, VRING_FAULT_LENGTH);
	assert_int_equal(burst.buffers[2].fault, VRING_FAULT_LENGTH);
	guarded_free(&block);
	guest_destroy(&guest);
}

/* D75: the smallest ring, where even two entries are too many. */
static void refuses_tables_longer_than_a_ring_of_one(void **state)
{
	start(1);
	guest_put_in_table(&guest, TABLE, 0, LOW, 12, 0, 0);
	guest_put(&guest, 0, TABLE, 16, I, 0);
	guest_offer(&guest, 0);
	assert_int_equal(vring_device_peek(&ring, &burst, VRING_READABLE, 32), 1);
	assert_int_equal(burst.buffers[0].fault, VRING_OK);
	finish(&ring, &burst, 1);
	guest_put_in_table(&guest, TABLE, 0, LOW, 12, N, 1);
	guest_put_in_table(&guest, TABLE, 1, LOW, 60, 0, 0);
	guest_put(&guest, 0, TABLE, 32, I, 0);
	guest_offer(&guest, 0);
	assert_int_equal(vring_device_peek(&ring, &burst, VRING_READABLE, 32), 1);
	assert_int_equal(burst.buffers[0].fault, VRING_FAULT_INDIRECT);
	guest_destroy(&guest);
}

/* R9, R11: memory at both ends of the address space is not one run of bytes. */
static void does_not_go_around_the_end_of_all_addresses(void **state)
{
	start(RING_SIZE);
	guest.mem->regions[0].gpa = 0;
	guest_put_in_table(&guest, UINT64_MAX - 15, 0, 0x100, 12, N, 1);
	guest_put_in_table(&guest, 0, 0, 0x100, 12, 0, 0);
	guest_put(&guest, 0, UINT64_MAX - 15, 32, 0, 0);
	guest_put(&guest, 1, UINT64_MAX - 15, 32, I, 0);
	guest_put(&guest, 2, 0, 32, 0, 0);
	guest_offer(&guest, 0);
	guest_offer(&guest, 1);
	guest_offer(&guest, 2);
	assert_int_equal(vring_device_peek(&ring, &burst, VRING_READABLE, 32), 3);
	assert_int_equal(burst.buffers[0].fault, VRING_FAULT_ADDRESS);
	assert_int_equal(burst.buffers[1].fault, VRING_FAULT_ADDRESS);
	assert_int_equal(burst.buffers[2].fault, VRING_OK);
	guest_destroy(&guest);
}

/* Chains so long that a burst cannot hold all: the rest comes with the next call, in order, none refused for it. */
static void carries_long_chains_over_to_the_next_burst(void **state)
{
	unsigned int next = 0;

	start(32768);
	for (unsigned int i = 0; i < 32; i++) {
		build_chain(i * 1024, i % 3 == 0 ? 1 : 1000 + i % 20, LOW, 1 + i % 3);
		guest_offer(&guest, (uint16_t)(i * 1024));
	}
	while (next < 32) {
		int n = vring_device_peek(&ring, &burst, VRING_READABLE, 32);

		assert_in_range(n, 1, 32);
		for (int i = 0; i < n; i++, next++) {
			assert_int_equal(burst.buffers[i].id, next * 1024);
			assert_int_equal(burst.buffers[i].fault, VRING_OK);
			assert_int_equal(burst.buffers[i].n_pieces,
				next % 3 == 0 ? 1 : 1000 + next % 20);
			check_pieces(&burst.buffers[i]);
		}
		finish(&ring, &burst, (unsigned int)n);
	}
	guest_destroy(&guest);
}

/* W3: 256 chains of 1000 empty descriptors, or as many as fit a packed ring, are not all walked in one call. */
static void bounds_the_work_of_one_call(void **state)
{
	const unsigned int n_chains = guest_is_packed ? 32 : 256;
	unsigned int n_total = 0;

	start(32768);
	build_chain(0, 1000, LOW, 0);
	guest_put(&guest, 999, LOW, 1, 0, 0);
	for (unsigned int i = 0; i < n_chains; i++)
		guest_offer(&guest, 0);
	while (n_total < n_chains) {
		int n = vring_device_peek(&ring, &burst, VRING_READABLE, 256);

		assert_in_range(n, 1, 2);
		assert_int_equal(burst.buffers[0].len, 1);
		finish(&ring, &burst, (unsigned int)n);
		n_total += (unsigned int)n;
	}
	guest_destroy(&guest);
}

/* I6: tables and chains in turn, both at the limit. */
static void mixes_direct_and_indirect_at_the_limits(void **state)
{
	start(RING_SIZE);
	for (unsigned int i = 0; i < RING_SIZE; i++)
		guest_put_in_table(&guest, TABLE, i, LOW, 2, i + 1 < RING_SIZE ? N : 0,
			(uint16_t)(i + 1));
	for (unsigned int round = 0; round < 100; round++) {
		if (round % 2 == 0) {
			build_chain(0, RING_SIZE, LOW, 3);
			guest_offer(&guest, 0);
		} else {
			guest_put(&guest, 7, TABLE, RING_SIZE * 16, I, 0);
			guest_offer(&guest, 7);
		}
		assert_int_equal(vring_device_peek(&ring, &burst, VRING_READABLE, 32), 1);
		assert_int_equal(burst.buffers[0].fault, VRING_OK);
		assert_int_equal(burst.buffers[0].len, RING_SIZE * (round % 2 == 0 ? 3 : 2));
		finish(&ring, &burst, 1);
	}
	/* One direct before a table that fills the limit alone. */
	guest_put(&guest, 0, LOW, 1, N, 1);
	guest_put(&guest, 1, TABLE, RING_SIZE * 16, I, 0);
	guest_offer(&guest, 0);
	assert_int_equal(vring_device_peek(&ring, &burst, VRING_READABLE, 32), 1);
	assert_int_equal(burst.buffers[0].fault, VRING_FAULT_CHAIN);
	guest_destroy(&guest);
}

/* I7: the table is the ring's own descriptor table, the used ring, all of it. Bounded, no more is asked. */
static void survives_tables_that_are_the_ring_itself(void **state)
{
	struct {
		struct gmem mem;
		struct gmem_region regions[3];
	} own = {.mem.n_regions = 3};

	start(RING_SIZE);
	for (unsigned int part = 0; part < 3; part++)
		own.mem.regions[part] = (struct gmem_region){.gpa = 0x1000 * (part + 1ULL),
			.size = guest.parts[part].bytes, .hva = guest.parts[part].data};
	ring.mem = &own.mem;
	for (unsigned int round = 0; round < 200; round++) {
		unsigned int part = 1 + round % 3;
		int n;

		for (unsigned int i = 0; i < RING_SIZE; i++)
			guest_put(&guest, i, part * 0x1000 + (round & ~15U) % 64, 16 * (1 + i % 8),
				i % 2 ? I : 0, 0);
		guest_offer(&guest, (uint16_t)(round % RING_SIZE));
		n = vring_device_peek(&ring, &burst, VRING_READABLE, 32);
		assert_int_equal(n, 1);
		finish(&ring, &burst, 1);
	}
	guest_destroy(&guest);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH_LAYOUTS(takes_or_refuses_each_shape_as_listed),
		BOTH_LAYOUTS(finds_exactly_the_bytes_of_the_chain),
		SPLIT(ignores_unknown_flags),
		BOTH_LAYOUTS(limits_chains_to_the_ring_and_the_maximum),
		BOTH_LAYOUTS(refuses_a_sum_that_does_not_fit_in_32_bits),
		BOTH_LAYOUTS(refuses_tables_longer_than_a_ring_of_one),
		BOTH_LAYOUTS(does_not_go_around_the_end_of_all_addresses),
		BOTH_LAYOUTS(carries_long_chains_over_to_the_next_burst),
		BOTH_LAYOUTS(bounds_the_work_of_one_call),
		BOTH_LAYOUTS(mixes_direct_and_indirect_at_the_limits),
		BOTH_LAYOUTS(survives_tables_that_are_the_ring_itself),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
