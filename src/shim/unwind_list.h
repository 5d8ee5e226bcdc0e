/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_SHIM_UNWIND_LIST_H
#define HEAPMARK_SHIM_UNWIND_LIST_H

/* Stacks that are taken whole, without reuse of frames: the last one is kept, and recognised when it comes again. */

#include "shim/unwind.h"

struct unwind_raw {             /* a stack as a walk finds it, leaf first */
    uint64_t pcs[UNWIND_DEPTH_LIMIT];
    uint64_t exact[UNWIND_DEPTH_LIMIT / 64];
    uint32_t depth;
    uint32_t flags;             /* enum unwind_flag */
};

struct unwind_list {            /* the last two stacks, root first */
    uint64_t pcs[2][UNWIND_DEPTH_LIMIT];
    uint64_t exact[2][UNWIND_DEPTH_LIMIT / 64];
    uint32_t current;
    uint32_t depth, flags, memo;    /* of the last */
};

static inline void unwind_raw_start(struct unwind_raw *raw)
{
    raw->depth = 0;
    raw->flags = 0;
    for (unsigned i = 0; i < UNWIND_DEPTH_LIMIT / 64; i++)
        raw->exact[i] = 0;
}

static inline void unwind_raw_add(struct unwind_raw *raw, uint64_t pc, bool exact)
{
    raw->pcs[raw->depth] = pc;
    if (exact)
        raw->exact[raw->depth / 64] |= UINT64_C(1) << raw->depth % 64;
    raw->depth++;
}

uint32_t unwind_common(const uint64_t *a, uint32_t a_depth, const uint64_t *b, uint32_t b_depth);

/* Makes `raw` the last stack and describes it in `result`, with `common` as against the stack of this list before.
 * True: it is the same as that. */
bool unwind_list_set(struct unwind_list *list, const struct unwind_raw *raw, struct unwind_result *result);

#endif
