/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_CENSUS_BLOCKMAP_H
#define HEAPMARK_CENSUS_BLOCKMAP_H

/*
 * The block map: address -> (site, requested size, live), a shadow of the heap.  Lock-free, because only
 * the owner of an address writes its cell: the hook that just got the block, or that is about to free it.
 *
 * One 32-bit cell for every 2^shift bytes of address space: shift 5 under glibc, whose chunks are at least 32
 * bytes, so that a cell holds at most one block start; shift 4 under another allocator, where the hooks round
 * requests up to 16 bytes.  Under glibc the chunk's size is read from its header in front of the block.
 *
 *   cell of a live block's start
 *     31     1
 *     30     the block starts in the upper half of the cell (glibc: user address % 32 == 16)
 *     29:20  code
 *            0..989     requested bytes; the chunk is the smallest that holds them
 *            990..1014  requested code - 990 bytes in a chunk of 48 (a remainder too small to split off)
 *            1022       the next four cells hold requested bytes (u64) and chunk bytes (u64)
 *            1023       the next cell holds slack << 26 | chunk bytes / 16; slack = usable - requested < 64
 *     19:0   site
 *   cell of freed bytes
 *     31     0
 *     30:28  flags; bit 28: the block was >= 128 KiB
 *     19:0   site of the block that last covered them; 0: never owned
 *
 * The cells inside a live block, after those above, are stale: a scan jumps over them by the chunk's size.
 * A freed block paints all its cells, so the last owner of every freed byte stays known; whole pages are painted by
 * one word, page_record[page] (non-zero: overrides the page's cells), which is expanded into cells
 * again by the first block that starts there.  Leaves cover 64 MiB of address space and are mapped
 * when first needed.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct blockmap_block {
    uint32_t site;
    size_t requested;       /* bytes the program asked for */
    size_t usable;          /* bytes the program may use; chunk bytes - 8 under glibc, chunk bytes - 16 when mmapped */
};

/* Once, before any other call.  glibc: chunk headers may be read. */
void blockmap_init(bool glibc);

/* After the real allocation.  Returns the usable size; *stale is set when the map believed another live block there
 * (whose counters the caller then retires: it is returned in *old).  False in *stored: no memory for the leaf. */
struct blockmap_birth {
    size_t usable;
    bool stored;
    bool stale;
    struct blockmap_block old;
};
void blockmap_birth(const void *block, size_t requested, uint32_t site, struct blockmap_birth *birth);

/* Before the real free: marks the block dead and paints it with `painter` (0: with its own site).  False: not a live block of the
 * map; nothing was changed. */
bool blockmap_death(const void *block, uint32_t painter, struct blockmap_block *dead);

/* Undoes blockmap_death when the real call failed (realloc that returned NULL). */
void blockmap_revive(const void *block, const struct blockmap_block *dead);

bool blockmap_find(const void *block, struct blockmap_block *found);

/* Calls visit for every live block, in address order within a leaf.  Safe beside running threads: a block may be seen or
 * missed when it changes meanwhile.  Touches no heap memory. */
void blockmap_each_live(void (*visit)(uintptr_t block, const struct blockmap_block *found, void *context), void *context);

uint64_t blockmap_bytes(void);      /* touched memory of the map, estimated from its leaves by mincore; cold */

#endif
