#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# Asking live processes to trim, to mark, to take a ledger: idle, busy, deaf, changed and foreign ones.
load helper
load target

# refused COMMAND...: exit status 2, and one sentence, which is printed.
refused() {
    local status=0
    "$@" >said 2>&1 || status=$?
    equal "exit status" 2 "$status" || { cat said >&2; return 1; }
    equal "sentences" 1 "$(wc -l <said)" || { cat said >&2; return 1; }
    cat said
}

# trim_returns [OPTION]...: the garbage comes back, as forecast.
trim_returns() {
    "$heapmark" trim --json "$@" "$target" >trim.json
    echo "forecast $(json forecast trim.json), returned $(json returned trim.json)" >&2
    (($(json returned trim.json) > 15000000))
    difference=$(($(json forecast trim.json) - $(json returned trim.json)))
    ((difference <= 65536 && difference >= -65536))
}

# marks N: as many requests, one after the other.
marks() {
    for ((i = 0; i < $1; i++)); do
        "$heapmark" mark "$target" "mark $i" || return
    done
}

@test "idle in read: the garbage comes back, the read goes on" {
    begin target read
    trim_returns
    equal "status of a second trim" 1 "$("$heapmark" trim "$target" >/dev/null; echo $?)"
    marks 50
    end
    equal "interrupted reads" 0 "$(truth interrupted)"
    equal "marks" 50 "$(events mark)"
}

@test "trim says before, after, forecast and what stayed; --dry-run changes nothing" {
    begin target read
    "$heapmark" trim --dry-run "$target" >dry
    grep -q 'would come back *15\.[0-9]* MiB' dry
    "$heapmark" trim --dry-run --json "$target" >dry.json
    equal "dry run" true "$(json dry_run dry.json)"
    "$heapmark" trim "$(recording)" >wet
    grep -q 'RSS before' wet && grep -q 'RSS after' wet
    grep -q 'returned *15\.[0-9]* MiB *by malloc_trim(0)' wet
    grep -q 'still held' wet
    end
    equal "trims" 1 "$(events trim)"
}

@test "idle in epoll_wait and on a futex" {
    begin target epoll
    trim_returns
    marks 50
    echo >&7
    end
    rm "$work"/*.hmk
    begin target futex
    trim_returns
    marks 50
    kill -TERM "$target"
    end
}

@test "four churning threads, forks, threads that come and go: every request is answered" {
    begin target busy 4
    for ((i = 0; i < ${REQUESTS:-150} / 2; i++)); do
        "$heapmark" mark "$target" "$i"
        status=0
        "$heapmark" trim --json "$target" >trim.json || status=$?
        ((status <= 1))
    done
    end
    equal "children with a wrong status" 0 "$(truth wrong)"
    (($(truth forks) > 10))
}

@test "sampled mode: calls that are passed over are safe from requests too" {
    HEAPMARK_OPTIONS=sample=512K begin target busy 4
    for ((i = 0; i < 75; i++)); do
        status=0
        "$heapmark" trim --json "$target" >trim.json || status=$?
        ((status <= 1))
    done
    end
    equal "children with a wrong status" 0 "$(truth wrong)"
}

@test "all signals blocked but in one thread" {
    begin target one-open
    trim_returns
    marks 50
    end
    equal "interrupted reads" 0 "$(truth interrupted)"
}

@test "all signals blocked everywhere: said, and --ptrace reaches it and leaves the mask as it was" {
    begin target blocked
    [[ $(refused "$heapmark" trim --timeout 0.3 "$target") == *"blocks SIGURG"*"--ptrace"* ]]
    if ! trim_returns --timeout 0.3 --ptrace; then
        grep -q 'cannot trace' <("$heapmark" trim --ptrace --timeout 0.1 "$target" 2>&1) && skip "ptrace is forbidden here"
        return 1
    fi
    "$heapmark" mark --timeout 0.2 --ptrace "$target" again
    [[ $(refused "$heapmark" trim --timeout 0.2 "$target") == *"blocks SIGURG"* ]]
    end
    equal "interrupted reads" 0 "$(truth interrupted)"
    equal "signal still blocked" 1 "$(truth still_blocked)"
    equal "trims" 1 "$(events trim)"
}

@test "a request that was given up is not served later" {
    begin target blocked
    refused "$heapmark" mark --timeout 0.1 "$target" late
    refused "$heapmark" trim --timeout 0.1 "$target"
    "$heapmark" mark --timeout 0.1 --ptrace "$target" now || skip "ptrace is forbidden here"
    end
    equal "marks" 1 "$(events mark)"
    equal "trims" 0 "$(events trim)"
}

@test "a host that takes its signals by sigwait sees none of ours" {
    begin target sigwait
    trim_returns
    marks 50
    kill -TERM "$target"
    end
    equal "unexpected signals" 0 "$(truth strange)"
}

@test "a host with a SIGURG handler of its own: it sees its own signals only, and can be asked" {
    begin target own-handler
    trim_returns
    marks 50
    kill -URG "$target"
    kill -URG "$target" && marks 2
    end
    equal "action before" 1 "$(truth was_default)"
    equal "raised" 1 "$(truth raised)"
    equal "children that did not reset it" 0 "$(truth child_wrong)"
    equal "action seen" 1 "$(truth is_ours)"
    equal "old action of signal()" 1 "$(truth was_ours)"
    urgent=$(truth urgent)
    ((urgent == 2 || urgent == 3))      # two of the same pending are one
}

@test "a handler installed past libc is not bothered" {
    begin target past-libc
    [[ $(refused "$heapmark" trim --timeout 0.3 "$target") == *"does not listen to SIGURG"* ]]
    [[ $(refused "$heapmark" trim --timeout 0.2 --ptrace "$target") == *"--ptrace cannot help"* ]]
    end
    equal "signals" 0 "$(truth urgent)"
}

@test "signal=0: no handler; a process that allocates is reached by its samples" {
    HEAPMARK_OPTIONS=signal=0 begin target read
    [[ $(refused "$heapmark" trim --timeout 0.3 "$target") == *"does not listen"* ]]
    end
    rm "$work"/*.hmk
    HEAPMARK_OPTIONS=signal=0 begin target busy 2
    "$heapmark" mark "$target" here
    end
}

@test "alternate stacks of 8 KiB and the smallest thread stacks" {
    begin target altstack
    trim_returns
    marks 10
    end
    rm "$work"/*.hmk
    begin target small-stack
    trim_returns
    marks 10
    end
}

@test "a process that became another program is told from the one recorded, and not harmed" {
    begin target exec /bin/sleep 100
    for ((i = 0; i < 300; i++)); do
        [[ $(readlink /proc/$target/exe) == */sleep ]] && break
        rest
    done
    [[ $(refused "$heapmark" trim "$(recording)") == *"become another program"* ]]
    [[ $(refused "$heapmark" trim "$target") == *"not recorded"* ]]
    kill -0 "$target"
}

@test "a stopped process: said so; it can be asked again" {
    begin target read
    kill -STOP "$target"
    [[ $(refused "$heapmark" trim --timeout 0.3 "$target") == *"is stopped"* ]]
    kill -CONT "$target"
    trim_returns
    end
}

@test "two askers at once wait for each other" {
    begin target read
    for i in 1 2 3 4 5 6 7 8; do
        "$heapmark" mark "$target" "m$i" 3>&- &
        askers+=($!)
    done
    for asker in "${askers[@]}"; do
        wait "$asker"
    done
    end
    equal "marks" 8 "$(events mark)"
}

@test "processes that are not recorded, gone, or nobody's: one sentence each" {
    sleep 100 3>&- &
    target=$!
    [[ $(refused "$heapmark" trim "$target") == *"not recorded"* ]]
    [[ $(refused "$heapmark" mark 4194304 x) == *"no process"* ]]
    [[ $(refused "$heapmark" trim "$work/none.hmk") == *"cannot open"* ]]
    echo hello >text
    [[ $(refused "$heapmark" trim text) == *"not a recording"* ]]
    kill "$target"
    wait "$target" || true
    begin target read
    end
    [[ $(refused "$heapmark" trim "$(recording)") == *"has ended"* ]]
}

@test "another user's process is refused" {
    [[ $EUID == 0 ]] || skip "needs root, who can become another user"
    need su
    begin target read
    chmod 755 "$work"
    mkdir -m 755 "$work/tools"
    cp "$heapmark" "$work/tools/"
    chmod 755 "$work/tools/heapmark"
    status=0
    su -s /bin/sh nobody -c "'$work/tools/heapmark' trim $target" >said 2>&1 || status=$?
    grep -qE 'belongs to|nobody look' said || { cat said; false; }
    equal "exit status" 2 "$status"
    trim_returns
    end
}

@test "ps lists what is recorded; the recording may be deleted or in memory only" {
    begin target read
    "$heapmark" ps --json >ps.json
    equal "program" "$(readlink -f "$programs/target")" "$(jq -r ".processes[] | select(.pid == $target) | .exe" ps.json)"
    "$heapmark" ps | grep -q " $target target"
    rm "$work"/*.hmk
    trim_returns
    end
    HEAPMARK_OUT=/proc/none/x begin target read
    "$heapmark" mark "$target" memory
    trim_returns
    end
}

@test "snapshot prints its ledger and keeps it in the recording" {
    begin target read
    "$heapmark" snapshot "$target" "my label" >said
    grep -q 'freed but still held' said
    end
    "$heapmark" dump --table censuses "$(recording)" | grep -q 'label="my label"'
}
