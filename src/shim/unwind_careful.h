/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_SHIM_UNWIND_CAREFUL_H
#define HEAPMARK_SHIM_UNWIND_CAREFUL_H

/*
 * The walk for stacks that are not plain calls: signal frames, code without unwind data, jumps between stacks.
 * Everything it reads outside the known stack is probed first; nothing of it is reused.
 */

#include "shim/unwind_list.h"
#include "shim/unwind_rules.h"
#include "shim/unwind_stack.h"

/* False: it met a rule that only libunwind can evaluate; `raw` then holds the frames up to there, flagged
 * incomplete. */
bool unwind_careful_walk(struct unwind_rules *rules, struct unwind_stacks *stacks, const struct unwind_start *start,
                         uint32_t depth_max, struct unwind_raw *raw);

#endif
