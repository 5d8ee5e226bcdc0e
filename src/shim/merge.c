/* SPDX-License-Identifier: MIT */
#include "shim/merge.h"

#include "shim/module.h"
#include "shim/python_code.h"
#include "freestanding/banned.h"

/* As long as the frames are those of the last stack, only their number grows. */
static inline void put(struct merge *merge, uint64_t found, uint32_t instruction, uint32_t kind)
{
    uint32_t i = merge->count;
    if (i >= MERGE_FRAMES)
        return;
    merge->count = i + 1;
    const struct merge_frame *last = &merge->last[i];
    if (merge->common == i && i < merge->last_count && last->found == found && last->instruction == instruction &&
        last->kind == kind)
        merge->common = i + 1;
    else
        merge->frame[i] = (struct merge_frame){found, instruction, kind};
}

static inline void put_native(struct merge *merge, const struct unwind_result *native, uint32_t i)
{
    put(merge, native->pcs[i], 0, unwind_is_exact(native, i) ? HMK_FRAME_SIGNAL : HMK_FRAME_NATIVE);
}

/* The frames of a group stand together, leaf first; groups come from the root, so they are taken from the end. */
static void put_group(struct merge *merge, uint32_t group)
{
    const struct python_frame *frame = merge->python.frame;
    uint32_t end = merge->python.count;
    while (end > 0 && frame[end - 1].group > group)
        end--;
    for (; end > 0 && frame[end - 1].group == group; end--)
        put(merge, frame[end - 1].code + python_code_salt(frame[end - 1].code), frame[end - 1].instruction,
            HMK_FRAME_PYTHON);
    merge->python.count = end;
}

static void by_anchor(struct merge *merge, const struct unwind_result *native, uint32_t groups)
{
    const uint64_t *anchor = merge->python.anchor;
    for (uint32_t i = 0; i < native->depth; i++) {
        bool replaced = false;
        for (; groups > 0 && anchor[groups - 1] >= merge->sps[i]; groups--) {
            put_group(merge, groups - 1);
            replaced = true;
        }
        if (!replaced)
            put_native(merge, native, i);
    }
    while (groups > 0)      /* on another C stack than the one that was walked */
        put_group(merge, --groups);
}

/* Group k is the k-th activation of the loop, from the leaf. */
static void by_loop(struct merge *merge, const struct unwind_result *native, uint32_t groups)
{
    uint32_t loops = 0;
    for (uint32_t i = 0; i < native->depth; i++)
        loops += python_is_loop(native->pcs[i] - 1);
    while (groups > loops)  /* the native part is cut */
        put_group(merge, --groups);
    for (uint32_t i = 0; i < native->depth; i++) {
        if (!python_is_loop(native->pcs[i] - 1)) {
            put_native(merge, native, i);
            continue;
        }
        if (loops == groups)
            put_group(merge, --groups);
        loops--;
    }
}

/* Nothing tells where they belong: the Python frames, then what was called after the last of them as far as that shows. */
static void by_order(struct merge *merge, const struct unwind_result *native, uint32_t groups)
{
    uint32_t first = 0;
    for (uint32_t i = 0; i < native->depth; i++)
        if (python_is_loop(native->pcs[i] - 1))
            first = i + 1;
    while (groups > 0)
        put_group(merge, --groups);
    for (uint32_t i = first; i < native->depth; i++)
        put_native(merge, native, i);
    merge->flags |= UNWIND_GUESSED;
}

void merge_frames(struct merge *merge, const struct unwind_result *native, bool places)
{
    merge->count = merge->common = 0;
    merge->flags = 0;
    python_walk(&merge->python);
    uint32_t groups = merge->python.group_count;
    if (merge->python.cut)
        merge->flags |= UNWIND_CUT;
    /* The last group may lack its anchor: it was cut, or is the activation at the root in versions that end it otherwise. */
    if (merge->python.count > 0 && merge->python.frame[merge->python.count - 1].group >= groups)
        put_group(merge, groups);
    if (merge->python.anchored && places)
        by_anchor(merge, native, groups);
    else if (!merge->python.anchored)
        by_loop(merge, native, groups);
    else
        by_order(merge, native, groups);
}

static uint32_t resolve(const struct merge_frame *frame, void *scratch)
{
    if (frame->kind != HMK_FRAME_PYTHON)
        return module_find(frame->found - (frame->kind == HMK_FRAME_NATIVE), scratch) |
               frame->kind << HMK_FRAME_KIND_SHIFT;
    uint32_t record = python_code_find(frame->found & PYTHON_CODE_ADDRESS);
    return record == UINT32_MAX ? UINT32_MAX : record | frame->kind << HMK_FRAME_KIND_SHIFT;
}

void merge_resolve(struct merge *merge, void *scratch)
{
    for (uint32_t i = merge->common; i < merge->count; i++) {
        const struct merge_frame *frame = &merge->frame[i];
        merge->path[i].code = frame->kind == HMK_FRAME_PYTHON ? frame->instruction : frame->found;
        merge->path[i].ref = resolve(frame, scratch);
    }
}
