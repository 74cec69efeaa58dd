/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/event.h>

#include <base/clock.h>

#include "front_end.h"

/* Between attempts to connect, or to accept again after descriptors ran out. */
#define RETRY_MIN_MS 100
#define RETRY_MAX_MS 1000

#define FIRST_MESSAGE_US (10 * 1000 * 1000)

static void retry_later(struct front_end *front_end, unsigned int ms)
{
	struct timeval delay = { .tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000 };

	event_add(front_end->retry_event, &delay);
}

static void session_end(struct front_end *front_end)
{
	event_free(front_end->session_event);
	front_end->session_event = NULL;
	vu_backend_destroy(front_end->session);
	front_end->session = NULL;
	front_end->ops->ended(front_end->ctx);
}

void front_end_lose(struct front_end *front_end, const char *why)
{
	if (why[0] != '\0') {
		snprintf(front_end->last_error, sizeof(front_end->last_error), "%s", why);
		log_limited(&front_end->log_limit, LOG_LEVEL_WARN, "port %s: %s; disconnected",
			front_end->name, why);
	}
	session_end(front_end);
	if (front_end->role == GUEST_ROLE_CONNECT)
		retry_later(front_end, RETRY_MIN_MS);
}

static void session_watch(struct front_end *front_end);

static void on_session(evutil_socket_t fd, short what, void *ctx)
{
	struct front_end *front_end = ctx;

	if (vu_backend_process(front_end->session) != 0)
		front_end_lose(front_end, vu_backend_close_text(front_end->session));
	else
		session_watch(front_end);
}

/* Watches the session's fd for what it wants now, and its deadline. */
static void session_watch(struct front_end *front_end)
{
	short events = vu_backend_events(front_end->session);
	uint64_t deadline_us = vu_backend_deadline_us(front_end->session);
	uint64_t now_us = clock_now_us();
	uint64_t wait_us = deadline_us > now_us ? deadline_us - now_us : 0;
	struct timeval wait = { .tv_sec = (time_t)(wait_us / 1000000),
		.tv_usec = (suseconds_t)(wait_us % 1000000) };

	event_del(front_end->session_event);
	event_assign(front_end->session_event, front_end->events, vu_backend_fd(front_end->session),
		(short)((events & POLLIN ? EV_READ : 0) | (events & POLLOUT ? EV_WRITE : 0)),
		on_session, front_end);
	event_add(front_end->session_event, deadline_us == UINT64_MAX ? NULL : &wait);
}

/* Takes over the socket. False if there is no memory for a session. */
static bool session_begin(struct front_end *front_end, int fd)
{
	unsigned int n_memory_slots = 0, n_queue_pairs = front_end->n_queue_pairs;
	uint64_t features = front_end->ops->features(front_end->ctx, &n_queue_pairs, &n_memory_slots);
	struct vu_backend_config config = {
		.name = front_end->name,
		.features = features,
		.n_queue_pairs = n_queue_pairs,
		.n_memory_slots = n_memory_slots,
		/* One that connects and says nothing must not keep others out; where we connect, nobody else can. */
		.first_message_us = front_end->role == GUEST_ROLE_LISTEN ? FIRST_MESSAGE_US : 0,
		.keeps_memory = front_end->ops->keeps_memory,
		.log_limit = &front_end->log_limit,
		.ops = &front_end->ops->session,
		.ctx = front_end->ctx,
	};

	front_end->session = vu_backend_create(&config, fd);
	if (front_end->session == NULL) {
		log_limited(&front_end->log_limit, LOG_LEVEL_ERROR, "port %s: cannot start a session: %s",
			front_end->name, strerror(errno));
		close(fd);
		return false;
	}
	front_end->session_event = event_new(front_end->events, fd, EV_READ, on_session, front_end);
	if (front_end->session_event == NULL) {
		log_error("port %s: cannot watch a session: out of memory", front_end->name);
		vu_backend_destroy(front_end->session);
		front_end->session = NULL;
		return false;
	}
	front_end->n_begun++;
	front_end->retry_ms = RETRY_MIN_MS;
	front_end->ops->begun(front_end->ctx);
	session_watch(front_end);
	return true;
}

/* Whether a front end may begin; else the one that came is turned away. */
static bool is_free(struct front_end *front_end)
{
	/* One that has hung up already, and whose end is yet to be noticed, does not count. */
	if (front_end->session != NULL && vu_backend_process(front_end->session) != 0)
		front_end_lose(front_end, vu_backend_close_text(front_end->session));
	if (front_end->session == NULL)
		return true;
	session_watch(front_end);
	log_limited(&front_end->log_limit, LOG_LEVEL_WARN,
		"port %s: a second front end was turned away, one is connected (pid %d)", front_end->name,
		(int)vu_backend_peer_pid(front_end->session));
	return false;
}

static void on_accept(evutil_socket_t listen_fd, short what, void *ctx)
{
	struct front_end *front_end = ctx;
	int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0) {
		if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
			/* The connection stays queued: without a pause this event would fire at once, for ever. */
			log_limited(&front_end->log_limit, LOG_LEVEL_ERROR,
				"port %s: cannot accept: %s; raise the limit of open files (ulimit -n); "
				"trying again in %d ms",
				front_end->name, strerror(errno), RETRY_MAX_MS);
			event_del(front_end->listen_event);
			retry_later(front_end, RETRY_MAX_MS);
		}
		return;
	}
	if (is_free(front_end))
		session_begin(front_end, fd);
	else
		close(fd);
}

static void on_retry(evutil_socket_t unused_fd, short what, void *ctx)
{
	struct front_end *front_end = ctx;
	char error[UNIX_SOCKET_ERROR_MAX];
	int fd;

	if (front_end->role == GUEST_ROLE_LISTEN) {
		event_add(front_end->listen_event, NULL);
		return;
	}
	fd = unix_socket_connect(front_end->path, error, sizeof(error));
	if (fd >= 0 && session_begin(front_end, fd))
		return;
	/* A front end that is not there yet is the normal case; anything else is said once per kind. */
	if (fd < 0 && fd != -ENOENT && fd != -ECONNREFUSED && fd != -EAGAIN &&
		strcmp(front_end->last_error, error) != 0) {
		snprintf(front_end->last_error, sizeof(front_end->last_error), "%s", error);
		log_limited(&front_end->log_limit, LOG_LEVEL_WARN, "port %s: %s", front_end->name,
			front_end->last_error);
	}
	retry_later(front_end, front_end->retry_ms);
	front_end->retry_ms = front_end->retry_ms * 2 < RETRY_MAX_MS ? front_end->retry_ms * 2 : RETRY_MAX_MS;
}

static int start(struct front_end *front_end, const struct unix_socket_spec *socket, char *error,
	size_t error_size)
{
	int rc;

	front_end->path = strdup(socket->path);
	front_end->retry_event = event_new(front_end->events, -1, 0, on_retry, front_end);
	if (front_end->path == NULL || front_end->retry_event == NULL) {
		snprintf(error, error_size, "out of memory");
		return -ENOMEM;
	}
	if (front_end->role == GUEST_ROLE_CONNECT) {
		rc = unix_socket_path_check(front_end->path, error, error_size);
		if (rc == 0)
			retry_later(front_end, 0);
		return rc;
	}
	front_end->listen_fd = unix_socket_listen(socket, error, error_size);
	if (front_end->listen_fd < 0)
		return front_end->listen_fd;
	unix_socket_identify(front_end->path, &front_end->identity);
	front_end->listen_event = event_new(
		front_end->events, front_end->listen_fd, EV_READ | EV_PERSIST, on_accept, front_end);
	if (front_end->listen_event == NULL || event_add(front_end->listen_event, NULL) != 0) {
		snprintf(error, error_size, "out of memory");
		return -ENOMEM;
	}
	return 0;
}

int front_end_open(struct front_end *front_end, const struct front_end_config *config, char *error,
	size_t error_size)
{
	int rc;

	*front_end = (struct front_end){
		.name = config->name,
		.role = config->role,
		.events = config->events,
		.n_queue_pairs = config->n_queue_pairs,
		.ops = config->ops,
		.ctx = config->ctx,
		.listen_fd = -1,
		.retry_ms = RETRY_MIN_MS,
	};
	rc = start(front_end, config->socket, error, error_size);
	if (rc != 0)
		front_end_close(front_end);
	return rc;
}

void front_end_close(struct front_end *front_end)
{
	if (front_end->session != NULL)
		session_end(front_end);
	if (front_end->retry_event != NULL)
		event_free(front_end->retry_event);
	if (front_end->listen_event != NULL)
		event_free(front_end->listen_event);
	if (front_end->path != NULL && front_end->listen_fd >= 0) {
		unix_socket_unlink(front_end->path, &front_end->identity);
		close(front_end->listen_fd);
	}
	free(front_end->path);
	memset(front_end, 0, sizeof(*front_end));
}
