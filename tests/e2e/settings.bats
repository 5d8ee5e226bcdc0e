#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# What report says that a setting would change: the program runs again with that setting, and holds so much less.
load helper

json() { jq -r "$1" r.json; }

# run_with CASE [VARIABLE=VALUE]: the newest ledger into r.json.
run_with() {
    rm -f "$work"/*.hmk
    env "${@:2}" LD_PRELOAD="$shim" "$programs/settings" "$1"
    "$heapmark" report --json "$(recording settings)" | jq '.ledgers[-1]' >r.json
    "$heapmark" report "$(recording settings)" >r.txt
}

# foretells CASE SETTING BOUND [AFTER]: by a tenth or 1 MiB.  AFTER is a jq expression of what is held.
foretells() {
    need jq
    local held=${4:-.held_bytes} environment predicted before after
    run_with "$1" X=1
    json '.what_if[] | .setting' >settings
    grep -qx "$2" settings || { echo "settings: $(cat settings)" >&2; return 1; }
    equal bound "$3" "$(json ".what_if[] | select(.setting == \"$2\") | .bound")"
    environment=$(json ".what_if[] | select(.setting == \"$2\") | .environment")
    predicted=$(json ".what_if[] | select(.setting == \"$2\") | .bytes")
    before=$(json "$held")
    grep -qF "$environment" r.txt || { echo "not in the text: $environment" >&2; return 1; }
    run_with "$1" "$environment"
    after=$(json "$held")
    echo "# $1: $environment predicted $predicted, held $before, then $after" >&3
    within "held less" "$predicted" $((before - after)) \
        $((predicted / 10 > 1 << 20 ? predicted / 10 : 1 << 20))
}

@test "large blocks under a raised threshold: thresholds" { foretells large thresholds about; }

@test "the main heap's top under a raised threshold: thresholds" { foretells top thresholds about; }

@test "tops of four arenas under a raised threshold: thresholds" { foretells tops thresholds about; }

@test "both at once: at least the larger of the two" {
    need jq
    run_with both X=1
    equal bound at-least "$(json '.what_if[0].bound')"
    predicted=$(json '.what_if[0].bytes')
    before=$(json .held_bytes)
    run_with both "$(json '.what_if[0].environment')"
    less=$((before - $(json .held_bytes)))
    echo "# at least $predicted, $less" >&3
    ((less >= predicted - predicted / 10 && less <= before))
}

@test "small tops of many arenas: one arena, after a trim" {
    foretells arenas arenas after-trim '.held_bytes - .forecast_bytes'
}

@test "a cached block at the top: no cache" { foretells cached tcache about; }

@test "a cached block at the top, and a threshold that may have been raised: up to" {
    need jq
    run_with cached-raised X=1
    equal bound up-to "$(json '.what_if[] | select(.setting == "tcache") | .bound')"
    grep -q 'up to .* less  GLIBC_TUNABLES' r.txt
}

@test "nothing is said where nothing follows" {
    need jq
    profiled "$programs/held" comb
    "$heapmark" report --json "$(recording held)" >r.json
    equal settings '[]' "$(jq -c '.ledgers[-1].what_if' r.json)"
    ! "$heapmark" report "$(recording held)" | grep -q 'settings in the environment'
}
