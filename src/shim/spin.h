/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_SHIM_SPIN_H
#define HEAPMARK_SHIM_SPIN_H

/*
 * A lock for cold paths: short holds, no libc.  All signals of the holder are blocked, so no handler of the host can come in
 * between: none that allocates and needs the same lock, none that leaves by longjmp and never gives it back, none that
 * forks in the middle.  Under a light shield they are not; spin_abandon then gives back what a handler's longjmp left
 * held.  An owner that did not survive another thread's fork is cleared by spin_reset; until the
 * child has settled, as when a handler forked within a hook, whoever waits takes the lock from it.
 */

#include "shim/shield.h"
#include <stdbool.h>
#include <stdint.h>

struct spin {
    uintptr_t owner;        /* the address of the holder's shield; 0: free */
    uintptr_t given_up;     /* the holder for whose end somebody waited in vain */
};

/* True: it was taken from a holder that did not survive the fork, in the midst of what it did. */
bool spin_lock(struct spin *lock);
/* For locks that are held under a light shield: false, with nothing locked, when the holder does not come to its end for a
 * second, as one does that a handler of the host stops.  As long as it still holds the lock nobody else waits for it. */
bool spin_lock_patiently(struct spin *lock);

static inline bool spin_take(struct spin *lock)
{
    uintptr_t free = 0;
    return __atomic_compare_exchange_n(&lock->owner, &free, (uintptr_t)&shield_self, false, __ATOMIC_ACQUIRE,
                                       __ATOMIC_RELAXED);
}

static inline bool spin_try(struct spin *lock)
{
    shield_raise();
    if (spin_take(lock))
        return true;
    shield_lower();
    return false;
}

static inline void spin_unlock(struct spin *lock)
{
    __atomic_store_n(&lock->owner, 0, __ATOMIC_RELEASE);
    shield_lower();
}

static inline void spin_abandon(struct spin *lock)
{
    if (__atomic_load_n(&lock->owner, __ATOMIC_RELAXED) == (uintptr_t)&shield_self)
        __atomic_store_n(&lock->owner, 0, __ATOMIC_RELEASE);
}

static inline void spin_reset(struct spin *lock)
{
    __atomic_store_n(&lock->owner, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&lock->given_up, 0, __ATOMIC_RELAXED);
}

#endif
