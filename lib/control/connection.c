/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A client's bytes become requests one at a time, at most one per turn of the event loop: thousands
 * of requests sent in one piece must not keep the control thread from the guests' sessions. The
 * next request waits until the answer before it is sent: a client that does not read holds one
 * answer's memory, and not for ever.
 *
 * States: OPEN reads and answers. DRAINING reads no more: what is waiting is sent, then the
 * connection closes.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>

#include <base/log.h>

#include "connection.h"

enum connection_state {
	CONNECTION_OPEN,
	CONNECTION_DRAINING,
};

struct connection {
	TAILQ_ENTRY(connection) link;
	struct control_server *server;
	struct bufferevent *stream;
	struct event *next_turn; /* a request without an answer was handled, there may be another */
	enum connection_state state;
	bool is_eof; /* nothing more will come; what came is still to be answered */
};

static bool is_sending(const struct connection *c)
{
	return evbuffer_get_length(bufferevent_get_output(c->stream)) > 0;
}

static void connection_drain(struct connection *c)
{
	c->state = CONNECTION_DRAINING;
	bufferevent_disable(c->stream, EV_READ);
	if (!is_sending(c))
		connection_close(c);
}

static int append_bytes(const char *bytes, size_t n_bytes, void *buffer)
{
	return evbuffer_add(buffer, bytes, n_bytes);
}

/* Takes the reference over. False if the connection is gone afterwards. */
static bool answer_send(struct connection *c, json_t *answer)
{
	struct evbuffer *line = evbuffer_new();
	bool is_too_large;

	if (line == NULL || json_dump_callback(answer, append_bytes, line, JSON_COMPACT) < 0 ||
		evbuffer_add(line, "\n", 1) < 0) {
		log_error("control socket '%s': out of memory for an answer", c->server->path);
		json_decref(answer);
		if (line != NULL)
			evbuffer_free(line);
		connection_close(c);
		return false;
	}
	is_too_large = evbuffer_get_length(line) > c->server->limits.output_bytes;
	if (is_too_large) {
		json_t *refusal = rpc_error(json_object_get(answer, "id"), CONTROL_REFUSED,
			"result is too large to send; ask for one object by name, or use smaller "
			"batches");

		evbuffer_drain(line, evbuffer_get_length(line));
		json_dump_callback(refusal, append_bytes, line, JSON_COMPACT);
		evbuffer_add(line, "\n", 1);
		json_decref(refusal);
	}
	json_decref(answer);
	evbuffer_add_buffer(bufferevent_get_output(c->stream), line);
	evbuffer_free(line);
	return true;
}

/* The next line without its newline, or at the end of input what is left; NULL: none yet. The
 * caller frees it. */
static char *line_take(struct connection *c, size_t *n_bytes)
{
	struct evbuffer *input = bufferevent_get_input(c->stream);
	char *line = evbuffer_readln(input, n_bytes, EVBUFFER_EOL_LF);

	*n_bytes = line != NULL ? *n_bytes : evbuffer_get_length(input);
	if (line != NULL || !c->is_eof || *n_bytes == 0)
		return line;
	line = malloc(*n_bytes);
	if (line != NULL)
		evbuffer_remove(input, line, *n_bytes);
	return line;
}

static bool is_blank(const char *line, size_t n_bytes)
{
	for (size_t i = 0; i < n_bytes; i++) {
		if (strchr(" \t\r", line[i]) == NULL || line[i] == '\0')
			return false;
	}
	return true;
}

static void on_input(struct bufferevent *stream, void *data)
{
	struct connection *c = data;
	const struct control_server *s = c->server;
	const struct timeval now = {0};
	size_t n_bytes = 0;
	json_t *answer = NULL;
	char *line;

	if (c->state != CONNECTION_OPEN || is_sending(c) || evtimer_pending(c->next_turn, NULL))
		return;
	line = line_take(c, &n_bytes);
	if (line == NULL) {
		if (n_bytes > s->limits.request_bytes) {
			answer = rpc_error(NULL, CONTROL_INVALID_REQUEST,
				"request is too large; send it in several smaller ones");
			if (answer_send(c, answer))
				connection_drain(c);
		} else if (c->is_eof) {
			connection_drain(c);
		}
		return;
	}
	if (!is_blank(line, n_bytes))
		answer = rpc_execute(&s->table, line, n_bytes);
	free(line);
	if (answer != NULL)
		answer_send(c, answer);
	else
		event_add(c->next_turn, &now);
}

static void on_next_turn(evutil_socket_t fd, short events, void *data)
{
	struct connection *c = data;

	on_input(c->stream, c);
}

static void on_sent(struct bufferevent *stream, void *data)
{
	struct connection *c = data;

	if (c->state == CONNECTION_DRAINING && !is_sending(c))
		connection_close(c);
	else
		on_input(stream, c);
}

static void on_event(struct bufferevent *stream, short events, void *data)
{
	/* Callbacks are deferred: the end of input and a failed write may come as one event. */
	bool is_broken = (events & (BEV_EVENT_ERROR | BEV_EVENT_TIMEOUT)) != 0;
	struct connection *c = data;

	if (!is_broken) {
		c->is_eof = true;
		on_input(stream, c);
		return;
	}
	if ((events & BEV_EVENT_TIMEOUT) != 0)
		log_warn("control socket '%s': disconnecting a client that took nothing for %u s",
			c->server->path, c->server->limits.send_timeout_s);
	connection_close(c);
}

int connection_open(struct control_server *server, evutil_socket_t fd)
{
	struct connection *c = calloc(1, sizeof(*c));
	struct timeval timeout = {.tv_sec = server->limits.send_timeout_s};

	if (c == NULL) {
		close(fd);
		return -ENOMEM;
	}
	c->next_turn = evtimer_new(server->base, on_next_turn, c);
	c->stream = bufferevent_socket_new(
		server->base, fd, BEV_OPT_CLOSE_ON_FREE | BEV_OPT_DEFER_CALLBACKS);
	if (c->next_turn == NULL || c->stream == NULL) {
		if (c->next_turn != NULL)
			event_free(c->next_turn);
		if (c->stream != NULL)
			bufferevent_free(c->stream);
		else
			close(fd);
		free(c);
		return -ENOMEM;
	}
	c->server = server;
	TAILQ_INSERT_TAIL(&server->connections, c, link);
	server->n_connections++;
	bufferevent_setcb(c->stream, on_input, on_sent, on_event, c);
	/* One byte more than the longest request and its newline: enough to see that it is too
	 * long. */
	bufferevent_setwatermark(c->stream, EV_READ, 0, (size_t)server->limits.request_bytes + 1);
	bufferevent_set_timeouts(c->stream, NULL, &timeout);
	if (server->n_connections > server->limits.n_connections) {
		json_t *refusal = rpc_error(NULL, CONTROL_REFUSED,
			"too many connections to the control socket; close one and try again");

		if (answer_send(c, refusal))
			connection_drain(c);
		return 0;
	}
	bufferevent_enable(c->stream, EV_READ | EV_WRITE);
	return 0;
}

void connection_close(struct connection *connection)
{
	struct control_server *server = connection->server;

	TAILQ_REMOVE(&server->connections, connection, link);
	server->n_connections--;
	event_free(connection->next_turn);
	bufferevent_free(connection->stream);
	free(connection);
}
