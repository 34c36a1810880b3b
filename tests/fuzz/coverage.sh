#!/bin/sh
# SPDX-FileCopyrightText: cellos-telemetry contributors
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# coverage.sh [BUILD-DIR] [TARGET...]: replays each corpus in a build of its own that counts lines, and
# fails when a source named in coverage.list is reached by less than 95 % of its lines, or is not
# built. Without targets: all of the list. Needs gcc, gcov and ninja.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
build=${1:-$root/build/coverage}
[ $# -eq 0 ] || shift
least=95

complain() {
	echo "coverage: cannot $*" >&2
	exit 1
}

# Lines of coverage.list that are wanted: all, or those of the targets on the command line.
wanted() {
	if [ $# -eq 0 ]; then
		for source in "$here"/fuzz_*.c; do
			target=$(basename "$source" .c)
			grep -q "^$target " "$here/coverage.list" || complain "find $target in coverage.list"
		done
		grep -v '^#' "$here/coverage.list"
	else
		for target; do
			grep "^$target " "$here/coverage.list" || complain "find $target in coverage.list"
		done
	fi
}

# Percent of lines of one source, from the counts that the last run left.
percent() {
	notes=$(find "$build" -path "*/$(dirname "$1")/*" -name "$(basename "$1").gcda" | head -n 1)
	[ -n "$notes" ] || complain "find counts of $1: it was not run"
	gcov -n "$notes" 2>/dev/null | awk -v source="/$1'" '
		index($0, source) && /^File / { hit = 1; next }
		hit && /^Lines executed:/ { sub(/^Lines executed:/, ""); sub(/%.*/, ""); print; exit }'
}

list=$(wanted "$@")
cmake -S "$root" -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Debug -DCMAKE_C_COMPILER=gcc \
	-DCMAKE_C_FLAGS=--coverage -DCELLOS_BUILD_BENCH=OFF >"$build.log" 2>&1 ||
	{ cat "$build.log" >&2; complain "configure $build"; }
# shellcheck disable=SC2046 # one word per target
cmake --build "$build" --parallel "$(nproc)" \
	--target $(echo "$list" | sed 's/ .*/_replay/') >"$build.log" 2>&1 ||
	{ cat "$build.log" >&2; complain "build the targets"; }
rm -f "$build.log"

low=0
while read -r target sources; do
	find "$build" -name '*.gcda' -exec rm -f {} +
	"$build/tests/fuzz/${target}_replay" "$here/corpus/$target" >/dev/null ||
		complain "replay the corpus of $target"
	for source in $sources; do
		reached=$(percent "$source")
		[ -n "$reached" ] || complain "read the coverage of $source"
		printf '%-16s %-28s %6s %%\n' "$target" "$source" "$reached"
		awk "BEGIN { exit !($reached < $least) }" && low=1
	done
done <<EOF
$list
EOF
if [ $low -ne 0 ]; then
	complain "pass: a corpus reaches less than $least %"
fi
