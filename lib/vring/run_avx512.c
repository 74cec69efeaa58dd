/* SPDX-License-Identifier: BSD-3-Clause */
/* Runs with AVX-512: eight buffers at a time. */
#include <immintrin.h>

#include "run_internal.h"

#define LANES 8
typedef uint64_t lanes __attribute__((vector_size(8 * LANES)));

/* The value is in a register and its source is not looked at again, whatever the compiler thinks of that. */
#define PIN(v) __asm__ volatile("" : "+v"(v))

static inline __attribute__((always_inline)) void lanes_unzip(
	lanes low, lanes high, lanes *addr, lanes *word)
{
	PIN(low);
	PIN(high);
	*addr = __builtin_shufflevector(low, high, 0, 2, 4, 6, 8, 10, 12, 14);
	*word = __builtin_shufflevector(low, high, 1, 3, 5, 7, 9, 11, 13, 15);
}

static inline __attribute__((always_inline)) void lanes_load_row(
	const struct vring_desc *desc, lanes *addr, lanes *word)
{
	lanes_unzip((lanes)_mm512_loadu_si512(&desc[0]), (lanes)_mm512_loadu_si512(&desc[4]), addr,
		word);
}

static inline __attribute__((always_inline)) lanes lanes_load_four(
	const struct vring_desc *table, const uint16_t *heads)
{
	const __m128i_u *descs = (const __m128i_u *)table;
	__m512i v = _mm512_castsi128_si512(_mm_loadu_si128(&descs[heads[0]]));

	v = _mm512_inserti64x2(v, _mm_loadu_si128(&descs[heads[1]]), 1);
	v = _mm512_inserti64x2(v, _mm_loadu_si128(&descs[heads[2]]), 2);
	return (lanes)_mm512_inserti64x2(v, _mm_loadu_si128(&descs[heads[3]]), 3);
}

static inline __attribute__((always_inline)) void lanes_load_each(
	const struct vring_desc *table, const uint16_t *heads, lanes *addr, lanes *word)
{
	lanes_unzip(lanes_load_four(table, heads), lanes_load_four(table, heads + 4), addr, word);
}

static inline __attribute__((always_inline)) void lanes_store_row(
	struct vring_desc *desc, lanes addr, lanes word)
{
	lanes low = __builtin_shufflevector(addr, word, 0, 8, 1, 9, 2, 10, 3, 11);
	lanes high = __builtin_shufflevector(addr, word, 4, 12, 5, 13, 6, 14, 7, 15);

	_mm512_storeu_si512(&desc[0], (__m512i)low);
	_mm512_storeu_si512(&desc[4], (__m512i)high);
}

static inline __attribute__((always_inline)) unsigned int lanes_signs(lanes v)
{
	return _mm512_movepi64_mask((__m512i)v);
}

static inline __attribute__((always_inline)) lanes lanes_gather_u32(const uint32_t *from, lanes at)
{
	return (lanes)_mm512_cvtepu32_epi64(_mm512_i64gather_epi32((__m512i)at, from, 4));
}

static inline __attribute__((always_inline)) lanes lanes_gather_u64(const uint64_t *from, lanes at)
{
	return (lanes)_mm512_i64gather_epi64((__m512i)at, from, 8);
}

static inline __attribute__((always_inline)) lanes lanes_from_u16(const uint16_t *from)
{
	return (lanes)_mm512_cvtepu16_epi64(_mm_loadu_si128((const __m128i_u *)from));
}

static inline __attribute__((always_inline)) lanes lanes_from_u32(const uint32_t *from)
{
	return (lanes)_mm512_cvtepu32_epi64(_mm256_loadu_si256((const __m256i_u *)from));
}

static inline __attribute__((always_inline)) void lanes_to_u16(uint16_t *to, lanes v)
{
	_mm_storeu_si128((__m128i_u *)to, _mm512_cvtepi64_epi16((__m512i)v));
}

static inline __attribute__((always_inline)) void lanes_to_u32(uint32_t *to, lanes v)
{
	_mm256_storeu_si256((__m256i_u *)to, _mm512_cvtepi64_epi32((__m512i)v));
}

static inline __attribute__((always_inline)) void lanes_to_u64(uint64_t *to, lanes v)
{
	_mm512_storeu_si512(to, (__m512i)v);
}

#include "run_vector.h"

RUN_OPS(run_avx512);
