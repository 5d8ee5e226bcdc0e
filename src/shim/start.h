/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_SHIM_START_H
#define HEAPMARK_SHIM_START_H

/* The life of the recording within the process: begun by the constructor, ended by whichever way out the process takes. */

#include "contract/format.h"
#include "shim/settings.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

extern struct settings start_settings;
extern bool start_is_glibc __attribute__((visibility("hidden")));     /* the blocks are glibc's: chunk headers may be read */

/* Another allocator than glibc's may place two blocks in 16 bytes; the block map cannot tell them apart. */
static inline size_t start_rounded(size_t bytes)
{
    if (__builtin_expect(start_is_glibc, 1) || bytes > SIZE_MAX - 15)
        return bytes;
    return bytes == 0 ? 16 : (bytes + 15) & ~(size_t)15;
}

/* The gate is shut and an event came: fills the table of real functions, and begins the recording when it is the first event of the process, ahead of our
 * constructor.  False: not now, or not at all. */
bool start_early(void);
/* This process (not a vfork child that runs in its memory) owns the recording. */
bool start_is_owner(void);
/* The last words: peak of RSS, last sample, census at the end, state.  Safe to call on several ways out; the first one counts. */
void start_finish(enum hmk_state state, int status);

#endif
