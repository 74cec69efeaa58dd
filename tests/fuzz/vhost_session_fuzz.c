/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A back-end session under a front end made of fuzz bytes. The bytes are decoded into messages that
 * mostly look right (known requests, plausible sizes, addresses in memory, descriptors of the kind
 * the message wants), writes to guest memory, and turns of a worker that uses the running rings.
 * After every step what must always hold is checked.
 */
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <base/log.h>
#include <gmem/guard.h>
#include <vhost/backend.h>
#include <vhost/connection.h>
#include <vhost/frontend.h>

#define N_RINGS      4u
#define MEMORY_BYTES 0x10000u
#define PAGE         0x1000u
#define MAX_SESSIONS 32u
#define LOG_ALL      VU_BIT(VHOST_USER_F_LOG_ALL)
#define FEATURES                                                                                   \
	(VU_BIT(32) | VU_BIT(15) | VU_BIT(28) | VU_BIT(29) | VU_BIT(35) | VU_BIT(0) | VU_BIT(11) | \
		LOG_ALL)
#define PROTOCOL 0x1a03f

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
	const uint8_t *data;
	size_t size;
};

static uint8_t take8(struct input *in)
{
	if (in->size == 0)
		return 0;
	in->size--;
	return *in->data++;
}

static uint32_t take32(struct input *in)
{
	uint32_t value = 0;

	for (unsigned int i = 0; i < 4; i++)
		value = value << 8 | take8(in);
	return value;
}

/* The stream towards the session, delivered in pieces of `step` bytes. */
struct stream {
	uint8_t bytes[sizeof(struct vu_header) + VU_PAYLOAD_MAX];
	size_t n;
	size_t n_read;
	size_t step;
	int fds[VU_FDS_MAX];
	unsigned int n_fds;
	bool refuse_output;
};

struct world {
	struct vu_backend *session;
	struct stream stream;
	struct vu_frontend_memory memory;
	bool quiesced;
};

static void must(bool condition)
{
	if (!condition)
		abort();
}

static ssize_t stream_receive(void *ctx, void *data, size_t size, struct vu_fds *fds)
{
	struct stream *s = ctx;
	size_t n = s->n - s->n_read;

	if (n == 0)
		return -EAGAIN;
	n = n < size ? n : size;
	n = n < s->step ? n : s->step;
	memcpy(data, s->bytes + s->n_read, n);
	if (s->n_read == 0 && fds != NULL) {
		memcpy(fds->fd + fds->n, s->fds, s->n_fds * sizeof(int));
		fds->n += s->n_fds;
		s->n_fds = 0;
	}
	s->n_read += n;
	return (ssize_t)n;
}

static ssize_t stream_send(
	void *ctx, const void *data, size_t size, const int *fds, unsigned int n_fds)
{
	struct stream *s = ctx;
	struct vu_header header;

	if (s->refuse_output)
		return -EAGAIN;
	must(size >= sizeof(header) && n_fds == 0);
	memcpy(&header, data, sizeof(header));
	must(header.flags == (VU_FLAGS_VERSION | VU_FLAGS_REPLY));
	must(header.size == size - sizeof(header));
	return (ssize_t)size;
}

static int stream_fd(const void *ctx)
{
	return -1;
}

static void stream_close(void *ctx)
{
}

static const struct vu_transport_ops stream_ops = {
	.receive = stream_receive,
	.send = stream_send,
	.fd = stream_fd,
	.close = stream_close,
};

static void on_quiesce(void *ctx)
{
	struct world *w = ctx;

	must(!w->quiesced);
	w->quiesced = true;
}

static void on_resume(void *ctx)
{
	struct world *w = ctx;

	must(w->quiesced);
	w->quiesced = false;
}

static const struct vu_backend_ops ops = {.quiesce = on_quiesce, .resume = on_resume};

static void message_put(
	struct stream *s, const struct vu_header *header, const void *payload, size_t n_payload)
{
	memcpy(s->bytes, header, sizeof(*header));
	memcpy(s->bytes + sizeof(*header), payload, n_payload);
	s->n = sizeof(*header) + n_payload;
	s->n_read = 0;
}

static void session_open(struct world *w)
{
	const struct vu_backend_config config = {.name = "fuzz",
		.features = FEATURES,
		.n_queue_pairs = N_RINGS / 2,
		.deadline_us = UINT32_MAX,
		.ops = &ops,
		.ctx = w};
	const struct vu_transport transport = {.ops = &stream_ops, .ctx = &w->stream};

	w->quiesced = false;
	w->stream.n = 0;
	w->stream.n_read = 0;
	w->stream.refuse_output = false;
	w->session = vu_backend_create_on(&config, &transport);
	must(w->session != NULL);
}

static void check(struct world *w)
{
	must(!w->quiesced);
	for (unsigned int i = 0; i < N_RINGS; i++) {
		const struct vu_ring *ring = vu_backend_ring(w->session, i);

		if (ring->state == VU_RING_RUNNING) {
			must(ring->device.mem == vu_backend_memory(w->session));
			must(ring->device.size == ring->size);
			must(ring->dirty.log == NULL ||
				((vu_backend_features(w->session) & LOG_ALL) != 0 &&
					gmem_log_covers(ring->dirty.log, ring->device.mem)));
		} else {
			must(ring->state == VU_RING_BROKEN || ring->dirty.log == NULL);
			must(ring->state == VU_RING_BROKEN || ring->device.desc == NULL);
		}
		must(ring->state != VU_RING_STOPPED || ring->kick_fd == -1);
	}
}

static int fd_of_kind(const struct world *w, uint8_t kind)
{
	int ends[2];

	switch (kind % 4) {
	case 0:
		return eventfd(0, EFD_CLOEXEC);
	case 1:
		return dup(w->memory.fd);
	case 2:
		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
			return -1;
		close(ends[1]);
		return ends[0];
	default:
		if (pipe(ends) < 0)
			return -1;
		close(ends[0]);
		return ends[1];
	}
}

static struct vu_region_payload region_from(const struct world *w, struct input *in)
{
	uint8_t place = take8(in);
	uint8_t bytes = take8(in);

	return (struct vu_region_payload){
		.gpa = place % 16 * PAGE,
		.size = bytes < 240 ? (bytes % 16 + 1u) * PAGE : take32(in),
		.uva = (uintptr_t)w->memory.address + place % 16 * PAGE,
		.mmap_offset = place < 240 ? place % 16 * PAGE : take32(in),
	};
}

/* Fills the payload as the message wants it; returns its size. */
static uint32_t payload_from(
	const struct world *w, struct input *in, uint32_t request, uint8_t *payload)
{
	static const uint16_t sizes[] = {1, 2, 4, 8, 256};
	uint8_t choice = take8(in);
	struct vu_ring_state_payload state = {.index = choice % (N_RINGS + 1)};
	struct vu_ring_addr_payload addr = {.index = choice % (N_RINGS + 1)};
	struct vu_mem_table_payload table = {.n_regions = choice % 10};
	struct vu_mem_region_payload single = {0};
	struct vu_log_payload log;
	uint64_t value;

	switch (request) {
	case VU_REQUEST_SET_MEM_TABLE:
		for (unsigned int i = 0; i < VU_MEM_TABLE_MAX; i++)
			table.regions[i] = region_from(w, in);
		memcpy(payload, &table, sizeof(table));
		return 8 + table.n_regions % 9 * (uint32_t)sizeof(table.regions[0]);
	case VU_REQUEST_ADD_MEM_REG:
	case VU_REQUEST_REM_MEM_REG:
		single.region = region_from(w, in);
		memcpy(payload, &single, sizeof(single));
		return sizeof(single);
	case VU_REQUEST_SET_LOG_BASE:
		/* In guest memory, which is what the descriptor names: the rings may lie in the log. */
		log.mmap_size = choice < 240 ? 1u + choice % 8 : take32(in);
		log.mmap_offset = choice < 240 ? take8(in) * 256u : take32(in);
		memcpy(payload, &log, sizeof(log));
		return sizeof(log);
	case VU_REQUEST_SET_VRING_ADDR:
		addr.desc_uva = (uintptr_t)w->memory.address + take8(in) * 256u;
		addr.avail_uva = (uintptr_t)w->memory.address + take8(in) * 256u;
		addr.used_uva = (uintptr_t)w->memory.address + take8(in) * 256u;
		addr.flags = choice / 16 % 3;
		memcpy(payload, &addr, sizeof(addr));
		return sizeof(addr);
	case VU_REQUEST_SET_VRING_NUM:
		state.num = choice < 200 ? sizes[choice % 5] : take32(in);
		break;
	case VU_REQUEST_SET_VRING_BASE:
		state.num = choice < 200 ? choice % 4 : take32(in);
		break;
	case VU_REQUEST_SET_VRING_ENABLE:
		state.num = choice / 8 % 3;
		break;
	case VU_REQUEST_SET_FEATURES:
		value = choice < 200 ? (FEATURES | VU_BIT(30)) & ~(choice % 2 * LOG_ALL)
				     : (uint64_t)take32(in) << 16;
		memcpy(payload, &value, sizeof(value));
		return sizeof(value);
	case VU_REQUEST_SET_PROTOCOL_FEATURES:
		value = choice < 220 ? PROTOCOL : take32(in);
		memcpy(payload, &value, sizeof(value));
		return sizeof(value);
	case VU_REQUEST_SET_VRING_KICK:
	case VU_REQUEST_SET_VRING_CALL:
	case VU_REQUEST_SET_VRING_ERR:
		value = choice % (N_RINGS + 1) + (choice & 0x80) * 2u;
		memcpy(payload, &value, sizeof(value));
		return sizeof(value);
	case VU_REQUEST_SET_STATUS:
		value = choice % 32;
		memcpy(payload, &value, sizeof(value));
		return sizeof(value);
	default:
		for (unsigned int i = 0; i < 16; i++)
			payload[i] = take8(in);
		return vu_request_rule(request) != NULL ? vu_request_rule(request)->payload_min
							: choice;
	}
	memcpy(payload, &state, sizeof(state));
	return sizeof(state);
}

static void message_fds(struct world *w, struct input *in, uint32_t request, const uint8_t *payload)
{
	const struct vu_rule *rule = vu_request_rule(request);
	unsigned int n = 0;
	uint8_t kind = 0;
	uint8_t odd = take8(in);

	if (odd >= 240) {
		n = take8(in) % 12;
		kind = take8(in);
	} else if (rule != NULL) {
		n = rule->fds == VU_FDS_ONE          ? 1
		    : rule->fds == VU_FDS_PER_REGION ? payload[0]
		    : rule->fds == VU_FDS_BY_RING    ? payload[1] == 0
						     : 0;
		kind = request == VU_REQUEST_SET_MEM_TABLE || request == VU_REQUEST_ADD_MEM_REG ||
				       request == VU_REQUEST_SET_LOG_BASE
			       ? 1
		       : request == VU_REQUEST_SET_BACKEND_REQ_FD                               ? 2
												: 0;
	}
	w->stream.n_fds = 0;
	for (unsigned int i = 0; i < n; i++) {
		int fd = fd_of_kind(w, kind);

		if (fd >= 0)
			w->stream.fds[w->stream.n_fds++] = fd;
	}
}

/* The messages of a real session, those that lead somewhere more often than the others. */
static const uint8_t usual_requests[] = {VU_REQUEST_GET_FEATURES, VU_REQUEST_SET_FEATURES,
	VU_REQUEST_SET_MEM_TABLE, VU_REQUEST_SET_MEM_TABLE, VU_REQUEST_ADD_MEM_REG,
	VU_REQUEST_REM_MEM_REG, VU_REQUEST_SET_VRING_NUM, VU_REQUEST_SET_VRING_NUM,
	VU_REQUEST_SET_VRING_ADDR, VU_REQUEST_SET_VRING_ADDR, VU_REQUEST_SET_VRING_BASE,
	VU_REQUEST_SET_VRING_BASE, VU_REQUEST_GET_VRING_BASE, VU_REQUEST_SET_VRING_KICK,
	VU_REQUEST_SET_VRING_KICK, VU_REQUEST_SET_VRING_CALL, VU_REQUEST_SET_VRING_ERR,
	VU_REQUEST_SET_VRING_ENABLE, VU_REQUEST_SET_VRING_ENABLE, VU_REQUEST_SET_STATUS,
	VU_REQUEST_GET_STATUS, VU_REQUEST_RESET_OWNER, VU_REQUEST_RESET_DEVICE,
	VU_REQUEST_NET_SET_MTU, VU_REQUEST_SEND_RARP, VU_REQUEST_SET_BACKEND_REQ_FD,
	VU_REQUEST_GET_QUEUE_NUM, VU_REQUEST_SET_LOG_BASE, VU_REQUEST_SET_LOG_BASE,
	VU_REQUEST_SET_LOG_FD};

static uint32_t request_from(struct input *in)
{
	uint8_t choice = take8(in);

	if (choice >= 250)
		return take8(in) % (VU_N_REQUESTS + 2u);
	return usual_requests[choice % sizeof(usual_requests)];
}

static void step_message(struct world *w, struct input *in)
{
	struct stream *s = &w->stream;
	uint8_t payload[512] = {0};
	struct vu_header header = {.request = request_from(in)};
	uint8_t odd = take8(in);

	header.flags = odd < 250 ? VU_FLAGS_VERSION | VU_FLAGS_NEED_REPLY : take8(in);
	header.size = payload_from(w, in, header.request, payload);
	message_fds(w, in, header.request, payload);
	if (odd >= 240 && odd < 250)
		header.size = take8(in) % 128;
	s->step = odd % 8 == 0 ? 1u + odd / 8 : SIZE_MAX;
	message_put(s, &header, payload, header.size % sizeof(payload));
}

static int call(struct world *w, uint32_t request, const void *payload, uint32_t size)
{
	const struct vu_header header = {request, VU_FLAGS_VERSION | VU_FLAGS_NEED_REPLY, size};

	w->stream.step = SIZE_MAX;
	message_put(&w->stream, &header, payload, size);
	return vu_backend_process(w->session);
}

/* A whole set-up of one ring, which single random messages would hardly ever make. */
static void step_start_ring(struct world *w, struct input *in)
{
	uint32_t index = take8(in) % N_RINGS;
	uint64_t uva = (uintptr_t)w->memory.address + index * 4 * PAGE;
	const struct vu_mem_table_payload table = {.n_regions = 1,
		.regions = {{.size = MEMORY_BYTES, .uva = (uintptr_t)w->memory.address}}};
	const struct vu_ring_state_payload num = {index, 1u << take8(in) % 6};
	const struct vu_ring_state_payload base = {index, 0};
	const struct vu_ring_state_payload enable = {index, 1};
	const struct vu_ring_addr_payload addr = {.index = index,
		.desc_uva = uva,
		.avail_uva = uva + PAGE,
		.used_uva = uva + 2 * PAGE};
	const uint64_t kick = index | VU_RING_FD_NONE;

	if (w->stream.refuse_output)
		return;
	if (vu_backend_memory(w->session) == NULL) {
		w->stream.fds[0] = dup(w->memory.fd);
		w->stream.n_fds = 1;
		call(w, VU_REQUEST_SET_MEM_TABLE, &table, 8 + sizeof(table.regions[0]));
	}
	call(w, VU_REQUEST_SET_VRING_NUM, &num, sizeof(num));
	call(w, VU_REQUEST_SET_VRING_BASE, &base, sizeof(base));
	call(w, VU_REQUEST_SET_VRING_ADDR, &addr, sizeof(addr));
	call(w, VU_REQUEST_SET_VRING_KICK, &kick, sizeof(kick));
	call(w, VU_REQUEST_SET_VRING_ENABLE, &enable, sizeof(enable));
}

/* Most sessions begin with a negotiation, for without acks the first refusal is the end. */
static void negotiate(struct world *w, struct input *in)
{
	const struct vu_header protocol = {VU_REQUEST_SET_PROTOCOL_FEATURES, VU_FLAGS_VERSION, 8};
	const struct vu_header features = {VU_REQUEST_SET_FEATURES, VU_FLAGS_VERSION, 8};
	const uint64_t protocol_bits = PROTOCOL;
	const uint64_t feature_bits = FEATURES | VU_BIT(VHOST_USER_F_PROTOCOL_FEATURES);

	if (take8(in) >= 240)
		return;
	w->stream.step = SIZE_MAX;
	message_put(&w->stream, &protocol, &protocol_bits, sizeof(protocol_bits));
	must(vu_backend_process(w->session) == 0);
	message_put(&w->stream, &features, &feature_bits, sizeof(feature_bits));
	must(vu_backend_process(w->session) == 0);
}

static void step_guest_write(struct world *w, struct input *in)
{
	uint32_t offset = (uint32_t)take8(in) % 16 * PAGE + take8(in) % 64;
	uint32_t value = take32(in);

	/* Mostly the low bytes matter: indexes, flags, ids. */
	if (value % 2 == 0)
		value %= 16;
	memcpy(w->memory.address + offset, &value, 2 + value % 3);
}

static void step_worker(struct world *w)
{
	static struct vring_burst burst;

	for (unsigned int i = 0; i < N_RINGS; i++) {
		struct vu_ring *ring = vu_backend_ring(w->session, i);
		int n;

		if (ring->state != VU_RING_RUNNING || !ring->enabled)
			continue;
		n = vring_device_peek(
			&ring->device, &burst, i % 2 == 0 ? VRING_WRITABLE : VRING_READABLE, 16);
		if (n < 0) {
			vu_backend_ring_broken(w->session, i);
			must(ring->state == VU_RING_BROKEN);
		} else if (n > 0) {
			uint16_t from = ring->device.used_idx;

			for (int j = 0; j < n && i % 2 == 0; j++)
				burst.buffers[j].used_len = burst.buffers[j].len;
			vring_device_return(&ring->device, &burst, (unsigned int)n);
			vring_device_publish(&ring->device);
			if (ring->dirty.log != NULL)
				vring_dirty_burst(&ring->dirty, &ring->device, &burst, (unsigned int)n, from);
		}
		vring_device_set_kick(&ring->device, n != 0);
		if (ring->dirty.log != NULL)
			vring_dirty_wish(&ring->dirty, &ring->device);
	}
}

static void step(struct world *w, struct input *in)
{
	uint8_t op = take8(in);

	if (op < 150)
		step_message(w, in);
	else if (op < 170)
		step_start_ring(w, in);
	else if (op < 210)
		step_guest_write(w, in);
	else if (op < 250)
		step_worker(w);
	else
		w->stream.refuse_output = !w->stream.refuse_output;
}

static void fds_drop(struct stream *s)
{
	for (unsigned int i = 0; i < s->n_fds; i++)
		close(s->fds[i]);
	s->n_fds = 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {.data = data, .size = size};
	static struct world w;
	static bool ready;

	if (!ready) {
		log_set_level(LOG_LEVEL_ERROR);
		must(gmem_guard_install() >= 0);
		must(vu_frontend_memory_create(&w.memory, MEMORY_BYTES, false) == 0);
		ready = true;
	}
	memset(w.memory.address, 0, MEMORY_BYTES);
	for (unsigned int i = 0; i < MAX_SESSIONS && in.size > 0; i++) {
		int ret = 0;

		session_open(&w);
		negotiate(&w, &in);
		while (in.size > 0 && ret == 0) {
			step(&w, &in);
			ret = vu_backend_process(w.session);
			fds_drop(&w.stream);
			check(&w);
		}
		if (ret < 0)
			must(vu_backend_close_text(w.session)[0] != '\0');
		vu_backend_destroy(w.session);
	}
	return 0;
}
