/* SPDX-License-Identifier: BSD-3-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <port/frame.h>

#include "dpdk_fixture.h"
#include "frame_layers.h"
#include "packets.h"

static struct rte_mempool *pool;

/* A frame over bytes of the heap, each part with its own allocation, so that ASan sees one byte too
 * many. */
struct laid {
	struct frame frame;
	uint8_t *room; /* 4 bytes, then the head */
	struct vring_piece pieces[200];
};

static void lay(struct laid *laid, const uint8_t *bytes, uint32_t len, uint16_t head_len,
	uint32_t piece_len)
{
	struct frame *frame = &laid->frame;

	memset(frame, 0, sizeof(*frame));
	laid->room = malloc(FRAME_TAG_LEN + head_len);
	frame->head = laid->room + FRAME_TAG_LEN;
	frame->head_len = head_len;
	frame->len = len;
	frame->pieces = laid->pieces;
	memcpy(frame->head, bytes, head_len);
	for (uint32_t at = head_len; at < len;) {
		uint32_t n = len - at < piece_len ? len - at : piece_len;
		uint8_t *piece = malloc(n);

		memcpy(piece, bytes + at, n);
		laid->pieces[frame->n_pieces++] = (struct vring_piece){.hva = piece, .len = n};
		at += n;
	}
	frame_read_tag(frame);
}

static void clear(struct laid *laid)
{
	for (unsigned int i = 0; i < laid->frame.n_pieces; i++)
		free(laid->pieces[i].hva);
	free(laid->room);
}

static void assert_bytes(const struct frame *frame, const uint8_t *bytes, uint32_t len)
{
	uint8_t *out = malloc(len);

	assert_int_equal(frame->len, len);
	frame_copy_out(frame, out);
	assert_memory_equal(out, bytes, len);
	free(out);
}

static void tag_pushed_and_popped_gives_back_every_byte_of_a_frame_cut_anywhere(void **state)
{
	static const uint32_t lengths[] = {14, 15, 17, 18, 60, 64, 65, 127, 128, 129, 131, 190};
	static const uint32_t piece_lengths[] = {1, 3, 64, 1000};
	uint8_t plain[256], tagged[260];

	for (unsigned int i = 0; i < sizeof(plain); i++)
		plain[i] = (uint8_t)(i * 3 + 1);
	memcpy(tagged, plain, 12);
	memcpy(tagged + 12, "\x81\x00\x01\x23", 4);
	memcpy(tagged + 16, plain + 12, sizeof(plain) - 12);
	for (unsigned int l = 0; l < RTE_DIM(lengths); l++) {
		uint32_t len = lengths[l];

		for (uint16_t head_len = 14; head_len <= RTE_MIN(len, FRAME_HEAD_MAX); head_len++) {
			for (unsigned int p = 0; p < RTE_DIM(piece_lengths); p++) {
				struct frame_room room, room_back;
				struct frame out, back;
				struct laid laid;

				lay(&laid, plain, len, head_len, piece_lengths[p]);
				assert_false(laid.frame.tagged);
				laid.frame.vlan = 0x123;
				frame_retag(&laid.frame, true, &out, &room);
				assert_true(out.tagged);
				assert_int_equal(out.vlan, 0x123);
				assert_bytes(&out, tagged, len + 4);
				assert_bytes(&laid.frame, plain, len);
				frame_retag(&out, false, &back, &room_back);
				assert_false(back.tagged);
				assert_bytes(&back, plain, len);
				clear(&laid);

				if (head_len < 18)
					continue;
				lay(&laid, tagged, len, head_len, piece_lengths[p]);
				assert_true(laid.frame.tagged);
				laid.frame.vlan = 0x123;
				frame_retag(&laid.frame, false, &out, &room);
				assert_bytes(&out, plain, len - 4);
				frame_retag(&out, true, &back, &room_back);
				assert_bytes(&back, tagged, len);
				clear(&laid);
			}
		}
	}
}

static void retagged_frame_is_edited_and_has_room_for_a_tag_before_it(void **state)
{
	struct frame_room room;
	uint8_t bytes[200] = {0};
	struct frame out;
	struct laid laid;

	lay(&laid, bytes, sizeof(bytes), FRAME_HEAD_MAX, 1000);
	laid.frame.mbuf = (struct rte_mbuf *)bytes;
	frame_retag(&laid.frame, true, &out, &room);
	assert_null(out.mbuf);
	assert_ptr_equal(out.pieces, laid.frame.pieces);
	assert_int_equal(out.head_len, FRAME_HEAD_MAX + 4);
	assert_true(out.head - 4 >= room.before);
	assert_true(out.head + out.head_len <= room.head + sizeof(room.head));
	clear(&laid);
}

static void checksum_words_follow_their_bytes_when_the_tag_comes_and_goes(void **state)
{
	uint8_t bytes[60];

	/* No two bytes alike: where a position points is known by its byte. */
	for (unsigned int i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(100 + i);
	for (int tagged = 0; tagged <= 1; tagged++) {
		if (tagged)
			memcpy(bytes + 12, "\x81\x00\x00\x05", 4);
		for (uint16_t start = 0; start < 58; start++) {
			for (uint16_t field = start; field + 2u <= 60; field++) {
				struct frame_room room;
				struct frame out;
				struct laid laid;
				uint16_t new_field;

				lay(&laid, bytes, 60, 60, 1);
				laid.frame.offload.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
				laid.frame.offload.csum_start = start;
				laid.frame.offload.csum_offset = field - start;
				frame_retag(&laid.frame, !tagged, &out, &room);
				new_field = out.offload.csum_start + out.offload.csum_offset;
				assert_true(new_field + 2u <= out.len);
				assert_true(new_field >= out.offload.csum_start);
				if (start < 12 || start >= 16)
					assert_int_equal(
						out.head[out.offload.csum_start], bytes[start]);
				if (field < 12 || field >= 16)
					assert_int_equal(out.head[new_field], bytes[field]);
				clear(&laid);
			}
		}
	}
}

static void header_length_of_gso_frames_follows_the_tag_and_no_other_word_does(void **state)
{
	struct frame_room room;
	uint8_t bytes[100] = {0};
	struct frame out;
	struct laid laid;

	lay(&laid, bytes, 100, 100, 1);
	laid.frame.offload.hdr_len = 54;
	laid.frame.offload.csum_start = 34;
	frame_retag(&laid.frame, true, &out, &room);
	assert_int_equal(out.offload.hdr_len, 54);
	assert_int_equal(out.offload.csum_start, 34);
	laid.frame.offload.gso_type = VIRTIO_NET_HDR_GSO_TCPV4;
	laid.frame.offload.gso_size = 1448;
	frame_retag(&laid.frame, true, &out, &room);
	assert_int_equal(out.offload.hdr_len, 58);
	assert_int_equal(out.offload.gso_size, 1448);
	clear(&laid);
}

static void frame_over_an_mbuf_has_its_bytes_however_the_mbuf_is_cut(void **state)
{
	uint8_t bytes[400];

	for (unsigned int i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(i * 5);
	for (uint16_t first = 14; first < 300; first += 7) {
		for (uint16_t second = 0; second < 50; second += 25) {
			struct rte_mbuf *m[3];
			struct vring_piece pieces[4];
			struct frame frame;

			assert_int_equal(rte_pktmbuf_alloc_bulk(pool, m, 3), 0);
			memcpy(rte_pktmbuf_append(m[0], first), bytes, first);
			memcpy(rte_pktmbuf_append(m[1], second), bytes + first, second);
			memcpy(rte_pktmbuf_append(m[2], 40), bytes + first + second, 40);
			rte_pktmbuf_chain(m[1], m[2]);
			rte_pktmbuf_chain(m[0], m[1]);
			frame_from_mbuf(&frame, m[0], pieces);
			assert_true(frame.n_pieces <= RTE_DIM(pieces));
			for (unsigned int i = 0; i < frame.n_pieces; i++)
				assert_true(frame.pieces[i].len > 0);
			assert_int_equal(frame.head_len, RTE_MIN(first, FRAME_HEAD_MAX));
			assert_ptr_equal(frame.mbuf, m[0]);
			assert_int_equal(frame.needs, 0);
			assert_bytes(&frame, bytes, first + second + 40);
			rte_pktmbuf_free(m[0]);
		}
	}
	assert_int_equal(rte_mempool_in_use_count(pool), 0);
}

static void tag_that_is_not_complete_is_refused(void **state)
{
	uint8_t bytes[64] = {0};

	memcpy(bytes + 12, "\x81\x00", 2);
	for (uint16_t len = 1; len <= 20; len++) {
		struct laid laid;

		lay(&laid, bytes, len, len, 1);
		assert_int_equal(frame_read_tag(&laid.frame), len >= 18);
		clear(&laid);
	}
	memcpy(bytes + 12, "\x08\x06", 2);
	for (uint16_t len = 1; len <= 20; len++) {
		struct laid laid;

		lay(&laid, bytes, len, len, 1);
		assert_int_equal(frame_read_tag(&laid.frame), len >= 14);
		assert_false(laid.frame.tagged);
		clear(&laid);
	}
}

static void layers_stay_inside_the_head_wherever_it_ends(void **state)
{
	struct packet *packet = malloc(sizeof(*packet));
	unsigned int n_complete = 0;

	for (unsigned int tags = 0; tags <= 3; tags++) {
		for (unsigned int kind = 0; kind < 8; kind++) {
			struct packet_spec spec = {
				.n_tags = tags,
				.ip_version = kind & 1 ? 4 : 6,
				.protocol = kind & 2 ? IPPROTO_TCP : IPPROTO_UDP,
				.n_extensions = kind & 4 ? 3 : 0,
				.ip_options = kind & 4 ? 40 : 0,
				.tcp_options = 12,
				.payload_len = 10,
			};

			packet_make(packet, &spec);
			for (uint16_t head_len = 1; head_len <= RTE_MIN(packet->len, 128u);
				head_len++) {
				struct frame_layers layers;
				struct laid laid;

				lay(&laid, packet->bytes, packet->len, head_len, 1000);
				frame_layers_parse(&laid.frame, &layers);
				assert_true(
					layers.l2_len + layers.l3_len + layers.l4_len <= head_len);
				if (layers.ip_version != 0)
					assert_int_equal(layers.l2_len, packet->l3);
				if (layers.l4_len != 0) {
					assert_int_equal(layers.l2_len + layers.l3_len, packet->l4);
					assert_int_equal(layers.protocol, spec.protocol);
					n_complete++;
				}
				clear(&laid);
			}
		}
	}
	assert_true(n_complete > 100);
	free(packet);
}

static void hundred_ipv6_extension_headers_are_not_walked(void **state)
{
	uint8_t bytes[14 + 40 + 100 * 8] = {0};
	struct frame_layers layers;
	struct laid laid;

	memcpy(bytes + 12, "\x86\xdd\x60", 3);
	lay(&laid, bytes, sizeof(bytes), FRAME_HEAD_MAX, 1000);
	frame_layers_parse(&laid.frame, &layers);
	assert_int_equal(layers.ip_version, 0);
	assert_int_equal(layers.l4_len, 0);
	clear(&laid);
}

static void layers_of_random_bytes_stay_inside_the_head(void **state)
{
	static const char *const starts[] = {
		"\x08\x00", "\x86\xdd", "\x81\x00", "\x88\xa8", "\x05\xdc"};
	uint8_t bytes[128];

	srandom(1);
	for (unsigned int i = 0; i < 50000; i++) {
		uint16_t head_len = 14 + random() % 115;
		struct frame_layers layers;
		struct laid laid;

		for (unsigned int b = 0; b < sizeof(bytes); b++)
			bytes[b] = (uint8_t)random();
		memcpy(bytes + 12, starts[i % RTE_DIM(starts)], 2);
		/* Keep the parser from giving up at the version. */
		if (i % 3 != 0)
			bytes[14] = (uint8_t)((i % 5 == 0 ? 0x40 : 0x60) | (bytes[14] & 0xf));
		if (i % 2 == 0)
			bytes[20] = (uint8_t)("\0\x2b\x2c\x3c\x06\x11"[bytes[21] % 6]);
		lay(&laid, bytes, sizeof(bytes), head_len, 1000);
		frame_layers_parse(&laid.frame, &layers);
		assert_true(layers.l2_len + layers.l3_len + layers.l4_len <= head_len);
		frame_flow_hash(&laid.frame);
		clear(&laid);
	}
}

/* Swaps the two sides of the frame in every layer. */
static void reverse(struct packet *packet, int ip_version)
{
	uint8_t *b = packet->bytes, *ip = b + packet->l3, *l4 = b + packet->l4;
	uint32_t address_len = ip_version == 4 ? 4 : 16;
	uint8_t *address = ip + (ip_version == 4 ? 12 : 8);
	uint8_t kept[16];

	memcpy(kept, b, 6);
	memcpy(b, b + 6, 6);
	memcpy(b + 6, kept, 6);
	if (ip_version == 0)
		return;
	memcpy(kept, address, address_len);
	memcpy(address, address + address_len, address_len);
	memcpy(address + address_len, kept, address_len);
	memcpy(kept, l4, 2);
	memcpy(l4, l4 + 2, 2);
	memcpy(l4 + 2, kept, 2);
}

static uint32_t hash_of(const struct packet *packet)
{
	struct laid laid;
	uint32_t hash;

	lay(&laid, packet->bytes, packet->len, RTE_MIN(packet->len, FRAME_HEAD_PLAIN), 1000);
	hash = frame_flow_hash(&laid.frame);
	clear(&laid);
	return hash;
}

static void flow_hash_is_the_same_in_both_directions(void **state)
{
	struct packet *packet = malloc(sizeof(*packet));

	for (unsigned int i = 0; i < 12; i++) {
		struct packet_spec spec = {
			.n_tags = i & 1,
			.ip_version = i / 4 == 0   ? 4
				      : i / 4 == 1 ? 6
						   : 0,
			.protocol = i & 2 ? IPPROTO_TCP : IPPROTO_UDP,
			.payload_len = 30,
		};
		uint32_t forward;

		packet_make(packet, &spec);
		forward = hash_of(packet);
		reverse(packet, spec.ip_version);
		assert_int_equal(hash_of(packet), forward);
	}
	free(packet);
}

/* Also with headers that are longer than the head that is looked at. */
static void flow_hash_spreads_ports_over_low_and_high_bits(void **state)
{
	const struct packet_spec specs[] = {
		{.ip_version = 4, .protocol = IPPROTO_UDP, .payload_len = 30},
		{.ip_version = 4, .protocol = IPPROTO_TCP, .tcp_options = 32, .payload_len = 30},
		{.ip_version = 4, .protocol = IPPROTO_TCP, .ip_options = 8, .payload_len = 30},
		{.ip_version = 6, .protocol = IPPROTO_TCP, .tcp_options = 12, .payload_len = 30},
		{.ip_version = 4, .n_tags = 1, .protocol = IPPROTO_UDP, .payload_len = 30},
	};
	struct packet *packet = malloc(sizeof(*packet));

	for (unsigned int s = 0; s < RTE_DIM(specs); s++) {
		unsigned int low[4] = {0}, high[4] = {0};

		packet_make(packet, &specs[s]);
		for (unsigned int port = 0; port < 4000; port++) {
			put16(packet->bytes + packet->l4, 20000 + port);
			low[hash_of(packet) % 4]++;
			high[hash_of(packet) >> 30]++;
		}
		for (unsigned int i = 0; i < 4; i++) {
			assert_in_range(low[i], 800, 1200);
			assert_in_range(high[i], 800, 1200);
		}
	}
	free(packet);
}

static void fragments_of_one_packet_hash_alike(void **state)
{
	struct packet_spec spec = {
		.ip_version = 4,
		.protocol = IPPROTO_UDP,
		.fragment = true,
		.payload_len = 30,
	};
	struct packet *packet = malloc(sizeof(*packet));
	uint32_t first;

	packet_make(packet, &spec);
	first = hash_of(packet);
	put16(packet->bytes + packet->l3 + 6, 185);
	put16(packet->bytes + packet->l4, 0xabcd);
	assert_int_equal(hash_of(packet), first);
	free(packet);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			tag_pushed_and_popped_gives_back_every_byte_of_a_frame_cut_anywhere),
		cmocka_unit_test(retagged_frame_is_edited_and_has_room_for_a_tag_before_it),
		cmocka_unit_test(checksum_words_follow_their_bytes_when_the_tag_comes_and_goes),
		cmocka_unit_test(
			header_length_of_gso_frames_follows_the_tag_and_no_other_word_does),
		cmocka_unit_test(frame_over_an_mbuf_has_its_bytes_however_the_mbuf_is_cut),
		cmocka_unit_test(tag_that_is_not_complete_is_refused),
		cmocka_unit_test(layers_stay_inside_the_head_wherever_it_ends),
		cmocka_unit_test(hundred_ipv6_extension_headers_are_not_walked),
		cmocka_unit_test(layers_of_random_bytes_stay_inside_the_head),
		cmocka_unit_test(flow_hash_is_the_same_in_both_directions),
		cmocka_unit_test(flow_hash_spreads_ports_over_low_and_high_bits),
		cmocka_unit_test(fragments_of_one_packet_hash_alike),
	};

	dpdk_start();
	pool = dpdk_pool("frame_test", 63, 1024);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
