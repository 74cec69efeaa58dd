/* SPDX-License-Identifier: BSD-3-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <port/port.h>

#include "dpdk_fixture.h"

static const struct port_ops ops = { .kind = "test" };

static struct frame frame_of(uint8_t *head, bool tagged, uint16_t vid)
{
	head[14] = (uint8_t)(vid >> 8 | 0xe0); /* priority bits must not matter */
	head[15] = (uint8_t)vid;
	return (struct frame){ .head = head, .tagged = tagged };
}

static void a_frame_travels_in_the_vlan_its_port_allows(void **state)
{
	struct port_vlan none = { .kind = PORT_VLAN_NONE };
	struct port_vlan access = { .kind = PORT_VLAN_ACCESS, .access = 10 };
	struct port_vlan trunk = { .kind = PORT_VLAN_TRUNK };
	struct port_vlan native = { .kind = PORT_VLAN_TRUNK, .native = 7 };
	const struct {
		const struct port_vlan *vlan;
		int vid; /* -1: untagged */
		int expected;
	} cases[] = {
		{ &none, -1, 0 },      { &none, 10, 10 },    { &none, 0, 0 },
		{ &access, -1, 10 },   { &access, 10, -1 },  { &access, 11, -1 },
		{ &access, 0, 10 },    { &trunk, -1, -1 },   { &trunk, 100, 100 },
		{ &trunk, 101, -1 },   { &trunk, 0, -1 },    { &native, -1, 7 },
		{ &native, 4094, 4094 }, { &native, 0, 7 },  { &native, 4093, -1 },
	};
	uint8_t head[64] = { 0 };

	trunk.allowed[100 / 64] = 1ULL << 100 % 64;
	native.allowed[4094 / 64] = 1ULL << 4094 % 64;
	for (unsigned int i = 0; i < RTE_DIM(cases); i++) {
		struct frame frame = frame_of(
			head, cases[i].vid >= 0, (uint16_t)(cases[i].vid < 0 ? 0 : cases[i].vid));

		assert_int_equal(
			port_vlan_ingress(cases[i].vlan, &frame), cases[i].expected);
	}
}

static void a_frame_leaves_in_the_form_its_port_wants(void **state)
{
	struct port_vlan none = { .kind = PORT_VLAN_NONE };
	struct port_vlan access = { .kind = PORT_VLAN_ACCESS, .access = 10 };
	struct port_vlan trunk = { .kind = PORT_VLAN_TRUNK, .native = 7 };
	const struct {
		const struct port_vlan *vlan;
		uint16_t vid;
		bool member, tagged;
	} cases[] = {
		{ &none, 0, true, false },   { &none, 10, true, true },
		{ &access, 10, true, false }, { &access, 11, false, false },
		{ &access, 0, false, false }, { &trunk, 100, true, true },
		{ &trunk, 7, true, false },   { &trunk, 0, false, false },
		{ &trunk, 8, false, false },
	};
	bool tagged;

	trunk.allowed[100 / 64] = 1ULL << 100 % 64;
	for (unsigned int i = 0; i < RTE_DIM(cases); i++) {
		assert_int_equal(port_vlan_egress(cases[i].vlan, cases[i].vid, &tagged),
			cases[i].member);
		if (cases[i].member)
			assert_int_equal(tagged, cases[i].tagged);
	}
}

static void counters_are_summed_over_the_workers(void **state)
{
	struct port_counters sum;
	struct port port;
	json_t *json;

	memset(&port, 0, sizeof(port));
	assert_int_equal(port_init(&port, &ops, NULL, "p", 3), 0);
	port.counters[0].rx_packets = 1;
	port.counters[PORT_MAX_WORKERS - 1].rx_packets = 2;
	port.counters[5].drops[DROP_GUEST_NO_BUFFERS] = 4;
	port_counters_sum(&port, &sum);
	assert_int_equal(sum.rx_packets, 3);
	json = port_counters_json(&port);
	assert_int_equal(json_integer_value(json_object_get(json, "rx_packets")), 3);
	/* Reasons that never happened are not in the way. */
	assert_int_equal(json_object_size(json_object_get(json, "drops")), 1);
	assert_int_equal(json_integer_value(json_object_get(
				 json_object_get(json, "drops"), "guest_no_buffers")),
		4);
	json_decref(json);
	port_fini(&port);
}

static void every_drop_reason_has_a_name_of_its_own(void **state)
{
	for (unsigned int i = 0; i < N_DROP_REASONS; i++) {
		for (unsigned int j = 0; j < i; j++)
			assert_string_not_equal(drop_reason_name(i), drop_reason_name(j));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_frame_travels_in_the_vlan_its_port_allows),
		cmocka_unit_test(a_frame_leaves_in_the_form_its_port_wants),
		cmocka_unit_test(counters_are_summed_over_the_workers),
		cmocka_unit_test(every_drop_reason_has_a_name_of_its_own),
	};

	dpdk_start();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
