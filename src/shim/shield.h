/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_SHIM_SHIELD_H
#define HEAPMARK_SHIM_SHIELD_H

/*
 * A stretch of cold work of this thread that no signal handler may interrupt.  Shields nest: only the outermost costs the two
 * system calls, so work that takes several locks raises one around them all.
 *
 * Making a site is the warmest of the cold work, and there the system calls would be a fifth of the cost.  A light shield
 * blocks nothing as long as nobody can wait long for what this thread holds: while one thread records, or while the host has
 * handlers only for signals whose handlers come back at once (shield_note_handler).  A handler that allocates
 * meanwhile finds the thread busy, and one that leaves by longjmp is noticed at the thread's next event, which gives the
 * locks back (thread.c, "abandoned") and takes the half-made record as never begun.  What must not be left half-way all the
 * same, because a fork in the handler would split it, raises a hard one within.
 */

#include "freestanding/sys.h"
#include <stdbool.h>
#include <stdint.h>

struct shield {
    uint32_t depth;
    uint32_t blocked_at;    /* the depth at which signals were blocked; 0: they are not */
    uint64_t signals;       /* the thread's mask before that */
};
extern _Thread_local struct shield shield_self __attribute__((tls_model("initial-exec"), visibility("hidden")));
extern bool shield_light_blocks __attribute__((visibility("hidden")));

void shield_note_threads(void);             /* more than one thread records */
void shield_note_handler(int number);       /* the host handles this signal */
void shield_note_alone(void);               /* in the child of a fork, where one thread is left */

static inline void shield_raise_hard(void)
{
    if (shield_self.blocked_at == 0) {
        uint64_t signals;
        sys_block_signals(&signals);
        shield_self.signals = signals;
        shield_self.blocked_at = shield_self.depth + 1;
    }
    shield_self.depth++;
}

/* Within a light shield this is a light one. */
static inline void shield_raise(void)
{
    if (shield_self.depth == 0)
        shield_raise_hard();
    else
        shield_self.depth++;
}

/* The thread must be busy, as a hook is. */
static inline void shield_raise_light(void)
{
    if (__atomic_load_n(&shield_light_blocks, __ATOMIC_RELAXED))
        shield_raise();
    else
        shield_self.depth++;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
}

static inline void shield_lower(void)
{
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    if (shield_self.depth == 0)     /* given up by shield_abandon; a handler that switches stacks has come back to it */
        return;
    if (shield_self.depth-- == shield_self.blocked_at) {
        shield_self.blocked_at = 0;
        sys_restore_signals(&shield_self.signals);
    }
}

/* A handler left by longjmp what was going on under a light shield. */
static inline void shield_abandon(void)
{
    if (shield_self.blocked_at == 0)
        shield_self.depth = 0;
}

#endif
