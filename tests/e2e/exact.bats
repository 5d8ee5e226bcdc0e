#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# --exact: a ledger of one instant, from a child that the program does not notice.
load helper
load target

# ledgers: for each the fields that matter here, a line each.
ledgers() {
    "$heapmark" report --no-snapshot --json "$(recording)" |
        jq -r '.ledgers[] | "exact=\(.exact) moving=\(.moving) closed=\(.closed) walked=\(.walked)"'
}

# field NAME: of the newest census.
field() { "$heapmark" dump --table censuses "$(recording)" | tail -n 1 | grep -o " $1=[-0-9]*" | cut -d= -f2; }

# unseen: the program noticed nothing.
unseen() {
    equal "waits that saw a child" 0 "$(truth waited)"
    equal "SIGCHLDs" 0 "$(truth signals)"
    equal "calls of fork handlers" 0 "$(truth handlers)"
    equal "descriptors held open" 0 "$(truth held_open)"
}

@test "beside four threads that fill and empty the heap nothing moves, everything closes, nobody notices" {
    begin watcher tide 4 20000
    for ((i = 0; i < 16; i++)); do
        "$heapmark" snapshot "$target" >ordinary
        "$heapmark" snapshot --exact "$target" >exact 2>complaint
        equal "complaint" "" "$(cat complaint)"
        for ((n = 0; n < 6; n++)); do
            equal "identity $n" 0 "$(field "identity\[$n\]")"
        done
    done
    grep -q 'the exact ledger took' exact
    equal "children left" "" "$(pgrep -P "$target" || true)"
    ledgers >seen
    equal "exact" 16 "$(grep -c 'exact=true moving=false closed=true walked=true' seen)"
    echo "# of 16 ordinary ones $(grep -c 'exact=false moving=true' seen) moved" >&3
    grep -q 'exact=false moving=true' seen
    end
    unseen
}

@test "every page is where it was: files, shared memory, what a child does not get" {
    begin watcher quiet
    "$heapmark" snapshot "$target"
    "$heapmark" snapshot --exact "$target"
    rss=$(($(awk '/^VmRSS/ { print $2 }' "/proc/$target/status") * 1024))
    "$heapmark" report --no-snapshot --json "$(recording)" | jq '.ledgers |= map(select(.kind == "request"))' >report.json
    jq -e '.ledgers[1] | .exact and .closed and .walked and .rss_bytes == .sum_bytes and .parts.unexplained == 0' report.json
    for part in live slack held_returnable held_partial held_top mapped shared stacks metadata files; do
        equal "$part" "$(jq ".ledgers[0].parts.$part" report.json)" "$(jq ".ledgers[1].parts.$part" report.json)"
    done
    (($(jq '.ledgers[1].parts.mapped' report.json) >= 6 << 20))
    (($(jq '.ledgers[1].parts.shared' report.json) >= 5 << 20))
    # The list of areas is in the process when it forks, and gone when the test looks.
    within "VmRSS" "$rss" "$(jq '.ledgers[1].rss_bytes' report.json)" 400000
    "$heapmark" trim --dry-run --exact --json "$target" >dry.json
    "$heapmark" trim --json "$target" >trim.json
    within "what came back" "$(json forecast dry.json)" "$(json returned trim.json)" 65536
    end
}

@test "report --exact asks for one" {
    begin watcher quiet
    "$heapmark" report --exact --json "$target" >report.json
    equal "exact" true "$(jq '.ledgers[-1].exact' report.json)"
    end
}

@test "heaps that were filled to the brim are walked, too" {
    begin watcher brim
    "$heapmark" snapshot "$target"
    equal "ordinary" "exact=false moving=false closed=true walked=true" "$(ledgers | tail -n 1)"
    "$heapmark" snapshot --exact "$target"
    equal "exact" "exact=true moving=false closed=true walked=true" "$(ledgers | tail -n 1)"
    (($(field arena_count) == 3 && $(field heap_count) >= 5))
    end
}

@test "beside forks, visitors and trims, a hundred times" {
    begin target busy 4
    for ((i = 0; i < 100; i++)); do
        "$heapmark" snapshot --exact "$target" >said
        status=0
        "$heapmark" trim --json "$target" >trim.json || status=$?
        ((status <= 1))
    done
    end
    equal "children with a wrong status" 0 "$(truth wrong)"
    (($(truth forks) > 10))
}

@test "sampled mode: calls that are passed over cannot be held, and that is said" {
    HEAPMARK_OPTIONS=sample=512K begin target busy 4
    for ((i = 0; i < 20; i++)); do
        "$heapmark" snapshot --exact "$target" >said 2>why
        grep -q 'of the threads of process .* did not leave the allocator in time' why
    done
    end
    equal "children with a wrong status" 0 "$(truth wrong)"
}

# told_alike PYTHON: CPython's arenas and what keeps them, by an ordinary and by an exact ledger.
told_alike() {
    rm -f input truth
    mkfifo input
    LD_PRELOAD=$shim "$1" -c '
many = [[str(i * n) for i in range(3000)] for n in range(100)]
keep = [part[::1000] for part in many]
del many
print("ready", flush=True)
input()' <input >truth 3>&- 7>&- &
    target=$!
    exec 7>input
    until grep -qs ready truth; do rest; done
    # The first may read a page that was not there.
    "$heapmark" snapshot "$target" >said && "$heapmark" snapshot "$target" >said || return
    "$heapmark" snapshot --exact "$target" >said || return
    "$heapmark" report --no-snapshot --json "$target" >report.json || return
    jq '[.ledgers[] | select(.kind == "request") | .python] | .[1] == .[2] and (.[2].keepers | length > 0)' report.json >alike
    echo >&7
    exec 7>&-
    wait "$target" || return
    target=
    equal "told alike" true "$(cat alike)"
}

@test "CPython's arenas and their objects are told from a child, too" {
    each_python told_alike
}

@test "no child can be had: one sentence, and an ordinary ledger" {
    begin watcher limited || skip "needs to become another user"
    "$heapmark" snapshot --exact "$target" >said 2>why
    equal "sentences" 1 "$(wc -l <why)"
    grep -q 'could not be forked (its limit on the number of processes is reached): this ledger was taken beside' why
    "$heapmark" trim --dry-run --exact "$target" >said 2>why || true
    grep -q 'could not be forked' why
    equal "exact ones" 0 "$(ledgers | grep -c exact=true)"
    end
}

@test "a seccomp filter of the process's own is not tried" {
    begin watcher sandboxed || skip "no seccomp here"
    "$heapmark" snapshot --exact "$target" >said 2>why
    grep -q 'runs under a seccomp filter of its own' why
    equal "ordinary ones" 1 "$(ledgers | grep -c exact=false)"
    end
}

@test "--exact is for forecasts and ledgers" {
    begin target read
    status=0
    "$heapmark" trim --exact "$target" 2>why || status=$?
    equal "exit status" 2 "$status"
    grep -q 'needs --dry-run' why
    ! "$heapmark" mark --exact "$target" x 2>why
    end
}
