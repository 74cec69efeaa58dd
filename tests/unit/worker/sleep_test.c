/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Workers that sleep, on real lcores, with ports whose far side is this thread: it makes frames available and kicks when it
 * was asked to, by the rule of the event index (the worker names the place of the frame it wants to be told of).
 */
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

#include <rte_cycles.h>
#include <rte_eal.h>
#include <rte_malloc.h>

#include <base/clock.h>
#include <worker/worker.h>

#include "../port/dpdk_fixture.h"
#include "worker_private.h"

#define LONG_US (10 * 1000 * 1000) /* only what is lost takes so long, however busy the machine */
#define NEVER   UINT64_MAX

/* A port with one queue. Frames are numbers. */
struct box {
	struct port base;
	struct rx_queue rx;
	int peer_fd; /* the far side's descriptor of the same open file as rx.wake.fd */
	bool is_listed;
	uint64_t n_offered;  /* far side */
	uint64_t n_taken;    /* worker, with those that are bad */
	uint64_t told_from;  /* worker: the frame it wants to be told of; far side tells if `is_wanted` */
	bool is_wanted;
	uint64_t n_notified; /* worker: calls of notify() */
	uint64_t bad;        /* number of the frame that is taken and dropped inside; NEVER */
	unsigned int n_slips; /* arm(true) is too late for a frame that comes just then, so many times */
	struct box *answers;  /* has a frame as soon as this one is received from */
	bool stalls;    /* the worker stays in receive() */
	bool forbidden; /* no worker may use the queue */
	bool violated;
};

static struct workers *workers;
static struct topology topology;
static struct box boxes[2];
static struct rte_mempool *pool;

#define read_now(place) __atomic_load_n(place, __ATOMIC_ACQUIRE)

static struct box *box_of(const struct rx_queue *queue)
{
	return (struct box *)(uintptr_t)queue->port;
}

static void note_use(struct box *box)
{
	if (__atomic_load_n(&box->forbidden, __ATOMIC_SEQ_CST))
		__atomic_store_n(&box->violated, true, __ATOMIC_SEQ_CST);
}

/* The far side. */
static void offer(struct box *box, uint64_t n)
{
	uint64_t before = __atomic_fetch_add(&box->n_offered, n, __ATOMIC_SEQ_CST);

	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (__atomic_load_n(&box->is_wanted, __ATOMIC_RELAXED) &&
		before + n - __atomic_load_n(&box->told_from, __ATOMIC_RELAXED) - 1 < n)
		eventfd_write(box->peer_fd, 1);
}

static unsigned int box_receive(struct rx_queue *queue, struct port_counters *counters,
	struct frame_batch *batch, unsigned int max)
{
	struct box *box = box_of(queue);

	note_use(box);
	while (__atomic_load_n(&box->stalls, __ATOMIC_ACQUIRE))
		usleep(100);
	if (read_now(&box->n_offered) == box->n_taken)
		return 0;
	if (box->n_taken == read_now(&box->bad)) {
		__atomic_store_n(&box->n_taken, box->n_taken + 1, __ATOMIC_RELEASE);
		return 0;
	}
	memset(batch->rooms[0].head, 0, 64);
	batch->frames[0] = (struct frame){ .head = batch->rooms[0].head, .len = 64, .head_len = 64 };
	if (box->answers != NULL)
		offer(box->answers, 1);
	return 1;
}

static void box_release(struct rx_queue *queue, struct port_counters *counters,
	struct frame_batch *batch, unsigned int n)
{
	struct box *box = box_of(queue);

	note_use(box);
	__atomic_store_n(&box->n_taken, box->n_taken + n, __ATOMIC_RELEASE);
}

static void box_notify(struct rx_queue *queue)
{
	note_use(box_of(queue));
	__atomic_fetch_add(&box_of(queue)->n_notified, 1, __ATOMIC_RELAXED);
}

static void box_arm(struct rx_queue *queue, bool wanted)
{
	struct box *box = box_of(queue);

	note_use(box);
	__atomic_store_n(&box->told_from, box->n_taken, __ATOMIC_RELAXED);
	if (wanted && box->n_slips > 0) {
		box->n_slips--;
		__atomic_fetch_add(&box->n_offered, 1, __ATOMIC_SEQ_CST);
	}
	__atomic_store_n(&box->is_wanted, wanted, __ATOMIC_RELAXED);
}

static bool box_is_ready(struct rx_queue *queue)
{
	struct box *box = box_of(queue);

	note_use(box);
	return read_now(&box->n_offered) != box->n_taken;
}

static unsigned int box_list_rx(struct port *port, struct rx_queue **queues)
{
	struct box *box = (struct box *)port;

	queues[0] = &box->rx;
	return box->is_listed;
}

static unsigned int box_list_tx(struct port *port, struct tx_queue **queues)
{
	return 0;
}

static const struct port_ops box_ops = {
	.kind = "box",
	.list_rx = box_list_rx,
	.list_tx = box_list_tx,
};

static struct box *box_add(uint16_t id, enum port_mode mode)
{
	struct box *box = &boxes[id];

	memset(box, 0, sizeof(*box));
	assert_int_equal(port_init(&box->base, &box_ops, NULL, "box", id), 0);
	box->base.mode = mode;
	box->is_listed = true;
	box->bad = NEVER;
	box->rx = (struct rx_queue){
		.port = &box->base,
		.numa_node = -1,
		.worker = -1,
		.receive = box_receive,
		.release = box_release,
		.notify = box_notify,
		.arm = box_arm,
		.is_ready = box_is_ready,
		.wake = { .fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), .channel = -1 },
	};
	box->peer_fd = dup(box->rx.wake.fd);
	assert_true(box->peer_fd >= 0);
	topology.ports[id] = &box->base;
	return box;
}

static struct rte_mempool *pool_of_node(int numa_node)
{
	return pool;
}

static void start(unsigned int n_workers, enum port_mode mode, unsigned int idle_us)
{
	const struct workers_config config = {
		.n_workers = n_workers,
		.lcore_ids = { 1, 2 },
		.pool_of_node = pool_of_node,
		.mode = mode,
		.idle_us = idle_us,
	};
	char error[256] = "";

	memset(&topology, 0, sizeof(topology));
	workers = workers_create(&config, error, sizeof(error));
	if (workers == NULL)
		fail_msg("%s", error);
}

static int teardown(void **state)
{
	workers_destroy(workers);
	workers = NULL;
	for (unsigned int i = 0; i < RTE_DIM(boxes); i++) {
		if (boxes[i].base.counters == NULL)
			continue;
		port_fini(&boxes[i].base);
		close(boxes[i].peer_fd);
		if (boxes[i].rx.wake.fd >= 0)
			close(boxes[i].rx.wake.fd);
	}
	memset(boxes, 0, sizeof(boxes));
	return 0;
}

static struct worker_report report_of(unsigned int id)
{
	struct worker_report report;

	workers_report(workers, id, &report);
	return report;
}

static bool is_asleep(unsigned int id)
{
	return report_of(id).state == WORKER_ASLEEP;
}

/* Evaluates it again and again until it is true; the next moment it may be false. */
#define assert_soon(what)                                                                          \
	do {                                                                                       \
		uint64_t until_us = clock_now_us() + LONG_US;                                      \
		bool is_so;                                                                        \
                                                                                                   \
		while (!(is_so = (what)) && clock_now_us() < until_us)                             \
			usleep(20);                                                                \
		if (!is_so)                                                                        \
			fail_msg("not within %u ms: %s", LONG_US / 1000, #what);                   \
	} while (0)

/* CPU time of the worker's thread; it has made a round. */
static uint64_t cpu_time_us(unsigned int id)
{
	clockid_t clock;
	struct timespec time;

	assert_int_not_equal(read_now(&workers->worker[id]->rounds), 0);
	assert_int_equal(pthread_getcpuclockid(workers->worker[id]->thread, &clock), 0);
	clock_gettime(clock, &time);
	return (uint64_t)time.tv_sec * 1000000 + (uint64_t)time.tv_nsec / 1000;
}

static void assert_uses_no_time(unsigned int id)
{
	uint64_t before;

	assert_soon(is_asleep(id));
	usleep(10000);
	before = cpu_time_us(id);
	usleep(300000);
	assert_true(cpu_time_us(id) - before < 5000);
	assert_true(is_asleep(id));
}

static void assert_does_not_sleep(unsigned int id)
{
	uint64_t n_sleeps = report_of(id).n_sleeps;
	uint64_t rounds = report_of(id).rounds;

	for (unsigned int i = 0; i < 50; i++) {
		usleep(1000);
		assert_false(is_asleep(id));
	}
	assert_int_equal(report_of(id).n_sleeps, n_sleeps);
	assert_soon(report_of(id).rounds != rounds);
}

static void assert_taken(struct box *box)
{
	assert_soon(read_now(&box->n_taken) == __atomic_load_n(&box->n_offered, __ATOMIC_RELAXED));
}

static const char *reason_of(const struct box *box, struct event_channel_report *wake)
{
	struct worker_queue_report queues[RTE_DIM(boxes)];
	unsigned int n = workers_list_queues(workers, (unsigned int)box->rx.worker, queues, RTE_DIM(boxes));

	for (unsigned int i = 0; i < n; i++) {
		if (queues[i].queue == &box->rx) {
			*wake = queues[i].wake;
			return queues[i].keeps_polling;
		}
	}
	fail_msg("the queue is not in its worker's list");
	return NULL;
}

static void a_worker_without_queues_sleeps_and_uses_no_time(void **state)
{
	start(1, PORT_MODE_ADAPTIVE, 50);
	assert_uses_no_time(0);
}

static void a_worker_with_idle_queues_sleeps_and_uses_no_time(void **state)
{
	struct event_channel_report wake;

	start(1, PORT_MODE_ADAPTIVE, 50);
	box_add(0, PORT_MODE_ADAPTIVE);
	box_add(1, PORT_MODE_INTERRUPT);
	workers_update(workers, &topology);
	assert_null(reason_of(&boxes[0], &wake));
	assert_uses_no_time(0);
	/* And after there was something. */
	offer(&boxes[0], 100);
	assert_taken(&boxes[0]);
	assert_uses_no_time(0);
}

static void a_kick_wakes_the_worker_and_the_frame_is_handled(void **state)
{
	struct event_channel_report wake;
	struct worker_report before, after;
	struct box *box;

	start(1, PORT_MODE_ADAPTIVE, 50);
	box = box_add(0, PORT_MODE_ADAPTIVE);
	workers_update(workers, &topology);
	assert_soon(is_asleep(0));
	usleep(5000);
	before = report_of(0);
	assert_int_equal(before.packets, 0);
	offer(box, 1);
	assert_taken(box);
	assert_soon(report_of(0).n_sleeps > before.n_sleeps && is_asleep(0));
	after = report_of(0);
	assert_int_equal(after.packets, 1);
	assert_int_equal(after.events.n_wakeups[EVENT_KICK], before.events.n_wakeups[EVENT_KICK] + 1);
	assert_int_equal(after.events.n_spurious, before.events.n_spurious);
	assert_int_equal(read_now(&after.wake_ns->n), 1);
	reason_of(box, &wake);
	assert_int_equal(wake.n_wakeups, 1);
	assert_int_equal(wake.n_spurious, 0);
	/* The far side was told that its frame is done with. */
	assert_int_equal(read_now(&box->n_notified), 1);
}

/* It came when the far side could not know yet that it is to tell. */
static void a_frame_that_came_before_arming_is_found_though_nobody_kicks(void **state)
{
	struct box *box;

	start(1, PORT_MODE_ADAPTIVE, 50);
	box = box_add(0, PORT_MODE_ADAPTIVE);
	box->n_slips = 3;
	workers_update(workers, &topology);
	assert_soon(read_now(&box->n_taken) == 3);
	assert_soon(is_asleep(0));
	assert_int_equal(report_of(0).events.n_wakeups[EVENT_KICK], 0);
}

/* Taken without a frame to show for it: the place that the far side was asked to tell of is behind then. */
static void a_bad_frame_that_came_before_arming_does_not_make_the_queue_deaf(void **state)
{
	struct box *box;

	start(1, PORT_MODE_ADAPTIVE, 50);
	box = box_add(0, PORT_MODE_ADAPTIVE);
	box->bad = 0;
	box->n_slips = 1;
	workers_update(workers, &topology);
	assert_soon(read_now(&box->n_taken) == 1);
	assert_soon(is_asleep(0));
	usleep(5000);
	offer(box, 1);
	assert_taken(box);
	assert_int_equal(report_of(0).packets, 1);
}

static void pause_us(uint64_t us)
{
	uint64_t until_us = clock_now_us() + us;

	while (clock_now_us() < until_us)
		rte_pause();
}

static void spin_until(uint64_t cycles)
{
	while (rte_rdtsc() < cycles)
		;
}

/*
 * Lets some time pass since a frame was handled: any, or one that ends about when the worker arms the queue, or a little later,
 * when it goes to sleep.
 */
static void pause_somehow(struct box *box, unsigned int turn, unsigned int *seed)
{
	static uint64_t arming_cycles; /* from a frame to the arming, the last time */
	uint64_t begin = rte_rdtsc();
	uint64_t odd = (uint64_t)rand_r(seed) % 2048;

	switch (turn % 3) {
	case 0:
		pause_us((uint64_t)rand_r(seed) % 300);
		break;
	case 1:
		while (!read_now(&box->is_wanted) && rte_rdtsc() < begin + rte_get_tsc_hz() / 1000)
			;
		arming_cycles = rte_rdtsc() - begin;
		spin_until(rte_rdtsc() + odd);
		break;
	case 2:
		spin_until(begin + arming_cycles + odd - RTE_MIN(arming_cycles, 1536u));
		break;
	}
}

/* Each frame alone: what is lost is not found when the next one comes. */
static void lose_nothing(enum port_mode mode, unsigned int idle_us)
{
	uint64_t end_us = clock_now_us() + 1200 * 1000;
	unsigned int seed = 20261120;
	struct box *box;

	start(1, mode, idle_us);
	box = box_add(0, PORT_MODE_ADAPTIVE);
	workers_update(workers, &topology);
	for (unsigned int turn = 0; clock_now_us() < end_us; turn++) {
		uint64_t begin_us = clock_now_us();

		offer(box, 1);
		while (read_now(&box->n_taken) != box->n_offered && clock_now_us() < begin_us + LONG_US)
			rte_pause();
		assert_int_equal(read_now(&box->n_taken), box->n_offered);
		pause_somehow(box, turn, &seed);
	}
	print_message("%lu frames, %lu sleeps, %lu kicks, %lu of them for nothing\n", (unsigned long)box->n_offered,
		(unsigned long)report_of(0).n_sleeps,
		(unsigned long)report_of(0).events.n_wakeups[EVENT_KICK],
		(unsigned long)report_of(0).events.n_spurious);
	assert_int_not_equal(report_of(0).n_sleeps, 0);
	assert_int_equal(report_of(0).events.n_penalties, 0);
}

static void no_frame_is_lost_with_a_window_of_a_microsecond(void **state)
{
	lose_nothing(PORT_MODE_ADAPTIVE, 1);
}

static void no_frame_is_lost_with_a_window_of_fifty_microseconds(void **state)
{
	lose_nothing(PORT_MODE_ADAPTIVE, 50);
}

static void no_frame_is_lost_in_mode_interrupt(void **state)
{
	lose_nothing(PORT_MODE_INTERRUPT, 50);
}

static void a_queue_without_a_descriptor_keeps_its_worker_polling_and_says_why(void **state)
{
	static const char why[] = "it has no bell";
	struct event_channel_report wake;
	struct box *box;

	start(1, PORT_MODE_ADAPTIVE, 50);
	box = box_add(0, PORT_MODE_ADAPTIVE);
	close(box->rx.wake.fd);
	box->rx.wake.fd = -1;
	box->rx.wake.missing = why;
	box_add(1, PORT_MODE_ADAPTIVE);
	workers_update(workers, &topology);
	assert_string_equal(reason_of(box, &wake), why);
	assert_null(reason_of(&boxes[1], &wake));
	assert_does_not_sleep(0);
	workers_set_mode(workers, 0, PORT_MODE_INTERRUPT);
	workers_update(workers, &topology);
	assert_does_not_sleep(0);
	offer(box, 1);
	assert_taken(box);
	/* Without it, it may sleep. */
	box->is_listed = false;
	workers_update(workers, &topology);
	assert_soon(is_asleep(0));
}

static void a_queue_whose_descriptor_cannot_be_waited_for_keeps_its_worker_polling(void **state)
{
	struct event_channel_report wake;
	FILE *file = tmpfile();
	struct box *box;

	start(1, PORT_MODE_ADAPTIVE, 50);
	box = box_add(0, PORT_MODE_ADAPTIVE);
	close(box->rx.wake.fd);
	box->rx.wake.fd = dup(fileno(file));
	workers_update(workers, &topology);
	assert_non_null(reason_of(box, &wake));
	assert_does_not_sleep(0);
	offer(box, 1);
	assert_taken(box);
	fclose(file);
}

static void a_port_of_mode_poll_keeps_its_worker_polling_and_says_why(void **state)
{
	struct event_channel_report wake;
	struct box *box;

	start(1, PORT_MODE_ADAPTIVE, 50);
	box = box_add(0, PORT_MODE_POLL);
	workers_update(workers, &topology);
	assert_non_null(reason_of(box, &wake));
	assert_does_not_sleep(0);
	box->base.mode = PORT_MODE_ADAPTIVE;
	workers_update(workers, &topology);
	assert_null(reason_of(box, &wake));
	assert_soon(is_asleep(0));
	/* The worker's own mode counts for all of its queues. */
	box->base.mode = PORT_MODE_POLL;
	workers_set_mode(workers, 0, PORT_MODE_INTERRUPT);
	workers_update(workers, &topology);
	assert_null(reason_of(box, &wake));
	assert_soon(is_asleep(0));
}

static void the_mode_of_a_worker_changes_while_it_runs(void **state)
{
	static const enum port_mode modes[] = { PORT_MODE_POLL, PORT_MODE_INTERRUPT, PORT_MODE_POLL,
		PORT_MODE_ADAPTIVE, PORT_MODE_POLL, PORT_MODE_ADAPTIVE, PORT_MODE_INTERRUPT };
	struct box *box;

	start(1, PORT_MODE_ADAPTIVE, 50);
	box = box_add(0, PORT_MODE_ADAPTIVE);
	workers_update(workers, &topology);
	assert_soon(is_asleep(0));
	for (unsigned int i = 0; i < RTE_DIM(modes); i++) {
		workers_set_mode(workers, 0, modes[i]);
		workers_update(workers, &topology);
		assert_int_equal(report_of(0).mode, modes[i]);
		if (modes[i] == PORT_MODE_POLL)
			assert_does_not_sleep(0);
		else
			assert_soon(is_asleep(0));
		offer(box, 1);
		assert_taken(box);
	}
}

/* Each would have to wait out a window of a tenth of a second. */
static void frames_of_a_port_of_mode_interrupt_do_not_keep_the_worker_awake(void **state)
{
	uint64_t begin_us;
	struct box *box;

	start(1, PORT_MODE_ADAPTIVE, 100 * 1000);
	box = box_add(0, PORT_MODE_INTERRUPT);
	workers_update(workers, &topology);
	assert_soon(is_asleep(0));
	begin_us = clock_now_us();
	for (unsigned int i = 0; i < 50; i++) {
		uint64_t n_sleeps = report_of(0).n_sleeps;

		offer(box, 1);
		assert_taken(box);
		assert_soon(report_of(0).n_sleeps > n_sleeps && is_asleep(0));
	}
	assert_true(clock_now_us() - begin_us < 50 * 50 * 1000);
}

static void what_moderation_holds_back_is_signalled_before_the_worker_sleeps(void **state)
{
	struct box *box;

	start(1, PORT_MODE_ADAPTIVE, 50);
	box = box_add(0, PORT_MODE_INTERRUPT);
	box->base.coalesce = (struct port_coalesce){ .frames = 1024, .us = 3600u * 1000 * 1000 };
	workers_update(workers, &topology);
	assert_soon(is_asleep(0));
	offer(box, 5);
	assert_taken(box);
	assert_soon(read_now(&box->n_notified) == 1);
}

static void an_update_of_a_sleeping_worker_returns_soon_and_the_queue_is_not_used_afterwards(void **state)
{
	uint64_t worst_us = 0;
	struct box *box;

	start(1, PORT_MODE_ADAPTIVE, 1);
	box = box_add(0, PORT_MODE_ADAPTIVE);
	for (unsigned int round = 0; round < 100; round++) {
		uint64_t begin_us, n_kicks;

		box->is_listed = true;
		workers_update(workers, &topology);
		offer(box, 1);
		assert_taken(box);
		assert_soon(is_asleep(0));
		box->is_listed = false;
		begin_us = clock_now_us();
		workers_update(workers, &topology);
		worst_us = RTE_MAX(worst_us, clock_now_us() - begin_us);
		assert_int_equal(box->rx.wake.channel, -1);
		__atomic_store_n(&box->forbidden, true, __ATOMIC_SEQ_CST);
		n_kicks = report_of(0).events.n_wakeups[EVENT_KICK];
		eventfd_write(box->peer_fd, 1);
		usleep(200);
		assert_int_equal(report_of(0).events.n_wakeups[EVENT_KICK], n_kicks);
		assert_false(__atomic_load_n(&box->violated, __ATOMIC_SEQ_CST));
		__atomic_store_n(&box->forbidden, false, __ATOMIC_SEQ_CST);
	}
	print_message("slowest of 100 updates: %lu us\n", (unsigned long)worst_us);
	assert_true(worst_us < LONG_US / 2);
}

static void sleeping_workers_can_be_destroyed(void **state)
{
	uint64_t begin_us;

	for (unsigned int round = 0; round < 10; round++) {
		start(2, PORT_MODE_ADAPTIVE, 1);
		box_add(0, PORT_MODE_ADAPTIVE);
		box_add(1, PORT_MODE_ADAPTIVE);
		workers_update(workers, &topology);
		assert_soon(is_asleep(0) && is_asleep(1));
		begin_us = clock_now_us();
		teardown(NULL);
		assert_true(clock_now_us() - begin_us < LONG_US / 2);
	}
}

static void news_of_waking_come_when_nobody_watches(void **state)
{
	struct worker_news news;
	struct box *box;

	start(2, PORT_MODE_ADAPTIVE, 50);
	box = box_add(0, PORT_MODE_ADAPTIVE);
	workers_update(workers, &topology);
	for (unsigned int round = 0; round < 20; round++) {
		struct pollfd waits = { .fd = workers_news_fd(workers), .events = POLLIN };
		uint64_t n;
		bool is_told = false;

		/* Not news of a waking from before it said so. */
		do {
			assert_soon(!workers_watch(workers));
		} while (eventfd_read(waits.fd, &n) == 0 && workers_next_news(workers, &news));
		offer(box, 1);
		assert_taken(box);
		assert_int_equal(poll(&waits, 1, LONG_US / 1000), 1);
		assert_int_equal(eventfd_read(waits.fd, &n), 0);
		while (workers_next_news(workers, &news)) {
			assert_int_equal(news.kind, WORKER_NEWS_AWAKE);
			assert_int_equal(news.worker, box->rx.worker);
			is_told = true;
		}
		assert_true(is_told);
	}
}

static void a_ping_says_whether_the_worker_slept_and_how_long_it_took(void **state)
{
	struct worker_ping ping;
	char error[256] = "";

	start(1, PORT_MODE_ADAPTIVE, 50);
	assert_soon(is_asleep(0));
	usleep(5000);
	assert_int_equal(workers_ping(workers, 0, &ping, error, sizeof(error)), 0);
	assert_true(ping.was_asleep);
	assert_in_range(ping.round_trip_ns, 1, (uint64_t)WORKERS_DEADLINE_US * 1000);
	workers_set_mode(workers, 0, PORT_MODE_POLL);
	workers_update(workers, &topology);
	assert_int_equal(workers_ping(workers, 0, &ping, error, sizeof(error)), 0);
	assert_false(ping.was_asleep);
	assert_in_range(ping.round_trip_ns, 1, (uint64_t)WORKERS_DEADLINE_US * 1000);
	assert_true(read_now(&report_of(0).request_ns->n) >= 3);
}

static void a_worker_that_hangs_is_named_and_answers_again_when_it_is_back(void **state)
{
	struct worker_ping ping;
	char error[256] = "";
	struct box *box;

	start(2, PORT_MODE_ADAPTIVE, 50);
	box = box_add(0, PORT_MODE_POLL);
	box->rx.worker = 0;
	workers_update(workers, &topology);
	__atomic_store_n(&box->stalls, true, __ATOMIC_RELEASE);
	/* It may have been past that place. */
	usleep(20000);
	assert_int_equal(workers_ping(workers, 0, &ping, error, sizeof(error)), -ETIMEDOUT);
	assert_non_null(strstr(error, "worker 0 "));
	/* The other one is well. */
	error[0] = '\0';
	assert_int_equal(workers_ping(workers, 1, &ping, error, sizeof(error)), 0);
	__atomic_store_n(&box->stalls, false, __ATOMIC_RELEASE);
	usleep(20000);
	assert_soon(workers_ping(workers, 0, &ping, error, sizeof(error)) == 0);
}

static uint64_t total_of(const struct worker_report *report)
{
	return report->busy_cycles + report->idle_cycles + report->sleep_cycles;
}

static void busy_idle_and_asleep_are_all_there_is(void **state)
{
	struct worker_report before, after;
	uint64_t begin, all, slack;
	struct box *box;

	start(1, PORT_MODE_ADAPTIVE, 200);
	box = box_add(0, PORT_MODE_ADAPTIVE);
	workers_update(workers, &topology);
	assert_soon(is_asleep(0));
	begin = rte_rdtsc();
	before = report_of(0);
	for (unsigned int i = 0; i < 100; i++) {
		offer(box, i % 7);
		pause_us(i % 10 * 500);
	}
	assert_taken(box);
	assert_soon(is_asleep(0));
	usleep(100000);
	offer(box, 1);
	assert_taken(box);
	assert_soon(is_asleep(0));
	after = report_of(0);
	all = rte_rdtsc() - begin;
	/* A round that goes on is not in yet, or was in before. */
	slack = all / 10 + rte_get_tsc_hz() / 100;
	assert_in_range(total_of(&after) - total_of(&before), all - slack, all + slack);
	assert_true(after.busy_cycles > before.busy_cycles);
	assert_true(after.idle_cycles > before.idle_cycles);
	/* A sleep counts when it is over, too. */
	assert_in_range(after.sleep_cycles - before.sleep_cycles, rte_get_tsc_hz() / 20, all + slack);
}

static void a_peer_that_wakes_for_nothing_is_shut_out_and_others_frames_pass(void **state)
{
	struct event_channel_report wake;
	struct worker_news news;
	struct box *bad, *good;
	bool is_told = false;

	start(1, PORT_MODE_INTERRUPT, 50);
	bad = box_add(0, PORT_MODE_ADAPTIVE);
	good = box_add(1, PORT_MODE_ADAPTIVE);
	workers_update(workers, &topology);
	for (unsigned int i = 0; i < 1000 * EVENT_SPURIOUS_MAX; i++) {
		eventfd_write(bad->peer_fd, 1);
		usleep(20);
		reason_of(bad, &wake);
		if (wake.n_penalties >= 5)
			break;
	}
	assert_true(wake.n_penalties >= 5);
	assert_true(wake.n_spurious >= EVENT_SPURIOUS_MAX);
	for (unsigned int i = 0; i < 50; i++) {
		eventfd_write(bad->peer_fd, 1);
		offer(good, 1);
		assert_taken(good);
	}
	reason_of(good, &wake);
	assert_int_equal(wake.n_penalties, 0);
	while (workers_next_news(workers, &news)) {
		assert_int_equal(news.kind, WORKER_NEWS_SHUT_OUT);
		assert_int_equal(news.port, 0);
		assert_int_equal(news.queue, 0);
		is_told = true;
	}
	assert_true(is_told);
	/* Nor is what it has to say in the end lost. */
	offer(bad, 1);
	assert_taken(bad);
}

/*
 * One port's frame wakes the worker, the other's answer comes while it is awake. Its kick is there as well, and finds nothing
 * left: that is the worker's doing and not the peer's.
 */
static void a_port_whose_frames_are_found_by_looking_is_not_shut_out(void **state)
{
	struct event_channel_report wake;
	struct box *asks, *answers;

	start(1, PORT_MODE_ADAPTIVE, 300);
	asks = box_add(0, PORT_MODE_ADAPTIVE);
	answers = box_add(1, PORT_MODE_ADAPTIVE);
	asks->answers = answers;
	workers_update(workers, &topology);
	for (unsigned int i = 0; i < 3 * EVENT_SPURIOUS_MAX; i++) {
		assert_soon(is_asleep(0));
		usleep(100);
		offer(asks, 1);
		assert_taken(asks);
		assert_taken(answers);
	}
	reason_of(answers, &wake);
	assert_int_equal(wake.n_penalties, 0);
	reason_of(asks, &wake);
	assert_int_equal(wake.n_penalties, 0);
}

static unsigned int n_allocated(void)
{
	struct rte_malloc_socket_stats stats;

	assert_int_equal(rte_malloc_get_socket_stats((int)rte_socket_id(), &stats), 0);
	return stats.alloc_count;
}

static void replaced_plans_are_freed_however_many(void **state)
{
	unsigned int before;

	start(2, PORT_MODE_ADAPTIVE, 50);
	box_add(0, PORT_MODE_ADAPTIVE);
	box_add(1, PORT_MODE_ADAPTIVE);
	workers_update(workers, &topology);
	before = n_allocated();
	for (unsigned int i = 0; i < 3 * RETIRED_MAX; i++) {
		workers_publish(workers, &topology);
		assert_true(workers->n_retired <= RETIRED_MAX);
		if (i % 64 == 0)
			assert_soon(is_asleep(0) && is_asleep(1));
	}
	workers_update(workers, &topology);
	assert_int_equal(workers->n_retired, 0);
	assert_int_equal(n_allocated(), before);
}

/* None of the plans can be freed while their worker is in the middle of a round. */
static void replaced_plans_are_kept_for_a_worker_that_hangs(void **state)
{
	struct box *box;

	start(1, PORT_MODE_ADAPTIVE, 50);
	box = box_add(0, PORT_MODE_POLL);
	workers_update(workers, &topology);
	__atomic_store_n(&box->stalls, true, __ATOMIC_RELEASE);
	usleep(20000);
	for (unsigned int i = 0; i < RETIRED_MAX; i++)
		workers_publish(workers, &topology);
	assert_int_equal(workers->n_retired, RETIRED_MAX);
	__atomic_store_n(&box->stalls, false, __ATOMIC_RELEASE);
	workers_publish(workers, &topology);
	assert_in_range(workers->n_retired, 0, 1);
}

#define sleep_test(function) cmocka_unit_test_teardown(function, teardown)

int main(void)
{
	static char text[][20] = { "test", "--no-huge", "--no-pci", "-m", "128", "--no-shconf",
		"--no-telemetry", "--log-level=error", "--lcores", "0@0,1@0,2@0" };
	char *args[RTE_DIM(text)];
	const struct CMUnitTest tests[] = {
		sleep_test(a_worker_without_queues_sleeps_and_uses_no_time),
		sleep_test(a_worker_with_idle_queues_sleeps_and_uses_no_time),
		sleep_test(a_kick_wakes_the_worker_and_the_frame_is_handled),
		sleep_test(a_frame_that_came_before_arming_is_found_though_nobody_kicks),
		sleep_test(a_bad_frame_that_came_before_arming_does_not_make_the_queue_deaf),
		sleep_test(no_frame_is_lost_with_a_window_of_a_microsecond),
		sleep_test(no_frame_is_lost_with_a_window_of_fifty_microseconds),
		sleep_test(no_frame_is_lost_in_mode_interrupt),
		sleep_test(a_queue_without_a_descriptor_keeps_its_worker_polling_and_says_why),
		sleep_test(a_queue_whose_descriptor_cannot_be_waited_for_keeps_its_worker_polling),
		sleep_test(a_port_of_mode_poll_keeps_its_worker_polling_and_says_why),
		sleep_test(the_mode_of_a_worker_changes_while_it_runs),
		sleep_test(frames_of_a_port_of_mode_interrupt_do_not_keep_the_worker_awake),
		sleep_test(what_moderation_holds_back_is_signalled_before_the_worker_sleeps),
		sleep_test(an_update_of_a_sleeping_worker_returns_soon_and_the_queue_is_not_used_afterwards),
		sleep_test(sleeping_workers_can_be_destroyed),
		sleep_test(news_of_waking_come_when_nobody_watches),
		sleep_test(a_ping_says_whether_the_worker_slept_and_how_long_it_took),
		sleep_test(a_worker_that_hangs_is_named_and_answers_again_when_it_is_back),
		sleep_test(busy_idle_and_asleep_are_all_there_is),
		sleep_test(a_peer_that_wakes_for_nothing_is_shut_out_and_others_frames_pass),
		sleep_test(a_port_whose_frames_are_found_by_looking_is_not_shut_out),
		sleep_test(replaced_plans_are_freed_however_many),
		sleep_test(replaced_plans_are_kept_for_a_worker_that_hangs),
	};

	if (sysconf(_SC_NPROCESSORS_ONLN) > 1)
		strcpy(text[9], "0@0,1@1,2@1");
	for (size_t i = 0; i < RTE_DIM(text); i++)
		args[i] = text[i];
	if (rte_eal_init(RTE_DIM(args), args) < 0) {
		fprintf(stderr, "EAL does not start; see its message above\n");
		return 1;
	}
	pool = dpdk_pool("sleep_test", 255, 2048);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
