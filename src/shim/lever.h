/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_SHIM_LEVER_H
#define HEAPMARK_SHIM_LEVER_H

/*
 * Ways to give free memory back: that of the allocator which serves the process's malloc, and no other's.  Pulling
 * malloc_trim where malloc is jemalloc's would return nothing and call that success.
 *
 * Where the program itself defines malloc (an allocator linked into the executable), our hooks are passed by, so nobody knows
 * when a thread is inside it; then there is no lever.
 */

#include "contract/control.h"
#include <stdbool.h>
#include <stdint.h>

void lever_init(void);          /* from the constructor: looks the functions up, which takes locks of the loader's */
uint32_t lever_found(void);     /* enum hmk_lever bit, or 0 */
bool lever_pull(void);          /* false: there is none */
/* May it be pulled where the calling thread was at `start`?  It is in none of our hooks.  glibc's other entries are guarded; other
 * allocators have some that are not (C++'s operator new, threads of their own), so for them the thread's stack must
 * be free of the allocator.  One caller at a time. */
struct unwind_start;
bool lever_is_clear(const struct unwind_start *start);

#endif
