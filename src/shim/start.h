/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_SHIM_START_H
#define HEAPMARK_SHIM_START_H

/* The life of the recording within the process: begun by the constructor, ended by whichever way out the process takes. */

#include "contract/format.h"
#include "shim/settings.h"
#include <stdbool.h>

extern struct settings start_settings;
extern bool start_is_glibc __attribute__((visibility("hidden")));     /* the blocks are glibc's: chunk headers may be read */

/* The gate is shut and an event came: fills the table of real functions, and begins the recording when it is the first event of the process, ahead of our
 * constructor.  False: not now, or not at all. */
bool start_early(void);
/* This process (not a vfork child that runs in its memory) owns the recording. */
bool start_is_owner(void);
/* The last words: peak of RSS, last sample, census at the end, state.  Safe to call on several ways out; the first one counts. */
void start_finish(enum hmk_state state, int status);

#endif
