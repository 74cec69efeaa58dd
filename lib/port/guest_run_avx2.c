/* SPDX-License-Identifier: BSD-3-Clause */
/* Frames of runs with AVX2. */
#include <immintrin.h>
#include <string.h>

#include <rte_common.h>

static __rte_always_inline void copy_64(void *to, const void *from)
{
	__m256i low = _mm256_loadu_si256((const __m256i_u *)from);
	__m256i high = _mm256_loadu_si256((const __m256i_u *)from + 1);

	_mm256_storeu_si256((__m256i_u *)to, low);
	_mm256_storeu_si256((__m256i_u *)to + 1, high);
}

/* The library's is as good as any where there are no masks for the tail. */
static __rte_always_inline void copy_bytes(void *to, const void *from, uint32_t len)
{
	memcpy(to, from, len);
}

static __rte_always_inline void copy_head(void *to, const void *from, uint32_t len)
{
	if (__builtin_expect(len == 64, 1))
		copy_64(to, from);
	else
		copy_bytes(to, from, len);
}

#include "guest_run_body.h"

GUEST_RUN_OPS(guest_run_avx2);
