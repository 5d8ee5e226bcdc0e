#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# Processes whose malloc is not glibc's: each allocator is asked by its own means, and what came back is what is said.
load helper
load target

# library NAME: sets preload to its path, or skips.
library() {
    preload=$(PATH=$PATH:/sbin:/usr/sbin ldconfig -p | awk -v name="$1" '$1 == name && !found { found = $NF } END { print found }')
    [[ -n $preload ]] || skip "needs $1"
}

# falls PERCENT: of 78 MiB of garbage.
falls() {
    local status=0
    "$heapmark" trim --json "$target" >trim.json || status=$?
    equal "status" 0 "$status"
    equal "forecast" null "$(json forecast trim.json)"
    echo "returned $(json returned trim.json)" >&2
    (($(json returned trim.json) * 100 >= 20000 * 4000 * $1))
    (($(json rss_before trim.json) - $(json rss_after trim.json) == $(json returned trim.json)))
    "$heapmark" trim --dry-run "$target" >said || status=$?
    equal "status of a forecast" 2 "$status"
    grep -q 'would come back *unknown' said
}

@test "jemalloc: its purge returns the garbage" {
    library libjemalloc.so.2
    begin target read 20000
    falls 80
    equal "lever" jemalloc "$(json lever trim.json)"
    end
}

@test "tcmalloc: its release returns the garbage" {
    library libtcmalloc_minimal.so.4
    begin target read 20000
    falls 80
    equal "lever" tcmalloc "$(json lever trim.json)"
    end
}

@test "mimalloc: what its collect returned is said" {
    library libmimalloc.so.2
    begin target read 20000
    falls 0
    equal "lever" mimalloc "$(json lever trim.json)"
    end
}

@test "allocators whose operator new no hook sees are not asked while a thread is inside them" {
    for name in libjemalloc.so.2 libtcmalloc_minimal.so.4 libmimalloc.so.2; do
        preload=$(ldconfig -p | awk -v name="$name" '$1 == name { print $NF; exit }')
        [[ -n $preload ]] || continue
        begin news 3
        for ((i = 0; i < 20; i++)); do
            status=0
            "$heapmark" trim --json "$target" >trim.json || status=$?
            ((status <= 1))
        done
        end
        equal "ended" 1 "$(truth ended)"
        rm "$work"/*.hmk
    done
}

@test "an allocator in the executable, which passes all hooks by: no lever, and said" {
    begin own_malloc
    status=0
    "$heapmark" trim "$target" >said 2>&1 || status=$?
    equal "status" 2 "$status"
    grep -q 'cannot make give memory back' said
    "$heapmark" mark "$target" here
    end
}

@test "redis-server under load: 200 trims, no error" {
    need redis-server redis-benchmark redis-cli
    redis=(redis-cli -s "$work/socket")
    env LD_PRELOAD="$shim" redis-server --port 0 --unixsocket "$work/socket" --save '' --appendonly no >log 2>&1 3>&- &
    target=$!
    for ((i = 0; i < 1000; i++)); do
        [[ $("${redis[@]}" ping 2>&1) != PONG ]] || break
        rest
    done
    while :; do
        redis-benchmark -s "$work/socket" -n 20000 -c 30 -r 20000 -d 300 -t set,get,lpush,lpop,hset -q || exit
    done >load 2>errors 3>&- &
    load=$!
    for ((i = 0; i < 200; i++)); do
        status=0
        "$heapmark" trim --json "$target" >trim.json || status=$?
        ((status <= 1))
    done
    kill -0 "$load"
    kill "$load"
    wait "$load" || true
    ! grep -i error errors
    equal "ping" PONG "$("${redis[@]}" ping)"
    "${redis[@]}" flushall
    "$heapmark" trim "$target" || (($? == 1))
    "${redis[@]}" shutdown nosave || true
    end
    sound "$(recording 'redis*')"
}

@test "a program at a fixed address that takes malloc's own address is glibc's all the same" {
    need cc
    cat >fixed.c <<'SOURCE'
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
static void *(*volatile make)(size_t) = malloc;
int main(void)
{
    char *blocks[1000], *last;
    for (int i = 0; i < 1000; i++)
        memset(blocks[i] = make(10000), 1, 10000);
    last = make(10000);
    for (int i = 0; i < 1000; i++)
        free(blocks[i]);
    if (write(1, "ready\n", 6) == 6)
        for (;;)
            pause();
    free(last);
}
SOURCE
    cc -O0 -no-pie fixed.c -o fixed
    LD_PRELOAD=$shim ./fixed >said &
    local pid=$! tries=0 status=0
    until grep -q ready said; do
        ((++tries < 200))
        sleep 0.05
    done
    "$heapmark" trim --json $pid >trim.json || status=$?
    kill -KILL $pid
    wait $pid || true
    equal "status" 0 "$status"
    equal "lever" malloc_trim "$(json lever trim.json)"
    (($(json returned trim.json) > 9000000))
}

# What is asked for decides how a program grows its buffers, so both modes ask alike: redis does a fifth more allocations otherwise.
@test "jemalloc: sampled mode asks for the sizes that exact mode asks for" {
    library libjemalloc.so.2
    local asks='import ctypes
c = ctypes.CDLL(None)
for f in (c.malloc, c.calloc, c.realloc): f.restype = ctypes.c_void_p
usable = lambda block: c.malloc_usable_size(ctypes.c_void_p(block))
print([[usable(c.malloc(n)), usable(c.calloc(1, n)), usable(c.realloc(None, n)),
        usable(c.realloc(ctypes.c_void_p(c.malloc(100)), n))] for n in (1, 8, 16, 40, 100)])'
    LD_PRELOAD="$shim $preload" python3 -c "$asks" >exact
    HEAPMARK_OPTIONS=sample=1M LD_PRELOAD="$shim $preload" python3 -c "$asks" >sampled
    cat exact sampled >&2
    diff exact sampled
}
