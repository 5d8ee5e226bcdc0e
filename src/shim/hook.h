/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_SHIM_HOOK_H
#define HEAPMARK_SHIM_HOOK_H

/* What all hooks share: being exported, and their caller's registers (unwind_start_here). */

#include "shim/unwind.h"

#define HOOK_EXPORT __attribute__((visibility("default")))

#define LIKELY(condition) __builtin_expect(!!(condition), 1)
#define UNLIKELY(condition) __builtin_expect(!!(condition), 0)

#endif
