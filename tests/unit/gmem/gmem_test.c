/* SPDX-License-Identifier: BSD-3-Clause */
/* Tables and translation (R1, R2, R5, R7-R12). Files that are refused are in mapping_test.c. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "files.h"

#define MIB (1ULL << 20)

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#define SANITIZED (__has_feature(address_sanitizer) || __has_feature(thread_sanitizer))
#else
#define SANITIZED 0
#endif

static char error[256];

static int file;

static int setup(void **state)
{
	file = memfd(16 * MIB);
	return 0;
}

static int teardown(void **state)
{
	close(file);
	return 0;
}

static int create(const struct gmem_region_spec *specs, unsigned int n, struct gmem **mem)
{
	error[0] = '\0';
	return gmem_create(specs, n, mem, error, sizeof(error));
}

static void builds_an_empty_table(void **state)
{
	uint64_t contiguous;
	struct gmem *mem;

	assert_int_equal(create(NULL, 0, &mem), 0);
	assert_int_equal(mem->n_regions, 0);
	assert_null(gmem_translate(mem, 0, 1, &contiguous));
	assert_null(gmem_translate_uva(mem, 0, 1));
	assert_false(gmem_is_broken(mem));
	gmem_free(mem);
	gmem_free(NULL);
}

static void sorts_regions_and_finds_every_byte_of_them(void **state)
{
	const uint64_t gpas[] = {0x40000000, 0, 0x100000000, 0x20000000};
	struct gmem_region_spec specs[4];
	uint64_t contiguous;
	struct gmem *mem;

	for (unsigned int i = 0; i < 4; i++)
		specs[i] = spec_of(file, gpas[i], MIB, i * MIB);
	assert_int_equal(create(specs, 4, &mem), 0);
	assert_int_equal(mem->n_regions, 4);
	for (unsigned int i = 0; i < 4; i++) {
		const uint8_t mark = (uint8_t)(i + 1);
		uint8_t *hva = gmem_translate(mem, gpas[i], 1, &contiguous);

		if (i > 0)
			assert_true(mem->regions[i - 1].gpa < mem->regions[i].gpa);
		/* The right part of the file: what is written through it can be read there. */
		assert_int_equal(pwrite(file, &mark, 1, (off_t)(i * MIB + MIB - 1)), 1);
		assert_int_equal(hva[MIB - 1], mark);
		assert_ptr_equal(gmem_translate(mem, gpas[i] + MIB - 1, 1, &contiguous), hva + MIB - 1);
		assert_ptr_equal(gmem_translate_uva(mem, gpas[i] + 0x700000000000, MIB), hva);
		/* R11 */
		assert_null(gmem_translate(mem, gpas[i] + MIB, 1, &contiguous));
		assert_null(gmem_translate(mem, gpas[i] - 1, 1, &contiguous));
		assert_ptr_equal(gmem_translate(mem, gpas[i] + MIB - 1, 2, &contiguous), hva + MIB - 1);
		assert_int_equal(contiguous, 1);
		assert_ptr_equal(gmem_translate(mem, gpas[i], UINT32_MAX, &contiguous), hva);
		assert_int_equal(contiguous, MIB);
	}
	gmem_free(mem);
}

/* R1, R2, R9 */
static void checks_the_numbers_of_a_region(void **state)
{
	const struct {
		uint64_t gpa, size, uva;
		int expected;
	} rows[] = {
		{0, 0, 0, -EINVAL},
		{0, 1, 0, 0},
		{0x1001, 4097, 0x2003, 0},
		{0, 4096, 0, 0},
		{UINT64_MAX, 1, 0, 0},
		{UINT64_MAX, 2, 0, -EINVAL},
		{UINT64_MAX - 4095, 4096, UINT64_MAX - 4095, 0},
		{UINT64_MAX - 4094, 4096, 0, -EINVAL},
		{0, 4096, UINT64_MAX - 4094, -EINVAL},
		{1, UINT64_MAX, 0, -E2BIG},
		{2, UINT64_MAX, 0, -EINVAL},
	};

	for (unsigned int i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct gmem_region_spec spec = spec_of(file, rows[i].gpa, rows[i].size, 0);
		struct gmem *mem = NULL;

		spec.uva = rows[i].uva;
		assert_int_equal(create(&spec, 1, &mem), rows[i].expected);
		if (rows[i].expected == 0) {
			uint64_t contiguous;

			assert_non_null(gmem_translate(mem, rows[i].gpa + rows[i].size - 1, 8,
				&contiguous));
			assert_int_equal(contiguous, 1);
			assert_null(gmem_translate(mem, rows[i].gpa + rows[i].size, 8, &contiguous));
			gmem_free(mem);
		} else {
			assert_null(mem);
			assert_true(strlen(error) > 20);
		}
	}
}

/* R7 */
static void refuses_overlap_in_either_address_space(void **state)
{
	const struct {
		uint64_t gpa, uva, size;
		int expected;
	} rows[] = {
		{0x100000, 0x500000, 0x1000, -EEXIST}, /* the same */
		{0x100fff, 0x900000, 0x1000, -EEXIST},
		{0x0ff001, 0x900000, 0x1000, -EEXIST},
		{0x100800, 0x900000, 0x10, -EEXIST},   /* inside */
		{0x0f0000, 0x900000, 0x20000, -EEXIST}, /* around */
		{0x900000, 0x500fff, 0x1000, -EEXIST},
		{0x900000, 0x4ff001, 0x1000, -EEXIST},
		{0x101000, 0x501000, 0x1000, 0}, /* adjacent */
		{0x0ff000, 0x4ff000, 0x1000, 0},
	};

	for (unsigned int i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct gmem_region_spec specs[2] = {
			{.gpa = 0x100000, .size = 0x1000, .uva = 0x500000, .fd = file},
			{.gpa = rows[i].gpa, .size = rows[i].size, .uva = rows[i].uva, .fd = file},
		};
		struct gmem *mem = NULL, *more = NULL;
		unsigned int before = n_mappings();

		assert_int_equal(create(specs, 2, &mem), rows[i].expected);
		gmem_free(mem);
		assert_int_equal(create(specs, 1, &mem), 0);
		assert_int_equal(gmem_create_with(mem, &specs[1], &more, error, sizeof(error)),
			rows[i].expected);
		gmem_free(more);
		gmem_free(mem);
		assert_int_equal(n_mappings(), before);
	}
}

/* R5, R12: up to the limit, many small windows far into a sparse file. */
static void takes_as_many_regions_as_are_offered_and_no_more(void **state)
{
	struct gmem_region_spec specs[GMEM_MAX_REGIONS + 1];
	int sparse = memfd(1ULL << 42);
	unsigned int before = n_mappings();
	struct gmem *mem, *more = NULL;

	for (unsigned int i = 0; i <= GMEM_MAX_REGIONS; i++)
		specs[i] = spec_of(sparse, i * 0x10000ULL, 0x1000, (1ULL << 42) - (i + 1) * (1ULL << 32));
	assert_int_equal(create(specs, GMEM_MAX_REGIONS + 1, &mem), -E2BIG);
	assert_int_equal(create(specs, GMEM_MAX_REGIONS, &mem), 0);
	for (unsigned int i = 0; i < GMEM_MAX_REGIONS; i++) {
		uint64_t contiguous;

		assert_non_null(gmem_translate(mem, i * 0x10000ULL + 0xfff, 2, &contiguous));
		assert_int_equal(contiguous, 1);
	}
	assert_int_equal(gmem_create_with(mem, &specs[GMEM_MAX_REGIONS], &more, error, sizeof(error)),
		-E2BIG);
	assert_true(n_mappings() - before <= GMEM_MAX_REGIONS);
	gmem_free(mem);
	assert_int_equal(n_mappings(), before);
	close(sparse);
}

/* R6 */
static void limits_the_address_space_of_one_guest(void **state)
{
	struct gmem_region_spec specs[3];
	int sparse = memfd(1ULL << 45);
	struct gmem *mem = NULL;

	specs[0] = spec_of(sparse, 0, GMEM_MAX_BYTES + 1, 0);
	assert_int_equal(create(specs, 1, &mem), -E2BIG);
	specs[0] = spec_of(sparse, 0, GMEM_MAX_BYTES / 2, 0);
	specs[1] = spec_of(sparse, GMEM_MAX_BYTES, GMEM_MAX_BYTES / 2, 0);
	specs[2] = spec_of(sparse, 4 * GMEM_MAX_BYTES, 1, 0);
	assert_int_equal(create(specs, 3, &mem), -E2BIG);
	assert_null(mem);
	close(sparse);
}

/* R6: mmap fails in the middle; what was mapped goes again. */
static void unwinds_when_a_mapping_fails(void **state)
{
	struct gmem_region_spec specs[3];
	struct rlimit old, limit;
	unsigned int before;
	struct gmem *mem = NULL;
	int sparse;

#if SANITIZED
	print_message("skipped: a sanitizer's shadow memory does not live under RLIMIT_AS\n");
	skip();
#endif
	sparse = memfd(1ULL << 41);
	before = n_mappings();
	specs[0] = spec_of(file, 0, MIB, 0);
	specs[1] = spec_of(file, MIB, MIB, MIB);
	specs[2] = spec_of(sparse, 1ULL << 40, 1ULL << 40, 0);
	assert_int_equal(getrlimit(RLIMIT_AS, &old), 0);
	limit = old;
	limit.rlim_cur = 1ULL << 36;
	assert_int_equal(setrlimit(RLIMIT_AS, &limit), 0);
	assert_int_equal(create(specs, 3, &mem), -ENOMEM);
	assert_int_equal(setrlimit(RLIMIT_AS, &old), 0);
	assert_null(mem);
	assert_non_null(strstr(error, "cannot map"));
	assert_int_equal(n_mappings(), before);
	close(sparse);
}

/* R8 */
static void shares_mappings_between_tables(void **state)
{
	struct gmem_region_spec first = spec_of(file, 0, MIB, 0);
	struct gmem_region_spec second = spec_of(file, MIB, MIB, MIB);
	unsigned int before = n_mappings();
	struct gmem *one, *two, *less;
	uint64_t contiguous;
	uint8_t *hva;

	assert_int_equal(gmem_create_with(NULL, &first, &one, error, sizeof(error)), 0);
	assert_int_equal(gmem_create_with(one, &second, &two, error, sizeof(error)), 0);
	hva = gmem_translate(one, 0, 1, &contiguous);
	assert_ptr_equal(gmem_translate(two, 0, 1, &contiguous), hva);
	gmem_free(one);
	hva[0] = 1; /* still there */
	assert_int_equal(gmem_create_without(two, 0, first.uva, MIB, &less, error, sizeof(error)), 0);
	assert_int_equal(less->n_regions, 1);
	assert_null(gmem_translate(less, 0, 1, &contiguous));
	assert_non_null(gmem_translate(less, MIB, 1, &contiguous));
	hva[1] = 1; /* the old table holds it */
	gmem_free(two);
	/* Nobody holds it now. */
	assert_int_equal(msync(hva, MIB, MS_ASYNC), -1);
	assert_int_equal(errno, ENOMEM);
	gmem_free(less);
	assert_int_equal(n_mappings(), before);
}

static void refuses_to_remove_what_is_not_there(void **state)
{
	struct gmem_region_spec spec = spec_of(file, 0x1000, MIB, 0);
	struct gmem *mem, *less = NULL;

	assert_int_equal(gmem_create_without(NULL, 0, 0, 0, &less, error, sizeof(error)), -ENOENT);
	assert_int_equal(create(&spec, 1, &mem), 0);
	assert_int_equal(gmem_create_without(mem, 0x2000, spec.uva, MIB, &less, error, sizeof(error)),
		-ENOENT);
	assert_int_equal(gmem_create_without(mem, 0x1000, spec.uva + 1, MIB, &less, error,
		sizeof(error)), -ENOENT);
	assert_int_equal(gmem_create_without(mem, 0x1000, spec.uva, MIB - 1, &less, error,
		sizeof(error)), -ENOENT);
	assert_null(less);
	assert_int_equal(gmem_create_without(mem, 0x1000, spec.uva, MIB, &less, error, sizeof(error)),
		0);
	assert_int_equal(less->n_regions, 0);
	gmem_free(less);
	gmem_free(mem);
}

/* R8: a hundred thousand times, nothing left over. */
static void leaks_nothing_when_regions_come_and_go(void **state)
{
	struct gmem_region_spec base = spec_of(file, 0, MIB, 0);
	struct gmem_region_spec spec = spec_of(file, MIB, MIB, MIB);
	unsigned int mappings, files;
	struct gmem *mem;

	assert_int_equal(create(&base, 1, &mem), 0);
	mappings = n_mappings();
	files = n_open_files();
	for (unsigned int i = 0; i < 100000; i++) {
		struct gmem *more, *less;

		assert_int_equal(gmem_create_with(mem, &spec, &more, error, sizeof(error)), 0);
		gmem_free(mem);
		assert_int_equal(gmem_create_without(more, spec.gpa, spec.uva, spec.size, &less,
			error, sizeof(error)), 0);
		gmem_free(more);
		mem = less;
	}
	assert_int_equal(n_mappings(), mappings);
	assert_int_equal(n_open_files(), files);
	gmem_free(mem);
}

/* R10: pieces join exactly when the next byte in one address space is the next in the other. */
static void joins_regions_adjacent_in_both_address_spaces(void **state)
{
	struct {
		struct gmem mem;
		struct gmem_region regions[4];
	} table = {.mem.n_regions = 4};
	static uint8_t bytes[400];
	uint64_t contiguous;

	table.mem.regions[0] = (struct gmem_region){.gpa = 1000, .size = 100, .hva = bytes};
	table.mem.regions[1] = (struct gmem_region){.gpa = 1100, .size = 100, .hva = bytes + 100};
	table.mem.regions[2] = (struct gmem_region){.gpa = 1200, .size = 50, .hva = bytes + 300};
	table.mem.regions[3] = (struct gmem_region){.gpa = 1251, .size = 50, .hva = bytes + 350};
	for (uint64_t gpa = 990; gpa < 1310; gpa++) {
		for (uint64_t len = 1; len < 330; len += 3) {
			struct gmem_cache cache = {0};
			const uint8_t *hva = gmem_translate(&table.mem, gpa, len, &contiguous);
			uint64_t cached;
			uint64_t end = gpa < 1200 ? 1200 : gpa < 1250 ? 1250 : 1301;

			if (gpa < 1000 || gpa == 1250 || gpa > 1300) {
				assert_null(hva);
				continue;
			}
			assert_int_equal(contiguous, len < end - gpa ? len : end - gpa);
			assert_ptr_equal(hva, gpa < 1200 ? bytes + (gpa - 1000)
				: gpa < 1250 ? bytes + 300 + (gpa - 1200) : bytes + 350 + (gpa - 1251));
			/* The cache gives the same answers, cold and warm. */
			assert_ptr_equal(gmem_translate_cached(&table.mem, &cache, gpa, len, &cached), hva);
			assert_int_equal(cached, contiguous);
			assert_ptr_equal(gmem_translate_cached(&table.mem, &cache, gpa, len, &cached), hva);
			assert_int_equal(cached, contiguous);
			assert_null(gmem_translate_cached(&table.mem, &cache, 1250, len, &cached));
			assert_null(gmem_translate_cached(
				&table.mem, &cache, UINT64_MAX, UINT32_MAX, &cached));
		}
	}
}

/* Whatever the regions: far apart, of one byte, more than slots, up to the end of all addresses. */
static void slots_find_the_region_that_a_search_finds(void **state)
{
	static struct {
		struct gmem mem;
		struct gmem_region regions[GMEM_MAX_REGIONS];
	} table;
	struct gmem *mem = &table.mem;
	uint64_t random = 88172645463325252ULL;
	unsigned int n_found = 0;

	for (unsigned int round = 0; round < 300; round++) {
		unsigned int max_shift = round % 56;
		uint64_t gpa = round % 3 == 0 ? 0 : random >> (round % 60);

		mem->n_regions = 0;
		for (unsigned int i = 0; i < 1 + round * 7 % GMEM_MAX_REGIONS; i++) {
			uint64_t gap, size;

			random ^= random << 13, random ^= random >> 7, random ^= random << 17;
			gap = i % 3 == 0 ? 0 : random >> (63 - max_shift);
			size = 1 + (random * 31 >> (63 - (max_shift < 44 ? max_shift : 44)));
			if (gap > UINT64_MAX - gpa || size - 1 > UINT64_MAX - gpa - gap)
				break;
			mem->regions[mem->n_regions++] = (struct gmem_region){
				.gpa = gpa + gap, .size = size, .hva = (uint8_t *)mem};
			if (size > UINT64_MAX - gpa - gap)
				break; /* up to the last byte */
			gpa += gap + size;
		}
		gmem_index(mem);
		for (unsigned int i = 0; i < 2000 && mem->n_regions > 0; i++) {
			const struct gmem_region *near;
			uint64_t contiguous, slow_contiguous, at;
			uint32_t n_slots = mem->n_slots;
			void *hva;

			random ^= random << 13, random ^= random >> 7, random ^= random << 17;
			near = &mem->regions[random % mem->n_regions];
			at = i % 4 == 0 ? random : i % 4 == 1 ? near->gpa - 1 : i % 4 == 2 ? near->gpa
							: near->gpa + (near->size - 1);
			hva = gmem_translate(mem, at, 1, &contiguous);
			mem->n_slots = 0;
			assert_ptr_equal(gmem_translate(mem, at, 1, &slow_contiguous), hva);
			mem->n_slots = n_slots;
			n_found += hva != NULL;
		}
	}
	assert_in_range(n_found, 100000, 600000);
}

static void translates_uva_only_in_one_piece(void **state)
{
	struct gmem_region_spec specs[2] = {spec_of(file, 0, MIB, 0), spec_of(file, MIB, MIB, MIB)};
	const uint64_t uva = specs[0].uva;
	struct gmem *mem;

	assert_int_equal(create(specs, 2, &mem), 0);
	assert_ptr_equal(gmem_translate_uva(mem, uva + 5, 10), mem->regions[0].hva + 5);
	assert_ptr_equal(gmem_translate_uva(mem, uva + MIB, MIB), mem->regions[1].hva);
	assert_null(gmem_translate_uva(mem, uva + MIB - 1, 2));
	assert_null(gmem_translate_uva(mem, uva - 1, 2));
	assert_null(gmem_translate_uva(mem, uva + 2 * MIB - 1, 2));
	assert_null(gmem_translate_uva(mem, uva, UINT64_MAX));
	assert_null(gmem_translate_uva(mem, UINT64_MAX, 2));
	gmem_free(mem);
}

static void identity_names_bytes_by_their_address(void **state)
{
	uint8_t *bytes = malloc(5000);
	uint64_t contiguous;
	struct gmem *mem;

	assert_non_null(bytes);
	assert_int_equal(gmem_create_identity(bytes, 5000, &mem), 0);
	assert_ptr_equal(gmem_translate(mem, (uintptr_t)bytes + 7, 9999, &contiguous), bytes + 7);
	assert_int_equal(contiguous, 4993);
	assert_ptr_equal(gmem_translate_uva(mem, (uintptr_t)bytes, 5000), bytes);
	assert_false(gmem_is_broken(mem));
	gmem_free(mem);
	free(bytes);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(builds_an_empty_table),
		cmocka_unit_test(sorts_regions_and_finds_every_byte_of_them),
		cmocka_unit_test(checks_the_numbers_of_a_region),
		cmocka_unit_test(refuses_overlap_in_either_address_space),
		cmocka_unit_test(takes_as_many_regions_as_are_offered_and_no_more),
		cmocka_unit_test(limits_the_address_space_of_one_guest),
		cmocka_unit_test(unwinds_when_a_mapping_fails),
		cmocka_unit_test(shares_mappings_between_tables),
		cmocka_unit_test(refuses_to_remove_what_is_not_there),
		cmocka_unit_test(leaks_nothing_when_regions_come_and_go),
		cmocka_unit_test(joins_regions_adjacent_in_both_address_spaces),
		cmocka_unit_test(slots_find_the_region_that_a_search_finds),
		cmocka_unit_test(translates_uva_only_in_one_piece),
		cmocka_unit_test(identity_names_bytes_by_their_address),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
