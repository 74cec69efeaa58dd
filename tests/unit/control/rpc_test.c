/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "rpc.h"

static int handle_echo(
	void *ctx, const json_t *params, json_t **result, struct control_error *error)
{
	(*(unsigned int *)ctx)++;
	*result = json_deep_copy(params);
	return 0;
}

static int handle_nothing(
	void *ctx, const json_t *params, json_t **result, struct control_error *error)
{
	return 0;
}

static int handle_refuse(
	void *ctx, const json_t *params, json_t **result, struct control_error *error)
{
	return control_fail(error, CONTROL_INVALID_PARAMS, -EINVAL, "%s", "name: no such port");
}

static int handle_refuse_in_silence(
	void *ctx, const json_t *params, json_t **result, struct control_error *error)
{
	*result = json_object();
	return -EBUSY;
}

static unsigned int n_echoed;

static const struct control_method methods[] = {
	{"echo", "gives its parameters back", handle_echo},
	{"nothing", "succeeds", handle_nothing},
	{"refuse", "fails", handle_refuse},
	{"refuse_in_silence", "fails", handle_refuse_in_silence},
	{NULL, NULL, NULL},
};

static const struct rpc_table table = {methods, &n_echoed, 3};

/* Text given, text expected; NULL: no answer. */
static void expect(const char *request, const char *expected)
{
	json_t *answer = rpc_execute(&table, request, strlen(request));
	char *text = answer != NULL ? json_dumps(answer, JSON_COMPACT) : NULL;

	if (expected == NULL)
		assert_null(text);
	else
		assert_string_equal(text, expected);
	free(text);
	json_decref(answer);
}

#define ANSWER(id, result) "{\"jsonrpc\":\"2.0\",\"id\":" id ",\"result\":" result "}"
#define ERROR(id, code, message)                                                                   \
	"{\"jsonrpc\":\"2.0\",\"id\":" id ",\"error\":{\"code\":" code ",\"message\":\"" message   \
	"\"}}"
#define NOT_OBJECT                                                                                 \
	ERROR("null", "-32600",                                                                    \
		"request is not an object; allowed: {\\\"jsonrpc\\\": \\\"2.0\\\", "               \
		"\\\"method\\\": "                                                                 \
		"..., \\\"params\\\": {...}, \\\"id\\\": ...}")

static void request_is_answered_with_its_own_id(void **state)
{
	expect("{\"jsonrpc\":\"2.0\",\"method\":\"echo\",\"params\":{\"a\":[1]},\"id\":7}",
		ANSWER("7", "{\"a\":[1]}"));
	expect("{\"jsonrpc\":\"2.0\",\"method\":\"echo\",\"id\":\"x\"}", ANSWER("\"x\"", "{}"));
	expect("{\"jsonrpc\":\"2.0\",\"method\":\"nothing\",\"id\":null}", ANSWER("null", "{}"));
	expect(" {\"id\":1.5,\"method\":\"nothing\",\"jsonrpc\":\"2.0\"} \r", ANSWER("1.5", "{}"));
}

static void notification_is_executed_and_not_answered(void **state)
{
	unsigned int before = n_echoed;

	expect("{\"jsonrpc\":\"2.0\",\"method\":\"echo\",\"params\":{}}", NULL);
	assert_int_equal(n_echoed, before + 1);
	expect("{\"jsonrpc\":\"2.0\",\"method\":\"refuse\"}", NULL);
	expect("{\"jsonrpc\":\"2.0\",\"method\":\"nothing\"}", NULL);
	expect("{\"jsonrpc\":\"2.0\",\"method\":\"unknown\"}", NULL);
}

static void refusal_carries_code_and_message(void **state)
{
	expect("{\"jsonrpc\":\"2.0\",\"method\":\"refuse\",\"id\":1}",
		ERROR("1", "-32602", "name: no such port"));
	expect("{\"jsonrpc\":\"2.0\",\"method\":\"refuse_in_silence\",\"id\":1}",
		ERROR("1", "-32000", "Device or resource busy"));
	expect("{\"jsonrpc\":\"2.0\",\"method\":\"prot.show\",\"id\":1}",
		ERROR("1", "-32601",
			"method 'prot.show' is unknown; allowed: the methods that 'rpc.list' "
			"names"));
	expect("{\"jsonrpc\":\"2.0\",\"method\":\"echo\",\"params\":[1],\"id\":1}",
		ERROR("1", "-32602",
			"member 'params' is not allowed; allowed: an object with named "
			"parameters"));
}

static void text_that_is_no_json_is_a_parse_error(void **state)
{
	static const char *const rows[] = {
		"{", "nonsense", "{\"a\":1}{", "{\"a\":1,\"a\":2}", "[1,]", "\"\xff\"", "1e999"};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		json_t *answer = rpc_execute(&table, rows[i], strlen(rows[i]));
		const json_t *error = json_object_get(answer, "error");

		assert_int_equal(json_integer_value(json_object_get(error, "code")), -32700);
		assert_true(json_is_null(json_object_get(answer, "id")));
		json_decref(answer);
	}
}

static void json_that_is_no_request_is_an_invalid_request(void **state)
{
	static const char *const rows[] = {"{}", "{\"method\":\"echo\",\"id\":1}",
		"{\"jsonrpc\":\"1.0\",\"method\":\"echo\",\"id\":1}",
		"{\"jsonrpc\":2.0,\"method\":\"echo\",\"id\":1}", "{\"jsonrpc\":\"2.0\",\"id\":1}",
		"{\"jsonrpc\":\"2.0\",\"method\":1,\"id\":1}",
		"{\"jsonrpc\":\"2.0\",\"method\":\"echo\",\"id\":{}}",
		"{\"jsonrpc\":\"2.0\",\"method\":\"echo\",\"id\":true}"};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		json_t *answer = rpc_execute(&table, rows[i], strlen(rows[i]));
		const json_t *error = json_object_get(answer, "error");

		assert_int_equal(json_integer_value(json_object_get(error, "code")), -32600);
		assert_true(json_is_null(json_object_get(answer, "id")));
		json_decref(answer);
	}
}

static void batch_is_answered_in_order_without_its_notifications(void **state)
{
	expect("[{\"jsonrpc\":\"2.0\",\"method\":\"echo\",\"id\":1},"
	       "{\"jsonrpc\":\"2.0\",\"method\":\"echo\"},3]",
		"[" ANSWER("1", "{}") "," NOT_OBJECT "]");
	expect("[{\"jsonrpc\":\"2.0\",\"method\":\"echo\"}]", NULL);
	expect("[]", ERROR("null", "-32600",
			     "batch of 0 requests is not allowed; allowed: 1 to 3; split it"));
	expect("[1,2,3,4]",
		ERROR("null", "-32600",
			"batch of 4 requests is not allowed; allowed: 1 to 3; split it"));
	expect("[[]]", "[" NOT_OBJECT "]");
}

static void list_names_every_method_with_its_summary(void **state)
{
	expect("{\"jsonrpc\":\"2.0\",\"method\":\"rpc.list\",\"id\":1}",
		ANSWER("1", "{\"methods\":["
			    "{\"name\":\"echo\",\"summary\":\"gives its parameters back\"},"
			    "{\"name\":\"nothing\",\"summary\":\"succeeds\"},"
			    "{\"name\":\"refuse\",\"summary\":\"fails\"},"
			    "{\"name\":\"refuse_in_silence\",\"summary\":\"fails\"}]}"));
}

static void message_cut_inside_a_character_is_still_sent(void **state)
{
	/* 63 letters and a character of two bytes: the message quotes 64 bytes of it */
	expect("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\""
	       "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\xc3\xa4\"}",
		ERROR("1", "-32601",
			"method 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx?' "
			"is unknown; allowed: the methods that 'rpc.list' names"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(request_is_answered_with_its_own_id),
		cmocka_unit_test(notification_is_executed_and_not_answered),
		cmocka_unit_test(refusal_carries_code_and_message),
		cmocka_unit_test(text_that_is_no_json_is_a_parse_error),
		cmocka_unit_test(json_that_is_no_request_is_an_invalid_request),
		cmocka_unit_test(batch_is_answered_in_order_without_its_notifications),
		cmocka_unit_test(list_names_every_method_with_its_summary),
		cmocka_unit_test(message_cut_inside_a_character_is_still_sent),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
