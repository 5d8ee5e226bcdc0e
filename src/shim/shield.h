/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_SHIM_SHIELD_H
#define HEAPMARK_SHIM_SHIELD_H

/*
 * A stretch of cold work of this thread that no signal handler may interrupt.  Shields nest: only the outermost costs the two
 * system calls, so work that takes several locks raises one around them all.
 */

#include "freestanding/sys.h"
#include <stdint.h>

struct shield {
    uint32_t depth;
    uint64_t signals;       /* the thread's mask before the outermost */
};
extern _Thread_local struct shield shield_self __attribute__((tls_model("initial-exec"), visibility("hidden")));

static inline void shield_raise(void)
{
    if (shield_self.depth == 0) {
        uint64_t signals;
        sys_block_signals(&signals);
        shield_self.signals = signals;
    }
    shield_self.depth++;
}

static inline void shield_lower(void)
{
    if (--shield_self.depth == 0)
        sys_restore_signals(&shield_self.signals);
}

#endif
