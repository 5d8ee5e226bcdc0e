#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# The measuring scripts, on next to nothing: that they run and say what they should, not how fast anything is.
load helper

@test "tests/bench/run: figures, goals, the page and README's rows" {
    "$top/tests/bench/run" --build "$HEAPMARK_BUILD" --quick --rounds 2 --scale 0.01 --only '^(jq|loop-1t|true)$' --modes heapmark-sampled,forward \
        --stages rounds --json figures.json --markdown page.md >out
    grep -q '^E2 .*loop-1t' out
    grep -q '^| loop-1t | bare | ' page.md
    grep -q '^|  | heapmark-sampled | ' page.md
    printf 'before\n\n| program | heapmark | x |\n|---|---|---|\n| old | 1 | 2 |\n\nafter\n' >README.md
    "$top/tests/bench/run" --from figures.json --readme README.md
    grep -q '^before' README.md
    grep -q '^after' README.md
    ! grep -q '^| old' README.md
    if command -v jq >/dev/null; then grep -q '^| jq on JSON | .* x CPU, .* ns | ' README.md; fi
}

@test "tests/bench/run: a goal that is missed is said to be" {
    cat >goals.py <<'END'
import sys
sys.dont_write_bytecode = True
sys.path.insert(0, sys.argv[1])
import goals
rows = lambda heapmark, heaptrack: {"rows": {
    "bare": {"cpu": {"median": 1.0}}, "heapmark": {"added_cpu": heapmark}, "heaptrack-in": {"added_cpu": heaptrack}}}
for shares, met in (([0.1, 0.2, 0.3], True), ([0.1, 0.4, 0.45], False), ([0.1, 0.2, 0.6], False)):
    verdict = goals.exact_cpu({"workloads": {str(i): rows(share, 1.0) for i, share in enumerate(shares)}})
    assert verdict.met() is met, (shares, verdict.measured())
assert goals.exact_cpu({"workloads": {}}).met() is None
END
    python3 goals.py "$top/tests/bench"
}

@test "tests/bench/verify: as many stacks as asked for, none wrong" {
    run "$top/tests/bench/verify" --build "$HEAPMARK_BUILD" --stacks 1000 --scale 0.002 --only '^(throws|remote-2t)$'
    echo "$output"
    ((status == 0))
    [[ $(awk '$1 == "throws" { print ($2 >= 1000), $3 }' <<<"$output") == "1 0" ]]
}

@test "tests/bench/sampling: estimates of a small program agree with exact runs" {
    run "$top/tests/bench/sampling" --build "$HEAPMARK_BUILD" --runs 4 --scale 0.02 --only '^stl$'
    echo "$output"
    ((status == 0))
    grep -q '^  allocated_bytes .* of 4' <<<"$output"
}

@test "tests/bench/report: seconds of each way to read a recording" {
    "$top/tests/bench/report" --build "$HEAPMARK_BUILD" --sites 2000 --rounds 1 >out
    equal "ways" 8 "$(grep -cE '^  (report|info|dump).* [0-9]+\.[0-9]{3} s of CPU .* KiB of output$' out)"
}
