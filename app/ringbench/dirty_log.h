/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The dirty log of a guest that is always being migrated (vhost-user, "Migration"): the back end notes the pages that it
 * writes, and they are taken again every now and then, as a VMM does.
 *
 * Thread rule: the session's.
 */
#ifndef RINGBENCH_DIRTY_LOG_H
#define RINGBENCH_DIRTY_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How often bits are taken. */
#define DIRTY_LOG_US 100000

struct dirty_log {
	int fd;              /* -1: none */
	unsigned long *bits; /* from guest address 0 on */
	size_t bytes;
	size_t first;        /* word of the first page there is */
	uint64_t n_pages;    /* taken so far, each time anew */
};

/* For guest memory [gpa, gpa + size). 0 or a negative errno. */
int dirty_log_create(struct dirty_log *log, uint64_t gpa, uint64_t size);
void dirty_log_destroy(struct dirty_log *log);

void dirty_log_take(struct dirty_log *log);

#endif
