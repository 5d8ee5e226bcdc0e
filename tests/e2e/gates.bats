#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# Gates that no other file holds; docs/gates.md says where each of them is.
load helper

teardown() {
    for ((i = 0; i < 100; i++)); do
        [[ -d ${group:-} ]] || break
        rmdir "$group" 2>/dev/null || read -rt 0.01 <> <(:) || true
    done
    cd / && rm -rf "$work"
}

# forecasts [NAME...]: of real programs, with a quarter of the data that tests/bench/forecast takes by itself.
forecasts() {
    [[ -x /usr/bin/python3 ]] || skip "needs python3"
    FORECAST_SCALE=4 "$top/tests/bench/forecast" "$build" "$@" >rows || { cat rows >&2; return 1; }
    grep -v 'left out' rows | tail -n +2 | grep -q . || skip "none of these programs is here"
    sed 's/^/# /' rows >&3
}

# under TUNABLE: the census's unit tests and some programs, with glibc's malloc set so.
under() {
    export GLIBC_TUNABLES=glibc.malloc.$1
    [[ -x $build/test_census ]] || skip "needs the unit tests"
    "$build/test_census" >log 2>&1 || { cat log >&2; return 1; }
    grep -q '^100%: Checks: [1-9]' log
    forecasts "C:" jq
}

@test "forecasts of C programs, jq, sqlite3, redis and Python hold" {
    forecasts "C:" jq sqlite3 redis strings arrays "arange object (pymalloc)" "csv, del (malloc)"
}

@test "forecasts and identities with one arena" { under arena_max=1; }
@test "forecasts and identities with two arenas" { under arena_max=2; }
@test "forecasts and identities with eight arenas" { under arena_max=8; }
@test "forecasts and identities without thread caches" { under tcache_count=0; }
@test "forecasts and identities with huge pages" { under hugetlb=1; }

@test "heapmark's memory is at most 13 % of the heap and 4 MiB" {
    need jq
    for blocks in comb below pins; do
        profiled "$programs/held" $blocks
        "$heapmark" report --json "$(recording held)" >r.json
        jq -r '.ledgers[.current_ledger].parts | "\(.heapmark) \(.live + .slack + ([to_entries[] |
            select(.key | startswith("held_")) | .value] | add))"' r.json >sizes
        read -r own heap <sizes
        ((heap > 90000000)) || { echo "heap: $heap" >&2; false; }
        ((own <= heap * 13 / 100 + 4194304)) || { echo "$blocks: $own of $heap" >&2; false; }
        rm "$work"/*.hmk
    done
}

@test "the buffer of a stream above freed memory is named, and returns by itself" {
    profiled "$programs/held" stdio
    "$heapmark" report --full "$(recording held)" >full
    grep -A8 '^What stands in the way' full | grep -q _IO_file_doallocate
    "$heapmark" dump --table pins "$(recording held)" | sed -n 2p >pin
    grep -q ' kind=1 flags=3 .* blocks=1 ' pin
    gain=$(sed -E 's/.* gain_bytes=([0-9]+) .*/\1/' pin)
    returned=$("$programs/held" stdio trim | value returned)
    within "gain" "$returned" "$gain" $((returned / 100))
}

# memory_group BYTES: makes a cgroup with that limit, of either version; its folder.
memory_group() {
    local parent=/sys/fs/cgroup file=memory.max
    [[ -f $parent/cgroup.controllers ]] || { parent=/sys/fs/cgroup/memory file=memory.limit_in_bytes; }
    [[ -f $parent/cgroup.procs ]] && mkdir "$parent/heapmark-test.$$" 2>/dev/null || return
    echo "$1" 2>/dev/null >"$parent/heapmark-test.$$/$file" || { rmdir "$parent/heapmark-test.$$"; return 1; }
    echo "$parent/heapmark-test.$$"
}

@test "the kernel's OOM killer in a cgroup: what was recorded is read, and its totals agree" {
    group=$(memory_group 40000000) || skip "cannot make a memory cgroup here"
    echo 0 2>/dev/null >"$group/memory.swap.max" || true
    for ((i = 0; i < 5; i++)); do
        status=0
        bash -c 'echo $$ >"$1/cgroup.procs"; LD_PRELOAD=$2 exec "$3" comb' - "$group" "$shim" "$programs/held" || status=$?
        equal "status" 137 "$status"
        "$heapmark" report "$(recording held)" >text
        live=$(fact "$(recording held)" live_bytes)
        ((live > 15000000 && live < 40000000)) || { echo "live: $live" >&2; false; }
        # One event may have been under way.
        within "cells' live bytes" "$(fact "$(recording held)" heap.live_bytes)" "$live" 1000
        equal "negative sites" 0 "$(fact "$(recording held)" negative_sites)"
        rm "$work"/*.hmk
    done
}

@test "a read-only file system: the program does not notice" {
    ((EUID == 0)) || skip "needs root to mount"
    mkdir fixed
    mount -t tmpfs -o ro none fixed 2>/dev/null || skip "cannot mount a tmpfs here"
    status=0
    "$programs/counts" 20000 >bare
    HEAPMARK_OUT=$work/fixed/%e.hmk profiled "$programs/counts" 20000 >out 2>err || status=$?
    umount fixed
    equal "status" 0 "$status"
    diff bare out
    equal "lines of explanation" 1 "$(wc -l <err)"
}

# The whole machine is set so meanwhile; only when asked.
@test "no overcommit: the program does not notice" {
    [[ ${HEAPMARK_TEST_OVERCOMMIT:-} ]] || skip "needs HEAPMARK_TEST_OVERCOMMIT=1"
    setting=/proc/sys/vm/overcommit_memory
    before=$(<$setting)
    "$programs/counts" 20000 >bare
    echo 2 >$setting
    status=0
    profiled "$programs/counts" 20000 >out 2>err || status=$?
    profiled "$programs/held" comb || status=$?
    echo "$before" >$setting
    equal "status" 0 "$status"
    diff bare out
    for file in "$work"/*.hmk; do sound "$file"; done
}
