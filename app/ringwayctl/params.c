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

static json_t *value_of(const char *key, const char *text)
{
	for (size_t i = 0; i < n_pair_keys; i++) {
		if (strcmp(pair_keys[i].name, key) != 0)
			continue;
		if (pair_keys[i].kind == PAIR_NUMBER)
			return number_or_text(text);
		if (pair_keys[i].kind == PAIR_LIST)
			return list_of(text);
	}
	return json_string(text);
}

static int __attribute__((format(printf, 3, 4)))
refuse(char *error, size_t error_size, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(error, error_size, format, args);
	va_end(args);
	return -EINVAL;
}

/* "a.b" goes into member b of object a, one level deep as the configuration is. */
static int pair_add(json_t *params, const char *word, char *error, size_t error_size)
{
	const char *equals = strchr(word, '=');
	char key[KEY_BYTES_MAX];
	json_t *object = params, *value;
	char *name = key, *dot;

	if (equals == NULL || equals == word || (size_t)(equals - word) >= sizeof(key))
		return refuse(error, error_size,
			"'%s' is not allowed; allowed: KEY=VALUE, such as queues=4", word);
	memcpy(key, word, (size_t)(equals - word));
	key[equals - word] = '\0';
	value = value_of(key, equals + 1);
	if (value == NULL)
		return refuse(error, error_size, "value of '%s' is not valid UTF-8", key);
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
		return refuse(
			error, error_size, "key of '%s' is given twice; remove one of them", word);
	}
	if (json_object_set_new(object, name, value) < 0)
		return refuse(error, error_size, "key of '%s' is not valid UTF-8", word);
	return 0;
}

json_t *params_build(const struct command *command, char *const *words, size_t n_words, char *error,
	size_t error_size)
{
	json_t *params = json_object();
	char usage[128];
	size_t i = 0;
	int ret = 0;

	command_usage(command, usage, sizeof(usage));
	if (command->argument != NULL && n_words > 0) {
		ret = json_object_set_new(params, command->parameter, json_string(words[i++]));
		if (ret < 0)
			refuse(error, error_size, "%s is not valid UTF-8", command->argument);
	} else if (command->is_argument_required) {
		ret = refuse(error, error_size, "%s is missing; usage: ringwayctl %s",
			command->argument, usage);
	}
	for (; ret == 0 && i < n_words; i++) {
		if (command->takes_pairs)
			ret = pair_add(params, words[i], error, error_size);
		else
			ret = refuse(error, error_size,
				"'%s' is one word too many; usage: ringwayctl %s", words[i], usage);
	}
	if (ret == 0)
		return params;
	json_decref(params);
	return NULL;
}
