/* SPDX-License-Identifier: BSD-3-Clause */
/* Scalars: what a plain YAML scalar means, and how a value is shown in a message. */
#ifndef VALUE_H
#define VALUE_H

#include <stdbool.h>
#include <stddef.h>

#include <jansson.h>

/*
 * The value of a plain scalar by the rules of YAML 1.2's core schema; NULL if it is not valid UTF-8
 * or memory is short. A number with a leading zero stays text: YAML 1.1 reads it as octal and 1.2
 * as decimal.
 */
json_t *value_from_plain(const char *text, size_t n_bytes);

/* "'text'", "'12'", "a list" ...: at most `size` bytes, long text is cut, unprintable bytes become
 * '?'. */
const char *value_describe(const json_t *value, char *text, size_t size);

/* Replaces what could break a line or a terminal. */
void value_make_printable(char *text);

/* Decimal digits only, no sign, no leading zero but for "0" itself; false beyond `max`. */
bool value_parse_number(const char *text, const char **end, unsigned int max, unsigned int *number);

#endif
