#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Usage: completion_test.sh RINGWAYCTL COMPLETION: what bash offers for a line is what the program offers.
set -u
ctl=$1
export RINGWAY_SOCKET=/no/such.sock
# shellcheck source=/dev/null
source "$2"
failed=0

# expect LINE CANDIDATE...: LINE starts after the program's name.
expect()
{
	local line=$1
	shift
	COMP_LINE="$ctl $line"
	COMP_POINT=${#COMP_LINE}
	_ringwayctl
	if [[ "${COMPREPLY[*]}" != "$*" ]]; then
		echo "'$line': expected '$*', got '${COMPREPLY[*]}'"
		failed=1
	fi
}

expect "" port bridge fdb worker stats top
expect "po" port
expect "port " show add remove mode coalesce
expect "worker mode a" adaptive
expect "port coalesce vm1 fr" frames=
expect "top int" interval=
expect "-j  port   sh" show
expect "port add vm9 type=guest ro" role=
# readline replaces only what follows '='
expect "port add vm9 type=" guest nic
expect "port add vm9 role=l" listen
# no daemon, no names, no noise
expect "port show " ""

complete -p ringwayctl | grep -q -- '-F _ringwayctl' || failed=1
exit $failed
