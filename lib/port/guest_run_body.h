/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The one body of guest_run.h. guest_run_portable.c, guest_run_avx2.c and guest_run_avx512.c each include it once, after
 * saying how bytes are copied there:
 *
 *     copy_64(to, from)              64 bytes
 *     copy_head(to, from, len)       the first `len` <= 64 bytes; may write 64
 *     copy_bytes(to, from, len)      any number
 *
 * Both directions go over the burst in stages, so that the cache misses of many frames are waited for together: the run
 * is parsed, its lines are asked for, then bytes are copied, then entries are written and published.
 */
#ifndef PORT_GUEST_RUN_BODY_H
#define PORT_GUEST_RUN_BODY_H

#include <rte_branch_prediction.h>
#include <rte_common.h>

#include <vring/run.h>

#include "frame_cut.h"
#include "guest_run.h"

/* A shorter run that ends at a frame which needs a closer look is left to the general way. */
#define RUN_WORTHWHILE 4

/* Bits that all heads of a burst have in their first 16 bytes, and bits that any has. */
typedef uint64_t head_words __attribute__((vector_size(16)));

struct flow {
	head_words all, any;
};

static __rte_always_inline void flow_add(struct flow *flow, head_words words)
{
	flow->all &= words;
	flow->any |= words;
}

/* Whether the addresses and the EtherType, 14 bytes, are the same in all. */
static __rte_always_inline bool flow_is_one(const struct flow *flow)
{
	head_words apart = flow->all ^ flow->any;

	return (apart[0] | apart[1] << 16) == 0;
}

/* Whether some frame may be tagged: its EtherType, bytes 12 and 13, is 0x8100. */
static __rte_always_inline bool flow_may_be_tagged(const struct flow *flow)
{
	return (flow->any[1] >> 32 & 0x81) == 0x81;
}

/*
 * What nearly all frames of runs have in common, once and not per frame: `is_preset` says that it is in place. Whoever
 * writes anything else into the batch's frames takes it back.
 */
static __attribute__((noinline)) void preset(struct frame_batch *batch)
{
	for (unsigned int i = 0; i < FRAME_BURST; i++)
		batch->frames[i] = (struct frame){
			.head = batch->rooms[i].head,
			.pieces = &batch->burst.pieces[i],
		};
	batch->is_preset = true;
}

/* Makes frame i of buffer i, as if it were not tagged and its offload words said nothing. */
static __rte_always_inline head_words take_plain(struct frame_batch *batch, size_t i)
{
	const uint8_t *bytes = (const uint8_t *)batch->run.hva[i] + GUEST_RUN_HEADER_LEN;
	uint32_t len = batch->run.len[i] - GUEST_RUN_HEADER_LEN;
	struct vring_piece *piece = &batch->burst.pieces[i];
	struct frame *frame = &batch->frames[i];
	uint8_t *head = batch->rooms[i].head;
	head_words words;

	frame->len = len;
	if (likely(len >= FRAME_HEAD_PLAIN)) {
		frame->head_len = FRAME_HEAD_PLAIN;
		frame->n_pieces = len > FRAME_HEAD_PLAIN;
		copy_64(head, bytes);
	} else {
		frame->head_len = (uint16_t)len;
		frame->n_pieces = 0;
		copy_head(head, bytes, len);
	}
	piece->hva = (uint8_t *)(uintptr_t)bytes + FRAME_HEAD_PLAIN;
	piece->len = len - FRAME_HEAD_PLAIN;
	memcpy(&words, head, sizeof(words));
	return words;
}

/* Frame i of buffer i, whatever it is. False: it is to be dropped, and that takes the general way. */
static __attribute__((noinline)) bool take_any(
	const struct guest_rx_queue *queue, struct frame_batch *batch, size_t i)
{
	struct vring_piece *piece = &batch->burst.pieces[i];
	struct vring_buffer buffer = { .pieces = piece, .n_pieces = 1, .len = batch->run.len[i] };

	*piece = (struct vring_piece){ .hva = (uint8_t *)batch->run.hva[i], .len = buffer.len };
	batch->is_preset = false;
	if (guest_frame_take(queue, &buffer, &batch->frames[i], &batch->rooms[i]) != N_DROP_REASONS)
		return false;
	batch->needs |= batch->frames[i].needs;
	return true;
}

/* Looks at every frame's tag. Returns how many frames there are before one that is to be dropped. */
static __attribute__((noinline)) int tags_read(struct frame_batch *batch, int n)
{
	batch->is_preset = false;
	for (int i = 0; i < n; i++) {
		if (!frame_read_tag(&batch->frames[i]))
			return i;
	}
	return n;
}

/*
 * Both ask for lines of the first n buffers. A line that another CPU has written to is waited for, and one that is to be
 * written to as well: asked for together, many come in the time of one.
 *
 * To read, four at a time; what the addresses behind them are, left over from earlier, does no harm.
 */
static __rte_always_inline void prefetch_to_read(
	const struct vring_run *run, int n, uint32_t offset)
{
	for (int i = 0; i < n; i += 4) {
		__builtin_prefetch((const void *)(run->hva[i] + offset));
		__builtin_prefetch((const void *)(run->hva[i + 1] + offset));
		__builtin_prefetch((const void *)(run->hva[i + 2] + offset));
		__builtin_prefetch((const void *)(run->hva[i + 3] + offset));
	}
}

/* Drivers like to put the header where a line ends, so there are two. */
static __rte_always_inline void prefetch_to_write(const struct vring_run *run, int n)
{
	for (int i = 0; i < n; i++) {
		__builtin_prefetch((const void *)run->hva[i], 1);
		__builtin_prefetch((const void *)(run->hva[i] + GUEST_RUN_HEADER_LEN), 1);
	}
}

static __rte_always_inline int run_receive(struct guest_rx_queue *queue, struct frame_batch *batch,
	unsigned int max, bool offloads)
{
	struct flow flow = { .all = { ~0ULL, ~0ULL } };
	struct vring_run *run = &batch->run;
	bool is_plain = true;
	int n = vring_run_peek(&queue->ring->device, run, VRING_READABLE,
		GUEST_RUN_HEADER_LEN + FRAME_LEN_MIN, GUEST_RUN_HEADER_LEN + FRAME_LEN_MAX, max);
	int n_good = n;

	if (n <= 0)
		return n;
	if (unlikely(!batch->is_preset))
		preset(batch);
	batch->needs = 0;
	batch->is_run = true;
	/* Without offloads nobody reads the header's line, which may be another than the frame's. */
	prefetch_to_read(run, n, offloads ? 0 : GUEST_RUN_HEADER_LEN);
	for (size_t i = 0; i < (size_t)n; i++) {
		if (offloads) {
			uint16_t flags_and_type;

			memcpy(&flags_and_type, (const void *)run->hva[i], sizeof(flags_and_type));
			if (flags_and_type != 0) {
				is_plain = false;
				if (take_any(queue, batch, i))
					continue;
				n_good = (int)i;
				break;
			}
		}
		flow_add(&flow, take_plain(batch, i));
	}
	if (unlikely(flow_may_be_tagged(&flow)))
		n_good = tags_read(batch, n_good);
	batch->is_one_flow = is_plain && flow_is_one(&flow);
	return n_good == n || n_good >= RUN_WORTHWHILE ? n_good : VRING_RUN_ODD;
}

static int run_receive_plain(
	struct guest_rx_queue *queue, struct frame_batch *batch, unsigned int max)
{
	return run_receive(queue, batch, max, false);
}

static int run_receive_offloads(
	struct guest_rx_queue *queue, struct frame_batch *batch, unsigned int max)
{
	return run_receive(queue, batch, max, true);
}

/* Bytes of a frame that is not cut as those of runs are. */
static __attribute__((noinline)) void give_bytes(const struct frame *frame, uint8_t *to)
{
	copy_bytes(to, frame->head, frame->head_len);
	to += frame->head_len;
	for (unsigned int i = 0; i < frame->n_pieces; i++) {
		copy_bytes(to, frame->pieces[i].hva, frame->pieces[i].len);
		to += frame->pieces[i].len;
	}
}

/* Copies a frame with its header into a buffer that holds it; `cut` as of frame_cut(), less the length. */
static __rte_always_inline void give_plain(
	const struct frame *frame, uint32_t cut, uint8_t *to, uint64_t header_mask)
{
	uint32_t rest = frame->offload.csum_offset | 1u << 16; /* num_buffers */
	uint64_t words;

	memcpy(&words, &frame->offload, sizeof(words));
	words &= header_mask;
	memcpy(to, &words, sizeof(words));
	memcpy(to + sizeof(words), &rest, sizeof(rest));
	to += GUEST_RUN_HEADER_LEN;
	if (likely(cut == FRAME_CUT(FRAME_HEAD_PLAIN, 0))) {
		copy_64(to, frame->head);
	} else if (likely(cut == FRAME_CUT(FRAME_HEAD_PLAIN, 1))) {
		const struct vring_piece piece = *frame->pieces;

		copy_64(to, frame->head);
		copy_bytes(to + FRAME_HEAD_PLAIN, piece.hva, piece.len);
	} else {
		give_bytes(frame, to);
	}
}

/*
 * Copies frames, one into each of n buffers, and notes how many bytes each took. Stops before a frame that is longer than
 * its buffer. Returns how many were copied.
 */
static __rte_always_inline unsigned int give_run(const struct vring_run *run,
	struct frame *const *frames, unsigned int n, uint64_t header_mask, uint32_t *lengths,
	uint64_t *bytes)
{
	uint64_t sum = 0;
	size_t i;

	for (i = 0; i < n; i++) {
		const struct frame *frame = frames[i];
		uint64_t cut = frame_cut(frame);

		lengths[i] = GUEST_RUN_HEADER_LEN + (uint32_t)cut;
		if (unlikely(lengths[i] > run->len[i]))
			break;
		sum += lengths[i];
		give_plain(frame, (uint32_t)(cut >> 32), (uint8_t *)run->hva[i], header_mask);
	}
	*bytes += sum;
	return (unsigned int)i;
}

/* The next buffers, none of which takes a frame of more than `max` bytes with its header. As vring_run_peek(). */
static __rte_always_inline int peek_to_send(
	struct vring_device *device, struct vring_run *run, uint32_t max, unsigned int n)
{
	int n_buffers =
		vring_run_peek(device, run, VRING_WRITABLE, GUEST_RUN_HEADER_LEN, UINT32_MAX, n);

	if (max != UINT32_MAX) {
		for (int i = 0; i < n_buffers; i++)
			run->len[i] = RTE_MIN(run->len[i], max);
	}
	return n_buffers;
}

/* Takes as many of them as the next frames fit into, one each, and draws the ticket if there are any. Returns how many. */
static __rte_always_inline int reserve_to_send(struct guest_tx_queue *queue, struct vring_run *run,
	struct vring_ticket *ticket, uint32_t max, struct frame *const *frames, unsigned int n)
{
	struct vring_device *device = &queue->ring->device;
	int n_buffers, n_fit = 0;

	tx_queue_lock(&queue->base);
	n_buffers = peek_to_send(device, run, max, n);
	while (n_fit < n_buffers && GUEST_RUN_HEADER_LEN + frames[n_fit]->len <= run->len[n_fit])
		n_fit++;
	if (n_fit > 0)
		vring_ticket_draw_run(&queue->tickets, device, ticket, (unsigned int)n_fit);
	tx_queue_unlock(&queue->base);
	return n_fit;
}

/* `shared`: the queue has other senders (vring/ticket.h). `logged`: what is written is noted in the dirty log. */
static __rte_always_inline unsigned int run_send_any(struct guest_tx_queue *queue,
	struct port_counters *counters, struct frame *const *frames, unsigned int n, bool shared,
	bool logged)
{
	struct vring_device *device = &queue->ring->device;
	uint16_t mtu = queue->base.port->mtu;
	/* Some longer ones are within the MTU, with a tag or to be segmented: the general way looks closer. */
	uint32_t max = mtu == 0 ? UINT32_MAX : GUEST_RUN_HEADER_LEN + FRAME_LEN_MIN + (uint32_t)mtu;
	/* `flags` is the first byte. */
	uint64_t header_mask = queue->checks_csum ? ~0ULL : ~(uint64_t)VIRTIO_NET_HDR_F_DATA_VALID;
	uint32_t lengths[VRING_RUN_MAX];
	struct vring_ticket ticket;
	struct vring_run run;
	unsigned int done = 0;
	uint64_t bytes = 0;

	while (done < n) {
		int n_buffers = shared ? reserve_to_send(queue, &run, &ticket, max, frames + done, n - done)
				       : peek_to_send(device, &run, max, n - done);
		struct vring_device *view = shared ? &ticket.ring : device;
		unsigned int n_given;
		uint16_t from;

		if (n_buffers <= 0)
			break;
		from = view->used_idx;
		prefetch_to_write(&run, n_buffers);
		n_given = give_run(
			&run, frames + done, (unsigned int)n_buffers, header_mask, lengths, &bytes);
		vring_run_return_written(view, &run, lengths, n_given);
		if (shared) {
			tx_queue_lock(&queue->base);
			vring_ticket_commit(&queue->tickets, device, &ticket);
			tx_queue_unlock(&queue->base);
		}
		if (logged) {
			if (!shared)
				vring_device_publish(device);
			vring_dirty_run(&queue->ring->dirty, view, &run, lengths, n_given, from);
		}
		done += n_given;
		if (n_given < (unsigned int)n_buffers)
			break;
	}
	if (done == 0)
		return 0;
	if (!shared && !logged)
		vring_device_publish(device);
	counters->tx_packets += done;
	counters->tx_bytes += bytes - done * (uint64_t)GUEST_RUN_HEADER_LEN;
	return done;
}

static unsigned int run_send(struct guest_tx_queue *queue, struct port_counters *counters,
	struct frame *const *frames, unsigned int n)
{
	return run_send_any(queue, counters, frames, n, false, false);
}

static unsigned int run_send_shared(struct guest_tx_queue *queue, struct port_counters *counters,
	struct frame *const *frames, unsigned int n)
{
	return run_send_any(queue, counters, frames, n, true, false);
}

static unsigned int run_send_logged(struct guest_tx_queue *queue, struct port_counters *counters,
	struct frame *const *frames, unsigned int n)
{
	return run_send_any(queue, counters, frames, n, false, true);
}

static unsigned int run_send_shared_logged(struct guest_tx_queue *queue,
	struct port_counters *counters, struct frame *const *frames, unsigned int n)
{
	return run_send_any(queue, counters, frames, n, true, true);
}

#define GUEST_RUN_SENDS                                                                            \
	{ { run_send, run_send_shared }, { run_send_logged, run_send_shared_logged } }

#define GUEST_RUN_OPS(name)                                                                        \
	const struct guest_run_ops name[2] = {                                                     \
		{ run_receive_plain, GUEST_RUN_SENDS },                                            \
		{ run_receive_offloads, GUEST_RUN_SENDS },                                         \
	}

#endif
