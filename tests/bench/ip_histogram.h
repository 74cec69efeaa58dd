/* SPDX-License-Identifier: BSD-3-Clause */
/* Counts how often each instruction address was executed. Not thread safe. */
#ifndef TESTS_BENCH_IP_HISTOGRAM_H
#define TESTS_BENCH_IP_HISTOGRAM_H

#include <stddef.h>
#include <stdint.h>

struct ip_count {
	uint64_t ip;
	uint64_t n;
};

struct ip_histogram {
	/* open addressing; n == 0 marks a free slot; owned, freed by ip_histogram_free */
	struct ip_count *slots;
	size_t n_slots;
	size_t n_used;
};

/* Adds one execution of `ip`. Returns 0 or -ENOMEM. A zeroed histogram is an empty one. */
int ip_histogram_add(struct ip_histogram *hist, uint64_t ip);

/* Packs the used slots to the front of `slots`, in address order; nothing may be added after. */
void ip_histogram_sort(struct ip_histogram *hist);

/* Forgets everything. */
void ip_histogram_free(struct ip_histogram *hist);

#endif
