/* SPDX-License-Identifier: MIT */
#include "census/extents.h"

#include "census/areas.h"
#include "census/blockmap.h"
#include "census/peek.h"
#include "census/residency.h"
#include "census/scratch.h"
#include <string.h>
#include "freestanding/sys.h"
#include "freestanding/banned.h"

#define CAPACITY 65536u
/* Heaps of arenas are aligned to their greatest size: 64 MiB, or four huge pages where tunables ask for those. */
#define HEAP_ALIGNMENT (UINT64_C(8) << 20)
#define HEAP_LARGEST (UINT64_C(64) << 20)
#define HEAD_LARGEST 128u       /* a struct heap_info is 32 bytes in glibc 2.31, 48 since 2.35 */

/* The head of a heap as it was read. */
struct heap {
    uintptr_t start, arena, previous, size;
    uint32_t arena_number;      /* 0: not one */
    bool continued;             /* another heap names it as its previous one */
};

bool extents_add(struct extents *extents, uintptr_t start, uintptr_t end, enum extent_kind kind)
{
    if (extents->count == extents->capacity)
        return false;
    size_t at = extents->count++;
    while (at > 0 && extents->list[at - 1].start > start) {
        extents->list[at] = extents->list[at - 1];
        at--;
    }
    extents->list[at] = (struct extent){ .start = start, .end = end, .kind = kind, .head_end = start };
    return true;
}

struct extent *extents_at(const struct extents *extents, uintptr_t address)
{
    size_t low = 0, high = extents->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (extents->list[middle].end <= address)
            low = middle + 1;
        else
            high = middle;
    }
    return low < extents->count && extents->list[low].start <= address ? &extents->list[low] : NULL;
}

static bool may_hold_heaps(const struct area *area)
{
    return area_is_private_anonymous(area) && !(area->flags & (AREA_HEAP | AREA_STACK)) && (area->flags & AREA_WRITE) &&
        (area->flags & AREA_READ);
}

static bool read_heap(struct peek *peek, uintptr_t start, uintptr_t limit, struct heap *heap)
{
    peek->failed = false;
    *heap = (struct heap){ .start = start, .arena = peek_word(peek, start, limit),
                           .previous = peek_word(peek, start + 8, limit), .size = peek_word(peek, start + 16, limit) };
    uint64_t accessible = peek_word(peek, start + 24, limit);
    return !peek->failed && heap->size > 0 && heap->size <= HEAP_LARGEST && heap->size % sys_page_bytes() == 0 &&
        heap->size <= limit - start && accessible >= heap->size && accessible <= HEAP_LARGEST &&
        heap->arena % 16 == 0 && heap->previous % HEAP_ALIGNMENT == 0;
}

static bool is_first_heap(const struct heap *heap)
{
    return heap->previous == 0 && heap->arena > heap->start && heap->arena - heap->start <= HEAD_LARGEST;
}

static size_t list_heaps(const struct areas *areas, struct peek *peek, struct heap *heaps, size_t capacity)
{
    size_t count = 0;
    for (size_t i = 0; i < areas->count; i++) {
        const struct area *area = &areas->list[i];
        if (!may_hold_heaps(area) || area->rss_bytes == 0)
            continue;
        uintptr_t at = (area->start + HEAP_ALIGNMENT - 1) & ~(uintptr_t)(HEAP_ALIGNMENT - 1);
        for (; at < area->end && count < capacity; at += HEAP_ALIGNMENT)
            if (residency_count(at, at + sys_page_bytes()) && read_heap(peek, at, area->end, &heaps[count]))
                count++;
    }
    return count;
}

static struct heap *heap_at(struct heap *heaps, size_t count, uintptr_t start)
{
    for (size_t i = 0; i < count; i++)
        if (heaps[i].start == start)
            return &heaps[i];
    return NULL;
}

/* Numbers the arenas.  A later heap must lead back through `previous` to the first heap of its arena. */
static uint32_t number_arenas(struct heap *heaps, size_t count)
{
    uint32_t arenas = 1;
    for (size_t i = 0; i < count; i++)
        if (is_first_heap(&heaps[i]))
            heaps[i].arena_number = arenas++;
    for (size_t i = 0; i < count; i++) {
        struct heap *at = &heaps[i];
        for (size_t steps = 0; at && at->arena_number == 0 && at->arena == heaps[i].arena && steps < count; steps++)
            at = heap_at(heaps, count, at->previous);
        if (at && at->arena == heaps[i].arena)
            heaps[i].arena_number = at->arena_number;
    }
    for (size_t i = 0; i < count; i++) {
        struct heap *previous = heaps[i].arena_number && heaps[i].previous ?
            heap_at(heaps, count, heaps[i].previous) : NULL;
        if (previous && previous->arena_number == heaps[i].arena_number)
            previous->continued = true;
    }
    return arenas;
}

static bool find_arena_heaps(struct extents *extents, const struct areas *areas, struct peek *peek,
                             struct scratch *scratch)
{
    struct heap *heaps = scratch_alloc(scratch, CAPACITY * sizeof(struct heap));
    if (!heaps)
        return false;
    size_t count = list_heaps(areas, peek, heaps, CAPACITY);
    extents->arenas = number_arenas(heaps, count);
    for (size_t i = 0; i < count; i++) {
        if (heaps[i].arena_number == 0)
            continue;
        if (!extents_add(extents, heaps[i].start, heaps[i].start + heaps[i].size, EXTENT_HEAP))
            return false;
        struct extent *extent = extents_at(extents, heaps[i].start);
        extent->arena = heaps[i].arena_number;
        extent->has_top = !heaps[i].continued;
        extent->holds_arena = is_first_heap(&heaps[i]);
        extent->head_end = is_first_heap(&heaps[i]) ? heaps[i].arena : heaps[i].start + 32;
    }
    return true;
}

struct own_search {
    uintptr_t address;
    bool found;
};

static void search_own(uintptr_t start, size_t bytes, void *context)
{
    struct own_search *search = context;
    if (search->address >= start && search->address - start < bytes)
        search->found = true;
}

static bool is_own(uintptr_t address)
{
    struct own_search search = { .address = address };
    sys_each_own(search_own, &search);
    return search.found;
}

static bool find_foreign(struct extents *extents, const struct areas *areas)
{
    for (size_t i = 0; i < areas->count; i++) {
        const struct area *area = &areas->list[i];
        if ((!may_hold_heaps(area) && !(area->flags & AREA_HEAP)) || is_own(area->start))
            continue;
        bool has_cells = false;
        for (uintptr_t at = area->start; at < area->end && !has_cells; at = (at | (BLOCKMAP_LEAF_BYTES - 1)) + 1)
            has_cells = blockmap_used(at, area->end);
        if (has_cells && !extents_add(extents, area->start, area->end, EXTENT_FOREIGN))
            return false;
    }
    return true;
}

bool extents_find(struct extents *extents, const struct areas *areas, struct peek *peek, struct scratch *scratch)
{
    *extents = (struct extents){ .capacity = CAPACITY, .arenas = 1 };
    extents->list = scratch_alloc(scratch, CAPACITY * sizeof(struct extent));
    if (!extents->list)
        return false;
    if (blockmap.foreign)
        return find_foreign(extents, areas);
    for (size_t i = 0; i < areas->count; i++) {
        const struct area *area = &areas->list[i];
        struct extent *last = extents->count ? &extents->list[extents->count - 1] : NULL;
        if (!(area->flags & AREA_HEAP))
            continue;
        if (last && last->end == area->start)
            last->end = area->end;
        else if (!extents_add(extents, area->start, area->end, EXTENT_BREAK))
            return false;
        extents->list[extents->count - 1].has_top = true;
    }
    return find_arena_heaps(extents, areas, peek, scratch);
}

/* The pages of areas that lie wholly within the extent are compared with what the kernel counts there. */
static void refine(struct extent *extent, const struct areas *areas, uint64_t *buffer)
{
    size_t page_bytes = sys_page_bytes();
    const struct area *end = areas->list + areas->count;
    for (const struct area *area = areas_from(areas, extent->start); area && area < end; area++) {
        if (area->start >= extent->end)
            break;
        if (area->start < extent->start || area->end > extent->end)
            continue;
        residency_refine(area->start, (area->end - area->start) / page_bytes,
                         extent->resident + (area->start - extent->start) / page_bytes, area->rss_bytes / page_bytes,
                         buffer);
    }
}

bool extents_fill(struct extents *extents, const struct areas *areas, struct scratch *scratch)
{
    size_t page_bytes = sys_page_bytes();
    uint64_t *buffer = scratch_alloc(scratch, page_bytes);
    for (size_t i = 0; buffer && i < extents->count; i++) {
        struct extent *extent = &extents->list[i];
        size_t pages = (extent->end - extent->start) / page_bytes;
        extent->resident = scratch_alloc(scratch, pages);
        if (!extent->resident)
            return false;
        residency_fill(extent->start, pages, extent->resident);
        refine(extent, areas, buffer);
        extent->resident_pages = residency_sum(extent->resident, pages);
        extents->bytes += extent->end - extent->start;
        extents->resident_bytes += extent->resident_pages * page_bytes;
    }
    return buffer != NULL;
}

uint64_t extents_resident_bytes(const struct extent *extent, uintptr_t from, uintptr_t to)
{
    uintptr_t page_bytes = sys_page_bytes();
    uint64_t sum = 0;
    while (from < to) {
        uintptr_t end = (from & ~(page_bytes - 1)) + page_bytes;
        size_t page = (from - extent->start) / page_bytes;
        if (from % page_bytes == 0 && to - from >= page_bytes) {
            size_t pages = (to - from) / page_bytes;
            sum += residency_sum(extent->resident + page, pages) * page_bytes;
            from += pages * page_bytes;
            continue;
        }
        if (end > to)
            end = to;
        if (extent->resident[page])
            sum += end - from;
        from = end;
    }
    return sum;
}
