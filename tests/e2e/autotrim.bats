#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# run --trim: the launcher makes its program give memory back.
load helper

# for_seconds N: an input that ends after that time.
for_seconds() { sleep "$1"; }

@test "on-drop: a large fall that lasts is trimmed once, and the recording and the end say so" {
    for_seconds 4 | "$heapmark" run --trim=on-drop -- "$programs/target" read 40000 >truth 2>errors
    grep -q 'heapmark: 1 trim gave back 15[0-9]\.[0-9] MiB' errors || { cat errors; false; }
    "$heapmark" dump --table events "$(recording)" | grep 'kind=trim ' >trims
    equal "trims" 1 "$(wc -l <trims)"
    returned=$(sed -E 's/.* a=([0-9]+) b=([0-9]+) .*/\1-\2/' trims)
    ((returned > 150000000))
    "$heapmark" report "$(recording)" | grep -A2 '^Trims' | grep -qE '1[0-9]{2}\.[0-9] MiB'
}

@test "on-drop: what is small, or not there, is left alone" {
    for_seconds 3 | "$heapmark" run --trim on-drop -- "$programs/target" read 4000 >truth 2>errors
    grep -q 'no trim was due' errors
    for_seconds 2 | "$heapmark" run -- "$programs/target" read 40000 >truth 2>errors
    ! grep -q 'trim.* gave back' errors
}

@test "every:S reaches descendants too" {
    for_seconds 4 | "$heapmark" run --trim every:0.5 -- sh -c "'$programs/target' read 40000; true" >truth 2>errors
    grep -qE 'heapmark: [1-9] trims? gave back 1[0-9]{2}\.' errors || { cat errors; false; }
    (($("$heapmark" dump --table events "$(recording target)" | grep -c 'kind=trim ') >= 1))
}

@test "a program that ends, execs or stops meanwhile is no trouble" {
    status=0
    "$heapmark" run --trim every:0.01 -- sh -c 'sleep 0.3; exec sh -c "sleep 0.3; exit 5"' 2>errors || status=$?
    equal "status" 5 "$status"
    "$heapmark" run -q --trim every:0.05 -- bash -c 'sleep 2 & p=$!; kill -STOP $p; sleep 0.5; kill -CONT $p; kill $p; wait $p; true'
}

@test "a policy that does not exist is refused" {
    for policy in sometimes every every: every:0 every:x on-drop:3; do
        status=0
        "$heapmark" run --trim "$policy" -- true 2>errors || status=$?
        equal "status of $policy" 125 "$status"
        grep -q "wants on-drop or every:SECONDS" errors
    done
}
