/* SPDX-License-Identifier: BSD-3-Clause */
/* What the files of the front-end role share. */
#ifndef VHOST_FRONTEND_PRIVATE_H
#define VHOST_FRONTEND_PRIVATE_H

#include <vhost/connection.h>
#include <vhost/frontend.h>

struct vu_frontend {
	struct vu_connection connection;
	struct vu_connection channel; /* requests of the back end */
	bool has_channel;
	uint64_t n_backend_requests;
	uint64_t deadline_us;
	uint64_t wanted_protocol_features;
	uint64_t offered;
	uint64_t features;
	uint64_t protocol_features;
	unsigned int n_queue_pairs;
	unsigned int n_memory_slots;
	int over; /* 0, or the code every call returns from now on */
	char error[256];
};

/* Notes the line for vu_frontend_error() and hands the code through. */
int frontend_fail(struct vu_frontend *session, int code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* The same, and the session is over: the stream is out of step, or there is none any more. */
int frontend_end(struct vu_frontend *session, int code, const char *name, const char *reason);

/*
 * One request and, where it has one, its answer: the message's own reply into `reply` (its fixed
 * number of bytes), or the ack if REPLY_ACK was taken.
 */
int frontend_call(struct vu_frontend *session, enum vu_request request, const void *payload,
	size_t size, const int *fds, unsigned int n_fds, void *reply);

static inline int frontend_call_u64(
	struct vu_frontend *session, enum vu_request request, uint64_t value)
{
	return frontend_call(session, request, &value, sizeof(value), NULL, 0, NULL);
}

/* A request without payload whose reply is a u64. */
static inline int frontend_ask_u64(
	struct vu_frontend *session, enum vu_request request, uint64_t *value)
{
	return frontend_call(session, request, NULL, 0, NULL, 0, value);
}

/* Makes the channel and gives the back end its end. */
int frontend_channel_open(struct vu_frontend *session);
void frontend_channel_close(struct vu_frontend *session);
/* Answers a bounded number of requests. */
void frontend_channel_serve(struct vu_frontend *session);

#endif
