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
