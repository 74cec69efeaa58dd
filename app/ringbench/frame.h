/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The frames: Ethernet (VLAN tag or not), IPv4, UDP or TCP, a record, a pattern.
 *
 *      0        14 (18)     34 (38)     42 (46)            58 (62)                  size (- 8)
 *      +--------+-----------+-----------+------------------+------------------------+---------+
 *      |Ethernet| IPv4      | UDP       | record           | pattern, from a start  |(trailer)|
 *      |        | id: slot  | port: flow| seq, check, tsc  | chosen by the IPv4 id  |         |
 *      +--------+-----------+-----------+------------------+------------------------+---------+
 *
 * A frame is built once. Only its record is written when it is sent, plus the ports,
 * the TCP sequence number, and with `trailer` the last eight bytes. The check word mixes everything
 * that differs between two good frames (sequence, stamp, source port, IPv4 id, length) with a seed
 * of the run and direction, so a frame that is damaged there, cut, mixed from two, or delivered to
 * the wrong socket is found by one compare; frame_verify() looks at every other byte.
 *
 * TCP frames are there for segmentation: sequence number = record's seq * 65536 + payload offset,
 * so that each segment says which bytes of which frame it carries.
 */
#ifndef RINGBENCH_FRAME_H
#define RINGBENCH_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <arpa/inet.h>

#define FRAME_ETH_LEN  14u
#define FRAME_VLAN_LEN 4u
#define FRAME_IP_LEN   20u
#define FRAME_UDP_LEN  8u
#define FRAME_TCP_LEN  20u

#define FRAME_SIZE_MIN 60u /* Ethernet without FCS */
#define FRAME_SIZE_MAX 65535u

/* Flow n has source port FRAME_PORT_BASE + n (the ports IANA leaves free); the destination is the
 * discard port. */
#define FRAME_PORT_BASE 49152u
#define FRAME_MAX_FLOWS 16384u
#define FRAME_PORT_TO   9u

/* MAC addresses of one socket. */
#define FRAME_MAX_ADDRESSES 65536u

/* Warm-up frames of queue q are the flow FRAME_WARMUP_FLOW - q: the port numbers below
 * FRAME_PORT_BASE. */
#define FRAME_WARMUP_FLOW    0xffffu

#define FRAME_PATTERN_STARTS 4096u

struct frame_record {
	uint32_t seq;
	uint32_t check;
	uint64_t tsc; /* when it was sent */
} __attribute__((packed));

#define FRAME_RECORD_LEN ((unsigned int)sizeof(struct frame_record))

/* How the frames of one direction look at one of its ends; the two ends differ in the VLAN tag at
 * most. */
struct frame_format {
	/* Destination and source as they lie in the frame: of address 0, and of the others, whose number goes into bytes
	 * 2 and 3 of each. */
	uint8_t macs[12];
	uint8_t numbered_macs[12];
	uint32_t n_addresses;    /* that each end sends from; frame_address() says which one */
	uint64_t address_factor; /* 2^64 / n_addresses, rounded up; 0 for one */
	uint32_t src_ip; /* network order */
	uint32_t dst_ip;
	uint16_t vlan; /* 0: no tag */
	bool tcp;
	bool trailer;
	bool any_mac; /* verify: do not look at the MAC addresses (whoever loops frames may swap
			 them) */
	/* Offsets, from vlan and tcp. */
	uint16_t l3;
	uint16_t l4;
	uint16_t payload;
	uint64_t seed;
};

/* What is wrong with a frame; each has a counter. */
enum frame_fault {
	FRAME_OK,
	FRAME_FAULT_RECORD, /* check word or trailer: sequence, stamp, ports, id or length are not
			       those of one frame */
	FRAME_FAULT_ETHERNET,
	FRAME_FAULT_IP,
	FRAME_FAULT_L4,       /* ports, length, TCP sequence number */
	FRAME_FAULT_CHECKSUM, /* UDP or TCP checksum neither right nor left to do as the header says
			       */
	FRAME_FAULT_PATTERN,
	FRAME_FAULT_HEADER, /* virtio-net header: bits or values that were not negotiated, number of
			       buffers */
	FRAME_FAULT_SEGMENT, /* a TCP segment out of its place */
	FRAME_FAULT_UNSENT,  /* a number that was never sent */
	FRAME_N_FAULTS,
};

const char *frame_fault_name(enum frame_fault fault);

/*
 * Socket n (1..255) has MAC 52:54:00:72:62:n and address 198.18.0.n (the range for benchmarks, RFC 2544). With more than
 * one MAC address, address i > 0 is 56:54:ii:ii:62:n.
 */
void frame_mac(uint8_t mac[6], unsigned int number, unsigned int address);

/* One address at each end. */
void frame_format_init(struct frame_format *format, unsigned int from, unsigned int to,
	uint16_t vlan, bool tcp, uint64_t seed);

/* 1..FRAME_MAX_ADDRESSES; the frames of address i go to the other end's address i. */
void frame_format_set_addresses(struct frame_format *format, uint32_t n_addresses);

/*
 * Which of the addresses number `seq` of `flow` has: they come round in turn. The remainder by multiplication with the
 * inverse (exact for 32 bits: D. Lemire et al., "Faster remainder by direct computation", 2019).
 */
static inline uint32_t frame_address(const struct frame_format *format, unsigned int flow, uint32_t seq)
{
	uint64_t fraction = format->address_factor * (uint32_t)(seq + flow);

	return (uint32_t)(((unsigned __int128)fraction * format->n_addresses) >> 64);
}

static inline void frame_set_macs(const struct frame_format *format, uint8_t *frame, uint32_t address)
{
	uint16_t wire = htons((uint16_t)address);

	if (address == 0) {
		memcpy(frame, format->macs, 12);
		return;
	}
	memcpy(frame, format->numbered_macs, 12);
	memcpy(frame + 2, &wire, 2);
	memcpy(frame + 8, &wire, 2);
}

/* Smallest size that holds headers and record. */
unsigned int frame_size_min(const struct frame_format *format);

/* Writes `size` bytes at `frame`; the record is left to frame_stamp(). With partial_csum the L4
 * checksum is left to do. */
void frame_build(const struct frame_format *format, uint8_t *frame, uint32_t size, uint16_t id,
	uint16_t flow, bool partial_csum);

/* A size that both ends agree on: without the tag. */
static inline uint32_t frame_bare_size(const struct frame_format *format, uint32_t size)
{
	return size - format->l3 + FRAME_ETH_LEN;
}

/*
 * The check word in steps, so that what is the same for all frames of a burst is computed once: frame_check_finish() of
 * frame_burst_mix() plus (frame_numbers() XOR frame_identity()).
 */
static inline uint64_t frame_burst_mix(uint64_t seed, uint64_t tsc)
{
	return (tsc ^ seed) * UINT64_C(0x9e3779b97f4a7c15);
}

static inline uint64_t frame_numbers(uint32_t seq, uint32_t ports)
{
	return (uint64_t)seq << 32 | ports;
}

/* 16 bits each; `id` as it lies in the frame. */
static inline uint64_t frame_identity(uint32_t id, uint32_t bare_size)
{
	return (uint64_t)(id << 16 | bare_size) << 16;
}

/* In the upper half of the result. */
static inline uint64_t frame_check_finish(uint64_t mix)
{
	mix ^= mix >> 31;
	return mix * UINT64_C(0xd6e8feb86659fd93);
}

static inline uint32_t frame_check_word(
	uint64_t seed, uint32_t seq, uint64_t tsc, uint32_t ports, uint32_t id, uint32_t bare_size)
{
	return (uint32_t)(frame_check_finish(frame_burst_mix(seed, tsc) +
				  (frame_numbers(seq, ports) ^ frame_identity(id, bare_size))) >> 32);
}

/* Both ports, or the id, as they lie in the frame: the mix does not care about their order. */
static inline uint32_t frame_load32(const uint8_t *at)
{
	uint32_t value;

	memcpy(&value, at, sizeof(value));
	return value;
}

static inline uint16_t frame_load16(const uint8_t *at)
{
	uint16_t value;

	memcpy(&value, at, sizeof(value));
	return value;
}

static inline uint32_t frame_record_check(const struct frame_format *format, const uint8_t *frame,
	uint32_t bare_size, const struct frame_record *record, uint64_t seed)
{
	return frame_check_word(seed, record->seq, record->tsc, frame_load32(frame + format->l4),
		frame_load16(frame + format->l3 + 4), bare_size);
}

/* Which flow, or FRAME_MAX_FLOWS and more for a port that is none of ours. */
static inline unsigned int frame_flow(const struct frame_format *format, const uint8_t *frame)
{
	return (uint16_t)(ntohs(frame_load16(frame + format->l4)) - FRAME_PORT_BASE);
}

/* Both ports of a flow, as they lie in the frame: source, then destination. Warm-up flows wrap to the ports below the
 * base. */
static inline uint32_t frame_ports(unsigned int flow)
{
	return htonl((uint32_t)(uint16_t)(FRAME_PORT_BASE + flow) << 16 | FRAME_PORT_TO);
}

/*
 * Makes a built frame the number `seq` of `flow`, sent now. `size` and `id` are what it was built
 * with: nothing is read back from the frame, whose cache lines may be with the device. The MAC addresses are
 * frame_set_macs()'s.
 */
static inline void frame_stamp(const struct frame_format *format, uint8_t *frame, uint32_t size,
	uint16_t id, unsigned int flow, uint32_t seq, uint64_t tsc)
{
	struct frame_record record = {.seq = seq, .tsc = tsc};
	uint32_t ports = frame_ports(flow);

	record.check = frame_check_word(
		format->seed, seq, tsc, ports, htons(id), frame_bare_size(format, size));
	memcpy(frame + format->l4, &ports, sizeof(ports));
	memcpy(frame + format->payload, &record, sizeof(record));
	if (format->tcp) {
		uint32_t tcp_seq = htonl(seq << 16);

		memcpy(frame + format->l4 + 4, &tcp_seq, sizeof(tcp_seq));
	}
	if (format->trailer && size >= format->payload + FRAME_RECORD_LEN + 8)
		memcpy(frame + size - 8, &record, 8);
}

/*
 * The one compare every frame gets. `frame` has at least frame_size_min() bytes; bare_size counts
 * the whole frame. *record is the only copy of the record taken: use it from then on.
 */
static inline bool frame_is_good(const struct frame_format *format, const uint8_t *frame,
	uint32_t bare_size, struct frame_record *record)
{
	memcpy(record, frame + format->payload, sizeof(*record));
	return frame_record_check(format, frame, bare_size, record, format->seed) == record->check;
}

/*
 * Every byte of a frame of `size` bytes whose record is good, except the L4 checksum, which depends
 * on the virtio-net header (offload.h).
 */
enum frame_fault frame_verify(
	const struct frame_format *format, const uint8_t *frame, uint32_t size);

/* Compares `len` payload bytes from `offset` (>= record) on with the pattern of `id` (network
 * order, as it lies in the frame). */
bool frame_pattern_matches(uint16_t id, uint32_t offset, const uint8_t *bytes, uint32_t len);

/* Internet checksum (RFC 1071), not yet complemented, of `len` bytes on top of `sum`. */
uint32_t frame_sum(const uint8_t *bytes, uint32_t len, uint32_t sum);
uint16_t frame_sum_fold(uint32_t sum);

/* Sum over the pseudo header of `l4_len` bytes of TCP or UDP, taken from the IPv4 header at `ip`.
 */
uint32_t frame_pseudo_sum(const uint8_t *ip, uint32_t l4_len);

#endif
