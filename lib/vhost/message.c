/* SPDX-License-Identifier: BSD-3-Clause */
#include <vhost/message.h>

#define N_ELEMENTS(array) (sizeof(array) / sizeof((array)[0]))

#define RULE(id, request_name, min, max, fd_rule, gate_bit, reply_bytes, ...)                      \
	[id] = {.name = #request_name,                                                             \
		.payload_min = (min),                                                              \
		.payload_max = (max),                                                              \
		.fds = (fd_rule),                                                                  \
		.gate = (gate_bit),                                                                \
		.reply = (reply_bytes)},

static const struct vu_rule request_rules[] = {VU_REQUESTS(RULE)};
static const struct vu_rule backend_request_rules[] = {VU_BACKEND_REQUESTS(RULE)};

_Static_assert(N_ELEMENTS(request_rules) == VU_N_REQUESTS, "a row for each request");
_Static_assert(
	N_ELEMENTS(backend_request_rules) == VU_N_BACKEND_REQUESTS, "a row for each request");

static const char *const protocol_feature_names[] = {
	[VU_PROTOCOL_F_MQ] = "MQ",
	[VU_PROTOCOL_F_LOG_SHMFD] = "LOG_SHMFD",
	[VU_PROTOCOL_F_RARP] = "RARP",
	[VU_PROTOCOL_F_REPLY_ACK] = "REPLY_ACK",
	[VU_PROTOCOL_F_NET_MTU] = "NET_MTU",
	[VU_PROTOCOL_F_BACKEND_REQ] = "BACKEND_REQ",
	[VU_PROTOCOL_F_CROSS_ENDIAN] = "CROSS_ENDIAN",
	[VU_PROTOCOL_F_CRYPTO_SESSION] = "CRYPTO_SESSION",
	[VU_PROTOCOL_F_PAGEFAULT] = "PAGEFAULT",
	[VU_PROTOCOL_F_CONFIG] = "CONFIG",
	[VU_PROTOCOL_F_BACKEND_SEND_FD] = "BACKEND_SEND_FD",
	[VU_PROTOCOL_F_HOST_NOTIFIER] = "HOST_NOTIFIER",
	[VU_PROTOCOL_F_INFLIGHT_SHMFD] = "INFLIGHT_SHMFD",
	[VU_PROTOCOL_F_RESET_DEVICE] = "RESET_DEVICE",
	[VU_PROTOCOL_F_INBAND_NOTIFICATIONS] = "INBAND_NOTIFICATIONS",
	[VU_PROTOCOL_F_CONFIGURE_MEM_SLOTS] = "CONFIGURE_MEM_SLOTS",
	[VU_PROTOCOL_F_STATUS] = "STATUS",
	[VU_PROTOCOL_F_XEN_MMAP] = "XEN_MMAP",
	[VU_PROTOCOL_F_SHARED_OBJECT] = "SHARED_OBJECT",
	[VU_PROTOCOL_F_DEVICE_STATE] = "DEVICE_STATE",
	[VU_PROTOCOL_F_GET_VRING_BASE_INFLIGHT] = "GET_VRING_BASE_INFLIGHT",
	[VU_PROTOCOL_F_GPA_ADDRESSES] = "GPA_ADDRESSES",
	[VU_PROTOCOL_F_SHMEM] = "SHMEM",
	[VU_PROTOCOL_F_GET_VRING_BASE_SKIP_DRAIN] = "GET_VRING_BASE_SKIP_DRAIN",
};

_Static_assert(N_ELEMENTS(protocol_feature_names) == VU_N_PROTOCOL_FEATURES, "a name for each bit");

const struct vu_rule *vu_request_rule(uint32_t request)
{
	if (request >= N_ELEMENTS(request_rules) || request_rules[request].name == NULL)
		return NULL;
	return &request_rules[request];
}

const struct vu_rule *vu_backend_request_rule(uint32_t request)
{
	if (request >= N_ELEMENTS(backend_request_rules) ||
		backend_request_rules[request].name == NULL)
		return NULL;
	return &backend_request_rules[request];
}

const char *vu_request_name(uint32_t request)
{
	const struct vu_rule *rule = vu_request_rule(request);

	return rule != NULL ? rule->name : "request";
}

bool vu_rule_gate_is_open(const struct vu_rule *rule, uint64_t features, uint64_t protocol_features)
{
	if (rule->gate == VU_GATE_NONE)
		return true;
	if (rule->gate >= VU_GATE_VIRTIO(0))
		return (features >> (rule->gate - VU_GATE_VIRTIO(0))) & 1;
	return (protocol_features >> rule->gate) & 1;
}

const char *vu_protocol_feature_name(unsigned int bit)
{
	return bit < N_ELEMENTS(protocol_feature_names) ? protocol_feature_names[bit] : NULL;
}
