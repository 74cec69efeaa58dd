/* SPDX-License-Identifier: BSD-3-Clause */
#include <netinet/in.h>
#include <string.h>

#include <port/frame.h>

#include "frame_mbuf.h"

/*
 * IPv6 extension headers looked through. The head bounds them too; 100 in a row are somebody's test
 * of ours.
 */
#define N_IPV6_EXTENSIONS_MAX 8

#define IPV4_LEN_MIN          20
#define IPV6_LEN              40
#define TCP_LEN_MIN           20
#define UDP_LEN               8

bool frame_read_tag(struct frame *frame)
{
	frame->tagged = false;
	if (frame->head_len < FRAME_ETHER_LEN)
		return false;
	if (frame_read_be16(frame->head + FRAME_MACS_LEN) != RTE_ETHER_TYPE_VLAN)
		return true;
	frame->tagged = true;
	return frame->head_len >= FRAME_ETHER_LEN + FRAME_TAG_LEN;
}

void frame_from_mbuf(struct frame *frame, struct rte_mbuf *mbuf, struct vring_piece *pieces)
{
	frame->pieces = pieces;
	frame_from_segment(frame, mbuf, pieces);
	frame->len = rte_pktmbuf_pkt_len(mbuf);
	for (struct rte_mbuf *segment = mbuf->next; segment != NULL; segment = segment->next) {
		if (segment->data_len == 0)
			continue;
		pieces[frame->n_pieces++] = (struct vring_piece){
			.hva = rte_pktmbuf_mtod(segment, uint8_t *),
			.len = segment->data_len,
		};
	}
}

/*
 * Where a byte of the frame is after the tag at byte 12 came or went. Monotone, and a byte inside a
 * popped tag becomes the first one behind it, so that a checksum field inside the frame stays
 * inside whatever a guest says.
 */
static uint16_t position_after_retag(uint16_t position, bool tag)
{
	if (position < FRAME_MACS_LEN)
		return position;
	if (tag)
		return position + FRAME_TAG_LEN;
	return position < FRAME_MACS_LEN + FRAME_TAG_LEN ? FRAME_MACS_LEN
							 : position - FRAME_TAG_LEN;
}

static void retag_offload(struct virtio_net_hdr *offload, bool tag)
{
	if (offload->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) {
		uint16_t start = offload->csum_start;
		uint16_t field = start + offload->csum_offset;

		offload->csum_start = position_after_retag(start, tag);
		offload->csum_offset = position_after_retag(field, tag) - offload->csum_start;
	}
	if (offload->gso_type != VIRTIO_NET_HDR_GSO_NONE)
		offload->hdr_len = position_after_retag(offload->hdr_len, tag);
}

void frame_retag(const struct frame *in, bool tag, struct frame *out, struct frame_room *room)
{
	const uint8_t *behind_macs = in->head + FRAME_MACS_LEN;
	uint16_t behind_len = in->head_len - FRAME_MACS_LEN;

	*out = *in;
	out->mbuf = NULL;
	out->tagged = tag;
	if (tag) {
		/*
		 * What lies behind the tag stays where it was in the room: the tag takes bytes of
		 * `before`.
		 */
		out->head = &room->before[sizeof(room->before) - FRAME_TAG_LEN];
		out->head_len = in->head_len + FRAME_TAG_LEN;
		out->len = in->len + FRAME_TAG_LEN;
		memcpy(out->head, in->head, FRAME_MACS_LEN);
		frame_write_be16(out->head + FRAME_MACS_LEN, RTE_ETHER_TYPE_VLAN);
		frame_write_be16(out->head + FRAME_ETHER_LEN, in->vlan);
		memcpy(out->head + FRAME_MACS_LEN + FRAME_TAG_LEN, behind_macs, behind_len);
	} else {
		out->head = room->head;
		out->head_len = in->head_len - FRAME_TAG_LEN;
		out->len = in->len - FRAME_TAG_LEN;
		memcpy(out->head, in->head, FRAME_MACS_LEN);
		memcpy(out->head + FRAME_MACS_LEN, behind_macs + FRAME_TAG_LEN,
			behind_len - FRAME_TAG_LEN);
	}
	retag_offload(&out->offload, tag);
}

void frame_copy_out(const struct frame *frame, uint8_t *to)
{
	memcpy(to, frame->head, frame->head_len);
	to += frame->head_len;
	for (unsigned int i = 0; i < frame->n_pieces; i++) {
		memcpy(to, frame->pieces[i].hva, frame->pieces[i].len);
		to += frame->pieces[i].len;
	}
}

/*
 * Length of the IPv6 header with what stands before layer 4, 0 if it does not end inside `left`
 * bytes.
 */
static uint16_t parse_ipv6(const uint8_t *ip, uint16_t left, struct frame_layers *layers)
{
	uint8_t next = ip[6];
	uint16_t len = IPV6_LEN;

	for (unsigned int i = 0; i < N_IPV6_EXTENSIONS_MAX; i++) {
		uint16_t extension_len;

		switch (next) {
		case IPPROTO_HOPOPTS:
		case IPPROTO_DSTOPTS:
		case IPPROTO_ROUTING:
		case IPPROTO_FRAGMENT:
			break;
		default:
			layers->protocol = next;
			return len;
		}
		if (left - len < 8)
			return 0;
		extension_len = next == IPPROTO_FRAGMENT ? 8 : (ip[len + 1] + 1) * 8;
		if (extension_len > left - len)
			return 0;
		layers->fragment |= next == IPPROTO_FRAGMENT;
		layers->routed |= next == IPPROTO_ROUTING;
		next = ip[len];
		len += extension_len;
	}
	return 0;
}

static uint16_t parse_ipv4(const uint8_t *ip, uint16_t left, struct frame_layers *layers)
{
	uint16_t len = (ip[0] & 0xf) * 4;

	if (len < IPV4_LEN_MIN || len > left)
		return 0;
	layers->protocol = ip[9];
	/* More fragments follow, or it has an offset. */
	layers->fragment = (frame_read_be16(ip + 6) & 0x3fff) != 0;
	return len;
}

static uint8_t parse_layer_4(const uint8_t *l4, uint16_t left, uint8_t protocol)
{
	if (protocol == IPPROTO_UDP)
		return left >= UDP_LEN ? UDP_LEN : 0;
	if (protocol == IPPROTO_TCP && left >= TCP_LEN_MIN) {
		uint8_t len = (l4[12] >> 4) * 4;

		return len >= TCP_LEN_MIN && len <= left ? len : 0;
	}
	return 0;
}

void frame_layers_parse(const struct frame *frame, struct frame_layers *layers)
{
	const uint8_t *head = frame->head;
	uint16_t left = frame->head_len;
	uint16_t ether_type;

	memset(layers, 0, sizeof(*layers));
	if (left < FRAME_ETHER_LEN)
		return;
	layers->l2_len = FRAME_ETHER_LEN;
	ether_type = frame_read_be16(head + FRAME_MACS_LEN);
	for (unsigned int i = 0; i < 2; i++) {
		if (ether_type != RTE_ETHER_TYPE_VLAN && ether_type != RTE_ETHER_TYPE_QINQ)
			break;
		if (left < layers->l2_len + FRAME_TAG_LEN)
			return;
		ether_type = frame_read_be16(head + layers->l2_len + 2);
		layers->l2_len += FRAME_TAG_LEN;
	}
	head += layers->l2_len;
	left -= layers->l2_len;
	if (ether_type == RTE_ETHER_TYPE_IPV4 && left >= IPV4_LEN_MIN && head[0] >> 4 == 4)
		layers->l3_len = parse_ipv4(head, left, layers);
	else if (ether_type == RTE_ETHER_TYPE_IPV6 && left >= IPV6_LEN && head[0] >> 4 == 6)
		layers->l3_len = parse_ipv6(head, left, layers);
	if (layers->l3_len == 0)
		return;
	layers->ip_version = head[0] >> 4;
	if (!layers->fragment)
		layers->l4_len = parse_layer_4(
			head + layers->l3_len, left - layers->l3_len, layers->protocol);
}

/* Spreads every input bit over the whole result (multiply and fold). */
static uint32_t hash_finish(uint64_t sum)
{
	sum = (sum ^ sum >> 32) * 0x9e3779b97f4a7c15ull;
	return (uint32_t)(sum >> 32 ^ sum);
}

/*
 * Sums and XORs of the two sides are the same in both directions; both together keep more than
 * either.
 */
static uint64_t hash_pair(uint64_t a, uint64_t b)
{
	return (a + b) * 0xff51afd7ed558ccdull ^ (a ^ b);
}

static uint64_t hash_addresses(const uint8_t *a, const uint8_t *b, size_t len)
{
	uint64_t hash = 0;

	for (size_t i = 0; i < len; i += 4)
		hash = hash * 31 + hash_pair(frame_read_be32(a + i), frame_read_be32(b + i));
	return hash;
}

/* With the ports of TCP or UDP, the first four bytes of either. */
static uint64_t hash_ports(uint64_t hash, const uint8_t *l4, uint8_t protocol)
{
	hash = hash * 31 + hash_pair(frame_read_be16(l4), frame_read_be16(l4 + 2));
	return hash + protocol;
}

/* IPv4 without options or fragments, which most frames are. False: it is something else. */
static inline bool hash_plain_ipv4(const struct frame *frame, uint32_t *hash)
{
	const uint8_t *ip = frame->head + FRAME_ETHER_LEN;
	uint8_t protocol;

	if (frame->head_len < FRAME_ETHER_LEN + IPV4_LEN_MIN + 4 ||
		frame_read_be16(frame->head + FRAME_MACS_LEN) != RTE_ETHER_TYPE_IPV4 ||
		ip[0] != 0x45 || (frame_read_be16(ip + 6) & 0x3fff) != 0)
		return false;
	protocol = ip[9];
	if (protocol != IPPROTO_UDP && protocol != IPPROTO_TCP)
		return false;
	*hash = hash_finish(
		hash_ports(hash_addresses(ip + 12, ip + 16, 4), ip + IPV4_LEN_MIN, protocol));
	return true;
}

uint32_t frame_flow_hash(const struct frame *frame)
{
	struct frame_layers layers;
	const uint8_t *ip;
	uint32_t plain;
	uint64_t hash;

	if (hash_plain_ipv4(frame, &plain))
		return plain;
	if (frame->head_len < FRAME_ETHER_LEN)
		return 0;
	frame_layers_parse(frame, &layers);
	if (layers.ip_version == 0) {
		const uint8_t *macs = frame->head;

		/* The last 4 bytes tell hosts apart; the first ones are the maker's. */
		return hash_finish(hash_addresses(macs + 2, macs + 8, 4));
	}
	ip = frame->head + layers.l2_len;
	hash = layers.ip_version == 4 ? hash_addresses(ip + 12, ip + 16, 4)
				      : hash_addresses(ip + 8, ip + 24, 16);
	/* The ports alone are enough: a header with options may not be complete in the head. */
	if (!layers.fragment &&
		(layers.protocol == IPPROTO_UDP || layers.protocol == IPPROTO_TCP) &&
		frame->head_len >= layers.l2_len + layers.l3_len + 4)
		hash = hash_ports(hash, ip + layers.l3_len, layers.protocol);
	return hash_finish(hash);
}
