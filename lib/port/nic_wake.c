/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Sleeping until a NIC has received something.
 *
 * A device with receive interrupts gives each queue an eventfd, which the kernel (VFIO) or the driver signals, if the
 * queue was armed. The eventfd is waited for by edges and never read. A tap has its own descriptor instead, which
 * needs no arming.
 */
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include <rte_ethdev.h>

#include "nic_attach.h"
#include "nic_internal.h"

enum nic_wakes nic_wakes_of(const struct nic_driver *driver, const char *name, bool is_msix)
{
	if (driver != NULL)
		return driver->wakes;
	/* It never tells the 82574 which vector its causes have: by MSI-X there are no receive interrupts. */
	if (strcmp(name, "net_e1000_em") == 0 && is_msix)
		return NIC_WAKES_BY_MSI_ONLY;
	return NIC_WAKES_BY_INTERRUPT;
}

struct port_wake nic_wake_find(uint16_t eth_port, uint16_t queue, enum nic_wakes wakes)
{
	struct port_wake wake = {
		.fd = -1,
		.is_nic = true,
		.is_level = wakes == NIC_WAKES_BY_LEVEL,
		.missing = "its driver has no receive interrupts",
		.channel = -1,
	};

	if (wakes == NIC_WAKES_BY_MSI_ONLY)
		wake.missing = "its driver raises no receive interrupts by MSI-X; with eal: {vfio_intr: msi} it does";
	if (wakes > NIC_WAKES_BY_LEVEL)
		return wake;
	if (wakes == NIC_WAKES_BY_INTERRUPT && rte_eth_dev_rx_intr_enable(eth_port, queue) != 0)
		return wake;
	wake.fd = rte_eth_dev_rx_intr_ctl_q_get_fd(eth_port, queue);
	wake.missing = "its receive interrupt has no descriptor";
	if (wakes == NIC_WAKES_BY_INTERRUPT)
		rte_eth_dev_rx_intr_disable(eth_port, queue);
	return wake;
}

/*
 * The tap driver looks at its descriptor only after a signal that the descriptor raises, and lets the kernel choose a
 * thread for that. Sent to the worker itself it is handled before the worker is back from its wait, which otherwise
 * would end again and again for nothing.
 */
static void signal_me(struct nic_rx *nic)
{
	const struct f_owner_ex owner = { .type = F_OWNER_TID, .pid = gettid() };

	if (nic->signalled == owner.pid)
		return;
	nic->signalled = owner.pid;
	fcntl(nic->rx.wake.fd, F_SETOWN_EX, &owner);
}

void nic_rx_arm(struct rx_queue *queue, bool wanted)
{
	struct nic_rx *nic = (struct nic_rx *)queue;

	if (queue->wake.is_level && wanted)
		signal_me(nic);
	else if (!queue->wake.is_level && wanted)
		nic->is_deaf = rte_eth_dev_rx_intr_enable(nic->eth_port, queue->index) != 0;
	else if (!queue->wake.is_level)
		rte_eth_dev_rx_intr_disable(nic->eth_port, queue->index);
}

bool nic_rx_is_ready(struct rx_queue *queue)
{
	struct nic_rx *nic = (struct nic_rx *)queue;

	if (nic->n_held == 0)
		nic->n_held = rte_eth_rx_burst(nic->eth_port, queue->index, nic->held, FRAME_BURST);
	return nic->n_held > 0 || nic->is_deaf;
}
