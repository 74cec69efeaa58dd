/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A guest made of noise, for targets that fuzz the device side of a ring: the input is a ring's shape, then the guest's
 * memory, then whatever the target makes of the rest. Ring parts lie in guest memory at places the input chooses, so
 * they overlap each other, the tables and the buffers.
 */
#ifndef TESTS_FUZZ_NOISE_H
#define TESTS_FUZZ_NOISE_H

#include <stddef.h>

#include <vring/device.h>

#define NOISE_PAGE      4096U
#define NOISE_N_REGIONS 4U

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
	const uint8_t *data;
	size_t left;
};

/* The next bytes of the input as a number, zero where it has ended. */
uint32_t take(struct input *input, uint32_t n_bytes);

/* Ends the process unless it holds. */
void require(bool holds, const char *what);

/*
 * Regions of one page each: a and b follow each other in gpa, b and c in hva, d ends where addresses end. A killing page
 * lies around each but the two that touch. The table has d or not, and is found through slots or by searching: gmem.h.
 */
extern struct noise_memory {
	struct gmem mem;
	struct gmem_region regions[NOISE_N_REGIONS];
} noise_memory;

extern const uint64_t noise_gpas[NOISE_N_REGIONS];

/* Fills the memory and lays a ring of at most 64 slots into it. Every configuration is a legal one. */
struct vring_config noise_ring(struct input *input);

/* Changes something: what is available, a descriptor, any byte. */
void noise_poke(struct vring_device *ring, struct input *input);

/* Packed: whether a descriptor is available at a place with this wrap counter (2.8.1), said in another way than there. */
bool noise_is_available(const struct vring_packed_desc *desc, bool wrap);

#endif
