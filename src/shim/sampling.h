/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_SHIM_SAMPLING_H
#define HEAPMARK_SHIM_SAMPLING_H

/*
 * Sampled mode: one allocation in so many bytes is recorded, with the weight that makes every sum unbiased.
 *
 * Allocations form a line of bytes, requested + 16 for each; sampling points lie on it at exponentially distributed
 * distances of mean `interval`.  An allocation of m = requested + 16 bytes is recorded with probability p = 1 - exp(-m /
 * interval), and counts 1 / p times.  Each thread has its own line: sampling_line.sample_left bytes before its next point, so
 * an allocation that is not recorded costs one subtraction.  It is 0, so that nothing is passed over, in exact mode, in a
 * thread that is not known yet, and in all before the table of real functions is filled.
 *
 * The weight of a block is computed anew when it dies, from its size, its address and its site, so nothing is stored
 * for it.  Sites of sampled stacks carry HMK_SITE_SAMPLED and have ids from sampling_first_site on; those before, from the exact
 * part of a run that was over its budget, weigh 1.
 */

#include "shim/thread.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

extern uint64_t sampling_interval __attribute__((visibility("hidden")));    /* 0: exact mode */
extern uint32_t sampling_first_site __attribute__((visibility("hidden")));  /* UINT32_MAX in exact mode */
#define SAMPLING_OVERHEAD 16

/* All that a call that is passed over needs of its thread. */
struct sampling_line {
    uint64_t sample_left;
    uint32_t passing;                   /* inside real functions that a hook passed on unrecorded; see control.h */
};
extern THREAD_LOCAL struct sampling_line sampling_line;

void sampling_start(uint64_t interval, uint32_t first_site);
/* At the beginning of the calling thread, and when exact mode ended under it. */
void sampling_draw(struct thread *thread);

/* The calling thread's countdown, which stays as it is where the answer is no: recorder_birth asks again.  (The last 16 sizes turn
 * round, and the first of them is passed over in exact mode, too: no allocator grants them.) */
static inline __attribute__((always_inline)) bool sampling_passes_over(size_t bytes)
{
    uint64_t rest;
    if (__builtin_expect(__builtin_sub_overflow(sampling_line.sample_left, (uint64_t)bytes + SAMPLING_OVERHEAD, &rest), 0))
        return false;
    sampling_line.sample_left = rest;
    return true;
}

struct sampling_weight {
    uint64_t count, bytes;
};
struct sampling_spread {
    float bytes, blocks;
};
/* What one recorded block adds to the variance of its site's sums; see struct hmk_site_peak. */
struct sampling_spread sampling_spread(size_t requested);
/* The sample as two independent ones of half as many points: which of them a recorded block is in, and its weight there. */
struct sampling_weight sampling_half(const void *block, size_t requested, bool in[2]);
/* How many blocks a recorded one stands for, on average. */
double sampling_stands_for(size_t requested, uint32_t site);
struct sampling_weight sampling_weight_slow(const void *block, size_t requested);
static inline struct sampling_weight sampling_weight(const void *block, size_t requested, uint32_t site)
{
    if (__builtin_expect(site < sampling_first_site, 1))
        return (struct sampling_weight){1, requested};
    return sampling_weight_slow(block, requested);
}

#endif
