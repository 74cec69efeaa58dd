/* SPDX-License-Identifier: BSD-3-Clause */
/* Memory that vanishes under us (S1, S2, S4, S5, S8). */
#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <gmem/guard.h>

#include "files.h"

#define PAGE 4096ULL
#define MIB  (1ULL << 20)

static int news;

static struct sigaction guard;

/* cmocka puts a handler of its own in place for each test; ours goes back over it. */
static void arm(void)
{
	assert_int_equal(sigaction(SIGBUS, &guard, NULL), 0);
}

static bool news_came(void)
{
	struct pollfd poller = {.fd = news, .events = POLLIN};
	uint64_t count;

	if (poll(&poller, 1, 0) != 1)
		return false;
	assert_int_equal(read(news, &count, sizeof(count)), sizeof(count));
	return true;
}

static void installs_once(void **state)
{
	assert_true(news >= 0);
	assert_int_equal(gmem_guard_install(), -EALREADY);
	assert_false(news_came());
}

static struct gmem *map(int fd, uint64_t size)
{
	const struct gmem_region_spec spec = spec_of(fd, 0, size, 0);
	struct gmem *mem;
	char error[256];

	assert_int_equal(gmem_create(&spec, 1, &mem, error, sizeof(error)), 0);
	return mem;
}

/* S1 */
static void goes_on_with_zero_pages_after_truncation(void **state)
{
	arm();
	for (uint64_t left = 0; left < MIB; left += MIB / 8) {
		int fd = memfd(MIB);
		struct gmem *mem = map(fd, MIB);
		volatile uint8_t *bytes = mem->regions[0].hva;

		memset(mem->regions[0].hva, 0x55, MIB);
		assert_int_equal(ftruncate(fd, (off_t)left), 0);
		assert_false(gmem_is_broken(mem));
		assert_false(news_came());
		assert_int_equal(bytes[MIB - 1], 0);
		assert_true(gmem_is_broken(mem));
		assert_true(news_came());
		/* Below the first fault, in steps downwards, read and write. */
		for (uint64_t at = left; at < MIB; at += PAGE)
			assert_int_equal(bytes[at + 77], 0);
		bytes[left] = 1;
		assert_int_equal(bytes[left], 1);
		if (left > 0)
			assert_int_equal(bytes[left - 1], 0x55);
		gmem_free(mem);
		close(fd);
		news_came();
	}
}

static void blames_the_guest_that_did_it_alone(void **state)
{
	int fds[3];
	struct gmem *mems[3];

	arm();
	for (unsigned int i = 0; i < 3; i++) {
		fds[i] = memfd(MIB);
		mems[i] = map(fds[i], MIB);
	}
	assert_int_equal(ftruncate(fds[1], 0), 0);
	mems[1]->regions[0].hva[5] = 1;
	mems[0]->regions[0].hva[5] = 1;
	mems[2]->regions[0].hva[5] = 1;
	assert_false(gmem_is_broken(mems[0]));
	assert_true(gmem_is_broken(mems[1]));
	assert_false(gmem_is_broken(mems[2]));
	for (unsigned int i = 0; i < 3; i++) {
		gmem_free(mems[i]);
		close(fds[i]);
	}
	assert_true(news_came());
}

/* A mapping that takes the place of a broken one starts with a clean name. */
static void forgets_with_the_mapping(void **state)
{
	arm();
	for (unsigned int i = 0; i < 100; i++) {
		int fd = memfd(MIB);
		struct gmem *mem = map(fd, MIB);

		assert_false(gmem_is_broken(mem));
		assert_int_equal(ftruncate(fd, 0), 0);
		mem->regions[0].hva[i * PAGE] = 1;
		assert_true(gmem_is_broken(mem));
		gmem_free(mem);
		close(fd);
	}
	assert_true(news_came());
}

/* Faults all over a file, highest address first: the worst order for the number of mappings. */
static void spends_few_mappings_on_many_faults(void **state)
{
	int fd = memfd(64 * MIB);
	struct gmem *mem = map(fd, 64 * MIB);
	unsigned int before = n_all_mappings();

	arm();
	assert_int_equal(ftruncate(fd, 0), 0);
	for (uint64_t at = 64 * MIB; at > 0; at -= 8 * PAGE)
		mem->regions[0].hva[at - 1] = 1;
	assert_true(n_all_mappings() <= before + 8);
	gmem_free(mem);
	close(fd);
	assert_true(news_came());
}

struct tug {
	int fd;
	struct gmem *mem;
	bool stop;
	unsigned int n_rounds;
};

static void *truncate_and_grow(void *argument)
{
	struct tug *tug = argument;

	while (!__atomic_load_n(&tug->stop, __ATOMIC_RELAXED)) {
		assert_int_equal(ftruncate(tug->fd, 0), 0);
		assert_int_equal(ftruncate(tug->fd, MIB), 0);
		__atomic_fetch_add(&tug->n_rounds, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

static void *read_all(void *argument)
{
	struct tug *tug = argument;
	uint8_t sum = 0;

	while (!__atomic_load_n(&tug->stop, __ATOMIC_RELAXED)) {
		for (uint64_t at = 0; at < MIB; at += PAGE / 4)
			sum += __atomic_load_n(&tug->mem->regions[0].hva[at], __ATOMIC_RELAXED);
	}
	return (void *)(uintptr_t)sum;
}

/* S2: one thread truncates and grows while two read through the mapping and the fourth maps and unmaps others. */
static void survives_truncation_while_others_read(void **state)
{
	arm();
	for (unsigned int i = 0; i < 20; i++) {
		struct tug tug = {.fd = memfd(MIB)};
		pthread_t threads[3];
		int other = memfd(MIB);

		tug.mem = map(tug.fd, MIB);
		assert_int_equal(pthread_create(&threads[0], NULL, truncate_and_grow, &tug), 0);
		assert_int_equal(pthread_create(&threads[1], NULL, read_all, &tug), 0);
		assert_int_equal(pthread_create(&threads[2], NULL, read_all, &tug), 0);
		for (unsigned int n = 0; n < 200 ||
			__atomic_load_n(&tug.n_rounds, __ATOMIC_RELAXED) < 50; n++) {
			struct gmem *mem = map(other, MIB);

			mem->regions[0].hva[n] = 1;
			assert_false(gmem_is_broken(mem));
			gmem_free(mem);
		}
		__atomic_store_n(&tug.stop, true, __ATOMIC_RELAXED);
		for (unsigned int t = 0; t < 3; t++)
			pthread_join(threads[t], NULL);
		gmem_free(tug.mem);
		close(tug.fd);
		close(other);
	}
	news_came();
}

/* S4: a hole is not a truncation. */
static void does_not_mind_holes(void **state)
{
	int fd = memfd(MIB);
	struct gmem *mem = map(fd, MIB);

	arm();
	memset(mem->regions[0].hva, 0x55, MIB);
	assert_int_equal(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, MIB), 0);
	assert_int_equal(mem->regions[0].hva[100], 0);
	assert_false(gmem_is_broken(mem));
	gmem_free(mem);
	close(fd);
}

/* S5: huge pages mapped that the machine does not have. Of the largest kind, for those are kept by nobody else. */
static void goes_on_when_huge_pages_run_out(void **state)
{
	const uint64_t huge = 1024 * MIB;
	int fd = memfd_create("huge", MFD_CLOEXEC | MFD_HUGETLB | MFD_HUGE_1GB);
	unsigned int before = n_mappings();
	struct gmem *mem;

	arm();
	if (fd < 0 || ftruncate(fd, (off_t)(4 * huge)) < 0) {
		print_message("skipped: no huge pages of 1 GiB here (%s)\n", strerror(errno));
		if (fd >= 0)
			close(fd);
		skip();
	}
	mem = map(fd, 4 * huge);
	mem->regions[0].hva[huge + 9] = 1;
	if (gmem_is_broken(mem)) {
		assert_int_equal(mem->regions[0].hva[huge + 9], 1);
		assert_int_equal(mem->regions[0].hva[3 * huge], 0);
		assert_true(news_came());
	} else {
		print_message("no fault: this machine has such a page free\n");
	}
	gmem_free(mem);
	assert_int_equal(n_mappings(), before);
	close(fd);
}

static void in_child(void (*act)(void), int expected_signal)
{
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (pid == 0) {
		const struct rlimit none = {0};

		setrlimit(RLIMIT_CORE, &none);
		act();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), expected_signal);
}

static void touch_our_own_truncated_file(void)
{
	int fd = memfd_create("ours", MFD_CLOEXEC);
	volatile uint8_t *bytes;

	if (fd < 0 || ftruncate(fd, PAGE) < 0)
		_exit(1);
	bytes = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (bytes == MAP_FAILED || ftruncate(fd, 0) < 0)
		_exit(1);
	bytes[0] = 1;
}

static void touch_a_mapping_already_given_up(void)
{
	int fd = memfd(MIB);
	struct gmem *mem = map(fd, MIB);
	uint8_t *bytes = mem->regions[0].hva;

	gmem_free(mem);
	if (ftruncate(fd, 0) < 0 ||
		mmap(bytes, MIB, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) != bytes)
		_exit(1);
	*(volatile uint8_t *)bytes = 1;
}

static void send_it_to_ourselves(void)
{
	kill(getpid(), SIGBUS);
	usleep(1000000);
}

/* S8 */
static void lets_faults_of_our_own_kill(void **state)
{
	arm();
	in_child(touch_our_own_truncated_file, SIGBUS);
	in_child(touch_a_mapping_already_given_up, SIGBUS);
	in_child(send_it_to_ourselves, SIGBUS);
	assert_false(news_came());
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(installs_once),
		cmocka_unit_test(goes_on_with_zero_pages_after_truncation),
		cmocka_unit_test(blames_the_guest_that_did_it_alone),
		cmocka_unit_test(forgets_with_the_mapping),
		cmocka_unit_test(spends_few_mappings_on_many_faults),
		cmocka_unit_test(survives_truncation_while_others_read),
		cmocka_unit_test(does_not_mind_holes),
		cmocka_unit_test(goes_on_when_huge_pages_run_out),
		cmocka_unit_test(lets_faults_of_our_own_kill),
	};

	news = gmem_guard_install();
	sigaction(SIGBUS, NULL, &guard);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
