/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The commands of ringwayctl, in one table: what is in a row is parsed, asked, printed, completed,
 * helped with and documented; there is no second place to tell about a command.
 */
#ifndef COMMAND_H
#define COMMAND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include <jansson.h>

/* Where the candidates for a word come from. */
enum completer {
	COMPLETE_NOTHING,
	COMPLETE_PORTS,
	COMPLETE_BRIDGES,
};

struct command {
	const char *noun;
	const char *verb;    /* NULL: the noun is the whole command */
	const char *summary; /* one line, without a full stop */
	const char *details; /* a paragraph for the manual page */
	const char *method;  /* of the RPC */
	/* One argument at most comes before the key=value pairs. */
	const char *argument;  /* as in the usage line; NULL: none */
	const char *parameter; /* the member of params that it becomes */
	bool is_argument_required;
	enum completer completer;
	bool takes_pairs;                                /* key=value words follow */
	void (*render)(FILE *out, const json_t *result); /* NULL: prints nothing */
	void (*render_one)(
		FILE *out, const json_t *result); /* with the argument given; NULL: as without */
};

/* How the text of key=value becomes a JSON value. */
enum pair_kind {
	PAIR_TEXT,
	PAIR_NUMBER,
	PAIR_LIST, /* of numbers and ranges, with commas */
};

struct pair_key {
	const char *name; /* "a.b" is member b of object a */
	enum pair_kind kind;
	const char *values; /* for help; words with '|' are candidates for completion */
	enum completer completer;
};

extern const struct command commands[];
extern const size_t n_commands;

/* The keys of commands that take pairs. */
extern const struct pair_key pair_keys[];
extern const size_t n_pair_keys;

/* NULL if there is none; `verb` may be NULL. */
const struct command *command_find(const char *noun, const char *verb);

/* "port show [NAME]"; returns `text`. */
const char *command_usage(const struct command *command, char *text, size_t size);

#endif
