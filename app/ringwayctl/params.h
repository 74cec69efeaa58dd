/* SPDX-License-Identifier: BSD-3-Clause */
/* Words of the command line to the params of a request. */
#ifndef PARAMS_H
#define PARAMS_H

#include <jansson.h>

#include "command.h"

/*
 * Returns a new object, or NULL and one line in `error`. What a value may be is the daemon's to
 * judge; here only what is no argument and no pair, or comes twice, is refused.
 */
json_t *params_build(const struct command *command, char *const *words, size_t n_words, char *error,
	size_t error_size);

/* Writes the line; -EINVAL. */
int params_refuse(char *error, size_t error_size, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

#endif
