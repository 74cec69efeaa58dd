/* SPDX-License-Identifier: BSD-3-Clause */
/* The live view: asks again and again, and shows what happened in between. */
#ifndef TOP_H
#define TOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <jansson.h>

#include <control/control.h>

#define TOP_INTERVAL_MS_DEFAULT 1000

struct top_options {
	uint32_t interval_ms; /* 100..3600000 */
	uint32_t count;       /* 0: until it is interrupted */
};

/* From the params {"interval", "count"} that the command line made; 0, or -EINVAL and one line in
 * `error`. */
int top_options_read(
	const json_t *params, struct top_options *options, char *error, size_t error_size);

/*
 * Runs until `count` is reached or SIGINT or SIGTERM comes; a second signal kills while the daemon
 * does not answer. Prints to `out` a block for each interval, or with `is_json` one object on a
 * line; if `out` is a terminal, a block takes the place of the one before and is cut to the size of
 * the window.
 *
 * 0, or a negative errno and `error` as from control_client_call(); -EIO: `out` takes no more.
 * Changes the dispositions of the two signals while it runs: one thread of a process at a time.
 */
int top_run(const char *socket, const struct top_options *options, bool is_json, FILE *out,
	struct control_error *error);

/* At most `n_rows` lines of `text`, each cut to `n_columns` bytes; no newline behind the last, so
 * that a full window does not scroll. */
void top_print_cut(FILE *out, const char *text, unsigned int n_rows, unsigned int n_columns);

#endif
