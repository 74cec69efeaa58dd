/* SPDX-License-Identifier: BSD-3-Clause */
/* The table, the pending bits and message control, as a driver behind a PCI transport reads and writes them. */
#include <errno.h>

#include "sink.h"

static struct sink sink;

static uint64_t table_read(uint64_t offset, unsigned int size)
{
	uint64_t value = 0;

	assert_int_equal(msix_table_read(sink.msix, offset, size, &value), 0);
	return value;
}

static void table_write(uint64_t offset, unsigned int size, uint64_t value)
{
	assert_int_equal(msix_table_write(sink.msix, offset, size, value), 0);
}

static uint64_t pba_read(uint64_t offset, unsigned int size)
{
	uint64_t value = 0;

	assert_int_equal(msix_pba_read(sink.msix, offset, size, &value), 0);
	return value;
}

static void messages_are_kept_as_written_but_for_the_addresss_low_bits(void **state)
{
	static const unsigned int counts[] = {1, 3, 2048};

	for (unsigned int i = 0; i < 3; i++) {
		sink_create(&sink, counts[i]);
		assert_int_equal(msix_table_bytes(sink.msix), counts[i] * 16);
		for (unsigned int vector = 0; vector < counts[i]; vector++) {
			table_write(vector * 16, 4, 0xfee01003 + vector * 0x1000);
			table_write(vector * 16 + 4, 4, ~vector);
			table_write(vector * 16 + 8, 4, 0x4000 + vector);
		}
		for (unsigned int vector = 0; vector < counts[i]; vector++) {
			uint32_t low = 0xfee01000 + vector * 0x1000;

			assert_int_equal(table_read(vector * 16, 4), low);
			assert_int_equal(table_read(vector * 16 + 4, 4), ~vector);
			assert_int_equal(table_read(vector * 16 + 8, 4), 0x4000 + vector);
			assert_int_equal(table_read(vector * 16 + 12, 4), MSIX_VECTOR_MASKED);
			assert_true(table_read(vector * 16, 8) == ((uint64_t)~vector << 32 | low));
			assert_true(table_read(vector * 16 + 8, 8) == (1ULL << 32 | (0x4000 + vector)));
		}
		sink_destroy(&sink);
	}
}

static void a_qword_is_two_dwords(void **state)
{
	sink_create(&sink, 2);
	msix_enable(sink.msix);
	assert_false(msix_notify(sink.msix, 1));
	table_write(16, 8, 0x11223344fee02007);
	assert_int_equal(table_read(16, 4), 0xfee02004);
	assert_int_equal(table_read(20, 4), 0x11223344);
	sink_expect_none(&sink);
	/* Data, and the mask cleared. */
	table_write(24, 8, 0x00000000aabbccdd);
	assert_int_equal(table_read(24, 4), 0xaabbccdd);
	assert_int_equal(table_read(28, 4), 0);
	sink_expect(&sink, 1);
	assert_int_equal(table_read(0, 8), 0);
	assert_true(msix_is_masked(sink.msix, 0));
	sink_destroy(&sink);
}

static uint32_t data_at_fire;

static void read_data(void *ctx, unsigned int vector)
{
	data_at_fire = (uint32_t)table_read(vector * 16 + 8, 4);
}

static void message_data_is_in_place_before_the_mask_of_the_same_qword_is_clear(void **state)
{
	sink.msix = msix_create(1, read_data, NULL);
	assert_non_null(sink.msix);
	msix_enable(sink.msix);
	assert_false(msix_notify(sink.msix, 0));
	table_write(8, 8, 0x12345678);
	assert_int_equal(data_at_fire, 0x12345678);
	sink_destroy(&sink);
}

static void only_the_mask_bit_of_vector_control_can_be_written(void **state)
{
	sink_create(&sink, 1);
	msix_enable(sink.msix);
	assert_false(msix_notify(sink.msix, 0));
	/* Reserved bits read as zero, and change nothing. */
	table_write(12, 4, 0xffffffff);
	assert_int_equal(table_read(12, 4), MSIX_VECTOR_MASKED);
	sink_expect_none(&sink);
	table_write(12, 4, 0xfffffffe);
	assert_int_equal(table_read(12, 4), 0);
	sink_expect(&sink, 0);
	table_write(12, 4, 0x80000000);
	assert_true(msix_notify(sink.msix, 0));
	/* What the verbs do is seen here, and the other way round. */
	msix_mask(sink.msix, 0);
	assert_int_equal(table_read(12, 4), MSIX_VECTOR_MASKED);
	msix_unmask(sink.msix, 0);
	assert_int_equal(table_read(12, 4), 0);
	table_write(12, 4, MSIX_VECTOR_MASKED);
	assert_true(msix_is_masked(sink.msix, 0));
	sink_destroy(&sink);
}

static void a_function_masked_vector_reads_its_own_mask_alone(void **state)
{
	sink_create_open(&sink, 1);
	msix_mask_function(sink.msix);
	assert_true(msix_is_masked(sink.msix, 0));
	assert_int_equal(table_read(12, 4), 0);
	sink_destroy(&sink);
}

static void message_control_takes_enable_and_function_mask_and_nothing_else(void **state)
{
	static const unsigned int counts[] = {1, 2, 2048};

	for (unsigned int i = 0; i < 3; i++) {
		uint16_t table_size = (uint16_t)(counts[i] - 1);

		sink_create(&sink, counts[i]);
		for (uint32_t value = 0; value <= UINT16_MAX; value += 0x0133) {
			msix_control_write(sink.msix, (uint16_t)value);
			assert_int_equal(msix_control_read(sink.msix), (value & 0xc000) | table_size);
		}
		sink_destroy(&sink);
	}
}

static void message_control_opens_and_blocks_as_the_verbs_do(void **state)
{
	static const uint16_t values[] = {0, MSIX_CONTROL_FUNCTION_MASK, MSIX_CONTROL_ENABLE,
		MSIX_CONTROL_ENABLE | MSIX_CONTROL_FUNCTION_MASK};

	for (unsigned int from = 0; from < 4; from++) {
		for (unsigned int to = 0; to < 4; to++) {
			bool was_open = values[from] == MSIX_CONTROL_ENABLE;
			bool is_open = values[to] == MSIX_CONTROL_ENABLE;

			sink_create(&sink, 2);
			msix_unmask(sink.msix, 0);
			msix_control_write(sink.msix, values[from]);
			assert_int_equal(msix_notify(sink.msix, 0), was_open);
			assert_false(msix_notify(sink.msix, 1));
			msix_control_write(sink.msix, values[to]);
			assert_int_equal(msix_is_masked(sink.msix, 0), !is_open);
			if (is_open && !was_open)
				sink_expect(&sink, 0);
			else
				sink_expect_none(&sink);
			assert_true(msix_is_pending(sink.msix, 1));
			sink_destroy(&sink);
		}
	}
}

static void pending_bits_stand_where_pci_has_them(void **state)
{
	static const unsigned int counts[] = {1, 32, 33, 64, 65, 127, 2048};

	for (unsigned int i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
		unsigned int n = counts[i];

		sink_create(&sink, n);
		assert_int_equal(msix_pba_bytes(sink.msix), (n + 63) / 64 * 8);
		for (unsigned int vector = 0; vector < n; vector++) {
			uint64_t offset = vector / 64 * 8;

			if (vector % 64 == 0)
				assert_true(pba_read(offset, 8) == 0);
			assert_false(msix_notify(sink.msix, vector));
			/* All up to this one, none behind it. */
			assert_true(pba_read(offset, 8) == UINT64_MAX >> (63 - vector % 64));
			assert_int_equal(pba_read(vector / 32 * 4, 4), UINT32_MAX >> (31 - vector % 32));
		}
		msix_enable(sink.msix);
		for (unsigned int vector = 0; vector < n; vector += 3) {
			msix_unmask(sink.msix, vector);
			assert_int_equal(pba_read(vector / 32 * 4, 4) >> vector % 32 & 1, 0);
		}
		sink_destroy(&sink);
	}
}

static void odd_sizes_and_places_are_refused_and_change_nothing(void **state)
{
	static const unsigned int sizes[] = {0, 1, 2, 3, 5, 6, 7, 9, 12, 16, UINT32_MAX};
	static const uint64_t far[] = {48, 52, 56, 1024, 1ULL << 32, (1ULL << 32) + 8, 1ULL << 60, UINT64_MAX - 7,
		UINT64_MAX - 3};
	uint64_t value;

	sink_create_open(&sink, 3);
	for (unsigned int vector = 0; vector < 3; vector++)
		table_write(vector * 16, 8, 0x1234567800000000u + vector * 16);
	/* Any size but 4 and 8, any offset not aligned to it. */
	for (uint64_t offset = 0; offset < 64; offset++) {
		for (unsigned int i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
			value = 0;
			assert_int_equal(msix_table_read(sink.msix, offset, sizes[i], &value), -EINVAL);
			assert_true(value == UINT64_MAX);
			value = 0;
			assert_int_equal(msix_pba_read(sink.msix, offset, sizes[i], &value), -EINVAL);
			assert_true(value == UINT64_MAX);
			assert_int_equal(msix_table_write(sink.msix, offset, sizes[i], UINT64_MAX), -EINVAL);
		}
		for (unsigned int size = 4; size <= 8; size += 4) {
			bool in_table = offset % size == 0 && offset + size <= 48;
			bool in_pba = offset % size == 0 && offset + size <= 8;

			value = 0;
			assert_int_equal(msix_table_read(sink.msix, offset, size, &value), in_table ? 0 : -EINVAL);
			assert_int_equal(value == UINT64_MAX, !in_table);
			assert_int_equal(msix_pba_read(sink.msix, offset, size, &value), in_pba ? 0 : -EINVAL);
			assert_int_equal(value == UINT64_MAX, !in_pba);
			if (!in_table)
				assert_int_equal(msix_table_write(sink.msix, offset, size, UINT64_MAX), -EINVAL);
		}
	}
	for (unsigned int i = 0; i < sizeof(far) / sizeof(far[0]); i++) {
		for (unsigned int size = 4; size <= 8; size += 4) {
			assert_int_equal(msix_table_read(sink.msix, far[i], size, &value), -EINVAL);
			assert_int_equal(msix_pba_read(sink.msix, far[i], size, &value), -EINVAL);
			assert_int_equal(msix_table_write(sink.msix, far[i], size, 0), -EINVAL);
		}
	}
	for (unsigned int vector = 0; vector < 3; vector++) {
		assert_true(table_read(vector * 16, 8) == 0x1234567800000000u + vector * 16);
		assert_true(table_read(vector * 16 + 8, 8) == 0);
		assert_true(msix_notify(sink.msix, vector));
	}
	sink_expect_none(&sink);
	sink_destroy(&sink);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(messages_are_kept_as_written_but_for_the_addresss_low_bits),
		cmocka_unit_test(a_qword_is_two_dwords),
		cmocka_unit_test(message_data_is_in_place_before_the_mask_of_the_same_qword_is_clear),
		cmocka_unit_test(only_the_mask_bit_of_vector_control_can_be_written),
		cmocka_unit_test(a_function_masked_vector_reads_its_own_mask_alone),
		cmocka_unit_test(message_control_takes_enable_and_function_mask_and_nothing_else),
		cmocka_unit_test(message_control_opens_and_blocks_as_the_verbs_do),
		cmocka_unit_test(pending_bits_stand_where_pci_has_them),
		cmocka_unit_test(odd_sizes_and_places_are_refused_and_change_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
