/* SPDX-License-Identifier: BSD-3-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <port/drop.h>
#include <port/offload.h>

#include "dpdk_fixture.h"
#include "packets.h"

#define ALL (FRAME_NEEDS_CSUM | FRAME_NEEDS_TSO4 | FRAME_NEEDS_TSO6)

static struct rte_mempool *pool;
static struct offload *offload;
static struct packet packet;

/* Frame over `packet`; its pieces are of piece_len bytes, its head as the guest port takes it. */
struct taken {
	struct frame frame;
	uint8_t *room;
	uint8_t *body;
	struct vring_piece *pieces;
};

static void take(struct taken *taken, const struct virtio_net_hdr *words, uint32_t piece_len)
{
	struct frame *frame = &taken->frame;
	uint32_t head_max = words->gso_type != 0 ? FRAME_HEAD_MAX : FRAME_HEAD_PLAIN;

	memset(frame, 0, sizeof(*frame));
	frame->len = packet.len;
	frame->head_len = RTE_MIN(packet.len, head_max);
	taken->room = malloc(4 + frame->head_len);
	frame->head = taken->room + 4;
	memcpy(frame->head, packet.bytes, frame->head_len);
	taken->body = malloc(packet.len - frame->head_len + 1);
	memcpy(taken->body, packet.bytes + frame->head_len, packet.len - frame->head_len);
	taken->pieces = calloc(packet.len / piece_len + 1, sizeof(*taken->pieces));
	frame->pieces = taken->pieces;
	for (uint32_t at = frame->head_len; at < packet.len; at += piece_len)
		taken->pieces[frame->n_pieces++] = (struct vring_piece){
			.hva = taken->body + at - frame->head_len,
			.len = RTE_MIN(piece_len, packet.len - at),
		};
	frame->offload = *words;
	frame->vlan = 77;
	frame_read_tag(frame);
}

static void drop(struct taken *taken)
{
	free(taken->room);
	free(taken->body);
	free(taken->pieces);
}

static bool validate(const struct virtio_net_hdr *words, uint8_t negotiated, struct frame *frame)
{
	struct taken taken;
	bool ok;

	take(&taken, words, 1000);
	ok = offload_validate(&taken.frame, negotiated);
	*frame = taken.frame;
	drop(&taken);
	return ok;
}

static const struct packet_spec tcp4 = {
	.ip_version = 4, .protocol = IPPROTO_TCP, .payload_len = 3000};
static const struct packet_spec tcp6 = {
	.ip_version = 6, .protocol = IPPROTO_TCP, .payload_len = 3000};
static const struct packet_spec udp4 = {
	.ip_version = 4, .protocol = IPPROTO_UDP, .payload_len = 100};

static struct virtio_net_hdr gso_words(uint8_t type, uint16_t size)
{
	return (struct virtio_net_hdr){
		.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
		.gso_type = type,
		.gso_size = size,
		.csum_start = packet.l4,
		.csum_offset = 16,
	};
}

/* As the guest leaves it: the pseudo-header's sum in the field. */
static void put_partial_checksum(const struct packet_spec *spec)
{
	uint32_t offset = spec->protocol == IPPROTO_TCP ? 16 : 6;

	put16(packet.bytes + packet.l4 + offset,
		slow_pseudo_sum(packet.bytes + packet.l3, packet.len - packet.l4, spec->protocol));
}

static void plain_frame_needs_nothing_whatever_its_unused_words_say(void **state)
{
	/* NEEDS_CSUM is bit 0, DATA_VALID 1, RSC_INFO 2; the rest is unknown. */
	static const uint8_t flags[] = {0, 0x02, 0x04, 0x06, 0xf8, 0xfe};

	packet_make(&packet, &udp4);
	for (unsigned int i = 0; i < sizeof(flags); i++) {
		struct virtio_net_hdr words = {
			.flags = flags[i],
			.hdr_len = 0xffff,
			.gso_size = 1,
			.csum_start = 0xffff,
			.csum_offset = 0xffff,
		};
		static const struct virtio_net_hdr clean;
		struct frame frame;

		assert_true(validate(&words, 0, &frame));
		assert_int_equal(frame.needs, 0);
		assert_memory_equal(&frame.offload, &clean, sizeof(clean));
	}
}

static void checksum_words_are_taken_exactly_when_the_field_lies_in_the_frame(void **state)
{
	static const uint32_t around[] = {0, 1, 13, 14, 33, 34, 35, 139, 140, 141, 142, 143, 0x7fff,
		0x8000, 0xfffb, 0xfffc, 0xffff};

	packet_make(&packet, &udp4);
	assert_int_equal(packet.len, 142);
	for (unsigned int s = 0; s < RTE_DIM(around); s++) {
		for (unsigned int o = 0; o < RTE_DIM(around); o++) {
			struct virtio_net_hdr words = {
				.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
				.csum_start = around[s],
				.csum_offset = around[o],
			};
			bool inside = around[s] + around[o] + 2 <= packet.len;
			struct frame frame;

			assert_int_equal(validate(&words, ALL, &frame), inside);
			if (inside)
				assert_int_equal(frame.needs, FRAME_NEEDS_CSUM);
		}
	}
}

static void checksum_words_of_the_longest_frame_fit_after_a_tag_is_pushed(void **state)
{
	struct packet_spec spec = {.ip_version = 4, .protocol = 99, .payload_len = 65535 - 20};
	unsigned int n_taken = 0;

	packet_make(&packet, &spec);
	for (uint32_t start = 65500; start <= 65535; start++) {
		for (uint32_t offset = 0; offset < 60; offset++) {
			struct virtio_net_hdr words = {
				.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
				.csum_start = start,
				.csum_offset = offset,
			};
			struct frame_room room;
			struct taken taken;
			struct frame out;

			take(&taken, &words, 70000);
			if (offload_validate(&taken.frame, ALL)) {
				frame_retag(&taken.frame, true, &out, &room);
				assert_int_equal(out.offload.csum_start, start + 4);
				assert_int_equal(out.offload.csum_offset, offset);
				n_taken++;
			}
			drop(&taken);
		}
	}
	assert_true(n_taken > 0);
}

static void offload_that_was_not_negotiated_is_refused(void **state)
{
	struct virtio_net_hdr words = {
		.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .csum_start = 34, .csum_offset = 16};
	struct frame frame;

	packet_make(&packet, &tcp4);
	assert_false(validate(&words, 0, &frame));
	assert_true(validate(&words, FRAME_NEEDS_CSUM, &frame));
	words = gso_words(VIRTIO_NET_HDR_GSO_TCPV4, 1448);
	assert_false(validate(&words, FRAME_NEEDS_CSUM | FRAME_NEEDS_TSO6, &frame));
	assert_true(validate(&words, FRAME_NEEDS_CSUM | FRAME_NEEDS_TSO4, &frame));
	packet_make(&packet, &tcp6);
	words = gso_words(VIRTIO_NET_HDR_GSO_TCPV6, 1428);
	assert_false(validate(&words, FRAME_NEEDS_CSUM | FRAME_NEEDS_TSO4, &frame));
	assert_true(validate(&words, FRAME_NEEDS_CSUM | FRAME_NEEDS_TSO6, &frame));
}

static void gso_words_are_taken_exactly_when_they_fit_the_headers(void **state)
{
	static const struct packet_spec kinds[] = {
		{.ip_version = 4, .protocol = IPPROTO_TCP, .payload_len = 3000},
		{.ip_version = 6, .protocol = IPPROTO_TCP, .payload_len = 3000},
		{.ip_version = 4, .protocol = IPPROTO_UDP, .payload_len = 3000},
		{.ip_version = 6, .protocol = IPPROTO_UDP, .payload_len = 3000},
		{.ip_version = 4, .protocol = IPPROTO_TCP, .payload_len = 3000, .fragment = true},
		{.ip_version = 0, .protocol = IPPROTO_TCP, .payload_len = 3000},
	};
	static const uint16_t sizes[] = {0, 1, 48, 1448, 65535};
	static const uint16_t header_lengths[] = {0, 1, 54, 0xffff};

	for (unsigned int k = 0; k < RTE_DIM(kinds); k++) {
		packet_make(&packet, &kinds[k]);
		for (unsigned int type = 1; type < 256; type++) {
			for (unsigned int i = 0; i < RTE_DIM(sizes) * RTE_DIM(header_lengths) * 8;
				i++) {
				struct virtio_net_hdr words =
					gso_words(type, sizes[i % RTE_DIM(sizes)]);
				bool fits = ((type == 1 && k == 0) || (type == 4 && k == 1)) &&
					    words.gso_size > 0;
				struct frame frame;

				words.flags = i / 20;
				words.hdr_len = header_lengths[i / 5 % RTE_DIM(header_lengths)];
				fits = fits && (words.flags & 1);
				assert_int_equal(validate(&words, ALL, &frame), fits);
				if (!fits)
					continue;
				assert_int_equal(frame.offload.flags, VIRTIO_NET_HDR_F_NEEDS_CSUM);
				assert_int_equal(frame.offload.hdr_len, packet.payload);
				assert_int_equal(frame.needs,
					FRAME_NEEDS_CSUM |
						(k == 0 ? FRAME_NEEDS_TSO4 : FRAME_NEEDS_TSO6));
			}
		}
	}
}

static void gso_checksum_must_be_the_tcp_checksum(void **state)
{
	struct virtio_net_hdr words;
	struct frame frame;

	packet_make(&packet, &tcp4);
	for (int start = -2; start <= 2; start++) {
		for (int offset = -2; offset <= 2; offset++) {
			words = gso_words(VIRTIO_NET_HDR_GSO_TCPV4, 1448);
			words.csum_start += start;
			words.csum_offset += offset;
			assert_int_equal(validate(&words, ALL, &frame), start == 0 && offset == 0);
		}
	}
}

static void gso_headers_must_be_complete_in_the_frame(void **state)
{
	struct packet_spec spec = tcp4;
	struct virtio_net_hdr words;
	struct frame frame;

	spec.tcp_options = 40;
	spec.ip_options = 32;
	packet_make(&packet, &spec);
	words = gso_words(VIRTIO_NET_HDR_GSO_TCPV4, 1448);
	for (packet.len = packet.l4 + 18; packet.len < packet.payload; packet.len++)
		assert_false(validate(&words, ALL, &frame));
	assert_true(validate(&words, ALL, &frame));
	spec = tcp6;
	spec.n_extensions = 7;
	packet_make(&packet, &spec);
	words = gso_words(VIRTIO_NET_HDR_GSO_TCPV6, 1448);
	assert_false(validate(&words, ALL, &frame)); /* 130 bytes of headers */
	spec.n_extensions = 6;
	packet_make(&packet, &spec);
	words = gso_words(VIRTIO_NET_HDR_GSO_TCPV6, 1448);
	assert_true(validate(&words, ALL, &frame));
}

/* What completing the checksum at start + offset makes of the packet. */
static void complete_slowly(uint8_t *bytes, uint32_t len, uint32_t start, uint32_t offset)
{
	uint32_t sum = ~slow_sum(bytes + start, len - start, 0) & 0xffff;

	if (sum == 0 && offset == 6)
		sum = 0xffff;
	put16(bytes + start + offset, sum);
}

/* Resolves the packet with the words and compares the one result with the slow way. */
static void check_completed(uint32_t start, uint32_t offset, uint32_t piece_len)
{
	struct virtio_net_hdr words = {
		.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
		.csum_start = start,
		.csum_offset = offset,
	};
	static uint8_t expected[70000], got[70000];
	struct frame *out;
	struct taken taken;
	uint8_t reason = 0;

	take(&taken, &words, piece_len);
	assert_true(offload_validate(&taken.frame, ALL));
	assert_int_equal(offload_resolve(offload, &taken.frame, 0, &out, &reason), 1);
	memcpy(expected, packet.bytes, packet.len);
	complete_slowly(expected, packet.len, start, offset);
	assert_int_equal(out->len, packet.len);
	assert_int_equal(out->needs, 0);
	assert_int_equal(out->offload.flags, 0);
	assert_int_equal(out->vlan, 77);
	assert_int_equal(out->tagged, taken.frame.tagged);
	assert_true(out->head_len <= FRAME_HEAD_MAX);
	frame_copy_out(out, got);
	assert_memory_equal(got, expected, packet.len);
	drop(&taken);
}

static void completed_checksum_is_right_wherever_it_starts_and_lies(void **state)
{
	struct packet_spec spec = {.ip_version = 4, .protocol = 99};

	/* Pool buffers take 1024 bytes: starts and fields before, across and behind their borders.
	 */
	for (spec.payload_len = 1; spec.payload_len < 4000;
		spec.payload_len = spec.payload_len * 3 + 1) {
		packet_make(&packet, &spec);
		for (uint32_t start = 0; start + 2 <= packet.len; start += start < 40 ? 1 : 37) {
			for (uint32_t field = start; field + 2 <= packet.len;
				field += field < 40 ? 3 : 491)
				check_completed(start, field - start, 100 + start);
			check_completed(start, packet.len - 2 - start, 70000);
		}
	}
	packet_make(&packet,
		&(struct packet_spec){.ip_version = 4, .protocol = 99, .payload_len = 4000});
	for (uint32_t field = 1000; field < 1050; field++) {
		check_completed(13, field - 13, 999);
		check_completed(14, field - 14, 999);
	}
	offload_release(offload);
	assert_int_equal(rte_mempool_in_use_count(pool), 0);
}

static void sums_of_bytes_that_carry_most_are_right(void **state)
{
	packet_make(&packet,
		&(struct packet_spec){.ip_version = 4, .protocol = 99, .payload_len = 65000});
	memset(packet.bytes + packet.payload, 0xff, 65000);
	check_completed(34, 0, 1);
	check_completed(35, 0, 9999);
	check_completed(35, 1, 9999);
	offload_release(offload);
}

static void udp_checksum_that_is_zero_is_sent_as_ffff_and_others_are_not(void **state)
{
	struct frame *out;
	struct taken taken;
	uint8_t reason;

	for (unsigned int is_udp = 0; is_udp <= 1; is_udp++) {
		uint32_t offset = is_udp ? 6 : 16;
		struct virtio_net_hdr words = {
			.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
			.csum_offset = offset,
		};

		packet_make(&packet, is_udp ? &udp4 : &tcp4);
		words.csum_start = packet.l4;
		/* Whatever the rest sums to, this makes it all ones. */
		put16(packet.bytes + packet.l4 + offset, 0);
		put16(packet.bytes + packet.l4 + offset,
			~slow_sum(packet.bytes + packet.l4, packet.len - packet.l4, 0));
		take(&taken, &words, 1000);
		assert_true(offload_validate(&taken.frame, ALL));
		assert_int_equal(offload_resolve(offload, &taken.frame, 0, &out, &reason), 1);
		assert_int_equal(get16(out->head + packet.l4 + offset), is_udp ? 0xffff : 0);
		drop(&taken);
	}
	offload_release(offload);
}

static void frame_the_egress_takes_is_handed_on_as_it_is(void **state)
{
	struct virtio_net_hdr words;
	struct frame *out;
	struct taken taken;
	uint8_t reason;

	packet_make(&packet, &tcp4);
	words = gso_words(VIRTIO_NET_HDR_GSO_TCPV4, 1448);
	take(&taken, &words, 1000);
	assert_true(offload_validate(&taken.frame, ALL));
	assert_int_equal(offload_resolve(offload, &taken.frame, ALL, &out, &reason), 1);
	assert_memory_equal(out, &taken.frame, sizeof(*out));
	assert_int_equal(rte_mempool_in_use_count(pool), 0);
	drop(&taken);
}

/* One segment against the packet it was cut from. */
static void check_segment(const struct packet_spec *spec, const struct frame *frame, uint32_t i,
	uint32_t n, uint32_t gso_size)
{
	uint32_t payload_len = RTE_MIN(gso_size, spec->payload_len - i * gso_size);
	uint32_t l3_len = packet.l4 - packet.l3, tcp_len;
	static uint8_t got[70000];
	uint8_t *ip = got + packet.l3, *tcp = got + packet.l4;

	assert_int_equal(frame->len, packet.payload + payload_len);
	assert_int_equal(frame->needs, 0);
	assert_int_equal(frame->offload.gso_type, VIRTIO_NET_HDR_GSO_NONE);
	assert_int_equal(frame->offload.flags, 0);
	assert_int_equal(frame->vlan, 77);
	assert_int_equal(frame->tagged, spec->n_tags > 0);
	frame_copy_out(frame, got);
	assert_memory_equal(got, packet.bytes, packet.l3);
	assert_memory_equal(
		got + packet.payload, packet.bytes + packet.payload + i * gso_size, payload_len);
	tcp_len = frame->len - packet.l4;
	if (spec->ip_version == 4) {
		assert_int_equal(get16(ip + 2), l3_len + tcp_len);
		assert_int_equal(get16(ip + 4), (0xfffe + i) & 0xffff);
		assert_int_equal(slow_sum(ip, l3_len, 0), 0xffff);
		assert_memory_equal(ip + 6, packet.bytes + packet.l3 + 6, 4);
		assert_memory_equal(ip + 12, packet.bytes + packet.l3 + 12, l3_len - 12);
	} else {
		assert_int_equal(get16(ip + 4), l3_len - 40 + tcp_len);
		assert_memory_equal(ip + 6, packet.bytes + packet.l3 + 6, l3_len - 6);
	}
	assert_int_equal(get32(tcp + 4), 0xfffffc00u + i * gso_size);
	assert_int_equal(tcp[13] & 0x09, i + 1 == n ? 0x09 : 0); /* PSH, FIN: the last */
	assert_int_equal(tcp[13] & 0x80, i == 0 ? 0x80 : 0);     /* CWR: the first */
	assert_int_equal(tcp[13] & 0x76, 0x10);
	assert_memory_equal(tcp + 20, packet.bytes + packet.l4 + 20, spec->tcp_options);
	assert_int_equal(slow_sum(tcp, tcp_len, slow_pseudo_sum(ip, tcp_len, IPPROTO_TCP)), 0xffff);
}

static void check_cut(const struct packet_spec *spec, uint16_t gso_size, uint32_t piece_len)
{
	uint32_t n = spec->payload_len == 0 ? 1 : (spec->payload_len + gso_size - 1) / gso_size;
	struct virtio_net_hdr words;
	struct frame *out;
	struct taken taken;
	uint8_t reason = N_DROP_REASONS;
	unsigned int n_out;

	packet_make(&packet, spec);
	put_partial_checksum(spec);
	words = gso_words(
		spec->ip_version == 4 ? VIRTIO_NET_HDR_GSO_TCPV4 : VIRTIO_NET_HDR_GSO_TCPV6,
		gso_size);
	take(&taken, &words, piece_len);
	assert_true(offload_validate(&taken.frame, ALL));
	/* Whoever cuts sums as well. */
	n_out = offload_resolve(offload, &taken.frame, FRAME_NEEDS_CSUM, &out, &reason);
	if (n > OFFLOAD_SEGMENTS_MAX) {
		assert_int_equal(n_out, 0);
		assert_int_equal(reason, DROP_OFFLOAD_FAILED);
		assert_int_equal(rte_mempool_in_use_count(pool), 0);
	} else {
		assert_int_equal(n_out, n);
		for (uint32_t i = 0; i < n; i++)
			check_segment(spec, &out[i], i, n, gso_size);
	}
	drop(&taken);
}

static void segments_are_whole_summed_frames_of_the_guests_size(void **state)
{
	static const uint16_t sizes[] = {1, 48, 511, 512, 536, 970, 1447, 1448, 9000, 65535};
	static const uint32_t payloads[] = {0, 1, 47, 48, 49, 1448, 1449, 10000, 65535 - 40 - 60};

	for (unsigned int kind = 0; kind < 12; kind++) {
		struct packet_spec spec = {
			.n_tags = kind % 3,
			.ip_version = kind / 3 % 2 ? 6 : 4,
			.protocol = IPPROTO_TCP,
			.n_extensions = kind / 6 * 2,
			.ip_options = kind / 6 * 8,
			.tcp_options = kind % 2 * 12,
		};

		for (unsigned int s = 0; s < RTE_DIM(sizes); s++) {
			for (unsigned int p = 0; p < RTE_DIM(payloads); p++) {
				spec.payload_len = payloads[p];
				check_cut(&spec, sizes[s], 1 + 333 * (kind + 1));
			}
		}
	}
	offload_release(offload);
	assert_int_equal(rte_mempool_in_use_count(pool), 0);
}

static void longest_frame_gives_as_many_segments_as_are_allowed_and_no_more(void **state)
{
	struct packet_spec spec = tcp4;

	for (spec.payload_len = 128 * 100 - 1; spec.payload_len <= 128 * 100 + 1;
		spec.payload_len++)
		check_cut(&spec, 100, 1);
	/* All of them with the longest headers, over several buffers each. */
	spec.tcp_options = 40;
	spec.ip_options = 32;
	spec.payload_len = 65535 - 112;
	check_cut(&spec, 512, 4096);
	offload_release(offload);
}

static void frame_with_a_routing_header_is_not_cut(void **state)
{
	struct packet_spec spec = tcp6;
	struct virtio_net_hdr words;
	struct frame *out;
	struct taken taken;
	uint8_t reason = 0;

	spec.n_extensions = 1;
	spec.routing = true;
	packet_make(&packet, &spec);
	words = gso_words(VIRTIO_NET_HDR_GSO_TCPV6, 1000);
	take(&taken, &words, 1000);
	assert_true(offload_validate(&taken.frame, ALL));
	assert_int_equal(offload_resolve(offload, &taken.frame, 0, &out, &reason), 0);
	assert_int_equal(reason, DROP_OFFLOAD_FAILED);
	drop(&taken);
}

static void empty_pool_is_told_and_nothing_stays_allocated(void **state)
{
	struct rte_mempool *small = dpdk_pool("small", 7, 1024);
	struct offload *few;
	char error[200];

	few = offload_create(small, -1, error, sizeof(error));
	assert_non_null(few);
	packet_make(&packet, &tcp4);
	for (unsigned int i = 0; i < 3; i++) {
		struct virtio_net_hdr words = gso_words(VIRTIO_NET_HDR_GSO_TCPV4, 300);
		struct frame *out;
		struct taken taken;
		uint8_t reason = N_DROP_REASONS;

		take(&taken, &words, 1000);
		assert_true(offload_validate(&taken.frame, ALL));
		assert_int_equal(offload_resolve(few, &taken.frame, 0, &out, &reason), 0);
		assert_int_equal(reason, DROP_NO_MBUF);
		assert_int_equal(rte_mempool_in_use_count(small), 0);
		drop(&taken);
		/* Seven just fit. */
		words.gso_size = 430;
		take(&taken, &words, 1000);
		assert_true(offload_validate(&taken.frame, ALL));
		assert_int_equal(offload_resolve(few, &taken.frame, 0, &out, &reason), 7);
		assert_null(offload_copy_to_mbuf(&taken.frame, small));
		drop(&taken);
	}
	offload_destroy(few);
	assert_int_equal(rte_mempool_in_use_count(small), 0);
	rte_mempool_free(small);
}

static void pool_of_small_buffers_is_refused_with_its_name(void **state)
{
	struct rte_mempool *small = dpdk_pool("tiny_pool", 7, 1023);
	char error[200];

	assert_null(offload_create(small, -1, error, sizeof(error)));
	assert_non_null(strstr(error, "tiny_pool"));
	rte_mempool_free(small);
}

static void copy_has_every_byte_and_room_for_a_tag(void **state)
{
	static uint8_t got[70000];
	static const struct virtio_net_hdr none;

	for (uint32_t len = 14; len < 65553; len = len * 2 + 1) {
		struct rte_mbuf *mbuf;
		struct taken taken;

		packet_make(&packet, &(struct packet_spec){.payload_len = len - 14});
		assert_int_equal(packet.len, len);
		take(&taken, &none, 77);
		mbuf = offload_copy_to_mbuf(&taken.frame, pool);
		assert_non_null(mbuf);
		assert_int_equal(rte_mbuf_check(mbuf, 1, &(const char *){NULL}), 0);
		assert_int_equal(mbuf->ol_flags, 0);
		assert_true(rte_pktmbuf_headroom(mbuf) >= 4);
		assert_memory_equal(rte_pktmbuf_read(mbuf, 0, len, got), packet.bytes, len);
		rte_pktmbuf_free(mbuf);
		drop(&taken);
	}
	assert_int_equal(rte_mempool_in_use_count(pool), 0);
}

static void random_words_over_random_frames_never_leave_the_frame(void **state)
{
	static const uint8_t types[] = {0, 1, 4, 3, 5, 0x81, 0x84};

	srandom(2);
	for (unsigned int i = 0; i < 40000; i++) {
		struct packet_spec spec = {
			.n_tags = random() % 3,
			.ip_version = random() % 2 ? 4 : 6,
			.protocol = random() % 4 ? IPPROTO_TCP : IPPROTO_UDP,
			.n_extensions = random() % 4,
			.tcp_options = random() % 11 * 4,
			.payload_len = random() % 2000,
		};
		struct virtio_net_hdr words = {
			.flags = random(),
			.gso_type = types[random() % sizeof(types)],
			.gso_size = random() % 3000,
			.hdr_len = random(),
			.csum_start = random() % 3000,
			.csum_offset = random() % 100,
		};
		struct frame *out;
		struct taken taken;
		uint8_t reason;

		packet_make(&packet, &spec);
		if (random() % 4)
			words.csum_start = packet.l4;
		if (random() % 4)
			words.csum_offset = 16;
		/* Bytes of the headers change, and the frame ends early. */
		for (unsigned int b = 0; b < 3; b++) {
			if (random() % 2)
				packet.bytes[12 + random() % 80] = random();
		}
		if (random() % 4 == 0)
			packet.len = 14 + random() % (packet.len - 13);
		take(&taken, &words, 1 + random() % 2000);
		if (offload_validate(&taken.frame, ALL)) {
			uint8_t accepts = random() & ALL;
			unsigned int n =
				offload_resolve(offload, &taken.frame, accepts, &out, &reason);

			for (unsigned int f = 0; f < n; f++) {
				static uint8_t got[70000];

				assert_int_equal(out[f].needs & ~accepts, 0);
				frame_copy_out(&out[f], got);
			}
		}
		drop(&taken);
	}
	offload_release(offload);
	assert_int_equal(rte_mempool_in_use_count(pool), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(plain_frame_needs_nothing_whatever_its_unused_words_say),
		cmocka_unit_test(checksum_words_are_taken_exactly_when_the_field_lies_in_the_frame),
		cmocka_unit_test(checksum_words_of_the_longest_frame_fit_after_a_tag_is_pushed),
		cmocka_unit_test(offload_that_was_not_negotiated_is_refused),
		cmocka_unit_test(gso_words_are_taken_exactly_when_they_fit_the_headers),
		cmocka_unit_test(gso_checksum_must_be_the_tcp_checksum),
		cmocka_unit_test(gso_headers_must_be_complete_in_the_frame),
		cmocka_unit_test(completed_checksum_is_right_wherever_it_starts_and_lies),
		cmocka_unit_test(sums_of_bytes_that_carry_most_are_right),
		cmocka_unit_test(udp_checksum_that_is_zero_is_sent_as_ffff_and_others_are_not),
		cmocka_unit_test(frame_the_egress_takes_is_handed_on_as_it_is),
		cmocka_unit_test(segments_are_whole_summed_frames_of_the_guests_size),
		cmocka_unit_test(longest_frame_gives_as_many_segments_as_are_allowed_and_no_more),
		cmocka_unit_test(frame_with_a_routing_header_is_not_cut),
		cmocka_unit_test(empty_pool_is_told_and_nothing_stays_allocated),
		cmocka_unit_test(pool_of_small_buffers_is_refused_with_its_name),
		cmocka_unit_test(copy_has_every_byte_and_room_for_a_tag),
		cmocka_unit_test(random_words_over_random_frames_never_leave_the_frame),
	};
	char error[200];
	int ret;

	dpdk_start();
	pool = dpdk_pool("offload_test", 1023, 1024);
	offload = offload_create(pool, -1, error, sizeof(error));
	if (offload == NULL) {
		fprintf(stderr, "%s\n", error);
		return EXIT_FAILURE;
	}
	ret = cmocka_run_group_tests(tests, NULL, NULL);
	offload_destroy(offload);
	return ret;
}
