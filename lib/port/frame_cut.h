/* SPDX-License-Identifier: BSD-3-Clause */
/* How a frame is cut into head and pieces, as one number: nearly all are cut in one of two ways. */
#ifndef PORT_FRAME_CUT_H
#define PORT_FRAME_CUT_H

#include <stddef.h>
#include <string.h>

#include <port/frame.h>

/* Bytes of the frame in the lower half; how many of them the head has, and how many pieces there are, in the upper. */
static inline uint64_t frame_cut(const struct frame *frame)
{
	uint64_t cut;

	_Static_assert(offsetof(struct frame, head_len) == offsetof(struct frame, len) + 4 &&
			offsetof(struct frame, n_pieces) == offsetof(struct frame, len) + 6,
		"one word");
	memcpy(&cut, &frame->len, sizeof(cut));
	return cut;
}

#define FRAME_CUT(n_head, n_pieces) ((n_head) | (n_pieces) << 16) /* the upper half */

#endif
