/* SPDX-License-Identifier: BSD-3-Clause */
/* Runs one buffer after the other, on any CPU. */
#include "run_internal.h"

/* Puts a descriptor in private memory into the run. False if it is not plain. */
static inline bool take(struct vring_device *ring, struct vring_run *run, unsigned int at,
	uint64_t addr, uint64_t word, const struct run_limits *limits)
{
	uint32_t len = desc_len(word);
	uint64_t contiguous;
	uint8_t *hva;

	if (((word ^ limits->wanted) & limits->shape) != 0 || len < limits->min_len ||
		len > limits->max_len)
		return false;
	hva = gmem_translate_cached(ring->mem, &ring->cache, addr, len, &contiguous);
	if (hva == NULL || contiguous != len)
		return false;
	run->hva[at] = (uintptr_t)hva;
	run->len[at] = len;
	return true;
}

/* ---- What is the same for every instruction set ---- */

/* 2.7.9: the entry of the last buffer stands for those before it, in the place of the first. */
void run_split_return_read_in_order(
	struct vring_device *ring, const struct vring_run *run, unsigned int n)
{
	if (n == 0)
		return;
	run_used_write(ring, 0, run->id[n - 1], 0);
	run_split_advance(ring, n);
}

/* 2.8.8: the descriptor of the last buffer stands for those before it, in the place of the first. */
void run_packed_return_read_in_order(
	struct vring_device *ring, const struct vring_run *run, unsigned int n)
{
	if (n == 0)
		return;
	packed_desc_use(ring, ring->used_idx, run->id[n - 1], 0, false);
	run_packed_advance(ring, n);
}

/* ---- Split ring (virtio 2.7) ---- */

unsigned int run_split_rest(struct vring_device *ring, struct vring_run *run, unsigned int at,
	unsigned int n, const struct run_limits *limits)
{
	for (; at < n; at++) {
		struct private_desc desc = desc_load(&ring->desc[run->id[at]]);

		if (!take(ring, run, at, desc.addr, desc.word, limits))
			break;
	}
	return at;
}

int run_split_few(struct vring_device *ring, struct vring_run *run, unsigned int n,
	enum vring_direction direction, uint32_t min_len, uint32_t max_len)
{
	const struct run_limits limits = run_limits_split(direction, min_len, max_len);
	const uint16_t *entries = &ring->avail->ring[ring->last_avail_idx & ring->mask];
	unsigned int at;

	for (at = 0; at < n; at++) {
		uint16_t head = __atomic_load_n(&entries[at], __ATOMIC_RELAXED);
		struct private_desc desc;

		/* A head outside the table is odd as well. */
		if (head > ring->mask)
			break;
		desc = desc_load(&ring->desc[head]);
		if (!take(ring, run, at, desc.addr, desc.word, &limits))
			break;
		run->id[at] = head;
	}
	return run_result(at, n);
}

static int split_peek(struct vring_device *ring, struct vring_run *run,
	enum vring_direction direction, uint32_t min_len, uint32_t max_len, unsigned int max)
{
	int n = run_split_room(ring, max);

	return n <= 0 ? n : run_split_few(ring, run, (unsigned int)n, direction, min_len, max_len);
}

static void split_return_written(struct vring_device *ring, const struct vring_run *run,
	const uint32_t *lengths, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++)
		run_used_write(ring, i, run->id[i], lengths[i]);
	run_split_advance(ring, n);
}

static void split_return_read(
	struct vring_device *ring, const struct vring_run *run, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++)
		run_used_write(ring, i, run->id[i], 0);
	run_split_advance(ring, n);
}

/* ---- Packed ring (virtio 2.8) ---- */

unsigned int run_packed_rest(struct vring_device *ring, struct vring_run *run, unsigned int at,
	unsigned int n, const struct run_limits *limits)
{
	const struct vring_packed_desc *desc = packed_desc_at(ring, ring->last_avail_idx);

	for (; at < n; at++) {
		uint64_t word = packed_word_load(&desc[at]);
		uint64_t addr = __atomic_load_n(&desc[at].addr, __ATOMIC_RELAXED);

		if (!take(ring, run, at, addr, word, limits))
			break;
		run->addr[at] = addr;
		run->id[at] = (uint16_t)(word >> 32);
	}
	return at;
}

static int packed_peek(struct vring_device *ring, struct vring_run *run,
	enum vring_direction direction, uint32_t min_len, uint32_t max_len, unsigned int max)
{
	const struct run_limits limits = run_limits_packed(direction, min_len, max_len);
	unsigned int n = run_packed_room(ring, ring->last_avail_idx, max);
	unsigned int n_available = 0;

	if (ring->breakage != VRING_INTACT)
		return VRING_RUN_ODD;
	while (n_available < n && run_is_available(ring, n_available))
		n_available++;
	return run_result(run_packed_rest(ring, run, 0, n_available, &limits), n_available);
}

static void packed_return_written(struct vring_device *ring, const struct vring_run *run,
	const uint32_t *lengths, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++) {
		packed_desc_use(ring, ring->used_idx, run->id[i], lengths[i], true);
		run_packed_advance(ring, 1);
	}
}

static void packed_return_read(
	struct vring_device *ring, const struct vring_run *run, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++) {
		packed_desc_use(ring, ring->used_idx, run->id[i], 0, false);
		run_packed_advance(ring, 1);
	}
}

const struct vring_run_ops run_portable[RUN_N_KINDS] = {
	[RUN_SPLIT] = {split_peek, split_return_read, split_return_written},
	[RUN_SPLIT_IN_ORDER] = {split_peek, run_split_return_read_in_order, split_return_written},
	[RUN_PACKED] = {packed_peek, packed_return_read, packed_return_written},
	[RUN_PACKED_IN_ORDER] = {packed_peek, run_packed_return_read_in_order,
		packed_return_written},
};
