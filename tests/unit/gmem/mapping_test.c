/* SPDX-License-Identifier: BSD-3-Clause */
/* Which files can be guest memory and which part of them is mapped (F8, R3, R4, R13). */
#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "files.h"

#define MIB (1ULL << 20)

static char error[256];

static int try(int fd, uint64_t size, uint64_t offset)
{
	const struct gmem_region_spec spec = spec_of(fd, 0x1000, size, offset);
	unsigned int before = n_mappings();
	unsigned int files = n_open_files();
	struct gmem *mem = NULL;
	int ret;

	error[0] = '\0';
	ret = gmem_create(&spec, 1, &mem, error, sizeof(error));
	if (ret == 0) {
		uint8_t *hva = mem->regions[0].hva;

		assert_int_equal(hva[0], hva[size - 1]); /* both there */
		gmem_free(mem);
	} else {
		assert_null(mem);
		assert_non_null(strstr(error, "memory region gpa 0x1000"));
	}
	/* Mappings of the same kind beside each other may be one line: not more is what counts. */
	assert_true(n_mappings() <= before);
	assert_int_equal(n_open_files(), files);
	return ret;
}

/* F8 */
static void refuses_files_that_are_no_shared_memory(void **state)
{
	int pipes[2], sockets[2], fds[16];
	unsigned int n = 0;
	char path[] = "/tmp/gmem_test_XXXXXX";

	assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets), 0);
	fds[n++] = pipes[0];
	fds[n++] = pipes[1];
	fds[n++] = sockets[0];
	fds[n++] = sockets[1];
	fds[n++] = eventfd(0, EFD_CLOEXEC);
	fds[n++] = open("/", O_RDONLY | O_DIRECTORY);
	fds[n++] = open("/dev/shm", O_RDONLY | O_DIRECTORY);
	fds[n++] = open("/dev/null", O_RDWR);
	fds[n++] = open("/dev/zero", O_RDWR);
	fds[n++] = open("/proc/self/maps", O_RDONLY);
	fds[n++] = (int)syscall(SYS_memfd_secret, 0);
	for (unsigned int i = 0; i < n; i++) {
		if (fds[i] < 0)
			continue; /* this machine has none of the kind */
		assert_int_equal(try(fds[i], 4096, 0), -EINVAL);
		assert_non_null(strstr(error, "shared"));
		close(fds[i]);
	}
	fds[0] = mkstemp(path);
	assert_true(fds[0] >= 0);
	unlink(path);
	assert_int_equal(ftruncate(fds[0], 8192), 0);
	if (fcntl(fds[0], F_GET_SEALS) < 0)
		assert_int_equal(try(fds[0], 4096, 0), -EINVAL);
	else
		print_message("file on disk not tried: /tmp is a tmpfs here\n");
	close(fds[0]);
	assert_int_equal(try(-1, 4096, 0), -EBADF);
	assert_int_equal(try(9999, 4096, 0), -EBADF);
}

static void refuses_shared_memory_that_cannot_be_written(void **state)
{
	char path[64];
	int fd = memfd(MIB);
	int other;

	assert_int_equal(try(fd, MIB, 0), 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	other = open(path, O_RDONLY);
	assert_int_equal(try(other, MIB, 0), -EINVAL);
	close(other);
	other = open(path, O_WRONLY);
	assert_int_equal(try(other, MIB, 0), -EINVAL);
	close(other);
	other = open(path, O_PATH);
	assert_int_not_equal(try(other, MIB, 0), 0);
	close(other);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW), 0);
	assert_int_equal(try(fd, MIB, 0), 0);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE), 0);
	assert_int_equal(try(fd, MIB, 0), -EINVAL);
	assert_non_null(strstr(error, "sealed"));
	close(fd);
	fd = memfd(MIB);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), 0);
	assert_int_equal(try(fd, MIB, 0), -EINVAL);
	close(fd);
}

/* R2, R3, R4 */
static void refuses_regions_beyond_the_end_of_the_file(void **state)
{
	const struct {
		uint64_t size, offset;
		int expected;
	} rows[] = {
		{MIB, 0, 0},
		{MIB + 1, 0, -EINVAL},
		{MIB, 1, -EINVAL},
		{1, MIB - 1, 0},
		{1, MIB, -EINVAL},
		{4096, MIB - 4096, 0},
		{4097, MIB - 4096, -EINVAL},
		{4096, 5, 0}, /* mapped from the page's start */
		{4096, 4095, 0},
		{4096, UINT64_MAX, -EINVAL},
		{4096, UINT64_MAX - 4095, -EINVAL},
		{4096, 1ULL << 63, -EINVAL},
		{1ULL << 43, 0, -EINVAL},
	};
	int fd = memfd(MIB);

	for (unsigned int i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		assert_int_equal(try(fd, rows[i].size, rows[i].offset), rows[i].expected);
	close(fd);
	fd = memfd(0);
	assert_int_equal(try(fd, 1, 0), -EINVAL);
	close(fd);
	fd = memfd(5000); /* ends inside a page */
	assert_int_equal(try(fd, 5000, 0), 0);
	assert_int_equal(try(fd, 5001, 0), -EINVAL);
	close(fd);
}

static void maps_the_byte_the_offset_names(void **state)
{
	int fd = memfd(MIB);

	for (uint64_t offset = 0; offset < 9000; offset += 1237) {
		const struct gmem_region_spec spec = spec_of(fd, 0, 100, offset);
		const uint8_t mark = (uint8_t)(offset >> 3);
		struct gmem *mem;

		assert_int_equal(pwrite(fd, &mark, 1, (off_t)offset + 99), 1);
		assert_int_equal(gmem_create(&spec, 1, &mem, error, sizeof(error)), 0);
		assert_int_equal(mem->regions[0].hva[99], mark);
		gmem_free(mem);
	}
	close(fd);
}

/* R13: whatever the region's borders, unmapping a huge page file leaves nothing. Nothing is touched: pages may lack. */
static void maps_whole_huge_pages(void **state)
{
	const uint64_t huge = 2 * MIB;
	const uint64_t rows[][2] = {{2 * huge, 0}, {4096, 0}, {1, huge + 5}, {huge, 4096},
		{huge + 4096, huge - 4096}};
	int fd = memfd_create("huge", MFD_CLOEXEC | MFD_HUGETLB | MFD_HUGE_2MB);
	unsigned int before = n_mappings();

	if (fd < 0 || ftruncate(fd, (off_t)(4 * huge)) < 0) {
		print_message("skipped: no hugetlbfs here (%s)\n", strerror(errno));
		if (fd >= 0)
			close(fd);
		skip();
	}
	for (unsigned int i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct gmem_region_spec spec = spec_of(fd, 0, rows[i][0], rows[i][1]);
		struct gmem *mem;

		assert_int_equal(gmem_create(&spec, 1, &mem, error, sizeof(error)), 0);
		assert_int_equal((uintptr_t)mem->regions[0].hva % huge, rows[i][1] % huge);
		assert_true(n_mappings() > before);
		gmem_free(mem);
		assert_int_equal(n_mappings(), before);
	}
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(refuses_files_that_are_no_shared_memory),
		cmocka_unit_test(refuses_shared_memory_that_cannot_be_written),
		cmocka_unit_test(refuses_regions_beyond_the_end_of_the_file),
		cmocka_unit_test(maps_the_byte_the_offset_names),
		cmocka_unit_test(maps_whole_huge_pages),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
