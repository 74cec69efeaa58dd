/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Words that the other side may change at any moment. Every access to ring memory goes through here: once per word, not
 * torn, and typed as atomic, so that the compiler cannot read twice and ThreadSanitizer knows what is meant.
 */
#ifndef VRING_SHARED_H
#define VRING_SHARED_H

#include <stdint.h>
#include <string.h>

#include <vring/fence.h>
#include <vring/layout.h>

#if defined(__SANITIZE_THREAD__)
#define SHARED_LOADS_MUST_BE_ATOMIC 1
#elif defined(__has_feature)
#define SHARED_LOADS_MUST_BE_ATOMIC __has_feature(thread_sanitizer)
#else
#define SHARED_LOADS_MUST_BE_ATOMIC 0
#endif

/* virtio 1 is little-endian throughout and nothing here swaps. */
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "big-endian machines are not supported");

/*
 * A descriptor in private memory: as two words, because that is how it is read. A packed ring has id and flags the other
 * way round in memory (packed_desc.h); once private, the id lies where `next` does.
 */
struct private_desc {
	uint64_t addr;
	uint64_t word; /* len | flags << 32 | next << 48 */
};

#define DESC_WORD_FLAG(flag) ((uint64_t)(flag) << 32)
#define DESC_NEXT     DESC_WORD_FLAG(VRING_DESC_F_NEXT)
#define DESC_WRITE    DESC_WORD_FLAG(VRING_DESC_F_WRITE)
#define DESC_INDIRECT DESC_WORD_FLAG(VRING_DESC_F_INDIRECT)
#define DESC_SHAPE    (DESC_NEXT | DESC_WRITE | DESC_INDIRECT)

typedef uint64_t __attribute__((may_alias)) shared_word;

static inline uint32_t desc_len(uint64_t word)
{
	return (uint32_t)word;
}

static inline uint16_t desc_next(uint64_t word)
{
	return (uint16_t)(word >> 48);
}

/* `desc` is aligned to 8. The two halves may stem from different moments: they are checked as what they are. */
static inline struct private_desc desc_load(const void *desc)
{
	const shared_word *words = desc;

	return (struct private_desc){
		.addr = __atomic_load_n(&words[0], __ATOMIC_RELAXED),
		.word = __atomic_load_n(&words[1], __ATOMIC_RELAXED),
	};
}

/* As desc_load() for tables, which a driver may put anywhere. */
static inline struct private_desc desc_load_unaligned(const void *desc)
{
	struct private_desc copy;

	if (__builtin_expect((uintptr_t)desc % sizeof(uint64_t) == 0, 1))
		return desc_load(desc);
	memcpy(&copy, desc, sizeof(copy));
	/* What was copied is what is used: the compiler must not go back to the source. */
	__asm__ volatile("" : "+m"(copy) : : "memory");
	return copy;
}

/*
 * n words of a ring, each once. Faster as one copy; where ThreadSanitizer looks on, as what it is. Either way the values
 * are checked after they have become private.
 */
static inline void shared_copy_u16(uint16_t *to, const uint16_t *from, unsigned int n)
{
#if SHARED_LOADS_MUST_BE_ATOMIC
	for (unsigned int i = 0; i < n; i++)
		to[i] = __atomic_load_n(&from[i], __ATOMIC_RELAXED);
#else
	memcpy(to, from, n * sizeof(*to));
	__asm__ volatile("" : : : "memory");
#endif
}

static inline void full_fence(void)
{
	vring_fence();
}

/* Notifications due: more than 65535 entries since the last look have passed every event index there is. */
static inline int event_passed(uint16_t event, uint16_t now, uint32_t n_since)
{
	return n_since > UINT16_MAX || (uint16_t)(now - event - 1) < n_since;
}

#endif
