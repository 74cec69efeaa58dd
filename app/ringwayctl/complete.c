/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdbool.h>
#include <string.h>

#include <control/client.h>

#include "command.h"
#include "complete.h"

/* A key press waits for this. */
#define ASK_TIMEOUT_MS 500
#define PLAIN_MAX      64

/* The words without options: what the commands are matched with. */
struct line {
	const char *socket;
	const char *plain[PLAIN_MAX];
	size_t n_plain;
	const char *typed; /* the word under the cursor */
	const char
		*prefix; /* "prefix=" comes before what is asked from the daemon; NULL: nothing */
	bool is_option_value; /* it belongs to -s */
};

static bool takes_value(const char *word)
{
	return strcmp(word, "-s") == 0 || strcmp(word, "--socket") == 0;
}

static void line_read(struct line *line, char *const *words, size_t n_words)
{
	line->typed = n_words > 0 ? words[n_words - 1] : "";
	for (size_t i = 0; i + 1 < n_words; i++) {
		if (takes_value(words[i])) {
			line->is_option_value = i + 2 == n_words;
			if (!line->is_option_value)
				line->socket = words[++i];
		} else if (words[i][0] != '-' && line->n_plain < PLAIN_MAX) {
			line->plain[line->n_plain++] = words[i];
		}
	}
}

static void offer(FILE *out, const char *typed, const char *candidate)
{
	if (strncmp(candidate, typed, strlen(typed)) == 0)
		fprintf(out, "%s\n", candidate);
}

/* What the entries of the list `member` of the result of `method` are called: their member `key`,
 * a text or a number. */
static void offer_names(
	FILE *out, const struct line *line, const char *method, const char *member, const char *key)
{
	struct control_error error;
	json_t *result = NULL;
	const json_t *list;

	if (control_client_call(line->socket, method, NULL, ASK_TIMEOUT_MS, &result, &error) < 0)
		return;
	list = json_object_get(result, member);
	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *value = json_object_get(json_array_get(list, i), key);
		const char *name = json_string_value(value);
		char number[24];

		if (json_is_integer(value)) {
			snprintf(number, sizeof(number), "%" JSON_INTEGER_FORMAT,
				json_integer_value(value));
			name = number;
		}
		if (name == NULL || strncmp(name, line->typed, strlen(line->typed)) != 0)
			continue;
		fprintf(out, "%s%s%s\n", line->prefix != NULL ? line->prefix : "",
			line->prefix != NULL ? "=" : "", name);
	}
	json_decref(result);
}

static void offer_source(FILE *out, const struct line *line, enum completer completer)
{
	if (completer == COMPLETE_PORTS)
		offer_names(out, line, "port.show", "ports", "name");
	else if (completer == COMPLETE_BRIDGES)
		offer_names(out, line, "bridge.show", "bridges", "name");
	else if (completer == COMPLETE_WORKERS)
		offer_names(out, line, "worker.show", "workers", "id");
}

/* Alternatives "a|b"; anything else (NULL: nothing) is no candidate. */
static void offer_alternatives(
	FILE *out, const struct line *line, const char *prefix, const char *alternatives)
{
	char candidate[128], values[64], *rest = values, *value;

	if (alternatives == NULL || strchr(alternatives, '|') == NULL)
		return;
	snprintf(values, sizeof(values), "%s", alternatives);
	while ((value = strsep(&rest, "|")) != NULL) {
		snprintf(candidate, sizeof(candidate), "%s%s", prefix, value);
		offer(out, line->typed, candidate);
	}
}

/* What may follow "key=". */
static void offer_values(FILE *out, const struct line *line, const struct pair_key *key)
{
	char prefix[64];

	if (key->completer != COMPLETE_NOTHING) {
		struct line names = *line;

		names.typed += strlen(key->name) + 1;
		names.prefix = key->name;
		offer_source(out, &names, key->completer);
		return;
	}
	snprintf(prefix, sizeof(prefix), "%s=", key->name);
	offer_alternatives(out, line, prefix, key->values);
}

static bool is_given(const struct line *line, const char *key)
{
	size_t n = strlen(key);

	for (size_t i = 0; i < line->n_plain; i++) {
		if (strncmp(line->plain[i], key, n) == 0 && line->plain[i][n] == '=')
			return true;
	}
	return false;
}

static void offer_pairs(FILE *out, const struct line *line, const struct command *command)
{
	const char *equals = strchr(line->typed, '=');
	char candidate[128];

	for (size_t i = 0; i < command->n_pairs; i++) {
		const struct pair_key *key = &command->pairs[i];
		size_t n = strlen(key->name);

		if (equals != NULL && n == (size_t)(equals - line->typed) &&
			memcmp(line->typed, key->name, n) == 0)
			offer_values(out, line, key);
		if (equals == NULL && !is_given(line, key->name)) {
			snprintf(candidate, sizeof(candidate), "%s=", key->name);
			offer(out, line->typed, candidate);
		}
	}
}

/* Each noun once: its rows stand together. */
static void offer_nouns(FILE *out, const struct line *line)
{
	for (size_t i = 0; i < n_commands; i++) {
		if (i == 0 || strcmp(commands[i].noun, commands[i - 1].noun) != 0)
			offer(out, line->typed, commands[i].noun);
	}
}

static void offer_options(FILE *out, const struct line *line)
{
	static const char *const options[] = {
		"-s", "-j", "-h", "-V", "--socket", "--json", "--help", "--version"};

	for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++)
		offer(out, line->typed, options[i]);
}

static void offer_verbs(FILE *out, const struct line *line)
{
	for (size_t i = 0; i < n_commands; i++) {
		if (strcmp(commands[i].noun, line->plain[0]) == 0 && commands[i].verb != NULL)
			offer(out, line->typed, commands[i].verb);
	}
}

/* The word may be the last one, or one more may follow: both readings are offered, each once. */
static void offer_words(
	FILE *out, const struct line *line, const struct command *command, size_t n_before)
{
	const struct argument *offered = NULL;

	for (size_t n_words = n_before + 1; n_words <= ARGUMENTS_MAX; n_words++) {
		const struct argument *argument = command_argument(command, n_before, n_words);

		if (argument == NULL || argument == offered)
			continue;
		offer_alternatives(out, line, "", argument->values);
		offer_source(out, line, argument->completer);
		offered = argument;
	}
	if (offered == NULL && command->n_pairs > 0)
		offer_pairs(out, line, command);
}

static void offer_arguments(FILE *out, const struct line *line)
{
	const struct command *command =
		command_find(line->plain[0], line->n_plain > 1 ? line->plain[1] : NULL);
	size_t n_command = command != NULL && command->verb == NULL ? 1 : 2;

	if (line->n_plain == 1 && n_command == 2)
		offer_verbs(out, line);
	else if (command != NULL)
		offer_words(out, line, command, line->n_plain - n_command);
}

void complete_print(FILE *out, const char *socket, char *const *words, size_t n_words)
{
	struct line line = {.socket = socket};

	line_read(&line, words, n_words);
	if (line.is_option_value)
		return;
	if (line.typed[0] == '-')
		offer_options(out, &line);
	else if (line.n_plain == 0)
		offer_nouns(out, &line);
	else
		offer_arguments(out, &line);
}
