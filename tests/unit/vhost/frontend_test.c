/* SPDX-License-Identifier: BSD-3-Clause */
/* The front end: against our back end in a thread, and against a scripted one that lies, stalls and
 * floods. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <base/clock.h>
#include <vhost/connection.h>

#include "session_fixture.h"

#define N_ELEMENTS(array) (sizeof(array) / sizeof((array)[0]))
#define SHORT_US          500000

/* A session served by its own thread until the peer goes, as a daemon's control thread would. */
struct server {
	struct fixture f;
	pthread_t thread;
	struct vu_frontend *frontend;
};

static void *serve(void *arg)
{
	struct server *server = arg;
	struct vu_backend *session = server->f.session;

	for (;;) {
		struct pollfd p = {
			.fd = vu_backend_fd(session), .events = vu_backend_events(session)};

		poll(&p, 1, 1000);
		if (vu_backend_process(session) < 0) {
			/* As if it had been destroyed, which the main thread does later. */
			shutdown(vu_backend_fd(session), SHUT_RDWR);
			return NULL;
		}
	}
}

static void server_open(struct server *server, const struct vu_frontend_config *config)
{
	fixture_open(&server->f, NULL);
	server->frontend = vu_frontend_create(config, server->f.fd);
	assert_non_null(server->frontend);
	server->f.fd = -1;
	assert_int_equal(pthread_create(&server->thread, NULL, serve, server), 0);
}

/* The C library keeps stacks and heaps of ended threads: no test should be the first to make one.
 */
static void *idle(void *arg)
{
	void *volatile chunk = malloc(1000);

	free(chunk);
	return arg;
}

static int warm_up(void **state)
{
	pthread_t thread;

	return pthread_create(&thread, NULL, idle, NULL) != 0 || pthread_join(thread, NULL) != 0
		       ? -1
		       : 0;
}

static void server_close(struct server *server)
{
	vu_frontend_destroy(server->frontend);
	assert_int_equal(pthread_join(server->thread, NULL), 0);
	fixture_close(&server->f);
}

static struct gmem_region_spec spec_of(const struct vu_frontend_memory *memory)
{
	return (struct gmem_region_spec){
		.gpa = GUEST_GPA,
		.size = memory->size,
		.uva = (uintptr_t)memory->address,
		.fd = memory->fd,
	};
}

static struct vu_frontend_ring ring_of(const struct fixture *f, uint32_t index, int call_fd)
{
	const struct vu_ring_addr_payload addr = guest_ring_addr(f, index);

	return (struct vu_frontend_ring){
		.index = index,
		.size = FIXTURE_RING_SIZE,
		.desc_uva = addr.desc_uva,
		.avail_uva = addr.avail_uva,
		.used_uva = addr.used_uva,
		.kick_fd = call_fd,
		.call_fd = call_fd,
	};
}

static void both_ends_agree_over_a_whole_session(void **state)
{
	struct gmem_region_spec spec;
	struct server s;
	uint64_t taken = 0;
	uint8_t status;
	uint32_t base;
	int fd;

	server_open(&s, NULL);
	assert_int_equal(vu_frontend_negotiate(s.frontend, UINT64_MAX, &taken), 0);
	assert_true(taken == FIXTURE_FEATURES);
	assert_true(vu_frontend_offered(s.frontend) == FIXTURE_FEATURES);
	assert_true(vu_frontend_features(s.frontend) == FIXTURE_FEATURES);
	assert_true(vu_frontend_protocol_features(s.frontend) == VU_FRONTEND_PROTOCOL_FEATURES);
	assert_int_equal(vu_frontend_queue_pairs(s.frontend), FIXTURE_QUEUE_PAIRS);
	assert_int_equal(vu_frontend_memory_slots(s.frontend), GMEM_MAX_REGIONS);

	spec = spec_of(&s.f.memory);
	assert_int_equal(vu_frontend_set_memory(s.frontend, &spec, 1), 0);
	fd = eventfd(0, EFD_CLOEXEC);
	for (uint32_t i = 0; i < FIXTURE_RINGS; i++) {
		const struct vu_frontend_ring ring = ring_of(&s.f, i, fd);

		assert_int_equal(vu_frontend_ring_start(s.frontend, &ring), 0);
		assert_int_equal(vu_frontend_ring_set_err(s.frontend, i, fd), 0);
		assert_int_equal(vu_frontend_ring_enable(s.frontend, i, true), 0);
	}
	assert_int_equal(vu_frontend_driver_ok(s.frontend), 0);
	assert_int_equal(vu_frontend_get_status(s.frontend, &status), 0);
	assert_int_equal(status, 0x0f);
	assert_int_equal(vu_frontend_set_mtu(s.frontend, 9000), 0);
	assert_int_equal(vu_frontend_set_mtu(s.frontend, 67), -EINVAL);
	assert_int_equal(
		vu_frontend_send_rarp(s.frontend, (const uint8_t[6]){2, 0, 0, 0, 0, 1}), 0);
	assert_int_equal(s.f.mtu, 9000);
	assert_int_equal(s.f.n_rarp, 1);
	for (uint32_t i = 0; i < FIXTURE_RINGS; i++)
		assert_int_equal(vu_backend_ring(s.f.session, i)->state, VU_RING_RUNNING);

	spec.gpa += GUEST_BYTES;
	spec.uva += UINT64_C(1) << 32;
	assert_int_equal(vu_frontend_add_memory(s.frontend, &spec), 0);
	assert_int_equal(vu_frontend_add_memory(s.frontend, &spec), -EREMOTEIO);
	assert_non_null(strstr(vu_frontend_error(s.frontend), "ADD_MEM_REG"));
	assert_int_equal(vu_frontend_remove_memory(s.frontend, &spec), 0);

	assert_int_equal(vu_frontend_ring_set_call(s.frontend, 1, -1), 0);
	assert_int_equal(vu_frontend_ring_stop(s.frontend, 1, &base), 0);
	assert_int_equal(base, 0);
	assert_int_equal(vu_frontend_reset(s.frontend), 0);
	assert_int_equal(vu_backend_ring(s.f.session, 0)->state, VU_RING_STOPPED);
	assert_int_equal(vu_frontend_set_features(s.frontend, VU_BIT(32), &taken), 0);
	assert_true(taken == VU_BIT(32));
	assert_int_equal(vu_frontend_check(s.frontend), 0);
	close(fd);
	server_close(&s);
}

static void regions_beyond_the_table_are_added_one_by_one(void **state)
{
	struct gmem_region_spec specs[20];
	struct server s;
	uint64_t taken;

	server_open(&s, NULL);
	assert_int_equal(vu_frontend_negotiate(s.frontend, UINT64_MAX, &taken), 0);
	for (unsigned int i = 0; i < N_ELEMENTS(specs); i++) {
		specs[i] = spec_of(&s.f.memory);
		specs[i].size = 4096;
		specs[i].gpa += i * 4096;
		specs[i].uva += i * 4096;
		specs[i].mmap_offset = i * 4096;
	}
	assert_int_equal(vu_frontend_set_memory(s.frontend, specs, N_ELEMENTS(specs)), 0);
	assert_int_equal(vu_backend_memory(s.f.session)->n_regions, N_ELEMENTS(specs));
	assert_int_equal(vu_frontend_set_memory(s.frontend, specs, GMEM_MAX_REGIONS + 1), -EINVAL);
	server_close(&s);
}

static void bad_arguments_are_not_sent(void **state)
{
	struct vu_frontend_ring ring;
	struct server s;
	uint64_t taken;

	server_open(&s, NULL);
	assert_int_equal(vu_frontend_set_mtu(s.frontend, 1500), -EOPNOTSUPP);
	assert_int_equal(vu_frontend_reset(s.frontend), -EOPNOTSUPP);
	assert_int_equal(vu_frontend_set_status(s.frontend, 1), -EOPNOTSUPP);
	assert_int_equal(vu_frontend_negotiate(s.frontend, UINT64_MAX, &taken), 0);
	ring = ring_of(&s.f, 256, -1);
	assert_int_equal(vu_frontend_ring_start(s.frontend, &ring), -EINVAL);
	for (uint32_t size = 0; size < 3; size++) {
		static const uint32_t bad[] = {0, 3, 65536};

		ring = ring_of(&s.f, 0, -1);
		ring.size = bad[size];
		assert_int_equal(vu_frontend_ring_start(s.frontend, &ring), -EINVAL);
	}
	assert_int_equal(vu_frontend_ring_set_call(s.frontend, 256, -1), -EINVAL);
	assert_int_equal(vu_frontend_check(s.frontend), 0);
	server_close(&s);
}

static void created_memory_is_sealed_against_the_back_end(void **state)
{
	struct vu_frontend_memory memory;
	struct resources before = resources_now();

	assert_int_equal(vu_frontend_memory_create(&memory, 10000, false), 0);
	assert_int_equal(memory.size, 12288);
	assert_int_equal(memory.address[0], 0);
	assert_int_equal(ftruncate(memory.fd, 0), -1);
	assert_int_equal(errno, EPERM);
	assert_int_equal(ftruncate(memory.fd, 1 << 20), -1);
	assert_int_equal(fcntl(memory.fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
	vu_frontend_memory_destroy(&memory);
	vu_frontend_memory_destroy(&memory);
	assert_int_equal(vu_frontend_memory_create(&memory, 0, false), -EINVAL);
	assert_true(vu_frontend_memory_create(&memory, UINT64_MAX, false) < 0);
	resources_assert_equal(&before);
}

static void create_wants_a_stream_socket(void **state)
{
	int fd = eventfd(0, EFD_CLOEXEC);

	assert_null(vu_frontend_create(NULL, fd));
	assert_int_equal(errno, EINVAL);
	close(fd);
	vu_frontend_destroy(NULL);
}

/* What the scripted back end does after it has read a request. */
struct line {
	uint32_t request; /* in the answer; 0: no answer */
	uint32_t flags;
	uint32_t size;
	uint64_t value;
	unsigned int n_sent; /* bytes of the payload sent; size unless cut */
	unsigned int n_fds;
	bool twice;
	bool close;
};

struct actor {
	int fd;
	const struct line *lines;
	unsigned int n_lines;
	uint64_t asked[16]; /* the first bytes of each request's payload */
	pthread_t thread;
};

static void *act(void *arg)
{
	struct actor *actor = arg;
	struct vu_transport transport;
	uint8_t bytes[sizeof(struct vu_header) + VU_PAYLOAD_MAX];
	int event_fd = eventfd(0, EFD_CLOEXEC);
	int fds[253];

	for (unsigned int i = 0; i < N_ELEMENTS(fds); i++)
		fds[i] = event_fd;
	vu_transport_socket(&transport, actor->fd);
	for (unsigned int i = 0; i < actor->n_lines; i++) {
		const struct line *line = &actor->lines[i];
		const struct vu_header header = {line->request, line->flags, line->size};
		struct vu_header asked;

		if (recv(actor->fd, &asked, sizeof(asked), MSG_WAITALL) != sizeof(asked))
			break;
		if (asked.size > 0)
			recv(actor->fd, bytes, asked.size, MSG_WAITALL);
		if (i < N_ELEMENTS(actor->asked))
			memcpy(&actor->asked[i], bytes, sizeof(actor->asked[i]));
		memset(bytes, 0, sizeof(bytes));
		memcpy(bytes, &header, sizeof(header));
		memcpy(bytes + sizeof(header), &line->value, sizeof(line->value));
		for (unsigned int n = 0; line->request != 0 && n < (line->twice ? 2 : 1); n++)
			transport.ops->send(transport.ctx, bytes, sizeof(header) + line->n_sent,
				fds, line->n_fds);
		if (line->close)
			break;
	}
	/* Until the front end has had enough. */
	if (actor->n_lines == 0 || !actor->lines[actor->n_lines - 1].close)
		recv(actor->fd, bytes, 1, MSG_WAITALL);
	close(event_fd);
	close(actor->fd);
	return NULL;
}

static struct vu_frontend *actor_start(
	struct actor *actor, const struct line *lines, unsigned int n_lines)
{
	const struct vu_frontend_config config = {.deadline_us = SHORT_US};
	struct vu_frontend *frontend;
	int ends[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	*actor = (struct actor){.fd = ends[1], .lines = lines, .n_lines = n_lines};
	frontend = vu_frontend_create(&config, ends[0]);
	assert_non_null(frontend);
	assert_int_equal(pthread_create(&actor->thread, NULL, act, actor), 0);
	return frontend;
}

static void actor_end(struct actor *actor, struct vu_frontend *frontend)
{
	vu_frontend_destroy(frontend);
	assert_int_equal(pthread_join(actor->thread, NULL), 0);
}

static void wrong_answers_end_the_session_in_time(void **state)
{
	static const struct {
		struct line line;
		int result;
	} cases[] = {
		{{.request = 2, .flags = 5, .size = 8, .n_sent = 8}, -EPROTO},
		{{.request = 1, .flags = 5, .size = 4, .n_sent = 4}, -EPROTO},
		{{.request = 1, .flags = 5, .size = 0, .n_sent = 0}, -EPROTO},
		{{.request = 1, .flags = 5, .size = 16, .n_sent = 16}, -EPROTO},
		{{.request = 1, .flags = 5, .size = UINT32_MAX, .n_sent = 8}, -EPROTO},
		{{.request = 1, .flags = 1, .size = 8, .n_sent = 8}, -EPROTO},
		{{.request = 1, .flags = 4, .size = 8, .n_sent = 8}, -EPROTO},
		{{.request = 1, .flags = 5, .size = 8, .n_sent = 8, .n_fds = 1}, -EPROTO},
		{{.request = 1, .flags = 5, .size = 8, .n_sent = 8, .n_fds = 253}, -EPROTO},
		{{.request = 1, .flags = 5, .size = 8, .n_sent = 3}, -ETIMEDOUT},
		{{.request = 1, .flags = 5, .size = 8, .n_sent = 3, .close = true}, -ECONNRESET},
		{{.request = 0}, -ETIMEDOUT},
		{{.request = 0, .close = true}, -ECONNRESET},
		{{.request = 1, .flags = 5, .size = 8, .n_sent = 8}, 0},
	};

	for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
		struct resources before = resources_now();
		uint64_t start_us = clock_now_us();
		struct vu_frontend *frontend;
		struct actor actor;

		frontend = actor_start(&actor, &cases[i].line, 1);
		assert_int_equal(vu_frontend_barrier(frontend), cases[i].result);
		assert_true(clock_now_us() - start_us < 20 * SHORT_US);
		if (cases[i].result != 0) {
			assert_string_not_equal(vu_frontend_error(frontend), "");
			/* And so is everything after it. */
			assert_int_equal(vu_frontend_barrier(frontend), cases[i].result);
			assert_int_equal(vu_frontend_check(frontend), cases[i].result);
		}
		actor_end(&actor, frontend);
		resources_assert_equal(&before);
	}
}

static void second_answer_to_one_question_is_a_breach(void **state)
{
	static const struct line lines[] = {{.request = VU_REQUEST_GET_FEATURES,
		.flags = 5,
		.size = 8,
		.n_sent = 8,
		.twice = true}};
	struct vu_frontend *frontend;
	struct actor actor;
	struct pollfd p;

	frontend = actor_start(&actor, lines, N_ELEMENTS(lines));
	assert_int_equal(vu_frontend_barrier(frontend), 0);
	p = (struct pollfd){.fd = vu_frontend_fd(frontend), .events = POLLIN};
	assert_int_equal(poll(&p, 1, 5000), 1);
	assert_int_equal(vu_frontend_barrier(frontend), -EPROTO);
	actor_end(&actor, frontend);
}

/* Answers of a negotiation whose numbers are nonsense. */
static void absurd_limits_are_clamped(void **state)
{
	static const struct {
		uint64_t said;
		unsigned int n_queue_pairs;
		unsigned int n_memory_slots;
	} cases[] = {
		{0, 1, 1},
		{3, 3, 3},
		{UINT64_MAX, VU_FRONTEND_MAX_QUEUE_PAIRS, GMEM_MAX_REGIONS},
		{UINT64_C(1) << 32, VU_FRONTEND_MAX_QUEUE_PAIRS, GMEM_MAX_REGIONS},
	};
	const uint64_t protocol =
		VU_BIT(VU_PROTOCOL_F_MQ) | VU_BIT(VU_PROTOCOL_F_CONFIGURE_MEM_SLOTS);

	for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
		const struct line lines[] = {
			{.request = VU_REQUEST_GET_FEATURES,
				.flags = 5,
				.size = 8,
				.n_sent = 8,
				.value = UINT64_MAX},
			{.request = VU_REQUEST_GET_PROTOCOL_FEATURES,
				.flags = 5,
				.size = 8,
				.n_sent = 8,
				.value = protocol},
			{.request = 0}, /* SET_PROTOCOL_FEATURES */
			{.request = VU_REQUEST_GET_QUEUE_NUM,
				.flags = 5,
				.size = 8,
				.n_sent = 8,
				.value = cases[i].said},
			{.request = VU_REQUEST_GET_MAX_MEM_SLOTS,
				.flags = 5,
				.size = 8,
				.n_sent = 8,
				.value = cases[i].said},
			{.request = 0}, /* SET_OWNER */
			{.request = 0}, /* SET_FEATURES */
		};
		struct vu_frontend *frontend;
		struct actor actor;
		uint64_t taken;

		frontend = actor_start(&actor, lines, N_ELEMENTS(lines));
		assert_int_equal(vu_frontend_negotiate(frontend, VU_BIT(32), &taken), 0);
		assert_true(taken == VU_BIT(32));
		assert_int_equal(vu_frontend_queue_pairs(frontend), cases[i].n_queue_pairs);
		assert_int_equal(vu_frontend_memory_slots(frontend), cases[i].n_memory_slots);
		actor_end(&actor, frontend);
	}
}

static void back_end_without_protocol_features_is_driven_too(void **state)
{
	static const struct line lines[] = {
		{.request = VU_REQUEST_GET_FEATURES,
			.flags = 5,
			.size = 8,
			.n_sent = 8,
			.value = VU_BIT(32)},
		{.request = 0}, /* SET_OWNER */
		{.request = 0}, /* SET_FEATURES */
		{.request = VU_REQUEST_GET_VRING_BASE,
			.flags = 5,
			.size = 8,
			.n_sent = 8,
			.value = UINT64_C(77) << 32 | 1},
		{.request = VU_REQUEST_GET_VRING_BASE,
			.flags = 5,
			.size = 8,
			.n_sent = 8,
			.value = UINT64_C(77) << 32 | 3},
	};
	struct vu_frontend *frontend;
	struct actor actor;
	uint64_t taken;
	uint32_t base;

	frontend = actor_start(&actor, lines, N_ELEMENTS(lines));
	assert_int_equal(vu_frontend_negotiate(frontend, UINT64_MAX, &taken), 0);
	assert_true(taken == VU_BIT(32));
	assert_int_equal(vu_frontend_queue_pairs(frontend), 1);
	assert_int_equal(vu_frontend_memory_slots(frontend), 8);
	assert_int_equal(vu_frontend_ring_enable(frontend, 0, true), -EOPNOTSUPP);
	assert_int_equal(vu_frontend_ring_stop(frontend, 1, &base), 0);
	assert_int_equal(base, 77);
	/* An answer about another ring. */
	assert_int_equal(vu_frontend_ring_stop(frontend, 1, &base), -EPROTO);
	assert_int_equal(vu_frontend_barrier(frontend), -EPROTO);
	actor_end(&actor, frontend);
}

/* Any size, and positions in the place of indices: next available in bits 0-15, next used in bits 16-31. */
static void packed_rings_start_and_stop_with_both_positions(void **state)
{
	static const struct line lines[] = {
		{.request = 1, .flags = 5, .size = 8, .n_sent = 8, .value = VU_BIT(32) | VU_BIT(34)},
		{.request = 0}, /* SET_OWNER */
		{.request = 0}, /* SET_FEATURES */
		{.request = 0}, /* SET_VRING_NUM */
		{.request = 0}, /* SET_VRING_BASE */
		{.request = 0}, /* SET_VRING_ADDR */
		{.request = 0}, /* SET_VRING_CALL */
		{.request = 0}, /* SET_VRING_KICK */
		{.request = VU_REQUEST_GET_VRING_BASE,
			.flags = 5,
			.size = 8,
			.n_sent = 8,
			.value = UINT64_C(0x80020001) << 32 | 1},
	};
	struct vu_frontend_ring ring = {
		.index = 1, .size = 3, .base = VU_FRONTEND_PACKED_START, .kick_fd = -1, .call_fd = -1};
	struct vu_frontend *frontend;
	struct actor actor;
	uint64_t taken;
	uint32_t base;

	frontend = actor_start(&actor, lines, N_ELEMENTS(lines));
	assert_int_equal(vu_frontend_negotiate(frontend, VU_BIT(32) | VU_BIT(34), &taken), 0);
	assert_true(taken == (VU_BIT(32) | VU_BIT(34)));
	ring.size = 32769;
	assert_int_equal(vu_frontend_ring_start(frontend, &ring), -EINVAL);
	assert_non_null(strstr(vu_frontend_error(frontend), "allowed: 1..32768"));
	ring.size = 3;
	assert_int_equal(vu_frontend_ring_start(frontend, &ring), 0);
	assert_int_equal(vu_frontend_ring_stop(frontend, 1, &base), 0);
	assert_int_equal(base, 0x80020001);
	actor_end(&actor, frontend);
	assert_true(actor.asked[3] == (UINT64_C(3) << 32 | 1));
	assert_true(actor.asked[4] == (UINT64_C(0x80008000) << 32 | 1));
}

static void a_split_ring_cannot_have_got_to_more_than_16_bits(void **state)
{
	static const struct line lines[] = {
		{.request = 1, .flags = 5, .size = 8, .n_sent = 8, .value = VU_BIT(32)},
		{.request = 0}, /* SET_OWNER */
		{.request = 0}, /* SET_FEATURES */
		{.request = VU_REQUEST_GET_VRING_BASE,
			.flags = 5,
			.size = 8,
			.n_sent = 8,
			.value = UINT64_C(0x10000) << 32 | 1},
	};
	struct vu_frontend *frontend;
	struct actor actor;
	uint64_t taken;
	uint32_t base;

	frontend = actor_start(&actor, lines, N_ELEMENTS(lines));
	assert_int_equal(vu_frontend_negotiate(frontend, VU_BIT(32), &taken), 0);
	assert_int_equal(vu_frontend_ring_stop(frontend, 1, &base), -EPROTO);
	actor_end(&actor, frontend);
}

/* A back end that takes BACKEND_REQ and sends on that channel whatever the test wants, before it
 * answers. */
struct channel_actor {
	int fd;
	int channel;
	const uint8_t *bytes;
	size_t n_bytes;
	unsigned int n_fds;
	unsigned int repeat;
	unsigned int n_replies;
	pthread_t thread;
};

static void answer(int fd, const struct vu_header *asked, uint64_t value)
{
	const struct vu_header header = {asked->request, 5, 8};
	uint8_t bytes[sizeof(header) + sizeof(value)];

	memcpy(bytes, &header, sizeof(header));
	memcpy(bytes + sizeof(header), &value, sizeof(value));
	assert_int_equal(send(fd, bytes, sizeof(bytes), MSG_NOSIGNAL), sizeof(bytes));
}

static void channel_play(struct channel_actor *actor)
{
	struct vu_transport transport;
	uint8_t reply[20];
	int event_fd = eventfd(0, EFD_CLOEXEC);
	int fds[253];

	for (unsigned int i = 0; i < N_ELEMENTS(fds); i++)
		fds[i] = event_fd;
	vu_transport_socket(&transport, actor->channel);
	for (unsigned int i = 0; i < actor->repeat; i++) {
		struct pollfd p = {.fd = actor->channel, .events = POLLIN};

		transport.ops->send(transport.ctx, actor->bytes, actor->n_bytes, fds, actor->n_fds);
		if (poll(&p, 1, 20) == 1 &&
			recv(actor->channel, reply, sizeof(reply), MSG_DONTWAIT) == sizeof(reply))
			actor->n_replies++;
	}
	close(event_fd);
}

static void *channel_act(void *arg)
{
	struct channel_actor *actor = arg;
	struct vu_transport transport;
	struct vu_connection connection;

	vu_transport_socket(&transport, actor->fd);
	vu_connection_init(&connection, transport, 1000000);
	for (;;) {
		struct pollfd p = {.fd = actor->fd, .events = POLLIN};
		const struct vu_header *asked = &connection.in.header;
		int ret;

		poll(&p, 1, 1000);
		ret = vu_connection_receive(&connection, false);
		if (ret < 0)
			break;
		if (ret == 0)
			continue;
		if (asked->request == VU_REQUEST_SET_BACKEND_REQ_FD) {
			actor->channel = vu_fds_take(&connection.in.fds, 0);
			answer(actor->fd, asked, 0);
		} else if (asked->request == VU_REQUEST_GET_FEATURES && actor->channel >= 0) {
			channel_play(actor);
			answer(actor->fd, asked, VU_BIT(32));
		} else if (asked->request == VU_REQUEST_GET_FEATURES) {
			answer(actor->fd, asked, VU_BIT(30) | VU_BIT(32));
		} else if (asked->request == VU_REQUEST_GET_PROTOCOL_FEATURES) {
			answer(actor->fd, asked,
				VU_BIT(VU_PROTOCOL_F_BACKEND_REQ) |
					VU_BIT(VU_PROTOCOL_F_REPLY_ACK));
		} else if ((asked->flags & VU_FLAGS_NEED_REPLY) != 0) {
			answer(actor->fd, asked, 0);
		}
		vu_connection_next(&connection);
	}
	if (actor->channel >= 0)
		close(actor->channel);
	vu_connection_close(&connection);
	return NULL;
}

static void requests_of_the_back_end_are_refused_while_we_wait(void **state)
{
	static const struct {
		uint32_t request;
		uint32_t flags;
		uint32_t size;
		size_t n_sent;
		unsigned int n_fds;
		bool replied;
		bool channel_lives;
	} cases[] = {
		{1, 9, 32, 32, 0, true, true}, /* IOTLB miss while we wait */
		{1, 1, 32, 32, 0, false, true}, {2, 9, 0, 0, 0, true, true},
		{8, 1, 16, 16, 0, true, true}, /* has a reply of its own */
		{3, 9, 24, 24, 1, true, true}, {3, 9, 24, 24, 8, true, true},
		{3, 9, 24, 24, 253, true, true}, {9, 9, 40, 40, 1, true, true},
		{0, 9, 0, 0, 0, true, true}, {4711, 9, 100, 100, 2, true, true},
		{1, 9, 32, 5, 0, false, true}, /* the rest never comes */
		{1, 9, 4097, 0, 0, false, false}, {1, 9, UINT32_MAX, 0, 0, false, false},
		{1, 8, 32, 32, 0, false, false},  /* version 0 */
		{1, 13, 32, 32, 0, false, false}, /* a reply */
	};
	const struct vu_frontend_config config = {
		.deadline_us = 2000000,
		.protocol_features =
			VU_BIT(VU_PROTOCOL_F_BACKEND_REQ) | VU_BIT(VU_PROTOCOL_F_REPLY_ACK),
	};

	for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
		const struct vu_header header = {cases[i].request, cases[i].flags, cases[i].size};
		uint8_t bytes[sizeof(header) + 128] = {0};
		struct resources before = resources_now();
		struct channel_actor actor = {.channel = -1,
			.bytes = bytes,
			.n_bytes = sizeof(header) + cases[i].n_sent,
			.n_fds = cases[i].n_fds,
			.repeat = 1};
		struct vu_frontend *frontend;
		uint64_t taken;
		int ends[2];

		memcpy(bytes, &header, sizeof(header));
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
		actor.fd = ends[1];
		frontend = vu_frontend_create(&config, ends[0]);
		assert_int_equal(pthread_create(&actor.thread, NULL, channel_act, &actor), 0);
		assert_int_equal(vu_frontend_negotiate(frontend, VU_BIT(32), &taken), 0);
		/* Answered in spite of all that, within the deadline. */
		assert_int_equal(vu_frontend_barrier(frontend), 0);
		assert_int_equal(vu_frontend_process_backend_requests(frontend),
			cases[i].channel_lives ? 0 : -EPROTO);
		assert_int_equal(vu_frontend_n_backend_requests(frontend),
			cases[i].channel_lives && cases[i].n_sent == cases[i].size ? 1 : 0);
		vu_frontend_destroy(frontend);
		assert_int_equal(pthread_join(actor.thread, NULL), 0);
		assert_int_equal(actor.n_replies, cases[i].replied);
		resources_assert_equal(&before);
	}
}

static void raw_message_shows_the_reply_as_it_is(void **state)
{
	static struct vu_frontend_raw_reply reply;
	struct vu_frontend_raw message = {.request = VU_REQUEST_GET_QUEUE_NUM, .flags = 1};
	struct server s;
	uint64_t taken;

	server_open(&s, NULL);
	assert_int_equal(vu_frontend_negotiate(s.frontend, UINT64_MAX, &taken), 0);
	assert_int_equal(vu_frontend_raw(s.frontend, &message, &reply), 0);
	assert_int_equal(reply.header.request, VU_REQUEST_GET_QUEUE_NUM);
	assert_int_equal(reply.header.flags, 5);
	assert_int_equal(reply.header.size, 8);
	assert_int_equal(reply.payload[0], FIXTURE_QUEUE_PAIRS);
	assert_int_equal(reply.n_fds, 0);
	message.n_payload = VU_PAYLOAD_MAX + 1;
	assert_int_equal(vu_frontend_raw(s.frontend, &message, NULL), -EINVAL);
	/* Version 0: the back end hangs up. */
	message = (struct vu_frontend_raw){.request = 1, .flags = 0};
	assert_int_equal(vu_frontend_raw(s.frontend, &message, &reply), -ECONNRESET);
	server_close(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(both_ends_agree_over_a_whole_session),
		cmocka_unit_test(regions_beyond_the_table_are_added_one_by_one),
		cmocka_unit_test(bad_arguments_are_not_sent),
		cmocka_unit_test(created_memory_is_sealed_against_the_back_end),
		cmocka_unit_test(create_wants_a_stream_socket),
		cmocka_unit_test(wrong_answers_end_the_session_in_time),
		cmocka_unit_test(second_answer_to_one_question_is_a_breach),
		cmocka_unit_test(absurd_limits_are_clamped),
		cmocka_unit_test(back_end_without_protocol_features_is_driven_too),
		cmocka_unit_test(packed_rings_start_and_stop_with_both_positions),
		cmocka_unit_test(a_split_ring_cannot_have_got_to_more_than_16_bits),
		cmocka_unit_test(requests_of_the_back_end_are_refused_while_we_wait),
		cmocka_unit_test(raw_message_shows_the_reply_as_it_is),
	};

	return cmocka_run_group_tests(tests, warm_up, NULL);
}
