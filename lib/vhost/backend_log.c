/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Back-end handlers for the dirty log, and what each ring logs.
 *
 * A ring logs while LOG_ALL is acked and there is a log. Its buffers are always logged then; its own parts if the front end
 * asked for that with the addresses. All of it may change while the ring runs, between quiesce and resume.
 */
#include <errno.h>
#include <inttypes.h>

#include "backend_private.h"

/* The guest's address of a part of the ring, for layouts whose parts' addresses no message tells. */
static uint64_t gpa_of(const struct vu_backend *session, const void *part)
{
	uint64_t gpa = 0;

	gmem_untranslate(session->mem, part, &gpa);
	return gpa;
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
	dirty->ring_gpa = device->packed ? gpa_of(session, device->desc) : ring->addr.log_gpa;
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
	/* A page that could not be noted would be lost, and the guest with it, on the other host. */
	if (!gmem_log_covers(log, session->mem)) {
		gmem_log_close(log);
		return backend_refuse(session, -EINVAL,
			"a log of 0x%" PRIx64 " bytes is too short for the guest's memory",
			payload.mmap_size);
	}
	session->ops->quiesce(session->ctx);
	session->log = log;
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
