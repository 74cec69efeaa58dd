/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <base/clock.h>

#include <control/client.h>

#define REQUEST_ID       1
#define CHUNK_BYTES      65536
#define CONNECT_RETRY_MS 10

static int timed_out(const char *path, struct control_error *error)
{
	return control_fail(error, 0, -ETIMEDOUT,
		"no answer from '%s' in time; see the daemon's log, or allow more time", path);
}

static int wait_for(int fd, short events, uint64_t deadline_us)
{
	uint64_t now_us = clock_now_us();
	struct pollfd wait = {.fd = fd, .events = events};
	int ret;

	if (now_us >= deadline_us)
		return -ETIMEDOUT;
	ret = poll(&wait, 1, (int)((deadline_us - now_us) / 1000 + 1));
	if (ret == 0)
		return -ETIMEDOUT;
	return ret < 0 && errno != EINTR ? -errno : 0;
}

static const char *advice(int code)
{
	switch (code) {
	case -ENOENT:
	case -ECONNREFUSED:
		return "is ringway running, and is this its control socket?";
	case -EACCES:
		return "run as a member of the socket's group, or as root";
	default:
		return "check the path";
	}
}

/* A full queue of connections passes; everything else is an answer. */
static int client_connect(const char *path, uint64_t deadline_us, struct control_error *error)
{
	const struct timespec pause = {.tv_nsec = CONNECT_RETRY_MS * 1000000L};
	char text[UNIX_SOCKET_ERROR_MAX];
	int fd;

	for (;;) {
		fd = unix_socket_connect(path, text, sizeof(text));
		if (fd != -EAGAIN)
			break;
		if (clock_now_us() >= deadline_us)
			return timed_out(path, error);
		nanosleep(&pause, NULL);
	}
	if (fd < 0)
		return control_fail(error, 0, fd, "%s; %s", text, advice(fd));
	return fd;
}

static int request_send(int fd, const char *path, const char *text, size_t n_bytes,
	uint64_t deadline_us, struct control_error *error)
{
	while (n_bytes > 0) {
		ssize_t n = send(fd, text, n_bytes, MSG_NOSIGNAL);
		int ret = 0;

		if (n > 0) {
			text += n;
			n_bytes -= (size_t)n;
		} else if (errno == EAGAIN) {
			ret = wait_for(fd, POLLOUT, deadline_us);
		} else if (errno != EINTR) {
			ret = -errno;
		}
		if (ret == -ETIMEDOUT)
			return timed_out(path, error);
		/* The server may hang up after it has said why: that is read next. */
		if (ret == -EPIPE || ret == -ECONNRESET)
			return 0;
		if (ret < 0)
			return control_fail(
				error, 0, ret, "cannot send to '%s': %s", path, strerror(-ret));
	}
	return 0;
}

/* One line, without its newline, zero-terminated; the caller frees it. */
static int answer_receive(
	int fd, const char *path, uint64_t deadline_us, char **line, struct control_error *error)
{
	size_t n_bytes = 0, size = CHUNK_BYTES;
	char *text = malloc(size), *newline = NULL;
	int ret = text != NULL ? 0 : -ENOMEM;

	while (ret == 0 && newline == NULL) {
		ssize_t n;

		if (n_bytes + 1 == size) {
			char *larger = size < CONTROL_CLIENT_ANSWER_BYTES_MAX
					       ? realloc(text, size * 2)
					       : NULL;

			if (larger == NULL) {
				ret = -EPROTO;
				break;
			}
			text = larger;
			size *= 2;
		}
		n = recv(fd, text + n_bytes, size - n_bytes - 1, 0);
		if (n > 0) {
			newline = memchr(text + n_bytes, '\n', (size_t)n);
			n_bytes += (size_t)n;
		} else if (n == 0) {
			ret = -ECONNRESET;
		} else if (errno == EAGAIN) {
			ret = wait_for(fd, POLLIN, deadline_us);
		} else if (errno != EINTR) {
			ret = -errno;
		}
	}
	if (ret == 0) {
		*newline = '\0';
		*line = text;
		return 0;
	}
	free(text);
	if (ret == -ETIMEDOUT)
		return timed_out(path, error);
	if (ret == -EPROTO)
		return control_fail(error, 0, ret, "answer from '%s' is larger than %u bytes", path,
			CONTROL_CLIENT_ANSWER_BYTES_MAX);
	return control_fail(error, 0, ret,
		"connection to '%s' ended without an answer: %s; see the daemon's log", path,
		strerror(-ret));
}

static int answer_read(
	const char *path, const char *line, json_t **result, struct control_error *error)
{
	json_t *answer = json_loads(line, JSON_REJECT_DUPLICATES, NULL);
	json_t *value = json_object_get(answer, "result");
	const json_t *refusal = json_object_get(answer, "error");
	const char *message = json_string_value(json_object_get(refusal, "message"));
	int ret = 0;

	if (value != NULL && json_integer_value(json_object_get(answer, "id")) == REQUEST_ID)
		*result = json_incref(value);
	else if (message != NULL)
		ret = control_fail(error, (int)json_integer_value(json_object_get(refusal, "code")),
			-EREMOTEIO, "%s", message);
	else
		ret = control_fail(error, 0, -EPROTO,
			"'%s' does not answer as JSON-RPC; is this the control socket of ringway?",
			path);
	json_decref(answer);
	return ret;
}

/* The request as a line; the caller frees it. */
static char *request_text(const char *method, const json_t *params)
{
	json_t *request =
		json_pack("{s:s, s:i, s:s}", "jsonrpc", "2.0", "id", REQUEST_ID, "method", method);
	char *text, *line = NULL;

	if (request == NULL)
		return NULL;
	if (params != NULL)
		json_object_set(request, "params", (json_t *)params);
	text = json_dumps(request, JSON_COMPACT);
	json_decref(request);
	if (text != NULL && asprintf(&line, "%s\n", text) < 0)
		line = NULL;
	free(text);
	return line;
}

int control_client_call(const char *path, const char *method, const json_t *params,
	uint32_t timeout_ms, json_t **result, struct control_error *error)
{
	uint64_t deadline_us = clock_now_us() + (uint64_t)timeout_ms * 1000;
	char *request = request_text(method, params), *answer = NULL;
	int fd, ret;

	if (request == NULL)
		return control_fail(error, 0, -EINVAL, "method or parameters are not valid UTF-8");
	fd = client_connect(path, deadline_us, error);
	if (fd < 0) {
		free(request);
		return fd;
	}
	ret = request_send(fd, path, request, strlen(request), deadline_us, error);
	if (ret == 0)
		ret = answer_receive(fd, path, deadline_us, &answer, error);
	if (ret == 0)
		ret = answer_read(path, answer, result, error);
	free(answer);
	free(request);
	close(fd);
	return ret;
}
