/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_ANALYSIS_JOINED_H
#define HEAPMARK_ANALYSIS_JOINED_H

/*
 * Stacks of interpreters are recorded as two paths, one of native and one of Python frames (HMK_FRAME_JOIN in format.h).  Here the
 * two are put together: the reader above knows one trie, whose first nodes are those of the file.
 */

#include "contract/format.h"
#include "contract/read.h"
#include <stddef.h>

struct joined {
    const struct read_file *file;
    uint32_t file_count;            /* nodes of the file; ids from here on are ours */
    struct hmk_frame *made;         /* of kinds NATIVE, SIGNAL and PYTHON */
    size_t made_count, made_size;
    struct joined_state *states;    /* what has been put together, by the two nodes; while stacks are added */
    size_t state_mask;
};

struct joined *joined_new(const struct read_file *file);
void joined_free(struct joined *joined);
/* The leaf of the whole stack; `leaf` itself when it is no JOIN. */
uint32_t joined_leaf(struct joined *joined, uint32_t leaf);
void joined_done(struct joined *joined);    /* no more stacks: frees what only joined_leaf needs */

static inline uint32_t joined_count(const struct joined *joined)
{
    return joined->file_count + (uint32_t)joined->made_count;
}

/* NULL for 0, which ends a stack, and ids out of range. */
static inline const struct hmk_frame *joined_frame(const struct joined *joined, uint32_t id)
{
    if (id == 0 || id >= joined_count(joined))
        return NULL;
    return id < joined->file_count ? read_frame(joined->file, id) : &joined->made[id - joined->file_count];
}

static inline uint32_t joined_number(const struct hmk_frame *frame)
{
    return frame->ref & ((1u << HMK_FRAME_KIND_SHIFT) - 1);
}

/* NATIVE, SIGNAL, PYTHON, or a kind that a later minor version adds. */
static inline uint32_t joined_kind(const struct hmk_frame *frame)
{
    uint32_t kind = frame->ref >> HMK_FRAME_KIND_SHIFT;
    return kind == HMK_FRAME_LOOP ? HMK_FRAME_NATIVE : kind == HMK_FRAME_ENTRY ? HMK_FRAME_PYTHON : kind;
}

#endif
