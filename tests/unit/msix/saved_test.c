/* SPDX-License-Identifier: BSD-3-Clause */
/* State leaves as plain data and comes back whole, quiet until resumed; nothing that was tampered with comes in. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "sink.h"

static struct sink sink;

/* Exactly as long as it says, so that a look behind the end is found out. */
static struct msix_saved *save(const struct msix *msix)
{
	struct msix_saved *saved = malloc(msix_saved_bytes(msix_n_vectors(msix)));

	assert_non_null(saved);
	msix_save(msix, saved);
	return saved;
}

static void load(struct msix *msix, const struct msix_saved *saved)
{
	const char *reason = "untouched";

	assert_int_equal(msix_load(msix, saved, msix_saved_bytes(saved->n_vectors), &reason), 0);
	assert_string_equal(reason, "untouched");
}

/* Any state there is: masks, pending bits, messages, control. */
static void scramble(struct msix *msix, uint32_t seed)
{
	static const uint16_t controls[] = {0, MSIX_CONTROL_FUNCTION_MASK, MSIX_CONTROL_ENABLE,
		MSIX_CONTROL_ENABLE | MSIX_CONTROL_FUNCTION_MASK};

	for (unsigned int vector = 0; vector < msix_n_vectors(msix); vector++) {
		seed = seed * 1664525 + 1013904223;
		assert_int_equal(msix_table_write(msix, vector * 16, 8, (uint64_t)seed << 20 | 0xfee00000), 0);
		assert_int_equal(msix_table_write(msix, vector * 16 + 8, 8,
			(uint64_t)(seed >> 16 & 1) << 32 | seed >> 8), 0);
		if (seed & 1 << 20)
			msix_notify(msix, vector);
	}
	msix_control_write(msix, controls[seed >> 24 & 3]);
}

static void what_is_saved_comes_back_and_is_the_same_when_saved_again(void **state)
{
	static const unsigned int counts[] = {1, 2, 64, 65, 2048};

	for (unsigned int i = 0; i < 5; i++) {
		for (uint32_t seed = 0; seed < 16; seed++) {
			struct msix_saved *saved, *again;
			struct msix *source;

			sink_create(&sink, counts[i]);
			source = sink.msix;
			scramble(source, seed << 24);
			saved = save(source);
			sink_create(&sink, counts[i]);
			/* Whatever was there before goes. */
			scramble(sink.msix, ~seed);
			sink_forget(&sink);
			load(sink.msix, saved);
			again = save(sink.msix);
			assert_memory_equal(saved, again, msix_saved_bytes(counts[i]));
			free(again);

			msix_resume(sink.msix);
			for (unsigned int vector = 0; vector < counts[i]; vector++) {
				assert_int_equal(msix_is_masked(sink.msix, vector), msix_is_masked(source, vector));
				assert_int_equal(msix_is_pending(sink.msix, vector), msix_is_pending(source, vector));
			}
			sink_expect_none(&sink);
			msix_destroy(source);
			sink_destroy(&sink);
			free(saved);
		}
	}
}

static void the_form_of_saved_state_does_not_change_unnoticed(void **state)
{
	struct msix_saved *saved;
	uint8_t expected[264 + 32] = {
		1, 0, 0, 0, /* version */
		2, 0,       /* vectors */
		0x01, 0x80, /* message control */
		0x01,       /* pending */
	};
	static const uint8_t entries[32] = {
		0x00, 0x10, 0xe0, 0xfe, 0x02, 0, 0, 0, 0x41, 0x42, 0, 0, 0x01, 0, 0, 0,
		0x00, 0x20, 0xe0, 0xfe, 0x03, 0, 0, 0, 0x43, 0x44, 0, 0, 0x00, 0, 0, 0,
	};

	memcpy(&expected[264], entries, sizeof(entries));
	sink_create(&sink, 2);
	msix_enable(sink.msix);
	assert_int_equal(msix_table_write(sink.msix, 0, 8, 0x2fee01000), 0);
	assert_int_equal(msix_table_write(sink.msix, 8, 8, 0x100004241), 0);
	assert_int_equal(msix_table_write(sink.msix, 16, 8, 0x3fee02000), 0);
	assert_int_equal(msix_table_write(sink.msix, 24, 8, 0x000004443), 0);
	assert_false(msix_notify(sink.msix, 0));
	assert_int_equal(msix_saved_bytes(2), sizeof(expected));
	assert_int_equal(msix_saved_bytes(MSIX_MAX_VECTORS), 264 + 2048 * 16);
	saved = save(sink.msix);
	assert_memory_equal(saved, expected, sizeof(expected));
	free(saved);
	sink_destroy(&sink);
}

/* Enabled and unmasked, with pending bits: saved between load and resume, or made by somebody else. */
static struct msix_saved *save_pending(unsigned int n_vectors)
{
	struct msix_saved *saved;

	sink_create_open(&sink, n_vectors);
	saved = save(sink.msix);
	for (unsigned int vector = 0; vector < n_vectors; vector++)
		saved->pending[vector / 64] |= 1ULL << vector % 64;
	sink_destroy(&sink);
	return saved;
}

static void a_loaded_model_is_quiet_until_it_is_resumed(void **state)
{
	struct msix_saved *saved = save_pending(65);

	sink_create_open(&sink, 65);
	load(sink.msix, saved);
	for (unsigned int vector = 0; vector < 65; vector++) {
		assert_true(msix_is_masked(sink.msix, vector));
		assert_true(msix_is_pending(sink.msix, vector));
		/* Workers may run already. */
		assert_false(msix_notify(sink.msix, vector));
	}
	/* Nor do masks and registers make it fire. */
	msix_mask(sink.msix, 3);
	msix_unmask(sink.msix, 3);
	msix_mask_function(sink.msix);
	msix_unmask_function(sink.msix);
	msix_disable(sink.msix);
	msix_enable(sink.msix);
	assert_int_equal(msix_table_write(sink.msix, 12, 4, 0), 0);
	sink_expect_none(&sink);
	msix_resume(sink.msix);
	sink_expect_all(&sink);
	msix_resume(sink.msix);
	sink_expect_none(&sink);
	assert_true(msix_notify(sink.msix, 64));
	sink_destroy(&sink);
	free(saved);
}

static void a_notification_while_quiet_is_delivered_on_resume(void **state)
{
	struct msix_saved *saved;

	sink_create_open(&sink, 3);
	saved = save(sink.msix);
	load(sink.msix, saved);
	assert_false(msix_notify(sink.msix, 2));
	msix_resume(sink.msix);
	sink_expect(&sink, 2);
	sink_destroy(&sink);
	free(saved);
}

static void resume_fires_only_what_is_open(void **state)
{
	struct msix_saved *saved = save_pending(4);

	/* Changed while quiet: what counts is how it is at the end. */
	sink_create(&sink, 4);
	load(sink.msix, saved);
	msix_mask(sink.msix, 1);
	msix_mask(sink.msix, 2);
	msix_unmask(sink.msix, 2);
	msix_resume(sink.msix);
	assert_int_equal(sink.n, 3);
	assert_int_equal(sink.n_fired[1], 0);
	sink_forget(&sink);
	msix_unmask(sink.msix, 1);
	sink_expect(&sink, 1);
	sink_destroy(&sink);

	/* Loaded with the function masked. */
	saved->control |= MSIX_CONTROL_FUNCTION_MASK;
	sink_create(&sink, 4);
	load(sink.msix, saved);
	msix_resume(sink.msix);
	sink_expect_none(&sink);
	msix_unmask_function(sink.msix);
	sink_expect_all(&sink);
	sink_destroy(&sink);

	/* Loaded disabled. */
	saved->control = 3;
	sink_create(&sink, 4);
	load(sink.msix, saved);
	msix_resume(sink.msix);
	sink_expect_none(&sink);
	msix_enable(sink.msix);
	sink_expect_all(&sink);
	sink_destroy(&sink);
	free(saved);
}

static void a_reset_ends_the_quiet(void **state)
{
	struct msix_saved *saved = save_pending(1);

	sink_create(&sink, 1);
	load(sink.msix, saved);
	msix_reset(sink.msix);
	msix_enable(sink.msix);
	msix_unmask(sink.msix, 0);
	sink_expect_none(&sink);
	assert_true(msix_notify(sink.msix, 0));
	sink_destroy(&sink);
	free(saved);
}

/* One field of a good save is written over with `value`. */
struct tampering {
	const char *what;
	unsigned int n_vectors;
	size_t offset;
	unsigned int width; /* bytes */
	uint64_t value;
	int bytes_more;     /* of what is said to be there */
	const char *reason; /* a part of it */
};

#define AT(field)        offsetof(struct msix_saved, field), sizeof(((struct msix_saved *)NULL)->field)
#define PENDING(qword)   (offsetof(struct msix_saved, pending) + 8 * (qword)), 8
#define ENTRY(vector, dword) (offsetof(struct msix_saved, entries) + 16 * (vector) + 4 * (dword)), 4

static const struct tampering tamperings[] = {
	{"version 0", 3, AT(version), 0, 0, "version"},
	{"version 2", 3, AT(version), 2, 0, "version"},
	{"version of another byte order", 3, AT(version), 0x01000000, 0, "version"},
	{"no vectors", 3, AT(n_vectors), 0, 0, "not as many"},
	{"one vector less", 3, AT(n_vectors), 2, 0, "not as many"},
	{"one vector more", 3, AT(n_vectors), 4, 0, "not as many"},
	{"one vector less, length to match", 3, AT(n_vectors), 2, -16, "not as many"},
	{"one vector more, length to match", 3, AT(n_vectors), 4, 16, "not as many"},
	{"2048 vectors", 3, AT(n_vectors), 2048, 0, "not as many"},
	{"65535 vectors", 3, AT(n_vectors), 65535, 0, "not as many"},
	{"table size one less", 3, AT(control), 0x8001, 0, "table size"},
	{"table size one more", 3, AT(control), 0x8003, 0, "table size"},
	{"table size of 2048", 3, AT(control), 0x87ff, 0, "table size"},
	{"control bit 11", 3, AT(control), 0x8802, 0, "message control"},
	{"control bit 12", 3, AT(control), 0x9002, 0, "message control"},
	{"control bit 13", 3, AT(control), 0xa002, 0, "message control"},
	{"control bit 11 with 2048 vectors", 2048, AT(control), 0x8fff, 0, "message control"},
	{"vector control bit 1", 3, ENTRY(0, 3), 3, 0, "vector control"},
	{"vector control bit 31, last vector", 3, ENTRY(2, 3), 0x80000000, 0, "vector control"},
	{"vector control all ones, vector 2047", 2048, ENTRY(2047, 3), UINT32_MAX, 0, "vector control"},
	{"address bit 0", 3, ENTRY(0, 0), 0xfee00001, 0, "address"},
	{"address bit 1, last vector", 3, ENTRY(2, 0), 0xfee00002, 0, "address"},
	{"pending behind the last", 3, PENDING(0), 8, 0, "pending"},
	{"pending bit 63 of 63", 63, PENDING(0), 1ULL << 63, 0, "pending"},
	{"pending bit 64 of 64", 64, PENDING(1), 1, 0, "pending"},
	{"pending bit 2047 of 3", 3, PENDING(31), 1ULL << 63, 0, "pending"},
	{"pending bit 2047 of 2047", 2047, PENDING(31), 1ULL << 63, 0, "pending"},
	{"a byte short", 3, AT(version), 1, -1, "length"},
	{"an entry short", 3, AT(version), 1, -16, "length"},
	{"the entries missing", 3, AT(version), 1, -48, "length"},
	{"a byte long", 3, AT(version), 1, 1, "length"},
	{"less than the header", 3, AT(version), 1, -49, "header"},
	{"nothing but the version", 3, AT(version), 1, -(264 + 48 - 4), "header"},
	{"nothing at all", 3, AT(version), 1, -(264 + 48), "header"},
};

static void tampered_state_is_refused_and_changes_nothing(void **state)
{
	for (unsigned int i = 0; i < sizeof(tamperings) / sizeof(tamperings[0]); i++) {
		const struct tampering *t = &tamperings[i];
		struct msix_saved *good, *before, *after, *bad;
		const char *reason = NULL;
		size_t bytes = msix_saved_bytes(t->n_vectors) + (size_t)t->bytes_more;
		int result;

		sink_create_open(&sink, t->n_vectors);
		good = save(sink.msix);
		/* Exactly `bytes` long, with the tampered field where it has room. */
		bad = calloc(1, bytes + (bytes == 0));
		assert_non_null(bad);
		memcpy(bad, good, bytes < msix_saved_bytes(t->n_vectors) ? bytes : msix_saved_bytes(t->n_vectors));
		if (t->offset + t->width <= bytes)
			memcpy((char *)bad + t->offset, &t->value, t->width);

		scramble(sink.msix, i);
		sink_forget(&sink);
		before = save(sink.msix);
		result = msix_load(sink.msix, bad, bytes, &reason);
		if (result != -EINVAL || reason == NULL || strstr(reason, t->reason) == NULL)
			fail_msg("%s: %d, %s", t->what, result, reason != NULL ? reason : "no reason");
		after = save(sink.msix);
		assert_memory_equal(before, after, msix_saved_bytes(t->n_vectors));
		sink_expect_none(&sink);
		/* Nor is it quiet. */
		msix_control_write(sink.msix, MSIX_CONTROL_ENABLE);
		msix_unmask(sink.msix, t->n_vectors - 1);
		assert_true(msix_notify(sink.msix, t->n_vectors - 1));
		free(good);
		free(before);
		free(after);
		free(bad);
		sink_destroy(&sink);
	}
}

static void every_bit_of_a_save_is_either_kept_or_refused(void **state)
{
	const unsigned int n_bits = (unsigned int)msix_saved_bytes(2) * 8;
	struct msix_saved *good, *again;
	unsigned int n_refused = 0;

	sink_create_open(&sink, 2);
	good = save(sink.msix);
	for (unsigned int bit = 0; bit < n_bits; bit++) {
		uint8_t *byte = (uint8_t *)good + bit / 8;
		const char *reason = NULL;

		*byte ^= (uint8_t)(1u << bit % 8);
		if (msix_load(sink.msix, good, msix_saved_bytes(2), &reason) == 0) {
			again = save(sink.msix);
			assert_memory_equal(good, again, msix_saved_bytes(2));
			free(again);
		} else {
			assert_non_null(reason);
			n_refused++;
		}
		*byte ^= (uint8_t)(1u << bit % 8);
	}
	/* Version, number, table size and the reserved bits; pending bits but two; of an entry, 2 of address, 31 of control. */
	assert_int_equal(n_refused, 32 + 16 + 14 + (2048 - 2) + 2 * 33);
	free(good);
	sink_destroy(&sink);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_saved_comes_back_and_is_the_same_when_saved_again),
		cmocka_unit_test(the_form_of_saved_state_does_not_change_unnoticed),
		cmocka_unit_test(a_loaded_model_is_quiet_until_it_is_resumed),
		cmocka_unit_test(a_notification_while_quiet_is_delivered_on_resume),
		cmocka_unit_test(resume_fires_only_what_is_open),
		cmocka_unit_test(a_reset_ends_the_quiet),
		cmocka_unit_test(tampered_state_is_refused_and_changes_nothing),
		cmocka_unit_test(every_bit_of_a_save_is_either_kept_or_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
