/* SPDX-License-Identifier: BSD-3-Clause */
/* `ringway demo`: a bridge and two guests of our own, to see it work on any machine. */
#ifndef RINGWAY_DEMO_H
#define RINGWAY_DEMO_H

/* argv[0] is "demo". Returns the exit status: 0 every check held, 1 one did not, 2 wrong arguments. */
int demo_main(int argc, char **argv);

#endif
