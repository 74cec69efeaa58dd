/* SPDX-License-Identifier: BSD-3-Clause */
/* The tables of the file format: which keys there are and what they become. */
#ifndef SCHEMA_H
#define SCHEMA_H

#include <config/config.h>

#include "reader.h"

#define N_ROWS(table) (sizeof(table) / sizeof((table)[0]))

/* "name" of ports and bridges, one wording. */
#define NAME_ALLOWED "1..31 characters of A-Z a-z 0-9 _ . - (not '.' or '..')"

extern const struct object_rule schema_file; /* struct config */
extern const struct object_rule schema_port; /* struct config_port */

/* Field: struct config_socket's path and mode. */
int schema_read_socket_path(
	struct reader *r, const struct key_rule *rule, const json_t *value, void *field);
int schema_read_mode(
	struct reader *r, const struct key_rule *rule, const json_t *value, void *field);

/* Reads an octal text; false, and `*mode` is as it was, if `value` is none. */
bool schema_mode_parse(const json_t *value, mode_t *mode);

/* "mode" of the workers and of ports. */
extern const struct choice schema_modes[];

#define SOCKET_MODE_ALLOWED "an octal text \"0000\" to \"0777\""
#define SOCKET_MODE_NEXT    "write for example mode: \"0660\""
#define SOCKET_PATH_ALLOWED "a path of 1 to 107 bytes"
#define SOCKET_MODE_DEFAULT 0660

#endif
