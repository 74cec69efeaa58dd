/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the device side writes is in the dirty log (L3, L4, L9): after each step the memory of the guest and its ring are compared
 * with what they were, byte by byte. Whatever is other than it was is on a page that was noted, and where the device writes no
 * more than it must, no other page was.
 */
#include <stdlib.h>
#include <string.h>

#include <vring/dirty.h>
#include <vring/ticket.h>

#include "guest.h"

#define PAGE 4096ULL
#define N_BLOCKS 4
#define SLOTS_MAX 512

/* Up to behind the region `right`; `top` is beyond it. */
#define LOG_BYTES ((RIGHT + RIGHT_BYTES) / PAGE / 8 + 1)

/* Where the guest has its ring, as far as the log knows: across pages, and its event structure at the end of one. */
#define RING_GPA(shift) (0x4000000ULL + (shift))
#define EVENT_GPA       (0x6000000ULL - VRING_EVENT_BYTES / 2)

static const uint64_t block_gpas[N_BLOCKS] = { LOW, HIGH, LEFT, TOP };

static struct guest guest;
static struct vring_device ring;
static struct vring_dirty dirty;
static struct gmem_log dirty_log;
static uint8_t bits[LOG_BYTES], changed[LOG_BYTES];
static uint8_t *block_shots[N_BLOCKS];
static uint8_t *ring_shot, event_shot[VRING_EVENT_BYTES];
static uint8_t *ring_bytes; /* what ring_gpa names */
static size_t n_ring_bytes;
static uint64_t rng;

/* Descriptors of buffers that are out, in ring order: a driver that goes round the table. */
static uint16_t n_descs_of[SLOTS_MAX];
static unsigned int n_out, first_out, n_descs_out;
static uint16_t next_desc;

/* ---- The memory, before and after ---- */

static void shoot(void)
{
	for (unsigned int i = 0; i < N_BLOCKS; i++)
		memcpy(block_shots[i], guest.blocks[i].data, guest.blocks[i].bytes);
	memcpy(ring_shot, ring_bytes, n_ring_bytes);
	if (guest.packed)
		memcpy(event_shot, guest.device_event, sizeof(event_shot));
}

static void note_changes(const uint8_t *now, const uint8_t *shot, size_t n, uint64_t gpa)
{
	for (size_t i = 0; i < n; i++) {
		uint64_t page = (gpa + i) / PAGE;

		if (now[i] != shot[i] && page / 8 < LOG_BYTES)
			changed[page / 8] |= (uint8_t)(1 << page % 8);
	}
}

/* Compares with the log, which is empty after that. Not exact: pages on which nothing changed may be noted. */
static void check(bool exact)
{
	memset(changed, 0, sizeof(changed));
	for (unsigned int i = 0; i < N_BLOCKS; i++)
		note_changes(guest.blocks[i].data, block_shots[i], guest.blocks[i].bytes, block_gpas[i]);
	if (dirty.logs_ring) {
		note_changes(ring_bytes, ring_shot, n_ring_bytes, dirty.ring_gpa);
		if (guest.packed)
			note_changes((const uint8_t *)guest.device_event, event_shot, sizeof(event_shot),
				dirty.event_gpa);
	}
	for (size_t i = 0; i < LOG_BYTES; i++) {
		if ((changed[i] & ~bits[i]) != 0)
			fail_msg("pages 0x%zx on: changed %02x, noted %02x", i * 8, changed[i], bits[i]);
		if (exact && (bits[i] & ~changed[i]) != 0)
			fail_msg("pages 0x%zx on: noted %02x, changed %02x", i * 8, bits[i], changed[i]);
	}
	memset(bits, 0, sizeof(bits));
}

static unsigned int n_noted(void)
{
	unsigned int n = 0;

	for (size_t i = 0; i < LOG_BYTES; i++)
		n += (unsigned int)__builtin_popcount(bits[i]);
	return n;
}

struct setting {
	uint16_t size, idx;
	bool event_idx, in_order, mergeable, runs;
	enum vring_isa isa;
	unsigned int ring_shift;
};

/* Entries become what no device writes, so that each is seen to change. */
static void entries_spoil(void)
{
	if (!guest.packed)
		memset(guest.used->ring, 0x5a, (size_t)guest.size * sizeof(guest.used->ring[0]));
}

static void begin(const struct setting *with)
{
	struct vring_config config;

	guest_create(&guest, with->size, with->idx);
	config = guest_config(&guest);
	config.event_idx = with->event_idx;
	config.in_order = with->in_order;
	config.mergeable = with->mergeable;
	vring_isa_limit(with->isa);
	assert_int_equal(vring_device_init(&ring, &config), 0);
	vring_isa_limit(VRING_N_ISAS - 1);
	for (unsigned int i = 0; i < N_BLOCKS; i++) {
		block_shots[i] = malloc(guest.blocks[i].bytes);
		assert_non_null(block_shots[i]);
	}
	ring_bytes = guest.packed ? (uint8_t *)guest.slots : (uint8_t *)guest.used;
	n_ring_bytes = guest.packed ? vring_desc_bytes(with->size) : vring_used_bytes(with->size);
	ring_shot = malloc(n_ring_bytes);
	assert_non_null(ring_shot);
	memset(bits, 0, sizeof(bits));
	dirty_log = (struct gmem_log){ .bits = bits, .n_pages = LOG_BYTES * 8 };
	dirty = (struct vring_dirty){ .log = &dirty_log, .logs_ring = true, .ring_gpa = RING_GPA(with->ring_shift),
		.event_gpa = EVENT_GPA };
	n_out = first_out = n_descs_out = 0;
	next_desc = 0;
	entries_spoil();
}

static void end(void)
{
	for (unsigned int i = 0; i < N_BLOCKS; i++)
		free(block_shots[i]);
	free(ring_shot);
	guest_destroy(&guest);
}

/* ---- The driver ---- */

/* A place for `len` bytes. Often the bytes end where a page does, or one behind. */
static uint64_t place_of(uint32_t len)
{
	static const struct {
		uint64_t gpa, bytes;
	} areas[] = { { LOW, LOW_BYTES + HIGH_BYTES }, { LEFT, LEFT_BYTES + RIGHT_BYTES }, { TOP, TOP_BYTES } };
	unsigned int area = random_below(&rng, 16) < 15 ? random_below(&rng, 2) : 2;
	uint64_t room = len < areas[area].bytes ? areas[area].bytes - len : 0;
	uint64_t at = random_next(&rng) % (room + 1), end_gpa;

	if (random_below(&rng, 2) == 0 && len < areas[area].bytes) {
		end_gpa = (areas[area].gpa + at + len) / PAGE * PAGE + random_below(&rng, 2);
		if (end_gpa >= areas[area].gpa + len)
			return end_gpa - len;
	}
	return areas[area].gpa + at;
}

/* Makes a buffer of n_descs descriptors available. Returns false if there is no room. */
static bool offer(uint32_t len, unsigned int n_descs, uint16_t flags, bool bad)
{
	uint16_t head = next_desc;

	if (n_descs_out + n_descs > guest.size)
		return false;
	for (unsigned int i = 0; i < n_descs; i++) {
		uint16_t next = (uint16_t)((next_desc + 1) % guest.size);
		uint32_t part = i + 1 < n_descs ? len / n_descs : len - len / n_descs * (n_descs - 1);

		guest_put(&guest, next_desc, bad ? HOLE : place_of(part), part,
			flags | (i + 1 < n_descs ? VRING_DESC_F_NEXT : 0), next);
		next_desc = next;
	}
	guest_offer(&guest, head);
	n_descs_of[(first_out + n_out++) % SLOTS_MAX] = (uint16_t)n_descs;
	n_descs_out += n_descs;
	return true;
}

static void offer_some(uint16_t flags, bool plain)
{
	for (unsigned int n = random_below(&rng, 40) + 1; n > 0; n--) {
		uint32_t len = plain ? 12 + random_below(&rng, 2048) : 12 + random_below(&rng, 5000);
		unsigned int n_descs = plain || random_below(&rng, 3) > 0 ? 1 : 1 + random_below(&rng, 5);

		if (!offer(len, n_descs, flags, !plain && random_below(&rng, 12) == 0))
			return;
	}
}

static void take_used(unsigned int n)
{
	for (; n > 0; n--) {
		assert_true(n_out > 0);
		n_descs_out -= n_descs_of[first_out];
		first_out = (first_out + 1) % SLOTS_MAX;
		n_out--;
	}
	entries_spoil();
}

/* ---- The device ---- */

/* Buffers may overlap: what is written twice is not what it was either. */
static void change(uint8_t *bytes, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		bytes[i]++;
}

static void fill(struct vring_buffer *buffers, unsigned int n, uint32_t len)
{
	for (unsigned int i = 0; i < n; i++) {
		for (unsigned int j = 0; j < buffers[i].n_pieces && len > 0; j++) {
			const struct vring_piece *piece = &buffers[i].pieces[j];
			uint32_t part = len < piece->len ? len : piece->len;

			change(piece->hva, part);
			buffers[i].used_len += part;
			len -= part;
		}
	}
}

/* Frames of any length into buffers of any shape. Returns how many buffers were used. */
static unsigned int write_burst(void)
{
	static struct vring_burst burst;
	struct vring_grant grants[32];
	uint32_t lengths[32];
	unsigned int n = random_below(&rng, 32) + 1;
	uint16_t from = ring.used_idx;
	int n_dealt;

	for (unsigned int i = 0; i < n; i++)
		lengths[i] = 12 + random_below(&rng, random_below(&rng, 4) == 0 ? 9000 : 1600);
	n_dealt = vring_device_reserve(&ring, &burst, lengths, n, grants);
	assert_true(n_dealt >= 0);
	for (int i = 0; i < n_dealt; i++)
		fill(&burst.buffers[grants[i].first], grants[i].n, lengths[i]);
	if (burst.n == 0)
		return 0;
	finish(&ring, &burst, burst.n);
	vring_dirty_burst(&dirty, &ring, &burst, burst.n, from);
	return burst.n;
}

static unsigned int write_run(void)
{
	struct vring_run run;
	uint32_t lengths[VRING_RUN_MAX];
	uint16_t from = ring.used_idx;
	int n = vring_run_peek(&ring, &run, VRING_WRITABLE, 12, UINT32_MAX, random_below(&rng, VRING_RUN_MAX) + 1);

	if (n <= 0)
		return n == 0 ? 0 : write_burst();
	for (int i = 0; i < n; i++) {
		lengths[i] = random_below(&rng, 2) == 0 ? run.len[i] : 12 + random_below(&rng, run.len[i] - 11);
		change((uint8_t *)(uintptr_t)run.hva[i], lengths[i]);
	}
	vring_run_return_written(&ring, &run, lengths, (unsigned int)n);
	vring_device_publish(&ring);
	vring_dirty_run(&dirty, &ring, &run, lengths, (unsigned int)n, from);
	return (unsigned int)n;
}

static unsigned int read_some(bool as_run)
{
	static struct vring_burst burst;
	struct vring_run run;
	uint16_t from = ring.used_idx;
	unsigned int max = random_below(&rng, 32) + 1;
	int n;

	if (as_run) {
		n = vring_run_peek(&ring, &run, VRING_READABLE, 12, UINT32_MAX, max);
		if (n <= 0)
			return n == 0 ? 0 : read_some(false);
		vring_run_return_read(&ring, &run, (unsigned int)n);
		vring_device_publish(&ring);
	} else {
		n = vring_device_peek(&ring, &burst, VRING_READABLE, max);
		if (n <= 0)
			return 0;
		finish(&ring, &burst, (unsigned int)n);
	}
	vring_dirty_used(&dirty, &ring, from);
	return (unsigned int)n;
}

/* The device has its wish; with event index the flags are written as well, as what they are. */
static void wish(void)
{
	shoot();
	if (random_below(&rng, 3) == 0)
		vring_device_set_kick_behind(&ring);
	else
		vring_device_set_kick(&ring, random_below(&rng, 2));
	vring_dirty_wish(&dirty, &ring);
	assert_in_range(n_noted(), dirty.logs_ring, dirty.logs_ring ? 2 : 0);
	check(false);
}

static void wander(bool writable)
{
	static const uint16_t sizes[] = { 1, 2, 4, 8, 64, 256 };

	for (unsigned int i = 0; i < 40; i++) {
		struct setting setting = {
			.size = sizes[random_below(&rng, 6)],
			.event_idx = random_below(&rng, 2),
			.in_order = random_below(&rng, 2),
			.mergeable = random_below(&rng, 2),
			.runs = random_below(&rng, 2),
			.isa = random_below(&rng, VRING_N_ISAS),
			.ring_shift = random_below(&rng, 4096) & ~15u,
		};
		unsigned int n_used = 0;

		/* Any number of slots, if packed; indices go round soon. */
		if (guest_is_packed)
			setting.size = (uint16_t)(setting.size + random_below(&rng, setting.size));
		setting.idx = (uint16_t)(65536 - random_below(&rng, 2u * setting.size + 8));
		begin(&setting);
		dirty.logs_ring = i % 8 != 7;
		for (unsigned int step = 0; step < 40; step++) {
			/* What is skipped, in a chain or in order, is within the range that is noted. */
			bool exact = (!guest.packed || setting.runs) && (writable || !setting.in_order);
			unsigned int n;

			offer_some(writable ? VRING_DESC_F_WRITE : 0, setting.runs);
			shoot();
			if (writable)
				n = setting.runs ? write_run() : write_burst();
			else
				n = read_some(setting.runs);
			check(exact);
			take_used(n);
			n_used += n;
			wish();
		}
		assert_true(n_used > 0 || !setting.mergeable);
		end();
	}
}

static void all_that_is_written_into_buffers_and_rings_is_noted(void **state)
{
	wander(true);
}

static void entries_of_buffers_that_were_read_are_noted(void **state)
{
	wander(false);
}

/* L4 */
static void a_buffer_up_to_a_page_s_end_and_one_byte_more(void **state)
{
	for (uint32_t more = 0; more < 2; more++) {
		const struct setting setting = { .size = 8, .mergeable = true };
		struct vring_burst *burst = malloc(sizeof(*burst));
		const uint32_t length = 100 + more;
		struct vring_grant grant;

		assert_non_null(burst);
		begin(&setting);
		dirty.logs_ring = false;
		guest_put(&guest, 0, LOW + 2 * PAGE - 100, 200, VRING_DESC_F_WRITE, 0);
		guest_offer(&guest, 0);
		shoot();
		assert_int_equal(vring_device_reserve(&ring, burst, &length, 1, &grant), 1);
		fill(burst->buffers, 1, length);
		finish(&ring, burst, 1);
		vring_dirty_burst(&dirty, &ring, burst, 1, (uint16_t)(ring.used_idx - 1));
		assert_int_equal(n_noted(), 1 + more);
		check(true);
		end();
		free(burst);
	}
}

static void a_whole_lap_at_once_notes_the_whole_ring(void **state)
{
	for (uint16_t idx = 0; idx < 4; idx++) {
		const struct setting setting = { .size = 256, .idx = (uint16_t)(idx * 100), .ring_shift = 4096 - 64 };
		struct vring_burst *burst = malloc(sizeof(*burst));

		assert_non_null(burst);
		begin(&setting);
		for (unsigned int i = 0; i < 256; i++)
			assert_true(offer(64, 1, 0, false));
		shoot();
		assert_int_equal(vring_device_peek(&ring, burst, VRING_READABLE, 256), 256);
		finish(&ring, burst, 256);
		vring_dirty_used(&dirty, &ring, guest.packed ? guest_config(&guest).used_idx : setting.idx);
		check(true);
		end();
		free(burst);
	}
}

/* L6 */
static void a_ring_outside_the_log_is_not_noted(void **state)
{
	const uint64_t gpas[] = { LOG_BYTES * 8 * PAGE, LOG_BYTES * 8 * PAGE - 16, UINT64_MAX, UINT64_MAX - 1000 };

	for (unsigned int i = 0; i < sizeof(gpas) / sizeof(gpas[0]); i++) {
		const struct setting setting = { .size = 64 };
		struct guarded memory;

		begin(&setting);
		/* Wherever it is, around it is memory that kills. */
		memory = guarded_alloc(LOG_BYTES, 1);
		dirty_log.bits = memory.data;
		dirty.ring_gpa = dirty.event_gpa = gpas[i];
		for (unsigned int n = 0; n < 200; n++) {
			offer_some(0, true);
			take_used(read_some(false));
			vring_device_set_kick(&ring, n % 2);
			vring_dirty_wish(&dirty, &ring);
		}
		guarded_free(&memory);
		end();
	}
}

/* A sender between drawing and committing. */
struct sender {
	struct vring_burst burst;
	struct vring_run run;
	uint32_t lengths[VRING_RUN_MAX];
	struct vring_ticket ticket;
	bool as_run;
	unsigned int n;
};

static void draw(struct vring_tickets *tickets, struct sender *sender, bool as_run)
{
	uint32_t lengths[4];
	struct vring_grant grants[4];
	int n = 0;

	for (unsigned int i = 0; i < 4; i++)
		lengths[i] = sender->lengths[i] = 12 + random_below(&rng, 1000);
	if (as_run)
		n = vring_run_peek(&ring, &sender->run, VRING_WRITABLE, 12, UINT32_MAX, 4);
	sender->as_run = n > 0;
	if (n > 0) {
		sender->n = (unsigned int)n;
		vring_ticket_draw_run(tickets, &ring, &sender->ticket, sender->n);
		for (int i = 0; i < n; i++)
			change((uint8_t *)(uintptr_t)sender->run.hva[i], sender->lengths[i]);
	} else {
		assert_int_equal(vring_device_reserve(&ring, &sender->burst, lengths, 4, grants), 4);
		sender->n = sender->burst.n;
		vring_ticket_draw(tickets, &ring, &sender->ticket, &sender->burst);
		for (unsigned int i = 0; i < 4; i++)
			fill(&sender->burst.buffers[grants[i].first], grants[i].n, lengths[i]);
	}
}

static void commit(struct vring_tickets *tickets, struct sender *sender)
{
	struct vring_device *view = &sender->ticket.ring;
	uint16_t from = view->used_idx;

	if (sender->as_run)
		vring_run_return_written(view, &sender->run, sender->lengths, sender->n);
	else
		vring_device_return(view, &sender->burst, sender->n);
	vring_ticket_commit(tickets, &ring, &sender->ticket);
	if (sender->as_run)
		vring_dirty_run(&dirty, view, &sender->run, sender->lengths, sender->n, from);
	else
		vring_dirty_burst(&dirty, view, &sender->burst, sender->n, from);
}

/* Whoever finishes last shows the entries of all, and has noted then what it showed. */
static void senders_that_share_a_ring_note_what_each_wrote(void **state)
{
	struct vring_tickets tickets = { NULL, NULL };
	struct sender *senders = calloc(3, sizeof(*senders));
	const struct setting setting = { .size = 64, .idx = 65530, .ring_shift = 4096 - 80, .mergeable = true };

	assert_non_null(senders);
	begin(&setting);
	for (unsigned int round = 0; round < 200; round++) {
		unsigned int order[3] = { 0, 1, 2 }, n = 0;

		for (unsigned int i = 0; i < 3; i++) {
			unsigned int j = random_below(&rng, 3), k = order[i];

			order[i] = order[j];
			order[j] = k;
		}
		while (n_out < 40)
			assert_true(offer(1100, 1, VRING_DESC_F_WRITE, false));
		shoot();
		for (unsigned int i = 0; i < 3; i++)
			draw(&tickets, &senders[i], random_below(&rng, 2));
		for (unsigned int i = 0; i < 3; i++)
			commit(&tickets, &senders[order[i]]);
		check(true);
		for (unsigned int i = 0; i < 3; i++)
			n += senders[i].n;
		take_used(n);
	}
	end();
	free(senders);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH_LAYOUTS(all_that_is_written_into_buffers_and_rings_is_noted),
		BOTH_LAYOUTS(entries_of_buffers_that_were_read_are_noted),
		BOTH_LAYOUTS(a_buffer_up_to_a_page_s_end_and_one_byte_more),
		BOTH_LAYOUTS(a_whole_lap_at_once_notes_the_whole_ring),
		BOTH_LAYOUTS(a_ring_outside_the_log_is_not_noted),
		BOTH_LAYOUTS(senders_that_share_a_ring_note_what_each_wrote),
	};

	rng = seed_get();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
