/* SPDX-License-Identifier: BSD-3-Clause */
/* The byte stream of a vhost-user connection over a UNIX stream socket. */
#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <vhost/connection.h>

/* Everything the kernel can deliver with one message, so that MSG_CTRUNC means that descriptors ran
 * out. */
#define CONTROL_BYTES (CMSG_SPACE(sizeof(int) * VU_FDS_MAX) + CMSG_SPACE(sizeof(struct ucred)))

static int socket_of(const void *ctx)
{
	return (int)(intptr_t)ctx;
}

/* Walks every control message: the peer decides how many there are and in which order. */
static void collect_fds(struct msghdr *msg, struct vu_fds *fds)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c != NULL; c = CMSG_NXTHDR(msg, c)) {
		size_t n;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < n; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
			if (fds->n < VU_FDS_MAX)
				fds->fd[fds->n++] = fd;
			else
				close(fd);
		}
	}
}

static ssize_t receive_with_fds(int fd, void *data, size_t size, struct vu_fds *fds)
{
	_Alignas(struct cmsghdr) uint8_t control[CONTROL_BYTES];
	struct iovec iov = {.iov_base = data, .iov_len = size};
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	ssize_t n;

	do {
		n = recvmsg(fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	collect_fds(&msg, fds);
	return (msg.msg_flags & MSG_CTRUNC) != 0 ? -EMFILE : n;
}

static ssize_t socket_receive(void *ctx, void *data, size_t size, struct vu_fds *fds)
{
	ssize_t n;

	if (fds != NULL)
		return receive_with_fds(socket_of(ctx), data, size, fds);
	do {
		n = recv(socket_of(ctx), data, size, MSG_DONTWAIT);
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

static ssize_t socket_send(
	void *ctx, const void *data, size_t size, const int *fds, unsigned int n_fds)
{
	_Alignas(struct cmsghdr) uint8_t control[CONTROL_BYTES] = {0};
	struct iovec iov = {.iov_base = (void *)(uintptr_t)data, .iov_len = size};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	ssize_t n;

	if (n_fds > VU_FDS_MAX)
		return -E2BIG;
	if (n_fds > 0) {
		struct cmsghdr *c;

		msg.msg_control = control;
		msg.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
		memcpy(CMSG_DATA(c), fds, sizeof(int) * n_fds);
	}
	do {
		n = sendmsg(socket_of(ctx), &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

static int socket_fd(const void *ctx)
{
	return socket_of(ctx);
}

static void socket_close(void *ctx)
{
	close(socket_of(ctx));
}

static const struct vu_transport_ops socket_ops = {
	.receive = socket_receive,
	.send = socket_send,
	.fd = socket_fd,
	.close = socket_close,
};

int vu_transport_socket(struct vu_transport *transport, int fd)
{
	socklen_t length = sizeof(int);
	int type;

	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) < 0)
		return -errno;
	if (type != SOCK_STREAM)
		return -EPROTOTYPE;
	*transport = (struct vu_transport){.ops = &socket_ops, .ctx = (void *)(intptr_t)fd};
	return 0;
}
