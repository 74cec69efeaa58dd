/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Back-end handlers for guest memory. The new table is built, and everything about it checked,
 * while the rings still run on the old one; only the change itself happens between quiesce and
 * resume. Ring addresses are looked up again in the new table: a ring whose memory went away waits
 * until it is back.
 */
#include <errno.h>

#include "backend_private.h"

/* Takes over `mem`. 0, or a refusal. */
static int memory_replace(struct vu_backend *session, struct gmem *mem)
{
	struct gmem *old = session->mem;
	int ret = backend_log_check(session, session->features, mem);

	if (ret < 0) {
		gmem_free(mem);
		return ret;
	}
	session->ops->quiesce(session->ctx);
	for (unsigned int i = 0; i < session->n_rings; i++)
		backend_ring_suspend(session, i);
	session->mem = mem;
	for (unsigned int i = 0; i < session->n_rings; i++)
		backend_ring_evaluate(session, i);
	gmem_free(old);
	session->ops->resume(session->ctx);
	return 0;
}

static struct gmem_region_spec spec_of(const struct vu_region_payload *region, int fd)
{
	return (struct gmem_region_spec){
		.gpa = region->gpa,
		.size = region->size,
		.uva = region->uva,
		.mmap_offset = region->mmap_offset,
		.fd = fd,
	};
}

int backend_handle_set_mem_table(struct vu_backend *session, struct vu_message *message)
{
	struct vu_mem_table_payload table;
	struct gmem_region_spec specs[VU_MEM_TABLE_MAX];
	char reason[160] = "";
	struct gmem *mem;
	size_t expected;
	int ret;

	memcpy(&table, message->payload, sizeof(table));
	if (table.n_regions > VU_MEM_TABLE_MAX)
		return backend_refuse(session, -EINVAL, "%u regions; allowed: 0..%u",
			table.n_regions, VU_MEM_TABLE_MAX);
	expected = offsetof(struct vu_mem_table_payload, regions) +
		   table.n_regions * sizeof(struct vu_region_payload);
	if (message->header.size != expected)
		return backend_refuse(session, -EINVAL,
			"payload of %u bytes for %u regions; expected: %zu", message->header.size,
			table.n_regions, expected);
	for (unsigned int i = 0; i < table.n_regions; i++)
		specs[i] = spec_of(&table.regions[i], message->fds.fd[i]);
	ret = gmem_create(specs, table.n_regions, &mem, reason, sizeof(reason));
	if (ret < 0)
		return backend_refuse(session, ret, "%s", reason);
	return memory_replace(session, mem);
}

int backend_handle_get_max_mem_slots(struct vu_backend *session, struct vu_message *message)
{
	return backend_reply_u64(session, GMEM_MAX_REGIONS);
}

int backend_handle_add_mem_reg(struct vu_backend *session, struct vu_message *message)
{
	struct vu_mem_region_payload payload;
	struct gmem_region_spec spec;
	char reason[160] = "";
	struct gmem *mem;
	int ret;

	memcpy(&payload, message->payload, sizeof(payload));
	spec = spec_of(&payload.region, message->fds.fd[0]);
	ret = gmem_create_with(session->mem, &spec, &mem, reason, sizeof(reason));
	if (ret < 0)
		return backend_refuse(session, ret, "%s", reason);
	return memory_replace(session, mem);
}

int backend_handle_rem_mem_reg(struct vu_backend *session, struct vu_message *message)
{
	struct vu_mem_region_payload payload;
	char reason[160] = "";
	struct gmem *mem;
	int ret;

	if (session->mem == NULL)
		return backend_refuse(session, -ENOENT, "no memory region was ever added");
	memcpy(&payload, message->payload, sizeof(payload));
	ret = gmem_create_without(session->mem, payload.region.gpa, payload.region.uva,
		payload.region.size, &mem, reason, sizeof(reason));
	if (ret < 0)
		return backend_refuse(session, ret, "%s", reason);
	return memory_replace(session, mem);
}
