/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <event2/event.h>
#include <event2/listener.h>

#include <base/log.h>

#include "connection.h"

#define CONNECTIONS_DEFAULT    32
#define REQUEST_BYTES_DEFAULT  (1024 * 1024)
#define BATCH_DEFAULT          256
#define OUTPUT_BYTES_DEFAULT   (64 * 1024 * 1024)
#define SEND_TIMEOUT_S_DEFAULT 10
#define ACCEPT_RETRY_MS        200

static void on_accept(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *address,
	int address_bytes, void *data)
{
	struct control_server *server = data;

	if (connection_open(server, fd) < 0)
		log_error("control socket '%s': out of memory for a connection", server->path);
}

/* Usually no descriptor is left: the waiting client would wake the loop without end. */
static void on_accept_error(struct evconnlistener *listener, void *data)
{
	struct timeval delay = {.tv_usec = ACCEPT_RETRY_MS * 1000};
	struct control_server *server = data;

	log_warn("control socket '%s': cannot accept a connection: %s", server->path,
		evutil_socket_error_to_string(EVUTIL_SOCKET_ERROR()));
	evconnlistener_disable(listener);
	event_add(server->accept_retry, &delay);
}

static void on_accept_retry(evutil_socket_t fd, short events, void *data)
{
	struct control_server *server = data;

	evconnlistener_enable(server->listener);
}

static uint32_t or_default(uint32_t value, uint32_t fallback)
{
	return value != 0 ? value : fallback;
}

static void limits_set(struct control_limits *to, const struct control_limits *from)
{
	static const struct control_limits none;

	if (from == NULL)
		from = &none;
	to->n_connections = or_default(from->n_connections, CONNECTIONS_DEFAULT);
	to->request_bytes = or_default(from->request_bytes, REQUEST_BYTES_DEFAULT);
	to->n_batch = or_default(from->n_batch, BATCH_DEFAULT);
	to->output_bytes = or_default(from->output_bytes, OUTPUT_BYTES_DEFAULT);
	to->send_timeout_s = or_default(from->send_timeout_s, SEND_TIMEOUT_S_DEFAULT);
}

/* libevent writes without MSG_NOSIGNAL: a client that goes away before its answer would end the
 * process. */
static void sigpipe_ignore(void)
{
	struct sigaction action;

	if (sigaction(SIGPIPE, NULL, &action) == 0 && action.sa_handler == SIG_DFL)
		signal(SIGPIPE, SIG_IGN);
}

struct control_server *control_server_create(struct event_base *base,
	const struct unix_socket_spec *socket, const struct control_method *methods, void *ctx,
	const struct control_limits *limits, char *error, size_t error_size)
{
	struct control_server *server = calloc(1, sizeof(*server));
	int fd, ret = ENOMEM;

	snprintf(error, error_size, "control socket '%s': out of memory", socket->path);
	if (server == NULL) {
		errno = ret;
		return NULL;
	}
	sigpipe_ignore();
	server->base = base;
	TAILQ_INIT(&server->connections);
	limits_set(&server->limits, limits);
	server->table = (struct rpc_table){methods, ctx, server->limits.n_batch};
	server->accept_retry = evtimer_new(base, on_accept_retry, server);
	if (server->accept_retry == NULL)
		goto fail_free;

	fd = unix_socket_listen(socket, error, error_size);
	if (fd < 0) {
		ret = -fd;
		goto fail_event;
	}
	snprintf(server->path, sizeof(server->path), "%s", socket->path);
	unix_socket_identify(server->path, &server->identity);
	/* Backlog 0: it is listening already. */
	server->listener = evconnlistener_new(
		base, on_accept, server, LEV_OPT_CLOSE_ON_EXEC | LEV_OPT_CLOSE_ON_FREE, 0, fd);
	if (server->listener == NULL)
		goto fail_socket;
	evconnlistener_set_error_cb(server->listener, on_accept_error);
	return server;

fail_socket:
	unix_socket_unlink(server->path, &server->identity);
	close(fd);
fail_event:
	event_free(server->accept_retry);
fail_free:
	free(server);
	errno = ret;
	return NULL;
}

void control_server_destroy(struct control_server *server)
{
	struct connection *connection;

	if (server == NULL)
		return;
	unix_socket_unlink(server->path, &server->identity);
	evconnlistener_free(server->listener);
	event_free(server->accept_retry);
	while ((connection = TAILQ_FIRST(&server->connections)) != NULL)
		connection_close(connection);
	free(server);
}

uint32_t control_server_n_connections(const struct control_server *server)
{
	return server->n_connections;
}
