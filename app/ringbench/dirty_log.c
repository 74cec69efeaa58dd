/* SPDX-License-Identifier: BSD-3-Clause */
#include "dirty_log.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE      4096u
#define WORD_BITS (8 * sizeof(unsigned long))

int dirty_log_create(struct dirty_log *log, uint64_t gpa, uint64_t size)
{
	uint64_t n_words = (gpa + size - 1) / PAGE / WORD_BITS + 1;

	*log = (struct dirty_log){
		.fd = memfd_create("ringbench-log", MFD_CLOEXEC | MFD_ALLOW_SEALING),
		.bytes = n_words * sizeof(*log->bits),
		.first = gpa / PAGE / WORD_BITS,
	};
	if (log->fd < 0)
		return -errno;
	if (ftruncate(log->fd, (off_t)log->bytes) < 0 || fcntl(log->fd, F_ADD_SEALS, F_SEAL_SHRINK) < 0)
		return -errno;
	log->bits = mmap(NULL, log->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, log->fd, 0);
	if (log->bits == MAP_FAILED) {
		log->bits = NULL;
		return -errno;
	}
	return 0;
}

void dirty_log_destroy(struct dirty_log *log)
{
	if (log->bits != NULL)
		munmap(log->bits, log->bytes);
	if (log->fd >= 0)
		close(log->fd);
	*log = (struct dirty_log){.fd = -1};
}

void dirty_log_take(struct dirty_log *log)
{
	for (size_t i = log->first; i < log->bytes / sizeof(*log->bits); i++) {
		if (__atomic_load_n(&log->bits[i], __ATOMIC_RELAXED) != 0)
			log->n_pages += (unsigned int)__builtin_popcountl(
				__atomic_exchange_n(&log->bits[i], 0, __ATOMIC_SEQ_CST));
	}
}
