/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The split ring, device side (virtio 2.7): indices, reservation, notification. Descriptors are read in split_parse.c.
 *
 * Fences (the partner has the same letter; a guest's driver has its own equivalents):
 *   A  full: used index (publish) before the driver's wish for calls (needs_call)      partner: driver.c, set_call
 *   B  full: our wish for kicks (set_kick) before the available index (has_available)  partner: driver.c, needs_kick
 *   C  acquire of the available index: entries and descriptors are read after it       partner: driver.c, publish
 *   D  release of the used index: used entries and buffer bytes are written before it  partner: driver.c, collect
 */
#include <errno.h>
#include <string.h>

#include "device_split.h"
#include "shared.h"
#include "split_parse.h"

int device_split_init(struct vring_device *ring, const struct vring_config *config)
{
	uint16_t size = config->size;

	if (size == 0 || size > VRING_SIZE_MAX || (size & (size - 1)) != 0)
		return -EINVAL;
	if ((uintptr_t)config->desc % VRING_DESC_ALIGN != 0 ||
		(uintptr_t)config->avail % VRING_AVAIL_ALIGN != 0 ||
		(uintptr_t)config->used % VRING_USED_ALIGN != 0)
		return -EINVAL;
	memset(ring, 0, sizeof(*ring));
	ring->desc = config->desc;
	ring->avail = config->avail;
	ring->used = config->used;
	ring->mem = config->mem;
	ring->size = size;
	ring->mask = size - 1;
	ring->last_avail_idx = config->avail_idx;
	ring->used_idx = __atomic_load_n(&ring->used->idx, __ATOMIC_RELAXED);
	ring->published_idx = ring->used_idx;
	/* A buffer of no bytes is refused in either direction. */
	ring->writable_min_len = config->header_len > 0 ? config->header_len : 1;
	ring->event_idx = config->event_idx;
	ring->indirect = config->indirect;
	ring->mergeable = config->mergeable;
	/* Whoever served the ring before may have published without calling. */
	ring->call_is_due = true;
	return 0;
}

unsigned int device_split_lead(const struct vring_device *ring)
{
	/* Fence C. */
	return (uint16_t)(__atomic_load_n(&ring->avail->idx, __ATOMIC_ACQUIRE) -
		ring->last_avail_idx);
}

/* Starts a call. Returns false if the ring is broken. */
static bool begin(struct vring_device *ring, struct vring_burst *burst,
	struct split_progress *progress)
{
	unsigned int lead;

	burst->n = 0;
	burst->n_pieces = 0;
	if (ring->breakage != VRING_INTACT)
		return false;
	lead = device_split_lead(ring);
	if (lead > ring->size) {
		ring->breakage = VRING_BROKEN_AVAIL_IDX;
		return false;
	}
	*progress = (struct split_progress){
		.n_available = lead < VRING_BURST_MAX ? lead : VRING_BURST_MAX,
	};
	return true;
}

int device_split_peek(struct vring_device *ring, struct vring_burst *burst,
	enum vring_direction direction, unsigned int max)
{
	struct split_progress progress;

	if (!begin(ring, burst, &progress))
		return -EPROTO;
	if (max > progress.n_available)
		max = progress.n_available;
	split_parse(ring, burst, &progress, direction, max);
	/* Those before a bad head are good, and served first. */
	if (progress.bad_head && progress.n_parsed == 0) {
		ring->breakage = VRING_BROKEN_HEAD;
		return -EPROTO;
	}
	burst->n = progress.n_parsed;
	return (int)progress.n_parsed;
}

/* Makes buffer `at` and about n_more behind it known. Returns false if there is none, or none that has room. */
static bool parse_more(struct vring_device *ring, struct vring_burst *burst,
	struct split_progress *progress, unsigned int at, unsigned int n_more)
{
	unsigned int target = at + n_more;

	if (target > progress->n_available)
		target = progress->n_available;
	if (target > progress->n_parsed && !progress->no_room && !progress->bad_head)
		split_parse(ring, burst, progress, VRING_WRITABLE, target);
	return at < progress->n_parsed;
}

/*
 * Whether a frame that took all parsed buffers, from the first of the burst on, will find no more next time either:
 * the burst is exhausted, or the driver has nothing left to give.
 */
static bool is_hopeless(const struct vring_device *ring, const struct split_progress *progress)
{
	return progress->no_room || progress->n_parsed == VRING_BURST_MAX ||
		progress->n_slots >= ring->size;
}

/*
 * Finds the buffers of a frame that does not simply fit into buffer *at, and moves *at behind them. Returns false if
 * the frame has to wait for buffers: then *at lies behind the refused ones only.
 */
static __attribute__((noinline)) bool reserve_frame(struct vring_device *ring,
	struct vring_burst *burst, struct split_progress *progress, uint32_t length,
	unsigned int n_frames, unsigned int *at, struct vring_grant *grant)
{
	unsigned int first = *at;
	unsigned int next = first;
	uint64_t len = 0;
	bool waits;

	while (len < length) {
		const struct vring_buffer *buffer = &burst->buffers[next];

		if (next == progress->n_parsed &&
			!parse_more(ring, burst, progress, next, n_frames))
			break;
		if (buffer->fault != VRING_OK) {
			/*
			 * A refused buffer in the middle of a frame: the driver takes as many used
			 * entries as the frame's header says, one after the other, so the frame
			 * starts anew behind it and what it had is returned empty.
			 */
			next++;
			first = next;
			len = 0;
			continue;
		}
		if (!ring->mergeable && buffer->len < length)
			break;
		next++;
		len += buffer->len;
	}
	*grant = (struct vring_grant){.first = (uint16_t)first};
	if (len >= length) {
		grant->n = (uint16_t)(next - first);
		*at = next;
		return true;
	}
	/* Not enough: what the frame had taken is left for the next one. */
	waits = next == progress->n_parsed &&
		(first > 0 || next == 0 || !is_hopeless(ring, progress));
	*at = first;
	return !waits;
}

int device_split_reserve(struct vring_device *ring, struct vring_burst *burst,
	const uint32_t *lengths, unsigned int n_frames, struct vring_grant *grants)
{
	struct split_progress progress;
	unsigned int at = 0; /* buffer to be looked at next */
	unsigned int frame;

	if (!begin(ring, burst, &progress))
		return -EPROTO;
	parse_more(ring, burst, &progress, 0, n_frames);
	for (frame = 0; frame < n_frames; frame++) {
		/* Enough of a test for the common case: a refused buffer has no bytes. */
		if (at < progress.n_parsed && burst->buffers[at].len >= lengths[frame])
			grants[frame] = (struct vring_grant){.first = (uint16_t)at++, .n = 1};
		else if (!reserve_frame(ring, burst, &progress, lengths[frame], n_frames - frame,
				 &at, &grants[frame]))
			break;
	}
	burst->n = at;
	/* Nothing can ever be taken past a bad head; with buffers before it returned, the next call says so. */
	if (at == 0 && frame < n_frames && progress.bad_head) {
		ring->breakage = VRING_BROKEN_HEAD;
		if (frame == 0)
			return -EPROTO;
	}
	return (int)frame;
}

void device_split_return(struct vring_device *ring, const struct vring_burst *burst, unsigned int n)
{
	vring_used_elem_t *entries = ring->used->ring;
	unsigned int mask = ring->mask;
	unsigned int idx = ring->used_idx;

	for (unsigned int i = 0; i < n; i++) {
		const struct vring_buffer *buffer = &burst->buffers[i];
		vring_used_elem_t *entry = &entries[(idx + i) & mask];

		__atomic_store_n(&entry->id, buffer->id, __ATOMIC_RELAXED);
		__atomic_store_n(&entry->len, buffer->used_len, __ATOMIC_RELAXED);
		/* Counted here and not when parsed: what is not returned is parsed again. */
		if (__builtin_expect(buffer->fault != VRING_OK, 0))
			ring->n_faults[buffer->fault]++;
	}
	ring->used_idx = (uint16_t)(idx + n);
	ring->last_avail_idx = (uint16_t)(ring->last_avail_idx + n);
}

void device_split_publish(struct vring_device *ring)
{
	uint16_t n = (uint16_t)(ring->used_idx - ring->published_idx);

	/* Saturating: all that matters beyond 65535 is that it is beyond. */
	if (ring->n_uncalled <= UINT16_MAX)
		ring->n_uncalled += n;
	ring->published_idx = ring->used_idx;
	/* Fence D. */
	__atomic_store_n(&ring->used->idx, ring->used_idx, __ATOMIC_RELEASE);
}

bool device_split_needs_call(struct vring_device *ring)
{
	uint32_t n_uncalled = ring->n_uncalled;
	bool is_due = ring->call_is_due;
	uint16_t event;

	if (n_uncalled == 0)
		return false;
	ring->n_uncalled = 0;
	full_fence(); /* A */
	if (!ring->event_idx)
		return (__atomic_load_n(&ring->avail->flags, __ATOMIC_RELAXED) &
			VRING_AVAIL_F_NO_INTERRUPT) == 0;
	ring->call_is_due = false;
	event = __atomic_load_n(vring_used_event_of(ring->avail, ring->size), __ATOMIC_RELAXED);
	return is_due || event_passed(event, ring->published_idx, n_uncalled);
}

void device_split_set_kick(struct vring_device *ring, bool wanted)
{
	uint16_t flags = wanted || ring->event_idx ? 0 : VRING_USED_F_NO_NOTIFY;

	/* With event index the flags stay 0 (2.7.10.2) and the wish not to be kicked is an index just gone by. */
	__atomic_store_n(&ring->used->flags, flags, __ATOMIC_RELAXED);
	if (ring->event_idx)
		__atomic_store_n(vring_avail_event_of(ring->used, ring->size),
			(uint16_t)(ring->last_avail_idx - !wanted), __ATOMIC_RELAXED);
	if (wanted)
		full_fence(); /* B */
}
