/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_CENSUS_ALLOCATOR_PYMALLOC_H
#define HEAPMARK_CENSUS_ALLOCATOR_PYMALLOC_H

/*
 * The heap of CPython's small objects, looked at from outside: no hook, no call into the interpreter.
 *
 * pymalloc maps arenas, 256 KiB up to 3.9 and 1 MiB since, and cuts them from the start into pools of 4 or 16 KiB that lie
 * on multiples of their size.  A pool in use holds blocks of one size, a multiple of 16 up to 512, behind a header
 * that counts them.  An arena is unmapped when its last block is freed, and no earlier: one object keeps it whole.
 *
 * A mapping is taken for an arena only when the headers of all its pools agree with themselves and with each other.  The
 * interpreter may run in other threads meanwhile: memory is read in ways that cannot fault, and one pool of an arena may be
 * caught between two states.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct areas;
struct census_mapping;
struct hmk_census;
struct peek;
struct scratch;

#define PYMALLOC_HEADER_BYTES 48u
#define PYMALLOC_UNIT_BYTES 16u
#define PYMALLOC_POOLS 64u       /* of an arena, at most */

struct pymalloc_pool {          /* its header */
    uint32_t blocks;            /* in use */
    uint32_t unused;
    uint64_t free_block;        /* head of the list of freed blocks; each begins with the address of the next */
    uint64_t next, previous;
    uint32_t arena;             /* the interpreter's number for it */
    uint32_t size_class;        /* block size / 16 - 1 */
    uint32_t next_offset;       /* of the first block that was never used */
    uint32_t last_offset;       /* of the last block there is room for */
};
_Static_assert(sizeof(struct pymalloc_pool) == PYMALLOC_HEADER_BYTES, "as CPython has it since 3.8");

struct pymalloc_arena {
    uintptr_t start, end;
    uint32_t site;              /* that mapped it */
    uint32_t pools;             /* with a block in use */
    uint32_t free_pools;        /* without, never used ones included */
    uint16_t *begun;            /* of a sparse one, by pool: bytes of it that were ever used; 0: it has no block in use */
    bool opaque;                /* there may be blocks in use that cannot be looked at */
    uint64_t resident_bytes;
    uint64_t live_blocks, live_bytes;
    uint64_t live_resident_bytes;
    uint64_t untold_bytes;      /* of those, what the ledger has not placed yet */
};

struct pymalloc {
    const struct areas *areas;
    struct peek *peek;
    unsigned minor;             /* of the interpreter: 3.minor */
    uint32_t arena_bytes, pool_bytes;
    struct pymalloc_arena *arena;   /* by address */
    uint32_t count, capacity;
    /* for one arena */
    unsigned char *resident;    /* see residency.h */
    uintptr_t *address;         /* of pools */
    struct pymalloc_pool *pool;
};

/* Finds the arenas among the program's mappings, and adds what they hold to the census.  False: no memory.
 * Versions below 3.8 have none that we understand. */
bool pymalloc_find(struct pymalloc *pymalloc, const struct census_mapping *mappings, uint32_t count,
                   struct hmk_census *census, struct scratch *scratch);

/* The first arena that ends above an address; NULL when there is none. */
struct pymalloc_arena *pymalloc_from(const struct pymalloc *pymalloc, uintptr_t address);

/* Of which at most a quarter is in use. */
static inline bool pymalloc_is_sparse(const struct pymalloc_arena *arena)
{
    return arena->live_bytes <= (arena->end - arena->start) / 4;
}

/* Resident, and covered by no block in use. */
static inline uint64_t pymalloc_held_bytes(const struct pymalloc_arena *arena)
{
    return arena->resident_bytes - arena->live_resident_bytes;
}

uintptr_t pymalloc_first_pool(const struct pymalloc *pymalloc, uintptr_t arena_start);

static inline uint32_t pymalloc_block_bytes(const struct pymalloc_pool *pool)
{
    return (pool->size_class + 1) * PYMALLOC_UNIT_BYTES;
}

/* A header in itself: its fields agree with each other, for a pool at this address. */
bool pymalloc_is_pool(const struct pymalloc *pymalloc, const struct pymalloc_pool *pool, uintptr_t address);

#endif
