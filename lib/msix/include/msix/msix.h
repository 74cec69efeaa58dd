/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Interrupt vectors with the semantics of PCI MSI-X (PCI 3.0 section 6.8.2, PCIe 5.0 sections 6.1.4 and 7.7.2): a table
 * of vectors, each with a mask, a mask over all of them, an enable bit and pending bits. A notification of a vector that
 * cannot be delivered now becomes pending, and what is pending is delivered once when it can be.
 *
 * A vector is *open* when MSI-X is enabled, the function mask is clear, the vector's own mask is clear, and the model is
 * not quiet (after msix_load(), until msix_resume()). Else it is *blocked*.
 *
 *             notify: true          mask, function mask, disable          notify: false
 *             +-----+              -------------------------->              +-------+
 *             |     v                                                       |       v
 *             +--  open            <--------------------------  blocked ----+     blocked, pending --+
 *                   ^                 unmask, ..., resume                           |     ^          | notify: false
 *                   |                                                               |     +----------+
 *                   +---------------------------------------------------------------+
 *                                      unmask, ..., resume: fire, once
 *
 * Who delivers: file descriptors are the caller's, and so is the write to them. msix_notify() says whether to deliver,
 * on a worker's thread; `fire` delivers what was pending, on the control thread. So a worker writes to the eventfd of
 * its own plan, and a transport that has something else to deliver to needs nothing here.
 *
 * Guest ports have one vector per virtqueue, MSI-X enabled from creation on, every vector masked:
 *
 *     SET_VRING_CALL with a fd     msix_mask(); workers let go of the old fd; the new one takes its place; msix_unmask()
 *     SET_VRING_CALL without       msix_mask(); workers let go of the old fd; close
 *     used buffers, call wanted    if (msix_notify()) write to the fd
 *
 * Thread rule: msix_notify() from any number of threads at any time, msix_is_masked() and msix_is_pending() likewise.
 * Everything else from one thread at a time, called control here. What worker threads did before a notification that
 * became pending is visible to `fire`; what control did before it unmasked is visible to whoever is told true. A thread
 * that was told true may still be on its way to the fd when msix_mask() returns: who wants to close it waits until that
 * thread has passed a quiescent point.
 *
 * Ranges: `vector` is below the number of vectors; the caller has checked it. Offsets and sizes are checked here.
 */
#ifndef MSIX_MSIX_H
#define MSIX_MSIX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The table size field has 11 bits (PCIe 5.0 section 7.7.2.2). */
#define MSIX_MAX_VECTORS 2048

/* Message Control (section 7.7.2.2). Bits 13:11 are reserved. */
#define MSIX_CONTROL_TABLE_SIZE    0x07ff /* number of vectors less one; read only */
#define MSIX_CONTROL_FUNCTION_MASK 0x4000
#define MSIX_CONTROL_ENABLE        0x8000

/* A table entry is four DWORDs (sections 7.7.2.5 to 7.7.2.8). */
enum msix_dword {
	MSIX_ADDRESS_LOW,    /* bits 1:0 are zero and read only */
	MSIX_ADDRESS_HIGH,
	MSIX_DATA,
	MSIX_VECTOR_CONTROL, /* bit 0: MSIX_VECTOR_MASKED; the others are reserved: zero and read only */
	MSIX_N_DWORDS,
};

#define MSIX_VECTOR_MASKED 1u
#define MSIX_ENTRY_BYTES   (MSIX_N_DWORDS * 4)

struct msix;

/*
 * Delivers a vector that was pending, on the control thread, within the call that made it deliverable. It may ask
 * msix_is_masked() and msix_is_pending() and must not call any other verb of the same model. `ctx` is the caller's.
 */
typedef void msix_fire_fn(void *ctx, unsigned int vector);

/*
 * A model in reset state, with 1..MSIX_MAX_VECTORS vectors. NULL with errno EINVAL (number of vectors) or ENOMEM.
 * Freed by msix_destroy(), which fires nothing and wants no thread in msix_notify(); NULL is allowed.
 */
struct msix *msix_create(unsigned int n_vectors, msix_fire_fn *fire, void *ctx);
void msix_destroy(struct msix *msix);

unsigned int msix_n_vectors(const struct msix *msix);

/* Reset state: disabled, function mask clear, every vector masked, its message zero; nothing is pending any more. */
void msix_reset(struct msix *msix);

/*
 * True: the vector is open, and the caller delivers exactly this notification. False: it is blocked, and pending now.
 * No lock, no system call. One load if the vector is open; else one locked instruction as well, which is repeated only
 * if another thread changed the same vector in between.
 */
bool msix_notify(struct msix *msix, unsigned int vector);

/* ---- Control. Whatever opens vectors fires those that are pending, once each, in ascending order ---- */

void msix_mask(struct msix *msix, unsigned int vector);
void msix_unmask(struct msix *msix, unsigned int vector);
void msix_mask_function(struct msix *msix);
void msix_unmask_function(struct msix *msix);
void msix_enable(struct msix *msix);
void msix_disable(struct msix *msix);

/* ---- For display, from any thread. Masked here is blocked, for whatever reason ---- */

bool msix_is_masked(const struct msix *msix, unsigned int vector);
bool msix_is_pending(const struct msix *msix, unsigned int vector);

/*
 * ---- Registers, as a PCI transport needs them ----
 *
 * Offsets are bytes from the start of the table or of the pending bits. Accesses are DWORDs or QWORDs (`size` 4 or 8),
 * aligned to their size, whole within the structure (section 7.7.2: anything else is undefined). All others are refused
 * with -EINVAL: a read gives all ones in `value`, as PCI does where nobody answers, and a write changes nothing.
 * Bits that are read only or reserved ignore what is written.
 */

/* Bytes of the structures: of the table, n x 16; of the pending bits, whole QWORDs. */
size_t msix_table_bytes(const struct msix *msix);
size_t msix_pba_bytes(const struct msix *msix);

int msix_table_read(const struct msix *msix, uint64_t offset, unsigned int size, uint64_t *value);
/* A QWORD is written low DWORD first, so that message data is in place before the mask of the same QWORD is clear. */
int msix_table_write(struct msix *msix, uint64_t offset, unsigned int size, uint64_t value);

/*
 * Bit v % 64 of QWORD v / 64 is set while vector v is pending. Read only: there is no write, and a transport drops what
 * a driver writes there. The bits of one read may stem from different moments.
 */
int msix_pba_read(const struct msix *msix, uint64_t offset, unsigned int size, uint64_t *value);

/* Message Control. A write takes the enable bit and the function mask at once. */
uint16_t msix_control_read(const struct msix *msix);
void msix_control_write(struct msix *msix, uint16_t value);

/*
 * ---- Save and load ----
 *
 * The state as plain data: fixed width, little endian, no padding, no pointers. It may come from anywhere; msix_load()
 * believes none of it.
 */
#define MSIX_SAVED_VERSION 1

struct msix_saved {
	uint32_t version;   /* MSIX_SAVED_VERSION */
	uint16_t n_vectors;
	uint16_t control;   /* Message Control as read */
	uint64_t pending[MSIX_MAX_VECTORS / 64]; /* as the pending bits are read; zero behind the last vector */
	uint32_t entries[][MSIX_N_DWORDS];       /* n_vectors table entries as read */
};

size_t msix_saved_bytes(unsigned int n_vectors);

/*
 * `saved` has room for msix_saved_bytes(msix_n_vectors()). Nothing changes. What is notified meanwhile may or may not be
 * in it, so who wants to go on elsewhere has stopped the notifying threads before.
 */
void msix_save(const struct msix *msix, struct msix_saved *saved);

/*
 * Takes the place of all state, and leaves the model quiet: every vector is blocked, notifications become pending, and
 * nothing fires until msix_resume(). Control verbs and registers work as ever meanwhile. What was pending before is
 * dropped. `saved` is our own memory, aligned to 8, of `bytes` bytes.
 * -EINVAL and a static line in `*reason`, with nothing changed: length, version, a number of vectors that is not this
 * model's, reserved bits, pending bits behind the last vector.
 */
int msix_load(struct msix *msix, const struct msix_saved *saved, size_t bytes, const char **reason);

/* Ends the quiet after msix_load(): fires what is pending and open now, once. Otherwise without effect. */
void msix_resume(struct msix *msix);

#endif
