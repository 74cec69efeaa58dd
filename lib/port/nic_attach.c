/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Attaching devices at run time, and saying why one cannot be attached.
 *
 * DPDK tells a number when a device is refused and prints the reason, if at all, among its own
 * messages. So what can be looked at beforehand (does the interface exist, is the PCI device there,
 * may we open packet sockets) is looked at.
 *
 * The daemon decides what EAL touches: it is started with --no-pci, or with an allow list that
 * names no device ("-a 0000:00:00.0") where PCI devices may be wanted later, because --no-pci turns
 * the PCI bus off for good.
 */
#include <ctype.h>
#include <errno.h>
#include <net/if.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <rte_dev.h>
#include <rte_ethdev.h>
#include <rte_pci.h>

#include "nic_attach.h"

static const struct nic_driver nic_drivers[] = {
	{"af_packet", true, false, NIC_WAKES_NOT, "root or CAP_NET_RAW"},
	{"af_xdp", true, false, NIC_WAKES_NOT,
		"root or CAP_NET_RAW, CAP_BPF and CAP_NET_ADMIN, and as many queues as "
		"'ethtool -l' calls combined"},
	/* Segments with rte_gso, which leaves IPv6 frames whole. */
	{"tap", false, true, NIC_WAKES_BY_LEVEL, "root or CAP_NET_ADMIN, and /dev/net/tun"},
	{"pcap", false, false, NIC_WAKES_NOT, "a readable rx_pcap= file or a writable place for tx_pcap="},
	{"ring", false, false, NIC_WAKES_NOT, "DPDK memory"},
	{"null", false, false, NIC_WAKES_NOT, "DPDK memory"},
};

int nic_fail(const struct nic_report *report, const char *format, ...)
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

const struct nic_driver *nic_driver_of(const char *device)
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
		return nic_fail(
			report, "it needs ',iface=NAME' with the name of a network interface");
	if (if_nametoindex(interface) == 0)
		return nic_fail(report,
			"interface '%s' does not exist: create it, for example with 'ip link add "
			"%.15s type veth peer name PEER', or take one that 'ip link' shows",
			interface, interface);
	fd = socket(AF_PACKET, SOCK_RAW, 0);
	if (fd < 0)
		return nic_fail(report,
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
		return nic_fail(report,
			"there is no PCI device at this address: 'dpdk-devbind.py --status-dev "
			"net' lists them");
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/driver", address);
	n = readlink(path, driver, sizeof(driver) - 1);
	if (n < 0)
		return nic_fail(report,
			"no kernel driver is bound to it: 'dpdk-devbind.py -b vfio-pci %s'",
			address);
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

/* Says what DPDK's own message leaves open. `address` is NULL if it is no PCI device. */
static int explain_refusal(const struct nic_report *report, const struct nic_driver *driver,
	const char *address, int ret)
{
	if (driver != NULL)
		return nic_fail(report, "driver net_%s refused it (%s): it needs %s",
			driver->prefix, strerror(-ret), driver->needs);
	if (address != NULL)
		return nic_fail(report,
			"no DPDK driver took it (%s): bind it to vfio-pci with 'dpdk-devbind.py -b "
			"vfio-pci %s' and start the daemon with the PCI bus on",
			strerror(-ret), address);
	return nic_fail(report,
		"DPDK knows no such device (%s): a PCI address (0000:01:00.0) or a device string "
		"(net_af_packet0,iface=eth1) is wanted",
		strerror(-ret));
}

int nic_attach(const struct nic_report *report, uint16_t *eth_port)
{
	const char *device = report->config->device;
	const struct nic_driver *driver = nic_driver_of(device);
	char name[RTE_ETH_NAME_MAX_LEN];
	bool is_pci;
	int ret;

	if (strlen(device) > NIC_DEVICE_LEN_MAX)
		return nic_fail(report, "longer than %u characters", NIC_DEVICE_LEN_MAX);
	device_name(device, name, sizeof(name), &is_pci);
	if (rte_eth_dev_get_port_by_name(name, eth_port) == 0)
		return nic_fail(
			report, "'%s' is in use by another port: a device serves one port", name);
	if (driver != NULL && driver->needs_interface && check_interface(report) != 0)
		return -1;
	if (is_pci && check_pci(report, name) != 0)
		return -1;
	ret = rte_dev_probe(device);
	if (ret != 0)
		return explain_refusal(report, driver, is_pci ? name : NULL, ret);
	if (rte_eth_dev_get_port_by_name(name, eth_port) != 0) {
		rte_eal_hotplug_remove(is_pci ? "pci" : "vdev", name);
		return nic_fail(report, "it is no network device");
	}
	return 0;
}

int nic_detach(uint16_t eth_port)
{
	struct rte_eth_dev_info info;
	/* Before it is closed: a closed port knows no device. */
	int ret = rte_eth_dev_info_get(eth_port, &info);

	rte_eth_dev_close(eth_port);
	return ret != 0 ? ret : rte_dev_remove((struct rte_device *)info.device);
}
