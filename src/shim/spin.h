/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_SHIM_SPIN_H
#define HEAPMARK_SHIM_SPIN_H

/* A lock for cold paths: short holds, no libc, and an owner that died in a fork is cleared by spin_reset. */

#include <stdbool.h>
#include <stdint.h>

struct spin {
    uint32_t held;
};

void spin_lock_slow(struct spin *lock);

static inline bool spin_try(struct spin *lock)
{
    return __atomic_exchange_n(&lock->held, 1, __ATOMIC_ACQUIRE) == 0;
}

static inline void spin_lock(struct spin *lock)
{
    if (!spin_try(lock))
        spin_lock_slow(lock);
}

static inline void spin_unlock(struct spin *lock)
{
    __atomic_store_n(&lock->held, 0, __ATOMIC_RELEASE);
}

static inline void spin_reset(struct spin *lock)
{
    __atomic_store_n(&lock->held, 0, __ATOMIC_RELAXED);
}

#endif
