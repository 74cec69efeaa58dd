/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef MSIX_INTERNAL_H
#define MSIX_INTERNAL_H

#include <msix/msix.h>

/* Registers and saved state are memory as it is; nothing here swaps. */
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "big-endian machines are not supported");

struct msix_vector {
	uint32_t state;                /* state.h; any thread */
	uint32_t entry[MSIX_N_DWORDS]; /* registers; control */
};

struct msix {
	/* All of these belong to control. */
	msix_fire_fn *fire;
	void *ctx;
	uint16_t n_vectors;
	uint16_t control; /* enable and function mask, no other bit */
	bool is_quiet;    /* loaded and not yet resumed */

	struct msix_vector vectors[];
};

#define CONTROL_WRITABLE ((uint16_t)(MSIX_CONTROL_ENABLE | MSIX_CONTROL_FUNCTION_MASK))

/* Bits of a table entry's DWORD that a driver can set. */
static inline uint32_t msix_writable_bits(enum msix_dword dword)
{
	switch (dword) {
	case MSIX_ADDRESS_LOW:
		return ~3u;
	case MSIX_VECTOR_CONTROL:
		return MSIX_VECTOR_MASKED;
	default:
		return ~0u;
	}
}

/* Brings the state of one vector, or of all, in line with the registers, and fires what has become deliverable. */
void msix_settle(struct msix *msix, unsigned int vector);
void msix_settle_all(struct msix *msix);

#endif
