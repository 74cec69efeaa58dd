/* SPDX-License-Identifier: BSD-3-Clause */
#include "warmup.h"

#include <errno.h>
#include <unistd.h>

#include <base/clock.h>

#include "tsc.h"

/* How often a frame is sent that has not come through: the back end may not have enabled its rings
 * yet. */
#define REPEAT_US 5000

static bool has_passed(const struct run *run, const struct direction *direction)
{
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

static int send_all(struct run *run)
{
	for (unsigned int i = 0; i < run->n_lanes; i++) {
		struct sender *sender = &run->lanes[i].sender;

		if (sender->direction->active &&
			sender->direction->queues[sender->queue].n_warmup != 0)
			continue;
		if (sender_send_warmup(sender, tsc_now()) < 0) {
			run_set_error(run, "socket %u: transmit ring %u: %s",
				run->lanes[i].session->number, sender->queue,
				vring_fixed_breakage_name(sender->ring->ring.breakage));
			return -EPROTO;
		}
	}
	return 0;
}

/* What is known about the first direction and queue that passes nothing. */
static void explain(struct run *run)
{
	for (unsigned int i = 0; i < run->n_lanes; i++) {
		struct sender *sender = &run->lanes[i].sender;
		struct direction *direction = sender->direction;

		if (!direction->active || direction->queues[sender->queue].n_warmup != 0)
			continue;
		vring_fixed_collect(&sender->ring->ring, sender->used, sender->ring->ring.n_slots);
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
	for (;;) {
		uint64_t now_us = clock_now_us();
		struct session *dead = run_dead_session(run);

		if (dead != NULL) {
			run_set_error(run, "socket %u (%s): the back end has closed the connection",
				dead->number, dead->socket->path);
			return -ECONNRESET;
		}
		if (now_us >= repeat_us) {
			ret = send_all(run);
			if (ret != 0)
				return ret;
			repeat_us = now_us + REPEAT_US;
		}
		ret = run_turn(run);
		if (ret < 0)
			return ret;
		if (have_all_passed(run))
			return 0;
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
