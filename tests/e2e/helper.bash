# SPDX-License-Identifier: MIT
# For the end-to-end tests: every test runs in a scratch directory of its own, into which the recordings go.

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
build=${HEAPMARK_BUILD:-$top/build}
shim=$build/.libs/libheapmark.so
heapmark=$build/heapmark
programs=$build/tests/programs
export LC_ALL=C.UTF-8
unset LD_PRELOAD HEAPMARK_OUT HEAPMARK_OPTIONS

setup() {
    work=$(mktemp -d "${TMPDIR:-/tmp}/heapmark-e2e.XXXXXX")
    cd "$work" || return 1
    export HEAPMARK_OUT=$work/%e.%p.hmk
}

teardown() {
    cd / && rm -rf "$work"
}

# need COMMAND...: skips the test where one is not installed.
need() {
    local tool
    for tool; do
        command -v "$tool" >/dev/null || skip "needs $tool"
    done
}

# python_has MODULE...: skips the test where Debian's Python lacks one.
python_has() {
    local module
    [[ -x /usr/bin/python3 ]] || skip "needs python3"
    for module; do
        /usr/bin/python3 -c "import $module" 2>/dev/null || skip "needs Python's $module"
    done
}

profiled() { env LD_PRELOAD="$shim" "$@"; }

# recording [NAME]: the one recording of a program; fails when there are none or several.
recording() {
    local -a found=("$work"/${1:-*}.*.hmk)
    [[ ${#found[@]} == 1 && -f ${found[0]} ]] || { echo "recordings: ${found[*]}" >&2; return 1; }
    echo "${found[0]}"
}

# facts FILE: `key value` lines computed from the plain dump, without the code that makes the report.
facts() { "$heapmark" dump "$1" | awk -f "$top/tests/e2e/facts.awk"; }

# value KEY: from `key value` lines on standard input.
value() { awk -v key="$1" '$1 == key { print $2; found = 1 } END { exit !found }'; }

# fact FILE KEY
fact() { facts "$1" | value "$2"; }

# equal WHAT EXPECTED ACTUAL
equal() { [[ $2 == "$3" ]] || { echo "$1: expected $2, got $3" >&2; return 1; }; }

# sound FILE: the readers accept the recording and its numbers agree with each other.
sound() {
    local lines key number
    "$heapmark" info "$1" >/dev/null || { echo "info refuses $1" >&2; return 1; }
    ! "$heapmark" --help | grep -q "^  report" || "$heapmark" report "$1" >/dev/null || { echo "report refuses $1" >&2; return 1; }
    lines=$(facts "$1") || return 1
    local -A is
    while read -r key number; do is[$key]=$number; done <<<"$lines"
    equal "cells' live bytes" $((is[heap.live_bytes] + is[pending_bytes])) "${is[live_bytes]}" &&
        equal "cells' live blocks" $((is[heap.live_blocks] + is[pending_blocks])) "${is[live_blocks]}" &&
        within "composition of the peak" "${is[heap.peak_bytes]}" "${is[peak_bytes]}" $((is[threads] * is[heap.flush_bytes])) &&
        equal "sites of negative live bytes" 0 "${is[negative_sites]}"
}

# within WHAT EXPECTED ACTUAL BOUND
within() {
    local off=$(($3 - $2))
    ((${off#-} <= $4)) || { echo "$1: expected $2 within $4, got $3" >&2; return 1; }
}

# same_as_bare COMMAND...: the same output, errors and exit status with the shim as without it.
same_as_bare() {
    local bare=0 with=0
    "$@" >"$work/bare.out" 2>"$work/bare.err" </dev/null || bare=$?
    env LD_PRELOAD="$shim" "$@" >"$work/with.out" 2>"$work/with.err" </dev/null || with=$?
    equal "exit status" "$bare" "$with" || { tail -n 5 "$work/with.err" >&2; return 1; }
    diff "$work/bare.out" "$work/with.out" >&2 && diff "$work/bare.err" "$work/with.err" >&2
}

# by_function FUNCTION FILE [KIND]: what the sites with that function on their stack made, as `key value` lines.
by_function() { "$heapmark" dump "$2" | python3 "$top/tests/e2e/by_function.py" "$1" "${3:-heap}"; }

# each_python FUNCTION ARG...: runs it with the interpreter's path first, in a folder of its own, for each of them.  Under
# the `||` a failed command in FUNCTION does not end it: it has to return.
each_python() {
    local python count=0
    while read -r python; do
        mkdir "$work/$((++count))"
        cd "$work/$count" || return 1
        HEAPMARK_OUT=$PWD/%e.%p.hmk "$1" "$python" "${@:2}" || { echo "with $python" >&2; return 1; }
    done < <("$top/tests/pythons")
    ((count)) || skip "no CPython 3.8 or newer"
    echo "# $count interpreters" >&3
}
