/* SPDX-License-Identifier: BSD-3-Clause */
/* The tables of messages and feature bits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <vhost/message.h>

static void every_request_has_a_row_that_makes_sense(void **state)
{
	for (uint32_t request = 0; request < VU_N_REQUESTS + 300; request++) {
		const struct vu_rule *rule = vu_request_rule(request);

		if (request == 0 || request >= VU_N_REQUESTS) {
			assert_null(rule);
			assert_string_equal(vu_request_name(request), "request");
			continue;
		}
		assert_non_null(rule);
		assert_string_equal(vu_request_name(request), rule->name);
		assert_true(rule->payload_min <= rule->payload_max);
		assert_true(rule->payload_max <= VU_PAYLOAD_MAX);
		/* What the rule reads must be in the payload. */
		if (rule->fds == VU_FDS_BY_RING || rule->fds == VU_FDS_PER_REGION)
			assert_true(rule->payload_min >= 8);
	}
	assert_null(vu_request_rule(UINT32_MAX));
}

static void every_backend_request_has_a_row(void **state)
{
	assert_null(vu_backend_request_rule(0));
	assert_null(vu_backend_request_rule(VU_N_BACKEND_REQUESTS));
	assert_null(vu_backend_request_rule(UINT32_MAX));
	for (uint32_t request = 1; request < VU_N_BACKEND_REQUESTS; request++)
		assert_non_null(vu_backend_request_rule(request));
}

static void numbers_are_those_of_the_specification(void **state)
{
	assert_int_equal(VU_REQUEST_SET_MEM_TABLE, 5);
	assert_int_equal(VU_REQUEST_GET_VRING_BASE, 11);
	assert_int_equal(VU_REQUEST_SET_VRING_ENABLE, 18);
	assert_int_equal(VU_REQUEST_RESET_DEVICE, 34);
	assert_int_equal(VU_REQUEST_ADD_MEM_REG, 37);
	assert_int_equal(VU_REQUEST_GET_STATUS, 40);
	assert_int_equal(VU_N_REQUESTS, 46);
	assert_int_equal(VU_N_BACKEND_REQUESTS, 11);
	assert_int_equal(VU_N_PROTOCOL_FEATURES, 24);
}

static void gates_look_at_the_right_word(void **state)
{
	const struct vu_rule *enable = vu_request_rule(VU_REQUEST_SET_VRING_ENABLE);
	const struct vu_rule *mtu = vu_request_rule(VU_REQUEST_NET_SET_MTU);
	const struct vu_rule *iotlb = vu_request_rule(VU_REQUEST_IOTLB_MSG);
	const struct vu_rule *owner = vu_request_rule(VU_REQUEST_SET_OWNER);

	assert_true(vu_rule_gate_is_open(owner, 0, 0));
	assert_true(vu_rule_gate_is_open(enable, VU_BIT(30), 0));
	assert_false(vu_rule_gate_is_open(enable, ~VU_BIT(30), UINT64_MAX));
	assert_true(vu_rule_gate_is_open(mtu, 0, VU_BIT(4)));
	assert_false(vu_rule_gate_is_open(mtu, UINT64_MAX, ~VU_BIT(4)));
	assert_true(vu_rule_gate_is_open(iotlb, VU_BIT(33), 0));
	assert_false(vu_rule_gate_is_open(iotlb, ~VU_BIT(33), UINT64_MAX));
}

static void bits_have_their_names(void **state)
{
	assert_string_equal(vu_feature_name(15), "MRG_RXBUF");
	assert_string_equal(vu_feature_name(30), "PROTOCOL_FEATURES");
	assert_string_equal(vu_feature_name(35), "IN_ORDER");
	assert_null(vu_feature_name(63 + 1));
	assert_null(vu_feature_name(2 + 2));
	assert_string_equal(vu_protocol_feature_name(3), "REPLY_ACK");
	assert_string_equal(vu_protocol_feature_name(15), "CONFIGURE_MEM_SLOTS");
	assert_string_equal(vu_protocol_feature_name(23), "GET_VRING_BASE_SKIP_DRAIN");
	assert_null(vu_protocol_feature_name(24));
}

static void inconsistent_set_names_child_and_parent(void **state)
{
	unsigned int needed = 99;

	assert_int_equal(vu_features_inconsistent(0, NULL), -1);
	assert_int_equal(vu_features_inconsistent(UINT64_MAX, NULL), -1);
	assert_int_equal(vu_features_inconsistent(VU_BIT(11), &needed), 11);
	assert_int_equal(needed, 0);
	assert_int_equal(vu_features_inconsistent(VU_BIT(1) | VU_BIT(9), &needed), 9);
	assert_int_equal(needed, 7);
	assert_int_equal(vu_features_inconsistent(VU_BIT(1) | VU_BIT(8) | VU_BIT(9), NULL), -1);
	assert_int_equal(vu_features_inconsistent(VU_BIT(56), &needed), 56);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_request_has_a_row_that_makes_sense),
		cmocka_unit_test(every_backend_request_has_a_row),
		cmocka_unit_test(numbers_are_those_of_the_specification),
		cmocka_unit_test(gates_look_at_the_right_word),
		cmocka_unit_test(bits_have_their_names),
		cmocka_unit_test(inconsistent_set_names_child_and_parent),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
