/* SPDX-License-Identifier: BSD-3-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "offload.h"

struct sample {
	struct frame_format format;
	struct virtio_net_hdr_v1 header;
	uint8_t frame[1514];
	uint32_t size;
};

static void make(struct sample *sample, bool tcp, bool partial, uint16_t mss, uint32_t size)
{
	*sample = (struct sample){.size = size};
	frame_format_init(&sample->format, 1, 2, 0, tcp, 5);
	frame_build(&sample->format, sample->frame, size, 1, 0, partial);
	frame_stamp(&sample->format, sample->frame, size, 1, 0, 9, 10);
	offload_write(&sample->header, &sample->format, partial, mss);
}

/* What a device does for a receiver without GUEST_CSUM. */
static void complete(struct sample *sample)
{
	uint8_t *l4 = sample->frame + sample->format.l4;
	uint8_t *field = l4 + (sample->format.tcp ? 16 : 6);
	uint16_t sum = htons(
		(uint16_t)~frame_sum_fold(frame_sum(l4, sample->size - sample->format.l4, 0)));

	memcpy(field, &sum, sizeof(sum));
	sample->header = (struct virtio_net_hdr_v1){0};
}

static enum frame_fault check(const struct sample *sample, const struct offload_rules *rules)
{
	return offload_check(
		rules, &sample->header, &sample->format, sample->frame, sample->size, true);
}

static const struct offload_rules bare = {.sent_partial_csum = true, .sent_mss = 500};
static const struct offload_rules csum = {
	.guest_csum = true, .sent_partial_csum = true, .sent_mss = 500};
static const struct offload_rules tso = {
	.guest_csum = true, .guest_tso4 = true, .sent_partial_csum = true, .sent_mss = 500};

static void a_checksum_left_to_do_may_arrive_as_it_was_sent(void **state)
{
	struct sample sample;

	for (int tcp = 0; tcp < 2; tcp++) {
		make(&sample, tcp, true, 0, 300);
		assert_int_equal(check(&sample, &csum), FRAME_OK);
		assert_int_equal(check(&sample, &bare), FRAME_FAULT_HEADER);
	}
}

static void a_completed_checksum_must_be_right(void **state)
{
	struct sample sample;

	for (int tcp = 0; tcp < 2; tcp++)
		for (uint32_t size = 100; size < 104; size++) {
			make(&sample, tcp, true, 0, size);
			complete(&sample);
			assert_int_equal(check(&sample, &bare), FRAME_OK);
			assert_int_equal(check(&sample, &csum), FRAME_OK);
			sample.frame[size - 1] ^= 0x10;
			assert_int_equal(check(&sample, &bare), FRAME_FAULT_CHECKSUM);
		}
}

static void a_checksum_neither_done_nor_announced_is_found(void **state)
{
	struct sample sample;

	make(&sample, false, true, 0, 300);
	sample.header = (struct virtio_net_hdr_v1){0};
	assert_int_equal(check(&sample, &csum), FRAME_FAULT_CHECKSUM);
	memset(sample.frame + sample.format.l4 + 6, 0, 2);
	assert_int_equal(check(&sample, &csum), FRAME_FAULT_CHECKSUM);
}

static void a_frame_sent_without_checksum_may_stay_without(void **state)
{
	struct offload_rules rules = {0};
	struct sample sample;

	make(&sample, false, false, 0, 300);
	assert_int_equal(check(&sample, &rules), FRAME_OK);
}

static void a_checksum_announced_at_the_wrong_place_is_found(void **state)
{
	struct sample sample;

	make(&sample, false, true, 0, 300);
	sample.header.csum_start++;
	assert_int_equal(check(&sample, &csum), FRAME_FAULT_HEADER);
	sample.header.csum_start--;
	sample.header.csum_offset = 16;
	assert_int_equal(check(&sample, &csum), FRAME_FAULT_HEADER);
}

static void segmentation_needs_the_feature_the_flag_and_a_size_not_enlarged(void **state)
{
	struct sample sample;

	make(&sample, true, true, 500, 1400);
	assert_int_equal(check(&sample, &tso), FRAME_OK);
	assert_int_equal(check(&sample, &csum), FRAME_FAULT_HEADER);
	sample.header.gso_type = VIRTIO_NET_HDR_GSO_NONE;
	assert_int_equal(check(&sample, &tso), FRAME_FAULT_HEADER);
	sample.header.gso_type = VIRTIO_NET_HDR_GSO_TCPV4;
	sample.header.gso_size = 501;
	assert_int_equal(check(&sample, &tso), FRAME_FAULT_HEADER);
	sample.header.gso_size = 0;
	assert_int_equal(check(&sample, &tso), FRAME_FAULT_HEADER);
	sample.header.gso_size = 500;
	sample.header.flags = 0;
	assert_int_equal(check(&sample, &tso), FRAME_FAULT_HEADER);
	sample.header.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
	sample.header.gso_type = VIRTIO_NET_HDR_GSO_TCPV6;
	assert_int_equal(check(&sample, &tso), FRAME_FAULT_HEADER);
}

static void unknown_flags_are_found(void **state)
{
	struct sample sample;

	make(&sample, false, true, 0, 300);
	for (unsigned int bit = 2; bit < 8; bit++) {
		sample.header.flags = (uint8_t)(VIRTIO_NET_HDR_F_NEEDS_CSUM | 1u << bit);
		assert_int_equal(check(&sample, &tso), FRAME_FAULT_HEADER);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_checksum_left_to_do_may_arrive_as_it_was_sent),
		cmocka_unit_test(a_completed_checksum_must_be_right),
		cmocka_unit_test(a_checksum_neither_done_nor_announced_is_found),
		cmocka_unit_test(a_frame_sent_without_checksum_may_stay_without),
		cmocka_unit_test(a_checksum_announced_at_the_wrong_place_is_found),
		cmocka_unit_test(segmentation_needs_the_feature_the_flag_and_a_size_not_enlarged),
		cmocka_unit_test(unknown_flags_are_found),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
