/* SPDX-License-Identifier: BSD-3-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <rte_malloc.h>

#include <bridge/fdb.h>

#include "../port/dpdk_fixture.h"

#define AGE_S 80 /* epochs of 10 s */

static struct fdb *fdb;
static struct fdb_cache *cache, *other_cache;
static unsigned int n_synchronized;

static void synchronize(void *ctx)
{
	n_synchronized++;
}

static int setup(void **state)
{
	char error[256];

	fdb = fdb_create("test", 1024, AGE_S, -1, error, sizeof(error));
	assert_non_null(fdb);
	cache = fdb_cache_create(fdb, -1);
	other_cache = fdb_cache_create(fdb, -1);
	n_synchronized = 0;
	return cache == NULL || other_cache == NULL;
}

static int teardown(void **state)
{
	rte_free(cache);
	rte_free(other_cache);
	fdb_destroy(fdb);
	return 0;
}

static void learn(uint64_t mac, uint16_t vlan, uint16_t port)
{
	fdb_learn(fdb, fdb_state(fdb), cache, fdb_key_make(mac, vlan), port);
}

static uint16_t lookup_by(struct fdb_cache *by, uint64_t mac, uint16_t vlan)
{
	return fdb_lookup(fdb, fdb_state(fdb), by, fdb_key_make(mac, vlan));
}

static uint16_t lookup(uint64_t mac, uint16_t vlan)
{
	return lookup_by(cache, mac, vlan);
}

static void an_address_is_found_where_it_was_seen_last(void **state)
{
	assert_int_equal(lookup(0x111, 0), FDB_NO_PORT);
	learn(0x111, 0, 3);
	assert_int_equal(lookup(0x111, 0), 3);
	learn(0x111, 0, 4);
	assert_int_equal(lookup(0x111, 0), 4);
	assert_int_equal(fdb_count(fdb), 1);
}

static void a_move_is_seen_through_the_cache_of_another_worker(void **state)
{
	learn(0x111, 0, 3);
	assert_int_equal(lookup_by(other_cache, 0x111, 0), 3);
	learn(0x111, 0, 4);
	assert_int_equal(lookup_by(other_cache, 0x111, 0), 4);
}

static void vlans_learn_apart(void **state)
{
	learn(0x111, 10, 1);
	learn(0x111, 20, 2);
	assert_int_equal(lookup(0x111, 10), 1);
	assert_int_equal(lookup(0x111, 20), 2);
	assert_int_equal(lookup(0x111, 0), FDB_NO_PORT);
}

static void addresses_that_share_a_cache_slot_are_told_apart(void **state)
{
	for (uint64_t mac = 1; mac <= 1000; mac++)
		learn(mac << 8, 0, (uint16_t)(mac % 200));
	for (uint64_t mac = 1; mac <= 1000; mac++)
		assert_int_equal(lookup(mac << 8, 0), mac % 200);
}

static void a_full_table_refuses_and_counts(void **state)
{
	for (uint64_t mac = 1; mac <= 1024; mac++)
		learn(mac, 0, 1);
	assert_int_equal(fdb_count(fdb), 1024);
	learn(5000, 0, 1);
	assert_int_equal(fdb_n_refused(fdb), 1);
	assert_int_equal(lookup(5000, 0), FDB_NO_PORT);
	/* Known ones still move. */
	learn(7, 0, 2);
	assert_int_equal(lookup(7, 0), 2);
}

static void an_address_unseen_for_its_age_is_forgotten(void **state)
{
	uint64_t now_us = 1000000;

	fdb_age(fdb, now_us, synchronize, NULL);
	learn(0x111, 0, 1);
	learn(0x222, 0, 2);
	for (unsigned int epoch = 0; epoch <= FDB_EPOCHS + 1; epoch++) {
		now_us += 10 * 1000000;
		learn(0x222, 0, 2);
		fdb_age(fdb, now_us, synchronize, NULL);
	}
	assert_int_equal(lookup(0x111, 0), FDB_NO_PORT);
	assert_int_equal(lookup(0x222, 0), 2);
	assert_true(n_synchronized > 0);
	assert_int_equal(fdb_count(fdb), 1);
}

static void an_address_seen_within_its_age_is_kept(void **state)
{
	fdb_age(fdb, 1000000, synchronize, NULL);
	learn(0x111, 0, 1);
	fdb_age(fdb, 1000000 + (AGE_S - 11) * 1000000ULL, synchronize, NULL);
	assert_int_equal(lookup(0x111, 0), 1);
}

static void a_flushed_port_leaves_the_others(void **state)
{
	for (uint64_t mac = 1; mac <= 900; mac++)
		learn(mac, 0, mac % 3 == 0 ? 1 : 2);
	fdb_flush_port(fdb, 1, synchronize, NULL);
	assert_int_equal(fdb_count(fdb), 600);
	for (uint64_t mac = 1; mac <= 900; mac++)
		assert_int_equal(lookup(mac, 0), mac % 3 == 0 ? FDB_NO_PORT : 2);
}

static void freed_places_are_used_again(void **state)
{
	for (unsigned int round = 0; round < 20; round++) {
		for (uint64_t mac = 1; mac <= 1024; mac++)
			learn(mac + round * 10000ULL, 0, 1);
		assert_int_equal(fdb_count(fdb), 1024);
		fdb_flush_port(fdb, 1, synchronize, NULL);
		assert_int_equal(fdb_count(fdb), 0);
	}
	assert_int_equal(fdb_n_refused(fdb), 0);
}

static void a_walk_shows_what_was_learned(void **state)
{
	uint32_t cursor = 0;
	uint16_t vlan, port;
	unsigned int age_s;
	uint8_t mac[6];

	learn(0x060504030201, 7, 9);
	assert_true(fdb_next(fdb, &cursor, mac, &vlan, &port, &age_s));
	assert_memory_equal(mac, "\x01\x02\x03\x04\x05\x06", 6);
	assert_int_equal(vlan, 7);
	assert_int_equal(port, 9);
	assert_int_equal(age_s, 0);
	assert_false(fdb_next(fdb, &cursor, mac, &vlan, &port, &age_s));
}

#define fdb_test(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		fdb_test(an_address_is_found_where_it_was_seen_last),
		fdb_test(a_move_is_seen_through_the_cache_of_another_worker),
		fdb_test(vlans_learn_apart),
		fdb_test(addresses_that_share_a_cache_slot_are_told_apart),
		fdb_test(a_full_table_refuses_and_counts),
		fdb_test(an_address_unseen_for_its_age_is_forgotten),
		fdb_test(an_address_seen_within_its_age_is_kept),
		fdb_test(a_flushed_port_leaves_the_others),
		fdb_test(freed_places_are_used_again),
		fdb_test(a_walk_shows_what_was_learned),
	};

	dpdk_start();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
