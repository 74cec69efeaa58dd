/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A guest's two rings in memory of our own: the driver side of lib/vring at one end, the queues of a guest port at the other.
 * A test program runs its tests once for each of the ways that frames may take.
 */
#ifndef TEST_GUEST_DATAPATH_FIXTURE_H
#define TEST_GUEST_DATAPATH_FIXTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <vring/driver.h>

#include "guest_internal.h"

#define RING 256

/* One ring with both its ends. */
struct ring {
	struct vu_ring ends; /* the device side, as a session would hold it */
	struct vring_driver *driver;
	uint8_t *parts;
};

extern struct way {
	bool packed;
	bool in_order;
	bool runs; /* else every buffer goes the general way */
	enum vring_isa isa;
	bool shared; /* sent as by one worker of several */
} way;

/* Sets `way` to the next one and prints it; false: there are no more. */
bool way_next(void);

extern uint8_t *memory;  /* all the guest has: data first, ring parts behind */
extern size_t data_used; /* of the data; what is offered lies behind it */
extern struct port port;
extern unsigned int n_alarms; /* of the port */
extern struct port_counters *counters; /* the first worker's */
extern struct ring tx, rx; /* the guest's words: it transmits on tx */
extern struct guest_rx_queue from_guest;
extern struct guest_tx_queue to_guest;
extern struct frame_batch batch;

int setup(void **state);        /* mergeable buffers */
int setup_single(void **state); /* none, the header of 12 bytes */
int setup_legacy(void **state); /* none, the header of 10 bytes */
int teardown(void **state);

#define with(start_function, function) \
	cmocka_unit_test_setup_teardown(function, start_function, teardown)

/* The ring's driver is called by this descriptor. */
void call_by(struct ring *ring, int fd);

/* As the control thread does after it has changed something about the queues. */
void queues_update(void);

/* Offers `bytes` as one buffer, cut after each of `cuts` (ascending, 0-terminated). */
void transmit(const uint8_t *bytes, uint32_t len, const uint32_t *cuts);
extern const uint32_t uncut[];

/* A frame of `len` bytes behind a header of zeroes; returns the length of both. */
uint32_t packet_of(uint8_t *packet, uint32_t len);

/* How many of the guest's transmit buffers have come back since the last time; nothing was written into them. */
unsigned int transmit_completions(void);

/* Into `batch` and out of it. */
unsigned int receive(void);
void release(unsigned int n);
unsigned int send_burst(unsigned int n);

/* As a worker with these counters, the way's way. */
unsigned int send_list(struct port_counters *sender, struct frame *const *frames, unsigned int n);

/* Offers receive buffers of `bytes` each, in one piece; the token is the place in `memory`. */
void offer(unsigned int n, uint32_t bytes);

/* Collects used receive buffers and puts the bytes the device says it wrote one behind the other. */
uint32_t collect(uint8_t *bytes, unsigned int *n_buffers);

#endif
