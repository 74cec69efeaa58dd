/* SPDX-License-Identifier: BSD-3-Clause */
/* Receive buffers for frames (D120-D123, D137, N4, N6, N7, Q40): which ones a frame gets, and when it gets none. */
#include <errno.h>
#include <string.h>

#include "guest.h"

static struct guest guest;
static struct vring_device ring;
static struct vring_burst burst;
static struct vring_grant grants[300];

static void start(uint16_t size, bool mergeable)
{
	struct vring_config config;

	guest_create(&guest, size, 65534);
	config = guest_config(&guest);
	config.mergeable = mergeable;
	assert_int_equal(vring_device_init(&ring, &config), 0);
}

/* Offers n buffers of one descriptor each, of the same length. */
static void offer(unsigned int n, uint32_t len)
{
	for (unsigned int i = 0; i < n; i++) {
		unsigned int head = guest.avail_idx & (guest.size - 1);

		guest_put(&guest, head, LOW, len, VRING_DESC_F_WRITE, 0);
		guest_offer(&guest, (uint16_t)head);
	}
}

static void offer_bad(void)
{
	unsigned int head = guest.avail_idx & (guest.size - 1);

	guest_put(&guest, head, HOLE, 2048, VRING_DESC_F_WRITE, 0);
	guest_offer(&guest, (uint16_t)head);
}

static int reserve(unsigned int n, uint32_t first, uint32_t second, uint32_t third)
{
	const uint32_t lengths[] = {first, second, third};

	memset(grants, 0xff, sizeof(grants));
	return vring_device_reserve(&ring, &burst, lengths, n, grants);
}

static void assert_grant(unsigned int frame, unsigned int first, unsigned int n)
{
	assert_int_equal(grants[frame].n, n);
	if (n > 0)
		assert_int_equal(grants[frame].first, first);
}

static void gives_each_frame_one_buffer_when_one_is_enough(void **state)
{
	for (unsigned int mergeable = 0; mergeable < 2; mergeable++) {
		start(8, mergeable);
		offer(3, 1526);
		assert_int_equal(reserve(3, 76, 1526, 12), 3);
		assert_int_equal(burst.n, 3);
		for (unsigned int i = 0; i < 3; i++)
			assert_grant(i, i, 1);
		guest_destroy(&guest);
	}
}

static void takes_no_buffer_beyond_those_granted(void **state)
{
	start(8, true);
	offer(8, 100);
	assert_int_equal(reserve(2, 76, 150, 0), 2);
	assert_int_equal(burst.n, 3);
	finish(&ring, &burst, burst.n);
	assert_int_equal(vring_device_backlog(&ring), 5);
	guest_destroy(&guest);
}

static void spreads_a_frame_over_as_many_buffers_as_it_needs(void **state)
{
	start(16, true);
	offer(10, 100);
	assert_int_equal(reserve(3, 100, 101, 700), 3);
	assert_grant(0, 0, 1);
	assert_grant(1, 1, 2);
	assert_grant(2, 3, 7);
	assert_int_equal(burst.n, 10);
	guest_destroy(&guest);
}

/* D121: without mergeable buffers the buffer stays for the next frame. */
static void gives_nothing_to_a_frame_longer_than_the_buffer(void **state)
{
	start(8, false);
	offer(2, 1526);
	assert_int_equal(reserve(3, 1527, 1526, 60), 3);
	assert_grant(0, 0, 0);
	assert_grant(1, 0, 1);
	assert_grant(2, 1, 1);
	assert_int_equal(burst.n, 2);
	guest_destroy(&guest);
}

static void deals_with_fewer_frames_when_buffers_run_out(void **state)
{
	for (unsigned int mergeable = 0; mergeable < 2; mergeable++) {
		start(8, mergeable);
		assert_int_equal(reserve(1, 60, 0, 0), 0);
		assert_int_equal(burst.n, 0);
		offer(2, 100);
		assert_int_equal(reserve(3, 60, 60, 60), 2);
		assert_int_equal(burst.n, 2);
		guest_destroy(&guest);
	}
}

/* The buffers of a frame that must wait are not taken; with more of them it gets all. */
static void leaves_the_buffers_of_an_unfinished_frame(void **state)
{
	start(8, true);
	offer(3, 100);
	assert_int_equal(reserve(2, 60, 300, 0), 1);
	assert_int_equal(burst.n, 1);
	finish(&ring, &burst, 1);
	assert_int_equal(vring_device_backlog(&ring), 2);
	offer(1, 100);
	assert_int_equal(reserve(1, 300, 0, 0), 1);
	assert_grant(0, 0, 3);
	guest_destroy(&guest);
}

/* N6: a 64 KiB frame against 64-byte buffers, and the frame behind it. */
static void refuses_a_frame_of_more_buffers_than_a_burst_has(void **state)
{
	start(2048, true);
	offer(2048, 64);
	assert_int_equal(reserve(3, 65536 + 12, VRING_BURST_MAX * 64 + 1, 60), 3);
	assert_grant(0, 0, 0);
	assert_grant(1, 0, 0);
	assert_grant(2, 0, 1);
	assert_int_equal(burst.n, 1);
	assert_int_equal(reserve(1, VRING_BURST_MAX * 64, 0, 0), 1);
	assert_grant(0, 0, VRING_BURST_MAX);
	guest_destroy(&guest);
}

/* A frame that does fit into a burst, but not behind others, gets its turn at the head of the next. */
static void postpones_a_frame_that_fits_only_at_the_head_of_a_burst(void **state)
{
	start(2048, true);
	offer(2048, 64);
	assert_int_equal(reserve(2, 60, VRING_BURST_MAX * 64, 0), 1);
	finish(&ring, &burst, burst.n);
	assert_int_equal(reserve(1, VRING_BURST_MAX * 64, 0, 0), 1);
	assert_grant(0, 0, VRING_BURST_MAX);
	guest_destroy(&guest);
}

/* N7: the driver has no more to give than it gave, so waiting would be for ever. */
static void refuses_a_frame_longer_than_the_whole_ring(void **state)
{
	start(4, true);
	offer(4, 64);
	assert_int_equal(reserve(2, 257, 256, 0), 2);
	assert_grant(0, 0, 0);
	assert_grant(1, 0, 4);
	guest_destroy(&guest);

	/* All descriptors of the ring in two chains. */
	start(4, true);
	for (unsigned int i = 0; i < 4; i += 2) {
		guest_put(&guest, i, LOW, 30, VRING_DESC_F_WRITE | VRING_DESC_F_NEXT,
			(uint16_t)(i + 1));
		guest_put(&guest, i + 1, LOW, 34, VRING_DESC_F_WRITE, 0);
		guest_offer(&guest, (uint16_t)i);
	}
	assert_int_equal(reserve(2, 129, 128, 0), 2);
	assert_grant(0, 0, 0);
	assert_grant(1, 0, 2);
	guest_destroy(&guest);

	/* One descriptor is still the driver's: it may come. */
	start(4, true);
	offer(3, 64);
	assert_int_equal(reserve(1, 257, 0, 0), 0);
	guest_destroy(&guest);
}

/* N4, D137 */
static void passes_over_buffers_shorter_than_the_header(void **state)
{
	for (unsigned int mergeable = 0; mergeable < 2; mergeable++) {
		for (uint32_t len = 0; len < 14; len++) {
			start(8, mergeable);
			offer(1, len);
			offer(1, 100);
			assert_int_equal(reserve(1, 12, 0, 0), 1);
			assert_grant(0, len < 12 ? 1 : 0, 1);
			assert_int_equal(burst.n, len < 12 ? 2 : 1);
			finish(&ring, &burst, burst.n);
			assert_int_equal(ring.n_faults[VRING_FAULT_LENGTH], len < 12 ? 1 : 0);
			guest_destroy(&guest);
		}
	}
}

/* The driver reads a frame from consecutive used entries, so a refused one cannot lie between. */
static void starts_a_frame_anew_behind_a_refused_buffer(void **state)
{
	start(16, true);
	offer(2, 100);
	offer_bad();
	offer(4, 100);
	assert_int_equal(reserve(2, 250, 60, 0), 2);
	assert_grant(0, 3, 3);
	assert_grant(1, 6, 1);
	assert_int_equal(burst.n, 7);
	assert_int_equal(burst.buffers[2].fault, VRING_FAULT_ADDRESS);
	for (unsigned int i = 0; i < 3; i++)
		assert_int_equal(burst.buffers[i].used_len, 0);
	finish(&ring, &burst, burst.n);
	assert_int_equal(ring.n_faults[VRING_FAULT_ADDRESS], 1);
	guest_destroy(&guest);
}

/* Even when the frame then has to wait: what was passed over is taken, or it would be met again for ever. */
static void takes_refused_buffers_though_no_frame_is_dealt_with(void **state)
{
	start(8, true);
	offer(2, 100);
	offer_bad();
	offer(1, 100);
	assert_int_equal(reserve(1, 250, 0, 0), 0);
	assert_int_equal(burst.n, 3);
	finish(&ring, &burst, burst.n);
	offer(2, 100);
	assert_int_equal(reserve(1, 250, 0, 0), 1);
	assert_grant(0, 0, 3);
	guest_destroy(&guest);
}

static void empties_a_ring_of_refused_buffers(void **state)
{
	start(8, true);
	for (unsigned int i = 0; i < 8; i++)
		offer_bad();
	assert_int_equal(reserve(1, 60, 0, 0), 0);
	assert_int_equal(burst.n, 8);
	finish(&ring, &burst, burst.n);
	assert_int_equal(vring_device_backlog(&ring), 0);
	guest_destroy(&guest);
}

/* A bad head that no call can get past ends the ring; one behind enough good buffers waits its turn. */
static void breaks_when_a_bad_head_stops_the_first_frame(void **state)
{
	start(8, true);
	offer(2, 100);
	guest_offer(&guest, 8);
	assert_int_equal(reserve(1, 60, 0, 0), 1);
	finish(&ring, &burst, burst.n);
	assert_int_equal(ring.breakage, VRING_INTACT);
	assert_int_equal(reserve(1, 101, 0, 0), -EPROTO);
	assert_int_equal(ring.breakage, VRING_BROKEN_HEAD);
	assert_int_equal(burst.n, 0);
	guest_destroy(&guest);
}

/* The same with a chain that has no end (P6). */
static void breaks_when_an_endless_chain_stops_the_first_frame(void **state)
{
	start(8, true);
	offer(2, 100);
	guest_put_slot(&guest, vring_packed_slot(guest.avail_position), LOW, 100, 7,
		guest_avail_flags(guest.avail_position) | VRING_DESC_F_WRITE | VRING_DESC_F_NEXT);
	assert_int_equal(reserve(1, 60, 0, 0), 1);
	finish(&ring, &burst, burst.n);
	assert_int_equal(ring.breakage, VRING_INTACT);
	assert_int_equal(reserve(1, 101, 0, 0), -EPROTO);
	assert_int_equal(ring.breakage, VRING_BROKEN_CHAIN);
	assert_int_equal(burst.n, 0);
	guest_destroy(&guest);
}

/*
 * Random buffers and frames against the rules themselves: D122 all but the last buffer filled, D123 all of a frame at
 * once, sums exact, order kept, nothing lost but what was refused; the frame is read back through the used ring.
 */
static void delivers_random_frames_into_random_buffers_exactly(void **state)
{
	uint64_t seed = seed_get();

	for (unsigned int round = 0; round < 60; round++) {
		uint16_t size = (uint16_t)(4U << random_below(&seed, 7));
		unsigned int bad_of_64 = random_below(&seed, 3) * 8;
		uint16_t head = 0;
		uint32_t free_slots = size;

		start(size, true);
		for (unsigned int step = 0; step < 300; step++) {
			uint32_t lengths[16];
			unsigned int n_frames = 1 + random_below(&seed, 16);
			unsigned int next = 0;
			int n;

			for (; free_slots > 0; free_slots--, head = (head + 1) % size) {
				bool bad = random_below(&seed, 64) < bad_of_64;
				uint32_t len = 12 + random_below(&seed, step % 2 ? 2047 : 60);

				if (random_below(&seed, 8) == 0)
					break;
				guest_put(&guest, head, bad ? HOLE : LOW + head * 8, len,
					VRING_DESC_F_WRITE, 0);
				guest_offer(&guest, head);
			}
			for (unsigned int i = 0; i < n_frames; i++)
				lengths[i] = 12 + random_below(&seed, 1 << (6 + random_below(&seed, 8)));
			n = vring_device_reserve(&ring, &burst, lengths, n_frames, grants);
			assert_in_range(n, 0, n_frames);
			for (int i = 0; i < n; i++) {
				uint32_t left = lengths[i];

				if (grants[i].n == 0)
					continue;
				assert_true(grants[i].first >= next);
				for (; next < grants[i].first; next++)
					assert_int_equal(burst.buffers[next].used_len, 0);
				for (unsigned int b = 0; b < grants[i].n; b++, next++) {
					struct vring_buffer *buffer = &burst.buffers[next];
					uint32_t take = left < buffer->len ? left : buffer->len;

					assert_int_equal(buffer->fault, VRING_OK);
					assert_true(left > 0);
					buffer->used_len = take;
					left -= take;
				}
				assert_int_equal(left, 0);
			}
			assert_true(next <= burst.n);
			/* Behind the last grant only what a refusal took along. */
			if (next < burst.n)
				assert_int_not_equal(
					burst.buffers[burst.n - 1].fault, VRING_OK);
			vring_device_return(&ring, &burst, burst.n);
			guest_expect_no_used(&guest);
			vring_device_publish(&ring);
			for (unsigned int b = 0; b < burst.n; b++) {
				struct guest_used used;

				assert_true(guest_take_used(&guest, &used));
				assert_int_equal(used.id, burst.buffers[b].id);
				assert_int_equal(used.len, burst.buffers[b].used_len);
				/* D48: lengths count. */
				assert_true(used.is_written);
			}
			guest_expect_no_used(&guest);
			free_slots += burst.n;
		}
		guest_destroy(&guest);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH_LAYOUTS(gives_each_frame_one_buffer_when_one_is_enough),
		BOTH_LAYOUTS(takes_no_buffer_beyond_those_granted),
		BOTH_LAYOUTS(spreads_a_frame_over_as_many_buffers_as_it_needs),
		BOTH_LAYOUTS(gives_nothing_to_a_frame_longer_than_the_buffer),
		BOTH_LAYOUTS(deals_with_fewer_frames_when_buffers_run_out),
		BOTH_LAYOUTS(leaves_the_buffers_of_an_unfinished_frame),
		BOTH_LAYOUTS(refuses_a_frame_of_more_buffers_than_a_burst_has),
		BOTH_LAYOUTS(postpones_a_frame_that_fits_only_at_the_head_of_a_burst),
		BOTH_LAYOUTS(refuses_a_frame_longer_than_the_whole_ring),
		BOTH_LAYOUTS(passes_over_buffers_shorter_than_the_header),
		BOTH_LAYOUTS(starts_a_frame_anew_behind_a_refused_buffer),
		BOTH_LAYOUTS(takes_refused_buffers_though_no_frame_is_dealt_with),
		BOTH_LAYOUTS(empties_a_ring_of_refused_buffers),
		SPLIT(breaks_when_a_bad_head_stops_the_first_frame),
		PACKED(breaks_when_an_endless_chain_stops_the_first_frame),
		BOTH_LAYOUTS(delivers_random_frames_into_random_buffers_exactly),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
