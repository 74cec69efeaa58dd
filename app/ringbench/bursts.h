/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * On/off traffic (--bursts): each queue pair sends a burst, waits until all of it has come out, pauses, and so on, for
 * itself. A burst that is not complete in time (--stall) is a lost wake-up: the back end was not woken by a kick, or
 * did not wake us by a call, or took the frames and did not deliver them. It is reported, then everything is kicked
 * and looked at: if the frames come now, the run goes on.
 *
 * With --sleep the same report tells of a call that does not come, whatever the traffic.
 */
#ifndef RINGBENCH_BURSTS_H
#define RINGBENCH_BURSTS_H

#include <stdbool.h>
#include <stdint.h>

#include "pause.h"
#include "ring_state.h"

struct run;
struct lane;

/* Of one queue pair. */
struct burst {
	struct pause_source source;
	uint64_t n_done;
	uint64_t next_tsc;     /* before it the next burst does not begin */
	unsigned int n_frames; /* of the burst under way; 0: none */
	unsigned int n_unsent; /* of those */
	uint64_t kicks_before;
	uint64_t waited_us; /* that we have looked */
	bool reported;
};

enum loss_kind {
	LOSS_KICK,  /* the back end has not taken frames */
	LOSS_CALL,  /* frames lie in a receive ring, and no call told of them */
	LOSS_FRAME, /* the back end has taken all frames, and some have not come out */
};

/* The first lost wake-ups are kept. */
#define BURSTS_MAX_LOSSES 16

struct loss {
	enum loss_kind kind;
	unsigned int socket; /* that sent; 1.. */
	unsigned int to;
	unsigned int queue;
	uint64_t burst; /* number of it, from 0; UINT64_MAX: no on/off traffic */
	uint64_t n_sent;   /* frames of the burst, or in flight */
	uint64_t n_missing;
	struct ring_state transmit; /* of the sender */
	struct ring_state receive; /* where the frames lie, or the queue pair of the same number */
};

const char *loss_kind_name(enum loss_kind kind);

/* To be called once all is open; without on/off traffic it does nothing. */
void bursts_init(struct run *run);

/* Frames the lane's sender has leave to send now, which is where a burst ends and begins. */
unsigned int bursts_allowance(struct run *run, struct lane *lane, uint64_t now);

/* Every queue pair has sent the bursts that were asked for. */
bool bursts_are_done(const struct run *run);

/* When the next burst may begin; UINT64_MAX: not before something arrives. TSC. */
uint64_t bursts_next_tsc(const struct run *run);

/* Once a tick: elapsed_us have passed in which we looked. 0, or -ETIMEDOUT with run->error: frames stay away even when
 * the back end is kicked. */
int bursts_check(struct run *run, uint64_t elapsed_us);

/* Without on/off traffic: nothing has come in direction `index` for long. Reports a call that did not come and returns
 * whether there was one; the rings are looked at next. */
bool bursts_find_lost_calls(struct run *run, unsigned int index);

/* After an outage: what was awaited has been written off. */
void bursts_restart(struct run *run);

#endif
