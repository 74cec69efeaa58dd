/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <rte_errno.h>
#include <rte_hash.h>
#include <rte_hash_crc.h>
#include <rte_malloc.h>

#include <bridge/fdb.h>

/* Of a worker's cache. */
#define CACHE_ENTRIES_MIN 1024

/* Keys deleted between two synchronisations. */
#define SWEEP_BATCH 256

struct fdb {
	struct fdb_state state; /* read by every worker, written seldom */
	struct rte_hash *hash;
	uint32_t max;
	unsigned int age_s;
	uint64_t epoch_start_us;
	uint64_t n_refused;
};

static uint32_t value_make(uint16_t port, uint16_t epoch)
{
	return port | (uint32_t)epoch << 16;
}

static uint16_t epoch_of(const struct fdb *fdb)
{
	return __atomic_load_n(&fdb->state.epoch, __ATOMIC_RELAXED);
}

/* Every cache entry filled so far is void. */
static void generation_next(struct fdb *fdb)
{
	__atomic_fetch_add(&fdb->state.generation, 1, __ATOMIC_RELEASE);
}

struct fdb *fdb_create(const char *name, uint32_t max, unsigned int age_s, int numa_node,
	char *error, size_t error_size)
{
	struct fdb *fdb = rte_zmalloc_socket("fdb", sizeof(*fdb), RTE_CACHE_LINE_SIZE,
		numa_node >= 0 ? numa_node : SOCKET_ID_ANY);
	char hash_name[RTE_HASH_NAMESIZE];
	struct rte_hash_parameters parameters = {
		.name = hash_name,
		.entries = max,
		.key_len = sizeof(fdb_key),
		.hash_func = rte_hash_crc,
		.socket_id = numa_node >= 0 ? numa_node : (int)SOCKET_ID_ANY,
		/* Without extra buckets an unlucky set of addresses is refused before the table is full. */
		.extra_flag = RTE_HASH_EXTRA_FLAGS_RW_CONCURRENCY_LF |
			      RTE_HASH_EXTRA_FLAGS_MULTI_WRITER_ADD |
			      RTE_HASH_EXTRA_FLAGS_EXT_TABLE,
	};

	snprintf(hash_name, sizeof(hash_name), "fdb_%.20s", name);
	if (fdb != NULL)
		fdb->hash = rte_hash_create(&parameters);
	if (fdb == NULL || fdb->hash == NULL) {
		snprintf(error, error_size,
			"bridge %s: no memory for a table of %u addresses: %s; lower fdb_max", name,
			max, rte_strerror(rte_errno));
		rte_free(fdb);
		return NULL;
	}
	fdb->state.generation = 1;
	fdb->max = max;
	fdb->age_s = age_s;
	return fdb;
}

void fdb_destroy(struct fdb *fdb)
{
	if (fdb == NULL)
		return;
	rte_hash_free(fdb->hash);
	rte_free(fdb);
}

const struct fdb_state *fdb_state(const struct fdb *fdb)
{
	return &fdb->state;
}

struct fdb_cache *fdb_cache_create(const struct fdb *fdb, int numa_node)
{
	uint32_t n = rte_align32pow2(2 * RTE_MAX(fdb->max, (uint32_t)CACHE_ENTRIES_MIN / 2));
	struct fdb_cache *cache = rte_zmalloc_socket("fdb_cache",
		sizeof(*cache) + n * sizeof(cache->entries[0]), RTE_CACHE_LINE_SIZE,
		numa_node >= 0 ? numa_node : SOCKET_ID_ANY);

	if (cache != NULL)
		cache->shift = 64 - rte_log2_u32(n);
	return cache;
}

static void cache_fill(
	struct fdb_cache_entry *cached, fdb_key key, uint32_t value, uint32_t generation)
{
	cached->key = key;
	cached->value = value;
	cached->generation = generation;
}

void fdb_learn_slow(struct fdb *fdb, struct fdb_cache_entry *cached, fdb_key key, uint16_t port)
{
	uint32_t value = value_make(port, epoch_of(fdb));
	/* Before the table is looked at: a change in between then leaves an entry that is void at once. */
	uint32_t generation = __atomic_load_n(&fdb->state.generation, __ATOMIC_ACQUIRE);
	hash_sig_t hash = rte_hash_hash(fdb->hash, &key);
	void *data;

	if (rte_hash_lookup_with_hash_data(fdb->hash, &key, hash, &data) < 0) {
		if (rte_hash_count(fdb->hash) >= (int32_t)fdb->max ||
			rte_hash_add_key_with_hash_data(
				fdb->hash, &key, hash, (void *)(uintptr_t)value) != 0) {
			__atomic_fetch_add(&fdb->n_refused, 1, __ATOMIC_RELAXED);
			return;
		}
	} else if ((uint32_t)(uintptr_t)data != value) {
		rte_hash_add_key_with_hash_data(fdb->hash, &key, hash, (void *)(uintptr_t)value);
		if ((uint16_t)(uintptr_t)data != port) {
			generation_next(fdb);
			generation = __atomic_load_n(&fdb->state.generation, __ATOMIC_ACQUIRE);
		}
	}
	cache_fill(cached, key, value, generation);
}

uint16_t fdb_lookup_slow(struct fdb *fdb, struct fdb_cache_entry *cached, fdb_key key)
{
	uint32_t generation = __atomic_load_n(&fdb->state.generation, __ATOMIC_ACQUIRE);
	void *data;

	if (rte_hash_lookup_data(fdb->hash, &key, &data) < 0)
		return FDB_NO_PORT;
	cache_fill(cached, key, (uint32_t)(uintptr_t)data, generation);
	return (uint16_t)(uintptr_t)data;
}

/* Deletes the entries `is_victim` names. Two steps each batch: unlink, wait for the readers, then free the slots. */
static void sweep(struct fdb *fdb, bool (*is_victim)(uint32_t value, uint32_t argument),
	uint32_t argument, void (*synchronize)(void *ctx), void *ctx)
{
	int32_t positions[SWEEP_BATCH];
	unsigned int n;

	do {
		uint32_t cursor = 0;
		const void *key;
		void *data;

		n = 0;
		while (n < SWEEP_BATCH && rte_hash_iterate(fdb->hash, &key, &data, &cursor) >= 0) {
			int32_t position;

			if (!is_victim((uint32_t)(uintptr_t)data, argument))
				continue;
			position = rte_hash_del_key(fdb->hash, key);
			if (position >= 0)
				positions[n++] = position;
		}
		if (n > 0) {
			generation_next(fdb);
			synchronize(ctx);
			for (unsigned int i = 0; i < n; i++)
				rte_hash_free_key_with_position(fdb->hash, positions[i]);
		}
	} while (n == SWEEP_BATCH);
}

static bool is_old(uint32_t value, uint32_t epoch)
{
	return (uint16_t)(epoch - (value >> 16)) > FDB_EPOCHS;
}

static bool is_at_port(uint32_t value, uint32_t port)
{
	return (uint16_t)value == port;
}

void fdb_age(struct fdb *fdb, uint64_t now_us, void (*synchronize)(void *ctx), void *ctx)
{
	if (fdb->epoch_start_us == 0)
		fdb->epoch_start_us = now_us;
	if (now_us - fdb->epoch_start_us < (uint64_t)fdb->age_s * 1000000 / FDB_EPOCHS)
		return;
	fdb->epoch_start_us = now_us;
	__atomic_fetch_add(&fdb->state.epoch, 1, __ATOMIC_RELAXED);
	sweep(fdb, is_old, epoch_of(fdb), synchronize, ctx);
}

void fdb_flush_port(struct fdb *fdb, uint16_t port, void (*synchronize)(void *ctx), void *ctx)
{
	sweep(fdb, is_at_port, port, synchronize, ctx);
}

uint32_t fdb_count(const struct fdb *fdb)
{
	return (uint32_t)rte_hash_count(fdb->hash);
}

uint32_t fdb_max(const struct fdb *fdb)
{
	return fdb->max;
}

unsigned int fdb_age_s(const struct fdb *fdb)
{
	return fdb->age_s;
}

uint64_t fdb_n_refused(const struct fdb *fdb)
{
	return __atomic_load_n(&fdb->n_refused, __ATOMIC_RELAXED);
}

bool fdb_next(struct fdb *fdb, uint32_t *cursor, uint8_t mac[6], uint16_t *vlan, uint16_t *port,
	unsigned int *age_s)
{
	const void *key;
	void *data;
	fdb_key value;

	if (rte_hash_iterate(fdb->hash, &key, &data, cursor) < 0)
		return false;
	memcpy(&value, key, sizeof(value));
	memcpy(mac, &value, 6);
	*vlan = (uint16_t)(value >> 48);
	*port = (uint16_t)(uintptr_t)data;
	*age_s = (uint16_t)(epoch_of(fdb) - ((uint32_t)(uintptr_t)data >> 16)) * fdb->age_s /
		 FDB_EPOCHS;
	return true;
}
