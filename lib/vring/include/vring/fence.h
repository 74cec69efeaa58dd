/* SPDX-License-Identifier: BSD-3-Clause */
/* The one fence that acquire and release cannot replace. */
#ifndef VRING_FENCE_H
#define VRING_FENCE_H

/* Between a store of ours and a load of what the other side stores: neither may pass the other. */
static inline void vring_fence(void)
{
#if defined(__x86_64__)
	/* Half the price of mfence; below the red zone, so that no value of the function is waited for. */
	__asm__ volatile("lock addl $0, -132(%%rsp)" : : : "memory", "cc");
#else
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
#endif
}

#endif
