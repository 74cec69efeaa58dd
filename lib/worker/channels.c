/* SPDX-License-Identifier: BSD-3-Clause */
/* What connects a worker that may sleep with the others: event channels of its queues, its slot, its news. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>

#include <base/log.h>

#include "worker_private.h"

/* Every queue there can be, and the slot. */
#define CHANNELS_MAX (2 * PORT_MAX * PORT_MAX_QUEUES + 1)

#define NEWS_MAX 256

int channels_start(struct worker *worker, struct event_set *answers, char *error, size_t error_size)
{
	struct event_channel_config request = { .cause = EVENT_REQUEST };
	char name[RTE_RING_NAMESIZE];

	snprintf(name, sizeof(name), "news_%u", worker->spec.id);
	worker->news = rte_ring_create(name, NEWS_MAX, worker->spec.numa_node, RING_F_SP_ENQ | RING_F_SC_DEQ);
	worker->events = event_set_create(CHANNELS_MAX);
	if (worker->news == NULL || worker->events == NULL) {
		snprintf(error, error_size, "worker %u: out of memory", worker->spec.id);
		return -1;
	}
	if (slot_open(&worker->slot) != 0) {
		snprintf(error, error_size,
			"worker %u: no file descriptors left; raise the limit of open files (ulimit -n)",
			worker->spec.id);
		return -1;
	}
	request.fd = worker->slot.worker_fd;
	worker->request_channel = event_channel_open(worker->events, &request);
	request.fd = worker->slot.control_fd;
	worker->answer_channel = event_channel_open(answers, &request);
	if (worker->request_channel < 0 || worker->answer_channel < 0) {
		snprintf(error, error_size, "worker %u: cannot watch its request slot: %s",
			worker->spec.id, strerror(-RTE_MIN(worker->request_channel, worker->answer_channel)));
		return -1;
	}
	worker->spec.n_channels = (unsigned int)worker->request_channel + 1;
	return 0;
}

void channels_stop(struct worker *worker)
{
	event_set_destroy(worker->events);
	slot_close(&worker->slot);
	rte_ring_free(worker->news);
}

static void channel_open(struct worker *worker, struct port_wake *wake, const struct port *port, unsigned int index)
{
	const struct event_channel_config config = {
		.fd = wake->fd,
		.cause = wake->is_nic ? EVENT_NIC : EVENT_KICK,
		.is_level = wake->is_level,
		.owner = wake,
	};

	if (wake->fd < 0 || wake->channel >= 0)
		return;
	wake->channel = event_channel_open(worker->events, &config);
	if (wake->channel < 0)
		log_warn("port %s: queue %u cannot wake its worker, which goes on polling: %s", port->name,
			index, strerror(-wake->channel));
	else if ((unsigned int)wake->channel >= worker->spec.n_channels)
		worker->spec.n_channels = (unsigned int)wake->channel + 1;
}

void channels_open(struct worker *worker, const struct topology *topology,
	const struct plan_inventory *inventory)
{
	for (unsigned int i = 0; i < inventory->n_rx; i++) {
		struct rx_queue *queue = inventory->rx[i];

		if (queue->worker == (int)worker->spec.id)
			channel_open(worker, &queue->wake, queue->port, queue->index);
	}
	for (unsigned int i = 0; i < 2 * topology->n_crosses; i++) {
		uint16_t id = topology->crosses[i / 2].ports[i % 2];
		unsigned int n = inventory->n_tx_of[id];
		bool shared;

		for (unsigned int q = 0; q < n && topology->crosses[i / 2].lossless; q++) {
			struct tx_queue *queue = inventory->tx[id][q];

			if (plan_lane_is_mine(q, n, &worker->spec, &shared) && !shared)
				channel_open(worker, &queue->wake, queue->port, queue->index);
		}
	}
}

void channels_close(struct worker *worker, const struct plan_inventory *inventory)
{
	for (unsigned int id = 0; id < worker->spec.n_channels; id++) {
		struct port_wake *wake =
			(struct port_wake *)(uintptr_t)event_channel_owner(worker->events, (int)id);

		if (wake == NULL || wake->serial == inventory->serial)
			continue;
		event_channel_close(worker->events, (int)id);
		wake->channel = -1;
	}
}

/* A piece of news is one word: it fits into the ring's slot for a pointer. */
static void *news_pack(const struct worker_news *news)
{
	return (void *)((uintptr_t)news->kind << 48 | (uintptr_t)news->worker << 32 |
			(uintptr_t)news->port << 16 | news->queue);
}

static void news_unpack(const void *word, struct worker_news *news)
{
	uintptr_t bits = (uintptr_t)word;

	*news = (struct worker_news){
		.kind = (enum worker_news_kind)(bits >> 48),
		.worker = (uint16_t)(bits >> 32),
		.port = (uint16_t)(bits >> 16),
		.queue = (uint16_t)bits,
	};
}

bool news_tell(struct worker *worker, enum worker_news_kind kind, uint16_t port, uint16_t queue)
{
	const struct worker_news news = {
		.kind = kind,
		.worker = (uint16_t)worker->spec.id,
		.port = port,
		.queue = queue,
	};

	/* A full ring has been told of and not been read yet; what is lost, ports' regular visits find. */
	if (rte_ring_enqueue(worker->news, news_pack(&news)) != 0)
		return false;
	eventfd_write(worker->news_fd, 1);
	return true;
}

bool workers_next_news(struct workers *workers, struct worker_news *news)
{
	void *word;

	for (unsigned int id = 0; id < workers->n; id++) {
		if (rte_ring_dequeue(workers->worker[id]->news, &word) == 0) {
			news_unpack(word, news);
			return true;
		}
	}
	return false;
}

int workers_news_fd(const struct workers *workers)
{
	return workers->news_fd;
}
