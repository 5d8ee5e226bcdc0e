/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_SHIM_MARKS_H
#define HEAPMARK_SHIM_MARKS_H

/*
 * Sampled mode's glance at a block that is freed: was it recorded?  Hardly any was, so "no" must cost next to nothing.
 *
 * A byte for every hash of an address says how many recorded blocks with that hash live: 255 none, 254 one, and so on; from
 * MARKS_PINNED down, the byte stays as it is and says "look".  A block is marked before the map has it, and unmarked
 * once the map has it no more, so a byte may say too much (an event that a handler left by longjmp, another thread's event at a
 * fork), which costs a look into the map, and never too little.
 *
 * Pinned are: NULL, the blocks of the early arena, and what the loader allocated by calloc, for dlclose frees its link map last
 * (module.h).  Until marks_begin, which a run that is sampled from its start calls before anything is recorded, all bytes are 0:
 * no block is told apart.  Where budget= ends exact mode, blocks without a mark live, and it stays so.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MARKS_COUNT 16384u
#define MARKS_NONE 255u
#define MARKS_PINNED 1u
#define MARKS_SHIFT 5           /* no two blocks of glibc's start within 32 bytes; neighbours share a cache line of bytes */
extern uint8_t marks[MARKS_COUNT] __attribute__((visibility("hidden")));

/* True: this block was not recorded, nor is it pinned. */
static inline bool marks_clear(const void *block)
{
    const uint8_t *mark = &marks[((uintptr_t)block >> MARKS_SHIFT) % MARKS_COUNT];
#if defined(__SANITIZE_THREAD__)
    return __atomic_load_n(mark, __ATOMIC_RELAXED) == MARKS_NONE;
#else
    return *mark == MARKS_NONE;     /* gcc compares no atomic byte where it is */
#endif
}

void marks_begin(void);
void marks_add(const void *block);
void marks_remove(const void *block);
void marks_pin(const void *block);      /* at any time */

#endif
