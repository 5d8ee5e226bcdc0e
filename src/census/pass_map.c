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

/* A live block, or its part on the current page. */
struct page_part {
    uint32_t site;
    uint32_t bytes;             /* of its chunk */
    uint64_t requested;         /* of the block if it starts here, else 0 */
    uintptr_t start;            /* of the chunk; 0: on a page before */
};

/* A site's live blocks on the current page. */
struct page_site {
    uint32_t site;
    uint32_t live_bytes;
};

/* A run of freed cells, or its part on the current page. */
struct page_run {
    uint32_t value;
    uint32_t bytes;
};

struct pass_map_page {
    uintptr_t start;            /* 0: none */
    uint32_t parts, runs;
    /* Of the parts, as far as they differ from what the list says: blocks that reach in or out. */
    uint64_t requested_elsewhere;
    /* Summed up when the walk leaves the page. */
    uint32_t live_bytes, sites;
    /* The block that reaches in from the page before. */
    uintptr_t spill_end;        /* 0: none */
    uint64_t spill_bytes;       /* requested */
    struct page_part *part;
    struct page_run *run;
    struct page_site *site;     /* of the parts; listed when the walk leaves the page */
};

struct scan {
    struct pass_map *pass;
    struct pass_map_page *page;
    struct extent *extent;
    struct gaps *gaps;
    size_t page_bytes;
    unsigned page_shift;
    bool is_main;
    bool in_pieces;             /* every run is told to `gaps` */
    uintptr_t at;               /* everything below is told */
    uint32_t run_value;         /* of the cells from `at` on */
    uintptr_t block_start, block_end;   /* of the last live block that was not a small one */
    uintptr_t counted_end;      /* of a block that was counted with a pinned page and reaches beyond it */
    struct gap gap;
};

#define NO_RUN 0xffffffffu

/* left x live is below 2^24 on a page of 4 KiB, so that the product with an inverse is exact. */
static bool make_inverses(struct pass_map *pass, struct scratch *scratch)
{
    if (sys_page_bytes() > BLOCKMAP_PAGE_BYTES)
        return true;
    pass->inverse = scratch_alloc(scratch, (BLOCKMAP_PAGE_BYTES / 16 + 1) * sizeof(pass->inverse[0]));
    for (uint32_t i = 1; pass->inverse && i <= BLOCKMAP_PAGE_BYTES / 16; i++)
        pass->inverse[i] = (UINT64_C(1) << 40) / (16 * i) + 1;
    return pass->inverse != NULL;
}

bool pass_map_init(struct pass_map *pass, uint32_t sites, struct pins *pins, struct scratch *scratch)
{
    memset(pass, 0, sizeof(*pass));
    if (sites == 0 || sites > HMK_SITE_LIMIT)
        sites = HMK_SITE_LIMIT;
    pass->sites = sites;
    pass->pins = pins;
    pass->tally = scratch_alloc(scratch, (sites + 1) * sizeof(struct tally));
    pass->tallies = 1;
    pass->of_site = scratch_alloc(scratch, sites * sizeof(struct tally_of));
    pass->page = scratch_alloc(scratch, sizeof(struct pass_map_page));
    if (!pass->tally || !pass->of_site || !pass->page)
        return false;
    /* Every cell of a page may have a site of its own. */
    size_t most = sys_page_bytes() / 16 + 2;
    pass->page->part = scratch_alloc(scratch, most * sizeof(struct page_part));
    pass->page->run = scratch_alloc(scratch, most * sizeof(struct page_run));
    pass->page->site = scratch_alloc(scratch, most * sizeof(struct page_site));
    return pass->page->part && pass->page->run && pass->page->site && make_inverses(pass, scratch);
}

/* ---- pages ---------------------------------------------------------------------------------------- */

static inline void page_run(struct scan *scan, uint32_t bytes, uint32_t value)
{
    struct pass_map_page *page = scan->page;
    page->run[page->runs++] = (struct page_run){ value, bytes };
}

static bool is_resident(const struct scan *scan, uintptr_t address)
{
    return scan->extent->resident[(address - scan->extent->start) >> scan->page_shift];
}

/* The page to the set of pages that the same live sites hold; a block on two such pages is counted once. */
static void charge_set(struct scan *scan, uint64_t held)
{
    struct pass_map_page *page = scan->page;
    struct pin_page pin = { .held_bytes = held };
    if (page->sites > PIN_SITES_MOST)
        return;
    if (page->spill_end && page->spill_end != scan->counted_end) {
        pin.blocks = 1;
        pin.block_bytes = page->spill_bytes;
    }
    for (uint32_t i = 0; i < page->sites; i++)
        pin.site[pin.sites++] = page->site[i].site;
    for (uint32_t i = 0; i < page->parts; i++) {
        pin.blocks += page->part[i].start != 0;
        pin.block_bytes += page->part[i].requested;
    }
    uintptr_t page_end = page->start + scan->page_bytes;
    if (scan->block_start < page_end && scan->block_end > page_end)
        scan->counted_end = scan->block_end;
    pins_add_page(scan->pass->pins, &pin);
}

/* In the order in which they first come. */
static void list_sites(struct scan *scan)
{
    struct pass_map_page *page = scan->page;
    struct tally_of *of_site = scan->pass->of_site;
    uint32_t sites = 0;
    for (uint32_t i = 0; i < page->parts; i++) {
        uint32_t site = page->part[i].site;
        uint32_t slot = of_site[site].slot;
        if (slot >= sites || page->site[slot].site != site) {
            slot = sites++;
            of_site[site].slot = (uint16_t)slot;
            page->site[slot] = (struct page_site){ .site = site };
        }
        page->site[slot].live_bytes += page->part[i].bytes;
    }
    page->sites = sites;
}

static inline uint32_t share_of(const struct pass_map *pass, uint32_t left, uint32_t live, uint32_t live_left)
{
    return pass->inverse ? (uint32_t)(left * live * pass->inverse[live_left / 16] >> 40) : left * live / live_left;
}

/* Free bytes beside live ones: each live site's share, by its bytes; all of them when no other site is there. */
static void charge_pins(struct scan *scan, uint32_t held)
{
    struct pass_map_page *page = scan->page;
    uint32_t left = held, live_left = page->live_bytes;
    list_sites(scan);
    for (uint32_t i = 0; i < page->sites; i++) {
        uint32_t live = page->site[i].live_bytes;
        uint32_t share = share_of(scan->pass, left, live, live_left);
        struct tally *tally = pass_map_tally(scan->pass, page->site[i].site);
        tally->share_bytes += share;
        if (live == page->live_bytes)
            tally->sole_bytes += held;
        left -= share;
        live_left -= live;
    }
    charge_set(scan, held);
}

/* Sums up the parts; the blocks that start on the page go to their sites.  Requested bytes on the page. */
static uint64_t charge_blocks(struct scan *scan)
{
    struct pass_map *pass = scan->pass;
    struct pass_map_page *page = scan->page;
    uint64_t blocks = 0, requested = 0;
    uint32_t live_bytes = 0;
    for (uint32_t i = 0; i < page->parts; i++) {
        struct page_part *part = &page->part[i];
        if (__builtin_expect(part->site >= pass->sites, 0))
            part->site = 0;
        struct tally *tally = pass_map_tally(pass, part->site);
        live_bytes += part->bytes;
        blocks += part->start != 0;
        requested += part->requested;
        tally->live_blocks += part->start != 0;
        tally->live_bytes += part->requested;
        if (part->start && scan->is_main)
            tally->top_block = part->start;
    }
    page->live_bytes = live_bytes;
    pass->live_blocks += blocks;
    pass->live_bytes += requested;
    pass->live_chunk_bytes += live_bytes;
    return requested - page->requested_elsewhere;
}

/* The free bytes of a resident page, to their last owners. */
static void charge_runs(struct scan *scan)
{
    struct pass_map *pass = scan->pass;
    struct pass_map_page *page = scan->page;
    uint32_t of_page = page->live_bytes == 0 ? UINT32_MAX : 0;
    for (uint32_t i = 0; i < page->runs; i++) {
        uint32_t value = page->run[i].value, bytes = page->run[i].bytes;
        struct tally *tally = pass_map_tally(pass, value & BLOCKMAP_SITE_MASK);
        tally->held_bytes += bytes;
        tally->held_page_bytes += bytes & of_page;
        pass->large_held_bytes += value & BLOCKMAP_LARGE ? bytes : 0;
    }
}

static void leave_page(struct scan *scan)
{
    struct pass_map *pass = scan->pass;
    struct pass_map_page *page = scan->page;
    uint64_t requested = charge_blocks(scan);
    if (page->start && is_resident(scan, page->start)) {
        uint32_t held = (uint32_t)scan->page_bytes - page->live_bytes;
        pass->live_resident_bytes += requested;
        pass->slack_resident_bytes += page->live_bytes - requested;
        pass->held_bytes += held;
        if (page->live_bytes == 0)
            pass->held_page_bytes += held;
        charge_runs(scan);
        if (held && page->live_bytes)
            charge_pins(scan, held);
    } else {
        pass->nonresident_live_bytes += requested;
    }
    page->start = 0;
    page->parts = page->runs = 0;
    page->requested_elsewhere = 0;
    page->spill_end = 0;
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
    size_t first = (from - scan->extent->start) >> scan->page_shift;
    uint64_t bytes = residency_sum(scan->extent->resident + first, (to - from) >> scan->page_shift) * scan->page_bytes;
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
    page_run(scan, (uint32_t)(to - from), value);
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

static void start_block(struct scan *scan, uintptr_t chunk, uint64_t requested, uint32_t site)
{
    struct tally *tally = pass_map_tally(scan->pass, site);
    tally->live_bytes += requested;
    tally->live_blocks++;
    if (scan->is_main)
        tally->top_block = chunk;
    scan->pass->live_bytes += requested;
    scan->pass->live_blocks++;
}

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
            if (from == start)
                start_block(scan, start, slack - start, site);
            end = slack & ~mask;
            pass->live_chunk_bytes += end - from;
            size_t first = (from - scan->extent->start) >> scan->page_shift;
            uint64_t resident = residency_sum(scan->extent->resident + first, (end - from) >> scan->page_shift) *
                scan->page_bytes;
            pass->live_resident_bytes += resident;
            pass->nonresident_live_bytes += end - from - resident;
        } else {
            if (end > to)
                end = to;
            enter_page(scan, from);
            uint64_t here = slack > from ? (slack < end ? slack : end) - from : 0;
            struct page_part *part = &scan->page->part[scan->page->parts++];
            *part = (struct page_part){ .site = site, .bytes = (uint32_t)(end - from) };
            if (from == start) {
                part->start = start;
                part->requested = slack - start;
            } else {
                scan->page->spill_end = to;
                scan->page->spill_bytes = slack - start;
            }
            scan->page->requested_elsewhere += part->requested - here;
        }
        from = end;
    }
}

static inline void end_gap(struct scan *scan, uintptr_t to, uint64_t after)
{
    if (to > scan->gap.from) {
        scan->gap.to = to;
        scan->gap.after = after;
        gaps_add(scan->gaps, &scan->gap);
    }
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
    uintptr_t slack = chunk + block->requested < end ? chunk + block->requested : end;
    uint64_t cut_off = block->requested - (slack - chunk);
    pass_map_tally(scan->pass, block->site)->live_bytes += cut_off;
    scan->pass->live_bytes += cut_off;
    scan->pass->live_chunk_bytes += block->chunk - (end - chunk);
    scan->block_start = chunk;
    scan->block_end = end;
    live_range(scan, chunk, end, slack, block->site);
    scan->at = end;
    scan->run_value = NO_RUN;
    scan->gap = (struct gap){ .from = end, .before = block->chunk, .freed = true };
}

/* ---- cells ---------------------------------------------------------------------------------------- */

/*
 * What the common cases need of the scan and its page, in registers: a run of freed cells that ends on the page where
 * it began, and a small live block within that page.  Everything else is done by the functions above.
 */
struct near {
    uintptr_t at;
    uintptr_t limit;            /* end of the page; 0: nothing is a common case */
    uint32_t run_value;
    uint32_t gap_values;        /* all those of the gap, anded */
    uintptr_t gap_from;
    uint64_t gap_before;
    struct page_part *part;     /* the next ones */
    struct page_run *run;
};

#define NEAR static inline __attribute__((always_inline))

NEAR struct near come_near(const struct scan *scan)
{
    const struct pass_map_page *page = scan->page;
    return (struct near){
        .at = scan->at, .limit = page->start && !scan->in_pieces ? page->start + scan->page_bytes : 0,
        .run_value = scan->run_value, .gap_values = scan->gap.freed ? UINT32_MAX : 0, .gap_from = scan->gap.from,
        .gap_before = scan->gap.before, .part = page->part + page->parts, .run = page->run + page->runs,
    };
}

NEAR void go_far(struct scan *scan, const struct near *near)
{
    struct pass_map_page *page = scan->page;
    scan->at = near->at;
    scan->run_value = near->run_value;
    scan->gap.freed = near->gap_values & BLOCKMAP_PAINTED;
    scan->gap.from = near->gap_from;
    scan->gap.before = near->gap_before;
    page->parts = (uint32_t)(near->part - page->part);
    page->runs = (uint32_t)(near->run - page->run);
}

NEAR void end_run_near(struct near *near, uintptr_t to)
{
    uint32_t value = near->run_value == NO_RUN ? 0 : near->run_value;
    *near->run++ = (struct page_run){ value, (uint32_t)(to - near->at) };
    near->at = to;
}

NEAR bool live_block_near(struct gaps *gaps, struct near *near, uintptr_t chunk, uint32_t word, size_t bytes)
{
    if (chunk < near->at || chunk + bytes > near->limit)
        return false;
    if (chunk > near->at)
        end_run_near(near, chunk);
    if (chunk > near->gap_from) {
        gaps_add(gaps, &(struct gap){ near->gap_from, chunk, near->gap_before, bytes,
                                      near->gap_values & BLOCKMAP_PAINTED });
        near->gap_values = UINT32_MAX;
    }
    *near->part++ = (struct page_part){ word & BLOCKMAP_SITE_MASK, (uint32_t)bytes,
                                        word >> BLOCKMAP_CODE_SHIFT & BLOCKMAP_CODE_MASK, chunk };
    near->run_value = NO_RUN;
    near->at = near->gap_from = chunk + bytes;
    near->gap_before = bytes;
    return true;
}

NEAR void next_run(struct scan *scan, struct near *near, uintptr_t boundary, uint32_t value)
{
    if (value == near->run_value)
        return;
    if (near->run_value != NO_RUN && boundary > near->at) {
        if (boundary <= near->limit) {
            end_run_near(near, boundary);
        } else {
            go_far(scan, near);
            end_run(scan, boundary);
            *near = come_near(scan);
        }
    }
    near->run_value = value;
    near->gap_values &= value;
    /* A freed chunk most likely starts here, whose header the gap's chain will need. */
    if (scan->gaps->fetch)
        __builtin_prefetch((const void *)boundary);
}

/* The number of cells from `at` on, below `limit`, that have the same value. */
static inline size_t same_cells(const uint32_t *cell, size_t at, size_t limit, uint32_t value)
{
    typedef uint32_t four_cells __attribute__((vector_size(16), aligned(4), may_alias));
    typedef uint64_t two_words __attribute__((vector_size(16), may_alias));
    four_cells wanted = { value, value, value, value };
    while (at + 8 <= limit && !BLOCKMAP_BY_CELL) {
        four_cells differ = (*(const four_cells *)(cell + at) ^ wanted) | (*(const four_cells *)(cell + at + 4) ^ wanted);
        two_words words = (two_words)differ;
        if (words[0] | words[1])
            break;
        at += 8;
    }
    while (at < limit && __atomic_load_n(&cell[at], __ATOMIC_RELAXED) == value)
        at++;
    return at;
}

/* Addresses here are of blocks, 16 bytes above those of chunks under glibc.  Scans the cells from `at` up to the end of their
 * page; returns the address at which to go on. */
NEAR uintptr_t scan_cells(struct scan *scan, const struct blockmap_leaf *leaf, uintptr_t at, bool glibc)
{
    unsigned shift = glibc ? 5 : 4;
    uintptr_t header = glibc ? 16 : 0;
    uintptr_t page_end = (at | (BLOCKMAP_PAGE_BYTES - 1)) + 1;
    const uint32_t *cell = &leaf->cell[blockmap_cell_index(at, shift)];
    size_t count = (page_end - at + ((uintptr_t)1 << shift) - 1) >> shift;
    uintptr_t base = at & ~(((uintptr_t)1 << shift) - 1);
    struct near near = come_near(scan);
    for (size_t i = 0; i < count;) {
        uint32_t word = __atomic_load_n(&cell[i], __ATOMIC_RELAXED);
        if (!(word & BLOCKMAP_LIVE)) {
            next_run(scan, &near, base + (i << shift), word);
            i++;
            if (i < count && __atomic_load_n(&cell[i], __ATOMIC_RELAXED) == word && ++i < count &&
                __atomic_load_n(&cell[i], __ATOMIC_RELAXED) == word)
                i = same_cells(cell, i + 1, count, word);
            continue;
        }
        uintptr_t block = base + (i << shift) + (word & BLOCKMAP_UPPER ? 16 : 0);
        size_t requested = word >> BLOCKMAP_CODE_SHIFT & BLOCKMAP_CODE_MASK;
        size_t bytes = blockmap_smallest_chunk(requested);
        if (glibc && requested < BLOCKMAP_DIRECT_LIMIT &&
            live_block_near(scan->gaps, &near, block - header, word, bytes)) {
            i = (block - base + bytes) >> shift;
            continue;
        }
        struct blockmap_extent extent;
        if (!blockmap_decode_word(block, word, &extent)) {
            next_run(scan, &near, base + (i << shift), 0);
            i++;
            continue;
        }
        go_far(scan, &near);
        live_block(scan, block - header, &extent);
        near = come_near(scan);
        uintptr_t next = near.at + header;
        if (next <= block || next >= page_end)
            return next > block ? next : page_end;
        i = (next - base) >> shift;
    }
    go_far(scan, &near);
    return page_end;
}

static void begin_run(struct scan *scan, uintptr_t boundary, uint32_t value)
{
    struct near near = come_near(scan);
    next_run(scan, &near, boundary, value);
    go_far(scan, &near);
}

static uintptr_t scan_page(struct scan *scan, const struct blockmap_leaf *leaf, uintptr_t at)
{
    uint32_t record = __atomic_load_n(&leaf->page_record[blockmap_page_index(at)], __ATOMIC_ACQUIRE);
    if (!record)
        return blockmap.foreign ? scan_cells(scan, leaf, at, false) : scan_cells(scan, leaf, at, true);
    if ((record & ~BLOCKMAP_BUSY) != scan->run_value)
        begin_run(scan, at & ~(((uintptr_t)1 << blockmap.shift) - 1), record & ~BLOCKMAP_BUSY);
    return (at | (BLOCKMAP_PAGE_BYTES - 1)) + 1;
}

void pass_map_scan(struct pass_map *pass, struct extent *extent, struct gaps *gaps)
{
    uintptr_t header = blockmap.foreign ? 0 : 16;
    size_t page_bytes = sys_page_bytes();
    struct scan scan = { .pass = pass, .page = pass->page, .extent = extent, .gaps = gaps,
                         .page_bytes = page_bytes, .page_shift = (unsigned)__builtin_ctzl(page_bytes),
                         .is_main = extent->kind == EXTENT_BREAK,
                         .in_pieces = extent->kind == EXTENT_FOREIGN, .at = extent->start, .run_value = NO_RUN,
                         .gap = { .from = extent->start } };
    uintptr_t at = extent->start + header;
    while (at < extent->end) {
        const struct blockmap_leaf *leaf = blockmap_leaf_of(at);
        if (leaf) {
            at = scan_page(&scan, leaf, at);
        } else {
            begin_run(&scan, at & ~(uintptr_t)31, 0);
            at = (at | (BLOCKMAP_LEAF_BYTES - 1)) + 1;
        }
    }
    end_run(&scan, extent->end);
    end_gap(&scan, extent->end, 0);
    leave_page(&scan);
}
