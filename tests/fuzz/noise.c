/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "noise.h"

const uint64_t noise_gpas[NOISE_N_REGIONS] = {0x1000, 0x2000, 0x8000, UINT64_MAX - NOISE_PAGE + 1};

struct noise_memory noise_memory;

uint32_t take(struct input *input, uint32_t n_bytes)
{
	uint32_t value = 0;

	for (; n_bytes > 0 && input->left > 0; n_bytes--, input->left--)
		value = value << 8 | *input->data++;
	return value;
}

void require(bool holds, const char *what)
{
	if (holds)
		return;
	fprintf(stderr, "%s: %s\n", program_invocation_short_name, what);
	abort();
}

static void map_once(void)
{
	uint8_t *hvas[NOISE_N_REGIONS];
	uint8_t *space;

	if (noise_memory.mem.n_regions > 0)
		return;
	/* A killing page around each but the two that touch: [.] a [.] b c [.] d [.] */
	space = mmap(NULL, 9 * NOISE_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	require(space != MAP_FAILED, "no memory");
	hvas[0] = space + NOISE_PAGE;
	hvas[1] = space + 3 * NOISE_PAGE;
	hvas[2] = space + 4 * NOISE_PAGE;
	hvas[3] = space + 6 * NOISE_PAGE;
	noise_memory.mem.n_regions = NOISE_N_REGIONS;
	for (unsigned int i = 0; i < NOISE_N_REGIONS; i++) {
		require(mprotect(hvas[i], NOISE_PAGE, PROT_READ | PROT_WRITE) == 0, "no memory");
		noise_memory.regions[i] = (struct gmem_region){
			.gpa = noise_gpas[i], .size = NOISE_PAGE, .hva = hvas[i]};
	}
}

static void noise_index(uint32_t how)
{
	struct gmem *mem = &noise_memory.mem;

	mem->n_regions = NOISE_N_REGIONS - (how & 1);
	mem->n_slots = 0;
	if ((how & 2) != 0)
		gmem_index(mem);
}

struct vring_config noise_ring(struct input *input)
{
	struct vring_config config;
	uint32_t shape = take(input, 4);
	uint32_t layout = take(input, 1); /* bit 0: packed, 1: in order, others: size of a packed ring */
	uint32_t base;
	uint8_t *home;

	map_once();
	noise_index(take(input, 1));
	home = noise_memory.regions[shape >> 30].hva;
	config = (struct vring_config){
		.size = (uint16_t)(layout & 1 ? 1 + (layout >> 2) : 1U << (shape & 3) << (shape >> 2 & 3)),
		.packed = layout & 1,
		.in_order = layout >> 1 & 1,
		.event_idx = shape >> 4 & 1,
		.indirect = shape >> 5 & 1,
		.mergeable = shape >> 6 & 1,
		.header_len = (shape >> 7 & 1) * 12,
		/* The largest ring (64) takes 1024 + 134 + 518 bytes. */
		.desc = home + (shape >> 8 & 0x7f) * 16,
		.avail = home + (shape >> 15 & 0x7ff),
		.used = home + 2048 + (shape >> 26 & 0xf) * 64,
		.mem = &noise_memory.mem,
	};
	config.avail = (void *)((uintptr_t)config.avail & ~(uintptr_t)(config.packed ? 3 : 1));
	for (unsigned int i = 0; i < NOISE_N_REGIONS; i++)
		memset(noise_memory.regions[i].hva, 0, NOISE_PAGE);
	for (uint32_t i = 0, n = take(input, 1) % 64; i < n && input->left > 0; i++) {
		struct vring_desc desc = {
			.addr = noise_gpas[take(input, 1) % NOISE_N_REGIONS] + take(input, 2) % (NOISE_PAGE + 8),
			.len = take(input, 1),
			.flags = (uint16_t)(take(input, 1) & 7),
			.next = (uint16_t)(take(input, 1) & 15),
		};

		/* Descriptors beyond the ring's size make tables, wherever the ring's area ends. */
		memcpy((uint8_t *)config.desc + i * sizeof(desc), &desc, sizeof(desc));
	}
	base = take(input, 2);
	config.avail_idx = (uint16_t)base;
	if (config.packed) {
		uint32_t lead = take(input, 1);

		/* Whoever says where a ring goes on may say that it is at two places at once. */
		config.avail_idx = (uint16_t)((base & 0x8000) | base % config.size);
		config.used_idx = vring_packed_advance(
			config.avail_idx, lead >= 192 ? lead % config.size : 0, config.size);
	}
	return config;
}

bool noise_is_available(const struct vring_packed_desc *desc, bool wrap)
{
	bool avail = desc->flags >> VRING_PACKED_DESC_F_AVAIL & 1;
	bool used = desc->flags >> VRING_PACKED_DESC_F_USED & 1;

	return avail == wrap && used != wrap;
}

/* Makes a slot of a packed ring what it takes to be a descriptor of this lap, mostly. */
static void poke_packed(struct vring_device *ring, uint32_t what, uint32_t where, uint32_t value, uint32_t len)
{
	struct vring_packed_desc *slots = (struct vring_packed_desc *)(void *)ring->desc;
	uint16_t position = vring_packed_advance(ring->last_avail_idx, where % ring->size, ring->size);
	bool avail = vring_packed_wrap(position) ^ ((what & 0xc0) == 0xc0);

	slots[vring_packed_slot(position)] = (struct vring_packed_desc){
		.addr = noise_gpas[value % NOISE_N_REGIONS] + (value >> 4),
		.len = len,
		.id = (uint16_t)value,
		.flags = (uint16_t)((what >> 2 & 7) |
			1U << (avail ? VRING_PACKED_DESC_F_AVAIL : VRING_PACKED_DESC_F_USED)),
	};
}

void noise_poke(struct vring_device *ring, struct input *input)
{
	uint32_t what = take(input, 1);
	uint32_t where = take(input, 2);
	uint32_t value = take(input, 2);

	if (ring->packed && what % 4 != 3) {
		poke_packed(ring, what, where, value, take(input, 1));
		return;
	}
	switch (what % 4) {
	case 0:
		ring->avail->idx = (uint16_t)(ring->last_avail_idx + value % (ring->size + 1U));
		break;
	case 1:
		ring->avail->ring[where & ring->mask] = (uint16_t)(value & ring->mask);
		break;
	case 2:
		ring->desc[where & ring->mask] = (struct vring_desc){
			.addr = noise_gpas[value % NOISE_N_REGIONS] + (value >> 4),
			.len = take(input, 1),
			.flags = (uint16_t)(what >> 2),
			.next = (uint16_t)(value & ring->mask),
		};
		break;
	default:
		noise_memory.regions[where % NOISE_N_REGIONS].hva[(where >> 2) % NOISE_PAGE] = (uint8_t)value;
	}
}

