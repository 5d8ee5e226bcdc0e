#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# The Python frames of stacks, on every interpreter of this machine that heapmark knows (tests/pythons): what
# sys._getframe said at each allocation is what the report says.
load helper

# stacks_are_true PYTHON COUNT [OPTION...]: COUNT functions are compiled, run and thrown away, twice.
stacks_are_true() {
    local python=$1 count=$2
    shift 2
    profiled "$python" "$@" "$top/tests/programs/python/stacks.py" "$programs/.libs/probe.so" truth "$count" >out || return 1
    # There may be other processes: platform.py runs some.
    local file
    file=$(grep -l stacks.py -- *.hmk | head -n 1)
    ! "$heapmark" dump --table events "$file" | grep kind=degraded || return 1
    "$heapmark" report --json --filter '^probe_leak$' "$file" >report.json 2>/dev/null || return 1
    python3 "$top/tests/e2e/python_stacks.py" truth report.json >compared || { cut -c 1-1000 compared; return 1; }
}

@test "stacks: functions, generators, coroutines, classes, callbacks, deaths, threads; 2,000 code objects that die" {
    need python3
    each_python stacks_are_true 1000
}

@test "stacks: with the interpreter's own debug hooks and tracemalloc" {
    need python3
    each_python stacks_are_true 20 -X dev -X tracemalloc=3
}

@test "stacks: with every object in malloc" {
    need python3
    PYTHONMALLOC=malloc each_python stacks_are_true 20
}
