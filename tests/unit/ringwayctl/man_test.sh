#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Usage: man_test.sh RINGWAYCTL: the manual page formats without a complaint and names every command.
set -eu
page=$(mktemp)
trap 'rm -f "$page"' EXIT
"$1" __man >"$page"

for words in "port show" "port add" "port remove" "bridge show" "fdb show" "worker show" stats vlan.trunk "port mode" \
	"port coalesce" "worker mode" "worker ping" top interval; do
	grep -q -F -- "$words" "$page" || { echo "'$words' is not in the manual page"; exit 1; }
done
if ! command -v groff >/dev/null; then
	echo "skipped: formatting the page needs groff"
	exit 77
fi
complaints=$(groff -man -Tascii -ww -z "$page" 2>&1)
if [ -n "$complaints" ]; then
	echo "$complaints"
	exit 1
fi
