/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Back-end handlers for the dirty log, and what each ring logs.
 *
 * A ring logs while LOG_ALL is acked and there is a log. Its buffers are always logged then; its own parts if the
 * front end asked for that with the addresses. All of it may change while the ring runs, between quiesce and resume.
 */
#include <errno.h>
#include <inttypes.h>

#include "backend_private.h"

/*
 * The guest's address of a part of the ring. SET_VRING_ADDR tells that of the used ring, for devices whose addresses
 * are I/O virtual ones; ours are not, so what it tells is not needed, and need not be believed.
 */
static uint64_t gpa_of(const struct vu_backend *session, const void *part)
{
	struct gmem_cache cache = { 0 };

	return gmem_untranslate(session->mem, &cache, part);
}

int backend_log_check(struct vu_backend *session, uint64_t features, const struct gmem *mem)
{
	if ((features & VU_BIT(VHOST_USER_F_LOG_ALL)) == 0 || session->log == NULL ||
		gmem_log_covers(session->log, mem))
		return 0;
	/* A page that could not be noted would be lost, and the guest with it, on the other host. */
	return backend_refuse(session, -EINVAL,
		"the dirty log has %" PRIu64 " pages, too few for the guest's memory; send a longer one first",
		session->log->n_pages);
}

void backend_ring_log_update(struct vu_backend *session, unsigned int index)
{
	struct backend_ring *ring = &session->rings[index];
	const struct vring_device *device = &ring->shared.device;
	struct vring_dirty *dirty = &ring->shared.dirty;

	*dirty = (struct vring_dirty){ .log = NULL };
	if (ring->shared.state != VU_RING_RUNNING ||
		(session->features & VU_BIT(VHOST_USER_F_LOG_ALL)) == 0)
		return;
	dirty->log = session->log;
	dirty->logs_ring = (ring->addr.flags & VU_RING_ADDR_LOG) != 0;
	dirty->ring_gpa = gpa_of(session, device->packed ? (void *)device->desc : device->used);
	dirty->event_gpa = device->packed ? gpa_of(session, device->used) : 0;
}

void backend_rings_log_update(struct vu_backend *session)
{
	for (unsigned int i = 0; i < session->n_rings; i++)
		backend_ring_log_update(session, i);
}

int backend_handle_set_log_base(struct vu_backend *session, struct vu_message *message)
{
	struct vu_log_payload payload;
	struct gmem_log *old = session->log;
	struct gmem_log *log;
	char reason[192] = "";
	int ret;

	memcpy(&payload, message->payload, sizeof(payload));
	ret = gmem_log_open(message->fds.fd[0], payload.mmap_offset, payload.mmap_size, &log, reason,
		sizeof(reason));
	if (ret < 0)
		return backend_refuse(session, ret, "%s", reason);
	session->log = log;
	ret = backend_log_check(session, session->features, session->mem);
	session->log = old;
	if (ret < 0) {
		gmem_log_close(log);
		return ret;
	}
	session->ops->quiesce(session->ctx);
	session->log = log;
	for (unsigned int i = 0; i < session->n_rings; i++)
		backend_ring_evaluate(session, i);
	backend_rings_log_update(session);
	session->ops->resume(session->ctx);
	gmem_log_close(old);
	return backend_reply(session, &payload, sizeof(payload));
}

/* To be signalled with each change of the log: front ends that poll it, which all do, have no use for that. The descriptor is
 * closed with the message. */
int backend_handle_set_log_fd(struct vu_backend *session, struct vu_message *message)
{
	return 0;
}
