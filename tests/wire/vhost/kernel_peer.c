/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The kernel's vhost-net between a tap and two rings of ours. Numbered frames go out by the transmit ring and are read from a
 * packet socket on the tap; others are sent by that socket and come in by the receive ring. Each number must come once and in
 * order.
 *
 * For a machine whose kernel has vhost_net, as root; elsewhere it fails. tests/guest/scenarios/vhost_net.py has such a machine.
 *
 * Nothing here polls: a kick that is missing, or a call, ends in a timeout. Rings lie outside the memory that the kernel was told,
 * and guest addresses are nobody's virtual ones.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <arpa/inet.h>
#include <cmocka.h>

#include <base/clock.h>
#include <gmem/log.h>
#include <vhost/kernel.h>
#include <vring/driver.h>

#define BIT(n) (UINT64_C(1) << (n))
#define MERGEABLE BIT(15)
#define EVENT_IDX BIT(29)
#define VERSION_1 BIT(32)

#define RING_SIZE  128u
#define HEADER     12u
#define NUM_BUFFERS_AT 10u
#define MTU        4000
#define FRAME_MIN  60u
#define FRAME_MAX  3000u
#define SMALL      256u  /* bytes of a receive buffer with mergeable ones: frames take up to 12 */
#define LARGE      4096u
#define SLOT       4096u /* bytes of memory for each buffer */
#define WINDOW     8u    /* frames on their way in each direction: they fit the ring, the tap and the socket */
#define RX_GPA     UINT64_C(0x100000000)
#define TX_GPA     UINT64_C(0x7f0000)
#define HALF       (RING_SIZE * SLOT)
#define USED_GPA   (RX_GPA + HALF)
#define LOG_BYTES  ((USED_GPA + SLOT) / GMEM_LOG_PAGE_BYTES / 8 + 1)
#define ETHERTYPE  0x88b5 /* for local experiments */
#define LIMIT_US   (20 * 1000 * 1000)
#define FRAMES     3000u
#define STOPS      200u

/* One direction of frames, of which each has its number. */
struct stream {
	uint32_t n_sent;
	uint32_t n_received;
};

struct peer {
	struct vhost_kernel *session;
	int tap;
	int socket;
	uint8_t *memory; /* receive buffers, transmit buffers, the rings */
	uint64_t features;
	uint32_t buffer; /* bytes of a receive buffer */
	struct vring_driver *rings[2];
	int kick[2], call[2];
	uint16_t base[2];
	struct stream in, out;
	/* The frame of which not every buffer has come yet. */
	uint8_t frame[HEADER + FRAME_MAX];
	uint32_t n_frame;
	unsigned int n_missing;
	uint32_t n_kicks, n_calls, n_merged;
	uint64_t end_us;
};

static const uint64_t variants[] = {VERSION_1, VERSION_1 | EVENT_IDX, VERSION_1 | MERGEABLE, VERSION_1 | MERGEABLE | EVENT_IDX};
#define N_VARIANTS (sizeof(variants) / sizeof(variants[0]))

/* ---- frames ---- */

struct content {
	struct ethhdr ethernet;
	uint32_t number;
} __attribute__((packed));

static uint32_t frame_length(uint32_t number)
{
	return FRAME_MIN + number * 977u % (FRAME_MAX - FRAME_MIN + 1);
}

static uint32_t frame_make(uint8_t *at, uint32_t number)
{
	struct content content = {.ethernet = {.h_dest = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
					  .h_source = {2, 0, 0, 0, 0, 1},
					  .h_proto = htons(ETHERTYPE)},
		.number = number};
	uint32_t length = frame_length(number);

	memset(at, (int)(number % 251), length);
	memcpy(at, &content, sizeof(content));
	return length;
}

/* It must be the next one. */
static void frame_take(struct stream *stream, const uint8_t *at, uint32_t length)
{
	static uint8_t expected[FRAME_MAX];
	struct content content;

	assert_in_range(length, sizeof(content), FRAME_MAX);
	memcpy(&content, at, sizeof(content));
	assert_int_equal(content.number, stream->n_received);
	assert_int_equal(length, frame_make(expected, content.number));
	assert_memory_equal(at, expected, length);
	stream->n_received++;
}

/* ---- the machine's side: a tap and a socket on it ---- */

static int tap_open(struct ifreq *ifr)
{
	int header = HEADER;
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);

	assert_true(fd >= 0);
	*ifr = (struct ifreq){.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR, .ifr_name = "kernelpeer%d"};
	assert_int_equal(ioctl(fd, TUNSETIFF, ifr), 0);
	assert_int_equal(ioctl(fd, TUNSETVNETHDRSZ, &header), 0);
	assert_int_equal(ioctl(fd, TUNSETOFFLOAD, 0), 0);
	return fd;
}

/* Nothing but our own frames: no neighbour discovery. */
static void silence(const char *interface)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "/proc/sys/net/ipv6/conf/%s/disable_ipv6", interface);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0) {
		assert_int_equal(errno, ENOENT);
		return;
	}
	assert_int_equal(write(fd, "1", 1), 1);
	close(fd);
}

static int socket_open(struct ifreq *ifr)
{
	struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_protocol = htons(ETHERTYPE)};
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, htons(ETHERTYPE));

	assert_true(fd >= 0);
	silence(ifr->ifr_name);
	assert_int_equal(ioctl(fd, SIOCGIFINDEX, ifr), 0);
	address.sll_ifindex = ifr->ifr_ifindex;
	ifr->ifr_mtu = MTU;
	assert_int_equal(ioctl(fd, SIOCSIFMTU, ifr), 0);
	ifr->ifr_flags = IFF_UP;
	assert_int_equal(ioctl(fd, SIOCSIFFLAGS, ifr), 0);
	assert_int_equal(bind(fd, (const struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

static void socket_send(struct peer *p)
{
	uint8_t frame[FRAME_MAX];
	uint32_t length = frame_make(frame, p->in.n_sent);

	assert_int_equal(send(p->socket, frame, length, 0), length);
	p->in.n_sent++;
}

static void socket_receive(struct peer *p)
{
	uint8_t frame[FRAME_MAX];
	ssize_t length;

	while ((length = recv(p->socket, frame, sizeof(frame), MSG_TRUNC)) >= 0)
		frame_take(&p->out, frame, (uint32_t)length);
	assert_int_equal(errno, EAGAIN);
}

/* ---- the guest's side: two rings ---- */

static uint8_t *ring_area(const struct peer *p, unsigned int index)
{
	return p->memory + 2 * HALF + index * 3 * SLOT;
}

static void guest_kick(struct peer *p, unsigned int index)
{
	vring_driver_publish(p->rings[index]);
	if (!vring_driver_needs_kick(p->rings[index]))
		return;
	assert_int_equal(eventfd_write(p->kick[index], 1), 0);
	p->n_kicks++;
}

static void guest_post_receive(struct peer *p, uint32_t slot)
{
	const struct vring_extent extent = {RX_GPA + slot * SLOT, p->buffer};

	assert_int_equal(vring_driver_post(p->rings[VHOST_KERNEL_RX], &extent, 0, 1, slot), 0);
}

/* Header and frame apart. Frames are as many as there are buffers at most, so a number's buffer is free. */
static void guest_post_send(struct peer *p)
{
	uint32_t at = p->out.n_sent % RING_SIZE * SLOT;
	uint8_t *buffer = p->memory + HALF + at;
	const struct vring_extent extents[] = {
		{TX_GPA + at, HEADER}, {TX_GPA + at + HEADER, frame_length(p->out.n_sent)}};

	memset(buffer, 0, HEADER);
	frame_make(buffer + HEADER, p->out.n_sent);
	assert_int_equal(vring_driver_post(p->rings[VHOST_KERNEL_TX], extents, 2, 0, p->out.n_sent), 0);
	p->out.n_sent++;
}

/* A buffer of a frame; the first one tells how many there are. */
static void guest_receive_buffer(struct peer *p, const struct vring_completion *done)
{
	const uint8_t *buffer = p->memory + done->token * SLOT;
	uint16_t n_buffers = 1;

	if (p->n_missing == 0) {
		assert_true(done->len > HEADER);
		if ((p->features & MERGEABLE) != 0)
			memcpy(&n_buffers, buffer + NUM_BUFFERS_AT, sizeof(n_buffers));
		assert_in_range(n_buffers, 1, (HEADER + FRAME_MAX) / p->buffer + 1);
		p->n_merged += n_buffers > 1;
		p->n_missing = n_buffers;
		p->n_frame = 0;
	}
	assert_true(p->n_frame + done->len <= sizeof(p->frame));
	memcpy(p->frame + p->n_frame, buffer, done->len);
	p->n_frame += done->len;
	if (--p->n_missing == 0)
		frame_take(&p->in, p->frame + HEADER, p->n_frame - HEADER);
	guest_post_receive(p, done->token);
}

/* What both rings have for us. Returns whether there was something. */
static bool guest_collect(struct peer *p)
{
	struct vring_completion done[RING_SIZE];
	int n_tx = vring_driver_collect(p->rings[VHOST_KERNEL_TX], done, RING_SIZE);
	int n_rx = vring_driver_collect(p->rings[VHOST_KERNEL_RX], done, RING_SIZE);

	assert_true(n_tx >= 0);
	assert_true(n_rx >= 0);
	for (int i = 0; i < n_rx; i++)
		guest_receive_buffer(p, &done[i]);
	if (n_rx > 0)
		guest_kick(p, VHOST_KERNEL_RX);
	return n_tx + n_rx > 0;
}

static void guest_set_call(struct peer *p, bool wanted)
{
	for (unsigned int i = 0; i < 2; i++)
		vring_driver_set_call(p->rings[i], wanted);
}

/* Sleeps until a call or a frame comes. */
static void wait_for_something(struct peer *p)
{
	struct pollfd fds[] = {{.fd = p->call[0], .events = POLLIN}, {.fd = p->call[1], .events = POLLIN},
		{.fd = p->socket, .events = POLLIN}};
	uint64_t now_us = clock_now_us();
	eventfd_t count;

	if (now_us >= p->end_us)
		fail_msg("nothing comes any more; out %u of %u, in %u of %u", p->out.n_received, p->out.n_sent,
			p->in.n_received, p->in.n_sent);
	poll(fds, 3, (int)((p->end_us - now_us) / 1000 + 1));
	for (unsigned int i = 0; i < 2; i++) {
		if (fds[i].revents != 0) {
			assert_int_equal(eventfd_read(p->call[i], &count), 0);
			p->n_calls++;
		}
	}
}

/* ---- both ---- */

static void ring_start(struct peer *p, unsigned int index, uint64_t log_gpa)
{
	uint8_t *area = ring_area(p, index);
	const struct vhost_kernel_ring ring = {
		.index = index,
		.size = RING_SIZE,
		.desc = area,
		.avail = area + SLOT,
		.used = area + 2 * SLOT,
		.log_gpa = log_gpa,
		.base = p->base[index],
		.kick_fd = p->kick[index],
		.call_fd = p->call[index],
		.tap_fd = p->tap,
	};

	if (vhost_kernel_ring_start(p->session, &ring) != 0)
		fail_msg("%s", vhost_kernel_error(p->session));
}

static void ring_stop(struct peer *p, unsigned int index)
{
	struct vring_used *used = (struct vring_used *)(ring_area(p, index) + 2 * SLOT);
	uint16_t idx;

	assert_int_equal(vhost_kernel_ring_stop(p->session, index, &p->base[index]), 0);
	/* It leaves nothing half done, and does nothing any more. */
	idx = __atomic_load_n(&used->idx, __ATOMIC_ACQUIRE);
	assert_int_equal(p->base[index], idx);
}

static void session_open(struct peer *p)
{
	const struct vhost_kernel_region regions[] = {{RX_GPA, HALF, p->memory}, {TX_GPA, HALF, p->memory + HALF}};
	uint64_t taken;

	p->session = vhost_kernel_open(NULL);
	assert_non_null(p->session);
	assert_int_equal(vhost_kernel_negotiate(p->session, p->features, &taken), 0);
	assert_true(taken == p->features);
	assert_int_equal(vhost_kernel_set_memory(p->session, regions, 2), 0);
}

static void peer_open(struct peer *p, uint64_t features)
{
	struct ifreq ifr;

	*p = (struct peer){.features = features, .buffer = (features & MERGEABLE) != 0 ? SMALL : LARGE};
	p->end_us = clock_now_us() + LIMIT_US;
	p->tap = tap_open(&ifr);
	p->socket = socket_open(&ifr);
	p->memory = mmap(NULL, 2 * HALF + 6 * SLOT, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(p->memory != MAP_FAILED);
	session_open(p);
	for (unsigned int i = 0; i < 2; i++) {
		const struct vring_driver_config config = {.size = RING_SIZE,
			.event_idx = (features & EVENT_IDX) != 0,
			.desc = ring_area(p, i),
			.avail = ring_area(p, i) + SLOT,
			.used = ring_area(p, i) + 2 * SLOT};

		p->rings[i] = vring_driver_create(&config);
		assert_non_null(p->rings[i]);
		p->kick[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		p->call[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	}
	for (uint32_t slot = 0; slot < RING_SIZE; slot++)
		guest_post_receive(p, slot);
	vring_driver_publish(p->rings[VHOST_KERNEL_RX]);
}

static void peer_start(struct peer *p, uint64_t features)
{
	peer_open(p, features);
	for (unsigned int i = 0; i < 2; i++)
		ring_start(p, i, VHOST_KERNEL_NOT_LOGGED);
}

static void peer_close(struct peer *p)
{
	vhost_kernel_destroy(p->session);
	for (unsigned int i = 0; i < 2; i++) {
		vring_driver_destroy(p->rings[i]);
		close(p->kick[i]);
		close(p->call[i]);
	}
	munmap(p->memory, 2 * HALF + 6 * SLOT);
	close(p->socket);
	close(p->tap);
}

/* New frames as long as there are fewer than n in all, and no more than the window on their way. */
static void send_both_ways(struct peer *p, uint32_t n)
{
	bool has_posted = false;

	while (p->in.n_sent < n && p->in.n_sent - p->in.n_received < WINDOW)
		socket_send(p);
	while (p->out.n_sent < n && p->out.n_sent - p->out.n_received < WINDOW &&
		vring_driver_free(p->rings[VHOST_KERNEL_TX]) >= 2) {
		guest_post_send(p);
		has_posted = true;
	}
	if (has_posted)
		guest_kick(p, VHOST_KERNEL_TX);
}

/* Sends, sleeps and receives until n frames in all have come each way, and all that was sent is used. */
static void exchange(struct peer *p, uint32_t n)
{
	while (p->in.n_received < n || p->out.n_received < n || vring_driver_outstanding(p->rings[VHOST_KERNEL_TX]) > 0) {
		send_both_ways(p, n);
		guest_set_call(p, true);
		if (!guest_collect(p))
			wait_for_something(p);
		guest_set_call(p, false);
		socket_receive(p);
	}
}

/* ---- tests ---- */

static void frames_come_once_and_in_order_both_ways(void **state)
{
	for (unsigned int i = 0; i < N_VARIANTS; i++) {
		struct peer p;

		peer_start(&p, variants[i]);
		exchange(&p, FRAMES);
		assert_int_equal(p.in.n_received, FRAMES);
		assert_int_equal(p.out.n_received, FRAMES);
		if ((variants[i] & MERGEABLE) != 0)
			assert_in_range(p.n_merged, FRAMES / 2, FRAMES);
		printf("mergeable %d, event index %d: %u frames each way, %u kicks, %u calls\n", (variants[i] & MERGEABLE) != 0,
			(variants[i] & EVENT_IDX) != 0, FRAMES, p.n_kicks, p.n_calls);
		peer_close(&p);
	}
}

static void ring_stopped_under_traffic_goes_on_from_its_base(void **state)
{
	for (unsigned int i = 0; i < N_VARIANTS; i++) {
		unsigned int n_busy = 0;
		struct peer p;

		peer_start(&p, variants[i]);
		for (unsigned int j = 0; j < STOPS; j++) {
			unsigned int index = j % 2;

			exchange(&p, p.in.n_received + j % 5);
			/* Frames are on their way now, or are sent while nobody fetches them. */
			send_both_ways(&p, UINT32_MAX);
			ring_stop(&p, index);
			n_busy += vring_driver_outstanding(p.rings[index]) > 0;
			send_both_ways(&p, UINT32_MAX);
			ring_start(&p, index, VHOST_KERNEL_NOT_LOGGED);
		}
		exchange(&p, p.in.n_sent > p.out.n_sent ? p.in.n_sent : p.out.n_sent);
		assert_int_equal(p.in.n_received, p.in.n_sent);
		assert_int_equal(p.out.n_received, p.out.n_sent);
		assert_true(n_busy > 0);
		printf("%u stops, %u frames\n", STOPS, p.in.n_received + p.out.n_received);
		peer_close(&p);
	}
}

/* As when a ring is handed over from one who served it before. */
static void another_session_goes_on_where_the_first_one_stopped(void **state)
{
	struct vhost_kernel *first;
	struct peer p;

	peer_start(&p, VERSION_1 | MERGEABLE | EVENT_IDX);
	exchange(&p, 100);
	send_both_ways(&p, UINT32_MAX);
	first = p.session;
	for (unsigned int i = 0; i < 2; i++)
		ring_stop(&p, i);
	session_open(&p);
	for (unsigned int i = 0; i < 2; i++)
		ring_start(&p, i, VHOST_KERNEL_NOT_LOGGED);
	vhost_kernel_destroy(first);
	exchange(&p, 200);
	peer_close(&p);
}

static void what_was_available_before_the_start_is_sent_without_a_kick(void **state)
{
	for (unsigned int i = 0; i < N_VARIANTS; i++) {
		struct peer p;

		peer_open(&p, variants[i]);
		for (unsigned int j = 0; j < WINDOW; j++)
			guest_post_send(&p);
		vring_driver_publish(p.rings[VHOST_KERNEL_TX]);
		/* And frames that came before there was anybody to fetch them are received. */
		socket_send(&p);
		ring_start(&p, VHOST_KERNEL_TX, VHOST_KERNEL_NOT_LOGGED);
		ring_start(&p, VHOST_KERNEL_RX, VHOST_KERNEL_NOT_LOGGED);
		while (p.out.n_received < WINDOW || p.in.n_received < 1) {
			if (!guest_collect(&p))
				wait_for_something(&p);
			socket_receive(&p);
		}
		peer_close(&p);
	}
}

static void stopped_ring_is_not_touched(void **state)
{
	static uint8_t before[2 * HALF + 6 * SLOT];
	struct peer p;

	peer_start(&p, VERSION_1 | EVENT_IDX);
	exchange(&p, 100);
	for (unsigned int i = 0; i < 2; i++)
		ring_stop(&p, i);
	for (unsigned int i = 0; i < WINDOW; i++) {
		guest_post_send(&p);
		socket_send(&p);
	}
	vring_driver_publish(p.rings[VHOST_KERNEL_TX]);
	memcpy(before, p.memory, sizeof(before));
	for (unsigned int i = 0; i < 2; i++)
		assert_int_equal(eventfd_write(p.kick[i], 1), 0);
	usleep(100 * 1000);
	assert_memory_equal(p.memory, before, sizeof(before));
	for (unsigned int i = 0; i < 2; i++)
		ring_start(&p, i, VHOST_KERNEL_NOT_LOGGED);
	exchange(&p, 100 + WINDOW);
	peer_close(&p);
}

static void memory_is_replaced_under_traffic(void **state)
{
	struct peer p;

	peer_start(&p, VERSION_1 | MERGEABLE);
	for (unsigned int i = 0; i < 100; i++) {
		struct vhost_kernel_region regions[4];

		for (unsigned int j = 0; j < 4; j++)
			regions[j] = (struct vhost_kernel_region){
				(j < 2 ? RX_GPA : TX_GPA) + j % 2 * HALF / 2, HALF / 2, p.memory + j * HALF / 2};
		if (i % 2 == 0) {
			regions[0].size = HALF;
			regions[1] = regions[2];
			regions[1].size = HALF;
		}
		send_both_ways(&p, UINT32_MAX);
		assert_int_equal(vhost_kernel_set_memory(p.session, regions, i % 2 == 0 ? 2 : 4), 0);
		exchange(&p, p.in.n_received + 5);
	}
	peer_close(&p);
}

static bool is_logged(const uint8_t *log, uint64_t gpa)
{
	return (log[gpa / GMEM_LOG_PAGE_BYTES / 8] >> gpa / GMEM_LOG_PAGE_BYTES % 8 & 1) != 0;
}

static void written_pages_are_logged_while_there_is_a_log(void **state)
{
	uint8_t *log = mmap(NULL, LOG_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct peer p;

	assert_true(log != MAP_FAILED);
	peer_open(&p, VERSION_1);
	ring_start(&p, VHOST_KERNEL_RX, USED_GPA);
	ring_start(&p, VHOST_KERNEL_TX, VHOST_KERNEL_NOT_LOGGED);
	/* A frame is one buffer here, and buffers are used in order. */
	exchange(&p, 10);
	assert_int_equal(vhost_kernel_set_log(p.session, log, LOG_BYTES), 0);
	exchange(&p, 30);
	ring_stop(&p, VHOST_KERNEL_RX);
	assert_int_equal(p.base[VHOST_KERNEL_RX], 30);
	for (uint64_t slot = 0; slot < RING_SIZE; slot++)
		assert_int_equal(is_logged(log, RX_GPA + slot * SLOT), slot >= 10 && slot < 30);
	assert_true(is_logged(log, USED_GPA));
	for (uint64_t gpa = TX_GPA; gpa < TX_GPA + HALF; gpa += SLOT)
		assert_false(is_logged(log, gpa));

	assert_int_equal(vhost_kernel_set_log(p.session, NULL, 0), 0);
	memset(log, 0, LOG_BYTES);
	ring_start(&p, VHOST_KERNEL_RX, USED_GPA);
	exchange(&p, 50);
	ring_stop(&p, VHOST_KERNEL_RX);
	for (uint64_t i = 0; i < LOG_BYTES; i++)
		assert_int_equal(log[i], 0);
	peer_close(&p);
	munmap(log, LOG_BYTES);
}

static void broken_ring_signals_its_error_descriptor(void **state)
{
	const struct vring_extent nowhere = {TX_GPA + HALF, 100};
	struct peer p;
	struct pollfd poll_err = {.fd = eventfd(0, EFD_CLOEXEC), .events = POLLIN};

	peer_start(&p, VERSION_1);
	assert_int_equal(vhost_kernel_ring_set_err(p.session, VHOST_KERNEL_TX, poll_err.fd), 0);
	assert_int_equal(poll(&poll_err, 1, 0), 0);
	assert_int_equal(vring_driver_post(p.rings[VHOST_KERNEL_TX], &nowhere, 1, 0, 0), 0);
	guest_kick(&p, VHOST_KERNEL_TX);
	assert_int_equal(poll(&poll_err, 1, LIMIT_US / 1000), 1);
	peer_close(&p);
	close(poll_err.fd);
}

static void kernel_refuses_with_its_own_codes(void **state)
{
	struct vhost_kernel *bare = vhost_kernel_open(NULL);
	struct vhost_kernel_ring ring;
	uint64_t taken;
	struct peer p;
	pid_t child;
	int status;

	peer_open(&p, VERSION_1);
	ring = (struct vhost_kernel_ring){.size = RING_SIZE,
		.desc = ring_area(&p, 0),
		.avail = ring_area(&p, 0) + SLOT,
		.used = ring_area(&p, 0) + 2 * SLOT,
		.log_gpa = VHOST_KERNEL_NOT_LOGGED,
		.kick_fd = p.kick[0],
		.call_fd = -1,
		.tap_fd = p.tap};
	assert_non_null(bare);
	assert_int_equal(vhost_kernel_ring_start(bare, &ring), -EPERM);
	assert_int_equal(vhost_kernel_negotiate(bare, VERSION_1, &taken), 0);
	assert_int_equal(vhost_kernel_negotiate(bare, VERSION_1, &taken), -EBUSY);
	assert_int_equal(vhost_kernel_ring_start(bare, &ring), -EFAULT);
	vhost_kernel_destroy(bare);

	ring.tap_fd = p.kick[1];
	assert_int_equal(vhost_kernel_ring_start(p.session, &ring), -ENOTSOCK);
	ring.tap_fd = p.tap;
	ring.kick_fd = p.tap;
	assert_int_equal(vhost_kernel_ring_start(p.session, &ring), -EINVAL);
	ring.kick_fd = p.kick[0];
	child = fork();
	assert_true(child >= 0);
	if (child == 0)
		_exit(vhost_kernel_ring_start(p.session, &ring) == -EPERM ? 0 : 1);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	assert_int_equal(vhost_kernel_ring_start(p.session, &ring), 0);
	peer_close(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(frames_come_once_and_in_order_both_ways),
		cmocka_unit_test(ring_stopped_under_traffic_goes_on_from_its_base),
		cmocka_unit_test(another_session_goes_on_where_the_first_one_stopped),
		cmocka_unit_test(what_was_available_before_the_start_is_sent_without_a_kick),
		cmocka_unit_test(stopped_ring_is_not_touched),
		cmocka_unit_test(memory_is_replaced_under_traffic),
		cmocka_unit_test(written_pages_are_logged_while_there_is_a_log),
		cmocka_unit_test(broken_ring_signals_its_error_descriptor),
		cmocka_unit_test(kernel_refuses_with_its_own_codes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
