/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_CENSUS_PASS_MAP_H
#define HEAPMARK_CENSUS_PASS_MAP_H

/*
 * The scan of the block map over the extents: what is live, who last owned what is not, and which live blocks
 * share pages with it.  Reads the map and the residency, no heap memory.
 */

#include "contract/format.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct extents;
struct gaps;
struct pins;
struct scratch;

/* Of one site.  In a cache line of its own: pages name sites in no order. */
struct tally {
    _Alignas(64) uint64_t live_bytes;   /* requested; resident or not */
    uint64_t live_blocks;
    uint64_t held_bytes, held_page_bytes, sole_bytes, share_bytes;
    uintptr_t top_block;                /* the highest live block in the main heap, 0: none */
    uint32_t site;
};

/* By site: of the very many that a program may have, few have anything in the heap at one time. */
struct tally_of {
    uint32_t number;                    /* of its tally; 0: it has none yet */
    uint16_t slot;                      /* where the page's list has it, if it does */
};

struct pass_map {
    struct tally *tally;                /* in the order in which their sites came; the first, number 0, is nobody's and empty */
    uint32_t tallies;                   /* with that one */
    struct tally_of *of_site;
    uint32_t sites;
    /* over all extents */
    uint64_t live_bytes, live_blocks;   /* requested; resident or not */
    uint64_t live_chunk_bytes;          /* with headers and slack; resident or not */
    uint64_t live_resident_bytes;       /* requested */
    uint64_t slack_resident_bytes;      /* usable - requested, and headers */
    uint64_t nonresident_live_bytes;
    uint64_t held_bytes;                /* resident bytes in no live block: page by page */
    uint64_t held_page_bytes;
    uint64_t large_held_bytes;          /* last owner was >= 128 KiB */
    uint64_t odd_blocks;                /* cells that contradict the extents: the heap moves */
    struct pins *pins;                  /* told of pages that live blocks hold */
    struct pass_map_page *page;
    uint64_t *inverse;                  /* of 16 x i, times 2^40, rounded up; NULL: pages are too large for that */
};

bool pass_map_init(struct pass_map *pass, uint32_t sites, struct pins *pins, struct scratch *scratch);
/* Scans one extent; tells its gaps to `gaps`, begun for it by the caller. */
struct extent;
void pass_map_scan(struct pass_map *pass, struct extent *extent, struct gaps *gaps);

/* To add to. */
static inline struct tally *pass_map_tally(struct pass_map *pass, uint32_t site)
{
    struct tally_of *of = &pass->of_site[site < pass->sites ? site : 0];
    if (__builtin_expect(of->number == 0, 0)) {
        of->number = pass->tallies++;
        pass->tally[of->number].site = (uint32_t)(of - pass->of_site);
    }
    return &pass->tally[of->number];
}

/* To read. */
static inline const struct tally *pass_map_seen(const struct pass_map *pass, uint32_t site)
{
    return &pass->tally[pass->of_site[site < pass->sites ? site : 0].number];
}

#endif
