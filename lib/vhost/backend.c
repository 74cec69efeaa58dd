/* SPDX-License-Identifier: BSD-3-Clause */
/* The back-end session: its life, and what happens to a message around its handler. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <base/clock.h>

#include "backend_private.h"

/* After so many messages another session gets its turn; what is left makes the descriptor readable
 * again. */
#define MESSAGES_PER_TURN 64

typedef int (*handler)(struct vu_backend *session, struct vu_message *message);

static const handler handlers[VU_N_REQUESTS] = {
#define VU_HANDLER(id, name, min, max, fds, gate, reply, handler_name)                             \
	[id] = backend_handle_##handler_name,
	VU_REQUESTS(VU_HANDLER)
#undef VU_HANDLER
};

struct vu_backend *vu_backend_create_on(
	const struct vu_backend_config *config, const struct vu_transport *transport)
{
	struct vu_backend *session;

	if (config->n_queue_pairs < 1 || config->n_queue_pairs > VU_MAX_QUEUE_PAIRS ||
		(config->features & VU_BACKEND_FEATURES_REFUSED) != 0 ||
		vu_features_inconsistent(config->features, NULL) >= 0) {
		errno = EINVAL;
		return NULL;
	}
	session = calloc(1, sizeof(*session));
	if (session == NULL)
		return NULL;
	vu_connection_init(&session->connection, *transport,
		config->deadline_us != 0 ? config->deadline_us : VU_DEADLINE_US);
	session->log_limit =
		config->log_limit != NULL ? config->log_limit : &session->own_log_limit;
	if (config->first_message_us != 0)
		vu_connection_expect(&session->connection, config->first_message_us);
	snprintf(session->name, sizeof(session->name), "%s", config->name);
	session->ops = config->ops;
	session->ctx = config->ctx;
	session->offered = config->features | VU_BIT(VHOST_USER_F_PROTOCOL_FEATURES);
	session->n_rings = 2 * config->n_queue_pairs;
	session->n_memory_slots =
		config->n_memory_slots != 0 ? config->n_memory_slots : GMEM_MAX_REGIONS;
	session->keeps_memory = config->keeps_memory;
	session->channel_fd = -1;
	session->peer_pid = -1;
	session->peer_uid = (uid_t)-1;
	for (unsigned int i = 0; i < VU_MAX_RINGS; i++) {
		session->rings[i].shared.kick_fd = -1;
		session->rings[i].shared.call_fd = -1;
		session->rings[i].shared.err_fd = -1;
	}
	return session;
}

struct vu_backend *vu_backend_create(const struct vu_backend_config *config, int fd)
{
	struct ucred peer;
	socklen_t length = sizeof(peer);
	struct vu_transport transport;
	struct vu_backend *session;
	int ret = vu_transport_socket(&transport, fd);

	if (ret < 0) {
		errno = -ret;
		return NULL;
	}
	session = vu_backend_create_on(config, &transport);
	if (session != NULL && getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0) {
		session->peer_pid = peer.pid;
		session->peer_uid = peer.uid;
	}
	return session;
}

void vu_backend_destroy(struct vu_backend *session)
{
	if (session == NULL)
		return;
	session->ops->quiesce(session->ctx);
	backend_rings_close(session);
	if (session->channel_fd >= 0)
		close(session->channel_fd);
	gmem_free(session->mem);
	backend_memory_forget(session);
	gmem_log_close(session->log);
	vu_connection_close(&session->connection);
	free(session);
}

int backend_refuse(struct vu_backend *session, int code, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(session->error, sizeof(session->error), format, args);
	va_end(args);
	return code;
}

/* The one place where a session ends. `text` may be session->error itself. */
static int session_end(struct vu_backend *session, enum vu_close_reason reason, const char *text)
{
	char line[sizeof(session->error)];

	snprintf(line, sizeof(line), "%s", text);
	memcpy(session->error, line, sizeof(line));
	session->closed = true;
	session->close_reason = reason;
	return -1;
}

static int connection_end(struct vu_backend *session, int code)
{
	enum vu_close_reason reason = VU_CLOSE_PEER;

	if (code == -EPROTO)
		reason = VU_CLOSE_PROTOCOL;
	else if (code == -ETIMEDOUT)
		reason = VU_CLOSE_DEADLINE;
	else if (code == -EMFILE || code == -ENOMEM || code == -ENOBUFS)
		reason = VU_CLOSE_RESOURCE;
	return session_end(session, reason, session->connection.error);
}

int backend_reply(struct vu_backend *session, const void *payload, size_t size)
{
	const struct vu_header header = {
		.request = session->connection.in.header.request,
		/* Exactly these: QEMU refuses a reply with need_reply or a reserved bit in it. */
		.flags = VU_FLAGS_VERSION | VU_FLAGS_REPLY,
		.size = (uint32_t)size,
	};
	int ret = vu_connection_send(&session->connection, &header, payload, size, NULL, 0);

	return ret < 0 ? connection_end(session, ret) : 0;
}

int backend_reply_u64(struct vu_backend *session, uint64_t value)
{
	return backend_reply(session, &value, sizeof(value));
}

static bool ack_is_wanted(const struct vu_backend *session, const struct vu_message *message)
{
	return (session->protocol_features & VU_BIT(VU_PROTOCOL_F_REPLY_ACK)) != 0 &&
	       (message->header.flags & VU_FLAGS_NEED_REPLY) != 0;
}

/*
 * The policy for a refused request: say no where the protocol has a way to say it, otherwise end
 * the session, because the front end would go on as if it had been done. A reply of its own has no
 * form that says no.
 */
static int refused(struct vu_backend *session, const char *name, bool own_reply, bool ack, int code)
{
	char reason[sizeof(session->error)];
	bool short_of_resource = code == -EMFILE || code == -ENFILE || code == -ENOMEM;

	session->n_refused++;
	memcpy(reason, session->error, sizeof(reason));
	snprintf(session->error, sizeof(session->error), "%s: %.200s", name, reason);
	if (ack && !own_reply) {
		log_limited(session->log_limit, LOG_LEVEL_WARN, "%s: refused %s", session->name,
			session->error);
		return backend_reply_u64(session, 1);
	}
	return session_end(
		session, short_of_resource ? VU_CLOSE_RESOURCE : VU_CLOSE_PROTOCOL, session->error);
}

static int check_fds(
	struct vu_backend *session, const struct vu_rule *rule, const struct vu_message *message)
{
	unsigned int n = message->fds.n;
	unsigned int expected = 0;

	switch ((enum vu_fd_rule)rule->fds) {
	case VU_FDS_NONE:
		break;
	case VU_FDS_ONE:
		expected = 1;
		break;
	case VU_FDS_BY_RING:
		expected = (message_u64(message) & VU_RING_FD_NONE) != 0 ? 0 : 1;
		break;
	case VU_FDS_PER_REGION:
		memcpy(&expected, message->payload, sizeof(uint32_t));
		break;
	case VU_FDS_TOLERATED:
		expected = n <= 1 ? n : 0;
		break;
	}
	if (n != expected)
		return backend_refuse(
			session, -EINVAL, "%u file descriptors; expected: %u", n, expected);
	return 0;
}

static int check(
	struct vu_backend *session, const struct vu_rule *rule, const struct vu_message *message)
{
	uint64_t features = session->features;
	uint64_t protocol_features = session->protocol_features;
	uint32_t size = message->header.size;
	int ret;

	if (size < rule->payload_min || size > rule->payload_max)
		return backend_refuse(session, -EINVAL, "payload of %u bytes; allowed: %u..%u",
			size, rule->payload_min, rule->payload_max);
	ret = check_fds(session, rule, message);
	if (ret < 0)
		return ret;
	/* QEMU enables rings before its first SET_FEATURES: until then what is offered counts. */
	if (!session->has_features)
		features |= session->offered;
	if (rule->reply != VU_REPLY_ACK) {
		/* A question harms nobody, and some ask before they have negotiated the bit they
		 * saw. */
		features |= session->offered;
		protocol_features |= VU_BACKEND_PROTOCOL_FEATURES;
	}
	if (!vu_rule_gate_is_open(rule, features, protocol_features))
		return backend_refuse(session, -EPROTO, "the feature it needs is not negotiated");
	return 0;
}

/* Newer front ends may know more messages; the payload was read, so the stream is in step. */
static int handle_unknown(struct vu_backend *session, const struct vu_message *message)
{
	session->n_refused++;
	log_limited(session->log_limit, LOG_LEVEL_WARN, "%s: unknown request %u", session->name,
		message->header.request);
	return ack_is_wanted(session, message) ? backend_reply_u64(session, 1) : 0;
}

static int handle(struct vu_backend *session, struct vu_message *message)
{
	uint32_t request = message->header.request;
	const struct vu_rule *rule = vu_request_rule(request);
	/* As it was before this message, which may be the one that negotiates it. */
	bool ack = ack_is_wanted(session, message);
	bool own_reply;
	int ret;

	if (rule == NULL)
		return handle_unknown(session, message);
	own_reply = rule->reply != VU_REPLY_ACK;
	ret = check(session, rule, message);
	if (ret == 0)
		ret = handlers[request](session, message);
	if (session->closed)
		return -1;
	if (ret < 0)
		return refused(session, rule->name, own_reply, ack, ret);
	return ack && !own_reply ? backend_reply_u64(session, 0) : 0;
}

int backend_handle_unsupported(struct vu_backend *session, struct vu_message *message)
{
	return backend_refuse(session, -EOPNOTSUPP, "not supported by a network device");
}

int vu_backend_process(struct vu_backend *session)
{
	struct vu_connection *connection = &session->connection;
	int ret;

	for (unsigned int i = 0; i < MESSAGES_PER_TURN && !session->closed; i++) {
		if (vu_backend_memory_is_broken(session))
			return session_end(session, VU_CLOSE_MEMORY,
				"guest memory was truncated under its mapping");
		ret = vu_connection_flush(connection);
		if (ret == 0)
			break;
		if (ret > 0)
			ret = vu_connection_receive(connection, false);
		if (ret == 0)
			break;
		if (ret < 0)
			return connection_end(session, ret);
		handle(session, &connection->in);
		vu_connection_next(connection);
	}
	return session->closed ? -1 : 0;
}

int vu_backend_fd(const struct vu_backend *session)
{
	return vu_connection_fd(&session->connection);
}

short vu_backend_events(const struct vu_backend *session)
{
	return vu_connection_events(&session->connection);
}

uint64_t vu_backend_deadline_us(const struct vu_backend *session)
{
	return vu_connection_deadline_us(&session->connection);
}

enum vu_close_reason vu_backend_close_reason(const struct vu_backend *session)
{
	return session->close_reason;
}

const char *vu_backend_close_text(const struct vu_backend *session)
{
	return session->closed ? session->error : "";
}

uint64_t vu_backend_features(const struct vu_backend *session)
{
	return session->features;
}

uint64_t vu_backend_protocol_features(const struct vu_backend *session)
{
	return session->protocol_features;
}

bool vu_backend_memory_is_broken(const struct vu_backend *session)
{
	return (session->mem != NULL && gmem_is_broken(session->mem)) ||
	       (session->log != NULL && gmem_log_is_broken(session->log));
}

const struct gmem *vu_backend_memory(const struct vu_backend *session)
{
	return session->mem;
}

struct vu_ring *vu_backend_ring(struct vu_backend *session, unsigned int index)
{
	return index < session->n_rings ? &session->rings[index].shared : NULL;
}

pid_t vu_backend_peer_pid(const struct vu_backend *session)
{
	return session->peer_pid;
}

uid_t vu_backend_peer_uid(const struct vu_backend *session)
{
	return session->peer_uid;
}

uint64_t vu_backend_n_refused(const struct vu_backend *session)
{
	return session->n_refused;
}
