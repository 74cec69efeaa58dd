/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <gmem/guard.h>

#include "mapping.h"

/* Written by the control thread, walked by the handler on any thread. */
static struct gmem_mapping *mappings;
static int news_fd = -1;

struct gmem_mapping *gmem_guard_enter(void *start, size_t bytes, size_t page_bytes)
{
	struct gmem_mapping *mapping = mappings;

	while (mapping != NULL && mapping->n_users > 0)
		mapping = mapping->next;
	if (mapping == NULL) {
		mapping = calloc(1, sizeof(*mapping));
		if (mapping == NULL)
			return NULL;
		mapping->next = mappings;
		__atomic_store_n(&mappings, mapping, __ATOMIC_RELEASE);
	}
	mapping->n_users = 1;
	/* Release throughout: who reads one of these has to see the number of this life as well. */
	__atomic_store_n(&mapping->broken, false, __ATOMIC_RELAXED);
	__atomic_store_n(&mapping->bytes, bytes, __ATOMIC_RELEASE);
	__atomic_store_n(&mapping->page_bytes, page_bytes, __ATOMIC_RELEASE);
	__atomic_store_n(&mapping->start, (uintptr_t)start, __ATOMIC_RELEASE);
	return mapping;
}

void gmem_guard_leave(struct gmem_mapping *mapping)
{
	__atomic_store_n(&mapping->start, 0, __ATOMIC_RELAXED);
	__atomic_add_fetch(&mapping->life, 1, __ATOMIC_SEQ_CST);
}

static struct gmem_mapping *find(uintptr_t address, uintptr_t *start, size_t *bytes,
	size_t *page_bytes)
{
	struct gmem_mapping *mapping;

	for (mapping = __atomic_load_n(&mappings, __ATOMIC_ACQUIRE); mapping != NULL;
		mapping = mapping->next) {
		uint32_t life = __atomic_load_n(&mapping->life, __ATOMIC_ACQUIRE);

		*start = __atomic_load_n(&mapping->start, __ATOMIC_ACQUIRE);
		if (*start == 0)
			continue;
		*bytes = __atomic_load_n(&mapping->bytes, __ATOMIC_ACQUIRE);
		*page_bytes = __atomic_load_n(&mapping->page_bytes, __ATOMIC_ACQUIRE);
		if (__atomic_load_n(&mapping->life, __ATOMIC_RELAXED) != life)
			continue;
		if (address - *start < *bytes)
			return mapping;
	}
	return NULL;
}

/*
 * Puts zero pages where the file has none any more: from the fault to the end of the mapping, because what a file loses
 * is its tail. One page per fault would let a peer spend our limit of mappings (vm.max_map_count), since each page so
 * replaced cuts the mapping in three. The page alone is the fallback for a machine that commits memory strictly.
 */
static bool replace(uintptr_t address, uintptr_t start, size_t bytes, size_t page_bytes)
{
	const int protection = PROT_READ | PROT_WRITE;
	const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE;
	uintptr_t page = address & ~(uintptr_t)(page_bytes - 1);

	return mmap((void *)page, start + bytes - page, protection, flags, -1, 0) != MAP_FAILED ||
		mmap((void *)page, page_bytes, protection, flags, -1, 0) != MAP_FAILED;
}

static void on_sigbus(int number, siginfo_t *info, void *context)
{
	struct sigaction fatal = {.sa_handler = SIG_DFL};
	struct gmem_mapping *mapping = NULL;
	size_t bytes, page_bytes;
	int saved_errno = errno;
	uintptr_t start;

	/* A code of 0 or less: somebody sent the signal, there is no address. */
	if (info->si_code > 0)
		mapping = find((uintptr_t)info->si_addr, &start, &bytes, &page_bytes);
	if (mapping != NULL && replace((uintptr_t)info->si_addr, start, bytes, page_bytes)) {
		const uint64_t one = 1;

		__atomic_store_n(&mapping->broken, true, __ATOMIC_RELEASE);
		/* A full counter is as readable as one more. */
		if (write(news_fd, &one, sizeof(one)) < 0)
			errno = saved_errno;
		errno = saved_errno;
		return;
	}
	/* Our own bug: the access repeats and dies where it stands, for the core dump. */
	sigaction(SIGBUS, &fatal, NULL);
	if (info->si_code <= 0)
		raise(SIGBUS);
	errno = saved_errno;
}

int gmem_guard_install(void)
{
	struct sigaction action = {.sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO | SA_RESTART};
	int fd;

	if (news_fd >= 0)
		return -EALREADY;
	fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (fd < 0)
		return -errno;
	news_fd = fd;
	sigemptyset(&action.sa_mask);
	if (sigaction(SIGBUS, &action, NULL) < 0) {
		int err = errno;

		news_fd = -1;
		close(fd);
		return -err;
	}
	return fd;
}
