/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The device side of a ring, split or packed, against a guest made of noise: a sequence of calls and pokes. What is parsed
 * is compared with a naive reading of the same memory, byte by byte.
 */
#include <errno.h>
#include <string.h>

#include "noise.h"

static struct vring_burst burst;

/* The naive side: one byte at a time, no cache, no fast path. */

static const uint8_t *byte_at(uint64_t gpa)
{
	for (unsigned int i = 0; i < noise_memory.mem.n_regions; i++) {
		if (gpa >= noise_gpas[i] && gpa - noise_gpas[i] < NOISE_PAGE)
			return noise_memory.regions[i].hva + (gpa - noise_gpas[i]);
	}
	return NULL;
}

struct naive {
	bool good;
	bool ends; /* packed: the chain has an end, and so an id */
	uint64_t len;
	unsigned int n_descs;
	unsigned int n_slots; /* packed */
	uint16_t id;
	const uint8_t *bytes[64 * 4 * NOISE_PAGE]; /* where each byte of the buffer lies */
};

static struct naive naive;

static bool naive_add(const struct vring_device *ring, const struct vring_desc *desc,
	enum vring_direction direction)
{
	if (((desc->flags & VRING_DESC_F_WRITE) != 0) != (direction == VRING_WRITABLE))
		return false;
	if (++naive.n_descs > ring->size)
		return false;
	for (uint32_t i = 0; i < desc->len; i++) {
		const uint8_t *byte = byte_at(desc->addr + i);

		if (byte == NULL || desc->addr + i < desc->addr)
			return false;
		naive.bytes[naive.len++] = byte;
	}
	return true;
}

/* Entry `at` of the table that `head` names, in the layout's own order. */
static bool naive_entry(
	const struct vring_device *ring, const struct vring_desc *head, unsigned int at, struct vring_desc *entry)
{
	uint8_t bytes[16];

	for (unsigned int i = 0; i < 16; i++) {
		uint64_t gpa = head->addr + 16 * at + i;
		const uint8_t *byte = byte_at(gpa);

		if (byte == NULL || gpa < head->addr)
			return false;
		bytes[i] = *byte;
	}
	memcpy(entry, bytes, sizeof(*entry));
	/* Id and flags; of the latter only one says anything (2.8.7). */
	if (ring->packed)
		entry->flags = entry->next & VRING_DESC_F_WRITE;
	return true;
}

static bool naive_table(const struct vring_device *ring, const struct vring_desc *head,
	enum vring_direction direction)
{
	unsigned int n = head->len / 16;
	unsigned int at = 0;

	if (!ring->indirect || (head->flags & VRING_DESC_F_NEXT) != 0 || head->len % 16 != 0 ||
		n == 0 || n > ring->size)
		return false;
	for (unsigned int n_seen = 0; n_seen < n; n_seen++) {
		struct vring_desc desc;

		if (!naive_entry(ring, head, at, &desc))
			return false;
		if ((desc.flags & VRING_DESC_F_INDIRECT) != 0 || !naive_add(ring, &desc, direction))
			return false;
		if (ring->packed) {
			at++;
			continue;
		}
		if ((desc.flags & VRING_DESC_F_NEXT) == 0)
			return true;
		at = desc.next;
		if (at >= n)
			return false;
	}
	return ring->packed;
}

/* The buffer that begins n_before slots after the next available one. */
static void naive_parse_packed(const struct vring_device *ring, unsigned int n_before,
	enum vring_direction direction)
{
	const struct vring_packed_desc *slots = (const struct vring_packed_desc *)(const void *)ring->desc;
	uint32_t min_len = direction == VRING_WRITABLE ? ring->writable_min_len : 1;

	memset(&naive, 0, offsetof(struct naive, bytes));
	naive.good = true;
	while (!naive.ends && n_before + naive.n_slots < ring->size) {
		unsigned int at = (ring->last_avail_idx & 0x7fff) + n_before + naive.n_slots;
		bool wrap = (ring->last_avail_idx >> 15) ^ (at >= ring->size);
		const struct vring_packed_desc *slot = &slots[at % ring->size];
		struct vring_desc desc = {.addr = slot->addr, .len = slot->len, .flags = slot->flags};

		if (!noise_is_available(slot, wrap))
			break;
		naive.n_slots++;
		if ((desc.flags & VRING_DESC_F_INDIRECT) != 0)
			naive.good = naive.good && naive_table(ring, &desc, direction);
		else
			naive.good = naive.good && naive_add(ring, &desc, direction);
		naive.ends = (desc.flags & VRING_DESC_F_NEXT) == 0;
		naive.id = slot->id;
	}
	naive.good = naive.good && naive.ends && naive.len >= min_len;
}

static void naive_parse(const struct vring_device *ring, uint16_t head,
	enum vring_direction direction)
{
	uint32_t min_len = direction == VRING_WRITABLE ? ring->writable_min_len : 1;

	naive.good = false;
	naive.len = 0;
	naive.n_descs = 0;
	for (unsigned int at = head, n_seen = 0; n_seen < ring->size; n_seen++) {
		struct vring_desc desc = ring->desc[at];

		if ((desc.flags & VRING_DESC_F_INDIRECT) != 0) {
			naive.good = naive_table(ring, &desc, direction);
			break;
		}
		if (!naive_add(ring, &desc, direction))
			break;
		naive.good = (desc.flags & VRING_DESC_F_NEXT) == 0;
		at = desc.next;
		if (naive.good || at >= ring->size)
			break;
	}
	naive.good = naive.good && naive.len >= min_len;
}

/* Whether a table could have been refused for entries the naive reading never reaches. */
static bool table_may_stick_out(const struct vring_device *ring, uint16_t head)
{
	for (unsigned int at = head, n_seen = 0; n_seen < ring->size; n_seen++) {
		struct vring_desc desc = ring->desc[at];

		if ((desc.flags & VRING_DESC_F_INDIRECT) != 0)
			return desc.addr + desc.len < desc.addr;
		if ((desc.flags & VRING_DESC_F_NEXT) == 0 || desc.next >= ring->size)
			return false;
		at = desc.next;
	}
	return false;
}

static void compare(const struct vring_device *ring, enum vring_direction direction)
{
	unsigned int n_pieces = 0;
	unsigned int n_slots = 0;

	require(burst.n <= VRING_BURST_MAX && burst.n <= ring->size, "burst too long");
	for (unsigned int i = 0; i < burst.n; i++) {
		const struct vring_buffer *buffer = &burst.buffers[i];
		uint16_t head = 0;
		uint64_t at = 0;

		if (ring->packed) {
			naive_parse_packed(ring, n_slots, direction);
			require(naive.ends, "took a chain without an end");
			require(buffer->id == naive.id, "id is not the last one's");
			require(buffer->n_descs == naive.n_slots, "wrong number of slots");
			n_slots += naive.n_slots;
		} else {
			head = ring->avail->ring[(uint16_t)(ring->last_avail_idx + i) & ring->mask];
			require(buffer->id == head, "id is not the head");
			require(buffer->n_descs == 1, "a head is one slot");
			naive_parse(ring, head, direction);
		}
		require(buffer->used_len == 0, "used length not 0");
		if (buffer->fault != VRING_OK) {
			require(buffer->len == 0 && buffer->n_pieces == 0, "refused but not empty");
			require(!naive.good || (!ring->packed && table_may_stick_out(ring, head)),
				"refused a good one");
			continue;
		}
		require(naive.good, "took a bad one");
		require(buffer->len == naive.len, "wrong length");
		for (unsigned int p = 0; p < buffer->n_pieces; p++) {
			const struct vring_piece *piece = &buffer->pieces[p];

			require(piece->len > 0, "empty piece");
			for (uint32_t b = 0; b < piece->len; b++, at++)
				require(at < naive.len && &piece->hva[b] == naive.bytes[at],
					"wrong byte");
		}
		require(at == naive.len, "bytes missing");
		n_pieces += buffer->n_pieces;
	}
	require(n_pieces <= burst.n_pieces, "pieces not counted");
}

/* After a call that found nothing: whether that is so, and whether a ring that broke had a reason. */
static void compare_nothing(const struct vring_device *ring, enum vring_direction direction)
{
	if (!ring->packed)
		return;
	naive_parse_packed(ring, 0, direction);
	require(ring->breakage == VRING_INTACT ? naive.n_slots == 0
					       : naive.n_slots > 0 && !naive.ends,
		"nothing where there is something");
}

/* Writes what a caller would, over whatever the pieces overlap. */
static void fill(void)
{
	for (unsigned int i = 0; i < burst.n; i++) {
		for (unsigned int p = 0; p < burst.buffers[i].n_pieces; p++)
			memset(burst.buffers[i].pieces[p].hva, (int)i, burst.buffers[i].pieces[p].len);
		burst.buffers[i].used_len = burst.buffers[i].len;
	}
}

static void reserve(struct vring_device *ring, struct input *input)
{
	uint32_t lengths[16];
	struct vring_grant grants[16];
	unsigned int n = 1 + take(input, 1) % 16;
	unsigned int next = 0;
	int got;

	for (unsigned int i = 0; i < n; i++)
		lengths[i] = 1 + take(input, 2) % 5000;
	got = vring_device_reserve(ring, &burst, lengths, n, grants);
	require(got == -EPROTO ? ring->breakage != VRING_INTACT : got >= 0 && got <= (int)n,
		"reserve answers nonsense");
	compare(ring, VRING_WRITABLE);
	for (int i = 0; i < got; i++) {
		uint64_t len = 0;

		if (grants[i].n == 0)
			continue;
		require(grants[i].first >= next, "grants overlap");
		next = grants[i].first + grants[i].n;
		require(next <= burst.n, "grant beyond the burst");
		for (unsigned int b = grants[i].first; b < next; b++) {
			require(burst.buffers[b].fault == VRING_OK, "refused buffer granted");
			require(len < lengths[i], "more buffers than needed");
			len += burst.buffers[b].len;
		}
		require(len >= lengths[i], "fewer bytes than needed");
		require(ring->mergeable || grants[i].n == 1, "spread without mergeable buffers");
	}
	fill();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input input = {data, size};
	struct vring_device ring;
	struct vring_config config = noise_ring(&input);

	require(vring_device_init(&ring, &config) == 0, "refuses a good configuration");
	while (input.left > 0) {
		uint32_t verb = take(&input, 1);
		enum vring_direction direction = verb & 0x80 ? VRING_WRITABLE : VRING_READABLE;
		uint16_t used_idx = ring.used_idx;
		unsigned int n_slots = 0;
		unsigned int max;
		int n;

		switch (verb % 8) {
		case 0:
		case 1:
			max = take(&input, 1) % 70;
			n = vring_device_peek(&ring, &burst, direction, max);
			require(n == (int)burst.n || (n == -EPROTO && burst.n == 0), "peek miscounts");
			compare(&ring, direction);
			if (n <= 0 && max > 0)
				compare_nothing(&ring, direction);
			if (direction == VRING_WRITABLE)
				fill();
			n = (int)(take(&input, 1) % (burst.n + 1));
			for (int i = 0; i < n; i++)
				n_slots += burst.buffers[i].n_descs;
			vring_device_return(&ring, &burst, (unsigned int)n);
			require(ring.used_idx == (ring.packed ? vring_packed_advance(
								used_idx, n_slots, ring.size)
						      : (uint16_t)(used_idx + n)),
				"return miscounts");
			break;
		case 2:
			reserve(&ring, &input);
			vring_device_return(&ring, &burst, burst.n);
			break;
		case 3:
			vring_device_publish(&ring);
			require(ring.packed || ring.used->idx == ring.used_idx, "index not published");
			require(!ring.packed || (!ring.is_held && ring.published_idx == ring.used_idx),
				"first descriptor not published");
			break;
		case 4:
			vring_device_needs_call(&ring);
			vring_device_set_kick(&ring, verb & 8);
			break;
		case 5:
			require(vring_device_backlog(&ring) <= ring.size, "backlog beyond the ring");
			vring_device_has_available(&ring);
			break;
		default:
			noise_poke(&ring, &input);
		}
		if (ring.breakage != VRING_INTACT) {
			require(vring_device_peek(&ring, &burst, direction, 1) == -EPROTO,
				"broken and yet alive");
			config.avail_idx = ring.last_avail_idx;
			config.used_idx = ring.used_idx;
			require(vring_device_init(&ring, &config) == 0, "does not start again");
		}
	}
	return 0;
}
