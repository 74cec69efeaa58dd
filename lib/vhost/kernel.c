/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vhost-net by its ioctls.
 *
 * The kernel checks addresses against what a user may touch at all, and not against what is mapped there or how long
 * it is. What a log or a table lets it write is therefore held against their sizes here.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/vhost.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <gmem/gmem.h>
#include <gmem/log.h>
#include <vhost/kernel.h>
#include <vring/device.h>

#define BIT(n) (UINT64_C(1) << (n))

#define NEVER_OFFERED                                                                                                  \
	(BIT(VHOST_F_LOG_ALL) | BIT(VHOST_NET_F_VIRTIO_NET_HDR) | BIT(VIRTIO_F_ACCESS_PLATFORM) | BIT(VIRTIO_F_RING_PACKED))

struct ring {
	struct vhost_kernel_ring config; /* while it runs */
	bool is_running;
};

struct vhost_kernel {
	int fd;
	uint64_t offered;
	uint64_t features;
	uint64_t end_gpa; /* behind the last byte of the table */
	uint8_t *log;     /* NULL: nothing is logged */
	uint64_t log_bytes;
	struct ring rings[VHOST_KERNEL_RINGS];
	char error[256];
};

static int fail(struct vhost_kernel *session, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Notes the line for vhost_kernel_error() and hands the code through. */
static int fail(struct vhost_kernel *session, int code, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(session->error, sizeof(session->error), format, args);
	va_end(args);
	return code;
}

#define NO_RING (-1)

static int ask_as(struct vhost_kernel *session, unsigned long request, const char *name, int ring, void *argument)
{
	int error;

	if (ioctl(session->fd, request, argument) >= 0)
		return 0;
	error = errno;
	if (ring == NO_RING)
		return fail(session, -error, "%s: %s", name, strerror(error));
	return fail(session, -error, "%s: ring %d: %s", name, ring, strerror(error));
}

#define ask(session, request, argument) ask_as(session, request, #request, NO_RING, argument)

/* For what begins with the ring's index. */
#define ask_ring(session, request, argument) ask_as(session, request, #request, (int)(argument)->index, argument)

static int send_fd_as(struct vhost_kernel *session, unsigned long request, const char *name, unsigned int index, int fd)
{
	struct vhost_vring_file file = {.index = index, .fd = fd < 0 ? VHOST_FILE_UNBIND : fd};

	return ask_as(session, request, name, (int)index, &file);
}

/* fd -1: none. */
#define send_fd(session, request, index, fd) send_fd_as(session, request, #request, index, fd)

struct vhost_kernel *vhost_kernel_open(const char *path)
{
	struct vhost_kernel *session = calloc(1, sizeof(*session));

	if (session == NULL)
		return NULL;
	session->fd = open(path != NULL ? path : VHOST_KERNEL_PATH, O_RDWR | O_CLOEXEC);
	if (session->fd < 0) {
		int error = errno;

		free(session);
		errno = error;
		return NULL;
	}
	return session;
}

void vhost_kernel_destroy(struct vhost_kernel *session)
{
	if (session == NULL)
		return;
	/* By name: a child that inherited the descriptor keeps the file, and with it the rings, from ending. */
	for (unsigned int i = 0; i < VHOST_KERNEL_RINGS; i++) {
		if (session->rings[i].is_running)
			vhost_kernel_ring_stop(session, i, NULL);
	}
	close(session->fd);
	free(session);
}

const char *vhost_kernel_error(const struct vhost_kernel *session)
{
	return session->error;
}

uint64_t vhost_kernel_offered(const struct vhost_kernel *session)
{
	return session->offered;
}

uint64_t vhost_kernel_features(const struct vhost_kernel *session)
{
	return session->features;
}

static int check_stopped(struct vhost_kernel *session, unsigned int index, const char *what)
{
	if (session->rings[index].is_running)
		return fail(session, -EBUSY, "%s: ring %u is running", what, index);
	return 0;
}

static int send_features(struct vhost_kernel *session, uint64_t features, bool logs)
{
	if (logs)
		features |= BIT(VHOST_F_LOG_ALL);
	return ask(session, VHOST_SET_FEATURES, &features);
}

static int take_features(struct vhost_kernel *session, uint64_t wanted, uint64_t *taken)
{
	uint64_t features = wanted & session->offered;
	int ret = send_features(session, features, session->log != NULL);

	if (ret < 0)
		return ret;
	session->features = features;
	*taken = features;
	return 0;
}

int vhost_kernel_set_features(struct vhost_kernel *session, uint64_t wanted, uint64_t *taken)
{
	for (unsigned int i = 0; i < VHOST_KERNEL_RINGS; i++) {
		int ret = check_stopped(session, i, "features");

		if (ret < 0)
			return ret;
	}
	return take_features(session, wanted, taken);
}

int vhost_kernel_negotiate(struct vhost_kernel *session, uint64_t wanted, uint64_t *taken)
{
	uint64_t offered;
	int ret = ask(session, VHOST_SET_OWNER, NULL);

	if (ret == 0)
		ret = ask(session, VHOST_GET_FEATURES, &offered);
	if (ret < 0)
		return ret;
	session->offered = offered & ~NEVER_OFFERED;
	return take_features(session, wanted, taken);
}

/* Whether `size` bytes of log have a bit for every page before `end_gpa`. */
static bool log_covers(uint64_t size, uint64_t end_gpa)
{
	return end_gpa == 0 || (end_gpa - 1) / GMEM_LOG_PAGE_BYTES / 8 < size;
}

static int check_log(struct vhost_kernel *session, uint64_t size, uint64_t end_gpa)
{
	if (log_covers(size, end_gpa))
		return 0;
	return fail(session, -EINVAL, "log of %#llx bytes; memory ends at %#llx", (unsigned long long)size,
		(unsigned long long)end_gpa);
}

/* The address behind the last byte of a region that is told right, otherwise 0. */
static uint64_t region_end(const struct vhost_kernel_region *region)
{
	uint64_t hva = (uintptr_t)region->hva;

	if (region->size == 0 || hva == 0 || hva + region->size < hva || region->gpa + region->size < region->gpa)
		return 0;
	return region->gpa + region->size;
}

int vhost_kernel_set_memory(struct vhost_kernel *session, const struct vhost_kernel_region *regions, unsigned int n)
{
	struct {
		struct vhost_memory head;
		struct vhost_memory_region regions[GMEM_MAX_REGIONS];
	} table = {.head.nregions = n};
	uint64_t end_gpa = 0;
	int ret;

	if (n > GMEM_MAX_REGIONS)
		return fail(session, -EINVAL, "%u regions; allowed: 0..%u", n, GMEM_MAX_REGIONS);
	for (unsigned int i = 0; i < n; i++) {
		uint64_t end = region_end(&regions[i]);

		if (end == 0)
			return fail(session, -EINVAL, "region %u: gpa %#llx, size %#llx at %p: empty, or it wraps", i,
				(unsigned long long)regions[i].gpa, (unsigned long long)regions[i].size, regions[i].hva);
		end_gpa = end > end_gpa ? end : end_gpa;
		table.regions[i] = (struct vhost_memory_region){.guest_phys_addr = regions[i].gpa,
			.memory_size = regions[i].size,
			.userspace_addr = (uintptr_t)regions[i].hva};
	}
	if (session->log != NULL) {
		ret = check_log(session, session->log_bytes, end_gpa);
		if (ret < 0)
			return ret;
	}
	ret = ask(session, VHOST_SET_MEM_TABLE, &table);
	if (ret == 0)
		session->end_gpa = end_gpa;
	return ret;
}

static int check_index(struct vhost_kernel *session, unsigned int index)
{
	if (index >= VHOST_KERNEL_RINGS)
		return fail(session, -EINVAL, "ring %u; allowed: 0..%u", index, VHOST_KERNEL_RINGS - 1);
	return 0;
}

static int check_running(struct vhost_kernel *session, unsigned int index)
{
	int ret = check_index(session, index);

	if (ret == 0 && !session->rings[index].is_running)
		ret = fail(session, -EINVAL, "ring %u is not running", index);
	return ret;
}

static bool is_part(const void *part, size_t alignment)
{
	return part != NULL && (uintptr_t)part % alignment == 0;
}

/* Whether the log, if there is one, has the bits that this ring's used entries ask for. */
static int check_ring_log(
	struct vhost_kernel *session, const struct vhost_kernel_ring *ring, const uint8_t *log, uint64_t log_bytes)
{
	uint64_t end = ring->log_gpa + vring_used_bytes(ring->size);

	if (ring->log_gpa == VHOST_KERNEL_NOT_LOGGED)
		return 0;
	if (ring->log_gpa % VRING_USED_ALIGN != 0 || end < ring->log_gpa)
		return fail(session, -EINVAL, "ring %u: log_gpa %#llx is not aligned, or wraps", ring->index,
			(unsigned long long)ring->log_gpa);
	return log == NULL ? 0 : check_log(session, log_bytes, end);
}

static int check_ring(struct vhost_kernel *session, const struct vhost_kernel_ring *ring)
{
	if (ring->size == 0 || ring->size > VRING_SIZE_MAX || (ring->size & (ring->size - 1)) != 0)
		return fail(session, -EINVAL, "ring %u: size %u; allowed: powers of two in 1..%u", ring->index, ring->size,
			VRING_SIZE_MAX);
	if (!is_part(ring->desc, VRING_DESC_ALIGN) || !is_part(ring->avail, VRING_AVAIL_ALIGN) ||
		!is_part(ring->used, VRING_USED_ALIGN))
		return fail(session, -EINVAL, "ring %u: parts at %p, %p, %p; one is missing or not aligned", ring->index,
			ring->desc, ring->avail, ring->used);
	if (ring->kick_fd < 0 || ring->tap_fd < 0)
		return fail(session, -EINVAL, "ring %u: kick %d, tap %d; both are needed", ring->index, ring->kick_fd, ring->tap_fd);
	return check_ring_log(session, ring, session->log, session->log_bytes);
}

static int send_address(struct vhost_kernel *session, const struct vhost_kernel_ring *ring, bool logs)
{
	struct vhost_vring_addr address = {
		.index = ring->index,
		.desc_user_addr = (uintptr_t)ring->desc,
		.avail_user_addr = (uintptr_t)ring->avail,
		.used_user_addr = (uintptr_t)ring->used,
	};

	if (logs && ring->log_gpa != VHOST_KERNEL_NOT_LOGGED) {
		address.flags = 1u << VHOST_VRING_F_LOG;
		address.log_guest_addr = ring->log_gpa;
	}
	return ask_ring(session, VHOST_SET_VRING_ADDR, &address);
}

static int start(struct vhost_kernel *session, const struct vhost_kernel_ring *ring)
{
	struct vhost_vring_state num = {.index = ring->index, .num = ring->size};
	struct vhost_vring_state base = {.index = ring->index, .num = ring->base};
	int ret = ask_ring(session, VHOST_SET_VRING_NUM, &num);

	if (ret == 0)
		ret = ask_ring(session, VHOST_SET_VRING_BASE, &base);
	if (ret == 0)
		ret = send_address(session, ring, session->log != NULL);
	if (ret == 0)
		ret = send_fd(session, VHOST_SET_VRING_CALL, ring->index, ring->call_fd);
	if (ret == 0)
		ret = send_fd(session, VHOST_SET_VRING_KICK, ring->index, ring->kick_fd);
	/*
	 * It begins to poll the tap now, and so looks at the ring: a sender's tap is writable, and a receiver's has
	 * frames or not.
	 */
	if (ret == 0)
		ret = send_fd(session, VHOST_NET_SET_BACKEND, ring->index, ring->tap_fd);
	return ret;
}

/* Lets go of a stopped ring's descriptors. What went wrong before, `ret`, is what the caller hears of. */
static int release(struct vhost_kernel *session, unsigned int index, int ret)
{
	char error[sizeof(session->error)];
	int kick, call;

	memcpy(error, session->error, sizeof(error));
	kick = send_fd(session, VHOST_SET_VRING_KICK, index, VHOST_FILE_UNBIND);
	call = send_fd(session, VHOST_SET_VRING_CALL, index, VHOST_FILE_UNBIND);
	if (ret == 0)
		return kick < 0 ? kick : call;
	memcpy(session->error, error, sizeof(error));
	return ret;
}

int vhost_kernel_ring_start(struct vhost_kernel *session, const struct vhost_kernel_ring *ring)
{
	int ret = check_index(session, ring->index);

	if (ret == 0)
		ret = check_stopped(session, ring->index, "start");
	if (ret == 0)
		ret = check_ring(session, ring);
	if (ret < 0)
		return ret;
	ret = start(session, ring);
	if (ret < 0)
		return release(session, ring->index, ret);
	session->rings[ring->index] = (struct ring){.config = *ring, .is_running = true};
	return 0;
}

int vhost_kernel_ring_stop(struct vhost_kernel *session, unsigned int index, uint16_t *base)
{
	struct vhost_vring_state state = {.index = index};
	int ret = check_running(session, index);

	if (ret == 0)
		ret = send_fd(session, VHOST_NET_SET_BACKEND, index, VHOST_FILE_UNBIND);
	if (ret < 0)
		return ret;
	session->rings[index].is_running = false;
	ret = ask_ring(session, VHOST_GET_VRING_BASE, &state);
	ret = release(session, index, ret);
	if (ret == 0 && base != NULL)
		*base = (uint16_t)state.num;
	return ret;
}

int vhost_kernel_ring_set_call(struct vhost_kernel *session, unsigned int index, int call_fd)
{
	int ret = check_running(session, index);

	return ret < 0 ? ret : send_fd(session, VHOST_SET_VRING_CALL, index, call_fd);
}

int vhost_kernel_ring_set_err(struct vhost_kernel *session, unsigned int index, int err_fd)
{
	int ret = check_index(session, index);

	return ret < 0 ? ret : send_fd(session, VHOST_SET_VRING_ERR, index, err_fd);
}

static int check_new_log(struct vhost_kernel *session, const uint8_t *bits, uint64_t size)
{
	int ret = check_log(session, size, session->end_gpa);

	for (unsigned int i = 0; i < VHOST_KERNEL_RINGS && ret == 0; i++) {
		if (session->rings[i].is_running)
			ret = check_ring_log(session, &session->rings[i].config, bits, size);
	}
	return ret;
}

int vhost_kernel_set_log(struct vhost_kernel *session, uint8_t *bits, uint64_t size)
{
	uint64_t address = (uintptr_t)bits;
	bool logs = bits != NULL;
	int ret = logs ? check_new_log(session, bits, size) : 0;

	if (ret == 0 && logs)
		ret = ask(session, VHOST_SET_LOG_BASE, &address);
	if (ret == 0)
		ret = send_features(session, session->features, logs);
	for (unsigned int i = 0; i < VHOST_KERNEL_RINGS && ret == 0; i++) {
		if (session->rings[i].is_running)
			ret = send_address(session, &session->rings[i].config, logs);
	}
	if (ret < 0)
		return ret;
	session->log = bits;
	session->log_bytes = logs ? size : 0;
	return 0;
}
