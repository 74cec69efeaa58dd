/* SPDX-License-Identifier: BSD-3-Clause */
#include "warmup.h"

#include <errno.h>
#include <unistd.h>

#include <base/clock.h>

#include "tsc.h"

/* How often a frame is sent that has not come through: the back end may not have enabled its rings
 * yet. */
#define REPEAT_US 5000

/* Silence after which nothing is on its way any more. */
#define QUIET_US 5000

/* Frames of other addresses that are sent in a turn. */
#define ADDRESSES_PER_TURN 32

static bool has_passed(const struct run *run, const struct direction *direction)
{
	/* The other end's addresses are destinations, also where nothing is sent from them. */
	if (direction->sent.n_addresses > 1 && direction->n_learned < direction->sent.n_addresses)
		return false;
	if (!direction->active)
		return true;
	for (unsigned int queue = 0; queue < run->options->n_queues; queue++)
		if (direction->queues[queue].n_warmup == 0)
			return false;
	return true;
}

static bool have_all_passed(const struct run *run)
{
	for (unsigned int i = 0; i < run->n_directions; i++)
		if (!has_passed(run, &run->directions[i]))
			return false;
	return true;
}

static int fail_ring(struct run *run, const struct lane *lane)
{
	run_set_error(run, "socket %u: transmit ring %u: %s", lane->session->number, lane->sender.queue,
		vring_fixed_breakage_name(lane->sender.ring->ring.breakage));
	return -EPROTO;
}

static int send_all(struct run *run)
{
	for (unsigned int i = 0; i < run->n_lanes; i++) {
		struct sender *sender = &run->lanes[i].sender;

		if (sender->direction->active &&
			sender->direction->queues[sender->queue].n_warmup != 0)
			continue;
		if (sender_send_warmup(sender, 0, tsc_now()) < 0)
			return fail_ring(run, &run->lanes[i]);
	}
	return 0;
}

/*
 * Goes on through the addresses no frame has come through from, as far as the ring takes frames; with `from_start` those
 * that were sent in vain are tried again. A bridge that does not know an address yet floods, so one frame each is enough.
 */
static int send_addresses(struct run *run, struct lane *lane, bool from_start)
{
	struct direction *direction = lane->sender.direction;

	if (from_start && direction->next_address == direction->sent.n_addresses)
		direction->next_address = 0;
	for (unsigned int n = 0;
		n < ADDRESSES_PER_TURN && direction->next_address < direction->sent.n_addresses;
		direction->next_address++) {
		int ret;

		if (direction_has_learned(direction, direction->next_address))
			continue;
		ret = sender_send_warmup(&lane->sender, direction->next_address, tsc_now());
		if (ret < 0)
			return fail_ring(run, lane);
		if (ret == 0)
			break;
		n++;
	}
	return 0;
}

static int send_all_addresses(struct run *run, bool from_start)
{
	int ret = 0;

	/* By the first queue of each direction. */
	for (unsigned int i = 0; ret == 0 && run->options->n_macs > 1 && i < run->n_lanes;
		i += run->options->n_queues)
		ret = send_addresses(run, &run->lanes[i], from_start);
	return ret;
}

/*
 * Frames of many addresses, some of them sent twice, may still be on their way when the last address is known. They take
 * buffers that the window counts on, so the measurement waits for them: until the back end has taken all and nothing
 * comes any more.
 */
static int settle(struct run *run, uint64_t deadline_us)
{
	uint64_t quiet_since_us = clock_now_us();

	while (!*run->stop && clock_now_us() < deadline_us) {
		int ret = run_turn(run);
		bool quiet = ret == 0;

		if (ret < 0)
			return ret;
		for (unsigned int i = 0; i < run->n_lanes; i++) {
			if (sender_collect(&run->lanes[i].sender) < 0)
				return fail_ring(run, &run->lanes[i]);
			quiet = quiet && sender_outstanding(&run->lanes[i].sender) == 0;
		}
		if (!quiet)
			quiet_since_us = clock_now_us();
		else if (clock_now_us() - quiet_since_us >= QUIET_US)
			return 0;
		else
			usleep(50);
	}
	return 0;
}

/* What is known about the first direction and queue that passes nothing. */
static void explain(struct run *run)
{
	run_set_error(run, "not every MAC address has been learned within %g s: lower --macs or raise --deadline",
		(double)run->options->deadline_us / 1e6);
	for (unsigned int i = 0; i < run->n_lanes; i++) {
		struct sender *sender = &run->lanes[i].sender;
		struct direction *direction = sender->direction;

		if (!direction->active || direction->queues[sender->queue].n_warmup != 0)
			continue;
		sender_collect(sender);
		if (sender->ring->ring.used_idx == 0)
			run_set_error(run,
				"socket %u (%s): the back end has taken no frame from queue pair "
				"%u within %g s: "
				"is its port started?",
				direction->from->number, direction->from->socket->path,
				sender->queue, (double)run->options->deadline_us / 1e6);
		else
			run_set_error(run,
				"no frame from socket %u (%s, queue pair %u) has come out at "
				"socket %u (%s) within "
				"%g s, though the back end took them: does it forward between the "
				"two?",
				direction->from->number, direction->from->socket->path,
				sender->queue, direction->to->number, direction->to->socket->path,
				(double)run->options->deadline_us / 1e6);
		return;
	}
}

int warmup(struct run *run)
{
	uint64_t deadline_us = clock_now_us() + run->options->deadline_us;
	uint64_t repeat_us = 0;
	int ret;

	for (unsigned int i = 0; i < run->n_directions; i++)
		for (unsigned int queue = 0; queue < run->options->n_queues; queue++)
			run->directions[i].queues[queue].n_warmup = 0;
	for (unsigned int i = 0; i < run->n_directions; i++)
		direction_unlearn(&run->directions[i]);
	for (;;) {
		bool repeat;
		uint64_t now_us = clock_now_us();
		struct session *dead = run_dead_session(run);

		if (dead != NULL) {
			run_set_error(run, "socket %u (%s): the back end has closed the connection",
				dead->number, dead->socket->path);
			return -ECONNRESET;
		}
		repeat = now_us >= repeat_us;
		if (repeat) {
			ret = send_all(run);
			if (ret != 0)
				return ret;
			repeat_us = now_us + REPEAT_US;
		}
		ret = send_all_addresses(run, repeat);
		if (ret == 0)
			ret = run_turn(run);
		if (ret < 0)
			return ret;
		if (have_all_passed(run))
			return run->options->n_macs > 1 ? settle(run, deadline_us) : 0;
		if (*run->stop)
			return -EINTR;
		if (now_us >= deadline_us) {
			explain(run);
			return -ETIMEDOUT;
		}
		/* On a machine with fewer CPUs than programs the back end needs this one. */
		if (ret == 0)
			usleep(50);
	}
}
