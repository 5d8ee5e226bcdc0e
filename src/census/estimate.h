/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_CENSUS_ESTIMATE_H
#define HEAPMARK_CENSUS_ESTIMATE_H

/*
 * Sampled mode: what the live blocks of the map say of all live blocks.
 *
 * The chunk walk knows how many bytes of a page are in use and how many are free, whoever made the blocks.  So a block's share
 * of the free bytes on its pages, by its part of the bytes in use, is exact; a site's share is the sum over its blocks.  Over
 * those that were sampled, each counted 1/p times, that sum has the right mean, and (share)^2 (1-p)/p^2 adds up to its variance.
 * The same holds for requested bytes and slack.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct extent;
struct page_fill;
struct scratch;

struct estimate_site {
    double share_bytes, share_spread;
    double live_bytes, live_blocks;
};

struct estimate {
    /* How many blocks a recorded one of that size and site stands for. */
    double (*weight)(size_t requested, uint32_t site);
    struct estimate_site *site;
    uint32_t sites;
    double slack_bytes, slack_spread;   /* of resident blocks: headers and rounding */
    double unseen_bytes, unseen_spread; /* resident chunks in use that are not in the map, in extents without a walk */
};

/* False: no memory. */
bool estimate_init(struct estimate *estimate, uint32_t sites, struct scratch *scratch);
/* The blocks of an extent; fill: its pages, NULL when its chunks could not be walked. */
void estimate_extent(struct estimate *estimate, const struct extent *extent, const struct page_fill *fill);
/* A block of its own mapping. */
void estimate_chunk(struct estimate *estimate, uint32_t site, uint64_t requested);

#endif
