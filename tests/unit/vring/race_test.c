/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Q30: one thread flips ring words between good and bad values as fast as it can, the other serves the ring and touches
 * every byte it is given. A value used after it was read a second time ends at a killing page, or as a sum that is not
 * one. Under ThreadSanitizer no access of ours may be reported. RINGWAY_RACE_MS sets the time per field set; runs have a
 * tenth of that for each instruction set, direction and way to find regions.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <vring/driver.h>
#include <vring/run.h>

#include "guest.h"

#define SIZE  64
#define TABLE LOW

enum field_set {
	FLIP_DESC,     /* addr, len, flags, next or id; packed: and so what is available */
	FLIP_AVAIL,    /* heads and index; split only */
	FLIP_TABLE,    /* entries of indirect tables */
	FLIP_ALL,
	N_FIELD_SETS,
};

static struct guest guest;
static struct vring_device ring;
static struct vring_burst burst;
static bool stop;
static enum field_set field_set;

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static uint64_t race_ms(void)
{
	const char *text = getenv("RINGWAY_RACE_MS");

	return text != NULL ? strtoull(text, NULL, 0) : 400;
}

/* Descriptors of a packed ring: as the device wants them for most of the time, or not. */
static void flip_packed(uint64_t *seed, struct vring_packed_desc *desc)
{
	static const uint64_t gpas[] = {LEFT, LEFT + 512, HIGH - 8, RIGHT, HOLE, TOP, TABLE, LEFT};
	static const uint32_t lens[] = {64, 12, 0, 16, 1500, 4096, 0xffffffff, 128};
	static const uint16_t shapes[] = {0, 0, 0, 0, VRING_DESC_F_NEXT, VRING_DESC_F_WRITE,
		VRING_DESC_F_INDIRECT, VRING_DESC_F_NEXT | VRING_DESC_F_INDIRECT};
	static const uint16_t states[] = {1 << VRING_PACKED_DESC_F_AVAIL,
		1 << VRING_PACKED_DESC_F_USED, 1 << VRING_PACKED_DESC_F_AVAIL,
		1 << VRING_PACKED_DESC_F_USED, 1 << VRING_PACKED_DESC_F_AVAIL,
		1 << VRING_PACKED_DESC_F_USED, 0,
		1 << VRING_PACKED_DESC_F_AVAIL | 1 << VRING_PACKED_DESC_F_USED};
	uint64_t r = random_next(seed);

	switch (r & 7) {
	case 0:
		__atomic_store_n(&desc->addr, gpas[(r >> 8) % 8], __ATOMIC_RELAXED);
		break;
	case 1:
		__atomic_store_n(&desc->len, lens[(r >> 8) % 8], __ATOMIC_RELAXED);
		break;
	case 2:
		__atomic_store_n(&desc->id, (uint16_t)(r >> 8), __ATOMIC_RELAXED);
		break;
	default:
		__atomic_store_n(&desc->flags, states[(r >> 8) % 8] | shapes[(r >> 16) % 8],
			__ATOMIC_RELEASE);
	}
}

static void flip_desc(uint64_t *seed, struct vring_desc *desc, bool in_table)
{
	static const uint64_t gpas[] = {LEFT, LEFT + 512, HIGH - 8, RIGHT - 8, RIGHT, HOLE, HOLE - 32,
		TOP, UINT64_MAX - 16, LEFT};
	static const uint32_t lens[] = {64, 12, 0, 16, 1500, 4096, 0xffffffff, 64, 32};
	static const uint16_t flags[] = {0, VRING_DESC_F_NEXT, VRING_DESC_F_WRITE,
		VRING_DESC_F_INDIRECT, VRING_DESC_F_NEXT | VRING_DESC_F_WRITE, 0, 0xffff};
	uint64_t r = random_next(seed);

	switch (r & 3) {
	case 0:
		__atomic_store_n(&desc->addr,
			(r >> 60) == 0 && !in_table ? TABLE : gpas[(r >> 8) % 10], __ATOMIC_RELAXED);
		break;
	case 1:
		__atomic_store_n(&desc->len, lens[(r >> 8) % 9], __ATOMIC_RELAXED);
		break;
	case 2:
		__atomic_store_n(&desc->flags, flags[(r >> 8) % 7], __ATOMIC_RELAXED);
		break;
	default:
		__atomic_store_n(&desc->next,
			(uint16_t)((r >> 8) & 1 ? (r >> 16) % 8 : r >> 16), __ATOMIC_RELAXED);
	}
}

/* A table of two, in one lap or the other. */
static void offer_table(uint64_t slot, bool wrap)
{
	struct vring_packed_desc *desc = &guest.slots[slot];

	__atomic_store_n(&desc->addr, TABLE, __ATOMIC_RELAXED);
	__atomic_store_n(&desc->len, 32, __ATOMIC_RELAXED);
	__atomic_store_n(&desc->flags,
		VRING_DESC_F_INDIRECT | guest_avail_flags(wrap ? VRING_PACKED_START : 0),
		__ATOMIC_RELEASE);
}

static void *flipper(void *argument)
{
	uint64_t seed = *(uint64_t *)argument;
	struct vring_desc *table = (struct vring_desc *)guest.mem->regions[0].hva;
	uint16_t idx = 0, next;

	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		uint64_t r = random_next(&seed);

		if (guest.packed) {
			if (field_set == FLIP_TABLE || field_set == FLIP_ALL)
				flip_packed(&seed, (struct vring_packed_desc *)&table[r % 2]);
			if (field_set == FLIP_TABLE)
				offer_table(r % SIZE, r >> 8 & 1);
			else
				flip_packed(&seed, &guest.slots[r % SIZE]);
			__atomic_store_n((uint32_t *)(void *)guest.driver_event, (uint32_t)(r >> 16),
				__ATOMIC_RELAXED);
			continue;
		}
		if (field_set == FLIP_TABLE || field_set == FLIP_ALL)
			flip_desc(&seed, &table[r % 8], true);
		if (field_set == FLIP_DESC || field_set == FLIP_ALL)
			flip_desc(&seed, &guest.desc[r % SIZE], false);
		if (field_set == FLIP_AVAIL || field_set == FLIP_ALL) {
			/* Seldom enough that the ring is served between two deaths. */
			uint16_t head = (r >> 20) % 4096 == 0 ? 0xffff : (uint16_t)((r >> 32) % SIZE);

			__atomic_store_n(&guest.avail->ring[(r >> 8) % SIZE], head,
				__ATOMIC_RELAXED);
			__atomic_store_n(vring_used_event_of(guest.avail, SIZE), (uint16_t)r,
				__ATOMIC_RELAXED);
		}
		/* Follow the device by the used index and never go back, as a driver does; or jump. */
		next = (uint16_t)(__atomic_load_n(&guest.used->idx, __ATOMIC_ACQUIRE) +
			1 + (r >> 40) % SIZE);
		if ((int16_t)(next - idx) > 0 ||
			(field_set == FLIP_AVAIL && (r >> 50) % 4096 == 0))
			idx = next;
		if (field_set == FLIP_AVAIL && (r >> 50) % 4096 == 1)
			idx = (uint16_t)(r >> 8);
		__atomic_store_n(&guest.avail->idx, idx, __ATOMIC_RELEASE);
	}
	return NULL;
}

static void restart(void)
{
	struct vring_config config = guest_config(&guest);

	config.event_idx = true;
	config.in_order = true;
	if (!guest.packed)
		config.avail_idx = guest.used->idx;
	assert_int_equal(vring_device_init(&ring, &config), 0);
}

static uint64_t touch(const struct vring_buffer *buffer)
{
	uint64_t sum = 0;
	uint64_t total = 0;

	if (buffer->fault != VRING_OK) {
		assert_int_equal(buffer->len, 0);
		assert_int_equal(buffer->n_pieces, 0);
		return 0;
	}
	for (unsigned int i = 0; i < buffer->n_pieces; i++) {
		const struct vring_piece *piece = &buffer->pieces[i];

		total += piece->len;
		for (uint32_t b = 0; b < piece->len; b++)
			sum += __atomic_load_n(&piece->hva[b], __ATOMIC_RELAXED);
	}
	assert_int_equal(total, buffer->len);
	assert_true(total > 0);
	return sum;
}

static unsigned int slots_of_burst(void)
{
	unsigned int n = 0;

	for (unsigned int i = 0; i < burst.n; i++)
		n += burst.buffers[i].n_descs;
	return n;
}

static void put_table_at_hand(void)
{
	for (unsigned int i = 0; i < SIZE; i++)
		guest_put(&guest, i, field_set == FLIP_TABLE ? TABLE : LEFT, 128,
			field_set == FLIP_TABLE ? VRING_DESC_F_INDIRECT : 0, 0);
	for (unsigned int i = 0; i < 8; i++)
		guest_put_in_table(&guest, TABLE, i, LEFT, 64, i < 7 ? VRING_DESC_F_NEXT : 0,
			(uint16_t)(i + 1));
}

static void survives_words_that_change_while_they_are_read(void **state)
{
	uint64_t ms = race_ms();
	uint64_t seed = seed_get();

	for (field_set = 0; field_set < N_FIELD_SETS; field_set++) {
		uint64_t n_good = 0, n_refused = 0, n_broken = 0, until = now_ms() + ms;
		struct vring_grant grants[32];
		pthread_t thread;
		uint64_t sum = 0;

		if (guest_is_packed && field_set == FLIP_AVAIL)
			continue;
		guest_create(&guest, SIZE, 0);
		put_table_at_hand();
		restart();
		__atomic_store_n(&stop, false, __ATOMIC_RELAXED);
		assert_int_equal(pthread_create(&thread, NULL, flipper, &seed), 0);
		/* A busy machine gives little in that time: then it takes longer, up to a limit. */
		for (unsigned int round = 0; now_ms() < until ||
			(n_good + n_refused < 5000 && now_ms() < until + 3000); round++) {
			int n;

			if (round % 4 == 3) {
				uint32_t lengths[32];

				for (unsigned int i = 0; i < 32; i++)
					lengths[i] = 64;
				n = vring_device_reserve(&ring, &burst, lengths, 32, grants);
			} else {
				n = vring_device_peek(&ring, &burst, VRING_READABLE, 32);
			}
			if (n < 0) {
				assert_int_equal(n, -EPROTO);
				restart();
				n_broken++;
				continue;
			}
			/* However it is flipped, a slot belongs to one buffer of a burst. */
			if (guest.packed)
				assert_in_range(slots_of_burst(), 0, SIZE);
			for (unsigned int i = 0; i < burst.n; i++) {
				sum += touch(&burst.buffers[i]);
				n_good += burst.buffers[i].fault == VRING_OK;
				n_refused += burst.buffers[i].fault != VRING_OK;
			}
			finish(&ring, &burst, burst.n);
			vring_device_needs_call(&ring);
			vring_device_set_kick(&ring, round & 1);
		}
		__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
		pthread_join(thread, NULL);
		printf("field set %d: %llu good, %llu refused, %llu times broken, sum %llu\n",
			(int)field_set, (unsigned long long)n_good, (unsigned long long)n_refused,
			(unsigned long long)n_broken, (unsigned long long)sum);
		/* Without both outcomes nothing was raced. */
		assert_true(n_good > 0);
		assert_true(n_refused > 0 || field_set == FLIP_AVAIL);
		guest_destroy(&guest);
	}
}

/* ---- Runs ---- */

#define RUN_MIN_LEN 16
#define RUN_MAX_LEN 2048

static enum vring_direction run_direction;

/* Slots that are bad at a time: few enough for whole runs, and each for long enough to be seen by the other CPU. */
#define N_BAD 4

/* A plain buffer. Some lie in another region, so that a mix is translated each for itself. */
static uint64_t plain_gpa(unsigned int slot)
{
	return slot % 16 == 15 ? LOW + slot * 512 : LEFT + slot * 512;
}

/* All words of a slot as they should be, but whether it is available in a packed ring. */
static void make_plain(unsigned int slot)
{
	const uint16_t wanted = run_direction == VRING_WRITABLE ? VRING_DESC_F_WRITE : 0;

	if (guest.packed) {
		struct vring_packed_desc *desc = &guest.slots[slot];

		__atomic_store_n(&desc->addr, plain_gpa(slot), __ATOMIC_RELAXED);
		__atomic_store_n(&desc->len, 512, __ATOMIC_RELAXED);
		__atomic_store_n(&desc->flags,
			(__atomic_load_n(&desc->flags, __ATOMIC_RELAXED) & ~7) | wanted, __ATOMIC_RELEASE);
		return;
	}
	__atomic_store_n(&guest.desc[slot].addr, plain_gpa(slot), __ATOMIC_RELAXED);
	__atomic_store_n(&guest.desc[slot].len, 512, __ATOMIC_RELAXED);
	__atomic_store_n(&guest.desc[slot].flags, wanted, __ATOMIC_RELAXED);
	__atomic_store_n(&guest.avail->ring[slot], (uint16_t)slot, __ATOMIC_RELAXED);
}

static void make_bad(unsigned int slot, uint64_t r)
{
	static const uint64_t gpas[] = {HOLE, LOW - 1, TOP + TOP_BYTES - 100, RIGHT + RIGHT_BYTES - 511,
		HIGH + HIGH_BYTES - 1, 0, UINT64_MAX, HIGH};
	static const uint32_t lens[] = {0, RUN_MIN_LEN - 1, RUN_MAX_LEN + 1, UINT32_MAX, 1U << 31, 65536,
		RUN_MIN_LEN, RUN_MAX_LEN};
	static const uint16_t heads[] = {SIZE, UINT16_MAX, 0x8000, SIZE + 1};
	const unsigned int which = r >> 16 & 7;
	uint16_t *flags = guest.packed ? &guest.slots[slot].flags : &guest.desc[slot].flags;

	switch (r >> 8 & 3) {
	case 0:
		__atomic_store_n(guest.packed ? &guest.slots[slot].addr : &guest.desc[slot].addr, gpas[which],
			__ATOMIC_RELAXED);
		break;
	case 1:
		__atomic_store_n(guest.packed ? &guest.slots[slot].len : &guest.desc[slot].len, lens[which],
			__ATOMIC_RELAXED);
		break;
	case 2:
		__atomic_store_n(
			flags, __atomic_load_n(flags, __ATOMIC_RELAXED) ^ 1 << which % 3, __ATOMIC_RELAXED);
		break;
	default:
		if (guest.packed)
			__atomic_store_n(&guest.slots[slot].id, (uint16_t)(r >> 32), __ATOMIC_RELAXED);
		else if (which == 7)
			__atomic_store_n(&guest.avail->idx, (uint16_t)(r >> 32), __ATOMIC_RELAXED);
		else
			__atomic_store_n(&guest.avail->ring[slot], heads[which % 4], __ATOMIC_RELAXED);
	}
}

static void *run_flipper(void *argument)
{
	unsigned int bad[N_BAD] = {0};
	uint64_t seed = *(uint64_t *)argument;

	for (unsigned int i = 0; !__atomic_load_n(&stop, __ATOMIC_RELAXED); i = (i + 1) % N_BAD) {
		uint64_t r = random_next(&seed);

		make_plain(bad[i]);
		bad[i] = r % SIZE;
		make_bad(bad[i], r);
	}
	return NULL;
}

/* Makes n slots of a packed ring available, from a place on; or all of a split one. */
static void offer(uint16_t place, unsigned int n)
{
	if (!guest.packed)
		__atomic_store_n(
			&guest.avail->idx, (uint16_t)(ring.last_avail_idx + SIZE), __ATOMIC_RELEASE);
	for (; guest.packed && n > 0; n--, place = vring_packed_advance(place, 1, SIZE)) {
		__atomic_store_n(&guest.slots[vring_packed_slot(place)].flags, guest_avail_flags(place),
			__ATOMIC_RELAXED);
		make_plain(vring_packed_slot(place));
	}
}

/* Whether the bytes are in one piece of what the guest has. */
static bool is_inside(uint64_t hva, uint32_t len)
{
	for (unsigned int i = 0; i < 4; i++) {
		uint64_t offset = hva - (uintptr_t)guest.blocks[i].data;

		if (len <= guest.blocks[i].bytes && offset <= guest.blocks[i].bytes - len)
			return true;
	}
	return false;
}

static void check_run(const struct vring_run *run, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++) {
		uint8_t *bytes = (uint8_t *)(uintptr_t)run->hva[i]; /* NOLINT(performance-no-int-to-ptr) */
		uint64_t contiguous;

		assert_in_range(run->len[i], RUN_MIN_LEN, RUN_MAX_LEN);
		assert_true(is_inside(run->hva[i], run->len[i]));
		/* What was translated is what is told. */
		if (guest.packed)
			assert_ptr_equal(
				gmem_translate(guest.mem, run->addr[i], run->len[i], &contiguous), bytes);
		else
			assert_in_range(run->id[i], 0, SIZE - 1);
		if (run_direction == VRING_WRITABLE)
			bytes[0] = bytes[run->len[i] - 1] = (uint8_t)i;
	}
}

/* One instruction set, one direction. */
static void race_runs(enum vring_isa isa, bool slots, uint64_t ms, uint64_t *seed)
{
	const uint32_t lengths[VRING_RUN_MAX] = {0};
	uint64_t n_good = 0, n_cut = 0, until = now_ms() + ms;
	struct vring_run run;
	pthread_t thread;

	guest_create(&guest, SIZE, 0);
	/* Less the region at the end of all addresses, so that the others are in slots apart. */
	if (slots) {
		guest.mem->n_regions--;
		gmem_index(guest.mem);
	}
	vring_isa_limit(isa);
	restart();
	vring_isa_limit(VRING_N_ISAS - 1);
	for (unsigned int i = 0; i < SIZE; i++)
		make_plain(i);
	offer(ring.last_avail_idx, SIZE);
	__atomic_store_n(&stop, false, __ATOMIC_RELAXED);
	assert_int_equal(pthread_create(&thread, NULL, run_flipper, seed), 0);
	while (now_ms() < until || ((n_good < 1000 || n_cut == 0) && now_ms() < until + 3000)) {
		for (unsigned int round = 0; round < 100; round++) {
			uint16_t place = ring.last_avail_idx;
			int n = vring_run_peek(&ring, &run, run_direction, RUN_MIN_LEN, RUN_MAX_LEN, 32);

			assert_in_range(n + 1, 0, 33);
			assert_int_equal(ring.breakage, VRING_INTACT);
			n_cut += n != 32;
			if (n <= 0) {
				/* Flags that were flipped while they were returned may be of another lap. */
				offer(place, 32);
				continue;
			}
			n_good += (unsigned int)n;
			check_run(&run, (unsigned int)n);
			if (run_direction == VRING_WRITABLE)
				vring_run_return_written(&ring, &run, lengths, (unsigned int)n);
			else
				vring_run_return_read(&ring, &run, (unsigned int)n);
			vring_device_publish(&ring);
			offer(vring_packed_advance(place, SIZE, SIZE), (unsigned int)n);
		}
	}
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	printf("%s, %s, %s: %llu good, %llu runs cut short\n", vring_isa_name(isa),
		run_direction == VRING_WRITABLE ? "writable" : "readable", slots ? "slots" : "searched",
		(unsigned long long)n_good, (unsigned long long)n_cut);
	/* Without both outcomes nothing was raced. */
	assert_true(n_good > 0);
	assert_true(n_cut > 0);
	guest_destroy(&guest);
}

/* Q30, P10, D30. */
static void a_run_holds_what_was_checked_while_words_change(void **state)
{
	uint64_t seed = seed_get();

	for (enum vring_isa isa = 0; isa <= vring_isa_best(); isa++) {
		for (unsigned int i = 0; i < 4; i++) {
			run_direction = i & 1 ? VRING_WRITABLE : VRING_READABLE;
			race_runs(isa, i & 2, race_ms() / 10, &seed);
		}
	}
}

/* ---- Bytes ---- */

#define N_HANDED 20000

struct handover {
	struct vring_driver *driver;
	enum vring_direction direction;
};

static uint32_t *word_of(uint32_t token)
{
	return (uint32_t *)(void *)(guest.mem->regions[2].hva + token * 64);
}

/* Posts N_HANDED buffers with a number in each, or takes that many with the device's number in it. */
static void *driver_thread(void *argument)
{
	const struct handover *handover = argument;
	bool writable = handover->direction == VRING_WRITABLE;
	struct vring_completion done[SIZE];
	uint32_t n_posted = 0, n_done = 0;

	while (n_done < N_HANDED) {
		int n;

		while (n_posted < N_HANDED && n_posted - n_done < SIZE) {
			const struct vring_extent extent = {LEFT + n_posted % SIZE * 64, 64};

			if (!writable)
				*word_of(n_posted % SIZE) = n_posted;
			assert_int_equal(vring_driver_post(handover->driver, &extent, !writable,
						 writable, n_posted % SIZE),
				0);
			n_posted++;
		}
		vring_driver_publish(handover->driver);
		n = vring_driver_collect(handover->driver, done, SIZE);
		assert_true(n >= 0);
		for (int i = 0; i < n; i++, n_done++) {
			assert_int_equal(done[i].token, n_done % SIZE);
			if (writable)
				assert_int_equal(*word_of(done[i].token), n_done);
		}
		if (n == 0)
			sched_yield();
	}
	return NULL;
}

/* D25, D51: bytes are written and read plainly; the ring alone orders them. */
static void hands_bytes_over_with_the_buffer(void **state)
{
	struct vring_driver_config driver_config = {.size = SIZE};
	struct handover handover;
	struct vring_config config;
	pthread_t thread;

	for (unsigned int writable = 0; writable < 2; writable++) {
		uint32_t n_done = 0;

		guest_create(&guest, SIZE, 0);
		driver_config.packed = guest.packed;
		driver_config.desc = guest.parts[0].data;
		driver_config.avail = guest.parts[1].data;
		driver_config.used = guest.parts[2].data;
		handover.driver = vring_driver_create(&driver_config);
		handover.direction = writable ? VRING_WRITABLE : VRING_READABLE;
		assert_non_null(handover.driver);
		config = guest_config(&guest);
		assert_int_equal(vring_device_init(&ring, &config), 0);
		assert_int_equal(pthread_create(&thread, NULL, driver_thread, &handover), 0);
		while (n_done < N_HANDED) {
			int n = vring_device_peek(&ring, &burst, handover.direction, 32);

			assert_true(n >= 0);
			for (int i = 0; i < n; i++, n_done++) {
				uint32_t *word = (uint32_t *)(void *)burst.buffers[i].pieces[0].hva;

				if (writable)
					*word = n_done;
				else
					assert_int_equal(*word, n_done);
				burst.buffers[i].used_len = writable ? 64 : 0;
			}
			finish(&ring, &burst, (unsigned int)n);
			if (n == 0)
				sched_yield();
		}
		pthread_join(thread, NULL);
		vring_driver_destroy(handover.driver);
		guest_destroy(&guest);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH_LAYOUTS(survives_words_that_change_while_they_are_read),
		BOTH_LAYOUTS(a_run_holds_what_was_checked_while_words_change),
		BOTH_LAYOUTS(hands_bytes_over_with_the_buffer),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
