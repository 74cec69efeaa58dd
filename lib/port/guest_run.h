/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Runs of plain buffers (vring/run.h) as frames: what nearly every frame from and to a guest goes through. Each instance
 * is guest_run_body.h compiled for one instruction set and specialised for what was negotiated.
 */
#ifndef PORT_GUEST_RUN_H
#define PORT_GUEST_RUN_H

#include "guest_internal.h"

/* The one header length the instances know: VERSION_1 or MRG_RXBUF (virtio 5.1.6). */
#define GUEST_RUN_HEADER_LEN 12

/* Sends frames as long as they and the buffers are plain, and publishes them. Returns how many. */
typedef unsigned int guest_run_send(struct guest_tx_queue *queue, struct port_counters *counters,
	struct frame *const *frames, unsigned int n);

struct guest_run_ops {
	/*
	 * Up to max frames of plain buffers into the batch. Returns how many, 0 if the guest has sent nothing, or
	 * VRING_RUN_ODD: the general way must have a look.
	 */
	int (*receive)(struct guest_rx_queue *queue, struct frame_batch *batch, unsigned int max);
	/* [logged][shared]: what is written is noted in the dirty log; other workers send to the queue as well. */
	guest_run_send *send[2][2];
};

/* [0]: nothing was negotiated that the virtio-net header could say; [1]: something was. */
extern const struct guest_run_ops guest_run_portable[2];
extern const struct guest_run_ops guest_run_avx2[2];
extern const struct guest_run_ops guest_run_avx512[2];

/*
 * Makes a frame of a buffer of any shape: header checked, head read. Returns its enum drop_reason, N_DROP_REASONS if it is
 * fine. Changes the buffer's pieces.
 */
uint8_t guest_frame_take(const struct guest_rx_queue *queue, struct vring_buffer *buffer,
	struct frame *frame, struct frame_room *room);

#endif
