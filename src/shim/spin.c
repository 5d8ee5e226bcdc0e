/* SPDX-License-Identifier: MIT */
#include "shim/spin.h"

#include "freestanding/sys.h"

void spin_lock_slow(struct spin *lock)
{
    for (unsigned round = 0; !spin_try(lock); round++) {
        if (round % 64 == 63)
            sys_yield();
        else
#if defined(__x86_64__)
            __builtin_ia32_pause();
#else
            __asm__ volatile("yield");
#endif
    }
}
