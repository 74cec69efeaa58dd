/* SPDX-License-Identifier: BSD-3-Clause */
/* How bytes are copied for guest_run_body.h where the compiler and the library do it as well as anybody. */
#ifndef PORT_GUEST_RUN_COPY_H
#define PORT_GUEST_RUN_COPY_H

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
	memcpy(to, from, len);
}

#endif
