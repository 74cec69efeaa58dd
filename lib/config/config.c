/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <config/config.h>

#include "reader.h"
#include "schema.h"
#include "tree.h"

static int config_read(const struct tree *tree, struct config **config, struct config_error *error)
{
	struct reader r = {.tree = tree, .error = error};
	int ret;

	r.config = calloc(1, sizeof(*r.config));
	ret = r.config != NULL ? reader_run(&r, &schema_file, tree->root, r.config) : -ENOMEM;
	if (ret == -ENOMEM)
		snprintf(error->message, sizeof(error->message), "%s: out of memory", tree->file);
	if (ret < 0) {
		config_free(r.config);
		return ret;
	}
	*config = r.config;
	return 0;
}

int config_load_text(const char *name, const char *text, size_t n_bytes, struct config **config,
	struct config_error *error)
{
	struct tree tree;
	int ret = tree_parse(&tree, name, text, n_bytes, error);

	if (ret < 0)
		return ret;
	ret = config_read(&tree, config, error);
	tree_clear(&tree);
	return ret;
}

static int file_read(FILE *file, const char *path, char *text, size_t size, size_t *n_bytes,
	struct config_error *error)
{
	errno = 0;
	*n_bytes = fread(text, 1, size, file);
	if (ferror(file)) {
		int ret = errno != 0 ? -errno : -EIO;

		snprintf(error->message, sizeof(error->message), "%s: cannot read: %s", path,
			strerror(-ret));
		return ret;
	}
	if (*n_bytes == size) {
		snprintf(error->message, sizeof(error->message),
			"%s: file is too large; allowed: %d bytes; is this the right file?", path,
			CONFIG_FILE_BYTES_MAX);
		return -EFBIG;
	}
	return 0;
}

int config_load(const char *path, struct config **config, struct config_error *error)
{
	size_t size = CONFIG_FILE_BYTES_MAX + 1, n_bytes;
	bool is_stdin = strcmp(path, "-") == 0;
	FILE *file = is_stdin ? stdin : fopen(path, "re");
	char *text;
	int ret;

	if (file == NULL) {
		ret = -errno;
		snprintf(error->message, sizeof(error->message),
			"%s: cannot open: %s; check the path and its rights", path, strerror(-ret));
		return ret;
	}
	text = malloc(size);
	if (text == NULL) {
		ret = -ENOMEM;
		snprintf(error->message, sizeof(error->message), "%s: out of memory", path);
	} else {
		ret = file_read(file, path, text, size, &n_bytes, error);
	}
	if (!is_stdin)
		fclose(file);
	if (ret == 0)
		ret = config_load_text(is_stdin ? "(stdin)" : path, text, n_bytes, config, error);
	free(text);
	return ret;
}

void config_free(struct config *config)
{
	if (config == NULL)
		return;
	free(config->workers.cpus);
	free(config->ports);
	for (uint32_t i = 0; i < config->n_bridges; i++)
		free(config->bridges[i].port_indexes);
	free(config->bridges);
	for (uint32_t i = 0; i < config->n_cross_connects; i++)
		free(config->cross_connects[i].port_indexes);
	free(config->cross_connects);
	free(config);
}

int config_port_from_json(
	const json_t *object, struct config_port *port, struct config_error *error)
{
	struct reader r = {.error = error};

	return reader_run(&r, &schema_port, object, port);
}

/* Appends; `length` may run beyond `size`, as with snprintf(). */
static size_t __attribute__((format(printf, 4, 5)))
append(char *text, size_t size, size_t length, const char *format, ...)
{
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(length < size ? text + length : NULL, length < size ? size - length : 0,
		format, args);
	va_end(args);
	return length + (size_t)n;
}

const char *config_vlan_to_text(const struct config_vlan *vlan, char *text, size_t size)
{
	const char *separator = " ";
	size_t length;

	text[0] = '\0';
	if (vlan->kind == CONFIG_VLAN_ACCESS)
		append(text, size, 0, "access %u", vlan->access);
	if (vlan->kind != CONFIG_VLAN_TRUNK)
		return text;
	length = append(text, size, 0, "trunk");
	for (uint16_t first = 1, last; first <= CONFIG_VID_MAX; first = (uint16_t)(last + 1)) {
		last = first;
		if (!config_vlan_carries(vlan, first))
			continue;
		while (config_vlan_carries(vlan, (uint16_t)(last + 1)))
			last++;
		length = append(text, size, length, "%s%u", separator, first);
		if (last > first)
			length = append(text, size, length, "-%u", last);
		separator = ",";
	}
	if (vlan->native != 0)
		append(text, size, length, " native %u", vlan->native);
	return text;
}
