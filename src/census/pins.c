/* SPDX-License-Identifier: MIT */
#include "census/pins.h"

#include "census/blockmap.h"
#include "census/causes.h"
#include "census/extents.h"
#include "census/gaps.h"
#include "census/pass_map.h"
#include "census/scratch.h"
#include <string.h>
#include "freestanding/sys.h"
#include "freestanding/banned.h"

#define SETS 16384u             /* a power of two */
#define SETS_MOST (SETS / 4 * 3)
#define STEPS 16u
#define RUNGS 8u
#define PINS_MOST (STEPS + RUNGS + 1)
#define WORTH_BYTES 65536u      /* smaller gains are not told */
#define NO_SITE UINT32_MAX
/* Chunks up to this size stay cached when freed, so the top stays where it is; the second: without a thread's cache. */
#define TCACHE_LARGEST 1040u
#define FASTBIN_LARGEST 128u

struct pin_set {
    uint32_t sites;             /* 0: empty */
    uint32_t missing;           /* of them, not yet chosen */
    uint32_t site[PIN_SITES_MOST];
    uint64_t held_bytes, blocks, block_bytes;
};

bool pins_init(struct pins *pins, uint32_t sites, struct scratch *scratch)
{
    *pins = (struct pins){ .sites = sites };
    pins->set = scratch_alloc(scratch, SETS_MOST * sizeof(struct pin_set));
    pins->tag = scratch_alloc(scratch, SETS * sizeof(pins->tag[0]));
    pins->place = scratch_alloc(scratch, SETS * sizeof(pins->place[0]));
    pins->score = scratch_alloc(scratch, sites * sizeof(pins->score[0]));
    pins->chosen = scratch_alloc(scratch, sites * sizeof(pins->chosen[0]));
    pins->pin = scratch_alloc(scratch, PINS_MOST * sizeof(struct hmk_pin));
    return pins->set && pins->tag && pins->place && pins->score && pins->chosen && pins->pin;
}

/* ---- pages ---------------------------------------------------------------------------------------- */

static void sort_sites(uint32_t *site, uint32_t count)
{
    for (uint32_t i = 1; i < count; i++)
        for (uint32_t at = i; at > 0 && site[at - 1] > site[at]; at--) {
            uint32_t moved = site[at];
            site[at] = site[at - 1];
            site[at - 1] = moved;
        }
}

void pins_add_page(struct pins *pins, const struct pin_page *page)
{
    uint32_t site[PIN_SITES_MOST] = { 0 };
    uint64_t hash = page->sites;
    for (uint32_t i = 0; i < page->sites; i++)
        site[i] = page->site[i] < pins->sites ? page->site[i] : 0;
    sort_sites(site, page->sites);
    for (uint32_t i = 0; i < page->sites; i++)
        hash = (hash ^ site[i]) * UINT64_C(0x9e3779b97f4a7c15);
    uint32_t at = hash >> 32 & (SETS - 1);
    uint32_t tag = (uint32_t)hash | 1;      /* not 0, which marks an empty set */
    while (pins->tag[at] && (pins->tag[at] != tag || pins->set[pins->place[at]].sites != page->sites ||
                             memcmp(pins->set[pins->place[at]].site, site, sizeof(site)) != 0))
        at = (at + 1) & (SETS - 1);
    struct pin_set *set = &pins->set[pins->place[at]];
    if (pins->tag[at] == 0) {
        if (pins->count == SETS_MOST)
            return;
        pins->place[at] = (uint16_t)pins->count;
        pins->tag[at] = tag;
        set = &pins->set[pins->count++];
        set->sites = set->missing = page->sites;
        memcpy(set->site, site, sizeof(site));
    }
    set->held_bytes += page->held_bytes;
    set->blocks += page->blocks;
    set->block_bytes += page->block_bytes;
}

/* The site to choose next: sets that lack only it count fully, others by the number that they lack, squared. */
static uint32_t best_site(const struct pins *pins)
{
    uint32_t best = 0;
    uint64_t best_score = 0;
    for (uint32_t i = 0; i < pins->count; i++) {
        const struct pin_set *set = &pins->set[i];
        for (uint32_t s = 0; s < set->sites; s++)
            pins->score[set->site[s]] = 0;
    }
    for (uint32_t i = 0; i < pins->count; i++) {
        const struct pin_set *set = &pins->set[i];
        uint64_t part = set->missing ? set->held_bytes / (set->missing * set->missing) : 0;
        for (uint32_t s = 0; set->missing && s < set->sites; s++) {
            uint32_t site = set->site[s];
            if (pins->chosen[site])
                continue;
            pins->score[site] += part;
            if (pins->score[site] > best_score) {
                best_score = pins->score[site];
                best = site;
            }
        }
    }
    return best_score >= WORTH_BYTES ? best : NO_SITE;
}

/* Takes a site's blocks away: what that frees, into the pin. */
static void choose(struct pins *pins, uint32_t site, struct hmk_pin *pin)
{
    pins->chosen[site] = true;
    for (uint32_t i = 0; i < pins->count; i++) {
        struct pin_set *set = &pins->set[i];
        for (uint32_t s = 0; s < set->sites; s++) {
            if (set->site[s] != site || --set->missing > 0)
                continue;
            pin->gain_bytes += set->held_bytes;
            pin->blocks += set->blocks;
            pin->bytes += set->block_bytes;
        }
    }
}

/* The highest live block of a site that was not chosen ends here; 0: none. */
static uintptr_t end_of_highest(const struct pins *pins)
{
    const struct pass_map *pass = pins->top.pass;
    uintptr_t highest = 0;
    struct blockmap_block block;
    for (uint32_t i = 1; i < pass->tallies; i++)
        if (!pins->chosen[pass->tally[i].site] && pass->tally[i].top_block > highest)
            highest = pass->tally[i].top_block;
    return highest && blockmap_find((void *)(highest + 16), &block) ? highest + block.usable + 8 : 0;
}

/*
 * Without the chosen sites the top is longer.  Of what it then takes in, malloc_trim returns no pages but only the end of
 * the whole in units, so that up to one unit of what the sets and the runs there promise stays, or one more goes: by
 * how much more returns than they say.
 */
static int64_t change_at_top(const struct pins *pins)
{
    const struct pin_top *top = &pins->top;
    uintptr_t mask = sys_page_bytes() - 1, below = top->gaps ? end_of_highest(pins) : 0;
    uintptr_t chunk = below ? gaps_top_without(top->gaps, top->extent, below, top->chunk, pins->chosen) : 0;
    if (chunk == 0 || chunk >= top->chunk)
        return 0;
    uint64_t granule = top->gaps->top_granule;
    uintptr_t end = top->extent->end, first_page = (chunk + mask) & ~mask, last_page = top->chunk & ~mask;
    uint64_t promised = extents_resident_bytes(top->extent, causes_first_trimmed(top->chunk, end, granule), end);
    if (first_page < last_page)
        promised += extents_resident_bytes(top->extent, first_page, last_page);
    return (int64_t)(extents_resident_bytes(top->extent, causes_first_trimmed(chunk, end, granule), end) - promised);
}

void pins_rank_pages(struct pins *pins)
{
    int64_t cumulative = 0;
    uint64_t told = 0;
    for (uint32_t step = 0; step < STEPS; step++) {
        uint32_t site = best_site(pins);
        if (site == NO_SITE)
            return;
        struct hmk_pin *pin = &pins->pin[pins->pin_count++];
        *pin = (struct hmk_pin){ .kind = HMK_PIN_PAGES, .site = site };
        choose(pins, site, pin);
        cumulative += (int64_t)pin->gain_bytes;
        int64_t together = cumulative + change_at_top(pins);
        pin->cumulative_bytes = together > (int64_t)told ? (uint64_t)together : told;
        pin->gain_bytes = pin->cumulative_bytes - told;
        told = pin->cumulative_bytes;
    }
}

/* ---- top ------------------------------------------------------------------------------------------ */

/* Rung i is made of what lies above the topmost block of the site that comes next. */
struct ladder {
    const struct extent *extent;
    struct hmk_pin rung[RUNGS];
    uintptr_t above[RUNGS];     /* chunk address of that block; 0: the start of the heap */
    uint64_t trimmed[RUNGS];    /* of the gain, what malloc_trim gives back anyway */
    uint32_t rungs;
    uintptr_t at;               /* end of the last block seen */
};

static void visit_pinning(uintptr_t block, const struct blockmap_extent *found, void *context)
{
    struct ladder *ladder = context;
    uintptr_t chunk = block - 16;
    uintptr_t page_bytes = sys_page_bytes();
    uint32_t i = 0;
    while (i < ladder->rungs && chunk <= ladder->above[i])
        i++;
    if (i == ladder->rungs || chunk + found->chunk > ladder->extent->end) {
        ladder->at = chunk + found->chunk;
        return;
    }
    struct hmk_pin *rung = &ladder->rung[i];
    if (chunk > ladder->at) {
        rung->gain_bytes += extents_resident_bytes(ladder->extent, ladder->at, chunk);
        uintptr_t first = (ladder->at + 48 + page_bytes - 1) & ~(page_bytes - 1), last = chunk & ~(page_bytes - 1);
        if (first < last)
            ladder->trimmed[i] += extents_resident_bytes(ladder->extent, first, last);
    }
    rung->blocks++;
    rung->bytes += found->requested;
    rung->address = block;
    rung->largest_bytes = found->chunk;
    ladder->at = chunk + found->chunk;
}

/* The sites whose topmost blocks are highest, in that order; how many.  One more than there are rungs. */
static uint32_t highest_sites(const struct pass_map *pass, const struct tally *highest[RUNGS + 1])
{
    uint32_t count = 0;
    for (uint32_t i = 1; i < pass->tallies; i++) {
        const struct tally *tally = &pass->tally[i];
        if (tally->top_block == 0 || (count == RUNGS + 1 && tally->top_block < highest[RUNGS]->top_block))
            continue;
        uint32_t at = count < RUNGS + 1 ? count++ : RUNGS;
        for (; at > 0 && highest[at - 1]->top_block < tally->top_block; at--)
            highest[at] = highest[at - 1];
        highest[at] = tally;
    }
    return count;
}

static void add_cached_top(struct pins *pins, const struct extent *extent, const struct gaps *gaps)
{
    const struct gap *wall = &gaps->last_wall;
    if (wall->to == 0)
        return;
    uint64_t gain = extents_resident_bytes(extent, wall->from, wall->to);
    if (gain < WORTH_BYTES)
        return;
    pins->pin[pins->pin_count++] = (struct hmk_pin){
        .kind = HMK_PIN_TOP_CACHED,
        .flags = HMK_PIN_RETURNABLE | (gaps->sampled ? HMK_PIN_UNSAMPLED : 0),
        .site = gaps->sampled ? HMK_SITE_NONE : blockmap_word(wall->to + 16) & BLOCKMAP_SITE_MASK,
        .blocks = 1,
        .bytes = wall->after - 8,
        .gain_bytes = gain,
        .cumulative_bytes = gain,
        .address = wall->to + 16,
        .largest_bytes = wall->after,
    };
}

void pins_rank_top(struct pins *pins, const struct pass_map *pass, struct extent *extent, struct gaps *gaps)
{
    if (!gaps->rejected && gaps->top && gaps->top_granule > sys_page_bytes())
        pins->top = (struct pin_top){ gaps, pass, extent, gaps->top };
    const struct tally *highest[RUNGS + 1];
    uint32_t count = highest_sites(pass, highest);
    struct ladder ladder = { .extent = extent, .rungs = count < RUNGS ? count : RUNGS };
    add_cached_top(pins, extent, gaps);
    for (uint32_t i = 0; i < ladder.rungs; i++) {
        ladder.rung[i] = (struct hmk_pin){ .kind = HMK_PIN_TOP, .site = highest[i]->site };
        ladder.above[i] = i + 1 < count ? highest[i + 1]->top_block : 0;
    }
    if (ladder.rungs == 0)
        return;
    uintptr_t from = ladder.above[ladder.rungs - 1];
    if (from == 0)
        from = extent->start;
    ladder.at = from;   /* the block there may be gone since the scan: never measure from below the extent */
    blockmap_each_live_in(from + 16, extent->end, visit_pinning, &ladder);
    uint64_t cumulative = 0, cached_largest = gaps->tcache_key ? TCACHE_LARGEST : FASTBIN_LARGEST;
    for (uint32_t i = 0; i < ladder.rungs; i++) {
        struct hmk_pin *rung = &ladder.rung[i];
        cumulative += rung->gain_bytes;
        rung->cumulative_bytes = cumulative;
        if (rung->largest_bytes > cached_largest)
            rung->flags |= HMK_PIN_RETURNS_ITSELF;
        if (ladder.trimmed[i] > rung->gain_bytes / 2)
            rung->flags |= HMK_PIN_RETURNABLE;
        if (cumulative >= WORTH_BYTES)
            pins->pin[pins->pin_count++] = *rung;
    }
}

/* ---- top, in sampled mode ------------------------------------------------------------------------- */

static void visit_wall(uintptr_t block, const struct blockmap_extent *found, void *context)
{
    struct hmk_pin *rung = context;
    rung->site = found->site;
    rung->blocks++;
    rung->bytes += found->requested;
    rung->address = block;
    rung->largest_bytes = found->chunk;
}

static struct hmk_pin rung_of(const struct extent *extent, const struct gaps *gaps, const struct gaps_wall *wall,
                              uintptr_t below)
{
    struct hmk_pin rung = { .kind = HMK_PIN_TOP, .site = HMK_SITE_NONE };
    uintptr_t page_bytes = sys_page_bytes();
    uintptr_t first = (below + 48 + page_bytes - 1) & ~(page_bytes - 1), last = wall->from & ~(page_bytes - 1);
    blockmap_each_live_in(wall->from + 16, wall->to, visit_wall, &rung);
    if (wall->others && wall->last_other + 16 > rung.address) {
        rung.address = wall->last_other + 16;
        rung.largest_bytes = wall->last_other_bytes;
    }
    rung.blocks += wall->others;
    rung.bytes += wall->other_bytes;
    rung.gain_bytes = extents_resident_bytes(extent, below, wall->from) + wall->free_bytes;
    if (wall->others)
        rung.flags |= HMK_PIN_UNSAMPLED;
    if (rung.largest_bytes > (gaps->tcache_key ? TCACHE_LARGEST : FASTBIN_LARGEST))
        rung.flags |= HMK_PIN_RETURNS_ITSELF;
    if (first < last && extents_resident_bytes(extent, first, last) > rung.gain_bytes / 2)
        rung.flags |= HMK_PIN_RETURNABLE;
    return rung;
}

/* Of the lowest wall it is not known what lies below. */
void pins_rank_walls(struct pins *pins, const struct extent *extent, const struct gaps *gaps)
{
    uint64_t cumulative = 0;
    add_cached_top(pins, extent, gaps);
    for (uint64_t i = gaps->walls; i > 1 && gaps->walls - i < RUNGS; i--) {
        const struct gaps_wall *wall = &gaps->wall[(i - 1) % GAPS_WALLS];
        struct hmk_pin rung = rung_of(extent, gaps, wall, gaps->wall[(i - 2) % GAPS_WALLS].to);
        cumulative += rung.gain_bytes;
        rung.cumulative_bytes = cumulative;
        if (cumulative >= WORTH_BYTES)
            pins->pin[pins->pin_count++] = rung;
    }
}
