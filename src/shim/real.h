/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_SHIM_REAL_H
#define HEAPMARK_SHIM_REAL_H

/*
 * The functions that the hooks stand in front of, and the memory that serves while they are being looked up.
 *
 * dlsym may itself allocate, and the loader calls malloc before any constructor ran.  Until the table is filled,
 * real_malloc_early hands out blocks of a static arena: 16-byte aligned (or more), bounded, never reused.  A block of it
 * may come back to free, realloc or malloc_usable_size at any time later; real_is_early tells it.
 */

#include <malloc.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>
#include <time.h>

#if !__GLIBC_PREREQ(2, 33)
/* As later glibc has it, so that a shim built here serves programs that run there. */
struct mallinfo2 {
    size_t arena, ordblks, smblks, hblks, hblkhd, usmblks, fsmblks, uordblks, fordblks, keepcost;
};
struct mallinfo2 mallinfo2(void);
#endif

struct real_functions {
#define HOOK(type, name, parameters) type (*name) parameters;
#define HOOK_OPTIONAL HOOK
#include "shim/hooks.def"
#undef HOOK
#undef HOOK_OPTIONAL
};
extern struct real_functions real __attribute__((visibility("hidden")));

/* What calls that are passed over go to: as the others, by way of start_rounded; or straight to the real functions, once it is
 * known that they are glibc's. */
struct real_passed {
    void *(*malloc)(size_t bytes);
    void *(*calloc)(size_t count, size_t each);     /* their product is a size_t */
    void *(*realloc)(void *block, size_t bytes);
};
extern struct real_passed real_passed __attribute__((visibility("hidden")));
void real_pass_directly(void);

/* Fills the table on the first call.  False while the lookups run (the same thread came back in), and when libc
 * lacks a function that every libc has: the caller then serves from the early arena. */
bool real_init(void);
extern bool real_ready __attribute__((visibility("hidden")));  /* it was filled: the one test on the hot path */
bool real_is_glibc(void);       /* malloc is glibc's own, so chunk headers may be read */

void *real_malloc_early(size_t bytes, size_t alignment);    /* zeroed; NULL when the arena is used up */
size_t real_size_early(const void *block);
extern unsigned char real_early_arena[] __attribute__((visibility("hidden")));
#define REAL_EARLY_BYTES (256u * 1024)
static inline bool real_is_early(const void *block)
{
    return (uintptr_t)block - (uintptr_t)real_early_arena < REAL_EARLY_BYTES;
}

#endif
