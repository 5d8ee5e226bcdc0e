/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_CENSUS_GAPS_H
#define HEAPMARK_CENSUS_GAPS_H

/*
 * Gaps: what lies between the live blocks of an extent.  Each gap is explained twice: by the block map alone, where a
 * gap is one free run, and by walking glibc's chunk headers in it, which tells free chunks from cached ones
 * and from blocks that the map does not know.  The walk counts for an extent only if every chunk chain ends exactly
 * where the next live block begins, and the blocks beside the gaps are in-use chunks of the size that the
 * map says.  Headers inside dense stretches of live blocks are not read: their sizes came from there.
 */

#include "census/causes.h"
#include "census/peek.h"
#include <stdbool.h>
#include <stdint.h>

struct extent;
struct extents;

struct gap {
    uintptr_t from, to;
    /* Chunk bytes of the live blocks on both sides; 0: the extent starts or ends there. */
    uint64_t before, after;
    bool freed;                     /* all of it was freed by blocks of the map */
};

#define GAPS_AHEAD 32u          /* their headers fit into the cache */

/* A stretch of chunks in use, of the map or not, and of free memory between them that is not worth a word. */
struct gaps_wall {
    uintptr_t from, to;
    uint64_t free_bytes;            /* within, resident */
    uint64_t others, other_bytes;   /* chunks that the map does not know */
    uintptr_t last_other;           /* the highest of them, and its size */
    uint64_t last_other_bytes;
};
#define GAPS_WALLS 16u
#define GAPS_HOLE_BYTES 65536u

struct gaps {
    struct peek *peek;              /* NULL: chunks cannot be walked */
    const struct extents *extents;
    uint64_t tcache_key;            /* word that glibc leaves in cached chunks, 0: not known */
    bool key_is_address;            /* of the caller's cache; other threads' differ */
    uint64_t top_granule;
    bool sampled;                   /* blocks in use may be missing from the map */
    struct page_fill *fill;         /* of the current extent: where the chunks' word on each page goes; NULL: nowhere */
    bool keep_walls;                /* of the current extent */
    /* of the current extent */
    struct extent *extent;
    struct causes by_map, by_chunks;
    bool rejected;
    struct gap queue[GAPS_AHEAD];   /* told, headers being fetched into the cache */
    uint32_t queued;
    bool fetch;                     /* their headers are read directly */
    const struct blockmap_leaf *leaf;   /* the one looked into last */
    uint64_t in_use_bytes;          /* of what the walk saw, besides live blocks: cached, foreign, metadata */
    uint64_t cached_bytes;          /* chunks of tcache, resident or not */
    uintptr_t verified;             /* end of the last live chunk whose header was compared */
    struct gap last_wall;           /* in the last gap: from its start to a cached chunk right under the top; `after`
                                     * is that chunk's size; to = 0: none */
    uintptr_t top;                  /* start of the top chunk; 0: none here */
    uintptr_t told_end;             /* of the last gap that was explained */
    struct gaps_wall wall[GAPS_WALLS];  /* the last ones, at [walls % GAPS_WALLS] the next */
    uint64_t walls;
};

void gaps_begin(struct gaps *gaps, struct extent *extent);
/* Under an allocator whose chunks cannot be walked, pieces of gaps are told one by one instead, in address order. */
void gaps_add_piece(struct gaps *gaps, uintptr_t from, uintptr_t to, bool was_owned);
void gaps_explain(struct gaps *gaps);   /* what is queued */
void gaps_end(struct gaps *gaps);

/* Headers lie too far apart for the processor to foresee; by the time a gap is explained they have arrived. */
static inline void gaps_add(struct gaps *gaps, const struct gap *gap)
{
    if (__builtin_expect(gaps->queued == GAPS_AHEAD, 0))
        gaps_explain(gaps);
    gaps->queue[gaps->queued++] = *gap;
    if (gaps->fetch) {
        __builtin_prefetch((const void *)gap->from);
        __builtin_prefetch((const void *)gap->to);
    }
}

/* Where the top chunk of an extent, now at `top`, would start if the blocks above `chunk` were freed whose sites are chosen;
 * no others live there.  0: cannot be told.  After all scans. */
uintptr_t gaps_top_without(struct gaps *gaps, struct extent *extent, uintptr_t chunk, uintptr_t top, const bool *chosen);

#endif
