/* SPDX-License-Identifier: BSD-3-Clause */
/* Which buffers a caller gets: peek and reserve, over parsed buffers of either layout. */
#include <errno.h>

#include "device_split.h"
#include "parse.h"

/* Starts a call. Returns false if the ring is broken. */
static bool begin(struct vring_device *ring, struct vring_burst *burst,
	struct parse_progress *progress, enum vring_direction direction)
{
	/* What a packed ring holds shows when its descriptors are read. */
	unsigned int lead = VRING_BURST_MAX;

	burst->n = 0;
	burst->n_pieces = 0;
	burst->direction = direction;
	if (ring->breakage != VRING_INTACT)
		return false;
	if (!ring->packed) {
		lead = device_split_lead(ring);
		if (lead > ring->size) {
			ring->breakage = VRING_BROKEN_AVAIL_IDX;
			return false;
		}
	}
	*progress = (struct parse_progress){
		.n_available = lead < VRING_BURST_MAX ? lead : VRING_BURST_MAX,
	};
	return true;
}

int vring_device_peek(struct vring_device *ring, struct vring_burst *burst,
	enum vring_direction direction, unsigned int max)
{
	struct parse_progress progress;

	if (!begin(ring, burst, &progress, direction))
		return -EPROTO;
	parse(ring, burst, &progress, direction, max < progress.n_available ? max : progress.n_available);
	/* Those before the one that breaks it are good, and served first. */
	if (progress.breakage != VRING_INTACT && progress.n_parsed == 0) {
		ring->breakage = progress.breakage;
		return -EPROTO;
	}
	burst->n = progress.n_parsed;
	return (int)progress.n_parsed;
}

/* Makes buffer `at` and about n_more behind it known. Returns false if there is none, or none that has room. */
static bool parse_more(struct vring_device *ring, struct vring_burst *burst,
	struct parse_progress *progress, unsigned int at, unsigned int n_more)
{
	unsigned int target = at + n_more;

	if (target > progress->n_available)
		target = progress->n_available;
	if (target > progress->n_parsed && !progress->no_room && progress->breakage == VRING_INTACT)
		parse(ring, burst, progress, VRING_WRITABLE, target);
	return at < progress->n_parsed;
}

/*
 * Whether a frame that took all parsed buffers, from the first of the burst on, will find no more next time either:
 * the burst is exhausted, or the driver has nothing left to give.
 */
static bool is_hopeless(const struct vring_device *ring, const struct parse_progress *progress)
{
	return progress->no_room || progress->n_parsed == VRING_BURST_MAX ||
		progress->n_slots >= ring->size;
}

/*
 * Finds the buffers of a frame that does not simply fit into buffer *at, and moves *at behind them. Returns false if
 * the frame has to wait for buffers: then *at lies behind the refused ones only.
 */
static __attribute__((noinline)) bool reserve_frame(struct vring_device *ring,
	struct vring_burst *burst, struct parse_progress *progress, uint32_t length,
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

int vring_device_reserve(struct vring_device *ring, struct vring_burst *burst,
	const uint32_t *lengths, unsigned int n_frames, struct vring_grant *grants)
{
	struct parse_progress progress;
	unsigned int at = 0; /* buffer to be looked at next */
	unsigned int frame;

	if (!begin(ring, burst, &progress, VRING_WRITABLE))
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
	/* Nothing can ever be taken past it; with buffers before it returned, the next call says so. */
	if (at == 0 && frame < n_frames && progress.breakage != VRING_INTACT) {
		ring->breakage = progress.breakage;
		if (frame == 0)
			return -EPROTO;
	}
	return (int)frame;
}
