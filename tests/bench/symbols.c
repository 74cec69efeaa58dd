/* SPDX-License-Identifier: BSD-3-Clause */
#include "symbols.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct function {
	uint64_t vaddr;
	uint64_t size_bytes;
	const char *name; /* into the mapped file */
};

struct object {
	uint64_t start, end;
	/* ip - start + file_offset is a file offset; + bias makes it the file's virtual address */
	uint64_t file_offset;
	uint64_t bias;
	char *path;
	uint8_t *file; /* mapped, NULL when unreadable */
	size_t file_bytes;
	struct function *functions; /* by address */
	size_t n_functions;
};

struct symbols {
	struct object *objects;
	size_t n_objects;
};

static bool range_ok(const struct object *obj, uint64_t offset, uint64_t len)
{
	return offset <= obj->file_bytes && len <= obj->file_bytes - offset;
}

static int function_compare(const void *a, const void *b)
{
	const struct function *left = a, *right = b;

	return left->vaddr < right->vaddr ? -1 : left->vaddr > right->vaddr;
}

/* The executable segment that this mapping shows tells how far file and virtual addresses differ.
 */
static void bias_find(struct object *obj, const Elf64_Ehdr *header)
{
	const Elf64_Phdr *segments = (const void *)(obj->file + header->e_phoff);

	for (unsigned i = 0; i < header->e_phnum; i++) {
		const Elf64_Phdr *seg = &segments[i];
		uint64_t len = obj->end - obj->start;
		if (seg->p_type == PT_LOAD && (seg->p_flags & PF_X) &&
			seg->p_offset < obj->file_offset + len &&
			seg->p_offset + seg->p_filesz > obj->file_offset)
			obj->bias = seg->p_vaddr - seg->p_offset;
	}
}

static int functions_read(struct object *obj, const Elf64_Shdr *table, const Elf64_Shdr *strings)
{
	const Elf64_Sym *syms = (const void *)(obj->file + table->sh_offset);
	size_t n = table->sh_size / sizeof(*syms);

	obj->functions = calloc(n ? n : 1, sizeof(*obj->functions));
	if (obj->functions == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		unsigned type = ELF64_ST_TYPE(syms[i].st_info);
		if ((type != STT_FUNC && type != STT_GNU_IFUNC) || syms[i].st_shndx == SHN_UNDEF ||
			syms[i].st_name >= strings->sh_size)
			continue;
		obj->functions[obj->n_functions++] = (struct function){
			.vaddr = syms[i].st_value,
			.size_bytes = syms[i].st_size,
			.name = (const char *)obj->file + strings->sh_offset + syms[i].st_name,
		};
	}
	qsort(obj->functions, obj->n_functions, sizeof(*obj->functions), function_compare);
	return 0;
}

static int elf_read(struct object *obj)
{
	const Elf64_Ehdr *header = (const void *)obj->file;
	const Elf64_Shdr *best = NULL;

	if (!range_ok(obj, 0, sizeof(*header)) || memcmp(header->e_ident, ELFMAG, SELFMAG) != 0 ||
		header->e_ident[EI_CLASS] != ELFCLASS64 ||
		!range_ok(obj, header->e_phoff, (uint64_t)header->e_phnum * sizeof(Elf64_Phdr)) ||
		!range_ok(obj, header->e_shoff, (uint64_t)header->e_shnum * sizeof(Elf64_Shdr)))
		return 0;
	bias_find(obj, header);

	const Elf64_Shdr *sections = (const void *)(obj->file + header->e_shoff);
	for (unsigned i = 0; i < header->e_shnum; i++) {
		const Elf64_Shdr *sec = &sections[i];
		bool table =
			sec->sh_type == SHT_SYMTAB || (sec->sh_type == SHT_DYNSYM && best == NULL);
		if (!table || sec->sh_link >= header->e_shnum)
			continue;
		const Elf64_Shdr *strings = &sections[sec->sh_link];
		if (range_ok(obj, sec->sh_offset, sec->sh_size) && strings->sh_size != 0 &&
			range_ok(obj, strings->sh_offset, strings->sh_size) &&
			obj->file[strings->sh_offset + strings->sh_size - 1] == '\0')
			best = sec;
	}
	return best == NULL ? 0 : functions_read(obj, best, &sections[best->sh_link]);
}

static int file_map(struct object *obj, pid_t pid)
{
	char path[4200];
	struct stat info;

	if (obj->path[0] != '/')
		return 0;
	/* through the process's root: it may live in another mount namespace */
	snprintf(path, sizeof(path), "/proc/%d/root%s", (int)pid, obj->path);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	if (fstat(fd, &info) == 0 && S_ISREG(info.st_mode) && info.st_size > 0) {
		void *file = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
		if (file != MAP_FAILED) {
			obj->file = file;
			obj->file_bytes = (size_t)info.st_size;
		}
	}
	close(fd);
	return obj->file == NULL ? 0 : elf_read(obj);
}

static int object_add(struct symbols *syms, const struct object *found, pid_t pid)
{
	struct object *more = realloc(syms->objects, (syms->n_objects + 1) * sizeof(*more));

	if (more == NULL)
		return -ENOMEM;
	syms->objects = more;
	more[syms->n_objects] = *found;
	more[syms->n_objects].path = strdup(found->path);
	if (more[syms->n_objects].path == NULL)
		return -ENOMEM;
	return file_map(&more[syms->n_objects++], pid);
}

int symbols_load(pid_t pid, struct symbols **out)
{
	char line[4400], path[4200], perms[5];
	struct symbols *syms = calloc(1, sizeof(*syms));
	int rc = 0;

	if (syms == NULL)
		return -ENOMEM;
	snprintf(line, sizeof(line), "/proc/%d/maps", (int)pid);
	FILE *maps = fopen(line, "re");
	if (maps == NULL) {
		rc = -errno;
		free(syms);
		return rc;
	}
	while (rc == 0 && fgets(line, sizeof(line), maps) != NULL) {
		struct object found = {.path = path};
		strcpy(path, "?");
		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s %" SCNx64 " %*s %*s %4199[^\n]",
			    &found.start, &found.end, perms, &found.file_offset, path) >= 4 &&
			perms[2] == 'x')
			rc = object_add(syms, &found, pid);
	}
	fclose(maps);
	if (rc < 0) {
		symbols_free(syms);
		return rc;
	}
	*out = syms;
	return 0;
}

/* Last function that starts at or before `vaddr`; aliases with a size win over those without. */
static const char *function_find(const struct object *obj, uint64_t vaddr)
{
	size_t low = 0, high = obj->n_functions;

	while (low < high) {
		size_t mid = low + (high - low) / 2;
		if (obj->functions[mid].vaddr <= vaddr)
			low = mid + 1;
		else
			high = mid;
	}
	for (size_t i = low; i > 0 && low - i < 8; i--) {
		const struct function *fn = &obj->functions[i - 1];
		if (vaddr - fn->vaddr < fn->size_bytes)
			return fn->name;
	}
	return NULL;
}

struct symbol_place symbols_lookup(const struct symbols *syms, uint64_t ip)
{
	for (size_t i = 0; i < syms->n_objects; i++) {
		const struct object *obj = &syms->objects[i];
		if (ip < obj->start || ip >= obj->end)
			continue;
		uint64_t vaddr = ip - obj->start + obj->file_offset + obj->bias;
		return (struct symbol_place){obj->path, function_find(obj, vaddr), vaddr};
	}
	return (struct symbol_place){"?", NULL, ip};
}

uint64_t symbols_address(const struct symbols *syms, const char *name)
{
	for (size_t i = 0; i < syms->n_objects; i++) {
		const struct object *obj = &syms->objects[i];
		for (size_t j = 0; j < obj->n_functions; j++) {
			uint64_t ip =
				obj->functions[j].vaddr - obj->bias - obj->file_offset + obj->start;
			if (ip >= obj->start && ip < obj->end &&
				strcmp(obj->functions[j].name, name) == 0)
				return ip;
		}
	}
	return 0;
}

void symbols_free(struct symbols *syms)
{
	if (syms == NULL)
		return;
	for (size_t i = 0; i < syms->n_objects; i++) {
		struct object *obj = &syms->objects[i];
		if (obj->file != NULL)
			munmap(obj->file, obj->file_bytes);
		free(obj->functions);
		free(obj->path);
	}
	free(syms->objects);
	free(syms);
}
