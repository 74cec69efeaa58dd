/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <rte_cycles.h>

#include "slot.h"

int slot_open(struct slot *slot)
{
	memset(slot, 0, sizeof(*slot));
	slot->worker_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	slot->control_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (slot->worker_fd >= 0 && slot->control_fd >= 0)
		return 0;
	slot_close(slot);
	return -EMFILE;
}

void slot_close(struct slot *slot)
{
	if (slot->worker_fd >= 0)
		close(slot->worker_fd);
	if (slot->control_fd >= 0)
		close(slot->control_fd);
	slot->worker_fd = slot->control_fd = -1;
}

/* The other side's flag, after what was stored before. */
static bool sleeps(const bool *flag)
{
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return __atomic_load_n(flag, __ATOMIC_RELAXED);
}

static void sleep_begin(bool *flag)
{
	__atomic_store_n(flag, true, __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

void slot_wake(struct slot *slot)
{
	if (sleeps(&slot->worker_sleeps))
		eventfd_write(slot->worker_fd, 1);
}

void slot_submit(struct slot *slot, slot_handler *handle, void *arg)
{
	slot->handle = handle;
	slot->arg = arg;
	slot->submitted_tsc = rte_rdtsc();
	__atomic_store_n(&slot->state, SLOT_SUBMITTED, __ATOMIC_RELEASE);
	slot_wake(slot);
}

bool slot_collect(struct slot *slot)
{
	if (__atomic_load_n(&slot->state, __ATOMIC_ACQUIRE) != SLOT_DONE)
		return false;
	__atomic_store_n(&slot->state, SLOT_IDLE, __ATOMIC_RELAXED);
	return true;
}

void slot_serve(struct slot *slot)
{
	if (slot->handle != NULL)
		slot->handle(slot->arg);
	__atomic_store_n(&slot->state, SLOT_DONE, __ATOMIC_RELEASE);
	if (sleeps(&slot->control_sleeps))
		eventfd_write(slot->control_fd, 1);
}

void slot_sleep_begin(struct slot *slot)
{
	sleep_begin(&slot->worker_sleeps);
}

void slot_sleep_end(struct slot *slot)
{
	__atomic_store_n(&slot->worker_sleeps, false, __ATOMIC_RELAXED);
}

void slot_await_begin(struct slot *slot)
{
	sleep_begin(&slot->control_sleeps);
}

void slot_await_end(struct slot *slot)
{
	__atomic_store_n(&slot->control_sleeps, false, __ATOMIC_RELAXED);
}
