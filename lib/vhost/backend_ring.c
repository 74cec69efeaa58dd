/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Back-end handlers for rings.
 *
 * Front ends differ in the order of set-up, so a message only records what it says, and whether a
 * ring can run is evaluated after each of them: SET_VRING_KICK was seen (it starts the ring, with
 * or without a descriptor), features, size, addresses and base are known, and the addresses lie in
 * memory. Enabling is independent of all that.
 */
#include <errno.h>
#include <inttypes.h>
#include <unistd.h>

#include <linux/virtio_config.h>
#include <linux/virtio_net.h>
#include <linux/virtio_ring.h>

#include <vhost/eventfd.h>

#include "backend_private.h"

/* virtio 5.1.9: num_buffers is there with either bit, and not in the header of a legacy device. */
#define NET_HEADER_BYTES        12
#define NET_HEADER_BYTES_LEGACY 10

struct ring_parts {
	void *desc;
	void *avail;
	void *used;
};

bool backend_has_live_ring(const struct vu_backend *session)
{
	for (unsigned int i = 0; i < session->n_rings; i++) {
		if (backend_ring_is_live(&session->rings[i]))
			return true;
	}
	return false;
}

static bool has_feature(const struct vu_backend *session, unsigned int bit)
{
	return (session->features & VU_BIT(bit)) != 0;
}

static bool is_packed(const struct vu_backend *session)
{
	return has_feature(session, VIRTIO_F_RING_PACKED);
}

/* Before SET_FEATURES a message is refused for what is wrong in either layout; the rest shows when
 * the ring is to run. */
static bool may_be_packed(const struct vu_backend *session)
{
	return ((session->has_features ? session->features : session->offered) &
		       VU_BIT(VIRTIO_F_RING_PACKED)) != 0;
}

static bool layout_is_known(const struct vu_backend *session)
{
	return session->has_features || !may_be_packed(session);
}

static bool is_power_of_two(uint32_t n)
{
	return (n & (n - 1)) == 0;
}

static bool ring_is_aligned(uint64_t desc, uint64_t avail, uint64_t used, bool packed)
{
	return desc % VRING_DESC_ALIGN == 0 &&
	       avail % (packed ? VRING_EVENT_ALIGN : VRING_AVAIL_ALIGN) == 0 &&
	       used % (packed ? VRING_EVENT_ALIGN : VRING_USED_ALIGN) == 0;
}

/* Each part must be mapped in one piece; NULL otherwise, and the name of the first part that is
 * not. */
static const char *ring_resolve(const struct gmem *mem, const struct vu_ring_addr_payload *addr,
	uint32_t size, bool packed, struct ring_parts *parts)
{
	parts->desc = gmem_translate_uva(mem, addr->desc_uva, vring_desc_bytes(size));
	if (parts->desc == NULL)
		return packed ? "descriptor ring" : "descriptor table";
	parts->avail = gmem_translate_uva(
		mem, addr->avail_uva, packed ? VRING_EVENT_BYTES : vring_avail_bytes(size));
	if (parts->avail == NULL)
		return packed ? "driver event structure" : "available ring";
	parts->used = gmem_translate_uva(
		mem, addr->used_uva, packed ? VRING_EVENT_BYTES : vring_used_bytes(size));
	if (parts->used == NULL)
		return packed ? "device event structure" : "used ring";
	/* A region may begin at any uva: what is aligned there need not be here. */
	if (!ring_is_aligned((uintptr_t)parts->desc, (uintptr_t)parts->avail,
		    (uintptr_t)parts->used, packed))
		return "alignment";
	return NULL;
}

/*
 * Where a packed ring's next used descriptor goes. DPDK's front end and back end leave the upper
 * half of the index 0, as if the ring were always stopped with nothing in flight; which it is, for
 * a back end completes what it took before it answers GET_VRING_BASE. Taken at its word, slot 0
 * with wrap counter 0 beside another place would mean descriptors lost in flight.
 */
static uint16_t packed_used_idx(uint32_t base)
{
	uint16_t used_idx = (uint16_t)(base >> 16);

	return used_idx != 0 ? used_idx : (uint16_t)base;
}

/* An index beyond 16 bits in a split ring, or a slot beyond the size of a packed one. */
static bool base_is_outside(uint32_t base, uint32_t size, bool packed)
{
	if (!packed)
		return base > UINT16_MAX;
	return vring_packed_slot((uint16_t)base) >= size ||
	       vring_packed_slot((uint16_t)(base >> 16)) >= size;
}

/* See vu_backend_ops.call. */
static void ring_owe_call(struct vu_backend *session, unsigned int index)
{
	if (session->ops->call != NULL)
		session->ops->call(session->ctx, index);
	else
		vu_eventfd_signal(session->rings[index].shared.call_fd);
}

void backend_ring_evaluate(struct vu_backend *session, unsigned int index)
{
	struct backend_ring *ring = &session->rings[index];
	struct vring_config config = {0};
	struct ring_parts parts;
	const char *missing;
	bool packed;

	if (ring->shared.state != VU_RING_STARTED || !session->has_features ||
		ring->shared.size == 0 || !ring->has_addr || !ring->has_base ||
		session->mem == NULL)
		return;
	/* What it wrote before the log comes would be lost on the other host. */
	if (has_feature(session, VHOST_USER_F_LOG_ALL) && session->log == NULL &&
		(session->protocol_features & VU_BIT(VU_PROTOCOL_F_LOG_SHMFD)) != 0)
		return;
	packed = is_packed(session);
	missing = ring_resolve(session->mem, &ring->addr, ring->shared.size, packed, &parts);
	if (missing != NULL) {
		log_limited(session->log_limit, LOG_LEVEL_WARN,
			"%s: ring %u waits: its %s is not in one mapped piece of memory",
			session->name, index, missing);
		return;
	}
	/* What was right for one layout or size may be wrong for what was said since. */
	if (base_is_outside(ring->base, ring->shared.size, packed)) {
		log_limited(session->log_limit, LOG_LEVEL_WARN,
			"%s: ring %u waits: base 0x%x is outside a %s ring of size %u",
			session->name, index, ring->base, packed ? "packed" : "split",
			ring->shared.size);
		return;
	}
	config.size = (uint16_t)ring->shared.size;
	config.packed = packed;
	config.event_idx = has_feature(session, VIRTIO_RING_F_EVENT_IDX);
	config.indirect = has_feature(session, VIRTIO_RING_F_INDIRECT_DESC);
	config.in_order = has_feature(session, VIRTIO_F_IN_ORDER);
	config.mergeable = has_feature(session, VIRTIO_NET_F_MRG_RXBUF);
	config.header_len = config.mergeable || has_feature(session, VIRTIO_F_VERSION_1)
				    ? NET_HEADER_BYTES
				    : NET_HEADER_BYTES_LEGACY;
	config.avail_idx = (uint16_t)ring->base;
	config.used_idx = packed_used_idx(ring->base);
	config.desc = parts.desc;
	config.avail = parts.avail;
	config.used = parts.used;
	config.mem = session->mem;
	if (vring_device_init(&ring->shared.device, &config) < 0) {
		log_limited(session->log_limit, LOG_LEVEL_WARN,
			"%s: ring %u waits: size %u is not a power of two", session->name, index,
			ring->shared.size);
		return;
	}
	ring->shared.state = VU_RING_RUNNING;
	ring->shared.desc_uva = ring->addr.desc_uva;
	ring->shared.avail_uva = ring->addr.avail_uva;
	ring->shared.used_uva = ring->addr.used_uva;
	backend_ring_log_update(session, index);
	ring_owe_call(session, index);
}

static void ring_mark_broken(struct backend_ring *ring)
{
	ring->base = vring_device_position(&ring->shared.device);
	ring->shared.state = VU_RING_BROKEN;
	vu_eventfd_signal(ring->shared.err_fd);
}

void vu_backend_ring_broken(struct vu_backend *session, unsigned int index)
{
	struct backend_ring *ring;

	if (index >= session->n_rings)
		return;
	ring = &session->rings[index];
	if (ring->shared.state == VU_RING_RUNNING && ring->shared.device.breakage != VRING_INTACT)
		ring_mark_broken(ring);
}

/* The addresses in the device are about to become stale. */
static void ring_detach(struct backend_ring *ring)
{
	struct vring_device *device = &ring->shared.device;

	device->desc = NULL;
	device->avail = NULL;
	device->used = NULL;
	device->mem = NULL;
	ring->shared.dirty.log = NULL;
	memset(&device->cache, 0, sizeof(device->cache));
}

void backend_ring_suspend(struct vu_backend *session, unsigned int index)
{
	struct backend_ring *ring = &session->rings[index];

	if (!backend_ring_is_live(ring))
		return;
	if (ring->shared.state == VU_RING_RUNNING) {
		/* The worker's report may still be on its way. */
		if (ring->shared.device.breakage != VRING_INTACT) {
			ring_mark_broken(ring);
		} else {
			ring->base = vring_device_position(&ring->shared.device);
			ring->shared.state = VU_RING_STARTED;
		}
	}
	ring_detach(ring);
}

static void close_and_forget(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/* GET_VRING_BASE and reset: no access and no call after this. The position stays. */
static void ring_stop(struct backend_ring *ring)
{
	if (ring->shared.state == VU_RING_RUNNING)
		ring->base = vring_device_position(&ring->shared.device);
	if (backend_ring_is_live(ring))
		ring_detach(ring);
	ring->shared.state = VU_RING_STOPPED;
	close_and_forget(&ring->shared.kick_fd);
}

void backend_rings_reset(struct vu_backend *session)
{
	for (unsigned int i = 0; i < session->n_rings; i++) {
		struct backend_ring *ring = &session->rings[i];

		ring_stop(ring);
		ring->shared.enabled = false;
		ring->shared.size = 0;
		ring->has_addr = false;
		/* An old position would make a fresh ring look as if all its buffers had been
		 * taken. */
		ring->has_base = false;
		ring->base = 0;
	}
}

void backend_rings_enable_all(struct vu_backend *session, bool enabled)
{
	for (unsigned int i = 0; i < session->n_rings; i++)
		session->rings[i].shared.enabled = enabled;
}

void backend_rings_close(struct vu_backend *session)
{
	for (unsigned int i = 0; i < session->n_rings; i++) {
		close_and_forget(&session->rings[i].shared.kick_fd);
		close_and_forget(&session->rings[i].shared.call_fd);
		close_and_forget(&session->rings[i].shared.err_fd);
	}
}

/* The ring a message names by its whole number, or NULL and a refusal noted. */
static struct backend_ring *ring_of(struct vu_backend *session, uint64_t index)
{
	if (index < session->n_rings)
		return &session->rings[index];
	backend_refuse(
		session, -EINVAL, "ring %" PRIu64 "; allowed: 0..%u", index, session->n_rings - 1);
	return NULL;
}

static int refuse_live(struct vu_backend *session, uint32_t index)
{
	return backend_refuse(session, -EBUSY, "ring %u is started; stop it first", index);
}

/* After a message that completes a ring which waits for it. */
static void evaluate_if_started(struct vu_backend *session, uint32_t index)
{
	if (session->rings[index].shared.state != VU_RING_STARTED)
		return;
	session->ops->quiesce(session->ctx);
	backend_ring_evaluate(session, index);
	session->ops->resume(session->ctx);
}

int backend_handle_set_vring_num(struct vu_backend *session, struct vu_message *message)
{
	struct vu_ring_state_payload payload;
	struct backend_ring *ring;

	memcpy(&payload, message->payload, sizeof(payload));
	ring = ring_of(session, payload.index);
	if (ring == NULL)
		return -EINVAL;
	if (payload.num == 0 || payload.num > VRING_SIZE_MAX ||
		(!may_be_packed(session) && !is_power_of_two(payload.num)))
		return backend_refuse(session, -EINVAL, "size %u of ring %u; allowed: %s1..%u",
			payload.num, payload.index,
			may_be_packed(session) ? "" : "powers of two in ", VRING_SIZE_MAX);
	if (payload.num == ring->shared.size)
		return 0;
	if (backend_ring_is_live(ring))
		return refuse_live(session, payload.index);
	ring->shared.size = payload.num;
	evaluate_if_started(session, payload.index);
	return 0;
}

static bool addr_is_equal(
	const struct vu_ring_addr_payload *a, const struct vu_ring_addr_payload *b)
{
	return a->desc_uva == b->desc_uva && a->avail_uva == b->avail_uva &&
	       a->used_uva == b->used_uva;
}

int backend_handle_set_vring_addr(struct vu_backend *session, struct vu_message *message)
{
	struct vu_ring_addr_payload addr;
	struct backend_ring *ring;
	struct ring_parts parts;
	const char *missing;

	memcpy(&addr, message->payload, sizeof(addr));
	ring = ring_of(session, addr.index);
	if (ring == NULL)
		return -EINVAL;
	if ((addr.flags & ~VU_RING_ADDR_LOG) != 0)
		return backend_refuse(session, -EINVAL, "flags 0x%x of ring %u; allowed: 0, 1",
			addr.flags, addr.index);
	/* A running ring may get its own addresses again, with the log flag flipped. */
	if (backend_ring_is_live(ring)) {
		if (!addr_is_equal(&addr, &ring->addr))
			return refuse_live(session, addr.index);
		session->ops->quiesce(session->ctx);
		ring->addr = addr;
		backend_ring_log_update(session, addr.index);
		session->ops->resume(session->ctx);
		return 0;
	}
	/* A split ring's parts may lie anywhere that a packed one's may. */
	if (!ring_is_aligned(
		    addr.desc_uva, addr.avail_uva, addr.used_uva, is_packed(session)))
		return backend_refuse(session, -EINVAL,
			"ring %u is misaligned: descriptors 0x%" PRIx64
			" to %d, available 0x%" PRIx64 " to %d, used 0x%" PRIx64 " to %d",
			addr.index, addr.desc_uva, VRING_DESC_ALIGN, addr.avail_uva,
			is_packed(session) ? VRING_EVENT_ALIGN : VRING_AVAIL_ALIGN, addr.used_uva,
			VRING_USED_ALIGN);
	/* Where it can be seen already. Otherwise it is seen when the ring is to run. */
	if (session->mem != NULL && session->mem->n_regions > 0 && ring->shared.size != 0 &&
		layout_is_known(session)) {
		missing = ring_resolve(
			session->mem, &addr, ring->shared.size, is_packed(session), &parts);
		if (missing != NULL)
			return backend_refuse(session, -EINVAL,
				"ring %u: its %s is not in one mapped piece of memory", addr.index,
				missing);
	}
	ring->addr = addr;
	ring->has_addr = true;
	evaluate_if_started(session, addr.index);
	return 0;
}

int backend_handle_set_vring_base(struct vu_backend *session, struct vu_message *message)
{
	struct vu_ring_state_payload payload;
	struct backend_ring *ring;

	memcpy(&payload, message->payload, sizeof(payload));
	ring = ring_of(session, payload.index);
	if (ring == NULL)
		return -EINVAL;
	if (layout_is_known(session) && (!is_packed(session) || ring->shared.size != 0) &&
		base_is_outside(payload.num, ring->shared.size, is_packed(session)))
		return backend_refuse(session, -EINVAL, "base 0x%x of ring %u; allowed: %s%u",
			payload.num, payload.index,
			is_packed(session) ? "slots (bits 0..14 and 16..30) in 0.." : "0..",
			is_packed(session) ? ring->shared.size - 1 : UINT16_MAX);
	if (backend_ring_is_live(ring))
		return payload.num == ring->base ? 0 : refuse_live(session, payload.index);
	ring->base = payload.num;
	ring->has_base = true;
	evaluate_if_started(session, payload.index);
	return 0;
}

int backend_handle_get_vring_base(struct vu_backend *session, struct vu_message *message)
{
	struct vu_ring_state_payload payload;
	struct backend_ring *ring;

	memcpy(&payload, message->payload, sizeof(payload));
	ring = ring_of(session, payload.index);
	if (ring == NULL)
		return -EINVAL;
	if (ring->shared.state != VU_RING_STOPPED) {
		session->ops->quiesce(session->ctx);
		ring_stop(ring);
		session->ops->resume(session->ctx);
	}
	payload.num = ring->base;
	return backend_reply(session, &payload, sizeof(payload));
}

/*
 * The common part of SET_VRING_KICK, _CALL and _ERR. 0 and the ring and the descriptor (still the
 * message's, -1: none), or refused.
 */
static int ring_and_fd_of(struct vu_backend *session, const struct vu_message *message,
	struct backend_ring **ring, int *fd)
{
	uint64_t value = message_u64(message);

	*ring = ring_of(session, value & ~(uint64_t)VU_RING_FD_NONE);
	if (*ring == NULL)
		return -EINVAL;
	*fd = (value & VU_RING_FD_NONE) != 0 ? -1 : message->fds.fd[0];
	if (*fd >= 0 && vu_eventfd_check(*fd) < 0)
		return backend_refuse(session, -EINVAL,
			"the file descriptor for ring %u is not an eventfd; send an eventfd that "
			"is not a semaphore",
			(unsigned int)(*ring - session->rings));
	return 0;
}

static void fd_replace(struct vu_message *message, int *fd)
{
	close_and_forget(fd);
	*fd = vu_fds_take(&message->fds, 0);
}

int backend_handle_set_vring_kick(struct vu_backend *session, struct vu_message *message)
{
	struct backend_ring *ring;
	int fd;
	int ret = ring_and_fd_of(session, message, &ring, &fd);

	if (ret < 0)
		return ret;
	session->ops->quiesce(session->ctx);
	fd_replace(message, &ring->shared.kick_fd);
	if (ring->shared.state == VU_RING_STOPPED)
		ring->shared.state = VU_RING_STARTED;
	backend_ring_evaluate(session, (unsigned int)(ring - session->rings));
	session->ops->resume(session->ctx);
	return 0;
}

/* Whether a worker may know the ring. If not, it can be changed without asking anybody. */
static bool is_in_use(const struct backend_ring *ring)
{
	return ring->shared.state == VU_RING_RUNNING;
}

int backend_handle_set_vring_call(struct vu_backend *session, struct vu_message *message)
{
	struct backend_ring *ring;
	int fd;
	int ret = ring_and_fd_of(session, message, &ring, &fd);

	if (ret < 0)
		return ret;
	if (!is_in_use(ring)) {
		fd_replace(message, &ring->shared.call_fd);
		return 0;
	}
	session->ops->quiesce(session->ctx);
	fd_replace(message, &ring->shared.call_fd);
	ring_owe_call(session, (unsigned int)(ring - session->rings));
	session->ops->resume(session->ctx);
	return 0;
}

int backend_handle_set_vring_err(struct vu_backend *session, struct vu_message *message)
{
	struct backend_ring *ring;
	int fd;
	int ret = ring_and_fd_of(session, message, &ring, &fd);

	if (ret < 0)
		return ret;
	/* Signalled by this thread only. */
	fd_replace(message, &ring->shared.err_fd);
	if (ring->shared.state == VU_RING_BROKEN)
		vu_eventfd_signal(ring->shared.err_fd);
	return 0;
}

int backend_handle_set_vring_enable(struct vu_backend *session, struct vu_message *message)
{
	struct vu_ring_state_payload payload;
	struct backend_ring *ring;

	memcpy(&payload, message->payload, sizeof(payload));
	ring = ring_of(session, payload.index);
	if (ring == NULL)
		return -EINVAL;
	if (payload.num > 1)
		return backend_refuse(session, -EINVAL, "%u for ring %u; allowed: 0, 1",
			payload.num, payload.index);
	if (!is_in_use(ring) || ring->shared.enabled == (payload.num == 1)) {
		ring->shared.enabled = payload.num == 1;
		return 0;
	}
	session->ops->quiesce(session->ctx);
	ring->shared.enabled = payload.num == 1;
	session->ops->resume(session->ctx);
	return 0;
}
