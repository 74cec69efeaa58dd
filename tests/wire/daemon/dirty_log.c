/* SPDX-License-Identifier: BSD-3-Clause */
/* What a VMM does with the dirty log and Python cannot: takes its bits without losing one that is set at the same time. */
#include <stddef.h>
#include <stdint.h>

/* Moves the bits of `log` to `taken`. Returns how many bytes had some. */
__attribute__((visibility("default"))) size_t log_take(uint8_t *log, size_t n_bytes, uint8_t *taken);

size_t log_take(uint8_t *log, size_t n_bytes, uint8_t *taken)
{
	size_t n = 0;

	for (size_t i = 0; i < n_bytes; i++) {
		taken[i] = 0;
		if (__atomic_load_n(&log[i], __ATOMIC_RELAXED) == 0)
			continue;
		/* The page is read after this: it has all that was written before the bit was set, or the bit is set again. */
		taken[i] = __atomic_exchange_n(&log[i], 0, __ATOMIC_SEQ_CST);
		n++;
	}
	return n;
}
