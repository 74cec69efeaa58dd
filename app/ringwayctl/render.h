/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Results of the RPC as text. A member that is missing or of another type is shown as '-': the
 * daemon may be another version.
 */
#ifndef RENDER_H
#define RENDER_H

#include <stdio.h>

#include <jansson.h>

void render_ports(FILE *out, const json_t *result);
void render_port(FILE *out, const json_t *result);
void render_bridges(FILE *out, const json_t *result);
void render_fdb(FILE *out, const json_t *result);
void render_workers(FILE *out, const json_t *result);
void render_worker(FILE *out, const json_t *result);
void render_pings(FILE *out, const json_t *result);
void render_stats(FILE *out, const json_t *result);

/* What rates_between() made of two results. */
void render_rates(FILE *out, const json_t *rates);

#endif
