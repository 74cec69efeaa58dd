/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Frames in and out of an ethdev.
 *
 * Received mbufs wait in `held` until they are released, so that a lossless cross-connect can leave
 * frames behind: an ethdev cannot take back what it gave. Frames are made anew from the held mbufs
 * at each receive.
 *
 * A frame that lies unchanged in an mbuf is sent by reference, so one mbuf may be in the transmit
 * rings of several devices at once; no device may use MBUF_FAST_FREE, which ignores reference
 * counts.
 */
#include <netinet/in.h>
#include <string.h>

#include <rte_ether.h>
#include <rte_memcpy.h>

#include <port/drop.h>
#include <port/offload.h>

#include "frame_cut.h"
#include "frame_mbuf.h"
#include "mbuf_bulk.h"
#include "nic_internal.h"

#define TCP_CSUM_OFFSET 16
#define UDP_CSUM_OFFSET 6

/*
 * Takes one mbuf that came from the device: makes it a frame as it was on the wire. N_DROP_REASONS:
 * it is good. Frames that were left behind may be looked at again.
 */
static unsigned int inspect(struct rte_mbuf *mbuf)
{
	struct rte_ether_hdr *ether;

	/* Some drivers (af_packet) cannot leave the tag in the frame; it is put back. */
	if (unlikely(mbuf->ol_flags & RTE_MBUF_F_RX_VLAN_STRIPPED) && rte_vlan_insert(&mbuf) != 0)
		return DROP_TOO_SHORT;
	/* What whoever filled a ring device wanted of its NIC is not wanted of the next one. */
	mbuf->ol_flags &= ~RTE_MBUF_F_TX_OFFLOAD_MASK;
	if (unlikely(mbuf->data_len < FRAME_LEN_MIN))
		return DROP_TOO_SHORT;
	ether = rte_pktmbuf_mtod(mbuf, struct rte_ether_hdr *);
	if (ether->ether_type == RTE_BE16(RTE_ETHER_TYPE_VLAN) &&
		mbuf->data_len < FRAME_LEN_MIN + FRAME_TAG_LEN)
		return DROP_TOO_SHORT;
	if (unlikely(mbuf->pkt_len > FRAME_LEN_MAX || mbuf->nb_segs > NIC_CHAIN_MAX))
		return DROP_TOO_LONG;
	return N_DROP_REASONS;
}

/* One segment, as it was on the wire, and long enough for whatever tag it may have. */
static __rte_always_inline bool is_plain_arrival(const struct rte_mbuf *mbuf)
{
	const uint64_t flags = RTE_MBUF_F_RX_VLAN_STRIPPED | RTE_MBUF_F_TX_OFFLOAD_MASK;

	return mbuf->nb_segs == 1 && mbuf->data_len >= FRAME_LEN_MIN + FRAME_TAG_LEN &&
	       (mbuf->ol_flags & flags) == 0;
}
_Static_assert(UINT16_MAX <= FRAME_LEN_MAX, "one segment is never too long");

/* Only a sum the device looked at and found right may be called valid (virtio 5.1.9.4.1). */
static bool checksum_is_good(const struct rte_mbuf *mbuf)
{
	return (mbuf->ol_flags & RTE_MBUF_F_RX_L4_CKSUM_MASK) == RTE_MBUF_F_RX_L4_CKSUM_GOOD &&
	       (mbuf->ol_flags & RTE_MBUF_F_RX_IP_CKSUM_MASK) != RTE_MBUF_F_RX_IP_CKSUM_BAD;
}

/*
 * A held mbuf that is not plain, as the burst's frame number n; `pieces` begins where there is room. False: it was dropped
 * and is not held any more.
 */
static __attribute__((noinline)) bool take_any(struct nic_rx *nic, struct port_counters *counters,
	struct frame *frame, unsigned int n, struct vring_piece *pieces)
{
	struct rte_mbuf *mbuf = nic->held[n];
	unsigned int reason = inspect(mbuf);

	if (reason == N_DROP_REASONS) {
		frame_from_mbuf(frame, mbuf, pieces);
		return true;
	}
	counters->drops[reason]++;
	rte_pktmbuf_free(mbuf);
	nic->n_held--;
	memmove(&nic->held[n], &nic->held[n + 1], (nic->n_held - n) * sizeof(nic->held[0]));
	return false;
}

unsigned int nic_receive(struct rx_queue *queue, struct port_counters *counters,
	struct frame_batch *batch, unsigned int max)
{
	struct nic_rx *nic = (struct nic_rx *)queue;
	/* One piece for each frame, and behind these what frames of several segments take. */
	struct vring_piece *chain = &batch->burst.pieces[FRAME_BURST];
	const struct vring_piece *end = batch->burst.pieces + RTE_DIM(batch->burst.pieces);
	const bool checksum_verified = nic->checksum_verified;
	unsigned int n = 0;
	uint64_t bytes = 0;

	if (nic->n_held < max)
		nic->n_held += rte_eth_rx_burst(nic->eth_port, nic->rx.index,
			nic->held + nic->n_held, FRAME_BURST - nic->n_held);
	if (nic->n_held == 0)
		return 0;
	batch->needs = 0;
	batch->is_run = false;
	batch->is_one_flow = false;
	batch->is_preset = false;
	max = RTE_MIN(max, (unsigned int)nic->n_held);
	while (n < max) {
		struct rte_mbuf *mbuf = nic->held[n];
		struct frame *frame = &batch->frames[n];

		if (likely(is_plain_arrival(mbuf))) {
			frame_from_segment(frame, mbuf, &batch->burst.pieces[n]);
		} else {
			/* Long chains: the rest of the burst comes next time. */
			if (end - chain < mbuf->nb_segs)
				break;
			if (!take_any(nic, counters, frame, n, chain)) {
				max = RTE_MIN(max, (unsigned int)nic->n_held);
				continue;
			}
			chain += frame->n_pieces;
		}
		if (checksum_verified && checksum_is_good(mbuf))
			frame->offload.flags = VIRTIO_NET_HDR_F_DATA_VALID;
		bytes += frame->len;
		n++;
	}
	nic->n_given = (uint16_t)n;
	nic->given_bytes = bytes;
	return n;
}

void nic_release(struct rx_queue *queue, struct port_counters *counters, struct frame_batch *batch,
	unsigned int n)
{
	struct nic_rx *nic = (struct nic_rx *)queue;
	uint64_t bytes = nic->given_bytes;

	for (unsigned int i = n; i < nic->n_given; i++)
		bytes -= batch->frames[i].len;
	counters->rx_packets += n;
	counters->rx_bytes += bytes;
	mbuf_free_burst(nic->held, n);
	nic->n_held -= n;
	if (unlikely(nic->n_held > 0))
		memmove(nic->held, nic->held + n, nic->n_held * sizeof(nic->held[0]));
}

/* A device sees its descriptors come back by itself; there is nobody to notify. */
void nic_rx_notify(struct rx_queue *queue)
{
}

void nic_tx_notify(struct tx_queue *queue)
{
}

static bool prepare_tso(const struct virtio_net_hdr *words, const struct frame_layers *layers,
	struct rte_mbuf *mbuf)
{
	if (layers->l4_len == 0 || layers->protocol != IPPROTO_TCP || layers->routed)
		return false;
	if (words->gso_size < NIC_TSO_SIZE_MIN || words->gso_size > NIC_TSO_SIZE_MAX)
		return false;
	mbuf->l4_len = layers->l4_len;
	mbuf->tso_segsz = words->gso_size;
	mbuf->ol_flags |= RTE_MBUF_F_TX_TCP_SEG | RTE_MBUF_F_TX_TCP_CKSUM;
	if (layers->ip_version == 4) {
		uint8_t *ip = rte_pktmbuf_mtod_offset(mbuf, uint8_t *, layers->l2_len);

		mbuf->ol_flags |= RTE_MBUF_F_TX_IP_CKSUM;
		memset(ip + 10, 0, sizeof(uint16_t)); /* the device writes each segment's own */
	}
	return true;
}

/* The flag of the sum the device is to complete, 0 if it is not one that devices know. */
static uint64_t device_checksum_flag(
	const struct virtio_net_hdr *words, const struct frame_layers *layers)
{
	if (layers->l4_len == 0 || layers->routed ||
		words->csum_start != layers->l2_len + layers->l3_len)
		return 0;
	if (layers->protocol == IPPROTO_TCP && words->csum_offset == TCP_CSUM_OFFSET)
		return RTE_MBUF_F_TX_TCP_CKSUM;
	if (layers->protocol == IPPROTO_UDP && words->csum_offset == UDP_CSUM_OFFSET)
		return RTE_MBUF_F_TX_UDP_CKSUM;
	return 0;
}

bool nic_prepare_offload(
	const struct nic_tx *queue, const struct frame *frame, struct rte_mbuf *mbuf)
{
	const struct virtio_net_hdr *words = &frame->offload;
	struct frame_layers layers;

	frame_layers_parse(frame, &layers);
	if (frame->needs & (FRAME_NEEDS_TSO4 | FRAME_NEEDS_TSO6)) {
		if (!prepare_tso(words, &layers, mbuf))
			return false;
	} else {
		uint64_t flag = queue->device_csum ? device_checksum_flag(words, &layers) : 0;

		if (flag == 0) {
			offload_complete_checksum(mbuf, words->csum_start, words->csum_offset);
			return true;
		}
		mbuf->ol_flags |= flag;
	}
	mbuf->ol_flags |= layers.ip_version == 4 ? RTE_MBUF_F_TX_IPV4 : RTE_MBUF_F_TX_IPV6;
	mbuf->l2_len = layers.l2_len;
	mbuf->l3_len = layers.l3_len;
	return true;
}

static bool over_mtu(const struct nic_tx *queue, const struct frame *frame)
{
	uint32_t l2_len = FRAME_ETHER_LEN + (frame->tagged ? FRAME_TAG_LEN : 0);
	uint32_t len = frame->len;

	/* On the wire a frame to be cut is as long as its segments are. */
	if (frame->needs & (FRAME_NEEDS_TSO4 | FRAME_NEEDS_TSO6))
		len = RTE_MIN(len, (uint32_t)frame->offload.hdr_len + frame->offload.gso_size);
	return len > queue->mtu + l2_len;
}

/* Whether there are n (<= FRAME_BURST) mbufs in stock, or are now. */
static __rte_always_inline bool have_spares(struct nic_tx *queue, unsigned int n)
{
	unsigned int n_missing = FRAME_BURST - queue->n_spare;

	if (likely(queue->n_spare >= n))
		return true;
	/* A pool that is nearly empty still gives what is needed. */
	if (rte_mempool_get_bulk(queue->pool, (void **)&queue->spare[queue->n_spare], n_missing) != 0) {
		n_missing = n - queue->n_spare;
		if (rte_mempool_get_bulk(queue->pool, (void **)&queue->spare[queue->n_spare],
			    n_missing) != 0)
			return false;
	}
	queue->n_spare += (uint16_t)n_missing;
	return true;
}

/* Makes a fresh mbuf a copy of a frame that one takes; `cut` is the frame's. */
static __rte_always_inline void copy_to_fresh(
	struct rte_mbuf *mbuf, const struct frame *frame, uint64_t cut)
{
	uint32_t len = (uint32_t)cut;
	uint8_t *data = mbuf_rearm(mbuf, len);

	if (likely(cut >> 32 == FRAME_CUT(FRAME_HEAD_PLAIN, 0))) {
		memcpy(data, frame->head, FRAME_HEAD_PLAIN);
	} else if (likely(cut >> 32 == FRAME_CUT(FRAME_HEAD_PLAIN, 1))) {
		memcpy(data, frame->head, FRAME_HEAD_PLAIN);
		rte_memcpy(data + FRAME_HEAD_PLAIN, frame->pieces->hva, frame->pieces->len);
	} else {
		frame_copy_out(frame, data);
		if (len < NIC_FRAME_LEN_MIN) {
			memset(data + len, 0, NIC_FRAME_LEN_MIN - len);
			mbuf->pkt_len = mbuf->data_len = NIC_FRAME_LEN_MIN;
		}
	}
}
_Static_assert(FRAME_HEAD_PLAIN >= NIC_FRAME_LEN_MIN, "only the odd ones need padding");

static struct rte_mbuf *copy_frame(struct nic_tx *queue, const struct frame *frame)
{
	struct rte_mbuf *mbuf;

	if (frame->len > queue->room)
		return offload_copy_to_mbuf(frame, queue->pool);
	if (!have_spares(queue, 1))
		return NULL;
	mbuf = queue->spare[--queue->n_spare];
	copy_to_fresh(mbuf, frame, frame_cut(frame));
	return mbuf;
}

static bool goes_by_reference(const struct nic_tx *queue, const struct frame *frame)
{
	return frame->mbuf != NULL && frame->needs == 0 && frame->len >= NIC_FRAME_LEN_MIN &&
	       !queue->copies && (frame->mbuf->nb_segs == 1 || queue->multi_segs);
}

/* Up to FRAME_BURST frames on their way into one rte_eth_tx_burst(). */
struct departure {
	unsigned int n;
	struct rte_mbuf *mbufs[FRAME_BURST];
	uint8_t of[FRAME_BURST];     /* which frame mbufs[] holds */
	uint8_t reason[FRAME_BURST]; /* of each frame; N_DROP_REASONS: not dropped */
	bool offloads;               /* some mbuf asks something of the device */
};

/*
 * Makes an mbuf of one frame of any kind. NULL: the frame is to be dropped for departure->reason, or, if that is
 * N_DROP_REASONS, there are no mbufs.
 */
static struct rte_mbuf *load_one(struct nic_tx *queue, struct departure *departure,
	const struct frame *frame, uint8_t *reason)
{
	struct rte_mbuf *mbuf;

	*reason = N_DROP_REASONS;
	if (unlikely(over_mtu(queue, frame))) {
		*reason = DROP_OVER_MTU;
		return NULL;
	}
	if (goes_by_reference(queue, frame)) {
		rte_pktmbuf_refcnt_update(frame->mbuf, 1);
		return frame->mbuf;
	}
	mbuf = copy_frame(queue, frame);
	if (unlikely(mbuf == NULL) || frame->needs == 0)
		return mbuf;
	mbuf->tx_offload = 0;
	if (!nic_prepare_offload(queue, frame, mbuf)) {
		*reason = DROP_OFFLOAD_FAILED;
		rte_pktmbuf_free(mbuf);
		return NULL;
	}
	departure->offloads |= (mbuf->ol_flags & RTE_MBUF_F_TX_OFFLOAD_MASK) != 0;
	return mbuf;
}

/*
 * Makes mbufs of the frames. Returns how many frames were looked at: fewer than n when the pool is
 * empty.
 */
static unsigned int load(struct nic_tx *queue, struct departure *departure,
	struct frame *const *frames, unsigned int n)
{
	departure->n = 0;
	departure->offloads = false;
	for (unsigned int i = 0; i < n; i++) {
		struct rte_mbuf *mbuf =
			load_one(queue, departure, frames[i], &departure->reason[i]);

		if (mbuf == NULL && departure->reason[i] == N_DROP_REASONS) {
			queue->tx.full_reason = DROP_NO_MBUF;
			return i;
		}
		if (mbuf == NULL)
			continue;
		departure->of[departure->n] = (uint8_t)i;
		departure->mbufs[departure->n++] = mbuf;
	}
	return n;
}

/* Lets the driver write its pseudo-headers and takes out what it refuses. */
static void prepare(struct nic_tx *queue, struct departure *departure)
{
	unsigned int done = 0;

	while (done < departure->n) {
		done += rte_eth_tx_prepare(queue->eth_port, queue->tx.index,
			departure->mbufs + done, departure->n - done);
		if (done == departure->n)
			break;
		departure->reason[departure->of[done]] = DROP_OFFLOAD_FAILED;
		rte_pktmbuf_free(departure->mbufs[done]);
		departure->n--;
		memmove(departure->mbufs + done, departure->mbufs + done + 1,
			(departure->n - done) * sizeof(departure->mbufs[0]));
		memmove(departure->of + done, departure->of + done + 1, departure->n - done);
	}
}

static unsigned int send_burst(struct nic_tx *queue, struct port_counters *counters,
	struct frame *const *frames, unsigned int n)
{
	struct departure departure;
	unsigned int n_dealt = load(queue, &departure, frames, n);
	unsigned int n_sent, n_packets = 0;
	uint64_t bytes = 0;

	if (departure.offloads)
		prepare(queue, &departure);
	n_sent = rte_eth_tx_burst(queue->eth_port, queue->tx.index, departure.mbufs, departure.n);
	if (n_sent < departure.n) {
		n_dealt = departure.of[n_sent];
		queue->tx.full_reason = DROP_NIC_QUEUE_FULL;
		rte_pktmbuf_free_bulk(departure.mbufs + n_sent, departure.n - n_sent);
	}
	/*
	 * Frames behind the last one dealt with are the caller's again, whatever was found out
	 * about them.
	 */
	for (unsigned int i = 0; i < n_dealt; i++) {
		if (likely(departure.reason[i] == N_DROP_REASONS)) {
			n_packets++;
			bytes += frames[i]->len;
		} else {
			counters->drops[departure.reason[i]]++;
		}
	}
	counters->tx_packets += n_packets;
	counters->tx_bytes += bytes;
	return n_dealt;
}

/* A frame from a guest that one mbuf takes, short enough whether it is tagged or not. */
static __rte_always_inline bool is_plain_departure(
	const struct frame *frame, uint32_t len, uint32_t max_len)
{
	return frame->mbuf == NULL && frame->needs == 0 && len <= max_len;
}

/* Sends the plain frames that come first. Returns how many of them were sent. */
static unsigned int send_plain(struct nic_tx *queue, struct port_counters *counters,
	struct frame *const *frames, unsigned int n)
{
	const uint32_t max_len = RTE_MIN((uint32_t)queue->room, (uint32_t)queue->mtu + FRAME_ETHER_LEN);
	struct rte_mbuf **mbufs;
	unsigned int n_loaded, n_sent;
	uint64_t bytes = 0;

	if (!have_spares(queue, n))
		return 0;
	mbufs = &queue->spare[queue->n_spare - n];
	for (n_loaded = 0; n_loaded < n; n_loaded++) {
		const struct frame *frame = frames[n_loaded];
		uint64_t cut = frame_cut(frame);

		if (unlikely(!is_plain_departure(frame, (uint32_t)cut, max_len)))
			break;
		bytes += (uint32_t)cut;
		copy_to_fresh(mbufs[n_loaded], frame, cut);
	}
	n_sent = rte_eth_tx_burst(queue->eth_port, queue->tx.index, mbufs, (uint16_t)n_loaded);
	if (unlikely(n_sent < n_loaded)) {
		queue->tx.full_reason = DROP_NIC_QUEUE_FULL;
		for (unsigned int i = n_sent; i < n_loaded; i++)
			bytes -= frames[i]->len;
	}
	/* What was not sent is as good as fresh. */
	memmove(mbufs, mbufs + n_sent, (n - n_sent) * sizeof(*mbufs));
	queue->n_spare -= (uint16_t)n_sent;
	counters->tx_packets += n_sent;
	counters->tx_bytes += bytes;
	return n_sent;
}

unsigned int nic_send(struct tx_queue *queue, struct port_counters *counters,
	struct frame *const *frames, unsigned int n)
{
	struct nic_tx *nic = (struct nic_tx *)queue;
	unsigned int n_done = 0;

	while (n_done < n) {
		unsigned int n_burst = RTE_MIN(n - n_done, (unsigned int)FRAME_BURST);
		unsigned int n_dealt = send_plain(nic, counters, frames + n_done, n_burst);

		if (unlikely(n_dealt < n_burst))
			n_dealt += send_burst(
				nic, counters, frames + n_done + n_dealt, n_burst - n_dealt);
		n_done += n_dealt;
		if (n_dealt < n_burst)
			break;
	}
	return n_done;
}

unsigned int nic_send_shared(struct tx_queue *queue, struct port_counters *counters,
	struct frame *const *frames, unsigned int n)
{
	tx_queue_lock(queue);
	n = nic_send(queue, counters, frames, n);
	tx_queue_unlock(queue);
	return n;
}
