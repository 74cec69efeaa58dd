/* SPDX-License-Identifier: BSD-3-Clause */
/* What fixed.c and fixed_packed.c, the packed half of fixed.h's verbs, share. */
#ifndef VRING_FIXED_PACKED_H
#define VRING_FIXED_PACKED_H

#include <vring/fixed.h>

static inline uint32_t fixed_clamp(const struct vring_fixed_slot *slot, uint32_t len)
{
	return len < slot->capacity ? len : slot->capacity;
}

/* 0 or -ENOMEM; vring_fixed_fini() frees what there is. */
int fixed_packed_init(struct vring_fixed *ring, const struct vring_fixed_config *config);
void fixed_packed_describe(struct vring_fixed *ring, unsigned int slot, uint64_t gpa, uint32_t len);
/* For the last n_published (> 0) buffers. */
bool fixed_packed_needs_kick(const struct vring_fixed *ring, uint16_t n_published);
void fixed_packed_set_call(struct vring_fixed *ring, bool wanted);
/* -EPROTO for a lie: the caller breaks the ring. */
int fixed_packed_collect(struct vring_fixed *ring, uint16_t *slots, uint32_t *lens, unsigned int max);
uint16_t fixed_packed_pending(const struct vring_fixed *ring);
uint32_t fixed_packed_resume(struct vring_fixed *ring);

#endif
