/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A guest for ring tests: memory between pages that kill, laid out so that everything awkward about regions exists, and
 * a ring whose every word the test writes by hand. Each ring part ends where a killing page begins.
 *
 *     region      gpa                    bytes    next to it
 *     low         0x10000                64 KiB   `high` in gpa only
 *     high        0x20000                4 KiB    a hole
 *     left        0x1_0000_0000          64 KiB   `right` in gpa and hva
 *     right       0x1_0001_0000          4 KiB    a hole
 *     top         2^64 - 4096            4 KiB    the end of all addresses
 */
#ifndef TESTS_UNIT_VRING_GUEST_H
#define TESTS_UNIT_VRING_GUEST_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>

#include <vring/device.h>

#define LOW        0x10000ULL
#define LOW_BYTES  0x10000ULL
#define HIGH       0x20000ULL
#define HIGH_BYTES 0x1000ULL
#define HOLE       0x21000ULL
#define LEFT       0x100000000ULL
#define LEFT_BYTES 0x10000ULL
#define RIGHT      0x100010000ULL
#define RIGHT_BYTES 0x1000ULL
#define TOP        0xfffffffffffff000ULL
#define TOP_BYTES  0x1000ULL

struct guarded {
	void *start; /* of the mapping */
	size_t mapped;
	void *data; /* ends at the killing page but for alignment */
	size_t bytes;
};

struct guarded guarded_alloc(size_t bytes, size_t align);
void guarded_free(struct guarded *memory);

struct guest {
	struct gmem *mem;
	struct guarded blocks[4];
	struct guarded parts[3];
	uint16_t size;
	uint16_t avail_idx; /* as last offered */
	struct vring_desc *desc;
	struct vring_avail *avail;
	struct vring_used *used;
};

/* Both indices start at `idx`. */
void guest_create(struct guest *guest, uint16_t size, uint16_t idx);
void guest_destroy(struct guest *guest);

/* A configuration for the ring with nothing negotiated but indirect tables. */
struct vring_config guest_config(const struct guest *guest);

void guest_put(struct guest *guest, unsigned int at, uint64_t gpa, uint32_t len, uint16_t flags,
	uint16_t next);
/* Writes descriptor `at` of a table in guest memory, wherever its bytes lie. */
void guest_put_in_table(struct guest *guest, uint64_t table, unsigned int at, uint64_t gpa,
	uint32_t len, uint16_t flags, uint16_t next);
/* Makes a chain available. */
void guest_offer(struct guest *guest, uint16_t head);

void guest_write(struct guest *guest, uint64_t gpa, const void *from, size_t n);
void guest_read(const struct guest *guest, uint64_t gpa, void *to, size_t n);

/* Returns the n buffers of the burst and makes that visible. */
void finish(struct vring_device *ring, const struct vring_burst *burst, unsigned int n);

/* xorshift64*, good enough to wander through layouts. Prints the seed once: RINGWAY_TEST_SEED repeats a run. */
uint64_t seed_get(void);
uint64_t random_next(uint64_t *state);
uint32_t random_below(uint64_t *state, uint32_t n);

#endif
