/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Several threads serve one ring (vring/ticket.h): what they have reserved becomes visible in the order in which it was
 * reserved, however they finish, and nobody waits.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include <vring/driver.h>
#include <vring/run.h>
#include <vring/ticket.h>

#include "guest.h"

static struct guest guest;
static struct vring_device ring;
static struct vring_tickets tickets;

/* ---- One thread that plays several ---- */

/* A sender between reserve and commit. On the heap, so that whoever touches it later is found out. */
struct sender {
	struct vring_burst burst;
	struct vring_run run;
	struct vring_ticket ticket;
	bool is_run;
	unsigned int n;
};

static void start(uint16_t size)
{
	struct vring_config config;

	/* Indices go round soon, and so does the ring. */
	guest_create(&guest, size, (uint16_t)(65536 - size / 2 - 1));
	config = guest_config(&guest);
	assert_int_equal(vring_device_init(&ring, &config), 0);
	tickets = (struct vring_tickets){NULL, NULL};
}

static void offer(unsigned int n, uint64_t gpa)
{
	for (unsigned int i = 0; i < n; i++) {
		unsigned int head = guest.avail_idx % guest.size;

		guest_put(&guest, head, gpa, 64, VRING_DESC_F_WRITE, 0);
		guest_offer(&guest, (uint16_t)head);
	}
}

/* Reserves n buffers, as a run or the general way. */
static struct sender *reserve(unsigned int n, bool as_run)
{
	struct sender *sender = calloc(1, sizeof(*sender));
	struct vring_grant grants[VRING_RUN_MAX];
	uint32_t lengths[VRING_RUN_MAX];

	assert_non_null(sender);
	sender->n = n;
	if (as_run && vring_run_peek(&ring, &sender->run, VRING_WRITABLE, 12, 64, n) == (int)n) {
		sender->is_run = true;
		vring_ticket_draw_run(&tickets, &ring, &sender->ticket, n);
		return sender;
	}
	for (unsigned int i = 0; i < n; i++)
		lengths[i] = 64;
	assert_int_equal(vring_device_reserve(&ring, &sender->burst, lengths, n, grants), n);
	vring_ticket_draw(&tickets, &ring, &sender->ticket, &sender->burst);
	return sender;
}

static void commit(struct sender *sender, uint32_t used_len)
{
	if (sender->is_run) {
		uint32_t lengths[VRING_RUN_MAX];

		for (unsigned int i = 0; i < VRING_RUN_MAX; i++)
			lengths[i] = used_len;
		vring_run_return_written(&sender->ticket.ring, &sender->run, lengths, sender->n);
	} else {
		for (unsigned int i = 0; i < sender->burst.n; i++)
			sender->burst.buffers[i].used_len = used_len;
		vring_device_return(&sender->ticket.ring, &sender->burst, sender->burst.n);
	}
	vring_ticket_commit(&tickets, &ring, &sender->ticket);
	memset(sender, 0xee, sizeof(*sender));
	free(sender);
}

/* The next permutation in alphabetical order; false behind the last one. */
static bool permute(unsigned int *order, unsigned int n)
{
	unsigned int i = n - 1, j = n - 1;
	unsigned int swapped;

	while (i > 0 && order[i - 1] > order[i])
		i--;
	if (i == 0)
		return false;
	while (order[j] < order[i - 1])
		j--;
	swapped = order[i - 1];
	order[i - 1] = order[j];
	order[j] = swapped;
	for (j = n - 1; i < j; i++, j--) {
		swapped = order[i];
		order[i] = order[j];
		order[j] = swapped;
	}
	return true;
}

#define N_TICKETS 5

static void entries_show_in_ticket_order_whatever_the_order_of_the_commits(void **state)
{
	unsigned int order[N_TICKETS] = {0, 1, 2, 3, 4};
	unsigned int n_orders = 0;

	start(16);
	do {
		struct sender *senders[N_TICKETS];
		uint16_t first = guest.avail_idx;
		bool is_done[N_TICKETS] = {false};
		unsigned int n_shown = 0; /* tickets */
		unsigned int n_seen = 0;  /* buffers */

		/* 1 + 2 + 3 + 1 + 2 buffers. */
		offer(9, LEFT);
		for (unsigned int i = 0; i < N_TICKETS; i++)
			senders[i] = reserve(1 + i % 3, (i + n_orders) & 1);
		for (unsigned int i = 0; i < N_TICKETS; i++) {
			is_done[order[i]] = true;
			commit(senders[order[i]], 20 + order[i]);
			for (; n_shown < N_TICKETS && is_done[n_shown]; n_shown++) {
				for (unsigned int b = 0; b < 1 + n_shown % 3; b++, n_seen++)
					guest_expect_used(&guest, (uint16_t)((first + n_seen) % 16),
						20 + n_shown);
			}
			guest_expect_no_used(&guest);
		}
		assert_int_equal(n_seen, 9);
		assert_null(tickets.oldest);
		assert_null(tickets.newest);
		assert_int_equal(vring_device_position(&ring),
			guest_position(&guest, guest.avail_idx + (guest.avail_idx < 8 ? 65536u : 0)) &
				(guest.packed ? UINT32_MAX : UINT16_MAX));
		n_orders++;
	} while (permute(order, N_TICKETS));
	assert_int_equal(n_orders, 120);
	guest_destroy(&guest);
}

static void others_go_on_behind_one_that_does_not_and_its_commit_shows_them_all(void **state)
{
	struct sender *parked;
	uint16_t first;

	start(128);
	first = guest.avail_idx;
	offer(128, LEFT);
	parked = reserve(2, false);
	/* More tickets than there can be threads, drawn and committed by one of them. */
	for (unsigned int i = 0; i < 126; i++) {
		commit(reserve(1, i & 1), 30);
		guest_expect_no_used(&guest);
	}
	commit(parked, 31);
	for (unsigned int i = 0; i < 128; i++)
		guest_expect_used(&guest, (uint16_t)((first + i) % 128), i < 2 ? 31 : 30);
	guest_expect_no_used(&guest);
	guest_destroy(&guest);
}

static void a_call_is_due_for_what_has_become_visible_and_not_before(void **state)
{
	struct sender *older, *newer;

	start(16);
	/* Calls are wanted, always. */
	offer(4, LEFT);
	older = reserve(1, false);
	newer = reserve(3, false);
	commit(newer, 64);
	assert_false(vring_device_needs_call(&ring));
	commit(older, 64);
	assert_int_equal(ring.n_uncalled, 4);
	assert_true(vring_device_needs_call(&ring));
	assert_false(vring_device_needs_call(&ring));
	guest_destroy(&guest);
}

static void a_ring_that_breaks_keeps_no_ticket_back(void **state)
{
	const uint32_t length = 64;
	struct vring_burst burst;
	struct vring_grant grant;
	struct sender *older, *newer;
	uint16_t first;

	start(16);
	first = guest.avail_idx;
	offer(2, LEFT);
	older = reserve(1, false);
	newer = reserve(1, true);
	if (guest.packed) {
		guest_put_slot(&guest, vring_packed_slot(guest.avail_position), LEFT, 64, 0,
			VRING_DESC_F_WRITE | VRING_DESC_F_NEXT |
				guest_avail_flags(guest.avail_position));
	} else {
		__atomic_store_n(&guest.avail->idx, (uint16_t)(first + 2 + 17), __ATOMIC_RELEASE);
	}
	assert_int_equal(vring_device_reserve(&ring, &burst, &length, 1, &grant), -EPROTO);
	commit(newer, 21);
	guest_expect_no_used(&guest);
	commit(older, 20);
	guest_expect_used(&guest, first % 16, 20);
	guest_expect_used(&guest, (uint16_t)((first + 1) % 16), 21);
	guest_expect_no_used(&guest);
	guest_destroy(&guest);
}

static void refused_buffers_go_back_empty_and_are_counted_once(void **state)
{
	struct sender *older, *newer;
	uint16_t first;

	start(16);
	first = guest.avail_idx;
	offer(1, LEFT);
	offer(1, HOLE);
	offer(2, LEFT);
	older = reserve(1, false);
	newer = reserve(1, false);
	assert_int_equal(newer->burst.n, 2);
	commit(newer, 22);
	assert_int_equal(ring.n_faults[VRING_FAULT_ADDRESS], 1);
	commit(older, 20);
	commit(reserve(1, false), 23);
	assert_int_equal(ring.n_faults[VRING_FAULT_ADDRESS], 1);
	guest_expect_used(&guest, first % 16, 20);
	guest_expect_used(&guest, (uint16_t)((first + 1) % 16), 22);
	guest_expect_used(&guest, (uint16_t)((first + 2) % 16), 22);
	guest_expect_used(&guest, (uint16_t)((first + 3) % 16), 23);
	guest_destroy(&guest);
}

/* Plans change, and with them whether a ring has one sender or several. */
static void a_ring_is_one_threads_again_when_no_ticket_is_out(void **state)
{
	struct vring_burst burst;
	struct vring_grant grants[3];
	const uint32_t lengths[] = {64, 64, 64};

	start(8);
	for (unsigned int round = 0; round < 20; round++) {
		uint16_t first = guest.avail_idx;
		struct sender *older, *newer;

		offer(6, LEFT);
		older = reserve(1, round & 1);
		newer = reserve(2, round & 2);
		commit(newer, 64);
		commit(older, 64);
		assert_int_equal(vring_device_reserve(&ring, &burst, lengths, 3, grants), 3);
		for (unsigned int i = 0; i < 3; i++)
			burst.buffers[i].used_len = 64;
		finish(&ring, &burst, 3);
		for (unsigned int i = 0; i < 6; i++)
			guest_expect_used(&guest, (uint16_t)((first + i) % 8), 64);
		guest_expect_no_used(&guest);
		assert_int_equal(ring.n_uncalled, 6);
		assert_true(vring_device_needs_call(&ring));
	}
	guest_destroy(&guest);
}

/* A driver that offers everything again before it was used has its own memory written twice, and nothing else happens. */
static void buffers_offered_again_while_they_are_out_hurt_nobody_else(void **state)
{
	struct sender *senders[100];

	start(8);
	for (unsigned int i = 0; i < 100; i++) {
		offer(4, LEFT);
		senders[i] = reserve(4, i & 1);
	}
	for (unsigned int i = 0; i < 100; i++)
		commit(senders[99 - i], 64);
	assert_int_equal(ring.published_idx, ring.used_idx);
	assert_int_equal(ring.breakage, VRING_INTACT);
	offer(4, LEFT);
	commit(reserve(4, false), 64);
	assert_true(vring_device_needs_call(&ring));
	guest_destroy(&guest);
}

/* ---- Threads ---- */

#define SIZE          64
#define BUFFER_BYTES  256
#define N_SENDERS     4
#define N_FRAMES      10000 /* of each sender */
#define BURST         8
#define HEADER_BYTES  12
#define FRAME_LEN_MAX (3 * BUFFER_BYTES)

/* num_buffers (virtio 5.1.6.1), and what the payload starts with: whose frame, the how manieth. */
#define AT_N_BUFFERS 10
#define AT_SENDER    12
#define AT_NUMBER    13
#define LEN_MIN      20

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static bool is_mergeable;
static unsigned int n_joined; /* tickets committed while an older one was out */

/* What others need to overtake. */
static void dawdle(uint32_t number)
{
	if (number % 16 < 3)
		sched_yield();
}

static void commit_locked(struct vring_ticket *ticket)
{
	pthread_mutex_lock(&lock);
	n_joined += ticket->older != NULL;
	vring_ticket_commit(&tickets, &ring, ticket);
	pthread_mutex_unlock(&lock);
}

/* Of any sender, each of its own length. */
static uint32_t frame_make(uint8_t *bytes, unsigned int sender, uint32_t number)
{
	uint32_t len_max = is_mergeable ? FRAME_LEN_MAX : BUFFER_BYTES;
	uint32_t len = LEN_MIN + (number * 2654435761u >> 8) % (len_max - LEN_MIN);

	memset(bytes, 0, HEADER_BYTES);
	bytes[AT_SENDER] = (uint8_t)sender;
	memcpy(&bytes[AT_NUMBER], &number, sizeof(number));
	for (uint32_t i = AT_NUMBER + sizeof(number); i < len; i++)
		bytes[i] = (uint8_t)(number + sender * 31 + i);
	return len;
}

static void frame_put(const uint8_t *bytes, uint32_t len, struct vring_buffer *buffers)
{
	for (uint32_t at = 0; at < len; buffers++) {
		uint32_t part = len - at < buffers->len ? len - at : buffers->len;

		assert_int_equal(buffers->n_pieces, 1);
		memcpy(buffers->pieces[0].hva, bytes + at, part);
		buffers->used_len = part;
		at += part;
	}
}

/* The general way, with any buffers. Returns how many frames went out. */
static unsigned int send_burst(uint8_t (*frames)[FRAME_LEN_MAX], const uint32_t *lengths, unsigned int n)
{
	struct vring_grant grants[BURST];
	struct vring_ticket ticket;
	struct vring_burst burst;
	int n_dealt;

	pthread_mutex_lock(&lock);
	n_dealt = vring_device_reserve(&ring, &burst, lengths, n, grants);
	if (burst.n > 0)
		vring_ticket_draw(&tickets, &ring, &ticket, &burst);
	pthread_mutex_unlock(&lock);
	assert_true(n_dealt >= 0);
	if (burst.n == 0)
		return 0;
	for (int i = 0; i < n_dealt; i++) {
		assert_true(grants[i].n > 0);
		frames[i][AT_N_BUFFERS] = (uint8_t)grants[i].n;
		frame_put(frames[i], lengths[i], &burst.buffers[grants[i].first]);
	}
	dawdle(frames[0][AT_NUMBER]);
	vring_device_return(&ticket.ring, &burst, burst.n);
	commit_locked(&ticket);
	return (unsigned int)n_dealt;
}

/* As a run: as many frames as come first that fit into one buffer each. */
static unsigned int send_run(uint8_t (*frames)[FRAME_LEN_MAX], const uint32_t *lengths, unsigned int n)
{
	uint32_t used[VRING_RUN_MAX];
	struct vring_ticket ticket;
	struct vring_run run;
	unsigned int n_fit = 0;
	int n_buffers;

	pthread_mutex_lock(&lock);
	n_buffers = vring_run_peek(&ring, &run, VRING_WRITABLE, HEADER_BYTES, UINT32_MAX, n);
	while ((int)n_fit < n_buffers && lengths[n_fit] <= run.len[n_fit])
		n_fit++;
	if (n_fit > 0)
		vring_ticket_draw_run(&tickets, &ring, &ticket, n_fit);
	pthread_mutex_unlock(&lock);
	if (n_fit == 0)
		return 0;
	for (unsigned int i = 0; i < n_fit; i++) {
		frames[i][AT_N_BUFFERS] = 1;
		memcpy((void *)(uintptr_t)run.hva[i], frames[i], lengths[i]);
		used[i] = lengths[i];
	}
	dawdle(frames[0][AT_NUMBER]);
	vring_run_return_written(&ticket.ring, &run, used, n_fit);
	commit_locked(&ticket);
	return n_fit;
}

static void *sender_thread(void *argument)
{
	unsigned int sender = *(const unsigned int *)argument;
	uint64_t seed = 1234567 + sender;
	uint32_t n_sent = 0;

	while (n_sent < N_FRAMES) {
		uint8_t frames[BURST][FRAME_LEN_MAX];
		uint32_t lengths[BURST];
		uint32_t n = 1 + random_below(&seed, BURST);
		unsigned int n_now;

		if (n > N_FRAMES - n_sent)
			n = N_FRAMES - n_sent;
		for (uint32_t i = 0; i < n; i++)
			lengths[i] = frame_make(frames[i], sender, n_sent + i);
		n_now = random_below(&seed, 2) ? send_run(frames, lengths, n) : 0;
		/* Their places are others' or its own: the order of its frames is kept either way. */
		if (n_now == 0)
			n_now = send_burst(frames, lengths, n);
		n_sent += n_now;
		if (n_now == 0)
			sched_yield();
	}
	return NULL;
}

/* What the driver has of a frame so far. */
struct assembly {
	uint8_t bytes[FRAME_LEN_MAX + BUFFER_BYTES];
	uint32_t len;
	unsigned int n_left; /* buffers; 0: the next one starts a frame */
	uint32_t expected[N_SENDERS];
	uint32_t n_frames;
	uint32_t n_refused;
};

/* The token of a bad buffer. */
#define BAD SIZE

static void take(struct assembly *assembly, const struct vring_completion *done)
{
	uint8_t expected[FRAME_LEN_MAX];
	unsigned int sender;
	uint32_t number;

	assembly->n_refused += done->token == BAD;
	/* Refused, or gathered by a frame that started anew behind a refused one: never in the middle of a frame. */
	if (done->len == 0) {
		assert_int_equal(assembly->n_left, 0);
		return;
	}
	assert_int_not_equal(done->token, BAD);
	if (assembly->n_left == 0)
		assembly->len = 0;
	assert_true(assembly->len + done->len <= sizeof(assembly->bytes));
	memcpy(assembly->bytes + assembly->len,
		guest.mem->regions[2].hva + done->token * BUFFER_BYTES, done->len);
	if (assembly->n_left == 0)
		assembly->n_left = assembly->bytes[AT_N_BUFFERS];
	assembly->len += done->len;
	assert_in_range(assembly->n_left, 1, 4);
	if (--assembly->n_left > 0)
		return;
	sender = assembly->bytes[AT_SENDER];
	assert_in_range(sender, 0, N_SENDERS - 1);
	memcpy(&number, &assembly->bytes[AT_NUMBER], sizeof(number));
	assert_int_equal(number, assembly->expected[sender]);
	assembly->expected[sender]++;
	assert_int_equal(assembly->len, frame_make(expected, sender, number));
	assert_memory_equal(assembly->bytes + HEADER_BYTES, expected + HEADER_BYTES,
		assembly->len - HEADER_BYTES);
	assembly->n_frames++;
}

/* Collects what all senders have sent, and offers buffers all the time, one in a hundred a bad one. */
static void drive(struct vring_driver *driver)
{
	struct vring_completion done[7];
	struct assembly assembly = {.n_left = 0};
	uint32_t free_tokens[SIZE];
	uint32_t n_free = SIZE, n_offered = 0;

	for (uint32_t i = 0; i < SIZE; i++)
		free_tokens[i] = i;
	while (assembly.n_frames < N_SENDERS * N_FRAMES) {
		int n;

		while (n_free > 0 && vring_driver_free(driver) > 0) {
			bool bad = ++n_offered % 100 == 0;
			uint32_t token = bad ? BAD : free_tokens[--n_free];
			const struct vring_extent extent = {
				bad ? HOLE : LEFT + token * BUFFER_BYTES, BUFFER_BYTES};

			assert_int_equal(vring_driver_post(driver, &extent, 0, 1, token), 0);
		}
		vring_driver_publish(driver);
		n = vring_driver_collect(driver, done, sizeof(done) / sizeof(done[0]));
		/* A frame's buffers are seen together: what is missing is there at once. */
		assert_true(n > 0 || (n == 0 && assembly.n_left == 0));
		for (int i = 0; i < n; i++) {
			take(&assembly, &done[i]);
			if (done[i].token != BAD)
				free_tokens[n_free++] = done[i].token;
		}
		if (n == 0)
			sched_yield();
	}
	assert_int_equal(vring_driver_collect(driver, done, 1), 0);
	for (unsigned int i = 0; i < N_SENDERS; i++)
		assert_int_equal(assembly.expected[i], N_FRAMES);
	pthread_mutex_lock(&lock);
	assert_int_equal(ring.n_faults[VRING_FAULT_ADDRESS], assembly.n_refused);
	pthread_mutex_unlock(&lock);
	assert_true(assembly.n_refused > 0);
}

static void race(bool mergeable, bool in_order)
{
	unsigned int numbers[N_SENDERS];
	pthread_t threads[N_SENDERS];
	struct vring_driver_config driver_config = {.size = SIZE, .in_order = in_order};
	struct vring_driver *driver;
	struct vring_config config;

	is_mergeable = mergeable;
	guest_create(&guest, SIZE, 0);
	driver_config.packed = guest.packed;
	driver_config.desc = guest.parts[0].data;
	driver_config.avail = guest.parts[1].data;
	driver_config.used = guest.parts[2].data;
	driver = vring_driver_create(&driver_config);
	assert_non_null(driver);
	config = guest_config(&guest);
	config.mergeable = mergeable;
	config.in_order = in_order;
	assert_int_equal(vring_device_init(&ring, &config), 0);
	tickets = (struct vring_tickets){NULL, NULL};
	n_joined = 0;
	for (unsigned int i = 0; i < N_SENDERS; i++) {
		numbers[i] = i;
		assert_int_equal(pthread_create(&threads[i], NULL, sender_thread, &numbers[i]), 0);
	}
	drive(driver);
	for (unsigned int i = 0; i < N_SENDERS; i++)
		pthread_join(threads[i], NULL);
	assert_null(tickets.oldest);
	assert_null(tickets.newest);
	assert_int_equal(ring.published_idx, ring.used_idx);
	/* Else nothing was raced. */
	assert_true(n_joined > 0);
	vring_driver_destroy(driver);
	guest_destroy(&guest);
}

static void frames_of_several_threads_arrive_once_whole_and_in_each_ones_order(void **state)
{
	race(false, false);
	race(false, true);
}

static void frames_in_several_buffers_are_seen_whole_whoever_sends_beside_them(void **state)
{
	race(true, false);
	race(true, true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH_LAYOUTS(entries_show_in_ticket_order_whatever_the_order_of_the_commits),
		BOTH_LAYOUTS(others_go_on_behind_one_that_does_not_and_its_commit_shows_them_all),
		BOTH_LAYOUTS(a_call_is_due_for_what_has_become_visible_and_not_before),
		BOTH_LAYOUTS(a_ring_that_breaks_keeps_no_ticket_back),
		BOTH_LAYOUTS(refused_buffers_go_back_empty_and_are_counted_once),
		BOTH_LAYOUTS(a_ring_is_one_threads_again_when_no_ticket_is_out),
		BOTH_LAYOUTS(buffers_offered_again_while_they_are_out_hurt_nobody_else),
		BOTH_LAYOUTS(frames_of_several_threads_arrive_once_whole_and_in_each_ones_order),
		BOTH_LAYOUTS(frames_in_several_buffers_are_seen_whole_whoever_sends_beside_them),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
