/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_SHIM_MERGE_H
#define HEAPMARK_SHIM_MERGE_H

/*
 * One stack of native and Python frames.  Every activation of the interpreter's loop keeps an object on the C stack (its
 * anchor); the Python frames of the activation take the place of the native frame that the anchor lies in.  By address, not
 * by name: distributions split the loop into nameless sections.
 */

#include "shim/python.h"
#include "shim/unwind.h"
#include <stdint.h>

struct merge_frame {            /* as struct hmk_frame, without its parent */
    uint64_t code;
    uint32_t ref;
};
#define MERGE_FRAMES (UNWIND_DEPTH_LIMIT + PYTHON_FRAMES)

struct merge {
    struct python_stack python;
    uint64_t sps[UNWIND_DEPTH_LIMIT];
    struct merge_frame frame[MERGE_FRAMES];     /* root first */
    uint32_t count;
    uint32_t flags;                             /* enum unwind_flag to add */
    /* the thread's last interned stack and the nodes of its frames, so that only what differs is looked up */
    struct merge_frame last[MERGE_FRAMES];
    uint32_t last_node[MERGE_FRAMES];
    uint32_t last_count;
};

/* `places`: merge->sps is known.  scratch as for module_find, which is asked; so no lock of ours is held. */
void merge_frames(struct merge *merge, const struct unwind_result *native, bool places, void *scratch);

#endif
