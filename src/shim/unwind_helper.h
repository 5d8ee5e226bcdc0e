/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_SHIM_UNWIND_HELPER_H
#define HEAPMARK_SHIM_UNWIND_HELPER_H

/*
 * What libheapmark-unwind.so offers to the shim: one exported table of functions over libunwind.
 *
 * libunwind exports the C++ runtime's own unwinding functions.  A preload library that linked it would take over
 * every exception of its host, so the shim links libc alone and opens this library with RTLD_LOCAL.
 */

#include <stdint.h>

#define UNWIND_HELPER_FILE "libheapmark-unwind.so"
#define UNWIND_HELPER_SYMBOL "heapmark_unwind_helper"
#define UNWIND_HELPER_VERSION 1u

struct unwind_helper_frame {
    uint64_t pc;
    uint64_t sp;            /* when the frame regains control */
    uint32_t exact;         /* pc is an interrupted instruction, not a return address */
    uint32_t reserved;
};

struct unwind_helper {
    uint32_t version;
    /* The caller's stack, leaf first, the caller itself included: how many of at most `capacity` were written.
     * Fast; wrong after a library was replaced by another at the same address (libunwind never forgets). */
    uint32_t (*backtrace)(uint64_t *pcs, uint32_t capacity);
    /* The same step by step, from the frame whose sp is `sp` on.  *complete: the walk reached the end of the
     * stack. */
    uint32_t (*walk)(uint64_t sp, struct unwind_helper_frame *frames, uint32_t capacity, uint32_t *complete);
    /* Does unwind data cover the instruction at pc?  Beyond frames without it, libunwind guesses. */
    uint32_t (*described)(uint64_t pc);
    /* Drops what walk() has cached about code addresses. */
    void (*flush)(void);
};

#endif
