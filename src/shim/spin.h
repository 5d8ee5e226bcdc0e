/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_SHIM_SPIN_H
#define HEAPMARK_SHIM_SPIN_H

/*
 * A lock for cold paths: short holds, no libc.  All signals of the holder are blocked, so no handler of the host can come in
 * between: none that allocates and needs the same lock, none that leaves by longjmp and never gives it back, none that
 * forks in the middle.  An owner that did not survive another thread's fork is cleared by spin_reset.
 */

#include "shim/shield.h"
#include <stdbool.h>
#include <stdint.h>

struct spin {
    uint32_t held;
};

void spin_lock(struct spin *lock);

static inline bool spin_try(struct spin *lock)
{
    shield_raise();
    if (__atomic_exchange_n(&lock->held, 1, __ATOMIC_ACQUIRE) == 0)
        return true;
    shield_lower();
    return false;
}

static inline void spin_unlock(struct spin *lock)
{
    __atomic_store_n(&lock->held, 0, __ATOMIC_RELEASE);
    shield_lower();
}

static inline void spin_reset(struct spin *lock)
{
    __atomic_store_n(&lock->held, 0, __ATOMIC_RELAXED);
}

#endif
