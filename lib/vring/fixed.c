/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <stdlib.h>

#include "fixed_packed.h"

static const char *const breakage_names[] = {
	[VRING_FIXED_INTACT] = "intact",
	[VRING_FIXED_BROKEN_USED_IDX] = "used index jumped past what was offered",
	[VRING_FIXED_BROKEN_USED_ID] = "used entry names a buffer that is not outstanding",
};
_Static_assert(sizeof(breakage_names) / sizeof(breakage_names[0]) == VRING_FIXED_N_BREAKAGES,
	"a name for each breakage");

static bool is_power_of_two(uint32_t n)
{
	return n != 0 && (n & (n - 1)) == 0;
}

int vring_fixed_init(struct vring_fixed *ring, const struct vring_fixed_config *config)
{
	if (config->size == 0 || config->size > 32768 || !is_power_of_two(config->n_chain))
		return -EINVAL;
	if (!config->packed && !is_power_of_two(config->size))
		return -EINVAL;
	if (!config->indirect && config->n_chain > config->size)
		return -EINVAL;
	*ring = (struct vring_fixed){
		.desc = config->desc,
		.avail = config->avail,
		.used = config->used,
		.mask = (uint16_t)(config->size - 1),
		.n_slots = config->indirect ? config->size
					    : (uint16_t)(config->size / config->n_chain),
		.chain_shift = config->indirect ? 0 : (uint8_t)__builtin_ctz(config->n_chain),
		.writable = config->writable,
		.event_idx = config->event_idx,
		.in_order = config->in_order,
		.indirect = config->indirect,
		.packed = config->packed,
		.n_chain = config->n_chain,
		.tables = config->tables,
		.tables_gpa = config->tables_gpa,
	};
	ring->slots = calloc(ring->n_slots, sizeof(*ring->slots));
	if (ring->slots == NULL || (config->packed && fixed_packed_init(ring, config) != 0)) {
		vring_fixed_fini(ring);
		return -ENOMEM;
	}
	/* With IN_ORDER slots come round, and n_slots divides the ring: all that will ever be available is known. */
	for (unsigned int i = 0; config->in_order && !config->packed && i < config->size; i++)
		ring->avail->ring[i] = (uint16_t)((i & (ring->n_slots - 1u)) << ring->chain_shift);
	vring_fixed_set_call(ring, false);
	return 0;
}

void vring_fixed_fini(struct vring_fixed *ring)
{
	free(ring->slots);
	free(ring->images);
	free(ring->ages);
	ring->slots = NULL;
	ring->images = NULL;
	ring->ages = NULL;
}

void vring_fixed_describe(struct vring_fixed *ring, unsigned int slot, uint64_t gpa, uint32_t len)
{
	uint32_t first = ring->indirect ? 0 : slot * ring->n_chain;
	struct vring_desc *chain =
		ring->indirect ? &ring->tables[slot * ring->n_chain] : &ring->desc[first];
	uint32_t piece = len / ring->n_chain;

	ring->slots[slot].capacity = ring->writable ? len : 0;
	if (ring->packed) {
		fixed_packed_describe(ring, slot, gpa, len);
		return;
	}
	for (uint32_t i = 0; i < ring->n_chain; i++) {
		bool last = i + 1 == ring->n_chain;

		chain[i] = (struct vring_desc){
			.addr = gpa + (uint64_t)i * piece,
			.len = last ? len - i * piece : piece,
			.flags = (uint16_t)((last ? 0 : VRING_DESC_F_NEXT) |
					    (ring->writable ? VRING_DESC_F_WRITE : 0)),
			/* Also where the flag is missing: IN_ORDER wants x + 1 throughout
			   (2.7.5.2). */
			.next = (uint16_t)((first + i + 1) &
					   (ring->indirect ? 0xffff : ring->mask)),
		};
	}
	if (ring->indirect)
		ring->desc[slot] = (struct vring_desc){
			.addr = ring->tables_gpa + (uint64_t)slot * ring->n_chain * sizeof(*chain),
			.len = (uint32_t)(ring->n_chain * sizeof(*chain)),
			.flags = VRING_DESC_F_INDIRECT,
			.next = (uint16_t)((slot + 1) & ring->mask),
		};
}

bool vring_fixed_needs_kick(struct vring_fixed *ring)
{
	uint16_t old = ring->kicked_idx, new = ring->published_idx;

	if (old == new)
		return false;
	ring->kicked_idx = new;
	if (ring->packed)
		return fixed_packed_needs_kick(ring, (uint16_t)(new - old));
	/* Fence K: the available index before the look at the device's wish (2.7.13.4.1); pairs
	 * with the device's fence. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (ring->event_idx) {
		uint16_t event = __atomic_load_n(
			vring_avail_event_of(ring->used, (uint16_t)(ring->mask + 1)),
			__ATOMIC_RELAXED);

		return (uint16_t)(new - event - 1) < (uint16_t)(new - old);
	}
	return !(__atomic_load_n(&ring->used->flags, __ATOMIC_RELAXED) & VRING_USED_F_NO_NOTIFY);
}

void vring_fixed_set_call(struct vring_fixed *ring, bool wanted)
{
	if (ring->packed) {
		fixed_packed_set_call(ring, wanted);
		return;
	}
	if (ring->event_idx)
		/* Not wanted: an index half a circle away, which the device does not reach before
		 * it is set again. */
		__atomic_store_n(vring_used_event_of(ring->avail, (uint16_t)(ring->mask + 1)),
			wanted ? ring->used_idx : (uint16_t)(ring->used_idx - 0x8000),
			__ATOMIC_RELAXED);
	else
		__atomic_store_n(&ring->avail->flags, wanted ? 0 : VRING_AVAIL_F_NO_INTERRUPT,
			__ATOMIC_RELAXED);
	/* Fence C: the wish before the caller's last look at the used index; pairs with the
	 * device's fence. */
	if (wanted)
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

static uint16_t split_pending(const struct vring_fixed *ring)
{
	return (uint16_t)(__atomic_load_n(&ring->used->idx, __ATOMIC_ACQUIRE) - ring->used_idx);
}

uint16_t vring_fixed_pending(const struct vring_fixed *ring)
{
	return ring->packed ? fixed_packed_pending(ring) : split_pending(ring);
}

uint32_t vring_fixed_resume(struct vring_fixed *ring)
{
	/* A device's used index is how far it got: 0 at first. */
	return ring->packed ? fixed_packed_resume(ring)
			    : __atomic_load_n(&ring->used->idx, __ATOMIC_ACQUIRE);
}

static int broken(struct vring_fixed *ring, enum vring_fixed_breakage breakage)
{
	ring->breakage = (uint8_t)breakage;
	return -EPROTO;
}

static int collect_any_order(struct vring_fixed *ring, uint16_t *slots, uint32_t *lens, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++) {
		const struct vring_used_elem *entry =
			&ring->used->ring[(uint16_t)(ring->used_idx + i) & ring->mask];
		uint32_t id = __atomic_load_n(&entry->id, __ATOMIC_RELAXED);
		uint32_t slot = id >> ring->chain_shift;

		if (slot >= ring->n_slots || slot << ring->chain_shift != id ||
			!ring->slots[slot].outstanding)
			return broken(ring, VRING_FIXED_BROKEN_USED_ID);
		ring->slots[slot].outstanding = false;
		slots[i] = (uint16_t)slot;
		if (ring->writable)
			lens[i] = fixed_clamp(&ring->slots[slot], __atomic_load_n(&entry->len, __ATOMIC_RELAXED));
	}
	return (int)n;
}

/* The n slots from `slot` on. */
static void take_round(uint16_t *slots, uint32_t slot, unsigned int n, uint32_t slot_mask)
{
	for (unsigned int i = 0; i < n; i++)
		slots[i] = (uint16_t)((slot + i) & slot_mask);
}

/* Slots come back as they were offered: the free-running index tells which one is next. */
static inline __attribute__((always_inline)) int collect_in_order(struct vring_fixed *ring, uint16_t *slots,
	uint32_t *lens, unsigned int max, uint16_t pending, bool writable)
{
	const struct vring_fixed_slot *own = ring->slots;
	const struct vring_used_elem *entries = ring->used->ring;
	uint32_t slot_mask = ring->n_slots - 1u, first_idx = ring->used_idx, mask = ring->mask;
	unsigned int shift = ring->chain_shift, n;

	if (max > pending)
		max = pending;
	for (n = 0; n < max; n++) {
		const struct vring_used_elem *entry = &entries[(first_idx + n) & mask];
		uint32_t id = __atomic_load_n(&entry->id, __ATOMIC_RELAXED);
		uint32_t len = __atomic_load_n(&entry->len, __ATOMIC_RELAXED);
		uint32_t slot = (first_idx + n) & slot_mask;

		if (__builtin_expect(id != slot << shift, 0)) {
			uint32_t last_slot = id >> shift;
			uint32_t n_skipped = (last_slot - slot) & slot_mask;

			if (last_slot > slot_mask || last_slot << shift != id || n + n_skipped >= pending)
				return broken(ring, VRING_FIXED_BROKEN_USED_ID);
			take_round(slots + n, slot, n_skipped, slot_mask);
			for (unsigned int i = 0; writable && i < n_skipped; i++)
				lens[n + i] = own[slots[n + i]].capacity;
			n += n_skipped;
			slot = last_slot;
		}
		slots[n] = (uint16_t)slot;
		if (writable)
			lens[n] = fixed_clamp(&own[slot], len);
	}
	return (int)n;
}

/*
 * Entries of readable buffers say nothing but which one was used, which in order is known already:
 * a driver need not read them, and not reading them spares the device's cache lines. As a checker
 * we still read one time in this many.
 */
#define READ_ENTRIES_EVERY 64

int vring_fixed_collect(struct vring_fixed *ring, uint16_t *slots, uint32_t *lens, unsigned int max)
{
	uint16_t pending;
	int n;

	if (ring->breakage != VRING_FIXED_INTACT)
		return -EPROTO;
	if (ring->packed) {
		n = fixed_packed_collect(ring, slots, lens, max);
		return n >= 0 ? n : broken(ring, VRING_FIXED_BROKEN_USED_ID);
	}
	pending = split_pending(ring);
	if (pending == 0)
		return 0;
	if (pending > vring_fixed_outstanding(ring))
		return broken(ring, VRING_FIXED_BROKEN_USED_IDX);
	if (!ring->in_order) {
		n = collect_any_order(ring, slots, lens, pending < max ? pending : max);
	} else if (ring->writable) {
		n = collect_in_order(ring, slots, lens, max, pending, true);
	} else if (ring->n_collects++ % READ_ENTRIES_EVERY == 0) {
		n = collect_in_order(ring, slots, lens, max, pending, false);
	} else {
		/* All or nothing, for the next entry to be read must be the first of a batch. */
		take_round(slots, ring->used_idx, pending, ring->n_slots - 1u);
		n = pending;
	}
	if (n > 0)
		ring->used_idx = (uint16_t)(ring->used_idx + n);
	return n;
}

const char *vring_fixed_breakage_name(enum vring_fixed_breakage breakage)
{
	return breakage_names[breakage];
}
