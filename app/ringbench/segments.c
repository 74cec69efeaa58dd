/* SPDX-License-Identifier: BSD-3-Clause */
#include "segments.h"

static enum segments_verdict give_up(
	struct segments *segments, enum frame_fault *fault, enum frame_fault why)
{
	segments->next_offset = 0;
	*fault = why;
	return SEGMENTS_FAULT;
}

static bool ip_is_right(const struct frame_format *format, const uint8_t *frame, uint32_t size)
{
	const uint8_t *ip = frame + format->l3;

	return ip[0] == 0x45 && ntohs(frame_load16(ip + 2)) == size - format->l3 &&
	       frame_sum_fold(frame_sum(ip, FRAME_IP_LEN, 0)) == 0xffff;
}

enum segments_verdict segments_add(struct segments *segments, const struct frame_format *format,
	const uint8_t *frame, uint32_t size, uint32_t frame_payload, uint32_t bare_size,
	enum frame_fault *fault)
{
	uint32_t tcp_seq = ntohl(frame_load32(frame + format->l4 + 4));
	uint32_t offset = tcp_seq & 0xffff;
	uint32_t len = size - format->payload;
	const uint8_t *payload = frame + format->payload;
	uint32_t skip = 0;

	if (!ip_is_right(format, frame, size))
		return give_up(segments, fault, FRAME_FAULT_IP);
	if (offset != segments->next_offset || len == 0 || len > frame_payload - offset)
		return give_up(segments, fault, FRAME_FAULT_SEGMENT);
	if (offset == 0) {
		if (len < FRAME_RECORD_LEN ||
			!frame_is_good(format, frame, bare_size, &segments->record))
			return give_up(segments, fault, FRAME_FAULT_RECORD);
		segments->id = frame_load16(frame + format->l3 + 4);
		skip = FRAME_RECORD_LEN;
	}
	if (tcp_seq >> 16 != (segments->record.seq & 0xffff))
		return give_up(segments, fault, FRAME_FAULT_SEGMENT);
	if (!frame_pattern_matches(segments->id, offset + skip, payload + skip, len - skip))
		return give_up(segments, fault, FRAME_FAULT_PATTERN);
	segments->next_offset = offset + len;
	if (segments->next_offset < frame_payload)
		return SEGMENTS_PARTIAL;
	segments->next_offset = 0;
	return SEGMENTS_COMPLETE;
}
