/* SPDX-License-Identifier: BSD-3-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "frame.h"

#define SEED UINT64_C(0x1234567890abcdef)

/* A frame in memory of exactly its size, so that a sanitizer sees any step beyond. */
struct built {
	struct frame_format format;
	uint8_t *frame;
	uint32_t size;
};

static struct built build(uint16_t vlan, bool tcp, bool trailer, uint32_t size)
{
	struct built built = {.size = size, .frame = malloc(size)};

	assert_non_null(built.frame);
	frame_format_init(&built.format, 1, 2, vlan, tcp, SEED);
	built.format.trailer = trailer;
	frame_build(&built.format, built.frame, size, 77, 3, false);
	frame_stamp(&built.format, built.frame, size, 77, 3, 123456, 987654321);
	return built;
}

static bool is_right(const struct built *built)
{
	struct frame_record record;

	return frame_is_good(&built->format, built->frame,
		       frame_bare_size(&built->format, built->size), &record) &&
	       record.seq == 123456 && record.tsc == 987654321 &&
	       frame_verify(&built->format, built->frame, built->size) == FRAME_OK;
}

static void a_built_frame_is_right_in_every_format_and_size(void **state)
{
	for (unsigned int kind = 0; kind < 8; kind++)
		for (uint32_t size = 78; size <= FRAME_SIZE_MAX; size += size / 3) {
			struct built built = build(kind & 1 ? 100 : 0, kind & 2, kind & 4, size);

			assert_true(is_right(&built));
			assert_int_equal(frame_flow(&built.format, built.frame), 3);
			free(built.frame);
		}
}

static void the_smallest_ethernet_frame_has_room_for_the_record(void **state)
{
	struct built built = build(0, false, true, FRAME_SIZE_MIN);

	assert_int_equal(frame_size_min(&built.format), FRAME_SIZE_MIN);
	assert_true(is_right(&built));
	free(built.frame);
}

/* The UDP checksum is the one field that frame_verify() leaves to offload_check(). */
static bool is_left_out(const struct built *built, uint32_t at)
{
	const struct frame_format *format = &built->format;

	if (!format->tcp)
		return at == format->l4 + 6u || at == format->l4 + 7u;
	/* TCP: acknowledgement, offset, flags, window, checksum, urgent pointer; covered by the
	 * checksum. */
	return at >= format->l4 + 8u && at < format->l4 + 20u;
}

static void any_single_changed_bit_is_found(void **state)
{
	static const struct {
		uint16_t vlan;
		bool tcp, trailer;
	} kinds[] = {{0, false, false}, {100, false, false}, {0, false, true}, {0, true, false}};

	for (unsigned int i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		struct built built = build(kinds[i].vlan, kinds[i].tcp, kinds[i].trailer, 200);

		for (uint32_t bit = 0; bit < 200 * 8; bit++) {
			/* Priority bits of the tag are a switch's to set. */
			bool priority = kinds[i].vlan != 0 && bit / 8 == 14 && bit % 8 >= 4;

			if (is_left_out(&built, bit / 8) || priority)
				continue;
			built.frame[bit / 8] ^= (uint8_t)(1u << bit % 8);
			if (is_right(&built))
				fail_msg("kind %u: bit %u of byte %u", i, bit % 8, bit / 8);
			built.frame[bit / 8] ^= (uint8_t)(1u << bit % 8);
		}
		assert_true(is_right(&built));
		free(built.frame);
	}
}

static void a_frame_mixed_from_two_is_found(void **state)
{
	struct built one = build(0, false, true, 300), other = build(0, false, true, 300);

	frame_stamp(&other.format, other.frame, 300, 77, 3, 123457, 987654399);
	for (uint32_t cut = 44; cut < 299; cut++) {
		uint8_t mixed[300];
		struct built built = {.format = one.format, .frame = mixed, .size = 300};

		memcpy(mixed, one.frame, cut);
		memcpy(mixed + cut, other.frame + cut, 300 - cut);
		/* Where the two differ on both sides of the cut; between record and trailer they
		 * are equal. */
		if (memcmp(mixed, one.frame, 300) != 0 && memcmp(mixed, other.frame, 300) != 0)
			assert_false(is_right(&built));
	}
	free(one.frame);
	free(other.frame);
}

static void a_cut_or_padded_frame_is_found_by_the_record(void **state)
{
	struct built built = build(0, false, false, 300);
	struct frame_record record;

	assert_false(frame_is_good(&built.format, built.frame, 299, &record));
	assert_false(frame_is_good(&built.format, built.frame, 301, &record));
	free(built.frame);
}

static void a_frame_of_another_direction_is_found_by_the_record(void **state)
{
	struct built built = build(0, false, false, 64);
	struct frame_record record;

	built.format.seed++;
	assert_false(frame_is_good(&built.format, built.frame, 64, &record));
	free(built.frame);
}

static void tagging_or_untagging_on_the_way_keeps_the_record(void **state)
{
	struct built tagged = build(100, false, false, 104);
	uint8_t untagged[100];
	struct frame_format format;
	struct frame_record record;

	frame_format_init(&format, 1, 2, 0, false, SEED);
	memcpy(untagged, tagged.frame, 12);
	memcpy(untagged + 12, tagged.frame + 16, 88);
	assert_true(frame_is_good(&format, untagged, frame_bare_size(&format, 100), &record));
	assert_int_equal(frame_verify(&format, untagged, 100), FRAME_OK);
	free(tagged.frame);
}

static void warmup_flows_are_no_measured_flows(void **state)
{
	struct built built = build(0, false, false, 64);

	for (unsigned int queue = 0; queue < 16; queue++) {
		frame_stamp(&built.format, built.frame, 64, 77, FRAME_WARMUP_FLOW - queue, 0, 1);
		assert_int_equal(frame_flow(&built.format, built.frame), FRAME_WARMUP_FLOW - queue);
		assert_true(frame_flow(&built.format, built.frame) >= FRAME_MAX_FLOWS);
	}
	free(built.frame);
}

/* RFC 1071, section 3. */
static void the_checksum_is_that_of_the_rfc(void **state)
{
	static const uint8_t bytes[] = {0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7};

	assert_int_equal(frame_sum_fold(frame_sum(bytes, 8, 0)), 0xddf2);
	assert_int_equal(frame_sum_fold(frame_sum(bytes, 7, 0)), 0xdcfb);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_built_frame_is_right_in_every_format_and_size),
		cmocka_unit_test(the_smallest_ethernet_frame_has_room_for_the_record),
		cmocka_unit_test(any_single_changed_bit_is_found),
		cmocka_unit_test(a_frame_mixed_from_two_is_found),
		cmocka_unit_test(a_cut_or_padded_frame_is_found_by_the_record),
		cmocka_unit_test(a_frame_of_another_direction_is_found_by_the_record),
		cmocka_unit_test(tagging_or_untagging_on_the_way_keeps_the_record),
		cmocka_unit_test(warmup_flows_are_no_measured_flows),
		cmocka_unit_test(the_checksum_is_that_of_the_rfc),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
