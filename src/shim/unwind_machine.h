/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_SHIM_UNWIND_MACHINE_H
#define HEAPMARK_SHIM_UNWIND_MACHINE_H

/*
 * What differs between machines, one header each:
 *
 *   MACHINE_DWARF_FP, _SP, _RA     DWARF numbers of the registers a walk follows
 *   MACHINE_DWARF_PC               of a program counter that expressions may name, or -1
 *   MACHINE_PAIR_AT_BOTTOM         the saved (fp, return address) lie at the bottom of a frame, not at its top
 *   machine_code_address(word)     a return address as found on the stack -> the address of code
 *   machine_pack(rule)             a STEP rule in 15 bits, or MACHINE_NOT_PACKED
 *   machine_expand(packed, rule)   the same rule again
 *   machine_unpack(packed, ...)    the addresses that the step reads
 *   machine_signal_code(code)      a signal trampoline by its instructions (MACHINE_SIGNAL_CODE_BYTES of them)
 *   machine_follows_call(pc)       does a call instruction end there?  Reads MACHINE_CALL_BYTES in front of it
 *   machine_interrupted(sp)        the registers saved in the signal frame at sp
 */

#include "shim/unwind_cfi.h"
#include "shim/unwind_stack.h"
#include <stdbool.h>
#include <stdint.h>

#define MACHINE_NOT_PACKED 0x8000u

struct machine_registers {
    uint64_t pc, sp, fp;
    uint64_t lr;            /* 0: not known, or there is none */
};

/* Where one step finds the caller's registers. */
struct machine_step {
    uint64_t cfa;
    const uint64_t *ra_slot;
    const uint64_t *fp_slot;    /* as passed in when fp is kept */
};

#if defined(__x86_64__)
#include "shim/unwind_machine_x86_64.h"
#elif defined(__aarch64__)
#include "shim/unwind_machine_aarch64.h"
#else
#error "no unwinder for this machine"
#endif

#endif
