/* SPDX-License-Identifier: BSD-3-Clause */
/* What interleave_test.c puts in the place of the atomic operations of lib/msix/state.h. */
#ifndef STEPPED_STATE_H
#define STEPPED_STATE_H

uint32_t state_load(const uint32_t *state);
bool state_replace(uint32_t *state, uint32_t *expected, uint32_t wanted);
uint32_t state_exchange(uint32_t *state, uint32_t wanted);
void state_or(uint32_t *state, uint32_t bits);

#endif
