/* SPDX-License-Identifier: MIT */
/* The table of unwind_helper.h over libgcc, where the cross compiler brings no libunwind: an oracle for tests. */

#include "shim/unwind_helper.h"
#include <stddef.h>
#include <unwind.h>

struct walk {
    uint64_t sp;
    struct unwind_helper_frame *frames;
    uint32_t capacity, depth;
};

static _Unwind_Reason_Code add_frame(struct _Unwind_Context *context, void *data)
{
    struct walk *walk = data;
    int exact = 0;
    uint64_t pc = _Unwind_GetIPInfo(context, &exact), sp = _Unwind_GetCFA(context);

    if (walk->depth == walk->capacity)
        return _URC_NORMAL_STOP;
    if (pc != 0 && (walk->depth > 0 || sp == walk->sp))
        walk->frames[walk->depth++] = (struct unwind_helper_frame){ .pc = pc, .sp = sp, .exact = exact != 0 };
    return _URC_NO_REASON;
}

static uint32_t helper_walk(uint64_t sp, struct unwind_helper_frame *frames, uint32_t capacity, uint32_t *complete)
{
    struct walk walk = { sp, frames, capacity, 0 };
    *complete = _Unwind_Backtrace(add_frame, &walk) == _URC_END_OF_STACK;
    return walk.depth;
}

struct trace {
    uint64_t *pcs;
    uint32_t capacity, depth;
};

static _Unwind_Reason_Code add_pc(struct _Unwind_Context *context, void *data)
{
    struct trace *trace = data;
    if (trace->depth == trace->capacity)
        return _URC_NORMAL_STOP;
    uint64_t pc = _Unwind_GetIP(context);
    if (pc != 0)
        trace->pcs[trace->depth++] = pc;
    return _URC_NO_REASON;
}

static uint32_t helper_backtrace(uint64_t *pcs, uint32_t capacity)
{
    struct trace trace = { pcs, capacity, 0 };
    _Unwind_Backtrace(add_pc, &trace);
    return trace.depth;
}

/* libgcc's own, in none of its headers. */
struct dwarf_eh_bases {
    void *text, *data, *function;
};
extern const void *_Unwind_Find_FDE(void *pc, struct dwarf_eh_bases *bases);

static uint32_t helper_described(uint64_t pc)
{
    struct dwarf_eh_bases bases;
    return _Unwind_Find_FDE((void *)pc, &bases) != NULL;
}

static void helper_flush(void)
{
}

extern const struct unwind_helper heapmark_unwind_helper;
const struct unwind_helper heapmark_unwind_helper = {
    .version = UNWIND_HELPER_VERSION,
    .backtrace = helper_backtrace,
    .walk = helper_walk,
    .described = helper_described,
    .flush = helper_flush
};
