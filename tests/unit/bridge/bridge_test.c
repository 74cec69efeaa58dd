/* SPDX-License-Identifier: BSD-3-Clause */
/* Forwarding decisions, with ports that only write down what they are given. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <rte_malloc.h>

#include <bridge/forward.h>

#include "../port/dpdk_fixture.h"

#define N_PORTS  4
#define N_QUEUES 2

/* A queue that keeps copies of the frames it is sent. */
struct sink {
	struct tx_queue base;
	unsigned int room; /* frames it takes before it is full */
	unsigned int n;
	unsigned int n_notified;
	uint8_t bytes[2 * FRAME_BURST][256];
	uint32_t lens[2 * FRAME_BURST];
};

static struct port ports[N_PORTS];
static struct sink sinks[N_PORTS][N_QUEUES];
static struct fdb *fdb;
static struct bridge_view bridge;
static struct forwarder *forwarder;

static struct frame frames[FRAME_BURST];
static struct frame_room rooms[FRAME_BURST];

static unsigned int sink_send(struct tx_queue *base, struct port_counters *counters,
	struct frame *const *list, unsigned int n)
{
	struct sink *sink = (struct sink *)base;
	unsigned int i;

	for (i = 0; i < n && sink->n < sink->room; i++, sink->n++) {
		sink->lens[sink->n] = list[i]->len;
		frame_copy_out(list[i], sink->bytes[sink->n]);
		counters->tx_packets++;
	}
	return i;
}

static void sink_notify(struct tx_queue *base)
{
	((struct sink *)base)->n_notified++;
}

/* Every port gets `n_queues` queues, all in the bridge. */
static void build(unsigned int n_queues)
{
	static const struct port_ops ops = { .kind = "sink" };
	unsigned int n_lanes = N_PORTS * n_queues;
	char error[256];

	memset(sinks, 0, sizeof(sinks));
	memset(&bridge, 0, sizeof(bridge));
	fdb = fdb_create("bridge", 64, 300, -1, error, sizeof(error));
	assert_non_null(fdb);
	bridge.fdb = fdb;
	bridge.state = fdb_state(fdb);
	bridge.cache = fdb_cache_create(fdb, -1);
	assert_non_null(bridge.cache);
	forwarder = calloc(1, sizeof(*forwarder) + n_lanes * sizeof(struct lane));
	forwarder->active = calloc(n_lanes, sizeof(uint16_t));
	forwarder->dirty = calloc(n_lanes, sizeof(uint16_t));
	forwarder->n_lanes = n_lanes;
	for (uint16_t p = 0; p < N_PORTS; p++) {
		struct forward_port *port = &forwarder->ports[p];

		memset(&ports[p], 0, sizeof(ports[p]));
		assert_int_equal(port_init(&ports[p], &ops, NULL, "port", p), 0);
		port->port = &ports[p];
		port->counters = &ports[p].counters[0];
		port->first_lane = (uint16_t)(p * n_queues);
		port->n_lanes = (uint16_t)n_queues;
		bridge.members[bridge.n_members++] = p;
		for (unsigned int q = 0; q < n_queues; q++) {
			struct lane *lane = &forwarder->lanes[port->first_lane + q];

			sinks[p][q].room = 2 * FRAME_BURST;
			sinks[p][q].base.send = sink_send;
			sinks[p][q].base.notify = sink_notify;
			sinks[p][q].base.full_reason = DROP_GUEST_NO_BUFFERS;
			lane->queue = &sinks[p][q].base;
			lane->counters = port->counters;
		}
	}
}

static int setup(void **state)
{
	build(1);
	return 0;
}

static int setup_two_queues(void **state)
{
	build(N_QUEUES);
	return 0;
}

static int teardown(void **state)
{
	rte_free(bridge.cache);
	fdb_destroy(fdb);
	for (unsigned int p = 0; p < N_PORTS; p++)
		port_fini(&ports[p]);
	free(forwarder->active);
	free(forwarder->dirty);
	free(forwarder);
	return 0;
}

/* Station s has address 02:00:00:00:00:s. vid < 0: untagged. */
static struct frame *make(unsigned int i, uint8_t to, uint8_t from, int vid)
{
	struct frame *frame = &frames[i];
	uint8_t *head = rooms[i].head;

	memset(frame, 0, sizeof(*frame));
	memset(head, 0x55, FRAME_HEAD_MAX);
	memcpy(head, "\x02\0\0\0\0\0\x02\0\0\0\0\0\x88\xb5", 14);
	if (to == 0xff)
		memset(head, 0xff, 6);
	else
		head[5] = to;
	head[11] = from;
	if (vid >= 0) {
		head[12] = 0x81;
		head[13] = 0;
		head[14] = (uint8_t)(vid >> 8);
		head[15] = (uint8_t)vid;
		head[16] = 0x88;
		head[17] = 0xb5;
		frame->tagged = true;
	}
	frame->head = head;
	frame->len = 64;
	frame->head_len = 64;
	return frame;
}

static void forward_burst(uint16_t from_port, unsigned int n, bool is_one_flow)
{
	/* Tests change ports as they like. */
	for (unsigned int p = 0; p < N_PORTS; p++)
		forward_port_update(forwarder, &forwarder->ports[p]);
	bridge_forward(forwarder, &bridge, &forwarder->ports[from_port], frames, n, is_one_flow);
}

static void forward(uint16_t from_port, unsigned int n)
{
	forward_burst(from_port, n, false);
}

static void station_appears(uint8_t station, uint16_t port, int vid)
{
	make(0, 0xff, station, vid);
	forward(port, 1);
	for (unsigned int p = 0; p < N_PORTS; p++)
		sinks[p][0].n = sinks[p][1].n = 0;
}

static uint64_t dropped(uint16_t port, enum drop_reason reason)
{
	return ports[port].counters[0].drops[reason];
}

static void an_unknown_destination_is_flooded_to_all_but_the_sender(void **state)
{
	make(0, 2, 1, -1);
	forward(0, 1);
	assert_int_equal(sinks[0][0].n, 0);
	for (unsigned int p = 1; p < N_PORTS; p++)
		assert_int_equal(sinks[p][0].n, 1);
}

static void a_known_destination_gets_it_alone(void **state)
{
	station_appears(2, 3, -1);
	make(0, 2, 1, -1);
	forward(0, 1);
	assert_int_equal(sinks[3][0].n, 1);
	assert_int_equal(sinks[1][0].n + sinks[2][0].n, 0);
	assert_memory_equal(sinks[3][0].bytes[0], rooms[0].head, 64);
}

static void a_burst_keeps_its_order_per_destination(void **state)
{
	station_appears(2, 2, -1);
	station_appears(3, 3, -1);
	for (unsigned int i = 0; i < FRAME_BURST; i++)
		make(i, i % 3 == 0 ? 3 : 2, 1, -1)->head[20] = (uint8_t)i;
	forward(0, FRAME_BURST);
	assert_int_equal(sinks[2][0].n + sinks[3][0].n, FRAME_BURST);
	for (unsigned int p = 2; p <= 3; p++) {
		for (unsigned int i = 1; i < sinks[p][0].n; i++)
			assert_true(sinks[p][0].bytes[i][20] > sinks[p][0].bytes[i - 1][20]);
	}
}

static void a_burst_of_one_flow_is_treated_as_its_first_frame(void **state)
{
	/* Unknown, then known, then to where it came from; each of them in order. */
	for (unsigned int i = 0; i < FRAME_BURST; i++)
		make(i, 2, 1, -1)->head[20] = (uint8_t)i;
	forward_burst(0, FRAME_BURST, true);
	for (unsigned int p = 1; p < N_PORTS; p++) {
		assert_int_equal(sinks[p][0].n, FRAME_BURST);
		for (unsigned int i = 0; i < FRAME_BURST; i++)
			assert_int_equal(sinks[p][0].bytes[i][20], i);
		sinks[p][0].n = 0;
	}
	station_appears(2, 2, -1);
	for (unsigned int i = 0; i < FRAME_BURST; i++)
		make(i, 2, 1, -1)->head[20] = (uint8_t)i;
	forward_burst(0, FRAME_BURST, true);
	assert_int_equal(sinks[2][0].n, FRAME_BURST);
	for (unsigned int i = 0; i < FRAME_BURST; i++)
		assert_int_equal(sinks[2][0].bytes[i][20], i);
	assert_int_equal(sinks[1][0].n + sinks[3][0].n, 0);
	forward_burst(2, FRAME_BURST, true);
	assert_int_equal(dropped(2, DROP_NO_DESTINATION), FRAME_BURST);
}

static void every_frame_of_a_run_is_treated_as_the_first(void **state)
{
	/* Unknown: flooded, each of them. */
	for (unsigned int i = 0; i < 4; i++)
		make(i, 2, 1, -1);
	forward(0, 4);
	for (unsigned int p = 1; p < N_PORTS; p++)
		assert_int_equal(sinks[p][0].n, 4);
	station_appears(2, 2, -1);
	/* Known: a run, a frame with a tag in it, another destination, the run again. */
	for (unsigned int i = 0; i < 8; i++)
		make(i, i == 5 ? 0xff : 2, i == 6 ? 9 : 1, i == 3 ? 7 : -1);
	forward(0, 8);
	assert_int_equal(sinks[2][0].n, 8);
	assert_int_equal(sinks[1][0].n, 2);
	assert_int_equal(sinks[3][0].n, 2);
	/* The source in the middle of the run was learned. */
	make(0, 9, 2, -1);
	forward(2, 1);
	assert_int_equal(sinks[0][0].n, 1);
}

static void a_frame_for_its_own_port_is_dropped_and_counted(void **state)
{
	station_appears(2, 0, -1);
	make(0, 2, 1, -1);
	forward(0, 1);
	assert_int_equal(dropped(0, DROP_NO_DESTINATION), 1);
	for (unsigned int p = 0; p < N_PORTS; p++)
		assert_int_equal(sinks[p][0].n, 0);
}

static void a_group_address_is_never_learned(void **state)
{
	make(0, 0xff, 1, -1)->head[6] = 0x01;
	forward(0, 1);
	assert_int_equal(fdb_count(fdb), 0);
}

static void frames_without_room_are_dropped_and_counted_at_the_receiver(void **state)
{
	station_appears(2, 2, -1);
	sinks[2][0].room = 5;
	for (unsigned int i = 0; i < 8; i++)
		make(i, 2, 1, -1);
	forward(0, 8);
	assert_int_equal(sinks[2][0].n, 5);
	assert_int_equal(dropped(2, DROP_GUEST_NO_BUFFERS), 3);
}

static void a_port_without_queues_drops_known_frames_as_port_down(void **state)
{
	station_appears(2, 2, -1);
	forwarder->ports[2].n_lanes = 0;
	make(0, 2, 1, -1);
	forward(0, 1);
	assert_int_equal(dropped(2, DROP_PORT_DOWN), 1);
}

static void access_ports_of_different_vlans_do_not_meet(void **state)
{
	ports[0].vlan = (struct port_vlan){ .kind = PORT_VLAN_ACCESS, .access = 10 };
	ports[1].vlan = (struct port_vlan){ .kind = PORT_VLAN_ACCESS, .access = 20 };
	ports[2].vlan = (struct port_vlan){ .kind = PORT_VLAN_ACCESS, .access = 10 };
	make(0, 0xff, 1, -1);
	forward(0, 1);
	assert_int_equal(sinks[1][0].n, 0);
	assert_int_equal(sinks[2][0].n, 1);
	assert_int_equal(sinks[2][0].lens[0], 64);
}

static void an_access_port_refuses_tagged_frames(void **state)
{
	ports[0].vlan = (struct port_vlan){ .kind = PORT_VLAN_ACCESS, .access = 10 };
	make(0, 0xff, 1, 10);
	forward(0, 1);
	assert_int_equal(dropped(0, DROP_VLAN_REFUSED), 1);
	for (unsigned int p = 1; p < N_PORTS; p++)
		assert_int_equal(sinks[p][0].n, 0);
}

static void a_frame_gets_its_tag_towards_a_trunk_and_loses_it_towards_an_access_port(void **state)
{
	ports[0].vlan = (struct port_vlan){ .kind = PORT_VLAN_ACCESS, .access = 10 };
	ports[1].vlan = (struct port_vlan){ .kind = PORT_VLAN_TRUNK };
	ports[1].vlan.allowed[0] = 1 << 10;
	make(0, 0xff, 1, -1);
	forward(0, 1);
	assert_int_equal(sinks[1][0].lens[0], 68);
	assert_memory_equal(sinks[1][0].bytes[0] + 12, "\x81\x00\x00\x0a\x88\xb5", 6);
	/* A port without a VLAN of its own carries all of them, tagged. */
	assert_int_equal(sinks[2][0].lens[0], 68);

	make(0, 1, 2, 10);
	forward(1, 1);
	assert_int_equal(sinks[0][0].n, 1);
	assert_int_equal(sinks[0][0].lens[0], 60);
	assert_memory_equal(sinks[0][0].bytes[0] + 12, "\x88\xb5", 2);
}

static void a_trunk_refuses_vlans_it_does_not_carry_and_untagged_frames(void **state)
{
	ports[0].vlan = (struct port_vlan){ .kind = PORT_VLAN_TRUNK };
	ports[0].vlan.allowed[0] = 1 << 10;
	make(0, 0xff, 1, 11);
	make(1, 0xff, 1, -1);
	forward(0, 2);
	assert_int_equal(dropped(0, DROP_VLAN_REFUSED), 2);
}

static void the_native_vlan_of_a_trunk_goes_untagged(void **state)
{
	ports[0].vlan = (struct port_vlan){ .kind = PORT_VLAN_TRUNK, .native = 5 };
	ports[0].vlan.allowed[0] = 1 << 5;
	ports[1].vlan = (struct port_vlan){ .kind = PORT_VLAN_ACCESS, .access = 5 };
	make(0, 0xff, 1, -1);
	forward(0, 1);
	assert_int_equal(sinks[1][0].n, 1);
	make(0, 0xff, 2, -1);
	forward(1, 1);
	assert_int_equal(sinks[0][0].n, 1);
	assert_int_equal(sinks[0][0].lens[0], 64);
}

static void flooding_in_both_forms_leaves_each_receiver_its_own(void **state)
{
	ports[1].vlan = (struct port_vlan){ .kind = PORT_VLAN_ACCESS, .access = 10 };
	make(0, 0xff, 1, 10);
	make(1, 0xff, 1, 10)->head[30] = 0x77;
	forward(0, 2);
	assert_int_equal(sinks[1][0].n, 2);
	assert_int_equal(sinks[1][0].lens[1], 60);
	assert_int_equal(sinks[1][0].bytes[1][26], 0x77);
	assert_int_equal(sinks[2][0].lens[1], 64);
	assert_int_equal(sinks[2][0].bytes[1][30], 0x77);
}

static void one_flow_stays_in_one_queue(void **state)
{
	station_appears(2, 2, -1);
	for (unsigned int i = 0; i < FRAME_BURST; i++)
		make(i, 2, 1, -1);
	forward(0, FRAME_BURST);
	assert_true(sinks[2][0].n == FRAME_BURST || sinks[2][1].n == FRAME_BURST);
}

static void receivers_are_notified_once_however_often_they_were_sent_to(void **state)
{
	station_appears(2, 2, -1);
	forward_notify(forwarder, 0, true);
	sinks[2][0].n_notified = 0;
	make(0, 2, 1, -1);
	forward(0, 1);
	forward(1, 1);
	assert_int_equal(sinks[2][0].n_notified, 0);
	forward_notify(forwarder, 0, true);
	assert_int_equal(sinks[2][0].n_notified, 1);
	forward_notify(forwarder, 0, true);
	assert_int_equal(sinks[2][0].n_notified, 1);
}

static void a_lossless_cross_connect_leaves_what_finds_no_room(void **state)
{
	uint16_t n_segments = 0;

	sinks[1][0].room = 3;
	for (unsigned int i = 0; i < 8; i++)
		make(i, 2, 1, -1);
	assert_int_equal(
		cross_forward(forwarder, &forwarder->ports[1], 0, frames, 8, 0, &n_segments), 3);
	assert_int_equal(dropped(1, DROP_GUEST_NO_BUFFERS), 0);
	assert_int_equal(
		cross_forward(forwarder, &forwarder->ports[1], 0, &frames[3], 5, 0, &n_segments), 0);
	sinks[1][0].room = 8;
	assert_int_equal(
		cross_forward(forwarder, &forwarder->ports[1], 0, &frames[3], 5, 0, &n_segments), 5);
}

static void a_cross_connect_that_may_lose_drops_and_counts(void **state)
{
	sinks[1][0].room = 3;
	for (unsigned int i = 0; i < 8; i++)
		make(i, 2, 1, -1);
	assert_int_equal(
		cross_forward(forwarder, &forwarder->ports[1], 0, frames, 8, 0, NULL), 8);
	assert_int_equal(dropped(1, DROP_GUEST_NO_BUFFERS), 5);
	forwarder->ports[1].n_lanes = 0;
	assert_int_equal(
		cross_forward(forwarder, &forwarder->ports[1], 0, frames, 8, 0, NULL), 8);
	assert_int_equal(dropped(1, DROP_PORT_DOWN), 8);
}

static void a_cross_connect_keeps_queues_apart(void **state)
{
	make(0, 2, 1, -1);
	cross_forward(forwarder, &forwarder->ports[1], 1, frames, 1, 0, NULL);
	assert_int_equal(sinks[1][1].n, 1);
	cross_forward(forwarder, &forwarder->ports[1], 2, frames, 1, 0, NULL);
	assert_int_equal(sinks[1][0].n, 1);
}

#define one_queue(function)  cmocka_unit_test_setup_teardown(function, setup, teardown)
#define two_queues(function) cmocka_unit_test_setup_teardown(function, setup_two_queues, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		one_queue(an_unknown_destination_is_flooded_to_all_but_the_sender),
		one_queue(a_known_destination_gets_it_alone),
		one_queue(a_burst_keeps_its_order_per_destination),
		one_queue(a_burst_of_one_flow_is_treated_as_its_first_frame),
		one_queue(every_frame_of_a_run_is_treated_as_the_first),
		one_queue(a_frame_for_its_own_port_is_dropped_and_counted),
		one_queue(a_group_address_is_never_learned),
		one_queue(frames_without_room_are_dropped_and_counted_at_the_receiver),
		one_queue(a_port_without_queues_drops_known_frames_as_port_down),
		one_queue(access_ports_of_different_vlans_do_not_meet),
		one_queue(an_access_port_refuses_tagged_frames),
		one_queue(a_frame_gets_its_tag_towards_a_trunk_and_loses_it_towards_an_access_port),
		one_queue(a_trunk_refuses_vlans_it_does_not_carry_and_untagged_frames),
		one_queue(the_native_vlan_of_a_trunk_goes_untagged),
		one_queue(flooding_in_both_forms_leaves_each_receiver_its_own),
		two_queues(one_flow_stays_in_one_queue),
		one_queue(receivers_are_notified_once_however_often_they_were_sent_to),
		one_queue(a_lossless_cross_connect_leaves_what_finds_no_room),
		one_queue(a_cross_connect_that_may_lose_drops_and_counts),
		two_queues(a_cross_connect_keeps_queues_apart),
	};

	dpdk_start();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
