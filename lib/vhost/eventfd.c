/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
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
	if (n != (ssize_t)sizeof(expected) - 1 || memcmp(target, expected, sizeof(expected) - 1) != 0)
		return -EINVAL;
	return is_semaphore(fd) ? -EINVAL : 0;
}

int vu_eventfd_signal(int fd)
{
	const uint64_t one = 1;
	struct pollfd p = { .fd = fd, .events = POLLOUT };

	if (fd < 0)
		return 0;
	if (poll(&p, 1, 0) != 1 || (p.revents & POLLOUT) == 0)
		return -EAGAIN;
	return write(fd, &one, sizeof(one)) == (ssize_t)sizeof(one) ? 0 : -errno;
}
