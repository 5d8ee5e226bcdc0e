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
 * It may be lower than the truth, never higher.  The previous result is the last one whose memo was 0.
 *
 * A stack deeper than depth_max keeps its depth_max frames nearest to the leaf and is flagged UNWIND_CUT; pcs[0] is
 * then the outermost frame kept, and moves as the stack grows and shrinks.  `common` still compares equal
 * indexes, so it drops to what happens to be equal there whenever the cut has moved.
 *
 * `memo` is what the caller stored by unwind_remember() for exactly this stack, or 0 when the unwinder does not
 * remember it.  When memo is not 0, nothing else in the result is set.
 *
 * Promises of every sibling: no lock of the host or of libc is taken, no libc allocator is called, no signal
 * mask is changed in the common case, errno is kept; the thread's busy flag is the caller's.  The fallback to
 * libunwind breaks the first three, so the caller holds nothing of its own during a capture, and its busy flag
 * is set, because libunwind may allocate.  Not re-entrant for one struct unwind_thread; any number of threads may
 * capture at once, each with its own.
 */

#include <stdbool.h>
#include <stdint.h>

struct settings;
struct unwind_thread;           /* one per thread; made by unwind_thread_new, never freed but reused */

/* The registers at the hook's caller: pc = return address of the hook, sp = its value after the return
 * (the hook's CFA), fp = the caller's frame-pointer register. */
struct unwind_start {
    uint64_t pc, sp, fp;
};

/* The start for the function that this is used in, which must not be inlined itself. */
static inline __attribute__((always_inline)) struct unwind_start unwind_start_here(void)
{
    return (struct unwind_start){
        .pc = (uint64_t)__builtin_extract_return_addr(__builtin_return_address(0)),
        .sp = (uint64_t)__builtin_dwarf_cfa(),
        .fp = *(const uint64_t *)__builtin_frame_address(0)
    };
}

enum unwind_flag {
    UNWIND_CUT = 1u << 0,           /* deeper than depth_max; the frames nearest to the leaf were kept */
    UNWIND_INCOMPLETE = 1u << 1,    /* stopped at a frame that cannot be unwound */
    UNWIND_GUESSED = 1u << 2        /* at least one step was guessed */
};

struct unwind_result {
    const uint64_t *pcs;            /* root first */
    const uint64_t *exact;          /* bit i % 64 of exact[i / 64]: pcs[i] is an interrupted instruction, not a
                                     * return address; NULL = none */
    uint32_t depth;
    uint32_t common;
    uint32_t flags;                 /* enum unwind_flag */
    uint32_t memo;
};

#define UNWIND_DEPTH_LIMIT 512u

static inline bool unwind_is_exact(const struct unwind_result *result, uint32_t i)
{
    return result->exact != 0 && (result->exact[i / 64] >> (i % 64) & 1);
}

/* Opens libheapmark-unwind.so from `directory`, the one libheapmark.so was loaded from.  From the constructor
 * only, and before unwind_init: it calls the loader.  False: no libunwind; the fast sibling then works without its
 * fallback. */
bool unwind_libunwind_open(const char *directory);

/* Called once, from the constructor.  Uses settings->depth (at most UNWIND_DEPTH_LIMIT) and ->unwinder.
 * False: no stacks can be taken. */
bool unwind_init(const struct settings *settings);
const char *unwind_name(void);
struct unwind_thread *unwind_thread_new(void);                  /* NULL: no memory */
void unwind_thread_reset(struct unwind_thread *thread);         /* the slot got another owner */
/* Returns the result's memo too. */
uint32_t unwind_capture(struct unwind_thread *thread, const struct unwind_start *start, struct unwind_result *result);
/* Of the last captured stack, whose result had memo 0: the sp of each frame, as of unwind_start.  What frame i keeps on the stack lies
 * from sps[i] to below sps[i - 1].  sps has room for UNWIND_DEPTH_LIMIT.  False: they are not known. */
bool unwind_places(const struct unwind_thread *thread, const struct unwind_result *result, uint64_t *sps);
/* Of the last captured stack, whose result had memo 0; memo != 0. */
void unwind_remember(struct unwind_thread *thread, uint32_t memo);

/* Modules were unloaded: nothing that was learned about code addresses may be used again.  To be called before
 * dlclose returns; module.h says how that is noticed. */
void unwind_forget(void);

/* The oracle: the same stack by libunwind's full step-by-step walk, in arrays of its own (`common` and `memo` are
 * 0).  Slow, makes system calls.  False: libunwind is not there, or does not find the start.  The stack must not
 * have changed since the capture that it is compared with.  Where the stack leaves code with unwind data the
 * reference ends, INCOMPLETE. */
bool unwind_verify(struct unwind_thread *thread, const struct unwind_start *start, struct unwind_result *reference);
/* Is `result` (pcs, depth and flags) what the reference says, as far as that goes? */
bool unwind_agrees(const struct unwind_result *result, const struct unwind_result *reference);

#endif
