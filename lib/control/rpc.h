/* SPDX-License-Identifier: BSD-3-Clause */
/* JSON-RPC 2.0 without a transport: one line in, at most one answer out. */
#ifndef RPC_H
#define RPC_H

#include <stddef.h>

#include <control/control.h>

struct rpc_table {
	const struct control_method *methods;
	void *ctx;
	uint32_t n_batch_max;
};

/* Executes what `text` asks for. Returns the answer as a new reference, or NULL if none is due. */
json_t *rpc_execute(const struct rpc_table *table, const char *text, size_t n_bytes);

/* An error answer as a new reference; `id` NULL stands for null. */
json_t *rpc_error(json_t *id, int code, const char *message);

#endif
