#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# What children do leaves their parent's recording alone, to the byte of its counters.
load helper
load target

# counters FILE: all that a child could spoil.
counters() {
    "$heapmark" dump --table live "$1" | grep -E '^(heap\.|inherited|unknown_frees|stale_live|lost_)'
    for table in cells sites site_peaks frames threads histograms; do
        "$heapmark" dump --table $table "$1"
    done
}

@test "fork, raw clone, vfork, exec, children that close all descriptors" {
    begin target parent
    counters "$work/target.$target.hmk" >before
    echo >&7
    for ((i = 0; i < 1000; i++)); do
        ! grep -q '^children_done' truth || break
        rest
    done
    equal "children that ended otherwise" 0 "$(truth children_done)"
    counters "$work/target.$target.hmk" >after
    diff before after
    end
    equal "recordings of the program" 5 "$(ls "$work"/target.*.hmk | wc -l)"
    for file in "$work"/target.*.hmk; do
        sound "$file"
    done
}
