/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A guest for ring tests: memory between pages that kill, laid out so that everything awkward about regions exists, and
 * a ring whose every word the test writes by hand. Each ring part ends where a killing page begins. The ring is split or
 * packed; a test of a promise that both layouts make is listed with BOTH_LAYOUTS() and uses the verbs below only.
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
	struct vring_desc *desc; /* packed: where chains are put together, to be copied when they are offered */
	struct vring_avail *avail;
	struct vring_used *used;
	uint16_t used_idx; /* split: next used entry to take */
	/* Packed only. */
	bool packed;
	struct vring_packed_desc *slots;
	struct vring_packed_desc_event *driver_event;
	struct vring_packed_desc_event *device_event;
	uint16_t avail_position;
	uint16_t used_position;
	uint16_t *n_slots_of; /* by id, of the buffer offered last */
};

/* How guest_create() makes rings from here on; set for each test by the lists below. */
extern bool guest_is_packed;
int guest_use_split(void **state);
int guest_use_packed(void **state);

#define SPLIT(test)        {#test, test, guest_use_split, NULL, NULL}
#define PACKED(test)       {#test " (packed)", test, guest_use_packed, NULL, NULL}
#define BOTH_LAYOUTS(test) SPLIT(test), PACKED(test)

/* Both indices start at `idx`; packed: both places as after `idx` slots. */
void guest_create(struct guest *guest, uint16_t size, uint16_t idx);
void guest_destroy(struct guest *guest);
/* What vring_device_position() is after n slots of a packed ring, or n buffers of a split one, from index 0 on. */
uint32_t guest_position(const struct guest *guest, uint32_t n);

/* A configuration for the ring with nothing negotiated but indirect tables. */
struct vring_config guest_config(const struct guest *guest);

void guest_put(struct guest *guest, unsigned int at, uint64_t gpa, uint32_t len, uint16_t flags,
	uint16_t next);
/* Writes descriptor `at` of a table in guest memory, wherever its bytes lie. */
void guest_put_in_table(struct guest *guest, uint64_t table, unsigned int at, uint64_t gpa,
	uint32_t len, uint16_t flags, uint16_t next);
/* Makes a chain available. Packed: copies it into the next slots; its id is `head`, in the last descriptor alone. */
void guest_offer(struct guest *guest, uint16_t head);
/* Makes descriptor `at` of a packed ring what is given, available or as the flags have it. */
void guest_put_slot(struct guest *guest, unsigned int at, uint64_t gpa, uint32_t len, uint16_t id,
	uint16_t flags);
/* AVAIL and USED of an available descriptor at a place. */
uint16_t guest_avail_flags(uint16_t position);

/* Takes the next used entry, if there is one, in either layout. */
struct guest_used {
	uint16_t id;
	uint32_t len;
	bool is_written; /* packed: WRITE; split: always */
};
bool guest_take_used(struct guest *guest, struct guest_used *used);
/* Asserts that the next entry is this, or that there is none. */
void guest_expect_used(struct guest *guest, uint16_t id, uint32_t len);
void guest_expect_no_used(struct guest *guest);

void guest_write(struct guest *guest, uint64_t gpa, const void *from, size_t n);
void guest_read(const struct guest *guest, uint64_t gpa, void *to, size_t n);

/* Returns the n buffers of the burst and makes that visible. */
void finish(struct vring_device *ring, const struct vring_burst *burst, unsigned int n);

/* xorshift64*, good enough to wander through layouts. Prints the seed once: RINGWAY_TEST_SEED repeats a run. */
uint64_t seed_get(void);
uint64_t random_next(uint64_t *state);
uint32_t random_below(uint64_t *state, uint32_t n);

#endif
