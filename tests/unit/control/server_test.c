/* SPDX-License-Identifier: BSD-3-Clause */
/* Server and clients in one thread: the clients' descriptors do not block, and the test turns the
 * event loop. */
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include <event2/event.h>

#include <base/clock.h>

#include <control/control.h>

#define PATIENCE_US 5000000
#define REQUEST_MAX 1000
#define OUTPUT_MAX  100000
#define CLIENTS_MAX 3
#define ECHO(id)    "{\"jsonrpc\":\"2.0\",\"method\":\"echo\",\"id\":" id "}\n"
#define ANSWER(id)  "{\"jsonrpc\":\"2.0\",\"id\":" id ",\"result\":{}}\n"

struct fixture {
	char dir[64];
	char path[96];
	char error[UNIX_SOCKET_ERROR_MAX];
	struct event_base *base;
	struct control_server *server;
	unsigned int n_calls;
};

static int handle_echo(
	void *ctx, const json_t *params, json_t **result, struct control_error *error)
{
	((struct fixture *)ctx)->n_calls++;
	*result = json_deep_copy(params);
	return 0;
}

/* {"bytes": n} */
static int handle_large(
	void *ctx, const json_t *params, json_t **result, struct control_error *error)
{
	size_t n = (size_t)json_integer_value(json_object_get(params, "bytes"));
	char *text = malloc(n);

	((struct fixture *)ctx)->n_calls++;
	memset(text, 'x', n);
	*result = json_pack("{s:s#}", "x", text, (int)n);
	free(text);
	return 0;
}

static const struct control_method methods[] = {
	{"echo", "gives its parameters back", handle_echo},
	{"large", "gives much back", handle_large},
	{NULL, NULL, NULL},
};

static const struct control_limits limits = {
	.n_connections = CLIENTS_MAX,
	.request_bytes = REQUEST_MAX,
	.output_bytes = OUTPUT_MAX,
	.send_timeout_s = 1,
};

static int fixture_setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct unix_socket_spec spec = {.mode = 0600};

	strcpy(f->dir, "/tmp/ringway-test-XXXXXX");
	if (mkdtemp(f->dir) == NULL)
		return -1;
	snprintf(f->path, sizeof(f->path), "%s/c.sock", f->dir);
	spec.path = f->path;
	f->base = event_base_new();
	f->server = control_server_create(
		f->base, &spec, methods, f, &limits, f->error, sizeof(f->error));
	*state = f;
	return f->server != NULL ? 0 : -1;
}

/* The directory must be empty: the server removes its socket. */
static int fixture_teardown(void **state)
{
	struct fixture *f = *state;
	int ret;

	control_server_destroy(f->server);
	event_base_free(f->base);
	ret = rmdir(f->dir);
	free(f);
	return ret;
}

static void turn(struct fixture *f)
{
	event_base_loop(f->base, EVLOOP_NONBLOCK);
}

static int client_open(struct fixture *f)
{
	int fd = unix_socket_connect(f->path, f->error, sizeof(f->error));

	assert_true(fd >= 0);
	turn(f);
	return fd;
}

static void client_send(int fd, const char *text)
{
	assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

/* What arrives up to `n_bytes` or the end of the connection, while the server runs; returns the
 * number of bytes. */
static size_t client_receive(struct fixture *f, int fd, char *text, size_t n_bytes)
{
	uint64_t deadline_us = clock_now_us() + PATIENCE_US;
	size_t n_got = 0;

	while (n_got < n_bytes) {
		ssize_t n;

		turn(f);
		n = recv(fd, text + n_got, n_bytes - n_got, 0);
		if (n == 0 || (n < 0 && errno == ECONNRESET))
			break;
		if (n > 0)
			n_got += (size_t)n;
		if (clock_now_us() > deadline_us)
			fail_msg("nothing arrived after %zu bytes", n_got);
	}
	return n_got;
}

static void expect_answer(struct fixture *f, int fd, const char *expected)
{
	char text[4096];
	size_t n = client_receive(f, fd, text, strlen(expected));

	assert_int_equal(n, strlen(expected));
	assert_memory_equal(text, expected, n);
}

static void expect_end(struct fixture *f, int fd)
{
	char byte;

	assert_int_equal(client_receive(f, fd, &byte, 1), 0);
}

static void expect_connections(struct fixture *f, uint32_t n)
{
	uint64_t deadline_us = clock_now_us() + PATIENCE_US;

	do
		turn(f);
	while (control_server_n_connections(f->server) != n && clock_now_us() < deadline_us);
	assert_int_equal(control_server_n_connections(f->server), n);
}

static void expect_still_serving(struct fixture *f)
{
	int fd = client_open(f);

	client_send(fd, ECHO("99"));
	expect_answer(f, fd, ANSWER("99"));
	close(fd);
	turn(f);
}

static void requests_in_pieces_and_several_at_once_are_answered_in_order(void **state)
{
	struct fixture *f = *state;
	const char *request = ECHO("1") ECHO("2") "\n \r\n" ECHO("3");
	int fd = client_open(f);

	for (const char *c = request; *c != '\0'; c++) {
		assert_int_equal(send(fd, c, 1, MSG_NOSIGNAL), 1);
		turn(f);
	}
	expect_answer(f, fd, ANSWER("1") ANSWER("2") ANSWER("3"));
	client_send(fd, request);
	expect_answer(f, fd, ANSWER("1") ANSWER("2") ANSWER("3"));
	close(fd);
}

static void connection_survives_text_that_is_no_json(void **state)
{
	struct fixture *f = *state;
	char text[1024];
	int fd = client_open(f);

	client_send(fd, "nonsense\n" ECHO("5"));
	for (size_t n = 0;; n++) {
		assert_int_equal(client_receive(f, fd, text + n, 1), 1);
		if (text[n] == '\n')
			break;
	}
	assert_non_null(strstr(text, "\"code\":-32700"));
	expect_answer(f, fd, ANSWER("5"));
	close(fd);
}

static void notifications_bring_no_bytes_back(void **state)
{
	struct fixture *f = *state;
	int fd = client_open(f);

	client_send(fd, "{\"jsonrpc\":\"2.0\",\"method\":\"echo\"}\n" ECHO("6"));
	expect_answer(f, fd, ANSWER("6"));
	assert_int_equal(f->n_calls, 2);
	close(fd);
}

static void many_requests_in_one_piece_leave_the_loop_a_turn_each(void **state)
{
	struct fixture *f = *state;
	int fd = client_open(f);

	client_send(fd, ECHO("1") ECHO("1") ECHO("1") ECHO("1") ECHO("1"));
	for (unsigned int i = 1; i <= 5; i++) {
		unsigned int before = f->n_calls;

		event_base_loop(f->base, EVLOOP_ONCE);
		assert_in_range(f->n_calls - before, 0, 1);
	}
	close(fd);
}

static void request_of_the_greatest_length_is_taken(void **state)
{
	struct fixture *f = *state;
	char text[REQUEST_MAX + 2];
	int fd = client_open(f);

	memset(text, ' ', sizeof(text));
	memcpy(text, ECHO("1"), strlen(ECHO("1")) - 1);
	strcpy(text + REQUEST_MAX, "\n");
	client_send(fd, text);
	expect_answer(f, fd, ANSWER("1"));
	close(fd);
}

static void longer_request_is_answered_with_an_error_and_disconnected(void **state)
{
	struct fixture *f = *state;
	char text[4 * REQUEST_MAX + 1], answer[512];
	int fd = client_open(f);
	size_t n;

	memset(text, 'x', sizeof(text));
	text[sizeof(text) - 1] = '\0';
	client_send(fd, text);
	n = client_receive(f, fd, answer, sizeof(answer) - 1);
	answer[n] = '\0';
	assert_non_null(strstr(answer, "\"code\":-32600"));
	assert_non_null(strstr(answer, "request is too large"));
	close(fd);
	assert_int_equal(control_server_n_connections(f->server), 0);
	expect_still_serving(f);
}

static void client_that_ends_its_side_still_gets_its_answers(void **state)
{
	struct fixture *f = *state;
	int fd = client_open(f);

	/* the last request without its newline */
	client_send(fd, ECHO("1") "{\"jsonrpc\":\"2.0\",\"method\":\"echo\",\"id\":2}");
	shutdown(fd, SHUT_WR);
	expect_answer(f, fd, ANSWER("1") ANSWER("2"));
	expect_end(f, fd);
	close(fd);
	assert_int_equal(control_server_n_connections(f->server), 0);
}

static void client_that_vanishes_leaves_nothing_behind(void **state)
{
	struct fixture *f = *state;

	for (int i = 0; i < 100; i++) {
		int fd = client_open(f);

		client_send(fd, i % 2 ? "{\"jsonrpc\":" : ECHO("1") ECHO("2"));
		close(fd);
		expect_connections(f, 0);
	}
	expect_still_serving(f);
}

static void one_connection_too_many_is_told_and_closed(void **state)
{
	struct fixture *f = *state;
	int fds[CLIENTS_MAX], extra;
	char text[512];
	size_t n;

	for (int i = 0; i < CLIENTS_MAX; i++)
		fds[i] = client_open(f);
	extra = client_open(f);
	n = client_receive(f, extra, text, sizeof(text) - 1);
	text[n] = '\0';
	assert_non_null(strstr(text, "\"code\":-32000"));
	assert_non_null(strstr(text, "too many connections"));
	close(extra);
	client_send(fds[0], ECHO("1"));
	expect_answer(f, fds[0], ANSWER("1"));
	assert_int_equal(control_server_n_connections(f->server), CLIENTS_MAX);
	for (int i = 0; i < CLIENTS_MAX; i++)
		close(fds[i]);
	expect_connections(f, 0);
	expect_still_serving(f);
}

static void result_beyond_the_limit_becomes_an_error(void **state)
{
	struct fixture *f = *state;
	int fd = client_open(f);

	client_send(fd, "{\"jsonrpc\":\"2.0\",\"method\":\"large\",\"params\":{\"bytes\":100001},"
			"\"id\":4}\n");
	expect_answer(f, fd,
		"{\"jsonrpc\":\"2.0\",\"id\":4,\"error\":{\"code\":-32000,\"message\":\"result is "
		"too "
		"large to send; ask for one object by name, or use smaller batches\"}}\n");
	close(fd);
}

/* The socket's own buffers hold the first answers; the rest of the requests wait. */
static void client_that_never_reads_is_disconnected_after_a_while(void **state)
{
	struct fixture *f = *state;
	const char *request =
		"{\"jsonrpc\":\"2.0\",\"method\":\"large\",\"params\":{\"bytes\":90000},"
		"\"id\":1}\n";
	uint64_t start_us = clock_now_us();
	int fd = client_open(f);

	for (int i = 0; i < 10; i++)
		client_send(fd, request);
	expect_still_serving(f);
	while (control_server_n_connections(f->server) == 1 &&
		clock_now_us() < start_us + PATIENCE_US)
		event_base_loop(f->base, EVLOOP_ONCE);
	assert_int_equal(control_server_n_connections(f->server), 0);
	assert_in_range(clock_now_us() - start_us, 900000, PATIENCE_US);
	/* far less than ten: the last ones were never executed */
	assert_in_range(f->n_calls, 1, 8);
	close(fd);
	expect_still_serving(f);
}

static void slow_client_gets_every_answer(void **state)
{
	struct fixture *f = *state;
	const char *request =
		"{\"jsonrpc\":\"2.0\",\"method\":\"large\",\"params\":{\"bytes\":90000},"
		"\"id\":1}\n";
	size_t n_bytes = 10 * (strlen(ANSWER("1")) + strlen("\"x\":\"\"") + 90000);
	char *text = malloc(n_bytes + 1);
	int fd = client_open(f);

	for (int i = 0; i < 10; i++)
		client_send(fd, request);
	for (int i = 0; i < 20; i++)
		turn(f);
	assert_int_equal(client_receive(f, fd, text, n_bytes), n_bytes);
	assert_int_equal(text[n_bytes - 1], '\n');
	free(text);
	close(fd);
}

static void server_out_of_descriptors_recovers(void **state)
{
	struct fixture *f = *state;
	struct rlimit old, few;
	int fd, spare = dup(0);
	uint64_t end_us;

	getrlimit(RLIMIT_NOFILE, &old);
	fd = unix_socket_connect(f->path, f->error, sizeof(f->error));
	assert_true(fd >= 0);
	close(spare);
	few = (struct rlimit){3, old.rlim_max};
	setrlimit(RLIMIT_NOFILE, &few);
	end_us = clock_now_us() + 100000;
	while (clock_now_us() < end_us) {
		event_base_loop(f->base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
		usleep(1000);
	}
	assert_int_equal(control_server_n_connections(f->server), 0);
	setrlimit(RLIMIT_NOFILE, &old);
	client_send(fd, ECHO("1"));
	expect_answer(f, fd, ANSWER("1"));
	close(fd);
	turn(f);
}

static void second_server_on_the_path_is_refused(void **state)
{
	struct fixture *f = *state;
	struct unix_socket_spec spec = {.path = f->path, .mode = 0600};

	assert_null(control_server_create(
		f->base, &spec, methods, f, NULL, f->error, sizeof(f->error)));
	assert_int_equal(errno, EADDRINUSE);
	assert_non_null(strstr(f->error, "in use by a running process"));
	expect_still_serving(f);
}

static void socket_has_its_mode_and_goes_with_the_server_unless_replaced(void **state)
{
	struct fixture *f = *state;
	struct unix_socket_spec spec = {.path = f->path, .mode = 0640};
	struct control_server *successor;
	struct stat status;

	assert_int_equal(stat(f->path, &status), 0);
	assert_int_equal(status.st_mode & 07777, 0600);
	assert_int_equal(unlink(f->path), 0);
	successor =
		control_server_create(f->base, &spec, methods, f, NULL, f->error, sizeof(f->error));
	assert_non_null(successor);
	control_server_destroy(f->server);
	f->server = successor;
	expect_still_serving(f);
	control_server_destroy(NULL);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(requests_in_pieces_and_several_at_once_are_answered_in_order),
		TEST(connection_survives_text_that_is_no_json),
		TEST(notifications_bring_no_bytes_back),
		TEST(many_requests_in_one_piece_leave_the_loop_a_turn_each),
		TEST(request_of_the_greatest_length_is_taken),
		TEST(longer_request_is_answered_with_an_error_and_disconnected),
		TEST(client_that_ends_its_side_still_gets_its_answers),
		TEST(client_that_vanishes_leaves_nothing_behind),
		TEST(one_connection_too_many_is_told_and_closed),
		TEST(result_beyond_the_limit_becomes_an_error),
		TEST(client_that_never_reads_is_disconnected_after_a_while),
		TEST(slow_client_gets_every_answer),
		TEST(server_out_of_descriptors_recovers),
		TEST(second_server_on_the_path_is_refused),
		TEST(socket_has_its_mode_and_goes_with_the_server_unless_replaced),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
