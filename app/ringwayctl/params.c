/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "params.h"

#define KEY_BYTES_MAX 64

/* What does not look like a number goes as text: the daemon's message then names the value. */
static json_t *number_or_text(const char *text)
{
	long long number;
	char *end;

	errno = 0;
	number = strtoll(text, &end, 10);
	if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0)
		return json_string(text);
	return json_integer(number);
}

static json_t *list_of(const char *text)
{
	char *copy = strdup(text), *rest = copy, *item;
	json_t *list = json_array();

	while (copy != NULL && (item = strsep(&rest, ",")) != NULL)
		json_array_append_new(list, number_or_text(item));
	free(copy);
	return list;
}

static json_t *value_of(enum value_kind kind, const char *text)
{
	switch (kind) {
	case VALUE_NUMBER:
		return number_or_text(text);
	case VALUE_LIST:
		return list_of(text);
	case VALUE_TEXT:
		break;
	}
	return json_string(text);
}

static enum value_kind kind_of(const struct command *command, const char *key)
{
	for (size_t i = 0; i < command->n_pairs; i++) {
		if (strcmp(command->pairs[i].name, key) == 0)
			return command->pairs[i].kind;
	}
	return VALUE_TEXT;
}

int params_refuse(char *error, size_t error_size, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(error, error_size, format, args);
	va_end(args);
	return -EINVAL;
}

/* For an example: a key whose value is a number. */
static const char *number_key(const struct command *command)
{
	size_t i = 0;

	while (i + 1 < command->n_pairs && command->pairs[i].kind != VALUE_NUMBER)
		i++;
	return command->pairs[i].name;
}

/* "a.b" goes into member b of object a, one level deep as the configuration is. */
static int pair_add(const struct command *command, json_t *params, const char *word, char *error,
	size_t error_size)
{
	const char *equals = strchr(word, '=');
	char key[KEY_BYTES_MAX];
	json_t *object = params, *value;
	char *name = key, *dot;

	if (equals == NULL || equals == word || (size_t)(equals - word) >= sizeof(key))
		return params_refuse(error, error_size,
			"'%s' is not allowed; allowed: KEY=VALUE, such as %s=4", word,
			number_key(command));
	memcpy(key, word, (size_t)(equals - word));
	key[equals - word] = '\0';
	value = value_of(kind_of(command, key), equals + 1);
	if (value == NULL)
		return params_refuse(error, error_size, "value of '%s' is not valid UTF-8", key);
	dot = strchr(key, '.');
	if (dot != NULL) {
		*dot = '\0';
		name = dot + 1;
		object = json_object_get(params, key);
		if (object == NULL) {
			object = json_object();
			json_object_set_new(params, key, object);
		}
	}
	if (!json_is_object(object) || json_object_get(object, name) != NULL) {
		json_decref(value);
		return params_refuse(
			error, error_size, "key of '%s' is given twice; remove one of them", word);
	}
	if (json_object_set_new(object, name, value) < 0)
		return params_refuse(error, error_size, "key of '%s' is not valid UTF-8", word);
	return 0;
}

static int argument_add(const struct argument *argument, json_t *params, const char *word,
	char *error, size_t error_size)
{
	if (json_object_set_new(params, argument->parameter, value_of(argument->kind, word)) < 0)
		return params_refuse(error, error_size, "%s is not valid UTF-8", argument->name);
	return 0;
}

json_t *params_build(const struct command *command, char *const *words, size_t n_words, char *error,
	size_t error_size)
{
	const struct argument *argument = command_argument(command, n_words, n_words);
	json_t *params = json_object();
	char usage[COMMAND_USAGE_MAX];
	int ret = 0;

	command_usage(command, usage, sizeof(usage));
	if (argument != NULL)
		ret = params_refuse(error, error_size, "%s is missing; usage: ringwayctl %s",
			argument->name, usage);
	for (size_t i = 0; ret == 0 && i < n_words; i++) {
		argument = command_argument(command, i, n_words);
		if (argument != NULL)
			ret = argument_add(argument, params, words[i], error, error_size);
		else if (command->n_pairs > 0)
			ret = pair_add(command, params, words[i], error, error_size);
		else
			ret = params_refuse(error, error_size,
				"'%s' is one word too many; usage: ringwayctl %s", words[i], usage);
	}
	if (ret == 0)
		return params;
	json_decref(params);
	return NULL;
}
