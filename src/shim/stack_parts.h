/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_SHIM_STACK_PARTS_H
#define HEAPMARK_SHIM_STACK_PARTS_H

/* What stack.c and stack_python.c share. */

#include "contract/format.h"
#include "shim/module.h"
#include "shim/site_table.h"
#include "shim/thread.h"
#include "shim/unwind.h"

/* What of thread->scratch is whose: frames of a new stack, then module.c's, then the nodes of a mapping's stack; behind
 * THREAD_SCRATCH_MERGE what Python's frames need. */
#define STACK_SCRATCH_MODULE (UNWIND_DEPTH_LIMIT * sizeof(struct hmk_frame))
#define STACK_SCRATCH_NODES (STACK_SCRATCH_MODULE + MODULE_SCRATCH)

static inline uint32_t stack_flags(const struct unwind_result *stack, enum hmk_site_kind kind)
{
    return (uint32_t)kind | (stack->flags & UNWIND_CUT ? HMK_SITE_CUT : 0) |
           (stack->flags & UNWIND_INCOMPLETE ? HMK_SITE_INCOMPLETE : 0) |
           (stack->flags & UNWIND_GUESSED ? HMK_SITE_GUESSED : 0);
}

/* Brings the thread's prefix hashes up to date; the hash of the whole stack. */
static inline uint64_t stack_hash(struct thread *thread, const struct unwind_result *stack)
{
    uint64_t hash = thread->hash[stack->common];
    for (uint32_t i = stack->common; i < stack->depth; i++) {
        hash = site_table_mix(hash, stack->pcs[i]);
        thread->hash[i + 1] = hash;
        thread->node[i + 1] = 0;
    }
    return hash;
}

uint32_t stack_lose_site(void);         /* counts it; HMK_SITE_LOST */
/* For stacks that are wanted whole: nothing is remembered there, and what is remembered of the heap's stacks stays. */
bool stack_whole_state(struct thread *thread);

/*
 * Stacks with Python frames are kept as two paths, one of native and one of Python frames, and a site is a pair of them: most new
 * stacks are new pairs of known paths.  The reader puts the two together (HMK_FRAME_JOIN).  So the unwinder's memo is not
 * a site but the native path's leaf.
 */
uint32_t stack_python_heap(struct thread *thread, const struct unwind_start *start, const struct unwind_result *stack);
/* A stack captured whole, with the hash of its frames and no node known. */
uint32_t stack_python_mapping(struct thread *thread, const struct unwind_start *start, const struct unwind_result *stack,
                              uint32_t *node, uint64_t hash, enum hmk_site_kind kind);
void stack_python_forget(struct thread *thread);

#endif
