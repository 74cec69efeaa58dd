/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Names the code addresses of a running process: /proc/PID/maps says which file an address
 * belongs to, that file's ELF symbol table (.symtab, else .dynsym) which function.
 */
#ifndef TESTS_BENCH_SYMBOLS_H
#define TESTS_BENCH_SYMBOLS_H

#include <stdint.h>
#include <sys/types.h>

struct symbols;

/* What is known of one address. The strings belong to the `symbols` and live as long. */
struct symbol_place {
	/* path of the mapped file, "[vdso]" and the like, or "?" */
	const char *object;
	/* function that covers the address, or NULL: a stripped static function, for one */
	const char *function;
	/* the address as the file's own symbol table and addr2line know it */
	uint64_t vaddr;
};

/*
 * Reads the executable mappings of `pid`. Files that cannot be read (or are no ELF) keep their
 * name and have no functions. Returns 0 and *out, which the caller gives to symbols_free, or
 * -errno when the map cannot be read.
 */
int symbols_load(pid_t pid, struct symbols **out);

struct symbol_place symbols_lookup(const struct symbols *syms, uint64_t ip);

/* First address of function `name` in the running process, 0 when no mapped file defines it. */
uint64_t symbols_address(const struct symbols *syms, const char *name);

void symbols_free(struct symbols *syms);

#endif
