/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Ports: where frames enter and leave. A kind of port (guest.h, nic.h) has two halves that live in different files:
 *
 *   control   create, connect, describe, destroy                        control thread
 *   datapath  receive and release, send                                 the worker that was given the queue
 *
 * Between them stand the queues. The control half lists the queues that may be used now; whoever plans the workers'
 * work (lib/worker) hands each to workers. Before a port takes a queue away it calls port_host.changed(), which
 * returns only when no worker knows the queue any more.
 */
#ifndef PORT_PORT_H
#define PORT_PORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>
#include <rte_spinlock.h>

#include <port/drop.h>
#include <port/frame.h>

#define PORT_MAX        256
#define PORT_NAME_SIZE  32
#define PORT_MAX_QUEUES 16
#define PORT_MAX_WORKERS 64

struct port;
struct rx_queue;
struct tx_queue;

/* Written by one worker, read by the control thread. One per port and worker, so nothing is shared or locked. */
struct port_counters {
	uint64_t rx_packets; /* from the guest or NIC into the switch */
	uint64_t rx_bytes;
	uint64_t tx_packets; /* towards the guest or NIC */
	uint64_t tx_bytes;
	uint64_t drops[N_DROP_REASONS];
} __attribute__((aligned(64)));

/* How a queue wakes a worker that sleeps. */
struct port_wake {
	int fd;         /* becomes readable; -1: cannot, so that its worker must go on looking */
	bool is_level;  /* no eventfd: it stays readable until all is received */
	bool is_nic;    /* for the statistics: a NIC's interrupt, else a guest's kick */
	const char *missing; /* why fd is -1; static */
	/* lib/worker's, control thread. */
	int channel;     /* -1: none */
	uint64_t serial; /* of the last inventory that has the queue */
};

/* One direction of a port's queue as a worker sees it, embedded in the kind's own structure. */
struct rx_queue {
	struct port *port;
	uint16_t index;  /* of the queue pair */
	int numa_node;   /* where its ring memory lies, -1 unknown */
	int worker;      /* who polls it, -1 nobody yet; control thread only */
	bool is_armed;   /* its worker's: arm() was called last with true */
	struct rx_queue *beside; /* has to have the same worker, for receive() of this one serves it too; NULL: none */
	bool moves_by_itself; /* receive() has brought frames where they belong: none are in the batch, nor to be released */
	/*
	 * Puts up to max (<= FRAME_BURST) frames, the oldest first, into batch->frames and returns how many. Frames that
	 * cannot be forwarded are dropped and counted inside and do not appear. 0: nothing to do, and no release either.
	 */
	unsigned int (*receive)(struct rx_queue *queue, struct port_counters *counters,
		struct frame_batch *batch, unsigned int max);
	/*
	 * Ends the burst: the first n frames of the last receive are done with. The rest (lossless cross-connect) stays in
	 * the queue and is received again.
	 */
	void (*release)(struct rx_queue *queue, struct port_counters *counters,
		struct frame_batch *batch, unsigned int n);
	/*
	 * Signals what releases made pending. Separate, so that many need one fence: the caller has called vring_fence()
	 * since the last of them.
	 */
	void (*notify)(struct rx_queue *queue);
	/*
	 * Sleeping, for a worker that has nothing else to do either: arm(true) asks the far side to tell when there is
	 * something to receive, arm(false) that it be spared. Between arm(true) and sleep the worker calls vring_fence() and then
	 * is_ready(), which says whether there is something already, what nobody will tell any more.
	 */
	void (*arm)(struct rx_queue *queue, bool wanted);
	bool (*is_ready)(struct rx_queue *queue);
	/* Set by the control half while no worker knows the queue. */
	struct port_wake wake;
};

struct tx_queue {
	struct port *port;
	uint16_t index;
	int numa_node;
	uint8_t accepts; /* FRAME_NEEDS_* the far side can take over from us */
	uint8_t full_reason; /* enum drop_reason of frames that send() leaves over */
	rte_spinlock_t lock; /* for the kind's *_shared functions: tx_queue_lock() */
	uint64_t n_contended; /* times a worker had to wait for it */
	/*
	 * Sends frames, whose `needs` are all within `accepts`, in order. Returns how many were dealt with: delivered, or
	 * dropped and counted because they can never fit. The rest found no room now and is the caller's.
	 */
	unsigned int (*send)(struct tx_queue *queue, struct port_counters *counters,
		struct frame *const *frames, unsigned int n);
	/* As of rx_queue, for what was sent. */
	void (*notify)(struct tx_queue *queue);
	/*
	 * The same two while more than one worker was given the queue. A worker's frames stay in order; other workers' may
	 * come between them.
	 */
	unsigned int (*send_shared)(struct tx_queue *queue, struct port_counters *counters,
		struct frame *const *frames, unsigned int n);
	void (*notify_shared)(struct tx_queue *queue);
	/*
	 * As of rx_queue, for more room than there is: the far side tells when there is more, and room() says how much there is, in
	 * buffers, or UINT_MAX: too much to tell whether it grows. For one sender only. Not set where wake.fd is -1.
	 */
	void (*arm)(struct tx_queue *queue, bool wanted);
	unsigned int (*room)(struct tx_queue *queue);
	bool is_armed; /* its worker's: arm() was called last with true */
	struct port_wake wake;
};

/* Workers. Others spin meanwhile: what can be done before or after is not done under the lock. */
static inline void tx_queue_lock(struct tx_queue *queue)
{
	if (rte_spinlock_trylock(&queue->lock))
		return;
	__atomic_fetch_add(&queue->n_contended, 1, __ATOMIC_RELAXED);
	rte_spinlock_lock(&queue->lock);
}

static inline void tx_queue_unlock(struct tx_queue *queue)
{
	rte_spinlock_unlock(&queue->lock);
}

enum port_vlan_kind {
	PORT_VLAN_NONE,   /* every VLAN, untagged frames travel in VLAN 0 */
	PORT_VLAN_ACCESS, /* untagged frames only, in VLAN `access` */
	PORT_VLAN_TRUNK,  /* tagged frames of the allowed VLANs; untagged ones in `native` or not at all */
};

struct port_vlan {
	enum port_vlan_kind kind;
	uint16_t access;
	uint16_t native; /* 0: none */
	uint64_t allowed[4096 / 64];
};

/* What the kind does for the control thread. */
struct port_ops {
	const char *kind; /* "guest", "nic" */
	/* Queues that may be used now; at most PORT_MAX_QUEUES. */
	unsigned int (*list_rx)(struct port *port, struct rx_queue **queues);
	unsigned int (*list_tx)(struct port *port, struct tx_queue **queues);
	/* Adds what `port show` says of this kind to `object`. */
	void (*describe)(struct port *port, json_t *object);
	/* Every few hundred milliseconds: what the workers found out (broken rings), link state. */
	void (*tick)(struct port *port);
	/* Closes and frees. No worker knows its queues when this is called. */
	void (*destroy)(struct port *port);
};

/* How long a port's frames keep the worker awake that serves it. */
enum port_mode {
	PORT_MODE_POLL,      /* for ever: a worker with such a port does not sleep */
	PORT_MODE_ADAPTIVE,  /* for the worker's idle window */
	PORT_MODE_INTERRUPT, /* not at all */
};

/* A signal waits until so many frames were moved since the last one, or so long after the first of them. */
struct port_coalesce {
	uint32_t frames; /* 0..1024, 0: no bound */
	uint32_t us;     /* 0..10000, 0: no waiting */
};

struct port {
	char name[PORT_NAME_SIZE];
	uint16_t id; /* 0..PORT_MAX-1, unique among living ports; not reused before every worker has a new plan */
	uint16_t mtu;   /* longest IP packet in bytes, 0: not limited */
	const struct port_ops *ops;
	const struct port_host *host;
	struct port_vlan vlan;
	/* Workers follow a change with their next plan. */
	enum port_mode mode;
	struct port_coalesce coalesce;
	struct port_counters *counters; /* [PORT_MAX_WORKERS] */
};

/* Services of whoever owns the ports. */
struct port_host {
	/*
	 * The set of usable queues is different now. Returns when every worker works by a plan made from what list_rx and
	 * list_tx say now, and none is in the middle of an older one.
	 */
	void (*changed)(void *ctx);
	/* The same, but only queues were added: returns at once, workers take them up in their next round. */
	void (*offered)(void *ctx);
	/* Workers, on their way out of trouble: has the port's tick() called soon, instead of after its usual time. */
	void (*alarm)(void *ctx, struct port *port);
	void *ctx;
	struct event_base *events; /* control thread's loop */
};

/* Workers: as port_host.alarm, once as long as `is_said`, which is the queue's, says so. */
static inline void port_alarm(struct port *port, bool *is_said)
{
	if (__atomic_exchange_n(is_said, true, __ATOMIC_RELAXED))
		return;
	port->host->alarm(port->host->ctx, port);
}

/* Sums over the workers. */
void port_counters_sum(const struct port *port, struct port_counters *sum);

/* {"rx_packets": ..., "drops": {...}}, reasons with a count of 0 left out. New reference. */
json_t *port_counters_json(const struct port *port);

/* Fills the common fields; allocates the counters on `numa_node` (-1: any). -ENOMEM. */
int port_init(struct port *port, const struct port_ops *ops, const struct port_host *host,
	const char *name, uint16_t id);

/* Releases what port_init() allocated; for the kinds' destroy. */
void port_fini(struct port *port);

/* The VLAN a frame from this port travels in, by frame->tagged and its tag: 0..4095, or -1 if it is not allowed. */
int port_vlan_ingress(const struct port_vlan *vlan, const struct frame *frame);

/* Whether the port is a member of this VLAN, and if so whether frames leave it with a tag. */
bool port_vlan_egress(const struct port_vlan *vlan, uint16_t vid, bool *tagged);

#endif
