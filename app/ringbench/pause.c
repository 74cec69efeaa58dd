/* SPDX-License-Identifier: BSD-3-Clause */
#include "pause.h"

/* SplitMix64 (G. Steele et al., "Fast splittable pseudorandom number generators", 2014). */
static uint64_t next(struct pause_source *source)
{
	uint64_t mix = source->state += UINT64_C(0x9e3779b97f4a7c15);

	mix = (mix ^ (mix >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	mix = (mix ^ (mix >> 27)) * UINT64_C(0x94d049bb133111eb);
	return mix ^ (mix >> 31);
}

/* 0..n - 1, for n far below 2^64, where the remainder favours nothing by much. */
static uint64_t below(struct pause_source *source, uint64_t n)
{
	return next(source) % n;
}

void pause_source_init(struct pause_source *source, uint64_t seed, unsigned int stream, uint64_t max_us)
{
	*source = (struct pause_source){.state = seed, .max_ns = max_us * 1000};
	/* Far away from those of the neighbouring streams. */
	for (unsigned int i = 0; i <= stream; i++)
		source->state = next(source);
	for (uint64_t us = 1; us <= max_us; us *= 2)
		source->n_octaves++;
	if (max_us != 0 && (max_us & (max_us - 1)) != 0)
		source->n_octaves++;
}

unsigned int pause_burst_length(struct pause_source *source, unsigned int max)
{
	return 1 + (unsigned int)below(source, max);
}

uint64_t pause_length_ns(struct pause_source *source)
{
	unsigned int octave;
	uint64_t low, high;

	if (source->n_octaves == 0)
		return 0;
	octave = (unsigned int)below(source, source->n_octaves);
	low = octave == 0 ? 0 : UINT64_C(500) << octave;
	high = UINT64_C(1000) << octave;
	if (high > source->max_ns)
		high = source->max_ns;
	return low + below(source, high - low + 1);
}
