/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_SHIM_MERGE_H
#define HEAPMARK_SHIM_MERGE_H

/*
 * One stack of native and Python frames.  Every activation of the interpreter's loop keeps an object on the C stack (its
 * anchor); the Python frames of the activation take the place of the native frame that the anchor lies in.  By address, not
 * by name: distributions split the loop into nameless sections.
 */

#include "contract/format.h"
#include "shim/python.h"
#include "shim/unwind.h"
#include <stdint.h>

/* A frame as it was found: the return address of a native one; the code object, with its salt, and the instruction of a Python
 * one.  What it is in the recording is looked up only for frames that differ from the thread's last stack. */
struct merge_frame {
    uint64_t found;
    uint32_t instruction;
    uint32_t kind;              /* enum hmk_frame_kind */
};
#define MERGE_FRAMES (UNWIND_DEPTH_LIMIT + PYTHON_FRAMES)

struct merge {
    struct python_stack python;
    uint64_t sps[UNWIND_DEPTH_LIMIT];
    struct merge_frame frame[MERGE_FRAMES];     /* root first; the first `common` are those of last */
    uint32_t count, common;
    uint32_t flags;                             /* enum unwind_flag to add */
    /* the thread's last interned stack and the nodes of its frames, so that only what differs is looked up */
    struct merge_frame last[MERGE_FRAMES];
    uint32_t last_node[MERGE_FRAMES];
    uint32_t last_count;
    struct hmk_frame path[MERGE_FRAMES];        /* of frame[common ...], by merge_resolve; parents are unset */
};

/* `places`: merge->sps is known. */
void merge_frames(struct merge *merge, const struct unwind_result *native, bool places);
/* What the frames that differ from the last stack are in the recording.  A code object for which there was no room has the ref
 * UINT32_MAX.  May take the loader's lock (scratch as for module_find), so no lock of ours is held. */
void merge_resolve(struct merge *merge, void *scratch);

#endif
