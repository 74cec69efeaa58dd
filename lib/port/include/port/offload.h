/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Offloads done in software, for frames whose `needs` the egress cannot take over: the frame is copied into mbufs,
 * its checksum completed or its payload segmented there, and the results are frames over those mbufs, with complete
 * checksums and all offload words zero. The guest's gso_size is never enlarged.
 *
 * Thread rule: a struct offload belongs to one worker; the functions without one may be called from any thread.
 */
#ifndef PORT_OFFLOAD_H
#define PORT_OFFLOAD_H

#include <stddef.h>

#include <port/frame.h>

struct rte_mbuf;
struct rte_mempool;

/* Most segments one frame can become; a frame that would need more is refused (65535 bytes in pieces of 512 and more). */
#define OFFLOAD_SEGMENTS_MAX 128

/* One per worker, on its NUMA node. */
struct offload;

/*
 * `pool` outlives it; its mbufs have at least 1024 bytes of room behind the headroom. numa_node -1: any. NULL with one
 * line in `error`: not enough memory, or mbufs too small.
 */
struct offload *offload_create(struct rte_mempool *pool, int numa_node, char *error, size_t error_size);

/* Gives back what is still handed out. NULL is fine. */
void offload_destroy(struct offload *offload);

/*
 * Checks words just fetched from a guest against the frame (csum range, gso type, size, headers in head) and sets
 * frame->needs. `negotiated` holds FRAME_NEEDS_* the guest may use. false: contradictory, drop the frame.
 * (virtio 5.1.9.2.2.) Afterwards the words are clean: no flag but NEEDS_CSUM, whatever is not in use is 0, and hdr_len of
 * a GSO frame is the true length of its headers. A GSO frame's headers must lie in the head.
 */
bool offload_validate(struct frame *frame, uint8_t negotiated);

/*
 * Turns `in` into frames with needs within `accepts`. Returns how many frames `*out` points to (an array inside
 * `offload`, valid until the next call), or 0 with *reason set to DROP_NO_MBUF or DROP_OFFLOAD_FAILED.
 * The frames' mbufs are `offload`'s: senders that keep one take a reference. Given back by offload_release().
 */
unsigned int offload_resolve(struct offload *offload, const struct frame *in, uint8_t accepts,
	struct frame **out, uint8_t *reason);
void offload_release(struct offload *offload);

/*
 * Completes a partial checksum: the sum over bytes `start` to the end, which includes what the field holds now (the
 * pseudo-header's sum), is written at start + offset. The chain is longer than start + offset + 1.
 */
void offload_complete_checksum(struct rte_mbuf *mbuf, uint16_t start, uint16_t offset);

/* Copies a frame into a fresh mbuf chain of `pool` with room for a tag; NULL if the pool is empty. Sets no ol_flags. */
struct rte_mbuf *offload_copy_to_mbuf(const struct frame *frame, struct rte_mempool *pool);

#endif
