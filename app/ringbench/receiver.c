/* SPDX-License-Identifier: BSD-3-Clause */
#include "receiver.h"

#include <errno.h>
#include <stdlib.h>

#define likely(condition)   __builtin_expect(!!(condition), 1)
#define unlikely(condition) __builtin_expect(!!(condition), 0)

/* A frame and its header cannot be longer; a longer sum of used lengths is a lie (E4). */
#define RECEIVE_MAX (OFFLOAD_HEADER_LEN + FRAME_SIZE_MAX + FRAME_VLAN_LEN)

static void count_fault(struct direction *direction, enum frame_fault fault)
{
	direction->counters.n_faults[fault]++;
}

/* ---- One frame ---- */

/* Its record is good: what does its flow say? */
static inline void settle(struct direction *direction, unsigned int flow_number,
	const struct frame_record *record, uint32_t size, uint64_t now)
{
	struct direction_flow *flow = &direction->flows[flow_number];
	struct direction_queue *share = &direction->queues[flow->queue];
	uint64_t lost_before = flow->window.n_lost;
	enum flow_verdict verdict = flow_receive(&flow->window, record->seq);

	if (unlikely(flow->window.n_lost != lost_before))
		direction_settle_lost(share, flow->window.n_lost - lost_before);
	if (unlikely(verdict != FLOW_NEW)) {
		if (verdict == FLOW_UNSENT)
			count_fault(direction, FRAME_FAULT_UNSENT);
		if (verdict != FLOW_DELAYED)
			return;
		if (share->n_suspended != 0)
			share->n_suspended--;
	}
	share->n_settled++;
	direction->counters.n_received++;
	direction->counters.received_bytes += size;
	histogram_add(&direction->latency, now - record->tsc);
}

static void count_warmup(struct direction *direction, unsigned int flow_number)
{
	unsigned int queue = FRAME_WARMUP_FLOW - flow_number;

	if (queue < OPTIONS_MAX_QUEUES)
		direction->queues[queue].n_warmup++;
	else
		count_fault(direction, FRAME_FAULT_RECORD);
}

/* Neither good nor a segment: another's, or damaged. */
static void judge_stray(const struct receiver *receiver, const uint8_t *frame, uint32_t size)
{
	struct direction *direction = receiver->direction;
	const struct frame_format *format = &direction->received;
	uint32_t bare_size = frame_bare_size(format, size);
	struct frame_record record;

	if (size < frame_size_min(format) ||
		ntohs(frame_load16(frame + format->l4 + 2)) != FRAME_PORT_TO) {
		direction->counters.n_foreign++;
		return;
	}
	memcpy(&record, frame + format->payload, sizeof(record));
	for (unsigned int i = 0; i < receiver->n_all; i++) {
		if (frame_record_check(format, frame, bare_size, &record,
			    receiver->all[i].sent.seed) != record.check)
			continue;
		/* Warm-up frames are flooded: a bridge does not know their destination yet. */
		if (frame_flow(format, frame) < FRAME_MAX_FLOWS)
			direction->counters.n_misdirected++;
		return;
	}
	count_fault(direction, FRAME_FAULT_RECORD);
}

static void verify(struct direction *direction, const struct virtio_net_hdr_v1 *header,
	const uint8_t *frame, uint32_t size)
{
	enum frame_fault fault = frame_verify(&direction->received, frame, size);

	if (fault == FRAME_OK)
		fault = offload_check(
			&direction->rules, header, &direction->received, frame, size, true);
	if (fault != FRAME_OK)
		count_fault(direction, fault);
}

static void receive_segment(struct receiver *receiver, const struct virtio_net_hdr_v1 *header,
	const uint8_t *frame, uint32_t size, uint64_t now)
{
	struct direction *direction = receiver->direction;
	const struct frame_format *format = &direction->received;
	unsigned int flow_number = frame_flow(format, frame);
	struct segments *segments;
	enum frame_fault fault;

	if (flow_number >= FRAME_MAX_FLOWS) {
		/* Warm-up: the segment that carries the frame's record stands for the frame. */
		if ((ntohl(frame_load32(frame + format->l4 + 4)) & 0xffff) == 0)
			count_warmup(direction, flow_number);
		return;
	}
	if (flow_number >= direction->n_flows ||
		ntohs(frame_load16(frame + format->l4 + 2)) != FRAME_PORT_TO) {
		judge_stray(receiver, frame, size);
		return;
	}
	fault = offload_check(&direction->rules, header, format, frame, size, true);
	segments = &direction->flows[flow_number].segments;
	switch (segments_add(segments, format, frame, size, direction->frame_payload,
		direction->bare_size, &fault)) {
	case SEGMENTS_COMPLETE:
		direction->counters.n_segmented++;
		settle(direction, flow_number, &segments->record, size, now);
		break;
	case SEGMENTS_PARTIAL:
		direction->counters.received_bytes += size;
		break;
	case SEGMENTS_FAULT:
		break;
	}
	if (fault != FRAME_OK)
		count_fault(direction, fault);
}

/* Where the first compare fails, or the header is not all zero, or every byte is to be looked at.
 */
static __attribute__((noinline)) void receive_carefully(struct receiver *receiver,
	const uint8_t *buffer, uint32_t len, uint64_t now, bool look_at_all)
{
	struct direction *direction = receiver->direction;
	const struct frame_format *format = &direction->received;
	const uint8_t *frame = buffer + OFFLOAD_HEADER_LEN;
	struct virtio_net_hdr_v1 header;
	struct frame_record record;
	unsigned int flow_number;
	enum frame_fault fault;
	uint32_t size;

	if (len < OFFLOAD_HEADER_LEN + frame_size_min(format)) {
		direction->counters.n_foreign++;
		return;
	}
	size = len - OFFLOAD_HEADER_LEN;
	memcpy(&header, buffer, sizeof(header));
	if (format->tcp && size - format->payload < direction->frame_payload) {
		receive_segment(receiver, &header, frame, size, now);
		return;
	}
	if (!frame_is_good(format, frame, frame_bare_size(format, size), &record)) {
		judge_stray(receiver, frame, size);
		return;
	}
	flow_number = frame_flow(format, frame);
	if (flow_number >= direction->n_flows) {
		count_warmup(direction, flow_number);
		return;
	}
	settle(direction, flow_number, &record, size, now);
	if (look_at_all) {
		verify(direction, &header, frame, size);
		return;
	}
	fault = offload_check(&direction->rules, &header, format, frame, size, false);
	if (fault != FRAME_OK)
		count_fault(direction, fault);
}

static bool is_time_to_verify(struct receiver *receiver)
{
	if (receiver->verify_all)
		return true;
	if (likely(--receiver->until_verify != 0))
		return false;
	receiver->until_verify = receiver->verify_every;
	return receiver->verify_every != 0;
}

static inline void receive_frame(
	struct receiver *receiver, const uint8_t *buffer, uint32_t len, uint64_t now)
{
	struct direction *direction = receiver->direction;
	const struct frame_format *format = &direction->received;
	const uint8_t *frame = buffer + OFFLOAD_HEADER_LEN;
	bool look_at_all = is_time_to_verify(receiver);
	struct frame_record record;
	unsigned int flow_number;
	uint64_t offload_words; /* flags, gso_type, hdr_len, gso_size, csum_start */
	uint32_t size;

	memcpy(&offload_words, buffer, sizeof(offload_words));
	size = len - OFFLOAD_HEADER_LEN;
	if (unlikely(look_at_all || offload_words != 0 || format->tcp ||
		     len < OFFLOAD_HEADER_LEN + FRAME_SIZE_MIN + FRAME_VLAN_LEN ||
		     !frame_is_good(format, frame, frame_bare_size(format, size), &record) ||
		     (flow_number = frame_flow(format, frame)) >= direction->n_flows)) {
		receive_carefully(receiver, buffer, len, now, look_at_all);
		return;
	}
	settle(direction, flow_number, &record, size, now);
}

/* ---- Frames over several buffers ---- */

static uint16_t load_num_buffers(const uint8_t *buffer)
{
	return frame_load16(buffer + offsetof(struct virtio_net_hdr_v1, num_buffers));
}

static void receive_parts(struct receiver *receiver, uint64_t now)
{
	uint32_t done = 0;

	for (unsigned int i = 0; i < receiver->n_parts; i++) {
		const struct vring_fixed_used *part = &receiver->parts[i];

		/* 5.1.6.4.1: all but the last are filled. */
		if (i + 1 < receiver->n_parts && part->len != receiver->ring->buffer_bytes)
			count_fault(receiver->direction, FRAME_FAULT_HEADER);
		memcpy(receiver->frame + done, session_buffer(receiver->ring, part->slot),
			part->len);
		done += part->len;
	}
	receive_frame(receiver, receiver->frame, done, now);
}

/* Returns how many buffers were finished with and are now in `slots`. */
static __attribute__((noinline)) unsigned int receive_spread(
	struct receiver *receiver, const struct vring_fixed_used *used, uint16_t *slots, uint64_t now)
{
	unsigned int n = 0;

	if (receiver->n_wanted == 0) {
		receiver->n_wanted = load_num_buffers(session_buffer(receiver->ring, used->slot));
		receiver->n_parts = 0;
		receiver->parts_len = 0;
		if (receiver->n_wanted == 0 || receiver->n_wanted > receiver->ring->ring.n_slots) {
			count_fault(receiver->direction, FRAME_FAULT_HEADER);
			receiver->n_wanted = 0;
			slots[0] = used->slot;
			return 1;
		}
	}
	receiver->parts[receiver->n_parts++] = *used;
	receiver->parts_len += used->len;
	if (receiver->n_parts < receiver->n_wanted && receiver->parts_len <= RECEIVE_MAX)
		return 0;
	if (receiver->parts_len > RECEIVE_MAX)
		count_fault(receiver->direction, FRAME_FAULT_HEADER);
	else
		receive_parts(receiver, now);
	for (; n < receiver->n_parts; n++)
		slots[n] = receiver->parts[n].slot;
	receiver->n_wanted = 0;
	return n;
}

/* ---- The ring ---- */

int receiver_poll(struct receiver *receiver, unsigned int max, uint64_t now)
{
	struct session_ring *entry = receiver->ring;
	bool mergeable = receiver->direction->mergeable;
	unsigned int n_done = 0;
	int n = vring_fixed_collect(&entry->ring, receiver->used, max);

	if (n <= 0)
		return n;
	for (int i = 0; i < n; i++)
		__builtin_prefetch(
			session_buffer(entry, receiver->used[i].slot) + OFFLOAD_HEADER_LEN);
	for (int i = 0; i < n; i++) {
		const uint8_t *buffer = session_buffer(entry, receiver->used[i].slot);

		if (unlikely(mergeable &&
			     (receiver->n_wanted != 0 || load_num_buffers(buffer) != 1))) {
			n_done += receive_spread(
				receiver, &receiver->used[i], receiver->slots + n_done, now);
			continue;
		}
		receive_frame(receiver, buffer, receiver->used[i].len, now);
		receiver->slots[n_done++] = receiver->used[i].slot;
	}
	vring_fixed_offer(&entry->ring, receiver->slots, n_done);
	vring_fixed_publish(&entry->ring);
	if (vring_fixed_needs_kick(&entry->ring))
		session_kick(entry);
	return n;
}

int receiver_init(struct receiver *receiver, struct session_ring *ring, struct direction *direction,
	const struct options *options)
{
	unsigned int n_slots = ring->ring.n_slots;

	*receiver = (struct receiver){
		.ring = ring,
		.direction = direction,
		.verify_all = options->verify == VERIFY_ALL,
		.verify_every = options->verify == VERIFY_SAMPLED ? VERIFY_SAMPLE_EVERY : 0,
		.parts = calloc(n_slots, sizeof(*receiver->parts)),
		.used = calloc(n_slots, sizeof(*receiver->used)),
		.slots = calloc(2 * n_slots, sizeof(*receiver->slots)),
		.frame = malloc(RECEIVE_MAX),
	};
	receiver->until_verify = receiver->verify_every;
	if (receiver->parts == NULL || receiver->used == NULL || receiver->slots == NULL ||
		receiver->frame == NULL)
		return -ENOMEM;
	return 0;
}

void receiver_fini(struct receiver *receiver)
{
	free(receiver->parts);
	free(receiver->used);
	free(receiver->slots);
	free(receiver->frame);
}
