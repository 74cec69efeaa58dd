/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Log lines to standard error, one line per call, for every thread but the packet path.
 *
 * A line names object, message, offending value and limit. What a peer can provoke goes through log_limited(), so that a
 * hostile guest cannot fill a disk: at most `burst` lines per `interval_ms`, and the next line that gets through says
 * how many were held back.
 *
 * Thread rule: every call may come from any thread; a struct log_limit is used by one thread at a time.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdbool.h>
#include <stdint.h>

enum log_level {
	LOG_LEVEL_ERROR,
	LOG_LEVEL_WARN,
	LOG_LEVEL_INFO,
	LOG_LEVEL_DEBUG,
};

/* Lines above this level are not printed. Default: LOG_LEVEL_INFO. */
void log_set_level(enum log_level level);

/* 0, or -EINVAL if `name` is none of error, warn, info, debug. */
int log_level_parse(const char *name, enum log_level *level);

/* Prints one line; no newline in `format`. */
void log_print(enum log_level level, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

#define log_error(...) log_print(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warn(...)  log_print(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info(...)  log_print(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_print(LOG_LEVEL_DEBUG, __VA_ARGS__)

/* A bucket of lines for one source of trouble, usually one port. Zero-initialised is ready for use. */
struct log_limit {
	uint64_t window_start_ms;
	uint32_t n_printed;
	uint32_t n_suppressed;
};

#define LOG_LIMIT_BURST       10
#define LOG_LIMIT_INTERVAL_MS 10000

/* As log_print(), but at most LOG_LIMIT_BURST lines per LOG_LIMIT_INTERVAL_MS of `limit`. */
void log_limited(struct log_limit *limit, enum log_level level, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

#endif
