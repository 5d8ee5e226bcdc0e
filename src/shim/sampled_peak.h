/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_SHIM_SAMPLED_PEAK_H
#define HEAPMARK_SHIM_SAMPLED_PEAK_H

/*
 * The heap's peak in sampled mode.
 *
 * The largest of many estimates is not an estimate of the largest: it is the moment whose samples happened to weigh most,
 * and a program that comes near its peak a hundred times would seem to need a third more than it does.  So the sampling points are
 * of two kinds, as if two samples had been taken, and each sample's peak says at which moment the other is to be read.
 * The mean of the two readings is the estimate: no point takes part in choosing the moment at which it counts.
 */

#include "shim/sampling.h"

/* When sampling begins: what was counted until then is exact. */
void sampled_peak_begin(void);
void sampled_peak_count_slow(const void *block, uint32_t site, size_t requested, bool birth);
static inline void sampled_peak_count(const void *block, uint32_t site, size_t requested, bool birth)
{
    if (__builtin_expect(sampling_interval != 0, 0))
        sampled_peak_count_slow(block, site, requested, birth);
}

#endif
