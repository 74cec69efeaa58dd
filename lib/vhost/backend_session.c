/* SPDX-License-Identifier: BSD-3-Clause */
/* Back-end handlers for what concerns the whole device: features, owner, status, reset, MTU, RARP,
 * second channel. */
#include <errno.h>
#include <inttypes.h>
#include <sys/socket.h>
#include <unistd.h>

#include "backend_private.h"

#define MTU_MIN 68 /* virtio 5.1.4.1 */
#define MTU_MAX 65535

int backend_handle_get_features(struct vu_backend *session, struct vu_message *message)
{
	return backend_reply_u64(session, session->offered);
}

static int check_features(struct vu_backend *session, uint64_t features)
{
	uint64_t surplus = features & ~session->offered;
	unsigned int needed;
	int bit;

	if (surplus != 0)
		return backend_refuse(
			session, -EINVAL, "bits 0x%" PRIx64 " were not offered", surplus);
	bit = vu_features_inconsistent(features, &needed);
	if (bit >= 0)
		return backend_refuse(session, -EINVAL, "feature %s needs %s",
			vu_feature_name((unsigned int)bit), vu_feature_name(needed));
	/*
	 * Frozen while a ring was initialised with them, since the header would change its size in mid stream; but for
	 * LOG_ALL, which comes and goes with a migration.
	 */
	if (((features ^ session->features) & ~VU_BIT(VHOST_USER_F_LOG_ALL)) != 0 &&
		backend_has_live_ring(session))
		return backend_refuse(session, -EBUSY,
			"0x%" PRIx64 " instead of 0x%" PRIx64 " while a ring is started", features,
			session->features);
	return 0;
}

int backend_handle_set_features(struct vu_backend *session, struct vu_message *message)
{
	const uint64_t protocol = VU_BIT(VHOST_USER_F_PROTOCOL_FEATURES);
	uint64_t features = message_u64(message);
	bool had_enable = session->has_features && (session->features & protocol) != 0;
	bool has_enable = (features & protocol) != 0;
	struct gmem_log *log = NULL;
	int ret = check_features(session, features);

	if (ret == 0)
		ret = backend_log_check(session, features, session->mem);
	if (ret < 0)
		return ret;
	if (session->has_features && features == session->features)
		return 0;
	session->ops->quiesce(session->ctx);
	/* Without bit 30 there is no SET_VRING_ENABLE and every ring counts as enabled. */
	if (!has_enable)
		backend_rings_enable_all(session, true);
	else if (session->has_features && !had_enable)
		backend_rings_enable_all(session, false);
	session->features = features;
	session->has_features = true;
	for (unsigned int i = 0; i < session->n_rings; i++)
		backend_ring_evaluate(session, i);
	/* The next migration brings a log of its own. */
	if ((features & VU_BIT(VHOST_USER_F_LOG_ALL)) == 0) {
		log = session->log;
		session->log = NULL;
	}
	backend_rings_log_update(session);
	session->ops->resume(session->ctx);
	gmem_log_close(log);
	return 0;
}

int backend_handle_get_protocol_features(struct vu_backend *session, struct vu_message *message)
{
	return backend_reply_u64(session, VU_BACKEND_PROTOCOL_FEATURES);
}

int backend_handle_set_protocol_features(struct vu_backend *session, struct vu_message *message)
{
	uint64_t bits = message_u64(message);
	uint64_t surplus = bits & ~VU_BACKEND_PROTOCOL_FEATURES;

	if (surplus != 0)
		return backend_refuse(
			session, -EINVAL, "bits 0x%" PRIx64 " were not offered", surplus);
	session->protocol_features = bits;
	return 0;
}

int backend_handle_get_queue_num(struct vu_backend *session, struct vu_message *message)
{
	/* Queue pairs, as QEMU and Cloud Hypervisor understand it for network devices. */
	return backend_reply_u64(session, session->n_rings / 2);
}

int backend_handle_set_owner(struct vu_backend *session, struct vu_message *message)
{
	return 0;
}

/* Deprecated, and understood differently by everybody: at most disable the rings; never drop memory
 * or positions. */
int backend_handle_reset_owner(struct vu_backend *session, struct vu_message *message)
{
	/* Without bit 30 no message could enable them again. */
	if ((session->features & VU_BIT(VHOST_USER_F_PROTOCOL_FEATURES)) == 0)
		return 0;
	session->ops->quiesce(session->ctx);
	backend_rings_enable_all(session, false);
	session->ops->resume(session->ctx);
	return 0;
}

/*
 * A device reset (virtio 2.4): rings stopped, negotiation open again. Memory stays: front ends that
 * manage it region by region send differences only. So do call descriptors, which QEMU sends before
 * it starts the rings anew.
 */
static void device_reset(struct vu_backend *session)
{
	struct gmem_log *log = session->log;

	session->ops->quiesce(session->ctx);
	backend_rings_reset(session);
	session->log = NULL;
	session->features = 0;
	session->has_features = false;
	session->status = 0;
	session->ops->resume(session->ctx);
	gmem_log_close(log);
}

int backend_handle_reset_device(struct vu_backend *session, struct vu_message *message)
{
	device_reset(session);
	return 0;
}

int backend_handle_set_status(struct vu_backend *session, struct vu_message *message)
{
	uint64_t status = message_u64(message);

	if (status > UINT8_MAX)
		return backend_refuse(
			session, -EINVAL, "status 0x%" PRIx64 "; allowed: 0..0xff", status);
	/* FEATURES_OK and DRIVER_OK are hints here: rings are started and enabled by messages of
	 * their own. */
	if (status == 0)
		device_reset(session);
	else
		session->status = (uint8_t)status;
	return 0;
}

int backend_handle_get_status(struct vu_backend *session, struct vu_message *message)
{
	uint64_t status = session->status;

	for (unsigned int i = 0; i < session->n_rings; i++) {
		if (session->rings[i].shared.state == VU_RING_BROKEN)
			status |= VIRTIO_STATUS_NEEDS_RESET;
	}
	return backend_reply_u64(session, status);
}

int backend_handle_net_set_mtu(struct vu_backend *session, struct vu_message *message)
{
	uint64_t mtu = message_u64(message);

	if (mtu < MTU_MIN || mtu > MTU_MAX)
		return backend_refuse(session, -EINVAL, "MTU %" PRIu64 "; allowed: %d..%d", mtu,
			MTU_MIN, MTU_MAX);
	if (session->ops->set_mtu != NULL)
		session->ops->set_mtu(session->ctx, (uint16_t)mtu);
	return 0;
}

int backend_handle_send_rarp(struct vu_backend *session, struct vu_message *message)
{
	if (session->ops->send_rarp != NULL)
		session->ops->send_rarp(session->ctx, message->payload);
	return 0;
}

/* Kept for what needs to ask the front end; a network device without IOTLB or configuration changes
 * has no question. */
int backend_handle_set_backend_req_fd(struct vu_backend *session, struct vu_message *message)
{
	socklen_t length = sizeof(int);
	int type = 0;
	int domain = 0;
	int fd = message->fds.fd[0];

	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) < 0 || type != SOCK_STREAM ||
		getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &length) < 0 || domain != AF_UNIX)
		return backend_refuse(session, -EINVAL,
			"the file descriptor is not a UNIX stream socket; send one end of a "
			"socket pair");
	if (session->channel_fd >= 0)
		close(session->channel_fd);
	session->channel_fd = vu_fds_take(&message->fds, 0);
	return 0;
}
