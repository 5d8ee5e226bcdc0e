/* SPDX-License-Identifier: MIT */
/*
 * The cold half of the block map; the header has the layout and the hot paths.
 *
 * Who may write what, and why no lock is needed:
 * - The cells of a block's range belong to the thread that got the block from the allocator (or is about to give
 *   it back).  The allocator's own synchronisation orders one owner's writes before the next one's.
 * - page_record[p] is set by an owner of all of that page's cells.  It is cleared by whoever first needs a cell of
 *   the page; two owners of different parts may need that at once, so it is taken by compare-and-swap (BUSY), the
 *   cells are filled, and 0 is released.  Nobody stores a cell of a page before having seen 0 there.
 * - Between these steps nothing waits without bound: who cannot have a page record in time leaves the block unknown.
 */
#include "census/blockmap.h"

#include <string.h>
#include <sys/mman.h>
#include "census/residency.h"
#include "freestanding/sys.h"
#include "freestanding/banned.h"

#define PAGE BLOCKMAP_PAGE_BYTES
#define CODE_CHUNK_48 990u
#define CODE_SHORT 1021u
#define CODE_WIDE 1022u
#define CODE_NEXT 1023u
#define CELLS_MOST 5u                   /* of the record of a live block */
#define MMAPPED_BIT 2u                  /* of a chunk's size word, in glibc and in our wide record */
#define SPINS 8192                      /* and naps, of some 10 ms together: the other thread may wait for a processor */
#define RECORDS_OF_A_BIT 1024u          /* of blockmap_leaf.busy */

struct blockmap blockmap;      /* zero, so that its 16 MiB take no space in the library file */
static uint32_t map_failures;

void blockmap_init(bool glibc)
{
    blockmap.foreign = !glibc;
    blockmap.quick_leaves = glibc ? sizeof blockmap.leaf / sizeof *blockmap.leaf : 0;
    blockmap.shift = glibc ? 5 : 4;
}

static size_t leaf_cells(void)
{
    return (size_t)(BLOCKMAP_LEAF_BYTES >> blockmap.shift);
}

static size_t leaf_bytes(void)
{
    return sizeof(struct blockmap_leaf) + leaf_cells() * sizeof(uint32_t);
}

/* Without memory the map stays dark for that part of the heap; asking again for every block would cost the host a system
 * call each. */
static struct blockmap_leaf *leaf_make(uintptr_t address)
{
    if (address >> BLOCKMAP_ADDRESS_BITS)
        return NULL;
    struct blockmap_leaf *found = blockmap_leaf_of(address);
    if (found)
        return found;
    uint32_t failures = __atomic_load_n(&map_failures, __ATOMIC_RELAXED);
    if (failures && __atomic_fetch_add(&map_failures, 1, __ATOMIC_RELAXED) % 1024 != 0)
        return NULL;
    struct blockmap_leaf *leaf = sys_map_anonymous(leaf_bytes());
    if (!leaf) {
        __atomic_fetch_add(&map_failures, 1, __ATOMIC_RELAXED);
        return NULL;
    }
    /* A huge page here would be the shadow of 16 MiB of heap, most of it perhaps unused. */
    sys_advise(leaf, leaf_bytes(), MADV_NOHUGEPAGE);
    leaf->base = address & ~(uintptr_t)(BLOCKMAP_LEAF_BYTES - 1);
    struct blockmap_leaf *none = NULL;
    if (!__atomic_compare_exchange_n(&blockmap.leaf[address >> BLOCKMAP_LEAF_SHIFT], &none, leaf, false,
                                     __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
        sys_unmap(leaf, leaf_bytes());
        return none;
    }
    leaf->next = __atomic_load_n(&blockmap.first, __ATOMIC_RELAXED);
    while (!__atomic_compare_exchange_n(&blockmap.first, &leaf->next, leaf, false, __ATOMIC_RELEASE, __ATOMIC_RELAXED))
        ;
    return leaf;
}

static void pause_shortly(int spins)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
    if (spins % 64 == 63 && spins < 1024)
        sys_yield();
    else if (spins % 64 == 63)
        sys_nap(100);
}

static void fill(uint32_t *cell, size_t count, uint32_t value)
{
    for (; count > 64; count -= 64, cell += 64)
        blockmap_paint_few(cell, 64, value);
    if (count)
        blockmap_paint_few(cell, count, value);
}

static uint32_t *page_cells(struct blockmap_leaf *leaf, size_t page)
{
    return leaf->cell + page * (PAGE >> blockmap.shift);
}

/* So that the child of a fork, which may come at any time, looks for the record there.  The bit stays: to count those
 * at work would need atomic operations that wait until all cells are written. */
static void tell_busy(struct blockmap_leaf *leaf, size_t page)
{
    uint32_t bit = 1u << page / RECORDS_OF_A_BIT;
    if (!(__atomic_load_n(&leaf->busy, __ATOMIC_ACQUIRE) & bit))
        __atomic_fetch_or(&leaf->busy, bit, __ATOMIC_ACQ_REL);
}

/* Makes the cells of a page valid.  False: another thread has been at it for too long. */
static bool page_expand(struct blockmap_leaf *leaf, size_t page)
{
    uint32_t *record = &leaf->page_record[page];
    for (int spins = 0; spins < SPINS; spins++) {
        uint32_t value = __atomic_load_n(record, __ATOMIC_ACQUIRE);
        if (value == 0)
            return true;
        if (value & BLOCKMAP_BUSY) {
            pause_shortly(spins);
            continue;
        }
        tell_busy(leaf, page);
        if (__atomic_compare_exchange_n(record, &value, value | BLOCKMAP_BUSY, false, __ATOMIC_ACQUIRE,
                                        __ATOMIC_RELAXED)) {
            fill(page_cells(leaf, page), PAGE >> blockmap.shift, value);
            __atomic_store_n(record, 0, __ATOMIC_RELEASE);
            return true;
        }
    }
    return false;
}

/* A cell that is about to be written, its page expanded and its leaf made; NULL when that cannot be had. */
static uint32_t *cell_to_write(uintptr_t address)
{
    struct blockmap_leaf *leaf = leaf_make(address);
    if (!leaf || !page_expand(leaf, blockmap_page_index(address)))
        return NULL;
    return &leaf->cell[blockmap_cell_index(address, blockmap.shift)];
}

static uint32_t cell_read(uintptr_t address)
{
    struct blockmap_leaf *leaf = blockmap_leaf_of(address);
    if (!leaf || __atomic_load_n(&leaf->page_record[blockmap_page_index(address)], __ATOMIC_ACQUIRE))
        return 0;
    return __atomic_load_n(&leaf->cell[blockmap_cell_index(address, blockmap.shift)], __ATOMIC_ACQUIRE);
}

static size_t cells_of(uintptr_t block, size_t chunk)
{
    return ((block + chunk) >> blockmap.shift) - (block >> blockmap.shift);
}

static size_t usable_of(size_t chunk, bool mmapped)
{
    if (blockmap.foreign)
        return chunk;
    return chunk - (mmapped ? 2 : 1) * sizeof(size_t);
}

static size_t rounded_up_16(size_t requested)
{
    return requested ? (requested + 15) & ~(size_t)15 : 16;
}

/* Fills cells[] with the record of a live block; the number of cells, 0 when none can hold it. */
static unsigned encode(uintptr_t block, const struct blockmap_extent *extent, uint32_t cells[CELLS_MOST])
{
    size_t chunk = extent->chunk;
    size_t usable = usable_of(chunk, extent->mmapped);
    size_t own = cells_of(block, chunk);
    uint64_t slack = usable - extent->requested;
    size_t smallest = blockmap.foreign ? rounded_up_16(extent->requested) : blockmap_smallest_chunk(extent->requested);
    uint32_t code = CODE_WIDE;
    unsigned used = 5;
    if (extent->mmapped) {
        cells[0] = 0;
    } else if (extent->requested < BLOCKMAP_DIRECT_LIMIT && chunk == smallest) {
        code = (uint32_t)extent->requested;
        used = 1;
    } else if (chunk == 48 && extent->requested <= 24) {
        code = CODE_CHUNK_48 + (uint32_t)extent->requested;
        used = 1;
    } else if (slack < 64 && chunk / 16 < UINT64_C(1) << 26) {
        code = CODE_NEXT;
        cells[1] = (uint32_t)(slack << 26 | chunk / 16);
        used = 2;
    } else if (slack < 65536 && chunk / 16 < 65536) {
        code = CODE_SHORT;
        cells[1] = (uint32_t)(slack << 16 | chunk / 16);
        used = 2;
    }
    if (used == 5) {
        uint64_t chunk_word = chunk | (extent->mmapped ? MMAPPED_BIT : 0);
        uint64_t requested = extent->requested;
        memcpy(cells + 1, &requested, 8);
        memcpy(cells + 3, &chunk_word, 8);
    }
    cells[0] = BLOCKMAP_LIVE | (blockmap.foreign ? 0 : (uint32_t)(block & 16) << 26) | code << BLOCKMAP_CODE_SHIFT |
        extent->site;
    return used <= own ? used : 0;
}

bool blockmap_decode_word(uintptr_t block, uint32_t word, struct blockmap_extent *extent)
{
    uintptr_t next = block + ((uintptr_t)1 << blockmap.shift);
    uint32_t code = word >> BLOCKMAP_CODE_SHIFT & BLOCKMAP_CODE_MASK;
    extent->site = word & BLOCKMAP_SITE_MASK;
    extent->mmapped = false;
    if (code < BLOCKMAP_DIRECT_LIMIT) {
        extent->requested = code;
        extent->chunk = blockmap.foreign ? rounded_up_16(code) : blockmap_smallest_chunk(code);
        return true;
    }
    if (code < CODE_SHORT) {
        extent->requested = code - CODE_CHUNK_48;
        extent->chunk = 48;
        return true;
    }
    uint64_t slack;
    if (code == CODE_WIDE) {
        uint32_t cells[4];
        for (unsigned i = 0; i < 4; i++)
            cells[i] = cell_read(next + ((uintptr_t)i << blockmap.shift));
        uint64_t requested, chunk;
        memcpy(&requested, cells, 8);
        memcpy(&chunk, cells + 2, 8);
        extent->mmapped = chunk & MMAPPED_BIT;
        extent->chunk = chunk & ~(uint64_t)15;
        extent->requested = requested;
        slack = usable_of(extent->chunk, extent->mmapped) - requested;
    } else {
        uint32_t cell = cell_read(next);
        unsigned bits = code == CODE_NEXT ? 26 : 16;
        slack = cell >> bits;
        extent->chunk = (size_t)(cell & ((1u << bits) - 1)) * 16;
        extent->requested = usable_of(extent->chunk, false) - slack;
    }
    /* Cells of a block whose free was missed may have been overwritten; a reader may come while they change. */
    return extent->chunk >= 32 && slack <= extent->chunk && extent->chunk >> BLOCKMAP_ADDRESS_BITS == 0;
}

bool blockmap_decode(uintptr_t block, struct blockmap_extent *extent)
{
    uint32_t word = cell_read(block);
    uintptr_t low = block & (((uintptr_t)1 << blockmap.shift) - 1);
    uint32_t half = BLOCKMAP_LIVE | (low == 16 ? BLOCKMAP_UPPER : 0);
    if ((word & (BLOCKMAP_LIVE | BLOCKMAP_UPPER)) != half || low & 15)
        return false;
    return blockmap_decode_word(block, word, extent);
}

static void block_of(const struct blockmap_extent *extent, struct blockmap_block *block)
{
    block->site = extent->site;
    block->requested = extent->requested;
    block->usable = usable_of(extent->chunk, extent->mmapped);
}

/* The extent of a block that was just made.  False: no size can be told, as for a block of another allocator. */
static bool measure(uintptr_t block, size_t requested, uint32_t site, struct blockmap_extent *extent)
{
    extent->site = site;
    extent->requested = requested;
    extent->mmapped = false;
    if (blockmap.foreign) {
        if (requested >> BLOCKMAP_ADDRESS_BITS)
            return false;
        extent->chunk = rounded_up_16(requested);
        return true;
    }
    size_t header = *(const size_t *)(block - sizeof(size_t));
    extent->chunk = header & ~(size_t)15;
    extent->mmapped = header & MMAPPED_BIT;
    return header >> BLOCKMAP_ADDRESS_BITS == 0 && !(header & 8) && extent->chunk >= 32 &&
        requested <= usable_of(extent->chunk, extent->mmapped);
}

/* What the map believed to live in a cell that a new block now takes. */
static void find_stale(uintptr_t block, uint32_t word, struct blockmap_birth *birth)
{
    struct blockmap_extent old;
    uintptr_t start = block & ~(((uintptr_t)1 << blockmap.shift) - 1);
    if (word & BLOCKMAP_UPPER)
        start += 16;
    birth->stale = true;
    if (!blockmap_decode_word(start, word, &old)) {
        old.requested = 0;
        old.chunk = 32;
        old.mmapped = false;
    }
    block_of(&old, &birth->old);
}

__attribute__((cold, noinline)) void blockmap_birth_slow(uintptr_t block, size_t requested, uint32_t site,
                                                         struct blockmap_birth *birth)
{
    struct blockmap_extent extent;
    uint32_t words[CELLS_MOST];
    uint32_t *cell[CELLS_MOST];
    birth->usable = requested;
    birth->stored = false;
    birth->stale = false;
    if (block == 0 || block & 15 || block >> BLOCKMAP_ADDRESS_BITS || !measure(block, requested, site, &extent))
        return;
    birth->usable = usable_of(extent.chunk, extent.mmapped);
    unsigned used = encode(block, &extent, words);
    for (unsigned i = 0; i < used; i++) {
        cell[i] = cell_to_write(block + ((uintptr_t)i << blockmap.shift));
        if (!cell[i])
            return;
    }
    if (used == 0)
        return;
    uint32_t old = __atomic_load_n(cell[0], __ATOMIC_RELAXED);
    if (old & BLOCKMAP_LIVE)
        find_stale(block, old, birth);
    for (unsigned i = used; i-- > 0;)
        __atomic_store_n(cell[i], words[i], __ATOMIC_RELEASE);
    birth->stored = true;
}

/* A part [from, to) of a dead block that is less than a page, on one page; both are multiples of a cell. */
static void paint_part(struct blockmap_leaf *leaf, uintptr_t from, uintptr_t to, uint32_t value)
{
    if (from < to && page_expand(leaf, blockmap_page_index(from)))
        fill(&leaf->cell[blockmap_cell_index(from, blockmap.shift)], (size_t)(to - from) >> blockmap.shift, value);
}

/* A part that is in one leaf.  Its last page first, whose record may have to be taken: that waits for the stores before it. */
static void paint_in_leaf(struct blockmap_leaf *leaf, uintptr_t from, uintptr_t to, uint32_t value)
{
    uintptr_t first = (from + PAGE - 1) & ~(uintptr_t)(PAGE - 1), last = to & ~(uintptr_t)(PAGE - 1);
    if (first > last) {
        paint_part(leaf, from, to, value);
        return;
    }
    paint_part(leaf, last, to, value);
    if (first < last)
        fill(&leaf->page_record[blockmap_page_index(first)], (size_t)(last - first) / PAGE, value);
    paint_part(leaf, from, first, value);
}

static void paint(uintptr_t from, uintptr_t to, uint32_t value)
{
    while (from < to) {
        struct blockmap_leaf *leaf = leaf_make(from);
        uintptr_t leaf_end = (from | (BLOCKMAP_LEAF_BYTES - 1)) + 1;
        if (leaf_end > to)
            leaf_end = to;
        if (leaf)
            paint_in_leaf(leaf, from, leaf_end, value);
        from = leaf_end;
    }
}

/* The cells that told of the block may only be covered by a page record below.  A second free must not find the first of them
 * live, nor the free of a block that came there without the map (sampled mode) any other, whose sizes may look like one. */
static void clear_record(uintptr_t block, size_t chunk, uint32_t value)
{
    size_t own = cells_of(block, chunk);
    for (size_t i = 0; i < CELLS_MOST && i < own; i++) {
        uintptr_t at = block + (i << blockmap.shift);
        struct blockmap_leaf *leaf = blockmap_leaf_of(at);
        if (leaf)
            __atomic_store_n(&leaf->cell[blockmap_cell_index(at, blockmap.shift)], value, __ATOMIC_RELAXED);
    }
}

__attribute__((noinline)) bool blockmap_death_slow(uintptr_t block, uint32_t painter, struct blockmap_block *dead)
{
    struct blockmap_extent extent;
    if (!blockmap_decode(block, &extent))
        return false;
    block_of(&extent, dead);
    uintptr_t mask = ((uintptr_t)1 << blockmap.shift) - 1;
    if (extent.mmapped) {
        for (unsigned i = CELLS_MOST; i-- > 0;) {
            uint32_t *cell = cell_to_write(block + ((uintptr_t)i << blockmap.shift));
            if (cell)
                __atomic_store_n(cell, 0, __ATOMIC_RELAXED);
        }
        return true;
    }
    uint32_t value = BLOCKMAP_PAINTED | (painter ? painter : extent.site);
    if (extent.requested >= BLOCKMAP_LARGE_BYTES)
        value |= BLOCKMAP_LARGE;
    clear_record(block, extent.chunk, value);
    paint(block & ~mask, (block + extent.chunk) & ~mask, value);
    return true;
}

void blockmap_revive(const void *block, const struct blockmap_block *dead)
{
    struct blockmap_birth birth;
    blockmap_birth(block, dead->requested, dead->site, &birth);
}

bool blockmap_find(const void *block, struct blockmap_block *found)
{
    struct blockmap_extent extent;
    if (!blockmap_decode((uintptr_t)block, &extent))
        return false;
    block_of(&extent, found);
    return true;
}

typedef void visit_extent(uintptr_t block, const struct blockmap_extent *extent, void *context);

/* One page's live starts; the cell, relative to the leaf, at which the scan goes on. */
static size_t visit_page(const struct blockmap_leaf *leaf, size_t page, size_t from, visit_extent *visit, void *context)
{
    size_t end = (page + 1) * (PAGE >> blockmap.shift);
    if (__atomic_load_n(&leaf->page_record[page], __ATOMIC_ACQUIRE))
        return end;
    while (from < end) {
        uint32_t word = __atomic_load_n(&leaf->cell[from], __ATOMIC_ACQUIRE);
        uintptr_t block = leaf->base + (from << blockmap.shift) + (word & BLOCKMAP_UPPER ? 16 : 0);
        struct blockmap_extent extent;
        if (!(word & BLOCKMAP_LIVE) || !blockmap_decode_word(block, word, &extent)) {
            from++;
            continue;
        }
        visit(block, &extent, context);
        from = (size_t)(block + extent.chunk - leaf->base) >> blockmap.shift;
    }
    return from;
}

/* Cells that were never written have no memory yet; reading them would cost page tables. */
struct touched {
    const unsigned char *start, *end;   /* the addresses that the vector tells of */
    unsigned char vector[1024];
};

static bool is_touched(struct touched *touched, const void *address, const void *limit)
{
    size_t page_bytes = sys_page_bytes();
    const unsigned char *at = address;
    if (at < touched->start || at >= touched->end) {
        touched->start = at - ((uintptr_t)at & (page_bytes - 1));
        touched->end = touched->start + sizeof(touched->vector) * page_bytes;
        if (touched->end > (const unsigned char *)limit)
            touched->end = limit;       /* most ranges are short, and the kernel looks at each page */
        if (sys_mincore(touched->start, (size_t)(touched->end - touched->start), touched->vector) < 0)
            memset(touched->vector, 1, sizeof(touched->vector));
    }
    return touched->vector[(size_t)(at - touched->start) / page_bytes] & 1;
}

static void visit_leaf(const struct blockmap_leaf *leaf, uintptr_t from, uintptr_t to, visit_extent *visit, void *context)
{
    struct touched touched = { .start = NULL };
    size_t cells = PAGE >> blockmap.shift;
    size_t at = blockmap_cell_index(from, blockmap.shift);
    size_t end = at + (size_t)((to - from) >> blockmap.shift);
    while (at < end) {
        if (is_touched(&touched, &leaf->cell[at], &leaf->cell[end]))
            at = visit_page(leaf, at / cells, at, visit, context);
        else
            at = (at / cells + 1) * cells;
    }
}

void blockmap_each_live_in(uintptr_t from, uintptr_t to, visit_extent *visit, void *context)
{
    while (from < to) {
        const struct blockmap_leaf *leaf = blockmap_leaf_of(from);
        uintptr_t leaf_end = (from | (BLOCKMAP_LEAF_BYTES - 1)) + 1;
        if (leaf)
            visit_leaf(leaf, from, leaf_end < to ? leaf_end : to, visit, context);
        from = leaf_end;
    }
}

struct each {
    void (*visit)(uintptr_t block, const struct blockmap_block *found, void *context);
    void *context;
};

static void visit_as_block(uintptr_t block, const struct blockmap_extent *extent, void *context)
{
    const struct each *each = context;
    struct blockmap_block found;
    block_of(extent, &found);
    each->visit(block, &found, each->context);
}

void blockmap_each_live(void (*visit)(uintptr_t block, const struct blockmap_block *found, void *context), void *context)
{
    struct each each = { visit, context };
    struct blockmap_leaf *leaf = __atomic_load_n(&blockmap.first, __ATOMIC_ACQUIRE);
    for (; leaf; leaf = leaf->next)
        visit_leaf(leaf, leaf->base, leaf->base + BLOCKMAP_LEAF_BYTES, visit_as_block, &each);
}

bool blockmap_used(uintptr_t from, uintptr_t to)
{
    const struct blockmap_leaf *leaf = blockmap_leaf_of(from);
    if (!leaf)
        return false;
    if (to > leaf->base + BLOCKMAP_LEAF_BYTES)
        to = leaf->base + BLOCKMAP_LEAF_BYTES;
    struct touched touched = { .start = NULL };
    for (size_t page = blockmap_page_index(from); page <= blockmap_page_index(to - 1); page++) {
        if (__atomic_load_n(&leaf->page_record[page], __ATOMIC_RELAXED))
            return true;
        size_t cell = page * (PAGE >> blockmap.shift);
        if (!is_touched(&touched, &leaf->cell[cell], &leaf->cell[leaf_cells()]))
            continue;
        for (size_t i = 0; i < PAGE >> blockmap.shift; i++)
            if (__atomic_load_n(&leaf->cell[cell + i], __ATOMIC_RELAXED))
                return true;
    }
    return false;
}

void blockmap_fork_child(void)
{
    for (struct blockmap_leaf *leaf = blockmap.first; leaf; leaf = leaf->next) {
        for (size_t page = 0; leaf->busy && page < BLOCKMAP_LEAF_PAGES; page++) {
            if (!(leaf->busy >> page / RECORDS_OF_A_BIT & 1)) {
                page |= RECORDS_OF_A_BIT - 1;
                continue;
            }
            uint32_t value = leaf->page_record[page];
            if (value & BLOCKMAP_BUSY) {
                fill(page_cells(leaf, page), PAGE >> blockmap.shift, value & ~BLOCKMAP_BUSY);
                leaf->page_record[page] = 0;
            }
        }
        leaf->busy = 0;
    }
}

/* Heap of which a page of cells tells.  `resident` is by page of the system. */
static bool says_nothing(const struct blockmap_leaf *leaf, size_t first, size_t count, const unsigned char *resident)
{
    size_t per_page = PAGE >> blockmap.shift, per_system_page = sys_page_bytes() >> blockmap.shift;
    /* The record of a block that starts right before may reach in. */
    for (size_t i = first < CELLS_MOST ? 0 : first + 1 - CELLS_MOST; i < first; i++)
        if (leaf->cell[i] & BLOCKMAP_LIVE)
            return false;
    for (size_t i = 0; i < count; i += per_page) {
        if (leaf->page_record[(first + i) / per_page])
            continue;
        if (resident[i / per_system_page])
            return false;
        for (size_t cell = first + i; cell < first + i + per_page; cell++)
            if (leaf->cell[cell] & BLOCKMAP_LIVE)
                return false;
    }
    return true;
}

#define RELEASE_PAGES 1024u     /* of heap, looked at together */

static void release_in_leaf(struct blockmap_leaf *leaf)
{
    unsigned char resident[RELEASE_PAGES];
    struct touched touched = { .start = NULL };
    size_t page_bytes = sys_page_bytes();
    size_t count = page_bytes / sizeof(uint32_t), step = RELEASE_PAGES * page_bytes >> blockmap.shift;
    for (size_t at = 0; at < leaf_cells(); at += step) {
        size_t end = at + step < leaf_cells() ? at + step : leaf_cells(), from = end;
        bool asked = false;
        for (size_t first = at; first <= end; first += count) {
            bool drop = first < end && is_touched(&touched, &leaf->cell[first], &leaf->cell[leaf_cells()]);
            if (drop && !asked)
                residency_fill(leaf->base + (at << blockmap.shift), RELEASE_PAGES, resident);
            asked |= drop;
            drop = drop && says_nothing(leaf, first, count, resident + ((first - at) << blockmap.shift) / page_bytes);
            if (drop && from == end)
                from = first;
            if (drop || from == end)
                continue;
            sys_advise(&leaf->cell[from], (first - from) * sizeof(uint32_t), MADV_DONTNEED);
            from = end;
        }
    }
}

void blockmap_release_unused(void)
{
    for (struct blockmap_leaf *leaf = blockmap.first; leaf; leaf = leaf->next)
        release_in_leaf(leaf);
}

static uint64_t resident_bytes(const void *address, size_t bytes)
{
    unsigned char vector[1024];
    uint64_t pages = 0;
    size_t system_page = sys_page_bytes();
    const unsigned char *at = address;
    const unsigned char *end = at + bytes;
    at -= (uintptr_t)at & (system_page - 1);
    while (at < end) {
        size_t piece = (size_t)(end - at) < sizeof(vector) * system_page ? (size_t)(end - at) :
            sizeof(vector) * system_page;
        size_t count = (piece + system_page - 1) / system_page;
        if (sys_mincore(at, piece, vector) < 0)
            return pages * system_page;
        for (size_t i = 0; i < count; i++)
            pages += vector[i] & 1;
        at += count * system_page;
    }
    return pages * system_page;
}

uint64_t blockmap_bytes(void)
{
    uint64_t bytes = resident_bytes(&blockmap, sizeof(blockmap));
    struct blockmap_leaf *leaf = __atomic_load_n(&blockmap.first, __ATOMIC_ACQUIRE);
    for (; leaf; leaf = leaf->next)
        bytes += resident_bytes(leaf, leaf_bytes());
    return bytes;
}
