/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Theory of operation
 *
 * A frame is copied out of guest memory once, straight into the mbufs it leaves in: whole for a
 * checksum, cut by gso_size for segmentation. Sums are taken over that copy, never over guest
 * memory, which may change between summing and sending.
 *
 * rte_gso is not used: it cuts TCP over IPv4 but not over IPv6, copies twice when the source is not
 * an mbuf (once into the mbuf to cut, once per header), leaves all checksums to the caller and
 * makes every segment a chain of a direct and an indirect mbuf. One loop over both IP versions does
 * it in one copy, single-mbuf segments mostly.
 *
 * rte_raw_cksum_mbuf() is not used either: in 22.11 it loses carries when a piece begins at an odd
 * offset, which a guest brings about with an odd csum_start.
 */
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include <rte_ip.h>
#include <rte_malloc.h>
#include <rte_mbuf.h>

#include <port/drop.h>
#include <port/offload.h>

#include "frame_layers.h"

/* Smallest room of a pool's mbufs; keeps the longest frame's chain within MBUF_CHAIN_MAX. */
#define MBUF_ROOM_MIN  1024
#define MBUF_CHAIN_MAX (FRAME_LEN_MAX / MBUF_ROOM_MIN + 1)

/* Segments repeat the headers, so all of them together take this many mbufs at most. */
#define SEGMENT_MBUFS_MAX                                                                          \
	(OFFLOAD_SEGMENTS_MAX +                                                                    \
		(FRAME_LEN_MAX + OFFLOAD_SEGMENTS_MAX * FRAME_HEAD_MAX) / MBUF_ROOM_MIN)

#define TCP_CSUM_OFFSET 16
#define UDP_CSUM_OFFSET 6

#define TCP_FLAG_FIN    0x01
#define TCP_FLAG_PSH    0x08
#define TCP_FLAG_CWR    0x80

struct offload {
	struct rte_mempool *pool;
	unsigned int n; /* frames handed out */
	struct frame frames[OFFLOAD_SEGMENTS_MAX];
	struct rte_mbuf *mbufs[OFFLOAD_SEGMENTS_MAX];
	/* frame_from_mbuf() wants one more per frame than mbufs. */
	struct vring_piece pieces[SEGMENT_MBUFS_MAX + OFFLOAD_SEGMENTS_MAX];
};

static uint16_t pool_room(struct rte_mempool *pool)
{
	return rte_pktmbuf_data_room_size(pool) - RTE_PKTMBUF_HEADROOM;
}

struct offload *offload_create(
	struct rte_mempool *pool, int numa_node, char *error, size_t error_size)
{
	struct offload *offload;

	if (rte_pktmbuf_data_room_size(pool) < RTE_PKTMBUF_HEADROOM + MBUF_ROOM_MIN) {
		snprintf(error, error_size,
			"packet pool %s: buffers of %u bytes, at least %u are needed", pool->name,
			rte_pktmbuf_data_room_size(pool), RTE_PKTMBUF_HEADROOM + MBUF_ROOM_MIN);
		return NULL;
	}
	offload = rte_zmalloc_socket("offload", sizeof(*offload), RTE_CACHE_LINE_SIZE, numa_node);
	if (offload == NULL) {
		snprintf(error, error_size,
			"no %zu bytes of DPDK memory on NUMA node %d for software offloads: give "
			"the daemon more memory there",
			sizeof(*offload), numa_node);
		return NULL;
	}
	offload->pool = pool;
	return offload;
}

void offload_destroy(struct offload *offload)
{
	if (offload == NULL)
		return;
	offload_release(offload);
	rte_free(offload);
}

/*
 * The words of a GSO frame against its headers, which have to be what the type says, whole and in
 * the head.
 */
static bool validate_gso(struct frame *frame, uint8_t negotiated)
{
	struct virtio_net_hdr *words = &frame->offload;
	struct frame_layers layers;
	uint8_t ip_version, need;

	/* Other types and the ECN bit are never offered (virtio 5.1.9.2.1). */
	switch (words->gso_type) {
	case VIRTIO_NET_HDR_GSO_TCPV4:
		ip_version = 4;
		need = FRAME_NEEDS_TSO4;
		break;
	case VIRTIO_NET_HDR_GSO_TCPV6:
		ip_version = 6;
		need = FRAME_NEEDS_TSO6;
		break;
	default:
		return false;
	}
	if (!(negotiated & need) || !(frame->needs & FRAME_NEEDS_CSUM) || words->gso_size == 0)
		return false;
	frame_layers_parse(frame, &layers);
	if (layers.ip_version != ip_version || layers.protocol != IPPROTO_TCP || layers.l4_len == 0)
		return false;
	if (words->csum_start != layers.l2_len + layers.l3_len ||
		words->csum_offset != TCP_CSUM_OFFSET)
		return false;
	/* What the driver says here may be anything (5.1.9.2.2), the receiver may rely on it. */
	words->hdr_len = layers.l2_len + layers.l3_len + layers.l4_len;
	frame->needs |= need;
	return true;
}

bool offload_validate(struct frame *frame, uint8_t negotiated)
{
	struct virtio_net_hdr *words = &frame->offload;

	frame->needs = 0;
	/* DATA_VALID and RSC_INFO are the device's to say; unknown bits are ignored (5.1.9.2.2). */
	words->flags &= VIRTIO_NET_HDR_F_NEEDS_CSUM;
	if (words->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) {
		uint32_t field = (uint32_t)words->csum_start + words->csum_offset;

		if (!(negotiated & FRAME_NEEDS_CSUM) || field + sizeof(uint16_t) > frame->len)
			return false;
		/*
		 * A frame may pass 64 KiB by its Ethernet header; after a pushed tag the words must
		 * still fit.
		 */
		if (field + FRAME_TAG_LEN > UINT16_MAX)
			return false;
		frame->needs = FRAME_NEEDS_CSUM;
	} else {
		words->csum_start = 0;
		words->csum_offset = 0;
	}
	if (words->gso_type != VIRTIO_NET_HDR_GSO_NONE)
		return validate_gso(frame, negotiated);
	words->gso_size = 0;
	words->hdr_len = 0;
	return true;
}

/* Walks the bytes of a frame from front to back. */
struct cursor {
	const struct vring_piece *next;
	const uint8_t *at;
	uint32_t left; /* bytes at `at` */
};

static void cursor_start(struct cursor *cursor, const struct frame *frame, uint32_t skip)
{
	cursor->next = frame->pieces;
	cursor->at = frame->head + skip;
	cursor->left = frame->head_len - skip;
}

static void cursor_read(struct cursor *cursor, uint8_t *to, uint32_t len)
{
	while (len > 0) {
		uint32_t n;

		if (cursor->left == 0) {
			cursor->at = cursor->next->hva;
			cursor->left = cursor->next->len;
			cursor->next++;
		}
		n = RTE_MIN(len, cursor->left);
		memcpy(to, cursor->at, n);
		cursor->at += n;
		cursor->left -= n;
		to += n;
		len -= n;
	}
}

/* A chain with room for, and lengths set to, `len` bytes. */
static struct rte_mbuf *chain_alloc(struct rte_mempool *pool, uint32_t len)
{
	struct rte_mbuf *mbufs[MBUF_CHAIN_MAX];
	uint32_t room = pool_room(pool);
	unsigned int n = len == 0 ? 1 : (len + room - 1) / room;

	if (n > MBUF_CHAIN_MAX || rte_pktmbuf_alloc_bulk(pool, mbufs, n) != 0)
		return NULL;
	mbufs[0]->pkt_len = len;
	mbufs[0]->nb_segs = n;
	for (unsigned int i = 0; i < n; i++) {
		mbufs[i]->data_len = RTE_MIN(len, room);
		mbufs[i]->next = i + 1 < n ? mbufs[i + 1] : NULL;
		len -= mbufs[i]->data_len;
	}
	return mbufs[0];
}

/* Fills the chain from byte `from` on; that byte lies in the first mbuf. */
static void chain_fill(struct rte_mbuf *mbuf, uint32_t from, struct cursor *cursor)
{
	for (; mbuf != NULL; mbuf = mbuf->next) {
		cursor_read(cursor, rte_pktmbuf_mtod_offset(mbuf, uint8_t *, from),
			mbuf->data_len - from);
		from = 0;
	}
}

struct rte_mbuf *offload_copy_to_mbuf(const struct frame *frame, struct rte_mempool *pool)
{
	struct rte_mbuf *mbuf = chain_alloc(pool, frame->len);
	struct cursor cursor;

	if (mbuf == NULL)
		return NULL;
	cursor_start(&cursor, frame, 0);
	chain_fill(mbuf, 0, &cursor);
	return mbuf;
}

/*
 * Ones' complement sum, not inverted, of the chain's bytes from `start` to its end, in memory
 * order.
 */
static uint16_t chain_sum(const struct rte_mbuf *mbuf, uint32_t start)
{
	uint32_t sum = 0;
	bool odd = false;

	for (; mbuf != NULL; mbuf = mbuf->next) {
		uint32_t len = mbuf->data_len;
		uint16_t part;

		if (start >= len) {
			start -= len;
			continue;
		}
		len -= start;
		part = rte_raw_cksum(rte_pktmbuf_mtod_offset(mbuf, const void *, start), len);
		sum += odd ? rte_bswap16(part) : part;
		odd ^= len & 1;
		start = 0;
	}
	sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)((sum & 0xffff) + (sum >> 16));
}

static void chain_write_byte(struct rte_mbuf *mbuf, uint32_t at, uint8_t value)
{
	while (at >= mbuf->data_len) {
		at -= mbuf->data_len;
		mbuf = mbuf->next;
	}
	*rte_pktmbuf_mtod_offset(mbuf, uint8_t *, at) = value;
}

void offload_complete_checksum(struct rte_mbuf *mbuf, uint16_t start, uint16_t offset)
{
	uint32_t field = (uint32_t)start + offset;
	uint16_t sum = ~chain_sum(mbuf, start);
	uint8_t bytes[2];

	/* Zero in UDP means "no checksum" (RFC 768); its complement stands for the same number. */
	if (sum == 0 && offset == UDP_CSUM_OFFSET)
		sum = 0xffff;
	memcpy(bytes, &sum, sizeof(bytes));
	/* The field may lie across two mbufs: a guest chooses where it is. */
	chain_write_byte(mbuf, field, bytes[0]);
	chain_write_byte(mbuf, field + 1, bytes[1]);
}

/* Where and how to cut; `tcp` and `ip` are offsets into the head. */
struct cut {
	const struct frame *frame;
	uint32_t payload_len;
	uint16_t gso_size;
	uint16_t ip;
	uint16_t tcp;
	uint16_t hdr_len;
	uint8_t ip_version;
	unsigned int n;
};

/* Not inverted sum of the TCP pseudo-header (RFC 9293 3.1, RFC 8200 8.1), in memory order. */
static uint16_t pseudo_header_sum(const uint8_t *ip, uint8_t ip_version, uint32_t tcp_len)
{
	uint8_t pseudo[2 * 16 + 8] = {0};
	size_t addresses_len = ip_version == 4 ? 2 * 4 : 2 * 16;

	memcpy(pseudo, ip + (ip_version == 4 ? 12 : 8), addresses_len);
	frame_write_be32(pseudo + addresses_len, tcp_len);
	pseudo[addresses_len + 7] = IPPROTO_TCP;
	return rte_raw_cksum(pseudo, addresses_len + 8);
}

/* Makes the copied headers those of segment `i`, all but the TCP checksum. */
static void segment_edit_headers(
	const struct cut *cut, unsigned int i, uint32_t payload_len, uint8_t *head)
{
	uint8_t *ip = head + cut->ip;
	uint8_t *tcp = head + cut->tcp;
	uint16_t l3_payload_len = cut->hdr_len - cut->ip + payload_len;
	uint16_t sum;

	if (cut->ip_version == 4) {
		frame_write_be16(ip + 2, l3_payload_len);
		/* Consecutive, as the guest's own stack would number them. */
		frame_write_be16(ip + 4, (uint16_t)(frame_read_be16(ip + 4) + i));
		memset(ip + 10, 0, 2);
		sum = ~rte_raw_cksum(ip, cut->tcp - cut->ip);
		memcpy(ip + 10, &sum, sizeof(sum));
	} else {
		frame_write_be16(ip + 4, l3_payload_len - sizeof(struct rte_ipv6_hdr));
	}
	frame_write_be32(tcp + 4, frame_read_be32(tcp + 4) + i * cut->gso_size);
	if (i + 1 < cut->n)
		tcp[13] &= ~(TCP_FLAG_FIN | TCP_FLAG_PSH);
	if (i > 0)
		tcp[13] &= ~TCP_FLAG_CWR; /* once per window reduction (RFC 3168 6.1.2) */
	sum = pseudo_header_sum(ip, cut->ip_version, cut->hdr_len - cut->tcp + payload_len);
	memcpy(tcp + TCP_CSUM_OFFSET, &sum, sizeof(sum));
}

static bool cut_plan(const struct frame *frame, struct cut *cut)
{
	uint8_t want = frame->needs & FRAME_NEEDS_TSO4 ? 4 : 6;
	struct frame_layers layers;

	frame_layers_parse(frame, &layers);
	if (layers.ip_version != want || layers.protocol != IPPROTO_TCP || layers.l4_len == 0)
		return false;
	/* The final destination, which the sum covers, is then not the one in the IP header. */
	if (layers.routed || frame->offload.gso_size == 0)
		return false;
	*cut = (struct cut){
		.frame = frame,
		.gso_size = frame->offload.gso_size,
		.ip = layers.l2_len,
		.tcp = layers.l2_len + layers.l3_len,
		.hdr_len = layers.l2_len + layers.l3_len + layers.l4_len,
		.ip_version = want,
	};
	cut->payload_len = frame->len - cut->hdr_len;
	cut->n = cut->payload_len == 0 ? 1 : (cut->payload_len - 1) / cut->gso_size + 1;
	return cut->n <= OFFLOAD_SEGMENTS_MAX;
}

/* Cuts the frame into offload->mbufs. false: the pool is empty, and what was made is freed. */
static bool cut_apply(struct offload *offload, const struct cut *cut)
{
	uint32_t left = cut->payload_len;
	struct cursor cursor;

	cursor_start(&cursor, cut->frame, cut->hdr_len);
	for (unsigned int i = 0; i < cut->n; i++) {
		uint32_t payload_len = RTE_MIN(left, cut->gso_size);
		struct rte_mbuf *mbuf = chain_alloc(offload->pool, cut->hdr_len + payload_len);
		uint8_t *head;

		if (mbuf == NULL) {
			offload_release(offload);
			return false;
		}
		head = rte_pktmbuf_mtod(mbuf, uint8_t *);
		memcpy(head, cut->frame->head, cut->hdr_len);
		segment_edit_headers(cut, i, payload_len, head);
		chain_fill(mbuf, cut->hdr_len, &cursor);
		offload_complete_checksum(mbuf, cut->tcp, TCP_CSUM_OFFSET);
		offload->mbufs[offload->n++] = mbuf;
		left -= payload_len;
	}
	return true;
}

/* Frames over offload->mbufs, travelling in the VLAN of the one they came from. */
static void frames_over_mbufs(struct offload *offload, const struct frame *in)
{
	struct vring_piece *pieces = offload->pieces;

	for (unsigned int i = 0; i < offload->n; i++) {
		struct frame *frame = &offload->frames[i];

		frame_from_mbuf(frame, offload->mbufs[i], pieces);
		frame->vlan = in->vlan;
		pieces += frame->n_pieces;
	}
}

unsigned int offload_resolve(struct offload *offload, const struct frame *in, uint8_t accepts,
	struct frame **out, uint8_t *reason)
{
	uint8_t missing = in->needs & ~accepts;

	offload_release(offload);
	*out = offload->frames;
	if (missing == 0) {
		offload->frames[0] = *in;
		return 1;
	}
	if (in->needs & (FRAME_NEEDS_TSO4 | FRAME_NEEDS_TSO6)) {
		struct cut cut;

		if (!cut_plan(in, &cut)) {
			*reason = DROP_OFFLOAD_FAILED;
			return 0;
		}
		if (!cut_apply(offload, &cut)) {
			*reason = DROP_NO_MBUF;
			return 0;
		}
	} else {
		const struct virtio_net_hdr *words = &in->offload;
		struct rte_mbuf *mbuf = offload_copy_to_mbuf(in, offload->pool);

		if (mbuf == NULL) {
			*reason = DROP_NO_MBUF;
			return 0;
		}
		offload_complete_checksum(mbuf, words->csum_start, words->csum_offset);
		offload->mbufs[offload->n++] = mbuf;
	}
	frames_over_mbufs(offload, in);
	return offload->n;
}

void offload_release(struct offload *offload)
{
	rte_pktmbuf_free_bulk(offload->mbufs, offload->n);
	offload->n = 0;
}
