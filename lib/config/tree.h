/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Text to tree: YAML, of which JSON is a part, becomes a jansson tree, and a table tells on which
 * line each key stands.
 *
 * A file of settings needs less than YAML offers, and each of these has surprised somebody, so they
 * are refused with the line: anchors and aliases (a few lines of them can mean gigabytes), tags,
 * several documents, keys given twice, keys that are no scalars. Depth, number of nodes and size
 * are bounded.
 */
#ifndef TREE_H
#define TREE_H

#include <stddef.h>

#include <jansson.h>

struct config_error;

#define TREE_DEPTH_MAX 16
#define TREE_NODES_MAX 65536
#define TREE_PATH_MAX  512

struct tree {
	const char *file; /* for messages; the caller's */
	json_t *root;     /* an object */
	json_t *lines;    /* path ("ports[0].name") to line number */
};

/* 0 and a tree to be given to tree_clear(), or a negative errno, the line in `error` and nothing to
 * clear. */
int tree_parse(struct tree *tree, const char *file, const char *text, size_t n_bytes,
	struct config_error *error);

void tree_clear(struct tree *tree);

/* Line of the key at `path`, or of the nearest key around it; 1 if there is none. */
unsigned int tree_line(const struct tree *tree, const char *path);

#endif
