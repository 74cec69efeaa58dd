/* SPDX-License-Identifier: BSD-3-Clause */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <base/log.h>
#include <vhost/connection.h>
#include <vhost/eventfd.h>
#include <vring/layout.h>

#include "session_fixture.h"

static unsigned int count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned int n = 0;

	assert_non_null(dir);
	while (readdir(dir) != NULL)
		n++;
	closedir(dir);
	return n;
}

static unsigned int count_shared_mappings(void)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	char line[512];
	unsigned int n = 0;

	assert_non_null(maps);
	while (fgets(line, sizeof(line), maps) != NULL)
		n += strstr(line, "-s ") != NULL;
	fclose(maps);
	return n;
}

/*
 * glibc counts freed chunks that a thread keeps for itself as in use. Filling that cache for every
 * size makes its share the same each time.
 */
static void heap_settle(void)
{
	enum { N_KEPT = 17, SIZE_MAX_KEPT = 1032 };
	void *volatile chunks[N_KEPT]; /* or a compiler leaves it all out */

	for (size_t size = 24; size <= SIZE_MAX_KEPT; size += 16) {
		for (unsigned int i = 0; i < N_KEPT; i++)
			chunks[i] = malloc(size);
		for (unsigned int i = 0; i < N_KEPT; i++)
			free(chunks[i]);
	}
}

struct resources resources_now(void)
{
	unsigned int n_fds = count_fds();
	unsigned int n_shared_mappings = count_shared_mappings();

	heap_settle();
	return (struct resources){
		.n_fds = n_fds,
		.n_shared_mappings = n_shared_mappings,
		.heap_bytes = mallinfo2().uordblks,
	};
}

void resources_assert_equal(const struct resources *before)
{
	struct resources now = resources_now();

	assert_int_equal(now.n_fds, before->n_fds);
	assert_int_equal(now.n_shared_mappings, before->n_shared_mappings);
	assert_int_equal(now.heap_bytes, before->heap_bytes);
}

void resources_assert_flat(const struct resources *before)
{
	enum { HEAP_SLACK_BYTES = 512 };
	struct resources now = resources_now();

	assert_int_equal(now.n_fds, before->n_fds);
	assert_int_equal(now.n_shared_mappings, before->n_shared_mappings);
	assert_true(now.heap_bytes <= before->heap_bytes + HEAP_SLACK_BYTES);
}

static void on_quiesce(void *ctx)
{
	struct fixture *f = ctx;

	assert_false(f->quiesced);
	f->quiesced = true;
	f->n_quiesce++;
}

static void on_resume(void *ctx)
{
	struct fixture *f = ctx;

	assert_true(f->quiesced);
	f->quiesced = false;
	f->n_resume++;
}

static void on_rarp(void *ctx, const uint8_t *mac)
{
	struct fixture *f = ctx;

	f->n_rarp++;
	memcpy(f->rarp_mac, mac, sizeof(f->rarp_mac));
}

static void on_mtu(void *ctx, uint16_t mtu)
{
	struct fixture *f = ctx;

	f->n_mtu++;
	f->mtu = mtu;
}

static const struct vu_backend_ops ops = {
	.quiesce = on_quiesce,
	.resume = on_resume,
	.send_rarp = on_rarp,
	.set_mtu = on_mtu,
};

/*
 * The guard keeps a note for each mapping there ever was at the same time, and uses it again for
 * the next one. More than any test needs are made once, so that they are not taken for a leak; so is
 * what the first signal to an eventfd leaves behind.
 */
static void process_warm_up(void)
{
	enum { N = GMEM_MAX_REGIONS, N_TABLES = 2 };
	struct gmem_region_spec *specs = calloc(N, sizeof(*specs));
	struct vu_frontend_memory memory;
	struct gmem *tables[N_TABLES];
	char error[256];
	static bool made;
	int fd;

	if (!made) {
		assert_int_equal(vu_frontend_memory_create(&memory, 4096, false), 0);
		for (unsigned int i = 0; i < N; i++)
			specs[i] = (struct gmem_region_spec){
				.gpa = i * 4096u, .size = 4096, .uva = i * 4096u, .fd = memory.fd};
		for (unsigned int i = 0; i < N_TABLES; i++)
			assert_int_equal(
				gmem_create(specs, N, &tables[i], error, sizeof(error)), 0);
		for (unsigned int i = 0; i < N_TABLES; i++)
			gmem_free(tables[i]);
		vu_frontend_memory_destroy(&memory);
		fd = eventfd(0, EFD_CLOEXEC);
		assert_int_equal(vu_eventfd_signal(fd), 0);
		assert_int_equal(eventfd_drain(fd), 1);
		close(fd);
		made = true;
	}
	free(specs);
}

void fixture_open(struct fixture *f, const struct vu_backend_config *config)
{
	struct vu_backend_config c = {0};
	int ends[2];

	if (config != NULL)
		c = *config;
	c.name = "test";
	c.features = c.features != 0 ? c.features : FIXTURE_FEATURES;
	c.n_queue_pairs = c.n_queue_pairs != 0 ? c.n_queue_pairs : FIXTURE_QUEUE_PAIRS;
	c.ops = &ops;
	c.ctx = f;
	/* Refusals are what is tested here; their lines would bury the result. */
	log_set_level(LOG_LEVEL_ERROR);
	process_warm_up();
	memset(f, 0, sizeof(*f));
	f->before = resources_now();
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	f->fd = ends[0];
	f->features = c.features;
	f->session = vu_backend_create(&c, ends[1]);
	assert_non_null(f->session);
	assert_int_equal(vu_frontend_memory_create(&f->memory, GUEST_BYTES, false), 0);
}

void fixture_open_layout(struct fixture *f, bool packed)
{
	const struct vu_backend_config config = {
		.features = FIXTURE_FEATURES | (packed ? FIXTURE_RING_PACKED : 0)};

	fixture_open(f, &config);
}

bool fixture_is_packed(const struct fixture *f)
{
	return (f->features & FIXTURE_RING_PACKED) != 0;
}

uint32_t fixture_base(const struct fixture *f, uint32_t n)
{
	uint32_t position = n % FIXTURE_RING_SIZE | (n / FIXTURE_RING_SIZE % 2 == 0) << 15;

	return fixture_is_packed(f) ? position | position << 16 : n;
}

void fixture_close(struct fixture *f)
{
	vu_backend_destroy(f->session);
	if (f->fd >= 0)
		close(f->fd);
	vu_frontend_memory_destroy(&f->memory);
	resources_assert_equal(&f->before);
}

void client_write_bytes(
	struct fixture *f, const void *bytes, size_t n, const int *fds, unsigned int n_fds)
{
	struct vu_transport transport;
	size_t done = 0;

	assert_int_equal(vu_transport_socket(&transport, f->fd), 0);
	while (done < n) {
		ssize_t sent = transport.ops->send(transport.ctx, (const uint8_t *)bytes + done,
			n - done, fds, done == 0 ? n_fds : 0);

		assert_true(sent > 0);
		done += (size_t)sent;
	}
}

void client_write(struct fixture *f, uint32_t request, uint32_t flags, uint32_t size,
	const void *payload, size_t n_payload, const int *fds, unsigned int n_fds)
{
	const struct vu_header header = {.request = request, .flags = flags, .size = size};
	uint8_t bytes[sizeof(header) + VU_PAYLOAD_MAX];

	assert_true(n_payload <= VU_PAYLOAD_MAX);
	memcpy(bytes, &header, sizeof(header));
	if (n_payload > 0)
		memcpy(bytes + sizeof(header), payload, n_payload);
	client_write_bytes(f, bytes, sizeof(header) + n_payload, fds, n_fds);
}

static size_t bytes_waiting(int fd)
{
	uint8_t buffer[4096];
	ssize_t n = recv(fd, buffer, sizeof(buffer), MSG_DONTWAIT | MSG_PEEK);

	return n > 0 ? (size_t)n : 0;
}

int session_run(struct fixture *f)
{
	size_t before;
	int ret;

	/* A turn is bounded; another may be due. No progress means that nothing is left. */
	do {
		before = bytes_waiting(vu_backend_fd(f->session));
		ret = vu_backend_process(f->session);
		assert_true(!f->quiesced);
	} while (ret == 0 && before > 0 && bytes_waiting(vu_backend_fd(f->session)) != before);
	return ret;
}

bool client_read(struct fixture *f, struct vu_header *header, void *payload, size_t room)
{
	ssize_t n = recv(f->fd, header, sizeof(*header), MSG_DONTWAIT);

	if (n <= 0)
		return false;
	assert_int_equal(n, sizeof(*header));
	assert_true(header->size <= room);
	if (header->size > 0)
		assert_int_equal(recv(f->fd, payload, header->size, MSG_DONTWAIT), header->size);
	return true;
}

void client_ask(struct fixture *f, uint32_t request, const void *payload, uint32_t n_payload,
	void *reply, uint32_t size)
{
	struct vu_header header;

	client_write(f, request, VU_FLAGS_VERSION, n_payload, payload, n_payload, NULL, 0);
	assert_int_equal(session_run(f), 0);
	assert_true(client_read(f, &header, reply, size));
	assert_int_equal(header.request, request);
	assert_int_equal(header.flags, VU_FLAGS_VERSION | VU_FLAGS_REPLY);
	assert_int_equal(header.size, size);
	assert_int_equal(bytes_waiting(f->fd), 0);
}

uint64_t client_ask_u64(struct fixture *f, uint32_t request)
{
	uint64_t value;

	client_ask(f, request, NULL, 0, &value, sizeof(value));
	return value;
}

uint32_t client_get_base(struct fixture *f, uint32_t index)
{
	const struct vu_ring_state_payload payload = {.index = index};
	struct vu_ring_state_payload reply;

	client_ask(f, VU_REQUEST_GET_VRING_BASE, &payload, sizeof(payload), &reply, sizeof(reply));
	assert_int_equal(reply.index, index);
	return reply.num;
}

enum outcome client_call(struct fixture *f, uint32_t request, const void *payload, uint32_t size,
	const int *fds, unsigned int n_fds)
{
	struct vu_header header;
	uint64_t code = 0;
	int ret;

	client_write(f, request, VU_FLAGS_VERSION | VU_FLAGS_NEED_REPLY, size, payload, size, fds,
		n_fds);
	ret = session_run(f);
	if (ret < 0) {
		assert_int_equal(bytes_waiting(f->fd), 0);
		return OUTCOME_CLOSED;
	}
	if (!client_read(f, &header, &code, sizeof(code)))
		return OUTCOME_SILENT;
	assert_int_equal(header.request, request);
	assert_int_equal(header.flags, VU_FLAGS_VERSION | VU_FLAGS_REPLY);
	assert_int_equal(header.size, sizeof(code));
	assert_int_equal(bytes_waiting(f->fd), 0);
	if (code == 0)
		return OUTCOME_OK;
	client_ask_u64(f, VU_REQUEST_GET_FEATURES);
	return OUTCOME_REFUSED;
}

enum outcome client_call_u64(struct fixture *f, uint32_t request, uint64_t value)
{
	return client_call(f, request, &value, sizeof(value), NULL, 0);
}

enum outcome client_call_state(struct fixture *f, uint32_t request, uint32_t index, uint32_t num)
{
	const struct vu_ring_state_payload payload = {.index = index, .num = num};

	return client_call(f, request, &payload, sizeof(payload), NULL, 0);
}

enum outcome client_call_fd(struct fixture *f, uint32_t request, uint64_t value, int fd)
{
	return client_call(f, request, &value, sizeof(value), &fd, fd < 0 ? 0 : 1);
}

void client_negotiate(struct fixture *f)
{
	uint64_t features = client_ask_u64(f, VU_REQUEST_GET_FEATURES);
	uint64_t protocol = client_ask_u64(f, VU_REQUEST_GET_PROTOCOL_FEATURES);

	assert_int_equal(
		client_call_u64(f, VU_REQUEST_SET_PROTOCOL_FEATURES, protocol), OUTCOME_SILENT);
	assert_int_equal(client_call(f, VU_REQUEST_SET_OWNER, NULL, 0, NULL, 0), OUTCOME_OK);
	assert_int_equal(client_call_u64(f, VU_REQUEST_SET_FEATURES, features), OUTCOME_OK);
}

struct vu_region_payload guest_region(const struct fixture *f)
{
	return (struct vu_region_payload){
		.gpa = GUEST_GPA,
		.size = f->memory.size,
		.uva = (uintptr_t)f->memory.address,
	};
}

struct vu_ring_addr_payload guest_ring_addr(const struct fixture *f, uint32_t index)
{
	uint64_t uva = (uintptr_t)f->memory.address + index * RING_BYTES;

	return (struct vu_ring_addr_payload){
		.index = index,
		.desc_uva = uva,
		.avail_uva = uva + RING_AVAIL_SHIFT,
		.used_uva = uva + RING_USED_SHIFT,
	};
}

enum outcome client_set_table(
	struct fixture *f, const struct vu_region_payload *regions, const int *fds, uint32_t n)
{
	struct vu_mem_table_payload table = {.n_regions = n};

	if (n > 0)
		memcpy(table.regions, regions, n * sizeof(*regions));
	return client_call(
		f, VU_REQUEST_SET_MEM_TABLE, &table, (uint32_t)(8 + n * sizeof(*regions)), fds, n);
}

enum outcome client_add_region(struct fixture *f, const struct vu_region_payload *region, int fd)
{
	const struct vu_mem_region_payload payload = {.region = *region};

	return client_call(f, VU_REQUEST_ADD_MEM_REG, &payload, sizeof(payload), &fd, 1);
}

enum outcome client_remove_region(struct fixture *f, const struct vu_region_payload *region)
{
	const struct vu_mem_region_payload payload = {.region = *region};

	return client_call(f, VU_REQUEST_REM_MEM_REG, &payload, sizeof(payload), NULL, 0);
}

void client_set_memory(struct fixture *f)
{
	const struct vu_region_payload region = guest_region(f);

	assert_int_equal(client_set_table(f, &region, &f->memory.fd, 1), OUTCOME_OK);
}

void client_start_ring(struct fixture *f, uint32_t index)
{
	const struct vu_ring_addr_payload addr = guest_ring_addr(f, index);

	assert_int_equal(client_call_state(f, VU_REQUEST_SET_VRING_NUM, index, FIXTURE_RING_SIZE),
		OUTCOME_OK);
	assert_int_equal(client_call_state(f, VU_REQUEST_SET_VRING_BASE, index, fixture_base(f, 0)),
		OUTCOME_OK);
	assert_int_equal(client_call(f, VU_REQUEST_SET_VRING_ADDR, &addr, sizeof(addr), NULL, 0),
		OUTCOME_OK);
	assert_int_equal(client_call_fd(f, VU_REQUEST_SET_VRING_KICK, index | VU_RING_FD_NONE, -1),
		OUTCOME_OK);
	assert_int_equal(client_call_state(f, VU_REQUEST_SET_VRING_ENABLE, index, 1), OUTCOME_OK);
	assert_int_equal(vu_backend_ring(f->session, index)->state, VU_RING_RUNNING);
	assert_true(vu_backend_ring(f->session, index)->enabled);
}

void client_start(struct fixture *f)
{
	client_negotiate(f);
	client_set_memory(f);
	for (uint32_t i = 0; i < FIXTURE_RINGS; i++)
		client_start_ring(f, i);
}

void guest_offer(struct fixture *f, uint32_t index, uint16_t avail_idx, bool writable)
{
	uint8_t *ring = f->memory.address + index * RING_BYTES;
	struct vring_desc *desc = (struct vring_desc *)ring;
	struct vring_avail *avail = (struct vring_avail *)(ring + RING_AVAIL_SHIFT);
	uint16_t slot = avail_idx % FIXTURE_RING_SIZE;
	uint64_t gpa = GUEST_GPA + GUEST_BYTES / 2 + slot * 64u;

	if (fixture_is_packed(f)) {
		struct vring_packed_desc *packed = (struct vring_packed_desc *)ring + slot;
		bool wrap = avail_idx / FIXTURE_RING_SIZE % 2 == 0;

		packed->addr = gpa;
		packed->len = 64;
		packed->id = slot;
		__atomic_store_n(&packed->flags,
			(writable ? VRING_DESC_F_WRITE : 0) |
				1 << (wrap ? VRING_PACKED_DESC_F_AVAIL : VRING_PACKED_DESC_F_USED),
			__ATOMIC_RELEASE);
		return;
	}
	desc[slot] = (struct vring_desc){
		.addr = gpa,
		.len = 64,
		.flags = writable ? VRING_DESC_F_WRITE : 0,
	};
	avail->ring[slot] = slot;
	__atomic_store_n(&avail->idx, (uint16_t)(avail_idx + 1), __ATOMIC_RELEASE);
}

uint64_t eventfd_drain(int fd)
{
	uint64_t value = 0;

	assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
	if (read(fd, &value, sizeof(value)) < 0)
		assert_int_equal(errno, EAGAIN);
	return value;
}

static void sample_fill_table(struct fixture *f, struct sample *sample)
{
	const struct vu_mem_table_payload table = {.n_regions = 1, .regions = {guest_region(f)}};

	sample->size = 8 + sizeof(struct vu_region_payload);
	memcpy(sample->payload, &table, sample->size);
	sample->fds[0] = dup(f->memory.fd);
	sample->n_fds = 1;
}

static void sample_fill_region(struct fixture *f, struct sample *sample, bool with_fd)
{
	struct vu_mem_region_payload payload = {.region = guest_region(f)};

	/* Beside the region of client_set_memory(), so that it can be added. */
	payload.region.gpa += GUEST_BYTES;
	payload.region.uva += UINT64_C(1) << 32;
	memcpy(sample->payload, &payload, sizeof(payload));
	sample->size = sizeof(payload);
	if (with_fd) {
		sample->fds[0] = dup(f->memory.fd);
		sample->n_fds = 1;
	}
}

void sample_open(struct fixture *f, uint32_t request, struct sample *sample)
{
	const struct vu_rule *rule = vu_request_rule(request);
	const struct vu_ring_state_payload num = {.num = FIXTURE_RING_SIZE};
	const struct vu_ring_addr_payload addr = guest_ring_addr(f, 0);
	const uint64_t mtu = 1500;
	const uint64_t features = FIXTURE_FEATURES | VU_BIT(VHOST_USER_F_PROTOCOL_FEATURES);
	const uint64_t protocol = FIXTURE_PROTOCOL;
	int ends[2];

	memset(sample, 0, sizeof(*sample));
	sample->size = rule->payload_max;
	switch (request) {
	case VU_REQUEST_SET_MEM_TABLE:
		sample_fill_table(f, sample);
		break;
	case VU_REQUEST_ADD_MEM_REG:
	case VU_REQUEST_REM_MEM_REG:
		sample_fill_region(f, sample, request == VU_REQUEST_ADD_MEM_REG);
		break;
	case VU_REQUEST_SET_VRING_NUM:
		memcpy(sample->payload, &num, sizeof(num));
		break;
	case VU_REQUEST_SET_VRING_ADDR:
		memcpy(sample->payload, &addr, sizeof(addr));
		break;
	case VU_REQUEST_NET_SET_MTU:
		memcpy(sample->payload, &mtu, sizeof(mtu));
		break;
	case VU_REQUEST_SET_FEATURES:
		memcpy(sample->payload, &features, sizeof(features));
		break;
	case VU_REQUEST_SET_PROTOCOL_FEATURES:
		memcpy(sample->payload, &protocol, sizeof(protocol));
		break;
	case VU_REQUEST_SET_BACKEND_REQ_FD:
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
		close(ends[1]);
		sample->fds[0] = ends[0];
		sample->n_fds = 1;
		break;
	default:
		if (rule->fds == VU_FDS_ONE || rule->fds == VU_FDS_BY_RING) {
			sample->fds[0] = eventfd(0, EFD_CLOEXEC);
			sample->n_fds = 1;
		}
	}
}

void sample_close(struct sample *sample)
{
	for (unsigned int i = 0; i < sample->n_fds; i++)
		close(sample->fds[i]);
}
