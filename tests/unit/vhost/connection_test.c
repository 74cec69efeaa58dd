/* SPDX-License-Identifier: BSD-3-Clause */
/* Framing over a transport that delivers and takes as many bytes as the test wants. */
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include <vhost/connection.h>

/* A stream in memory: `in` is delivered in pieces of at most `in_step`, at most `out_room` bytes
 * are taken. */
struct pipe_end {
	uint8_t in[16384];
	size_t n_in;
	size_t n_read;
	size_t in_step;
	int fd_at_read; /* delivered with the byte at n_read, -1: none */
	size_t fd_position;
	uint8_t out[16384];
	size_t n_out;
	size_t out_room;
	unsigned int n_fds_out;
	bool eof;
	bool closed;
	size_t largest_header_read;
};

static ssize_t pipe_receive(void *ctx, void *data, size_t size, struct vu_fds *fds)
{
	struct pipe_end *p = ctx;
	size_t n = p->n_in - p->n_read;

	if (n == 0)
		return p->eof ? 0 : -EAGAIN;
	n = n < size ? n : size;
	n = n < p->in_step ? n : p->in_step;
	memcpy(data, p->in + p->n_read, n);
	if (fds != NULL && size > p->largest_header_read)
		p->largest_header_read = size;
	if (fds != NULL && p->fd_at_read >= 0 && p->fd_position >= p->n_read &&
		p->fd_position < p->n_read + n) {
		fds->fd[fds->n++] = p->fd_at_read;
		p->fd_at_read = -1;
	}
	p->n_read += n;
	return (ssize_t)n;
}

static ssize_t pipe_send(
	void *ctx, const void *data, size_t size, const int *fds, unsigned int n_fds)
{
	struct pipe_end *p = ctx;
	size_t n = size < p->out_room ? size : p->out_room;

	if (n == 0)
		return -EAGAIN;
	memcpy(p->out + p->n_out, data, n);
	p->n_out += n;
	p->out_room -= n;
	p->n_fds_out += n_fds;
	return (ssize_t)n;
}

static int pipe_fd(const void *ctx)
{
	return -1;
}

static void pipe_close(void *ctx)
{
	((struct pipe_end *)ctx)->closed = true;
}

static const struct vu_transport_ops pipe_ops = {
	.receive = pipe_receive,
	.send = pipe_send,
	.fd = pipe_fd,
	.close = pipe_close,
};

static struct pipe_end pipe_end;
static struct vu_connection connection;

static int open_pipe(void **state)
{
	pipe_end = (struct pipe_end){.in_step = SIZE_MAX, .out_room = SIZE_MAX, .fd_at_read = -1};
	vu_connection_init(
		&connection, (struct vu_transport){.ops = &pipe_ops, .ctx = &pipe_end}, 1000000);
	return 0;
}

static int close_pipe(void **state)
{
	vu_connection_close(&connection);
	return pipe_end.closed ? 0 : -1;
}

static void put(uint32_t request, uint32_t flags, uint32_t size, const void *payload, size_t n)
{
	const struct vu_header header = {.request = request, .flags = flags, .size = size};

	memcpy(pipe_end.in + pipe_end.n_in, &header, sizeof(header));
	pipe_end.n_in += sizeof(header);
	if (n > 0)
		memcpy(pipe_end.in + pipe_end.n_in, payload, n);
	pipe_end.n_in += n;
}

static void pieces_of_any_size_make_the_same_messages(void **state)
{
	uint8_t payload[64];

	for (size_t i = 0; i < sizeof(payload); i++)
		payload[i] = (uint8_t)i;
	for (size_t step = 1; step < 40; step++) {
		open_pipe(state);
		put(1, 1, 0, NULL, 0);
		put(2, 1, 64, payload, 64);
		put(3, 1, 1, payload, 1);
		pipe_end.in_step = step;
		for (uint32_t request = 1; request <= 3; request++) {
			static const uint32_t sizes[] = {0, 0, 64, 1};

			assert_int_equal(vu_connection_receive(&connection, false), 1);
			assert_int_equal(connection.in.header.request, request);
			assert_int_equal(connection.in.header.size, sizes[request]);
			assert_memory_equal(connection.in.payload, payload, sizes[request]);
			/* Whole until it is done with. */
			assert_int_equal(vu_connection_receive(&connection, false), 1);
			vu_connection_next(&connection);
		}
		assert_int_equal(vu_connection_receive(&connection, false), 0);
		assert_true(vu_connection_deadline_us(&connection) == UINT64_MAX);
		/* Never more than a header at once, lest descriptors of the next message come
		 * along. */
		assert_int_equal(pipe_end.largest_header_read, 12);
	}
}

static void no_byte_of_an_earlier_message_is_left(void **state)
{
	uint8_t ones[40];
	const uint8_t zeroes[VU_PAYLOAD_MAX] = {0};

	memset(ones, 0xff, sizeof(ones));
	put(1, 1, 40, ones, 40);
	put(2, 1, 4, ones, 4);
	assert_int_equal(vu_connection_receive(&connection, false), 1);
	vu_connection_next(&connection);
	assert_int_equal(vu_connection_receive(&connection, false), 1);
	assert_memory_equal(connection.in.payload, ones, 4);
	assert_memory_equal(connection.in.payload + 4, zeroes, VU_PAYLOAD_MAX - 4);
}

static void header_is_checked_before_the_payload_comes(void **state)
{
	static const struct {
		uint32_t flags;
		uint32_t size;
		bool want_reply;
		int result;
	} cases[] = {
		{1, 8, false, 0},
		{5, 8, true, 0},
		{0, 8, false, -EPROTO},
		{2, 8, false, -EPROTO},
		{3, 8, false, -EPROTO},
		{5, 8, false, -EPROTO},
		{1, 8, true, -EPROTO},
		{1, VU_PAYLOAD_MAX, false, 0},
		{1, VU_PAYLOAD_MAX + 1, false, -EPROTO},
		{1, UINT32_MAX, false, -EPROTO},
		{0xfffffff9, 8, false, 0},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		open_pipe(state);
		put(1, cases[i].flags, cases[i].size, NULL, 0);
		assert_int_equal(
			vu_connection_receive(&connection, cases[i].want_reply), cases[i].result);
	}
}

static void fds_belong_to_their_message_and_are_closed_with_it(void **state)
{
	int fd = eventfd(0, EFD_CLOEXEC);

	pipe_end.fd_at_read = fd;
	put(1, 1, 0, NULL, 0);
	assert_int_equal(vu_connection_receive(&connection, false), 1);
	assert_int_equal(connection.in.fds.n, 1);
	vu_connection_next(&connection);
	assert_int_equal(connection.in.fds.n, 0);
	assert_int_equal(close(fd), -1);

	/* Taken: not closed, and not there a second time. */
	fd = eventfd(0, EFD_CLOEXEC);
	pipe_end.fd_at_read = fd;
	pipe_end.fd_position = pipe_end.n_in;
	put(1, 1, 0, NULL, 0);
	assert_int_equal(vu_connection_receive(&connection, false), 1);
	assert_int_equal(vu_fds_take(&connection.in.fds, 1), -1);
	assert_int_equal(vu_fds_take(&connection.in.fds, 0), fd);
	assert_int_equal(vu_fds_take(&connection.in.fds, 0), -1);
	vu_connection_next(&connection);
	assert_int_equal(close(fd), 0);
}

static void fds_inside_a_header_are_a_breach_and_are_closed(void **state)
{
	int fd = eventfd(0, EFD_CLOEXEC);

	pipe_end.fd_at_read = fd;
	pipe_end.fd_position = 7;
	pipe_end.in_step = 7;
	put(1, 1, 0, NULL, 0);
	assert_int_equal(vu_connection_receive(&connection, false), -EPROTO);
	vu_connection_close(&connection);
	assert_int_equal(close(fd), -1);
	open_pipe(state);
}

static void end_of_stream_is_told_apart_from_a_cut_message(void **state)
{
	pipe_end.eof = true;
	assert_int_equal(vu_connection_receive(&connection, false), -ECONNRESET);
	assert_string_equal(connection.error, "");
	open_pipe(state);
	put(1, 1, 8, NULL, 0);
	pipe_end.eof = true;
	assert_int_equal(vu_connection_receive(&connection, false), -ECONNRESET);
	assert_string_not_equal(connection.error, "");
}

static void message_that_waits_is_sent_in_pieces_and_keeps_its_fds(void **state)
{
	const struct vu_header header = {.request = 9, .flags = 5, .size = 32};
	uint8_t payload[32];
	int fd = eventfd(0, EFD_CLOEXEC);
	int ret;

	memset(payload, 0xa5, sizeof(payload));
	pipe_end.out_room = 0;
	assert_int_equal(vu_connection_send(&connection, &header, payload, 32, &fd, 1), 0);
	assert_int_equal(vu_connection_events(&connection), POLLOUT);
	assert_true(vu_connection_deadline_us(&connection) != UINT64_MAX);
	assert_int_equal(vu_connection_send(&connection, &header, payload, 32, NULL, 0), -EBUSY);
	/* The caller's may go: the message has its own. */
	close(fd);
	for (unsigned int i = 0; i < 43; i++) {
		pipe_end.out_room = 1;
		assert_int_equal(vu_connection_flush(&connection), 0);
	}
	pipe_end.out_room = 1;
	ret = vu_connection_flush(&connection);
	assert_int_equal(ret, 1);
	assert_int_equal(pipe_end.n_out, 44);
	assert_int_equal(pipe_end.n_fds_out, 1);
	assert_memory_equal(pipe_end.out, &header, sizeof(header));
	assert_memory_equal(pipe_end.out + 12, payload, 32);
	assert_int_equal(vu_connection_events(&connection), POLLIN);
	assert_true(vu_connection_deadline_us(&connection) == UINT64_MAX);
}

static void message_nobody_takes_runs_into_the_deadline(void **state)
{
	const struct vu_header header = {.request = 9, .flags = 5};

	connection.timeout_us = 5000;
	pipe_end.out_room = 3;
	assert_int_equal(vu_connection_send(&connection, &header, NULL, 0, NULL, 0), 0);
	assert_int_equal(vu_connection_flush(&connection), 0);
	usleep(6000);
	assert_int_equal(vu_connection_flush(&connection), -ETIMEDOUT);
}

static void more_fds_than_may_wait_are_an_error_not_a_leak(void **state)
{
	const struct vu_header header = {.request = 9, .flags = 5};
	int fds[VU_CONNECTION_FDS_OUT_MAX + 1];
	int fd = eventfd(0, EFD_CLOEXEC);

	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
		fds[i] = fd;
	pipe_end.out_room = 0;
	assert_int_equal(vu_connection_send(
				 &connection, &header, NULL, 0, fds, VU_CONNECTION_FDS_OUT_MAX + 1),
		-E2BIG);
	assert_int_equal(vu_connection_flush(&connection), 1);
	close(fd);
}

static void socket_transport_wants_a_stream_socket(void **state)
{
	struct vu_transport transport;
	int fd = eventfd(0, EFD_CLOEXEC);

	assert_int_equal(vu_transport_socket(&transport, fd), -ENOTSOCK);
	close(fd);
	assert_int_equal(vu_transport_socket(&transport, -1), -EBADF);
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	assert_int_equal(vu_transport_socket(&transport, fd), -EPROTOTYPE);
	close(fd);
}

static void writing_to_a_closed_peer_is_an_error_not_a_signal(void **state)
{
	const struct vu_header header = {.request = 9, .flags = 5};
	struct vu_transport transport;
	struct vu_connection c;
	int ends[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	close(ends[0]);
	assert_int_equal(vu_transport_socket(&transport, ends[1]), 0);
	vu_connection_init(&c, transport, 1000000);
	assert_int_equal(vu_connection_send(&c, &header, NULL, 0, NULL, 0), -EPIPE);
	vu_connection_close(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			pieces_of_any_size_make_the_same_messages, open_pipe, close_pipe),
		cmocka_unit_test_setup_teardown(
			no_byte_of_an_earlier_message_is_left, open_pipe, close_pipe),
		cmocka_unit_test_setup_teardown(
			header_is_checked_before_the_payload_comes, open_pipe, close_pipe),
		cmocka_unit_test_setup_teardown(
			fds_belong_to_their_message_and_are_closed_with_it, open_pipe, close_pipe),
		cmocka_unit_test_setup_teardown(
			fds_inside_a_header_are_a_breach_and_are_closed, open_pipe, close_pipe),
		cmocka_unit_test_setup_teardown(
			end_of_stream_is_told_apart_from_a_cut_message, open_pipe, close_pipe),
		cmocka_unit_test_setup_teardown(
			message_that_waits_is_sent_in_pieces_and_keeps_its_fds, open_pipe,
			close_pipe),
		cmocka_unit_test_setup_teardown(
			message_nobody_takes_runs_into_the_deadline, open_pipe, close_pipe),
		cmocka_unit_test_setup_teardown(
			more_fds_than_may_wait_are_an_error_not_a_leak, open_pipe, close_pipe),
		cmocka_unit_test(socket_transport_wants_a_stream_socket),
		cmocka_unit_test(writing_to_a_closed_peer_is_an_error_not_a_signal),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
