/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_SHIM_FORK_H
#define HEAPMARK_SHIM_FORK_H

#include <stdbool.h>

/* The gate was found wiped: this is the child of a fork or of a clone that does not share memory, and only the calling thread
 * exists.  Leaves the parent's recording, starts the child's own and enters the inherited blocks into it.  False: the
 * child is not to be recorded; the gate is shut for good. */
bool fork_settle_child(void);

#endif
