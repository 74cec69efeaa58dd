/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <config/config.h>

#include "reader.h"
#include "value.h"

/* A key this far from a known one (insertions, deletions, changes, swaps) is taken for a slip. */
#define SUGGEST_DISTANCE_MAX 2
#define SUGGEST_BYTES_MAX    32

int reader_refuse(struct reader *r, const char *format, ...)
{
	char *line = r->error->message;
	size_t size = sizeof(r->error->message);
	va_list args;
	int n = 0;

	if (r->tree != NULL)
		n = snprintf(line, size, "%s:%u: ", r->tree->file, tree_line(r->tree, r->path));
	if (r->path[0] != '\0' && (size_t)n < size)
		n += snprintf(line + n, size - (size_t)n, "%s: ", r->path);
	if ((size_t)n < size) {
		va_start(args, format);
		vsnprintf(line + n, size - (size_t)n, format, args);
		va_end(args);
	}
	value_make_printable(line);
	return -EINVAL;
}

static int refuse_value(
	struct reader *r, const struct key_rule *rule, const json_t *value, const char *next)
{
	char shown[128];

	return reader_refuse(r, "%s is not allowed; allowed: %s; %s",
		value_describe(value, shown, sizeof(shown)), rule->allowed,
		next != NULL ? next : "correct the value");
}

int reader_refuse_value(struct reader *r, const struct key_rule *rule, const json_t *value)
{
	return refuse_value(r, rule, value, rule->next);
}

int reader_refuse_text(struct reader *r, const struct key_rule *rule, const json_t *value)
{
	return refuse_value(r, rule, value,
		json_is_number(value) ? "write it in quotes if this is what you mean" : rule->next);
}

int reader_refuse_number(struct reader *r, const struct key_rule *rule, const json_t *value)
{
	return refuse_value(r, rule, value,
		json_is_string(value) ? "write a plain decimal number, without quotes"
				      : rule->next);
}

size_t reader_enter_key(struct reader *r, const char *key)
{
	size_t length = strlen(r->path);

	snprintf(r->path + length, sizeof(r->path) - length, "%s%s", length > 0 ? "." : "", key);
	return length;
}

size_t reader_enter_index(struct reader *r, size_t index)
{
	size_t length = strlen(r->path);

	snprintf(r->path + length, sizeof(r->path) - length, "[%zu]", index);
	return length;
}

void reader_leave(struct reader *r, size_t length)
{
	r->path[length] = '\0';
}

uint32_t reader_line(const struct reader *r)
{
	return r->tree != NULL ? tree_line(r->tree, r->path) : 0;
}

int reader_text(struct reader *r, const struct key_rule *rule, const json_t *value, void *field)
{
	size_t length = json_string_length(value);

	if (!json_is_string(value) || length < rule->min || length > rule->max ||
		strlen(json_string_value(value)) != length)
		return reader_refuse_text(r, rule, value);
	for (const char *c = json_string_value(value); *c != '\0'; c++) {
		if ((unsigned char)*c < ' ' || *c == 0x7f)
			return reader_refuse_text(r, rule, value);
	}
	memcpy(field, json_string_value(value), length + 1);
	return 0;
}

int reader_name(struct reader *r, const struct key_rule *rule, const json_t *value, void *field)
{
	static const char letters[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-";
	const char *name = json_string_value(value);

	if (name == NULL || strcmp(name, ".") == 0 || strcmp(name, "..") == 0 ||
		name[strspn(name, letters)] != '\0')
		return reader_refuse_text(r, rule, value);
	return reader_text(r, rule, value, field);
}

int reader_number(struct reader *r, const struct key_rule *rule, const json_t *value, void *field)
{
	json_int_t number = json_integer_value(value);

	if (!json_is_integer(value) || number < (json_int_t)rule->min ||
		number > (json_int_t)rule->max)
		return reader_refuse_number(r, rule, value);
	*(uint32_t *)field = (uint32_t)number;
	return 0;
}

int reader_bool(struct reader *r, const struct key_rule *rule, const json_t *value, void *field)
{
	if (!json_is_boolean(value))
		return reader_refuse_value(r, rule, value);
	*(bool *)field = json_is_true(value);
	return 0;
}

int reader_choice(struct reader *r, const struct key_rule *rule, const json_t *value, void *field)
{
	const char *name = json_string_value(value);

	for (const struct choice *c = rule->choices; name != NULL && c->name != NULL; c++) {
		if (strcmp(name, c->name) == 0) {
			/* Enumerations of this format have no negative values: they are unsigned
			 * int. */
			*(unsigned int *)field = (unsigned int)c->value;
			return 0;
		}
	}
	return reader_refuse_text(r, rule, value);
}

static unsigned int smallest(unsigned int a, unsigned int b, unsigned int c)
{
	unsigned int least = a < b ? a : b;

	return least < c ? least : c;
}

/* Edit distance, counting the swap of two neighbours as one. */
static unsigned int distance(const char *a, const char *b)
{
	unsigned int rows[3][SUGGEST_BYTES_MAX + 1];
	size_t n_a = strlen(a), n_b = strlen(b);

	if (n_a > SUGGEST_BYTES_MAX || n_b > SUGGEST_BYTES_MAX)
		return SUGGEST_DISTANCE_MAX + 1;
	for (unsigned int j = 0; j <= n_b; j++)
		rows[0][j] = j;
	for (unsigned int i = 1; i <= n_a; i++) {
		unsigned int *now = rows[i % 3];
		const unsigned int *last = rows[(i - 1) % 3], *before = rows[(i + 1) % 3];

		now[0] = i;
		for (unsigned int j = 1; j <= n_b; j++) {
			now[j] = smallest(
				now[j - 1] + 1, last[j] + 1, last[j - 1] + (a[i - 1] != b[j - 1]));
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
				before[j - 2] + 1 < now[j])
				now[j] = before[j - 2] + 1;
		}
	}
	return rows[n_a % 3][n_b];
}

static bool key_may_stand(const struct reader *r, const struct key_rule *rule, uint32_t variant)
{
	if (rule->is_rpc_only && r->config != NULL)
		return false;
	return rule->variants == 0 || (rule->variants & variant) != 0;
}

static void keys_list(const struct reader *r, const struct object_rule *rule, uint32_t variant,
	char *text, size_t size)
{
	size_t length = 0;

	text[0] = '\0';
	for (size_t i = 0; i < rule->n_keys && length < size; i++) {
		if (key_may_stand(r, &rule->keys[i], variant))
			length += (size_t)snprintf(text + length, size - length, "%s%s",
				length > 0 ? ", " : "", rule->keys[i].name);
	}
}

static int refuse_key(struct reader *r, const struct object_rule *rule, uint32_t variant,
	const char *key, const struct key_rule *known)
{
	const char *nearest = NULL;
	unsigned int best = SUGGEST_DISTANCE_MAX + 1;
	char allowed[256];

	keys_list(r, rule, variant, allowed, sizeof(allowed));
	if (known != NULL && known->is_rpc_only)
		return reader_refuse(
			r, "key is not allowed in a file; allowed: %s; %s", allowed, known->next);
	if (known != NULL)
		return reader_refuse(r,
			"key is not allowed for %s; allowed: %s; remove the key, or change what it "
			"belongs to",
			rule->variant_names[__builtin_ctz(variant)], allowed);
	for (size_t i = 0; i < rule->n_keys; i++) {
		unsigned int d = distance(key, rule->keys[i].name);

		if (d < best && key_may_stand(r, &rule->keys[i], variant)) {
			best = d;
			nearest = rule->keys[i].name;
		}
	}
	if (nearest != NULL)
		return reader_refuse(
			r, "unknown key; allowed: %s; did you mean '%s'?", allowed, nearest);
	return reader_refuse(r, "unknown key; allowed: %s; remove the key", allowed);
}

static const struct key_rule *key_find(const struct object_rule *rule, const char *key)
{
	for (size_t i = 0; i < rule->n_keys; i++) {
		if (strcmp(rule->keys[i].name, key) == 0)
			return &rule->keys[i];
	}
	return NULL;
}

static int keys_check(
	struct reader *r, const struct object_rule *rule, uint32_t variant, const json_t *object)
{
	for (void *i = json_object_iter((json_t *)object); i != NULL;
		i = json_object_iter_next((json_t *)object, i)) {
		const char *key = json_object_iter_key(i);
		const struct key_rule *known = key_find(rule, key);

		if (known == NULL || !key_may_stand(r, known, variant)) {
			reader_enter_key(r, key);
			return refuse_key(r, rule, variant, key, known);
		}
	}
	return 0;
}

/* "ports:" with nothing behind it is an empty list, as everybody reads it; an empty number is a
 * slip. */
static bool is_left_out(const struct key_rule *rule, const json_t *value)
{
	return value == NULL ||
	       (json_is_null(value) && (rule->read == reader_list || rule->read == reader_object));
}

static int key_read(struct reader *r, const struct key_rule *rule, const json_t *object, void *out)
{
	const json_t *value = json_object_get(object, rule->name);
	size_t length = reader_enter_key(r, rule->name);
	int ret = 0;

	if (!is_left_out(rule, value))
		ret = rule->read(r, rule, value, (char *)out + rule->offset);
	else if (rule->is_required)
		ret = reader_refuse(r, "key is missing; allowed: %s; add '%s: ...' here",
			rule->allowed, rule->name);
	if (ret == 0)
		reader_leave(r, length);
	return ret;
}

int reader_run(struct reader *r, const struct object_rule *rule, const json_t *object, void *out)
{
	uint32_t variant = UINT32_MAX;
	int ret;

	memset(out, 0, rule->size);
	if (rule->set_defaults != NULL)
		rule->set_defaults(out);
	if (!json_is_object(object)) {
		char allowed[256], shown[128];

		keys_list(r, rule, variant, allowed, sizeof(allowed));
		return reader_refuse(r,
			"%s is not allowed; allowed: a mapping with the keys %s; write 'key: "
			"value' "
			"pairs",
			value_describe(object, shown, sizeof(shown)), allowed);
	}
	if (rule->variant != NULL)
		variant = rule->variant(object);
	ret = keys_check(r, rule, variant, object);
	for (size_t i = 0; ret == 0 && i < rule->n_keys; i++) {
		if (key_may_stand(r, &rule->keys[i], variant))
			ret = key_read(r, &rule->keys[i], object, out);
	}
	if (ret == 0 && rule->finish != NULL)
		ret = rule->finish(r, out);
	return ret;
}

int reader_object(struct reader *r, const struct key_rule *rule, const json_t *value, void *field)
{
	return reader_run(r, rule->item, value, field);
}

int reader_list(struct reader *r, const struct key_rule *rule, const json_t *value, void *field)
{
	uint32_t *n_items = (uint32_t *)((char *)field - rule->offset + rule->count_offset);
	size_t n = json_array_size(value);
	int ret = 0;

	if (!json_is_array(value))
		return reader_refuse_value(r, rule, value);
	if (n < rule->min || n > rule->max)
		return reader_refuse(r,
			"a list of %zu is not allowed; allowed: %u to %u entries; %s", n, rule->min,
			rule->max, rule->next);
	if (n == 0)
		return 0;
	*(void **)field = calloc(n, rule->item->size);
	if (*(void **)field == NULL)
		return -ENOMEM;
	for (size_t i = 0; ret == 0 && i < n; i++) {
		size_t length = reader_enter_index(r, i);
		void *item = *(char **)field + i * rule->item->size;

		/* Counted before it is read: the item's checks look at the others by this number.
		 */
		*n_items = (uint32_t)i + 1;
		ret = reader_run(r, rule->item, json_array_get(value, i), item);
		if (ret == 0)
			reader_leave(r, length);
	}
	return ret;
}
