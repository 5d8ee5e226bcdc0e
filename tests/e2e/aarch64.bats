#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# The unwinder of the other machine: compiled by the cross compiler, its unit test run by the emulator, with libgcc as
# the oracle.
load helper

# cross_test FLAGS...: builds the unit test of the unwinder and runs its cases of the fast one.
cross_test() {
    need aarch64-linux-gnu-gcc qemu-aarch64
    local flags=(-std=gnu11 -D_GNU_SOURCE -O2 -Wall -Wextra -Werror -I"$top/src" "$@")
    aarch64-linux-gnu-gcc "${flags[@]}" -shared -fPIC -fexceptions "$top/tests/cross/helper_libgcc.c" \
        -o libheapmark-unwind.so -lgcc_s
    for plugin in small:4096 large:20000; do
        aarch64-linux-gnu-gcc "${flags[@]}" -shared -fPIC -DPLUGIN_FRAME="${plugin#*:}" \
            "$top/tests/unit/unwind_plugin.c" -o "plugin_${plugin%:*}.so"
    done
    flags+=(-I"$top/tests/cross" -DHELPER_DIRECTORY="\"$work\"" -DPLUGIN_DIRECTORY="\"$work\"")
    aarch64-linux-gnu-gcc "${flags[@]}" "$top/tests/unit/test_unwind.c" "$top/tests/cross/module_none.c" \
        "$top"/src/shim/unwind*.c "$top"/src/freestanding/*.c -o test_unwind -lpthread -ldl
    CK_RUN_CASE=fast qemu-aarch64 -L /usr/aarch64-linux-gnu ./test_unwind >out
    grep -q signals_at_any_instruction out
}

@test "stacks of every kind on aarch64" {
    cross_test
}

@test "with signed return addresses" {
    cross_test -mbranch-protection=standard
}

@test "without frame pointers" {
    cross_test -fomit-frame-pointer
}

# The whole library but for libunwind's helper, in an emulated process; its recording is read on this machine.
@test "the whole library on aarch64: a program's counts, to the byte, in one thread and in four" {
    need aarch64-linux-gnu-gcc qemu-aarch64
    local -a sources flags=(-std=gnu11 -D_GNU_SOURCE -O2 -Wall -Wextra -Werror -fno-builtin -pthread)
    mapfile -t sources < <(find "$top"/src/shim "$top"/src/census "$top"/src/freestanding -name '*.c' ! -name 'helper_*')
    aarch64-linux-gnu-gcc "${flags[@]}" -I"$top/src" -I"$HEAPMARK_BUILD" -DPKGLIBDIR='""' -fPIC -shared -fvisibility=hidden \
        -ftls-model=initial-exec -Wl,-z,defs -Wl,-z,now "${sources[@]}" -o libheapmark.so -ldl
    for program in counts threads; do
        aarch64-linux-gnu-gcc "${flags[@]}" -I"$top/tests/programs" "$top/tests/programs/$program.c" -o "$program"
    done
    emulated() { qemu-aarch64 -L /usr/aarch64-linux-gnu -E LD_PRELOAD="$work/libheapmark.so" -E HEAPMARK_OUT="$work/$1.hmk" "./$@"; }
    emulated counts 3000 >out
    for key in blocks bytes frees live_blocks live_bytes peak_bytes peak_blocks; do
        equal "$key" "$(value "$key" <out)" "$(fact counts.hmk "$key")"
    done
    emulated threads 4 3000 >out
    by_function worker_block threads.hmk >site
    equal "blocks of worker_block" "$(value worker_blocks <out)" "$(value blocks <site)"
    equal "bytes of worker_block" "$(value worker_bytes <out)" "$(value bytes <site)"
    equal "live blocks of worker_block" "$(value worker_live_blocks <out)" "$(value live_blocks <site)"
    "$heapmark" info counts.hmk | grep -q aarch64
}
