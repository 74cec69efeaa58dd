/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * From the frames of one burst to the queues they leave by. Worker threads.
 *
 * A forwarder is one worker's set of lanes; a lane is its way into one transmit queue. Deciding where frames go (bridge
 * or cross-connect) and sending them are two steps: decisions collect frames in lanes, then every lane is flushed once,
 * so a queue is filled and published once per burst. Signalling comes later, for several bursts at once: forward_notify().
 */
#ifndef BRIDGE_FORWARD_H
#define BRIDGE_FORWARD_H

#include <bridge/fdb.h>
#include <event/moderation.h>
#include <port/offload.h>
#include <port/port.h>

/* One worker's way into one transmit queue. */
struct lane {
	struct tx_queue *queue;
	struct port_counters *counters; /* this worker's for the queue's port */
	bool is_shared;                 /* another worker has a lane into the same queue */
	bool is_dirty;                  /* something was sent that forward_notify() has not signalled */
	uint8_t needs;                  /* of all frames together */
	uint16_t n;
	struct event_moderation moderation;
	struct frame *frames[FRAME_BURST];
};

/* How this worker reaches a port; n_lanes 0: not at all now. */
struct forward_port {
	const struct port *port; /* NULL: no such port */
	struct port_counters *counters;
	uint16_t first_lane;
	uint16_t n_lanes;
	/* Its first lane if it takes untagged frames of VLAN 0 as they are, else NULL; see forward_port_update(). */
	struct lane *plain_lane;
};

/* A bridge as one worker sees it. */
struct bridge_view {
	struct fdb *fdb;
	const struct fdb_state *state;
	struct fdb_cache *cache;
	unsigned int n_members;
	uint16_t members[PORT_MAX]; /* port ids */
};

struct forwarder {
	struct forward_port ports[PORT_MAX]; /* by port id */
	struct offload *offload;             /* the worker's */
	unsigned int n_active, n_dirty;
	uint16_t *active; /* lanes with frames waiting; room for every lane */
	uint16_t *dirty;  /* lanes to signal */
	/* Pointers to the frames of the burst that begins with list[0], which is usually where the last one did. */
	struct frame *list[FRAME_BURST];
	/* frames[i] of the burst in its other form, with or without tag: each has only one. */
	struct frame retagged[FRAME_BURST];
	struct frame_room retagged_rooms[FRAME_BURST];
	unsigned int n_lanes;
	struct lane lanes[];
};

/* To be called when a port and its lanes are set. */
void forward_port_update(struct forwarder *forwarder, struct forward_port *port);

/*
 * Sends n (1..FRAME_BURST) frames that came in by `ingress` to where the bridge says. All are dealt with on return.
 * `is_one_flow` as in struct frame_batch.
 */
void bridge_forward(struct forwarder *forwarder, const struct bridge_view *bridge,
	const struct forward_port *ingress, struct frame *frames, unsigned int n, bool is_one_flow);

/*
 * The lane that frames of a receive queue take to the other end of a cross-connect: queue i goes to queue i, so one flow stays
 * in one queue and in order. NULL: there is none now.
 */
struct lane *cross_lane(struct forwarder *forwarder, const struct forward_port *egress, uint16_t rx_queue_index);

/*
 * Sends n frames to the other end of a cross-connect, by the queue that belongs to the one they came in by. `needs`
 * is theirs together.
 * With n_segments_done NULL frames may be lost, and all are dealt with: returns n. Else the cross-connect is lossless:
 * returns how many were dealt with, and the rest must be given again later, the same frame first. *n_segments_done
 * (0 at first, one per receive queue) is what has gone out of that frame already, if it is being segmented.
 */
unsigned int cross_forward(struct forwarder *forwarder, const struct forward_port *egress,
	uint16_t rx_queue_index, struct frame *frames, unsigned int n, uint8_t needs,
	uint16_t *n_segments_done);

/*
 * Signals the queues something was sent to, those at least whose moderation says that it is due; `now` in TSC cycles. Others
 * wait (n_dirty). The caller has called vring_fence() after the last of what was sent.
 */
void forward_notify(struct forwarder *forwarder, uint64_t now, bool everything);

#endif
