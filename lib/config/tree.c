/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include <yaml.h>

#include <config/config.h>

#include "tree.h"
#include "value.h"

struct builder {
	yaml_parser_t parser;
	struct tree *tree;
	struct config_error *error;
	unsigned int n_nodes;
	unsigned int depth;
	char path[TREE_PATH_MAX];
};

static int node_build(struct builder *b, yaml_event_t *event, json_t **node);

static int __attribute__((format(printf, 3, 4)))
refuse(struct builder *b, size_t line, const char *format, ...)
{
	char *text = b->error->message;
	size_t size = sizeof(b->error->message);
	va_list args;
	int n;

	n = snprintf(text, size, "%s:%zu: %s%s", b->tree->file, line, b->path,
		b->path[0] != '\0' ? ": " : "");
	if ((size_t)n < size) {
		va_start(args, format);
		vsnprintf(text + n, size - (size_t)n, format, args);
		va_end(args);
	}
	value_make_printable(b->error->message);
	return -EINVAL;
}

static size_t line_of(const yaml_event_t *event)
{
	return event->start_mark.line + 1;
}

/* The next event, which the caller deletes after a 0. */
static int event_next(struct builder *b, yaml_event_t *event)
{
	const yaml_parser_t *p = &b->parser;

	if (yaml_parser_parse(&b->parser, event))
		return 0;
	if (p->error == YAML_MEMORY_ERROR) {
		snprintf(b->error->message, sizeof(b->error->message),
			"%s: out of memory while parsing", b->tree->file);
		return -ENOMEM;
	}
	b->path[0] = '\0';
	return refuse(b, p->problem_mark.line + 1,
		"not valid YAML: %s%s%s; check indentation, quotes and brackets here and on the "
		"line "
		"before",
		p->context ? p->context : "", p->context ? ", " : "",
		p->problem ? p->problem : "unknown problem");
}

static int __attribute__((format(printf, 3, 4)))
path_push(struct builder *b, size_t line, const char *format, ...)
{
	size_t length = strlen(b->path);
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(b->path + length, sizeof(b->path) - length, format, args);
	va_end(args);
	if ((size_t)n >= sizeof(b->path) - length)
		return refuse(b, line, "key is too long");
	if (json_object_set_new(b->tree->lines, b->path, json_integer((json_int_t)line)) < 0)
		return refuse(b, line, "key is not valid UTF-8");
	return 0;
}

static bool has_zero(const yaml_event_t *event)
{
	return memchr(event->data.scalar.value, '\0', event->data.scalar.length) != NULL;
}

static int scalar_build(struct builder *b, const yaml_event_t *event, json_t **node)
{
	const char *text = (const char *)event->data.scalar.value;

	if (has_zero(event))
		return refuse(b, line_of(event), "text has a zero byte; remove it");
	if (event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE)
		*node = value_from_plain(text, event->data.scalar.length);
	else
		*node = json_stringn(text, event->data.scalar.length);
	if (*node == NULL)
		return refuse(b, line_of(event), "text is not valid UTF-8");
	return 0;
}

static int sequence_build(struct builder *b, json_t *list)
{
	size_t length = strlen(b->path);
	yaml_event_t event;
	json_t *item;
	int ret;

	for (;;) {
		ret = event_next(b, &event);
		if (ret < 0)
			return ret;
		if (event.type == YAML_SEQUENCE_END_EVENT) {
			yaml_event_delete(&event);
			return 0;
		}
		ret = path_push(b, line_of(&event), "[%zu]", json_array_size(list));
		if (ret == 0)
			ret = node_build(b, &event, &item);
		yaml_event_delete(&event);
		if (ret < 0)
			return ret;
		json_array_append_new(list, item);
		b->path[length] = '\0';
	}
}

static int key_enter(struct builder *b, const yaml_event_t *event, const json_t *map)
{
	const char *key = (const char *)event->data.scalar.value;
	size_t line = line_of(event);

	if (event->type == YAML_ALIAS_EVENT || event->type != YAML_SCALAR_EVENT || has_zero(event))
		return refuse(b, line, "a key must be plain text; write 'key: value'");
	if (event->data.scalar.anchor != NULL || event->data.scalar.tag != NULL)
		return refuse(
			b, line, "anchors and tags are not supported; write the key as it is");
	if (json_object_get(map, key) != NULL) {
		size_t length = strlen(b->path);

		snprintf(b->path + length, sizeof(b->path) - length, "%s%s", length > 0 ? "." : "",
			key);
		return refuse(b, line, "key is given twice, first on line %u; remove one of them",
			tree_line(b->tree, b->path));
	}
	return path_push(b, line, "%s%s", b->path[0] != '\0' ? "." : "", key);
}

static int mapping_build(struct builder *b, json_t *map)
{
	size_t length = strlen(b->path);
	yaml_event_t key, event;
	json_t *value;
	int ret;

	for (;;) {
		ret = event_next(b, &key);
		if (ret < 0)
			return ret;
		if (key.type == YAML_MAPPING_END_EVENT) {
			yaml_event_delete(&key);
			return 0;
		}
		ret = key_enter(b, &key, map);
		if (ret == 0)
			ret = event_next(b, &event);
		if (ret == 0) {
			ret = node_build(b, &event, &value);
			yaml_event_delete(&event);
		}
		if (ret == 0)
			json_object_set_new(map, (const char *)key.data.scalar.value, value);
		yaml_event_delete(&key);
		if (ret < 0)
			return ret;
		b->path[length] = '\0';
	}
}

static bool is_decorated(const yaml_event_t *event)
{
	switch (event->type) {
	case YAML_ALIAS_EVENT:
		return true;
	case YAML_SCALAR_EVENT:
		return event->data.scalar.anchor != NULL || event->data.scalar.tag != NULL;
	case YAML_SEQUENCE_START_EVENT:
		return event->data.sequence_start.anchor != NULL ||
		       event->data.sequence_start.tag != NULL;
	case YAML_MAPPING_START_EVENT:
		return event->data.mapping_start.anchor != NULL ||
		       event->data.mapping_start.tag != NULL;
	default:
		return false;
	}
}

static int node_build(struct builder *b, yaml_event_t *event, json_t **node)
{
	bool is_map = event->type == YAML_MAPPING_START_EVENT;
	int ret;

	if (is_decorated(event))
		return refuse(b, line_of(event),
			"aliases (*x), anchors (&x) and tags (!x) are not supported; write the "
			"value out");
	if (++b->n_nodes > TREE_NODES_MAX)
		return refuse(b, line_of(event), "too many values; allowed: %d", TREE_NODES_MAX);
	if (event->type == YAML_SCALAR_EVENT)
		return scalar_build(b, event, node);
	if (++b->depth > TREE_DEPTH_MAX)
		return refuse(
			b, line_of(event), "nested too deeply; allowed: %d levels", TREE_DEPTH_MAX);
	*node = is_map ? json_object() : json_array();
	ret = is_map ? mapping_build(b, *node) : sequence_build(b, *node);
	b->depth--;
	if (ret < 0) {
		json_decref(*node);
		*node = NULL;
	}
	return ret;
}

/* Stream start, document start, the root, document end, stream end. */
static int document_build(struct builder *b)
{
	json_t *root = NULL;
	yaml_event_t event;
	int ret;

	for (;;) {
		yaml_event_type_t type;

		ret = event_next(b, &event);
		if (ret < 0)
			break;
		type = event.type;
		if (type == YAML_DOCUMENT_START_EVENT && root != NULL)
			ret = refuse(b, line_of(&event),
				"a second document starts; remove the '---' and what follows");
		else if (type == YAML_MAPPING_START_EVENT)
			ret = node_build(b, &event, &root);
		else if (type == YAML_SCALAR_EVENT || type == YAML_SEQUENCE_START_EVENT ||
			 type == YAML_ALIAS_EVENT)
			ret = refuse(b, line_of(&event),
				"the file must be a mapping; start with a line such as 'ports:'");
		yaml_event_delete(&event);
		if (ret < 0 || type == YAML_STREAM_END_EVENT)
			break;
	}
	if (ret < 0) {
		json_decref(root);
		return ret;
	}
	b->tree->root = root != NULL ? root : json_object();
	return 0;
}

int tree_parse(struct tree *tree, const char *file, const char *text, size_t n_bytes,
	struct config_error *error)
{
	struct builder b = {.tree = tree, .error = error};
	int ret = -ENOMEM;

	*tree = (struct tree){.file = file, .lines = json_object()};
	if (tree->lines == NULL || !yaml_parser_initialize(&b.parser)) {
		snprintf(error->message, sizeof(error->message), "%s: out of memory", file);
	} else {
		yaml_parser_set_input_string(&b.parser, (const unsigned char *)text, n_bytes);
		ret = document_build(&b);
		yaml_parser_delete(&b.parser);
	}
	if (ret < 0)
		tree_clear(tree);
	return ret;
}

void tree_clear(struct tree *tree)
{
	json_decref(tree->root);
	json_decref(tree->lines);
	tree->root = NULL;
	tree->lines = NULL;
}

unsigned int tree_line(const struct tree *tree, const char *path)
{
	char shorter[TREE_PATH_MAX];
	size_t length;

	snprintf(shorter, sizeof(shorter), "%s", path);
	for (length = strlen(shorter); length > 0; length--) {
		const json_t *line;

		shorter[length] = '\0';
		line = json_object_get(tree->lines, shorter);
		if (line != NULL)
			return (unsigned int)json_integer_value(line);
	}
	return 1;
}
