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
	histogram_add(&direction->latency, now - record->tsc, 1);
}

/* Its number is that of the MAC address it came from. */
static void count_warmup(struct direction *direction, unsigned int flow_number, uint32_t address)
{
	unsigned int queue = FRAME_WARMUP_FLOW - flow_number;

	if (queue >= OPTIONS_MAX_QUEUES || address >= direction->received.n_addresses) {
		count_fault(direction, FRAME_FAULT_RECORD);
		return;
	}
	direction->queues[queue].n_warmup++;
	direction_learn(direction, address);
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
		if ((ntohl(frame_load32(frame + format->l4 + 4)) & 0xffff) == 0 &&
			size >= format->payload + FRAME_RECORD_LEN)
			count_warmup(direction, flow_number, frame_load32(frame + format->payload));
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
		count_warmup(direction, flow_number, record.seq);
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
	if (likely(--receiver->until_verify != 0))
		return false;
	receiver->until_verify = receiver->verify_every;
	return receiver->verify_every != 0;
}

/*
 * Good frames that follow each other: of one length and one flow, sent in one burst, with consecutive numbers that lie
 * between two multiples of 64. What they have in common is looked up and noted once.
 */
struct receive_run {
	uint64_t tsc;
	uint64_t burst_mix;
	uint64_t common; /* what ports and size contribute to the check word: its lower half */
	uint32_t len; /* of the buffer; 0: none yet */
	uint32_t ports;
	unsigned int flow_number;
	uint32_t first;
	uint32_t next; /* first: none yet */
};

/* Notes the frames gathered, and begins anew with number `next`. */
static void run_end(struct direction *direction, struct receive_run *run, uint32_t next, uint64_t now)
{
	uint32_t n = run->next - run->first;
	uint32_t size = run->len - OFFLOAD_HEADER_LEN;
	struct direction_flow *flow = &direction->flows[run->flow_number];
	struct frame_record record = {.seq = run->first, .tsc = run->tsc};

	run->first = run->next = next;
	for (; n > 0; n--, record.seq++) {
		if (likely(flow_receive_run(&flow->window, record.seq, n))) {
			direction->queues[flow->queue].n_settled += n;
			direction->counters.n_received += n;
			direction->counters.received_bytes += (uint64_t)n * size;
			histogram_add(&direction->latency, now - record.tsc, n);
			return;
		}
		settle(direction, run->flow_number, &record, size, now);
	}
}

/* Begins a run of frames with this length, these ports and this stamp. False: they are for receive_carefully(). */
static bool run_begin(const struct direction *direction, struct receive_run *run, uint32_t len, uint32_t ports,
	uint64_t tsc)
{
	const struct frame_format *format = &direction->received;

	run->len = 0;
	if (format->tcp || len < OFFLOAD_HEADER_LEN + FRAME_SIZE_MIN + FRAME_VLAN_LEN)
		return false;
	run->flow_number = (uint16_t)(ntohs((uint16_t)ports) - FRAME_PORT_BASE);
	if (run->flow_number >= direction->n_flows)
		return false;
	run->len = len;
	run->ports = ports;
	run->tsc = tsc;
	run->burst_mix = frame_burst_mix(format->seed, tsc);
	run->common = frame_numbers(0, ports) ^ frame_identity(0, frame_bare_size(format, len - OFFLOAD_HEADER_LEN));
	return true;
}

/*
 * A frame with nothing special about it, whose UDP header lies at `udp`, and a good record. False: it is for
 * receive_carefully(). All that is read lies in the smallest buffer there is, whatever `len` says.
 */
static inline bool run_add(
	struct direction *direction, struct receive_run *run, const uint8_t *udp, uint32_t len, uint64_t now)
{
	uint32_t ports = frame_load32(udp);
	uint16_t id = frame_load16(udp - FRAME_IP_LEN + 4);
	struct frame_record record;
	uint64_t check;

	memcpy(&record, udp + FRAME_UDP_LEN, sizeof(record));
	if (unlikely(record.tsc != run->tsc || len != run->len || ports != run->ports)) {
		run_end(direction, run, record.seq, now);
		if (!run_begin(direction, run, len, ports, record.tsc))
			return false;
	}
	check = frame_check_finish(run->burst_mix + (run->common | (uint64_t)(record.seq ^ id) << 32));
	if (unlikely((uint32_t)(check >> 32) != record.check))
		return false;
	if (unlikely(record.seq != run->next || record.seq % 64 == 0))
		run_end(direction, run, record.seq, now);
	run->next = record.seq + 1;
	return true;
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
		const struct receiver_part *part = &receiver->parts[i];

		/* 5.1.6.4.1: all but the last are filled. */
		if (i + 1 < receiver->n_parts && part->len != receiver->ring->buffer_bytes)
			count_fault(receiver->direction, FRAME_FAULT_HEADER);
		memcpy(receiver->frame + done, session_buffer(receiver->ring, part->slot),
			part->len);
		done += part->len;
	}
	receive_carefully(receiver, receiver->frame, done, now, is_time_to_verify(receiver));
}

/* Returns how many buffers were finished with and are now in `slots`. */
static __attribute__((noinline)) unsigned int receive_spread(
	struct receiver *receiver, struct receiver_part part, uint16_t *slots, uint64_t now)
{
	unsigned int n = 0;

	if (receiver->n_wanted == 0) {
		receiver->n_wanted = load_num_buffers(session_buffer(receiver->ring, part.slot));
		receiver->n_parts = 0;
		receiver->parts_len = 0;
		if (receiver->n_wanted == 0 || receiver->n_wanted > receiver->ring->ring.n_slots) {
			count_fault(receiver->direction, FRAME_FAULT_HEADER);
			receiver->n_wanted = 0;
			slots[0] = part.slot;
			return 1;
		}
	}
	receiver->parts[receiver->n_parts++] = part;
	receiver->parts_len += part.len;
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

/* Not 0 where the header says anything: flags, gso_type, hdr_len, gso_size, csum_start. */
static inline uint64_t special_words(const uint8_t *buffer)
{
	uint64_t words;

	memcpy(&words, buffer, sizeof(words));
	return words;
}

/* Frames whose first cache line is asked for before their turn. Behind the used slots others are named: harmless. */
#define PREFETCH_AHEAD 4

int receiver_poll(struct receiver *receiver, unsigned int max, uint64_t now)
{
	struct session_ring *entry = receiver->ring;
	struct direction *direction = receiver->direction;
	uint8_t *const *buffers = entry->buffers;
	const uint16_t *used = receiver->used;
	const uint32_t *lens = receiver->lens;
	uint16_t *slots = receiver->slots;
	uint32_t udp_at = OFFLOAD_HEADER_LEN + direction->received.l4;
	struct receive_run run = {0};
	unsigned int n_done = 0;
	int n = vring_fixed_collect(&entry->ring, receiver->used, receiver->lens, max);

	if (n <= 0)
		return n;
	for (int i = 0; i < PREFETCH_AHEAD; i++)
		__builtin_prefetch(buffers[used[i]] + OFFLOAD_HEADER_LEN);
	for (int i = 0; i < n; i++) {
		uint16_t slot = used[i];
		const uint8_t *buffer = buffers[slot];
		bool look_at_all;

		__builtin_prefetch(buffers[used[i + PREFETCH_AHEAD]] + OFFLOAD_HEADER_LEN);
		if (unlikely(receiver->n_wanted != 0 ||
			     (load_num_buffers(buffer) != 1 && direction->mergeable))) {
			run_end(direction, &run, 0, now);
			n_done += receive_spread(receiver, (struct receiver_part){slot, lens[i]}, slots + n_done, now);
			continue;
		}
		look_at_all = is_time_to_verify(receiver);
		if (unlikely(look_at_all || special_words(buffer) != 0 ||
			     !run_add(direction, &run, buffer + udp_at, lens[i], now))) {
			run_end(direction, &run, 0, now);
			receive_carefully(receiver, buffer, lens[i], now, look_at_all);
		}
		slots[n_done++] = slot;
	}
	run_end(direction, &run, 0, now);
	vring_fixed_offer(&entry->ring, slots, n_done);
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
		.verify_every = options->verify == VERIFY_ALL       ? 1
				: options->verify == VERIFY_SAMPLED ? VERIFY_SAMPLE_EVERY
								    : 0,
		.parts = calloc(n_slots, sizeof(*receiver->parts)),
		.used = calloc(n_slots + PREFETCH_AHEAD, sizeof(*receiver->used)),
		.lens = calloc(n_slots, sizeof(*receiver->lens)),
		.slots = calloc(2 * n_slots, sizeof(*receiver->slots)),
		.frame = malloc(RECEIVE_MAX),
	};
	receiver->until_verify = receiver->verify_every;
	if (receiver->parts == NULL || receiver->used == NULL || receiver->lens == NULL || receiver->slots == NULL ||
		receiver->frame == NULL)
		return -ENOMEM;
	return 0;
}

void receiver_fini(struct receiver *receiver)
{
	free(receiver->parts);
	free(receiver->used);
	free(receiver->lens);
	free(receiver->slots);
	free(receiver->frame);
}
