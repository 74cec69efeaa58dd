/* SPDX-License-Identifier: BSD-3-Clause */
/* Frames of runs with AVX2, compiled for it. */
#include "guest_run_copy.h"

#include "guest_run_body.h"

GUEST_RUN_OPS(guest_run_avx2);
