/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_TESTS_UNIT_FAKE_PROCESS_H
#define HEAPMARK_TESTS_UNIT_FAKE_PROCESS_H

/*
 * The recorder with everything below it, in a process without hooks: stacks are what the test says they are, blocks are
 * addresses that nobody touches (the block map takes them for another allocator's, which has no chunk headers).
 * A test begins once in a process of its own, so its program must run with CK_FORK.
 */

#include "shim/stack.h"
#include "shim/thread.h"
#include <stddef.h>
#include <stdint.h>

/* A scratch directory, a recording in it, the modules the test asks for; the gate is open. */
void fake_begin(void);
void fake_end(void);                    /* removes the directory */
extern char fake_file[];                /* the recording */

/* The calling thread's next captures find this stack, root first. */
void fake_stack(const uint64_t *pcs, uint32_t depth, uint32_t flags);
/* The site of a stack that `number` names: a few frames deep, with common parts. */
uint32_t fake_site(uint64_t number);
extern uint64_t fake_captures, fake_memos;

/* As the hooks do it, from outside of any hook.  0: not recorded. */
uint32_t fake_malloc(uintptr_t block, size_t bytes, uint64_t stack);
bool fake_free(uintptr_t block);

/* What the recording says, added up over all threads. */
struct fake_sum {
    int64_t live_bytes, live_blocks, peak_bytes, peak_blocks, allocations, frees, temporary, slack;
};
struct fake_sum fake_sum_of(uint32_t site);
struct fake_sum fake_sum_of_all(void);  /* of heap sites */
void fake_sums(struct fake_sum *sum, uint32_t sites);   /* all at once */

#endif
