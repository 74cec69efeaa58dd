/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <rte_malloc.h>

#include <port/port.h>

static const char *const drop_names[] = {
#define row(id, name) [DROP_##id] = name,
	DROP_REASONS(row)
#undef row
};

const char *drop_reason_name(enum drop_reason reason)
{
	return drop_names[reason];
}

int port_init(struct port *port, const struct port_ops *ops, const struct port_host *host,
	const char *name, uint16_t id)
{
	port->counters = rte_zmalloc("port_counters",
		PORT_MAX_WORKERS * sizeof(*port->counters), RTE_CACHE_LINE_SIZE);
	if (port->counters == NULL)
		return -ENOMEM;
	snprintf(port->name, sizeof(port->name), "%s", name);
	port->id = id;
	port->ops = ops;
	port->host = host;
	return 0;
}

void port_fini(struct port *port)
{
	rte_free(port->counters);
	port->counters = NULL;
}

void port_counters_sum(const struct port *port, struct port_counters *sum)
{
	memset(sum, 0, sizeof(*sum));
	for (unsigned int w = 0; w < PORT_MAX_WORKERS; w++) {
		const struct port_counters *one = &port->counters[w];

		sum->rx_packets += one->rx_packets;
		sum->rx_bytes += one->rx_bytes;
		sum->tx_packets += one->tx_packets;
		sum->tx_bytes += one->tx_bytes;
		for (unsigned int r = 0; r < N_DROP_REASONS; r++)
			sum->drops[r] += one->drops[r];
	}
}

json_t *port_counters_json(const struct port *port)
{
	json_t *drops = json_object();
	struct port_counters sum;

	port_counters_sum(port, &sum);
	for (unsigned int r = 0; r < N_DROP_REASONS; r++) {
		if (sum.drops[r] > 0)
			json_object_set_new(drops, drop_names[r],
				json_integer((json_int_t)sum.drops[r]));
	}
	return json_pack("{s:I, s:I, s:I, s:I, s:o}", "rx_packets", (json_int_t)sum.rx_packets,
		"rx_bytes", (json_int_t)sum.rx_bytes, "tx_packets", (json_int_t)sum.tx_packets,
		"tx_bytes", (json_int_t)sum.tx_bytes, "drops", drops);
}

static uint16_t frame_tag_vid(const struct frame *frame)
{
	return (uint16_t)((frame->head[14] << 8 | frame->head[15]) & 0xfff);
}

static bool vlan_is_allowed(const struct port_vlan *vlan, uint16_t vid)
{
	return vlan->allowed[vid / 64] >> (vid % 64) & 1;
}

int port_vlan_ingress(const struct port_vlan *vlan, const struct frame *frame)
{
	/* VID 0 is a priority tag: it names no VLAN, so the frame counts as untagged (802.1Q, 9.6). */
	uint16_t vid = frame->tagged ? frame_tag_vid(frame) : 0;

	switch (vlan->kind) {
	case PORT_VLAN_NONE:
		return vid;
	case PORT_VLAN_ACCESS:
		return vid == 0 ? vlan->access : -1;
	case PORT_VLAN_TRUNK:
		if (vid == 0)
			return vlan->native != 0 ? vlan->native : -1;
		return vlan_is_allowed(vlan, vid) ? vid : -1;
	}
	return -1;
}

bool port_vlan_egress(const struct port_vlan *vlan, uint16_t vid, bool *tagged)
{
	switch (vlan->kind) {
	case PORT_VLAN_NONE:
		*tagged = vid != 0;
		return true;
	case PORT_VLAN_ACCESS:
		*tagged = false;
		return vid == vlan->access;
	case PORT_VLAN_TRUNK:
		*tagged = vid != vlan->native;
		return vid != 0 && (vid == vlan->native || vlan_is_allowed(vlan, vid));
	}
	return false;
}
