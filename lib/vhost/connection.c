/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <base/clock.h>
#include <vhost/connection.h>

#define NO_DEADLINE UINT64_MAX

int vu_fds_take(struct vu_fds *fds, unsigned int i)
{
	int fd;

	if (i >= fds->n)
		return -1;
	fd = fds->fd[i];
	fds->fd[i] = -1;
	return fd;
}

void vu_fds_close(struct vu_fds *fds)
{
	for (unsigned int i = 0; i < fds->n; i++) {
		if (fds->fd[i] >= 0)
			close(fds->fd[i]);
	}
	fds->n = 0;
}

static int __attribute__((format(printf, 3, 4)))
fail(struct vu_connection *connection, int code, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(connection->error, sizeof(connection->error), format, args);
	va_end(args);
	return code;
}

void vu_connection_init(
	struct vu_connection *connection, struct vu_transport transport, uint64_t timeout_us)
{
	memset(connection, 0, sizeof(*connection));
	connection->transport = transport;
	connection->timeout_us = timeout_us;
	connection->in_deadline_us = NO_DEADLINE;
	connection->out_deadline_us = NO_DEADLINE;
}

void vu_connection_expect(struct vu_connection *connection, uint64_t timeout_us)
{
	connection->in_deadline_us = clock_now_us() + timeout_us;
}

static void out_clear(struct vu_connection *connection)
{
	for (unsigned int i = 0; i < connection->n_out_fds; i++)
		close(connection->out_fds[i]);
	connection->n_out_fds = 0;
	connection->n_out = 0;
	connection->n_out_sent = 0;
	connection->out_deadline_us = NO_DEADLINE;
}

void vu_connection_close(struct vu_connection *connection)
{
	vu_fds_close(&connection->in.fds);
	out_clear(connection);
	connection->transport.ops->close(connection->transport.ctx);
}

static int check_header(
	struct vu_connection *connection, const struct vu_header *header, bool want_reply)
{
	uint32_t version = header->flags & VU_FLAGS_VERSION_MASK;
	bool is_reply = (header->flags & VU_FLAGS_REPLY) != 0;

	if (version != VU_FLAGS_VERSION)
		return fail(connection, -EPROTO, "%s: version %u; only 1 is known",
			vu_request_name(header->request), version);
	if (is_reply != want_reply)
		return fail(connection, -EPROTO,
			is_reply ? "%s: reply bit set in a request"
				 : "%s: reply bit missing in a reply",
			vu_request_name(header->request));
	return 0;
}

static int check_size(struct vu_connection *connection, const struct vu_header *header)
{
	if (header->size > VU_PAYLOAD_MAX)
		return fail(connection, -EPROTO, "%s: payload of %u bytes; allowed: 0..%u",
			vu_request_name(header->request), header->size, VU_PAYLOAD_MAX);
	return 0;
}

static int receive_failed(struct vu_connection *connection, ssize_t n)
{
	if (n == 0 || n == -ECONNRESET) {
		/* Between messages a peer may go whenever it likes. */
		return fail(connection, -ECONNRESET, "%s",
			connection->n_in == 0 ? "" : "closed in the middle of a message");
	}
	if (n == -EMFILE)
		return fail(connection, -EMFILE,
			"file descriptors lost in transit; raise the open files limit");
	return fail(connection, (int)n, "receive: %s", strerror((int)-n));
}

/* One step: part of the header or of the payload. 1: got bytes. 0: none there. */
static int receive_some(struct vu_connection *connection)
{
	struct vu_transport *transport = &connection->transport;
	struct vu_message *in = &connection->in;
	const size_t header_bytes = sizeof(in->header);
	unsigned int n_fds = in->fds.n;
	ssize_t n;

	if (connection->n_in < header_bytes)
		n = transport->ops->receive(transport->ctx,
			(uint8_t *)&in->header + connection->n_in, header_bytes - connection->n_in,
			&in->fds);
	else
		n = transport->ops->receive(transport->ctx,
			in->payload + (connection->n_in - header_bytes),
			header_bytes + in->header.size - connection->n_in, NULL);
	if (n == -EAGAIN)
		return 0;
	if (n <= 0)
		return receive_failed(connection, n);
	if (connection->n_in == 0)
		connection->in_deadline_us = clock_now_us() + connection->timeout_us;
	else if (in->fds.n != n_fds)
		return fail(connection, -EPROTO, "file descriptors in the middle of a message");
	connection->n_in += (size_t)n;
	return 1;
}

static int receive(struct vu_connection *connection, bool check, bool want_reply)
{
	const struct vu_header *header = &connection->in.header;
	int ret;

	for (;;) {
		bool had_header = connection->n_in >= sizeof(*header);

		if (had_header && connection->n_in == sizeof(*header) + header->size) {
			connection->in_deadline_us = NO_DEADLINE;
			return 1;
		}
		ret = receive_some(connection);
		if (ret < 0)
			return ret;
		if (ret == 0)
			break;
		if (had_header || connection->n_in < sizeof(*header))
			continue;
		/* What is wrong already with the header is not worth a payload. */
		ret = check ? check_header(connection, header, want_reply) : 0;
		if (ret == 0)
			ret = check_size(connection, header);
		if (ret < 0)
			return ret;
	}
	if (clock_now_us() >= connection->in_deadline_us)
		return fail(connection, -ETIMEDOUT,
			connection->n_in > 0 ? "rest of a message did not come in time"
					     : "no message came in time");
	return 0;
}

int vu_connection_receive(struct vu_connection *connection, bool want_reply)
{
	return receive(connection, true, want_reply);
}

int vu_connection_receive_any(struct vu_connection *connection)
{
	return receive(connection, false, false);
}

void vu_connection_next(struct vu_connection *connection)
{
	vu_fds_close(&connection->in.fds);
	/* No byte of this message may be taken for one of a later, shorter one. */
	memset(&connection->in.header, 0, sizeof(connection->in.header));
	memset(connection->in.payload, 0, sizeof(connection->in.payload));
	connection->n_in = 0;
	connection->in_deadline_us = NO_DEADLINE;
}

/* Descriptors that cannot leave at once must outlive the caller's. */
static int out_keep_fds(struct vu_connection *connection, const int *fds, unsigned int n_fds)
{
	for (unsigned int i = 0; i < n_fds; i++) {
		int fd = fcntl(fds[i], F_DUPFD_CLOEXEC, 0);

		if (fd < 0)
			return -errno;
		connection->out_fds[connection->n_out_fds++] = fd;
	}
	return 0;
}

int vu_connection_send(struct vu_connection *connection, const struct vu_header *header,
	const void *payload, size_t n_payload, const int *fds, unsigned int n_fds)
{
	struct vu_transport *transport = &connection->transport;
	size_t n_bytes = sizeof(*header) + n_payload;
	ssize_t n;
	int ret;

	if (connection->n_out > 0)
		return fail(connection, -EBUSY, "an earlier message still waits to be sent");
	if (n_payload > VU_PAYLOAD_MAX)
		return fail(connection, -EINVAL, "payload of %zu bytes; allowed: 0..%u", n_payload,
			VU_PAYLOAD_MAX);
	memcpy(connection->out, header, sizeof(*header));
	if (n_payload > 0)
		memcpy(connection->out + sizeof(*header), payload, n_payload);

	n = transport->ops->send(transport->ctx, connection->out, n_bytes, fds, n_fds);
	if (n < 0 && n != -EAGAIN)
		return fail(connection, (int)n, "send: %s", strerror((int)-n));
	if (n == (ssize_t)n_bytes)
		return 0;

	connection->n_out = n_bytes;
	connection->n_out_sent = n > 0 ? (size_t)n : 0;
	connection->out_deadline_us = clock_now_us() + connection->timeout_us;
	if (connection->n_out_sent > 0 || n_fds == 0)
		return 0;
	ret = n_fds <= VU_CONNECTION_FDS_OUT_MAX ? out_keep_fds(connection, fds, n_fds) : -E2BIG;
	if (ret < 0) {
		out_clear(connection);
		return fail(connection, ret, "file descriptors to send: %s", strerror(-ret));
	}
	return 0;
}

int vu_connection_flush(struct vu_connection *connection)
{
	struct vu_transport *transport = &connection->transport;

	while (connection->n_out_sent < connection->n_out) {
		bool first = connection->n_out_sent == 0;
		ssize_t n = transport->ops->send(transport->ctx,
			connection->out + connection->n_out_sent,
			connection->n_out - connection->n_out_sent, connection->out_fds,
			first ? connection->n_out_fds : 0);

		if (n == -EAGAIN) {
			if (clock_now_us() >= connection->out_deadline_us)
				return fail(connection, -ETIMEDOUT, "reply not taken after %llu ms",
					(unsigned long long)connection->timeout_us / 1000);
			return 0;
		}
		if (n < 0)
			return fail(connection, (int)n, "send: %s", strerror((int)-n));
		connection->n_out_sent += (size_t)n;
	}
	out_clear(connection);
	return 1;
}

int vu_connection_fd(const struct vu_connection *connection)
{
	return connection->transport.ops->fd(connection->transport.ctx);
}

short vu_connection_events(const struct vu_connection *connection)
{
	return connection->n_out > 0 ? POLLOUT : POLLIN;
}

uint64_t vu_connection_deadline_us(const struct vu_connection *connection)
{
	return connection->in_deadline_us < connection->out_deadline_us
		       ? connection->in_deadline_us
		       : connection->out_deadline_us;
}
