/* SPDX-License-Identifier: BSD-3-Clause */
/* Requests and their answers, as blocking calls with a deadline, against a back end that may lie or
 * fall silent. */
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <base/clock.h>

#include "frontend_private.h"

int frontend_fail(struct vu_frontend *session, int code, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(session->error, sizeof(session->error), format, args);
	va_end(args);
	return code;
}

int frontend_end(struct vu_frontend *session, int code, const char *name, const char *reason)
{
	if (code == -EPIPE)
		code = -ECONNRESET;
	session->over = code;
	if (code == -ECONNRESET && reason[0] == '\0')
		reason = "the back end has closed the connection";
	return frontend_fail(session, code, "%s: %s", name, reason);
}

/* Waits for the main connection, and answers the back end's own requests meanwhile. */
static int wait_for(struct vu_frontend *session, uint64_t deadline_us)
{
	struct pollfd fds[2] = {
		{.fd = vu_connection_fd(&session->connection),
			.events = vu_connection_events(&session->connection)},
		{.fd = -1},
	};
	uint64_t now_us = clock_now_us();
	int n;

	if (now_us >= deadline_us)
		return -ETIMEDOUT;
	if (session->has_channel) {
		fds[1].fd = vu_connection_fd(&session->channel);
		fds[1].events = vu_connection_events(&session->channel);
	}
	n = poll(fds, 2, (int)((deadline_us - now_us) / 1000 + 1));
	if (n < 0 && errno != EINTR)
		return -errno;
	if (n > 0 && fds[1].revents != 0)
		frontend_channel_serve(session);
	return 0;
}

static int send_message(struct vu_frontend *session, const char *name,
	const struct vu_header *header, const void *payload, size_t n_payload, const int *fds,
	unsigned int n_fds, uint64_t deadline_us)
{
	struct vu_connection *connection = &session->connection;
	int ret = vu_connection_send(connection, header, payload, n_payload, fds, n_fds);

	while (ret == 0) {
		ret = vu_connection_flush(connection);
		if (ret > 0)
			return 0;
		if (ret == 0)
			ret = wait_for(session, deadline_us);
	}
	return frontend_end(session, ret, name,
		ret == -ETIMEDOUT ? "not taken before the deadline" : connection->error);
}

static int receive_message(
	struct vu_frontend *session, const char *name, bool any, uint64_t deadline_us)
{
	struct vu_connection *connection = &session->connection;
	int ret;

	do {
		ret = any ? vu_connection_receive_any(connection)
			  : vu_connection_receive(connection, true);
		if (ret > 0)
			return 0;
		if (ret == 0)
			ret = wait_for(session, deadline_us);
	} while (ret == 0);
	return frontend_end(session, ret, name,
		ret == -ETIMEDOUT ? "no answer before the deadline" : connection->error);
}

int vu_frontend_check(struct vu_frontend *session)
{
	struct vu_connection *connection = &session->connection;
	int ret;

	if (session->over != 0)
		return session->over;
	ret = vu_connection_receive(connection, true);
	if (ret < 0)
		return frontend_end(session, ret, "connection", connection->error);
	if (ret > 0 || connection->n_in > 0)
		return frontend_end(
			session, -EPROTO, "connection", "an answer that nothing asked for");
	return 0;
}

static int check_answer(
	struct vu_frontend *session, const struct vu_rule *rule, uint32_t request, uint32_t size)
{
	const struct vu_message *in = &session->connection.in;
	char reason[128];

	if (in->header.request != request)
		snprintf(reason, sizeof(reason), "answer to request %u instead of %u",
			in->header.request, request);
	else if (in->header.size != size)
		snprintf(reason, sizeof(reason), "answer of %u bytes; expected: %u",
			in->header.size, size);
	else if (in->fds.n != 0)
		snprintf(reason, sizeof(reason), "answer with %u file descriptors; expected: 0",
			in->fds.n);
	else
		return 0;
	vu_connection_next(&session->connection);
	return frontend_end(session, -EPROTO, rule->name, reason);
}

int frontend_call(struct vu_frontend *session, enum vu_request request, const void *payload,
	size_t size, const int *fds, unsigned int n_fds, void *reply)
{
	const struct vu_rule *rule = vu_request_rule(request);
	bool own_reply = rule->reply != VU_REPLY_ACK;
	bool ack =
		!own_reply && (session->protocol_features & VU_BIT(VU_PROTOCOL_F_REPLY_ACK)) != 0;
	const struct vu_header header = {
		.request = request,
		.flags = VU_FLAGS_VERSION | (ack ? VU_FLAGS_NEED_REPLY : 0),
		.size = (uint32_t)size,
	};
	uint64_t deadline_us = clock_now_us() + session->deadline_us;
	uint64_t code = 0;
	int ret = vu_frontend_check(session);

	if (ret < 0)
		return ret;
	if (!vu_rule_gate_is_open(rule, session->features, session->protocol_features))
		return frontend_fail(session, -EOPNOTSUPP,
			"%s: the feature it needs was not negotiated", rule->name);
	ret = send_message(session, rule->name, &header, payload, size, fds, n_fds, deadline_us);
	if (ret < 0 || (!own_reply && !ack))
		return ret;
	ret = receive_message(session, rule->name, false, deadline_us);
	if (ret < 0)
		return ret;
	ret = check_answer(session, rule, request, ack ? sizeof(code) : (uint32_t)rule->reply);
	if (ret < 0)
		return ret;
	if (ack)
		memcpy(&code, session->connection.in.payload, sizeof(code));
	else
		memcpy(reply, session->connection.in.payload, (size_t)rule->reply);
	vu_connection_next(&session->connection);
	if (code != 0)
		return frontend_fail(
			session, -EREMOTEIO, "%s: refused by the back end", rule->name);
	return 0;
}

int vu_frontend_raw(struct vu_frontend *session, const struct vu_frontend_raw *message,
	struct vu_frontend_raw_reply *reply)
{
	struct vu_connection *connection = &session->connection;
	const struct vu_header header = {
		.request = message->request,
		.flags = message->flags,
		.size = message->size,
	};
	uint64_t deadline_us = clock_now_us() + session->deadline_us;
	const char *name = vu_request_name(message->request);
	int ret;

	if (session->over != 0)
		return session->over;
	if (message->n_payload > VU_PAYLOAD_MAX || message->n_fds > VU_FDS_MAX)
		return frontend_fail(session, -EINVAL, "%s: payload or descriptors beyond %u, %u",
			name, VU_PAYLOAD_MAX, VU_FDS_MAX);
	ret = send_message(session, name, &header, message->payload, message->n_payload,
		message->fds, message->n_fds, deadline_us);
	if (ret < 0 || reply == NULL)
		return ret;
	ret = receive_message(session, name, true, deadline_us);
	if (ret < 0)
		return ret;
	reply->header = connection->in.header;
	memcpy(reply->payload, connection->in.payload, sizeof(reply->payload));
	reply->n_fds = connection->in.fds.n;
	vu_connection_next(connection);
	return 0;
}
