#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# CPython's arenas of small objects, on every interpreter of this machine that heapmark knows: what
# sys._debugmallocstats counts, who keeps them, and what RSS loses when those objects go.
load helper

# arenas_are_true PYTHON CASE COUNT KEEP-ONE-IN [OPTION...]: the type that keeps them has the name of the case, but for csv.
arenas_are_true() {
    local python=$1 case=$2 type=$2
    shift 2
    [[ $case != csv ]] || type=str
    PYTHONPATH=$top/src/api profiled "$python" "${@:3}" "$top/tests/programs/python/arenas.py" "$case" "$1" "$2" >truth ||
        return 1
    local file
    file=$(grep -l arenas.py -- *.hmk | head -n 1)
    "$heapmark" report --json --no-symbols "$file" >report.json || return 1
    python3 "$top/tests/e2e/arenas.py" truth report.json "$type" >compared || { cat compared; return 1; }
}

@test "arenas: floats, 1 in 10,000 kept" {
    need python3
    each_python arenas_are_true float 3000000 10000
}

@test "arenas: strings, 1 in 5,000 kept" {
    need python3
    each_python arenas_are_true str 1500000 5000
}

@test "arenas: dicts, 1 in 1,000 kept" {
    need python3
    each_python arenas_are_true dict 300000 1000
}

@test "arenas: instances with slots, 1 in 1,000 kept" {
    need python3
    each_python arenas_are_true Point 300000 1000
}

@test "arenas: instances with a dict, 1 in 1,000 kept" {
    need python3
    each_python arenas_are_true Record 300000 1000
}

@test "arenas: with the interpreter's debug hooks" {
    need python3
    each_python arenas_are_true complex 500000 1000 -X dev
}

@test "arenas: 6 million strings, 1 in 5,000 kept, on Debian's Python" {
    python_has ctypes
    arenas_are_true /usr/bin/python3 str 6000000 5000
}

@test "arenas: strings kept of pandas.read_csv, on Debian's Python" {
    python_has pandas ctypes
    arenas_are_true /usr/bin/python3 csv 1000000 5000
}

@test "arenas: in use, they are no finding about held memory; with PYTHONMALLOC=malloc there are none" {
    python_has ctypes
    script='import os; kept = [float(i) for i in range(2000000)]; os._exit(0)'
    profiled /usr/bin/python3 -c "$script"
    "$heapmark" report --json --no-symbols "$(recording)" >report.json
    equal verdict python-objects "$(jq -r .verdict report.json)"
    equal "most of them full" true "$(jq '.ledgers[-1].python | .fill[7].arenas > .arenas * 0.8' report.json)"
    rm "$work"/*.hmk
    PYTHONMALLOC=malloc profiled /usr/bin/python3 -c "$script"
    "$heapmark" report --json --no-symbols "$(recording)" >report.json
    equal "arenas without pymalloc" null "$(jq '.ledgers[-1].python' report.json)"
    equal "live Python bytes" 0 "$(jq '.ledgers[-1].parts.python_live' report.json)"
}

@test "arenas: the report says which objects keep them, and what goes with them" {
    python_has ctypes
    profiled /usr/bin/python3 -c 'import os
def make():
    return [float(i) for i in range(3000000)]
made = make()
kept = made[::10000]
del made
os._exit(0)'
    "$heapmark" report --no-symbols "$(recording)" >text
    tr -s ' \n' ' ' <text >line
    # Arenas are 1 MiB since 3.10, 256 KiB before.
    local count='9[0-9]'
    /usr/bin/python3 -c 'import sys; sys.exit(sys.version_info >= (3, 10))' && count='29[0-9]'
    grep -qE 'why [789][0-9]\.[0-9] MiB in [0-9]+ pymalloc arenas, 99 % empty, mapped at (make.*|<listcomp>) <string>:3, kept by [0-9]+ live objects' line
    grep -qE '\(29[0-9] float' line
    grep -qE 'malloc_trim cannot reach them' line
    grep -qE 'drop those objects \(predicted: [789][0-9]\.[0-9] MiB\)' line
    "$heapmark" report --no-symbols --full "$(recording)" >full
    grep -qE "^ up to +1 % +$count +[789][0-9]\\.[0-9] MiB  #+\$" full
}
