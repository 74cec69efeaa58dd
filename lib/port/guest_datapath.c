/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A guest's rings as queues of frames. Worker threads.
 *
 * Theory of operation. Receive parses a burst of buffers from the guest's transmit ring, then takes the virtio-net header and the
 * head of each frame into private memory: each byte of guest memory that decides anything is read there, once. What is
 * left of a buffer stays in guest memory as the frame's pieces until send copies it into the receiver's buffers: the
 * one copy between guests. Nothing a guest does to its memory meanwhile can matter but to the payload's content.
 */
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/eventfd.h>

#include <rte_branch_prediction.h>
#include <rte_common.h>

#include <port/offload.h>

#include "guest_run.h"

/* The next pieces of a buffer, from which bytes are taken in order. */
struct gather {
	struct vring_piece *piece;
	unsigned int n_pieces;
};

static void gather_bytes(struct gather *from, void *to, uint32_t len)
{
	uint8_t *out = to;

	while (len > 0) {
		uint32_t part = RTE_MIN(len, from->piece->len);

		memcpy(out, from->piece->hva, part);
		out += part;
		len -= part;
		from->piece->hva += part;
		from->piece->len -= part;
		if (from->piece->len == 0) {
			from->piece++;
			from->n_pieces--;
		}
	}
}

static __rte_always_inline void gather_skip(struct gather *from, uint32_t len)
{
	while (unlikely(len > from->piece->len)) {
		len -= from->piece->len;
		from->piece++;
		from->n_pieces--;
	}
	from->piece->hva += len;
	from->piece->len -= len;
	if (from->piece->len == 0) {
		from->piece++;
		from->n_pieces--;
	}
}

static __rte_always_inline bool head_is_tagged(const uint8_t *head)
{
	return head[12] == 0x81 && head[13] == 0x00;
}

uint8_t guest_frame_take(const struct guest_rx_queue *queue, struct vring_buffer *buffer,
	struct frame *frame, struct frame_room *room)
{
	struct gather from = { .piece = buffer->pieces, .n_pieces = buffer->n_pieces };
	uint32_t header_len = queue->header_len;
	uint32_t head_max = FRAME_HEAD_PLAIN;

	if (unlikely(buffer->fault != VRING_OK))
		return DROP_BAD_CHAIN;
	if (unlikely(buffer->len < header_len + FRAME_LEN_MIN))
		return DROP_TOO_SHORT;
	frame->len = buffer->len - header_len;
	if (unlikely(frame->len > FRAME_LEN_MAX))
		return DROP_TOO_LONG;

	if (queue->offloads != 0) {
		struct virtio_net_hdr_mrg_rxbuf header;

		if (likely(from.piece->len > sizeof(header))) {
			memcpy(&header, from.piece->hva, sizeof(header.hdr));
			gather_skip(&from, header_len);
		} else {
			gather_bytes(&from, &header, header_len);
		}
		frame->offload = header.hdr;
		if (header.hdr.gso_type != VIRTIO_NET_HDR_GSO_NONE)
			head_max = FRAME_HEAD_MAX;
	} else {
		/* Nothing was negotiated that the header could say: its cache line is not touched. */
		memset(&frame->offload, 0, sizeof(frame->offload));
		gather_skip(&from, header_len);
	}

	frame->head = room->head;
	frame->head_len = (uint16_t)RTE_MIN(frame->len, head_max);
	if (likely(frame->head_len == FRAME_HEAD_PLAIN && from.piece->len >= FRAME_HEAD_PLAIN)) {
		memcpy(room->head, from.piece->hva, FRAME_HEAD_PLAIN);
		if (from.piece->len == FRAME_HEAD_PLAIN) {
			from.n_pieces--;
			from.piece++;
		} else {
			from.piece->hva += FRAME_HEAD_PLAIN;
			from.piece->len -= FRAME_HEAD_PLAIN;
		}
	} else {
		gather_bytes(&from, room->head, frame->head_len);
	}
	frame->pieces = from.piece;
	frame->n_pieces = (uint16_t)from.n_pieces;
	frame->mbuf = NULL;
	frame->needs = 0;
	frame->tagged = head_is_tagged(room->head);
	if (unlikely(frame->offload.flags != 0 || frame->offload.gso_type != 0) &&
		!offload_validate(frame, queue->offloads))
		return DROP_BAD_OFFLOAD;
	/* A tag needs its 4 bytes, and what follows them. */
	if (unlikely(frame->tagged && frame->len < FRAME_LEN_MIN + 4))
		return DROP_TOO_SHORT;
	return N_DROP_REASONS;
}

/* After the announcement was forwarded, or not: then it comes again. */
static void announcement_end(struct guest_rx_queue *queue, unsigned int n)
{
	queue->is_announcing = false;
	if (n == 1)
		__atomic_store_n(&queue->announce, false, __ATOMIC_RELEASE);
}

static void guest_release(struct rx_queue *base, struct port_counters *counters,
	struct frame_batch *batch, unsigned int n)
{
	struct guest_rx_queue *queue = (struct guest_rx_queue *)base;

	counters->rx_packets += n;
	if (likely(batch->is_run)) {
		uint64_t bytes = 0;

		for (unsigned int i = 0; i < n; i++)
			bytes += batch->run.len[i];
		counters->rx_bytes += bytes - n * (uint64_t)GUEST_RUN_HEADER_LEN;
		vring_run_return_read(&queue->ring->device, &batch->run, n);
		vring_device_publish(&queue->ring->device);
		return;
	}
	if (unlikely(queue->is_announcing))
		announcement_end(queue, n);
	for (unsigned int i = 0; i < n; i++)
		counters->rx_bytes += batch->frames[i].len;
	/* Counted here and not when found: buffers that stay in the ring are parsed again. */
	if (unlikely(batch->n_refused > 0)) {
		for (unsigned int i = 0; i < batch->n_buffers_done[n]; i++) {
			if (batch->verdicts[i] != N_DROP_REASONS)
				counters->drops[batch->verdicts[i]]++;
		}
	}
	vring_device_return(&queue->ring->device, &batch->burst, batch->n_buffers_done[n]);
	vring_device_publish(&queue->ring->device);
}

/*
 * The call eventfd was made non-blocking, but that is a property of the open file, which the peer shares and can take
 * back; with its counter full a write then sleeps. Whoever watches over the workers (workers_watch()) interrupts it,
 * and the peer that did this loses its port.
 */
static void call_driver(struct port *port, const struct vu_ring *ring, struct guest_caller *caller,
	bool *is_alarm_said)
{
	if (!msix_notify(caller->msix, caller->vector) ||
		__atomic_load_n(&caller->blocks, __ATOMIC_RELAXED))
		return;
	/* Workers that share the queue may count at the same time. */
	__atomic_fetch_add(&caller->n_calls, 1, __ATOMIC_RELAXED);
	/* EAGAIN: the counter is full, so a notification is pending anyway. */
	if (eventfd_write(ring->call_fd, 1) != 0 && errno == EINTR) {
		__atomic_store_n(&caller->blocks, true, __ATOMIC_RELAXED);
		port_alarm(port, is_alarm_said);
	}
}

static void guest_rx_notify(struct rx_queue *base)
{
	struct guest_rx_queue *queue = (struct guest_rx_queue *)base;

	if (vring_device_wants_call(&queue->ring->device))
		call_driver(base->port, queue->ring, &queue->caller, &queue->is_alarm_said);
}

/* The wish for kicks was changed. */
static void note_wish(const struct vu_ring *ring)
{
	if (unlikely(ring->dirty.log != NULL))
		vring_dirty_wish(&ring->dirty, &ring->device);
}

static void guest_rx_arm(struct rx_queue *base, bool wanted)
{
	struct vu_ring *ring = ((struct guest_rx_queue *)base)->ring;

	vring_device_set_kick(&ring->device, wanted);
	note_wish(ring);
}

static bool guest_rx_is_ready(struct rx_queue *base)
{
	const struct guest_rx_queue *queue = (struct guest_rx_queue *)base;

	return vring_device_has_available(&queue->ring->device) ||
	       __atomic_load_n(&queue->announce, __ATOMIC_ACQUIRE);
}

static void guest_tx_arm(struct tx_queue *base, bool wanted)
{
	struct vu_ring *ring = ((struct guest_tx_queue *)base)->ring;

	if (wanted)
		vring_device_set_kick_behind(&ring->device);
	else
		vring_device_set_kick(&ring->device, false);
	note_wish(ring);
}

static unsigned int guest_tx_room(struct tx_queue *base)
{
	const struct vring_device *device = &((struct guest_tx_queue *)base)->ring->device;
	unsigned int n = vring_device_backlog(device);

	return n < device->size ? n : UINT_MAX;
}

static void guest_tx_notify(struct tx_queue *base)
{
	struct guest_tx_queue *queue = (struct guest_tx_queue *)base;

	if (vring_device_wants_call(&queue->ring->device))
		call_driver(base->port, queue->ring, &queue->caller, &queue->is_alarm_said);
}

static void guest_tx_notify_shared(struct tx_queue *base)
{
	struct guest_tx_queue *queue = (struct guest_tx_queue *)base;
	bool wants_call;

	tx_queue_lock(base);
	wants_call = vring_device_wants_call(&queue->ring->device);
	tx_queue_unlock(base);
	if (wants_call)
		call_driver(base->port, queue->ring, &queue->caller, &queue->is_alarm_said);
}

#define RARP_BYTES 60

/* A burst of one frame that took no buffer: a RARP request for the guest's own address (RFC 903). */
static unsigned int announcement_make(struct guest_rx_queue *queue, struct frame_batch *batch)
{
	static const uint8_t request[] = { 0x80, 0x35, 0, 1, 0x08, 0x00, 6, 4, 0, 3 };
	const uint8_t *mac = queue->announce_mac;
	struct frame *frame = &batch->frames[0];
	uint8_t *head = batch->rooms[0].head;

	memset(head, 0, FRAME_HEAD_PLAIN);
	memset(head, 0xff, 6);
	memcpy(&head[6], mac, 6);
	memcpy(&head[12], request, sizeof(request));
	memcpy(&head[22], mac, 6);
	memcpy(&head[32], mac, 6);
	*frame = (struct frame){ .head = head, .len = RARP_BYTES, .head_len = RARP_BYTES };
	batch->needs = 0;
	batch->is_run = false;
	batch->is_one_flow = false;
	batch->is_preset = false;
	batch->burst.n = 0;
	batch->n_refused = 0;
	batch->n_buffers_done[0] = batch->n_buffers_done[1] = 0;
	queue->is_announcing = true;
	return 1;
}

void guest_rx_queue_announce(struct guest_rx_queue *queue, const uint8_t mac[6])
{
	/* One that is still on its way is as good as a second. */
	if (__atomic_load_n(&queue->announce, __ATOMIC_ACQUIRE))
		return;
	memcpy(queue->announce_mac, mac, 6);
	__atomic_store_n(&queue->announce, true, __ATOMIC_RELEASE);
}

static unsigned int guest_receive(struct rx_queue *base, struct port_counters *counters,
	struct frame_batch *batch, unsigned int max)
{
	struct guest_rx_queue *queue = (struct guest_rx_queue *)base;
	unsigned int n_frames = 0;
	int n;

	if (unlikely(__atomic_load_n(&queue->announce, __ATOMIC_ACQUIRE)))
		return announcement_make(queue, batch);
	if (likely(queue->run != NULL && queue->ring->enabled)) {
		n = queue->run->receive(queue, batch, max);
		if (likely(n >= 0))
			return (unsigned int)n;
	}
	n = vring_device_peek(&queue->ring->device, &batch->burst, VRING_READABLE, max);
	if (unlikely(n < 0))
		port_alarm(base->port, &queue->is_alarm_said); /* broken */
	if (n <= 0)
		return 0;

	batch->needs = 0;
	batch->is_run = false;
	batch->is_one_flow = false;
	batch->is_preset = false;
	batch->n_buffers_done[0] = 0;
	for (int i = 0; i < n; i++) {
		struct frame *frame = &batch->frames[n_frames];

		batch->verdicts[i] = guest_frame_take(
			queue, &batch->burst.buffers[i], frame, &batch->rooms[n_frames]);
		if (batch->verdicts[i] == N_DROP_REASONS) {
			batch->needs |= frame->needs;
			n_frames++;
		}
		/* A dropped buffer goes back with the frame before it. */
		batch->n_buffers_done[n_frames] = (uint16_t)(i + 1);
	}
	batch->n_refused = (uint16_t)n - (uint16_t)n_frames;
	if (unlikely(!queue->ring->enabled)) {
		/* Started but disabled: the guest's frames are consumed and go nowhere (vhost-user, "Ring states"). */
		counters->drops[DROP_QUEUE_DISABLED] += n_frames;
	} else if (likely(n_frames > 0)) {
		return n_frames;
	}
	base->release(base, counters, batch, n_frames);
	vring_fence();
	guest_rx_notify(base);
	return 0;
}

/* The granted buffers of one frame, into which bytes are put in order. */
struct scatter {
	struct vring_buffer *buffer;
	struct vring_piece *piece;
	unsigned int n_pieces; /* of this buffer, from `piece` on */
	uint32_t offset;       /* into `piece` */
};

static void scatter_bytes(struct scatter *to, const void *bytes, uint32_t len)
{
	const uint8_t *in = bytes;

	while (len > 0) {
		uint32_t part;

		if (to->offset == to->piece->len) {
			to->offset = 0;
			to->piece++;
			if (--to->n_pieces == 0) {
				to->buffer++;
				to->piece = to->buffer->pieces;
				to->n_pieces = to->buffer->n_pieces;
			}
		}
		part = RTE_MIN(len, to->piece->len - to->offset);
		memcpy(to->piece->hva + to->offset, in, part);
		to->buffer->used_len += part;
		to->offset += part;
		in += part;
		len -= part;
	}
}

static void frame_scatter(const struct frame *frame, const void *header, uint32_t header_len,
	struct vring_buffer *buffers)
{
	struct scatter to = {
		.buffer = buffers,
		.piece = buffers->pieces,
		.n_pieces = buffers->n_pieces,
	};

	scatter_bytes(&to, header, header_len);
	scatter_bytes(&to, frame->head, frame->head_len);
	for (unsigned int i = 0; i < frame->n_pieces; i++)
		scatter_bytes(&to, frame->pieces[i].hva, frame->pieces[i].len);
}

/* Copies a frame into the buffers granted to it. */
static __rte_always_inline void frame_give(const struct guest_tx_queue *queue,
	const struct frame *frame, struct vring_buffer *buffers, uint16_t n_buffers)
{
	struct virtio_net_hdr_mrg_rxbuf header = {
		.hdr = frame->offload,
		.num_buffers = n_buffers,
	};
	uint32_t header_len = queue->header_len;
	uint8_t *to = buffers->pieces[0].hva;

	if (unlikely(!queue->checks_csum))
		header.hdr.flags &= (uint8_t)~VIRTIO_NET_HDR_F_DATA_VALID;
	if (unlikely(n_buffers != 1 || buffers->n_pieces != 1 || header_len != sizeof(header))) {
		frame_scatter(frame, &header, header_len, buffers);
		return;
	}
	memcpy(to, &header, sizeof(header));
	to += sizeof(header);
	if (likely(frame->head_len == FRAME_HEAD_PLAIN))
		memcpy(to, frame->head, FRAME_HEAD_PLAIN);
	else
		memcpy(to, frame->head, frame->head_len);
	to += frame->head_len;
	for (unsigned int i = 0; i < frame->n_pieces; i++) {
		memcpy(to, frame->pieces[i].hva, frame->pieces[i].len);
		to += frame->pieces[i].len;
	}
	buffers->used_len = (uint32_t)sizeof(header) + frame->len;
}

/* Whether the frame is longer than the guest was told frames can be. Segmentation is the guest's with a GSO frame. */
static bool frame_is_over_mtu(const struct frame *frame, uint16_t mtu)
{
	return frame->offload.gso_type == VIRTIO_NET_HDR_GSO_NONE &&
	       frame->len > (uint32_t)mtu + FRAME_LEN_MIN + (frame->tagged ? 4 : 0);
}

/* Frames and buffers of any shape. `shared`: the queue has other senders (vring/ticket.h). */
static __rte_always_inline unsigned int send_general(struct guest_tx_queue *queue,
	struct port_counters *counters, struct frame *const *frames, unsigned int n, bool shared)
{
	const struct vring_dirty *dirty = &queue->ring->dirty;
	struct vring_device *device = &queue->ring->device;
	struct vring_grant grants[FRAME_BURST];
	uint32_t lengths[FRAME_BURST];
	uint8_t taken[FRAME_BURST]; /* index in frames[] of those that may go */
	unsigned int n_taken = 0;
	uint16_t mtu = queue->base.port->mtu;
	uint64_t n_bytes = 0;
	struct vring_ticket ticket;
	struct vring_device *view = shared ? &ticket.ring : device;
	struct vring_burst burst;
	uint16_t from;
	int n_dealt;

	for (unsigned int i = 0; i < n; i++) {
		if (unlikely(mtu != 0 && frame_is_over_mtu(frames[i], mtu)))
			continue;
		taken[n_taken] = (uint8_t)i;
		lengths[n_taken++] = queue->header_len + frames[i]->len;
	}
	if (shared)
		tx_queue_lock(&queue->base);
	n_dealt = vring_device_reserve(device, &burst, lengths, n_taken, grants);
	if (shared) {
		if (burst.n > 0)
			vring_ticket_draw(&queue->tickets, device, &ticket, &burst);
		tx_queue_unlock(&queue->base);
	}
	if (unlikely(n_dealt < 0)) {
		/* Broken; the control thread takes the ring out of the plan. */
		port_alarm(queue->base.port, &queue->is_alarm_said);
		return 0;
	}

	for (int i = 0; i < n_dealt; i++) {
		const struct frame *frame = frames[taken[i]];

		if (unlikely(grants[i].n == 0)) {
			counters->drops[DROP_BUFFER_TOO_SMALL]++;
			continue;
		}
		frame_give(queue, frame, &burst.buffers[grants[i].first], grants[i].n);
		counters->tx_packets++;
		n_bytes += frame->len;
	}
	counters->tx_bytes += n_bytes;
	if (burst.n > 0) {
		from = view->used_idx;
		vring_device_return(view, &burst, burst.n);
		if (shared) {
			tx_queue_lock(&queue->base);
			vring_ticket_commit(&queue->tickets, device, &ticket);
			tx_queue_unlock(&queue->base);
		} else {
			vring_device_publish(device);
		}
		if (unlikely(dirty->log != NULL))
			vring_dirty_burst(dirty, view, &burst, burst.n, from);
	}
	n = (unsigned int)n_dealt == n_taken ? n : taken[n_dealt];
	counters->drops[DROP_OVER_MTU] += n - (unsigned int)n_dealt;
	return n;
}

/* Not inlined: a burst is tens of kilobytes of stack, which runs do without. */
static __rte_noinline unsigned int send_any(struct guest_tx_queue *queue,
	struct port_counters *counters, struct frame *const *frames, unsigned int n)
{
	return send_general(queue, counters, frames, n, false);
}

static __rte_noinline unsigned int send_any_shared(struct guest_tx_queue *queue,
	struct port_counters *counters, struct frame *const *frames, unsigned int n)
{
	return send_general(queue, counters, frames, n, true);
}

/* The fast way as far as it goes, then the other. */
static __rte_always_inline unsigned int send(struct tx_queue *base, struct port_counters *counters,
	struct frame *const *frames, unsigned int n, bool logged, bool shared)
{
	struct guest_tx_queue *queue = (struct guest_tx_queue *)base;
	unsigned int n_done = queue->run != NULL ?
				      queue->run->send[logged][shared](queue, counters, frames, n) :
				      0;

	if (unlikely(n_done < n))
		n_done += (shared ? send_any_shared : send_any)(
			queue, counters, frames + n_done, n - n_done);
	return n_done;
}

static unsigned int guest_send(struct tx_queue *base, struct port_counters *counters,
	struct frame *const *frames, unsigned int n)
{
	return send(base, counters, frames, n, false, false);
}

static unsigned int guest_send_shared(struct tx_queue *base, struct port_counters *counters,
	struct frame *const *frames, unsigned int n)
{
	return send(base, counters, frames, n, false, true);
}

static unsigned int guest_send_logged(struct tx_queue *base, struct port_counters *counters,
	struct frame *const *frames, unsigned int n)
{
	return send(base, counters, frames, n, true, false);
}

static unsigned int guest_send_shared_logged(struct tx_queue *base, struct port_counters *counters,
	struct frame *const *frames, unsigned int n)
{
	return send(base, counters, frames, n, true, true);
}

/* While the guest is migrated: used entries are writes to its memory too. */
static void guest_release_logged(struct rx_queue *base, struct port_counters *counters,
	struct frame_batch *batch, unsigned int n)
{
	struct vu_ring *ring = ((struct guest_rx_queue *)base)->ring;
	uint16_t from = ring->device.used_idx;

	guest_release(base, counters, batch, n);
	if (ring->device.used_idx != from)
		vring_dirty_used(&ring->dirty, &ring->device, from);
}

static const struct guest_run_ops *run_choose(uint16_t header_len, bool offloads)
{
	static const struct guest_run_ops *const instances[VRING_N_ISAS] = {
		[VRING_ISA_PORTABLE] = guest_run_portable,
#ifdef VRING_HAS_AVX
		[VRING_ISA_AVX2] = guest_run_avx2,
		[VRING_ISA_AVX512] = guest_run_avx512,
#endif
	};

	return header_len == GUEST_RUN_HEADER_LEN ? &instances[vring_isa_best()][offloads] : NULL;
}

void guest_rx_queue_update(struct guest_rx_queue *queue)
{
	queue->run = run_choose(queue->header_len, queue->offloads != 0);
	queue->base.release = queue->ring->dirty.log != NULL ? guest_release_logged : guest_release;
}

void guest_tx_queue_update(struct guest_tx_queue *queue)
{
	bool logged = queue->ring->dirty.log != NULL;

	queue->run = run_choose(queue->header_len, false);
	queue->base.send = logged ? guest_send_logged : guest_send;
	queue->base.send_shared = logged ? guest_send_shared_logged : guest_send_shared;
}

void guest_rx_queue_init(struct guest_rx_queue *queue)
{
	queue->base.receive = guest_receive;
	queue->base.release = guest_release;
	queue->base.notify = guest_rx_notify;
	queue->base.arm = guest_rx_arm;
	queue->base.is_ready = guest_rx_is_ready;
}

void guest_tx_queue_init(struct guest_tx_queue *queue)
{
	queue->base.send = guest_send;
	queue->base.notify = guest_tx_notify;
	queue->base.send_shared = guest_send_shared;
	queue->base.notify_shared = guest_tx_notify_shared;
	queue->base.arm = guest_tx_arm;
	queue->base.room = guest_tx_room;
	queue->base.full_reason = DROP_GUEST_NO_BUFFERS;
	rte_spinlock_init(&queue->base.lock);
}
