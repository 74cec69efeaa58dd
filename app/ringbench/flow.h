/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Which sequence numbers of one flow have arrived: a bitmap over the last FLOW_WINDOW numbers.
 *
 *      judged: received or lost          bits say which have arrived            not seen yet
 *   ------------------------------[ base ........................ next )---------------------->
 *
 * `next` is the highest number seen plus one. A number below `next` whose bit is clear arrives out
 * of order (reordered); one whose bit is set arrives again (duplicated). When the window moves on,
 * numbers that fall out of it with a clear bit are lost. What arrives below `floor` (behind the
 * window, or written off by flow_flush()) cannot be told from a duplicate any more and is counted
 * as late.
 *
 * A pause in which nothing arrives does not make what is on its way lost; but whoever waits may
 * want to send on. After flow_suspend() the numbers sent until then are still awaited, without a
 * claim to their order, while later ones count as usual.
 *
 * Numbers are 32 bits, free-running, compared modulo 2^32.
 */
#ifndef RINGBENCH_FLOW_H
#define RINGBENCH_FLOW_H

#include <stdbool.h>
#include <stdint.h>

/* Reordering over a longer distance than this is reported as loss plus a late frame. */
#define FLOW_WINDOW 4096

struct flow {
	uint32_t next;       /* highest number seen, plus one */
	uint32_t base;       /* first number of the bitmap; multiple of 64 */
	uint32_t floor;      /* numbers below are judged */
	uint32_t sent;       /* next number to send: written by the transmit side */
	uint32_t suspended;  /* numbers below were sent before the last flow_suspend() */
	uint64_t n_received; /* distinct numbers */
	uint64_t n_duplicated;
	uint64_t n_reordered;
	uint64_t n_lost;
	uint64_t n_late;
	uint64_t bits[FLOW_WINDOW / 64];
};

enum flow_verdict {
	FLOW_NEW,     /* first arrival, in order or not */
	FLOW_DELAYED, /* first arrival, of a number sent before the last flow_suspend() */
	FLOW_DUPLICATED,
	FLOW_LATE,
	FLOW_UNSENT, /* this number was never sent: not counted here */
};

/* Whatever is not the next number in order; see flow_receive(). */
enum flow_verdict flow_receive_slow(struct flow *flow, uint32_t seq);

/* Takes note of the arrival of `seq`. A frame counts as received only when the verdict is FLOW_NEW
 * or FLOW_DELAYED. */
static inline enum flow_verdict flow_receive(struct flow *flow, uint32_t seq)
{
	if (__builtin_expect(
		    seq != flow->next || seq - flow->base >= FLOW_WINDOW || seq == flow->sent, 0))
		return flow_receive_slow(flow, seq);
	flow->bits[seq % FLOW_WINDOW / 64] |= UINT64_C(1) << (seq % 64);
	flow->next = seq + 1;
	flow->n_received++;
	return FLOW_NEW;
}

/* As flow_receive() for the n > 0 numbers from `seq` on, which lie between two multiples of 64, if all of them are next in
 * order; else false, and nothing is noted. */
static inline bool flow_receive_run(struct flow *flow, uint32_t seq, uint32_t n)
{
	if (__builtin_expect(
		    seq != flow->next || seq - flow->base >= FLOW_WINDOW || flow->sent - seq < n, 0))
		return false;
	flow->bits[seq % FLOW_WINDOW / 64] |= UINT64_MAX >> (64 - n) << (seq % 64);
	flow->next = seq + n;
	flow->n_received += n;
	return true;
}

/* From now on, what has been sent and not received is delayed at best. */
static inline void flow_suspend(struct flow *flow)
{
	flow->next = flow->sent;
	flow->suspended = flow->sent;
}

/* Everything sent and not received so far is lost. Returns how many that were. */
uint64_t flow_flush(struct flow *flow);

#endif
