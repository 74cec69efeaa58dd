/* SPDX-License-Identifier: BSD-3-Clause */
/* Candidates for the shell's completion. */
#ifndef COMPLETE_H
#define COMPLETE_H

#include <stdio.h>

/*
 * `words` are those after the program's name; the last one, perhaps empty, is being typed. Prints
 * one candidate per line; one that ends with '=' is to be typed on. Nothing printed: no idea, the
 * shell may offer files. Names of ports and bridges are asked from the daemon at `socket`, unless
 * -s is among the words; a daemon that is not there costs nothing.
 */
void complete_print(FILE *out, const char *socket, char *const *words, size_t n_words);

#endif
