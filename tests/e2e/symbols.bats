#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# The symbolizer against programs that print the truth about themselves, in every form their files come in.

setup() {
    programs=$BATS_TEST_DIRNAME/../programs
    names=${HEAPMARK_BUILD:?}/name-addresses
    work=$(mktemp -d "${TMPDIR:-/tmp}/heapmark-e2e.XXXXXX")
    cd "$work" || exit 1
}

teardown() {
    cd / && rm -rf "$work"
}

need() {
    local tool
    for tool; do
        command -v "$tool" >/dev/null || skip "no $tool"
    done
}

c_program() {
    local compiler=$1
    shift
    "$compiler" -D_GNU_SOURCE -O2 "$@" "$programs/inlines.c" -o inlines
    ./inlines >truth
}

cxx_program() {
    local compiler=$1
    shift
    "$compiler" -std=c++17 -O2 "$@" "$programs/templates.cc" -o templates
    ./templates >truth
}

rust_program() {
    need rustc
    RUSTC_BOOTSTRAP=1 rustc -Z unstable-options -C symbol-mangling-version="$1" -g -O "$programs/rusty.rs" -o rusty
    ./rusty "$1" >truth
}

@test "C: inlined calls and lines" {
    c_program cc -g
    "$names" inlines <truth
}

@test "C: not position-independent, DWARF 4" {
    c_program cc -gdwarf-4 -no-pie -fno-pie
    "$names" inlines <truth
}

@test "C: link-time optimisation" {
    c_program cc -g -flto
    "$names" inlines <truth
}

@test "C: compressed debug sections" {
    c_program cc -g -gz
    "$names" inlines <truth
}

@test "C: split DWARF" {
    c_program cc -g -gsplit-dwarf
    "$names" inlines <truth
}

@test "C: clang, which writes no .debug_aranges" {
    need clang
    c_program clang -g
    "$names" inlines <truth
}

@test "C: lines only (-g1)" {
    c_program cc -g1
    "$names" inlines <truth
}

@test "C: stripped of debug information: the symbol table's functions" {
    c_program cc -g
    objcopy --strip-debug inlines
    sed 's/after_all/assembler_name/' truth | "$names" --functions inlines
}

@test "C: stripped: dynamic symbols, the rest as addresses" {
    c_program cc -g -rdynamic
    strip inlines
    sed 's/after_all/assembler_name/' truth | "$names" --dynamic inlines
}

@test "C: stripped, nothing exported: addresses" {
    c_program cc -g
    strip inlines
    "$names" --none inlines <truth
}

@test "C: stripped, .gnu_debuglink beside the file" {
    c_program cc -g
    objcopy --only-keep-debug inlines inlines.debug
    strip inlines
    objcopy --add-gnu-debuglink=inlines.debug inlines
    "$names" inlines <truth
}

@test "C: stripped, debug file in .debug" {
    c_program cc -g
    mkdir .debug
    objcopy --only-keep-debug inlines .debug/inlines.debug
    strip inlines
    (cd .debug && objcopy --add-gnu-debuglink=inlines.debug ../inlines)
    "$names" inlines <truth
}

@test "C: stripped, small symbol table in .gnu_debugdata" {
    need xz
    c_program cc -g
    objcopy -S --remove-section .comment --keep-symbol=hidden --keep-symbol=exported --keep-symbol=main \
        --keep-symbol=assembler_name inlines small
    xz small
    strip inlines
    objcopy --add-section .gnu_debugdata=small.xz inlines
    sed 's/after_all/assembler_name/' truth | "$names" --functions inlines
}

@test "C: debug information shared by dwz" {
    need dwz
    c_program cc -g
    cp inlines twin
    dwz -m shared.debug inlines twin
    "$names" inlines <truth
}

@test "C++: templates, members, namespaces, lambdas" {
    cxx_program c++ -g
    "$names" templates <truth
}

@test "C++: clang" {
    need clang++
    cxx_program clang++ -g
    sed "s/main::{lambda(int)#1}/main::\$_0/" truth | "$names" templates
}

@test "C++: stripped of debug information" {
    cxx_program c++ -g
    objcopy --strip-debug templates
    "$names" --functions templates <truth
}

@test "Rust: v0 names" {
    rust_program v0
    "$names" rusty <truth
}

@test "Rust: legacy names" {
    rust_program legacy
    "$names" rusty <truth
}

@test "Rust: stripped of debug information" {
    rust_program v0
    objcopy --strip-debug rusty
    "$names" --functions rusty <truth
}

@test "a file that was replaced, cut or emptied is not believed and harms nothing" {
    c_program cc -g
    head -c 5000 inlines >cut
    : >empty
    head -c 20000 /dev/zero >zeros
    for file in cut empty zeros nowhere .; do
        "$names" --none "$file" <truth
    done
}
