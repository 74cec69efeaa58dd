/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <vhost/eventfd.h>

static bool is_semaphore(int fd)
{
	char path[64];
	char text[1024];
	ssize_t n;
	int info;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	info = open(path, O_RDONLY | O_CLOEXEC);
	if (info < 0)
		return false;
	n = read(info, text, sizeof(text) - 1);
	close(info);
	text[n > 0 ? n : 0] = '\0';
	return strstr(text, "eventfd-semaphore: 1") != NULL;
}

int vu_eventfd_check(int fd)
{
	static const char expected[] = "anon_inode:[eventfd]";
	char path[64];
	char target[sizeof(expected) + 1];
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	n = readlink(path, target, sizeof(target));
	if (n != (ssize_t)sizeof(expected) - 1 ||
		memcmp(target, expected, sizeof(expected) - 1) != 0)
		return -EINVAL;
	return is_semaphore(fd) ? -EINVAL : 0;
}

/* For the life of the process. */
static pthread_once_t aio_once = PTHREAD_ONCE_INIT;
static aio_context_t aio_context;
static int zero_fd = -1;

static void aio_open(void)
{
	if (syscall(SYS_io_setup, 1, &aio_context) == 0)
		zero_fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);
}

/* A read that is complete at once; in the kernel, signalling `fd` for its completion never waits.
 */
static int signal_by_completion(int fd)
{
	uint8_t byte;
	struct iocb read_zero = {
		.aio_lio_opcode = IOCB_CMD_PREAD,
		.aio_fildes = (uint32_t)zero_fd,
		.aio_buf = (uintptr_t)&byte,
		.aio_nbytes = 1,
		.aio_flags = IOCB_FLAG_RESFD,
		.aio_resfd = (uint32_t)fd,
	};
	struct iocb *list[] = {&read_zero};
	struct io_event done;

	pthread_once(&aio_once, aio_open);
	if (zero_fd < 0)
		return -ENOSYS;
	if (syscall(SYS_io_submit, aio_context, 1, list) != 1)
		return -errno;
	syscall(SYS_io_getevents, aio_context, 1, 1, &done, NULL);
	return 0;
}

int vu_eventfd_signal(int fd)
{
	const uint64_t one = 1;
	struct pollfd p = {.fd = fd, .events = POLLOUT};

	if (fd < 0)
		return 0;
	if (poll(&p, 1, 0) != 1 || (p.revents & POLLOUT) == 0)
		return -EAGAIN;
	if (signal_by_completion(fd) == 0)
		return 0;
	return write(fd, &one, sizeof(one)) == (ssize_t)sizeof(one) ? 0 : -errno;
}
