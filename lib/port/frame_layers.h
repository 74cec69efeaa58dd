/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Where the headers of a frame lie. Reads the private head only and never past it, in a bounded
 * number of steps, so it may be called on anything a guest or a wire sends; what it returns holds
 * whatever the bytes were.
 *
 * Thread rule: pure functions.
 */
#ifndef PORT_FRAME_LAYERS_H
#define PORT_FRAME_LAYERS_H

#include <stdbool.h>
#include <stdint.h>

#include <port/frame.h>

#define FRAME_MACS_LEN  12
#define FRAME_ETHER_LEN 14
#define FRAME_TAG_LEN   4

/* All offsets and lengths are inside the head. l3 counts IPv6 extension headers. */
struct frame_layers {
	uint8_t ip_version; /* 4, 6, or 0: not IP, or its header is not complete in the head */
	uint8_t protocol;   /* of layer 4; undefined when l4_len is 0 */
	uint8_t l2_len;     /* Ethernet and up to two tags; 14, 18 or 22 */
	uint8_t l4_len;     /* TCP with options or UDP, complete in the head; else 0 */
	uint16_t l3_len;
	bool fragment; /* part of a larger IP packet: has no layer 4 of its own to work on */
	bool routed;   /* IPv6 routing header: the pseudo-header has another destination than the IP
			  header */
};

void frame_layers_parse(const struct frame *frame, struct frame_layers *layers);

static inline uint16_t frame_read_be16(const uint8_t *at)
{
	return (uint16_t)(at[0] << 8 | at[1]);
}

static inline uint32_t frame_read_be32(const uint8_t *at)
{
	return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static inline void frame_write_be16(uint8_t *at, uint16_t value)
{
	at[0] = (uint8_t)(value >> 8);
	at[1] = (uint8_t)value;
}

static inline void frame_write_be32(uint8_t *at, uint32_t value)
{
	frame_write_be16(at, (uint16_t)(value >> 16));
	frame_write_be16(at + 2, (uint16_t)value);
}

#endif
