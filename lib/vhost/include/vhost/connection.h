/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One end of a vhost-user connection: whole messages in and out over a byte stream that also
 * carries file descriptors.
 *
 * Theory of operation. A stream has no borders, and file descriptors come with the first byte of a
 * message. So the header is asked for with exactly its 12 bytes and room for descriptors, the
 * payload with exactly its own size and without; a larger read could give the descriptors of the
 * next message to this one. Nothing here blocks, and nothing is allocated by what a peer sends: one
 * message is held at a time in each direction. While a message waits to be sent no other is read,
 * which holds back a peer that asks without taking answers.
 *
 * Received descriptors belong to the message from the moment recvmsg() returns and are closed with
 * it; whoever wants one takes it out with vu_fds_take().
 *
 * Thread rule: one thread at a time per connection.
 */
#ifndef VHOST_CONNECTION_H
#define VHOST_CONNECTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <vhost/message.h>

/* Linux lets 253 through per message (SCM_MAX_FD); alignment of the control buffer can make room
 * for one more. */
#define VU_FDS_MAX 254

struct vu_fds {
	unsigned int n;
	int fd[VU_FDS_MAX]; /* -1: taken */
};

/* Takes the descriptor out of the message; the caller owns it. -1 if there is none at `i`. */
int vu_fds_take(struct vu_fds *fds, unsigned int i);
/* Closes what was not taken. */
void vu_fds_close(struct vu_fds *fds);

/*
 * What carries the bytes. All calls return at once.
 * receive: 1..size bytes into `data`; descriptors that came along are appended to `fds`, or lost if
 * it is NULL. 0: the peer has closed. -EAGAIN: nothing there. -EMFILE: descriptors were lost on the
 * way, for want of room. send:    1..size bytes sent, and with the first of them the descriptors
 * (which stay the caller's). -EAGAIN: no room. fd:      what to poll, -1 if there is nothing to
 * poll.
 */
struct vu_transport_ops {
	ssize_t (*receive)(void *ctx, void *data, size_t size, struct vu_fds *fds);
	ssize_t (*send)(
		void *ctx, const void *data, size_t size, const int *fds, unsigned int n_fds);
	int (*fd)(const void *ctx);
	void (*close)(void *ctx);
};

struct vu_transport {
	const struct vu_transport_ops *ops;
	void *ctx;
};

/* A transport over a connected stream socket, which it owns. -ENOTSOCK or -EPROTOTYPE: not a stream
 * socket. */
int vu_transport_socket(struct vu_transport *transport, int fd);

struct vu_message {
	struct vu_header header;
	uint8_t payload[VU_PAYLOAD_MAX]; /* zero behind header.size bytes */
	struct vu_fds fds;
};

#define VU_CONNECTION_FDS_OUT_MAX VU_MEM_TABLE_MAX

struct vu_connection {
	struct vu_transport transport;
	uint64_t timeout_us;

	struct vu_message in;
	size_t n_in;             /* bytes of header and payload received */
	uint64_t in_deadline_us; /* set while a message is incomplete */

	uint8_t out[sizeof(struct vu_header) + VU_PAYLOAD_MAX];
	size_t n_out;
	size_t n_out_sent;
	int out_fds[VU_CONNECTION_FDS_OUT_MAX]; /* duplicates, ours */
	unsigned int n_out_fds;
	uint64_t out_deadline_us; /* set while a message waits to be sent */

	char error[128]; /* one line about the last negative return */
};

/* Takes over the transport. A message must be complete, or taken by the peer, within timeout_us. */
void vu_connection_init(
	struct vu_connection *connection, struct vu_transport transport, uint64_t timeout_us);
/* The first byte of the next message must come within timeout_us. */
void vu_connection_expect(struct vu_connection *connection, uint64_t timeout_us);
/* Closes the transport and what the messages hold. */
void vu_connection_close(struct vu_connection *connection);

/*
 * Reads on. Returns 1 when connection->in is a whole message, which stays until
 * vu_connection_next(); 0 when more must come. -ECONNRESET: the peer has closed (error is "" if
 * that was between messages). -EPROTO: version, reply bit, size, or descriptors in the middle.
 * -EMFILE: descriptors were lost. -ETIMEDOUT. Others as recvmsg(2). `want_reply`: the reply bit
 * must be set (front end waiting), otherwise it must be clear.
 */
int vu_connection_receive(struct vu_connection *connection, bool want_reply);
/* As vu_connection_receive(), but only the size is checked: for tests that look at raw replies. */
int vu_connection_receive_any(struct vu_connection *connection);
/* Done with connection->in: closes its descriptors. */
void vu_connection_next(struct vu_connection *connection);

/*
 * Sends a message, now or as far as possible; n_payload may differ from header->size in tests. The
 * descriptors are duplicated if they must wait. -EBUSY while an earlier message waits; -EPIPE and
 * others: the connection is over.
 */
int vu_connection_send(struct vu_connection *connection, const struct vu_header *header,
	const void *payload, size_t n_payload, const int *fds, unsigned int n_fds);
/* Sends on. 1: nothing waits any more; 0: some does; -ETIMEDOUT or as sendmsg(2): the connection is
 * over. */
int vu_connection_flush(struct vu_connection *connection);

/* What the event loop needs. UINT64_MAX: no deadline. */
int vu_connection_fd(const struct vu_connection *connection);
short vu_connection_events(const struct vu_connection *connection);
uint64_t vu_connection_deadline_us(const struct vu_connection *connection);

#endif
