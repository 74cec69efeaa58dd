/* SPDX-License-Identifier: BSD-3-Clause */
#include "ip_histogram.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SLOTS_INITIAL 4096

static struct ip_count *slot_find(struct ip_histogram *hist, uint64_t ip)
{
	size_t mask = hist->n_slots - 1;
	size_t slot = (size_t)((ip * UINT64_C(0x9e3779b97f4a7c15)) >> 32) & mask;

	while (hist->slots[slot].n != 0 && hist->slots[slot].ip != ip)
		slot = (slot + 1) & mask;
	return &hist->slots[slot];
}

static int slots_grow(struct ip_histogram *hist)
{
	struct ip_histogram bigger = {.n_slots = hist->n_slots ? hist->n_slots * 2 : SLOTS_INITIAL,
		.n_used = hist->n_used};

	bigger.slots = calloc(bigger.n_slots, sizeof(*bigger.slots));
	if (bigger.slots == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < hist->n_slots; i++)
		if (hist->slots[i].n != 0)
			*slot_find(&bigger, hist->slots[i].ip) = hist->slots[i];
	free(hist->slots);
	*hist = bigger;
	return 0;
}

int ip_histogram_add(struct ip_histogram *hist, uint64_t ip)
{
	if (hist->n_used * 2 >= hist->n_slots) {
		int rc = slots_grow(hist);
		if (rc < 0)
			return rc;
	}
	struct ip_count *slot = slot_find(hist, ip);
	if (slot->n == 0) {
		slot->ip = ip;
		hist->n_used++;
	}
	slot->n++;
	return 0;
}

static int ip_compare(const void *a, const void *b)
{
	const struct ip_count *left = a, *right = b;

	return left->ip < right->ip ? -1 : left->ip > right->ip;
}

void ip_histogram_sort(struct ip_histogram *hist)
{
	size_t n = 0;

	for (size_t i = 0; i < hist->n_slots; i++)
		if (hist->slots[i].n != 0)
			hist->slots[n++] = hist->slots[i];
	if (n != 0)
		qsort(hist->slots, n, sizeof(*hist->slots), ip_compare);
}

void ip_histogram_free(struct ip_histogram *hist)
{
	free(hist->slots);
	memset(hist, 0, sizeof(*hist));
}
