/* SPDX-License-Identifier: BSD-3-Clause */
#include <string.h>

#include "sink.h"

static void count(void *ctx, unsigned int vector)
{
	struct sink *sink = ctx;

	assert_true(vector < msix_n_vectors(sink->msix));
	/* It can be delivered now, and is not pending any more. */
	assert_false(msix_is_masked(sink->msix, vector));
	assert_false(msix_is_pending(sink->msix, vector));
	if (sink->n > 0 && vector <= sink->last)
		sink->is_ascending = false;
	sink->last = vector;
	sink->n_fired[vector]++;
	sink->n++;
}

void sink_create(struct sink *sink, unsigned int n_vectors)
{
	sink_forget(sink);
	sink->msix = msix_create(n_vectors, count, sink);
	assert_non_null(sink->msix);
}

void sink_create_open(struct sink *sink, unsigned int n_vectors)
{
	sink_create(sink, n_vectors);
	msix_enable(sink->msix);
	for (unsigned int vector = 0; vector < n_vectors; vector++)
		msix_unmask(sink->msix, vector);
	sink_expect_none(sink);
}

void sink_destroy(struct sink *sink)
{
	msix_destroy(sink->msix);
	sink->msix = NULL;
}

void sink_forget(struct sink *sink)
{
	memset(sink->n_fired, 0, sizeof(sink->n_fired));
	sink->n = 0;
	sink->is_ascending = true;
}

void sink_expect_none(struct sink *sink)
{
	assert_int_equal(sink->n, 0);
}

void sink_expect(struct sink *sink, unsigned int vector)
{
	assert_int_equal(sink->n, 1);
	assert_int_equal(sink->n_fired[vector], 1);
	sink_forget(sink);
}

void sink_expect_all(struct sink *sink)
{
	assert_int_equal(sink->n, msix_n_vectors(sink->msix));
	for (unsigned int vector = 0; vector < sink->n; vector++)
		assert_int_equal(sink->n_fired[vector], 1);
	assert_true(sink->is_ascending);
	sink_forget(sink);
}
