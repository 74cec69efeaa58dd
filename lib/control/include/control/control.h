/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * JSON-RPC 2.0 over a UNIX stream socket, one object or batch per line. The server knows nothing of
 * what is controlled: it is given a table of methods.
 *
 * What a client can cost is bounded (struct control_limits): a client beyond a bound is answered
 * with an error where that is possible and is disconnected where it is not; the others and the
 * process go on.
 *
 * Params are objects; lists (by position) are refused. Notifications are executed and not answered.
 * One method is built in: `rpc.list` names the methods of the table with their summaries.
 *
 * Thread rule: every call, and so every handler, on the thread that runs the event base.
 */
#ifndef CONTROL_CONTROL_H
#define CONTROL_CONTROL_H

#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include <base/unix_socket.h>

struct event_base;
struct control_server;

/* JSON-RPC 2.0, section 5.1; the last is ours, from the range left to servers. */
#define CONTROL_PARSE_ERROR      (-32700)
#define CONTROL_INVALID_REQUEST  (-32600)
#define CONTROL_METHOD_NOT_FOUND (-32601)
#define CONTROL_INVALID_PARAMS   (-32602)
#define CONTROL_INTERNAL_ERROR   (-32603)
#define CONTROL_REFUSED          (-32000) /* the request is well formed and cannot be done */

#define CONTROL_MESSAGE_MAX      1280

struct control_error {
	int code;
	char message[CONTROL_MESSAGE_MAX]; /* one line: object, value, what is allowed, next step */
};

/*
 * `params` is an object (an empty one if the request has none), valid during the call. Returns 0
 * with a new reference in
 * `*result` (left NULL it stands for {}), or a negative errno with `error` filled; control_fail()
 * does both. An `error` not filled is sent as CONTROL_REFUSED with the errno's text.
 */
typedef int (*control_handler)(
	void *ctx, const json_t *params, json_t **result, struct control_error *error);

/* A row of the table; a row without a name ends it. */
struct control_method {
	const char *name;
	const char *summary; /* one line */
	control_handler handle;
};

/* Zero in a field stands for its default. */
struct control_limits {
	uint32_t n_connections;  /* default 32; one more is told so and disconnected */
	uint32_t request_bytes;  /* default 1 MiB, without the newline; a client with more is
				    disconnected */
	uint32_t n_batch;        /* default 256 requests in a batch */
	uint32_t output_bytes;   /* default 64 MiB; a larger answer becomes an error */
	uint32_t send_timeout_s; /* default 10; a client that takes nothing for so long is
				    disconnected */
};

/*
 * Listens and serves from now on. The table and `ctx` must outlive the server; the other arguments
 * are copied or read during the call; `limits` may be NULL. NULL with errno set and one line in
 * `error` if the socket cannot be made (see unix_socket_listen()).
 *
 * Side effect: SIGPIPE is ignored from now on in the whole process, unless it has a handler.
 */
struct control_server *control_server_create(struct event_base *base,
	const struct unix_socket_spec *socket, const struct control_method *methods, void *ctx,
	const struct control_limits *limits, char *error, size_t error_size);

/*
 * Closes every connection, sends nothing more, and removes the socket's name if it is still ours.
 * Not from a handler. NULL is allowed.
 */
void control_server_destroy(struct control_server *server);

/* Connections at present. */
uint32_t control_server_n_connections(const struct control_server *server);

/* Fills `error` and returns `code_errno`, so that a handler's refusal is one statement. */
int control_fail(struct control_error *error, int code, int code_errno, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

#endif
