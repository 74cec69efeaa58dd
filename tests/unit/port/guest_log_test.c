/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A guest that is being migrated: whatever its queues write into its memory, by whichever way frames go, is in the dirty log
 * (L3, L9). Memory is compared with what it was; pages on which something changed are noted.
 */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "dpdk_fixture.h"
#include "guest_datapath_fixture.h"

#define PAGE 4096ULL

/* Data and ring parts of the fixture, and where the latter begin. */
#define DATA_BYTES   (2 << 20)
#define MEMORY_BYTES (DATA_BYTES + (1 << 17))
#define N_PAGES      (MEMORY_BYTES / PAGE)

static struct gmem_log dirty_log;
static uint8_t shot[MEMORY_BYTES];

/* The guest's addresses are ours, so the log has bits for all of them; nearly all are never touched. */
static void log_make(void)
{
	dirty_log.n_pages = 1ULL << 35;
	dirty_log.bits = mmap(NULL, dirty_log.n_pages / 8, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	assert_ptr_not_equal(dirty_log.bits, MAP_FAILED);
}

/* As the session and the control thread do when LOG_ALL comes or goes. */
static void logging(bool wanted)
{
	struct ring *rings[] = { &tx, &rx };

	for (unsigned int i = 0; i < 2; i++) {
		const struct vring_device *device = &rings[i]->ends.device;

		rings[i]->ends.dirty = (struct vring_dirty){ .log = NULL };
		if (wanted)
			rings[i]->ends.dirty = (struct vring_dirty){
				.log = &dirty_log,
				.logs_ring = true,
				.ring_gpa = way.packed ? (uintptr_t)device->desc : (uintptr_t)device->used,
				.event_gpa = (uintptr_t)device->used,
			};
	}
	guest_rx_queue_update(&from_guest);
	guest_tx_queue_update(&to_guest);
	if (!way.runs) {
		from_guest.run = NULL;
		to_guest.run = NULL;
	}
}

static bool take_bit(uint64_t page)
{
	uint64_t number = (uintptr_t)memory / PAGE + page;
	uint8_t bit = (uint8_t)(1 << number % 8);

	return (__atomic_fetch_and(&dirty_log.bits[number / 8], (uint8_t)~bit, __ATOMIC_SEQ_CST) & bit) != 0;
}

/* From here on. */
static void shoot(void)
{
	memcpy(shot, memory, MEMORY_BYTES);
	for (uint64_t page = 0; page < N_PAGES; page++)
		take_bit(page);
}

static bool is_changed(uint64_t page)
{
	return memcmp(shot + page * PAGE, memory + page * PAGE, PAGE) != 0;
}

/* Every page that is not what it was has been noted, and no page of data that is. Begins anew. Returns how many were noted. */
static unsigned int check(void)
{
	unsigned int n = 0;

	for (uint64_t page = 0; page < N_PAGES; page++) {
		bool noted = take_bit(page);

		n += noted;
		if (is_changed(page))
			assert_true(noted);
		else if (page * PAGE < DATA_BYTES)
			assert_false(noted);
	}
	shoot();
	return n;
}

/* Frames out of the guest: good, bad, long, cut, refused. */
static void transmit_some(unsigned int seed)
{
	static uint8_t packet[9100];
	const uint32_t cuts[] = { 5, 12, 70, 1000, 0 };

	for (unsigned int i = 0; i < 20; i++) {
		uint32_t len = (i * seed) % 7 == 6 ? 9000 : 14 + (i * 97 + seed * 31) % 1500;

		/* Too short to be a frame. */
		if ((i + seed) % 11 == 10)
			len = 3;
		transmit(packet, packet_of(packet, len), (i + seed) % 3 == 2 ? cuts : uncut);
	}
}

static void all_writes_of_both_directions_are_noted(void **state)
{
	logging(true);
	for (unsigned int seed = 1; seed < 14; seed++) {
		static uint8_t got[RING * 2048];
		unsigned int n, n_taken, n_buffers;

		data_used = 0;
		transmit_some(seed);
		/* So many, and of such lengths, that some frames need several, and at times there are not enough. */
		if (vring_device_backlog(&rx.ends.device) < RING / 2)
			offer(seed % 4 == 3 ? 3 : 30, seed % 2 ? 2048 : 200);
		shoot();
		n = receive();
		while (n > 0) {
			n_taken = send_burst(n);
			release(n_taken);
			if (n_taken < n)
				break;
			n = receive();
		}
		assert_true(check() > 0);
		to_guest.base.arm(&to_guest.base, seed % 2);
		from_guest.base.arm(&from_guest.base, seed % 2);
		check();
		/* The rest, in no buffers of the guest's. */
		while ((n = receive()) > 0)
			release(n);
		check();
		transmit_completions();
		collect(got, &n_buffers);
	}
	assert_true(counters->tx_packets > 30);
}

static void frames_of_a_disabled_queue_go_and_their_entries_are_noted(void **state)
{
	logging(true);
	tx.ends.enabled = false;
	transmit_some(1);
	shoot();
	while (vring_device_has_available(&tx.ends.device))
		assert_int_equal(receive(), 0);
	assert_true(check() > 0);
	tx.ends.enabled = true;
}

static void a_wish_for_kicks_is_noted(void **state)
{
	logging(true);
	shoot();
	for (unsigned int i = 0; i < 6; i++) {
		to_guest.base.arm(&to_guest.base, i % 2);
		assert_in_range(check(), 1, 2);
		from_guest.base.arm(&from_guest.base, i % 2);
		assert_in_range(check(), 1, 2);
	}
}

static void nothing_is_noted_when_logging_is_over(void **state)
{
	unsigned int n;

	for (unsigned int i = 0; i < 2; i++) {
		logging(i == 0);
		shoot();
		transmit_some(2);
		offer(40, 2048);
		n = receive();
		release(send_burst(n));
		to_guest.base.arm(&to_guest.base, true);
		from_guest.base.arm(&from_guest.base, true);
		n = 0;
		for (uint64_t page = 0; page < N_PAGES; page++)
			n += take_bit(page);
		assert_int_equal(n > 0, i == 0);
		data_used = 0;
	}
}

#define N_SENDERS 2
#define N_FRAMES  100

static void *sender_thread(void *argument)
{
	struct port_counters *own = &port.counters[*(const unsigned int *)argument];
	uint8_t head[FRAME_HEAD_PLAIN] = { [12] = 0x88 };
	uint8_t rest[1000] = { 1, 2, 3 };
	struct vring_piece piece = { rest, sizeof(rest) };

	for (unsigned int n = 0; n < N_FRAMES;) {
		/* Some need two buffers. */
		uint32_t len = n % 5 == 0 ? 900 : n % 64;
		struct frame frame = { .head = head, .head_len = sizeof(head), .len = (uint32_t)sizeof(head) + len,
			.pieces = &piece, .n_pieces = len > 0 };
		struct frame *const list[] = { &frame };

		piece.len = len;
		n += send_list(own, list, 1);
	}
	return NULL;
}

static void workers_that_share_a_queue_lose_no_page(void **state)
{
	unsigned int numbers[N_SENDERS];
	static bool noted[N_PAGES];
	pthread_t threads[N_SENDERS];

	logging(true);
	memset(noted, 0, sizeof(noted));
	offer(RING, 600);
	shoot();
	for (unsigned int i = 0; i < N_SENDERS; i++) {
		numbers[i] = i;
		assert_int_equal(pthread_create(&threads[i], NULL, sender_thread, &numbers[i]), 0);
	}
	/* Bits go while they come. */
	for (unsigned int i = 0; i < 20; i++) {
		for (uint64_t page = 0; page < N_PAGES; page++)
			noted[page] |= take_bit(page);
		sched_yield();
	}
	for (unsigned int i = 0; i < N_SENDERS; i++)
		pthread_join(threads[i], NULL);
	for (uint64_t page = 0; page < N_PAGES; page++) {
		noted[page] |= take_bit(page);
		if (is_changed(page))
			assert_true(noted[page]);
	}
	assert_int_equal(port.counters[0].tx_packets + port.counters[1].tx_packets, N_SENDERS * N_FRAMES);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		with(setup, all_writes_of_both_directions_are_noted),
		with(setup_single, all_writes_of_both_directions_are_noted),
		with(setup_legacy, all_writes_of_both_directions_are_noted),
		with(setup, frames_of_a_disabled_queue_go_and_their_entries_are_noted),
		with(setup, a_wish_for_kicks_is_noted),
		with(setup, nothing_is_noted_when_logging_is_over),
	};
	const struct CMUnitTest shared_tests[] = {
		with(setup, workers_that_share_a_queue_lose_no_page),
	};
	int n_failed = 0;

	dpdk_start();
	log_make();
	while (way_next()) {
		n_failed += cmocka_run_group_tests(tests, NULL, NULL);
		if (way.shared)
			n_failed += cmocka_run_group_tests(shared_tests, NULL, NULL);
	}
	return n_failed;
}
