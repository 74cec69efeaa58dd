/* SPDX-License-Identifier: BSD-3-Clause */
/* The frames before the frames: see run_open(). */
#ifndef RINGBENCH_WARMUP_H
#define RINGBENCH_WARMUP_H

#include "run.h"

/*
 * Sends warm-up frames until every queue of every active direction has passed one. 0 or a negative
 * errno with run->error: -ECONNRESET a back end went away, -ETIMEDOUT the deadline passed, -EINTR,
 * -EPROTO a broken ring.
 */
int warmup(struct run *run);

#endif
