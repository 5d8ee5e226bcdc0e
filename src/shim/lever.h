/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_SHIM_LEVER_H
#define HEAPMARK_SHIM_LEVER_H

/* Ways to give free memory back, one for each allocator that may serve the process.  Never malloc_trim for a process whose
 * malloc is another allocator's: it would return nothing and call that success. */

#include "contract/control.h"
#include <stdbool.h>
#include <stdint.h>

void lever_init(void);          /* from the constructor: looks the functions up */
uint32_t lever_found(void);     /* enum hmk_lever bits */
bool lever_pull(void);          /* all of them; false: there is none */
/* May a signal handler pull them, when its thread is in none of our hooks?  Only glibc's other entries are guarded. */
bool lever_is_guarded(void);

#endif
