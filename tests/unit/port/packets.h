/* SPDX-License-Identifier: BSD-3-Clause */
/* Frames for tests, built byte by byte, and checksums computed the slow way, independent of the
 * code under test. */
#ifndef TEST_PACKETS_H
#define TEST_PACKETS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <netinet/in.h>

struct packet_spec {
	unsigned int n_tags;       /* 0..2; the outer one is 802.1Q with VID 100 */
	int ip_version;            /* 4, 6; 0: an unknown EtherType */
	uint8_t protocol;          /* IPPROTO_TCP, IPPROTO_UDP or another */
	unsigned int n_extensions; /* IPv6 hop-by-hop headers of 8 bytes */
	unsigned int ip_options;   /* bytes of IPv4 options, times of 4 */
	unsigned int tcp_options;
	bool routing;  /* one of the extensions is a routing header */
	bool fragment; /* IPv4: more fragments set */
	uint32_t payload_len;
};

struct packet {
	uint8_t bytes[70000];
	uint32_t len;
	uint32_t l3, l4, payload; /* offsets */
};

static inline void put16(uint8_t *at, uint32_t value)
{
	at[0] = (uint8_t)(value >> 8);
	at[1] = (uint8_t)value;
}

static inline uint32_t get16(const uint8_t *at)
{
	return (uint32_t)at[0] << 8 | at[1];
}

static inline uint32_t get32(const uint8_t *at)
{
	return get16(at) << 16 | get16(at + 2);
}

/* Ones' complement sum in network order, not inverted. */
static inline uint32_t slow_sum(const uint8_t *bytes, uint32_t len, uint32_t sum)
{
	for (uint32_t i = 0; i < len; i++) {
		sum += i % 2 ? bytes[i] : (uint32_t)bytes[i] << 8;
		sum = (sum & 0xffff) + (sum >> 16);
	}
	return sum;
}

static inline uint32_t slow_pseudo_sum(const uint8_t *ip, uint32_t l4_len, uint8_t protocol)
{
	uint32_t sum = ip[0] >> 4 == 4 ? slow_sum(ip + 12, 8, 0) : slow_sum(ip + 8, 32, 0);
	uint8_t rest[8] = {0};

	put16(rest, l4_len >> 16);
	put16(rest + 2, l4_len);
	rest[7] = protocol;
	return slow_sum(rest, 8, sum);
}

static inline void packet_make(struct packet *packet, const struct packet_spec *spec)
{
	uint8_t *b = packet->bytes;
	uint32_t at = 12, l4_len = 0;
	uint8_t protocol = spec->protocol;

	memset(b, 0, 256);
	memcpy(b, "\x02\x00\x00\x00\x00\x01\x02\x00\x00\x00\x00\x02", 12);
	for (unsigned int i = 0; i < spec->n_tags; i++, at += 4) {
		put16(b + at, 0x8100);
		put16(b + at + 2, 100 + i);
	}
	put16(b + at, spec->ip_version == 4 ? 0x0800 : spec->ip_version == 6 ? 0x86dd : 0x88b5);
	packet->l3 = at + 2;
	b += packet->l3;
	l4_len = protocol == IPPROTO_TCP ? 20 + spec->tcp_options : protocol == IPPROTO_UDP ? 8 : 0;
	packet->l4 = packet->l3;
	if (spec->ip_version == 4) {
		uint32_t ihl = 20 + spec->ip_options;

		b[0] = (uint8_t)(0x40 | ihl / 4);
		put16(b + 2, ihl + l4_len + spec->payload_len);
		put16(b + 4, 0xfffe);
		put16(b + 6, spec->fragment ? 0x2000 : 0x4000);
		b[8] = 64;
		b[9] = protocol;
		memcpy(b + 12, "\x0a\x00\x00\x01\x0a\x00\x00\x02", 8);
		memset(b + 20, 1, spec->ip_options);
		put16(b + 10, ~slow_sum(b, ihl, 0));
		packet->l4 += ihl;
	} else if (spec->ip_version == 6) {
		b[0] = 0x60;
		put16(b + 4, spec->n_extensions * 8 + l4_len + spec->payload_len);
		b[6] = protocol;
		b[7] = 64;
		memcpy(b + 8,
			"\xfe\x80\0\0\0\0\0\0\0\0\0\0\0\0\0\1\xfe\x80\0\0\0\0\0\0\0\0\0\0\0\0\0\2",
			32);
		if (spec->n_extensions > 0)
			b[6] = spec->routing ? IPPROTO_ROUTING : IPPROTO_HOPOPTS;
		for (unsigned int i = 0; i < spec->n_extensions; i++)
			b[40 + i * 8] = i + 1 < spec->n_extensions ? IPPROTO_HOPOPTS : protocol;
		packet->l4 += 40 + spec->n_extensions * 8;
	}
	b = packet->bytes + packet->l4;
	if (protocol == IPPROTO_TCP) {
		put16(b, 1234);
		put16(b + 2, 80);
		put16(b + 4, 0xffff); /* a sequence number that wraps */
		put16(b + 6, 0xfc00);
		b[12] = (uint8_t)(l4_len / 4 << 4);
		b[13] = 0x80 | 0x10 | 0x08 | 0x01; /* CWR ACK PSH FIN */
		memset(b + 20, 1, spec->tcp_options);
	} else if (protocol == IPPROTO_UDP) {
		put16(b, 1234);
		put16(b + 2, 53);
		put16(b + 4, 8 + spec->payload_len);
	}
	packet->payload = packet->l4 + l4_len;
	for (uint32_t i = 0; i < spec->payload_len; i++)
		packet->bytes[packet->payload + i] = (uint8_t)(i * 7 + i / 251);
	packet->len = packet->payload + spec->payload_len;
}

#endif
