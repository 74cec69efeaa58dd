/* SPDX-License-Identifier: BSD-3-Clause */
#include "virtio_features.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include <linux/virtio_config.h>
#include <linux/virtio_net.h>
#include <linux/virtio_ring.h>

#ifndef VIRTIO_F_IN_ORDER
#define VIRTIO_F_IN_ORDER 35
#endif

struct feature_name {
	const char *name;
	uint64_t bits;
};

/* Single bits first: they are what features_print() prints. */
static const struct feature_name names[] = {
	{"host_csum", FEATURE(VIRTIO_NET_F_CSUM)},
	{"guest_csum", FEATURE(VIRTIO_NET_F_GUEST_CSUM)},
	{"guest_tso4", FEATURE(VIRTIO_NET_F_GUEST_TSO4)},
	{"host_tso4", FEATURE(VIRTIO_NET_F_HOST_TSO4)},
	{"mrg_rxbuf", FEATURE(VIRTIO_NET_F_MRG_RXBUF)},
	{"ctrl_vq", FEATURE(VIRTIO_NET_F_CTRL_VQ)},
	{"mq", FEATURE(VIRTIO_NET_F_MQ)},
	{"indirect", FEATURE(VIRTIO_RING_F_INDIRECT_DESC)},
	{"event_idx", FEATURE(VIRTIO_RING_F_EVENT_IDX)},
	{"version_1", FEATURE(VIRTIO_F_VERSION_1)},
	{"in_order", FEATURE(VIRTIO_F_IN_ORDER)},
	{"packed", FEATURE(VIRTIO_F_RING_PACKED)},
	{"csum", FEATURE(VIRTIO_NET_F_CSUM) | FEATURE(VIRTIO_NET_F_GUEST_CSUM)},
	{"tso", FEATURE(VIRTIO_NET_F_CSUM) | FEATURE(VIRTIO_NET_F_GUEST_CSUM) |
			FEATURE(VIRTIO_NET_F_HOST_TSO4) | FEATURE(VIRTIO_NET_F_GUEST_TSO4)},
};

#define N_NAMES (sizeof(names) / sizeof(names[0]))

static const struct {
	unsigned int bit;
	unsigned int needs;
} prerequisites[] = {
	{VIRTIO_NET_F_GUEST_TSO4, VIRTIO_NET_F_GUEST_CSUM},
	{VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_CSUM},
	{VIRTIO_NET_F_MQ, VIRTIO_NET_F_CTRL_VQ},
};

uint64_t features_default(unsigned int n_queues)
{
	uint64_t features = FEATURE(VIRTIO_F_VERSION_1) | FEATURE(VIRTIO_NET_F_MRG_RXBUF) |
			    FEATURE(VIRTIO_F_IN_ORDER) | FEATURE(VIRTIO_RING_F_INDIRECT_DESC);

	if (n_queues > 1)
		features |= FEATURE(VIRTIO_NET_F_MQ) | FEATURE(VIRTIO_NET_F_CTRL_VQ);
	return features;
}

static const struct feature_name *find(const char *name, size_t len)
{
	for (size_t i = 0; i < N_NAMES; i++)
		if (strlen(names[i].name) == len && memcmp(names[i].name, name, len) == 0)
			return &names[i];
	return NULL;
}

static void append(char *text, size_t size, const char *separator, const char *word)
{
	size_t used = strlen(text);

	snprintf(text + used, size - used, "%s%s", used == 0 ? "" : separator, word);
}

static int refuse(const char *item, size_t len, char *error, size_t error_size)
{
	char all[256] = "";

	for (size_t i = 0; i < N_NAMES; i++)
		if (strcmp(names[i].name, "version_1") != 0)
			append(all, sizeof(all), ", ", names[i].name);
	snprintf(error, error_size,
		"--features: \"%.*s\" is not + or - and one of: %s; write e.g. --features "
		"+csum,-in_order",
		(int)len, item, all);
	return -EINVAL;
}

int features_parse(const char *text, uint64_t *on, uint64_t *off, char *error, size_t error_size)
{
	const char *item = text;

	for (;;) {
		size_t len = strcspn(item, ",");
		const struct feature_name *name = len > 1 ? find(item + 1, len - 1) : NULL;

		if (name == NULL || (*item != '+' && *item != '-') ||
			name->bits & FEATURE(VIRTIO_F_VERSION_1))
			return refuse(item, len, error, error_size);
		if (*item == '+') {
			*on |= name->bits;
			*off &= ~name->bits;
		} else {
			*off |= name->bits;
			*on &= ~name->bits;
		}
		if (item[len] == '\0')
			return 0;
		item += len + 1;
	}
}

uint64_t features_consistent(uint64_t features)
{
	for (size_t i = 0; i < sizeof(prerequisites) / sizeof(prerequisites[0]); i++)
		if (!(features & FEATURE(prerequisites[i].needs)))
			features &= ~FEATURE(prerequisites[i].bit);
	return features;
}

void features_print(uint64_t features, char *text, size_t size)
{
	text[0] = '\0';
	for (size_t i = 0; i < N_NAMES; i++) {
		bool single = (names[i].bits & (names[i].bits - 1)) == 0;

		if (!single || !(features & names[i].bits))
			continue;
		append(text, size, ",", names[i].name);
		features &= ~names[i].bits;
	}
	for (unsigned int bit = 0; bit < 64; bit++) {
		char word[16];

		if (!(features & FEATURE(bit)))
			continue;
		snprintf(word, sizeof(word), "bit %u", bit);
		append(text, size, ",", word);
	}
}
