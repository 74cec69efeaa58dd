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
	COMPLETE_WORKERS,
};

/* How a word becomes a JSON value. */
enum value_kind {
	VALUE_TEXT,
	VALUE_NUMBER,
	VALUE_LIST, /* of numbers and ranges, with commas */
};

/* A word that is known by its place. */
struct argument {
	const char *name;      /* as in the usage line; NULL: none */
	const char *parameter; /* the member of params that it becomes */
	bool is_required;
	enum value_kind kind;
	const char *values; /* words with '|': candidates for completion; NULL: none */
	enum completer completer;
};

/* A word that is known by its key: key=value. */
struct pair_key {
	const char *name; /* "a.b" is member b of object a */
	enum value_kind kind;
	const char *values; /* for help; words with '|' are candidates for completion */
	enum completer completer;
};

#define ARGUMENTS_MAX 2

struct command {
	const char *noun;
	const char *verb;    /* NULL: the noun is the whole command */
	const char *summary; /* one line, without a full stop */
	const char *details; /* a paragraph for the manual page */
	const char *method;  /* of the RPC */
	/* In their order. One that is not required is left out by giving fewer words, whatever
	 * comes behind it. */
	struct argument arguments[ARGUMENTS_MAX];
	const struct pair_key *pairs; /* which key=value words follow; NULL: none */
	size_t n_pairs;
	/* The method knows nothing of the first argument: the result's list of this name is cut
	 * down to the entries that have it as their member `parameter`. NULL: it is sent. */
	const char *filtered_list;
	bool is_live;                                    /* asked again and again: top.h */
	void (*render)(FILE *out, const json_t *result); /* NULL: prints nothing */
	void (*render_one)(
		FILE *out, const json_t *result); /* with an argument given; NULL: as without */
};

extern const struct command commands[];
extern const size_t n_commands;

/* NULL if there is none; `verb` may be NULL. */
const struct command *command_find(const char *noun, const char *verb);

/* Which argument is the first, second... of `n_words` words; NULL: none, it is a pair or too
 * many. */
const struct argument *command_argument(const struct command *command, size_t word, size_t n_words);

/* Room for any line of usage. */
#define COMMAND_USAGE_MAX 128

/* "port show [NAME]"; returns `text`. */
const char *command_usage(const struct command *command, char *text, size_t size);

#endif
