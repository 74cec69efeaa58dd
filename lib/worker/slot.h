/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Request slots: how the control thread has a worker do something and waits until it is done.
 *
 * A worker has one slot. It goes IDLE -> SUBMITTED (control) -> DONE (worker) -> IDLE (control). The worker looks at
 * it between rounds, which is one load of a word that nobody writes meanwhile. Each side has an eventfd by which it is
 * woken if it sleeps; a side that does not sleep is not written to, so between a polling worker and a waiting control
 * thread there is no system call.
 *
 * Neither side misses the other: who is about to sleep says so first and looks at the state then, who changes the state
 * does that first and looks whether the other sleeps then, with a full fence between the two on both sides.
 */
#ifndef WORKER_SLOT_H
#define WORKER_SLOT_H

#include <stdbool.h>
#include <stdint.h>

enum slot_state {
	SLOT_IDLE,
	SLOT_SUBMITTED,
	SLOT_DONE,
};

/* Runs on the worker, between rounds, with the newest plan. */
typedef void slot_handler(void *arg);

struct slot {
	enum slot_state state;
	bool worker_sleeps;
	bool control_sleeps;
	int worker_fd;  /* wakes the worker */
	int control_fd; /* wakes the control thread */
	slot_handler *handle; /* NULL: nothing but the answer is wanted */
	void *arg;
	uint64_t submitted_tsc;
};

/* -errno if there are no descriptors left. */
int slot_open(struct slot *slot);
void slot_close(struct slot *slot);

/* Control thread; the slot is IDLE. `arg` stays valid until the slot is collected. */
void slot_submit(struct slot *slot, slot_handler *handle, void *arg);

/* Control thread: whether the request is done; if so the slot is IDLE again. */
bool slot_collect(struct slot *slot);

/* Control thread: wakes the worker, if it sleeps, for something else: a new plan, the end. */
void slot_wake(struct slot *slot);

/* Worker. */
static inline bool slot_is_submitted(const struct slot *slot)
{
	return __atomic_load_n(&slot->state, __ATOMIC_ACQUIRE) == SLOT_SUBMITTED;
}

/* Worker: does what was submitted, and says so. */
void slot_serve(struct slot *slot);

/*
 * Worker: announces that it is going to sleep. What it must not miss it looks at after this: a submitted request, and
 * whatever slot_wake() is called for. It may sleep until worker_fd is written.
 */
void slot_sleep_begin(struct slot *slot);
void slot_sleep_end(struct slot *slot);

/* The same for the control thread, which waits for control_fd; followed by slot_collect(). */
void slot_await_begin(struct slot *slot);
void slot_await_end(struct slot *slot);

#endif
