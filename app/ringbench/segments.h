/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Putting a segmented TCP frame together again. A device that must segment sends the pieces of one
 * frame in a row; each says by its TCP sequence number (frame number * 65536 + offset) what it
 * carries.
 */
#ifndef RINGBENCH_SEGMENTS_H
#define RINGBENCH_SEGMENTS_H

#include <stdint.h>

#include "frame.h"

/* Of one flow. */
struct segments {
	struct frame_record record; /* of the frame being put together */
	uint32_t next_offset;       /* payload bytes there already; 0: none */
	uint16_t id;                /* IPv4 id of its first segment, as it lies in the frame */
};

enum segments_verdict {
	SEGMENTS_PARTIAL,  /* right so far */
	SEGMENTS_COMPLETE, /* the last piece of the frame; its record is in segments->record */
	SEGMENTS_FAULT,    /* `*fault` says what is wrong; the frame begun is given up */
};

/*
 * Takes the next segment: `size` bytes at `frame`, which hold at least the headers. `frame_payload`
 * is the payload of the whole frame as it was sent, `bare_size` its size (frame_bare_size()).
 */
enum segments_verdict segments_add(struct segments *segments, const struct frame_format *format,
	const uint8_t *frame, uint32_t size, uint32_t frame_payload, uint32_t bare_size,
	enum frame_fault *fault);

#endif
