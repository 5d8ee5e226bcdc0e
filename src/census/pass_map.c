/* SPDX-License-Identifier: MIT */
/*
 * One walk from left to right.  An extent is tiled by live blocks (as glibc's chunks: from 16 bytes before the block)
 * and runs of cells with one value between them; both are cut at pages.  What a page holds is gathered until the walk
 * leaves it, then charged: its free bytes to their last owners, and, as pinned, to the sites of the live blocks there.
 */
#include "census/pass_map.h"

#include "census/blockmap.h"
#include "census/extents.h"
#include "census/gaps.h"
#include "census/pins.h"
#include "census/residency.h"
#include "census/scratch.h"
#include <string.h>
#include "freestanding/sys.h"
#include "freestanding/banned.h"

/* A site's part of the current page. */
struct page_site {
    uint32_t site;
    uint32_t live_bytes;
    uint32_t held_bytes;
    uint32_t blocks;            /* that start here */
    uint64_t block_bytes;       /* requested, of those */
};

struct pass_map_page {
    uintptr_t start;            /* 0: none */
    uint32_t live_bytes;
    uint32_t requested_bytes;   /* of those */
    uint32_t large_bytes;
    uint32_t sites;
    /* The block that reaches in from the page before. */
    uintptr_t spill_end;        /* 0: none */
    uint64_t spill_bytes;       /* requested */
    struct page_site site[];
};

struct scan {
    struct pass_map *pass;
    struct pass_map_page *page;
    struct extent *extent;
    struct gaps *gaps;
    size_t page_bytes;
    bool is_main;
    uintptr_t at;               /* everything below is told */
    uint32_t run_value;         /* of the cells from `at` on */
    uintptr_t block_start, block_end;   /* of the last live block that was not a small one */
    uintptr_t counted_end;      /* of a block that was counted with a pinned page and reaches beyond it */
    struct gap gap;
};

#define NO_RUN 0xffffffffu

bool pass_map_init(struct pass_map *pass, uint32_t sites, struct pins *pins, struct scratch *scratch)
{
    memset(pass, 0, sizeof(*pass));
    if (sites == 0 || sites > HMK_SITE_LIMIT)
        sites = HMK_SITE_LIMIT;
    pass->sites = sites;
    pass->pins = pins;
    pass->tally = scratch_alloc(scratch, sites * sizeof(struct tally));
    /* Every cell of a page may have a site of its own. */
    pass->page = scratch_alloc(scratch, sizeof(struct pass_map_page) +
                               (sys_page_bytes() / 16 + 2) * sizeof(struct page_site));
    return pass->tally && pass->page;
}

/* ---- pages ---------------------------------------------------------------------------------------- */

static inline struct page_site *page_site(struct scan *scan, uint32_t site)
{
    struct pass_map_page *page = scan->page;
    struct tally *tally = pass_map_tally(scan->pass, site);
    if (tally->page_mark != (uint32_t)scan->pass->page_count) {
        tally->page_mark = (uint32_t)scan->pass->page_count;
        tally->page_entry = page->sites++;
        page->site[tally->page_entry] = (struct page_site){ .site = site };
    }
    return &page->site[tally->page_entry];
}

static bool is_resident(const struct scan *scan, uintptr_t address)
{
    return scan->extent->resident[(address - scan->extent->start) / scan->page_bytes];
}

/* The page to the set of pages that the same live sites hold; a block on two such pages is counted once. */
static void charge_set(struct scan *scan, uint64_t held)
{
    struct pass_map_page *page = scan->page;
    struct pin_page pin = { .held_bytes = held };
    if (page->spill_end && page->spill_end != scan->counted_end) {
        pin.blocks = 1;
        pin.block_bytes = page->spill_bytes;
    }
    for (uint32_t i = 0; i < page->sites; i++) {
        if (page->site[i].live_bytes == 0)
            continue;
        if (pin.sites == PIN_SITES_MOST)
            return;
        pin.site[pin.sites++] = page->site[i].site;
        pin.blocks += page->site[i].blocks;
        pin.block_bytes += page->site[i].block_bytes;
    }
    uintptr_t page_end = page->start + scan->page_bytes;
    if (scan->block_start < page_end && scan->block_end > page_end)
        scan->counted_end = scan->block_end;
    pins_add_page(scan->pass->pins, &pin);
}

/* Free bytes beside live ones: each live site's share, by its bytes; all of them when no other site is there. */
static void charge_pins(struct scan *scan, uint32_t held)
{
    struct pass_map_page *page = scan->page;
    uint32_t left = held, live_left = page->live_bytes;
    for (uint32_t i = 0; i < page->sites; i++) {
        uint32_t live = page->site[i].live_bytes;
        if (live == 0)
            continue;
        uint32_t share = left * live / live_left;
        struct tally *tally = pass_map_tally(scan->pass, page->site[i].site);
        tally->share_bytes += share;
        if (live == page->live_bytes)
            tally->sole_bytes += held;
        left -= share;
        live_left -= live;
    }
    charge_set(scan, held);
}

static void charge_page(struct scan *scan)
{
    struct pass_map *pass = scan->pass;
    struct pass_map_page *page = scan->page;
    uint32_t held = (uint32_t)scan->page_bytes - page->live_bytes;
    if (held == 0)
        return;
    pass->held_bytes += held;
    pass->large_held_bytes += page->large_bytes;
    if (page->live_bytes == 0)
        pass->held_page_bytes += held;
    for (uint32_t i = 0; i < page->sites; i++) {
        struct tally *tally = pass_map_tally(pass, page->site[i].site);
        tally->held_bytes += page->site[i].held_bytes;
        if (page->live_bytes == 0)
            tally->held_page_bytes += page->site[i].held_bytes;
    }
    if (page->live_bytes)
        charge_pins(scan, held);
}

static void leave_page(struct scan *scan)
{
    struct pass_map *pass = scan->pass;
    struct pass_map_page *page = scan->page;
    if (page->start && is_resident(scan, page->start)) {
        pass->live_resident_bytes += page->requested_bytes;
        pass->slack_resident_bytes += page->live_bytes - page->requested_bytes;
        charge_page(scan);
    } else {
        pass->nonresident_live_bytes += page->requested_bytes;
    }
    page->start = 0;
    page->live_bytes = 0;
    page->requested_bytes = 0;
    page->large_bytes = 0;
    page->spill_end = 0;
    page->sites = 0;
    scan->pass->page_count++;
}

static inline void enter_page(struct scan *scan, uintptr_t address)
{
    uintptr_t start = address & ~(uintptr_t)(scan->page_bytes - 1);
    if (scan->page->start != start) {
        leave_page(scan);
        scan->page->start = start;
    }
}

/* ---- runs of freed cells -------------------------------------------------------------------------- */

static void hold_whole_pages(struct scan *scan, uintptr_t from, uintptr_t to, uint32_t value)
{
    size_t first = (from - scan->extent->start) / scan->page_bytes;
    uint64_t bytes = residency_sum(scan->extent->resident + first, (to - from) / scan->page_bytes) * scan->page_bytes;
    struct tally *tally = pass_map_tally(scan->pass, value & BLOCKMAP_SITE_MASK);
    tally->held_bytes += bytes;
    tally->held_page_bytes += bytes;
    scan->pass->held_bytes += bytes;
    scan->pass->held_page_bytes += bytes;
    if (value & BLOCKMAP_LARGE)
        scan->pass->large_held_bytes += bytes;
}

static void hold_part(struct scan *scan, uintptr_t from, uintptr_t to, uint32_t value)
{
    enter_page(scan, from);
    page_site(scan, value & BLOCKMAP_SITE_MASK)->held_bytes += (uint32_t)(to - from);
    if (value & BLOCKMAP_LARGE)
        scan->page->large_bytes += (uint32_t)(to - from);
}

/* Ends the run of freed cells at `to`. */
static void end_run(struct scan *scan, uintptr_t to)
{
    uintptr_t from = scan->at;
    uint32_t value = scan->run_value == NO_RUN ? 0 : scan->run_value;
    uintptr_t mask = scan->page_bytes - 1;
    if (to <= from)
        return;
    scan->at = to;
    if (scan->extent->kind == EXTENT_FOREIGN)
        gaps_add_piece(scan->gaps, from, to, value != 0);
    if (from & mask || to - from <= mask) {
        uintptr_t end = (from | mask) + 1;
        hold_part(scan, from, end < to ? end : to, value);
        from = end;
    }
    if (from >= to)
        return;
    uintptr_t whole_end = to & ~mask;
    if (from < whole_end) {
        leave_page(scan);
        hold_whole_pages(scan, from, whole_end, value);
    }
    if (whole_end < to)
        hold_part(scan, whole_end, to, value);
}

/* ---- live blocks ---------------------------------------------------------------------------------- */

/* Chunk bytes [from, to) of a live block, of which those below `slack` were requested. */
static void live_range(struct scan *scan, uintptr_t from, uintptr_t to, uintptr_t slack, uint32_t site)
{
    struct pass_map *pass = scan->pass;
    uintptr_t start = from;
    uintptr_t mask = scan->page_bytes - 1;
    while (from < to) {
        uintptr_t end = (from | mask) + 1;
        if (!(from & mask) && slack - from > mask && slack > from) {    /* whole pages of requested bytes */
            leave_page(scan);
            end = slack & ~mask;
            size_t first = (from - scan->extent->start) / scan->page_bytes;
            uint64_t resident = residency_sum(scan->extent->resident + first, (end - from) / scan->page_bytes) *
                scan->page_bytes;
            pass->live_resident_bytes += resident;
            pass->nonresident_live_bytes += end - from - resident;
        } else {
            if (end > to)
                end = to;
            enter_page(scan, from);
            struct page_site *part = page_site(scan, site);
            part->live_bytes += (uint32_t)(end - from);
            scan->page->live_bytes += (uint32_t)(end - from);
            if (from == start) {
                part->blocks++;
                part->block_bytes += slack - start;
            } else {
                scan->page->spill_end = to;
                scan->page->spill_bytes = slack - start;
            }
            if (slack > from)
                scan->page->requested_bytes += (uint32_t)((slack < end ? slack : end) - from);
        }
        from = end;
    }
}

static void end_gap(struct scan *scan, uintptr_t to, uint64_t after)
{
    if (to > scan->gap.from) {
        scan->gap.to = to;
        scan->gap.after = after;
        gaps_add(scan->gaps, &scan->gap);
    }
}

static inline void tally_block(struct scan *scan, uintptr_t chunk, uint32_t site, size_t requested, size_t bytes)
{
    struct pass_map *pass = scan->pass;
    struct tally *tally = pass_map_tally(pass, site);
    tally->live_bytes += requested;
    tally->live_blocks++;
    if (scan->is_main)
        tally->top_block = chunk;
    pass->live_bytes += requested;
    pass->live_blocks++;
    pass->live_chunk_bytes += bytes;
}

/* The slack is what follows the requested bytes; the header before them counts as slack too. */
static void live_block(struct scan *scan, uintptr_t chunk, const struct blockmap_extent *block)
{
    uintptr_t end = chunk + block->chunk;
    uintptr_t limit = scan->extent->end;
    if (chunk < scan->at || end > limit) {
        scan->pass->odd_blocks++;
        if (chunk < scan->at)
            chunk = scan->at;
        if (end > limit)
            end = limit;
        if (end <= chunk)
            return;
    }
    end_run(scan, chunk);
    end_gap(scan, chunk, block->chunk);
    tally_block(scan, chunk, block->site, block->requested, block->chunk);
    uintptr_t slack = chunk + block->requested < end ? chunk + block->requested : end;
    scan->block_start = chunk;
    scan->block_end = end;
    live_range(scan, chunk, end, slack, block->site);
    scan->at = end;
    scan->run_value = NO_RUN;
    scan->gap = (struct gap){ .from = end, .before = block->chunk };
}

/* The common case: a small block right behind another one, on the current page.  False: not that. */
static inline bool live_block_quickly(struct scan *scan, uintptr_t chunk, uint32_t site, size_t requested, size_t bytes)
{
    struct pass_map_page *page = scan->page;
    if (chunk != scan->at || chunk - page->start > scan->page_bytes - bytes || scan->run_value != NO_RUN)
        return false;
    tally_block(scan, chunk, site, requested, bytes);
    struct page_site *part = page_site(scan, site);
    part->live_bytes += (uint32_t)bytes;
    part->blocks++;
    part->block_bytes += requested;
    page->live_bytes += (uint32_t)bytes;
    page->requested_bytes += (uint32_t)requested;
    scan->at = chunk + bytes;
    scan->gap.from = chunk + bytes;
    scan->gap.before = bytes;
    return true;
}

/* ---- cells ---------------------------------------------------------------------------------------- */

/* The number of cells from `at` on, below `limit`, that have the same value. */
static inline size_t same_cells(const uint32_t *cell, size_t limit, uint32_t value)
{
    typedef uint32_t four_cells __attribute__((vector_size(16), aligned(4), may_alias));
    four_cells wanted = { value, value, value, value };
    size_t at = 0;
    while (at + 8 <= limit) {
        four_cells differ = (*(const four_cells *)(cell + at) ^ wanted) | (*(const four_cells *)(cell + at + 4) ^ wanted);
        typedef uint64_t two_words __attribute__((vector_size(16), may_alias));
        two_words words = (two_words)differ;
        if (words[0] | words[1])
            break;
        at += 8;
    }
    while (at < limit && cell[at] == value)
        at++;
    return at;
}

static inline void next_run(struct scan *scan, uintptr_t boundary, uint32_t value)
{
    if (value == scan->run_value)
        return;
    if (scan->run_value != NO_RUN)
        end_run(scan, boundary);
    scan->run_value = value;
}

/* Addresses here are of blocks, 16 bytes above those of chunks under glibc.  Scans the cells from `at` up to the end of their
 * page; returns the address at which to go on. */
static uintptr_t scan_page(struct scan *scan, const struct blockmap_leaf *leaf, uintptr_t at)
{
    unsigned shift = blockmap.shift;
    uintptr_t header = blockmap.foreign ? 0 : 16;
    uintptr_t page_end = (at | (BLOCKMAP_PAGE_BYTES - 1)) + 1;
    uint32_t record = __atomic_load_n(&leaf->page_record[blockmap_page_index(at)], __ATOMIC_ACQUIRE);
    if (record) {
        next_run(scan, at & ~(((uintptr_t)1 << shift) - 1), record & ~BLOCKMAP_BUSY);
        return page_end;
    }
    const uint32_t *cell = &leaf->cell[blockmap_cell_index(at, shift)];
    size_t count = (page_end - at + ((uintptr_t)1 << shift) - 1) >> shift;
    uintptr_t base = at & ~(((uintptr_t)1 << shift) - 1);
    for (size_t i = 0; i < count;) {
        uint32_t word = __atomic_load_n(&cell[i], __ATOMIC_RELAXED);
        uintptr_t block = base + (i << shift);
        if (word & BLOCKMAP_LIVE) {
            struct blockmap_extent extent;
            size_t requested = word >> BLOCKMAP_CODE_SHIFT & BLOCKMAP_CODE_MASK;
            block += word & BLOCKMAP_UPPER ? 16 : 0;
            if (requested < BLOCKMAP_DIRECT_LIMIT && header) {
                size_t bytes = blockmap_smallest_chunk(requested);
                if (live_block_quickly(scan, block - header, word & BLOCKMAP_SITE_MASK, requested, bytes)) {
                    i = (block + bytes - base) >> shift;
                    continue;
                }
            }
            if (blockmap_decode_word(block, word, &extent)) {
                live_block(scan, block - header, &extent);
                uintptr_t next = scan->at + header;
                if (next <= block || next >= page_end)
                    return next > block ? next : page_end;
                i = (next - base) >> shift;
                continue;
            }
            word = 0;
        }
        next_run(scan, block & ~(((uintptr_t)1 << shift) - 1), word);
        i += word ? same_cells(cell + i, count - i, word) : 1;
    }
    return page_end;
}

void pass_map_scan(struct pass_map *pass, struct extent *extent, struct gaps *gaps)
{
    uintptr_t header = blockmap.foreign ? 0 : 16;
    struct scan scan = { .pass = pass, .page = pass->page, .extent = extent, .gaps = gaps,
                         .page_bytes = sys_page_bytes(), .is_main = extent->kind == EXTENT_BREAK, .at = extent->start, .run_value = NO_RUN,
                         .gap = { .from = extent->start } };
    pass->page_count++;
    uintptr_t at = extent->start + header;
    while (at < extent->end) {
        const struct blockmap_leaf *leaf = blockmap_leaf_of(at);
        if (leaf) {
            at = scan_page(&scan, leaf, at);
        } else {
            next_run(&scan, at & ~(uintptr_t)31, 0);
            at = (at | (BLOCKMAP_LEAF_BYTES - 1)) + 1;
        }
    }
    end_run(&scan, extent->end);
    end_gap(&scan, extent->end, 0);
    leave_page(&scan);
}
