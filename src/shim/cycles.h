/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_SHIM_CYCLES_H
#define HEAPMARK_SHIM_CYCLES_H

#include <stdint.h>

/* The processor's steady counter, for measuring ourselves: some nanoseconds, no system call, of an unknown but fixed rate. */
static inline uint64_t cycles_now(void)
{
#if defined(__x86_64__)
    return __builtin_ia32_rdtsc();
#else
    uint64_t value;
    __asm__ volatile("mrs %0, cntvct_el0" : "=r"(value));
    return value;
#endif
}

#endif
