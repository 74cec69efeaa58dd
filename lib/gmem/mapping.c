/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "mapping.h"

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

/*
 * Whether the file is one that can be guest memory. F_GET_SEALS answers for shared memory and hugetlbfs only, and never
 * asks a file system in user space, whose pages could take for ever to arrive.
 */
static int check_file(const struct gmem_region_spec *spec, size_t *page_bytes, char *error,
	size_t error_size)
{
	struct statfs fs;
	struct stat st;
	int flags, seals;

	flags = fcntl(spec->fd, F_GETFL);
	if (flags < 0) {
		int err = errno;

		snprintf(error, error_size, "file descriptor %d: %s", spec->fd, strerror(err));
		return -err;
	}
	seals = fcntl(spec->fd, F_GET_SEALS);
	if (seals < 0 || fstat(spec->fd, &st) < 0 || !S_ISREG(st.st_mode) ||
		fstatfs(spec->fd, &fs) < 0) {
		snprintf(error, error_size,
			"not a shared-memory or hugetlbfs file; back the guest with memfd, /dev/shm "
			"or hugepages, shared");
		return -EINVAL;
	}
	if ((flags & O_ACCMODE) != O_RDWR) {
		snprintf(error, error_size, "file is not open for reading and writing");
		return -EINVAL;
	}
	if ((seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)) != 0) {
		snprintf(error, error_size, "file is sealed against writing");
		return -EINVAL;
	}
	/* mmap() beyond the end succeeds and an access there kills: refuse what can be seen now. */
	if (spec->size > UINT64_MAX - spec->mmap_offset ||
		spec->mmap_offset + spec->size > (uint64_t)st.st_size) {
		snprintf(error, error_size,
			"offset 0x%" PRIx64 " + size 0x%" PRIx64
			" is more than the file has (0x%" PRIx64 " bytes)",
			spec->mmap_offset, spec->size, (uint64_t)st.st_size);
		return -EINVAL;
	}
	*page_bytes = (size_t)sysconf(_SC_PAGESIZE);
	if ((uint64_t)fs.f_type == HUGETLBFS_MAGIC)
		*page_bytes = (size_t)fs.f_bsize;
	return 0;
}

int gmem_mapping_open(const struct gmem_region_spec *spec, struct gmem_mapping **mapping,
	uint8_t **hva, char *error, size_t error_size)
{
	uint64_t offset_in_page, bytes;
	size_t page_bytes;
	void *start;
	int ret;

	ret = check_file(spec, &page_bytes, error, error_size);
	if (ret < 0)
		return ret;
	/* Only what was asked for: a virtio-mem file can have its first terabytes reserved, not populated. */
	offset_in_page = spec->mmap_offset & (page_bytes - 1);
	bytes = (offset_in_page + spec->size + page_bytes - 1) & ~(uint64_t)(page_bytes - 1);
	start = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, spec->fd,
		(off_t)(spec->mmap_offset - offset_in_page));
	if (start == MAP_FAILED) {
		ret = -errno;
		snprintf(error, error_size, "cannot map 0x%" PRIx64 " bytes: %s", bytes,
			strerror(-ret));
		return ret;
	}
	/* A guest's memory has no place in our core dumps; where the advice is not known, nothing is lost. */
	(void)madvise(start, bytes, MADV_DONTDUMP);
	*mapping = gmem_guard_enter(start, bytes, page_bytes);
	if (*mapping == NULL) {
		munmap(start, bytes);
		snprintf(error, error_size, "out of memory");
		return -ENOMEM;
	}
	*hva = (uint8_t *)start + offset_in_page;
	return 0;
}

void gmem_mapping_get(struct gmem_mapping *mapping)
{
	if (mapping != NULL)
		mapping->n_users++;
}

void gmem_mapping_put(struct gmem_mapping *mapping)
{
	void *start;
	size_t bytes;

	if (mapping == NULL || --mapping->n_users > 0)
		return;
	start = (void *)mapping->start;
	bytes = mapping->bytes;
	gmem_guard_leave(mapping);
	munmap(start, bytes);
}
