/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Runs: the fast way through a ring, beside the general verbs of vring/device.h.
 *
 * Nearly all buffers of nearly all guests are plain: one descriptor, of the right direction, of a sensible length, whole
 * in one memory region. A run is a row of plain buffers as columns (addresses, lengths, ids), so that the engine reads,
 * checks and translates as many at a time as the CPU's vectors hold. What is not plain ends the run and is left to the
 * general verbs; so a caller tries a run first:
 *
 *     n = vring_run_peek(ring, &run, VRING_READABLE, min, max, 32);
 *     if (n == VRING_RUN_ODD) ... vring_device_peek() ...
 *     ... read run.hva[i], run.len[i] ...
 *     vring_run_return_read(ring, &run, n);                       or, for a receive ring, _written(ring, &run, lengths, n)
 *     vring_device_publish(ring);
 *
 * Nothing is checked less than there: what is used of an index or descriptor is read once into private memory, the copy is
 * checked and used, every address is translated with its length. A run never breaks a ring and never counts a fault: whatever is
 * wrong is odd, and the general verb says what it is.
 *
 * There is code for any CPU (run_portable.c) and, compiled from one body, for those with wide vectors (run_vector.h).
 * Which is used is decided when the ring is initialised, by the CPU it runs on, vring_isa_limit() and what was negotiated.
 *
 * Thread rule: as vring/device.h.
 */
#ifndef VRING_RUN_H
#define VRING_RUN_H

#include <vring/device.h>

/* Buffers of one run. */
#define VRING_RUN_MAX 32

/* The next buffers are not plain, or the ring is broken or about to be: use the general verb. */
#define VRING_RUN_ODD (-1)

/* Entries [0, n) of each column; what lies behind them is undefined. */
struct vring_run {
	uint64_t hva[VRING_RUN_MAX] __attribute__((aligned(64))); /* our addresses */
	uint64_t addr[VRING_RUN_MAX]; /* the guest's addresses; packed rings only */
	uint32_t len[VRING_RUN_MAX];
	uint16_t id[VRING_RUN_MAX];
};

/*
 * The next plain buffers of min_len..max_len bytes (1 <= min_len <= max_len < 2^32), at most `max` (1..VRING_RUN_MAX).
 * Returns how many, 0 if the driver has made none available, or VRING_RUN_ODD. Fewer than there are may come: a run ends
 * at the end of the ring. A few plain buffers before an odd one are odd as well: the general verb does better with a mix.
 */
static inline int vring_run_peek(struct vring_device *ring, struct vring_run *run,
	enum vring_direction direction, uint32_t min_len, uint32_t max_len, unsigned int max);

/* As vring_device_return() for the first n buffers of a run, into which nothing was written. */
static inline void vring_run_return_read(
	struct vring_device *ring, const struct vring_run *run, unsigned int n);

/* The same, lengths[i] bytes having been written to buffer i. `lengths` has room for VRING_RUN_MAX. */
static inline void vring_run_return_written(struct vring_device *ring, const struct vring_run *run,
	const uint32_t *lengths, unsigned int n);

/* Instruction sets there is code for, each wider than the one before. */
enum vring_isa {
	VRING_ISA_PORTABLE,
	VRING_ISA_AVX2,
	VRING_ISA_AVX512, /* F, BW, DQ, VL */
	VRING_N_ISAS,
};

const char *vring_isa_name(enum vring_isa isa);

/* The widest this CPU has, up to the limit. */
enum vring_isa vring_isa_best(void);

/* Rings initialised from now on use nothing wider than `isa`. Before any thread uses a ring. */
void vring_isa_limit(enum vring_isa isa);

/* ---- How the verbs are reached: one indirect call per run ---- */

struct vring_run_ops {
	int (*peek)(struct vring_device *ring, struct vring_run *run, enum vring_direction direction,
		uint32_t min_len, uint32_t max_len, unsigned int max);
	void (*return_read)(
		struct vring_device *ring, const struct vring_run *run, unsigned int n);
	void (*return_written)(struct vring_device *ring, const struct vring_run *run,
		const uint32_t *lengths, unsigned int n);
};

static inline int vring_run_peek(struct vring_device *ring, struct vring_run *run,
	enum vring_direction direction, uint32_t min_len, uint32_t max_len, unsigned int max)
{
	return ring->run->peek(ring, run, direction, min_len, max_len, max);
}

static inline void vring_run_return_read(
	struct vring_device *ring, const struct vring_run *run, unsigned int n)
{
	ring->run->return_read(ring, run, n);
}

static inline void vring_run_return_written(struct vring_device *ring, const struct vring_run *run,
	const uint32_t *lengths, unsigned int n)
{
	ring->run->return_written(ring, run, lengths, n);
}

#endif
