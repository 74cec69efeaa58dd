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

static void a_socket_with_one_address_keeps_it(void **state)
{
	static const uint8_t macs[12] = {0x52, 0x54, 0x00, 0x72, 0x62, 2, 0x52, 0x54, 0x00, 0x72, 0x62, 1};
	struct built built = build(0, false, false, 64);

	assert_memory_equal(built.frame, macs, 12);
	for (uint32_t seq = UINT32_MAX - 10; seq != 10; seq++)
		assert_int_equal(frame_address(&built.format, 3, seq), 0);
	free(built.frame);
}

/* Over the end of the numbers as well, where only a power of two goes round without a jump. */
static void addresses_come_round_in_turn(void **state)
{
	static const uint32_t counts[] = {1, 2, 3, 7, 1000, 4096, 65535, FRAME_MAX_ADDRESSES};

	for (unsigned int i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
		struct frame_format format;

		frame_format_init(&format, 1, 2, 0, false, SEED);
		frame_format_set_addresses(&format, counts[i]);
		for (uint32_t seq = 0; seq < 200000; seq++) {
			assert_int_equal(frame_address(&format, 0, seq), seq % counts[i]);
			assert_int_equal(
				frame_address(&format, 5, UINT32_MAX - seq), (4 - seq) % counts[i]);
		}
	}
}

static void every_address_is_another_one_and_unicast(void **state)
{
	static uint8_t seen[3 * FRAME_MAX_ADDRESSES][6];

	for (unsigned int number = 1; number <= 3; number++)
		for (unsigned int address = 0; address < FRAME_MAX_ADDRESSES; address++) {
			uint8_t mac[6];
			unsigned int at = (number - 1) * FRAME_MAX_ADDRESSES + address;

			frame_mac(mac, number, address);
			assert_int_equal(mac[0] & 3, 2);
			/* What tells them apart, and that it does. */
			assert_int_equal(mac[5], number);
			assert_int_equal(mac[0] == 0x52, address == 0);
			if (address != 0)
				assert_int_equal(mac[2] << 8 | mac[3], address);
			memcpy(seen[at], mac, 6);
		}
	assert_memory_not_equal(seen[0], seen[1], 6);
}

static void a_frame_with_the_addresses_of_another_is_found(void **state)
{
	struct built built = build(100, false, false, 100);

	frame_format_set_addresses(&built.format, 1000);
	for (uint32_t address = 0; address < 1000; address += 37) {
		uint32_t seq = 2000 + address - 3; /* of flow 3 */

		frame_stamp(&built.format, built.frame, 100, 77, 3, seq, 1);
		frame_set_macs(&built.format, built.frame, address);
		assert_int_equal(frame_verify(&built.format, built.frame, 100), FRAME_OK);
		frame_set_macs(&built.format, built.frame, (address + 1) % 1000);
		assert_int_equal(frame_verify(&built.format, built.frame, 100), FRAME_FAULT_ETHERNET);
		frame_set_macs(&built.format, built.frame, address);
		built.frame[8] ^= 1;
		assert_int_equal(frame_verify(&built.format, built.frame, 100), FRAME_FAULT_ETHERNET);
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
		cmocka_unit_test(a_socket_with_one_address_keeps_it),
		cmocka_unit_test(addresses_come_round_in_turn),
		cmocka_unit_test(every_address_is_another_one_and_unicast),
		cmocka_unit_test(a_frame_with_the_addresses_of_another_is_found),
		cmocka_unit_test(the_checksum_is_that_of_the_rfc),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
