/* SPDX-License-Identifier: BSD-3-Clause */
/* Backing files for the tests of guest memory, and a look at what the process holds. */
#ifndef TESTS_UNIT_GMEM_FILES_H
#define TESTS_UNIT_GMEM_FILES_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <gmem/gmem.h>

/* A memfd of that size, sealable. Fails the test if there is none. */
int memfd(uint64_t size);

/* A region over all of `fd` from `offset` on. */
struct gmem_region_spec spec_of(int fd, uint64_t gpa, uint64_t size, uint64_t offset);

/* Mappings of memfds and open files of this process; equal before and after whatever may not leak. */
unsigned int n_mappings(void);
/* All mappings. A sanitizer adds some now and then. */
unsigned int n_all_mappings(void);
unsigned int n_open_files(void);

#endif
