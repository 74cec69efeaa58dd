/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <gmem/gmem.h>

#include "mapping.h"

static struct gmem *table_alloc(unsigned int n_max)
{
	return calloc(1, sizeof(struct gmem) + n_max * sizeof(struct gmem_region));
}

static bool overlap(uint64_t a, uint64_t a_size, uint64_t b, uint64_t b_size)
{
	/* Either one starts inside the other; differences taken so that they cannot wrap. */
	return a >= b ? a - b < b_size : b - a < a_size;
}

/* Puts the region at its place. The table has room. */
static void insert(struct gmem *mem, const struct gmem_region *region)
{
	unsigned int at = mem->n_regions++;

	while (at > 0 && mem->regions[at - 1].gpa > region->gpa) {
		mem->regions[at] = mem->regions[at - 1];
		at--;
	}
	mem->regions[at] = *region;
}

static int check_spec(const struct gmem *mem, const struct gmem_region_spec *spec, char *error,
	size_t error_size)
{
	uint64_t total = spec->size;

	if (spec->size == 0) {
		snprintf(error, error_size, "size is 0; a region has at least 1 byte");
		return -EINVAL;
	}
	/* A region may end with the last byte there is. */
	if (spec->size - 1 > UINT64_MAX - spec->gpa || spec->size - 1 > UINT64_MAX - spec->uva) {
		snprintf(error, error_size,
			"guest physical or user address 0x%" PRIx64 " + size passes 2^64",
			spec->size - 1 > UINT64_MAX - spec->gpa ? spec->gpa : spec->uva);
		return -EINVAL;
	}
	for (unsigned int i = 0; i < mem->n_regions; i++) {
		const struct gmem_region *other = &mem->regions[i];

		if (overlap(spec->gpa, spec->size, other->gpa, other->size) ||
			overlap(spec->uva, spec->size, other->uva, other->size)) {
			snprintf(error, error_size,
				"overlaps the region at gpa 0x%" PRIx64 ", uva 0x%" PRIx64
				", size 0x%" PRIx64,
				other->gpa, other->uva, other->size);
			return -EEXIST;
		}
		total += other->size; /* each is at most GMEM_MAX_BYTES: no wrap */
	}
	if (spec->size > GMEM_MAX_BYTES || total > GMEM_MAX_BYTES) {
		snprintf(error, error_size,
			"all regions together would pass 0x%" PRIx64 " bytes, the most one guest may "
			"have",
			(uint64_t)GMEM_MAX_BYTES);
		return -E2BIG;
	}
	return 0;
}

/* Checks, maps and inserts one region. The table has room for it and is unchanged on error. */
static int add(struct gmem *mem, const struct gmem_region_spec *spec, char *error,
	size_t error_size)
{
	struct gmem_region region = {.gpa = spec->gpa, .size = spec->size, .uva = spec->uva};
	char reason[192];
	int ret;

	ret = check_spec(mem, spec, reason, sizeof(reason));
	if (ret == 0)
		ret = gmem_mapping_open(
			spec, &region.mapping, &region.hva, reason, sizeof(reason));
	if (ret < 0) {
		snprintf(error, error_size,
			"memory region gpa 0x%" PRIx64 ", uva 0x%" PRIx64 ", size 0x%" PRIx64
			": %s",
			spec->gpa, spec->uva, spec->size, reason);
		return ret;
	}
	insert(mem, &region);
	return 0;
}

static int refuse_count(unsigned int n, char *error, size_t error_size)
{
	snprintf(error, error_size, "%u memory regions; at most %u are possible", n,
		GMEM_MAX_REGIONS);
	return -E2BIG;
}

void gmem_index(struct gmem *mem)
{
	const struct gmem_region *last;
	uint64_t span;
	unsigned int r = 0;

	mem->n_slots = 0;
	if (mem->n_regions == 0)
		return;
	last = &mem->regions[mem->n_regions - 1];
	mem->slot_base = mem->regions[0].gpa;
	span = last->gpa + (last->size - 1) - mem->slot_base; /* the last byte's distance */
	for (mem->slot_shift = 0; span >> mem->slot_shift >= GMEM_SLOTS_MAX; mem->slot_shift++)
		;
	mem->n_slots = (uint32_t)(span >> mem->slot_shift) + 1;
	for (uint32_t i = 0; i < mem->n_slots; i++) {
		uint64_t start = mem->slot_base + ((uint64_t)i << mem->slot_shift);

		while (start > mem->regions[r].gpa + (mem->regions[r].size - 1))
			r++;
		mem->slots[i] = r;
	}
}

int gmem_create(const struct gmem_region_spec *specs, unsigned int n, struct gmem **mem,
	char *error, size_t error_size)
{
	struct gmem *table;

	if (n > GMEM_MAX_REGIONS)
		return refuse_count(n, error, error_size);
	table = table_alloc(n);
	if (table == NULL) {
		snprintf(error, error_size, "out of memory");
		return -ENOMEM;
	}
	for (unsigned int i = 0; i < n; i++) {
		int ret = add(table, &specs[i], error, error_size);

		if (ret < 0) {
			gmem_free(table);
			return ret;
		}
	}
	gmem_index(table);
	*mem = table;
	return 0;
}

/* A copy of `old` with room for n_more regions, holding its mappings as well. */
static struct gmem *copy(const struct gmem *old, unsigned int n_more)
{
	unsigned int n = old != NULL ? old->n_regions : 0;
	struct gmem *table = table_alloc(n + n_more);

	if (table == NULL)
		return NULL;
	for (unsigned int i = 0; i < n; i++) {
		table->regions[i] = old->regions[i];
		gmem_mapping_get(table->regions[i].mapping);
	}
	table->n_regions = n;
	return table;
}

int gmem_create_with(const struct gmem *old, const struct gmem_region_spec *spec,
	struct gmem **mem, char *error, size_t error_size)
{
	struct gmem *table;
	int ret;

	if (old != NULL && old->n_regions >= GMEM_MAX_REGIONS)
		return refuse_count(old->n_regions + 1, error, error_size);
	table = copy(old, 1);
	if (table == NULL) {
		snprintf(error, error_size, "out of memory");
		return -ENOMEM;
	}
	ret = add(table, spec, error, error_size);
	if (ret < 0) {
		gmem_free(table);
		return ret;
	}
	gmem_index(table);
	*mem = table;
	return 0;
}

int gmem_create_without(const struct gmem *old, uint64_t gpa, uint64_t uva, uint64_t size,
	struct gmem **mem, char *error, size_t error_size)
{
	unsigned int n = old != NULL ? old->n_regions : 0;
	struct gmem *table;
	unsigned int at;

	for (at = 0; at < n; at++) {
		const struct gmem_region *region = &old->regions[at];

		if (region->gpa == gpa && region->uva == uva && region->size == size)
			break;
	}
	if (at == n) {
		snprintf(error, error_size,
			"no memory region with gpa 0x%" PRIx64 ", uva 0x%" PRIx64 ", size 0x%" PRIx64,
			gpa, uva, size);
		return -ENOENT;
	}
	table = copy(old, 0);
	if (table == NULL) {
		snprintf(error, error_size, "out of memory");
		return -ENOMEM;
	}
	gmem_mapping_put(table->regions[at].mapping); /* `old` still holds it */
	table->n_regions--;
	memmove(&table->regions[at], &table->regions[at + 1],
		(table->n_regions - at) * sizeof(table->regions[0]));
	gmem_index(table);
	*mem = table;
	return 0;
}

void gmem_free(struct gmem *mem)
{
	if (mem == NULL)
		return;
	for (unsigned int i = 0; i < mem->n_regions; i++)
		gmem_mapping_put(mem->regions[i].mapping);
	free(mem);
}

int gmem_create_identity(void *address, uint64_t size, struct gmem **mem)
{
	struct gmem *table = table_alloc(1);

	if (table == NULL)
		return -ENOMEM;
	table->n_regions = 1;
	table->regions[0] = (struct gmem_region){
		.gpa = (uintptr_t)address,
		.size = size,
		.uva = (uintptr_t)address,
		.hva = address,
	};
	gmem_index(table);
	*mem = table;
	return 0;
}

bool gmem_is_broken(const struct gmem *mem)
{
	for (unsigned int i = 0; i < mem->n_regions; i++) {
		const struct gmem_mapping *mapping = mem->regions[i].mapping;

		if (mapping != NULL && __atomic_load_n(&mapping->broken, __ATOMIC_ACQUIRE))
			return true;
	}
	return false;
}

/* The region that holds gpa, or NULL. */
static const struct gmem_region *find(const struct gmem *mem, uint64_t gpa)
{
	const struct gmem_region *region;
	unsigned int low = 0, first;
	unsigned int high = mem->n_regions;

	if (mem->n_slots != 0) {
		uint64_t slot = (gpa - mem->slot_base) >> mem->slot_shift;

		if (slot >= mem->n_slots)
			return NULL;
		/* It is not before the first that ends in or behind this slot, nor behind the next one's. */
		low = mem->slots[slot];
		if (slot + 1 < mem->n_slots)
			high = mem->slots[slot + 1] + 1;
	}
	first = low;
	/* The last region that starts at or before gpa. */
	while (low < high) {
		unsigned int middle = (low + high) / 2;

		if (mem->regions[middle].gpa <= gpa)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == first)
		return NULL;
	region = &mem->regions[low - 1];
	return gpa - region->gpa < region->size ? region : NULL;
}

static void *translate(const struct gmem *mem, const struct gmem_region *region, uint64_t gpa,
	uint64_t len, uint64_t *contiguous)
{
	const struct gmem_region *end = &mem->regions[mem->n_regions];
	uint64_t offset = gpa - region->gpa;
	uint64_t left = region->size - offset;
	uint8_t *hva = region->hva + offset;

	for (; left < len && region + 1 < end; region++) {
		const struct gmem_region *next = region + 1;

		if (next->gpa - region->gpa != region->size ||
			next->hva != region->hva + region->size)
			break;
		left += next->size;
	}
	*contiguous = left < len ? left : len;
	return hva;
}

void *gmem_translate(const struct gmem *mem, uint64_t gpa, uint64_t len, uint64_t *contiguous)
{
	const struct gmem_region *region = find(mem, gpa);

	if (region == NULL)
		return NULL;
	return translate(mem, region, gpa, len, contiguous);
}

void *gmem_translate_slow(const struct gmem *mem, struct gmem_cache *cache, uint64_t gpa,
	uint64_t len, uint64_t *contiguous)
{
	const struct gmem_region *region = find(mem, gpa);

	if (region == NULL)
		return NULL;
	cache->gpa = region->gpa;
	cache->size = region->size;
	cache->hva = region->hva;
	return translate(mem, region, gpa, len, contiguous);
}

void *gmem_translate_uva(const struct gmem *mem, uint64_t uva, uint64_t len)
{
	for (unsigned int i = 0; i < mem->n_regions; i++) {
		const struct gmem_region *region = &mem->regions[i];

		if (len <= region->size && uva - region->uva <= region->size - len)
			return region->hva + (uva - region->uva);
	}
	return NULL;
}

uint64_t gmem_untranslate_slow(const struct gmem *mem, struct gmem_cache *cache, const void *hva)
{
	for (unsigned int i = 0; i < mem->n_regions; i++) {
		const struct gmem_region *region = &mem->regions[i];
		uint64_t offset = (uintptr_t)hva - (uintptr_t)region->hva;

		if (offset < region->size) {
			*cache = (struct gmem_cache){ region->gpa, region->size, region->hva };
			return region->gpa + offset;
		}
	}
	return 0;
}
