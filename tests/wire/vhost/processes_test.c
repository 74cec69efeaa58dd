/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Both roles in two processes over a socket pair, with real frames through shared memory: the child
 * is a guest that sends numbered frames, the parent a back end that returns every frame it gets.
 * What happens when one of them is killed, stopped, or changes its memory in mid traffic.
 */
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <base/clock.h>
#include <base/log.h>
#include <vhost/backend.h>
#include <vhost/eventfd.h>
#include <vhost/frontend.h>
#include <vring/driver.h>

#define FEATURES    (VU_BIT(32) | VU_BIT(15) | VU_BIT(28) | VU_BIT(29) | VU_BIT(35))
#define RING_SIZE   64u
#define BUFFER      256u
#define HEADER      12u
#define FRAME       100u
#define BURST       32u
#define MEMORY      (1u << 20)
#define RING_AREA   0x10000u
#define LIMIT_US    (20 * 1000 * 1000)
#define GUEST_OK    0
#define GUEST_ERROR 1

/* ---- the guest: a child process, whose exit status tells ---- */

struct guest {
	struct vu_frontend *frontend;
	struct vu_frontend_memory memory;
	struct vring_driver *rings[2];
	int kick_fd;
	int call_fd;
	uint32_t n_sent;
	uint32_t n_received;
};

static void guest_must(const struct guest *g, bool condition, const char *what)
{
	if (condition)
		return;
	fprintf(stderr, "guest: %s failed: %s\n", what, vu_frontend_error(g->frontend));
	_exit(GUEST_ERROR);
}

static struct gmem_region_spec guest_region(const struct guest *g)
{
	return (struct gmem_region_spec){
		.gpa = 0,
		.size = g->memory.size,
		.uva = (uintptr_t)g->memory.address,
		.fd = g->memory.fd,
	};
}

/* Receive buffers in the second quarter of memory, transmit buffers in the third. */
static uint64_t buffer_gpa(unsigned int ring, uint32_t slot)
{
	return MEMORY / 4 * (1 + ring) + slot % RING_SIZE * BUFFER;
}

static void guest_ring_start(struct guest *g, unsigned int index)
{
	uint8_t *area = g->memory.address + index * RING_AREA;
	const struct vring_driver_config config = {.size = RING_SIZE,
		.event_idx = true,
		.in_order = true,
		.desc = area,
		.avail = area + 0x4000,
		.used = area + 0x8000};
	const struct vu_frontend_ring ring = {.index = index,
		.size = RING_SIZE,
		.desc_uva = (uintptr_t)area,
		.avail_uva = (uintptr_t)area + 0x4000,
		.used_uva = (uintptr_t)area + 0x8000,
		.kick_fd = g->kick_fd,
		.call_fd = g->call_fd};

	g->rings[index] = vring_driver_create(&config);
	guest_must(g, g->rings[index] != NULL, "ring memory");
	guest_must(g, vu_frontend_ring_start(g->frontend, &ring) == 0, "ring start");
	guest_must(g, vu_frontend_ring_enable(g->frontend, index, true) == 0, "ring enable");
}

static void guest_post_receive(struct guest *g, uint32_t slot)
{
	const struct vring_extent extent = {buffer_gpa(0, slot), BUFFER};

	guest_must(g, vring_driver_post(g->rings[0], &extent, 0, 1, slot) == 0, "post");
}

static void guest_start(struct guest *g, int fd)
{
	struct gmem_region_spec region;
	uint64_t taken;

	*g = (struct guest){.frontend = vu_frontend_create(NULL, fd)};
	g->kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	g->call_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	guest_must(g, vu_frontend_memory_create(&g->memory, MEMORY, false) == 0, "memory");
	guest_must(g, vu_frontend_negotiate(g->frontend, UINT64_MAX, &taken) == 0, "negotiate");
	guest_must(g, taken == FEATURES, "features");
	region = guest_region(g);
	guest_must(g, vu_frontend_set_memory(g->frontend, &region, 1) == 0, "memory table");
	guest_ring_start(g, 0);
	guest_ring_start(g, 1);
	for (uint32_t slot = 0; slot < RING_SIZE; slot++)
		guest_post_receive(g, slot);
	vring_driver_publish(g->rings[0]);
	guest_must(g, vu_frontend_driver_ok(g->frontend) == 0, "driver ok");
}

static void guest_send(struct guest *g)
{
	uint64_t gpa = buffer_gpa(1, g->n_sent);
	const struct vring_extent extent = {gpa, HEADER + FRAME};
	uint8_t *frame = g->memory.address + gpa;

	memset(frame, 0, HEADER);
	memset(frame + HEADER, (int)(g->n_sent % 251), FRAME);
	memcpy(frame + HEADER, &g->n_sent, sizeof(g->n_sent));
	guest_must(g, vring_driver_post(g->rings[1], &extent, 1, 0, g->n_sent) == 0, "post");
	g->n_sent++;
}

static void guest_check(struct guest *g, const struct vring_completion *done)
{
	const uint8_t *frame = g->memory.address + buffer_gpa(0, done->token);
	uint32_t number;

	memcpy(&number, frame + HEADER, sizeof(number));
	guest_must(g, done->len == HEADER + FRAME, "length");
	guest_must(g, number == g->n_received, "order");
	guest_must(g, frame[HEADER + FRAME - 1] == number % 251, "content");
	g->n_received++;
	guest_post_receive(g, done->token);
}

/*
 * One look at both rings. At most half a ring is on its way, so that nothing need be dropped. What came back may be
 * collected from the receive ring earlier than from the transmit ring, which then has no room for a while.
 */
static void guest_turn(struct guest *g, uint32_t n_frames)
{
	struct vring_completion done[BURST];
	int n;

	while (g->n_sent < n_frames && g->n_sent - g->n_received < RING_SIZE / 2 &&
		vring_driver_free(g->rings[1]) > 0)
		guest_send(g);
	vring_driver_publish(g->rings[1]);
	guest_must(g, vring_driver_collect(g->rings[1], done, BURST) >= 0, "transmit ring");
	n = vring_driver_collect(g->rings[0], done, BURST);
	guest_must(g, n >= 0, "receive ring");
	for (int i = 0; i < n; i++)
		guest_check(g, &done[i]);
	vring_driver_publish(g->rings[0]);
	if (n == 0)
		sched_yield();
}

static void guest_exchange(struct guest *g, uint32_t n_frames)
{
	uint64_t end_us = clock_now_us() + LIMIT_US;

	while (g->n_received < n_frames) {
		guest_must(g, clock_now_us() < end_us, "exchange in time");
		guest_turn(g, n_frames);
	}
}

/* ---- the back end: this process ---- */

struct host {
	struct vu_backend *session;
	unsigned int n_quiesce;
	unsigned int n_resume;
};

static void on_quiesce(void *ctx)
{
	((struct host *)ctx)->n_quiesce++;
}

static void on_resume(void *ctx)
{
	((struct host *)ctx)->n_resume++;
}

static const struct vu_backend_ops ops = {.quiesce = on_quiesce, .resume = on_resume};

static void host_open(struct host *h, int fd)
{
	const struct vu_backend_config config = {
		.name = "host", .features = FEATURES, .n_queue_pairs = 1, .ops = &ops, .ctx = h};

	*h = (struct host){0};
	h->session = vu_backend_create(&config, fd);
	assert_non_null(h->session);
}

static void host_signal(struct vu_ring *ring)
{
	vring_device_publish(&ring->device);
	if (vring_device_needs_call(&ring->device))
		vu_eventfd_signal(ring->call_fd);
}

/* Returns what came from the guest to the guest. */
static void host_echo(struct host *h)
{
	static struct vring_burst from;
	static struct vring_burst to;
	struct vu_ring *tx = vu_backend_ring(h->session, 1);
	struct vu_ring *rx = vu_backend_ring(h->session, 0);
	struct vring_grant grants[BURST];
	uint32_t lengths[BURST];
	int n;

	if (tx->state != VU_RING_RUNNING || rx->state != VU_RING_RUNNING || !tx->enabled ||
		!rx->enabled)
		return;
	n = vring_device_peek(&tx->device, &from, VRING_READABLE, BURST);
	assert_true(n >= 0);
	if (n == 0)
		return;
	for (int i = 0; i < n; i++)
		lengths[i] = from.buffers[i].len;
	n = vring_device_reserve(&rx->device, &to, lengths, (unsigned int)n, grants);
	assert_true(n >= 0);
	for (int i = 0; i < n; i++) {
		assert_int_equal(grants[i].n, 1);
		memcpy(to.buffers[grants[i].first].pieces[0].hva, from.buffers[i].pieces[0].hva,
			from.buffers[i].len);
		to.buffers[grants[i].first].used_len = from.buffers[i].len;
	}
	vring_device_return(&rx->device, &to, to.n);
	host_signal(rx);
	vring_device_return(&tx->device, &from, (unsigned int)n);
	host_signal(tx);
}

/* Serves until the session ends, or `until_us`. 0, or -1 at the end of the session. */
static int host_serve(struct host *h, uint64_t until_us)
{
	while (clock_now_us() < until_us) {
		struct pollfd p = {
			.fd = vu_backend_fd(h->session), .events = vu_backend_events(h->session)};

		poll(&p, 1, 0);
		if (p.revents != 0 && vu_backend_process(h->session) < 0)
			return -1;
		host_echo(h);
		sched_yield();
	}
	return 0;
}

static unsigned int n_shared_mappings(void)
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

/* Forks a guest; returns its pid, and the host's end of the socket in *fd. */
static pid_t guest_fork(int *fd, void (*live)(struct guest *g, int fd))
{
	static struct guest guest;
	int ends[2];
	pid_t pid;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	fflush(NULL);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		close(ends[0]);
		live(&guest, ends[1]);
		_exit(GUEST_OK);
	}
	close(ends[1]);
	*fd = ends[0];
	return pid;
}

static void guest_expect(pid_t pid, int status)
{
	int got;

	assert_int_equal(waitpid(pid, &got, 0), pid);
	assert_int_equal(got, status);
}

/* ---- tests ---- */

static void live_exchange(struct guest *g, int fd)
{
	guest_start(g, fd);
	guest_exchange(g, 50000);
	guest_must(g, vu_frontend_ring_stop(g->frontend, 1, NULL) == 0, "stop");
}

static void frames_cross_two_processes_in_order(void **state)
{
	unsigned int n_mappings = n_shared_mappings();
	struct host h;
	pid_t pid;
	int fd;

	pid = guest_fork(&fd, live_exchange);
	host_open(&h, fd);
	assert_int_equal(vu_backend_peer_uid(h.session), getuid());
	assert_int_equal(host_serve(&h, clock_now_us() + LIMIT_US), -1);
	assert_int_equal(vu_backend_close_reason(h.session), VU_CLOSE_PEER);
	guest_expect(pid, GUEST_OK);
	vu_backend_destroy(h.session);
	assert_int_equal(n_shared_mappings(), n_mappings);
}

static void live_stop_and_start(struct guest *g, int fd)
{
	guest_start(g, fd);
	for (uint32_t i = 1; i <= 500; i++) {
		uint8_t *area = g->memory.address + RING_AREA;
		struct vu_frontend_ring ring = {.index = 1,
			.size = RING_SIZE,
			.desc_uva = (uintptr_t)area,
			.avail_uva = (uintptr_t)area + 0x4000,
			.used_uva = (uintptr_t)area + 0x8000,
			.kick_fd = g->kick_fd,
			.call_fd = g->call_fd};
		uint32_t base;

		guest_turn(g, UINT32_MAX);
		guest_must(g, vu_frontend_ring_stop(g->frontend, 1, &base) == 0, "stop");
		guest_must(g, (uint16_t)(g->n_sent - base) <= RING_SIZE, "base");
		ring.base = base;
		guest_must(g, vu_frontend_ring_start(g->frontend, &ring) == 0, "start");
	}
	guest_exchange(g, g->n_sent);
}

static void ring_stopped_and_started_under_traffic_loses_nothing(void **state)
{
	struct host h;
	pid_t pid;
	int fd;

	pid = guest_fork(&fd, live_stop_and_start);
	host_open(&h, fd);
	assert_int_equal(host_serve(&h, clock_now_us() + LIMIT_US), -1);
	guest_expect(pid, GUEST_OK);
	assert_string_equal(vu_backend_close_text(h.session), "");
	vu_backend_destroy(h.session);
}

static void live_swap_memory(struct guest *g, int fd)
{
	struct gmem_region_spec halves[2];

	guest_start(g, fd);
	halves[0] = guest_region(g);
	halves[0].size /= 2;
	halves[1] = halves[0];
	halves[1].gpa += halves[0].size;
	halves[1].uva += halves[0].size;
	halves[1].mmap_offset = halves[0].size;
	for (unsigned int i = 0; i < 300; i++) {
		struct gmem_region_spec whole = guest_region(g);

		guest_turn(g, UINT32_MAX);
		guest_must(g,
			(i % 2 == 0 ? vu_frontend_set_memory(g->frontend, halves, 2)
				    : vu_frontend_set_memory(g->frontend, &whole, 1)) == 0,
			"memory table");
	}
	guest_exchange(g, g->n_sent);
}

static void memory_table_replaced_under_traffic_loses_nothing(void **state)
{
	struct host h;
	pid_t pid;
	int fd;

	pid = guest_fork(&fd, live_swap_memory);
	host_open(&h, fd);
	assert_int_equal(host_serve(&h, clock_now_us() + LIMIT_US), -1);
	guest_expect(pid, GUEST_OK);
	vu_backend_destroy(h.session);
}

static void live_for_ever(struct guest *g, int fd)
{
	guest_start(g, fd);
	for (;;)
		guest_turn(g, UINT32_MAX);
}

static void guest_killed_at_any_moment_leaves_nothing(void **state)
{
	unsigned int n_mappings = n_shared_mappings();
	int spare = dup(0);

	close(spare);
	for (unsigned int i = 0; i < 60; i++) {
		struct host h;
		pid_t pid;
		int fd;

		pid = guest_fork(&fd, live_for_ever);
		host_open(&h, fd);
		/* From before the first message to the middle of the traffic. */
		assert_int_equal(host_serve(&h, clock_now_us() + i * i * 20), 0);
		kill(pid, SIGKILL);
		assert_int_equal(host_serve(&h, clock_now_us() + LIMIT_US), -1);
		assert_int_equal(vu_backend_close_reason(h.session), VU_CLOSE_PEER);
		guest_expect(pid, SIGKILL);
		vu_backend_destroy(h.session);
		assert_int_equal(n_shared_mappings(), n_mappings);
	}
	assert_int_equal(dup(0), spare);
	close(spare);
}

static void live_and_stop_itself(struct guest *g, int fd)
{
	guest_start(g, fd);
	guest_exchange(g, 100);
	raise(SIGSTOP);
	guest_exchange(g, 1000);
}

static void stopped_guest_costs_nothing_and_goes_on_later(void **state)
{
	struct host h;
	pid_t pid;
	int status;
	int fd;

	pid = guest_fork(&fd, live_and_stop_itself);
	host_open(&h, fd);
	do {
		assert_int_equal(host_serve(&h, clock_now_us() + 2000), 0);
		assert_true(waitpid(pid, &status, WUNTRACED | WNOHANG) >= 0);
	} while (!WIFSTOPPED(status));
	for (unsigned int i = 0; i < 100; i++) {
		uint64_t start_us = clock_now_us();

		assert_int_equal(vu_backend_process(h.session), 0);
		host_echo(&h);
		assert_true(clock_now_us() - start_us < 1000 * 1000);
	}
	assert_true(vu_backend_deadline_us(h.session) == UINT64_MAX);
	kill(pid, SIGCONT);
	assert_int_equal(host_serve(&h, clock_now_us() + LIMIT_US), -1);
	guest_expect(pid, GUEST_OK);
	vu_backend_destroy(h.session);
}

/* The other way round: the back end is the child, and dies. */
static void back_end_killed_is_seen_and_its_successor_goes_on(void **state)
{
	static struct guest g;
	uint64_t features = 0;
	unsigned int slots = 0;

	for (unsigned int i = 0; i < 20; i++) {
		uint64_t start_us;
		int ends[2];
		pid_t pid;
		int ret;

		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
		fflush(NULL);
		pid = fork();
		assert_true(pid >= 0);
		if (pid == 0) {
			struct host h;

			close(ends[0]);
			host_open(&h, ends[1]);
			host_serve(&h, clock_now_us() + LIMIT_US);
			_exit(GUEST_OK);
		}
		close(ends[1]);
		guest_start(&g, ends[0]);
		guest_exchange(&g, 100 + i);
		/* Nothing may shrink for a front end that comes back. */
		if (i > 0) {
			assert_true(vu_frontend_offered(g.frontend) == features);
			assert_int_equal(vu_frontend_memory_slots(g.frontend), slots);
		}
		features = vu_frontend_offered(g.frontend);
		slots = vu_frontend_memory_slots(g.frontend);
		kill(pid, SIGKILL);
		guest_expect(pid, SIGKILL);
		start_us = clock_now_us();
		ret = vu_frontend_barrier(g.frontend);
		assert_int_equal(ret, -ECONNRESET);
		assert_true(clock_now_us() - start_us < 1000 * 1000);
		vu_frontend_destroy(g.frontend);
		vring_driver_destroy(g.rings[0]);
		vring_driver_destroy(g.rings[1]);
		vu_frontend_memory_destroy(&g.memory);
		close(g.kick_fd);
		close(g.call_fd);
	}
}

/* What the first signal makes stays with the process, and is no leak. */
static int signal_once(void **state)
{
	int fd = eventfd(0, EFD_CLOEXEC);
	int ret = vu_eventfd_signal(fd);

	close(fd);
	return ret;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(frames_cross_two_processes_in_order),
		cmocka_unit_test(ring_stopped_and_started_under_traffic_loses_nothing),
		cmocka_unit_test(memory_table_replaced_under_traffic_loses_nothing),
		cmocka_unit_test(guest_killed_at_any_moment_leaves_nothing),
		cmocka_unit_test(stopped_guest_costs_nothing_and_goes_on_later),
		cmocka_unit_test(back_end_killed_is_seen_and_its_successor_goes_on),
	};

	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, signal_once, NULL);
}
