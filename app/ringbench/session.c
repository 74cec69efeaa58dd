/* SPDX-License-Identifier: BSD-3-Clause */
#include "session.h"

#include <errno.h>
#include <poll.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/virtio_config.h>
#include <linux/virtio_net.h>

#include <base/clock.h>

#include "offload.h"
#include "virtio_features.h"

#define CACHE_LINE 64u
#define PAGE       4096u

/* 5.1.6.3.1: without mergeable buffers, room for a full frame, or for a segmentation-offloaded one.
 */
#define RX_BUFFER_MIN     1526u
#define RX_BUFFER_TSO     65601u
#define RX_BUFFER_DEFAULT 2048u

#define RETRY_US          10000

__attribute__((format(printf, 3, 4))) static int fail(
	struct session *session, int ret, const char *format, ...)
{
	int used = snprintf(session->error, sizeof(session->error),
		"socket %u (%s): ", session->number, session->socket->path);
	va_list args;

	va_start(args, format);
	vsnprintf(session->error + used, sizeof(session->error) - (size_t)used, format, args);
	va_end(args);
	return ret;
}

static int fail_frontend(struct session *session, int ret)
{
	return fail(session, ret, "%s", vu_frontend_error(session->frontend));
}

/* ---- Layout ---- */

/* Hands out addresses from the memory; with no memory yet it only counts. */
struct carver {
	uint8_t *memory;
	uint64_t used;
};

static void *carve(struct carver *carver, uint64_t bytes, uint64_t align, uint64_t *offset)
{
	carver->used = (carver->used + align - 1) / align * align;
	*offset = carver->used;
	carver->used += bytes;
	return carver->memory == NULL ? NULL : carver->memory + *offset;
}

static uint32_t rx_buffer_bytes(const struct session *session)
{
	const struct options *options = session->options;
	uint32_t bytes = OFFLOAD_HEADER_LEN + FRAME_VLAN_LEN + options_max_size(options);

	if (session_has(session, VIRTIO_NET_F_MRG_RXBUF))
		return options->rx_buffer_bytes != 0 ? options->rx_buffer_bytes : RX_BUFFER_DEFAULT;
	if (session_has(session, VIRTIO_NET_F_GUEST_TSO4))
		bytes = RX_BUFFER_TSO;
	if (bytes < RX_BUFFER_MIN)
		bytes = RX_BUFFER_MIN;
	return options->rx_buffer_bytes > bytes ? options->rx_buffer_bytes : bytes;
}

/* Pieces of the longest frame, as a power of two (vring/fixed.h). */
static uint16_t tx_chain(const struct options *options)
{
	uint32_t bytes = OFFLOAD_HEADER_LEN + options_max_size(options);
	uint32_t n = 1;

	while (n * options->segment_bytes < bytes)
		n *= 2;
	return (uint16_t)n;
}

/* Where the buffers of a region begin. */
static uint8_t *buffers_of(const struct session *session, unsigned int region)
{
	return (uint8_t *)(uintptr_t)session->regions[region].uva + (region == 0 ? session->rings_bytes : 0);
}

/*
 * A ring's part of every region's share: counted when there is no memory yet, else its buffers' addresses. 0 or -ENOMEM.
 *
 * Header before a cache line, frame from it on; an odd number of lines spreads the buffers over the cache's sets. Regions
 * begin at pages, so they are shifted against each other, for the same reason.
 */
static int carve_buffers(struct session *session, struct carver *share, struct session_ring *entry, unsigned int n,
	uint32_t bytes)
{
	unsigned int n_regions = session->options->n_regions;
	uint64_t stride = (bytes + 2 * CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE | CACHE_LINE;
	uint64_t room = (n + n_regions - 1) / n_regions * stride + CACHE_LINE + (n_regions > 1 ? PAGE : 0);
	uint64_t offset;

	carve(share, room, CACHE_LINE, &offset);
	if (session->memory.address == NULL)
		return 0;
	entry->buffer_bytes = bytes;
	entry->buffers = calloc(n, sizeof(*entry->buffers));
	if (entry->buffers == NULL)
		return -ENOMEM;
	for (unsigned int slot = 0; slot < n; slot++) {
		unsigned int region = slot % n_regions;

		entry->buffers[slot] = buffers_of(session, region) + offset + region * stride % PAGE +
				       slot / n_regions * stride + CACHE_LINE - OFFLOAD_HEADER_LEN;
	}
	return 0;
}

static uint64_t gpa_of(const struct session *session, const void *address)
{
	return SESSION_GPA + (uint64_t)((const uint8_t *)address - session->memory.address);
}

static void carve_ring(
	struct carver *carver, struct vring_fixed_config *config, struct session_ring *entry)
{
	uint64_t offset;

	config->desc = carve(carver, vring_desc_bytes(config->size), PAGE, &offset);
	entry->desc_uva = (uintptr_t)config->desc;
	config->avail = carve(carver, vring_avail_bytes(config->size), PAGE, &offset);
	entry->avail_uva = (uintptr_t)config->avail;
	config->used = carve(carver, vring_used_bytes(config->size), PAGE, &offset);
	entry->used_uva = (uintptr_t)config->used;
	if (config->indirect) {
		config->tables = carve(carver,
			(uint64_t)config->size * config->n_chain * sizeof(struct vring_desc),
			PAGE, &offset);
		config->tables_gpa = SESSION_GPA + offset;
	}
}

static struct vring_fixed_config ring_config(const struct session *session, bool writable)
{
	struct vring_fixed_config config = {
		.size = (uint16_t)session->options->ring_size,
		.n_chain = writable ? 1 : tx_chain(session->options),
		.writable = writable,
		.event_idx = session_has(session, VIRTIO_RING_F_EVENT_IDX),
		.in_order = session_has(session, VIRTIO_F_IN_ORDER),
		.packed = session_has(session, VIRTIO_F_RING_PACKED),
	};

	config.indirect = config.n_chain > 1 && session_has(session, VIRTIO_RING_F_INDIRECT_DESC);
	return config;
}

/* What a session's memory holds: counted when there is no memory yet, set up when it is there. */
struct layout {
	struct carver rings;
	struct carver share; /* of each region; only counts */
};

static int start_queue(struct session *session, struct session_queue *queue,
	const struct vring_fixed_config *rx, const struct vring_fixed_config *tx)
{
	const struct options *options = session->options;
	int ret = vring_fixed_init(&queue->rx.ring, rx);

	if (ret == 0)
		ret = vring_fixed_init(&queue->tx.ring, tx);
	if (ret == -EINVAL)
		return fail(session, ret,
			"a frame of %u bytes takes %u descriptors, the ring has %u: raise --ring "
			"or --segment",
			options_max_size(options), tx->n_chain, tx->size);
	if (ret != 0)
		return fail(session, ret, "out of memory");
	for (unsigned int slot = 0; slot < queue->rx.ring.n_slots; slot++) {
		uint16_t number = (uint16_t)slot;

		vring_fixed_describe(&queue->rx.ring, slot,
			gpa_of(session, session_buffer(&queue->rx, slot)), queue->rx.buffer_bytes);
		vring_fixed_offer(&queue->rx.ring, &number, 1);
	}
	vring_fixed_publish(&queue->rx.ring);
	for (unsigned int slot = 0; slot < queue->tx.ring.n_slots; slot++)
		vring_fixed_describe(&queue->tx.ring, slot,
			gpa_of(session, session_buffer(&queue->tx, slot)),
			OFFLOAD_HEADER_LEN + options_slot_size(options, slot));
	return 0;
}

static int lay_out_queue(struct session *session, struct layout *layout, struct session_queue *queue)
{
	struct vring_fixed_config rx = ring_config(session, true), tx = ring_config(session, false);
	uint32_t tx_bytes = OFFLOAD_HEADER_LEN + options_max_size(session->options);
	int ret;

	carve_ring(&layout->rings, &rx, &queue->rx);
	carve_ring(&layout->rings, &tx, &queue->tx);
	ret = carve_buffers(session, &layout->share, &queue->rx, rx.size, rx_buffer_bytes(session));
	if (ret == 0)
		ret = carve_buffers(session, &layout->share, &queue->tx, tx.size, tx_bytes);
	if (ret != 0)
		return fail(session, ret, "out of memory");
	return session->memory.address == NULL ? 0 : start_queue(session, queue, &rx, &tx);
}

static int lay_out(struct session *session, struct layout *layout)
{
	for (unsigned int i = 0; i < session->options->n_queues; i++) {
		int ret = lay_out_queue(session, layout, &session->queues[i]);

		if (ret != 0)
			return ret;
	}
	return 0;
}

static uint64_t round_up(uint64_t bytes, uint64_t unit)
{
	return (bytes + unit - 1) / unit * unit;
}

/* Bytes of a hugepage of the pool, 0 if there is none left. */
static uint64_t hugepage_bytes(void)
{
	struct vu_frontend_memory one;
	uint64_t bytes = 0;

	if (vu_frontend_memory_create(&one, 1, true) == 0) {
		bytes = one.size;
		vu_frontend_memory_destroy(&one);
	}
	return bytes;
}

/* Makes memory for regions of whole pages, which a back end can map one by one. */
static int make_regions(struct session *session, uint64_t share_bytes, uint64_t page, bool hugepages)
{
	unsigned int n = session->options->n_regions;
	uint64_t first_bytes = round_up(session->rings_bytes + share_bytes, page);
	uint64_t other_bytes = round_up(share_bytes, page);
	uint64_t offset = 0;
	int ret = vu_frontend_memory_create(&session->memory, first_bytes + (n - 1) * other_bytes, hugepages);

	if (ret != 0)
		return ret;
	session->hugepages = hugepages;
	for (unsigned int i = 0; i < n; i++) {
		session->regions[i] = (struct gmem_region_spec){
			.gpa = SESSION_GPA + offset,
			.size = i == 0 ? first_bytes : other_bytes,
			.uva = (uintptr_t)session->memory.address + offset,
			.mmap_offset = offset,
			.fd = session->memory.fd,
		};
		offset += session->regions[i].size;
	}
	return 0;
}

static int make_memory(struct session *session)
{
	uint64_t huge = hugepage_bytes();
	struct layout layout = {0};
	int ret = -ENOMEM;

	session->regions = calloc(session->options->n_regions, sizeof(*session->regions));
	if (session->regions == NULL)
		return fail(session, -ENOMEM, "out of memory");
	lay_out(session, &layout);
	session->rings_bytes = round_up(layout.rings.used, PAGE);
	if (huge != 0)
		ret = make_regions(session, layout.share.used, huge, true);
	if (ret != 0)
		ret = make_regions(session, layout.share.used, PAGE, false);
	if (ret != 0)
		return fail(session, ret, "guest memory, %llu bytes and %u regions of %llu: %s",
			(unsigned long long)session->rings_bytes, session->options->n_regions,
			(unsigned long long)layout.share.used, strerror(-ret));
	layout = (struct layout){.rings = {.memory = session->memory.address}};
	return lay_out(session, &layout);
}

static int make_eventfds(struct session *session)
{
	for (unsigned int i = 0; i < session->options->n_queues; i++) {
		struct session_ring *rings[2] = {&session->queues[i].rx, &session->queues[i].tx};

		for (unsigned int j = 0; j < 2; j++) {
			rings[j]->kick_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
			rings[j]->call_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
			if (rings[j]->kick_fd < 0 || rings[j]->call_fd < 0)
				return fail(session, -errno, "eventfd: %s", strerror(errno));
		}
	}
	return 0;
}

/* ---- Connection ---- */

/* A connected socket, or a negative errno. */
static int try_connect(struct session *session)
{
	char why[UNIX_SOCKET_ERROR_MAX];
	int fd;

	if (session->listen_fd >= 0) {
		fd = accept4(session->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		return fd >= 0 ? fd : fail(session, -EAGAIN, "no back end has connected");
	}
	fd = unix_socket_connect(session->socket->path, why, sizeof(why));
	return fd >= 0 ? fd : fail(session, fd, "%s", why);
}

static bool is_worth_a_retry(int error)
{
	return error == -ENOENT || error == -ECONNREFUSED || error == -EAGAIN || error == -EINTR;
}

static int connect_by(struct session *session, uint64_t deadline_us)
{
	for (;;) {
		int fd = try_connect(session);

		if (fd >= 0 || !is_worth_a_retry(fd))
			return fd;
		if (*session->stop)
			return -EINTR;
		if (clock_now_us() >= deadline_us)
			return fd;
		usleep(RETRY_US);
	}
}

static int start_listening(struct session *session)
{
	struct unix_socket_spec spec = {.path = session->socket->path, .mode = 0660};
	char why[UNIX_SOCKET_ERROR_MAX];

	session->listen_fd = unix_socket_listen(&spec, why, sizeof(why));
	if (session->listen_fd < 0)
		return fail(session, session->listen_fd, "%s", why);
	return unix_socket_identify(session->socket->path, &session->listen_identity);
}

/* ---- Negotiation ---- */

static int negotiate(struct session *session)
{
	uint64_t wanted = features_default(session->options->n_queues);
	uint64_t taken, consistent;
	int ret;

	wanted = (wanted & ~session->socket->features_off) | session->socket->features_on;
	ret = vu_frontend_negotiate(session->frontend, features_consistent(wanted), &taken);
	if (ret != 0)
		return fail_frontend(session, ret);
	/* Where a prerequisite is not offered, what needs it goes too. */
	consistent = features_consistent(taken);
	if (consistent != taken) {
		ret = vu_frontend_set_features(session->frontend, consistent, &taken);
		if (ret != 0)
			return fail_frontend(session, ret);
	}
	if (!(taken & FEATURE(VIRTIO_F_VERSION_1)))
		return fail(session, -EPROTO,
			"the back end does not offer VERSION_1; ringbench drives no legacy device");
	if (vu_frontend_queue_pairs(session->frontend) < session->options->n_queues)
		return fail(session, -EPROTO, "--queues %u: the back end carries %u queue pairs",
			session->options->n_queues, vu_frontend_queue_pairs(session->frontend));
	if (!options_ring_is_split_size(session->options) && !(taken & FEATURE(VIRTIO_F_RING_PACKED)))
		return fail(session, -EPROTO,
			"--ring %u: only packed rings may have a size that is no power of two, and the back end "
			"offers none; try --ring %u",
			session->options->ring_size, options_next_split_size(session->options));
	session->features = taken;
	return 0;
}

static int start_ring(struct session *session, struct session_ring *entry, unsigned int index)
{
	struct vu_frontend_ring ring = {
		.index = index,
		.size = session->options->ring_size,
		.desc_uva = entry->desc_uva,
		.avail_uva = entry->avail_uva,
		.used_uva = entry->used_uva,
		/* Where every ring begins at first; later the place up to which the last back end got. */
		.base = vring_fixed_resume(&entry->ring),
		.kick_fd = entry->kick_fd,
		.call_fd = entry->call_fd,
	};

	return vu_frontend_ring_start(session->frontend, &ring);
}

static int start_rings(struct session *session)
{
	unsigned int n_rings = 2 * session->options->n_queues;
	int ret = vu_frontend_set_memory(session->frontend, session->regions, session->options->n_regions);

	for (unsigned int i = 0; ret == 0 && i < n_rings; i++) {
		struct session_queue *queue = &session->queues[i / 2];

		ret = start_ring(session, i % 2 == 0 ? &queue->rx : &queue->tx, i);
	}
	for (unsigned int i = 0; ret == 0 && i < n_rings; i++)
		ret = vu_frontend_ring_enable(session->frontend, i, true);
	if (ret == 0)
		ret = vu_frontend_driver_ok(session->frontend);
	if (ret != 0)
		return fail_frontend(session, ret);
	for (unsigned int i = 0; i < session->options->n_queues; i++) {
		session_kick(&session->queues[i].rx);
		session_kick(&session->queues[i].tx);
	}
	return 0;
}

/* ---- Dirty log ---- */

/* A request and its answer: `size` bytes of payload, sent as they are. The answer's first 8 bytes, or -EPROTO. */
static int ask(struct session *session, enum vu_request request, const void *payload, uint32_t size, int fd,
	uint64_t *answer)
{
	const struct vu_frontend_raw message = {
		.request = request,
		.flags = VU_FLAGS_VERSION | VU_FLAGS_NEED_REPLY,
		.size = size,
		.payload = payload,
		.n_payload = size,
		.fds = &fd,
		.n_fds = fd >= 0,
	};
	struct vu_frontend_raw_reply reply;
	int ret = vu_frontend_raw(session->frontend, &message, &reply);

	if (ret != 0)
		return fail_frontend(session, ret);
	if (reply.header.request != request || reply.header.size < sizeof(*answer))
		return fail(session, -EPROTO, "request %u: the answer is not one to it", request);
	memcpy(answer, reply.payload, sizeof(*answer));
	return 0;
}

static int ask_ring_to_log(struct session *session, const struct session_ring *entry, unsigned int index)
{
	const struct vu_ring_addr_payload addr = {
		.index = index,
		.flags = VU_RING_ADDR_LOG,
		.desc_uva = entry->desc_uva,
		.used_uva = entry->used_uva,
		.avail_uva = entry->avail_uva,
		.log_gpa = gpa_of(session, (const void *)(uintptr_t)entry->used_uva),
	};
	uint64_t refused;
	int ret = ask(session, VU_REQUEST_SET_VRING_ADDR, &addr, sizeof(addr), -1, &refused);

	if (ret == 0 && refused != 0)
		return fail(session, -EPROTO, "--log: the back end refuses to log ring %u", index);
	return ret;
}

/* As VMMs do when a migration begins, while rings run. */
static int start_log(struct session *session)
{
	struct vu_log_payload base = {0};
	uint64_t taken, answer;
	int ret = 0;

	if (!(vu_frontend_offered(session->frontend) & VU_BIT(VHOST_USER_F_LOG_ALL)))
		return fail(session, -EPROTO, "--log: the back end does not offer LOG_ALL");
	if (session->log.bits == NULL)
		ret = dirty_log_create(&session->log, SESSION_GPA, session->memory.size);
	if (ret != 0)
		return fail(session, ret, "dirty log: %s", strerror(-ret));
	base.mmap_size = session->log.bytes;
	ret = ask(session, VU_REQUEST_SET_LOG_BASE, &base, sizeof(base), session->log.fd, &answer);
	if (ret != 0)
		return ret;
	ret = vu_frontend_set_features(session->frontend, session->features | VU_BIT(VHOST_USER_F_LOG_ALL), &taken);
	if (ret != 0)
		return fail_frontend(session, ret);
	for (unsigned int i = 0; ret == 0 && i < 2 * session->options->n_queues; i++) {
		struct session_queue *queue = &session->queues[i / 2];

		ret = ask_ring_to_log(session, i % 2 == 0 ? &queue->rx : &queue->tx, i);
	}
	return ret;
}

static int agree_once(struct session *session, uint64_t deadline_us)
{
	int fd = connect_by(session, deadline_us);

	if (fd < 0)
		return fd;
	session->frontend = vu_frontend_create(NULL, fd);
	if (session->frontend == NULL) {
		close(fd);
		return fail(session, -ENOMEM, "out of memory");
	}
	session->connection_fd = fd;
	return negotiate(session);
}

/*
 * A back end that closes the connection at once gets another chance: it may be on its way down, or
 * have another front end that is just leaving.
 */
static int agree(struct session *session, uint64_t deadline_us)
{
	for (;;) {
		int ret;

		vu_frontend_destroy(session->frontend);
		session->frontend = NULL;
		ret = agree_once(session, deadline_us);
		if (ret != -ECONNRESET || *session->stop || clock_now_us() >= deadline_us)
			return ret;
		usleep(RETRY_US);
	}
}

int session_open(struct session *session, const struct options *options, unsigned int index,
	const volatile sig_atomic_t *stop)
{
	int ret = 0;

	*session = (struct session){
		.number = index + 1,
		.options = options,
		.socket = &options->sockets[index],
		.stop = stop,
		.listen_fd = -1,
		.memory = {.fd = -1},
		.log = {.fd = -1},
	};
	for (unsigned int i = 0; i < OPTIONS_MAX_QUEUES; i++) {
		session->queues[i].rx.kick_fd = session->queues[i].rx.call_fd = -1;
		session->queues[i].tx.kick_fd = session->queues[i].tx.call_fd = -1;
	}
	if (session->socket->listen)
		ret = start_listening(session);
	if (ret == 0)
		ret = agree(session, clock_now_us() + options->deadline_us);
	/* Which buffers and rings there are depends on what was negotiated. */
	if (ret == 0)
		ret = make_memory(session);
	if (ret == 0)
		ret = make_eventfds(session);
	if (ret == 0)
		ret = start_rings(session);
	if (ret == 0 && options->log)
		ret = start_log(session);
	return ret;
}

int session_reopen(struct session *session)
{
	uint64_t deadline_us = clock_now_us() + session->options->deadline_us;
	uint64_t features = session->features;
	int ret;

	do {
		ret = agree(session, deadline_us);
		if (ret == 0 && session->features != features)
			return fail(session, -EPROTO,
				"after the restart the back end offers other features; the rings "
				"cannot go on");
		if (ret == 0)
			ret = start_rings(session);
		if (ret == 0 && session->options->log)
			ret = start_log(session);
	} while (ret == -ECONNRESET && !*session->stop && clock_now_us() < deadline_us);
	return ret;
}

bool session_is_alive(const struct session *session)
{
	uint8_t byte;
	ssize_t n;

	if (session->frontend == NULL)
		return false;
	/* Between requests a back end has nothing to say on this socket. */
	n = recv(session->connection_fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
	return n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR);
}

static void close_ring(struct session_ring *entry)
{
	vring_fixed_fini(&entry->ring);
	free(entry->buffers);
	if (entry->kick_fd >= 0)
		close(entry->kick_fd);
	if (entry->call_fd >= 0)
		close(entry->call_fd);
}

void session_close(struct session *session)
{
	if (session->options == NULL)
		return;
	/* An orderly end: the back end lets go of each ring before the connection does. */
	for (unsigned int i = 0; session_is_alive(session) && i < 2 * session->options->n_queues;
		i++)
		if (vu_frontend_ring_stop(session->frontend, i, NULL) != 0)
			break;
	vu_frontend_destroy(session->frontend);
	session->frontend = NULL;
	for (unsigned int i = 0; i < OPTIONS_MAX_QUEUES; i++) {
		close_ring(&session->queues[i].rx);
		close_ring(&session->queues[i].tx);
	}
	if (session->memory.fd >= 0)
		vu_frontend_memory_destroy(&session->memory);
	dirty_log_destroy(&session->log);
	free(session->regions);
	if (session->listen_fd >= 0) {
		unix_socket_unlink(session->socket->path, &session->listen_identity);
		close(session->listen_fd);
	}
}

unsigned int session_buffers_per_frame(const struct session *session, uint32_t size)
{
	uint32_t bytes = rx_buffer_bytes(session);

	return (OFFLOAD_HEADER_LEN + size + bytes - 1) / bytes;
}

void session_kick(struct session_ring *ring)
{
	uint64_t one = 1;

	ring->n_kicks++;
	/* EAGAIN: the counter is full, so the back end has a kick to see. Nothing else can go wrong
	 * with our own eventfd. */
	if (write(ring->kick_fd, &one, sizeof(one)) < 0)
		return;
}

uint64_t session_take_calls(struct session_ring *ring)
{
	uint64_t n;

	/* EAGAIN: none. */
	if (read(ring->call_fd, &n, sizeof(n)) != sizeof(n))
		return 0;
	ring->n_calls += n;
	return n;
}

bool session_kick_is_unread(const struct session_ring *ring)
{
	struct pollfd entry = {.fd = ring->kick_fd, .events = POLLIN};

	return poll(&entry, 1, 0) == 1;
}
