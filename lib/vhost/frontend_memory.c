/* SPDX-License-Identifier: BSD-3-Clause */
/* Guest memory from the front end's side: making it, and telling the back end. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "frontend_private.h"

/* The back end maps this file too. Sealed, it cannot be truncated under our feet (nor by us under
 * theirs). */
#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

static int memory_size_and_map(struct vu_frontend_memory *memory, uint64_t size)
{
	struct stat st;
	void *address;

	/* For hugetlb files this is the size of a huge page. */
	if (fstat(memory->fd, &st) < 0)
		return -errno;
	memory->size = (size + (uint64_t)st.st_blksize - 1) & ~((uint64_t)st.st_blksize - 1);
	if (memory->size < size)
		return -EINVAL;
	if (ftruncate(memory->fd, (off_t)memory->size) < 0 ||
		fcntl(memory->fd, F_ADD_SEALS, SEALS) < 0)
		return -errno;
	address = mmap(NULL, memory->size, PROT_READ | PROT_WRITE, MAP_SHARED, memory->fd, 0);
	if (address == MAP_FAILED)
		return -errno;
	memory->address = address;
	return 0;
}

int vu_frontend_memory_create(struct vu_frontend_memory *memory, uint64_t size, bool hugepages)
{
	int ret;

	*memory = (struct vu_frontend_memory){.fd = -1};
	if (size == 0)
		return -EINVAL;
	memory->fd = memfd_create(
		"guest-memory", MFD_CLOEXEC | MFD_ALLOW_SEALING | (hugepages ? MFD_HUGETLB : 0));
	if (memory->fd < 0)
		return -errno;
	ret = memory_size_and_map(memory, size);
	if (ret < 0) {
		close(memory->fd);
		memory->fd = -1;
	}
	return ret;
}

void vu_frontend_memory_destroy(struct vu_frontend_memory *memory)
{
	if (memory->fd < 0)
		return;
	munmap(memory->address, memory->size);
	close(memory->fd);
	memory->fd = -1;
}

static struct vu_region_payload region_of(const struct gmem_region_spec *spec)
{
	return (struct vu_region_payload){
		.gpa = spec->gpa,
		.size = spec->size,
		.uva = spec->uva,
		.mmap_offset = spec->mmap_offset,
	};
}

static int set_table(
	struct vu_frontend *session, const struct gmem_region_spec *specs, unsigned int n)
{
	struct vu_mem_table_payload table = {.n_regions = n};
	int fds[VU_MEM_TABLE_MAX];

	for (unsigned int i = 0; i < n; i++) {
		table.regions[i] = region_of(&specs[i]);
		fds[i] = specs[i].fd;
	}
	return frontend_call(session, VU_REQUEST_SET_MEM_TABLE, &table,
		offsetof(struct vu_mem_table_payload, regions) + n * sizeof(table.regions[0]), fds,
		n, NULL);
}

int vu_frontend_set_memory(
	struct vu_frontend *session, const struct gmem_region_spec *specs, unsigned int n)
{
	unsigned int n_table = n < VU_MEM_TABLE_MAX ? n : VU_MEM_TABLE_MAX;
	int ret;

	if (n > session->n_memory_slots)
		return frontend_fail(session, -EINVAL,
			"SET_MEM_TABLE: %u regions; the back end takes at most %u", n,
			session->n_memory_slots);
	ret = set_table(session, specs, n_table);
	for (unsigned int i = n_table; i < n && ret == 0; i++)
		ret = vu_frontend_add_memory(session, &specs[i]);
	return ret;
}

int vu_frontend_add_memory(struct vu_frontend *session, const struct gmem_region_spec *spec)
{
	const struct vu_mem_region_payload payload = {.region = region_of(spec)};

	return frontend_call(
		session, VU_REQUEST_ADD_MEM_REG, &payload, sizeof(payload), &spec->fd, 1, NULL);
}

int vu_frontend_remove_memory(struct vu_frontend *session, const struct gmem_region_spec *spec)
{
	const struct vu_mem_region_payload payload = {.region = region_of(spec)};

	return frontend_call(
		session, VU_REQUEST_REM_MEM_REG, &payload, sizeof(payload), NULL, 0, NULL);
}
