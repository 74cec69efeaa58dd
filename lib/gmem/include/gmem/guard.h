/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Protection from guest memory that vanishes: a peer can truncate its file, or a hugetlb pool can be empty, and the next
 * access raises SIGBUS. The handler maps anonymous zero pages from the fault to the end of that mapping, marks it broken,
 * and the access goes on; the control thread then disconnects that guest. A fault outside every guest mapping is our own
 * bug and ends the process as SIGBUS always does.
 */
#ifndef GMEM_GUARD_H
#define GMEM_GUARD_H

/*
 * Installs the handler for the process. Call once, before the first gmem_create().
 * Returns an eventfd (>= 0, owned by the guard, readable when some mapping has been marked broken; read it, then ask
 * gmem_is_broken() of each guest), -EALREADY if it is installed, or another negative errno.
 */
int gmem_guard_install(void);

#endif
