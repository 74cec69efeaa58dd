/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "guest.h"

#define PAGE 4096UL

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
	guest->parts[1] = guarded_alloc(vring_avail_bytes(size), VRING_AVAIL_ALIGN);
	guest->parts[2] = guarded_alloc(vring_used_bytes(size), VRING_USED_ALIGN);
	guest->desc = guest->parts[0].data;
	guest->avail = guest->parts[1].data;
	guest->used = guest->parts[2].data;
	guest->avail->idx = idx;
	guest->used->idx = idx;
}

void guest_destroy(struct guest *guest)
{
	for (unsigned int i = 0; i < 4; i++)
		guarded_free(&guest->blocks[i]);
	for (unsigned int i = 0; i < 3; i++)
		guarded_free(&guest->parts[i]);
	free(guest->mem);
}

struct vring_config guest_config(const struct guest *guest)
{
	return (struct vring_config){
		.size = guest->size,
		.indirect = true,
		.header_len = 12,
		.avail_idx = guest->avail_idx,
		.desc = guest->desc,
		.avail = guest->avail,
		.used = guest->used,
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

	guest_write(guest, table + at * sizeof(entry), &entry, sizeof(entry));
}

void guest_offer(struct guest *guest, uint16_t head)
{
	guest->avail->ring[guest->avail_idx & (guest->size - 1)] = head;
	guest->avail_idx++;
	__atomic_store_n(&guest->avail->idx, guest->avail_idx, __ATOMIC_RELEASE);
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
