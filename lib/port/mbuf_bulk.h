/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Mbufs of one segment, many at a time: what rte_pktmbuf_alloc_bulk() and rte_pktmbuf_free_bulk() do for mbufs of any
 * kind, for the one kind that nearly all are of.
 *
 * Thread rule: one lcore each, like the mempool caches behind it.
 */
#ifndef PORT_MBUF_BULK_H
#define PORT_MBUF_BULK_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include <rte_mbuf.h>
#include <rte_mempool.h>

/* data_off, refcnt, nb_segs and port, read and written as one word. */
_Static_assert(offsetof(struct rte_mbuf, refcnt) == offsetof(struct rte_mbuf, data_off) + 2 &&
		offsetof(struct rte_mbuf, nb_segs) == offsetof(struct rte_mbuf, data_off) + 4 &&
		offsetof(struct rte_mbuf, port) == offsetof(struct rte_mbuf, data_off) + 6,
	"the word of an mbuf");
_Static_assert(offsetof(struct rte_mbuf, pkt_len) == offsetof(struct rte_mbuf, packet_type) + 4,
	"type and length are one word, too");
#define MBUF_WORD_ONE_SEGMENT (1ULL << 16 | 1ULL << 32) /* one reference, one segment */
#define MBUF_WORD_SEGMENTS    (0xffffffffULL << 16)

/*
 * Makes an mbuf that came from rte_mempool_get_bulk() a frame of `len` bytes without flags, and returns where they go.
 * An mbuf in a pool has no next segment, one reference and a buffer of its own (rte_mbuf_raw_alloc()). tx_offload means
 * nothing without flags: who sets some sets it, too.
 */
static __rte_always_inline uint8_t *mbuf_rearm(struct rte_mbuf *mbuf, uint32_t len)
{
	const uint64_t word = RTE_PKTMBUF_HEADROOM | MBUF_WORD_ONE_SEGMENT |
			      (uint64_t)RTE_MBUF_PORT_INVALID << 48;
	const uint64_t type_and_len = (uint64_t)len << 32; /* of no known type */

	memcpy((uint8_t *)mbuf + offsetof(struct rte_mbuf, data_off), &word, sizeof(word));
	mbuf->ol_flags = 0;
	memcpy((uint8_t *)mbuf + offsetof(struct rte_mbuf, packet_type), &type_and_len,
		sizeof(type_and_len));
	mbuf->data_len = (uint16_t)len;
	return (uint8_t *)mbuf->buf_addr + RTE_PKTMBUF_HEADROOM;
}

/* Whether nobody else has a reference, and there is nothing to it but itself: it may go straight to its pool. */
static __rte_always_inline bool mbuf_is_alone(const struct rte_mbuf *mbuf)
{
	uint64_t word;

	memcpy(&word, (const uint8_t *)mbuf + offsetof(struct rte_mbuf, data_off), sizeof(word));
	return (word & MBUF_WORD_SEGMENTS) == MBUF_WORD_ONE_SEGMENT && RTE_MBUF_DIRECT(mbuf);
}

/* Most mbufs of one call. */
#define MBUF_BULK_MAX 32

/* rte_pktmbuf_free_bulk() for n <= MBUF_BULK_MAX mbufs, quick where they are of one segment and one pool. */
static inline void mbuf_free_burst(struct rte_mbuf *const *mbufs, unsigned int n)
{
	void *done[MBUF_BULK_MAX];
	struct rte_mempool *pool = NULL;
	unsigned int n_done = 0;

	for (unsigned int i = 0; i < n; i++) {
		struct rte_mbuf *mbuf = mbufs[i];

		if (unlikely(!mbuf_is_alone(mbuf))) {
			rte_pktmbuf_free(mbuf);
			continue;
		}
		if (unlikely(mbuf->pool != pool)) {
			if (n_done > 0)
				rte_mempool_put_bulk(pool, done, n_done);
			pool = mbuf->pool;
			n_done = 0;
		}
		done[n_done++] = mbuf;
	}
	if (n_done > 0)
		rte_mempool_put_bulk(pool, done, n_done);
}

#endif
