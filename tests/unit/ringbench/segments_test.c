/* SPDX-License-Identifier: BSD-3-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "segments.h"

#define SIZE 4054u
#define MSS  1000u

static struct frame_format format;
static uint8_t whole[SIZE];

static uint32_t payload(void)
{
	return SIZE - format.payload;
}

static int setup(void **state)
{
	frame_format_init(&format, 1, 2, 0, true, 99);
	frame_build(&format, whole, SIZE, 5, 0, true);
	frame_stamp(&format, whole, SIZE, 5, 0, 0x12345, 777);
	return 0;
}

/* Segment `n` as a device cuts it: headers copied, length, IPv4 id and sum, and TCP sequence number
 * adapted. */
static uint32_t cut(uint8_t *segment, uint32_t n)
{
	uint32_t offset = n * MSS;
	uint32_t len = payload() - offset < MSS ? payload() - offset : MSS;
	uint32_t tcp_seq = htonl((0x2345u << 16) + offset);
	uint16_t ip_len = htons((uint16_t)(format.payload - format.l3 + len));
	uint16_t id = htons((uint16_t)(5 + n));
	uint16_t sum = 0;

	memcpy(segment, whole, format.payload);
	memcpy(segment + format.payload, whole + format.payload + offset, len);
	memcpy(segment + format.l3 + 2, &ip_len, 2);
	memcpy(segment + format.l3 + 4, &id, 2);
	memcpy(segment + format.l3 + 10, &sum, 2);
	sum = htons((uint16_t)~frame_sum_fold(frame_sum(segment + format.l3, FRAME_IP_LEN, 0)));
	memcpy(segment + format.l3 + 10, &sum, 2);
	memcpy(segment + format.l4 + 4, &tcp_seq, 4);
	return format.payload + len;
}

static enum segments_verdict add(struct segments *segments, uint32_t n, enum frame_fault *fault)
{
	uint8_t segment[2000];
	uint32_t size = cut(segment, n);

	return segments_add(
		segments, &format, segment, size, payload(), frame_bare_size(&format, SIZE), fault);
}

static void all_segments_in_order_make_the_frame(void **state)
{
	struct segments segments = {0};
	enum frame_fault fault;

	for (int round = 0; round < 2; round++) {
		for (uint32_t n = 0; n < 3; n++)
			assert_int_equal(add(&segments, n, &fault), SEGMENTS_PARTIAL);
		assert_int_equal(add(&segments, 3, &fault), SEGMENTS_COMPLETE);
		assert_int_equal(segments.record.seq, 0x12345);
		assert_int_equal(segments.record.tsc, 777);
	}
}

static void a_missing_doubled_or_swapped_segment_is_found(void **state)
{
	static const uint32_t orders[][3] = {{0, 2, 3}, {0, 0, 1}, {0, 1, 1}, {1, 0, 2}, {0, 1, 3}};

	for (unsigned int i = 0; i < sizeof(orders) / sizeof(orders[0]); i++) {
		struct segments segments = {0};
		enum frame_fault fault = FRAME_OK;
		bool found = false;

		for (unsigned int j = 0; j < 3; j++)
			found |= add(&segments, orders[i][j], &fault) == SEGMENTS_FAULT;
		assert_true(found);
		assert_int_equal(fault, FRAME_FAULT_SEGMENT);
	}
}

static void a_changed_byte_in_any_segment_is_found(void **state)
{
	for (uint32_t n = 0; n < 4; n++)
		for (uint32_t at = 54; at < 154; at++) {
			struct segments segments = {0};
			enum frame_fault fault;
			uint8_t segment[2000];
			uint32_t size;

			for (uint32_t before = 0; before < n; before++)
				add(&segments, before, &fault);
			size = cut(segment, n);
			if (at >= size)
				break;
			segment[at] ^= 0x40;
			assert_int_equal(segments_add(&segments, &format, segment, size, payload(),
						 frame_bare_size(&format, SIZE), &fault),
				SEGMENTS_FAULT);
		}
}

static void a_segment_longer_than_what_is_missing_is_refused(void **state)
{
	struct segments segments = {0};
	enum frame_fault fault;
	uint8_t segment[2000];

	cut(segment, 0);
	assert_int_equal(segments_add(&segments, &format, segment, format.payload + MSS, MSS - 1,
				 frame_bare_size(&format, SIZE), &fault),
		SEGMENTS_FAULT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(all_segments_in_order_make_the_frame, setup),
		cmocka_unit_test_setup(a_missing_doubled_or_swapped_segment_is_found, setup),
		cmocka_unit_test_setup(a_changed_byte_in_any_segment_is_found, setup),
		cmocka_unit_test_setup(a_segment_longer_than_what_is_missing_is_refused, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
