/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Workers on real lcores, with ports that make frames and notice when they are used at a wrong time. EAL's lcores may
 * share CPUs with each other and with this thread.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <rte_eal.h>
#include <rte_lcore.h>
#include <rte_malloc.h>

#include <base/clock.h>
#include <worker/worker.h>

#include "../port/dpdk_fixture.h"

#define N_WORKERS 2
#define WAIT_US   (60 * 1000 * 1000) /* only a hang takes so long, however busy the machine */

/* A port with queues that give one frame per call and take what they are given. */
struct source {
	struct port base;
	unsigned int n_rx, n_tx;
	struct rx_queue rx[4];
	struct tx_queue tx[4];
	uint64_t n_received[4]; /* calls, per queue */
	uint64_t n_sent[4];
	uint64_t n_sent_shared; /* of those, as by one worker of several */
	bool forbidden; /* no worker may use the queues */
	bool violated;
};

static struct workers *workers;
static struct topology topology;
static struct source sources[3];
static struct rte_mempool *pool;

static struct source *source_of(const struct port *port)
{
	return (struct source *)(uintptr_t)port;
}

static void note_use(struct source *source)
{
	if (__atomic_load_n(&source->forbidden, __ATOMIC_SEQ_CST))
		__atomic_store_n(&source->violated, true, __ATOMIC_SEQ_CST);
}

static unsigned int source_receive(struct rx_queue *queue, struct port_counters *counters,
	struct frame_batch *batch, unsigned int max)
{
	struct source *source = source_of(queue->port);
	uint8_t *head = batch->rooms[0].head;

	note_use(source);
	memset(head, 0, 64);
	head[0] = head[6] = 2;
	head[5] = (uint8_t)(queue->port->id + 1); /* to the next port */
	head[11] = (uint8_t)queue->port->id;
	batch->frames[0] = (struct frame){ .head = head, .len = 64, .head_len = 64 };
	__atomic_fetch_add(&source->n_received[queue->index], 1, __ATOMIC_RELAXED);
	return 1;
}

static void source_release(struct rx_queue *queue, struct port_counters *counters,
	struct frame_batch *batch, unsigned int n)
{
	note_use(source_of(queue->port));
}

static void source_notify_rx(struct rx_queue *queue)
{
	note_use(source_of(queue->port));
}

static unsigned int source_send(struct tx_queue *queue, struct port_counters *counters,
	struct frame *const *frames, unsigned int n)
{
	struct source *source = source_of(queue->port);

	note_use(source);
	__atomic_fetch_add(&source->n_sent[queue->index], n, __ATOMIC_RELAXED);
	return n;
}

static unsigned int source_send_shared(struct tx_queue *queue, struct port_counters *counters,
	struct frame *const *frames, unsigned int n)
{
	__atomic_fetch_add(&source_of(queue->port)->n_sent_shared, n, __ATOMIC_RELAXED);
	return source_send(queue, counters, frames, n);
}

static void source_notify_tx(struct tx_queue *queue)
{
	note_use(source_of(queue->port));
}

static unsigned int source_list_rx(struct port *port, struct rx_queue **queues)
{
	struct source *source = source_of(port);

	for (unsigned int i = 0; i < source->n_rx; i++)
		queues[i] = &source->rx[i];
	return source->n_rx;
}

static unsigned int source_list_tx(struct port *port, struct tx_queue **queues)
{
	struct source *source = source_of(port);

	for (unsigned int i = 0; i < source->n_tx; i++)
		queues[i] = &source->tx[i];
	return source->n_tx;
}

static const struct port_ops source_ops = {
	.kind = "source",
	.list_rx = source_list_rx,
	.list_tx = source_list_tx,
};

static void source_init(uint16_t id, unsigned int n_rx, unsigned int n_tx)
{
	struct source *source = &sources[id];

	memset(source, 0, sizeof(*source));
	assert_int_equal(port_init(&source->base, &source_ops, NULL, "source", id), 0);
	source->n_rx = n_rx;
	source->n_tx = n_tx;
	for (uint16_t i = 0; i < 4; i++) {
		source->rx[i] = (struct rx_queue){ .port = &source->base,
			.index = i,
			.numa_node = -1,
			.worker = -1,
			.receive = source_receive,
			.release = source_release,
			.notify = source_notify_rx,
			.wake = { .fd = -1, .missing = "it always has frames", .channel = -1 } };
		source->tx[i] = (struct tx_queue){ .port = &source->base,
			.index = i,
			.send = source_send,
			.notify = source_notify_tx,
			.send_shared = source_send_shared,
			.notify_shared = source_notify_tx };
	}
	topology.ports[id] = &source->base;
}

static struct rte_mempool *pool_of_node(int numa_node)
{
	return pool;
}

static int setup(void **state)
{
	struct workers_config config = {
		.n_workers = N_WORKERS,
		.lcore_ids = { 1, 2 },
		.pool_of_node = pool_of_node,
	};
	char error[256] = "";

	memset(&topology, 0, sizeof(topology));
	workers = workers_create(&config, error, sizeof(error));
	if (workers == NULL)
		print_error("%s\n", error);
	return workers == NULL;
}

static int teardown(void **state)
{
	workers_destroy(workers);
	for (unsigned int i = 0; i < RTE_DIM(sources); i++) {
		if (sources[i].base.counters != NULL)
			port_fini(&sources[i].base);
	}
	memset(sources, 0, sizeof(sources));
	return 0;
}

static void cross(uint16_t a, uint16_t b)
{
	topology.crosses[topology.n_crosses++] = (struct cross_connect){ .ports = { a, b } };
}

static uint64_t read_count(const uint64_t *count)
{
	return __atomic_load_n(count, __ATOMIC_RELAXED);
}

static bool grows(const uint64_t *count)
{
	uint64_t before = read_count(count);
	uint64_t begin_us = clock_now_us();

	while (clock_now_us() - begin_us < WAIT_US) {
		if (read_count(count) != before)
			return true;
		usleep(100);
	}
	return false;
}

static void frames_of_a_cross_connect_reach_the_other_port(void **state)
{
	source_init(0, 1, 1);
	source_init(1, 0, 1);
	cross(0, 1);
	workers_update(workers, &topology);
	assert_true(grows(&sources[1].n_sent[0]));
	assert_int_equal(read_count(&sources[0].n_sent[0]), 0);
}

static void a_port_connected_to_nothing_drops_and_counts(void **state)
{
	source_init(0, 1, 1);
	workers_update(workers, &topology);
	assert_true(grows(&sources[0].n_received[0]));
	workers_destroy(workers);
	workers = NULL;
	assert_true(sources[0].base.counters[0].drops[DROP_NO_DESTINATION] +
			    sources[0].base.counters[1].drops[DROP_NO_DESTINATION] >
		    0);
}

static void queues_are_spread_over_the_workers_and_stay(void **state)
{
	struct worker_report report;

	source_init(0, 4, 1);
	workers_update(workers, &topology);
	for (unsigned int w = 0; w < N_WORKERS; w++) {
		workers_report(workers, w, &report);
		assert_int_equal(report.n_queues, 2);
	}
	for (unsigned int i = 0; i < 4; i++)
		assert_true(grows(&sources[0].n_received[i]));

	int first[4];

	for (unsigned int i = 0; i < 4; i++)
		first[i] = sources[0].rx[i].worker;
	source_init(1, 3, 1);
	workers_update(workers, &topology);
	for (unsigned int i = 0; i < 4; i++)
		assert_int_equal(sources[0].rx[i].worker, first[i]);
}

static void workers_with_queues_enough_do_not_share_one(void **state)
{
	source_init(0, 2, 1);
	source_init(1, 0, 2);
	cross(0, 1);
	workers_update(workers, &topology);
	assert_true(grows(&sources[1].n_sent[0]));
	assert_true(grows(&sources[1].n_sent[1]));
	assert_int_equal(read_count(&sources[1].n_sent_shared), 0);
}

static void workers_without_queues_enough_know_that_they_share(void **state)
{
	source_init(0, 2, 1);
	source_init(1, 0, 1);
	cross(0, 1);
	workers_update(workers, &topology);
	for (unsigned int i = 0; i < 2; i++)
		assert_true(grows(&sources[0].n_received[i]));
	assert_true(grows(&sources[1].n_sent_shared));
	workers_destroy(workers);
	workers = NULL;
	assert_int_equal(sources[1].n_sent_shared, sources[1].n_sent[0]);
}

/* The promise GET_VRING_BASE, memory tables and closed descriptors stand on. */
static void no_worker_uses_a_queue_after_the_update_that_took_it_away(void **state)
{
	source_init(0, 2, 1);
	source_init(1, 2, 1);
	cross(0, 1);
	for (unsigned int round = 0; round < 200; round++) {
		struct source *source = &sources[round % 2];

		source->n_rx = 2;
		source->n_tx = 1;
		__atomic_store_n(&source->forbidden, false, __ATOMIC_SEQ_CST);
		workers_update(workers, &topology);
		if (round % 10 == 0)
			assert_true(grows(&source->n_received[round % 2]));
		source->n_rx = source->n_tx = 0;
		workers_update(workers, &topology);
		__atomic_store_n(&source->forbidden, true, __ATOMIC_SEQ_CST);
		usleep(50);
		assert_false(__atomic_load_n(&source->violated, __ATOMIC_SEQ_CST));
	}
}

static void an_update_returns_soon_while_workers_are_busy(void **state)
{
	uint64_t worst_us = 0;

	source_init(0, 4, 1);
	source_init(1, 4, 1);
	cross(0, 1);
	for (unsigned int round = 0; round < 100; round++) {
		uint64_t begin_us = clock_now_us();

		workers_update(workers, &topology);
		worst_us = RTE_MAX(worst_us, clock_now_us() - begin_us);
	}
	print_message("slowest of 100 updates: %lu us\n", (unsigned long)worst_us);
	/* Microseconds with a CPU each; the bound is for machines where many threads share one. */
	assert_true(worst_us < WAIT_US);
}

#define worker_test(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
	static char text[][20] = { "test", "--no-huge", "--no-pci", "-m", "128", "--no-shconf",
		"--no-telemetry", "--log-level=error", "--lcores", "0@0,1@0,2@0" };
	char *args[RTE_DIM(text)];
	const struct CMUnitTest tests[] = {
		worker_test(frames_of_a_cross_connect_reach_the_other_port),
		worker_test(a_port_connected_to_nothing_drops_and_counts),
		worker_test(queues_are_spread_over_the_workers_and_stay),
		worker_test(workers_with_queues_enough_do_not_share_one),
		worker_test(workers_without_queues_enough_know_that_they_share),
		worker_test(no_worker_uses_a_queue_after_the_update_that_took_it_away),
		worker_test(an_update_returns_soon_while_workers_are_busy),
	};

	/* One lcore may float over several CPUs; one CPU may carry several lcores. */
	if (sysconf(_SC_NPROCESSORS_ONLN) > 1)
		strcpy(text[9], "0@0,1@1,2@(0,1)");
	for (size_t i = 0; i < RTE_DIM(text); i++)
		args[i] = text[i];
	if (rte_eal_init(RTE_DIM(args), args) < 0) {
		fprintf(stderr, "EAL does not start; see its message above\n");
		return 1;
	}
	pool = dpdk_pool("worker_test", 255, 2048);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
