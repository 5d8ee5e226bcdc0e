/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_CENSUS_CAUSES_H
#define HEAPMARK_CENSUS_CAUSES_H

/*
 * Why the free bytes of an extent stay, page by page.  What is not live is told in address order, as items; each
 * resident page then falls to one cause, except that bytes of foreign blocks and of the allocator's own structures are
 * counted apart wherever they lie.
 */

#include "contract/format.h"
#include <stdint.h>

struct extent;

enum item {
    ITEM_FREE,          /* free, but not (yet) in whole pages that a trim returns */
    ITEM_CACHED,        /* free for the program, in use for the allocator */
    ITEM_FOREIGN,       /* in use, but not by a block of the map */
    ITEM_METADATA,      /* the allocator's own structures */
    ITEM_STUCK,         /* top that no trim reaches */
    ITEM_TRIM,          /* whole pages that a trim returns */
    ITEM_TRIM_TOP,      /* the same, at the top of the main heap */
    ITEM_KINDS
};

/* Of a page that is neither all live nor all free. */
struct page_fill {
    uint32_t live_bytes;        /* chunks of live blocks, of the map or not */
    uint32_t free_bytes;
};

struct causes {
    const struct extent *extent;
    uintptr_t page_bytes;
    unsigned page_shift;
    uint64_t held_bytes[HMK_CAUSES];
    uint64_t metadata_bytes;
    uintptr_t page;                     /* the one that is not settled yet; 0: none */
    uint64_t pending[ITEM_KINDS];       /* bytes there */
    struct page_fill *fill;             /* by page; NULL: not wanted */
};

void causes_begin(struct causes *causes, const struct extent *extent);
void causes_add_long(struct causes *causes, uintptr_t from, uintptr_t to, enum item item);
void causes_settle(struct causes *causes);  /* after the last item */

/* The same for an item that lies in one page, which starts at `page`. */
static inline void causes_add_part(struct causes *causes, uintptr_t page, uint64_t bytes, enum item item)
{
    if (page != causes->page) {
        causes_settle(causes);
        causes->page = page;
    }
    causes->pending[item] += bytes;
}

static inline void causes_add(struct causes *causes, uintptr_t from, uintptr_t to, enum item item)
{
    uintptr_t mask = causes->page_bytes - 1;
    if (from >= to)
        return;
    if ((from & mask) + (to - from) <= mask)
        causes_add_part(causes, from & ~mask, to - from, item);
    else
        causes_add_long(causes, from, to, item);
}

/* Trims as malloc_trim(0) does: of a free run, the whole pages behind the first 48 bytes. */
void causes_add_long_run(struct causes *causes, uintptr_t from, uintptr_t to);

static inline void causes_add_run(struct causes *causes, uintptr_t from, uintptr_t to)
{
    if (to - from < causes->page_bytes)
        causes_add(causes, from, to, ITEM_FREE);
    else
        causes_add_long_run(causes, from, to);
}
/* The main heap's top loses its end, in units of `granule` bytes, but for at least 33 bytes. */
void causes_add_top(struct causes *causes, uintptr_t from, uintptr_t to, uint64_t granule);
/* Of a top in [from, to): where that end starts. */
uintptr_t causes_first_trimmed(uintptr_t from, uintptr_t to, uint64_t granule);

static inline uint64_t causes_forecast(const struct causes *causes)
{
    return causes->held_bytes[HMK_CAUSE_RETURNABLE] + causes->held_bytes[HMK_CAUSE_TOP];
}

#endif
