/* SPDX-License-Identifier: MIT */
#include "census/gaps.h"

#include "census/blockmap.h"
#include "census/extents.h"
#include "census/fastbins.h"
#include "freestanding/sys.h"
#include "freestanding/banned.h"

#define CHUNK_LEAST 32u
#define PREVIOUS_IN_USE 1u
#define FLAGS 7u
#define FASTBIN_LARGEST 128u
#define TCACHE_CHUNK_BYTES 0x290u   /* of a struct tcache_perthread_struct up to glibc 2.41 */
#define FENCE_BYTES 16u
#define FETCH_AHEAD 2048u           /* each header must have come before it tells where the next one is */
#define HEAD_LARGEST 8192u          /* struct heap_info, struct malloc_state and then some */

void gaps_begin(struct gaps *gaps, struct extent *extent)
{
    gaps->extent = extent;
    gaps->rejected = gaps->peek == NULL;
    gaps->in_use_bytes = 0;
    gaps->cached_bytes = 0;
    gaps->top = gaps->verified = 0;
    gaps->told_end = extent->start;
    gaps->walls = 0;
    gaps->keep_walls = gaps->sampled && extent->kind == EXTENT_BREAK;
    gaps->queued = 0;
    gaps->fetch = gaps->peek && gaps->peek->direct;
    gaps->leaf = NULL;
    gaps->key_is_address = gaps->tcache_key % 16 == 0 && gaps->tcache_key >> BLOCKMAP_ADDRESS_BITS == 0;
    gaps->last_wall.to = 0;
    causes_begin(&gaps->by_map, extent);
    causes_begin(&gaps->by_chunks, extent);
    gaps->by_chunks.fill = gaps->fill;
}

/* ---- by the map ----------------------------------------------------------------------------------- */

static void add_end(struct gaps *gaps, struct causes *causes, uintptr_t from, uintptr_t to)
{
    if (gaps->extent->kind == EXTENT_BREAK)
        causes_add_top(causes, from, to, gaps->top_granule);
    else
        causes_add(causes, from, to, ITEM_STUCK);
}

static void by_map(struct gaps *gaps, const struct gap *gap)
{
    uintptr_t from = gap->from;
    struct causes *causes = &gaps->by_map;
    if (gap->before == 0 && from < gaps->extent->head_end && gaps->extent->head_end <= gap->to) {
        causes_add(causes, from, gaps->extent->head_end, ITEM_METADATA);
        from = gaps->extent->head_end;
    }
    if (gap->after == 0 && gaps->extent->has_top && gaps->extent->kind != EXTENT_REGION)
        add_end(gaps, causes, from, gap->to);
    else
        causes_add_run(causes, from, gap->to);
}

/* ---- by the chunks -------------------------------------------------------------------------------- */

static inline uint64_t size_word(struct gaps *gaps, uintptr_t chunk)
{
    return peek_word(gaps->peek, chunk + 8, gaps->extent->end);
}

static bool is_size(uint64_t bytes)
{
    return bytes >= CHUNK_LEAST && bytes % 16 == 0;
}

/* Where glibc went on in another heap it left two chunk headers at the end, or, when there was room for no more than
 * these, a chunk of 32 bytes over the first and a second of size 0. */
static bool is_fence(uint64_t bytes, uintptr_t chunk, uintptr_t to)
{
    return bytes == FENCE_BYTES || (bytes == 0 && to - chunk == FENCE_BYTES);
}

/* Whether a chain of chunks leads from `chunk` exactly to `to`. */
static bool leads_to(struct gaps *gaps, uintptr_t chunk, uintptr_t to)
{
    while (chunk < to) {
        uint64_t bytes = size_word(gaps, chunk) & ~(uint64_t)FLAGS;
        if (to == gaps->extent->end && is_fence(bytes, chunk, to))
            return to - chunk <= 2 * FENCE_BYTES;
        if (!is_size(bytes) || bytes > to - chunk)
            return false;
        chunk += bytes;
    }
    return chunk == to;
}

/* Where the first chunk of the extent starts: behind structures whose size depends on the version of glibc.  With
 * nothing but those before the first live block, that is where they end.  0: nowhere. */
static uintptr_t first_chunk(struct gaps *gaps, const struct gap *gap)
{
    uintptr_t start = (gaps->extent->head_end + 15) & ~(uintptr_t)15;
    for (uintptr_t at = start; at < gap->to && at - start <= HEAD_LARGEST; at += 16)
        if (size_word(gaps, at) & PREVIOUS_IN_USE && leads_to(gaps, at, gap->to))
            return at;
    return gap->after && gap->to - start <= HEAD_LARGEST ? gap->to : 0;
}

/* Up to glibc 2.33 cached chunks hold the address of their thread's cache. */
static bool is_cache(struct gaps *gaps, uint64_t word)
{
    if (word == 0 || word % 16)
        return false;
    const struct extent *own = extents_at(gaps->extents, gaps->tcache_key);
    const struct extent *other = extents_at(gaps->extents, word);
    return own && other && word > other->start &&
        (peek_word(gaps->peek, word - 8, other->end) & ~(uint64_t)FLAGS) == TCACHE_CHUNK_BYTES;
}

/* glibc 2.34 and later leave one random word in all of them. */
static inline bool is_cached(struct gaps *gaps, uintptr_t chunk)
{
    uint64_t word = peek_word(gaps->peek, chunk + 24, gaps->extent->end);
    if (gaps->tcache_key == 0)
        return false;
    return word == gaps->tcache_key || (gaps->key_is_address && is_cache(gaps, word));
}

static inline bool was_freed(struct gaps *gaps, uintptr_t chunk)
{
    uintptr_t block = chunk + 16;
    const struct blockmap_leaf *leaf = gaps->leaf;
    if (!leaf || block - leaf->base >= BLOCKMAP_LEAF_BYTES)
        leaf = gaps->leaf = blockmap_leaf_of(block);
    return leaf && blockmap_leaf_word(leaf, block) & BLOCKMAP_PAINTED;
}

/* Of a chunk in use that is not a live block of the map.  malloc_trim puts fastbin chunks back, so they are free. */
static inline enum item kind_of(struct gaps *gaps, const struct gap *gap, uintptr_t chunk, uint64_t bytes)
{
    if (gaps->sampled && fastbins_has(gaps->extent, chunk))
        return ITEM_FREE;
    if (is_cached(gaps, chunk))
        return ITEM_CACHED;
    if ((bytes > FASTBIN_LARGEST && bytes != TCACHE_CHUNK_BYTES) || gaps->sampled)
        return ITEM_FOREIGN;
    bool freed = gap->freed || was_freed(gaps, chunk);
    if (bytes == TCACHE_CHUNK_BYTES)
        return freed ? ITEM_FOREIGN : ITEM_METADATA;
    return freed ? ITEM_FREE : ITEM_FOREIGN;
}

/* The last chunks of an extent: its top, or the fence that glibc left where an arena went on elsewhere. */
static void add_last(struct gaps *gaps, uintptr_t run, uintptr_t chunk, uintptr_t to)
{
    struct causes *causes = &gaps->by_chunks;
    if (chunk == to) {
        causes_add_run(causes, run, to);
    } else if (gaps->extent->has_top && to - chunk > 2 * FENCE_BYTES) {
        gaps->top = run;
        add_end(gaps, causes, run, to);
    } else {
        causes_add_run(causes, run, chunk);
        causes_add(causes, chunk, to, ITEM_METADATA);
        gaps->in_use_bytes += to - chunk;
    }
}

static void add_wall(struct gaps *gaps, uintptr_t from, uintptr_t to, bool other)
{
    struct gaps_wall *last = gaps->walls ? &gaps->wall[(gaps->walls - 1) % GAPS_WALLS] : NULL;
    if (!last || from - last->to >= GAPS_HOLE_BYTES) {
        last = &gaps->wall[gaps->walls++ % GAPS_WALLS];
        *last = (struct gaps_wall){ .from = from, .to = from };
    }
    last->free_bytes += extents_resident_bytes(gaps->extent, last->to, from);
    last->to = to;
    if (other) {
        last->others++;
        last->other_bytes += to - from;
        last->last_other = from;
        last->last_other_bytes = to - from;
    }
}

static inline void count_in_use(struct gaps *gaps, enum item kind, uintptr_t chunk, uint64_t bytes)
{
    gaps->in_use_bytes += bytes;
    if (kind == ITEM_CACHED)
        gaps->cached_bytes += bytes;
    else if (gaps->keep_walls)
        add_wall(gaps, chunk, chunk + bytes, true);
}

/* The header of the live block before a gap, unless it was compared as the one behind the gap before. */
static bool verify_before(struct gaps *gaps, const struct gap *gap)
{
    if (gaps->verified == gap->from)
        return true;
    return gap->before <= gap->from - gaps->extent->start &&
        (size_word(gaps, gap->from - gap->before) & ~(uint64_t)FLAGS) == gap->before;
}

static bool by_chunks(struct gaps *gaps, const struct gap *gap)
{
    struct causes *causes = &gaps->by_chunks;
    uintptr_t chunk = gap->from;
    if (gap->before == 0) {
        chunk = first_chunk(gaps, gap);
        if (chunk == 0)
            return false;
        causes_add(causes, gap->from, chunk, ITEM_METADATA);
        gaps->in_use_bytes += chunk - gap->from;
    } else if (!verify_before(gaps, gap) || !(size_word(gaps, chunk) & PREVIOUS_IN_USE)) {
        return false;
    }
    uintptr_t run = chunk;      /* start of the free run that ends at `chunk` */
    uintptr_t live_end = gap->from;
    struct gap wall = { .to = 0 };
    uint64_t header = chunk < gap->to ? size_word(gaps, chunk) : 0;
    while (chunk < gap->to) {
        uint64_t bytes = header & ~(uint64_t)FLAGS;
        if (is_fence(bytes, chunk, gap->to) || (gap->after == 0 && chunk + bytes == gap->to))
            break;
        if (!is_size(bytes) || bytes > gap->to - chunk)
            return false;
        enum item kind = ITEM_FREE;
        if (gaps->peek->direct)
            __builtin_prefetch((const void *)(chunk + FETCH_AHEAD));
        header = size_word(gaps, chunk + bytes);
        if (header & PREVIOUS_IN_USE)
            kind = kind_of(gaps, gap, chunk, bytes);
        if (kind != ITEM_FREE) {
            causes_add_run(causes, run, chunk);
            causes_add(causes, chunk, chunk + bytes, kind);
            count_in_use(gaps, kind, chunk, bytes);
            /* An unknown chunk is most likely no live block of the program's, unless most are unknown. */
            if (gaps->sampled && kind != ITEM_CACHED)
                live_end = chunk + bytes;
            wall = (struct gap){ .from = live_end, .to = kind == ITEM_CACHED ? chunk : 0, .after = bytes };
            run = chunk + bytes;
        }
        chunk += bytes;
    }
    if (gap->after == 0) {
        gaps->last_wall = wall;
        add_last(gaps, run, chunk, gap->to);
        return !gaps->peek->failed;
    }
    causes_add_run(causes, run, chunk);
    gaps->verified = gap->to + gap->after;
    return chunk == gap->to && (size_word(gaps, chunk) & ~(uint64_t)FLAGS) == gap->after && !gaps->peek->failed;
}

/* The common case: one chunk, inside a page.  False: not that. */
static inline bool add_quickly(struct gaps *gaps, const struct gap *gap)
{
    uint64_t bytes = gap->to - gap->from;
    uintptr_t page_bytes = gaps->by_map.page_bytes;
    uintptr_t page = gap->from & ~(page_bytes - 1);
    if (gaps->rejected || !gap->before || !gap->after || gap->to - page > page_bytes)
        return false;
    uint64_t header = size_word(gaps, gap->from);
    if ((header | FLAGS) != (bytes | FLAGS) || !(header & PREVIOUS_IN_USE) || !verify_before(gaps, gap))
        return false;
    uint64_t after = size_word(gaps, gap->to);
    if ((after & ~(uint64_t)FLAGS) != gap->after || gaps->peek->failed)
        return false;
    gaps->verified = gap->to + gap->after;
    enum item kind = after & PREVIOUS_IN_USE ? kind_of(gaps, gap, gap->from, bytes) : ITEM_FREE;
    if (kind != ITEM_FREE)
        count_in_use(gaps, kind, gap->from, bytes);
    causes_add_part(&gaps->by_map, page, bytes, ITEM_FREE);
    causes_add_part(&gaps->by_chunks, page, bytes, kind);
    return true;
}

void gaps_explain(struct gaps *gaps)
{
    uint32_t count = gaps->extent->kind == EXTENT_FOREIGN ? 0 : gaps->queued;
    gaps->queued = 0;
    for (uint32_t i = 0; i < count; i++) {
        const struct gap *gap = &gaps->queue[i];
        if (gaps->keep_walls && gap->before)
            add_wall(gaps, gaps->told_end, gap->from, false);
        gaps->told_end = gap->to;
        if (add_quickly(gaps, gap))
            continue;
        by_map(gaps, gap);
        if (gaps->rejected)
            continue;
        gaps->peek->failed = false;
        if (!by_chunks(gaps, gap))
            gaps->rejected = true;
    }
}

void gaps_add_piece(struct gaps *gaps, uintptr_t from, uintptr_t to, bool was_owned)
{
    causes_add(&gaps->by_map, from, to, was_owned ? ITEM_FREE : ITEM_FOREIGN);
}

void gaps_end(struct gaps *gaps)
{
    gaps_explain(gaps);
    causes_settle(&gaps->by_map);
    causes_settle(&gaps->by_chunks);
}

uintptr_t gaps_top_without(struct gaps *gaps, struct extent *extent, uintptr_t chunk, uintptr_t top, const bool *chosen)
{
    const struct gap unknown = { .from = chunk, .to = top };
    uintptr_t start = chunk;
    gaps->extent = extent;
    gaps->peek->failed = false;
    while (chunk < top) {
        struct blockmap_block block;
        uint64_t bytes = size_word(gaps, chunk) & ~(uint64_t)FLAGS;
        if (!is_size(bytes) || bytes > top - chunk)
            return 0;
        bool in_use = size_word(gaps, chunk + bytes) & PREVIOUS_IN_USE;
        if (in_use && blockmap_find((void *)(chunk + 16), &block))
            in_use = !chosen[block.site];
        else if (in_use)
            in_use = kind_of(gaps, &unknown, chunk, bytes) != ITEM_FREE;
        chunk += bytes;
        if (in_use)
            start = chunk;
    }
    return gaps->peek->failed ? 0 : start;
}
