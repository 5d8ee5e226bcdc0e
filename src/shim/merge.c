/* SPDX-License-Identifier: MIT */
#include "shim/merge.h"

#include "contract/format.h"
#include "shim/module.h"
#include "freestanding/banned.h"

static bool is_exact(const struct unwind_result *stack, uint32_t i)
{
    return stack->exact != NULL && (stack->exact[i / 64] >> (i % 64) & 1);
}

static void put(struct merge *merge, uint64_t code, uint32_t ref)
{
    if (merge->count < MERGE_FRAMES)
        merge->frame[merge->count++] = (struct merge_frame){code, ref};
}

static void put_native(struct merge *merge, const struct unwind_result *native, uint32_t i, void *scratch)
{
    bool exact = is_exact(native, i);
    uint32_t module = module_find(native->pcs[i] - (exact ? 0 : 1), scratch);
    put(merge, native->pcs[i], module | (uint32_t)(exact ? HMK_FRAME_SIGNAL : HMK_FRAME_NATIVE) << HMK_FRAME_KIND_SHIFT);
}

/* The frames of a group stand together, leaf first. */
static void put_group(struct merge *merge, uint32_t group)
{
    const struct python_stack *python = &merge->python;
    uint32_t end = python->count;
    while (end > 0 && python->frame[end - 1].group > group)
        end--;
    for (uint32_t i = end; i > 0 && python->frame[i - 1].group == group; i--) {
        uint32_t record = python_code_record(python->frame[i - 1].code);
        if (record != UINT32_MAX)
            put(merge, python->frame[i - 1].instruction,
                record | (uint32_t)HMK_FRAME_PYTHON << HMK_FRAME_KIND_SHIFT);
    }
}

static void by_anchor(struct merge *merge, const struct unwind_result *native, uint32_t groups, void *scratch)
{
    const uint64_t *anchor = merge->python.anchor;
    for (uint32_t i = 0; i < native->depth; i++) {
        bool replaced = false;
        for (; groups > 0 && anchor[groups - 1] >= merge->sps[i]; groups--) {
            put_group(merge, groups - 1);
            replaced = true;
        }
        if (!replaced)
            put_native(merge, native, i, scratch);
    }
    while (groups > 0)      /* on another C stack than the one that was walked */
        put_group(merge, --groups);
}

/* Group k is the k-th activation of the loop, from the leaf. */
static void by_loop(struct merge *merge, const struct unwind_result *native, uint32_t groups, void *scratch)
{
    uint32_t loops = 0;
    for (uint32_t i = 0; i < native->depth; i++)
        loops += python_is_loop(native->pcs[i] - 1);
    while (groups > loops)  /* the native part is cut */
        put_group(merge, --groups);
    for (uint32_t i = 0; i < native->depth; i++) {
        if (!python_is_loop(native->pcs[i] - 1)) {
            put_native(merge, native, i, scratch);
            continue;
        }
        if (loops == groups)
            put_group(merge, --groups);
        loops--;
    }
}

/* Nothing tells where they belong: the Python frames, then what was called after the last of them as far as that shows. */
static void by_order(struct merge *merge, const struct unwind_result *native, uint32_t groups, void *scratch)
{
    uint32_t first = 0;
    for (uint32_t i = 0; i < native->depth; i++)
        if (python_is_loop(native->pcs[i] - 1))
            first = i + 1;
    while (groups > 0)
        put_group(merge, --groups);
    for (uint32_t i = first; i < native->depth; i++)
        put_native(merge, native, i, scratch);
    merge->flags |= UNWIND_GUESSED;
}

void merge_frames(struct merge *merge, const struct unwind_result *native, bool places, void *scratch)
{
    merge->count = 0;
    merge->flags = 0;
    python_walk(&merge->python);
    uint32_t groups = merge->python.group_count;
    if (merge->python.cut)
        merge->flags |= UNWIND_CUT;
    /* The last group may lack its anchor: it was cut, or is the activation at the root in versions that end it otherwise. */
    if (merge->python.count > 0 && merge->python.frame[merge->python.count - 1].group >= groups)
        put_group(merge, groups);
    if (merge->python.anchored && places)
        by_anchor(merge, native, groups, scratch);
    else if (!merge->python.anchored)
        by_loop(merge, native, groups, scratch);
    else
        by_order(merge, native, groups, scratch);
}
