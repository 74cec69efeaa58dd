/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Runs, on every instruction set this CPU has, against a model that looks at one descriptor after the other: the same
 * buffers, the same end, the same used entries, whatever lies in the ring.
 */
#include <stdio.h>
#include <string.h>

#include <vring/run.h>

#include "guest.h"

#define MIN_LEN 20
#define MAX_LEN 3000

/* What a run that ends early is worth; see vring_run_peek(). */
#define WORTHWHILE 4

struct setting {
	uint16_t size;
	bool packed;
	bool in_order;
	bool slots; /* gmem.h */
	enum vring_direction direction;
};

static struct guest guest;
static struct vring_run runs[VRING_N_ISAS];
static struct setting setting;
static struct vring_device ring;

static void begin(const struct setting *with)
{
	setting = *with;
	guest_is_packed = setting.packed;
	guest_create(&guest, setting.size, 0);
	/* With slots; less the region at the end of all addresses, so that the others are in slots apart. */
	if (setting.slots) {
		guest.mem->n_regions--;
		gmem_index(guest.mem);
	}
}

/* A device that goes on at `position`. */
static void restart(enum vring_isa isa, uint16_t position)
{
	struct vring_config config = guest_config(&guest);

	config.in_order = setting.in_order;
	config.avail_idx = config.used_idx = position;
	if (!setting.packed)
		guest.used->idx = position;
	vring_isa_limit(isa);
	assert_int_equal(vring_device_init(&ring, &config), 0);
	vring_isa_limit(VRING_N_ISAS - 1);
}

static uint16_t flag_wanted(void)
{
	return setting.direction == VRING_WRITABLE ? VRING_DESC_F_WRITE : 0;
}

/* The descriptor of the buffer `at` places on, and its id. False if there is none available, or none in the table. */
static bool buffer_at(uint16_t position, unsigned int at, uint64_t *addr, uint32_t *len,
	uint16_t *flags, uint16_t *id)
{
	if (setting.packed) {
		uint16_t place = vring_packed_advance(position, at, setting.size);
		const struct vring_packed_desc *desc = &guest.slots[vring_packed_slot(place)];
		bool avail = desc->flags >> VRING_PACKED_DESC_F_AVAIL & 1;
		bool used = desc->flags >> VRING_PACKED_DESC_F_USED & 1;

		if (avail != vring_packed_wrap(place) || used == vring_packed_wrap(place))
			return false;
		*addr = desc->addr;
		*len = desc->len;
		*flags = desc->flags & 0x7f;
		*id = desc->id;
		return true;
	}
	*id = guest.avail->ring[(uint16_t)(position + at) & (setting.size - 1)];
	if (*id >= setting.size)
		return false;
	*addr = guest.desc[*id].addr;
	*len = guest.desc[*id].len;
	*flags = guest.desc[*id].flags;
	return true;
}

/* What vring_run_peek() has to answer, found the slow way; `n_there` buffers are available in a split ring. */
static int model(uint16_t position, unsigned int n_there, unsigned int max, struct vring_run *run)
{
	unsigned int first = setting.packed ? vring_packed_slot(position)
					    : position & (setting.size - 1u);
	unsigned int n = max < setting.size - first ? max : setting.size - first;
	unsigned int i;

	if (n_there == 0)
		return 0;
	if (n_there > setting.size)
		return VRING_RUN_ODD;
	if (n > n_there)
		n = n_there;
	for (i = 0; i < n; i++) {
		uint16_t flags;
		uint64_t addr, contiguous;
		void *hva;

		if (!buffer_at(position, i, &addr, &run->len[i], &flags, &run->id[i]))
			break;
		if ((flags & 7) != flag_wanted() || run->len[i] < MIN_LEN || run->len[i] > MAX_LEN)
			break;
		hva = gmem_translate(guest.mem, addr, run->len[i], &contiguous);
		if (hva == NULL || contiguous != run->len[i])
			break;
		run->hva[i] = (uintptr_t)hva;
	}
	return i == n || i >= WORTHWHILE ? (int)i : VRING_RUN_ODD;
}

static void put(unsigned int at, uint64_t addr, uint32_t len, uint16_t id, uint16_t flags)
{
	if (setting.packed)
		guest_put_slot(&guest, at, addr, len, id, flags);
	else
		guest_put(&guest, at, addr, len, flags, (uint16_t)at);
}

/* A descriptor that is plain nine times in ten, and else wrong in one of all ways. */
static void put_random(uint64_t *seed, unsigned int at, uint16_t extra_flags, uint16_t id)
{
	const struct {
		uint64_t addr;
		uint32_t len;
		uint16_t flags;
	} ways[] = {
		{LOW, 100, VRING_DESC_F_NEXT},
		{LOW, 100, VRING_DESC_F_INDIRECT},
		{LOW, 100, VRING_DESC_F_WRITE},
		{LOW, 0, 0},
		{LOW, MIN_LEN - 1, 0},
		{LOW, MAX_LEN + 1, 0},
		{LOW, UINT32_MAX, 0},
		{LOW + LOW_BYTES - 50, 100, 0},     /* two regions, not side by side for us */
		{LEFT + LEFT_BYTES - 50, 100, 0},   /* two regions that are */
		{HIGH + HIGH_BYTES - 99, 100, 0},   /* over the end */
		{HOLE, 100, 0},
		{0, 100, 0},
		{TOP + TOP_BYTES - 99, 100, 0},     /* over the end of all addresses */
		{UINT64_MAX, MAX_LEN, 0},
		{LOW - 1, 100, 0},
		{1ULL << 63, 100, 0},
	};
	const uint64_t bases[] = {LOW, LOW, LOW, LOW, LOW, LOW, LOW, LEFT, LEFT, LEFT};
	uint16_t flags = flag_wanted();
	uint64_t addr = bases[random_below(seed, 10)] + random_below(seed, 1000);
	uint32_t len = MIN_LEN + random_below(seed, MAX_LEN - MIN_LEN + 1);

	if (random_below(seed, 10) == 0) {
		unsigned int way = random_below(seed, sizeof(ways) / sizeof(ways[0]));

		addr = ways[way].addr;
		len = ways[way].len;
		flags ^= ways[way].flags;
	}
	put(at, addr, len, id, flags | extra_flags);
}

/* Fills the ring from `position` on. Returns how many buffers a split ring says it has. */
static unsigned int fill_random(uint64_t *seed, uint16_t position)
{
	unsigned int n_there = random_below(seed, 8) == 0 ? random_below(seed, setting.size + 1u)
							  : setting.size;
	bool is_row = random_below(seed, 2) == 0;

	if (setting.packed) {
		for (unsigned int i = 0; i < setting.size; i++) {
			uint16_t place = vring_packed_advance(position, i, setting.size);
			uint16_t available = guest_avail_flags(place);
			const uint16_t others[] = {available ^ 0x8080, 0x8080, 0};

			put_random(seed, vring_packed_slot(place),
				i < n_there ? available : others[random_below(seed, 3)],
				(uint16_t)random_next(seed));
		}
		return n_there;
	}
	for (unsigned int i = 0; i < setting.size; i++) {
		put_random(seed, i, 0, 0);
		guest.avail->ring[(uint16_t)(position + i) & (setting.size - 1)] =
			is_row ? (uint16_t)((position + i) & (setting.size - 1))
			       : (uint16_t)random_below(seed, setting.size + (random_below(seed, 64) == 0));
	}
	guest.avail->idx = (uint16_t)(position + n_there);
	return n_there;
}

/* What the device writes: the used ring, or the descriptors of a packed one. */
static void *written(void)
{
	return setting.packed ? (void *)guest.slots : (void *)guest.used;
}

static size_t written_bytes(void)
{
	return setting.packed ? vring_desc_bytes(setting.size) : vring_used_bytes(setting.size);
}

static void same_for_every_isa(uint64_t *seed, uint16_t position, unsigned int max)
{
	static uint8_t before[512 * 16], first[512 * 16];
	unsigned int n_there = fill_random(seed, position);
	uint32_t lengths[VRING_RUN_MAX];
	struct vring_run expected;
	size_t bytes = written_bytes();
	int n_expected;

	n_expected = model(position, n_there, max, &expected);
	if (n_expected == VRING_RUN_ODD && setting.packed && n_there == 0)
		n_expected = 0;
	for (unsigned int i = 0; i < VRING_RUN_MAX; i++)
		lengths[i] = (uint32_t)random_next(seed);
	memcpy(before, written(), bytes);
	for (enum vring_isa isa = 0; isa <= vring_isa_best(); isa++) {
		struct vring_run *run = &runs[isa];
		uint16_t flags, used_idx;
		int n;

		restart(isa, position);
		memcpy(written(), before, bytes);
		flags = setting.packed ? guest.slots[vring_packed_slot(position)].flags : 0;
		used_idx = setting.packed ? 0 : guest.used->idx;
		n = vring_run_peek(&ring, run, setting.direction, MIN_LEN, MAX_LEN, max);
		assert_int_equal(n, n_expected);
		if (n <= 0)
			continue;
		assert_memory_equal(run->hva, expected.hva, (size_t)n * sizeof(run->hva[0]));
		assert_memory_equal(run->len, expected.len, (size_t)n * sizeof(run->len[0]));
		assert_memory_equal(run->id, expected.id, (size_t)n * sizeof(run->id[0]));
		if (setting.direction == VRING_WRITABLE)
			vring_run_return_written(&ring, run, lengths, (unsigned int)n);
		else
			vring_run_return_read(&ring, run, (unsigned int)n);
		/* Nothing can be seen before (D50). */
		if (setting.packed)
			assert_int_equal(guest.slots[vring_packed_slot(position)].flags & ~7, flags & ~7);
		else
			assert_int_equal(guest.used->idx, used_idx);
		vring_device_publish(&ring);
		if (isa == 0)
			memcpy(first, written(), bytes);
		else
			assert_memory_equal(first, written(), bytes);
	}
}

static void over_settings(void (*check)(uint64_t *seed))
{
	const uint16_t sizes[] = {1, 2, 4, 8, 32, 64, 256};
	const uint16_t odd_sizes[] = {3, 5, 7, 33, 100, 255, 257};
	uint64_t seed = seed_get();

	for (unsigned int i = 0; i < 7 * 2 * 2 * 2 * 2; i++) {
		struct setting with = {
			.packed = i & 1,
			.in_order = i >> 1 & 1,
			.direction = i >> 2 & 1 ? VRING_WRITABLE : VRING_READABLE,
			.slots = i >> 3 & 1,
		};

		with.size = with.packed && i & 2 ? odd_sizes[i >> 4] : sizes[i >> 4];
		begin(&with);
		check(&seed);
		guest_destroy(&guest);
	}
}

static void check_random(uint64_t *seed)
{
	for (unsigned int i = 0; i < 2000; i++) {
		uint16_t position = setting.packed
					    ? (uint16_t)(random_below(seed, setting.size) |
						      random_below(seed, 2) << 15)
					    : (uint16_t)random_next(seed);

		same_for_every_isa(seed, position, 1 + random_below(seed, VRING_RUN_MAX));
	}
}

static void every_instruction_set_gives_the_runs_of_the_model(void **state)
{
	printf("up to %s\n", vring_isa_name(vring_isa_best()));
	over_settings(check_random);
}

/* P1: one bad descriptor in each place, the rest plain: the run ends just there. */
static void check_one_odd(uint64_t *seed)
{
	for (unsigned int at = 0; at < setting.size && at < VRING_RUN_MAX; at++) {
		for (enum vring_isa isa = 0; isa <= vring_isa_best(); isa++) {
			struct vring_run run;
			unsigned int n = setting.size < VRING_RUN_MAX ? setting.size : VRING_RUN_MAX;
			uint16_t position = setting.packed ? VRING_PACKED_START : 0;

			for (unsigned int i = 0; i < setting.size; i++) {
				uint32_t len = i == at ? 0 : 100;

				put(i, LOW + 64 * i, len, 0,
					flag_wanted() | (setting.packed ? guest_avail_flags(position) : 0));
				if (!setting.packed)
					guest.avail->ring[i] = (uint16_t)i;
			}
			if (!setting.packed)
				guest.avail->idx = setting.size;
			restart(isa, position);
			assert_int_equal(vring_run_peek(&ring, &run, setting.direction, 1, 4096, n),
				at >= WORTHWHILE ? (int)at : VRING_RUN_ODD);
		}
	}
}

static void one_odd_buffer_in_any_place_ends_the_run_there(void **state)
{
	over_settings(check_one_odd);
}

static void a_broken_ring_or_a_lying_index_is_left_to_the_general_verb(void **state)
{
	const struct setting with = {.size = 8};

	begin(&with);
	for (enum vring_isa isa = 0; isa <= vring_isa_best(); isa++) {
		struct vring_run run;

		guest.avail->idx = 9;
		restart(isa, 0);
		assert_int_equal(
			vring_run_peek(&ring, &run, VRING_READABLE, 1, 100, 8), VRING_RUN_ODD);
		assert_int_equal(ring.breakage, VRING_INTACT);
		ring.breakage = VRING_BROKEN_HEAD;
		guest.avail->idx = 1;
		assert_int_equal(
			vring_run_peek(&ring, &run, VRING_READABLE, 1, 100, 8), VRING_RUN_ODD);
	}
	guest_destroy(&guest);
}

/*
 * A base may name a place for used descriptors that is not where available ones are taken; behind the ring's last slot
 * lies a killing page.
 */
static void a_packed_ring_returns_where_its_used_place_is_and_inside(void **state)
{
	static const struct setting settings[] = {
		{.size = 40, .packed = true},
		{.size = 40, .packed = true, .direction = VRING_WRITABLE},
		{.size = 40, .packed = true, .in_order = true},
	};
	const uint32_t lengths[VRING_RUN_MAX] = {0};

	for (unsigned int i = 0; i < sizeof(settings) / sizeof(settings[0]) * 40; i++) {
		begin(&settings[i / 40]);
		for (enum vring_isa isa = 0; isa <= vring_isa_best(); isa++) {
			struct vring_run run;

			for (unsigned int at = 0; at < setting.size; at++)
				put(at, LOW + 64 * at, 64, (uint16_t)at,
					flag_wanted() | guest_avail_flags(VRING_PACKED_START));
			restart(isa, VRING_PACKED_START);
			ring.used_idx = ring.published_idx = (uint16_t)(VRING_PACKED_START | i % 40);
			assert_int_equal(vring_run_peek(&ring, &run, setting.direction, 1, 100, 32), 32);
			if (setting.direction == VRING_WRITABLE)
				vring_run_return_written(&ring, &run, lengths, 32);
			else
				vring_run_return_read(&ring, &run, 32);
			vring_device_publish(&ring);
			assert_int_equal(ring.last_avail_idx, VRING_PACKED_START | 32);
			assert_int_equal(ring.used_idx,
				vring_packed_advance(VRING_PACKED_START | i % 40, 32, setting.size));
			for (unsigned int at = 0; at < (setting.in_order ? 1 : 32); at++) {
				uint16_t place = vring_packed_advance(
					VRING_PACKED_START | i % 40, at, setting.size);
				const struct vring_packed_desc *used = &guest.slots[vring_packed_slot(place)];

				assert_int_equal(used->id, setting.in_order ? 31 : at);
				assert_int_equal(used->flags >> 15, vring_packed_wrap(place));
				assert_int_equal(used->flags >> 7 & 1, vring_packed_wrap(place));
			}
		}
		guest_destroy(&guest);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_instruction_set_gives_the_runs_of_the_model),
		cmocka_unit_test(one_odd_buffer_in_any_place_ends_the_run_there),
		cmocka_unit_test(a_broken_ring_or_a_lying_index_is_left_to_the_general_verb),
		cmocka_unit_test(a_packed_ring_returns_where_its_used_place_is_and_inside),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
