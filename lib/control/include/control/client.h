/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One question to a control socket, waiting for the answer. For command line programs and tests: it
 * blocks the thread.
 *
 * Thread rule: any thread, no shared state.
 */
#ifndef CONTROL_CLIENT_H
#define CONTROL_CLIENT_H

#include <stdint.h>

#include <jansson.h>

#include <control/control.h>

#define CONTROL_CLIENT_ANSWER_BYTES_MAX (256u * 1024 * 1024)

/*
 * Connects to `path`, calls `method` with `params` (an object, or NULL; stays the caller's) and
 * disconnects.
 *
 * Returns 0 and a new reference in `*result`, or a negative errno and `error`:
 * -EREMOTEIO   the server answered with an error: its code and message.
 * Others       no answer; error->code is 0 and the message says what to do: -ENOENT, -ECONNREFUSED,
 * -EACCES (cannot connect), -ETIMEDOUT (nothing complete within timeout_ms), -ECONNRESET (the
 * server hung up), -EPROTO (what came is not JSON-RPC, or is too large).
 */
int control_client_call(const char *path, const char *method, const json_t *params,
	uint32_t timeout_ms, json_t **result, struct control_error *error);

#endif
