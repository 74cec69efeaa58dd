/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * NIC ports: configuring an ethdev for what it offers, describing and closing it.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <rte_ethdev.h>
#include <rte_malloc.h>

#include <base/log.h>
#include <port/nic.h>

#include "frame_layers.h"
#include "nic_attach.h"
#include "nic_internal.h"

#define NIC_RING_SIZE 1024

/* What stands around an IP packet at most: Ethernet and a tag. */
#define NIC_L2_LEN_MAX (FRAME_ETHER_LEN + FRAME_TAG_LEN)

/* A frame for TSO of full length needs this many mbufs of 2 KiB in one transmission. */
#define NIC_TSO_CHAIN (FRAME_LEN_MAX / 2048 + 2)

#define RX_CHECKSUMS                                                                               \
	(RTE_ETH_RX_OFFLOAD_IPV4_CKSUM | RTE_ETH_RX_OFFLOAD_TCP_CKSUM |                            \
		RTE_ETH_RX_OFFLOAD_UDP_CKSUM)
#define TX_CHECKSUMS (RTE_ETH_TX_OFFLOAD_TCP_CKSUM | RTE_ETH_TX_OFFLOAD_UDP_CKSUM)
#define TX_TSO       (RTE_ETH_TX_OFFLOAD_TCP_TSO | RTE_ETH_TX_OFFLOAD_IPV4_CKSUM)

#define RSS_KINDS    (RTE_ETH_RSS_IP | RTE_ETH_RSS_TCP | RTE_ETH_RSS_UDP)

struct nic {
	struct port base;
	char device[NIC_DEVICE_LEN_MAX + 1];
	char driver[32];
	uint16_t eth_port;
	bool attached; /* eth_port is ours */
	bool started;
	bool link_up;
	unsigned int n_queues;
	struct nic_rx rx[PORT_MAX_QUEUES];
	struct nic_tx tx[PORT_MAX_QUEUES];
};

/* What the device is asked for, from what it offers. */
struct nic_plan {
	const struct nic_driver *driver; /* NULL: nothing special is known */
	struct rte_eth_dev_info info;
	struct rte_eth_conf conf;
	struct rte_mempool *pool;
	uint32_t room; /* bytes of a packet buffer of the pool */
	uint16_t n_rx_desc;
	uint16_t n_tx_desc;
	enum nic_wakes wakes;
};

static void plan_offloads(struct nic_plan *plan, unsigned int n_queues)
{
	const struct rte_eth_dev_info *info = &plan->info;
	uint64_t rx = info->rx_offload_capa, tx = info->tx_offload_capa;

	if (plan->driver != NULL && plan->driver->ignore_offloads) {
		rx &= ~RX_CHECKSUMS;
		tx &= ~(TX_CHECKSUMS | TX_TSO);
	}
	/* Verified sums help only if both kinds are. */
	if ((rx & RX_CHECKSUMS) == RX_CHECKSUMS)
		plan->conf.rxmode.offloads |= RX_CHECKSUMS;
	if ((tx & TX_CHECKSUMS) == TX_CHECKSUMS)
		plan->conf.txmode.offloads |= TX_CHECKSUMS;
	plan->conf.txmode.offloads |= tx & RTE_ETH_TX_OFFLOAD_MULTI_SEGS;
	if ((tx & TX_TSO) == TX_TSO && (tx & TX_CHECKSUMS) == TX_CHECKSUMS &&
		(tx & RTE_ETH_TX_OFFLOAD_MULTI_SEGS) &&
		(info->tx_desc_lim.nb_seg_max == 0 ||
			info->tx_desc_lim.nb_seg_max >= NIC_TSO_CHAIN))
		plan->conf.txmode.offloads |= TX_TSO;
	if (n_queues > 1 && (info->flow_type_rss_offloads & RSS_KINDS) != 0) {
		plan->conf.rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
		plan->conf.rx_adv_conf.rss_conf.rss_hf = info->flow_type_rss_offloads & RSS_KINDS;
	}
}

/* The most that rte_eth_dev_configure() will take: some drivers give it as a frame length only. */
static uint16_t device_mtu_max(const struct rte_eth_dev_info *info)
{
	uint32_t overhead = RTE_ETHER_HDR_LEN + RTE_ETHER_CRC_LEN;

	if (info->max_mtu != UINT16_MAX && info->max_rx_pktlen > info->max_mtu)
		overhead = info->max_rx_pktlen - info->max_mtu;
	return RTE_MIN((uint32_t)info->max_mtu, info->max_rx_pktlen - overhead);
}

/* Chooses the MTU: the configured one, or the device's as far as buffers can carry it. */
static int plan_mtu(struct nic_plan *plan, struct nic *nic, const struct nic_report *report)
{
	uint16_t mtu = report->config->mtu;
	uint16_t most = RTE_MIN(plan->room - NIC_L2_LEN_MAX, (uint32_t)UINT16_MAX);
	uint16_t device_max = device_mtu_max(&plan->info);
	bool scatters = (plan->info.rx_offload_capa & RTE_ETH_RX_OFFLOAD_SCATTER) &&
			(plan->info.tx_offload_capa & RTE_ETH_TX_OFFLOAD_MULTI_SEGS);

	if (mtu == 0 && rte_eth_dev_get_mtu(nic->eth_port, &mtu) != 0)
		mtu = RTE_ETHER_MTU;
	if (report->config->mtu != 0 && (mtu < plan->info.min_mtu || mtu > device_max))
		return nic_fail(report, "mtu %u: the device takes %u..%u", mtu, plan->info.min_mtu,
			device_max);
	if (mtu > most) {
		if (scatters)
			plan->conf.rxmode.offloads |= RTE_ETH_RX_OFFLOAD_SCATTER;
		else if (report->config->mtu != 0)
			return nic_fail(report,
				"mtu %u: the device cannot spread a frame over packet buffers, and "
				"one of %u bytes takes an mtu of at most %u",
				mtu, plan->room, most);
		else
			mtu = most;
	}
	nic->base.mtu = mtu;
	return 0;
}

static int setup_queues(struct nic *nic, struct nic_plan *plan, const struct nic_report *report)
{
	int numa_node = rte_eth_dev_socket_id(nic->eth_port);
	struct rte_eth_rxconf rx_conf = plan->info.default_rxconf;
	struct rte_eth_txconf tx_conf = plan->info.default_txconf;
	int ret;

	rx_conf.offloads = plan->conf.rxmode.offloads;
	tx_conf.offloads = plan->conf.txmode.offloads;
	for (uint16_t i = 0; i < nic->n_queues; i++) {
		ret = rte_eth_rx_queue_setup(
			nic->eth_port, i, plan->n_rx_desc, numa_node, &rx_conf, plan->pool);
		if (ret != 0)
			return nic_fail(report,
				"receive queue %u was refused (%s): the driver's frames must fit "
				"into packet buffers of %u bytes",
				i, strerror(-ret), plan->room);
		ret = rte_eth_tx_queue_setup(
			nic->eth_port, i, plan->n_tx_desc, numa_node, &tx_conf);
		if (ret != 0)
			return nic_fail(
				report, "transmit queue %u was refused (%s)", i, strerror(-ret));
	}
	return 0;
}

static int choose_queues(
	struct nic *nic, const struct nic_plan *plan, const struct nic_report *report)
{
	unsigned int most = RTE_MIN(plan->info.max_rx_queues, plan->info.max_tx_queues);

	nic->n_queues = RTE_MIN(RTE_MIN(report->config->n_queues, most), PORT_MAX_QUEUES);
	if (nic->n_queues == 0)
		return nic_fail(report, "it has no queues");
	if (nic->n_queues < report->config->n_queues)
		log_warn("port %s: %u queues instead of %u: device %s has no more", nic->base.name,
			nic->n_queues, report->config->n_queues, report->config->device);
	return 0;
}

/* Configures for what was planned, and starts. */
static int start(struct nic *nic, struct nic_plan *plan, const struct nic_report *report)
{
	int ret;

	plan->conf.intr_conf.rxq = plan->wakes <= NIC_WAKES_BY_LEVEL;
	ret = rte_eth_dev_configure(nic->eth_port, nic->n_queues, nic->n_queues, &plan->conf);
	if (ret != 0)
		return nic_fail(report, "%u queues and mtu %u were refused (%s)", nic->n_queues,
			nic->base.mtu, strerror(-ret));
	plan->n_rx_desc = plan->n_tx_desc = NIC_RING_SIZE;
	rte_eth_dev_adjust_nb_rx_tx_desc(nic->eth_port, &plan->n_rx_desc, &plan->n_tx_desc);
	if (setup_queues(nic, plan, report) != 0)
		return -1;
	if (report->config->mtu != 0) {
		ret = rte_eth_dev_set_mtu(nic->eth_port, nic->base.mtu);
		/* A device without the call has no limit of its own below the configured one. */
		if (ret != 0 && ret != -ENOTSUP)
			return nic_fail(
				report, "mtu %u was refused (%s)", nic->base.mtu, strerror(-ret));
	}
	ret = rte_eth_dev_start(nic->eth_port);
	if (ret != 0)
		return nic_fail(report, "it does not start (%s)", strerror(-ret));
	nic->started = true;
	return 0;
}

/* From an attached device to one that moves frames. */
static int configure(struct nic *nic, struct nic_plan *plan, const struct nic_report *report)
{
	int numa_node = rte_eth_dev_socket_id(nic->eth_port);
	int ret = rte_eth_dev_info_get(nic->eth_port, &plan->info);

	if (ret != 0)
		return nic_fail(report, "the driver tells nothing about it (%s)", strerror(-ret));
	snprintf(nic->driver, sizeof(nic->driver), "%s", plan->info.driver_name);
	plan->pool = report->config->pool_of_node(numa_node);
	if (plan->pool == NULL)
		return nic_fail(report,
			"no packet buffers on its NUMA node %d: give the daemon memory there",
			numa_node);
	plan->room = rte_pktmbuf_data_room_size(plan->pool) - RTE_PKTMBUF_HEADROOM;
	plan_offloads(plan, report->config->n_queues);
	if (choose_queues(nic, plan, report) != 0 || plan_mtu(plan, nic, report) != 0)
		return -1;
	plan->conf.rxmode.mtu = nic->base.mtu;
	plan->wakes = nic_wakes_of(plan->driver, nic->driver, report->config->is_msix);
	ret = start(nic, plan, report);
	if (ret != 0 && plan->wakes == NIC_WAKES_BY_INTERRUPT) {
		/* Perhaps only with receive interrupts: without, it is as good as ever but for the CPU time. */
		plan->wakes = NIC_WAKES_NOT;
		ret = start(nic, plan, report);
	}
	if (ret != 0)
		return -1;
	/* A device without an address filter says it cannot, and passes everything. */
	ret = rte_eth_promiscuous_enable(nic->eth_port);
	if (ret != 0 && ret != -ENOTSUP)
		return nic_fail(report, "it refuses promiscuous mode (%s), which a bridge needs",
			strerror(-ret));
	return 0;
}

static void init_queues(struct nic *nic, const struct nic_plan *plan)
{
	uint64_t tx = plan->conf.txmode.offloads;
	int numa_node = rte_eth_dev_socket_id(nic->eth_port);
	/* A partial checksum is completed in the copy that is made anyway. */
	uint8_t accepts = FRAME_NEEDS_CSUM;

	if (tx & RTE_ETH_TX_OFFLOAD_TCP_TSO)
		accepts |= FRAME_NEEDS_TSO4 | FRAME_NEEDS_TSO6;
	for (uint16_t i = 0; i < nic->n_queues; i++) {
		struct nic_rx *rx_queue = &nic->rx[i];
		struct nic_tx *tx_queue = &nic->tx[i];

		rx_queue->eth_port = nic->eth_port;
		rx_queue->checksum_verified = (plan->conf.rxmode.offloads & RX_CHECKSUMS) != 0;
		rx_queue->rx = (struct rx_queue){
			.port = &nic->base,
			.index = i,
			.numa_node = numa_node,
			.worker = -1,
			.receive = nic_receive,
			.release = nic_release,
			.notify = nic_rx_notify,
			.arm = nic_rx_arm,
			.is_ready = nic_rx_is_ready,
			.wake = nic_wake_find(nic->eth_port, i, plan->wakes),
		};
		tx_queue->eth_port = nic->eth_port;
		tx_queue->mtu = nic->base.mtu;
		tx_queue->room = RTE_MIN(plan->room, (uint32_t)UINT16_MAX);
		tx_queue->copies = strcmp(nic->driver, "net_virtio") == 0;
		tx_queue->multi_segs = (tx & RTE_ETH_TX_OFFLOAD_MULTI_SEGS) != 0;
		tx_queue->device_csum = (tx & TX_CHECKSUMS) != 0;
		tx_queue->pool = plan->pool;
		tx_queue->tx = (struct tx_queue){
			.port = &nic->base,
			.index = i,
			.numa_node = numa_node,
			.accepts = accepts,
			.full_reason = DROP_NIC_QUEUE_FULL,
			.wake = { .fd = -1, .channel = -1 },
			.lock = RTE_SPINLOCK_INITIALIZER,
			.send = nic_send,
			.notify = nic_tx_notify,
			.send_shared = nic_send_shared,
			.notify_shared = nic_tx_notify,
		};
	}
}

static unsigned int nic_list_rx(struct port *port, struct rx_queue **queues)
{
	struct nic *nic = (struct nic *)port;

	for (unsigned int i = 0; i < nic->n_queues; i++)
		queues[i] = &nic->rx[i].rx;
	return nic->n_queues;
}

static unsigned int nic_list_tx(struct port *port, struct tx_queue **queues)
{
	struct nic *nic = (struct nic *)port;

	for (unsigned int i = 0; i < nic->n_queues; i++)
		queues[i] = &nic->tx[i].tx;
	return nic->n_queues;
}

static void nic_describe(struct port *port, json_t *object)
{
	struct nic *nic = (struct nic *)port;
	struct rte_ether_addr mac = {0};
	char text[RTE_ETHER_ADDR_FMT_SIZE];

	rte_eth_macaddr_get(nic->eth_port, &mac);
	rte_ether_format_addr(text, sizeof(text), &mac);
	json_object_set_new(object, "device", json_string(nic->device));
	json_object_set_new(object, "driver", json_string(nic->driver));
	json_object_set_new(object, "mac", json_string(text));
	json_object_set_new(object, "queues", json_integer(nic->n_queues));
	json_object_set_new(object, "link", json_boolean(nic->link_up));
	json_object_set_new(object, "numa_node", json_integer(rte_eth_dev_socket_id(nic->eth_port)));
}

static bool read_link(const struct nic *nic)
{
	struct rte_eth_link link = {0};

	return rte_eth_link_get_nowait(nic->eth_port, &link) == 0 &&
	       link.link_status == RTE_ETH_LINK_UP;
}

static void nic_tick(struct port *port)
{
	struct nic *nic = (struct nic *)port;
	bool up = read_link(nic);

	if (up != nic->link_up)
		log_info("port %s: link %s", port->name, up ? "up" : "down");
	nic->link_up = up;
}

static void nic_destroy(struct port *port)
{
	struct nic *nic = (struct nic *)port;

	if (nic->started)
		rte_eth_dev_stop(nic->eth_port);
	for (unsigned int i = 0; i < nic->n_queues; i++) {
		rte_pktmbuf_free_bulk(nic->rx[i].held, nic->rx[i].n_held);
		rte_pktmbuf_free_bulk(nic->tx[i].spare, nic->tx[i].n_spare);
	}
	if (nic->attached && nic_detach(nic->eth_port) != 0)
		log_warn("port %s: device %s cannot be detached; it stays with the daemon until it "
			 "ends",
			port->name, nic->device);
	port_fini(port);
	rte_free(nic);
}

static const struct port_ops nic_ops = {
	.kind = "nic",
	.list_rx = nic_list_rx,
	.list_tx = nic_list_tx,
	.describe = nic_describe,
	.tick = nic_tick,
	.destroy = nic_destroy,
};

struct port *nic_create(const struct nic_config *config, const struct port_host *host, char *error,
	size_t error_size)
{
	const struct nic_report report = {.config = config, .text = error, .size = error_size};
	struct nic_plan plan = {.driver = nic_driver_of(config->device)};
	struct nic *nic = rte_zmalloc("nic", sizeof(*nic), RTE_CACHE_LINE_SIZE);

	if (nic == NULL || port_init(&nic->base, &nic_ops, host, config->name, config->id) != 0) {
		nic_fail(&report, "no DPDK memory left: give the daemon more");
		rte_free(nic);
		return NULL;
	}
	nic->base.vlan = config->vlan;
	nic->base.mode = config->mode;
	snprintf(nic->device, sizeof(nic->device), "%s", config->device);
	nic->attached = nic_attach(&report, &nic->eth_port) == 0;
	if (!nic->attached || configure(nic, &plan, &report) != 0) {
		nic_destroy(&nic->base);
		return NULL;
	}
	init_queues(nic, &plan);
	nic->link_up = read_link(nic);
	return &nic->base;
}
