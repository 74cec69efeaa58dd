/* SPDX-License-Identifier: BSD-3-Clause */
#include <base/histogram.h>

uint64_t histogram_bucket_top(unsigned int bucket)
{
	unsigned int shift;
	uint64_t first;

	if (bucket < (2u << HISTOGRAM_SUB_BITS))
		return bucket;
	shift = (bucket >> HISTOGRAM_SUB_BITS) - 1;
	first = (uint64_t)(bucket - (shift << HISTOGRAM_SUB_BITS)) << shift;
	return first + ((UINT64_C(1) << shift) - 1);
}

uint64_t histogram_quantile(const struct histogram *histogram, double fraction)
{
	double wanted = fraction * (double)histogram->n;
	uint64_t seen = 0;

	for (unsigned int bucket = 0; bucket < HISTOGRAM_N_BUCKETS; bucket++) {
		uint64_t top;

		seen += histogram->buckets[bucket];
		if (seen == 0 || (double)seen < wanted)
			continue;
		top = histogram_bucket_top(bucket);
		return top < histogram->max ? top : histogram->max;
	}
	return histogram->max;
}

void histogram_merge(struct histogram *to, const struct histogram *from)
{
	for (unsigned int bucket = 0; bucket < HISTOGRAM_N_BUCKETS; bucket++)
		to->buckets[bucket] += from->buckets[bucket];
	to->n += from->n;
	if (from->max > to->max)
		to->max = from->max;
}
