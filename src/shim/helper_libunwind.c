/* SPDX-License-Identifier: MIT */
/* libheapmark-unwind.so: see unwind_helper.h.  Runs inside the host's malloc, under the shim's busy flag. */

#include "shim/unwind_helper.h"

#define UNW_LOCAL_ONLY
#include <libunwind.h>
#include <stddef.h>

/* Where unw_is_signal_frame says yes: at the frame of the trampoline, or at the one that it interrupted. */
#if defined(__x86_64__)
#define TELLS_AT_TRAMPOLINE 0
#else
#define TELLS_AT_TRAMPOLINE 1
#endif

static uint32_t helper_backtrace(uint64_t *pcs, uint32_t capacity)
{
    int depth = unw_backtrace((void **)pcs, (int)capacity);
    return depth > 0 ? (uint32_t)depth : 0;
}

static uint32_t helper_walk(uint64_t sp, struct unwind_helper_frame *frames, uint32_t capacity, uint32_t *complete)
{
    unw_context_t context;
    unw_cursor_t cursor;
    uint32_t depth = 0, exact = 0;
    int more = 1;

    *complete = 0;
    if (unw_getcontext(&context) < 0 || unw_init_local(&cursor, &context) < 0)
        return 0;
    while (depth < capacity) {
        unw_word_t frame_pc = 0, frame_sp = 0;
        unw_get_reg(&cursor, UNW_REG_IP, &frame_pc);
        unw_get_reg(&cursor, UNW_REG_SP, &frame_sp);
        if (frame_pc == 0) {
            more = 0;
            break;
        }
        if (depth > 0 || frame_sp == sp)
            frames[depth++] = (struct unwind_helper_frame){ .pc = frame_pc, .sp = frame_sp, .exact = exact };
        exact = TELLS_AT_TRAMPOLINE && unw_is_signal_frame(&cursor) > 0;
        more = unw_step(&cursor);
        if (more <= 0)
            break;
        exact |= !TELLS_AT_TRAMPOLINE && unw_is_signal_frame(&cursor) > 0;
    }
    *complete = more == 0;
    return depth;
}

static uint32_t helper_described(uint64_t pc)
{
    unw_proc_info_t info;
    return unw_get_proc_info_by_ip(unw_local_addr_space, pc, &info, NULL) == 0;
}

static void helper_flush(void)
{
    unw_flush_cache(unw_local_addr_space, 0, 0);
}

extern const struct unwind_helper heapmark_unwind_helper;
__attribute__((visibility("default"))) const struct unwind_helper heapmark_unwind_helper = {
    .version = UNWIND_HELPER_VERSION,
    .backtrace = helper_backtrace,
    .walk = helper_walk,
    .described = helper_described,
    .flush = helper_flush
};
