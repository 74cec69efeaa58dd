/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdio.h>

#include "ctl.h"

int main(int argc, char **argv)
{
	enum ctl_status status = ctl_run(argc, argv, stdout, stderr);

	/* A full disk or a closed pipe must not look like success. */
	if (fflush(stdout) != 0 && status == CTL_DONE)
		return CTL_REFUSED;
	return status;
}
