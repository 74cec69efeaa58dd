/* SPDX-License-Identifier: BSD-3-Clause */
#include "nic_fixture.h"
#include "nic_internal.h"

static void frames_sent_to_a_ring_device_come_back_with_every_byte(void **state)
{
	static const uint32_t lengths[] = {60, 61, 64, 128, 129, 1500, 1514};
	struct port *port = open_nic("net_ring0", 1, 0);
	static uint8_t got[70000];

	assert_int_equal(port->mtu, 1500);
	for (unsigned int i = 0; i < RTE_DIM(lengths); i++) {
		make_udp(lengths[i]);
		assert_int_equal(send_packet(tx_of(port)), 1);
		assert_int_equal(rx_of(port)->receive(rx_of(port), &counters, &batch, 32), 1);
		assert_int_equal(batch.frames[0].len, packet.len);
		assert_int_equal(batch.frames[0].offload.flags, 0);
		frame_copy_out(&batch.frames[0], got);
		assert_memory_equal(got, packet.bytes, packet.len);
		rx_of(port)->release(rx_of(port), &counters, &batch, 1);
	}
	assert_int_equal(counters.rx_packets, RTE_DIM(lengths));
	assert_int_equal(counters.tx_packets, RTE_DIM(lengths));
	assert_int_equal(counters.rx_bytes, counters.tx_bytes);
	close_nic(port);
}

static void short_frame_is_padded_with_zeroes(void **state)
{
	struct port *port = open_nic("net_ring0", 1, 0);

	for (uint32_t len = 14; len < 60; len++) {
		uint8_t expected[60] = {0}, got[60];

		packet_make(&packet, &(struct packet_spec){.payload_len = len - 14});
		memcpy(expected, packet.bytes, len);
		assert_int_equal(send_packet(tx_of(port)), 1);
		assert_int_equal(rx_of(port)->receive(rx_of(port), &counters, &batch, 32), 1);
		assert_int_equal(batch.frames[0].len, 60);
		frame_copy_out(&batch.frames[0], got);
		assert_memory_equal(got, expected, 60);
		/* Dirty what the next buffer may be. */
		memset(batch.frames[0].head, 0xaa, 60);
		rx_of(port)->release(rx_of(port), &counters, &batch, 1);
	}
	close_nic(port);
}

static void frames_that_are_not_released_are_received_again_in_order(void **state)
{
	struct port *port = open_nic("net_ring0", 1, 0);
	unsigned int next_sent = 0, next_done = 0;
	struct rx_queue *rx;

	rx = rx_of(port);
	make_udp(60);
	for (unsigned int round = 0; next_done < 300; round++) {
		unsigned int max = 1 + round % 32, n;

		for (unsigned int i = 0; i < 7 && next_sent < 300; i++) {
			put16(packet.bytes + 50, next_sent++);
			assert_int_equal(send_packet(tx_of(port)), 1);
		}
		n = rx->receive(rx, &counters, &batch, max);
		assert_true(n <= max);
		for (unsigned int i = 0; i < n; i++)
			assert_int_equal(get16(batch.frames[i].head + 50), next_done + i);
		if (n > 0) {
			n = round % 3 == 0 ? 0 : n - round % n;
			rx->release(rx, &counters, &batch, n);
			next_done += n;
		}
		assert_true(round < 3000);
	}
	assert_int_equal(counters.rx_packets, 300);
	close_nic(port);
}

static void frames_held_when_the_port_goes_are_given_back(void **state)
{
	struct port *port = open_nic("net_ring0", 1, 0);
	struct rx_queue *rx;

	rx = rx_of(port);
	make_udp(60);
	/* All come out of the device's ring, which outlives the device with what is in it. */
	for (unsigned int i = 0; i < 37; i++)
		assert_int_equal(send_packet(tx_of(port)), 1);
	assert_int_equal(rx->receive(rx, &counters, &batch, 32), 32);
	rx->release(rx, &counters, &batch, 5);
	assert_int_equal(rx->receive(rx, &counters, &batch, 32), 32);
	rx->release(rx, &counters, &batch, 13);
	close_nic(port);
}

static void frame_in_an_mbuf_is_sent_by_reference_and_unchanged(void **state)
{
	struct port *port = open_nic("net_ring0", 1, 0);
	struct frame *frames[1];
	struct rte_mbuf *mbuf;
	struct rx_queue *rx;

	rx = rx_of(port);
	make_udp(200);
	assert_int_equal(send_packet(tx_of(port)), 1);
	assert_int_equal(rx->receive(rx, &counters, &batch, 32), 1);
	frames[0] = &batch.frames[0];
	mbuf = frames[0]->mbuf;
	assert_non_null(mbuf);
	/* Twice: flooded to two ports. */
	assert_int_equal(tx_of(port)->send(tx_of(port), &counters, frames, 1), 1);
	assert_int_equal(tx_of(port)->send(tx_of(port), &counters, frames, 1), 1);
	assert_int_equal(rte_mbuf_refcnt_read(mbuf), 3);
	rx->release(rx, &counters, &batch, 1);
	assert_int_equal(rx->receive(rx, &counters, &batch, 32), 2);
	assert_ptr_equal(batch.frames[0].mbuf, mbuf);
	assert_ptr_equal(batch.frames[1].mbuf, mbuf);
	rx->release(rx, &counters, &batch, 2);
	close_nic(port);
}

static void frame_over_the_mtu_is_dropped_and_counted_and_a_tag_does_not_count(void **state)
{
	struct port *port = open_nic("net_ring0", 1, 0);
	struct packet_spec spec = {.ip_version = 4, .protocol = IPPROTO_UDP, .payload_len = 1472};

	for (spec.n_tags = 0; spec.n_tags < 2; spec.n_tags++) {
		spec.payload_len = 1472;
		packet_make(&packet, &spec);
		assert_int_equal(send_packet(tx_of(port)), 1);
		spec.payload_len = 1473;
		packet_make(&packet, &spec);
		assert_int_equal(send_packet(tx_of(port)), 1);
	}
	assert_int_equal(counters.tx_packets, 2);
	assert_int_equal(counters.drops[DROP_OVER_MTU], 2);
	assert_int_equal(rx_of(port)->receive(rx_of(port), &counters, &batch, 32), 2);
	rx_of(port)->release(rx_of(port), &counters, &batch, 2);
	close_nic(port);
}

static void frames_a_full_device_leaves_over_are_the_callers_and_nothing_leaks(void **state)
{
	struct port *port = open_nic("net_ring0", 1, 0);
	struct frame bodies[100], *frames[100];
	struct vring_piece piece;
	unsigned int n_sent = 0, n_received = 0;
	struct rx_queue *rx;

	rx = rx_of(port);
	/* Every third frame is too long: those before the end are dropped, those behind it are not
	 * even counted. */
	for (unsigned int i = 0; i < RTE_DIM(frames); i++) {
		make_udp(60);
		frame_of_packet(&bodies[i], &piece);
		if (i % 3 == 2)
			bodies[i].len = 4000;
		frames[i] = &bodies[i];
	}
	for (;;) {
		unsigned int n = tx_of(port)->send(tx_of(port), &counters, frames, RTE_DIM(frames));

		n_sent += n;
		if (n < RTE_DIM(frames))
			break;
		assert_true(n_sent < 10000);
	}
	assert_int_equal(tx_of(port)->full_reason, DROP_NIC_QUEUE_FULL);
	assert_int_equal(counters.tx_packets + counters.drops[DROP_OVER_MTU], n_sent);
	for (;;) {
		unsigned int n = rx->receive(rx, &counters, &batch, 32);

		if (n == 0)
			break;
		n_received += n;
		rx->release(rx, &counters, &batch, n);
	}
	assert_int_equal(n_received, counters.tx_packets);
	close_nic(port);
}

static void frames_an_empty_pool_leaves_over_are_the_callers(void **state)
{
	struct port *port = open_nic("net_ring0", 1, 0);
	struct rte_mbuf *all[4096];
	unsigned int n_all = 0;

	make_udp(60);
	while (n_all < RTE_DIM(all) && (all[n_all] = rte_pktmbuf_alloc(pool)) != NULL)
		n_all++;
	assert_int_equal(send_packet(tx_of(port)), 0);
	assert_int_equal(tx_of(port)->full_reason, DROP_NO_MBUF);
	/* One buffer is enough for one frame. */
	rte_pktmbuf_free(all[--n_all]);
	assert_int_equal(send_packet(tx_of(port)), 1);
	assert_int_equal(send_packet(tx_of(port)), 0);
	rte_pktmbuf_free_bulk(all, n_all);
	assert_int_equal(counters.tx_packets, 1);
	assert_int_equal(rx_of(port)->receive(rx_of(port), &counters, &batch, 32), 1);
	rx_of(port)->release(rx_of(port), &counters, &batch, 1);
	close_nic(port);
}

/* What another process might put into a ring device: the mbuf as it is, with all its flags. */
static void inject(struct port *port, struct rte_mbuf *mbuf)
{
	assert_int_equal(
		rte_eth_tx_burst(((struct nic_tx *)tx_of(port))->eth_port, 0, &mbuf, 1), 1);
}

static void jumbo_frame_is_spread_over_buffers_both_ways(void **state)
{
	struct port *port = open_nic("net_ring0", 1, 9000);
	static uint8_t got[70000];
	struct frame *frames[1];

	assert_int_equal(port->mtu, 9000);
	make_udp(9014);
	assert_int_equal(send_packet(tx_of(port)), 1);
	assert_int_equal(rx_of(port)->receive(rx_of(port), &counters, &batch, 32), 1);
	assert_int_equal(batch.frames[0].mbuf->nb_segs, 5);
	frames[0] = &batch.frames[0];
	assert_int_equal(tx_of(port)->send(tx_of(port), &counters, frames, 1), 1);
	rx_of(port)->release(rx_of(port), &counters, &batch, 1);
	assert_int_equal(rx_of(port)->receive(rx_of(port), &counters, &batch, 32), 1);
	assert_int_equal(batch.frames[0].len, packet.len);
	frame_copy_out(&batch.frames[0], got);
	assert_memory_equal(got, packet.bytes, packet.len);
	rx_of(port)->release(rx_of(port), &counters, &batch, 1);
	close_nic(port);
}

/* A frame of 60 bytes and a chain of n buffers. */
static struct rte_mbuf *make_chain(unsigned int n)
{
	struct rte_mbuf *mbuf = rte_pktmbuf_alloc(pool);

	assert_non_null(mbuf);
	memset(rte_pktmbuf_append(mbuf, 60), 0, 60);
	for (unsigned int i = 1; i < n; i++) {
		struct rte_mbuf *more = rte_pktmbuf_alloc(pool);

		assert_non_null(more);
		*rte_pktmbuf_append(more, 1) = (char)i;
		assert_int_equal(rte_pktmbuf_chain(mbuf, more), 0);
	}
	return mbuf;
}

static void long_chains_are_handed_out_as_far_as_pieces_last_and_longer_ones_dropped(void **state)
{
	struct port *port = open_nic("net_ring0", 1, 0);
	unsigned int n_received = 0;

	for (unsigned int i = 0; i < 40; i++)
		inject(port, make_chain(NIC_CHAIN_MAX));
	inject(port, make_chain(NIC_CHAIN_MAX + 1));
	inject(port, make_chain(2));
	for (unsigned int round = 0; round < 10; round++) {
		unsigned int n = rx_of(port)->receive(rx_of(port), &counters, &batch, 32);

		for (unsigned int i = 0; i < n; i++, n_received++)
			assert_int_equal(
				batch.frames[i].len, 59 + (n_received < 40 ? NIC_CHAIN_MAX : 2));
		if (n > 0)
			rx_of(port)->release(rx_of(port), &counters, &batch, n);
	}
	assert_int_equal(n_received, 41);
	assert_int_equal(counters.drops[DROP_TOO_LONG], 1);
	close_nic(port);
}

static void checksum_is_called_valid_only_if_the_device_was_asked_and_found_it_right(void **state)
{
	static const struct {
		uint64_t flags;
		bool valid;
	} rows[] = {
		{0, false},
		{RTE_MBUF_F_RX_L4_CKSUM_GOOD, true},
		{RTE_MBUF_F_RX_L4_CKSUM_BAD, false},
		{RTE_MBUF_F_RX_L4_CKSUM_NONE, false},
		{RTE_MBUF_F_RX_L4_CKSUM_GOOD | RTE_MBUF_F_RX_IP_CKSUM_GOOD, true},
		{RTE_MBUF_F_RX_L4_CKSUM_GOOD | RTE_MBUF_F_RX_IP_CKSUM_BAD, false},
		{RTE_MBUF_F_RX_IP_CKSUM_GOOD, false},
	};
	struct port *port = open_nic("net_ring0", 1, 0);

	for (unsigned int i = 0; i < 2 * RTE_DIM(rows); i++) {
		bool asked = i % 2;
		struct rte_mbuf *mbuf = make_chain(1);

		((struct nic_rx *)rx_of(port))->checksum_verified = asked;
		mbuf->ol_flags = rows[i / 2].flags | RTE_MBUF_F_TX_TCP_SEG | RTE_MBUF_F_TX_IPV4;
		inject(port, mbuf);
		assert_int_equal(rx_of(port)->receive(rx_of(port), &counters, &batch, 32), 1);
		assert_int_equal(batch.frames[0].offload.flags,
			asked && rows[i / 2].valid ? VIRTIO_NET_HDR_F_DATA_VALID : 0);
		assert_int_equal(batch.frames[0].needs, 0);
		/* The next device is not to cut it. */
		assert_int_equal(batch.frames[0].mbuf->ol_flags & RTE_MBUF_F_TX_OFFLOAD_MASK, 0);
		rx_of(port)->release(rx_of(port), &counters, &batch, 1);
	}
	close_nic(port);
}

static void partial_checksum_is_completed_where_the_device_cannot(void **state)
{
	struct port *port = open_nic("net_ring0", 1, 0);
	struct vring_piece piece;
	struct frame frame, *frames[] = {&frame};
	uint8_t got[200];

	assert_int_equal(tx_of(port)->accepts, FRAME_NEEDS_CSUM);
	make_udp(143);
	put16(packet.bytes + packet.l4 + 6,
		slow_pseudo_sum(packet.bytes + packet.l3, packet.len - packet.l4, IPPROTO_UDP));
	frame_of_packet(&frame, &piece);
	frame.needs = FRAME_NEEDS_CSUM;
	frame.offload.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
	frame.offload.csum_start = packet.l4;
	frame.offload.csum_offset = 6;
	assert_int_equal(tx_of(port)->send(tx_of(port), &counters, frames, 1), 1);
	assert_int_equal(rx_of(port)->receive(rx_of(port), &counters, &batch, 32), 1);
	frame_copy_out(&batch.frames[0], got);
	assert_int_equal(
		slow_sum(got + packet.l4, packet.len - packet.l4,
			slow_pseudo_sum(got + packet.l3, packet.len - packet.l4, IPPROTO_UDP)),
		0xffff);
	rx_of(port)->release(rx_of(port), &counters, &batch, 1);
	close_nic(port);
}

/* What nic_prepare_offload() says of the packet, for a device that does everything. */
static bool prepare_packet(uint8_t gso_type, uint16_t gso_size, uint16_t csum_start,
	uint16_t csum_offset, struct rte_mbuf *mbuf)
{
	const struct nic_tx able = {.device_csum = true, .multi_segs = true};
	struct vring_piece piece;
	struct frame frame;

	frame_of_packet(&frame, &piece);
	frame.needs =
		FRAME_NEEDS_CSUM | (gso_type == VIRTIO_NET_HDR_GSO_TCPV4          ? FRAME_NEEDS_TSO4
					   : gso_type == VIRTIO_NET_HDR_GSO_TCPV6 ? FRAME_NEEDS_TSO6
										  : 0);
	frame.offload = (struct virtio_net_hdr){
		.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
		.gso_type = gso_type,
		.gso_size = gso_size,
		.csum_start = csum_start,
		.csum_offset = csum_offset,
	};
	rte_pktmbuf_reset(mbuf);
	memcpy(rte_pktmbuf_append(mbuf, packet.len), packet.bytes, packet.len);
	return nic_prepare_offload(&able, &frame, mbuf);
}

static void device_is_asked_for_tcp_and_udp_checksums_with_the_true_lengths(void **state)
{
	struct rte_mbuf *mbuf = rte_pktmbuf_alloc(pool);

	for (unsigned int kind = 0; kind < 12; kind++) {
		struct packet_spec spec = {
			.n_tags = kind % 3,
			.ip_version = kind / 3 % 2 ? 6 : 4,
			.protocol = kind / 6 ? IPPROTO_TCP : IPPROTO_UDP,
			.payload_len = 100,
		};
		uint16_t offset = kind / 6 ? 16 : 6;

		packet_make(&packet, &spec);
		assert_true(prepare_packet(0, 0, packet.l4, offset, mbuf));
		assert_int_equal(mbuf->ol_flags,
			(kind / 3 % 2 ? RTE_MBUF_F_TX_IPV6 : RTE_MBUF_F_TX_IPV4) |
				(kind / 6 ? RTE_MBUF_F_TX_TCP_CKSUM : RTE_MBUF_F_TX_UDP_CKSUM));
		assert_int_equal(mbuf->l2_len, packet.l3);
		assert_int_equal(mbuf->l3_len, packet.l4 - packet.l3);
		assert_memory_equal(rte_pktmbuf_mtod(mbuf, void *), packet.bytes, packet.len);
	}
	rte_pktmbuf_free(mbuf);
}

static void checksum_that_is_none_of_the_devices_is_completed_in_software(void **state)
{
	struct rte_mbuf *mbuf = rte_pktmbuf_alloc(pool);

	packet_make(&packet,
		&(struct packet_spec){.ip_version = 4, .protocol = IPPROTO_UDP, .payload_len = 50});
	for (uint16_t start = 0; start < 60; start++) {
		for (uint16_t offset = 0; offset < 20; offset++) {
			const uint8_t *got = rte_pktmbuf_mtod(mbuf, uint8_t *);
			uint32_t sum;

			if (start == packet.l4 && offset == 6)
				continue;
			assert_true(prepare_packet(0, 0, start, offset, mbuf));
			assert_int_equal(mbuf->ol_flags, 0);
			sum = ~slow_sum(packet.bytes + start, packet.len - start, 0) & 0xffff;
			assert_int_equal(get16(got + start + offset),
				sum == 0 && offset == 6 ? 0xffff : sum);
		}
	}
	rte_pktmbuf_free(mbuf);
}

static void device_never_sees_a_segment_size_that_hardware_cannot_cut(void **state)
{
	static const uint16_t sizes[] = {0, 1, 48, 255, 256, 1448, 9668, 9669, 65535};
	struct rte_mbuf *mbuf = rte_pktmbuf_alloc(pool);

	for (unsigned int i = 0; i < RTE_DIM(sizes); i++) {
		bool fits = sizes[i] >= 256 && sizes[i] <= 9668;

		packet_make(&packet, &(struct packet_spec){.ip_version = 4,
					     .protocol = IPPROTO_TCP,
					     .tcp_options = 12,
					     .payload_len = 1900});
		assert_int_equal(
			prepare_packet(VIRTIO_NET_HDR_GSO_TCPV4, sizes[i], packet.l4, 16, mbuf),
			fits);
		if (!fits)
			continue;
		assert_int_equal(mbuf->ol_flags, RTE_MBUF_F_TX_TCP_SEG | RTE_MBUF_F_TX_TCP_CKSUM |
							 RTE_MBUF_F_TX_IP_CKSUM |
							 RTE_MBUF_F_TX_IPV4);
		assert_int_equal(mbuf->tso_segsz, sizes[i]);
		assert_int_equal(mbuf->l4_len, 32);
		/* PMDs want the IP checksum field zero (rte_mbuf_core.h, TCP_SEG). */
		assert_int_equal(
			get16(rte_pktmbuf_mtod_offset(mbuf, uint8_t *, packet.l3 + 10)), 0);
		packet_make(&packet,
			&(struct packet_spec){
				.ip_version = 6, .protocol = IPPROTO_TCP, .payload_len = 1900});
		assert_true(
			prepare_packet(VIRTIO_NET_HDR_GSO_TCPV6, sizes[i], packet.l4, 16, mbuf));
		assert_int_equal(mbuf->ol_flags,
			RTE_MBUF_F_TX_TCP_SEG | RTE_MBUF_F_TX_TCP_CKSUM | RTE_MBUF_F_TX_IPV6);
	}
	rte_pktmbuf_free(mbuf);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(frames_sent_to_a_ring_device_come_back_with_every_byte),
		cmocka_unit_test(short_frame_is_padded_with_zeroes),
		cmocka_unit_test(frames_that_are_not_released_are_received_again_in_order),
		cmocka_unit_test(frames_held_when_the_port_goes_are_given_back),
		cmocka_unit_test(frame_in_an_mbuf_is_sent_by_reference_and_unchanged),
		cmocka_unit_test(
			frame_over_the_mtu_is_dropped_and_counted_and_a_tag_does_not_count),
		cmocka_unit_test(
			frames_a_full_device_leaves_over_are_the_callers_and_nothing_leaks),
		cmocka_unit_test(frames_an_empty_pool_leaves_over_are_the_callers),
		cmocka_unit_test(jumbo_frame_is_spread_over_buffers_both_ways),
		cmocka_unit_test(
			long_chains_are_handed_out_as_far_as_pieces_last_and_longer_ones_dropped),
		cmocka_unit_test(
			checksum_is_called_valid_only_if_the_device_was_asked_and_found_it_right),
		cmocka_unit_test(partial_checksum_is_completed_where_the_device_cannot),
		cmocka_unit_test(device_is_asked_for_tcp_and_udp_checksums_with_the_true_lengths),
		cmocka_unit_test(checksum_that_is_none_of_the_devices_is_completed_in_software),
		cmocka_unit_test(device_never_sees_a_segment_size_that_hardware_cannot_cut),
	};

	dpdk_start();
	pool = dpdk_pool("nic_test", 4095, 2048);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
