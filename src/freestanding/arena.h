/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_FREESTANDING_ARENA_H
#define HEAPMARK_FREESTANDING_ARENA_H

#include <stddef.h>
#include <stdint.h>

/*
 * The shim's own memory: zeroed blocks carved from mmap'ed chunks, never freed.  Thread-safe and
 * lock-free (a race may waste a chunk's tail, never hand out a block twice).  NULL when the system has no more.
 */
void *arena_alloc(size_t bytes, size_t alignment);   /* alignment: power of two, at most 4096 */
uint64_t arena_bytes(void);                          /* taken from the system so far */
/* After fork, in the child: nothing to do; the memory is private. */

#endif
