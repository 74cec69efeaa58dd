/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A log-linear histogram of latencies: eight buckets for each power of two, so that a bucket is at
 * most 12.5 % wide and recording costs one bit scan and one increment. Values are whatever the user
 * counts: TSC cycles, nanoseconds.
 *
 * Thread rule: one writer. Others may read at any time and see a moment that is nearly one.
 */
#ifndef BASE_HISTOGRAM_H
#define BASE_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_SUB_BITS  3
#define HISTOGRAM_N_BUCKETS ((64 - HISTOGRAM_SUB_BITS + 1) << HISTOGRAM_SUB_BITS)

struct histogram {
	uint64_t n;
	uint64_t max;
	uint64_t buckets[HISTOGRAM_N_BUCKETS];
};

/* Values below 8 have a bucket each; above, the leading bit chooses the octave and the three bits
 * behind it the bucket. */
static inline unsigned int histogram_bucket(uint64_t value)
{
	unsigned int shift;

	if (value < (1u << HISTOGRAM_SUB_BITS))
		return (unsigned int)value;
	shift = 63 - HISTOGRAM_SUB_BITS - (unsigned int)__builtin_clzll(value);
	return (shift << HISTOGRAM_SUB_BITS) + (unsigned int)(value >> shift);
}

/* Records `value` n times. */
static inline void histogram_add(struct histogram *histogram, uint64_t value, uint64_t n)
{
	uint64_t *bucket = &histogram->buckets[histogram_bucket(value)];

	__atomic_store_n(bucket, *bucket + n, __ATOMIC_RELAXED);
	__atomic_store_n(&histogram->n, histogram->n + n, __ATOMIC_RELAXED);
	if (value > histogram->max)
		__atomic_store_n(&histogram->max, value, __ATOMIC_RELAXED);
}

/* Largest value that falls into `bucket` < HISTOGRAM_N_BUCKETS. */
uint64_t histogram_bucket_top(unsigned int bucket);

/*
 * The value that `fraction` (0..1) of the recorded ones do not exceed: the top of its bucket, so at
 * most 12.5 % too high and never too low, and never above the maximum. 0 for an empty histogram.
 */
uint64_t histogram_quantile(const struct histogram *histogram, double fraction);

/* Adds what `from` holds to `to`. */
void histogram_merge(struct histogram *to, const struct histogram *from);

#endif
