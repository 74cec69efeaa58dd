/* SPDX-License-Identifier: BSD-3-Clause */
/* A model whose `fire` counts, and remembers the order. One at a time. */
#ifndef SINK_H
#define SINK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <msix/msix.h>

struct sink {
	struct msix *msix;
	unsigned int n_fired[MSIX_MAX_VECTORS];
	unsigned int n; /* of all vectors */
	unsigned int last;
	bool is_ascending; /* every one behind the one before, since sink_forget() */
};

/* In reset state; sink_create_open(): enabled, every vector unmasked. */
void sink_create(struct sink *sink, unsigned int n_vectors);
void sink_create_open(struct sink *sink, unsigned int n_vectors);
void sink_destroy(struct sink *sink);

/* Forgets what was fired. */
void sink_forget(struct sink *sink);

/* Fails unless exactly these were fired since the last look, each once; forgets them. */
void sink_expect_none(struct sink *sink);
void sink_expect(struct sink *sink, unsigned int vector);
void sink_expect_all(struct sink *sink);

#endif
