/* SPDX-License-Identifier: BSD-3-Clause */
/* CPU lists as taskset(1) and the kernel write them: "1,3-5". */
#ifndef CPU_LIST_H
#define CPU_LIST_H

#include <stdint.h>

/*
 * Expands `text` into an array of the numbers in the order given, which the caller frees. 0,
 * -EINVAL for bad syntax, a number above 1023, a range that runs backwards or a CPU given twice;
 * -ENOMEM.
 */
int cpu_list_parse(const char *text, uint16_t **cpus, uint32_t *n_cpus);

#endif
