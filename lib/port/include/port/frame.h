/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A frame on its way through one worker: a small descriptor, not a buffer.
 *
 * The bytes stay where the sender put them (guest memory or an mbuf) and are copied once, into the receiver's buffer.
 * Only the head is read earlier, once, into private memory; forwarding decides on that copy and that copy is what the
 * receiver gets, so a sender cannot show one address to the switch and another to the receiver.
 *
 *     head (private, head_len bytes) | pieces[0] | pieces[1] | ...        len bytes in all, no virtio-net header
 *
 * Lifetime: from the receive() that made it to the release() of the same burst, on one worker.
 */
#ifndef PORT_FRAME_H
#define PORT_FRAME_H

#include <stdbool.h>
#include <stdint.h>

#include <linux/virtio_net.h>

#include <vring/device.h>
#include <vring/run.h>

struct rte_mbuf;

/* Most frames handled together. */
#define FRAME_BURST 32
_Static_assert(FRAME_BURST <= VRING_RUN_MAX, "a run brings a burst");

/* Bytes of head: enough for every header a GSO frame has (Ethernet, VLAN, IPv6, TCP with options). */
#define FRAME_HEAD_MAX 128

/* Bytes of head taken of a frame without GSO: one cache line holds all that forwarding looks at. */
#define FRAME_HEAD_PLAIN 64

/* Longest frame: 65535 bytes of IP packet behind an Ethernet header with one VLAN tag. */
#define FRAME_LEN_MAX (65535 + 14 + 4)

#define FRAME_LEN_MIN 14

/* What a receiver must be able to do to take a frame as it is. A frame's `needs` against a queue's `accepts`. */
#define FRAME_NEEDS_CSUM (1u << 0) /* checksum is partial: csum_start, csum_offset */
#define FRAME_NEEDS_TSO4 (1u << 1)
#define FRAME_NEEDS_TSO6 (1u << 2)

struct frame {
	uint8_t *head;              /* private; 4 writable bytes lie before it for a VLAN tag */
	struct vring_piece *pieces; /* bytes head_len..len, in order */
	struct rte_mbuf *mbuf;      /* the mbuf all of it lies in, unchanged; NULL if it came from a guest or was edited */
	uint32_t len;      /* bytes of the whole frame */
	uint16_t head_len; /* at most FRAME_HEAD_MAX, and FRAME_HEAD_MAX + 4 after a tag was pushed */
	uint16_t n_pieces;
	/* Offload words as virtio 5.1.6 defines them, validated against len; only flags of this specification. */
	struct virtio_net_hdr offload;
	uint8_t needs; /* FRAME_NEEDS_* */
	bool tagged;   /* the frame carries an 802.1Q tag at byte 12 */
	uint16_t vlan; /* VLAN it travels in, 0: the untagged domain; set by forwarding */
};

/* Room for the head of a frame of our own. */
struct frame_room {
	uint8_t before[64]; /* keeps `head` on a cache line of its own; the last 4 bytes take a tag */
	uint8_t head[FRAME_HEAD_MAX];
} __attribute__((aligned(64)));

/*
 * The frames of one burst and everything they point to. One per worker: it stays in the worker's cache, whichever queue
 * is served. Whoever forwards looks at `frames`, `needs` and `is_one_flow`; the rest is for the receiving kind.
 */
struct frame_batch {
	struct frame frames[FRAME_BURST];
	struct frame_room rooms[FRAME_BURST];
	/* n_buffers_done[k]: ring buffers that are finished when the first k frames are; k = 0..number of frames. */
	uint16_t n_buffers_done[FRAME_BURST + 1];
	uint16_t n_refused;            /* buffers that gave no frame */
	uint8_t verdicts[FRAME_BURST]; /* per buffer: enum drop_reason, N_DROP_REASONS for a good one */
	uint8_t needs; /* of all frames together */
	bool is_run; /* the frames are those of `run`, one for one: counts and verdicts above mean nothing */
	/* All frames have the same addresses and EtherType, and need nothing. False says nothing. */
	bool is_one_flow;
	bool is_preset; /* guest_run_body.h: what frames of runs have in common is in place */
	struct vring_run run;
	struct vring_burst burst;
};

/*
 * Sets frame->tagged from the head. false: the Ethernet header or its tag is not complete, drop the frame
 * (DROP_TOO_SHORT): padding would invent the VLAN it travels in.
 */
bool frame_read_tag(struct frame *frame);

/*
 * Fills `frame` from an mbuf chain; `pieces` has room for nb_segs + 1. Offload words are zero, `tagged` is set as by
 * frame_read_tag(). The head is what the first segment holds, up to FRAME_HEAD_MAX bytes.
 */
void frame_from_mbuf(struct frame *frame, struct rte_mbuf *mbuf, struct vring_piece *pieces);

/*
 * Makes `out` the frame `in` with its 802.1Q tag pushed (`tag` true, TCI = vlan) or popped (`tag` false), over the same
 * pieces, with its head in `room`. Offload words move with it. `in` must not already be in the wanted form, and its
 * Ethernet header and tag lie in the head (frame_read_tag() returned true).
 */
void frame_retag(const struct frame *in, bool tag, struct frame *out, struct frame_room *room);

/* Copies bytes [0, len) of the frame to `to`. */
void frame_copy_out(const struct frame *frame, uint8_t *to);

/* A number that is equal for both directions of one flow; 0 costs for non-IP only MACs. For choosing among queues. */
uint32_t frame_flow_hash(const struct frame *frame);

#endif
