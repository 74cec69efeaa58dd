/* SPDX-License-Identifier: BSD-3-Clause */
#include "chain.h"
#include "packed_desc.h"

static int too_long(const struct vring_device *ring, const struct chain *chain)
{
	if (chain->max == VRING_CHAIN_MAX || chain->n_descs >= ring->size)
		return VRING_FAULT_CHAIN;
	return CHAIN_NO_ROOM;
}

/* Adds the bytes of one descriptor, in as many pieces as the regions cut them. */
static int append(struct vring_device *ring, struct private_desc desc, uint64_t wanted,
	struct chain *chain)
{
	uint64_t gpa = desc.addr;
	uint32_t len = desc_len(desc.word);

	if ((desc.word & DESC_WRITE) != wanted)
		return VRING_FAULT_DIRECTION;
	if (chain->n_descs >= ring->size || chain->n_descs >= chain->max)
		return too_long(ring, chain);
	/* Empty descriptors are legal between others (2.7.4.1) and count: they must not make a walk free of charge. */
	chain->n_descs++;
	if (len == 0)
		return VRING_OK;
	chain->len += len;
	if (chain->len > UINT32_MAX)
		return VRING_FAULT_LENGTH;
	if (len - 1 > UINT64_MAX - gpa)
		return VRING_FAULT_ADDRESS;
	while (len > 0) {
		uint64_t n;
		uint8_t *hva = gmem_translate_cached(ring->mem, &ring->cache, gpa, len, &n);

		if (hva == NULL)
			return VRING_FAULT_ADDRESS;
		if (chain->n_pieces >= chain->max)
			return too_long(ring, chain);
		chain->pieces[chain->n_pieces++] =
			(struct vring_piece){.hva = hva, .len = (uint32_t)n};
		gpa += n;
		len -= (uint32_t)n;
	}
	return VRING_OK;
}

/* An indirect table. Usually contiguous for us; otherwise its entries are put together from what each region holds. */
struct table {
	uint64_t gpa;
	const uint8_t *hva;
	uint64_t contiguous; /* bytes from hva on */
	uint32_t n;          /* entries */
};

static bool table_load(struct vring_device *ring, const struct table *table, uint32_t at,
	struct private_desc *entry)
{
	uint64_t offset = at * (uint64_t)sizeof(*entry);
	uint8_t *to = (uint8_t *)entry;

	if (offset + sizeof(*entry) <= table->contiguous) {
		*entry = desc_load_unaligned(table->hva + offset);
		return true;
	}
	for (uint64_t done = 0, n; done < sizeof(*entry); done += n) {
		const void *from = gmem_translate_cached(ring->mem, &ring->cache,
			table->gpa + offset + done, sizeof(*entry) - done, &n);

		if (from == NULL)
			return false;
		memcpy(to + done, from, n);
	}
	__asm__ volatile("" : "+m"(*entry) : : "memory"); /* as in desc_load_unaligned() */
	return true;
}

/* What makes a table one, in either layout. Returns an enum vring_fault. */
static int table_open(struct vring_device *ring, struct private_desc desc, struct table *table)
{
	uint32_t bytes = desc_len(desc.word);

	*table = (struct table){.gpa = desc.addr, .n = bytes / sizeof(struct private_desc)};
	if (!ring->indirect || (desc.word & DESC_NEXT) != 0)
		return VRING_FAULT_INDIRECT;
	if (bytes == 0 || bytes % sizeof(struct private_desc) != 0 || table->n > ring->size)
		return VRING_FAULT_INDIRECT;
	if (bytes - 1 > UINT64_MAX - table->gpa)
		return VRING_FAULT_ADDRESS;
	table->hva = gmem_translate_cached(
		ring->mem, &ring->cache, table->gpa, bytes, &table->contiguous);
	return table->hva != NULL ? VRING_OK : VRING_FAULT_ADDRESS;
}

/* 2.7.5.3: WRITE on the descriptor that names the table is ignored; inside, `next` counts in the table from entry 0. */
static int walk_split_table(struct vring_device *ring, struct private_desc desc, uint64_t wanted,
	struct chain *chain)
{
	struct private_desc entry;
	struct table table;
	uint32_t at = 0;
	int fault = table_open(ring, desc, &table);

	if (fault != VRING_OK)
		return fault;
	/* A loop ends in append(), which counts. */
	for (;;) {
		if (!table_load(ring, &table, at, &entry))
			return VRING_FAULT_ADDRESS;
		if ((entry.word & DESC_INDIRECT) != 0)
			return VRING_FAULT_INDIRECT;
		fault = append(ring, entry, wanted, chain);
		if (fault != VRING_OK)
			return fault;
		if ((entry.word & DESC_NEXT) == 0)
			return VRING_OK;
		at = desc_next(entry.word);
		if (at >= table.n)
			return VRING_FAULT_NEXT;
	}
}

/* 2.8.7: all entries, one after the other, and of their flags only WRITE says anything. */
static int walk_packed_table(struct vring_device *ring, struct private_desc desc, uint64_t wanted,
	struct chain *chain)
{
	struct private_desc entry;
	struct table table;
	int fault = table_open(ring, desc, &table);

	for (uint32_t at = 0; fault == VRING_OK && at < table.n; at++) {
		if (!table_load(ring, &table, at, &entry))
			return VRING_FAULT_ADDRESS;
		entry.word = packed_word_to_private(entry.word);
		fault = append(ring, entry, wanted, chain);
	}
	return fault;
}

int chain_walk_split(
	struct vring_device *ring, uint16_t head, uint64_t wanted, struct chain *chain)
{
	struct private_desc desc = desc_load(&ring->desc[head]);

	for (chain->n_slots = 1;; chain->n_slots++) {
		uint16_t next;
		int fault;

		if ((desc.word & DESC_INDIRECT) != 0)
			return walk_split_table(ring, desc, wanted, chain);
		fault = append(ring, desc, wanted, chain);
		if (fault != VRING_OK)
			return fault;
		if ((desc.word & DESC_NEXT) == 0)
			return VRING_OK;
		next = desc_next(desc.word);
		if (next >= ring->size)
			return VRING_FAULT_NEXT;
		if (chain->n_descs == ring->size)
			return VRING_FAULT_CHAIN;
		desc = desc_load(&ring->desc[next]);
	}
}

/*
 * The id to return stands in the last descriptor (2.8.6), so a bad chain is followed to its end all the same; where that
 * is not in sight there is nothing to return. NEXT leads on from any descriptor, also from one that names a table, where
 * it is not allowed (2.8.19).
 */
int chain_walk_packed(
	struct vring_device *ring, uint16_t position, uint64_t wanted, struct chain *chain)
{
	/* The driver makes all of a chain available before its head, so nothing of it can be missing still. */
	struct private_desc desc = packed_desc_load(packed_desc_at(ring, position));
	int fault = VRING_OK;

	if (!packed_is_available(desc.word, position))
		return CHAIN_NONE;
	for (chain->n_slots = 1;; chain->n_slots++) {
		if (fault == VRING_OK)
			fault = (desc.word & DESC_INDIRECT) != 0
					? walk_packed_table(ring, desc, wanted, chain)
					: append(ring, desc, wanted, chain);
		if (fault == CHAIN_NO_ROOM)
			return fault;
		if ((desc.word & DESC_NEXT) == 0)
			break;
		if (chain->n_before + chain->n_slots >= ring->size || chain->n_slots >= VRING_CHAIN_MAX)
			return CHAIN_ENDLESS;
		if (chain->n_slots >= chain->max)
			return CHAIN_NO_ROOM;
		position = vring_packed_advance(position, 1, ring->size);
		desc = packed_desc_load(packed_desc_at(ring, position));
		if (!packed_is_available(desc.word, position))
			return CHAIN_ENDLESS;
	}
	chain->id = packed_id(desc.word);
	chain->n_taken = chain->n_slots;
	return fault;
}
