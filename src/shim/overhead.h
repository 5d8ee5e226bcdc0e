/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_SHIM_OVERHEAD_H
#define HEAPMARK_SHIM_OVERHEAD_H

#include <stdint.h>

/*
 * What heapmark costs its host, measured by itself: one event in 64 is timed (thread->spent_cycles), the sum is compared with
 * the process's CPU time.  When a budget is set and exceeded, exact mode ends and sampled mode begins.
 */
void overhead_init(uint64_t budget_percent, uint64_t sample_bytes);
void overhead_note(uint64_t now_ns);    /* with every sample of the timeline; acts ten times a second at most */
void overhead_after_fork(void);

#endif
