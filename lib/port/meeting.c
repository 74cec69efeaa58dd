/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/event.h>

#include "meeting.h"

/* Between attempts to connect, or to accept again after descriptors ran out. */
#define RETRY_MIN_MS 100
#define RETRY_MAX_MS 1000

static void retry_later(struct meeting *meeting, unsigned int ms)
{
	struct timeval delay = { .tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000 };

	event_add(meeting->retry_event, &delay);
}

static bool begin(struct meeting *meeting, int fd)
{
	if (!meeting->ops->begin(meeting->ctx, fd))
		return false;
	meeting->retry_ms = RETRY_MIN_MS;
	return true;
}

static void on_accept(evutil_socket_t listen_fd, short what, void *ctx)
{
	struct meeting *meeting = ctx;
	int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0) {
		if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
			/* The connection stays queued: without a pause this event would fire at once, for ever. */
			log_limited(meeting->log_limit, LOG_LEVEL_ERROR,
				"port %s: cannot accept: %s; raise the limit of open files (ulimit -n); "
				"trying again in %d ms",
				meeting->name, strerror(errno), RETRY_MAX_MS);
			event_del(meeting->listen_event);
			retry_later(meeting, RETRY_MAX_MS);
		}
		return;
	}
	if (!meeting->ops->is_free(meeting->ctx)) {
		close(fd);
		return;
	}
	begin(meeting, fd);
}

static void on_retry(evutil_socket_t unused_fd, short what, void *ctx)
{
	struct meeting *meeting = ctx;
	char error[UNIX_SOCKET_ERROR_MAX];
	int fd;

	if (meeting->role == GUEST_ROLE_LISTEN) {
		event_add(meeting->listen_event, NULL);
		return;
	}
	fd = unix_socket_connect(meeting->path, error, sizeof(error));
	if (fd >= 0 && begin(meeting, fd))
		return;
	/* A front end that is not there yet is the normal case; anything else is said once per kind. */
	if (fd < 0 && fd != -ENOENT && fd != -ECONNREFUSED && fd != -EAGAIN &&
		strcmp(meeting->error, error) != 0) {
		snprintf(meeting->error, sizeof(meeting->error), "%s", error);
		log_limited(meeting->log_limit, LOG_LEVEL_WARN, "port %s: %s", meeting->name,
			meeting->error);
	}
	retry_later(meeting, meeting->retry_ms);
	meeting->retry_ms = meeting->retry_ms * 2 < RETRY_MAX_MS ? meeting->retry_ms * 2 : RETRY_MAX_MS;
}

static int start(struct meeting *meeting, const struct unix_socket_spec *socket, char *error,
	size_t error_size)
{
	int rc;

	meeting->path = strdup(socket->path);
	meeting->retry_event = event_new(meeting->events, -1, 0, on_retry, meeting);
	if (meeting->path == NULL || meeting->retry_event == NULL) {
		snprintf(error, error_size, "out of memory");
		return -ENOMEM;
	}
	if (meeting->role == GUEST_ROLE_CONNECT) {
		rc = unix_socket_path_check(meeting->path, error, error_size);
		if (rc == 0)
			retry_later(meeting, 0);
		return rc;
	}
	meeting->listen_fd = unix_socket_listen(socket, error, error_size);
	if (meeting->listen_fd < 0)
		return meeting->listen_fd;
	unix_socket_identify(meeting->path, &meeting->identity);
	meeting->listen_event = event_new(
		meeting->events, meeting->listen_fd, EV_READ | EV_PERSIST, on_accept, meeting);
	if (meeting->listen_event == NULL || event_add(meeting->listen_event, NULL) != 0) {
		snprintf(error, error_size, "out of memory");
		return -ENOMEM;
	}
	return 0;
}

int meeting_open(struct meeting *meeting, const struct meeting_config *config, char *error,
	size_t error_size)
{
	int rc;

	*meeting = (struct meeting){
		.name = config->name,
		.role = config->role,
		.events = config->events,
		.log_limit = config->log_limit,
		.ops = config->ops,
		.ctx = config->ctx,
		.listen_fd = -1,
		.retry_ms = RETRY_MIN_MS,
	};
	rc = start(meeting, config->socket, error, error_size);
	if (rc != 0)
		meeting_close(meeting);
	return rc;
}

void meeting_close(struct meeting *meeting)
{
	if (meeting->retry_event != NULL)
		event_free(meeting->retry_event);
	if (meeting->listen_event != NULL)
		event_free(meeting->listen_event);
	if (meeting->path != NULL && meeting->listen_fd >= 0) {
		unix_socket_unlink(meeting->path, &meeting->identity);
		close(meeting->listen_fd);
	}
	free(meeting->path);
	memset(meeting, 0, sizeof(*meeting));
}

void meeting_ended(struct meeting *meeting)
{
	if (meeting->role == GUEST_ROLE_CONNECT)
		retry_later(meeting, RETRY_MIN_MS);
}
