/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The offload words of the virtio-net header (virtio 1.3, 5.1.6): what we write for frames whose
 * checksum or segmentation is left to the device, and whether what a device delivers keeps the
 * rules and adds up.
 */
#ifndef RINGBENCH_OFFLOAD_H
#define RINGBENCH_OFFLOAD_H

#include <stdbool.h>
#include <stdint.h>

#include <linux/virtio_net.h>

#include "frame.h"

/* With VERSION_1; num_buffers is part of it. */
#define OFFLOAD_HEADER_LEN ((unsigned int)sizeof(struct virtio_net_hdr_v1))

/* Writes the header of a frame to send. `mss` 0: no segmentation. */
void offload_write(struct virtio_net_hdr_v1 *header, const struct frame_format *format,
	bool partial_csum, uint16_t mss);

/* What the receiving guest has agreed to, and what the sending one has left to do. */
struct offload_rules {
	bool guest_csum;
	bool guest_tso4;
	bool sent_partial_csum;
	uint16_t sent_mss;
};

/*
 * Judges a private copy of the header of a frame of `size` bytes that matches `format`. With
 * check_sum the L4 checksum is computed where it must be complete.
 */
enum frame_fault offload_check(const struct offload_rules *rules,
	const struct virtio_net_hdr_v1 *header, const struct frame_format *format,
	const uint8_t *frame, uint32_t size, bool check_sum);

#endif
