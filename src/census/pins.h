/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_CENSUS_PINS_H
#define HEAPMARK_CENSUS_PINS_H

/*
 * Who holds what was freed, as ranked sets of blocks.
 *
 * Pages: every page with both live and free bytes belongs to the set of sites that live on it.  Sets are chosen one
 * site after the other, each time the one that frees most together with those before it; that is the ladder
 * of struct hmk_pin: gain of the step, and cumulative gain.
 *
 * Top: the main heap can only shrink from its end, which the topmost live block holds.  Rung i of the ladder is what
 * would come free without the sites of the i topmost blocks.
 */

#include "contract/format.h"
#include <stdbool.h>
#include <stdint.h>

struct extent;
struct gaps;
struct pass_map;
struct scratch;

#define PIN_SITES_MOST 4u       /* pages with more live sites belong to no set */

struct pin_page {
    uint32_t sites;
    uint32_t site[PIN_SITES_MOST];
    uint64_t held_bytes;
    uint64_t blocks, block_bytes;       /* live blocks there that no page before counted; requested bytes */
};

/* What was seen at the top of the main heap, where that is trimmed in units larger than a page. */
struct pin_top {
    struct gaps *gaps;          /* NULL: it is not */
    const struct pass_map *pass;
    struct extent *extent;
    uintptr_t chunk;            /* the top chunk */
};

struct pin_set;
struct pins {
    struct pin_set *set;        /* as they came: few pages */
    uint32_t count;
    uint32_t *tag;              /* open addressing: a part of a set's hash; 0: empty */
    uint16_t *place;            /* beside it: which set */
    uint64_t *score;            /* by site; scratch of the ranking */
    bool *chosen;               /* by site */
    uint32_t sites;
    struct pin_top top;
    struct hmk_pin *pin;        /* the result */
    uint32_t pin_count;
};

bool pins_init(struct pins *pins, uint32_t sites, struct scratch *scratch);
void pins_add_page(struct pins *pins, const struct pin_page *page);

/* After the scan of all extents. */
void pins_rank_pages(struct pins *pins);
/* Of the main heap's extent, when its walk has just ended. */
void pins_rank_top(struct pins *pins, const struct pass_map *pass, struct extent *extent, struct gaps *gaps);
/* The same in sampled mode, by the chunks: rung i is all that is in use above the i-th large hole from the top. */
void pins_rank_walls(struct pins *pins, const struct extent *extent, const struct gaps *gaps);

#endif
