/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_SHIM_UNWIND_H
#define HEAPMARK_SHIM_UNWIND_H

/*
 * Taking the stack of a hook's caller: the seam between the recorder and the unwinders.
 *
 * A result lists the frames ROOT FIRST (pcs[0] is the outermost, pcs[depth - 1] the caller of the hook), as
 * return addresses found on the stack.  The arrays belong to the thread's unwinder and stay valid until its
 * next capture.  `common` says how many frames from the root are the very same frames, at the same index,
 * as in the thread's previous result, so that the caller keeps what it knows of them (prefix hashes, nodes).
 * It may be lower than the truth, never higher.
 *
 * `memo` is what the caller stored by unwind_remember() for exactly this stack, or 0 when the unwinder does not
 * remember it.  When memo is not 0, nothing else in the result is set.
 *
 * Promises of every sibling: no lock of the host or of libc is taken, no libc allocator is called, no signal
 * mask is changed in the common case, errno is kept; the thread's busy flag is the caller's.  Not
 * re-entrant for one struct unwind_thread; any number of threads may capture at once, each with its own.
 */

#include <stdbool.h>
#include <stdint.h>

struct unwind_thread;           /* one per thread; made by unwind_thread_new, never freed but reused */

/* The registers at the hook's caller: pc = return address of the hook, sp = its value after the return
 * (the hook's CFA), fp = the caller's frame-pointer register. */
struct unwind_start {
    uint64_t pc, sp, fp;
};

enum unwind_flag {
    UNWIND_CUT = 1u << 0,           /* deeper than depth_max; the frames nearest to the leaf were kept */
    UNWIND_INCOMPLETE = 1u << 1,    /* stopped at a frame that cannot be unwound */
    UNWIND_GUESSED = 1u << 2        /* at least one step was guessed */
};

struct unwind_result {
    const uint64_t *pcs;            /* root first */
    const uint64_t *exact;          /* bit i of exact[i / 64]: pcs[i] is an interrupted instruction, not a return
                                     * address; NULL = none */
    uint32_t depth;
    uint32_t common;
    uint32_t flags;                 /* enum unwind_flag */
    uint32_t memo;
};

/* Called once, from the constructor.  depth_max: at most UNWIND_DEPTH_LIMIT.  False: no stacks can be taken. */
#define UNWIND_DEPTH_LIMIT 512u
bool unwind_init(uint32_t depth_max);
const char *unwind_name(void);
struct unwind_thread *unwind_thread_new(void);                  /* NULL: no memory */
void unwind_thread_reset(struct unwind_thread *thread);         /* the slot got another owner */
void unwind_capture(struct unwind_thread *thread, const struct unwind_start *start, struct unwind_result *result);
void unwind_remember(struct unwind_thread *thread, uint32_t memo);  /* of the last captured stack; memo != 0 */
/* Modules were unloaded: nothing that was learned about code addresses may be used again. */
void unwind_forget(void);

#endif
