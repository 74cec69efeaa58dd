/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <string.h>

#include "internal.h"
#include "state.h"

_Static_assert(offsetof(struct msix_saved, entries) == 8 + MSIX_MAX_VECTORS / 8, "padding in saved state");

size_t msix_saved_bytes(unsigned int n_vectors)
{
	return offsetof(struct msix_saved, entries) + (size_t)n_vectors * MSIX_ENTRY_BYTES;
}

void msix_save(const struct msix *msix, struct msix_saved *saved)
{
	memset(saved, 0, offsetof(struct msix_saved, entries));
	saved->version = MSIX_SAVED_VERSION;
	saved->n_vectors = msix->n_vectors;
	saved->control = msix_control_read(msix);
	for (unsigned int vector = 0; vector < msix->n_vectors; vector++) {
		saved->pending[vector / 64] |= (uint64_t)msix_is_pending(msix, vector) << vector % 64;
		memcpy(saved->entries[vector], msix->vectors[vector].entry, MSIX_ENTRY_BYTES);
	}
}

static bool saved_is_pending(const struct msix_saved *saved, unsigned int vector)
{
	return saved->pending[vector / 64] >> vector % 64 & 1;
}

/* NULL if all of it can be loaded. */
static const char *find_fault(const struct msix *msix, const struct msix_saved *saved, size_t bytes)
{
	if (bytes < offsetof(struct msix_saved, entries))
		return "saved vectors: shorter than their header";
	if (saved->version != MSIX_SAVED_VERSION)
		return "saved vectors: version is not 1";
	if (saved->n_vectors != msix->n_vectors)
		return "saved vectors: not as many as the device has";
	if (bytes != msix_saved_bytes(msix->n_vectors))
		return "saved vectors: length does not match their number";
	if ((saved->control & MSIX_CONTROL_TABLE_SIZE) != msix->n_vectors - 1)
		return "saved vectors: table size in message control does not match their number";
	if (saved->control & ~(CONTROL_WRITABLE | MSIX_CONTROL_TABLE_SIZE))
		return "saved vectors: reserved bits set in message control";
	for (unsigned int vector = 0; vector < msix->n_vectors; vector++) {
		const uint32_t *entry = saved->entries[vector];

		if (entry[MSIX_ADDRESS_LOW] & ~msix_writable_bits(MSIX_ADDRESS_LOW))
			return "saved vectors: message address not aligned to 4";
		if (entry[MSIX_VECTOR_CONTROL] & ~msix_writable_bits(MSIX_VECTOR_CONTROL))
			return "saved vectors: reserved bits set in vector control";
	}
	for (unsigned int vector = msix->n_vectors; vector < MSIX_MAX_VECTORS; vector++) {
		if (saved_is_pending(saved, vector))
			return "saved vectors: pending bit behind the last vector";
	}
	return NULL;
}

int msix_load(struct msix *msix, const struct msix_saved *saved, size_t bytes, const char **reason)
{
	const char *fault = find_fault(msix, saved, bytes);

	if (fault != NULL) {
		*reason = fault;
		return -EINVAL;
	}
	msix->is_quiet = true;
	msix->control = saved->control & CONTROL_WRITABLE;
	for (unsigned int vector = 0; vector < msix->n_vectors; vector++) {
		struct msix_vector *v = &msix->vectors[vector];

		memcpy(v->entry, saved->entries[vector], MSIX_ENTRY_BYTES);
		state_exchange(&v->state,
			STATE_BLOCKED | (saved_is_pending(saved, vector) ? STATE_PENDING : 0));
	}
	return 0;
}

void msix_resume(struct msix *msix)
{
	msix->is_quiet = false;
	msix_settle_all(msix);
}
