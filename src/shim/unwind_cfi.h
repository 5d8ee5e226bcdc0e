/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_SHIM_UNWIND_CFI_H
#define HEAPMARK_SHIM_UNWIND_CFI_H

/*
 * What a module's call frame information (.eh_frame) says about one instruction, reduced to what a walk needs: where
 * the caller's frame starts, where the return address is and where the frame pointer was saved.
 */

#include "shim/unwind_objects.h"
#include <stdint.h>

enum unwind_rule_kind {
    UNWIND_RULE_STEP = 0,
    UNWIND_RULE_END,        /* the outermost frame: its return address is undefined */
    UNWIND_RULE_SIGNAL,     /* the kernel's signal frame: the interrupted registers lie at sp */
    UNWIND_RULE_COMPLEX,    /* described, but not expressible here */
    UNWIND_RULE_UNKNOWN     /* not described */
};

enum unwind_base {
    UNWIND_BASE_SP = 0,
    UNWIND_BASE_FP,
    UNWIND_BASE_FP_WORD,    /* the word at fp + inner_offset (functions that realign their stack) */
    UNWIND_BASE_CFA,
    UNWIND_BASE_KEPT        /* still in its register */
};

/* STEP: cfa = cfa_base + cfa_offset; the caller's sp is cfa; its pc and fp are the words at ra_base + ra_offset
 * and at fp_base + fp_offset. */
struct unwind_rule {
    uint8_t kind;           /* enum unwind_rule_kind; the fields below are zero unless STEP */
    uint8_t cfa_base;       /* SP, FP or FP_WORD */
    uint8_t fp_base;        /* CFA, FP or KEPT */
    uint8_t ra_base;        /* CFA or KEPT */
    int32_t cfa_offset;
    int32_t inner_offset;
    int32_t fp_offset;
    int32_t ra_offset;
};

/* The rule for the instruction at `pc`, which lies in `object`.  Return addresses are looked up by pc - 1. */
void unwind_cfi_rule(const struct unwind_object *object, uint64_t pc, struct unwind_rule *rule);

#endif
