/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A million packets against a model (Q20, Q22, D24-D28): heads in shuffled order, chains of random length, direct and
 * indirect; every used id and length is compared, and the descriptor table is untouched.
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

static uint16_t free_descs[256];
static unsigned int n_free;

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

static void run(uint64_t *seed, uint16_t size, enum vring_direction direction, unsigned int n_packets)
{
	const uint16_t flag = direction == VRING_WRITABLE ? VRING_DESC_F_WRITE : 0;
	struct chain_model chains[256];  /* in the order offered */
	struct vring_config config;
	struct vring_desc before[256];
	unsigned int n_chains = 0;
	unsigned int n_done = 0;
	uint16_t seen;

	guest_create(&guest, size, 60000);
	config = guest_config(&guest);
	assert_int_equal(vring_device_init(&ring, &config), 0);
	seen = guest.used->idx;
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
			buffer->used_len = direction == VRING_WRITABLE
						   ? random_below(seed, buffer->len + 1)
						   : 0;
		}
		finish(&ring, &burst, n_take);
		assert_int_equal((uint16_t)(guest.used->idx - seen), n_take);
		assert_memory_equal(before, guest.desc, vring_desc_bytes(size));
		for (unsigned int i = 0; i < n_take; i++, seen++) {
			const vring_used_elem_t *entry = &guest.used->ring[seen & (size - 1)];

			assert_int_equal(entry->id, chains[i].head);
			assert_int_equal(entry->len, burst.buffers[i].used_len);
			put_back(&chains[i]);
		}
		n_chains -= n_take;
		memmove(chains, chains + n_take, n_chains * sizeof(chains[0]));
		n_done += n_take;
	}
	guest_destroy(&guest);
}

static void returns_every_id_and_length_exactly_over_a_million_packets(void **state)
{
	const uint16_t sizes[] = {1, 2, 8, 64, 256};
	uint64_t seed = seed_get();

	for (unsigned int i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		unsigned int n = sizes[i] == 256 ? 300000 : 50000;

		run(&seed, sizes[i], VRING_READABLE, n);
		run(&seed, sizes[i], VRING_WRITABLE, n);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(returns_every_id_and_length_exactly_over_a_million_packets),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
