/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Guest memory: the regions a front end shares, mapped once and looked up with a length.
 *
 *     guest physical (gpa)      0x0 ....... 0x7fffffff   0x100000000 ....... 0x17fffffff
 *     front end virtual (uva)   0x7f10...                0x7f18...          (names ring addresses in messages)
 *     ours (hva)                where mmap put the file  ditto
 *
 * A struct gmem is a table that never changes once built: sorted by gpa, no overlap in gpa or uva. Adding or removing a
 * region makes a new table that shares the mappings of the old one; a mapping goes away with the last table that names
 * it. So a worker can go on with the old table until it has passed a quiescent point, and only then the owner frees it.
 *
 * Thread rule: tables are built and freed by the control thread; gmem_translate() and friends may be called by any
 * thread that is sure (RCU) that the table still exists.
 *
 * The peer owns the backing file and may shrink it at any time. Access past the end raises SIGBUS; gmem/guard.h turns
 * that into a zero page and a broken flag.
 */
#ifndef GMEM_GMEM_H
#define GMEM_GMEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Memory slots offered by GET_MAX_MEM_SLOTS; what Linux vhost and QEMU use. Never to shrink: guests would not reconnect. */
#define GMEM_MAX_REGIONS 509

/*
 * Most memory of one guest: 16 TiB. A file may be sparse and cost its owner nothing, but every byte mapped is address
 * space of ours, of which there are 128 TiB for all guests.
 */
#define GMEM_MAX_BYTES (1ULL << 44)

struct gmem_mapping;

struct gmem_region {
	uint64_t gpa;  /* first guest physical address */
	uint64_t size; /* bytes, > 0; the last byte's gpa and uva do not wrap */
	uint64_t uva;  /* front end's virtual address of gpa */
	uint8_t *hva;  /* our address of gpa */
	struct gmem_mapping *mapping;
};

#define GMEM_SLOTS_MAX 4096

/*
 * The span of all regions is divided into even slots, so that finding the region of an address takes the same few
 * instructions for one region as for hundreds. A table without slots (n_slots 0) is searched.
 */
struct gmem {
	unsigned int n_regions;
	unsigned int slot_shift;
	uint64_t slot_base;
	uint32_t n_slots;
	uint32_t slots[GMEM_SLOTS_MAX]; /* [(gpa - slot_base) >> slot_shift]: first region that ends in or behind it */
	struct gmem_region regions[];   /* ascending gpa */
};

/* A region as a message describes it (vhost-user, "Memory region description"). */
struct gmem_region_spec {
	uint64_t gpa;
	uint64_t size;
	uint64_t uva;
	uint64_t mmap_offset; /* bytes into the file where gpa lies */
	int fd;               /* stays the caller's; may be closed after the call */
};

/*
 * Builds a table from `n` regions (0 is legal: no memory).
 * Returns 0 and the table, or a negative errno and one line in `error` that names the region, the value and the limit:
 *   -EINVAL   size 0, address wrap, file shorter than offset + size, not a shared-memory or hugetlbfs file that is
 *             open for reading and writing and not sealed against the latter
 *   -EBADF    fd is none
 *   -EEXIST   overlap in gpa or uva
 *   -E2BIG    more than GMEM_MAX_REGIONS, or than GMEM_MAX_BYTES in all
 *   -ENOMEM
 *   other     from mmap
 * Nothing is mapped on error.
 */
int gmem_create(const struct gmem_region_spec *specs, unsigned int n, struct gmem **mem,
	char *error, size_t error_size);

/* As gmem_create(), for `old` plus one region. `old` (may be NULL) stays valid and the caller's. */
int gmem_create_with(const struct gmem *old, const struct gmem_region_spec *spec,
	struct gmem **mem, char *error, size_t error_size);

/* `old` less the region with this gpa, uva and size. -ENOENT if there is none. `old` stays valid and the caller's. */
int gmem_create_without(const struct gmem *old, uint64_t gpa, uint64_t uva, uint64_t size,
	struct gmem **mem, char *error, size_t error_size);

/* Drops the table and every mapping nobody else names. NULL is allowed. */
void gmem_free(struct gmem *mem);

/* A table over memory of our own process with gpa == uva == hva == address: driver side, tests. -ENOMEM. */
int gmem_create_identity(void *address, uint64_t size, struct gmem **mem);

/*
 * Fills the slots from the regions. For tables that are put together by hand (tests); the functions above have done it.
 */
void gmem_index(struct gmem *mem);

/* Whether the peer took memory away under one of the mappings (see gmem/guard.h). Such a guest must be disconnected. */
bool gmem_is_broken(const struct gmem *mem);

/*
 * Our address of `gpa`, or NULL if it is in no region. `*contiguous` is set to how many of the `len` bytes from there on
 * follow each other in our address space: at least 1, at most len. The rest is found by asking again. len > 0.
 */
void *gmem_translate(const struct gmem *mem, uint64_t gpa, uint64_t len, uint64_t *contiguous);

/* Our address of the range [uva, uva + len), or NULL unless all of it is mapped in one piece. For ring areas. */
void *gmem_translate_uva(const struct gmem *mem, uint64_t uva, uint64_t len);

/*
 * The region a ring used last, so that the common buffer costs three instructions to check and translate.
 * Belongs to one table: zero it (matches nothing) when the table changes.
 */
struct gmem_cache {
	uint64_t gpa;
	uint64_t size;
	uint8_t *hva;
};

void *gmem_translate_slow(const struct gmem *mem, struct gmem_cache *cache, uint64_t gpa,
	uint64_t len, uint64_t *contiguous);

/* gmem_translate() through a cache. len > 0 and at most 2^32. */
static inline void *gmem_translate_cached(const struct gmem *mem, struct gmem_cache *cache,
	uint64_t gpa, uint64_t len, uint64_t *contiguous)
{
	uint64_t offset = gpa - cache->gpa;

	/* Subtraction on the trusted side: size - len cannot wrap when len <= size, whatever gpa is. */
	if (__builtin_expect(len <= cache->size && offset <= cache->size - len, 1)) {
		*contiguous = len;
		return cache->hva + offset;
	}
	return gmem_translate_slow(mem, cache, gpa, len, contiguous);
}

/* The guest's address of one of ours that was found in this table, through a cache. */
uint64_t gmem_untranslate_slow(const struct gmem *mem, struct gmem_cache *cache, const void *hva);

static inline uint64_t gmem_untranslate(
	const struct gmem *mem, struct gmem_cache *cache, const void *hva)
{
	uint64_t offset = (uintptr_t)hva - (uintptr_t)cache->hva;

	if (__builtin_expect(offset < cache->size, 1))
		return cache->gpa + offset;
	return gmem_untranslate_slow(mem, cache, hva);
}

#endif
