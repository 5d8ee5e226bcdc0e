/* SPDX-License-Identifier: MIT */
#include "shim/spin.h"

#include "freestanding/sys.h"
#include "shim/gate.h"
#include "freestanding/banned.h"

#define PATIENCE_NS UINT64_C(1000000000)

/* Waiting ends in naps: a real-time thread that only yields would never let a holder of lower priority run. */
static void wait(unsigned round)
{
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

/* From a holder that did not survive the fork that made this process. */
static bool inherit(struct spin *lock)
{
    uintptr_t self = (uintptr_t)&shield_self, owner = __atomic_load_n(&lock->owner, __ATOMIC_RELAXED);
    return owner != 0 && owner != self && gate_is_wiped() &&
        __atomic_compare_exchange_n(&lock->owner, &owner, self, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
}

bool spin_lock(struct spin *lock)
{
    shield_raise();
    for (unsigned round = 0; !spin_take(lock); round++) {
        if (inherit(lock))
            return true;
        wait(round);
    }
    return false;
}

bool spin_lock_patiently(struct spin *lock)
{
    uint64_t deadline = 0;
    shield_raise();
    for (unsigned round = 0; !spin_take(lock) && !inherit(lock); round++) {
        uintptr_t owner = __atomic_load_n(&lock->owner, __ATOMIC_RELAXED);
        if (owner != 0 && owner == __atomic_load_n(&lock->given_up, __ATOMIC_RELAXED)) {
            shield_lower();
            return false;
        }
        wait(round);
        if (round < 256 || round % 64 != 0)
            continue;
        uint64_t now = sys_monotonic_ns();
        if (deadline == 0)
            deadline = now + PATIENCE_NS;
        if (now > deadline) {
            __atomic_store_n(&lock->given_up, owner, __ATOMIC_RELAXED);
            shield_lower();
            return false;
        }
    }
    if (__atomic_load_n(&lock->given_up, __ATOMIC_RELAXED) != 0)
        __atomic_store_n(&lock->given_up, 0, __ATOMIC_RELAXED);
    return true;
}
