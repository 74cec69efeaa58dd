/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A port's vhost-user front end: finding it, on a socket of ours or on its own, to which we connect again and again
 * until somebody is there; and the session with it while it is there, one at a time. Control thread.
 */
#ifndef PORT_FRONT_END_H
#define PORT_FRONT_END_H

#include <stdbool.h>

#include <base/log.h>
#include <base/unix_socket.h>
#include <port/guest.h>
#include <vhost/backend.h>

struct event;
struct event_base;

struct front_end_ops {
	/* Of the session; ctx is the port's. */
	struct vu_backend_ops session;
	/*
	 * A session is about to begin: what it offers. n_queue_pairs is as opened, n_memory_slots 0 (all that there
	 * can be); both may be lowered. Returns the virtio features.
	 */
	uint64_t (*features)(void *ctx, unsigned int *n_queue_pairs, unsigned int *n_memory_slots);
	void (*begun)(void *ctx);
	/* The session is over and freed; nobody uses its rings. */
	void (*ended)(void *ctx);
	bool keeps_memory; /* vu_backend_config */
};

struct front_end_config {
	const char *name; /* of the port, for log lines */
	enum guest_role role;
	const struct unix_socket_spec *socket; /* strings are copied as far as they are needed */
	unsigned int n_queue_pairs;
	struct event_base *events;
	const struct front_end_ops *ops; /* outlives the front end, like `name` */
	void *ctx;
};

struct front_end {
	const char *name;
	enum guest_role role;
	unsigned int n_queue_pairs;
	char *path;
	struct event_base *events;
	const struct front_end_ops *ops;
	void *ctx;
	/* Finding. */
	int listen_fd; /* -1: role connect */
	struct unix_socket_identity identity;
	struct event *listen_event;
	struct event *retry_event;
	unsigned int retry_ms;
	/* The session; NULL: nobody is there. */
	struct vu_backend *session;
	struct event *session_event;
	uint64_t n_begun;
	char last_error[UNIX_SOCKET_ERROR_MAX]; /* why a session ended, or did not begin; "": there was none */
	struct log_limit log_limit; /* what the peer did wrong, in this session and those that follow */
};

/* 0, or a negative errno and a line; then it need not be closed. */
int front_end_open(struct front_end *front_end, const struct front_end_config *config, char *error,
	size_t error_size);

/* Ends the session. All zero is allowed: never opened. */
void front_end_close(struct front_end *front_end);

/* Ends the session for a reason, which is logged and kept as last_error unless it is "". */
void front_end_lose(struct front_end *front_end, const char *why);

#endif
