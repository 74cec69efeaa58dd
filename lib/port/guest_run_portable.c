/* SPDX-License-Identifier: BSD-3-Clause */
/* Frames of runs on any CPU. */
#include <string.h>

#include <rte_common.h>

static __rte_always_inline void copy_64(void *to, const void *from)
{
	memcpy(to, from, 64);
}

static __rte_always_inline void copy_bytes(void *to, const void *from, uint32_t len)
{
	memcpy(to, from, len);
}

static __rte_always_inline void copy_head(void *to, const void *from, uint32_t len)
{
	if (__builtin_expect(len == 64, 1))
		copy_64(to, from);
	else
		copy_bytes(to, from, len);
}

#include "guest_run_body.h"

GUEST_RUN_OPS(guest_run_portable);
