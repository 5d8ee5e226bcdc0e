#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# Hosts that are hard on a preload: handlers that allocate, closed descriptors, limits, full disks, kills.
load helper

@test "a signal handler that allocates at any instant" {
    profiled "$programs/signals" 15 >out
    equal "errno changed" 0 "$(value errno_wrong <out)"
    file=$(recording)
    sound "$file"
    equal "stale" 0 "$(fact "$file" stale_live)"
}

@test "handlers that leave allocations by siglongjmp: nothing hangs, and recording goes on" {
    timeout 60 "$programs/jumps" 300 >bare
    profiled timeout 60 "$programs/jumps" 1000 >out
    diff bare out
    file=$(recording jumps)
    "$heapmark" report "$file" >/dev/null
    by_function after_block "$file" >site
    for key in blocks bytes frees live_blocks live_bytes; do
        equal "$key" "$(value $key <out)" "$(value $key <site)"
    done
    (($(fact "$file" abandoned_events) > 0))
}

@test "a handler that forks at any instant: the child writes nothing into its parent's recording" {
    LD_PRELOAD=$shim "$programs/split" 200 >out &
    wait $!
    equal "failures" 0 "$(value failures <out)"
    file=$work/split.$!.hmk     # the parent's
    sound "$file"
    lines=$(facts "$file")
    by_function parent_block "$file" >site
    for key in blocks bytes frees live_blocks live_bytes; do
        equal "$key" "$(value $key <out)" "$(value $key <site)"
    done
    equal "peak" "$(value peak_bytes <out)" "$(value peak_bytes <<<"$lines")"
    by_function child_block "$file" >site
    equal "blocks of children" 0 "$(value blocks <site)"
    equal "abandoned" 0 "$(value abandoned_events <<<"$lines")"
    for file in "$work"/split.*.hmk; do
        by_function child_block "$file" >site
        equal "live blocks of a child" 0 "$(value live_blocks <site)"
    done
}

@test "a handler that forks beside threads that make stacks: the child does not wait for what they held" {
    for i in 1 2 3 4; do
        # A child of its own recording would copy all the stacks.
        HEAPMARK_OPTIONS=children=no profiled "$programs/split" 60 3 >out
        equal "failures" 0 "$(value failures <out)"
        equal "forks" 1 "$(value forks <out)"
        echo "# the slowest child took $(value slowest_ms <out) ms" >&3
        file=$(recording)
        sound "$file"
        by_function parent_block "$file" >site
        for key in blocks bytes frees live_blocks live_bytes; do
            equal "$key" "$(value $key <out)" "$(value $key <site)"
        done
        rm "$file"
    done
}

@test "an allocation from within an allocation, 1000 times" {
    env LD_PRELOAD="$shim:$programs/.libs/libmiddle.so" "$programs/reentry" >out
    equal "handled" 1000 "$(value handled <out)"
    file=$(recording)
    sound "$file"
    by_function main "$file" >site
    equal "outer blocks" "$(value outer_blocks <out)" "$(value blocks <site)"
    equal "outer live bytes" "$(value outer_live_bytes <out)" "$(value live_bytes <site)"
}

@test "a handler that ends the process within an allocation: the ledger of the end is taken" {
    for how in exit _exit; do
        rm -f "$work"/*.hmk
        status=0
        env LD_PRELOAD="$shim:$programs/.libs/libmiddle.so" "$programs/reentry" $how >out || status=$?
        file=$(recording)
        equal "exit status" "$status" "$(fact "$file" exit_status)"
        equal "ledgers of the end" 1 "$("$heapmark" report --json "$file" | jq '[.ledgers[] | select(.kind == "exit" and .closed)] | length')"
        equal "abandoned" 1 "$(fact "$file" abandoned_events)"
        sound "$file"
        by_function main "$file" >site
        equal "outer blocks" 499 "$(value blocks <site)"
    done
}

@test "hosts that close all descriptors get the lowest numbers, and their files stay theirs" {
    for unwinder in fast libunwind; do
        rm -f "$work"/*.hmk "$work/own"
        export HEAPMARK_OPTIONS=unwinder=$unwinder
        same_as_bare "$programs/closeall" "$work/own"
        equal "size of the host's file" 0 "$(stat -c %s own)"
        file=$(recording)
        sound "$file"
        by_function allocate "$file" >site
        equal "blocks" "$(value allocate_blocks <with.out)" "$(value blocks <site)"
        equal "live bytes" "$(value allocate_live_bytes <with.out)" "$(value live_bytes <site)"
    done
}

@test "SIGKILL at random instants: every recording is read, and its totals agree" {
    for i in $(seq 1 "${KILLS:-25}"); do
        rm -f "$work"/*.hmk
        LD_PRELOAD=$shim "$programs/churn" $((i % 3 + 1)) >/dev/null &
        pid=$!
        # The first kills come while the recording is being made.
        sleep "$(awk -v i="$i" 'BEGIN { srand(i); print i < 6 ? rand() * 0.01 : rand() * 0.15 }')"
        kill -9 $pid
        wait $pid 2>/dev/null || true
        [[ -f $work/churn.$pid.hmk ]] || continue       # killed before it was there
        file=$work/churn.$pid.hmk
        "$heapmark" info "$file" >/dev/null || { ((i < 6)) && grep -q '' <("$heapmark" info "$file" 2>&1); continue; }
        "$heapmark" report "$file" >/dev/null
        lines=$(facts "$file")
        threads=$((i % 3 + 1))
        # Each thread holds at most its slots; one event a thread may be under way.
        live=$(value live_blocks <<<"$lines")
        ((live >= 0 && live <= threads * 501 + 40)) || { echo "$lines"; false; }
        equal "negative sites" 0 "$(value negative_sites <<<"$lines")"
    done
}

@test "a full disk, of many sizes: the program's output and status stay, what was recorded is read" {
    ((EUID == 0)) || skip "needs root to mount a small tmpfs"
    "$programs/counts" 50000 >bare
    export HEAPMARK_OUT=$work/small/%e.hmk
    mkdir small
    for kib in 4 12 40 80 100 110 120 160; do
        mount -t tmpfs -o size=${kib}k none "$work/small" 2>/dev/null || skip "cannot mount a tmpfs here"
        status=0
        profiled "$programs/counts" 50000 >out 2>err || status=$?
        rm -f copy.hmk
        [[ ! -f small/counts.hmk ]] || cp --sparse=never small/counts.hmk copy.hmk
        umount "$work/small"
        equal "status on $kib KiB" 0 "$status"
        diff bare out
        [[ ! -f copy.hmk ]] || sound copy.hmk
    done
    [[ -f copy.hmk ]]
}

@test "a full disk under a program with many stacks and threads" {
    ((EUID == 0)) || skip "needs root to mount a small tmpfs"
    python_has json
    mkdir small
    mount -t tmpfs -o size=200k none "$work/small" 2>/dev/null || skip "cannot mount a tmpfs here"
    export HEAPMARK_OUT=$work/small/%e.hmk PYTHONMALLOC=malloc
    run profiled /usr/bin/python3 -c 'import json, decimal; print(json.dumps({"a": list(range(3))}))'
    cp small/*.hmk "$work/copy.hmk" || true
    umount "$work/small"
    [ "$status" -eq 0 ]
    equal "output" '{"a": [0, 1, 2]}' "$output"
    "$heapmark" report copy.hmk >report
    equal "reason" 1 "$(fact copy.hmk stop_reason)"
    (($(fact copy.hmk lost_sites) > 0))
    # Counting went on: what lives is the sum of its sites.
    equal "live bytes" "$(fact copy.hmk heap.live_bytes)" "$(fact copy.hmk live_bytes)"
}

@test "a file that cannot be made: the program does not notice, the user is told in one line" {
    "$programs/counts" 20000 >bare
    for place in /proc "$work/absent/directory" /etc/hostname; do
        HEAPMARK_OUT=$place/%e.hmk profiled "$programs/counts" 20000 >out 2>err
        diff bare out
        equal "lines of explanation" 1 "$(wc -l <err)"
        grep -q "^heapmark: cannot make $place/counts.hmk: " err
    done
}

@test "a complaint is lost rather than harm its host: closed pipe, full pipe, file size limit, closed descriptor" {
    "$programs/counts" 1000 >bare
    export HEAPMARK_OUT=$work/absent/%e.hmk
    status=0
    { sleep 0.2; profiled "$programs/counts" 1000 >out || echo "status $?" >&3; } 3>status 2> >(:)
    diff bare out
    equal "status" "" "$(cat status)"
    mkfifo pipe
    exec 4<>pipe
    /usr/bin/python3 -c 'import os; os.set_blocking(4, False)
try:
    while True: os.write(4, b"x" * 512)
except BlockingIOError: os.set_blocking(4, True)'
    timeout 10 env LD_PRELOAD="$shim" "$programs/counts" 1000 >out 2>&4
    diff bare out
    exec 4>&-
    (ulimit -f 0 && profiled "$programs/counts" 1000 2>err) | cat >out
    diff bare out
    profiled "$programs/counts" 1000 >out 2>&-
    diff bare out
}

@test "RLIMIT_FSIZE: no SIGXFSZ, the same output" {
    "$programs/counts" 50000 >bare
    for blocks in 400 40 0; do
        (ulimit -f $blocks && profiled "$programs/counts" 50000) | cat >out
        diff bare out
    done
}

@test "RLIMIT_AS: the address space that heapmark needs fits into 100 MB" {
    for kib in 1000000 200000 100000; do
        (ulimit -v $kib && profiled "$programs/counts" 20000 >out)
        equal "lines with $kib KiB" 7 "$(wc -l <out)"
    done
}

@test "a closed standard error and output" {
    profiled "$programs/counts" 1000 2>&- >out
    equal "lines" 7 "$(wc -l <out)"
    profiled "$programs/exits" return >&- 2>&- || status=$?
    equal "status" 99 "$status"         # its own complaint about the closed output
}
