/* SPDX-License-Identifier: MIT */
#include "census/allocator_pymalloc.h"

#include "census/areas.h"
#include "census/census.h"
#include "census/peek.h"
#include "census/residency.h"
#include "census/scratch.h"
#include <string.h>
#include "freestanding/sys.h"
#include "freestanding/banned.h"

#define SIZE_CLASSES 32u
#define ARENAS_FIRST 256u
#define MISSES_MOST 4096u       /* starts of no arena that are tried within mappings of odd sizes */

/* ---- pools ---------------------------------------------------------------------------------------- */

enum pool_state {
    POOL_ABSENT,                /* the page of its header is not resident */
    POOL_NEVER_USED,
    POOL_EMPTY,
    POOL_IN_USE,
    POOL_ODD                    /* contradicts itself */
};

static uint32_t blocks_begun(const struct pymalloc_pool *pool)
{
    return (pool->next_offset - PYMALLOC_HEADER_BYTES) / pymalloc_block_bytes(pool);
}

bool pymalloc_is_pool(const struct pymalloc *pymalloc, const struct pymalloc_pool *pool, uintptr_t address)
{
    if (pool->size_class >= SIZE_CLASSES)
        return false;
    uint32_t each = pymalloc_block_bytes(pool);
    uint32_t room = (pymalloc->pool_bytes - PYMALLOC_HEADER_BYTES) / each;
    if (pool->last_offset != pymalloc->pool_bytes - each || pool->next_offset < PYMALLOC_HEADER_BYTES + each ||
        (pool->next_offset - PYMALLOC_HEADER_BYTES) % each != 0 || blocks_begun(pool) > room ||
        pool->blocks > blocks_begun(pool))
        return false;
    uintptr_t offset = pool->free_block - address;
    return pool->free_block == 0 || (offset >= PYMALLOC_HEADER_BYTES && offset < pool->next_offset &&
                                     (offset - PYMALLOC_HEADER_BYTES) % each == 0);
}

static enum pool_state state_of(const struct pymalloc *pymalloc, const struct pymalloc_pool *pool, uintptr_t address)
{
    static const struct pymalloc_pool zero;
    if (memcmp(pool, &zero, sizeof(zero)) == 0)
        return POOL_NEVER_USED;
    if (!pymalloc_is_pool(pymalloc, pool, address))
        return POOL_ODD;
    return pool->blocks > 0 ? POOL_IN_USE : POOL_EMPTY;
}

/* ---- one arena ------------------------------------------------------------------------------------ */

uintptr_t pymalloc_first_pool(const struct pymalloc *pymalloc, uintptr_t arena_start)
{
    return (arena_start + pymalloc->pool_bytes - 1) & ~(uintptr_t)(pymalloc->pool_bytes - 1);
}

static bool is_resident(const struct pymalloc *pymalloc, uintptr_t start, uintptr_t address)
{
    return pymalloc->resident[(address - start) / sys_page_bytes()];
}

static uint64_t resident_within(const struct pymalloc *pymalloc, uintptr_t start, uintptr_t from, uintptr_t to)
{
    uintptr_t page_bytes = sys_page_bytes();
    uint64_t sum = 0;
    while (from < to) {
        uintptr_t end = (from & ~(page_bytes - 1)) + page_bytes;
        if (end > to)
            end = to;
        if (is_resident(pymalloc, start, from))
            sum += end - from;
        from = end;
    }
    return sum;
}

/* All of it in private anonymous memory that can be read and written.  *swapped: some of that is in swap. */
static bool is_plain_memory(const struct areas *areas, uintptr_t start, uintptr_t end, bool *swapped)
{
    *swapped = false;
    for (const struct area *area = areas_from(areas, start); start < end; area++) {
        if (!area || area == areas->list + areas->count || area->start > start || !area_is_private_anonymous(area) ||
            !(area->flags & AREA_READ) || !(area->flags & AREA_WRITE))
            return false;
        *swapped |= area->swap_bytes > 0;
        start = area->end;
    }
    return true;
}

/* Headers of the pools whose first page is resident; how many pools there are, 0: they cannot be read. */
static size_t read_headers(struct pymalloc *pymalloc, uintptr_t start, enum pool_state *state)
{
    uintptr_t pool = pymalloc_first_pool(pymalloc, start), end = start + pymalloc->arena_bytes;
    uintptr_t from[PYMALLOC_POOLS] = { 0 };
    struct pymalloc_pool *header = pymalloc->pool;
    size_t pools = 0, there = 0;
    for (; end - pool >= pymalloc->pool_bytes && pools < PYMALLOC_POOLS; pool += pymalloc->pool_bytes, pools++) {
        pymalloc->address[pools] = pool;
        state[pools] = is_resident(pymalloc, start, pool) ? POOL_IN_USE : POOL_ABSENT;
        if (state[pools] != POOL_ABSENT)
            from[there++] = pool;
    }
    if (peek_gather(pymalloc->peek, header, from, there, sizeof(*header)) != there)
        return 0;
    for (size_t i = pools; i-- > 0;)
        if (state[i] != POOL_ABSENT)
            header[i] = header[--there];
    for (size_t i = 0; i < pools; i++)
        if (state[i] != POOL_ABSENT)
            state[i] = state_of(pymalloc, &header[i], pymalloc->address[i]);
    return pools;
}

/* Pools are begun in order, and carry the number of their arena from then on.  One may be just changing hands. */
static bool headers_agree(const struct pymalloc *pymalloc, const enum pool_state *state, size_t pools, bool swapped)
{
    const struct pymalloc_pool *pool = pymalloc->pool;
    bool ended = false;
    size_t odd = 0, sound = 0;
    for (size_t i = 0; i < pools; i++) {
        if (state[i] == POOL_ABSENT || state[i] == POOL_NEVER_USED) {
            ended |= state[i] == POOL_NEVER_USED || !swapped;
            continue;
        }
        if (ended || pool[i].arena != pool[0].arena)
            return false;
        odd += state[i] == POOL_ODD;
        sound += state[i] != POOL_ODD;
    }
    return state[0] != POOL_ABSENT && sound > 0 && odd <= 1;
}

static void add_pool(struct pymalloc *pymalloc, struct pymalloc_arena *arena, struct hmk_census *census, size_t i)
{
    const struct pymalloc_pool *pool = &pymalloc->pool[i];
    uintptr_t address = pymalloc->address[i];
    uint32_t each = pymalloc_block_bytes(pool);
    uint64_t bytes = (uint64_t)pool->blocks * each;
    uint64_t resident = resident_within(pymalloc, arena->start, address, address + pymalloc->pool_bytes);
    arena->pools++;
    arena->live_blocks += pool->blocks;
    arena->live_bytes += bytes;
    arena->live_resident_bytes += bytes < resident ? bytes : resident;
    census->python_slot_bytes += (pymalloc->pool_bytes - PYMALLOC_HEADER_BYTES) / each * each - bytes;
}

static void add_arena(struct pymalloc *pymalloc, struct pymalloc_arena *arena, struct hmk_census *census,
                      const enum pool_state *state, size_t pools, bool swapped)
{
    for (size_t i = 0; i < pools; i++) {
        uintptr_t address = pymalloc->address[i];
        if (state[i] == POOL_IN_USE) {
            add_pool(pymalloc, arena, census, i);
            continue;
        }
        arena->opaque |= state[i] == POOL_ODD || (state[i] == POOL_ABSENT && swapped);
        arena->free_pools++;
        census->python_free_pool_bytes += resident_within(pymalloc, arena->start, address,
                                                          address + pymalloc->pool_bytes);
    }
    arena->untold_bytes = arena->live_resident_bytes;
}

static bool make_room(struct pymalloc *pymalloc, struct scratch *scratch)
{
    if (pymalloc->count < pymalloc->capacity)
        return true;
    uint32_t capacity = pymalloc->capacity ? pymalloc->capacity * 4 : ARENAS_FIRST;
    struct pymalloc_arena *arena = scratch_alloc(scratch, capacity * sizeof(*arena));
    if (!arena)
        return false;
    if (pymalloc->count)
        memcpy(arena, pymalloc->arena, pymalloc->count * sizeof(*arena));
    pymalloc->arena = arena;
    pymalloc->capacity = capacity;
    return true;
}

/* What is asked for when somebody looks into the pools. */
static bool keep_begun(const struct pymalloc *pymalloc, struct pymalloc_arena *arena, const enum pool_state *state,
                       size_t pools, struct scratch *scratch)
{
    arena->begun = scratch_alloc(scratch, PYMALLOC_POOLS * sizeof(*arena->begun));
    for (size_t i = 0; arena->begun && i < pools; i++)
        arena->begun[i] = state[i] == POOL_IN_USE ? (uint16_t)pymalloc->pool[i].next_offset : 0;
    return arena->begun;
}

/* Is there an arena at `start`, in a mapping that has room for one?  There is room in the list, too. */
static bool take_arena(struct pymalloc *pymalloc, uintptr_t start, uint32_t site, struct hmk_census *census,
                       struct scratch *scratch)
{
    enum pool_state state[PYMALLOC_POOLS];
    uintptr_t page_bytes = sys_page_bytes(), pool = pymalloc_first_pool(pymalloc, start);
    bool swapped;
    if (!is_plain_memory(pymalloc->areas, start, start + pymalloc->arena_bytes, &swapped))
        return false;
    /* Most of what is no arena is told by its first pool. */
    if (residency_fill(pool & ~(page_bytes - 1), 1, pymalloc->resident) == 0 ||
        peek_gather(pymalloc->peek, pymalloc->pool, &pool, 1, sizeof(*pymalloc->pool)) != 1 ||
        state_of(pymalloc, pymalloc->pool, pool) == POOL_NEVER_USED)
        return false;
    uint64_t resident = residency_fill(start, pymalloc->arena_bytes / page_bytes, pymalloc->resident) * page_bytes;
    size_t pools = read_headers(pymalloc, start, state);
    if (pools == 0 || !headers_agree(pymalloc, state, pools, swapped))
        return false;
    struct pymalloc_arena *arena = &pymalloc->arena[pymalloc->count++];
    *arena = (struct pymalloc_arena){ .start = start, .end = start + pymalloc->arena_bytes, .site = site,
                                      .resident_bytes = resident };
    add_arena(pymalloc, arena, census, state, pools, swapped);
    if (pymalloc_is_sparse(arena))
        arena->opaque |= !keep_begun(pymalloc, arena, state, pools, scratch);
    return true;
}

/* ---- all of them ---------------------------------------------------------------------------------- */

/* Neighbours of one site are one interval.  An interval of whole arenas is looked at in their steps, any other one, which
 * may begin with something else, page by page. */
static bool search(struct pymalloc *pymalloc, const struct census_mapping *mapping, uint32_t *misses,
                   struct hmk_census *census, struct scratch *scratch)
{
    uintptr_t at = mapping->start;
    uintptr_t step = (mapping->end - at) % pymalloc->arena_bytes == 0 ? pymalloc->arena_bytes : sys_page_bytes();
    while (mapping->end - at >= pymalloc->arena_bytes) {
        if (!make_room(pymalloc, scratch))
            return false;
        if (take_arena(pymalloc, at, mapping->site, census, scratch)) {
            at += pymalloc->arena_bytes;
            continue;
        }
        if (step < pymalloc->arena_bytes && ++*misses > MISSES_MOST)
            return true;
        at += step;
    }
    return true;
}

static void add_fill(const struct pymalloc_arena *arena, struct hmk_census *census)
{
    static const unsigned char percent[HMK_FILLS] = { 1, 5, 10, 25, 50, 75, 90, 100 };
    uint64_t held = pymalloc_held_bytes(arena);
    unsigned i = 0;
    while (i + 1 < HMK_FILLS && arena->live_bytes * 100 > (arena->end - arena->start) * percent[i])
        i++;
    census->python_fill_count[i]++;
    census->python_fill_held[i] += held;
    census->python_pool_count += arena->pools;
    census->python_free_pool_count += arena->free_pools;
    census->python_live_blocks += arena->live_blocks;
    if (!pymalloc_is_sparse(arena))
        return;
    census->python_sparse_count++;
    census->python_sparse_bytes += arena->resident_bytes;
    census->python_sparse_live_bytes += arena->live_resident_bytes;
    census->python_sparse_blocks += arena->live_blocks;
}

bool pymalloc_find(struct pymalloc *pymalloc, const struct census_mapping *mappings, uint32_t count,
                   struct hmk_census *census, struct scratch *scratch)
{
    uint32_t misses = 0;
    if (pymalloc->minor < 8)
        return true;
    pymalloc->arena_bytes = pymalloc->minor < 10 ? 256u << 10 : 1u << 20;
    pymalloc->pool_bytes = pymalloc->minor < 10 ? 4u << 10 : 16u << 10;
    pymalloc->resident = scratch_alloc(scratch, pymalloc->arena_bytes / sys_page_bytes());
    pymalloc->address = scratch_alloc(scratch, PYMALLOC_POOLS * sizeof(*pymalloc->address));
    pymalloc->pool = scratch_alloc(scratch, PYMALLOC_POOLS * sizeof(*pymalloc->pool));
    if (!pymalloc->resident || !pymalloc->address || !pymalloc->pool)
        return false;
    for (uint32_t i = 0; i < count; i++)
        if (!search(pymalloc, &mappings[i], &misses, census, scratch))
            return false;
    census->python_arena_count = pymalloc->count;
    for (uint32_t i = 0; i < pymalloc->count; i++)
        add_fill(&pymalloc->arena[i], census);
    return true;
}

struct pymalloc_arena *pymalloc_from(const struct pymalloc *pymalloc, uintptr_t address)
{
    uint32_t low = 0, high = pymalloc->count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (pymalloc->arena[middle].end <= address)
            low = middle + 1;
        else
            high = middle;
    }
    return low < pymalloc->count ? &pymalloc->arena[low] : NULL;
}
