/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_SHIM_UNWIND_LIBUNWIND_H
#define HEAPMARK_SHIM_UNWIND_LIBUNWIND_H

/* The sibling of unwind.h over libunwind: the reference, the oracle, and the fallback of the fast one. */

#include "shim/unwind_list.h"

struct unwind_libunwind;        /* a thread's part */

bool unwind_libunwind_ready(void);
void unwind_libunwind_set_depth(uint32_t depth_max);
struct unwind_libunwind *unwind_libunwind_new(void);            /* NULL: no memory */
void unwind_libunwind_reset(struct unwind_libunwind *thread);
void unwind_libunwind_capture(struct unwind_libunwind *thread, const struct unwind_start *start,
                              struct unwind_result *result);
void unwind_libunwind_remember(struct unwind_libunwind *thread, uint32_t memo);
void unwind_libunwind_forget(void);
/* Step by step, into `raw`.  False, and `raw` untouched: libunwind is not there, or does not find the start. */
bool unwind_libunwind_walk(struct unwind_libunwind *thread, const struct unwind_start *start, struct unwind_raw *raw);
/* The oracle: as unwind_verify. */
bool unwind_libunwind_reference(struct unwind_libunwind *thread, const struct unwind_start *start,
                                struct unwind_result *reference);

#endif
