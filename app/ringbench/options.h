/* SPDX-License-Identifier: BSD-3-Clause */
/* The command line: text in, checked numbers out. */
#ifndef RINGBENCH_OPTIONS_H
#define RINGBENCH_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define OPTIONS_MAX_SOCKETS 16
#define OPTIONS_MAX_QUEUES  16
#define OPTIONS_ERROR_MAX   512

#define OPTIONS_NO_BURSTS UINT64_MAX

enum options_topology {
	TOPOLOGY_LOOP,
	TOPOLOGY_PAIR,
};

enum options_verify {
	VERIFY_SAMPLED, /* check word of every frame, every byte of one in VERIFY_SAMPLE_EVERY */
	VERIFY_HEADER,  /* check word only */
	VERIFY_ALL,     /* every byte of every frame, and a changing trailer behind the pattern */
};

/* A prime: slots come round in powers of two, and each shall get its turn. */
#define VERIFY_SAMPLE_EVERY 61

struct options_socket {
	const char *path; /* into argv */
	bool listen;
	uint16_t vlan;        /* 0: untagged */
	uint64_t features_on; /* relative to the default */
	uint64_t features_off;
};

struct options {
	struct options_socket sockets[OPTIONS_MAX_SOCKETS];
	unsigned int n_sockets;
	unsigned int n_queues; /* pairs per socket */
	unsigned int n_flows;  /* per direction; at least n_queues */
	unsigned int n_macs;    /* addresses each socket sends from */
	unsigned int n_regions; /* that guest memory is announced as */
	uint32_t ring_size;
	uint32_t size; /* bytes without FCS */
	bool imix;
	uint32_t mss;
	uint32_t batch;
	uint32_t window;          /* frames in flight per direction; 0: default */
	uint32_t rx_buffer_bytes; /* header included; 0: default */
	uint32_t segment_bytes;   /* longest piece of a transmitted frame */
	uint64_t rate_pps;        /* total per direction; 0: closed loop */
	uint64_t count;           /* frames per direction; 0: by duration */
	uint64_t n_bursts; /* on/off traffic: bursts per queue pair and direction; 0: by duration */
	uint64_t pause_us; /* the longest between two bursts; OPTIONS_NO_BURSTS: traffic does not pause */
	uint64_t seed;     /* of lengths of bursts and pauses */
	uint64_t duration_us;
	uint64_t interval_us; /* 0: no live lines */
	uint64_t deadline_us; /* to connect, and for the first frames */
	uint64_t stall_us;    /* silence after which what is in flight is not waited for */
	enum options_topology topology;
	enum options_verify verify;
	bool one_way;
	bool idle; /* nothing is sent */
	bool log; /* sessions are being migrated all the time */
	bool sleep;
	bool reconnect;
	bool json;
	int cpu; /* -1: where the scheduler puts us */
};

enum options_result {
	OPTIONS_RUN,
	OPTIONS_DONE,  /* --help, --version: answered on stdout */
	OPTIONS_ERROR, /* one line in error */
};

enum options_result options_parse(
	struct options *options, int argc, char **argv, char *error, size_t error_size);

static inline bool options_are_bursts(const struct options *options)
{
	return options->pause_us != OPTIONS_NO_BURSTS;
}

/* Whether a split ring can have the size asked for, and the next one that it can. */
uint32_t options_next_split_size(const struct options *options);
static inline bool options_ring_is_split_size(const struct options *options)
{
	return (options->ring_size & (options->ring_size - 1)) == 0;
}

/* Largest frame of the mix. */
uint32_t options_max_size(const struct options *options);

/* Size of the frame that slot n sends: IMIX is 7:4:1 of 64, 590 and 1518. */
uint32_t options_slot_size(const struct options *options, unsigned int slot);

#endif
