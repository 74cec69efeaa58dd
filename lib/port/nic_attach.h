/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * From the device of a configuration to an ethdev and back. Control thread.
 */
#ifndef PORT_NIC_ATTACH_H
#define PORT_NIC_ATTACH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <port/nic.h>

/* Longest device string. */
#define NIC_DEVICE_LEN_MAX 255

/* How a device tells that it has received something. */
enum nic_wakes {
	NIC_WAKES_BY_INTERRUPT, /* an eventfd for each queue, if it has receive interrupts */
	NIC_WAKES_BY_LEVEL,     /* a descriptor for each queue that is readable as long as there is something */
	NIC_WAKES_NOT,
	NIC_WAKES_BY_MSI_ONLY, /* not now, since it uses MSI-X */
};

/* What is known of drivers and cannot be asked of them. */
struct nic_driver {
	const char *prefix;   /* of the vdev string, behind "net_" or "eth_" */
	bool needs_interface; /* iface= names one that exists */
	bool ignore_offloads; /* what it offers it does in software, no better than we, or wrong */
	enum nic_wakes wakes;
	const char *needs;    /* what attaching takes, for the error message */
};

/* NULL: nothing is known of the device's driver. */
const struct nic_driver *nic_driver_of(const char *device);

/* Where errors of one nic_create() go. */
struct nic_report {
	const struct nic_config *config;
	char *text;
	size_t size;
};

/* Writes the one line an operator sees. Always -1: callers fail in the same statement. */
int nic_fail(const struct nic_report *report, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* `driver` may be NULL, `name` is the driver's of the attached device. */
enum nic_wakes nic_wakes_of(const struct nic_driver *driver, const char *name, bool is_msix);

/* The descriptor of a started device's receive queue, or why there is none. */
struct port_wake nic_wake_find(uint16_t eth_port, uint16_t queue, enum nic_wakes wakes);

/* Attaches the device. 0 and *eth_port, or -1 with a line in the report and nothing attached. */
int nic_attach(const struct nic_report *report, uint16_t *eth_port);

/* Closes and detaches what nic_attach() attached. Not 0: the device stays with the process. */
int nic_detach(uint16_t eth_port);

#endif
