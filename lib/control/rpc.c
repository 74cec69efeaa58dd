/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "rpc.h"

#define LIST_METHOD "rpc.list"

int control_fail(struct control_error *error, int code, int code_errno, const char *format, ...)
{
	va_list args;

	error->code = code;
	va_start(args, format);
	vsnprintf(error->message, sizeof(error->message), format, args);
	va_end(args);
	return code_errno;
}

/* jansson takes UTF-8 only, and a message that quotes a client's bytes may be none after it was
 * cut. */
static json_t *text_of(const char *message)
{
	char ascii[CONTROL_MESSAGE_MAX];
	json_t *text = json_string(message);

	if (text != NULL)
		return text;
	snprintf(ascii, sizeof(ascii), "%s", message);
	for (char *c = ascii; *c != '\0'; c++) {
		if (*c < ' ' || *c > '~')
			*c = '?';
	}
	return json_string(ascii);
}

json_t *rpc_error(json_t *id, int code, const char *message)
{
	return json_pack("{s:s, s:O?, s:{s:i, s:o}}", "jsonrpc", "2.0", "id", id, "error", "code",
		code, "message", text_of(message));
}

static json_t *methods_list(const struct control_method *methods)
{
	json_t *list = json_array();

	for (const struct control_method *m = methods; m->name != NULL; m++)
		json_array_append_new(
			list, json_pack("{s:s, s:s}", "name", m->name, "summary", m->summary));
	return json_pack("{s:o}", "methods", list);
}

static int method_call(const struct rpc_table *table, const char *name, const json_t *params,
	json_t **result, struct control_error *error)
{
	if (strcmp(name, LIST_METHOD) == 0) {
		*result = methods_list(table->methods);
		return 0;
	}
	for (const struct control_method *m = table->methods; m->name != NULL; m++) {
		if (strcmp(m->name, name) == 0)
			return m->handle(table->ctx, params, result, error);
	}
	return control_fail(error, CONTROL_METHOD_NOT_FOUND, -ENOSYS,
		"method '%.64s' is unknown; allowed: the methods that '%s' names", name,
		LIST_METHOD);
}

/* Members of a request that JSON-RPC 2.0, section 4, prescribes; NULL or what is wrong. */
static const char *request_problem(const json_t *request)
{
	const char *version = json_string_value(json_object_get(request, "jsonrpc"));
	const json_t *id = json_object_get(request, "id");

	if (!json_is_object(request))
		return "request is not an object; allowed: {\"jsonrpc\": \"2.0\", \"method\": ..., "
		       "\"params\": {...}, \"id\": ...}";
	if (version == NULL || strcmp(version, "2.0") != 0)
		return "member 'jsonrpc' is not allowed; allowed: \"2.0\"";
	if (!json_is_string(json_object_get(request, "method")))
		return "member 'method' is not allowed; allowed: a text";
	if (id != NULL && !json_is_string(id) && !json_is_number(id) && !json_is_null(id))
		return "member 'id' is not allowed; allowed: a text, a number or null";
	return NULL;
}

static json_t *request_execute(const struct rpc_table *table, const json_t *request)
{
	struct control_error error = {.code = CONTROL_REFUSED};
	json_t *params, *none = NULL, *id, *result = NULL, *answer;
	const char *problem = request_problem(request);
	int ret;

	if (problem != NULL)
		return rpc_error(NULL, CONTROL_INVALID_REQUEST, problem);
	id = json_object_get(request, "id");
	params = json_object_get(request, "params");
	if (params == NULL)
		params = none = json_object();
	if (json_is_object(params))
		ret = method_call(table, json_string_value(json_object_get(request, "method")),
			params, &result, &error);
	else
		ret = control_fail(&error, CONTROL_INVALID_PARAMS, -EINVAL,
			"member 'params' is not allowed; allowed: an object with named parameters");
	json_decref(none);
	if (ret < 0 && error.message[0] == '\0')
		control_fail(&error, error.code, ret, "%s", strerror(-ret));
	if (ret < 0) {
		json_decref(result);
		return id != NULL ? rpc_error(id, error.code, error.message) : NULL;
	}
	if (result == NULL)
		result = json_object();
	if (id == NULL) {
		json_decref(result);
		return NULL;
	}
	answer = json_pack("{s:s, s:O, s:o}", "jsonrpc", "2.0", "id", id, "result", result);
	return answer != NULL ? answer
			      : rpc_error(id, CONTROL_INTERNAL_ERROR, "answer cannot be built");
}

static json_t *batch_execute(const struct rpc_table *table, const json_t *batch)
{
	size_t n = json_array_size(batch);
	char message[128];
	json_t *answers;

	if (n == 0 || n > table->n_batch_max) {
		snprintf(message, sizeof(message),
			"batch of %zu requests is not allowed; allowed: 1 to %u; split it", n,
			table->n_batch_max);
		return rpc_error(NULL, CONTROL_INVALID_REQUEST, message);
	}
	answers = json_array();
	for (size_t i = 0; i < n; i++) {
		json_t *answer = request_execute(table, json_array_get(batch, i));

		if (answer != NULL)
			json_array_append_new(answers, answer);
	}
	if (json_array_size(answers) > 0)
		return answers;
	json_decref(answers);
	return NULL;
}

json_t *rpc_execute(const struct rpc_table *table, const char *text, size_t n_bytes)
{
	json_error_t where;
	json_t *request = json_loadb(text, n_bytes, JSON_REJECT_DUPLICATES, &where);
	char message[JSON_ERROR_TEXT_LENGTH + 64];
	json_t *answer;

	if (request == NULL) {
		snprintf(message, sizeof(message), "request is not valid JSON: column %d: %s",
			where.column, where.text);
		return rpc_error(NULL, CONTROL_PARSE_ERROR, message);
	}
	answer = json_is_array(request) ? batch_execute(table, request)
					: request_execute(table, request);
	json_decref(request);
	return answer;
}
