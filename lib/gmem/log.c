/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include <gmem/gmem.h>
#include <gmem/log.h>

#include "mapping.h"

int gmem_log_open(int fd, uint64_t offset, uint64_t size, struct gmem_log **log, char *error,
	size_t error_size)
{
	const struct gmem_region_spec spec = { .size = size, .mmap_offset = offset, .fd = fd };
	struct gmem_log *opened;
	int ret;

	if (size == 0 || size > GMEM_LOG_BYTES_MAX) {
		snprintf(error, error_size, "a log of 0x%" PRIx64 " bytes; allowed: 1..0x%" PRIx64, size,
			(uint64_t)GMEM_LOG_BYTES_MAX);
		return -EINVAL;
	}
	opened = malloc(sizeof(*opened));
	if (opened == NULL) {
		snprintf(error, error_size, "out of memory");
		return -ENOMEM;
	}
	opened->n_pages = size * 8;
	ret = gmem_mapping_open(&spec, &opened->mapping, &opened->bits, error, error_size);
	if (ret < 0) {
		free(opened);
		return ret;
	}
	*log = opened;
	return 0;
}

void gmem_log_close(struct gmem_log *log)
{
	if (log == NULL)
		return;
	gmem_mapping_put(log->mapping);
	free(log);
}

bool gmem_log_is_broken(const struct gmem_log *log)
{
	return __atomic_load_n(&log->mapping->broken, __ATOMIC_RELAXED);
}

bool gmem_log_covers(const struct gmem_log *log, const struct gmem *mem)
{
	for (unsigned int i = 0; mem != NULL && i < mem->n_regions; i++) {
		uint64_t last = mem->regions[i].gpa + mem->regions[i].size - 1;

		if (last / GMEM_LOG_PAGE_BYTES >= log->n_pages)
			return false;
	}
	return true;
}
