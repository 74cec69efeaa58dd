/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <base/clock.h>
#include <base/log.h>

static enum log_level current_level = LOG_LEVEL_INFO;

static const char *const level_names[] = {
	[LOG_LEVEL_ERROR] = "error",
	[LOG_LEVEL_WARN] = "warn",
	[LOG_LEVEL_INFO] = "info",
	[LOG_LEVEL_DEBUG] = "debug",
};

void log_set_level(enum log_level level)
{
	__atomic_store_n(&current_level, level, __ATOMIC_RELAXED);
}

int log_level_parse(const char *name, enum log_level *level)
{
	for (unsigned int i = 0; i < sizeof(level_names) / sizeof(level_names[0]); i++) {
		if (strcmp(name, level_names[i]) == 0) {
			*level = (enum log_level)i;
			return 0;
		}
	}
	return -EINVAL;
}

static bool level_is_on(enum log_level level)
{
	return level <= __atomic_load_n(&current_level, __ATOMIC_RELAXED);
}

static void print_line(
	enum log_level level, uint32_t n_suppressed, const char *format, va_list args)
{
	char text[1024];

	vsnprintf(text, sizeof(text), format, args);
	/* One call per line: lines of two threads must not mix. */
	if (n_suppressed > 0)
		fprintf(stderr, "%s: %s (%u similar lines suppressed)\n", level_names[level], text,
			n_suppressed);
	else
		fprintf(stderr, "%s: %s\n", level_names[level], text);
}

void log_print(enum log_level level, const char *format, ...)
{
	va_list args;

	if (!level_is_on(level))
		return;
	va_start(args, format);
	print_line(level, 0, format, args);
	va_end(args);
}

void log_limited(struct log_limit *limit, enum log_level level, const char *format, ...)
{
	uint64_t now_ms = clock_now_us() / 1000;
	uint32_t n_suppressed = 0;
	va_list args;

	if (!level_is_on(level))
		return;
	if (limit->n_printed == 0 || now_ms - limit->window_start_ms >= LOG_LIMIT_INTERVAL_MS) {
		n_suppressed = limit->n_suppressed;
		*limit = (struct log_limit){ .window_start_ms = now_ms };
	}
	if (limit->n_printed >= LOG_LIMIT_BURST) {
		limit->n_suppressed++;
		return;
	}
	limit->n_printed++;
	va_start(args, format);
	print_line(level, n_suppressed, format, args);
	va_end(args);
}
