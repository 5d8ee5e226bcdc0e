# SPDX-License-Identifier: MIT
# For tests that talk to a process while it runs: tests/programs that say `ready` and live until their input ends.

teardown() {
    exec 7>&-
    [[ -z ${target:-} ]] || { kill -CONT "$target"; kill -KILL "$target"; wait "$target"; } 2>/dev/null
    cd / && rm -rf "$work"
}

# begin PROGRAM [ARGUMENT]...: $target is its process, ./truth its output; its input is open.  $preload may name more
# libraries.
begin() {
    rm -f input truth
    mkfifo input
    env LD_PRELOAD="$shim${preload:+:$preload}" "$programs/$1" "${@:2}" <input >truth 2>errors 7>&- 3>&- &
    target=$!
    exec 7>input
    for ((i = 0; i < 1000; i++)); do
        grep -q '^ready' truth && return
        kill -0 "$target" || return
        rest
    done
    return 1
}

rest() { sleep 0.01; }      # bash 5.1's read -t may wait for ever: its alarm can come before the read

# end: its input ends; its own verdict.
end() {
    exec 7>&-
    wait "$target"
    local status=$?
    target=
    return $status
}

truth() { value "$1" <truth; }

# json KEY FILE
json() { jq -r ".$1" "$2"; }

# events KIND: how many the recording has.
events() { "$heapmark" dump --table events "$(recording)" | grep -c "kind=$1 "; }
