/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How a port and its vhost-user front end find each other: on a socket of ours, or on the front end's, to which we connect
 * again and again until somebody is there. Control thread.
 */
#ifndef PORT_MEETING_H
#define PORT_MEETING_H

#include <stdbool.h>

#include <base/log.h>
#include <base/unix_socket.h>
#include <port/guest.h>

struct event;
struct event_base;

struct meeting_ops {
	/* Whether a front end may begin; else the one that came is turned away. */
	bool (*is_free)(void *ctx);
	/* Takes over the socket. False: it could not, and has closed the socket. */
	bool (*begin)(void *ctx, int fd);
};

struct meeting_config {
	const char *name; /* of the port, for log lines */
	enum guest_role role;
	const struct unix_socket_spec *socket; /* strings are copied as far as they are needed */
	struct event_base *events;
	struct log_limit *log_limit;
	const struct meeting_ops *ops;
	void *ctx;
};

struct meeting {
	const char *name;
	enum guest_role role;
	char *path;
	struct event_base *events;
	struct log_limit *log_limit;
	const struct meeting_ops *ops;
	void *ctx;
	int listen_fd; /* -1: role connect */
	struct unix_socket_identity identity;
	struct event *listen_event;
	struct event *retry_event;
	unsigned int retry_ms;
	char error[UNIX_SOCKET_ERROR_MAX]; /* why it could not connect last; "": it could, or nobody is there */
};

/* 0, or a negative errno and a line; then it need not be closed. */
int meeting_open(struct meeting *meeting, const struct meeting_config *config, char *error,
	size_t error_size);

/* All zero is allowed: never opened. */
void meeting_close(struct meeting *meeting);

/* The front end has gone: with GUEST_ROLE_CONNECT we look for it again. */
void meeting_ended(struct meeting *meeting);

#endif
