#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# What report says of programs whose memory is known: the cause, the forecast beside what really comes back, and that
# everything it prints adds up.

load helper

teardown() {
    [[ -z ${pid:-} ]] || { kill -KILL "$pid"; wait "$pid"; } 2>/dev/null || true
    cd / && rm -rf "$work"
}

# held CASE: runs it under the shim, report in r.json and r.txt; and bare, what a trim returned in $returned.
held() {
    need jq
    profiled "$programs/held" "$1"
    "$heapmark" report --json "$(recording held)" >r.json
    "$heapmark" report "$(recording held)" >r.txt
    returned=$("$programs/held" "$1" trim | value returned)
    forecast=$(jq '.ledgers[.current_ledger].forecast_bytes' r.json)
}

# A twohundredth or 64 KiB.
forecast_holds() {
    local bound=$((returned / 200 > 65536 ? returned / 200 : 65536))
    within "forecast" "$returned" "$forecast" $bound
}

json() { jq -r "$1" r.json; }

adds_up() {
    equal "sum of the ledger" "$(json '.ledgers[.current_ledger].rss_bytes')" "$(json '.ledgers[.current_ledger].sum_bytes')" &&
        equal "parts of the ledger" "$(json '.ledgers[.current_ledger].rss_bytes')" \
            "$(json '[.ledgers[.current_ledger].parts[]] | add')" &&
        equal "held by site" "$(json '.ledgers[.current_ledger].held_bytes')" "$(json '.ledgers[.current_ledger].parts |
            with_entries(select(.key | startswith("held_"))) | [.[]] | add')"
    local unexplained rss
    unexplained=$(json '.ledgers[.current_ledger].parts.unexplained')
    rss=$(json '.ledgers[.current_ledger].rss_bytes')
    within "unexplained" 0 "$unexplained" $((rss / 100))
}

@test "small blocks behind freed buffers are named, with what they keep" {
    held pins
    adds_up
    forecast_holds
    equal verdict pinned "$(json .verdict)"
    [[ $(json '.findings[0].sentence') == *make_pin* ]]
    (( $(json '.findings[0].gain_bytes') > 70000000 ))
    grep -q 'make_pin' r.txt
}

@test "the blocks in the way have an age, a thread and an arena" {
    held pins
    equal threads 1 "$(json '.ledgers[.current_ledger].pins[0].threads')"
    equal thread held "$(json '.ledgers[.current_ledger].pins[0].thread')"
    equal arena 0 "$(json '.ledgers[.current_ledger].pins[0].arena')"
    jq -e '.ledgers[.current_ledger] | .pins[0].not_before < .at' r.json
    grep -qE 'made (not before .* in|since the start)' r.txt
}

@test "with --free-sites held memory is charged to who freed it" {
    need jq
    held below
    [[ $(json '[.sites[] | select(.held_bytes > 50000000)][0].where') == *make_buffer* ]]
    rm "$(recording held)"
    "$heapmark" run -q --free-sites -- "$programs/held" below
    "$heapmark" report --json "$(recording held)" >r.json
    adds_up
    equal sites 1 "$(json '[.sites[] | select(.held_bytes > 50000000)] | length')"
    [[ $(json '[.sites[] | select(.held_bytes > 50000000)][0].where') == below* ]]
    "$heapmark" report --sort held "$(recording held)" >r.txt
    grep -q 'Held, by who freed the blocks that were there last' r.txt
}

@test "a comb of live blocks is fragmentation, and no trim is promised" {
    held comb
    adds_up
    forecast_holds
    equal verdict fragmentation "$(json .verdict)"
    (( forecast < 1000000 ))
}

@test "everything freed below one block comes back by a trim" {
    held below
    adds_up
    forecast_holds
    (( forecast > 90000000 ))
    equal step trim "$(json '.findings[0].step')"
}

@test "the top of a thread's arena is said to be out of malloc_trim's reach" {
    held thread
    adds_up
    forecast_holds
    equal verdict top-stuck "$(json .verdict)"
    (( $(json '.ledgers[.current_ledger].parts.held_stuck_top') > 40000000 ))
}

@test "blocks that were never freed are a leak, and the site is named" {
    held leak
    adds_up
    equal verdict leak "$(json .verdict)"
    [[ $(json '.findings[0].sentence') == *"make_small"* ]]
    equal blocks 10000 "$(json '.findings[0].site_blocks')"
}

@test "report and JSON agree with the plain dump" {
    need jq
    profiled "$programs/counts" >said
    local file
    file=$(recording counts)
    "$heapmark" report --json "$file" >r.json
    local key
    for key in live_bytes live_blocks peak_bytes; do
        equal $key "$(fact "$file" $key)" "$(json "if \"$key\" == \"peak_bytes\" then ([.sites[] |
            select(.kind == \"heap\") | .peak_bytes] | add) else .heap.$key end")"
    done
    equal "sites" "$(json '[.sites[] | select(.kind == "heap") | .live_bytes] | add')" "$(json .heap.live_bytes)"
}

@test "a killed program's report says so" {
    LD_PRELOAD=$shim sleep 60 &
    local pid=$! file="" tries=0
    until [[ -n $file && -s $file ]] && "$heapmark" info "$file" >/dev/null 2>&1; do
        (( ++tries < 200 )) || { echo "no recording"; return 1; }
        sleep 0.05
        file=$(compgen -G "$work/sleep.*.hmk" || true)
    done
    "$heapmark" report "$file" | grep -q 'running for'
    "$heapmark" info --json "$file" | grep -q '"state": "running"'
    kill -KILL $pid
    wait $pid || true
    "$heapmark" report "$file" | grep -q 'killed after'
    "$heapmark" info "$file" | grep -q 'killed'
}

@test "of a running process whose last census is out of date, report asks for one of now" {
    need jq
    LD_PRELOAD=$shim "$programs/held" below wait >said 3>&- &
    pid=$!
    local tries=0
    until grep -q ready said; do
        (( ++tries < 400 )) || { echo "not ready"; return 1; }
        sleep 0.05
    done
    "$heapmark" report --json $pid >r.json
    adds_up
    equal state running "$(json .process.state)"
    equal verdict pinned "$(json .verdict)"
    [[ $(json '.findings[0].advice') == "heapmark trim $pid "* ]]
    "$heapmark" report --no-snapshot "$(recording held)" | grep -q 'running for'
    kill -KILL $pid
    wait $pid || true
    pid=
}

# refused FILE WORDS: every reading verb says so in one line and ends with 2.
refused() {
    local verb got
    for verb in report info dump; do
        got=0
        "$heapmark" $verb "$1" >out 2>err || got=$?
        equal "status of $verb" 2 $got
        equal "lines said by $verb" 1 "$(wc -l <err)"
        grep -q -- "$2" err || { cat err; return 1; }
        [[ ! -s out ]]
    done
}

@test "what is no recording is refused in one sentence" {
    : >empty.hmk
    refused empty.hmk 'is empty'
    cp "$heapmark" foreign.hmk
    refused foreign.hmk 'not a heapmark recording'
    refused missing.hmk 'No such file'
    refused . 'is a directory'
    profiled true
    local file
    file=$(recording true)
    head -c 9000 "$file" >cut.hmk
    refused cut.hmk 'truncated'
    { head -c 8 "$file"; printf '\377\0\0\0'; tail -c +13 "$file"; } >newer.hmk
    refused newer.hmk 'newer than version'
}

@test "one bad file among several does not hide the others" {
    profiled true
    : >empty.hmk
    local got=0
    "$heapmark" report empty.hmk "$(recording true)" >out 2>err || got=$?
    equal status 2 $got
    grep -q '^RSS ' out
    grep -q '==> ' out
}

@test "wrong usage is told apart, and a near verb is suggested" {
    local got=0
    "$heapmark" reprot x >out 2>err || got=$?
    equal status 2 $got
    grep -q "Did you mean 'report'" err
    got=0
    "$heapmark" report --sort size x >out 2>err || got=$?
    equal status 2 $got
    got=0
    "$heapmark" report --filter '[' x >out 2>err || got=$?
    equal status 2 $got
    got=0
    "$heapmark" report >out 2>err || got=$?
    equal status 2 $got
    got=0
    profiled true
    "$heapmark" report "$(recording true)" >/dev/full 2>err || got=$?
    equal status 2 $got
    grep -q 'cannot write' err
}

@test "the report of a pandas script names the largest allocations of its peak" {
    need jq
    python_has pandas
    cat >work.py <<'SCRIPT'
import pandas, io
text = "k,s,x\n" + "\n".join(f"{i % 100},name{i % 5000},{i}.5" for i in range(200000))
frame = pandas.read_csv(io.StringIO(text))
print(len(frame.groupby("k").agg({"x": "mean"})))
del frame
SCRIPT
    profiled /usr/bin/python3 work.py
    "$heapmark" report --json "$work"/python3*.hmk >r.json
    adds_up
    (( $(json .heap.peak_bytes) > 8000000 ))
    equal "peak of all sites" "$(json .heap.peak_bytes)" \
        "$(json '([.sites[] | select(.kind == "heap") | .peak_bytes] | add) + (.others.heap.peak_bytes // 0)')"
}

@test "of 100,000 sites the largest are listed, and with the others they add up" {
    need jq
    "$build/write_recording" many many.hmk 100000
    "$heapmark" report --json --no-symbols many.hmk >r.json
    "$heapmark" report --json --no-symbols -n 0 many.hmk >all.json
    equal "sites in all" 100000 "$(jq '.sites | length' all.json)"
    equal "others of all" null "$(jq .others all.json)"
    (( $(json '.sites | length') >= 1000 && $(json '.sites | length') < 10000 ))
    for file in r.json all.json; do
        jq -e '. as $report | [["heap", "heap"], ["mapping", "mappings"], ["break", "breaks"]] | all(.[]; . as [$kind, $name] |
            ["allocations", "allocated_bytes", "frees", "freed_bytes", "live_blocks", "live_bytes", "slack_bytes"] | all(.[]; . as $key |
                ([$report.sites[] | select(.kind == $kind) | .[$key]] | add) + ($report.others[$name][$key] // 0) ==
                    $report[$name][$key]))' $file
        equal "sites of $file" 100000 "$(jq '(.sites | length) + ([.others // {} | .[].sites] | add // 0)' $file)"
    done
    for key in live_bytes peak_bytes own_peak_bytes allocated_bytes allocations; do
        equal "the 1,000 largest by $key" "$(jq "[.sites[].$key] | sort | .[-1000:] | add" all.json)" \
            "$(jq "[.sites[].$key] | sort | .[-1000:] | add" r.json)"
    done
    equal "stacks of listed sites" "$(jq '.frames as $f | .sites[-1].id as $id | .sites[-1].stack | map($f[.].address)' r.json)" \
        "$(jq --argjson id "$(json '.sites[-1].id')" '.frames as $f | .sites[] | select(.id == $id) | .stack | map($f[.].address)' all.json)"
}

@test "rows of a table of 100,000 sites and the line below them add up" {
    need jq
    "$build/write_recording" many many.hmk 100000
    calls=$("$heapmark" report --json --no-symbols many.hmk | jq .heap.allocations)
    for rows in 7 2000 0; do
        "$heapmark" report --no-symbols --sort count -n $rows many.hmk >table
        equal "calls in $rows rows" "$calls" "$(awk '/^ +CALLS/ { on = 1 } on && $1 ~ /^[0-9,]+$/ { gsub(/,/, "", $1); sum += $1 } END { print sum }' table)"
        equal "stacks in $rows rows" 98000 "$(awk '/^ +CALLS/ { on = 1 } on && $1 ~ /^[0-9,]+$/ { n++ } END { print n }' table |
            { read -r n; more=$(sed -n 's/.* \([0-9,]*\) more stacks*$/\1/p' table | tr -d ,); echo $((n - (${more:-0} > 0) + ${more:-0})); })"
    done
}

# A ledger is foreseen to take at least 1 ms.
@test "a ledger of a peak comes when it is 1 % of the run time, not at the start" {
    python_has
    profiled /usr/bin/python3 -c '
import time
kept = []
for i in range(30):
    kept.append(bytearray(4 << 20))
    until = time.monotonic() + 0.1
    while time.monotonic() < until:
        bytearray(1000)
'
    local file start
    file=$(recording 'python3*')
    start=$("$heapmark" dump --table header "$file" | grep -o 'start_ns=[0-9]*' | head -n 1 | cut -d= -f2)
    "$heapmark" dump --table censuses "$file" | grep -o 'kind=6 .* time_ns=[0-9]*' | grep -o 'time_ns=[0-9]*' | cut -d= -f2 >times
    [[ -s times ]]
    while read -r time; do
        ((time - start >= 100000000))
    done <times
}
