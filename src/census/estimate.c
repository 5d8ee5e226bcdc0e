/* SPDX-License-Identifier: MIT */
#include "census/estimate.h"

#include "census/blockmap.h"
#include "census/causes.h"
#include "census/extents.h"
#include "census/scratch.h"
#include "freestanding/sys.h"
#include "freestanding/banned.h"

struct visit {
    struct estimate *estimate;
    const struct extent *extent;
    const struct page_fill *fill;
    uintptr_t page_bytes;
};

bool estimate_init(struct estimate *estimate, uint32_t sites, struct scratch *scratch)
{
    estimate->sites = sites;
    estimate->site = scratch_alloc(scratch, sites * sizeof(estimate->site[0]));
    return estimate->site != NULL;
}

static struct estimate_site *site_of(struct estimate *estimate, uint32_t site)
{
    return &estimate->site[site < estimate->sites ? site : 0];
}

static double weight_of(const struct estimate *estimate, uint64_t requested, uint32_t site)
{
    return estimate->weight ? estimate->weight(requested, site) : 1;
}

/* Free bytes of the page of `from` that go to the block whose bytes [from, to) lie there, by its part of those in use. */
static double share_of(const struct visit *visit, uintptr_t from, uintptr_t to)
{
    const struct page_fill *page = &visit->fill[(from - visit->extent->start) / visit->page_bytes];
    return page->live_bytes ? (double)page->free_bytes * (double)(to - from) / (double)page->live_bytes : 0;
}

/* Pages between the first and the last are the block's alone. */
static double shares_of(const struct visit *visit, uintptr_t from, uintptr_t to)
{
    uintptr_t mask = visit->page_bytes - 1;
    uintptr_t first_end = (from | mask) + 1, last = (to - 1) & ~mask;
    if (first_end >= to)
        return share_of(visit, from, to);
    return share_of(visit, from, first_end) + share_of(visit, last, to);
}

static void visit_live(uintptr_t block, const struct blockmap_extent *found, void *context)
{
    const struct visit *visit = context;
    struct estimate *estimate = visit->estimate;
    const struct extent *extent = visit->extent;
    uintptr_t from = block - (extent->kind == EXTENT_FOREIGN ? 0 : 16), to = from + found->chunk;
    if (from < extent->start || to > extent->end || to <= from)
        return;
    double weight = weight_of(estimate, found->requested, found->site), more = weight * (weight - 1);
    struct estimate_site *site = site_of(estimate, found->site);
    site->live_bytes += weight * (double)found->requested;
    site->live_blocks += weight;
    if (extent->resident[(to - 1 - extent->start) / visit->page_bytes] && found->chunk > found->requested) {
        double slack = (double)(found->chunk - found->requested);
        estimate->slack_bytes += weight * slack;
        estimate->slack_spread += more * slack * slack;
    }
    if (!visit->fill) {
        double bytes = (double)extents_resident_bytes(extent, from, to);
        estimate->unseen_bytes += (weight - 1) * bytes;
        estimate->unseen_spread += more * bytes * bytes;
    } else {
        double share = shares_of(visit, from, to);
        site->share_bytes += weight * share;
        site->share_spread += more * share * share;
    }
}

void estimate_extent(struct estimate *estimate, const struct extent *extent, const struct page_fill *fill)
{
    struct visit visit = { .estimate = estimate, .extent = extent, .fill = fill, .page_bytes = sys_page_bytes() };
    blockmap_each_live_in(extent->start, extent->end, visit_live, &visit);
}

void estimate_chunk(struct estimate *estimate, uint32_t site, uint64_t requested)
{
    double weight = weight_of(estimate, requested, site);
    site_of(estimate, site)->live_bytes += weight * (double)requested;
    site_of(estimate, site)->live_blocks += weight;
}
