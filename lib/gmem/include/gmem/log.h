/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The dirty log (vhost-user, "Migration"): shared memory of the front end with a bit for each page of guest memory.
 * Who writes guest memory sets the bits of the pages that it wrote; the front end, which copies the guest to another
 * host meanwhile, takes them and copies those pages again.
 *
 * The front end may take a bit at any moment: it clears it and then reads the page. So a bit is set after the page was
 * written, with a full fence in between (fence L): bits that are seen set already may stay as they are then, since who
 * clears them later reads the page later still. The fence is the caller's, one for all that it wrote.
 *
 * Thread rule: marking from any number of threads that are sure (RCU) that the log still exists. The rest is for the
 * control thread.
 */
#ifndef GMEM_LOG_H
#define GMEM_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes of guest memory for each bit, whatever the size of its pages (vhost-user, "Migration"). */
#define GMEM_LOG_PAGE_BYTES 4096

/* Most that is mapped of a log: enough for guest addresses up to 2^47. */
#define GMEM_LOG_BYTES_MAX (1ULL << 32)

struct gmem;
struct gmem_mapping;

struct gmem_log {
	uint8_t *bits;
	uint64_t n_pages;
	struct gmem_mapping *mapping;
};

/*
 * Maps `size` bytes of the file from `offset` on. The descriptor stays the caller's. Returns 0 and the log, or a
 * negative errno and a line: -EINVAL for no bytes, more than GMEM_LOG_BYTES_MAX or than the file has, or a file that
 * cannot be guest memory either (gmem/gmem.h); -ENOMEM; others from mmap.
 */
int gmem_log_open(int fd, uint64_t offset, uint64_t size, struct gmem_log **log, char *error,
	size_t error_size);

/* NULL is allowed. */
void gmem_log_close(struct gmem_log *log);

/* Whether the peer took the log away under us (gmem/guard.h). Such a guest must be disconnected. */
bool gmem_log_is_broken(const struct gmem_log *log);

/* Whether the log has a bit for every page of this memory. */
bool gmem_log_covers(const struct gmem_log *log, const struct gmem *mem);

/* Sets the bits of the pages of [gpa, gpa + len). Pages behind the log's end are not noted. len > 0. */
static inline void gmem_log_mark(struct gmem_log *log, uint64_t gpa, uint64_t len)
{
	uint64_t page = gpa / GMEM_LOG_PAGE_BYTES;
	uint64_t last = (gpa + len - 1) / GMEM_LOG_PAGE_BYTES;

	if (__builtin_expect(last >= log->n_pages, 0))
		last = log->n_pages - 1;
	for (; page <= last; page++) {
		uint8_t *byte = &log->bits[page / 8];
		uint8_t bit = (uint8_t)(1u << page % 8);

		if ((__atomic_load_n(byte, __ATOMIC_RELAXED) & bit) == 0)
			__atomic_fetch_or(byte, bit, __ATOMIC_RELAXED);
	}
}

#endif
