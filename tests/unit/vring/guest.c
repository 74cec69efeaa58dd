/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "guest.h"

#define PAGE 4096UL

/* Chains are put together here, from whatever head a test likes. */
#define N_STAGED(size) ((size) < 64 ? 64u : (size))

#define AVAIL (1 << VRING_PACKED_DESC_F_AVAIL)
#define USED  (1 << VRING_PACKED_DESC_F_USED)

bool guest_is_packed;

int guest_use_split(void **state)
{
	guest_is_packed = false;
	return 0;
}

int guest_use_packed(void **state)
{
	guest_is_packed = true;
	return 0;
}

struct guarded guarded_alloc(size_t bytes, size_t align)
{
	size_t pages = (bytes + PAGE - 1) & ~(PAGE - 1);
	struct guarded memory = {.mapped = pages + 2 * PAGE, .bytes = bytes};
	uintptr_t end;

	memory.start = mmap(
		NULL, memory.mapped, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	assert_ptr_not_equal(memory.start, MAP_FAILED);
	assert_int_equal(
		mprotect((uint8_t *)memory.start + PAGE, pages, PROT_READ | PROT_WRITE), 0);
	end = (uintptr_t)memory.start + PAGE + pages;
	memory.data = (void *)((end - bytes) & ~(uintptr_t)(align - 1));
	return memory;
}

void guarded_free(struct guarded *memory)
{
	munmap(memory->start, memory->mapped);
}

static void create_split(struct guest *guest, uint16_t idx)
{
	guest->parts[1] = guarded_alloc(vring_avail_bytes(guest->size), VRING_AVAIL_ALIGN);
	guest->parts[2] = guarded_alloc(vring_used_bytes(guest->size), VRING_USED_ALIGN);
	guest->desc = guest->parts[0].data;
	guest->avail = guest->parts[1].data;
	guest->used = guest->parts[2].data;
	guest->avail->idx = idx;
	guest->used->idx = idx;
	guest->used_idx = idx;
}

/* Any number of slots after the start. */
static uint16_t position_after(uint32_t n, uint16_t size)
{
	return (uint16_t)(n % size | (n / size % 2 == 0 ? VRING_PACKED_START : 0));
}

static void create_packed(struct guest *guest, uint16_t idx)
{
	guest->parts[1] = guarded_alloc(VRING_EVENT_BYTES, VRING_EVENT_ALIGN);
	guest->parts[2] = guarded_alloc(VRING_EVENT_BYTES, VRING_EVENT_ALIGN);
	guest->slots = guest->parts[0].data;
	guest->driver_event = guest->parts[1].data;
	guest->device_event = guest->parts[2].data;
	guest->desc = calloc(N_STAGED(guest->size), sizeof(guest->desc[0]));
	guest->n_slots_of = calloc(65536, sizeof(guest->n_slots_of[0]));
	assert_non_null(guest->desc);
	assert_non_null(guest->n_slots_of);
	guest->avail_position = position_after(idx, guest->size);
	guest->used_position = guest->avail_position;
	/* What used descriptors of the laps before have left behind. */
	for (uint16_t i = 0; i < guest->size; i++) {
		bool wrap = vring_packed_wrap(guest->used_position) == (i < vring_packed_slot(guest->used_position));

		guest->slots[i].flags = wrap ? AVAIL | USED : 0;
	}
}

uint32_t guest_position(const struct guest *guest, uint32_t n)
{
	uint32_t position = guest->packed ? position_after(n, guest->size) : (uint16_t)n;

	return guest->packed ? position | position << 16 : position;
}

void guest_create(struct guest *guest, uint16_t size, uint16_t idx)
{
	const uint64_t gpas[] = {LOW, HIGH, LEFT, RIGHT, TOP};
	const uint64_t sizes[] = {LOW_BYTES, HIGH_BYTES, LEFT_BYTES, RIGHT_BYTES, TOP_BYTES};
	uint8_t *hvas[5];

	*guest = (struct guest){.size = size, .avail_idx = idx};
	guest->blocks[0] = guarded_alloc(LOW_BYTES, PAGE);
	guest->blocks[1] = guarded_alloc(HIGH_BYTES, PAGE);
	guest->blocks[2] = guarded_alloc(LEFT_BYTES + RIGHT_BYTES, PAGE);
	guest->blocks[3] = guarded_alloc(TOP_BYTES, PAGE);
	hvas[0] = guest->blocks[0].data;
	hvas[1] = guest->blocks[1].data;
	hvas[2] = guest->blocks[2].data;
	hvas[3] = hvas[2] + LEFT_BYTES;
	hvas[4] = guest->blocks[3].data;
	guest->mem = calloc(1, sizeof(*guest->mem) + 5 * sizeof(guest->mem->regions[0]));
	assert_non_null(guest->mem);
	guest->mem->n_regions = 5;
	for (unsigned int i = 0; i < 5; i++)
		guest->mem->regions[i] = (struct gmem_region){
			.gpa = gpas[i], .size = sizes[i], .uva = gpas[i], .hva = hvas[i]};

	guest->parts[0] = guarded_alloc(vring_desc_bytes(size), VRING_DESC_ALIGN);
	guest->packed = guest_is_packed;
	if (guest->packed)
		create_packed(guest, idx);
	else
		create_split(guest, idx);
}

void guest_destroy(struct guest *guest)
{
	for (unsigned int i = 0; i < 4; i++)
		guarded_free(&guest->blocks[i]);
	for (unsigned int i = 0; i < 3; i++)
		guarded_free(&guest->parts[i]);
	if (guest->packed) {
		free(guest->desc);
		free(guest->n_slots_of);
	}
	free(guest->mem);
}

struct vring_config guest_config(const struct guest *guest)
{
	return (struct vring_config){
		.size = guest->size,
		.packed = guest->packed,
		.indirect = true,
		.header_len = 12,
		.avail_idx = guest->packed ? guest->avail_position : guest->avail_idx,
		.used_idx = guest->used_position,
		.desc = guest->parts[0].data,
		.avail = guest->parts[1].data,
		.used = guest->parts[2].data,
		.mem = guest->mem,
	};
}

void guest_put(struct guest *guest, unsigned int at, uint64_t gpa, uint32_t len, uint16_t flags,
	uint16_t next)
{
	guest->desc[at].addr = gpa;
	guest->desc[at].len = len;
	guest->desc[at].flags = flags;
	guest->desc[at].next = next;
}

void guest_put_in_table(struct guest *guest, uint64_t table, unsigned int at, uint64_t gpa,
	uint32_t len, uint16_t flags, uint16_t next)
{
	const struct vring_desc entry = {.addr = gpa, .len = len, .flags = flags, .next = next};
	/* All flags but WRITE, and the id, are nobody's business here (2.8.7). */
	const struct vring_packed_desc packed = {.addr = gpa,
		.len = len,
		.id = (uint16_t)~next,
		.flags = flags | (at % 2 == 0 ? VRING_DESC_F_NEXT | VRING_DESC_F_INDIRECT | AVAIL : 0)};

	guest_write(guest, table + at * sizeof(entry),
		guest->packed ? (const void *)&packed : (const void *)&entry, sizeof(entry));
}

uint16_t guest_avail_flags(uint16_t position)
{
	return vring_packed_wrap(position) ? AVAIL : USED;
}

void guest_put_slot(struct guest *guest, unsigned int at, uint64_t gpa, uint32_t len, uint16_t id,
	uint16_t flags)
{
	struct vring_packed_desc *desc = &guest->slots[at];

	desc->addr = gpa;
	desc->len = len;
	desc->id = id;
	__atomic_store_n(&desc->flags, flags, __ATOMIC_RELEASE);
}

/* Copies the chain into the ring, its first descriptor last (2.8.21.1). */
static void offer_packed(struct guest *guest, uint16_t head)
{
	uint16_t first = guest->avail_position;
	uint16_t position = first;
	uint16_t at = head;
	uint16_t head_flags = 0;
	uint16_t n = 0;

	for (;;) {
		const struct vring_desc *desc = &guest->desc[at];
		bool more = (desc->flags & VRING_DESC_F_NEXT) != 0;
		uint16_t flags = desc->flags | guest_avail_flags(position);

		if (n == 0)
			head_flags = flags;
		guest_put_slot(guest, vring_packed_slot(position), desc->addr, desc->len,
			more ? (uint16_t)~head : head,
			n == 0 ? guest->slots[vring_packed_slot(position)].flags : flags);
		position = vring_packed_advance(position, 1, guest->size);
		n++;
		if (!more || n == guest->size)
			break;
		at = desc->next;
	}
	__atomic_store_n(
		&guest->slots[vring_packed_slot(first)].flags, head_flags, __ATOMIC_RELEASE);
	guest->avail_position = position;
	guest->n_slots_of[head] = n;
}

void guest_offer(struct guest *guest, uint16_t head)
{
	if (guest->packed) {
		guest->avail_idx++;
		offer_packed(guest, head);
		return;
	}
	guest->avail->ring[guest->avail_idx & (guest->size - 1)] = head;
	guest->avail_idx++;
	__atomic_store_n(&guest->avail->idx, guest->avail_idx, __ATOMIC_RELEASE);
}

static bool take_used_packed(struct guest *guest, struct guest_used *used)
{
	const struct vring_packed_desc *desc =
		&guest->slots[vring_packed_slot(guest->used_position)];
	uint16_t flags = __atomic_load_n(&desc->flags, __ATOMIC_ACQUIRE);

	if ((flags & (AVAIL | USED)) != (vring_packed_wrap(guest->used_position) ? AVAIL | USED : 0))
		return false;
	/* A device has no business with any other bit. */
	assert_int_equal(flags & ~(AVAIL | USED | VRING_DESC_F_WRITE), 0);
	*used = (struct guest_used){
		.id = desc->id, .len = desc->len, .is_written = flags & VRING_DESC_F_WRITE};
	guest->used_position = vring_packed_advance(
		guest->used_position, guest->n_slots_of[used->id], guest->size);
	return true;
}

bool guest_take_used(struct guest *guest, struct guest_used *used)
{
	const vring_used_elem_t *entry;

	if (guest->packed)
		return take_used_packed(guest, used);
	if (__atomic_load_n(&guest->used->idx, __ATOMIC_ACQUIRE) == guest->used_idx)
		return false;
	entry = &guest->used->ring[guest->used_idx++ & (guest->size - 1)];
	assert_in_range(entry->id, 0, guest->size - 1);
	*used = (struct guest_used){.id = (uint16_t)entry->id, .len = entry->len, .is_written = true};
	return true;
}

void guest_expect_used(struct guest *guest, uint16_t id, uint32_t len)
{
	struct guest_used used;

	assert_true(guest_take_used(guest, &used));
	assert_int_equal(used.id, id);
	assert_int_equal(used.len, len);
}

void guest_expect_no_used(struct guest *guest)
{
	struct guest_used used;

	assert_false(guest_take_used(guest, &used));
}

/* Byte by byte, so that it shares nothing with what is tested but the table. */
static uint8_t *byte_at(const struct guest *guest, uint64_t gpa)
{
	for (unsigned int i = 0; i < guest->mem->n_regions; i++) {
		const struct gmem_region *region = &guest->mem->regions[i];

		if (gpa >= region->gpa && gpa - region->gpa < region->size)
			return region->hva + (gpa - region->gpa);
	}
	fail_msg("the test itself uses gpa 0x%llx, which is in no region", (unsigned long long)gpa);
	return NULL;
}

void guest_write(struct guest *guest, uint64_t gpa, const void *from, size_t n)
{
	for (size_t i = 0; i < n; i++)
		*byte_at(guest, gpa + i) = ((const uint8_t *)from)[i];
}

void guest_read(const struct guest *guest, uint64_t gpa, void *to, size_t n)
{
	for (size_t i = 0; i < n; i++)
		((uint8_t *)to)[i] = *byte_at(guest, gpa + i);
}

void finish(struct vring_device *ring, const struct vring_burst *burst, unsigned int n)
{
	vring_device_return(ring, burst, n);
	vring_device_publish(ring);
}

uint64_t seed_get(void)
{
	const char *text = getenv("RINGWAY_TEST_SEED");
	uint64_t seed = text != NULL ? strtoull(text, NULL, 0) : 0x9e3779b97f4a7c15ULL;

	printf("seed 0x%llx (RINGWAY_TEST_SEED sets another)\n", (unsigned long long)seed);
	return seed != 0 ? seed : 1;
}

uint64_t random_next(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * 0x2545f4914f6cdd1dULL;
}

uint32_t random_below(uint64_t *state, uint32_t n)
{
	return (uint32_t)((random_next(state) >> 32) * n >> 32);
}
