/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What is measured in drain mode: a way for frames from one guest's transmit ring to another's receive ring.
 *
 * Two engines do the same work: ringway (guest ports, a bridge, a NIC port over a ring device) and rte_vhost
 * (librte_vhost's own calls, with nothing around them). Guests are 0 and 1.
 *
 *   forward   guest -> guest: buffers taken, copied, returned on both rings, both guests notified
 *   dequeue   guest -> mbufs: mbufs allocated and filled, the guest's buffers returned, the guest notified
 *   enqueue   mbufs -> guest: buffers taken, filled, returned, the guest notified, the mbufs freed
 *
 * Thread rule: open, close and features belong to the main thread; the rest to the worker. An engine that changes
 * what the worker uses (a guest comes or goes) does so between worker_pause() and worker_resume() (worker.h).
 */
#ifndef BENCH_DRAIN_ENGINE_H
#define BENCH_DRAIN_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DRAIN_GUESTS 2

/* Frames of one measured round at most; as many mbufs can wait between dequeue and enqueue. */
#define DRAIN_BACKLOG_MAX 512

struct event_base;

struct engine_config {
	const char *sockets[DRAIN_GUESTS]; /* paths to listen on; outlive the engine */
	bool mbufs;                        /* dequeue and enqueue are wanted, else forward */
	struct event_base *events;         /* main thread's loop */
};

struct engine {
	const char *name;
	/* 0, or -1 with one line in `error`. */
	int (*open)(const struct engine_config *config, char *error, size_t error_size);
	void (*close)(void);
	/* Virtio feature bits negotiated with a guest; 0: it is not there. */
	uint64_t (*features)(unsigned int guest);

	/* Both guests are there and their rings can be used. */
	bool (*is_ready)(void);
	/* The guest has made n frames (n <= DRAIN_BACKLOG_MAX) available that were not taken yet. */
	bool (*has_frames)(unsigned int guest, unsigned int n);
	/* The guest offers n receive buffers. */
	bool (*has_room)(unsigned int guest, unsigned int n);
	/* One burst of up to `max` (<= 32) frames. Each returns how many it took; 0 if there were none. */
	unsigned int (*forward)(unsigned int from, unsigned int to, unsigned int max);
	unsigned int (*dequeue)(unsigned int from, unsigned int max);
	unsigned int (*enqueue)(unsigned int to, unsigned int max);
};

extern const struct engine engine_ringway;
extern const struct engine engine_rte_vhost;

#endif
