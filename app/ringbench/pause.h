/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The random lengths of on/off traffic (--bursts): how many frames a burst has, how long the pause behind it is. The
 * same seed and stream give the same lengths.
 *
 * A pause lies in 0..1 us, 1..2, 2..4, 4..8 and so on up to the longest, each of these equally often, and anywhere in
 * it. So whatever time the back end takes to fall asleep or to wake up, pauses just short of it and just beyond it are
 * frequent, and so are long ones.
 *
 * Thread rule: one thread.
 */
#ifndef RINGBENCH_PAUSE_H
#define RINGBENCH_PAUSE_H

#include <stdint.h>

struct pause_source {
	uint64_t state;
	uint64_t max_ns;
	unsigned int n_octaves;
};

/* `stream` tells the sources of one seed apart. No pause is longer than max_us (up to 2^50); 0: there are none. */
void pause_source_init(struct pause_source *source, uint64_t seed, unsigned int stream, uint64_t max_us);

/* 1..max frames, each length equally often; max > 0. */
unsigned int pause_burst_length(struct pause_source *source, unsigned int max);

/* 0..max_us * 1000. */
uint64_t pause_length_ns(struct pause_source *source);

#endif
