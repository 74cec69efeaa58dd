/* SPDX-License-Identifier: BSD-3-Clause */
#include "flow.h"

#define WORDS (FLOW_WINDOW / 64)

static uint64_t *word_of(struct flow *flow, uint32_t seq)
{
	return &flow->bits[seq % FLOW_WINDOW / 64];
}

/* Marks that fell behind the window come along, or a comparison modulo 2^32 would one day read them
 * as lying ahead. */
static void move_base(struct flow *flow, uint32_t base)
{
	flow->base = base;
	if ((int32_t)(base - flow->floor) > 0)
		flow->floor = base;
	if ((int32_t)(base - flow->suspended) > 0)
		flow->suspended = base;
}

/* Judges the 64 numbers from `base` on and frees their word for the numbers one window later. */
static void drop_word(struct flow *flow)
{
	uint64_t *word = word_of(flow, flow->base);
	uint64_t missing = ~*word;

	/* Numbers below the floor were judged by a flush. */
	if ((int32_t)(flow->floor - flow->base) > 0) {
		uint32_t n_judged = flow->floor - flow->base;

		missing = n_judged >= 64 ? 0 : missing >> n_judged << n_judged;
	}
	flow->n_lost += (uint64_t)__builtin_popcountll(missing);
	*word = 0;
	move_base(flow, flow->base + 64);
}

/* Moves the window so that `seq`, which lies behind its end, is in its last word. */
static void slide(struct flow *flow, uint32_t seq)
{
	uint32_t new_base = (seq & ~UINT32_C(63)) - (FLOW_WINDOW - 64);

	for (unsigned int i = 0; i < WORDS && flow->base != new_base; i++)
		drop_word(flow);
	if (flow->base == new_base)
		return;
	/* A gap wider than the window: what lies between was never marked. */
	flow->n_lost += new_base - flow->base;
	move_base(flow, new_base);
}

enum flow_verdict flow_receive_slow(struct flow *flow, uint32_t seq)
{
	uint64_t bit = UINT64_C(1) << (seq % 64);

	if ((int32_t)(seq - flow->sent) >= 0)
		return FLOW_UNSENT;
	if ((int32_t)(seq - flow->floor) < 0) {
		flow->n_late++;
		return FLOW_LATE;
	}
	if (seq - flow->base >= FLOW_WINDOW)
		slide(flow, seq);
	if (*word_of(flow, seq) & bit) {
		flow->n_duplicated++;
		return FLOW_DUPLICATED;
	}
	*word_of(flow, seq) |= bit;
	flow->n_received++;
	if ((int32_t)(seq - flow->suspended) < 0)
		return FLOW_DELAYED;
	if ((int32_t)(seq - flow->next) >= 0)
		flow->next = seq + 1;
	else
		flow->n_reordered++;
	return FLOW_NEW;
}

uint64_t flow_flush(struct flow *flow)
{
	uint64_t before = flow->n_lost;
	uint32_t last_word = flow->sent & ~UINT32_C(63);

	if ((int32_t)(flow->sent - flow->floor) <= 0)
		return 0;
	if (last_word - flow->base >= FLOW_WINDOW && flow->base != last_word)
		slide(flow, last_word);
	while (flow->base != last_word)
		drop_word(flow);
	/* The word that is only partly sent stays, so that base remains a multiple of 64. */
	if (flow->sent != last_word) {
		uint64_t sent_mask = (UINT64_C(1) << (flow->sent - last_word)) - 1;
		uint64_t missing = sent_mask & ~*word_of(flow, last_word);

		if ((int32_t)(flow->floor - last_word) > 0)
			missing &= ~((UINT64_C(1) << (flow->floor - last_word)) - 1);
		flow->n_lost += (uint64_t)__builtin_popcountll(missing);
	}
	flow->floor = flow->sent;
	flow->next = flow->sent;
	return flow->n_lost - before;
}
