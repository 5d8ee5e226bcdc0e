#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# What a program says it allocated is what the recording says.
load helper

# agrees FILE OUTPUT KEY...: each key of the program's own ledger equals the recording's.
agrees() {
    local file=$1 output=$2 lines key
    shift 2
    lines=$(facts "$file") || return 1
    for key; do
        equal "$key" "$(value "$key" <"$output")" "$(value "$key" <<<"$lines")" || return 1
    done
}

@test "C, one thread: blocks, bytes, live and peak are the program's own to the byte" {
    profiled "$programs/counts" 200000 >out
    file=$(recording)
    sound "$file"
    agrees "$file" out blocks bytes frees live_blocks live_bytes peak_bytes peak_blocks
    equal "state" 1 "$(fact "$file" state)"
    equal "frees of unknown blocks" 0 "$(fact "$file" unknown_frees)"
    equal "blocks believed live and reused" 0 "$(fact "$file" stale_live)"
}

# The bound of 7 holds with more than a million to one, also for the tails that a few hundred samples have.
@test "sampled: totals lie within 7 of the standard errors that the report states, in 8 runs; no error is large" {
    for run in 1 2 3 4 5 6 7 8; do
        HEAPMARK_OPTIONS=sample=4K HEAPMARK_OUT="$work/$run.hmk" profiled "$programs/counts" 100000 >out
        "$heapmark" report --json "$run.hmk" >json
        python3 - out json <<'END'
import json, sys
truth = {key: int(value) for key, value in (line.split()[:2] for line in open(sys.argv[1])) if value.lstrip("-").isdigit()}
heap = json.load(open(sys.argv[2]))["heap"]
for name, said in (("bytes", "allocated_bytes"), ("blocks", "allocations"), ("peak_bytes", "peak_bytes"), ("peak_blocks", "peak_blocks"),
                   ("live_bytes", "live_bytes"), ("live_blocks", "live_blocks")):
    error = heap["standard_error"][said]
    off = abs(heap[said] - truth[name])
    print(f"{said}: {heap[said]} +-{error}, truth {truth[name]}")
    assert 0 < error < 0.3 * truth[name], "error"
    assert off <= 7 * error, "off"
END
    done
}

@test "C++: new, new[], aligned new and exceptions are counted through malloc" {
    profiled "$programs/cxx" >out
    file=$(recording)
    sound "$file"
    by_function single "$file" >site
    blocks=$(value live_blocks <site) bytes=$(value live_bytes <site)
    by_function array_of "$file" >site
    equal "live blocks" "$(value live_blocks <out)" $((blocks + $(value live_blocks <site)))
    equal "live bytes" "$(value live_bytes <out)" $((bytes + $(value live_bytes <site)))
    # The containers and the exceptions are gone; libstdc++ keeps a block or two.
    ((3 > $(fact "$file" live_blocks) - $(value live_blocks <out)))
    by_function thrower "$file" >site
    equal "live blocks of thrower" 0 "$(value live_blocks <site)"
}

@test "eight threads that free each other's blocks: totals are exact" {
    profiled "$programs/threads" 8 20000 >out
    file=$(recording)
    lines=$(facts "$file")
    # Each worker's stack, handle and thread-local storage come on top; they are of fixed number.
    few=$(($(value blocks <<<"$lines") - $(value worker_blocks <out)))
    ((few >= 8 && few < 60))
    few=$(($(value live_blocks <<<"$lines") - $(value worker_live_blocks <out)))
    ((few >= 8 && few < 60))
    equal "stale" 0 "$(value stale_live <<<"$lines")"
    equal "sites of negative live bytes" 0 "$(value negative_sites <<<"$lines")"
    by_function worker_block "$file" >site
    equal "blocks of worker_block" "$(value worker_blocks <out)" "$(value blocks <site)"
    equal "bytes of worker_block" "$(value worker_bytes <out)" "$(value bytes <site)"
    equal "live blocks of worker_block" "$(value worker_live_blocks <out)" "$(value live_blocks <site)"
    equal "live bytes of worker_block" "$(value worker_live_bytes <out)" "$(value live_bytes <site)"
}

@test "300 threads one after another: slots are reused, nothing is lost at their ends" {
    profiled "$programs/tsd" >out
    file=$(recording)
    lines=$(facts "$file")
    ((24 > $("$heapmark" dump --table threads "$file" | grep -c '^threads [0-9]')))
    equal "stale" 0 "$(value stale_live <<<"$lines")"
    # Every one of the 300 made and freed one block of 1234 in a key's destructor.
    by_function at_first "$file" >site
    equal "blocks of at_first" 300 "$(value blocks <site)"
    equal "live blocks of at_first" 0 "$(value live_blocks <site)"
    by_function at_last "$file" >site
    equal "blocks of at_last" 900 "$(value blocks <site)"
    equal "live blocks of at_last" 0 "$(value live_blocks <site)"
}

@test "mappings: mmap, holes, mremap and sbrk are charged to their callers" {
    profiled "$programs/mappings" >out
    file=$(recording)
    by_function map_pages "$file" mapping >site
    live=$(value live_bytes <site)
    # mremap's own site is main; together they are what stays mapped.
    by_function main "$file" mapping >site
    equal "mapped bytes" "$(value mapped_live_bytes <out)" "$(value live_bytes <site)"
    ((live <= $(value mapped_live_bytes <out)))
}

@test "a library that is closed and another in its place keep their names" {
    profiled "$programs/loader" "$programs/.libs" 20 >out
    file=$(recording)
    for colour in red blue; do
        by_function "plugin_$colour" "$file" >site
        equal "$colour blocks" "$(value ${colour}_blocks <out)" "$(value blocks <site)"
        equal "$colour bytes" "$(value ${colour}_bytes <out)" "$(value bytes <site)"
    done
}
