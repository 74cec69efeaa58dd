/* SPDX-License-Identifier: BSD-3-Clause */
/* Rings from the front end's side. */
#include <errno.h>

#include <linux/virtio_config.h>

#include <vring/device.h>

#include "frontend_private.h"

static int set_state(
	struct vu_frontend *session, enum vu_request request, unsigned int index, uint32_t num)
{
	const struct vu_ring_state_payload payload = {.index = index, .num = num};

	return frontend_call(session, request, &payload, sizeof(payload), NULL, 0, NULL);
}

static int set_fd(struct vu_frontend *session, enum vu_request request, unsigned int index, int fd)
{
	const uint64_t payload = index | (fd < 0 ? VU_RING_FD_NONE : 0);

	return frontend_call(
		session, request, &payload, sizeof(payload), &fd, fd < 0 ? 0 : 1, NULL);
}

static int check_index(struct vu_frontend *session, unsigned int index)
{
	if (index > VU_RING_FD_INDEX_MASK)
		return frontend_fail(
			session, -EINVAL, "ring %u; allowed: 0..%u", index, VU_RING_FD_INDEX_MASK);
	return 0;
}

static bool is_packed(const struct vu_frontend *session)
{
	return (session->features & VU_BIT(VIRTIO_F_RING_PACKED)) != 0;
}

static int check_size(struct vu_frontend *session, const struct vu_frontend_ring *ring)
{
	bool packed = is_packed(session);

	if (ring->size > 0 && ring->size <= VRING_SIZE_MAX &&
		(packed || (ring->size & (ring->size - 1)) == 0))
		return 0;
	return frontend_fail(session, -EINVAL, "ring %u: size %u; allowed: %s1..%u", ring->index,
		ring->size, packed ? "" : "powers of two in ", VRING_SIZE_MAX);
}

int vu_frontend_ring_start(struct vu_frontend *session, const struct vu_frontend_ring *ring)
{
	const struct vu_ring_addr_payload addr = {
		.index = ring->index,
		.desc_uva = ring->desc_uva,
		.used_uva = ring->used_uva,
		.avail_uva = ring->avail_uva,
	};
	int ret = check_index(session, ring->index);

	if (ret == 0)
		ret = check_size(session, ring);
	if (ret == 0)
		ret = set_state(session, VU_REQUEST_SET_VRING_NUM, ring->index, ring->size);
	if (ret == 0)
		ret = set_state(session, VU_REQUEST_SET_VRING_BASE, ring->index, ring->base);
	if (ret == 0)
		ret = frontend_call(
			session, VU_REQUEST_SET_VRING_ADDR, &addr, sizeof(addr), NULL, 0, NULL);
	if (ret == 0)
		ret = set_fd(session, VU_REQUEST_SET_VRING_CALL, ring->index, ring->call_fd);
	if (ret == 0)
		ret = set_fd(session, VU_REQUEST_SET_VRING_KICK, ring->index, ring->kick_fd);
	return ret;
}

int vu_frontend_ring_enable(struct vu_frontend *session, unsigned int index, bool enabled)
{
	return set_state(session, VU_REQUEST_SET_VRING_ENABLE, index, enabled ? 1 : 0);
}

int vu_frontend_ring_stop(struct vu_frontend *session, unsigned int index, uint32_t *base)
{
	const struct vu_ring_state_payload payload = {.index = index};
	struct vu_ring_state_payload reply;
	int ret = frontend_call(
		session, VU_REQUEST_GET_VRING_BASE, &payload, sizeof(payload), NULL, 0, &reply);

	if (ret < 0)
		return ret;
	if (reply.index != index)
		return frontend_end(
			session, -EPROTO, "GET_VRING_BASE", "answer about another ring");
	if (!is_packed(session) && reply.num > UINT16_MAX)
		return frontend_end(session, -EPROTO, "GET_VRING_BASE", "an index of more than 16 bits");
	if (base != NULL)
		*base = reply.num;
	return 0;
}

int vu_frontend_ring_set_call(struct vu_frontend *session, unsigned int index, int call_fd)
{
	int ret = check_index(session, index);

	return ret < 0 ? ret : set_fd(session, VU_REQUEST_SET_VRING_CALL, index, call_fd);
}

int vu_frontend_ring_set_err(struct vu_frontend *session, unsigned int index, int err_fd)
{
	int ret = check_index(session, index);

	return ret < 0 ? ret : set_fd(session, VU_REQUEST_SET_VRING_ERR, index, err_fd);
}
