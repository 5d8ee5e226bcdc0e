/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_CENSUS_FASTBINS_H
#define HEAPMARK_CENSUS_FASTBINS_H

/*
 * glibc's fastbins: small freed chunks whose headers look as if they were in use.  Where every block is in the map, it tells
 * them from live ones; in sampled mode only the lists do.  Their heads lie before the pointer to the arena's top in
 * struct malloc_state, whose bins behind it no other data look like: each of 127 pairs of pointers leads to itself, as
 * the last one does, or into a heap.  So no symbol and no table of versions is needed.
 */

#include "census/extents.h"
#include <stdbool.h>
#include <stdint.h>

struct areas;
struct peek;
struct scratch;

/* Marks their chunks in the extents.  *all: every list was followed to its end.  False: no memory.  Data of modules are searched
 * from `code` on, then all. */
bool fastbins_mark(const struct extents *extents, const struct areas *areas, uintptr_t code, struct peek *peek,
                   struct scratch *scratch, bool *all);

static inline bool fastbins_has(const struct extent *extent, uintptr_t chunk)
{
    size_t unit = (chunk - extent->start) / 16;
    return extent->fast && extent->fast[unit / 64] >> unit % 64 & 1;
}

#endif
