/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * NIC ports: attaching, configuring and describing an ethdev.
 *
 * Devices are attached at run time, so the daemon decides what EAL touches: it is started with --no-pci, or with an
 * allow list that names no device ("-a 0000:00:00.0") where PCI devices are wanted, because --no-pci turns the PCI bus
 * off for good.
 */
#include <ctype.h>
#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <rte_dev.h>
#include <rte_ethdev.h>
#include <rte_malloc.h>
#include <rte_pci.h>

#include <base/log.h>
#include <port/nic.h>
#include <port/offload.h>

#include "frame_layers.h"
#include "nic_internal.h"

#define NIC_RING_SIZE 1024

/* What stands around an IP packet at most: Ethernet and a tag. */
#define NIC_L2_LEN_MAX (FRAME_ETHER_LEN + FRAME_TAG_LEN)

/* A frame for TSO of full length needs this many mbufs of 2 KiB in one transmission. */
#define NIC_TSO_CHAIN (FRAME_LEN_MAX / 2048 + 2)

#define RX_CHECKSUMS                                                                              \
	(RTE_ETH_RX_OFFLOAD_IPV4_CKSUM | RTE_ETH_RX_OFFLOAD_TCP_CKSUM | RTE_ETH_RX_OFFLOAD_UDP_CKSUM)
#define TX_CHECKSUMS (RTE_ETH_TX_OFFLOAD_TCP_CKSUM | RTE_ETH_TX_OFFLOAD_UDP_CKSUM)
#define TX_TSO       (RTE_ETH_TX_OFFLOAD_TCP_TSO | RTE_ETH_TX_OFFLOAD_IPV4_CKSUM)

#define RSS_KINDS (RTE_ETH_RSS_IP | RTE_ETH_RSS_TCP | RTE_ETH_RSS_UDP)

/* What is known of drivers and cannot be asked of them. */
struct nic_driver {
	const char *prefix;    /* of the vdev string, behind "net_" or "eth_" */
	bool needs_interface;  /* iface= names one that exists */
	bool ignore_offloads;  /* what it offers it does in software, no better than we do, or wrongly */
	const char *needs;     /* what attaching takes, for the error message */
};

static const struct nic_driver nic_drivers[] = {
	{ "af_packet", true, false, "root or CAP_NET_RAW" },
	{ "af_xdp", true, false, "root or CAP_NET_RAW, CAP_BPF and CAP_NET_ADMIN, and as many queues as "
		"'ethtool -l' calls combined" },
	/* Segments with rte_gso, which leaves IPv6 frames whole. */
	{ "tap", false, true, "root or CAP_NET_ADMIN, and /dev/net/tun" },
	{ "pcap", false, false, "a readable rx_pcap= file or a writable place for tx_pcap=" },
	{ "ring", false, false, "DPDK memory" },
	{ "null", false, false, "DPDK memory" },
};

struct nic {
	struct port base;
	char device[256];
	char driver[32];
	uint16_t eth_port;
	bool attached; /* eth_port is ours */
	bool started;
	bool link_up;
	unsigned int n_queues;
	struct nic_rx rx[PORT_MAX_QUEUES];
	struct nic_tx tx[PORT_MAX_QUEUES];
};

/* Where errors of one nic_create() go. */
struct nic_report {
	const struct nic_config *config;
	char *text;
	size_t size;
};

/* Writes the one line an operator sees. Always -1, so that callers can fail in the same statement. */
static int fail(const struct nic_report *report, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

static int fail(const struct nic_report *report, const char *format, ...)
{
	int n = snprintf(report->text, report->size, "port %s: device %s: ", report->config->name,
		report->config->device);
	va_list args;

	if (n < 0 || (size_t)n >= report->size)
		return -1;
	va_start(args, format);
	vsnprintf(report->text + n, report->size - n, format, args);
	va_end(args);
	return -1;
}

static const struct nic_driver *driver_of(const char *device)
{
	if (strncmp(device, "net_", 4) != 0 && strncmp(device, "eth_", 4) != 0)
		return NULL;
	for (size_t i = 0; i < RTE_DIM(nic_drivers); i++) {
		size_t len = strlen(nic_drivers[i].prefix);
		const char *rest = device + 4 + len;

		if (strncmp(device + 4, nic_drivers[i].prefix, len) != 0)
			continue;
		if (*rest == '\0' || *rest == ',' || isdigit((unsigned char)*rest))
			return &nic_drivers[i];
	}
	return NULL;
}

/* Copies what follows `key` (",iface=") in the vdev string up to the next comma. */
static bool device_argument(const char *device, const char *key, char *value, size_t size)
{
	const char *at = strstr(device, key);

	if (at == NULL)
		return false;
	at += strlen(key);
	snprintf(value, size, "%.*s", (int)strcspn(at, ","), at);
	return true;
}

static int check_interface(const struct nic_report *report)
{
	char interface[IF_NAMESIZE * 4];
	int fd;

	if (!device_argument(report->config->device, ",iface=", interface, sizeof(interface)))
		return fail(report, "it needs ',iface=NAME' with the name of a network interface");
	if (if_nametoindex(interface) == 0)
		return fail(report,
			"interface '%s' does not exist: create it, for example with 'ip link add "
			"%.15s type veth peer name PEER', or take one that 'ip link' shows",
			interface, interface);
	fd = socket(AF_PACKET, SOCK_RAW, 0);
	if (fd < 0)
		return fail(report,
			"opening a packet socket failed: %s: run as root or give the daemon "
			"CAP_NET_RAW",
			strerror(errno));
	close(fd);
	return 0;
}

static int check_pci(const struct nic_report *report, const char *address)
{
	char path[128], driver[256];
	ssize_t n;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s", address);
	if (access(path, F_OK) != 0)
		return fail(report,
			"there is no PCI device at this address: 'dpdk-devbind.py --status-dev net' "
			"lists them");
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/driver", address);
	n = readlink(path, driver, sizeof(driver) - 1);
	if (n < 0)
		return fail(report,
			"no kernel driver is bound to it: 'dpdk-devbind.py -b vfio-pci %s'", address);
	return 0;
}

/* The name the device has in DPDK: the vdev's, or the PCI address in full. */
static void device_name(const char *device, char *name, size_t size, bool *is_pci)
{
	struct rte_pci_addr address;

	snprintf(name, size, "%.*s", (int)strcspn(device, ","), device);
	*is_pci = rte_pci_addr_parse(name, &address) == 0;
	if (*is_pci)
		rte_pci_device_name(&address, name, size);
}

/* Attaches the device; nic->eth_port is ours afterwards. */
static int attach(struct nic *nic, const struct nic_report *report)
{
	const char *device = report->config->device;
	const struct nic_driver *driver = driver_of(device);
	char name[RTE_ETH_NAME_MAX_LEN];
	bool is_pci;
	int ret;

	if (strlen(device) >= sizeof(nic->device))
		return fail(report, "longer than %zu characters", sizeof(nic->device) - 1);
	device_name(device, name, sizeof(name), &is_pci);
	if (rte_eth_dev_get_port_by_name(name, &nic->eth_port) == 0)
		return fail(report, "'%s' is in use by another port: a device serves one port", name);
	if (driver != NULL && driver->needs_interface && check_interface(report) != 0)
		return -1;
	if (is_pci && check_pci(report, name) != 0)
		return -1;
	ret = rte_dev_probe(device);
	if (ret != 0) {
		if (driver != NULL)
			return fail(report, "driver net_%s refused it (%s): it needs %s",
				driver->prefix, strerror(-ret), driver->needs);
		if (is_pci)
			return fail(report,
				"no DPDK driver took it (%s): bind it to vfio-pci with "
				"'dpdk-devbind.py -b vfio-pci %s' and start the daemon with the PCI "
				"bus on",
				strerror(-ret), name);
		return fail(report,
			"DPDK knows no such device (%s): a PCI address (0000:01:00.0) or a device "
			"string (net_af_packet0,iface=eth1) is wanted",
			strerror(-ret));
	}
	if (rte_eth_dev_get_port_by_name(name, &nic->eth_port) != 0) {
		rte_eal_hotplug_remove(is_pci ? "pci" : "vdev", name);
		return fail(report, "it is no network device");
	}
	nic->attached = true;
	snprintf(nic->device, sizeof(nic->device), "%s", device);
	return 0;
}

/* What the device is asked for, from what it offers. */
struct nic_plan {
	const struct nic_driver *driver; /* NULL: nothing special is known */
	struct rte_eth_dev_info info;
	struct rte_eth_conf conf;
	struct rte_mempool *pool;
	uint32_t room; /* bytes of a packet buffer of the pool */
	uint16_t n_rx_desc;
	uint16_t n_tx_desc;
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
		(info->tx_desc_lim.nb_seg_max == 0 || info->tx_desc_lim.nb_seg_max >= NIC_TSO_CHAIN))
		plan->conf.txmode.offloads |= TX_TSO;
	if (n_queues > 1 && (info->flow_type_rss_offloads & RSS_KINDS) != 0) {
		plan->conf.rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
		plan->conf.rx_adv_conf.rss_conf.rss_hf = info->flow_type_rss_offloads & RSS_KINDS;
	}
}

/* Chooses the MTU: the configured one, or the device's as far as buffers can carry it. */
static int plan_mtu(struct nic_plan *plan, struct nic *nic, const struct nic_report *report)
{
	uint16_t mtu = report->config->mtu;
	uint16_t most = RTE_MIN(plan->room - NIC_L2_LEN_MAX, (uint32_t)UINT16_MAX);
	bool scatters = (plan->info.rx_offload_capa & RTE_ETH_RX_OFFLOAD_SCATTER) &&
		(plan->info.tx_offload_capa & RTE_ETH_TX_OFFLOAD_MULTI_SEGS);

	if (mtu == 0 && rte_eth_dev_get_mtu(nic->eth_port, &mtu) != 0)
		mtu = RTE_ETHER_MTU;
	if (report->config->mtu != 0 && plan->info.max_mtu != 0 &&
		(mtu < plan->info.min_mtu || mtu > plan->info.max_mtu))
		return fail(report, "mtu %u: the device takes %u..%u", mtu, plan->info.min_mtu,
			plan->info.max_mtu);
	if (mtu > most) {
		if (scatters)
			plan->conf.rxmode.offloads |= RTE_ETH_RX_OFFLOAD_SCATTER;
		else if (report->config->mtu != 0)
			return fail(report,
				"mtu %u: the device cannot spread a frame over packet buffers, and one "
				"of %u bytes takes an mtu of at most %u",
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
		ret = rte_eth_rx_queue_setup(nic->eth_port, i, plan->n_rx_desc, numa_node, &rx_conf,
			plan->pool);
		if (ret != 0)
			return fail(report,
				"receive queue %u with packet buffers of %u bytes was refused (%s): "
				"the driver's frames must fit into them",
				i, plan->room, strerror(-ret));
		ret = rte_eth_tx_queue_setup(nic->eth_port, i, plan->n_tx_desc, numa_node, &tx_conf);
		if (ret != 0)
			return fail(report, "transmit queue %u was refused (%s)", i, strerror(-ret));
	}
	return 0;
}

static int choose_queues(struct nic *nic, const struct nic_plan *plan, const struct nic_report *report)
{
	unsigned int most = RTE_MIN(plan->info.max_rx_queues, plan->info.max_tx_queues);

	nic->n_queues = RTE_MIN(RTE_MIN(report->config->n_queues, most), PORT_MAX_QUEUES);
	if (nic->n_queues == 0)
		return fail(report, "it has no queues");
	if (nic->n_queues < report->config->n_queues)
		log_warn("port %s: %u queues instead of %u: device %s has no more", nic->base.name,
			nic->n_queues, report->config->n_queues, report->config->device);
	return 0;
}

/* From an attached device to one that moves frames. */
static int configure(struct nic *nic, struct nic_plan *plan, const struct nic_report *report)
{
	int numa_node = rte_eth_dev_socket_id(nic->eth_port);
	int ret = rte_eth_dev_info_get(nic->eth_port, &plan->info);

	if (ret != 0)
		return fail(report, "the driver tells nothing about it (%s)", strerror(-ret));
	snprintf(nic->driver, sizeof(nic->driver), "%s", plan->info.driver_name);
	plan->pool = report->config->pool_of_node(numa_node);
	if (plan->pool == NULL)
		return fail(report,
			"no packet buffers on its NUMA node %d: give the daemon memory there", numa_node);
	plan->room = rte_pktmbuf_data_room_size(plan->pool) - RTE_PKTMBUF_HEADROOM;
	plan_offloads(plan, report->config->n_queues);
	if (choose_queues(nic, plan, report) != 0 || plan_mtu(plan, nic, report) != 0)
		return -1;
	plan->conf.rxmode.mtu = nic->base.mtu;
	ret = rte_eth_dev_configure(nic->eth_port, nic->n_queues, nic->n_queues, &plan->conf);
	if (ret != 0)
		return fail(report, "%u queues and mtu %u were refused (%s)", nic->n_queues,
			nic->base.mtu, strerror(-ret));
	plan->n_rx_desc = plan->n_tx_desc = NIC_RING_SIZE;
	rte_eth_dev_adjust_nb_rx_tx_desc(nic->eth_port, &plan->n_rx_desc, &plan->n_tx_desc);
	if (setup_queues(nic, plan, report) != 0)
		return -1;
	if (report->config->mtu != 0) {
		ret = rte_eth_dev_set_mtu(nic->eth_port, nic->base.mtu);
		/* A device without the call has no limit of its own below the configured one. */
		if (ret != 0 && ret != -ENOTSUP)
			return fail(report, "mtu %u was refused (%s)", nic->base.mtu, strerror(-ret));
	}
	ret = rte_eth_dev_start(nic->eth_port);
	if (ret != 0)
		return fail(report, "it does not start (%s)", strerror(-ret));
	nic->started = true;
	/* A device without an address filter says it cannot, and passes everything. */
	ret = rte_eth_promiscuous_enable(nic->eth_port);
	if (ret != 0 && ret != -ENOTSUP)
		return fail(report, "it refuses promiscuous mode (%s), which a bridge needs",
			strerror(-ret));
	return 0;
}

static void init_queues(struct nic *nic, const struct nic_plan *plan)
{
	uint64_t tx = plan->conf.txmode.offloads;
	int numa_node = rte_eth_dev_socket_id(nic->eth_port);

	for (uint16_t i = 0; i < nic->n_queues; i++) {
		nic->rx[i] = (struct nic_rx){
			.rx = {
				.port = &nic->base,
				.index = i,
				.numa_node = numa_node,
				.worker = -1,
				.receive = nic_receive,
				.release = nic_release,
				.notify = nic_rx_notify,
			},
			.eth_port = nic->eth_port,
			.checksum_verified = (plan->conf.rxmode.offloads & RX_CHECKSUMS) != 0,
		};
		nic->tx[i] = (struct nic_tx){
			.tx = {
				.port = &nic->base,
				.index = i,
				.numa_node = numa_node,
				/* A partial checksum is completed in the copy that is made anyway. */
				.accepts = FRAME_NEEDS_CSUM |
					(tx & RTE_ETH_TX_OFFLOAD_TCP_TSO ?
						FRAME_NEEDS_TSO4 | FRAME_NEEDS_TSO6 : 0),
				.full_reason = DROP_NIC_QUEUE_FULL,
				.lock = RTE_SPINLOCK_INITIALIZER,
				.send = nic_send,
				.notify = nic_tx_notify,
			},
			.eth_port = nic->eth_port,
			.mtu = nic->base.mtu,
			.room = RTE_MIN(plan->room, (uint32_t)UINT16_MAX),
			.multi_segs = (tx & RTE_ETH_TX_OFFLOAD_MULTI_SEGS) != 0,
			.device_csum = (tx & TX_CHECKSUMS) != 0,
			.pool = plan->pool,
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
	struct rte_ether_addr mac = { 0 };
	char text[RTE_ETHER_ADDR_FMT_SIZE];

	rte_eth_macaddr_get(nic->eth_port, &mac);
	rte_ether_format_addr(text, sizeof(text), &mac);
	json_object_set_new(object, "device", json_string(nic->device));
	json_object_set_new(object, "driver", json_string(nic->driver));
	json_object_set_new(object, "mac", json_string(text));
	json_object_set_new(object, "queues", json_integer(nic->n_queues));
	json_object_set_new(object, "link", json_string(nic->link_up ? "up" : "down"));
}

static bool read_link(const struct nic *nic)
{
	struct rte_eth_link link = { 0 };

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
	struct rte_eth_dev_info info = { 0 };

	if (nic->started)
		rte_eth_dev_stop(nic->eth_port);
	for (unsigned int i = 0; i < nic->n_queues; i++) {
		rte_pktmbuf_free_bulk(nic->rx[i].held, nic->rx[i].n_held);
		rte_pktmbuf_free_bulk(nic->tx[i].spare, nic->tx[i].n_spare);
	}
	if (nic->attached) {
		/* The device is asked for before it is closed: a closed port has none. */
		rte_eth_dev_info_get(nic->eth_port, &info);
		rte_eth_dev_close(nic->eth_port);
		if (info.device != NULL && rte_dev_remove((struct rte_device *)info.device) != 0)
			log_warn("port %s: device %s cannot be detached; it stays with the daemon "
				 "until it ends",
				port->name, nic->device);
	}
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

struct port *nic_create(const struct nic_config *config, const struct port_host *host,
	char *error, size_t error_size)
{
	const struct nic_report report = { .config = config, .text = error, .size = error_size };
	struct nic_plan plan = { .driver = driver_of(config->device) };
	struct nic *nic = rte_zmalloc("nic", sizeof(*nic), RTE_CACHE_LINE_SIZE);

	if (nic == NULL || port_init(&nic->base, &nic_ops, config->name, config->id) != 0) {
		fail(&report, "no DPDK memory left: give the daemon more");
		rte_free(nic);
		return NULL;
	}
	nic->base.vlan = config->vlan;
	if (attach(nic, &report) != 0 || configure(nic, &plan, &report) != 0) {
		nic_destroy(&nic->base);
		return NULL;
	}
	init_queues(nic, &plan);
	nic->link_up = read_link(nic);
	return &nic->base;
}
