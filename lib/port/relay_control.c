/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A relay port's control half: the guest's session, the device's session, and which way the rings go. Control thread.
 *
 * Theory of operation. To the guest's session this port is what workers are to a guest port: quiesce() stops the
 * device's rings, takes over the positions where they stopped, and then nobody uses the guest's rings; resume() looks
 * at the rings as they are now and starts those that run on the device again, from where they are. Whether they are
 * started as they are (pass-through) or behind shadow rings is decided there, so switching is no more than a quiesce
 * and a resume, which a front end that turns the dirty log on or off causes by itself.
 *
 * The device's socket comes first: what it offers is what the guest can be offered. When it has gone the guest's front
 * end is disconnected, and may come again when the device is back.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/event.h>
#include <linux/virtio_config.h>
#include <linux/virtio_net.h>
#include <linux/virtio_ring.h>
#include <rte_malloc.h>

#include <base/clock.h>
#include <port/relay.h>
#include <vhost/eventfd.h>
#include <vhost/frontend.h>

#include "front_end.h"
#include "relay_internal.h"

/* Until the device is there; one that is there and does not do as it should is left alone for longer each time. */
#define RETRY_MIN_MS 500
#define RETRY_BAD_MS 4000 /* the first time */
#define RETRY_MAX_MS 32000

/*
 * The device is waited for by the control thread: it must not take long, neither for an answer nor for all of those
 * that stopping or starting its rings takes.
 */
#define DEVICE_DEADLINE_US (1000 * 1000)

#define MAX_RINGS (2 * RELAY_MAX_QUEUE_PAIRS)

enum relay_state {
	RELAY_NO_DEVICE,    /* looked for again and again */
	RELAY_IDLE,         /* the device is there, no front end */
	RELAY_CONNECTED,    /* both are, no ring runs */
	RELAY_PASSING,      /* rings run on the device */
	RELAY_SHADOWING,    /* rings run behind shadow rings */
	RELAY_N_STATES,
};

static const char *const state_names[] = {
	[RELAY_NO_DEVICE] = "no device",
	[RELAY_IDLE] = "idle",
	[RELAY_CONNECTED] = "connected",
	[RELAY_PASSING] = "pass-through",
	[RELAY_SHADOWING] = "shadow",
};
_Static_assert(sizeof(state_names) / sizeof(state_names[0]) == RELAY_N_STATES, "one name a state");

struct relay_ring {
	bool is_started; /* on the device */
	struct relay_queue queue;
};

struct relay {
	struct port base;
	enum relay_state state;
	enum relay_mode relay;
	enum guest_role role;
	struct unix_socket_spec socket; /* strings owned */
	unsigned int n_queue_pairs_max; /* configured */
	unsigned int n_queue_pairs;     /* what the device has of them */
	struct front_end front_end;
	unsigned int retry_ms;
	/* The device. */
	char *device_path;
	struct vu_frontend *device; /* NULL: not there */
	struct event *device_event; /* it has something to say, which can only be that it has gone */
	struct event *retry_event;
	bool is_used;       /* a guest has begun a session since the device's session began */
	uint64_t until_us;  /* when it must have answered all that stopping or starting takes */
	bool device_failed; /* noticed within a message of the guest's session: ended after it */
	uint64_t memory_serial; /* of the table that the device has */
	bool has_memory;
	struct vu_frontend_memory shadow_memory; /* size 0: none */
	uint64_t n_switches;
	char device_error[256];
	struct log_limit log_limit;
	bool quiesced;
	struct relay_ring rings[MAX_RINGS];
};

static const struct port_ops relay_ops;

bool port_is_relay(const struct port *port)
{
	return port->ops == &relay_ops;
}

static struct relay *relay_of(struct port *port)
{
	return (struct relay *)port;
}

const char *relay_mode_name(enum relay_mode mode)
{
	static const char *const names[] = {
		[RELAY_AUTO] = "auto",
		[RELAY_PASS_THROUGH] = "pass-through",
		[RELAY_SHADOW] = "shadow",
	};

	return names[mode];
}

static void set_state(struct relay *relay, enum relay_state state)
{
	if (relay->state == state)
		return;
	log_limited(&relay->log_limit, LOG_LEVEL_INFO, "port %s: %s -> %s", relay->base.name,
		state_names[relay->state], state_names[state]);
	relay->state = state;
}

/* ---- What can be relayed ---- */

enum carried {
	CARRIED,      /* by both ways */
	PASSED_ONLY,  /* not by a shadow ring */
	OURS,         /* between us and each side */
};

/* Why each bit is carried, or not; a bit that is not here is not offered. */
static const struct {
	uint8_t bit;
	uint8_t carried;
	const char *why;
} relayed[] = {
	{ VIRTIO_NET_F_CSUM, CARRIED, "of the payload" },
	{ VIRTIO_NET_F_GUEST_CSUM, CARRIED, "of the payload" },
	{ VIRTIO_NET_F_MTU, CARRIED, "configuration space is the front end's" },
	{ VIRTIO_NET_F_GUEST_TSO4, CARRIED, "of the payload" },
	{ VIRTIO_NET_F_GUEST_TSO6, CARRIED, "of the payload" },
	{ VIRTIO_NET_F_GUEST_ECN, CARRIED, "of the payload" },
	{ VIRTIO_NET_F_GUEST_UFO, CARRIED, "of the payload" },
	{ VIRTIO_NET_F_HOST_TSO4, CARRIED, "of the payload" },
	{ VIRTIO_NET_F_HOST_TSO6, CARRIED, "of the payload" },
	{ VIRTIO_NET_F_HOST_ECN, CARRIED, "of the payload" },
	{ VIRTIO_NET_F_HOST_UFO, CARRIED, "of the payload" },
	{ VIRTIO_NET_F_MRG_RXBUF, CARRIED, "buffers come back in the order of the device" },
	{ VIRTIO_NET_F_CTRL_VQ, CARRIED, "the control queue is the front end's" },
	{ VIRTIO_NET_F_CTRL_RX, CARRIED, "the control queue is the front end's" },
	{ VIRTIO_NET_F_GUEST_ANNOUNCE, CARRIED, "the control queue is the front end's" },
	{ VIRTIO_NET_F_MQ, CARRIED, "each ring is relayed by itself" },
	{ VIRTIO_F_ANY_LAYOUT, CARRIED, "chains are forwarded as they are" },
	{ VIRTIO_RING_F_INDIRECT_DESC, CARRIED, "tables are forwarded as chains" },
	{ VIRTIO_RING_F_EVENT_IDX, CARRIED, "each side has its own" },
	{ VIRTIO_F_VERSION_1, CARRIED, "of the payload" },
	{ VIRTIO_F_IN_ORDER, CARRIED, "buffers come back in ring order" },
	{ VIRTIO_F_RING_PACKED, PASSED_ONLY, "the device's ring is split" },
	{ VHOST_USER_F_LOG_ALL, OURS, "logged by shadow rings" },
};

static uint64_t features_carried(const struct relay *relay)
{
	uint64_t bits = 0;

	for (size_t i = 0; i < sizeof(relayed) / sizeof(relayed[0]); i++) {
		if (relayed[i].carried == CARRIED ||
			(relayed[i].carried == PASSED_ONLY && relay->relay == RELAY_PASS_THROUGH))
			bits |= VU_BIT(relayed[i].bit);
	}
	return bits;
}

/* ---- The device ---- */

/*
 * The device did not do as it should. Its session is over; the guest's is ended after the message that is being
 * handled.
 */
static void device_fail(struct relay *relay, const char *what)
{
	const struct timeval soon = { 0 };

	if (relay->device_failed)
		return;
	relay->device_failed = true;
	snprintf(relay->device_error, sizeof(relay->device_error), "device %s: %s%s%s", relay->device_path,
		what, vu_frontend_error(relay->device)[0] != '\0' ? ": " : "",
		vu_frontend_error(relay->device));
	event_add(relay->retry_event, &soon);
}

static bool shadow_is_wanted(const struct relay *relay)
{
	return relay->relay == RELAY_SHADOW ||
	       (relay->relay == RELAY_AUTO &&
		       (vu_backend_features(relay->front_end.session) & VU_BIT(VHOST_USER_F_LOG_ALL)) != 0);
}

/* Bytes of one shadow ring's parts, each on a page of its own. */
#define SHADOW_PART_ALIGN 4096

static uint64_t part_bytes(uint64_t bytes)
{
	return (bytes + SHADOW_PART_ALIGN - 1) & ~(uint64_t)(SHADOW_PART_ALIGN - 1);
}

static uint64_t shadow_ring_bytes(uint32_t size)
{
	return part_bytes(vring_desc_bytes(size)) + part_bytes(vring_avail_bytes(size)) +
	       part_bytes(vring_used_bytes(size));
}

/* Where no memory of the guest is. False: there is no such place. */
static bool behind_all(const struct gmem_region_spec *specs, unsigned int n, uint64_t *gpa, uint64_t *uva)
{
	*gpa = *uva = 1ULL << 30;
	for (unsigned int i = 0; i < n; i++) {
		uint64_t gpa_end = specs[i].gpa + specs[i].size, uva_end = specs[i].uva + specs[i].size;

		*gpa = gpa_end > *gpa ? gpa_end : *gpa;
		*uva = uva_end > *uva ? uva_end : *uva;
	}
	*gpa = part_bytes(*gpa);
	*uva = part_bytes(*uva);
	return *gpa < 1ULL << 62 && *uva < 1ULL << 62;
}

/* Gives the device the guest's memory, and ours behind it. */
static int memory_hand_on(struct relay *relay, uint64_t *shadow_uva)
{
	struct vu_backend *session = relay->front_end.session;
	struct gmem_region_spec *specs;
	uint64_t gpa;
	unsigned int n;
	const struct gmem_region_spec *of_guest = vu_backend_memory_specs(session, &n);
	int rc;

	if (!behind_all(of_guest, n, &gpa, shadow_uva))
		return -EOVERFLOW;
	if (relay->has_memory && relay->memory_serial == vu_backend_memory_serial(session))
		return 0;
	specs = malloc((n + 1) * sizeof(*specs));
	if (specs == NULL)
		return -ENOMEM;
	memcpy(specs, of_guest, n * sizeof(*specs));
	if (relay->shadow_memory.size > 0)
		specs[n++] = (struct gmem_region_spec){
			.gpa = gpa,
			.size = relay->shadow_memory.size,
			.uva = *shadow_uva,
			.fd = relay->shadow_memory.fd,
		};
	rc = vu_frontend_set_memory(relay->device, specs, n);
	free(specs);
	relay->has_memory = rc == 0;
	relay->memory_serial = vu_backend_memory_serial(session);
	return rc;
}

/*
 * Memory for the shadows of all rings, in every mode that may come to need them: a switch does not change the device's
 * table.
 */
static int shadow_memory_make(struct relay *relay)
{
	uint64_t bytes = 0;

	if (relay->relay == RELAY_PASS_THROUGH)
		return 0;
	for (unsigned int i = 0; i < 2 * relay->n_queue_pairs; i++)
		bytes += shadow_ring_bytes(vu_backend_ring(relay->front_end.session, i)->size);
	if (bytes <= relay->shadow_memory.size)
		return 0;
	if (relay->shadow_memory.size > 0)
		vu_frontend_memory_destroy(&relay->shadow_memory);
	relay->shadow_memory.size = 0;
	relay->has_memory = false;
	return vu_frontend_memory_create(&relay->shadow_memory, bytes, false);
}

/* Where the parts of ring i's shadow lie in our memory. */
static uint64_t shadow_offset(const struct relay *relay, unsigned int index)
{
	uint64_t offset = 0;

	for (unsigned int i = 0; i < index; i++)
		offset += shadow_ring_bytes(vu_backend_ring(relay->front_end.session, i)->size);
	return offset;
}

/* Puts a shadow between the guest's ring and what the device is told. */
static int shadow_start(struct relay *relay, unsigned int index, uint64_t shadow_uva, struct vu_frontend_ring *device_ring)
{
	struct relay_queue *queue = &relay->rings[index].queue;
	struct vu_ring *ring = vu_backend_ring(relay->front_end.session, index);
	uint64_t features = vu_backend_features(relay->front_end.session);
	uint64_t offset = shadow_offset(relay, index);
	uint64_t avail = offset + part_bytes(vring_desc_bytes(ring->size));
	uint64_t used = avail + part_bytes(vring_avail_bytes(ring->size));
	uint8_t *memory = relay->shadow_memory.address;
	const struct vring_shadow_config config = {
		.guest = &ring->device,
		.direction = index % 2 == 0 ? VRING_WRITABLE : VRING_READABLE,
		.size = (uint16_t)ring->size,
		.event_idx = (features & VU_BIT(VIRTIO_RING_F_EVENT_IDX)) != 0,
		.in_order = (features & VU_BIT(VIRTIO_F_IN_ORDER)) != 0,
		.desc = memory + offset,
		.avail = memory + avail,
		.used = memory + used,
	};

	memset(memory + offset, 0, shadow_ring_bytes(ring->size));
	queue->ring = ring;
	queue->is_transmit = index % 2 == 1;
	queue->is_lying = queue->kick_blocks = queue->blocks = queue->is_alarm_said = false;
	queue->shadow = vring_shadow_create(&config);
	if (queue->shadow == NULL)
		return -errno;
	vring_device_set_kick(&ring->device, false);
	queue->base.is_armed = false;
	queue->base.wake.fd = ring->kick_fd;
	queue->base.wake.missing = "the front end gave no kick descriptor";
	device_ring->desc_uva = shadow_uva + offset;
	device_ring->avail_uva = shadow_uva + avail;
	device_ring->used_uva = shadow_uva + used;
	device_ring->base = 0;
	device_ring->kick_fd = queue->kick_fd;
	/* One descriptor tells the worker of both sides (relay_datapath.c). */
	device_ring->call_fd = ring->kick_fd;
	return 0;
}

/* Where a ring of the guest stands: vring_device_position(), and what SET_VRING_BASE takes. */
static uint32_t base_of(const struct vring_device *device)
{
	return vring_device_position(device);
}

/* The ring was served elsewhere and stands there now. */
static void position_take(struct vring_device *device, uint32_t base)
{
	device->last_avail_idx = (uint16_t)base;
	device->used_idx = device->packed ? (uint16_t)(base >> 16)
					  : __atomic_load_n(&device->used->idx, __ATOMIC_RELAXED);
	device->published_idx = device->used_idx;
}

/* A device that answers just in time, again and again, takes too long all the same. */
static bool is_late(struct relay *relay)
{
	if (clock_now_us() <= relay->until_us)
		return false;
	device_fail(relay, "it takes too long to stop and start its rings");
	return true;
}

static int ring_start(struct relay *relay, unsigned int index, bool shadowed, uint64_t shadow_uva)
{
	struct vu_ring *ring = vu_backend_ring(relay->front_end.session, index);
	struct vu_frontend_ring device_ring = {
		.index = index,
		.size = ring->size,
		.desc_uva = ring->desc_uva,
		.avail_uva = ring->avail_uva,
		.used_uva = ring->used_uva,
		.base = base_of(&ring->device),
		.kick_fd = ring->kick_fd,
		.call_fd = ring->call_fd,
	};
	int rc = is_late(relay) ? -ETIMEDOUT : 0;

	if (rc == 0 && shadowed)
		rc = shadow_start(relay, index, shadow_uva, &device_ring);

	if (rc == 0)
		rc = vu_frontend_ring_start(relay->device, &device_ring);
	if (rc == 0)
		rc = vu_frontend_ring_enable(relay->device, index, ring->enabled);
	/* Without SET_VRING_ENABLE a started ring is enabled. */
	if (rc == 0 || rc == -EOPNOTSUPP) {
		relay->rings[index].is_started = true;
		return 0;
	}
	vring_shadow_destroy(relay->rings[index].queue.shadow);
	relay->rings[index].queue.shadow = NULL;
	return rc;
}

static void ring_stop(struct relay *relay, unsigned int index)
{
	struct relay_ring *ring = &relay->rings[index];
	struct vu_ring *of_guest = vu_backend_ring(relay->front_end.session, index);
	uint32_t base = 0;
	int rc = relay->device_failed || is_late(relay) ?
			 -ETIMEDOUT :
			 vu_frontend_ring_stop(relay->device, index, &base);

	ring->is_started = false;
	if (rc != 0)
		device_fail(relay, "stopping a ring");
	if (ring->queue.shadow != NULL) {
		/* Lies or not, alive or not: what it has not used is the guest's to offer again. */
		vring_shadow_stop(ring->queue.shadow,
			of_guest->dirty.log != NULL ? &of_guest->dirty : NULL);
		vring_shadow_destroy(ring->queue.shadow);
		ring->queue.shadow = NULL;
	} else if (rc == 0) {
		position_take(&of_guest->device, base);
	} else {
		/* Nobody says how far it came: what it did not say it used it has not (virtio 2.7.8). */
		position_take(&of_guest->device, of_guest->device.packed ?
							 base_of(&of_guest->device) :
							 __atomic_load_n(&of_guest->device.used->idx, __ATOMIC_RELAXED));
	}
}

static bool any_started(const struct relay *relay)
{
	for (unsigned int i = 0; i < MAX_RINGS; i++) {
		if (relay->rings[i].is_started)
			return true;
	}
	return false;
}

/* ---- The guest's session ---- */

static void on_quiesce(void *ctx)
{
	struct relay *relay = ctx;

	if (!relay->quiesced && relay->state == RELAY_SHADOWING) {
		relay->quiesced = true;
		relay->base.host->changed(relay->base.host->ctx);
	}
	relay->quiesced = true;
	relay->until_us = clock_now_us() + DEVICE_DEADLINE_US;
	for (unsigned int i = 0; i < MAX_RINGS; i++) {
		if (relay->rings[i].is_started)
			ring_stop(relay, i);
	}
}

static int rings_start(struct relay *relay, bool shadowed)
{
	struct vu_backend *session = relay->front_end.session;
	uint64_t wanted = vu_backend_features(session) &
			  ~(VU_BIT(VHOST_USER_F_LOG_ALL) | VU_BIT(VHOST_USER_F_PROTOCOL_FEATURES));
	uint64_t taken, shadow_uva = 0;
	int rc = 0;

	if ((vu_frontend_features(relay->device) & ~VU_BIT(VHOST_USER_F_PROTOCOL_FEATURES)) != wanted) {
		rc = vu_frontend_set_features(relay->device, wanted, &taken);
		if (rc == 0 && (taken & wanted) != wanted)
			rc = -EOPNOTSUPP;
	}
	if (rc == 0)
		rc = shadow_memory_make(relay);
	if (rc == 0)
		rc = memory_hand_on(relay, &shadow_uva);
	for (unsigned int i = 0; rc == 0 && i < 2 * relay->n_queue_pairs; i++) {
		if (vu_backend_ring(session, i)->state == VU_RING_RUNNING)
			rc = ring_start(relay, i, shadowed, shadow_uva);
	}
	return rc == 0 ? vu_frontend_driver_ok(relay->device) : rc;
}

static void on_resume(void *ctx)
{
	struct relay *relay = ctx;
	struct vu_backend *session = relay->front_end.session;
	bool shadowed, any = false;

	relay->quiesced = false;
	relay->until_us = clock_now_us() + DEVICE_DEADLINE_US;
	for (unsigned int i = 0; i < 2 * relay->n_queue_pairs; i++)
		any |= vu_backend_ring(session, i)->state == VU_RING_RUNNING;
	if (!any || relay->device_failed) {
		set_state(relay, RELAY_CONNECTED);
		return;
	}
	shadowed = shadow_is_wanted(relay);
	if (rings_start(relay, shadowed) != 0)
		device_fail(relay, "starting the rings");
	if (relay->state == (shadowed ? RELAY_PASSING : RELAY_SHADOWING))
		relay->n_switches++;
	set_state(relay, shadowed ? RELAY_SHADOWING : RELAY_PASSING);
	if (shadowed)
		relay->base.host->offered(relay->base.host->ctx);
}

static void on_send_rarp(void *ctx, const uint8_t *mac)
{
	struct relay *relay = ctx;
	int rc = relay->device_failed ? 0 : vu_frontend_send_rarp(relay->device, mac);

	if (rc != 0 && rc != -EOPNOTSUPP)
		device_fail(relay, "announcing the guest");
}

static void on_set_mtu(void *ctx, uint16_t mtu)
{
	struct relay *relay = ctx;
	int rc = relay->device_failed ? 0 : vu_frontend_set_mtu(relay->device, mtu);

	if (rc != 0 && rc != -EOPNOTSUPP)
		device_fail(relay, "setting the MTU");
}

static void device_close(struct relay *relay)
{
	if (relay->device_event != NULL)
		event_free(relay->device_event);
	relay->device_event = NULL;
	vu_frontend_destroy(relay->device);
	relay->device = NULL;
	relay->has_memory = false;
	relay->is_used = false;
}

static int device_connect(struct relay *relay, int fd);

/* A device that has had a guest may have its memory and features still: the next guest gets a new session with it. */
static int device_renew(struct relay *relay)
{
	char error[UNIX_SOCKET_ERROR_MAX];
	int fd;

	/* First: a device may serve one front end at a time. */
	device_close(relay);
	fd = unix_socket_connect(relay->device_path, error, sizeof(error));
	if (fd >= 0)
		return device_connect(relay, fd);
	snprintf(relay->device_error, sizeof(relay->device_error), "device %s: connecting anew: %s",
		relay->device_path, strerror(-fd));
	return fd;
}

static uint64_t on_features(void *ctx, unsigned int *n_queue_pairs, unsigned int *n_memory_slots)
{
	struct relay *relay = ctx;
	uint64_t offered;
	int bit;

	if (relay->is_used && device_renew(relay) != 0) {
		/* The session ends at once: there is nothing behind it. */
		relay->device_failed = true;
		relay->n_queue_pairs = *n_queue_pairs;
		event_active(relay->retry_event, 0, 0);
		return 0;
	}
	offered = vu_frontend_offered(relay->device) & features_carried(relay);
	/* Devices offer bits whose prerequisites they do not. */
	while ((bit = vu_features_inconsistent(offered, NULL)) >= 0)
		offered &= ~VU_BIT(bit);
	*n_queue_pairs = relay->n_queue_pairs;
	*n_memory_slots = RTE_MIN(vu_frontend_memory_slots(relay->device), (unsigned int)GMEM_MAX_REGIONS);
	/* In pass-through nobody would log; otherwise one slot is for shadow rings. */
	if (relay->relay == RELAY_PASS_THROUGH)
		return offered;
	*n_memory_slots -= *n_memory_slots > 1;
	return offered | VU_BIT(VHOST_USER_F_LOG_ALL);
}

static void on_begun(void *ctx)
{
	struct relay *relay = ctx;

	relay->retry_ms = RETRY_MIN_MS;
	relay->is_used = true;
	set_state(relay, RELAY_CONNECTED);
}

static void on_ended(void *ctx)
{
	struct relay *relay = ctx;

	relay->quiesced = false;
	relay->has_memory = false;
	set_state(relay, RELAY_IDLE);
	if (!relay->device_failed)
		event_active(relay->retry_event, 0, 0);
}

static const struct front_end_ops front_end_ops = {
	.session = {
		.quiesce = on_quiesce,
		.resume = on_resume,
		.send_rarp = on_send_rarp,
		.set_mtu = on_set_mtu,
	},
	.features = on_features,
	.begun = on_begun,
	.ended = on_ended,
	.keeps_memory = true,
};

/* ---- Finding the device ---- */

static void retry_later(struct relay *relay, unsigned int ms)
{
	const struct timeval delay = { .tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000 };

	event_add(relay->retry_event, &delay);
}

static void retry_after_failure(struct relay *relay)
{
	retry_later(relay, relay->retry_ms);
	relay->retry_ms = RTE_MIN(2 * relay->retry_ms, RETRY_MAX_MS);
}

/* The device has gone, or must go: so must the guest's front end, and both may come again. */
static void device_lose(struct relay *relay)
{
	relay->device_failed = true; /* stop asking it */
	if (relay->front_end.session != NULL)
		front_end_lose(&relay->front_end, relay->device_error);
	else
		log_limited(&relay->log_limit, LOG_LEVEL_WARN, "port %s: %s", relay->base.name,
			relay->device_error);
	front_end_close(&relay->front_end);
	device_close(relay);
	relay->device_failed = false;
	set_state(relay, RELAY_NO_DEVICE);
	retry_after_failure(relay);
}

static void on_device(evutil_socket_t fd, short what, void *ctx)
{
	struct relay *relay = ctx;

	if (vu_frontend_check(relay->device) == 0)
		return;
	snprintf(relay->device_error, sizeof(relay->device_error), "device %s: it has gone: %s",
		relay->device_path, vu_frontend_error(relay->device));
	device_lose(relay);
}

static int guest_side_open(struct relay *relay, char *error, size_t error_size)
{
	const struct front_end_config front_end = {
		.name = relay->base.name,
		.role = relay->role,
		.socket = &relay->socket,
		.n_queue_pairs = relay->n_queue_pairs_max,
		.events = relay->base.host->events,
		.ops = &front_end_ops,
		.ctx = relay,
	};

	return front_end_open(&relay->front_end, &front_end, error, error_size);
}

/* Whether the other end is this very process: a port's own socket, where it would wait for itself. */
static bool is_ourselves(int fd)
{
	struct ucred peer = { 0 };
	socklen_t length = sizeof(peer);

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0 && peer.pid == getpid();
}

/* Begins a session with the device. Takes over fd. 0, or a negative errno and a line in device_error. */
static int device_connect(struct relay *relay, int fd)
{
	const struct vu_frontend_config config = { .deadline_us = DEVICE_DEADLINE_US };
	struct vu_frontend *device = is_ourselves(fd) ? NULL : vu_frontend_create(&config, fd);
	struct event *event = NULL;
	const char *why = "";
	uint64_t taken;
	int rc = -EINVAL;

	if (device == NULL) {
		why = is_ourselves(fd) ? "it is a socket of this daemon itself" : "out of memory";
		close(fd);
	} else {
		rc = vu_frontend_negotiate(device, features_carried(relay), &taken);
		why = rc != 0 ? vu_frontend_error(device) : "";
	}
	if (rc == 0 && (taken & VU_BIT(VIRTIO_F_VERSION_1)) == 0) {
		rc = -EOPNOTSUPP;
		why = "it does not offer VERSION_1, which a relay needs";
	}
	if (rc == 0) {
		event = event_new(relay->base.host->events, vu_frontend_fd(device), EV_READ | EV_PERSIST,
			on_device, relay);
		if (event == NULL || event_add(event, NULL) != 0) {
			rc = -ENOMEM;
			why = "out of memory";
		}
	}
	if (rc == 0) {
		relay->device = device;
		relay->device_event = event;
		relay->n_queue_pairs = RTE_MIN(vu_frontend_queue_pairs(device), relay->n_queue_pairs_max);
		return 0;
	}
	snprintf(relay->device_error, sizeof(relay->device_error), "device %s: %s", relay->device_path, why);
	if (event != NULL)
		event_free(event);
	vu_frontend_destroy(device);
	return rc;
}

/* The device, and then the guest's side. 0, or a negative errno and a line in device_error. */
static int device_begin(struct relay *relay, int fd)
{
	char why[UNIX_SOCKET_ERROR_MAX];
	int rc = device_connect(relay, fd);

	if (rc != 0)
		return rc;
	rc = guest_side_open(relay, why, sizeof(why));
	if (rc == 0)
		return 0;
	snprintf(relay->device_error, sizeof(relay->device_error), "%.250s", why);
	device_close(relay);
	return rc;
}

static void on_retry(evutil_socket_t unused_fd, short what, void *ctx)
{
	struct relay *relay = ctx;
	char error[UNIX_SOCKET_ERROR_MAX];
	int fd;

	/* A guest has gone, and its memory is to be let go. */
	if (relay->device != NULL && !relay->device_failed && relay->is_used &&
		relay->front_end.session == NULL && device_renew(relay) != 0)
		relay->device_failed = true;
	if (relay->device_failed) {
		device_lose(relay);
		return;
	}
	if (relay->device != NULL)
		return;
	fd = unix_socket_connect(relay->device_path, error, sizeof(error));
	if (fd >= 0 && device_begin(relay, fd) == 0) {
		relay->device_error[0] = '\0';
		set_state(relay, RELAY_IDLE);
		return;
	}
	if (fd < 0) {
		/* A device that is not there yet is the normal case; anything else is said once per kind. */
		if (fd != -ENOENT && fd != -ECONNREFUSED && fd != -EAGAIN &&
			strncmp(relay->device_error, error, sizeof(relay->device_error) - 1) != 0) {
			snprintf(relay->device_error, sizeof(relay->device_error), "%.255s", error);
			log_limited(&relay->log_limit, LOG_LEVEL_WARN, "port %s: %s", relay->base.name,
				relay->device_error);
		}
		retry_later(relay, RETRY_MIN_MS);
		return;
	}
	relay->retry_ms = RTE_MAX(relay->retry_ms, (unsigned int)RETRY_BAD_MS);
	log_limited(&relay->log_limit, LOG_LEVEL_WARN, "port %s: %s; trying again in %u ms",
		relay->base.name, relay->device_error, relay->retry_ms);
	retry_after_failure(relay);
}

/* ---- The port ---- */

static unsigned int relay_list_rx(struct port *port, struct rx_queue **queues)
{
	struct relay *relay = relay_of(port);
	unsigned int n = 0;

	for (unsigned int i = 0; i < MAX_RINGS && !relay->quiesced; i++) {
		if (relay->rings[i].queue.shadow != NULL)
			queues[n++] = &relay->rings[i].queue.base;
	}
	return n;
}

static unsigned int relay_list_tx(struct port *port, struct tx_queue **queues)
{
	return 0;
}

static void relay_tick(struct port *port)
{
	struct relay *relay = relay_of(port);

	if (relay->front_end.session == NULL || relay->state != RELAY_SHADOWING)
		return;
	for (unsigned int i = 0; i < MAX_RINGS; i++) {
		struct relay_queue *queue = &relay->rings[i].queue;

		if (queue->shadow == NULL)
			continue;
		if (__atomic_load_n(&queue->blocks, __ATOMIC_RELAXED)) {
			front_end_lose(&relay->front_end, "a call eventfd is full and was made blocking");
			return;
		}
		if (__atomic_load_n(&queue->is_lying, __ATOMIC_RELAXED) ||
			__atomic_load_n(&queue->kick_blocks, __ATOMIC_RELAXED)) {
			snprintf(relay->device_error, sizeof(relay->device_error), "device %s: ring %u: %s",
				relay->device_path, i,
				queue->is_lying ? "it used what it was not given" :
						  "its kick eventfd is full and was made blocking");
			device_lose(relay);
			return;
		}
		if (__atomic_load_n(&queue->ring->device.breakage, __ATOMIC_RELAXED) != VRING_INTACT) {
			on_quiesce(relay);
			vu_backend_ring_broken(relay->front_end.session, i);
			on_resume(relay);
			return;
		}
	}
}

static void relay_describe(struct port *port, json_t *object)
{
	struct relay *relay = relay_of(port);
	json_t *carried = json_array();
	uint64_t offered = relay->device != NULL ? vu_frontend_offered(relay->device) : 0;

	for (size_t i = 0; i < sizeof(relayed) / sizeof(relayed[0]); i++) {
		bool is_carried = (features_carried(relay) >> relayed[i].bit & 1) != 0;

		if (relay->device != NULL && (offered >> relayed[i].bit & 1) != 0)
			json_array_append_new(carried,
				json_pack("{s:s, s:b, s:s}", "feature", vu_feature_name(relayed[i].bit),
					"carried", is_carried, "why", relayed[i].why));
	}
	json_object_set_new(object, "socket", json_string(relay->socket.path));
	json_object_set_new(object, "role",
		json_string(relay->role == GUEST_ROLE_LISTEN ? "listen" : "connect"));
	json_object_set_new(object, "state", json_string(state_names[relay->state]));
	json_object_set_new(object, "link", json_boolean(any_started(relay)));
	json_object_set_new(object, "queue_pairs", json_integer(relay->n_queue_pairs));
	json_object_set_new(object, "device", json_string(relay->device_path));
	json_object_set_new(object, "relay", json_string(relay_mode_name(relay->relay)));
	json_object_set_new(object, "switches", json_integer((json_int_t)relay->n_switches));
	json_object_set_new(object, "device_features", carried);
	json_object_set_new(object, "last_error",
		relay->device_error[0] != '\0'		? json_string(relay->device_error) :
		relay->front_end.last_error[0] != '\0' ? json_string(relay->front_end.last_error) :
							 json_null());
}

static void relay_destroy(struct port *port)
{
	struct relay *relay = relay_of(port);

	front_end_close(&relay->front_end);
	device_close(relay);
	if (relay->retry_event != NULL)
		event_free(relay->retry_event);
	if (relay->shadow_memory.size > 0)
		vu_frontend_memory_destroy(&relay->shadow_memory);
	for (unsigned int i = 0; i < MAX_RINGS; i++) {
		if (relay->rings[i].queue.kick_fd >= 0)
			close(relay->rings[i].queue.kick_fd);
	}
	free((char *)relay->socket.path);
	free((char *)relay->socket.owner);
	free((char *)relay->socket.group);
	free(relay->device_path);
	port_fini(port);
	rte_free(relay);
}

static const struct port_ops relay_ops = {
	.kind = "relay",
	.list_rx = relay_list_rx,
	.list_tx = relay_list_tx,
	.describe = relay_describe,
	.tick = relay_tick,
	.destroy = relay_destroy,
};

void relay_check_memory(struct port *port)
{
	struct relay *relay = relay_of(port);

	if (relay->front_end.session != NULL && vu_backend_memory_is_broken(relay->front_end.session))
		front_end_lose(&relay->front_end, "the front end took memory away that it had shared");
}

static char *copy_of(const char *text)
{
	return text != NULL ? strdup(text) : NULL;
}

static int relay_open(struct relay *relay, const struct relay_config *config, char *error, size_t error_size)
{
	int rc = unix_socket_path_check(config->socket.path, error, error_size);

	if (rc == 0)
		rc = unix_socket_path_check(config->device, error, error_size);
	if (rc != 0)
		return rc;
	relay->retry_event = event_new(relay->base.host->events, -1, 0, on_retry, relay);
	for (unsigned int i = 0; i < MAX_RINGS; i++)
		relay->rings[i].queue.kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (relay->retry_event == NULL || relay->socket.path == NULL || relay->device_path == NULL ||
		relay->rings[MAX_RINGS - 1].queue.kick_fd < 0) {
		snprintf(error, error_size, "out of memory or file descriptors");
		return -ENOMEM;
	}
	on_retry(-1, 0, relay);
	return 0;
}

struct port *relay_create(const struct relay_config *config, const struct port_host *host, char *error,
	size_t error_size)
{
	struct relay *relay = rte_zmalloc("relay", sizeof(*relay), RTE_CACHE_LINE_SIZE);
	char why[UNIX_SOCKET_ERROR_MAX];

	if (relay == NULL || port_init(&relay->base, &relay_ops, host, config->name, config->id) != 0) {
		snprintf(error, error_size, "port %s: out of memory", config->name);
		rte_free(relay);
		return NULL;
	}
	relay->relay = config->relay;
	relay->role = config->role;
	relay->n_queue_pairs_max = relay->n_queue_pairs = config->n_queue_pairs;
	relay->retry_ms = RETRY_MIN_MS;
	relay->base.mode = config->mode;
	relay->socket = (struct unix_socket_spec){
		.path = copy_of(config->socket.path),
		.owner = copy_of(config->socket.owner),
		.group = copy_of(config->socket.group),
		.mode = config->socket.mode,
	};
	relay->device_path = copy_of(config->device);
	for (unsigned int i = 0; i < MAX_RINGS; i++) {
		relay->rings[i].queue.base.port = &relay->base;
		relay->rings[i].queue.base.index = (uint16_t)i;
		relay->rings[i].queue.base.numa_node = -1;
		relay->rings[i].queue.kick_fd = -1;
		relay_queue_init(&relay->rings[i].queue);
		if (i % 2 == 1)
			relay->rings[i].queue.base.beside = &relay->rings[i - 1].queue.base;
	}
	if (relay_open(relay, config, why, sizeof(why)) != 0) {
		snprintf(error, error_size, "port %s: %s", config->name, why);
		relay_destroy(&relay->base);
		return NULL;
	}
	return &relay->base;
}
