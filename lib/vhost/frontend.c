/* SPDX-License-Identifier: BSD-3-Clause */
/* The front-end session: life, negotiation and what concerns the whole device. */
#include <errno.h>
#include <linux/virtio_config.h>
#include <stdlib.h>
#include <string.h>

#include "frontend_private.h"

#define STATUS_FEATURES_OK                                                                         \
	(VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK)
#define STATUS_DRIVER_OK (STATUS_FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK)

#define MTU_MIN          68 /* virtio 5.1.4.1 */

struct vu_frontend *vu_frontend_create(const struct vu_frontend_config *config, int fd)
{
	const struct vu_frontend_config defaults = {0};
	struct vu_transport transport;
	struct vu_frontend *session;

	if (config == NULL)
		config = &defaults;
	if (vu_transport_socket(&transport, fd) < 0) {
		errno = EINVAL;
		return NULL;
	}
	session = calloc(1, sizeof(*session));
	if (session == NULL)
		return NULL;
	session->deadline_us =
		config->deadline_us != 0 ? config->deadline_us : VU_FRONTEND_DEADLINE_US;
	session->wanted_protocol_features = config->protocol_features != 0
						    ? config->protocol_features
						    : VU_FRONTEND_PROTOCOL_FEATURES;
	session->n_queue_pairs = 1;
	session->n_memory_slots = VU_MEM_TABLE_MAX;
	vu_connection_init(&session->connection, transport, session->deadline_us);
	return session;
}

void vu_frontend_destroy(struct vu_frontend *session)
{
	if (session == NULL)
		return;
	frontend_channel_close(session);
	vu_connection_close(&session->connection);
	free(session);
}

static bool has_protocol_feature(const struct vu_frontend *session, unsigned int bit)
{
	return (session->protocol_features & VU_BIT(bit)) != 0;
}

static int negotiate_protocol(struct vu_frontend *session)
{
	uint64_t offered;
	int ret = frontend_ask_u64(session, VU_REQUEST_GET_PROTOCOL_FEATURES, &offered);

	if (ret < 0)
		return ret;
	offered &= session->wanted_protocol_features;
	/* Sent without asking for an ack: the bit that allows to ask is negotiated by this very
	 * message. */
	session->protocol_features = 0;
	ret = frontend_call_u64(session, VU_REQUEST_SET_PROTOCOL_FEATURES, offered);
	if (ret == 0)
		session->protocol_features = offered;
	return ret;
}

static uint64_t clamp(uint64_t value, uint64_t min, uint64_t max)
{
	return value < min ? min : value > max ? max : value;
}

static int ask_limits(struct vu_frontend *session)
{
	uint64_t value;
	int ret;

	if (has_protocol_feature(session, VU_PROTOCOL_F_MQ)) {
		ret = frontend_ask_u64(session, VU_REQUEST_GET_QUEUE_NUM, &value);
		if (ret < 0)
			return ret;
		session->n_queue_pairs = (unsigned int)clamp(value, 1, VU_FRONTEND_MAX_QUEUE_PAIRS);
	}
	if (has_protocol_feature(session, VU_PROTOCOL_F_CONFIGURE_MEM_SLOTS)) {
		ret = frontend_ask_u64(session, VU_REQUEST_GET_MAX_MEM_SLOTS, &value);
		if (ret < 0)
			return ret;
		session->n_memory_slots = (unsigned int)clamp(value, 1, GMEM_MAX_REGIONS);
	}
	return 0;
}

int vu_frontend_set_features(struct vu_frontend *session, uint64_t wanted, uint64_t *taken)
{
	uint64_t features = wanted & session->offered;
	int ret;

	features |= session->offered & VU_BIT(VHOST_USER_F_PROTOCOL_FEATURES);
	ret = frontend_call_u64(session, VU_REQUEST_SET_FEATURES, features);
	if (ret == 0 && has_protocol_feature(session, VU_PROTOCOL_F_STATUS))
		ret = vu_frontend_set_status(session, STATUS_FEATURES_OK);
	if (ret < 0)
		return ret;
	session->features = features;
	*taken = features & ~VU_BIT(VHOST_USER_F_PROTOCOL_FEATURES);
	return 0;
}

int vu_frontend_negotiate(struct vu_frontend *session, uint64_t wanted, uint64_t *taken)
{
	int ret = frontend_ask_u64(session, VU_REQUEST_GET_FEATURES, &session->offered);

	if (ret == 0 && (session->offered & VU_BIT(VHOST_USER_F_PROTOCOL_FEATURES)) != 0)
		ret = negotiate_protocol(session);
	if (ret == 0)
		ret = ask_limits(session);
	if (ret == 0)
		ret = frontend_call(session, VU_REQUEST_SET_OWNER, NULL, 0, NULL, 0, NULL);
	if (ret == 0 && has_protocol_feature(session, VU_PROTOCOL_F_BACKEND_REQ))
		ret = frontend_channel_open(session);
	if (ret == 0)
		ret = vu_frontend_set_features(session, wanted, taken);
	return ret;
}

int vu_frontend_set_status(struct vu_frontend *session, uint8_t status)
{
	return frontend_call_u64(session, VU_REQUEST_SET_STATUS, status);
}

int vu_frontend_get_status(struct vu_frontend *session, uint8_t *status)
{
	uint64_t value;
	int ret = frontend_ask_u64(session, VU_REQUEST_GET_STATUS, &value);

	if (ret < 0)
		return ret;
	*status = (uint8_t)value;
	return 0;
}

int vu_frontend_driver_ok(struct vu_frontend *session)
{
	if (has_protocol_feature(session, VU_PROTOCOL_F_STATUS)) {
		int ret = vu_frontend_set_status(session, STATUS_DRIVER_OK);

		if (ret < 0)
			return ret;
	}
	return vu_frontend_barrier(session);
}

int vu_frontend_reset(struct vu_frontend *session)
{
	if (!has_protocol_feature(session, VU_PROTOCOL_F_RESET_DEVICE) &&
		has_protocol_feature(session, VU_PROTOCOL_F_STATUS))
		return vu_frontend_set_status(session, 0);
	return frontend_call(session, VU_REQUEST_RESET_DEVICE, NULL, 0, NULL, 0, NULL);
}

int vu_frontend_set_mtu(struct vu_frontend *session, uint16_t mtu)
{
	if (mtu < MTU_MIN)
		return frontend_fail(
			session, -EINVAL, "NET_SET_MTU: %u; allowed: %d..65535", mtu, MTU_MIN);
	return frontend_call_u64(session, VU_REQUEST_NET_SET_MTU, mtu);
}

int vu_frontend_send_rarp(struct vu_frontend *session, const uint8_t mac[6])
{
	uint8_t payload[8] = {0};

	memcpy(payload, mac, 6);
	return frontend_call(
		session, VU_REQUEST_SEND_RARP, payload, sizeof(payload), NULL, 0, NULL);
}

int vu_frontend_barrier(struct vu_frontend *session)
{
	uint64_t features;

	return frontend_ask_u64(session, VU_REQUEST_GET_FEATURES, &features);
}

const char *vu_frontend_error(const struct vu_frontend *session)
{
	return session->error;
}

int vu_frontend_fd(const struct vu_frontend *session)
{
	return vu_connection_fd(&session->connection);
}

uint64_t vu_frontend_offered(const struct vu_frontend *session)
{
	return session->offered & ~VU_BIT(VHOST_USER_F_PROTOCOL_FEATURES);
}

uint64_t vu_frontend_features(const struct vu_frontend *session)
{
	return session->features & ~VU_BIT(VHOST_USER_F_PROTOCOL_FEATURES);
}

uint64_t vu_frontend_protocol_features(const struct vu_frontend *session)
{
	return session->protocol_features;
}

unsigned int vu_frontend_queue_pairs(const struct vu_frontend *session)
{
	return session->n_queue_pairs;
}

unsigned int vu_frontend_memory_slots(const struct vu_frontend *session)
{
	return session->n_memory_slots;
}
