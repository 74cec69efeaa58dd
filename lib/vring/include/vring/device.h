/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The device side of a virtqueue (virtio 1.3, 2.7 split, 2.8 packed), both layouts behind the same verbs.
 *
 * The driver is hostile. Every index and descriptor is read once into private memory, checked there, and only the copy
 * is used; a chain is bounded by the ring size, VRING_CHAIN_MAX pieces and 2^32 - 1 bytes, a call by what a burst holds;
 * every address is translated with its length. Nothing here blocks, logs, allocates or calls the system.
 *
 * A burst through a transmit ring (driver to device), with no copy inside this library:
 *
 *     n = vring_device_peek(ring, &burst, VRING_READABLE, 32);  what the driver offers, parsed and translated
 *     ... use burst.buffers[0..n) ...
 *     vring_device_return(ring, &burst, n);                     used entries written, in ring order
 *     vring_device_publish(ring);                               one index store: the driver may see them
 *     if (vring_device_needs_call(ring)) signal the call fd
 *
 * and through a receive ring (device to driver):
 *
 *     k = vring_device_reserve(ring, &burst, lengths, n, grants);   buffers for the first k frames
 *     ... fill the pieces of the granted buffers, set used_len ...
 *     vring_device_return(ring, &burst, burst.n); publish; needs_call
 *
 * Whatever was peeked or reserved and not returned is still the driver's and is seen again by the next call.
 *
 * Thread rule: one thread at a time per ring (its worker, or the control thread while the ring is in no plan). Several that copy
 * side by side: vring/ticket.h.
 */
#ifndef VRING_DEVICE_H
#define VRING_DEVICE_H

#include <stdbool.h>
#include <stdint.h>

#include <gmem/gmem.h>
#include <vring/fence.h>
#include <vring/layout.h>

#define VRING_SIZE_MAX 32768

/* Pieces of one buffer after translation, indirect table included. Linux needs at most 19; more is refused and counted. */
#define VRING_CHAIN_MAX 1024

/* Buffers of one burst; also the most buffers one received frame may be spread over (mergeable). */
#define VRING_BURST_MAX 256

enum vring_direction {
	VRING_READABLE, /* device reads: transmit rings */
	VRING_WRITABLE, /* device writes: receive rings */
};

/* Why a buffer was refused. A refused buffer is returned with length 0 like any other, so that the ring lives on. */
enum vring_fault {
	VRING_OK,
	VRING_FAULT_ADDRESS,   /* outside the guest's regions */
	VRING_FAULT_NEXT,      /* next >= size */
	VRING_FAULT_CHAIN,     /* loop, or longer than the ring or VRING_CHAIN_MAX, tables counted */
	VRING_FAULT_DIRECTION, /* writable in a transmit ring, readable in a receive ring */
	VRING_FAULT_INDIRECT,  /* not negotiated, nested, with NEXT, bad table length */
	VRING_FAULT_LENGTH,    /* 0 bytes in all, or the sum passes 2^32 - 1 */
	VRING_N_FAULTS,
};

const char *vring_fault_name(enum vring_fault fault);

/* What ended a ring. A broken ring yields nothing more until it is initialised anew. */
enum vring_breakage {
	VRING_INTACT,
	VRING_BROKEN_AVAIL_IDX, /* available index leads by more than the ring size */
	VRING_BROKEN_HEAD,      /* head of a chain >= size: there is no id that could be returned */
	VRING_BROKEN_CHAIN,     /* packed: no end within the available slots or VRING_CHAIN_MAX, hence no id either */
	VRING_N_BREAKAGES,
};

const char *vring_breakage_name(enum vring_breakage breakage);

/* A run of bytes of a buffer in our address space. len > 0. */
struct vring_piece {
	uint8_t *hva;
	uint32_t len;
};

struct vring_buffer {
	struct vring_piece *pieces; /* into the burst */
	uint32_t len;               /* bytes of all pieces; 0 when refused */
	uint32_t used_len;          /* bytes written, set by the caller before return; 0 at first */
	uint16_t id;                /* split: head index; packed: the driver's own, any 16 bits */
	uint16_t n_pieces;
	uint16_t n_descs;           /* ring slots taken: 1 in a split ring (heads), 1..size in a packed one */
	uint8_t fault;              /* enum vring_fault */
};

struct vring_burst {
	unsigned int n;
	unsigned int n_pieces;
	enum vring_direction direction; /* what its buffers were taken as */
	struct vring_buffer buffers[VRING_BURST_MAX];
	struct vring_piece pieces[VRING_CHAIN_MAX + VRING_BURST_MAX * 4];
};

/* Everything needed to start; plain data. Addresses are checked for alignment and extent by whoever translated them. */
struct vring_config {
	uint16_t size; /* 1..32768; split: a power of two */
	bool packed;
	bool event_idx;
	bool indirect;
	bool in_order;       /* negotiated; buffers are used in ring order either way, see vring_device_return() */
	bool mergeable;      /* reserve may spread a frame over several buffers */
	uint16_t header_len; /* bytes of virtio-net header; a receive buffer shorter than that is VRING_FAULT_LENGTH */
	uint16_t avail_idx;  /* next available index to look at; packed: slot and wrap counter (layout.h), slot < size */
	uint16_t used_idx;   /* packed only: next to write, as avail_idx; a split ring's is in its memory */
	void *desc;
	void *avail; /* packed: the driver's event suppression structure */
	void *used;  /* packed: the device's */
	const struct gmem *mem; /* outlives the ring or is replaced by another init */
};

struct vring_run_ops;

struct vring_device {
	/* Hot: read or written each burst. */
	const struct vring_run_ops *run; /* vring/run.h */
	struct vring_desc *desc;   /* packed: struct vring_packed_desc */
	struct vring_avail *avail; /* packed: struct vring_packed_desc_event */
	struct vring_used *used;   /* packed: struct vring_packed_desc_event */
	const struct gmem *mem;
	struct gmem_cache cache;
	uint16_t size;
	uint16_t mask;           /* split only */
	uint16_t last_avail_idx; /* next to take; packed: slot and wrap counter, like the two below */
	uint16_t used_idx;       /* next to write or to give a ticket; ahead of what the driver can see until publish */
	uint16_t published_idx;  /* what the driver can see */
	uint16_t held_slot;      /* packed: first used descriptor since publish, whose flags are held back, */
	uint16_t held_flags;     /* and the flags that publish will give it */
	uint32_t writable_min_len; /* bytes a writable buffer must have */
	uint32_t n_uncalled;       /* published since needs_call was asked, packed: slots; stops counting beyond 65535 */
	bool call_is_due;          /* the first answer of needs_call is yes, see there */
	bool packed;
	bool is_held; /* held_slot and held_flags are set */
	bool event_idx;
	bool indirect;
	bool in_order;
	bool mergeable;
	uint8_t breakage; /* enum vring_breakage */
	/* Cold. */
	uint64_t n_faults[VRING_N_FAULTS];
};

/*
 * Starts a ring. A split ring's used index is taken from guest memory (virtio 2.7.8 through vhost-user SET_VRING_BASE,
 * which carries the available index only). Notifications are asked for or not with vring_device_set_kick().
 * Returns 0, or -EINVAL for a size that is not legal, a place in a packed ring beyond its size, or a part that is not
 * aligned in our address space (a front end may map its memory so that aligned guest addresses are not aligned here).
 */
int vring_device_init(struct vring_device *ring, const struct vring_config *config);

/*
 * Parses up to `max` (at most VRING_BURST_MAX) available buffers into `burst`, from the oldest on.
 * Returns how many, refused ones included (buffer.fault), 0 if there are none, or -EPROTO if the ring is broken.
 * Fewer than offered may come when the pieces of the burst run out; the rest comes next time.
 */
int vring_device_peek(struct vring_device *ring, struct vring_burst *burst,
	enum vring_direction direction, unsigned int max);

/* Buffers [first, first + n) of the burst hold one frame. n == 0: the frame got none, see vring_device_reserve(). */
struct vring_grant {
	uint16_t first;
	uint16_t n;
};

/*
 * Reserves receive buffers for frames of lengths[i] bytes each (header included, > 0), in order.
 * Returns how many frames were dealt with: fewer than n_frames when the ring ran out of buffers, -EPROTO if it is broken.
 * A dealt-with frame has n == 0 in its grant if it can never fit: without mergeable buffers, longer than the next
 * buffer, which stays for the next frame; with them, more than VRING_BURST_MAX buffers, or than the whole ring has.
 * burst->n counts every buffer taken; return all of them, also when no frame was dealt with. Those in no grant are
 * refused ones, and good ones a frame had gathered before it met a refused one: a frame's buffers lie side by side in
 * the used ring, so it starts anew behind. Their used_len stays 0.
 */
int vring_device_reserve(struct vring_device *ring, struct vring_burst *burst,
	const uint32_t *lengths, unsigned int n_frames, struct vring_grant *grants);

/*
 * Writes used entries for the first n buffers of the burst and takes them off the available ring. Not yet visible.
 * Faults are counted here, so that a buffer peeked twice counts once.
 * In a packed ring with in_order, one entry stands for a run of good readable buffers (2.8.8), so its driver has to have
 * negotiated that; writable ones have lengths to tell and refused ones were not used, so these have an entry each.
 */
void vring_device_return(struct vring_device *ring, const struct vring_burst *burst, unsigned int n);

/*
 * Makes returned entries visible, all at once: release store of the used index (2.7.8.2), or of the flags of the first
 * used descriptor, which were held back (2.8.9).
 */
void vring_device_publish(struct vring_device *ring);

/*
 * Whether the driver wants to be notified of what was published since the last time this was asked (2.7.7.2, 2.8.10).
 * With event index the first answer after init is yes once something was published, since whoever served the ring before
 * may have died between publishing and calling.
 * Contains the full fence between what was published and the driver's suppression data (fence A, pairs with the driver's
 * fence between its suppression data and its look at the used entries).
 */
bool vring_device_needs_call(struct vring_device *ring);

/* The same without the fence: for who has published on several rings and then called vring_fence() once. */
bool vring_device_wants_call(struct vring_device *ring);

/*
 * Asks the driver for kicks or tells it to spare them (2.7.10, 2.8.10). After asking, the caller must look at the ring
 * once more before it sleeps: vring_device_has_available() (fence B lies in between, inside this call).
 */
void vring_device_set_kick(struct vring_device *ring, bool wanted);

/*
 * The same for who wants more buffers than there are: asks for a kick by the first one behind them. Before it sleeps it looks
 * whether vring_device_backlog() has grown.
 */
void vring_device_set_kick_behind(struct vring_device *ring);

/* Whether the driver has made buffers available that were not taken yet. */
bool vring_device_has_available(const struct vring_device *ring);

/* Slots of a packed ring that vring_device_backlog() looks at. */
#define VRING_BACKLOG_SLOTS 256

/*
 * Available buffers not taken yet, 0..size (clamped). A packed ring has no index to tell; its next VRING_BACKLOG_SLOTS slots
 * are looked at, and if all of them are available the whole ring is taken to be.
 */
unsigned int vring_device_backlog(const struct vring_device *ring);

/* What GET_VRING_BASE answers: the next available index; packed: it and, in the upper half, the next used one. */
static inline uint32_t vring_device_position(const struct vring_device *ring)
{
	return ring->packed ? ring->last_avail_idx | (uint32_t)ring->used_idx << 16 : ring->last_avail_idx;
}

#endif
