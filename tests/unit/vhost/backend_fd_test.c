/* SPDX-License-Identifier: BSD-3-Clause */
/* File descriptors in messages: how many, of which kind, where in the stream, and what is left of
 * them. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "session_fixture.h"

#define N_ELEMENTS(array) (sizeof(array) / sizeof((array)[0]))

static void wrong_number_of_fds_is_refused_and_all_are_closed(void **state)
{
	static const unsigned int counts[] = {0, 1, 2, 8, 9, 252, 253};
	int fds[253];
	struct sample sample;
	struct fixture f;

	for (uint32_t request = 1; request < VU_N_REQUESTS; request++) {
		const struct vu_rule *rule = vu_request_rule(request);

		for (size_t i = 0; i < N_ELEMENTS(counts); i++) {
			unsigned int n = counts[i];
			enum outcome outcome;
			int event_fd;

			fixture_open(&f, NULL);
			client_negotiate(&f);
			client_set_memory(&f);
			sample_open(&f, request, &sample);
			event_fd = eventfd(0, EFD_CLOEXEC);
			for (unsigned int k = 0; k < n; k++)
				fds[k] = event_fd;
			if (n != sample.n_fds && (rule->fds != VU_FDS_TOLERATED || n > 1)) {
				outcome = client_call(
					&f, request, sample.payload, sample.size, fds, n);
				assert_true(
					outcome == OUTCOME_REFUSED || outcome == OUTCOME_CLOSED);
			}
			close(event_fd);
			sample_close(&sample);
			fixture_close(&f);
		}
	}
}

static void fd_on_region_removal_is_tolerated_and_closed(void **state)
{
	struct vu_mem_region_payload payload;
	struct fixture f;

	fixture_open(&f, NULL);
	client_negotiate(&f);
	client_set_memory(&f);
	payload = (struct vu_mem_region_payload){.region = guest_region(&f)};
	assert_int_equal(
		client_call(&f, VU_REQUEST_REM_MEM_REG, &payload, sizeof(payload), &f.memory.fd, 1),
		OUTCOME_OK);
	fixture_close(&f);
}

static void fds_behind_the_first_byte_are_not_taken(void **state)
{
	const struct vu_header header = {VU_REQUEST_SET_VRING_CALL, VU_FLAGS_VERSION, 8};
	const uint64_t ring = 0;
	struct fixture f;
	int fd;

	/* With a later byte of the header: nobody does that by accident. */
	fixture_open(&f, NULL);
	fd = eventfd(0, EFD_CLOEXEC);
	client_write_bytes(&f, &header, 5, NULL, 0);
	assert_int_equal(session_run(&f), 0);
	client_write_bytes(&f, (const uint8_t *)&header + 5, sizeof(header) - 5, &fd, 1);
	assert_int_equal(session_run(&f), -1);
	assert_int_equal(vu_backend_close_reason(f.session), VU_CLOSE_PROTOCOL);
	close(fd);
	fixture_close(&f);

	/* With the payload: the kernel drops them, and the message lacks its descriptor. */
	fixture_open(&f, NULL);
	fd = eventfd(0, EFD_CLOEXEC);
	client_write_bytes(&f, &header, sizeof(header), NULL, 0);
	client_write_bytes(&f, &ring, sizeof(ring), &fd, 1);
	assert_int_equal(session_run(&f), -1);
	assert_int_equal(vu_backend_ring(f.session, 0)->call_fd, -1);
	close(fd);
	fixture_close(&f);
}

static void fds_of_the_next_message_stay_with_it(void **state)
{
	const struct vu_ring_state_payload num = {.index = 0, .num = 8};
	const uint64_t ring = 0;
	struct fixture f;
	int fd;

	fixture_open(&f, NULL);
	fd = eventfd(0, EFD_CLOEXEC);
	client_write(&f, VU_REQUEST_SET_VRING_NUM, VU_FLAGS_VERSION, sizeof(num), &num, sizeof(num),
		NULL, 0);
	client_write(&f, VU_REQUEST_SET_VRING_CALL, VU_FLAGS_VERSION, sizeof(ring), &ring,
		sizeof(ring), &fd, 1);
	client_write(&f, VU_REQUEST_SET_OWNER, VU_FLAGS_VERSION, 0, NULL, 0, NULL, 0);
	assert_int_equal(session_run(&f), 0);
	assert_int_equal(vu_backend_ring(f.session, 0)->size, 8);
	assert_true(vu_backend_ring(f.session, 0)->call_fd >= 0);
	close(fd);
	fixture_close(&f);
}

static void limit_of_open_files_ends_the_session_without_a_leak(void **state)
{
	const uint64_t ring = 0;
	int fds[8];
	struct rlimit old;
	struct rlimit low;
	struct fixture f;
	int event_fd;

	for (unsigned int room = 0; room < 8; room++) {
		fixture_open(&f, NULL);
		event_fd = eventfd(0, EFD_CLOEXEC);
		for (unsigned int i = 0; i < 8; i++)
			fds[i] = event_fd;
		client_write(&f, VU_REQUEST_SET_VRING_CALL, VU_FLAGS_VERSION, 8, &ring, 8, fds, 8);
		assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
		low = old;
		low.rlim_cur = (rlim_t)event_fd + 1 + room;
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
		assert_int_equal(session_run(&f), -1);
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
		assert_int_equal(vu_backend_close_reason(f.session), VU_CLOSE_RESOURCE);
		close(event_fd);
		fixture_close(&f);
	}
}

static void credentials_beside_fds_do_not_confuse(void **state)
{
	const struct vu_header header = {VU_REQUEST_SET_VRING_ERR, VU_FLAGS_VERSION, 8};
	const struct ucred self = {.pid = getpid(), .uid = getuid(), .gid = getgid()};
	_Alignas(struct cmsghdr)
		uint8_t control[CMSG_SPACE(sizeof(self)) + 2 * CMSG_SPACE(4)] = {0};
	uint8_t bytes[sizeof(header) + 8] = {0};
	struct iovec iov = {.iov_base = bytes, .iov_len = sizeof(bytes)};
	struct msghdr msg = {.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = CMSG_SPACE(sizeof(self)) + CMSG_SPACE(sizeof(int))};
	int on = 1;
	struct cmsghdr *c;
	struct fixture f;
	int fd;

	fixture_open(&f, NULL);
	fd = eventfd(0, EFD_CLOEXEC);
	/* So that the kernel delivers both control messages. */
	assert_int_equal(
		setsockopt(vu_backend_fd(f.session), SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)), 0);
	memcpy(bytes, &header, sizeof(header));
	c = CMSG_FIRSTHDR(&msg);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_CREDENTIALS;
	c->cmsg_len = CMSG_LEN(sizeof(self));
	memcpy(CMSG_DATA(c), &self, sizeof(self));
	c = CMSG_NXTHDR(&msg, c);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	assert_int_equal(sendmsg(f.fd, &msg, 0), sizeof(bytes));
	assert_int_equal(session_run(&f), 0);
	assert_true(vu_backend_ring(f.session, 0)->err_fd >= 0);
	close(fd);
	fixture_close(&f);
}

static void fd_numbers_above_1024_work(void **state)
{
	static int fillers[1100];
	unsigned int n = 0;
	struct rlimit limit;
	struct fixture f;
	int fd;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	if (limit.rlim_max < 2048) {
		print_message("skipped: the hard limit of open files is %lu, 2048 are needed\n",
			(unsigned long)limit.rlim_max);
		skip();
	}
	limit.rlim_cur = limit.rlim_cur < 2048 ? 2048 : limit.rlim_cur;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	fixture_open(&f, NULL);
	client_start(&f);
	fd = eventfd(0, EFD_CLOEXEC);
	while (n < N_ELEMENTS(fillers)) {
		fillers[n] = dup(fd);
		assert_true(fillers[n] >= 0);
		n++;
	}
	assert_int_equal(client_call_fd(&f, VU_REQUEST_SET_VRING_CALL, 0, fd), OUTCOME_OK);
	assert_true(vu_backend_ring(f.session, 0)->call_fd > 1024);
	assert_int_equal(eventfd_drain(fd), 1);
	while (n > 0)
		close(fillers[--n]);
	close(fd);
	fixture_close(&f);
}

/* Every kind of file that is no eventfd. -1 where this machine has none. */
static int open_pipe(void)
{
	int ends[2];

	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	close(ends[0]);
	return ends[1];
}

static int open_socket(void)
{
	int ends[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	close(ends[0]);
	return ends[1];
}

static int open_datagram_socket(void)
{
	return socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
}

static int open_inet_socket(void)
{
	return socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
}

static int open_file(void)
{
	return open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
}

static int open_directory(void)
{
	return open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static int open_path(void)
{
	return open("/proc/self/exe", O_PATH | O_CLOEXEC);
}

static int open_null(void)
{
	return open("/dev/null", O_RDWR | O_CLOEXEC);
}

static int open_zero(void)
{
	return open("/dev/zero", O_RDWR | O_CLOEXEC);
}

static int open_timer(void)
{
	const struct itimerspec always = {
		.it_value = {.tv_nsec = 1}, .it_interval = {.tv_nsec = 1}};
	int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);

	assert_int_equal(timerfd_settime(fd, 0, &always, NULL), 0);
	return fd;
}

static int open_signal(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	return signalfd(-1, &set, SFD_CLOEXEC);
}

static int open_epoll(void)
{
	return epoll_create1(EPOLL_CLOEXEC);
}

static int open_memfd(void)
{
	int fd = memfd_create("plain", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	assert_int_equal(ftruncate(fd, GUEST_BYTES), 0);
	return fd;
}

static int open_memfd_write_sealed(void)
{
	int fd = open_memfd();

	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), 0);
	return fd;
}

static int open_memfd_read_only(void)
{
	char path[64];
	int fd = open_memfd();
	int read_only;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	read_only = open(path, O_RDONLY | O_CLOEXEC);
	close(fd);
	return read_only;
}

static int open_event(void)
{
	return eventfd(0, EFD_CLOEXEC);
}

typedef int (*opener)(void);

static void only_eventfds_are_taken_as_kick_call_and_err(void **state)
{
	static const opener kinds[] = {open_pipe, open_socket, open_datagram_socket, open_file,
		open_directory, open_path, open_null, open_zero, open_timer, open_signal,
		open_epoll, open_memfd};
	static const uint32_t requests[] = {
		VU_REQUEST_SET_VRING_KICK, VU_REQUEST_SET_VRING_CALL, VU_REQUEST_SET_VRING_ERR};
	struct fixture f;

	for (size_t r = 0; r < N_ELEMENTS(requests); r++) {
		for (size_t i = 0; i < N_ELEMENTS(kinds); i++) {
			int fd;

			fixture_open(&f, NULL);
			client_negotiate(&f);
			fd = kinds[i]();
			if (fd < 0) {
				print_message("not tried: kind %zu cannot be opened: %s\n", i,
					strerror(errno));
			} else {
				assert_int_equal(
					client_call_fd(&f, requests[r], 1, fd), OUTCOME_REFUSED);
				close(fd);
			}
			assert_int_equal(vu_backend_ring(f.session, 1)->state, VU_RING_STOPPED);
			fixture_close(&f);
		}
	}
}

static void session_socket_and_listener_are_not_taken_as_kick(void **state)
{
	struct fixture f;
	int listener;

	fixture_open(&f, NULL);
	client_negotiate(&f);
	assert_int_equal(client_call_fd(&f, VU_REQUEST_SET_VRING_KICK, 0, f.fd), OUTCOME_REFUSED);
	assert_int_equal(client_call_fd(&f, VU_REQUEST_SET_VRING_KICK, 0, vu_backend_fd(f.session)),
		OUTCOME_REFUSED);
	listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(
		client_call_fd(&f, VU_REQUEST_SET_VRING_KICK, 0, listener), OUTCOME_REFUSED);
	close(listener);
	fixture_close(&f);
}

static void semaphore_eventfd_is_refused_where_the_kernel_tells(void **state)
{
	char path[64];
	char text[512] = "";
	struct fixture f;
	FILE *info;
	int fd = eventfd(0, EFD_CLOEXEC | EFD_SEMAPHORE);

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	info = fopen(path, "re");
	assert_non_null(info);
	assert_true(fread(text, 1, sizeof(text) - 1, info) > 0);
	fclose(info);
	close(fd);
	if (strstr(text, "eventfd-semaphore") == NULL) {
		print_message("skipped: this kernel does not show the semaphore mode\n");
		skip();
	}
	fixture_open(&f, NULL);
	client_negotiate(&f);
	fd = eventfd(0, EFD_CLOEXEC | EFD_SEMAPHORE);
	assert_int_equal(client_call_fd(&f, VU_REQUEST_SET_VRING_KICK, 0, fd), OUTCOME_REFUSED);
	close(fd);
	fixture_close(&f);
}

static void full_blocking_eventfd_does_not_block_the_session(void **state)
{
	struct fixture f;
	int fd;

	fixture_open(&f, NULL);
	client_start(&f);
	fd = eventfd(0, EFD_CLOEXEC);
	assert_int_equal(eventfd_write(fd, UINT64_MAX - 1), 0);
	/* Replacing the call descriptor of a running ring signals it once. A hang fails the test by
	 * its time limit. */
	assert_int_equal(client_call_fd(&f, VU_REQUEST_SET_VRING_CALL, 0, fd), OUTCOME_OK);
	close(fd);
	fixture_close(&f);
}

static void only_shared_writable_memory_is_taken_as_region(void **state)
{
	static const opener kinds[] = {open_pipe, open_socket, open_event, open_directory,
		open_path, open_null, open_zero, open_timer, open_epoll, open_memfd_write_sealed,
		open_memfd_read_only};
	struct vu_region_payload region;
	struct fixture f;

	for (size_t i = 0; i < N_ELEMENTS(kinds); i++) {
		int fd;

		fixture_open(&f, NULL);
		client_negotiate(&f);
		region = guest_region(&f);
		fd = kinds[i]();
		if (fd < 0) {
			print_message(
				"not tried: kind %zu cannot be opened: %s\n", i, strerror(errno));
		} else {
			assert_int_equal(client_add_region(&f, &region, fd), OUTCOME_REFUSED);
			assert_int_equal(client_set_table(&f, &region, &fd, 1), OUTCOME_REFUSED);
			close(fd);
		}
		assert_null(vu_backend_memory(f.session));
		fixture_close(&f);
	}
}

static void channel_must_be_a_unix_stream_socket(void **state)
{
	static const opener kinds[] = {open_pipe, open_event, open_datagram_socket,
		open_inet_socket, open_file, open_null, open_memfd};
	struct resources before;
	struct fixture f;
	int fd;

	fixture_open(&f, NULL);
	client_negotiate(&f);
	for (size_t i = 0; i < N_ELEMENTS(kinds); i++) {
		fd = kinds[i]();
		if (fd < 0) {
			print_message(
				"not tried: kind %zu cannot be opened: %s\n", i, strerror(errno));
			continue;
		}
		assert_int_equal(client_call(&f, VU_REQUEST_SET_BACKEND_REQ_FD, NULL, 0, &fd, 1),
			OUTCOME_REFUSED);
		close(fd);
	}
	/* A half closed one, never read, is taken; the next one replaces it. */
	fd = open_socket();
	assert_int_equal(
		client_call(&f, VU_REQUEST_SET_BACKEND_REQ_FD, NULL, 0, &fd, 1), OUTCOME_OK);
	close(fd);
	before = resources_now();
	fd = open_socket();
	assert_int_equal(
		client_call(&f, VU_REQUEST_SET_BACKEND_REQ_FD, NULL, 0, &fd, 1), OUTCOME_OK);
	close(fd);
	resources_assert_flat(&before);
	fixture_close(&f);
}

static void one_eventfd_for_everything_works(void **state)
{
	static const uint32_t requests[] = {
		VU_REQUEST_SET_VRING_CALL, VU_REQUEST_SET_VRING_ERR, VU_REQUEST_SET_VRING_KICK};
	struct fixture f;
	int fd;

	fixture_open(&f, NULL);
	client_start(&f);
	fd = eventfd(0, EFD_CLOEXEC);
	for (uint32_t i = 0; i < FIXTURE_RINGS; i++) {
		for (size_t r = 0; r < N_ELEMENTS(requests); r++)
			assert_int_equal(client_call_fd(&f, requests[r], i, fd), OUTCOME_OK);
		assert_int_equal(vu_backend_ring(f.session, i)->state, VU_RING_RUNNING);
	}
	close(fd);
	fixture_close(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(wrong_number_of_fds_is_refused_and_all_are_closed),
		cmocka_unit_test(fd_on_region_removal_is_tolerated_and_closed),
		cmocka_unit_test(fds_behind_the_first_byte_are_not_taken),
		cmocka_unit_test(fds_of_the_next_message_stay_with_it),
		cmocka_unit_test(limit_of_open_files_ends_the_session_without_a_leak),
		cmocka_unit_test(credentials_beside_fds_do_not_confuse),
		cmocka_unit_test(fd_numbers_above_1024_work),
		cmocka_unit_test(only_eventfds_are_taken_as_kick_call_and_err),
		cmocka_unit_test(session_socket_and_listener_are_not_taken_as_kick),
		cmocka_unit_test(semaphore_eventfd_is_refused_where_the_kernel_tells),
		cmocka_unit_test(full_blocking_eventfd_does_not_block_the_session),
		cmocka_unit_test(only_shared_writable_memory_is_taken_as_region),
		cmocka_unit_test(channel_must_be_a_unix_stream_socket),
		cmocka_unit_test(one_eventfd_for_everything_works),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
