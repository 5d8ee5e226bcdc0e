#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# What a program may ask of heapmark: heapmark.h and heapmark.py, with heapmark and without.
load helper

# labels KIND-PATTERN FILE: of its events, in order.
labels() { "$heapmark" dump --table events "$2" | sed -nE "s/.* kind=$1 .* text=\"(.*)\"/\1/p" | xargs -d '\n'; }

# close A B: within 64 KiB or half a percent of B.
close() {
    local off=$(($1 - $2))
    ((${off#-} <= 65536 || ${off#-} * 200 <= $2)) || { echo "$1 and $2" >&2; return 1; }
}

@test "C: every call answers, and says the truth" {
    profiled "$programs/api" >out
    for key in active push pop mark trim trim_again stats stats_after peak_is_higher untouched snapshot null_label; do
        equal "$key" 1 "$(value $key <out)"
    done
    equal "live bytes more" 123456 "$(value grown <out)"
    equal "live blocks more" 1 "$(value grown_blocks <out)"
    equal "returned against before - after" 0 "$(value difference <out)"
    (($(value returned <out) > 19000000))
    close "$(value forecast <out)" "$(value returned <out)"
    file=$(recording api)
    equal "marks" "worked " "$(labels mark "$file")"
    equal "phases" "work work" "$(labels 'phase_[a-z]*' "$file")"
    equal "trims" 2 "$("$heapmark" dump --table events "$file" | grep -c 'kind=trim ')"
    "$heapmark" dump --table censuses "$file" | grep -q 'label="at the end"'
}

@test "C: without heapmark every call does nothing and says so" {
    "$programs/api" >out
    for key in active push pop mark trim returned forecast trim_again stats stats_after grown snapshot; do
        equal "$key" 0 "$(value $key <out)"
    done
    equal "stats zeroed" 1 "$(value zeroed <out)"
}

@test "C++: phases by scope" {
    status=0
    profiled "$programs/api_cxx" || status=$?
    equal "status" 10 "$status"
    equal "phases" "whole whole" "$(labels 'phase_[a-z]*' "$(recording api_cxx)")"
    status=0
    "$programs/api_cxx" || status=$?
    equal "status without" 20 "$status"
}

@test "strict C89 and C++98, by gcc and clang where they are" {
    printf '#include "heapmark.h"\nint main(void) { return heapmark_active(); }\n' >one.c
    cp one.c one.cc
    for compiler in gcc clang; do
        command -v $compiler || continue
        $compiler -std=c89 -pedantic -Wall -Wextra -Werror -I"$top/src/api" -c one.c -o one.o
        $compiler -std=c11 -pedantic -Wall -Wextra -Werror -I"$top/src/api" -c one.c -o one.o
    done
    for compiler in g++ clang++; do
        command -v $compiler || continue
        $compiler -std=c++98 -pedantic -Wall -Wextra -Werror -I"$top/src/api" -c one.cc -o one.o
        $compiler -std=c++20 -pedantic -Wall -Wextra -Werror -I"$top/src/api" -c one.cc -o one.o
    done
}

@test "Python: with heapmark" {
    python_has ctypes
    export PYTHONPATH=$top/src/api PYTHONMALLOC=malloc PYTHONDONTWRITEBYTECODE=1
    profiled /usr/bin/python3 "$top/tests/programs/api.py" >out
    cat out >&2
    grep -qx 'active True' out
    grep -qx 'count 20000 count load' out
    grep -qx 'mark True' out
    grep -qx "trim \['forecast', 'nanoseconds', 'returned', 'rss_after', 'rss_before'\] True" out
    grep -qx "stats \['live_blocks', 'live_bytes', 'peak_bytes', 'rss_bytes', 'rss_peak_bytes', 'self_bytes'\] True" out
    grep -qx 'snapshot True' out
    (($(value returned <out) > 1000000))
    close "$(value forecast <out)" "$(value returned <out)"
    file=$(recording 'python3*')
    equal "phases" "outer load load count count outer fails fails" "$(labels 'phase_[a-z]*' "$file")"
    equal "marks" 2 "$("$heapmark" dump --table events "$file" | grep -c 'kind=mark ')"
}

@test "Python: without heapmark nothing happens" {
    python_has ctypes
    PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$top/src/api /usr/bin/python3 "$top/tests/programs/api.py" >out
    printf '%s\n' 'active False' 'count 20000 count load' 'mark False' 'odd label False' 'snapshot False' \
        'trim None None None' "raised 'passes through'" | diff - out
}
