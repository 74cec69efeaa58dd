/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One mmap() of a front end's file, counted by the tables that name it.
 *
 * Theory: the SIGBUS handler must find the mapping of an address at any moment, while the control thread opens and
 * closes mappings of other guests. So these structures are never given back to malloc: they hang in one list that only
 * grows (to the most mappings that ever existed at once) and a closed one waits there for reuse. Each life of an entry
 * has its number, so that the handler can tell whether what it read belongs together. The entry it looks for cannot
 * change meanwhile, since the faulting thread holds the table that names it; one that did is another's, and passed over.
 */
#ifndef GMEM_MAPPING_H
#define GMEM_MAPPING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <gmem/gmem.h>

struct gmem_mapping {
	struct gmem_mapping *next; /* set once, before the entry enters the list */
	uint32_t life;             /* goes up when the entry is left */
	bool broken;               /* written by the handler, read by the control thread */
	uintptr_t start;           /* 0: not in use */
	size_t bytes;              /* multiple of page_bytes */
	size_t page_bytes;         /* 4 KiB, or the huge page of a hugetlbfs file */
	unsigned int n_users;      /* tables; control thread only */
};

/*
 * Checks the file of `spec` and maps [mmap_offset, mmap_offset + size) of it, widened to whole pages.
 * On success *hva is our address of the first byte asked for, and the caller is the mapping's one user.
 * Negative errno and an error line otherwise.
 */
int gmem_mapping_open(const struct gmem_region_spec *spec, struct gmem_mapping **mapping,
	uint8_t **hva, char *error, size_t error_size);

/* NULL is allowed in both: memory of our own has no mapping. The last put unmaps. */
void gmem_mapping_get(struct gmem_mapping *mapping);
void gmem_mapping_put(struct gmem_mapping *mapping);

/*
 * For the guard (guard.c). Enter: makes the mapping findable, reusing a left entry; NULL with errno ENOMEM.
 * Leave: the handler will not know it any more.
 */
struct gmem_mapping *gmem_guard_enter(void *start, size_t bytes, size_t page_bytes);
void gmem_guard_leave(struct gmem_mapping *mapping);

#endif
