/* SPDX-License-Identifier: BSD-3-Clause */
/* Frames that go from one socket to another (or come back to the same): their looks, their flows,
 * what became of them. */
#ifndef RINGBENCH_DIRECTION_H
#define RINGBENCH_DIRECTION_H

#include <base/histogram.h>

#include "flow.h"
#include "frame.h"
#include "offload.h"
#include "options.h"
#include "segments.h"
#include "session.h"

/* A flow and where it is sent. */
struct direction_flow {
	struct flow window;
	struct segments segments;
	uint8_t queue; /* pair its frames are sent on */
};

/* The share of one transmit queue. */
struct direction_queue {
	uint64_t n_sent;
	uint64_t n_settled;   /* of those, received or lost: the rest is in flight */
	uint64_t n_suspended; /* of the rest, not waited for any more, though they may still come */
	uint64_t n_warmup;    /* warm-up frames received that were sent here */
};

struct direction_counters {
	uint64_t n_sent;
	uint64_t sent_bytes;
	uint64_t n_received; /* distinct and good */
	uint64_t received_bytes;
	uint64_t n_segmented; /* of those, put together from several segments */
	uint64_t n_faults[FRAME_N_FAULTS];
	uint64_t n_misdirected; /* frames of another direction that came out at this one's end */
	uint64_t n_foreign;     /* not sent by us */
	uint64_t n_stalls; /* times that nothing came and sending went on without what was in flight
			    */
	uint64_t n_unsent_late; /* open loop: frames that were due and could not be sent in time */
	/* On/off traffic: bursts that have come through, those of them for which the back end asked to be kicked, and times that
	 * a notification or a frame did not come. */
	uint64_t n_bursts;
	uint64_t n_kicked_bursts;
	uint64_t n_lost_wakeups;
	/* The part of loss and duplicates that falls to a back end that went away (--reconnect). */
	uint64_t n_outage_lost;
	uint64_t n_outage_duplicated;
};

struct direction {
	struct session *from;
	struct session *to;
	bool active;    /* sends measured frames; else only warm-up ones, so that a bridge learns */
	bool mergeable; /* the receiving end */
	struct frame_format sent;
	struct frame_format received;
	struct offload_rules rules;
	bool partial_csum;
	uint16_t mss;           /* 0: no segmentation left to do */
	uint32_t frame_payload; /* TCP: of the whole frame */
	uint32_t bare_size;     /* TCP: of the whole frame */
	uint64_t window;        /* frames in flight per queue; 0: open loop */
	unsigned int n_flows;
	struct direction_flow *flows;
	struct direction_queue queues[OPTIONS_MAX_QUEUES];
	/* Warm-up: addresses that a frame has come through from (a bit each), and where to look for the next that none has. */
	uint64_t *learned;
	uint32_t n_learned;
	uint32_t next_address;
	struct direction_counters counters;
	struct histogram latency; /* TSC cycles */
	/* From just before a kick that the back end asked for to the first used buffer of those it told of: TSC cycles. */
	struct histogram kick_latency;
};

/* Sets a direction up between two open sessions. 0 or -ENOMEM; direction_fini() frees it. */
int direction_init(struct direction *direction, const struct options *options, struct session *from,
	struct session *to, bool active, uint64_t seed);
void direction_fini(struct direction *direction);

/* A warm-up frame from MAC address `address` < sent.n_addresses has come through. */
void direction_learn(struct direction *direction, uint32_t address);
static inline bool direction_has_learned(const struct direction *direction, uint32_t address)
{
	return direction->learned[address / 64] >> (address % 64) & 1;
}
/* Begins again: whoever forwards has forgotten. */
void direction_unlearn(struct direction *direction);

static inline uint64_t direction_in_flight(const struct direction *direction, unsigned int queue)
{
	const struct direction_queue *share = &direction->queues[queue];

	return share->n_sent - share->n_settled - share->n_suspended;
}

uint64_t direction_total_in_flight(const struct direction *direction, unsigned int n_queues);

/* `n_lost` frames of a queue are known to be lost: suspended ones first, they have been waited for
 * longest. */
void direction_settle_lost(struct direction_queue *share, uint64_t n_lost);

/* Does not wait for what is in flight any more. It is not lost: see flow_suspend(). */
void direction_suspend(struct direction *direction, unsigned int n_queues);

/* Gives up whatever is in flight: lost. Returns how many frames that were. */
uint64_t direction_flush(struct direction *direction);

/* Sums over the flows, the outage's part not counted. */
struct direction_totals {
	uint64_t n_lost;
	uint64_t n_duplicated;
	uint64_t n_reordered;
	uint64_t n_late;
	uint64_t n_corrupted;
};
void direction_sum(const struct direction *direction, struct direction_totals *totals);

#endif
