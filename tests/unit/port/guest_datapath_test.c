/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A guest's rings as queues of frames, driven by the driver side of lib/vring in memory of our own: what a guest cuts
 * in any way arrives in any cut, and what it must not do costs it a counted drop.
 */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include <vring/driver.h>

#include "dpdk_fixture.h"
#include "guest_internal.h"

#define RING         256
#define DATA_BYTES   (2 << 20)
#define MEMORY_BYTES (DATA_BYTES + (1 << 17))

/* One ring with both its ends. */
struct ring {
	struct vu_ring ends; /* the device side, as a session would hold it */
	struct vring_driver *driver;
	uint8_t *parts;
};

/* The ways frames may take; each test is run on every one. */
static struct {
	bool packed;
	bool in_order;
	bool runs; /* else every buffer goes the general way */
	enum vring_isa isa;
	bool shared; /* sent as by one worker of several */
} way;

static uint8_t *memory; /* all the guest has: data first, ring parts behind */
static struct gmem *mem;
static size_t data_used;

static struct port port;
static struct msix *msix;
static struct port_counters *counters;
static struct ring tx, rx; /* the guest's words: it transmits on tx */
static struct guest_rx_queue from_guest;
static struct guest_tx_queue to_guest;
static struct frame_batch batch;

static void ring_start(struct ring *ring, uint8_t *parts, uint16_t header_len, bool mergeable)
{
	struct vring_driver_config driver = {
		.size = RING,
		.packed = way.packed,
		.in_order = way.in_order,
		.desc = parts,
		.avail = parts + 8192,
		.used = parts + 16384,
	};
	struct vring_config device = {
		.size = RING,
		.packed = way.packed,
		.in_order = way.in_order,
		.avail_idx = way.packed ? VRING_PACKED_START : 0,
		.used_idx = way.packed ? VRING_PACKED_START : 0,
		.mergeable = mergeable,
		.header_len = header_len,
		.desc = driver.desc,
		.avail = driver.avail,
		.used = driver.used,
		.mem = mem,
	};

	memset(ring, 0, sizeof(*ring));
	ring->driver = vring_driver_create(&driver);
	assert_non_null(ring->driver);
	assert_int_equal(vring_device_init(&ring->ends.device, &device), 0);
	ring->ends.state = VU_RING_RUNNING;
	ring->ends.enabled = true;
	ring->ends.call_fd = -1;
}

/* The ring's driver is called by this descriptor. */
static void call_by(struct ring *ring, int fd)
{
	ring->ends.call_fd = fd;
	msix_unmask(msix, ring == &tx ? from_guest.caller.vector : to_guest.caller.vector);
}

/* As the control thread does after it has changed something about the queues. */
static void queues_update(void)
{
	if (!way.runs)
		return;
	guest_rx_queue_update(&from_guest);
	guest_tx_queue_update(&to_guest);
}

static unsigned int n_alarms;

static void on_alarm(void *ctx, struct port *alarming)
{
	assert_ptr_equal(alarming, &port);
	n_alarms++;
}

static const struct port_host host = { .alarm = on_alarm };

static void start(uint16_t header_len, bool mergeable)
{
	static const struct port_ops ops = { .kind = "test" };

	memory = aligned_alloc(4096, MEMORY_BYTES);
	memset(memory, 0xaa, MEMORY_BYTES);
	assert_int_equal(gmem_create_identity(memory, MEMORY_BYTES, &mem), 0);
	data_used = 0;
	ring_start(&tx, memory + DATA_BYTES, header_len, mergeable);
	ring_start(&rx, memory + DATA_BYTES + 65536, header_len, mergeable);
	memset(&port, 0, sizeof(port));
	assert_int_equal(port_init(&port, &ops, &host, "vm", 0), 0);
	n_alarms = 0;
	counters = &port.counters[0];
	memset(&from_guest, 0, sizeof(from_guest));
	memset(&to_guest, 0, sizeof(to_guest));
	from_guest.base.port = to_guest.base.port = &port;
	from_guest.ring = &tx.ends;
	to_guest.ring = &rx.ends;
	from_guest.header_len = to_guest.header_len = header_len;
	from_guest.offloads = FRAME_NEEDS_CSUM | FRAME_NEEDS_TSO4 | FRAME_NEEDS_TSO6;
	to_guest.base.accepts = from_guest.offloads;
	to_guest.checks_csum = true;
	msix = msix_create(2, NULL, NULL);
	msix_enable(msix);
	from_guest.caller = (struct guest_caller){ .msix = msix, .vector = 0 };
	to_guest.caller = (struct guest_caller){ .msix = msix, .vector = 1 };
	guest_rx_queue_init(&from_guest);
	guest_tx_queue_init(&to_guest);
	queues_update();
}

static int setup(void **state)
{
	start(12, true);
	return 0;
}

static int setup_single(void **state)
{
	start(12, false);
	return 0;
}

static int setup_legacy(void **state)
{
	start(10, false);
	return 0;
}

static int teardown(void **state)
{
	vring_driver_destroy(tx.driver);
	vring_driver_destroy(rx.driver);
	msix_destroy(msix);
	port_fini(&port);
	gmem_free(mem);
	free(memory);
	return 0;
}

static uint8_t *data_alloc(size_t bytes)
{
	uint8_t *data = memory + data_used;

	data_used += bytes;
	assert_true(data_used <= DATA_BYTES);
	return data;
}

/* Offers `bytes` as one buffer, cut after each of `cuts` (ascending, 0-terminated). */
static void transmit(const uint8_t *bytes, uint32_t len, const uint32_t *cuts)
{
	struct vring_extent extents[RING];
	uint8_t *data = data_alloc(len + 1);
	unsigned int n = 0;
	uint32_t at = 0;

	memcpy(data, bytes, len);
	for (; *cuts != 0 && *cuts < len; cuts++) {
		extents[n++] = (struct vring_extent){ (uintptr_t)data + at, *cuts - at };
		at = *cuts;
	}
	extents[n++] = (struct vring_extent){ (uintptr_t)data + at, len - at };
	assert_int_equal(vring_driver_post(tx.driver, extents, n, 0, 0), 0);
	vring_driver_publish(tx.driver);
}

static const uint32_t uncut[] = { 0 };

/* A frame of `len` bytes behind a header of zeroes. */
static uint32_t packet_of(uint8_t *packet, uint32_t len)
{
	uint32_t header_len = from_guest.header_len;

	memset(packet, 0, header_len);
	for (uint32_t i = 0; i < len; i++)
		packet[header_len + i] = (uint8_t)(i * 7 + len);
	/* No tag by accident. */
	if (len > 13)
		packet[header_len + 12] = 0x88;
	return header_len + len;
}

static unsigned int receive(void)
{
	return from_guest.base.receive(&from_guest.base, counters, &batch, FRAME_BURST);
}

static void release(unsigned int n)
{
	from_guest.base.release(&from_guest.base, counters, &batch, n);
}

static unsigned int send_list(
	struct port_counters *sender, struct frame *const *frames, unsigned int n)
{
	return way.shared ? to_guest.base.send_shared(&to_guest.base, sender, frames, n)
			  : to_guest.base.send(&to_guest.base, sender, frames, n);
}

static unsigned int send(unsigned int n)
{
	struct frame *list[FRAME_BURST];

	for (unsigned int i = 0; i < n; i++)
		list[i] = &batch.frames[i];
	return send_list(counters, list, n);
}

/* Offers receive buffers of `bytes` each, in one piece; the token is the place in `memory`. */
static void offer(unsigned int n, uint32_t bytes)
{
	for (unsigned int i = 0; i < n; i++) {
		uint8_t *data = data_alloc(bytes);
		struct vring_extent extent = { (uintptr_t)data, bytes };

		assert_int_equal(vring_driver_post(rx.driver, &extent, 0, 1,
					 (uint32_t)(data - memory)),
			0);
	}
	vring_driver_publish(rx.driver);
}

/* Collects used receive buffers and puts the bytes the device says it wrote one behind the other. */
static uint32_t collect(uint8_t *bytes, unsigned int *n_buffers)
{
	struct vring_completion done;
	uint32_t len = 0;

	*n_buffers = 0;
	while (vring_driver_collect(rx.driver, &done, 1) == 1) {
		memcpy(bytes + len, memory + done.token, done.len);
		len += done.len;
		(*n_buffers)++;
	}
	return len;
}

static unsigned int transmit_completions(void)
{
	struct vring_completion done[RING];
	int n = vring_driver_collect(tx.driver, done, RING);

	for (int i = 0; i < n; i++)
		assert_int_equal(done[i].len, 0);
	return (unsigned int)n;
}

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
	assert_int_equal(send(1), 1);
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
	assert_int_equal(send(1), 1);
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
		assert_int_equal(send(1), 1);
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
			assert_int_equal(send(1), 1);
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
		assert_int_equal(send(1), 1);
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
	assert_int_equal(send(2), 2);
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
	assert_int_equal(send(5), 2);
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
	assert_int_equal(send(3), 3);
	release(3);
	assert_int_equal(counters->tx_packets, 2);
	assert_int_equal(counters->drops[DROP_OVER_MTU], 1);
	free(packet);
}

/* A frame of one piece behind its head, which says whose it is and the how manieth. */
static struct frame frame_of(uint8_t *head, struct vring_piece *piece, unsigned int sender, uint32_t number)
{
	memset(head, 0, FRAME_HEAD_PLAIN);
	head[12] = 0x88;
	head[14] = (uint8_t)sender;
	memcpy(&head[16], &number, sizeof(number));
	return (struct frame){
		.head = head,
		.head_len = FRAME_HEAD_PLAIN,
		.len = FRAME_HEAD_PLAIN + piece->len,
		.n_pieces = piece->len > 0,
		.pieces = piece,
	};
}

static uint8_t *trap; /* a page that cannot be read before something was done about it */
static bool trapped;

/* In the middle of the copy: another worker sends. */
static void on_trap(int signal_number)
{
	uint8_t head[FRAME_HEAD_PLAIN], got[512];
	struct vring_piece piece = { .len = 0 };
	struct frame frame = frame_of(head, &piece, 1, 0);
	struct frame *const list[] = { &frame };
	unsigned int n_buffers;

	mprotect(trap, 4096, PROT_READ | PROT_WRITE);
	trapped = true;
	if (!rte_spinlock_trylock(&to_guest.base.lock))
		abort();
	rte_spinlock_unlock(&to_guest.base.lock);
	assert_int_equal(send_list(&port.counters[1], list, 1), 1);
	/* It cannot be seen before the one that was first is done. */
	assert_int_equal(collect(got, &n_buffers), 0);
	assert_false(vring_device_needs_call(&rx.ends.device));
}

static void another_worker_sends_while_one_is_in_the_middle_of_a_copy(void **state)
{
	const struct sigaction action = { .sa_handler = on_trap };
	uint8_t head[FRAME_HEAD_PLAIN], got[2048];
	struct vring_piece piece = { .len = 100 };
	struct frame frame = frame_of(head, &piece, 0, 0);
	struct frame *const list[] = { &frame };
	struct sigaction before;
	unsigned int n_buffers;

	trap = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(trap, MAP_FAILED);
	piece.hva = trap;
	trapped = false;
	offer(8, 2048);
	sigaction(SIGSEGV, &action, &before);
	assert_int_equal(send_list(&port.counters[0], list, 1), 1);
	sigaction(SIGSEGV, &before, NULL);
	assert_true(trapped);
	assert_int_equal(collect(got, &n_buffers), 12 + 164 + 12 + 64);
	assert_int_equal(n_buffers, 2);
	assert_int_equal(got[12 + 14], 0);
	assert_int_equal(got[12 + 164 + 12 + 14], 1);
	assert_true(vring_device_needs_call(&rx.ends.device));
	assert_int_equal(to_guest.base.n_contended, 0);
	munmap(trap, 4096);
}

#define N_SENDERS   3
#define N_FRAMES    1000 /* of each */
#define SMALL_BYTES 128  /* of a buffer: not enough for the longer frames */

static uint8_t payload[1500];

static uint32_t rest_len(unsigned int sender, uint32_t number)
{
	return number % 5 == 0 ? (number * 37 + sender * 11) % 600 : number % 50;
}

static void *sender_thread(void *argument)
{
	unsigned int sender = *(const unsigned int *)argument;
	uint32_t n_sent = 0;

	while (n_sent < N_FRAMES) {
		uint8_t heads[FRAME_BURST][FRAME_HEAD_PLAIN];
		struct vring_piece pieces[FRAME_BURST];
		struct frame frames[FRAME_BURST];
		struct frame *list[FRAME_BURST];
		unsigned int n = RTE_MIN(1 + n_sent % 11, N_FRAMES - n_sent);
		unsigned int n_now;

		for (unsigned int i = 0; i < n; i++) {
			pieces[i] = (struct vring_piece){ payload, rest_len(sender, n_sent + i) };
			frames[i] = frame_of(heads[i], &pieces[i], sender, n_sent + i);
			list[i] = &frames[i];
		}
		n_now = send_list(&port.counters[sender], list, n);
		n_sent += n_now;
		if (n_now < n)
			sched_yield();
	}
	return NULL;
}

/* Takes one whole frame, if there is one, and offers its buffers again. */
static uint32_t take_frame(uint8_t *bytes)
{
	struct vring_completion done;
	uint32_t len = 0, n_left = 1;

	while (n_left > 0) {
		struct vring_extent extent;

		/* All of its buffers are there if one is. */
		if (vring_driver_collect(rx.driver, &done, 1) != 1) {
			assert_int_equal(len, 0);
			return 0;
		}
		memcpy(bytes + len, memory + done.token, done.len);
		n_left = len == 0 ? bytes[10] : n_left;
		n_left--;
		len += done.len;
		extent = (struct vring_extent){ (uintptr_t)memory + done.token, SMALL_BYTES };
		assert_int_equal(vring_driver_post(rx.driver, &extent, 0, 1, done.token), 0);
	}
	vring_driver_publish(rx.driver);
	return len;
}

static void frames_of_workers_that_share_a_queue_arrive_once_whole_and_in_order(void **state)
{
	uint32_t next[N_SENDERS] = { 0 };
	unsigned int numbers[N_SENDERS];
	pthread_t threads[N_SENDERS];

	for (unsigned int i = 0; i < sizeof(payload); i++)
		payload[i] = (uint8_t)(i * 3);
	offer(RING, SMALL_BYTES);
	for (unsigned int i = 0; i < N_SENDERS; i++) {
		numbers[i] = i;
		assert_int_equal(pthread_create(&threads[i], NULL, sender_thread, &numbers[i]), 0);
	}
	for (unsigned int n = 0; n < N_SENDERS * N_FRAMES;) {
		uint8_t bytes[12 + FRAME_HEAD_PLAIN + 600 + SMALL_BYTES];
		uint32_t len = take_frame(bytes);
		unsigned int sender = bytes[12 + 14];
		uint32_t number;

		if (len == 0) {
			sched_yield();
			continue;
		}
		assert_in_range(sender, 0, N_SENDERS - 1);
		memcpy(&number, &bytes[12 + 16], sizeof(number));
		assert_int_equal(number, next[sender]);
		assert_int_equal(len, 12 + FRAME_HEAD_PLAIN + rest_len(sender, number));
		assert_memory_equal(
			bytes + 12 + FRAME_HEAD_PLAIN, payload, len - 12 - FRAME_HEAD_PLAIN);
		next[sender]++;
		n++;
	}
	for (unsigned int i = 0; i < N_SENDERS; i++) {
		pthread_join(threads[i], NULL);
		assert_int_equal(port.counters[i].tx_packets, N_FRAMES);
	}
	assert_null(to_guest.tickets.oldest);
}

static void *send_one_thread(void *argument)
{
	uint8_t head[FRAME_HEAD_PLAIN];
	struct vring_piece piece = { .len = 0 };
	struct frame frame = frame_of(head, &piece, 0, 0);
	struct frame *const list[] = { &frame };

	assert_int_equal(send_list(&port.counters[0], list, 1), 1);
	return NULL;
}

static void a_worker_that_waits_for_another_is_counted(void **state)
{
	pthread_t thread;

	offer(1, 2048);
	tx_queue_lock(&to_guest.base);
	assert_int_equal(pthread_create(&thread, NULL, send_one_thread, NULL), 0);
	for (unsigned int i = 0; i < 2000 && __atomic_load_n(&to_guest.base.n_contended, __ATOMIC_RELAXED) == 0; i++)
		usleep(5000);
	assert_int_equal(__atomic_load_n(&to_guest.base.n_contended, __ATOMIC_RELAXED), 1);
	tx_queue_unlock(&to_guest.base);
	pthread_join(thread, NULL);
	assert_int_equal(port.counters[0].tx_packets, 1);
}

/* Whoever asks first calls for all that can be seen, the other finds nothing left. */
static void workers_that_share_a_queue_call_once_for_what_they_sent(void **state)
{
	uint64_t n_calls;
	int call = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	call_by(&rx, call);
	offer(2, 2048);
	send_one_thread(NULL);
	send_one_thread(NULL);
	vring_fence();
	if (way.shared) {
		to_guest.base.notify_shared(&to_guest.base);
		to_guest.base.notify_shared(&to_guest.base);
	} else {
		to_guest.base.notify(&to_guest.base);
		to_guest.base.notify(&to_guest.base);
	}
	assert_int_equal(eventfd_read(call, &n_calls), 0);
	assert_int_equal(n_calls, 1);
	close(call);
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

#define with(start_function, function) \
	cmocka_unit_test_setup_teardown(function, start_function, teardown)

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
		with(setup, workers_that_share_a_queue_call_once_for_what_they_sent),
	};
	const struct CMUnitTest shared_tests[] = {
		with(setup, another_worker_sends_while_one_is_in_the_middle_of_a_copy),
		with(setup, frames_of_workers_that_share_a_queue_arrive_once_whole_and_in_order),
		with(setup, a_worker_that_waits_for_another_is_counted),
	};

	int n_failed = 0;

	dpdk_start();
	/* What is written into buffers has no batches: in order or not is the same to senders. */
	for (unsigned int i = 0; i < 6; i++) {
		way.packed = i & 1;
		way.in_order = i >> 1 & 1;
		way.shared = i >> 2;
		way.runs = false;
		for (int isa = -1; isa <= (int)vring_isa_best(); isa++) {
			way.runs = isa >= 0;
			way.isa = way.runs ? (enum vring_isa)isa : VRING_ISA_PORTABLE;
			printf("%s ring%s, %s%s\n", way.packed ? "packed" : "split",
				way.in_order ? " in order" : "",
				way.runs ? vring_isa_name(way.isa) : "without runs",
				way.shared ? ", shared" : "");
			vring_isa_limit(way.isa);
			n_failed += cmocka_run_group_tests(tests, NULL, NULL);
			if (way.shared)
				n_failed += cmocka_run_group_tests(shared_tests, NULL, NULL);
			vring_isa_limit(VRING_N_ISAS - 1);
		}
	}
	return n_failed;
}
