/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the control half and the datapath half of a NIC port share. The control half fills all of it
 * before any worker sees a queue and touches nothing of it while one does.
 */
#ifndef PORT_NIC_INTERNAL_H
#define PORT_NIC_INTERNAL_H

#include <rte_ethdev.h>
#include <rte_mbuf.h>

#include <port/port.h>

/*
 * Mbufs of one received frame; the longest frame in the smallest buffers that drivers fill (2 KiB)
 * and some.
 */
#define NIC_CHAIN_MAX 64

/* Shortest frame that may go on a wire, without its checksum (IEEE 802.3 3.2.8). */
#define NIC_FRAME_LEN_MIN 60

/*
 * Segment sizes every TSO engine takes (the narrowest known: i40e, 256..9674); a frame cut
 * otherwise is one that hardware would hang on.
 */
#define NIC_TSO_SIZE_MIN 256
#define NIC_TSO_SIZE_MAX 9668

struct nic_rx {
	struct rx_queue rx;
	uint16_t eth_port;
	bool checksum_verified; /* the device was asked to check sums: its flags mean something */
	int signalled; /* thread that a tap's signal goes to; its worker's */
	bool is_deaf; /* the device refused to arm its interrupt: look again and do not sleep */
	uint16_t n_held;
	uint16_t n_given; /* frames of the last receive, and their bytes */
	uint64_t given_bytes;
	struct rte_mbuf *held[FRAME_BURST]; /* received and not released, oldest first */
} __attribute__((aligned(64)));

struct nic_tx {
	struct tx_queue tx;
	uint16_t eth_port;
	uint16_t mtu;
	uint16_t room;    /* bytes one fresh mbuf takes */
	bool multi_segs;  /* device sends chains */
	/*
	 * The driver wants mbufs that nobody else has: virtio's puts its header before the frame, and where it cannot,
	 * since others hold the mbuf, makes an indirect table that is wrong in a packed ring (DPDK 22.11).
	 */
	bool copies;
	bool device_csum; /* device completes TCP and UDP checksums */
	struct rte_mempool *pool;
	uint16_t n_spare;
	struct rte_mbuf *spare[FRAME_BURST]; /* fresh from the pool in bulk, as mbuf_bulk.h wants them */
} __attribute__((aligned(64)));

unsigned int nic_receive(struct rx_queue *queue, struct port_counters *counters,
	struct frame_batch *batch, unsigned int max);
void nic_release(struct rx_queue *queue, struct port_counters *counters, struct frame_batch *batch,
	unsigned int n);
void nic_rx_notify(struct rx_queue *queue);
void nic_rx_arm(struct rx_queue *queue, bool wanted);
bool nic_rx_is_ready(struct rx_queue *queue);

unsigned int nic_send(struct tx_queue *queue, struct port_counters *counters,
	struct frame *const *frames, unsigned int n);
void nic_tx_notify(struct tx_queue *queue);

/* Whole under the lock: a burst is given to a device in one call, and its mbufs are the queue's. */
unsigned int nic_send_shared(struct tx_queue *queue, struct port_counters *counters,
	struct frame *const *frames, unsigned int n);

/*
 * Makes a copy of `frame` ready for a device with the queue's abilities: flags and lengths for the
 * device, or the sum completed here. false: the words do not fit the headers, the device must not
 * see it.
 */
bool nic_prepare_offload(
	const struct nic_tx *queue, const struct frame *frame, struct rte_mbuf *mbuf);

#endif
