/* SPDX-License-Identifier: BSD-3-Clause */
/* Runs with AVX2: four buffers at a time. */
#include <immintrin.h>

#include "run_internal.h"

#define LANES 4
typedef uint64_t lanes __attribute__((vector_size(8 * LANES)));

/* The value is in a register and its source is not looked at again, whatever the compiler thinks of that. */
#define PIN(v) __asm__ volatile("" : "+v"(v))

static inline __attribute__((always_inline)) void lanes_unzip(
	lanes low, lanes high, lanes *addr, lanes *word)
{
	PIN(low);
	PIN(high);
	*addr = __builtin_shufflevector(low, high, 0, 2, 4, 6);
	*word = __builtin_shufflevector(low, high, 1, 3, 5, 7);
}

static inline __attribute__((always_inline)) void lanes_load_row(
	const struct vring_desc *desc, lanes *addr, lanes *word)
{
	const __m256i_u *pairs = (const __m256i_u *)desc;

	lanes_unzip((lanes)_mm256_loadu_si256(&pairs[0]), (lanes)_mm256_loadu_si256(&pairs[1]), addr,
		word);
}

static inline __attribute__((always_inline)) lanes lanes_load_two(
	const struct vring_desc *table, const uint16_t *heads)
{
	__m128i low = _mm_loadu_si128((const __m128i_u *)&table[heads[0]]);
	__m128i high = _mm_loadu_si128((const __m128i_u *)&table[heads[1]]);

	return (lanes)_mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1);
}

static inline __attribute__((always_inline)) void lanes_load_each(
	const struct vring_desc *table, const uint16_t *heads, lanes *addr, lanes *word)
{
	lanes_unzip(lanes_load_two(table, heads), lanes_load_two(table, heads + 2), addr, word);
}

static inline __attribute__((always_inline)) void lanes_store_row(
	struct vring_desc *desc, lanes addr, lanes word)
{
	lanes low = __builtin_shufflevector(addr, word, 0, 4, 1, 5);
	lanes high = __builtin_shufflevector(addr, word, 2, 6, 3, 7);

	_mm256_storeu_si256((__m256i_u *)desc, (__m256i)low);
	_mm256_storeu_si256((__m256i_u *)desc + 1, (__m256i)high);
}

static inline __attribute__((always_inline)) unsigned int lanes_signs(lanes v)
{
	return (unsigned int)_mm256_movemask_pd((__m256d)v);
}

static inline __attribute__((always_inline)) lanes lanes_gather_u32(const uint32_t *from, lanes at)
{
	return (lanes)_mm256_cvtepu32_epi64(
		_mm256_i64gather_epi32((const int *)from, (__m256i)at, 4));
}

static inline __attribute__((always_inline)) lanes lanes_gather_u64(const uint64_t *from, lanes at)
{
	return (lanes)_mm256_i64gather_epi64((const long long *)from, (__m256i)at, 8);
}

static inline __attribute__((always_inline)) lanes lanes_from_u16(const uint16_t *from)
{
	return (lanes)_mm256_cvtepu16_epi64(_mm_loadu_si64(from));
}

static inline __attribute__((always_inline)) lanes lanes_from_u32(const uint32_t *from)
{
	return (lanes)_mm256_cvtepu32_epi64(_mm_loadu_si128((const __m128i_u *)from));
}

/* The lower halves of the lanes. */
static inline __attribute__((always_inline)) __m128i lanes_lower(lanes v)
{
	const __m256i even = _mm256_set_epi32(0, 0, 0, 0, 6, 4, 2, 0);

	return _mm256_castsi256_si128(_mm256_permutevar8x32_epi32((__m256i)v, even));
}

/* Lanes of 16 bits that matter, and nothing above. */
static inline __attribute__((always_inline)) void lanes_to_u16(uint16_t *to, lanes v)
{
	_mm_storeu_si64(to, _mm_packus_epi32(lanes_lower(v), _mm_setzero_si128()));
}

static inline __attribute__((always_inline)) void lanes_to_u32(uint32_t *to, lanes v)
{
	_mm_storeu_si128((__m128i_u *)to, lanes_lower(v));
}

static inline __attribute__((always_inline)) void lanes_to_u64(uint64_t *to, lanes v)
{
	_mm256_storeu_si256((__m256i_u *)to, (__m256i)v);
}

#include "run_vector.h"

RUN_OPS(run_avx2);
