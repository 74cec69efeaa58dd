/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Moderation of signals: one for many. A signal is due when enough was moved since the last one, or when enough time
 * has passed since the first of what was moved. Whoever goes to sleep, or stops using what the moderation is for,
 * signals what is left without asking.
 *
 * Thread rule: one thread at a time. Time is in TSC cycles, which is what the packet path has at hand.
 */
#ifndef EVENT_MODERATION_H
#define EVENT_MODERATION_H

#include <stdbool.h>
#include <stdint.h>

struct event_moderation {
	uint32_t max_frames; /* 0: no bound */
	uint32_t n_frames;   /* since the last signal */
	uint64_t max_cycles; /* 0: everything is due at once */
	uint64_t due_cycles; /* set with the first of n_frames */
};

/* n more were moved. */
static inline void event_moderation_add(struct event_moderation *moderation, uint32_t n)
{
	moderation->n_frames += n;
}

/*
 * Whether to signal now, at time `now`; `at_once`: without waiting. True: counting starts anew. To be asked again and
 * again while it says no; the time runs from the first time it is asked.
 */
static inline bool event_moderation_is_due(
	struct event_moderation *moderation, uint64_t now, bool at_once)
{
	if (moderation->max_cycles != 0 && !at_once) {
		if (moderation->due_cycles == 0)
			moderation->due_cycles = now + moderation->max_cycles;
		if (now < moderation->due_cycles &&
			(moderation->max_frames == 0 || moderation->n_frames < moderation->max_frames))
			return false;
	}
	moderation->n_frames = 0;
	moderation->due_cycles = 0;
	return true;
}

#endif
