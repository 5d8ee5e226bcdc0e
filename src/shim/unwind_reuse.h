/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_SHIM_UNWIND_REUSE_H
#define HEAPMARK_SHIM_UNWIND_REUSE_H

/* The fast sibling of unwind.h: see the essay in unwind_reuse.c. */

#include "shim/unwind.h"

struct unwind_reuse;            /* a thread's part */
struct unwind_libunwind;

void unwind_reuse_init(uint32_t depth_max);
/* `fallback` evaluates what the rules cannot express. */
struct unwind_reuse *unwind_reuse_new(struct unwind_libunwind *fallback);      /* NULL: no memory */
void unwind_reuse_reset(struct unwind_reuse *thread);
uint32_t unwind_reuse_capture(struct unwind_reuse *thread, const struct unwind_start *start, struct unwind_result *result);
/* The sp of each frame of the last result; false: it was not taken by rules. */
bool unwind_reuse_places(const struct unwind_reuse *thread, const struct unwind_result *result, uint64_t *sps);
void unwind_reuse_remember(struct unwind_reuse *thread, uint32_t memo);

#endif
