/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The forwarding database of one bridge: which port a MAC address of a VLAN was last seen at.
 *
 * Theory of operation. The table is an rte_hash that workers read without a lock and write (through its own lock) only
 * when something is new: an address, its port, or the coarse epoch it was last seen in. The control thread moves the
 * epoch on and deletes what has not been seen for a number of epochs. In front of it each worker has a
 * direct-mapped cache of its own; an entry there is good while the table's generation, which every move and deletion
 * changes, is the one it was filled in. So a frame between known stations costs two cache hits and writes nothing. The
 * cache has at least twice as many entries as the table has room for, so that this holds for full tables, too.
 *
 * Limits: `max` addresses; when full nothing new is learned (and such frames are flooded), which is counted.
 */
#ifndef BRIDGE_FDB_H
#define BRIDGE_FDB_H

#include <stdbool.h>
#include <stdint.h>

#include <rte_branch_prediction.h>
#include <rte_common.h>

/* Epochs an address outlives without being seen; its lifetime in seconds is divided into that many. */
#define FDB_EPOCHS 8

#define FDB_NO_PORT UINT16_MAX

struct fdb;

/* MAC address and VLAN as one number: bytes 0..5 as they lie in the frame, VLAN above. */
typedef uint64_t fdb_key;

static inline fdb_key fdb_key_make(uint64_t mac_le48, uint16_t vlan)
{
	return mac_le48 | (uint64_t)vlan << 48;
}

struct fdb_cache_entry {
	fdb_key key;
	uint32_t value; /* port | epoch << 16 */
	uint32_t generation;
};

/* One per worker and bridge, of a size that goes with the table. */
struct fdb_cache {
	unsigned int shift; /* 64 less the bits of an index */
	struct fdb_cache_entry entries[] __attribute__((aligned(64)));
};

/* What fast lookups need to see of a table. Written by the slow paths. */
struct fdb_state {
	uint32_t generation; /* never 0 */
	uint16_t epoch;
};

/* NULL and a line in `error`. age_s: seconds an unseen address is kept, 1..86400. Control thread. */
struct fdb *fdb_create(const char *name, uint32_t max, unsigned int age_s, int numa_node,
	char *error, size_t error_size);
/* No worker may know the table any more. */
void fdb_destroy(struct fdb *fdb);

const struct fdb_state *fdb_state(const struct fdb *fdb);

/*
 * An empty cache that holds most of a full table, on `numa_node` (-1: any). NULL: out of memory. rte_free() frees it, once
 * no worker uses it. Control thread.
 */
struct fdb_cache *fdb_cache_create(const struct fdb *fdb, int numa_node);

/* Slow halves of the two verbs below. Any worker. */
void fdb_learn_slow(struct fdb *fdb, struct fdb_cache_entry *cached, fdb_key key, uint16_t port);
uint16_t fdb_lookup_slow(struct fdb *fdb, struct fdb_cache_entry *cached, fdb_key key);

static inline struct fdb_cache_entry *fdb_cache_slot(struct fdb_cache *cache, fdb_key key)
{
	/* Fibonacci hashing: the multiplication spreads the low bytes of the address over the top bits. */
	return &cache->entries[key * 0x9e3779b97f4a7c15ULL >> cache->shift];
}

/* Asks for what fdb_learn() and fdb_lookup() will look at: with many addresses it is not where the CPU has it at hand. */
static __rte_always_inline void fdb_prefetch(struct fdb_cache *cache, fdb_key key)
{
	__builtin_prefetch(fdb_cache_slot(cache, key));
}

/* The address was seen at `port` just now. */
static __rte_always_inline void fdb_learn(struct fdb *fdb, const struct fdb_state *state,
	struct fdb_cache *cache, fdb_key key, uint16_t port)
{
	struct fdb_cache_entry *cached = fdb_cache_slot(cache, key);

	if (unlikely(cached->key != key || cached->generation != state->generation ||
		    cached->value != (port | (uint32_t)state->epoch << 16)))
		fdb_learn_slow(fdb, cached, key, port);
}

/* The port the address was last seen at, or FDB_NO_PORT. */
static __rte_always_inline uint16_t fdb_lookup(struct fdb *fdb, const struct fdb_state *state,
	struct fdb_cache *cache, fdb_key key)
{
	struct fdb_cache_entry *cached = fdb_cache_slot(cache, key);

	if (likely(cached->key == key && cached->generation == state->generation))
		return (uint16_t)cached->value;
	return fdb_lookup_slow(fdb, cached, key);
}

/*
 * Housekeeping, control thread. fdb_age() moves the epoch on if its time has come and deletes what is too old;
 * fdb_flush_port() deletes what was learned at a port. Deleted slots are used again only after `synchronize` returned,
 * which must not do so before every worker has left the lookup it may be in.
 */
void fdb_age(struct fdb *fdb, uint64_t now_us, void (*synchronize)(void *ctx), void *ctx);
void fdb_flush_port(struct fdb *fdb, uint16_t port, void (*synchronize)(void *ctx), void *ctx);

uint32_t fdb_count(const struct fdb *fdb);
uint32_t fdb_max(const struct fdb *fdb);
unsigned int fdb_age_s(const struct fdb *fdb);
/* Addresses not learned because the table was full. */
uint64_t fdb_n_refused(const struct fdb *fdb);

/* One step of a walk: `*cursor` starts at 0. False at the end. age_s counts in whole epochs. Control thread. */
bool fdb_next(struct fdb *fdb, uint32_t *cursor, uint8_t mac[6], uint16_t *vlan, uint16_t *port,
	unsigned int *age_s);

#endif
