/* SPDX-License-Identifier: BSD-3-Clause */
/* The client waits, so the other side is a child process: a real server, or a peer that misbehaves
 * in one way. */
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <event2/event.h>

#include <base/clock.h>

#include <control/client.h>

#define PATIENCE_MS 5000

struct fixture {
	char dir[64];
	char path[96];
	pid_t child;
	struct control_error error;
	json_t *result;
};

static int fixture_setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	strcpy(f->dir, "/tmp/ringway-test-XXXXXX");
	if (mkdtemp(f->dir) == NULL)
		return -1;
	snprintf(f->path, sizeof(f->path), "%s/c.sock", f->dir);
	*state = f;
	return 0;
}

static int fixture_teardown(void **state)
{
	struct fixture *f = *state;
	int ret;

	if (f->child > 0) {
		kill(f->child, SIGKILL);
		waitpid(f->child, NULL, 0);
	}
	json_decref(f->result);
	unlink(f->path);
	ret = rmdir(f->dir);
	free(f);
	return ret;
}

static int handle_echo(
	void *ctx, const json_t *params, json_t **result, struct control_error *error)
{
	*result = json_deep_copy(params);
	return 0;
}

static int handle_refuse(
	void *ctx, const json_t *params, json_t **result, struct control_error *error)
{
	return control_fail(error, CONTROL_REFUSED, -EBUSY, "port 'vm1' is busy; wait");
}

static int handle_sleep(
	void *ctx, const json_t *params, json_t **result, struct control_error *error)
{
	sleep(30);
	return 0;
}

static const struct control_method methods[] = {
	{"echo", "gives its parameters back", handle_echo},
	{"refuse", "fails", handle_refuse},
	{"sleep", "takes long", handle_sleep},
	{NULL, NULL, NULL},
};

/* Listens in the parent, so that the child need not be waited for. */
static int listen_here(struct fixture *f)
{
	struct unix_socket_spec spec = {.path = f->path, .mode = 0600};
	char error[UNIX_SOCKET_ERROR_MAX];
	int fd = unix_socket_listen(&spec, error, sizeof(error));

	assert_true(fd >= 0);
	return fd;
}

static void serve(struct fixture *f)
{
	int ready[2];
	char byte;

	assert_int_equal(pipe(ready), 0);
	f->child = fork();
	assert_true(f->child >= 0);
	if (f->child == 0) {
		struct unix_socket_spec spec = {.path = f->path, .mode = 0600};
		struct event_base *base = event_base_new();
		char error[UNIX_SOCKET_ERROR_MAX];

		if (control_server_create(base, &spec, methods, NULL, NULL, error, sizeof(error)) ==
			NULL)
			_exit(1);
		(void)!write(ready[1], "x", 1);
		event_base_dispatch(base);
		_exit(0);
	}
	close(ready[1]);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	close(ready[0]);
}

/* A child that takes one connection, reads what comes, writes `n_bytes` of `answer` and hangs up or
 * stays. */
static void misbehave(struct fixture *f, const char *answer, size_t n_bytes, int stays)
{
	int listener = listen_here(f);

	f->child = fork();
	assert_true(f->child >= 0);
	if (f->child == 0) {
		struct pollfd wait = {.fd = listener, .events = POLLIN};
		char text[4096];
		int fd;

		poll(&wait, 1, PATIENCE_MS);
		fd = accept(listener, NULL, NULL);
		(void)!read(fd, text, sizeof(text));
		while (n_bytes > 0) {
			ssize_t n = write(fd, answer, n_bytes);

			if (n <= 0)
				break;
			answer += n;
			n_bytes -= (size_t)n;
		}
		if (stays)
			sleep(30);
		_exit(0);
	}
	close(listener);
}

static int call(struct fixture *f, const char *method, const json_t *params, uint32_t timeout_ms)
{
	return control_client_call(f->path, method, params, timeout_ms, &f->result, &f->error);
}

static void result_of_a_call_comes_back(void **state)
{
	struct fixture *f = *state;
	json_t *params = json_pack("{s:s}", "name", "vm1");

	serve(f);
	assert_int_equal(call(f, "echo", params, PATIENCE_MS), 0);
	assert_true(json_equal(f->result, params));
	json_decref(params);
}

static void result_larger_than_every_buffer_comes_back(void **state)
{
	struct fixture *f = *state;
	char *text = malloc(900000);
	json_t *params;

	memset(text, 'x', 900000);
	params = json_pack("{s:s#}", "x", text, 900000);
	serve(f);
	assert_int_equal(call(f, "echo", params, PATIENCE_MS), 0);
	assert_true(json_equal(f->result, params));
	json_decref(params);
	free(text);
}

static void refusal_is_remote_and_brings_code_and_message(void **state)
{
	struct fixture *f = *state;

	serve(f);
	assert_int_equal(call(f, "refuse", NULL, PATIENCE_MS), -EREMOTEIO);
	assert_int_equal(f->error.code, CONTROL_REFUSED);
	assert_string_equal(f->error.message, "port 'vm1' is busy; wait");
	assert_null(f->result);
}

static void nobody_there_is_said_at_once_with_the_path(void **state)
{
	struct fixture *f = *state;
	uint64_t start_us = clock_now_us();

	assert_int_equal(call(f, "echo", NULL, PATIENCE_MS), -ENOENT);
	assert_non_null(strstr(f->error.message, f->path));
	assert_non_null(strstr(f->error.message, "is ringway running"));
	close(listen_here(f));
	assert_int_equal(call(f, "echo", NULL, PATIENCE_MS), -ECONNREFUSED);
	assert_int_equal(f->error.code, 0);
	assert_true(clock_now_us() - start_us < 1000000);
}

static void answer_that_does_not_come_ends_at_the_timeout(void **state)
{
	struct fixture *f = *state;
	uint64_t start_us = clock_now_us();

	serve(f);
	assert_int_equal(call(f, "sleep", NULL, 200), -ETIMEDOUT);
	assert_in_range(clock_now_us() - start_us, 190000, 3000000);
}

static void half_an_answer_ends_at_the_timeout(void **state)
{
	struct fixture *f = *state;

	misbehave(f, "{\"jsonrpc\"", 10, 1);
	assert_int_equal(call(f, "echo", NULL, 200), -ETIMEDOUT);
}

static void server_that_hangs_up_is_a_reset(void **state)
{
	struct fixture *f = *state;

	misbehave(f, "{\"jsonrpc\"", 10, 0);
	assert_int_equal(call(f, "echo", NULL, PATIENCE_MS), -ECONNRESET);
	assert_non_null(strstr(f->error.message, "ended without an answer"));
}

static void answers_that_are_no_json_rpc_are_a_protocol_error(void **state)
{
	static const char *const rows[] = {"hello\n", "[]\n", "{}\n", "\n",
		"{\"jsonrpc\":\"2.0\",\"id\":2,\"result\":{}}\n", "{\"error\":{\"code\":1}}\n"};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct fixture *f = *state;

		misbehave(f, rows[i], strlen(rows[i]), 1);
		assert_int_equal(call(f, "echo", NULL, PATIENCE_MS), -EPROTO);
		assert_non_null(strstr(f->error.message, "does not answer as JSON-RPC"));
		kill(f->child, SIGKILL);
		waitpid(f->child, NULL, 0);
		f->child = 0;
		unlink(f->path);
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(result_of_a_call_comes_back),
		TEST(result_larger_than_every_buffer_comes_back),
		TEST(refusal_is_remote_and_brings_code_and_message),
		TEST(nobody_there_is_said_at_once_with_the_path),
		TEST(answer_that_does_not_come_ends_at_the_timeout),
		TEST(half_an_answer_ends_at_the_timeout),
		TEST(server_that_hangs_up_is_a_reset),
		TEST(answers_that_are_no_json_rpc_are_a_protocol_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
