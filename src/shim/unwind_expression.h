/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_SHIM_UNWIND_EXPRESSION_H
#define HEAPMARK_SHIM_UNWIND_EXPRESSION_H

/*
 * DWARF expressions of call frame information, evaluated symbolically: those that compilers and assemblers write
 * are a register plus a constant, or the word at such an address plus a constant (a realigned frame), where the
 * constant may depend on the pc (a PLT entry).
 */

#include "shim/unwind_cfi.h"
#include "shim/unwind_reader.h"

struct expression_value {
    int base;               /* enum unwind_base: SP, FP, FP_WORD or CFA */
    int64_t offset;
    int64_t inner_offset;   /* FP_WORD */
};

/* with_cfa: the CFA is on the stack at the start, as for a register's rule.  False: it is not of that form. */
bool expression_evaluate(struct reader code, bool with_cfa, uint64_t pc, struct expression_value *value);

#endif
