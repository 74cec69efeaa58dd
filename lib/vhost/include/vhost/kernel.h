/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The kernel's vhost-net as the device of a queue pair: it moves frames between two rings and a tap (linux/vhost.h).
 *
 * What frontend.h is for a back end in another process, for the one in the kernel. The kernel is trusted; arguments
 * are checked where it would believe them and write elsewhere. It is told our own addresses, of memory and of rings
 * alike, so whatever is in its table has to stay mapped until it was replaced or the session destroyed. Rings need not
 * be in the table.
 *
 * A session is one open /dev/vhost-net and one queue pair; a device with several has a session, and a queue of the
 * tap, for each.
 *
 * The order of a session:
 *
 *     vhost_kernel_open(NULL)
 *     vhost_kernel_negotiate(wanted, &taken)
 *     vhost_kernel_set_memory()
 *     vhost_kernel_ring_start() for both rings
 *     ... frames, through lib/vring's driver side ...
 *     vhost_kernel_ring_stop() for both rings: after it returns the kernel neither reads nor writes that ring
 *     vhost_kernel_destroy()
 *
 * All calls return 0 (or what they say) or a negative errno, and vhost_kernel_error() has one line about it:
 *     -EINVAL   an argument is out of range; nothing was done
 *     -EBUSY    not while a ring runs; nothing was done. From negotiate also: done already
 *     -EPERM    from the kernel: negotiate has not been called, or this is another process than the one that called it (a child)
 *     other     from the kernel, which refused one of the call's ioctls; its name is in the line. The session goes on
 * No call has a deadline: they wait for the kernel's thread to end its turn, which is some milliseconds of work at
 * most.
 *
 * The tap's part (linux/if_tun.h) is the user's: IFF_TAP, IFF_NO_PI, IFF_VNET_HDR, a header of 12 bytes
 * (TUNSETVNETHDRSZ) when VERSION_1 or MRG_RXBUF was taken, else 10; and TUNSETOFFLOAD for what the driver accepts. Of
 * the network device's features the kernel negotiates here but MRG_RXBUF; the others are what the user makes of that
 * tap.
 *
 * Thread rule: one thread at a time per session.
 */
#ifndef VHOST_KERNEL_H
#define VHOST_KERNEL_H

#include <stddef.h>
#include <stdint.h>

#define VHOST_KERNEL_PATH "/dev/vhost-net"

struct vhost_kernel;

/*
 * `path` NULL: VHOST_KERNEL_PATH. NULL with errno, from open (ENOENT, ENODEV: the module vhost_net is missing; EACCES:
 * who may open it is the file's mode) or ENOMEM.
 */
struct vhost_kernel *vhost_kernel_open(const char *path);

/* Stops both rings; what the session was given is the caller's alone again, logs and memory too. NULL is allowed. */
void vhost_kernel_destroy(struct vhost_kernel *session);

/* The last error in one line; "" if there was none. Valid until the next call. */
const char *vhost_kernel_error(const struct vhost_kernel *session);

/*
 * Makes the calling process the owner and takes every bit of `wanted` (virtio bits) that the kernel offers; *taken is
 * the result. Bits that would change what this header says are never offered: ACCESS_PLATFORM (the kernel would ask us
 * for translations), RING_PACKED, and 26 and 27, which here mean something else than to virtio.
 */
int vhost_kernel_negotiate(struct vhost_kernel *session, uint64_t wanted, uint64_t *taken);

/* After negotiate: what the kernel offered and what was taken, virtio bits. */
uint64_t vhost_kernel_offered(const struct vhost_kernel *session);
uint64_t vhost_kernel_features(const struct vhost_kernel *session);

/* Takes features again, as a reset guest does; *taken as in negotiate. -EBUSY while a ring runs. */
int vhost_kernel_set_features(struct vhost_kernel *session, uint64_t wanted, uint64_t *taken);

/* What the kernel reads and writes at `hva` .. `hva` + size - 1 when a descriptor says gpa .. gpa + size - 1. */
struct vhost_kernel_region {
	uint64_t gpa;
	uint64_t size; /* bytes, > 0; the last byte's gpa does not wrap */
	void *hva;
};

/*
 * Replaces the whole table, also while rings run: when this returns, the kernel has done with the old one. n:
 * 0..GMEM_MAX_REGIONS; regions do not overlap in gpa. -E2BIG from the kernel: more regions than its module takes
 * (parameter max_mem_regions of vhost, 64 if nobody set it). -EINVAL also while a log is set that does not cover the
 * regions.
 */
int vhost_kernel_set_memory(struct vhost_kernel *session, const struct vhost_kernel_region *regions, unsigned int n);

#define VHOST_KERNEL_RX 0 /* the guest receives: the kernel writes what the tap sends */
#define VHOST_KERNEL_TX 1 /* the guest transmits */
#define VHOST_KERNEL_RINGS 2

#define VHOST_KERNEL_NOT_LOGGED UINT64_MAX

struct vhost_kernel_ring {
	unsigned int index; /* VHOST_KERNEL_RX, VHOST_KERNEL_TX */
	uint32_t size;      /* 1..32768, a power of two */
	/* Our addresses of the parts (vring/layout.h has sizes and alignment); mapped until the ring was stopped. */
	void *desc, *avail, *used;
	uint64_t log_gpa; /* of the used ring, a multiple of 4, if there may be a log; or VHOST_KERNEL_NOT_LOGGED */
	uint16_t base;    /* where the kernel begins: the next available index, 0 for a new ring */
	int kick_fd;      /* eventfd, stays the caller's */
	int call_fd;      /* eventfd, stays the caller's; -1: none */
	int tap_fd;       /* a tap's queue, the same for both rings; stays the caller's */
};

/*
 * NUM, BASE, ADDR, CALL, KICK, and the tap: the ring runs when this returns. Needs memory. What is available already
 * is seen without a kick. -EBUSY: it runs already. -EFAULT from the kernel: no memory was set; -ENOTSOCK: `tap_fd` is
 * no tap. After an error the ring is stopped, and the kernel holds none of the descriptors.
 */
int vhost_kernel_ring_start(struct vhost_kernel *session, const struct vhost_kernel_ring *ring);

/*
 * Takes the tap away and asks for the base; *base (may be NULL) is where the kernel got to. It is done with the ring
 * and with the descriptors, and leaves no buffer half done: what is available from *base on is untouched, everything
 * before it is used. (With the module's experimental_zcopytx too: it is waited for.) Frames that wait in the tap stay
 * there for the next start, if it comes before the tap's queue is full. -EINVAL: it does not run.
 */
int vhost_kernel_ring_stop(struct vhost_kernel *session, unsigned int index, uint16_t *base);

/*
 * Whom to signal, on a running ring; -1: nobody. The fd stays the caller's. A call may just have gone to the old one.
 */
int vhost_kernel_ring_set_call(struct vhost_kernel *session, unsigned int index, int call_fd);

/*
 * An eventfd that is signalled when the kernel cannot make sense of a ring (a descriptor outside the table, a loop,
 * more than 1024 pieces). It tries again with the next kick. -1: none. The fd stays the caller's. Stays over stops and
 * starts.
 */
int vhost_kernel_ring_set_err(struct vhost_kernel *session, unsigned int index, int err_fd);

/*
 * From now on the kernel sets, after each write, the bits of the pages it wrote (format and page size: gmem/log.h),
 * for buffers and for the used rings that have a log_gpa. `bits` NULL: no log any more. Otherwise `size` bytes that
 * cover every region and every such ring (else -EINVAL), mapped until another log or none was set, or the session
 * destroyed. Also while rings run: what the kernel writes after this returns is logged here and not in the old one.
 * After an error from the kernel it may log in either, until a call succeeds.
 */
int vhost_kernel_set_log(struct vhost_kernel *session, uint8_t *bits, uint64_t size);

#endif
