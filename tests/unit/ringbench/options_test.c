/* SPDX-License-Identifier: BSD-3-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <linux/virtio_config.h>
#include <linux/virtio_net.h>
#include <linux/virtio_ring.h>

#include "options.h"
#include "virtio_features.h"

static struct options options;
static char error[OPTIONS_ERROR_MAX];

/* Parses a command line given as one string, split at blanks. */
static enum options_result parse(const char *line)
{
	static char text[1024];
	char *argv[64] = {(char *)"ringbench"};
	int argc = 1;

	snprintf(text, sizeof(text), "%s", line);
	for (char *word = strtok(text, " "); word != NULL; word = strtok(NULL, " "))
		argv[argc++] = word;
	return options_parse(&options, argc, argv, error, sizeof(error));
}

static void one_socket_is_a_loop_and_two_are_a_pair(void **state)
{
	assert_int_equal(parse("-s /a"), OPTIONS_RUN);
	assert_int_equal(options.topology, TOPOLOGY_LOOP);
	assert_int_equal(parse("-s /a -s /b"), OPTIONS_RUN);
	assert_int_equal(options.topology, TOPOLOGY_PAIR);
	assert_int_equal(parse("-s /a -s /b --topology loop"), OPTIONS_RUN);
	assert_int_equal(options.topology, TOPOLOGY_LOOP);
}

static void defaults_are_those_of_the_help(void **state)
{
	assert_int_equal(parse("-s /a"), OPTIONS_RUN);
	assert_int_equal(options.n_queues, 1);
	assert_int_equal(options.n_flows, 1);
	assert_int_equal(options.ring_size, 256);
	assert_int_equal(options.n_macs, 1);
	assert_int_equal(options.n_regions, 1);
	assert_int_equal(options.size, 64);
	assert_int_equal(options.duration_us, 5000000);
	assert_int_equal(options.verify, VERIFY_SAMPLED);
	assert_int_equal(options.rate_pps, 0);
	assert_false(options.sockets[0].listen);
}

static void a_count_without_a_duration_runs_as_long_as_it_takes(void **state)
{
	assert_int_equal(parse("-s /a --count 7"), OPTIONS_RUN);
	assert_int_equal(options.duration_us, UINT64_MAX);
	assert_int_equal(parse("-s /a --count 7 --duration 2"), OPTIONS_RUN);
	assert_int_equal(options.duration_us, 2000000);
}

static void on_off_traffic_has_a_seed_a_longest_pause_and_patience(void **state)
{
	uint64_t seed;

	assert_int_equal(parse("-s /a"), OPTIONS_RUN);
	assert_false(options_are_bursts(&options));
	assert_int_equal(options.stall_us, 500000);
	assert_int_equal(parse("-s /a --bursts 7"), OPTIONS_RUN);
	assert_true(options_are_bursts(&options));
	assert_int_equal(options.pause_us, 1000);
	assert_int_equal(options.stall_us, 1000000);
	assert_int_equal(options.duration_us, UINT64_MAX);
	seed = options.seed;
	assert_int_equal(parse("-s /a --bursts 7 --stall 0.25"), OPTIONS_RUN);
	assert_int_equal(options.stall_us, 250000);
	/* Two of 2^32 are the same seldom enough. */
	assert_int_not_equal(options.seed, seed);
	assert_int_equal(parse("-s /a --pause-us 0 --seed 42"), OPTIONS_RUN);
	assert_true(options_are_bursts(&options));
	assert_int_equal(options.n_bursts, 0);
	assert_int_equal(options.pause_us, 0);
	assert_int_equal(options.seed, 42);
	assert_int_equal(options.duration_us, 5000000);
}

static void the_role_follows_the_path(void **state)
{
	assert_int_equal(parse("-s /a,listen --socket /b,connect"), OPTIONS_RUN);
	assert_true(options.sockets[0].listen);
	assert_string_equal(options.sockets[0].path, "/a");
	assert_false(options.sockets[1].listen);
	assert_string_equal(options.sockets[1].path, "/b");
}

static void settings_reach_all_sockets_or_the_one_named(void **state)
{
	assert_int_equal(
		parse("--vlan 5 --vlan 2:7 --features +csum --features 2:-guest_csum -s /a -s /b"),
		OPTIONS_RUN);
	assert_int_equal(options.sockets[0].vlan, 5);
	assert_int_equal(options.sockets[1].vlan, 7);
	assert_true(options.sockets[0].features_on & FEATURE(VIRTIO_NET_F_GUEST_CSUM));
	assert_false(options.sockets[1].features_on & FEATURE(VIRTIO_NET_F_GUEST_CSUM));
	assert_true(options.sockets[1].features_off & FEATURE(VIRTIO_NET_F_GUEST_CSUM));
	assert_true(options.sockets[1].features_on & FEATURE(VIRTIO_NET_F_CSUM));
}

static void packed_rings_have_any_size(void **state)
{
	/* In whichever order the two are given. */
	assert_int_equal(parse("-s /a --ring 100 --features +packed"), OPTIONS_RUN);
	assert_int_equal(options.ring_size, 100);
	assert_int_equal(options_next_split_size(&options), 128);
	assert_false(options_ring_is_split_size(&options));
	assert_true(options.sockets[0].features_on & FEATURE(VIRTIO_F_RING_PACKED));
	assert_int_equal(parse("--features +packed -s /a -s /b --ring 257"), OPTIONS_RUN);
	assert_int_equal(parse("-s /a --ring 128"), OPTIONS_RUN);
	assert_false(options.sockets[0].features_on & FEATURE(VIRTIO_F_RING_PACKED));
}

static void imix_is_seven_to_four_to_one(void **state)
{
	unsigned int n[3] = {0};

	assert_int_equal(parse("-s /a --size imix"), OPTIONS_RUN);
	assert_int_equal(options_max_size(&options), 1518);
	for (unsigned int slot = 0; slot < 120; slot++) {
		uint32_t size = options_slot_size(&options, slot);

		n[size == 64 ? 0 : size == 590 ? 1 : 2]++;
	}
	assert_int_equal(n[0], 70);
	assert_int_equal(n[1], 40);
	assert_int_equal(n[2], 10);
}

/* Each line: what is wrong, and the words the message must have so that one knows what to do. */
static void wrong_input_is_named_with_value_and_range(void **state)
{
	static const struct {
		const char *line;
		const char *words[3];
	} cases[] = {
		{"", {"-s PATH"}},
		{"-s /a --ring 100", {"--ring 100", "power of two", "128"}},
		{"-s /a --ring 100", {"+packed"}},
		{"-s /a -s /b --ring 100 --features 1:+packed", {"--ring 100", "128"}},
		{"-s /a --ring 32769 --features +packed", {"--ring 32769", "32768"}},
		{"-s /a --macs 0", {"--macs 0", "65536"}},
		{"-s /a --macs 65537", {"--macs 65537", "65536"}},
		{"-s /a --regions 510", {"--regions 510", "509"}},
		{"-s /a --ring 65536", {"--ring 65536", "32768"}},
		{"-s /a --size 59", {"--size 59", "60", "65535"}},
		{"-s /a --size 60 --vlan 4", {"--size 60", "62"}},
		{"-s /a --size big", {"--size big"}},
		{"-s /a --queues 17", {"--queues 17", "16"}},
		{"-s /a --queues 4 --flows 2", {"--flows 2", "4"}},
		{"-s /a --vlan 4095", {"--vlan 4095", "4094"}},
		{"-s /a --vlan 9:5", {"socket 9"}},
		{"-s /a --vlan x:5", {"x:5", "number"}},
		{"-s /a --features csum", {"\"csum\"", "+csum"}},
		{"-s /a --features +frob", {"\"+frob\"", "mrg_rxbuf"}},
		{"-s /a --features -version_1", {"version_1"}},
		{"-s /a --duration nan", {"--duration nan", "seconds"}},
		{"-s /a --duration -1", {"--duration -1"}},
		{"-s /a --rate 5 --window 5", {"--window", "--rate"}},
		{"-s /a -s /b -s /c", {"3 sockets", "even", "--topology loop"}},
		{"-s /a --bursts 5 --rate 5", {"--bursts", "--rate"}},
		{"-s /a --pause-us 5 --count 5", {"--pause-us", "--count"}},
		{"-s /a --pause-us 10000001", {"--pause-us 10000001", "10000000"}},
		{"-s /a --seed 5", {"--seed", "--bursts"}},
		{"-s /a --idle --rate 5", {"--idle", "--rate"}},
		{"-s /a --idle --bursts 5", {"--idle", "--bursts"}},
		{"-s /a --one-way", {"--one-way", "pair"}},
		{"-s /a --verify some", {"--verify some", "sampled, header, all"}},
		{"-s /a --nonsense", {"--nonsense", "--help"}},
		{"-s", {"-s", "value"}},
		{"-s /a extra", {"extra", "-s"}},
	};

	for (unsigned int i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(parse(cases[i].line), OPTIONS_ERROR);
		assert_null(strchr(error, '\n'));
		for (unsigned int j = 0; j < 3 && cases[i].words[j] != NULL; j++)
			if (strstr(error, cases[i].words[j]) == NULL)
				fail_msg("\"%s\": \"%s\" does not say %s", cases[i].line, error,
					cases[i].words[j]);
	}
}

static void a_socket_path_too_long_for_the_kernel_is_refused(void **state)
{
	char line[200] = "-s /";

	memset(line + 4, 'x', 120);
	assert_int_equal(parse(line), OPTIONS_ERROR);
	assert_non_null(strstr(error, "107"));
}

static void features_lose_what_their_prerequisites_lack(void **state)
{
	uint64_t tso = FEATURE(VIRTIO_NET_F_HOST_TSO4) | FEATURE(VIRTIO_NET_F_GUEST_TSO4);
	uint64_t csum = FEATURE(VIRTIO_NET_F_CSUM) | FEATURE(VIRTIO_NET_F_GUEST_CSUM);

	assert_int_equal(features_consistent(tso), 0);
	assert_int_equal(features_consistent(tso | csum), tso | csum);
	assert_int_equal(features_consistent(FEATURE(VIRTIO_NET_F_MQ)), 0);
	assert_true(features_default(2) & FEATURE(VIRTIO_NET_F_MQ));
	assert_false(features_default(1) & FEATURE(VIRTIO_NET_F_MQ));
}

static void features_are_printed_by_name(void **state)
{
	char text[100];

	features_print(FEATURE(VIRTIO_RING_F_EVENT_IDX) | FEATURE(VIRTIO_NET_F_CSUM) | FEATURE(63),
		text, sizeof(text));
	assert_string_equal(text, "host_csum,event_idx,bit 63");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_socket_is_a_loop_and_two_are_a_pair),
		cmocka_unit_test(defaults_are_those_of_the_help),
		cmocka_unit_test(a_count_without_a_duration_runs_as_long_as_it_takes),
		cmocka_unit_test(on_off_traffic_has_a_seed_a_longest_pause_and_patience),
		cmocka_unit_test(the_role_follows_the_path),
		cmocka_unit_test(settings_reach_all_sockets_or_the_one_named),
		cmocka_unit_test(packed_rings_have_any_size),
		cmocka_unit_test(imix_is_seven_to_four_to_one),
		cmocka_unit_test(wrong_input_is_named_with_value_and_range),
		cmocka_unit_test(a_socket_path_too_long_for_the_kernel_is_refused),
		cmocka_unit_test(features_lose_what_their_prerequisites_lack),
		cmocka_unit_test(features_are_printed_by_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
