/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_SHIM_UNWIND_STACK_H
#define HEAPMARK_SHIM_UNWIND_STACK_H

/*
 * Which memory around the stack pointer may be read without a fault.  A walk that follows correct unwind data
 * reads only live stack; this guards against data that lies (hand-written assembly) and frames that were guessed.
 * Learned page by page with sys_readable; nothing is asked of libc.
 */

#include <stdbool.h>
#include <stdint.h>

struct unwind_stack {
    uint64_t low, high;         /* readable, whole pages */
};

/* A word of the stack, which may lie in a frame that the address sanitizer watches over. */
static inline __attribute__((no_sanitize_address)) uint64_t unwind_stack_word(const uint64_t *slot)
{
    return *slot;
}

#define UNWIND_STACKS 4u        /* a thread's own, its signal stack, coroutines */
struct unwind_stacks {
    struct unwind_stack known[UNWIND_STACKS];
    uint32_t current;
    uint32_t replaced;
};

/* Makes the stack that holds sp the current one; sp is known to be readable. */
void unwind_stack_enter(struct unwind_stacks *stacks, uint64_t sp);
/* Can the current stack be taken to reach up to and including the word at `address`? */
bool unwind_stack_extend(struct unwind_stacks *stacks, uint64_t address);

static inline bool unwind_stack_holds(const struct unwind_stack *stack, uint64_t address)
{
    return address - stack->low < stack->high - stack->low;
}

#endif
