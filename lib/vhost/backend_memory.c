/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Back-end handlers for guest memory. The new table is built, and everything about it checked,
 * while the rings still run on the old one; only the change itself happens between quiesce and
 * resume. Ring addresses are looked up again in the new table: a ring whose memory went away waits
 * until it is back.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "backend_private.h"

void backend_memory_forget(struct vu_backend *session)
{
	for (unsigned int i = 0; i < session->n_specs; i++)
		close(session->specs[i].fd);
	free(session->specs);
	session->specs = NULL;
	session->n_specs = 0;
}

uint64_t vu_backend_memory_serial(const struct vu_backend *session)
{
	return session->memory_serial;
}

const struct gmem_region_spec *vu_backend_memory_specs(const struct vu_backend *session, unsigned int *n)
{
	*n = session->n_specs;
	return session->specs;
}

/* Adds one region to those that are kept. -errno: no memory or descriptors. */
static int spec_keep(struct vu_backend *session, const struct gmem_region_spec *spec)
{
	struct gmem_region_spec *specs;
	int fd;

	specs = realloc(session->specs, (session->n_specs + 1) * sizeof(*specs));
	if (specs == NULL)
		return -ENOMEM;
	session->specs = specs;
	fd = fcntl(spec->fd, F_DUPFD_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	specs[session->n_specs] = *spec;
	specs[session->n_specs++].fd = fd;
	return 0;
}

/* What is not kept, for want of descriptors, cannot be handed on: who does that has a region less then. */
static void specs_replace(struct vu_backend *session, bool is_new,
	const struct gmem_region_spec *added, unsigned int n, const struct vu_region_payload *removed)
{
	if (is_new)
		backend_memory_forget(session);
	for (unsigned int i = 0; removed != NULL && i < session->n_specs; i++) {
		if (session->specs[i].gpa == removed->gpa && session->specs[i].uva == removed->uva) {
			close(session->specs[i].fd);
			session->specs[i] = session->specs[--session->n_specs];
			break;
		}
	}
	for (unsigned int i = 0; i < n; i++) {
		if (spec_keep(session, &added[i]) != 0)
			log_limited(session->log_limit, LOG_LEVEL_ERROR,
				"%s: no file descriptor left for a memory region; raise the limit of open "
				"files (ulimit -n)",
				session->name);
	}
}

/*
 * Takes over `mem`, which is what there was less `removed` (may be NULL) and with the n regions of `added`, or these alone if
 * `is_new`. 0, or a refusal.
 */
static int memory_replace(struct vu_backend *session, struct gmem *mem, bool is_new,
	const struct gmem_region_spec *added, unsigned int n, const struct vu_region_payload *removed)
{
	struct gmem *old = session->mem;
	int ret = backend_log_check(session, session->features, mem);

	if (ret == 0 && mem->n_regions > session->n_memory_slots)
		ret = backend_refuse(session, -E2BIG, "%u memory regions; allowed: at most %u",
			mem->n_regions, session->n_memory_slots);
	if (ret < 0) {
		gmem_free(mem);
		return ret;
	}
	session->ops->quiesce(session->ctx);
	for (unsigned int i = 0; i < session->n_rings; i++)
		backend_ring_suspend(session, i);
	session->mem = mem;
	session->memory_serial++;
	if (session->keeps_memory)
		specs_replace(session, is_new, added, n, removed);
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
	return memory_replace(session, mem, true, specs, table.n_regions, NULL);
}

int backend_handle_get_max_mem_slots(struct vu_backend *session, struct vu_message *message)
{
	return backend_reply_u64(session, session->n_memory_slots);
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
	return memory_replace(session, mem, false, &spec, 1, NULL);
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
	return memory_replace(session, mem, false, NULL, 0, &payload.region);
}
