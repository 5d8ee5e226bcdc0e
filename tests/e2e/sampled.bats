#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# The census in sampled mode beside the one in exact mode of the same program, and beside what a trim returned: the ledger is
# as exact, what single sites hold back is an estimate with an error that holds.

load helper

# both CASE INTERVAL: held CASE in exact mode into exact.json, sampled into sampled.json; what a trim returned in $returned.
both() {
    need jq
    rm -f exact* sampled*
    HEAPMARK_OUT=$work/exact.hmk profiled "$programs/held" "$1"
    HEAPMARK_OPTIONS=sample=$2 HEAPMARK_OUT=$work/sampled.hmk profiled "$programs/held" "$1"
    "$heapmark" report --json exact.hmk >exact.json
    "$heapmark" report --json sampled.hmk >sampled.json
    returned=$("$programs/held" "$1" trim | value returned)
}

# of MODE FILTER: of the newest ledger
of() { jq -r ".ledgers[.current_ledger] | $2" "$1.json"; }

# Blocks that were made before heapmark was there are live in sampled mode and unknown in exact mode: some KiB.
same_ledgers() {
    local part
    equal walked true "$(of sampled .walked)"
    equal closed true "$(of sampled .closed)"
    equal "sum of the ledger" "$(of sampled .rss_bytes)" "$(of sampled .sum_bytes)"
    for part in returnable top partial edge cached stuck_top; do
        within "held, $part" "$(of exact ".parts.held_$part")" "$(of sampled ".parts.held_$part")" 65536
    done
    within "live and slack" "$(of exact '.parts | .live + .slack')" "$(of sampled '.parts | .live + .slack')" 65536
    within forecast "$returned" "$(of sampled .forecast_bytes)" $((returned / 200 > 65536 ? returned / 200 : 65536))
}

@test "sampled: held by cause, live memory and the forecast are those of exact mode" {
    local case
    for case in pins comb below thread; do
        both $case 512K
        same_ledgers
    done
}

# 7 standard errors: of some hundred samples, less than once in a million runs.
@test "sampled: what a site's blocks hold back is an estimate, and its error holds" {
    both pins 8K
    same_ledgers
    local truth
    truth=$(jq '[.sites[] | select(.where | contains("make_pin")) | .pin_share_bytes] | add' exact.json)
    (( truth > 60000000 ))
    jq -e --argjson truth "$truth" '[.sites[] | select(.where | contains("make_pin"))] | length == 1 and (.[0] |
        .standard_error.pin_share_bytes > 0 and .standard_error.pin_share_bytes < $truth / 3 and
        (.pin_share_bytes - $truth | fabs) < 7 * .standard_error.pin_share_bytes)' sampled.json
    "$heapmark" report sampled.hmk >text
    grep -A2 'What keeps free bytes on shared pages' text | grep -q 'STD ERROR'
    grep -q 'who freed what is still held is not told by site' text
    equal "held by site" 0 "$(jq '[.sites[].held_bytes] | add' sampled.json)"
}

@test "sampled: the block at the top of the heap is found, sampled or not" {
    both below 1M
    within gain "$(of exact '.pins[0].gain_bytes')" "$(of sampled '.pins[0].gain_bytes')" 65536
    equal blocks 1 "$(of sampled '.pins[0].blocks')"
    "$heapmark" report sampled.hmk >text
    if [[ $(of sampled '.pins[0].unsampled') == true ]]; then
        grep -q 'a block that was not sampled' text
    else
        grep -q make_pin text
    fi
    both below 512
    equal unsampled false "$(of sampled '.pins[0].unsampled')"
    [[ $(jq -r '.sites[] | select(.id == '"$(of sampled '.pins[0].site')"') | .where' sampled.json) == make_pin* ]]
}

# all_free FILE LEAST: make_one made at least LEAST blocks, by the estimate, and none of its sites has a block left.
all_free() {
    by_function make_one "$1" >site
    (($(value blocks <site) > $2))
    equal "live blocks" 0 "$(value live_blocks <site)"
    equal "live bytes" 0 "$(value live_bytes <site)"
    equal "sites of negative live bytes" 0 "$(fact "$1" negative_sites)"
}

# 512: 60,000 of them live at once, four for each byte of the marks; 64K: most frees are passed over.
@test "sampled: the death of every recorded block is seen, whoever frees it and however many live" {
    local interval threads
    for interval in 512 4K 64K; do
        for threads in 1 6; do
            rm -f "$work"/*.hmk
            HEAPMARK_OPTIONS=sample=$interval HEAPMARK_OUT=$work/%p.hmk profiled "$programs/freeall" $threads $((120000 / threads)) >out
            equal recordings 2 "$(ls "$work"/*.hmk | wc -l)"
            for file in "$work"/*.hmk; do
                all_free "$file" $((100000 / threads))
            done
        done
    done
}

@test "sampled from an exhausted budget on: the blocks of the exact part are seen to die, too" {
    HEAPMARK_OPTIONS=budget=1 HEAPMARK_OUT=$work/%p.hmk profiled "$programs/freeall" 3 400000 >out
    for file in "$work"/*.hmk; do
        "$heapmark" dump "$file" >dump
        if grep -q '^sampled_from_ns=[1-9]' dump; then
            switched=$file
        fi
        all_free "$file" 300000
    done
    [[ -n $switched ]]
}

# Hardly a link map is recorded.  Were unloads overlooked, blue's stacks would be taken for red's.
@test "sampled: a library that is closed and another in its place keep their names" {
    HEAPMARK_OPTIONS=sample=16K profiled "$programs/loader" "$programs/.libs" 2000 >out
    file=$(recording)
    for colour in red blue; do
        by_function "plugin_$colour" "$file" >site
        bytes=$(value ${colour}_bytes <out)
        within "$colour bytes" "$bytes" "$(value bytes <site)" $((bytes * 2 / 5))
    done
    (($(fact "$file" event.module_unload) > 800))
}
