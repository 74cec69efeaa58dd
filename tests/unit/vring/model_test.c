/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A million packets against a model (Q20, Q22, D24-D28, P4, P8, D81): heads in shuffled order, chains of random length,
 * direct and indirect; every used id and length is compared, and a split ring's descriptor table is untouched.
 */
#include <stdlib.h>
#include <string.h>

#include "guest.h"

#define TABLES   HIGH /* 4 KiB: 32 tables of 8 */
#define N_TABLES 32

struct chain_model {
	uint16_t head;
	uint16_t n;
	uint16_t descs[4];
	uint32_t len;
};

static struct guest guest;
static struct vring_device ring;
static struct vring_burst burst;

#define MAX_SIZE 32768

static uint16_t free_descs[MAX_SIZE];
static unsigned int n_free;
static struct chain_model chains[MAX_SIZE]; /* in the order offered */
static struct vring_desc before[MAX_SIZE];

static uint16_t take(uint64_t *seed)
{
	unsigned int at = random_below(seed, n_free);
	uint16_t desc = free_descs[at];

	free_descs[at] = free_descs[--n_free];
	return desc;
}

static void put_back(const struct chain_model *chain)
{
	for (unsigned int i = 0; i < chain->n; i++)
		free_descs[n_free++] = chain->descs[i];
}

static struct chain_model offer_random(uint64_t *seed, uint16_t direction)
{
	struct chain_model chain = {.n = 1};
	unsigned int n = 1 + random_below(seed, 4);

	if (random_below(seed, 4) == 0) {
		uint64_t table;

		chain.descs[0] = take(seed);
		table = TABLES + chain.descs[0] % N_TABLES * 128;
		/* Heads of the same table share its contents: all tables are alike but for their number. */
		n = 1 + chain.descs[0] % N_TABLES % 8;
		for (unsigned int i = 0; i < n; i++) {
			uint32_t len = 20 + (uint32_t)i;

			guest_put_in_table(&guest, table, i, LOW + i * 64, len,
				direction | (i + 1 < n ? VRING_DESC_F_NEXT : 0), (uint16_t)(i + 1));
			chain.len += len;
		}
		guest_put(&guest, chain.descs[0], table, 16 * n, VRING_DESC_F_INDIRECT, 0);
	} else {
		chain.n = (uint16_t)(n < n_free ? n : n_free);
		for (unsigned int i = 0; i < chain.n; i++)
			chain.descs[i] = take(seed);
		for (unsigned int i = 0; i < chain.n; i++) {
			uint32_t len = 12 + random_below(seed, 1500);
			bool more = i + 1 < chain.n;

			guest_put(&guest, chain.descs[i], LOW + random_below(seed, 4096), len,
				direction | (more ? VRING_DESC_F_NEXT : 0),
				more ? chain.descs[i + 1] : (uint16_t)random_next(seed));
			chain.len += len;
		}
	}
	chain.head = chain.descs[0];
	guest_offer(&guest, chain.head);
	return chain;
}

/*
 * Takes the used entries of n chains, the oldest first, which have been returned in one call. With in_order, one may stand
 * for all (2.8.8).
 */
static void expect_used(unsigned int n, bool is_batch)
{
	unsigned int n_slots = 0;

	if (n == 0)
		return;
	for (unsigned int i = 0; i + 1 < n; i++) {
		if (is_batch)
			n_slots += chains[i].n;
		else
			guest_expect_used(&guest, chains[i].head, burst.buffers[i].used_len);
	}
	guest_expect_used(&guest, chains[n - 1].head, burst.buffers[n - 1].used_len);
	guest.used_position = vring_packed_advance(guest.used_position, n_slots, guest.size);
}

static void run(uint64_t *seed, uint16_t size, enum vring_direction direction, bool in_order,
	unsigned int n_packets)
{
	const uint16_t flag = direction == VRING_WRITABLE ? VRING_DESC_F_WRITE : 0;
	struct vring_config config;
	unsigned int n_chains = 0;
	unsigned int n_done = 0;

	guest_create(&guest, size, 60000);
	config = guest_config(&guest);
	config.in_order = in_order;
	assert_int_equal(vring_device_init(&ring, &config), 0);
	n_free = size;
	for (unsigned int i = 0; i < size; i++)
		free_descs[i] = (uint16_t)i;
	while (n_done < n_packets) {
		unsigned int n_take;
		int n;

		while (n_free > 0 && random_below(seed, 16) != 0)
			chains[n_chains++] = offer_random(seed, flag);
		memcpy(before, guest.desc, vring_desc_bytes(size));
		n = vring_device_peek(&ring, &burst, direction, 1 + random_below(seed, 64));
		assert_in_range(n, 0, n_chains);
		n_take = n > 0 ? random_below(seed, (uint32_t)n + 1) : 0;
		for (unsigned int i = 0; i < n_take; i++) {
			struct vring_buffer *buffer = &burst.buffers[i];

			assert_int_equal(buffer->fault, VRING_OK);
			assert_int_equal(buffer->id, chains[i].head);
			assert_int_equal(buffer->len, chains[i].len);
			assert_int_equal(buffer->n_descs, guest.packed ? chains[i].n : 1);
			buffer->used_len = direction == VRING_WRITABLE
						   ? random_below(seed, buffer->len + 1)
						   : 0;
		}
		vring_device_return(&ring, &burst, n_take);
		guest_expect_no_used(&guest);
		vring_device_publish(&ring);
		assert_memory_equal(before, guest.desc, vring_desc_bytes(size));
		expect_used(n_take, guest.packed && in_order && direction == VRING_READABLE);
		guest_expect_no_used(&guest);
		for (unsigned int i = 0; i < n_take; i++)
			put_back(&chains[i]);
		n_chains -= n_take;
		memmove(chains, chains + n_take, n_chains * sizeof(chains[0]));
		n_done += n_take;
	}
	guest_destroy(&guest);
}

static void run_each_way(uint64_t *seed, uint16_t size, unsigned int n_packets)
{
	for (unsigned int in_order = 0; in_order < 2; in_order++) {
		run(seed, size, VRING_READABLE, in_order, n_packets);
		run(seed, size, VRING_WRITABLE, in_order, n_packets);
	}
}

static void returns_every_id_and_length_exactly_over_a_million_packets(void **state)
{
	const uint16_t split[] = {1, 2, 8, 64, 256};
	const uint16_t packed[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 64, 255, 256, 257};
	const uint16_t *sizes = guest_is_packed ? packed : split;
	size_t n = guest_is_packed ? sizeof(packed) : sizeof(split);
	uint64_t seed = seed_get();

	for (unsigned int i = 0; i < n / sizeof(sizes[0]); i++)
		run_each_way(&seed, sizes[i], sizes[i] == 256 ? 150000 : 25000);
	run_each_way(&seed, MAX_SIZE, 1000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH_LAYOUTS(returns_every_id_and_length_exactly_over_a_million_packets),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
