/* SPDX-License-Identifier: BSD-3-Clause */
#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "files.h"

int memfd(uint64_t size)
{
	int fd = memfd_create("guest", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	return fd;
}

struct gmem_region_spec spec_of(int fd, uint64_t gpa, uint64_t size, uint64_t offset)
{
	return (struct gmem_region_spec){
		.gpa = gpa,
		.size = size,
		.uva = gpa + 0x700000000000,
		.mmap_offset = offset,
		.fd = fd,
	};
}

static unsigned int count_lines(const char *first, const char *second)
{
	FILE *maps = fopen("/proc/self/maps", "r");
	unsigned int n = 0;
	char line[512];

	assert_non_null(maps);
	while (fgets(line, sizeof(line), maps) != NULL)
		n += strstr(line, first) != NULL || strstr(line, second) != NULL;
	fclose(maps);
	return n;
}

unsigned int n_mappings(void)
{
	return count_lines("/memfd:", "/anon_hugepage");
}

unsigned int n_all_mappings(void)
{
	return count_lines("", "");
}

unsigned int n_open_files(void)
{
	DIR *folder = opendir("/proc/self/fd");
	unsigned int n = 0;

	assert_non_null(folder);
	while (readdir(folder) != NULL)
		n++;
	closedir(folder);
	return n;
}
