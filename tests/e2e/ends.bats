#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# The ways in which a process begins and ends: all of them leave a complete recording, and end as they would have.
load helper

# ends HOW STATE: the same output and status as bare, and the recording's state.
ends() {
    local file
    rm -f "$work"/*.hmk
    same_as_bare "$programs/exits" "$1" || return 1
    file=$(recording exits) || return 1
    sound "$file" || return 1
    equal "state after $1" "$2" "$(fact "$file" state)" || return 1
    # 100 blocks of 1000 bytes were made and never freed.
    (($(fact "$file" live_bytes) >= 100000))
}

@test "return, exit, _exit, _Exit, quick_exit" {
    ends return 1
    equal "exit status" 40 "$(fact "$(recording exits)" exit_status)"
    ends exit 1
    equal "exit status" 41 "$(fact "$(recording exits)" exit_status)"
    ends thread 1
    ends _exit 2
    equal "exit status" 42 "$(fact "$(recording exits)" exit_status)"
    ends _Exit 2
    ends quick_exit 2
}

@test "abort, SIGTERM, SIGKILL" {
    ends abort 3
    ends term 0
    ends kill 0
}

@test "an abort that a handler leaves by longjmp: the recording goes on and ends with the program" {
    ends saved 1
    equal "exit status" 48 "$(fact "$(recording exits)" exit_status)"
    # And the destructor's.
    equal "temporary blocks" 101 "$(fact "$(recording exits)" temporary)"
}

@test "exec starts another recording; an exec that fails goes on in the old one" {
    same_as_bare "$programs/exits" exec
    equal "state" 4 "$(fact "$(recording exits)" state)"
    sound "$(recording exits)"
    sound "$(recording dash)"
    ends exec-fails 1
    equal "failed exec in the log" 1 "$(fact "$(recording exits)" event.exec_failed)"
}

@test "blocks made by atexit handlers and destructors are recorded" {
    profiled "$programs/exits" exit >out || true
    by_function made_at_exit "$(recording exits)" >site
    equal "bytes" 2222 "$(value bytes <site)"
    by_function made_in_destructor "$(recording exits)" >site
    equal "bytes" 4444 "$(value bytes <site)"
    equal "live bytes" 0 "$(value live_bytes <site)"
}

@test "a family: fork, vfork, posix_spawn, system; each process has its own recording" {
    same_as_bare "$programs/forks"
    # The parent, seven children (one of them exec'ed), a grandchild: each of its own.
    files=("$work"/forks.*.hmk)
    equal "recordings of forks" 9 "${#files[@]}"
    parent=
    for file in "${files[@]}"; do
        sound "$file"
        [[ $("$heapmark" dump --table header "$file" | grep -c '^flags=0x0$') == 0 ]] || parent=$file
    done
    by_function parent_block "$parent" >site
    for key in blocks bytes live_blocks live_bytes; do
        equal "parent's $key" "$(value parent_$key <with.out)" "$(value $key <site)"
    done
    by_function child_block "$parent" >site
    equal "blocks of children in the parent's file" 0 "$(value blocks <site)"
    for file in "${files[@]}"; do
        [[ $file != "$parent" ]] || continue
        by_function child_block "$file" >site
        case $(value live_blocks <site) in
            250) ;;                     # 500 made, each second freed
            0) equal "the grandchild's" 1 "$(value blocks <site)" ;;
            *) cat site >&2; false ;;
        esac
        by_function parent_block "$file" >site
        # Inherited: 1000, of which 500 were freed before the end; the grandchild inherited 500.
        equal "inherited blocks of $file" 500 "$(value live_blocks <site)"
    done
}

@test "children=no and children=fork are obeyed" {
    HEAPMARK_OPTIONS=children=no profiled "$programs/forks" >out
    equal "recordings" 1 "$(ls "$work"/*.hmk | wc -l)"
    rm -f "$work"/*.hmk
    HEAPMARK_OPTIONS=children=fork profiled "$programs/forks" >out
    equal "recordings of forks" 9 "$(ls "$work"/forks.*.hmk | wc -l)"
    equal "recordings" 9 "$(ls "$work"/*.hmk | wc -l)"
}

@test "allocation before the profiler's constructor and after its destructor" {
    same_as_bare "$programs/early_main"
    file=$(recording early_main)
    sound "$file"
    lines=$(facts "$file")
    # Before: 100 blocks, half of them freed, a calloc and a realloc.  In main: 1000.  After: one.
    equal "blocks" 1103 "$(value blocks <<<"$lines")"
    equal "live blocks" 550 "$(value live_blocks <<<"$lines")"
    equal "frees of unknown blocks" 0 "$(value unknown_frees <<<"$lines")"
    by_function main "$file" >site
    equal "blocks of main" "$(value main_blocks <with.out)" "$(value blocks <site)"
}
