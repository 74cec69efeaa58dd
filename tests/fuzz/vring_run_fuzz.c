/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Runs over a guest made of noise: every instruction set this CPU has gives the same run, it is the one that the general
 * verbs and the definition of a plain buffer make of the same memory, and after a return all leave the same bytes in all of
 * the guest's memory. Noise alone has few plain buffers, so the input may lay out rows of them, odd ones among them.
 */
#include <string.h>

#include <vring/run.h>

#include "noise.h"

/* What a run that ends early is worth; see vring_run_peek(). */
#define WORTHWHILE 4

struct memory_copy {
	uint8_t bytes[NOISE_N_REGIONS][NOISE_PAGE];
};

static struct vring_burst burst;
static struct memory_copy before, after_first, after_other;

/* One question. */
struct request {
	enum vring_direction direction;
	uint32_t min_len;
	uint32_t max_len;
	unsigned int max;
};

static void memory_save(struct memory_copy *copy)
{
	for (unsigned int i = 0; i < NOISE_N_REGIONS; i++)
		memcpy(copy->bytes[i], noise_memory.regions[i].hva, NOISE_PAGE);
}

/*
 * After a return of n buffers from `ring`: the address of a used descriptor says nothing (2.8.4), and who writes one leaves
 * that of the buffer there. If the buffer was not taken from that slot, that shows.
 */
static void addresses_forget(const struct vring_device *ring, unsigned int n)
{
	for (unsigned int i = 0; ring->packed && ring->used_idx != ring->last_avail_idx && i < n; i++)
		ring->desc[vring_packed_slot(vring_packed_advance(ring->used_idx, i, ring->size))].addr = 0;
}

static void memory_restore(const struct memory_copy *copy)
{
	for (unsigned int i = 0; i < NOISE_N_REGIONS; i++)
		memcpy(noise_memory.regions[i].hva, copy->bytes[i], NOISE_PAGE);
}

/* Makes up to a ring full of buffers available, from the next on, all of them plain but for one or two. */
static void put_row(struct vring_device *ring, struct input *input)
{
	struct vring_packed_desc *slots = (struct vring_packed_desc *)(void *)ring->desc;
	uint32_t how = take(input, 1); /* bits 0, 1: regions in turn, 2: scattered heads, 3: writable, 4, 5: odd ones */
	uint32_t n = take(input, 1) % (ring->size + 1U);
	uint32_t where = take(input, 2);
	uint32_t len = 1 + take(input, 1);
	uint32_t odd = take(input, 2);
	uint32_t stride = where >> 12;

	for (uint32_t i = 0; i < n; i++) {
		bool is_odd = (how & 0x10) != 0 && (i == odd % ring->size || i == (odd >> 4) % ring->size);
		uint64_t addr = noise_gpas[(where + i * (how & 3)) % NOISE_N_REGIONS] + where % 0x400 + i * stride;
		uint16_t flags = (how & 8) != 0 ? VRING_DESC_F_WRITE : 0;
		uint16_t position = vring_packed_advance(ring->last_avail_idx, i, ring->size);
		uint16_t head = (uint16_t)((ring->last_avail_idx + i) * ((how & 4) != 0 ? 5 : 1) & ring->mask);
		uint32_t this_len = len;

		switch (is_odd ? odd >> 12 : 15) {
		case 0:
			this_len = 0;
			break;
		case 1:
			this_len = UINT32_MAX - (odd & 1);
			break;
		case 2:
			addr = noise_gpas[2] + NOISE_PAGE - len + 1;
			break;
		case 3:
			addr = noise_gpas[0] - 1;
			break;
		case 4:
			addr = (uint64_t)odd << 48;
			break;
		case 5:
			head = (uint16_t)odd;
			break;
		case 6:
		case 7:
		case 8:
		case 9:
			flags ^= (uint16_t)(1U << (odd >> 12) % 3);
			break;
		default:
			break;
		}
		if (ring->packed) {
			slots[vring_packed_slot(position)] = (struct vring_packed_desc){
				.addr = addr,
				.len = this_len,
				.id = (uint16_t)(odd + i),
				.flags = (uint16_t)(flags |
					1U << (vring_packed_wrap(position) ? VRING_PACKED_DESC_F_AVAIL
									   : VRING_PACKED_DESC_F_USED)),
			};
			continue;
		}
		ring->desc[head & ring->mask] =
			(struct vring_desc){.addr = addr, .len = this_len, .flags = flags, .next = (uint16_t)odd};
		ring->avail->ring[(ring->last_avail_idx + i) & ring->mask] = head;
	}
	if (!ring->packed)
		ring->avail->idx = (uint16_t)(ring->last_avail_idx + n);
}

/* Slots until the ring's end that are available, at most `max`. */
static unsigned int n_available(const struct vring_device *ring, unsigned int max)
{
	const struct vring_packed_desc *slots = (const struct vring_packed_desc *)(const void *)ring->desc;
	unsigned int first, n, lead;

	if (!ring->packed) {
		first = ring->last_avail_idx % ring->size;
		lead = (uint16_t)(ring->avail->idx - ring->last_avail_idx);
		n = lead < ring->size - first ? lead : ring->size - first;
		return n < max ? n : max;
	}
	first = vring_packed_slot(ring->last_avail_idx);
	for (n = 0; n < max && first + n < ring->size; n++) {
		if (!noise_is_available(&slots[first + n], vring_packed_wrap(ring->last_avail_idx)))
			break;
	}
	return n;
}

/* Whether buffer `at` of the burst, which holds one buffer for each slot before it, is plain. */
static bool is_plain(const struct vring_device *ring, unsigned int at, const struct request *request)
{
	const uint16_t wanted = request->direction == VRING_WRITABLE ? VRING_DESC_F_WRITE : 0;
	const struct vring_buffer *buffer = &burst.buffers[at];
	unsigned int slot = ring->packed ? vring_packed_slot(ring->last_avail_idx) + at : buffer->id;
	/* Flags lie in the one layout where `next` does in the other. */
	uint16_t flags = ring->packed ? ring->desc[slot].next : ring->desc[slot].flags;

	return buffer->fault == VRING_OK && buffer->n_pieces == 1 && (flags & 7) == wanted &&
	       buffer->len >= request->min_len && buffer->len <= request->max_len;
}

/* What the run has to be, as the general verb sees the same memory; leaves the buffers in the burst. */
static int expect(const struct vring_device *ring, const struct request *request)
{
	struct vring_device general = *ring;
	unsigned int n_there = n_available(ring, request->max);
	unsigned int n = 0;
	int got;

	/* What a buffer must hold at least is the caller's business here. */
	general.writable_min_len = 1;
	got = vring_device_peek(&general, &burst, request->direction, request->max);
	if (got < 0)
		return VRING_RUN_ODD;
	require((got == 0) == (n_there == 0), "the general verb finds something else available");
	while (n < n_there && n < (unsigned int)got && is_plain(ring, n, request))
		n++;
	return n == n_there || n >= WORTHWHILE ? (int)n : VRING_RUN_ODD;
}

static void require_run(const struct vring_device *ring, const struct vring_run *run, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++) {
		const struct vring_buffer *buffer = &burst.buffers[i];

		require(run->id[i] == buffer->id, "another id");
		require(run->len[i] == buffer->len, "another length");
		require(run->hva[i] == (uintptr_t)buffer->pieces[0].hva, "another address");
		if (ring->packed)
			require(run->addr[i] ==
					ring->desc[vring_packed_slot(ring->last_avail_idx) + i].addr,
				"another address of the guest's");
	}
}

/*
 * Returns n buffers of the burst in the general way. False if a run need not leave the same behind: of readable buffers in
 * order it writes one entry, as a packed ring's general verb does and a split ring's does not (2.7.9 allows either).
 */
static bool return_generally(
	const struct vring_device *ring, const uint32_t *lengths, unsigned int n, bool publish)
{
	struct vring_device general = *ring;

	for (unsigned int i = 0; i < n; i++)
		burst.buffers[i].used_len = burst.direction == VRING_WRITABLE ? lengths[i] : 0;
	vring_device_return(&general, &burst, n);
	if (publish)
		vring_device_publish(&general);
	return ring->packed || !ring->in_order || burst.direction == VRING_WRITABLE;
}

/* The same question to each instruction set; `ring` goes on as one of them leaves it. */
static void ask_all(struct vring_device *ring, const struct vring_device *of_isa, struct input *input,
	enum vring_direction direction)
{
	const uint32_t what = take(input, 1);
	const uint32_t max = 1 + take(input, 1) % VRING_RUN_MAX;
	const uint32_t min_len = 1 + (what & 1) * take(input, 1);
	const struct request request = {
		.direction = direction,
		.min_len = min_len,
		.max_len = (what & 2) != 0 ? min_len + 100 : UINT32_MAX,
		.max = max,
	};
	const uint32_t seed = take(input, 1);
	uint32_t lengths[VRING_RUN_MAX] = {0};
	struct vring_device next = *ring;
	unsigned int n_returned = 0;
	bool has_first = false;
	int n = expect(ring, &request);

	for (unsigned int i = 0; i < VRING_RUN_MAX; i++)
		lengths[i] = (seed + i) * 0x9e3779b9U;
	if (n > 0) {
		n_returned = (what & 0x0c) != 0 ? (unsigned int)n : seed % ((unsigned int)n + 1);
		memory_save(&before);
		has_first = return_generally(ring, lengths, n_returned, (what & 0x10) != 0);
		addresses_forget(ring, n_returned);
		memory_save(&after_first);
	}
	for (enum vring_isa isa = 0; isa <= vring_isa_best(); isa++) {
		struct vring_device twin = *ring;
		struct vring_run run;

		twin.run = of_isa[isa].run;
		if (n > 0)
			memory_restore(&before);
		require(vring_run_peek(&twin, &run, direction, request.min_len, request.max_len, request.max) == n,
			"another number of buffers");
		require(twin.breakage == VRING_INTACT, "a run breaks the ring");
		if (n <= 0)
			continue;
		require_run(&twin, &run, (unsigned int)n);
		if (direction == VRING_WRITABLE)
			vring_run_return_written(&twin, &run, lengths, n_returned);
		else
			vring_run_return_read(&twin, &run, n_returned);
		if ((what & 0x10) != 0)
			vring_device_publish(&twin);
		addresses_forget(ring, n_returned);
		memory_save(has_first ? &after_other : &after_first);
		require(!has_first || memcmp(&after_first, &after_other, sizeof(after_first)) == 0, "another return");
		has_first = true;
		if (isa == what >> 5)
			next = twin;
	}
	*ring = next;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input input = {data, size};
	struct vring_config config = noise_ring(&input);
	struct vring_device of_isa[VRING_N_ISAS];
	struct vring_device ring;

	for (enum vring_isa isa = 0; isa < VRING_N_ISAS; isa++) {
		vring_isa_limit(isa);
		require(vring_device_init(&of_isa[isa], &config) == 0, "refuses a good configuration");
	}
	ring = of_isa[VRING_ISA_PORTABLE];
	while (input.left > 0) {
		uint32_t verb = take(&input, 1);

		switch (verb % 4) {
		case 0:
			put_row(&ring, &input);
			break;
		case 1:
			noise_poke(&ring, &input);
			break;
		default:
			ask_all(&ring, of_isa, &input, verb & 0x80 ? VRING_WRITABLE : VRING_READABLE);
		}
	}
	return 0;
}
