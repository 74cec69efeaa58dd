/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The back end's own channel. It is as hostile as the main one and less needed: nothing that a back
 * end can ask for is negotiated by us, so every request is refused, and a back end that does not
 * speak the protocol there loses it.
 */
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "frontend_private.h"

/* A back end that floods the channel must not keep us from looking at the deadline. */
#define REQUESTS_PER_TURN 16

int frontend_channel_open(struct vu_frontend *session)
{
	struct vu_transport transport;
	int ends[2];
	int ret;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
		return frontend_fail(session, -errno, "no socket pair for the back end's channel");
	ret = vu_transport_socket(&transport, ends[0]);
	if (ret == 0)
		ret = frontend_call(
			session, VU_REQUEST_SET_BACKEND_REQ_FD, NULL, 0, &ends[1], 1, NULL);
	close(ends[1]);
	if (ret < 0) {
		close(ends[0]);
		return ret;
	}
	vu_connection_init(&session->channel, transport, session->deadline_us);
	session->has_channel = true;
	return 0;
}

void frontend_channel_close(struct vu_frontend *session)
{
	if (session->has_channel)
		vu_connection_close(&session->channel);
	session->has_channel = false;
}

static int refuse_request(struct vu_connection *channel)
{
	const struct vu_rule *rule = vu_backend_request_rule(channel->in.header.request);
	const uint64_t code = 1;
	const struct vu_header header = {
		.request = channel->in.header.request,
		.flags = VU_FLAGS_VERSION | VU_FLAGS_REPLY,
		.size = sizeof(code),
	};
	bool waits = (channel->in.header.flags & VU_FLAGS_NEED_REPLY) != 0 ||
		     (rule != NULL && rule->reply != VU_REPLY_ACK);
	int ret = waits ? vu_connection_send(channel, &header, &code, sizeof(code), NULL, 0) : 0;

	vu_connection_next(channel);
	return ret;
}

void frontend_channel_serve(struct vu_frontend *session)
{
	struct vu_connection *channel = &session->channel;
	int ret = 1;

	for (unsigned int i = 0; i < REQUESTS_PER_TURN && session->has_channel; i++) {
		ret = vu_connection_flush(channel);
		if (ret > 0)
			ret = vu_connection_receive(channel, false);
		if (ret == 0)
			return;
		if (ret > 0) {
			session->n_backend_requests++;
			ret = refuse_request(channel);
		}
		if (ret < 0)
			frontend_channel_close(session);
	}
}

uint64_t vu_frontend_n_backend_requests(const struct vu_frontend *session)
{
	return session->n_backend_requests;
}

int vu_frontend_process_backend_requests(struct vu_frontend *session)
{
	if (session->has_channel)
		frontend_channel_serve(session);
	return session->has_channel
		       ? 0
		       : frontend_fail(session, -EPROTO, "the back end's channel is not open");
}
