/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <config/config.h>
#include <control/client.h>

#include "command.h"
#include "complete.h"
#include "ctl.h"
#include "field.h"
#include "help.h"
#include "params.h"
#include "table.h"
#include "top.h"

struct ctl {
	const char *socket;
	bool is_json;
	bool is_help;
	bool is_version;
	FILE *out;
	FILE *err;
};

static enum ctl_status report(
	const struct ctl *ctl, enum ctl_status status, int code, const char *message)
{
	char text[CONTROL_MESSAGE_MAX];
	json_t *object;

	snprintf(text, sizeof(text), "%s", message);
	table_make_printable(text);
	if (!ctl->is_json) {
		fprintf(ctl->err, "ringwayctl: %s\n", text);
		return status;
	}
	object = json_pack("{s:{s:i, s:s, s:i}}", "error", "code", code, "message", text,
		"exit_status", (int)status);
	json_dumpf(object, ctl->err, JSON_COMPACT);
	fputc('\n', ctl->err);
	json_decref(object);
	return status;
}

static enum ctl_status __attribute__((format(printf, 2, 3)))
usage_error(const struct ctl *ctl, const char *format, ...)
{
	char text[CONTROL_MESSAGE_MAX];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	return report(ctl, CTL_USAGE, 0, text);
}

/* Names what could have been meant: the verbs of a known noun, else the nouns. */
static enum ctl_status command_unknown(const struct ctl *ctl, const char *noun, const char *verb)
{
	char verbs[128] = "", nouns[128] = "";

	for (size_t i = 0; i < n_commands; i++) {
		bool is_noun = strcmp(commands[i].noun, noun) == 0;
		char *list = is_noun ? verbs : nouns;
		size_t length = strlen(list);

		if (is_noun || i == 0 || strcmp(commands[i].noun, commands[i - 1].noun) != 0)
			snprintf(list + length, sizeof(verbs) - length, "%s%s",
				length > 0 ? ", " : "",
				is_noun ? commands[i].verb : commands[i].noun);
	}
	if (verbs[0] == '\0')
		return usage_error(ctl,
			"command '%s' is unknown; allowed: %s; see 'ringwayctl --help'", noun,
			nouns);
	if (verb == NULL)
		return usage_error(ctl,
			"command '%s' is not complete; allowed after it: %s; see 'ringwayctl "
			"--help'",
			noun, verbs);
	return usage_error(
		ctl, "command '%s %s' is unknown; allowed after '%s': %s", noun, verb, noun, verbs);
}

static enum ctl_status call_failed(
	const struct ctl *ctl, int ret, const struct control_error *error)
{
	return report(ctl, ret == -EREMOTEIO ? CTL_REFUSED : CTL_UNREACHABLE, error->code,
		error->message);
}

/* Leaves in the result's list what the first argument names; if that is nothing, an error that says
 * what there is. */
static enum ctl_status result_filter(const struct ctl *ctl, const struct command *command,
	const char *word, const json_t *value, json_t *result)
{
	const char *key = command->arguments[0].parameter;
	const json_t *list = json_object_get(result, command->filtered_list);
	json_t *found = json_array();
	struct field_text there = {""}, one;

	for (size_t i = 0; i < json_array_size(list); i++) {
		json_t *entry = json_array_get(list, i);

		field_append(&there, ", ", field_show(entry, key, &one));
		if (json_equal(json_object_get(entry, key), value))
			json_array_append(found, entry);
	}
	if (json_array_size(found) > 0) {
		json_object_set_new(result, command->filtered_list, found);
		return CTL_DONE;
	}
	json_decref(found);
	field_set(&one, "%s: value '%.64s' is not allowed; allowed: %.512s; see 'ringwayctl %s %s'",
		key, word, there.bytes, command->noun, command->verb);
	return report(ctl, CTL_REFUSED, 0, one.bytes);
}

static enum ctl_status live_run(const struct ctl *ctl, const json_t *params)
{
	struct control_error error = {0};
	struct top_options options;
	char text[CONTROL_MESSAGE_MAX];
	int ret;

	if (top_options_read(params, &options, text, sizeof(text)) < 0)
		return usage_error(ctl, "%s", text);
	ret = top_run(ctl->socket, &options, ctl->is_json, ctl->out, &error);
	if (ret == -EIO)
		return report(ctl, CTL_REFUSED, 0, error.message);
	return ret < 0 ? call_failed(ctl, ret, &error) : CTL_DONE;
}

static void result_print(
	const struct ctl *ctl, const struct command *command, bool is_one, const json_t *result)
{
	if (ctl->is_json) {
		json_dumpf(result, ctl->out, JSON_COMPACT);
		fputc('\n', ctl->out);
	} else if (is_one && command->render_one != NULL) {
		command->render_one(ctl->out, result);
	} else if (command->render != NULL) {
		command->render(ctl->out, result);
	}
}

static enum ctl_status call_run(const struct ctl *ctl, const struct command *command,
	char *const *words, size_t n_words, json_t *params)
{
	bool is_filtered = command->filtered_list != NULL && n_words > 0;
	struct control_error error = {0};
	enum ctl_status status = CTL_DONE;
	json_t *result = NULL, *value = NULL;
	int ret;

	if (is_filtered) {
		value = json_incref(json_object_get(params, command->arguments[0].parameter));
		json_object_del(params, command->arguments[0].parameter);
	}
	ret = control_client_call(
		ctl->socket, command->method, params, CTL_TIMEOUT_MS, &result, &error);
	if (ret < 0)
		status = call_failed(ctl, ret, &error);
	else if (is_filtered)
		status = result_filter(ctl, command, words[0], value, result);
	if (status == CTL_DONE)
		result_print(ctl, command, n_words > 0, result);
	json_decref(value);
	json_decref(result);
	return status;
}

static enum ctl_status command_run(
	const struct ctl *ctl, const struct command *command, char *const *words, size_t n_words)
{
	char text[CONTROL_MESSAGE_MAX];
	json_t *params = params_build(command, words, n_words, text, sizeof(text));
	enum ctl_status status;

	if (params == NULL)
		return usage_error(ctl, "%s", text);
	status = command->is_live ? live_run(ctl, params)
				  : call_run(ctl, command, words, n_words, params);
	json_decref(params);
	return status;
}

/* 0, or -1 after a usage error. */
static int options_read(struct ctl *ctl, int argc, char **argv)
{
	static const struct option options[] = {
		{"socket", required_argument, NULL, 's'},
		{"json", no_argument, NULL, 'j'},
		{"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, 'V'},
		{0},
	};
	int option, bad = 0;
	const char *bad_word = NULL;

	optind = 0;
	opterr = 0;
	while ((option = getopt_long(argc, argv, ":s:jhV", options, NULL)) != -1) {
		switch (option) {
		case 's':
			ctl->socket = optarg;
			break;
		case 'j':
			ctl->is_json = true;
			break;
		case 'h':
			ctl->is_help = true;
			break;
		case 'V':
			ctl->is_version = true;
			break;
		default:
			/* Told at the end: a -j may still follow. */
			bad = option;
			bad_word = argv[optind - 1];
			break;
		}
	}
	if (bad == 0)
		return 0;
	usage_error(ctl,
		bad == ':' ? "option '%s' needs a value; see 'ringwayctl --help'"
			   : "option '%s' is unknown; see 'ringwayctl --help'",
		bad_word);
	return -1;
}

enum ctl_status ctl_run(int argc, char **argv, FILE *out, FILE *err)
{
	const char *variable = getenv(CTL_SOCKET_VARIABLE);
	struct ctl ctl = {
		.socket =
			variable != NULL && variable[0] != '\0' ? variable : CONFIG_CONTROL_SOCKET,
		.out = out,
		.err = err,
	};
	const struct command *command;
	size_t n_used;

	if (argc > 1 && strcmp(argv[1], "__complete") == 0) {
		complete_print(out, ctl.socket, argv + 2, (size_t)argc - 2);
		return CTL_DONE;
	}
	if (argc > 1 && strcmp(argv[1], "__man") == 0) {
		help_print_man(out);
		return CTL_DONE;
	}
	if (options_read(&ctl, argc, argv) < 0)
		return CTL_USAGE;
	argv += optind;
	argc -= optind;
	command = argc > 0 ? command_find(argv[0], argc > 1 ? argv[1] : NULL) : NULL;
	if (ctl.is_help) {
		help_print_command(out, command);
		return CTL_DONE;
	}
	if (ctl.is_version) {
		fputs("ringwayctl " RINGWAY_VERSION "\n", out);
		return CTL_DONE;
	}
	if (argc == 0)
		return usage_error(&ctl, "command is missing; see 'ringwayctl --help'");
	if (command == NULL)
		return command_unknown(&ctl, argv[0], argc > 1 ? argv[1] : NULL);
	n_used = command->verb != NULL ? 2 : 1;
	return command_run(&ctl, command, argv + n_used, (size_t)argc - n_used);
}
