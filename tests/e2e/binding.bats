#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# The preload takes nothing over but what hooks.def lists: above all not the C++ runtime's unwinding functions.
load helper

# unwind_bindings COMMAND...: `file symbol target`, for each binding of an _Unwind_ function.
unwind_bindings() {
    LD_DEBUG=bindings LD_PRELOAD=$shim "$@" 2>&1 >/dev/null |
        sed -nE "s/.*binding file ([^ ]*) \[0\] to ([^ ]*) \[0\]: .*symbol \`(_Unwind_[A-Za-z]*)'.*/\1 \3 \2/p"
}

@test "_Unwind_* of a C++ program bind to libgcc_s" {
    unwind_bindings "$programs/throw" 10 >bindings
    grep -q '_Unwind_RaiseException .*/libgcc_s\.so' bindings
    ! grep -E ' _Unwind_[A-Za-z]* ' bindings | grep -vE '/libgcc_s\.so[^ ]*$|/libunwind[^ ]* _Unwind|heapmark-unwind'
}

@test "_Unwind_* of a C++ library in a C program (Python) bind to libgcc_s" {
    python_has ctypes
    need g++
    cat >thrower.cc <<'END'
#include <stdexcept>
extern "C" int caught() { try { throw std::runtime_error("x"); } catch (const std::exception &) { return 42; } }
END
    g++ -shared -fPIC thrower.cc -o thrower.so
    cat >use.py <<'END'
import ctypes
print(ctypes.CDLL("./thrower.so").caught())
END
    equal "output" 42 "$(profiled /usr/bin/python3 use.py)"
    unwind_bindings /usr/bin/python3 use.py >bindings
    grep -q '_Unwind_RaiseException .*/libgcc_s\.so' bindings
    ! grep -E ' _Unwind_[A-Za-z]* ' bindings | grep -vE '/libgcc_s\.so[^ ]*$|/libunwind[^ ]* _Unwind|heapmark-unwind'
}

@test "the cost of a throw (printed, not judged)" {
    bare=$("$programs/throw" 200000 | value ns_per_throw)
    with=$(profiled "$programs/throw" 200000 | value ns_per_throw)
    echo "# a throw: $bare ns bare, $with ns under heapmark" >&3
    ((bare > 0 && with > 0))
}

@test "no symbol but the listed ones is bound to the preload" {
    LD_DEBUG=bindings LD_PRELOAD=$shim bash -c 'true' 2>&1 >/dev/null |
        sed -nE "s/.* to [^ ]*libheapmark\.so \[0\]: .*symbol \`([^']*)'.*/\1/p" | sort -u >taken
    sed -nE 's/^(HOOK|EXPORT)[A-Z_]*\([^,]*, *([a-zA-Z0-9_]+),.*/\2/p' "$top/src/shim/hooks.def" |
        cat - <(sed -E 's/#.*//; /^ *$/d' "$top/tests/shim-api") | sort -u >listed
    equal "not listed" "" "$(comm -23 taken listed)"
    grep -qx malloc taken
}
