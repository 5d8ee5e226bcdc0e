/* SPDX-License-Identifier: MIT */
#include "shim/sampled_peak.h"

#include "contract/publish.h"
#include "shim/recording.h"

void sampled_peak_begin(void)
{
    const struct hmk_heap *heap = &recording_live->heap;
    for (int i = 0; i < 2; i++) {
        struct hmk_half *half = &recording_live->half[i];
        HMK_SET(half->live_bytes, heap->live_bytes);
        HMK_SET(half->live_blocks, heap->live_blocks);
        HMK_SET(half->peak_bytes, heap->peak_bytes);
        HMK_SET(half->other_bytes, heap->peak_bytes);
        HMK_SET(half->other_blocks, heap->peak_blocks);
    }
}

/* At a new peak of `half`, and as long as it stays there, the other one is read.  Threads that meet here may miss each other's
 * last block. */
static void look(struct hmk_half *half, const struct hmk_half *other)
{
    int64_t live = HMK_GET(half->live_bytes), peak = HMK_GET(half->peak_bytes), bytes = HMK_GET(other->live_bytes);
    if (live < peak || (live == peak && bytes <= HMK_GET(half->other_bytes)))
        return;
    HMK_SET(half->peak_bytes, live);
    HMK_SET(half->other_bytes, bytes);
    HMK_SET(half->other_blocks, HMK_GET(other->live_blocks));
}

void sampled_peak_count_slow(const void *block, uint32_t site, size_t requested, bool birth)
{
    struct hmk_half *half = recording_live->half;
    struct sampling_weight weight = {1, requested};
    bool in[2] = {true, true};          /* a block of the exact part of the run */
    if (site >= sampling_first_site)
        weight = sampling_half(block, requested, in);
    for (int i = 0; i < 2; i++) {
        if (in[i]) {
            __atomic_add_fetch(&half[i].live_blocks, birth ? (int64_t)weight.count : -(int64_t)weight.count, __ATOMIC_RELAXED);
            __atomic_add_fetch(&half[i].live_bytes, birth ? (int64_t)weight.bytes : -(int64_t)weight.bytes, __ATOMIC_RELAXED);
        }
    }
    if (birth) {
        look(&half[0], &half[1]);
        look(&half[1], &half[0]);
    }
}
