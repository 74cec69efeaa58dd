/* SPDX-License-Identifier: BSD-3-Clause */
/* Workers that share a guest's receive ring: what they send arrives whole, and none of them waits for another's copy. */
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

#include "dpdk_fixture.h"
#include "guest_datapath_fixture.h"

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

int main(void)
{
	const struct CMUnitTest tests[] = {
		with(setup, workers_that_share_a_queue_call_once_for_what_they_sent),
	};
	const struct CMUnitTest shared_tests[] = {
		with(setup, another_worker_sends_while_one_is_in_the_middle_of_a_copy),
		with(setup, frames_of_workers_that_share_a_queue_arrive_once_whole_and_in_order),
		with(setup, a_worker_that_waits_for_another_is_counted),
	};
	int n_failed = 0;

	dpdk_start();
	while (way_next()) {
		n_failed += cmocka_run_group_tests(tests, NULL, NULL);
		if (way.shared)
			n_failed += cmocka_run_group_tests(shared_tests, NULL, NULL);
	}
	return n_failed;
}
