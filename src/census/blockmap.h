/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_CENSUS_BLOCKMAP_H
#define HEAPMARK_CENSUS_BLOCKMAP_H

/*
 * The block map: address -> (site, requested size, live), a shadow of the heap.  Lock-free, because only
 * the owner of an address writes its cell: the hook that just got the block, or that is about to free it.
 *
 * One 32-bit cell for every 2^shift bytes of address space: shift 5 under glibc, whose chunks are at least 32
 * bytes, so that a cell holds at most one block start; shift 4 under another allocator, where the hooks round
 * requests up to 16 bytes (0 becomes 16).  Under glibc the chunk's size is read from its header in front of the
 * block; under another allocator "chunk" below means the request rounded up to 16.
 *
 *   cell of a live block's start
 *     31     1
 *     30     the block starts in the upper half of the cell (glibc: user address % 32 == 16)
 *     29:20  code
 *            0..989     requested bytes; the chunk is the smallest that holds them
 *            990..1014  requested code - 990 bytes in a chunk of 48 (a remainder too small to split off)
 *            1021       the next cell holds slack << 16 | chunk bytes / 16, both below 2^16
 *            1022       the next four cells hold requested bytes (u64) and chunk bytes (u64; bit 1: mmapped chunk)
 *            1023       the next cell holds slack << 26 | chunk bytes / 16; slack = usable - requested < 64
 *     19:0   site
 *   cell of freed bytes
 *     31     0
 *     29     1
 *     28     the block was >= 128 KiB
 *     19:0   site of the block that last covered them
 *   0: never owned by a block of the map
 *
 * A block with user address p and chunk bytes s owns the cells p >> shift up to, not including, (p + s) >> shift.
 * Ranges of neighbours never overlap: where a boundary falls inside a cell, the whole cell belongs to the block that
 * starts there, although its lower half is the tail of the block before.  So no two owners ever write one word,
 * and no painted boundary is off by more than 16 bytes.
 *
 * The cells inside a live block, after those above, are stale: a scan jumps over them by the chunk's size.
 * A freed block paints all its cells, so the last owner of every freed byte stays known; whole pages are painted by
 * one word, page_record[page] (non-zero: overrides the page's cells), which is expanded into cells
 * again by the first block that starts there or ends inside it.  A freed mmapped chunk goes back to the system, so
 * only the cells of its start are cleared.  Leaves cover 64 MiB of address space and are mapped when first needed.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct blockmap_block {
    uint32_t site;
    size_t requested;       /* bytes the program asked for */
    size_t usable;          /* bytes the program may use; chunk bytes - 8 under glibc, chunk bytes - 16 when mmapped */
};

struct blockmap_birth {
    size_t usable;
    bool stored;
    bool stale;
    struct blockmap_block old;
};

/* ---- layout; for blockmap.c, the scans of the census and the inline paths below ------------------- */

#define BLOCKMAP_PAGE_BYTES 4096u       /* of page_record, whatever the machine's pages are */
#define BLOCKMAP_LEAF_SHIFT 26
#define BLOCKMAP_LEAF_BYTES (UINT64_C(1) << BLOCKMAP_LEAF_SHIFT)
#define BLOCKMAP_LEAF_PAGES (BLOCKMAP_LEAF_BYTES / BLOCKMAP_PAGE_BYTES)
/* Higher addresses are given out on request only; blocks there are not recorded. */
#if defined(__aarch64__)
#define BLOCKMAP_ADDRESS_BITS 48
#else
#define BLOCKMAP_ADDRESS_BITS 47
#endif

#define BLOCKMAP_LIVE 0x80000000u
#define BLOCKMAP_BUSY 0x80000000u       /* of a page record: somebody is expanding it */
#define BLOCKMAP_UPPER 0x40000000u
#define BLOCKMAP_PAINTED 0x20000000u
#define BLOCKMAP_LARGE 0x10000000u
#define BLOCKMAP_LARGE_BYTES 131072u
#define BLOCKMAP_SITE_MASK 0x000fffffu
#define BLOCKMAP_CODE_SHIFT 20
#define BLOCKMAP_CODE_MASK 0x3ffu
#define BLOCKMAP_DIRECT_LIMIT 990u      /* requests below are their own code */

struct blockmap_leaf {
    uint32_t page_record[BLOCKMAP_LEAF_PAGES];
    uintptr_t base;
    struct blockmap_leaf *next;         /* all leaves, newest first */
    uint32_t busy;                      /* a bit for every 1,024 page records: one of them may be BUSY, or was */
    unsigned char padding[4096 - 20];
    uint32_t cell[];                    /* 2^(26 - shift) */
};

struct blockmap {
    struct blockmap_leaf *leaf[UINT64_C(1) << (BLOCKMAP_ADDRESS_BITS - BLOCKMAP_LEAF_SHIFT)];
    struct blockmap_leaf *first;
    uint32_t quick_leaves;              /* leaves in which blocks have the headers of glibc's chunks: all, or none */
    bool foreign;
    uint8_t shift;
};
extern struct blockmap blockmap __attribute__((visibility("hidden")));

void blockmap_birth_slow(uintptr_t block, size_t requested, uint32_t site, struct blockmap_birth *birth);
bool blockmap_death_slow(uintptr_t block, uint32_t painter, struct blockmap_block *dead);

/* Of the leaf that covers an address, or NULL. */
static inline struct blockmap_leaf *blockmap_leaf_of(uintptr_t address)
{
    if (address >> BLOCKMAP_ADDRESS_BITS)
        return NULL;
    return __atomic_load_n(&blockmap.leaf[address >> BLOCKMAP_LEAF_SHIFT], __ATOMIC_ACQUIRE);
}

static inline size_t blockmap_cell_index(uintptr_t address, unsigned shift)
{
    return (size_t)(address & (BLOCKMAP_LEAF_BYTES - 1)) >> shift;
}

static inline size_t blockmap_page_index(uintptr_t address)
{
    return (size_t)(address & (BLOCKMAP_LEAF_BYTES - 1)) / BLOCKMAP_PAGE_BYTES;
}

/* The same for the quick ways, which go by the headers of glibc's chunks. */
static inline __attribute__((always_inline)) struct blockmap_leaf *blockmap_quick_leaf_of(uintptr_t address)
{
    uintptr_t index = address >> BLOCKMAP_LEAF_SHIFT;
    if (__builtin_expect(index >= blockmap.quick_leaves, 0))
        return NULL;
    if (index >= sizeof blockmap.leaf / sizeof *blockmap.leaf)
        __builtin_unreachable();
    return __atomic_load_n(&blockmap.leaf[index], __ATOMIC_ACQUIRE);
}

/* The smallest chunk of glibc that holds a request. */
static inline size_t blockmap_smallest_chunk(size_t requested)
{
    return requested <= 24 ? 32 : (requested + 8 + 15) & ~(size_t)15;
}

/* ---- the map -------------------------------------------------------------------------------------- */

/* Once, before any other call.  glibc: chunk headers may be read. */
void blockmap_init(bool glibc);

/* Where the birth of a block will look, under glibc; what is there is on its way meanwhile.  NULL: the slow way finds out. */
struct blockmap_place {
    uint32_t *cell;
    const uint32_t *record;
};
static inline __attribute__((always_inline)) struct blockmap_place blockmap_look(const void *block)
{
    uintptr_t address = (uintptr_t)block;
    struct blockmap_leaf *leaf = blockmap_quick_leaf_of(address);
    if (__builtin_expect(leaf == NULL, 0))
        return (struct blockmap_place){NULL, NULL};
    uint32_t *cell = &leaf->cell[blockmap_cell_index(address, 5)], *record = &leaf->page_record[blockmap_page_index(address)];
    __asm__("" : "+r"(cell), "+r"(record));      /* two pointers to keep, rather than what they are made of */
    __builtin_prefetch(cell, 1);
    __builtin_prefetch(record);
    return (struct blockmap_place){cell, record};
}

/* The birth of a small block under glibc, in most cases: its usable size, else 0 and nothing was changed.
 * Budget: three loads, one store. */
static inline __attribute__((always_inline)) size_t blockmap_birth_quick(struct blockmap_place place, const void *block,
                                                                         size_t requested, uint32_t site)
{
    uintptr_t address = (uintptr_t)block;
    if (__builtin_expect(place.cell == NULL, 0))
        return 0;
    if (__builtin_expect(requested >= BLOCKMAP_DIRECT_LIMIT, 0) || __builtin_expect((address & 15) != 0, 0))
        return 0;
    /* Two of the header's low bits say nothing of the size; the third is set in mmapped chunks, of whole pages.  The chunk is the
     * smallest that holds the request: of 32 bytes, or with less than 16 to spare. */
    size_t chunk = *(const size_t *)(address - sizeof(size_t)) & ~(size_t)5, slack = chunk - sizeof(size_t) - requested;
    if (__builtin_expect(slack >= 16, 0) && (chunk != 32 || slack > 24))
        return 0;
    if (__builtin_expect(__atomic_load_n(place.record, __ATOMIC_ACQUIRE) != 0, 0) ||
        __builtin_expect((*place.cell & BLOCKMAP_LIVE) != 0, 0))
        return 0;
    __atomic_store_n(place.cell, BLOCKMAP_LIVE | (uint32_t)(address & 16) << 26 | (uint32_t)requested << BLOCKMAP_CODE_SHIFT | site,
                     __ATOMIC_RELAXED);
    return chunk - sizeof(size_t);
}

/* After the real allocation.  Sets all of *birth but `old`: the usable size; `stored`, false when there was no memory
 * for the leaf (or no way to tell the block's size); `stale`, when the map believed another live block there, whose
 * counters the caller then retires: it is returned in `old`. */
static inline void blockmap_birth(const void *block, size_t requested, uint32_t site, struct blockmap_birth *birth)
{
    birth->usable = blockmap_birth_quick(blockmap_look(block), block, requested, site);
    birth->stored = birth->usable != 0;
    birth->stale = false;
    if (!birth->stored)
        blockmap_birth_slow((uintptr_t)block, requested, site, birth);
}

/* To ThreadSanitizer a store of four cells is no atomic one, although to their readers, of one cell each, it is. */
#if defined(__SANITIZE_THREAD__)
#define BLOCKMAP_BY_CELL 1
#else
#define BLOCKMAP_BY_CELL 0
#endif

/* Fills 1..64 cells; writes no cell outside them, for those belong to other threads. */
static inline void blockmap_paint_few(uint32_t *cell, size_t count, uint32_t value)
{
    typedef uint32_t four_cells __attribute__((vector_size(16), aligned(4), may_alias));
    for (size_t i = 3; BLOCKMAP_BY_CELL && i < count; i++)
        __atomic_store_n(cell + i, value, __ATOMIC_RELAXED);
    if (count >= 4 && !BLOCKMAP_BY_CELL) {
        four_cells fill = { value, value, value, value };
        size_t last = count - 4;
        for (size_t i = 0; i < last; i += 4)
            *(four_cells *)(cell + i) = fill;
        *(four_cells *)(cell + last) = fill;
        return;
    }
    __atomic_store_n(cell, value, __ATOMIC_RELAXED);
    if (count > 1)
        __atomic_store_n(cell + 1, value, __ATOMIC_RELAXED);
    if (count > 2)
        __atomic_store_n(cell + 2, value, __ATOMIC_RELAXED);
}

/* The death of a small block under glibc that lies within a page, in most cases; else `usable` is 0 and nothing was changed.
 * `painter` as below. */
static inline __attribute__((always_inline)) struct blockmap_block blockmap_death_quick(const void *block, uint32_t painter)
{
    static const struct blockmap_block nothing;
    uintptr_t address = (uintptr_t)block;
    struct blockmap_leaf *leaf = blockmap_quick_leaf_of(address);
    if (__builtin_expect(leaf == NULL, 0))
        return nothing;
    uint32_t *cell = &leaf->cell[blockmap_cell_index(address, 5)];
    uint32_t word = __atomic_load_n(cell, __ATOMIC_RELAXED);
    /* Live, and in that half of the cell. */
    if (__builtin_expect((word & (BLOCKMAP_LIVE | BLOCKMAP_UPPER)) != (BLOCKMAP_LIVE | (uint32_t)(address & 31) << 26), 0))
        return nothing;
    size_t requested = word >> BLOCKMAP_CODE_SHIFT & BLOCKMAP_CODE_MASK;
    if (__builtin_expect(requested >= BLOCKMAP_DIRECT_LIMIT, 0))
        return nothing;
    /* Inside one page: the record of that page is 0 as long as a block that starts there lives. */
    size_t chunk = blockmap_smallest_chunk(requested);
    if (__builtin_expect((address & (BLOCKMAP_PAGE_BYTES - 1)) + chunk > BLOCKMAP_PAGE_BYTES, 0))
        return nothing;
    uint32_t site = word & BLOCKMAP_SITE_MASK;
    blockmap_paint_few(cell, ((address + chunk) >> 5) - (address >> 5), BLOCKMAP_PAINTED | (painter ? painter : site));
    return (struct blockmap_block){site, requested, chunk - sizeof(size_t)};
}

/* Before the real free: marks the block dead and paints it with `painter` (0: with its own site).  False: not a live
 * block of the map; nothing was changed. */
static inline bool blockmap_death(const void *block, uint32_t painter, struct blockmap_block *dead)
{
    *dead = blockmap_death_quick(block, painter);
    return dead->usable != 0 || blockmap_death_slow((uintptr_t)block, painter, dead);
}

/* False: no live block of the map starts there.  A glance for sampled mode, where hardly any block is in the map. */
static inline bool blockmap_may_live(const void *block)
{
    uintptr_t address = (uintptr_t)block;
    struct blockmap_leaf *leaf = blockmap_leaf_of(address);
    return leaf && (leaf->cell[blockmap_cell_index(address, blockmap.shift)] & BLOCKMAP_LIVE) != 0;
}

/* Undoes blockmap_death when the real call failed (realloc that returned NULL). */
void blockmap_revive(const void *block, const struct blockmap_block *dead);

bool blockmap_find(const void *block, struct blockmap_block *found);

/* Calls visit for every live block, in address order within a leaf.  Safe beside running threads: a block may be seen or
 * missed when it changes meanwhile.  Touches no heap memory. */
void blockmap_each_live(void (*visit)(uintptr_t block, const struct blockmap_block *found, void *context), void *context);

/* In the child of a fork, before any other call: finishes what other threads of the parent had begun. */
void blockmap_fork_child(void);

/*
 * Gives back the memory of cells that say nothing any more: of heap pages that went back to the system, without a live
 * block, or that a page record overrides.  Who owned those pages last is forgotten; the cells of pages that are
 * resident stay.  Only while no other thread can run: one that had just seen that it may store a cell would lose it.
 */
void blockmap_release_unused(void);

uint64_t blockmap_bytes(void);      /* touched memory of the map, estimated from its leaves by mincore; cold */

/* ---- for the scans -------------------------------------------------------------------------------- */

/* A live block as its cells tell it.  False: no live block starts at this address, or its cells contradict each other. */
struct blockmap_extent {
    uint32_t site;
    bool mmapped;
    size_t requested;
    size_t chunk;           /* bytes from block - 16 on under glibc, from block on otherwise */
};
bool blockmap_decode(uintptr_t block, struct blockmap_extent *extent);
/* The same of a cell that was read already and has BLOCKMAP_LIVE. */
bool blockmap_decode_word(uintptr_t block, uint32_t word, struct blockmap_extent *extent);

/* What the map holds for an address: the cell, or the record of its page.  First the same of an address in a leaf. */
static inline uint32_t blockmap_leaf_word(const struct blockmap_leaf *leaf, uintptr_t address)
{
    uint32_t record = __atomic_load_n(&leaf->page_record[blockmap_page_index(address)], __ATOMIC_ACQUIRE);
    return record ? record & ~BLOCKMAP_BUSY :
        __atomic_load_n(&leaf->cell[blockmap_cell_index(address, blockmap.shift)], __ATOMIC_RELAXED);
}

static inline uint32_t blockmap_word(uintptr_t address)
{
    const struct blockmap_leaf *leaf = blockmap_leaf_of(address);
    return leaf ? blockmap_leaf_word(leaf, address) : 0;
}

/* Whether the map knows of any block that is or was in [from, to), up to the end of the first leaf. */
bool blockmap_used(uintptr_t from, uintptr_t to);

/* As blockmap_each_live, but of blocks that start in [from, to), in address order. */
void blockmap_each_live_in(uintptr_t from, uintptr_t to,
                           void (*visit)(uintptr_t block, const struct blockmap_extent *extent, void *context),
                           void *context);

#endif
