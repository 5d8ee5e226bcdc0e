#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# Every stack that is recorded is what libunwind's step-by-step walk says (HEAPMARK_OPTIONS=verify=1).
load helper

# verified LEAST COMMAND...: the command under the shim with every stack compared; at least LEAST were, and none differed.
verified() {
    local least=$1 file checked wrong
    shift
    rm -f "$work"/*.hmk
    env HEAPMARK_OPTIONS="verify=${EVERY:-1}:children=no:census=0${OPTIONS:-}" LD_PRELOAD="$shim" "$@" >out
    file=$(recording)
    checked=$("$heapmark" dump --table live "$file" | sed -n 's/^verify_checked=//p')
    wrong=$("$heapmark" dump --table live "$file" | sed -n 's/^verify_wrong=//p')
    echo "# $(basename "$1"): $checked stacks compared" >&3
    equal "stacks that differ" 0 "$wrong"
    ((checked >= least)) || { echo "only $checked stacks were compared"; false; }
}

@test "exceptions in 8 threads, coroutines, signals, longjmp, recursion, libraries replaced at one address" {
    verified 20000 "$programs/stacks" "$build/tests/unit/.libs"
    (($(value same_address <out) > 0)) || skip "no library landed where another had been"
}

@test "the same by libunwind's own fast path" {
    OPTIONS=:unwinder=libunwind verified 20000 "$programs/stacks" "$build/tests/unit/.libs"
}

@test "jq" {
    need jq
    verified 10000 jq -n '[range(1000) | {a: ., b: "x\(.)"}] | group_by(.a % 7) | map(length) | add'
}

@test "sqlite3" {
    need sqlite3
    verified 10000 sqlite3 :memory: "create table t(a,b,c);
        with recursive r(i) as (select 1 union all select i+1 from r where i<10000)
            insert into t select i, i%97, hex(randomblob(8)) from r;
        create index x on t(c); select count(*), sum(a) from t group by b order by 2 limit 3;"
}

@test "git" {
    need git
    git init -q repository
    cd repository || return 1
    for i in 1 2 3 4 5; do
        seq "$i" 5000 >numbers
        git add numbers
        git -c user.name=a -c user.email=a@b -c commit.gpgsign=false commit -qm "$i"
    done
    cd ..
    verified 500 git -C repository log -p --stat
}

@test "Python, with its own allocator and with malloc" {
    python_has json
    verified 1000 /usr/bin/python3 -c 'import json; print(len(json.dumps([{"a": i} for i in range(5000)])))'
    PYTHONMALLOC=malloc EVERY=7 verified 10000 /usr/bin/python3 -c 'import json; json.dumps([{"a": i} for i in range(20000)])'
}

@test "pandas" {
    python_has pandas
    EVERY=20 verified 2000 /usr/bin/python3 -c '
import pandas
frame = pandas.DataFrame({"a": range(5000), "b": [str(i) for i in range(5000)]})
print(len(frame.groupby(frame.a % 7).agg({"b": "count"}).to_csv()))'
}

@test "node and java: as far as there is unwind data" {
    if command -v node >/dev/null; then
        EVERY=10 verified 1000 node -e 'console.log(JSON.stringify([...Array(20000).keys()].map(i => ({ i }))).length)'
    fi
    if command -v java >/dev/null; then
        EVERY=10 verified 500 java -version
    fi
}
