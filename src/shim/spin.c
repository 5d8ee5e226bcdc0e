/* SPDX-License-Identifier: MIT */
#include "shim/spin.h"

#include "freestanding/sys.h"
#include "freestanding/banned.h"

/* Waiting ends in naps: a real-time thread that only yields would never let a holder of lower priority run. */
void spin_lock(struct spin *lock)
{
    shield_raise();
    for (unsigned round = 0; __atomic_exchange_n(&lock->held, 1, __ATOMIC_ACQUIRE) != 0; round++) {
        if (round > 256)
            sys_nap(20);
        else if (round % 64 == 63)
            sys_yield();
        else
#if defined(__x86_64__)
            __builtin_ia32_pause();
#else
            __asm__ volatile("yield");
#endif
    }
}
