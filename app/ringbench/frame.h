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
	uint8_t src_mac[6];
	uint8_t dst_mac[6];
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

/* Socket n (1..255) has MAC 52:54:00:72:62:n and address 198.18.0.n (the range for benchmarks, RFC
 * 2544). */
void frame_mac(uint8_t mac[6], unsigned int number);
void frame_format_init(struct frame_format *format, unsigned int from, unsigned int to,
	uint16_t vlan, bool tcp, uint64_t seed);

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

static inline uint32_t frame_check_word(
	uint64_t seed, uint32_t seq, uint64_t tsc, uint32_t ports, uint32_t id, uint32_t bare_size)
{
	uint64_t mix = (tsc ^ seed) * UINT64_C(0x9e3779b97f4a7c15);

	mix += (((uint64_t)seq << 32) | ports) ^ ((uint64_t)(id << 16 | bare_size) << 16);
	mix ^= mix >> 31;
	mix *= UINT64_C(0xd6e8feb86659fd93);
	return (uint32_t)(mix >> 32);
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

/*
 * Makes a built frame the number `seq` of `flow`, sent now. `size` and `id` are what it was built
 * with: nothing is read back from the frame, whose cache lines may be with the device.
 */
static inline void frame_stamp(const struct frame_format *format, uint8_t *frame, uint32_t size,
	uint16_t id, unsigned int flow, uint32_t seq, uint64_t tsc)
{
	struct frame_record record = {.seq = seq, .tsc = tsc};
	/* Source port, then destination; warm-up flows wrap to the ports below the base. */
	uint32_t ports = htonl((uint32_t)(uint16_t)(FRAME_PORT_BASE + flow) << 16 | FRAME_PORT_TO);

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
