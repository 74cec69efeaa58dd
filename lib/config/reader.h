/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The validator: walks a tree by a table of keys and fills a structure. All that is known about a
 * key (its name, its reader, where its value goes, what is allowed, when it may stand) is one row;
 * the rows of the file format are in schema.c and schema_port.c.
 *
 * An object is read in the order of its table, not of the file: a row may rely on what the rows
 * above it have read.
 */
#ifndef READER_H
#define READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "tree.h"

struct config;
struct config_error;
struct key_rule;

struct reader {
	const struct tree *tree; /* NULL: the object comes from an RPC, there are no lines */
	struct config *config;   /* NULL: one port alone is read */
	struct config_error *error;
	char path[TREE_PATH_MAX]; /* of what is being read */
};

/* Reads `value` into `field`; 0, or a negative errno after reader_refuse...(). */
typedef int (*key_reader)(
	struct reader *r, const struct key_rule *rule, const json_t *value, void *field);

struct choice {
	const char *name;
	int value;
};

struct object_rule {
	const struct key_rule *keys;
	size_t n_keys;
	size_t size;                        /* of the structure */
	void (*set_defaults)(void *object); /* NULL: all zero */
	uint32_t (*variant)(const json_t *
			object); /* NULL: there is one only; else the bit of the object's variant */
	const char *const *variant_names; /* by bit number, for messages */
	/* Checks of the object as a whole, at its path; NULL: none. */
	int (*finish)(struct reader *r, void *object);
};

struct key_rule {
	const char *name;
	key_reader read;
	size_t offset;       /* of the field in the structure */
	const char *allowed; /* for messages: what comes after "allowed: " */
	const char *next;    /* for messages: the next step */
	uint32_t min, max;   /* numbers: values; text: bytes; lists: items */
	bool is_required;
	uint32_t variants; /* bits of the variants it may stand in; 0: all */
	bool is_rpc_only;
	const struct choice *choices;   /* reader_choice() */
	const struct object_rule *item; /* reader_object(), reader_list() */
	size_t count_offset;            /* reader_list(): of the uint32_t beside the pointer */
};

/* A row: the columns every key has, then `.column = value` for the others. */
#define KEY(name_, read_, offset_, allowed_, ...)                                                  \
	{                                                                                          \
		.name = (name_), .read = (read_), .offset = (offset_), .allowed = (allowed_),      \
		##__VA_ARGS__                                                                      \
	}

/* Readers that serve more than one key. The field is: char[max + 1], uint32_t, bool, enum, pointer
 * and count. */
int reader_text(struct reader *r, const struct key_rule *rule, const json_t *value, void *field);
int reader_name(struct reader *r, const struct key_rule *rule, const json_t *value, void *field);
int reader_number(struct reader *r, const struct key_rule *rule, const json_t *value, void *field);
int reader_bool(struct reader *r, const struct key_rule *rule, const json_t *value, void *field);
int reader_choice(struct reader *r, const struct key_rule *rule, const json_t *value, void *field);
int reader_object(struct reader *r, const struct key_rule *rule, const json_t *value, void *field);
int reader_list(struct reader *r, const struct key_rule *rule, const json_t *value, void *object);

/* Sets the defaults and reads `object` into `out`. */
int reader_run(struct reader *r, const struct object_rule *rule, const json_t *object, void *out);

/* Each of these writes the one line of the error and returns -EINVAL. */
int reader_refuse(struct reader *r, const char *format, ...) __attribute__((format(printf, 2, 3)));
int reader_refuse_value(struct reader *r, const struct key_rule *rule, const json_t *value);
/* The same for keys whose value is text or a number: knows about quotes too few or too many. */
int reader_refuse_text(struct reader *r, const struct key_rule *rule, const json_t *value);
int reader_refuse_number(struct reader *r, const struct key_rule *rule, const json_t *value);

/* Extends the path by "[index]"; returns the length to cut it back to with reader_leave(). */
size_t reader_enter_index(struct reader *r, size_t index);
size_t reader_enter_key(struct reader *r, const char *key);
void reader_leave(struct reader *r, size_t length);

/* Line of the present path; 0 if there is no file. */
uint32_t reader_line(const struct reader *r);

#endif
