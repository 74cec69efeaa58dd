/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A guest's rings as queues of frames, one worker at each: what a guest cuts in any way arrives in any cut, and what it
 * must not do costs it a counted drop.
 */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

#include "dpdk_fixture.h"
#include "guest_datapath_fixture.h"

static void a_frame_without_room_for_its_headers_is_consumed_and_counted(void **state)
{
	uint8_t packet[64];

	for (uint32_t len = 1; len < 26; len++) {
		memset(packet, 0, sizeof(packet));
		transmit(packet, len, uncut);
		assert_int_equal(receive(), 0);
		assert_int_equal(transmit_completions(), 1);
		assert_int_equal(counters->drops[DROP_TOO_SHORT], len);
	}
	transmit(packet, 26, uncut);
	assert_int_equal(receive(), 1);
	assert_int_equal(batch.frames[0].len, 14);
	release(1);
}

static void a_tag_without_what_it_tags_is_too_short(void **state)
{
	uint8_t packet[12 + 17] = { 0 };

	packet[12 + 12] = 0x81;
	transmit(packet, sizeof(packet), uncut);
	assert_int_equal(receive(), 0);
	assert_int_equal(counters->drops[DROP_TOO_SHORT], 1);
}

static void a_header_cut_anywhere_is_the_same_header(void **state)
{
	uint8_t packet[256], whole[256];
	uint32_t len = packet_of(packet, 100);

	for (uint32_t first = 1; first <= 90; first++) {
		for (uint32_t second = first + 1; second <= first + 13; second++) {
			const uint32_t cuts[] = { first, second, 0 };

			data_used = 0;
			transmit(packet, len, cuts);
			assert_int_equal(receive(), 1);
			assert_int_equal(batch.frames[0].len, 100);
			frame_copy_out(&batch.frames[0], whole);
			assert_memory_equal(whole, packet + 12, 100);
			release(1);
			assert_int_equal(transmit_completions(), 1);
		}
	}
}

static void a_header_of_single_bytes_is_the_same_header(void **state)
{
	uint32_t cuts[101];
	uint8_t packet[256], whole[256];
	uint32_t len = packet_of(packet, 88);

	for (uint32_t i = 0; i < 100; i++)
		cuts[i] = i + 1;
	cuts[100] = 0;
	transmit(packet, len, cuts);
	assert_int_equal(receive(), 1);
	frame_copy_out(&batch.frames[0], whole);
	assert_memory_equal(whole, packet + 12, 88);
	release(1);
}

static void a_frame_longer_than_any_is_consumed_and_counted(void **state)
{
	uint8_t *packet = calloc(1, FRAME_LEN_MAX + 13);

	transmit(packet, FRAME_LEN_MAX + 13, uncut);
	assert_int_equal(receive(), 0);
	assert_int_equal(counters->drops[DROP_TOO_LONG], 1);
	transmit(packet, FRAME_LEN_MAX + 12, uncut);
	assert_int_equal(receive(), 1);
	release(1);
	free(packet);
}

static void contradictory_offload_words_are_dropped(void **state)
{
	uint8_t packet[256];
	uint32_t len = packet_of(packet, 100);
	struct virtio_net_hdr *header = (struct virtio_net_hdr *)packet;

	header->flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
	header->csum_start = 98;
	header->csum_offset = 1;
	transmit(packet, len, uncut);
	assert_int_equal(receive(), 0);
	assert_int_equal(counters->drops[DROP_BAD_OFFLOAD], 1);
	header->csum_offset = 0;
	transmit(packet, len, uncut);
	assert_int_equal(receive(), 1);
	assert_int_equal(batch.frames[0].needs, FRAME_NEEDS_CSUM);
	release(1);
}

static void a_header_is_not_read_when_no_offload_was_negotiated(void **state)
{
	uint8_t packet[256];
	uint32_t len = packet_of(packet, 100);

	from_guest.offloads = 0;
	queues_update();
	memset(packet, 0xff, 10);
	transmit(packet, len, uncut);
	assert_int_equal(receive(), 1);
	assert_int_equal(batch.frames[0].needs, 0);
	assert_int_equal(batch.frames[0].offload.flags, 0);
	release(1);
}

static void bad_and_good_buffers_of_a_burst_come_back_in_order_and_once(void **state)
{
	uint8_t packet[256];
	uint32_t len = packet_of(packet, 100);

	for (unsigned int i = 0; i < FRAME_BURST; i++)
		transmit(packet, i % 3 == 1 ? 5 : len, uncut);
	assert_int_equal(receive(), 21);
	release(21);
	assert_int_equal(counters->drops[DROP_TOO_SHORT], 11);
	assert_int_equal(counters->rx_packets, 21);
	assert_int_equal(counters->rx_bytes, 2100);
	assert_int_equal(transmit_completions(), FRAME_BURST);
}

static void frames_that_are_kept_come_again_and_are_counted_once(void **state)
{
	uint8_t packet[256], whole[256];
	uint32_t len;

	for (unsigned int i = 0; i < 10; i++) {
		len = packet_of(packet, 100);
		packet[12 + 50] = (uint8_t)i;
		transmit(packet, i == 2 ? 5 : len, uncut);
	}
	assert_int_equal(receive(), 9);
	release(0);
	assert_int_equal(counters->rx_packets, 0);
	assert_int_equal(transmit_completions(), 0);
	assert_int_equal(receive(), 9);
	release(3);
	assert_int_equal(transmit_completions(), 4);
	assert_int_equal(receive(), 6);
	frame_copy_out(&batch.frames[0], whole);
	assert_int_equal(whole[50], 4);
	release(6);
	assert_int_equal(transmit_completions(), 6);
	assert_int_equal(counters->rx_packets, 9);
	assert_int_equal(counters->drops[DROP_TOO_SHORT], 1);
}

/* Enough buffers for a run, with one to be dropped behind it. */
static void a_bad_frame_behind_good_ones_is_dropped_after_they_were_received(void **state)
{
	uint8_t packet[256];
	uint32_t len = packet_of(packet, 100);
	unsigned int n = 0;

	for (unsigned int i = 0; i < 20; i++) {
		struct virtio_net_hdr *header = (struct virtio_net_hdr *)packet;

		/* A checksum field behind the frame's end. */
		header->flags = i == 13 ? VIRTIO_NET_HDR_F_NEEDS_CSUM : 0;
		header->csum_start = 99;
		header->csum_offset = 0;
		transmit(packet, len, uncut);
	}
	for (unsigned int turn = 0; turn < 5; turn++) {
		unsigned int n_now = receive();

		for (unsigned int i = 0; i < n_now; i++)
			assert_int_equal(batch.frames[i].needs, 0);
		n += n_now;
		if (n_now > 0)
			release(n_now);
	}
	assert_int_equal(n, 19);
	assert_int_equal(transmit_completions(), 20);
	assert_int_equal(counters->drops[DROP_BAD_OFFLOAD], 1);
}

static void expect_frame(const struct frame *frame, const uint8_t *bytes, uint32_t len, bool tagged,
	bool partial)
{
	static uint8_t whole[2000];

	assert_int_equal(frame->len, len);
	assert_int_equal(frame->tagged, tagged);
	assert_int_equal(frame->needs, partial ? FRAME_NEEDS_CSUM : 0);
	assert_int_equal(frame->offload.flags, partial);
	frame_copy_out(frame, whole);
	assert_memory_equal(whole, bytes, len);
}

/* What runs leave in the batch between bursts is nothing that a later frame of another kind shows. */
static void frames_of_every_kind_may_follow_each_other_in_one_batch(void **state)
{
	static const uint32_t header_end[] = { 12, 0 };
	uint8_t packet[2000];

	for (unsigned int i = 0; i < 200; i++) {
		static const uint32_t lens[] = { 1500, 64, 60, 14, 65, 63, 600 };
		struct virtio_net_hdr *header = (struct virtio_net_hdr *)packet;
		uint32_t frame_len = lens[i % RTE_DIM(lens)];
		uint32_t len = packet_of(packet, frame_len);
		bool tagged = i % 5 == 0 && frame_len >= 18;
		bool partial = i % 3 == 0 && frame_len >= 60;

		if (tagged)
			memcpy(&packet[12 + 12], (const uint8_t[]){ 0x81, 0x00, 0x00, 0x07 }, 4);
		if (partial) {
			header->flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
			header->csum_start = 34;
			header->csum_offset = 16;
		}
		for (unsigned int j = 0; j < 5; j++)
			transmit(packet, len, i % 4 == 0 ? header_end : uncut);
		/* Twice at the end of the ring. */
		for (unsigned int n = 0, n_now; n < 5; n += n_now) {
			n_now = receive();
			assert_in_range(n_now, 1, 5 - n);
			for (unsigned int j = 0; j < n_now; j++)
				expect_frame(&batch.frames[j], packet + 12, frame_len, tagged, partial);
			release(n_now);
		}
		assert_int_equal(transmit_completions(), 5);
		data_used = 0;
	}
}

static void frames_of_one_flow_are_known_as_such_and_no_others(void **state)
{
	uint8_t packet[256];
	uint32_t len = packet_of(packet, 100);

	for (unsigned int byte = 0; byte < 20; byte++) {
		bool differs = byte < 14;

		for (unsigned int i = 0; i < 8; i++) {
			packet[12 + byte] ^= i == 6;
			transmit(packet, len, uncut);
			packet[12 + byte] ^= i == 6;
		}
		assert_int_equal(receive(), 8);
		if (way.runs)
			assert_int_equal(batch.is_one_flow, !differs);
		else
			assert_false(batch.is_one_flow);
		release(8);
		transmit_completions();
	}
}

static void a_disabled_ring_is_emptied_and_its_frames_go_nowhere(void **state)
{
	uint8_t packet[256];
	uint32_t len = packet_of(packet, 100);

	tx.ends.enabled = false;
	transmit(packet, len, uncut);
	transmit(packet, len, uncut);
	assert_int_equal(receive(), 0);
	assert_int_equal(transmit_completions(), 2);
	assert_int_equal(counters->drops[DROP_QUEUE_DISABLED], 2);
}

static void an_announcement_goes_out_once_and_takes_no_buffer(void **state)
{
	uint8_t packet[256], whole[64];

	transmit(packet, packet_of(packet, 100), uncut);
	guest_rx_queue_announce(&from_guest, (const uint8_t *)"\x52\x54\0\1\2\3");
	assert_int_equal(receive(), 1);
	assert_int_equal(batch.frames[0].len, 60);
	frame_copy_out(&batch.frames[0], whole);
	assert_memory_equal(whole, "\xff\xff\xff\xff\xff\xff\x52\x54\0\1\2\3\x80\x35\0\1\x08\0\6\4\0\3"
				   "\x52\x54\0\1\2\3\0\0\0\0\x52\x54\0\1\2\3\0\0\0\0", 42);
	release(1);
	assert_int_equal(transmit_completions(), 0);
	assert_int_equal(receive(), 1);
	assert_int_equal(batch.frames[0].len, 100);
	release(1);
}

static void every_byte_of_the_header_is_written(void **state)
{
	uint8_t packet[256], got[512];
	unsigned int n_buffers;
	uint32_t len = packet_of(packet, 100);

	offer(1, 2048);
	transmit(packet, len, uncut);
	assert_int_equal(receive(), 1);
	assert_int_equal(send_burst(1), 1);
	release(1);
	assert_int_equal(collect(got, &n_buffers), 112);
	assert_memory_equal(got, "\0\0\0\0\0\0\0\0\0\0\x01\0", 12);
	assert_memory_equal(got + 12, packet + 12, 100);
	assert_int_equal(counters->tx_packets, 1);
	assert_int_equal(counters->tx_bytes, 100);
}

static void a_legacy_guest_gets_a_header_of_ten_bytes(void **state)
{
	uint8_t packet[256], got[512];
	unsigned int n_buffers;
	uint32_t len = packet_of(packet, 100);

	offer(1, 2048);
	transmit(packet, len, uncut);
	assert_int_equal(receive(), 1);
	assert_int_equal(send_burst(1), 1);
	release(1);
	assert_int_equal(collect(got, &n_buffers), 110);
	assert_memory_equal(got + 10, packet + 10, 100);
}

static void data_valid_is_only_told_to_who_understands_it(void **state)
{
	uint8_t packet[256], got[512];
	unsigned int n_buffers;
	uint32_t len = packet_of(packet, 100);

	for (int checks = 0; checks < 2; checks++) {
		to_guest.checks_csum = checks;
		offer(1, 2048);
		transmit(packet, len, uncut);
		assert_int_equal(receive(), 1);
		batch.frames[0].offload.flags = VIRTIO_NET_HDR_F_DATA_VALID;
		assert_int_equal(send_burst(1), 1);
		release(1);
		collect(got, &n_buffers);
		assert_int_equal(got[0], checks ? VIRTIO_NET_HDR_F_DATA_VALID : 0);
	}
}

static void a_frame_fills_all_but_its_last_mergeable_buffer(void **state)
{
	static const uint32_t sizes[] = { 12, 13, 64, 100, 2047 };
	uint8_t *packet = malloc(70000), *got = malloc(70000);
	unsigned int n_buffers;

	for (unsigned int s = 0; s < RTE_DIM(sizes); s++) {
		for (uint32_t frame_len = 60; frame_len < 2000; frame_len += 97) {
			uint32_t len = packet_of(packet, frame_len);
			uint32_t need = (len + sizes[s] - 1) / sizes[s];

			offer(RING, sizes[s]);
			transmit(packet, len, uncut);
			assert_int_equal(receive(), 1);
			assert_int_equal(send_burst(1), 1);
			release(1);
			assert_int_equal(collect(got, &n_buffers), len);
			assert_int_equal(n_buffers, need);
			assert_int_equal(got[10] | got[11] << 8, need);
			assert_memory_equal(got + 12, packet + 12, frame_len);
			/* Unused buffers lie where the next round writes: start over. */
			teardown(NULL);
			setup(NULL);
		}
	}
	free(packet);
	free(got);
}

static void a_frame_in_any_cut_arrives_whole_in_any_buffers(void **state)
{
	uint8_t *packet = malloc(70000), *got = malloc(70000);
	unsigned int n_buffers;

	print_message("seed 20261120\n");
	srandom(20261120);
	for (unsigned int round = 0; round < 300; round++) {
		uint32_t frame_len = 14 + (uint32_t)random() % 9000;
		uint32_t len = packet_of(packet, frame_len);
		uint32_t cuts[33];
		uint32_t at = 0;
		unsigned int n = 0;

		while (n < 32 && at < len) {
			at += 1 + (uint32_t)random() % (round % 2 ? 20 : 1500);
			cuts[n++] = at;
		}
		cuts[n] = 0;
		while (vring_driver_free(rx.driver) > 0)
			offer(1, 64 + (uint32_t)random() % 4000);
		transmit(packet, len, cuts);
		assert_int_equal(receive(), 1);
		assert_int_equal(send_burst(1), 1);
		release(1);
		assert_int_equal(collect(got, &n_buffers), len);
		assert_memory_equal(got + 12, packet + 12, frame_len);
		assert_int_equal(transmit_completions(), 1);
		teardown(NULL);
		setup(NULL);
	}
	free(packet);
	free(got);
}

static void without_mergeable_buffers_a_longer_frame_is_dropped_and_the_buffer_kept(void **state)
{
	uint8_t packet[512], got[512];
	unsigned int n_buffers;

	offer(1, 100);
	transmit(packet, packet_of(packet, 200), uncut);
	transmit(packet, packet_of(packet, 60), uncut);
	assert_int_equal(receive(), 2);
	assert_int_equal(send_burst(2), 2);
	release(2);
	assert_int_equal(counters->drops[DROP_BUFFER_TOO_SMALL], 1);
	assert_int_equal(collect(got, &n_buffers), 72);
	assert_int_equal(got[10], 1);
}

static void frames_without_buffers_are_left_to_the_caller(void **state)
{
	uint8_t packet[256];

	offer(2, 2048);
	for (unsigned int i = 0; i < 5; i++)
		transmit(packet, packet_of(packet, 100), uncut);
	assert_int_equal(receive(), 5);
	assert_int_equal(send_burst(5), 2);
	release(5);
}

static void a_frame_over_the_mtu_is_dropped_and_a_tag_does_not_count(void **state)
{
	uint8_t *packet = malloc(4096);

	port.mtu = 1500;
	offer(8, 4096);
	transmit(packet, packet_of(packet, 1514), uncut);
	transmit(packet, packet_of(packet, 1515), uncut);
	packet_of(packet, 1518);
	memcpy(packet + 12 + 12, "\x81\x00\x00\x01", 4);
	transmit(packet, 12 + 1518, uncut);
	assert_int_equal(receive(), 3);
	assert_int_equal(send_burst(3), 3);
	release(3);
	assert_int_equal(counters->tx_packets, 2);
	assert_int_equal(counters->drops[DROP_OVER_MTU], 1);
	free(packet);
}

static pthread_t notifier;
static bool notified;

static void *notify_thread(void *argument)
{
	from_guest.base.notify(&from_guest.base);
	__atomic_store_n(&notified, true, __ATOMIC_SEQ_CST);
	return NULL;
}

static void ignore_signal(int signal_number)
{
}

/* K3: what workers_watch() relies on. */
static void a_call_that_blocks_is_interrupted_and_not_tried_again(void **state)
{
	const struct sigaction action = { .sa_handler = ignore_signal };
	uint8_t packet[256];
	int call = eventfd(0, EFD_CLOEXEC);

	sigaction(SIGURG, &action, NULL);
	assert_int_equal(eventfd_write(call, UINT64_MAX - 1), 0);
	call_by(&tx, call);
	transmit(packet, packet_of(packet, 100), uncut);
	assert_int_equal(receive(), 1);
	release(1);
	notified = false;
	assert_int_equal(pthread_create(&notifier, NULL, notify_thread, NULL), 0);
	for (unsigned int i = 0; i < 1000 && !__atomic_load_n(&notified, __ATOMIC_SEQ_CST); i++) {
		usleep(5000);
		pthread_kill(notifier, SIGURG);
	}
	pthread_join(notifier, NULL);
	assert_true(from_guest.caller.blocks);
	assert_int_equal(n_alarms, 1);
	/* A second time nothing is written, so nothing blocks. */
	transmit(packet, packet_of(packet, 100), uncut);
	assert_int_equal(receive(), 1);
	release(1);
	from_guest.base.notify(&from_guest.base);
	close(call);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		with(setup, a_frame_without_room_for_its_headers_is_consumed_and_counted),
		with(setup, a_tag_without_what_it_tags_is_too_short),
		with(setup, a_header_cut_anywhere_is_the_same_header),
		with(setup, a_header_of_single_bytes_is_the_same_header),
		with(setup, a_frame_longer_than_any_is_consumed_and_counted),
		with(setup, contradictory_offload_words_are_dropped),
		with(setup, a_header_is_not_read_when_no_offload_was_negotiated),
		with(setup, bad_and_good_buffers_of_a_burst_come_back_in_order_and_once),
		with(setup, frames_that_are_kept_come_again_and_are_counted_once),
		with(setup, a_bad_frame_behind_good_ones_is_dropped_after_they_were_received),
		with(setup, frames_of_every_kind_may_follow_each_other_in_one_batch),
		with(setup, frames_of_one_flow_are_known_as_such_and_no_others),
		with(setup, a_disabled_ring_is_emptied_and_its_frames_go_nowhere),
		with(setup, an_announcement_goes_out_once_and_takes_no_buffer),
		with(setup, every_byte_of_the_header_is_written),
		with(setup_legacy, a_legacy_guest_gets_a_header_of_ten_bytes),
		with(setup, data_valid_is_only_told_to_who_understands_it),
		with(setup, a_frame_fills_all_but_its_last_mergeable_buffer),
		with(setup, a_frame_in_any_cut_arrives_whole_in_any_buffers),
		with(setup_single,
			without_mergeable_buffers_a_longer_frame_is_dropped_and_the_buffer_kept),
		with(setup, a_call_that_blocks_is_interrupted_and_not_tried_again),
		with(setup, frames_without_buffers_are_left_to_the_caller),
		with(setup, a_frame_over_the_mtu_is_dropped_and_a_tag_does_not_count),
	};
	int n_failed = 0;

	dpdk_start();
	while (way_next())
		n_failed += cmocka_run_group_tests(tests, NULL, NULL);
	return n_failed;
}
