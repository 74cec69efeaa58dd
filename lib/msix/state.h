/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The word that says whether a vector delivers, and the only four things that are done to it.
 *
 * Theory of operation. Notifying threads and control must agree who delivers. With the mask in one place and the
 * pending bit in another, each side would store to the one and then look at the other, with a full fence in between on
 * both sides (Dekker), or both could miss each other; and a third step would decide between two that both saw. Here
 * both bits lie in one word. There is one order of all changes to one word, whatever the memory model, so whoever comes
 * second knows of the first:
 *
 *     notify   load; open: deliver. Else replace by blocked | pending, which fails if the word has changed: look again.
 *     block    or blocked; a pending bit survives.
 *     open     exchange by 0; was it pending: deliver.
 *
 * Lost: a thread that was told false has put pending into a blocked word. The only change that takes the bit away is the
 * exchange, and that delivers. Doubled: only control takes the bit, and the exchange gives it to control once; a thread
 * that is told true has put nothing into the word. So a word is never pending and open. `blocked` is changed by control
 * alone, who derives it from enable, masks and quiet (internal.h): a function mask is as many words as vectors, paid for
 * by control and not by each notification.
 *
 * Orders, by letter of the pair:
 *   M  replace (release) with exchange (acquire): what a thread wrote before its notification, used entries above all,
 *      is visible to who delivers it. A word that is blocked and pending already must be replaced by itself for this:
 *      a load alone may be done before the stores that precede it have left the CPU, and the one who fires then wakes a
 *      driver which finds nothing, and who was told false never tells again.
 *   N  exchange (release) with load (acquire), also that of a replace that fails: what control prepared before it opened
 *      the vector, a new eventfd above all, is there for who is told true.
 * The or needs no order: who sees a vector blocked learns nothing else from it.
 * A load that sees the past costs nothing: seen open though blocked since, the notification came before the mask; seen
 * blocked though open since, the replace fails and shows the present. So neither sequential consistency nor a fence is
 * needed beside them.
 *
 * Tests put their own four in this place, which let a scheduler decide who comes next
 * (tests/unit/msix/interleave_test.c).
 */
#ifndef MSIX_STATE_H
#define MSIX_STATE_H

#include <stdbool.h>
#include <stdint.h>

#define STATE_BLOCKED 1u /* written by control */
#define STATE_PENDING 2u /* set by any thread, cleared by control */

#ifdef MSIX_STATE_OPERATIONS
#include MSIX_STATE_OPERATIONS
#else

static inline uint32_t state_load(const uint32_t *state)
{
	return __atomic_load_n(state, __ATOMIC_ACQUIRE);
}

/* Whether *state was `*expected`, and is `wanted` now; else *expected is what it is. */
static inline bool state_replace(uint32_t *state, uint32_t *expected, uint32_t wanted)
{
	return __atomic_compare_exchange_n(state, expected, wanted, false, __ATOMIC_ACQ_REL,
		__ATOMIC_ACQUIRE);
}

static inline uint32_t state_exchange(uint32_t *state, uint32_t wanted)
{
	return __atomic_exchange_n(state, wanted, __ATOMIC_ACQ_REL);
}

static inline void state_or(uint32_t *state, uint32_t bits)
{
	__atomic_fetch_or(state, bits, __ATOMIC_RELAXED);
}

#endif
#endif
