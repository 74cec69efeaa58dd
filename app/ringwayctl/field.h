/* SPDX-License-Identifier: BSD-3-Clause */
/* Members of a JSON object as text, for people. */
#ifndef FIELD_H
#define FIELD_H

#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

/* A bridge's list of ports fits; what does not ends with "...". */
#define FIELD_TEXT_MAX 16384

/* Where a text is made; one for each text that is used at the same time. */
struct field_text {
	char bytes[FIELD_TEXT_MAX];
};

/* Writes the text; returns its bytes. */
const char *field_set(struct field_text *text, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* The member `path` ("a.b" goes into objects); NULL if it is not there. */
const json_t *field_get(const json_t *object, const char *path);

/* Text, number, yes/no; "-" for anything else. */
const char *field_show(const json_t *object, const char *path, struct field_text *text);

/* A number that is an id: "-" if it is negative. */
const char *field_show_id(const json_t *object, const char *path, struct field_text *text);

/* "up" or "down". */
const char *field_show_link(const json_t *object, const char *path, struct field_text *text);

/* A number as 0x...; a text as it is. */
const char *field_show_hex(const json_t *object, const char *path, struct field_text *text);

/* A number of nanoseconds with three digits and the unit that suits it: "1.02 us". */
const char *field_show_ns(const json_t *object, const char *path, struct field_text *text);

/* A number that need not be whole: "1200", "0.3". */
const char *field_show_rate(const json_t *object, const char *path, struct field_text *text);

/* A number of per cent: "12.5%". */
const char *field_show_percent(const json_t *object, const char *path, struct field_text *text);

/* A number of bytes in the largest unit that divides it. */
const char *field_show_bytes(const json_t *object, const char *path, struct field_text *text);

/* A list of texts or numbers with `separator` between them. */
const char *field_show_list(
	const json_t *object, const char *path, const char *separator, struct field_text *text);

/* "12 (full 10, vlan 2)" of an object of counters; reasons that never happened are left out. */
const char *field_show_drops(const json_t *object, const char *path, struct field_text *text);

/* "kick 10, nic 2" of an object of counters or rates; what is 0 is left out, "0" if all are. */
const char *field_show_counts(const json_t *object, const char *path, struct field_text *text);

/* Appends `more`, after `separator` if there is something before it. */
void field_append(struct field_text *text, const char *separator, const char *more);

/* Sum of an object of counters. */
uint64_t field_sum(const json_t *object, const char *path);

#endif
