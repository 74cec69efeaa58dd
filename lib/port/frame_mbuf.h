/* SPDX-License-Identifier: BSD-3-Clause */
/* Frames that lie in mbufs: the first segment, which for nearly all of them is the only one. */
#ifndef PORT_FRAME_MBUF_H
#define PORT_FRAME_MBUF_H

#include <stddef.h>
#include <string.h>

#include <rte_ether.h>
#include <rte_mbuf.h>

#include "frame_layers.h"

/* frame_from_mbuf() as if the mbuf had no other segment. */
static __rte_always_inline void frame_from_segment(
	struct frame *frame, struct rte_mbuf *mbuf, struct vring_piece *piece)
{
	uint16_t len = mbuf->data_len;
	uint8_t *head = rte_pktmbuf_mtod(mbuf, uint8_t *);

	frame->head = head;
	frame->mbuf = mbuf;
	frame->len = len;
	if (len <= FRAME_HEAD_MAX) {
		frame->head_len = len;
		frame->n_pieces = 0;
	} else {
		frame->head_len = FRAME_HEAD_MAX;
		frame->n_pieces = 1;
		frame->pieces = piece;
		piece->hva = head + FRAME_HEAD_MAX;
		piece->len = len - FRAME_HEAD_MAX;
	}
	/* Offload words and all that says something about the frame only if it is not zero. */
	memset(&frame->offload, 0, sizeof(*frame) - offsetof(struct frame, offload));
	frame->tagged = len >= FRAME_ETHER_LEN &&
			frame_read_be16(head + FRAME_MACS_LEN) == RTE_ETHER_TYPE_VLAN;
}

#endif
