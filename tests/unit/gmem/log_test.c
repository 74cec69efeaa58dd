/* SPDX-License-Identifier: BSD-3-Clause */
/* The dirty log (L1, L2, L4, L6, L8): where its bits are, and whose they are when many set and one takes them. */
#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <gmem/guard.h>
#include <gmem/log.h>
#include <vring/fence.h>

#include "files.h"

#define PAGE       GMEM_LOG_PAGE_BYTES
#define FILE_BYTES (4 * 4096u)

/* The whole file of a log, as its peer sees it. */
static uint8_t *file;
static int fd;

static int file_create(void **state)
{
	fd = memfd(FILE_BYTES);
	file = mmap(NULL, FILE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(file, MAP_FAILED);
	return 0;
}

static int file_remove(void **state)
{
	munmap(file, FILE_BYTES);
	close(fd);
	return 0;
}

static struct gmem_log *open_log(uint64_t offset, uint64_t size)
{
	struct gmem_log *log;
	char error[256];

	assert_int_equal(gmem_log_open(fd, offset, size, &log, error, sizeof(error)), 0);
	assert_int_equal(log->n_pages, size * 8);
	return log;
}

/* Asserts that exactly these bits are set in the file, the log being at `offset`, and clears them. */
static void expect_pages(uint64_t offset, uint64_t first, uint64_t last)
{
	static uint8_t expected[FILE_BYTES];

	memset(expected, 0, sizeof(expected));
	for (uint64_t page = first; page <= last && first != UINT64_MAX; page++)
		expected[offset + page / 8] |= (uint8_t)(1 << page % 8);
	assert_memory_equal(file, expected, sizeof(expected));
	memset(file, 0, FILE_BYTES);
}

static void expect_none(void)
{
	expect_pages(0, UINT64_MAX, UINT64_MAX);
}

static void lies_where_its_offset_says(void **state)
{
	const uint64_t offsets[] = { 0, 1, 7, 4095, 4096, 4097, 8192, 12345 };
	const uint64_t size = 100;

	for (unsigned int i = 0; i < sizeof(offsets) / sizeof(offsets[0]); i++) {
		struct gmem_log *log = open_log(offsets[i], size);

		for (uint64_t page = 0; page < size * 8; page++) {
			gmem_log_mark(log, page * PAGE + page, 1);
			expect_pages(offsets[i], page, page);
		}
		gmem_log_mark(log, 0, UINT32_MAX);
		expect_pages(offsets[i], 0, size * 8 - 1);
		gmem_log_close(log);
	}
}

static void notes_every_page_that_has_a_byte_of_it_and_no_other(void **state)
{
	const uint64_t starts[] = { 0, 1, PAGE - 1, PAGE, 8 * PAGE - 1, 9 * PAGE + 4000 };
	const uint64_t lens[] = { 1, 2, 95, 96, 97, PAGE - 1, PAGE, PAGE + 1, 2 * PAGE, 20 * PAGE - 1 };
	struct gmem_log *log = open_log(0, 8);

	for (unsigned int i = 0; i < sizeof(starts) / sizeof(starts[0]); i++) {
		for (unsigned int j = 0; j < sizeof(lens) / sizeof(lens[0]); j++) {
			gmem_log_mark(log, starts[i], lens[j]);
			expect_pages(0, starts[i] / PAGE, (starts[i] + lens[j] - 1) / PAGE);
		}
	}
	gmem_log_close(log);
}

static void keeps_the_bits_that_are_set(void **state)
{
	struct gmem_log *log = open_log(0, 1);

	for (unsigned int page = 0; page < 8; page++)
		gmem_log_mark(log, page * PAGE, 1);
	gmem_log_mark(log, 3 * PAGE, 1);
	expect_pages(0, 0, 7);
	gmem_log_close(log);
}

/* L6 */
static void notes_nothing_behind_its_end(void **state)
{
	const uint64_t offset = 4096 + 5, size = 3, end = size * 8 * PAGE;
	struct gmem_log *log = open_log(offset, size);

	gmem_log_mark(log, end - 1, 2);
	expect_pages(offset, 23, 23);
	gmem_log_mark(log, end, 1);
	expect_none();
	gmem_log_mark(log, end, UINT32_MAX);
	expect_none();
	gmem_log_mark(log, UINT64_MAX, 1);
	expect_none();
	gmem_log_mark(log, UINT64_MAX - PAGE, PAGE);
	expect_none();
	/* Around the end of all addresses. */
	gmem_log_mark(log, UINT64_MAX, 8);
	expect_none();
	gmem_log_mark(log, UINT64_MAX - 1, UINT32_MAX);
	expect_none();
	gmem_log_close(log);
}

/* L1 */
static void refuses_what_its_file_does_not_have(void **state)
{
	const uint64_t values[] = { 0, 1, 4095, 4096, 8192, FILE_BYTES - 1, FILE_BYTES, FILE_BYTES + 1, 1ULL << 32,
		(1ULL << 32) + 1, 1ULL << 63, UINT64_MAX - 4095, UINT64_MAX };
	const unsigned int n = sizeof(values) / sizeof(values[0]), before = n_mappings();
	struct gmem_log *log;
	char error[256];

	for (unsigned int i = 0; i < n; i++) {
		for (unsigned int j = 0; j < n; j++) {
			uint64_t size = values[i], offset = values[j];
			bool fits = size > 0 && size <= FILE_BYTES && offset <= FILE_BYTES - size;
			int ret;

			error[0] = '\0';
			ret = gmem_log_open(fd, offset, size, &log, error, sizeof(error));
			assert_int_equal(ret, fits ? 0 : -EINVAL);
			if (fits) {
				gmem_log_mark(log, 0, 1);
				gmem_log_mark(log, (size * 8 - 1) * PAGE, 1);
				gmem_log_close(log);
			} else {
				assert_string_not_equal(error, "");
			}
			assert_int_equal(n_mappings(), before);
		}
	}
}

static void refuses_a_log_longer_than_any_guest_needs(void **state)
{
	int huge = memfd(GMEM_LOG_BYTES_MAX + 4096);
	struct gmem_log *log;
	char error[256];

	assert_int_equal(gmem_log_open(huge, 0, GMEM_LOG_BYTES_MAX + 1, &log, error, sizeof(error)), -EINVAL);
	assert_int_equal(gmem_log_open(huge, 0, GMEM_LOG_BYTES_MAX, &log, error, sizeof(error)), 0);
	gmem_log_mark(log, (GMEM_LOG_BYTES_MAX * 8 - 1) * PAGE, PAGE);
	gmem_log_close(log);
	close(huge);
}

/* L1 */
static void refuses_files_that_are_not_shared_memory(void **state)
{
	const unsigned int before = n_mappings();
	char path[64], error[256];
	struct gmem_log *log;
	int fds[7], ends[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
	fds[0] = eventfd(0, 0);
	fds[1] = ends[0];
	fds[2] = open("/dev/zero", O_RDWR);
	fds[3] = open("/proc/self/exe", O_RDONLY);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	fds[4] = open(path, O_RDONLY);
	fds[5] = memfd(FILE_BYTES);
	assert_int_equal(fcntl(fds[5], F_ADD_SEALS, F_SEAL_WRITE), 0);
	fds[6] = open("/tmp", O_RDONLY | O_DIRECTORY);
	for (unsigned int i = 0; i < 7; i++) {
		assert_true(fds[i] >= 0);
		assert_int_equal(gmem_log_open(fds[i], 0, 4096, &log, error, sizeof(error)), -EINVAL);
		close(fds[i]);
	}
	close(ends[1]);
	assert_int_equal(gmem_log_open(-1, 0, 4096, &log, error, sizeof(error)), -EBADF);
	assert_int_equal(n_mappings(), before);
}

/* QEMU's is sealed so that it keeps its size. */
static void takes_a_file_that_cannot_shrink(void **state)
{
	struct gmem_log *log;

	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL), 0);
	log = open_log(0, FILE_BYTES);
	gmem_log_mark(log, 5 * PAGE, 1);
	expect_pages(0, 5, 5);
	gmem_log_close(log);
}

static void knows_whether_it_has_a_bit_for_all_memory(void **state)
{
	struct gmem_log *log = open_log(0, 4); /* 32 pages */
	const struct {
		uint64_t gpa, size;
		bool covered;
	} regions[] = {
		{ 0, 32 * PAGE, true },
		{ 0, 32 * PAGE + 1, false },
		{ 31 * PAGE, PAGE, true },
		{ 32 * PAGE, 1, false },
		{ UINT64_MAX - PAGE + 1, PAGE, false },
	};
	int memory = memfd(64 * PAGE);
	char error[256];

	assert_true(gmem_log_covers(log, NULL));
	for (unsigned int i = 0; i < sizeof(regions) / sizeof(regions[0]); i++) {
		struct gmem_region_spec specs[2] = { { .gpa = regions[i].gpa, .size = regions[i].size, .fd = memory } };
		struct gmem *mem;

		assert_int_equal(gmem_create(specs, 1, &mem, error, sizeof(error)), 0);
		assert_int_equal(gmem_log_covers(log, mem), regions[i].covered);
		gmem_free(mem);
	}
	close(memory);
	gmem_log_close(log);
}

/* cmocka's handler comes and goes with each test; ours goes back over it. */
static struct sigaction guard;

/* L8 */
static void is_broken_when_its_file_is_truncated(void **state)
{
	struct gmem_log *log = open_log(40, FILE_BYTES - 40);
	struct gmem_log *other;
	int other_fd = memfd(4096);
	char error[256];

	assert_int_equal(sigaction(SIGBUS, &guard, NULL), 0);
	assert_int_equal(gmem_log_open(other_fd, 0, 4096, &other, error, sizeof(error)), 0);
	assert_false(gmem_log_is_broken(log));
	assert_int_equal(ftruncate(fd, 0), 0);
	gmem_log_mark(log, 0, 1);
	gmem_log_mark(log, 0, UINT32_MAX);
	assert_true(gmem_log_is_broken(log));
	assert_false(gmem_log_is_broken(other));
	gmem_log_close(log);
	gmem_log_close(other);
	close(other_fd);
}

/* ---- Several that set bits, one that takes them ---- */

#define N_WRITERS 3
#define N_PAGES   11 /* some in one byte, some in another */
#define N_ROUNDS  60000

/* What pages hold, as it were. Each writer has a word of each. */
static uint32_t pages[N_PAGES][N_WRITERS];
static uint32_t copies[N_PAGES][N_WRITERS];
static unsigned int n_running;
static struct gmem_log *shared;

static void *write_pages(void *argument)
{
	unsigned int self = (unsigned int)(uintptr_t)argument;

	for (uint32_t round = 1; round <= N_ROUNDS; round++) {
		unsigned int page = (round * (self + 2) + round / 64) % N_PAGES;

		__atomic_store_n(&pages[page][self], round, __ATOMIC_RELAXED);
		vring_fence();
		gmem_log_mark(shared, page * (uint64_t)PAGE + 100, 8);
	}
	__atomic_fetch_sub(&n_running, 1, __ATOMIC_RELEASE);
	return NULL;
}

static void take_and_copy(void)
{
	for (unsigned int byte = 0; byte * 8 < N_PAGES; byte++) {
		uint8_t bits = __atomic_exchange_n(&file[byte], 0, __ATOMIC_SEQ_CST);

		for (unsigned int page = byte * 8; page < N_PAGES; page++) {
			if ((bits >> page % 8 & (page / 8 == byte)) == 0)
				continue;
			for (unsigned int i = 0; i < N_WRITERS; i++)
				copies[page][i] = __atomic_load_n(&pages[page][i], __ATOMIC_RELAXED);
		}
	}
}

static void a_page_is_noted_after_its_last_write_whoever_takes_bits_meanwhile(void **state)
{
	pthread_t writers[N_WRITERS];

	shared = open_log(0, 64);
	n_running = N_WRITERS;
	for (uintptr_t i = 0; i < N_WRITERS; i++)
		assert_int_equal(pthread_create(&writers[i], NULL, write_pages, (void *)i), 0);
	while (__atomic_load_n(&n_running, __ATOMIC_ACQUIRE) > 0)
		take_and_copy();
	for (unsigned int i = 0; i < N_WRITERS; i++)
		pthread_join(writers[i], NULL);
	take_and_copy();
	assert_memory_equal(copies, pages, sizeof(pages));
	expect_none();
	gmem_log_close(shared);
}

#define with_file(test) cmocka_unit_test_setup_teardown(test, file_create, file_remove)

int main(void)
{
	const struct CMUnitTest tests[] = {
		with_file(lies_where_its_offset_says),
		with_file(notes_every_page_that_has_a_byte_of_it_and_no_other),
		with_file(keeps_the_bits_that_are_set),
		with_file(notes_nothing_behind_its_end),
		with_file(refuses_what_its_file_does_not_have),
		with_file(refuses_a_log_longer_than_any_guest_needs),
		with_file(refuses_files_that_are_not_shared_memory),
		with_file(takes_a_file_that_cannot_shrink),
		with_file(knows_whether_it_has_a_bit_for_all_memory),
		with_file(is_broken_when_its_file_is_truncated),
		with_file(a_page_is_noted_after_its_last_write_whoever_takes_bits_meanwhile),
	};

	assert_true(gmem_guard_install() >= 0);
	sigaction(SIGBUS, NULL, &guard);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
