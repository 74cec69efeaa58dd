/* SPDX-License-Identifier: BSD-3-Clause */
/* Frames of runs with AVX-512: a cache line at a time, and masks for what is left of one. */
#include <immintrin.h>
#include <string.h>

#include <rte_common.h>

static __rte_always_inline __mmask64 mask_of(uint32_t len)
{
	return _bzhi_u64(~0ULL, len);
}

static __rte_always_inline void copy_64(void *to, const void *from)
{
	_mm512_storeu_si512(to, _mm512_loadu_si512(from));
}

static __rte_always_inline void copy_bytes(void *to, const void *from, uint32_t len)
{
	uint8_t *out = to;
	const uint8_t *in = from;

	for (; len >= 64; len -= 64, in += 64, out += 64)
		copy_64(out, in);
	if (len > 0)
		_mm512_mask_storeu_epi8(out, mask_of(len), _mm512_maskz_loadu_epi8(mask_of(len), in));
}

static __rte_always_inline void copy_head(void *to, const void *from, uint32_t len)
{
	_mm512_storeu_si512(to, _mm512_maskz_loadu_epi8(mask_of(len), from));
}

#include "guest_run_body.h"

GUEST_RUN_OPS(guest_run_avx512);
