/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"
#include "state.h"

/* ---- Worker threads ---- */

bool msix_notify(struct msix *msix, unsigned int vector)
{
	uint32_t *word = &msix->vectors[vector].state;
	uint32_t state = state_load(word);

	/* Also if it is pending already: see M in state.h. */
	while (__builtin_expect(state & STATE_BLOCKED, 0)) {
		if (state_replace(word, &state, STATE_BLOCKED | STATE_PENDING))
			return false;
	}
	return true;
}

bool msix_is_masked(const struct msix *msix, unsigned int vector)
{
	return state_load(&msix->vectors[vector].state) & STATE_BLOCKED;
}

bool msix_is_pending(const struct msix *msix, unsigned int vector)
{
	return state_load(&msix->vectors[vector].state) & STATE_PENDING;
}

/* ---- Control ---- */

void msix_settle(struct msix *msix, unsigned int vector)
{
	struct msix_vector *v = &msix->vectors[vector];

	if (msix->is_quiet || msix->control != MSIX_CONTROL_ENABLE ||
	    v->entry[MSIX_VECTOR_CONTROL] & MSIX_VECTOR_MASKED)
		state_or(&v->state, STATE_BLOCKED);
	else if (state_exchange(&v->state, 0) & STATE_PENDING)
		msix->fire(msix->ctx, vector);
}

void msix_settle_all(struct msix *msix)
{
	for (unsigned int vector = 0; vector < msix->n_vectors; vector++)
		msix_settle(msix, vector);
}

struct msix *msix_create(unsigned int n_vectors, msix_fire_fn *fire, void *ctx)
{
	struct msix *msix;

	if (n_vectors == 0 || n_vectors > MSIX_MAX_VECTORS) {
		errno = EINVAL;
		return NULL;
	}
	msix = calloc(1, sizeof(*msix) + n_vectors * sizeof(msix->vectors[0]));
	if (msix == NULL)
		return NULL;
	msix->fire = fire;
	msix->ctx = ctx;
	msix->n_vectors = (uint16_t)n_vectors;
	msix_reset(msix);
	return msix;
}

void msix_destroy(struct msix *msix)
{
	free(msix);
}

unsigned int msix_n_vectors(const struct msix *msix)
{
	return msix->n_vectors;
}

void msix_reset(struct msix *msix)
{
	msix->control = 0;
	msix->is_quiet = false;
	for (unsigned int vector = 0; vector < msix->n_vectors; vector++) {
		struct msix_vector *v = &msix->vectors[vector];

		memset(v->entry, 0, sizeof(v->entry));
		v->entry[MSIX_VECTOR_CONTROL] = MSIX_VECTOR_MASKED;
		/* Pending bits are dropped, whatever threads notify meanwhile. */
		state_exchange(&v->state, STATE_BLOCKED);
	}
}

void msix_mask(struct msix *msix, unsigned int vector)
{
	msix->vectors[vector].entry[MSIX_VECTOR_CONTROL] = MSIX_VECTOR_MASKED;
	msix_settle(msix, vector);
}

void msix_unmask(struct msix *msix, unsigned int vector)
{
	msix->vectors[vector].entry[MSIX_VECTOR_CONTROL] = 0;
	msix_settle(msix, vector);
}

void msix_mask_function(struct msix *msix)
{
	msix_control_write(msix, msix->control | MSIX_CONTROL_FUNCTION_MASK);
}

void msix_unmask_function(struct msix *msix)
{
	msix_control_write(msix, msix->control & MSIX_CONTROL_ENABLE);
}

void msix_enable(struct msix *msix)
{
	msix_control_write(msix, msix->control | MSIX_CONTROL_ENABLE);
}

void msix_disable(struct msix *msix)
{
	msix_control_write(msix, msix->control & MSIX_CONTROL_FUNCTION_MASK);
}
