/* SPDX-License-Identifier: BSD-3-Clause */
/* A NIC port over a device that needs no hardware, and single frames through it. */
#ifndef TEST_NIC_FIXTURE_H
#define TEST_NIC_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <rte_ethdev.h>

#include <port/nic.h>

#include "dpdk_fixture.h"
#include "packets.h"

static struct rte_mempool *pool;
static struct frame_batch batch;
static struct port_counters counters;
static struct packet packet;
static char error[400];

static inline struct rte_mempool *the_pool(int numa_node)
{
	return pool;
}

/* NULL with the reason in `error`. */
static inline struct port *try_nic(const char *device, unsigned int n_queues, uint16_t mtu)
{
	const struct nic_config config = {
		.name = "up0",
		.id = 3,
		.device = device,
		.n_queues = n_queues,
		.mtu = mtu,
		.pool_of_node = the_pool,
	};

	error[0] = '\0';
	memset(&counters, 0, sizeof(counters));
	return nic_create(&config, NULL, error, sizeof(error));
}

static inline struct port *open_nic(const char *device, unsigned int n_queues, uint16_t mtu)
{
	struct port *port = try_nic(device, n_queues, mtu);

	if (port == NULL)
		fail_msg("%s", error);
	return port;
}

/* Nothing is left of it. */
static inline void close_nic(struct port *port)
{
	port->ops->destroy(port);
	assert_int_equal(rte_eth_dev_count_avail(), 0);
	assert_int_equal(rte_mempool_in_use_count(pool), 0);
}

static inline struct rx_queue *rx_of(struct port *port)
{
	struct rx_queue *queues[PORT_MAX_QUEUES];

	assert_true(port->ops->list_rx(port, queues) >= 1);
	return queues[0];
}

static inline struct tx_queue *tx_of(struct port *port)
{
	struct tx_queue *queues[PORT_MAX_QUEUES];

	assert_true(port->ops->list_tx(port, queues) >= 1);
	return queues[0];
}

/* A frame as a guest's is: the head apart, the rest in one piece. */
static inline void frame_of_packet(struct frame *frame, struct vring_piece *piece)
{
	memset(frame, 0, sizeof(*frame));
	frame->head = packet.bytes;
	frame->len = packet.len;
	frame->head_len = RTE_MIN(packet.len, FRAME_HEAD_MAX);
	if (packet.len > frame->head_len) {
		*piece = (struct vring_piece){
			.hva = packet.bytes + frame->head_len,
			.len = packet.len - frame->head_len,
		};
		frame->pieces = piece;
		frame->n_pieces = 1;
	}
	frame_read_tag(frame);
}

static inline unsigned int send_packet(struct tx_queue *tx)
{
	struct vring_piece piece;
	struct frame frame, *frames[] = {&frame};

	frame_of_packet(&frame, &piece);
	return tx->send(tx, &counters, frames, 1);
}

static inline void make_udp(uint32_t len)
{
	packet_make(&packet, &(struct packet_spec){
				     .ip_version = 4,
				     .protocol = IPPROTO_UDP,
				     .payload_len = len - 42,
			     });
	assert_int_equal(packet.len, len);
}

#endif
