/* SPDX-License-Identifier: BSD-3-Clause */
#include "offload.h"

static uint16_t csum_offset(const struct frame_format *format)
{
	return format->tcp ? 16 : 6;
}

void offload_write(struct virtio_net_hdr_v1 *header, const struct frame_format *format,
	bool partial_csum, uint16_t mss)
{
	*header = (struct virtio_net_hdr_v1){0};
	if (partial_csum) {
		header->flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
		header->csum_start = format->l4;
		header->csum_offset = csum_offset(format);
	}
	if (mss != 0) {
		header->gso_type = VIRTIO_NET_HDR_GSO_TCPV4;
		header->gso_size = mss;
		header->hdr_len = format->payload;
	}
}

static bool header_is_legal(const struct offload_rules *rules,
	const struct virtio_net_hdr_v1 *header, const struct frame_format *format, uint32_t size)
{
	bool needs_csum = header->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM;

	/* 5.1.6.4.1: no flag without GUEST_CSUM, RSC_INFO never, GSO types only as accepted and
	 * with NEEDS_CSUM. */
	if (header->flags & ~(VIRTIO_NET_HDR_F_NEEDS_CSUM | VIRTIO_NET_HDR_F_DATA_VALID))
		return false;
	if (header->flags != 0 && !rules->guest_csum)
		return false;
	if (needs_csum &&
		(header->csum_start != format->l4 || header->csum_offset != csum_offset(format)))
		return false;
	/* Whoever takes the segmentation on must do it: a long frame without the word for it is
	 * nobody's. */
	if (header->gso_type == VIRTIO_NET_HDR_GSO_NONE)
		return rules->sent_mss == 0 || size <= (uint32_t)format->payload + rules->sent_mss;
	/* A sender's segment size is never enlarged. */
	return header->gso_type == VIRTIO_NET_HDR_GSO_TCPV4 && rules->guest_tso4 && needs_csum &&
	       header->gso_size != 0 && header->gso_size <= rules->sent_mss;
}

enum frame_fault offload_check(const struct offload_rules *rules,
	const struct virtio_net_hdr_v1 *header, const struct frame_format *format,
	const uint8_t *frame, uint32_t size, bool check_sum)
{
	const uint8_t *field = frame + format->l4 + csum_offset(format);
	uint32_t l4_len = size - format->l4;
	uint32_t pseudo;

	if (!header_is_legal(rules, header, format, size))
		return FRAME_FAULT_HEADER;
	if (!check_sum)
		return FRAME_OK;
	pseudo = frame_pseudo_sum(frame + format->l3, l4_len);
	if (header->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM)
		return ntohs(frame_load16(field)) == frame_sum_fold(pseudo) ? FRAME_OK
									    : FRAME_FAULT_CHECKSUM;
	/* UDP that was sent without a checksum stays without (RFC 768). */
	if (!format->tcp && frame_load16(field) == 0)
		return rules->sent_partial_csum ? FRAME_FAULT_CHECKSUM : FRAME_OK;
	return frame_sum_fold(frame_sum(frame + format->l4, l4_len, pseudo)) == 0xffff
		       ? FRAME_OK
		       : FRAME_FAULT_CHECKSUM;
}
