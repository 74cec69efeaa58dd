# SPDX-License-Identifier: BSD-3-Clause
# Completion of ringwayctl for bash: asks the program itself, so that it knows what the program knows.
# Use: source this file, or install it as /usr/share/bash-completion/completions/ringwayctl.

_ringwayctl()
{
	local line=${COMP_LINE:0:COMP_POINT} typed prefix candidate
	local -a words

	# Split at blanks only: bash's own words end at '=' and ':', too.
	read -ra words <<<"$line"
	[[ $line == *[[:space:]] ]] && words+=("")
	typed=${words[-1]}
	# Readline replaces what follows the last of its word breaks, so candidates lose what comes before.
	prefix=${typed%"${typed##*[=:]}"}
	COMPREPLY=()
	while IFS= read -r candidate; do
		COMPREPLY+=("${candidate#"$prefix"}")
	done < <("${words[0]/#\~/$HOME}" __complete "${words[@]:1}" 2>/dev/null)
	if [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *= ]]; then
		compopt -o nospace 2>/dev/null
	fi
	return 0
}

complete -o bashdefault -o default -F _ringwayctl ringwayctl
