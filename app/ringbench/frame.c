/* SPDX-License-Identifier: BSD-3-Clause */
#include "frame.h"

#define ETHERTYPE_IPV4 0x0800
#define ETHERTYPE_VLAN 0x8100
#define IP_PROTO_TCP   6
#define IP_PROTO_UDP   17
#define IP_DONT_FRAG   0x4000
#define IP_TTL_SENT    64
#define TCP_FLAG_ACK   0x10

static const char *const fault_names[] = {
	[FRAME_OK] = "ok",
	[FRAME_FAULT_RECORD] = "record",
	[FRAME_FAULT_ETHERNET] = "ethernet",
	[FRAME_FAULT_IP] = "ip",
	[FRAME_FAULT_L4] = "l4",
	[FRAME_FAULT_CHECKSUM] = "checksum",
	[FRAME_FAULT_PATTERN] = "pattern",
	[FRAME_FAULT_HEADER] = "virtio_header",
	[FRAME_FAULT_SEGMENT] = "segment",
	[FRAME_FAULT_UNSENT] = "unsent",
};
_Static_assert(
	sizeof(fault_names) / sizeof(fault_names[0]) == FRAME_N_FAULTS, "a name for each fault");

const char *frame_fault_name(enum frame_fault fault)
{
	return fault_names[fault];
}

/* Bytes that do not repeat within any distance a copy could go wrong by; made once, before the
 * first frame. */
static const uint8_t *pattern(void)
{
	static uint8_t bytes[FRAME_PATTERN_STARTS + FRAME_SIZE_MAX + 1];
	static bool made;

	if (!made) {
		uint64_t state = UINT64_C(0x52696e6777617921);

		for (size_t i = 0; i < sizeof(bytes); i++) {
			state ^= state << 13;
			state ^= state >> 7;
			state ^= state << 17;
			bytes[i] = (uint8_t)(state >> 24);
		}
		made = true;
	}
	return bytes;
}

static const uint8_t *pattern_of(uint16_t id)
{
	/* An odd factor spreads neighbouring ids over the starts. */
	return pattern() + ntohs(id) * 61u % FRAME_PATTERN_STARTS;
}

static void put16(uint8_t *at, unsigned int value)
{
	uint16_t wire = htons((uint16_t)value);

	memcpy(at, &wire, sizeof(wire));
}

static unsigned int get16(const uint8_t *at)
{
	return ntohs(frame_load16(at));
}

void frame_mac(uint8_t mac[6], unsigned int number, unsigned int address)
{
	static const uint8_t prefix[5] = {0x52, 0x54, 0x00, 0x72, 0x62};

	memcpy(mac, prefix, sizeof(prefix));
	mac[5] = (uint8_t)number;
	if (address != 0) {
		mac[0] = 0x56;
		put16(mac + 2, address);
	}
}

void frame_format_init(struct frame_format *format, unsigned int from, unsigned int to,
	uint16_t vlan, bool tcp, uint64_t seed)
{
	*format = (struct frame_format){.vlan = vlan, .tcp = tcp, .seed = seed, .n_addresses = 1};
	frame_mac(format->macs, to, 0);
	frame_mac(format->macs + 6, from, 0);
	frame_mac(format->numbered_macs, to, 1);
	frame_mac(format->numbered_macs + 6, from, 1);
	format->src_ip = htonl(0xc6120000u | from);
	format->dst_ip = htonl(0xc6120000u | to);
	format->l3 = (uint16_t)(FRAME_ETH_LEN + (vlan != 0 ? FRAME_VLAN_LEN : 0));
	format->l4 = (uint16_t)(format->l3 + FRAME_IP_LEN);
	format->payload = (uint16_t)(format->l4 + (tcp ? FRAME_TCP_LEN : FRAME_UDP_LEN));
}

void frame_format_set_addresses(struct frame_format *format, uint32_t n_addresses)
{
	format->n_addresses = n_addresses;
	format->address_factor = n_addresses == 1 ? 0 : UINT64_MAX / n_addresses + 1;
}

unsigned int frame_size_min(const struct frame_format *format)
{
	unsigned int size = format->payload + FRAME_RECORD_LEN;

	return size > FRAME_SIZE_MIN ? size : FRAME_SIZE_MIN;
}

uint32_t frame_sum(const uint8_t *bytes, uint32_t len, uint32_t sum)
{
	uint64_t wide = sum;
	uint32_t i;

	for (i = 0; i + 1 < len; i += 2)
		wide += get16(bytes + i);
	if (i < len)
		wide += (uint64_t)bytes[i] << 8;
	while (wide >> 32)
		wide = (wide & 0xffffffff) + (wide >> 32);
	return (uint32_t)wide;
}

uint16_t frame_sum_fold(uint32_t sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)sum;
}

uint32_t frame_pseudo_sum(const uint8_t *ip, uint32_t l4_len)
{
	return frame_sum(ip + 12, 8, ip[9] + l4_len);
}

static void build_ethernet(const struct frame_format *format, uint8_t *frame)
{
	frame_set_macs(format, frame, 0);
	if (format->vlan != 0) {
		put16(frame + 12, ETHERTYPE_VLAN);
		put16(frame + 14, format->vlan);
	}
	put16(frame + format->l3 - 2, ETHERTYPE_IPV4);
}

static void build_ip(const struct frame_format *format, uint8_t *ip, uint32_t len, uint16_t id)
{
	memset(ip, 0, FRAME_IP_LEN);
	ip[0] = 0x45;
	put16(ip + 2, len);
	put16(ip + 4, id);
	put16(ip + 6, IP_DONT_FRAG);
	ip[8] = IP_TTL_SENT;
	ip[9] = format->tcp ? IP_PROTO_TCP : IP_PROTO_UDP;
	memcpy(ip + 12, &format->src_ip, 4);
	memcpy(ip + 16, &format->dst_ip, 4);
	put16(ip + 10, (uint16_t)~frame_sum_fold(frame_sum(ip, FRAME_IP_LEN, 0)));
}

static void build_l4(const struct frame_format *format, uint8_t *frame, uint32_t len, uint16_t flow,
	bool partial_csum)
{
	uint8_t *l4 = frame + format->l4;
	uint8_t *checksum = l4 + (format->tcp ? 16 : 6);

	memset(l4, 0, format->tcp ? FRAME_TCP_LEN : FRAME_UDP_LEN);
	put16(l4, FRAME_PORT_BASE + flow);
	put16(l4 + 2, FRAME_PORT_TO);
	if (format->tcp) {
		l4[12] = FRAME_TCP_LEN / 4 << 4;
		l4[13] = TCP_FLAG_ACK;
		put16(l4 + 14, 0xffff);
	} else {
		put16(l4 + 4, len);
	}
	/* UDP without an offload goes without a checksum (RFC 768: zero); left to do, the field
	 * holds the pseudo header's sum. */
	if (partial_csum)
		put16(checksum, frame_sum_fold(frame_pseudo_sum(frame + format->l3, len)));
}

void frame_build(const struct frame_format *format, uint8_t *frame, uint32_t size, uint16_t id,
	uint16_t flow, bool partial_csum)
{
	uint32_t body = format->payload + FRAME_RECORD_LEN;

	build_ethernet(format, frame);
	build_ip(format, frame + format->l3, size - format->l3, id);
	build_l4(format, frame, size - format->l4, flow, partial_csum);
	memset(frame + format->payload, 0, FRAME_RECORD_LEN);
	memcpy(frame + body, pattern_of(htons(id)) + FRAME_RECORD_LEN, size - body);
}

static bool ethernet_matches(const struct frame_format *format, const uint8_t *frame, uint32_t seq)
{
	uint8_t macs[12];

	frame_set_macs(format, macs, frame_address(format, frame_flow(format, frame), seq));
	if (!format->any_mac && memcmp(frame, macs, sizeof(macs)) != 0)
		return false;
	if (format->vlan != 0 && (get16(frame + 12) != ETHERTYPE_VLAN ||
					 (get16(frame + 14) & 0xfff) != format->vlan))
		return false;
	return get16(frame + format->l3 - 2) == ETHERTYPE_IPV4;
}

static bool ip_matches(const struct frame_format *format, const uint8_t *ip, uint32_t len)
{
	if (ip[0] != 0x45 || get16(ip + 2) != len || get16(ip + 6) != IP_DONT_FRAG ||
		ip[8] != IP_TTL_SENT || ip[9] != (format->tcp ? IP_PROTO_TCP : IP_PROTO_UDP))
		return false;
	if (memcmp(ip + 12, &format->src_ip, 4) != 0 || memcmp(ip + 16, &format->dst_ip, 4) != 0)
		return false;
	return frame_sum_fold(frame_sum(ip, FRAME_IP_LEN, 0)) == 0xffff;
}

bool frame_pattern_matches(uint16_t id, uint32_t offset, const uint8_t *bytes, uint32_t len)
{
	return memcmp(bytes, pattern_of(id) + offset, len) == 0;
}

enum frame_fault frame_verify(
	const struct frame_format *format, const uint8_t *frame, uint32_t size)
{
	const uint8_t *l4 = frame + format->l4;
	uint32_t body = format->payload + FRAME_RECORD_LEN;
	bool has_trailer = format->trailer && size >= body + 8;
	struct frame_record record;

	memcpy(&record, frame + format->payload, sizeof(record));
	if (!ethernet_matches(format, frame, record.seq))
		return FRAME_FAULT_ETHERNET;
	if (!ip_matches(format, frame + format->l3, size - format->l3))
		return FRAME_FAULT_IP;
	if (get16(l4 + 2) != FRAME_PORT_TO)
		return FRAME_FAULT_L4;
	if (format->tcp ? ntohl(frame_load32(l4 + 4)) != record.seq << 16
			: get16(l4 + 4) != size - format->l4)
		return FRAME_FAULT_L4;
	if (has_trailer && memcmp(frame + size - 8, &record, 8) != 0)
		return FRAME_FAULT_RECORD;
	if (!frame_pattern_matches(frame_load16(frame + format->l3 + 4), FRAME_RECORD_LEN,
		    frame + body, size - body - (has_trailer ? 8 : 0)))
		return FRAME_FAULT_PATTERN;
	return FRAME_OK;
}
