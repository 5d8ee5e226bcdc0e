/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_CENSUS_EXTENTS_H
#define HEAPMARK_CENSUS_EXTENTS_H

/*
 * The heap: the address ranges from which the allocator hands out blocks, found without its private symbols.
 *
 * glibc: what brk gave; the heaps of thread arenas, which start on a multiple of their greatest size with a struct
 * heap_info { arena, previous heap, size, ... } that other heaps confirm; and regions that the main arena mapped when brk
 * was refused, known by live blocks of the map that lie elsewhere.  Mmapped chunks are no heap: they return on free.
 * Other allocators: every private anonymous area that the block map has cells for.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct areas;
struct peek;
struct scratch;

enum extent_kind {
    EXTENT_BREAK,           /* main arena, from brk */
    EXTENT_HEAP,            /* of a thread arena */
    EXTENT_REGION,          /* main arena, mapped */
    EXTENT_FOREIGN          /* not glibc's */
};

struct extent {
    uintptr_t start, end;   /* multiples of the page size */
    enum extent_kind kind;
    uint32_t arena;         /* 0: main */
    bool has_top;           /* the arena's top chunk ends here */
    bool holds_arena;       /* its structure starts at head_end */
    uintptr_t head_end;     /* the first chunk starts here or above */
    unsigned char *resident;/* see residency.h */
    uint64_t resident_pages;
    uint64_t *fast;         /* a bit for every 16 bytes: a chunk of a fastbin starts there; NULL: none; see fastbins.h */
};

struct extents {
    struct extent *list;    /* by address */
    size_t count, capacity;
    uint32_t arenas;        /* including the main one */
    uint64_t bytes, resident_bytes;
};

/* False: no memory.  Regions are added later, by extents_add. */
bool extents_find(struct extents *extents, const struct areas *areas, struct peek *peek, struct scratch *scratch);
bool extents_add(struct extents *extents, uintptr_t start, uintptr_t end, enum extent_kind kind);
/* Fills the vectors of residency; after the last addition. */
bool extents_fill(struct extents *extents, const struct areas *areas, struct scratch *scratch);

/* Resident bytes of [from, to), which lies in the extent. */
uint64_t extents_resident_bytes(const struct extent *extent, uintptr_t from, uintptr_t to);

/* The extent that holds an address, or NULL. */
struct extent *extents_at(const struct extents *extents, uintptr_t address);

#endif
