/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * NIC ports: any DPDK ethdev, named by PCI address or by a vdev string ("net_af_packet0,iface=eth1").
 *
 * Devices are attached when the port is made and detached when it is destroyed. EAL must have been started so that it
 * touches none by itself: with "--no-pci", or, where PCI devices are to be possible, with "-a 0000:00:00.0" (an allow
 * list that names nothing we use), since --no-pci turns the PCI bus off for the process's life.
 *
 * Thread rule: control thread, EAL initialised.
 */
#ifndef PORT_NIC_H
#define PORT_NIC_H

#include <port/port.h>

struct rte_mempool;

struct nic_config {
	const char *name;
	uint16_t id;
	const char *device;    /* PCI address or vdev string */
	unsigned int n_queues; /* 1..PORT_MAX_QUEUES; cut to what the device can do, which is logged */
	uint16_t mtu;          /* 0: the device's */
	struct port_vlan vlan;
	enum port_mode mode;
	bool is_msix; /* a PCI device signals by MSI-X, not by MSI or INTx */
	struct rte_mempool *(*pool_of_node)(int numa_node); /* packet pool for a NUMA node */
};

/*
 * Attaches, configures and starts the device (promiscuous). The strings of `config` are copied; pools must outlive the
 * port. `host` is not told: the caller, who does not list the port's queues yet, makes the new plan.
 * Returns the port, which the caller owns (port->ops->destroy()), or NULL and one line in `error` that names the port, the
 * device, what failed and what to do; then nothing stays attached.
 */
struct port *nic_create(const struct nic_config *config, const struct port_host *host,
	char *error, size_t error_size);

#endif
