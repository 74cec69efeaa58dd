/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <config/config.h>

#include "cpu_list.h"
#include "value.h"

static int list_fill(const char *text, uint16_t *cpus, uint32_t *n_cpus)
{
	bool seen[CONFIG_CPUS_MAX] = {false};

	for (;; text++) {
		unsigned int first, last;

		if (!value_parse_number(text, &text, CONFIG_CPUS_MAX - 1, &first))
			return -EINVAL;
		last = first;
		if (*text == '-' &&
			!value_parse_number(text + 1, &text, CONFIG_CPUS_MAX - 1, &last))
			return -EINVAL;
		if (last < first)
			return -EINVAL;
		for (unsigned int cpu = first; cpu <= last; cpu++) {
			if (seen[cpu])
				return -EINVAL;
			seen[cpu] = true;
			cpus[(*n_cpus)++] = (uint16_t)cpu;
		}
		if (*text == '\0')
			return 0;
		if (*text != ',')
			return -EINVAL;
	}
}

int cpu_list_parse(const char *text, uint16_t **cpus, uint32_t *n_cpus)
{
	uint16_t *list = calloc(CONFIG_CPUS_MAX, sizeof(*list));
	int ret;

	*n_cpus = 0;
	if (list == NULL)
		return -ENOMEM;
	ret = list_fill(text, list, n_cpus);
	if (ret < 0) {
		free(list);
		*n_cpus = 0;
		return ret;
	}
	*cpus = list;
	return 0;
}
