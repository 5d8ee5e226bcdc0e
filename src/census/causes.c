/* SPDX-License-Identifier: MIT */
#include "census/causes.h"

#include "census/extents.h"
#include "census/residency.h"
#include <stdbool.h>
#include <string.h>
#include "freestanding/sys.h"
#include "freestanding/banned.h"

#define RUN_HEAD 48u        /* sizeof(struct malloc_chunk), which stays before the pages that mtrim drops */
#define TOP_REST 33u        /* MINSIZE + 1, which systrim keeps */

void causes_begin(struct causes *causes, const struct extent *extent)
{
    uintptr_t page_bytes = sys_page_bytes();
    *causes = (struct causes){ .extent = extent, .page_bytes = page_bytes,
                               .page_shift = (unsigned)__builtin_ctzl(page_bytes) };
}

static size_t page_index(const struct causes *causes, uintptr_t address)
{
    return (size_t)(address - causes->extent->start) >> causes->page_shift;
}

/* A page that is not all of one kind.  If something of it was not told, live blocks share it. */
void causes_settle(struct causes *causes)
{
    uint64_t *pending = causes->pending;
    uint64_t told = 0;
    for (unsigned i = 0; i < ITEM_KINDS; i++)
        told += pending[i];
    if (told && causes->extent->resident[page_index(causes, causes->page)]) {
        uint64_t in_use = pending[ITEM_FOREIGN] + pending[ITEM_METADATA];
        enum hmk_cause cause = HMK_CAUSE_EDGE;
        if (told < causes->page_bytes || in_use)
            cause = HMK_CAUSE_PARTIAL;
        else if (pending[ITEM_CACHED])
            cause = HMK_CAUSE_CACHED;
        else if (pending[ITEM_STUCK])
            cause = HMK_CAUSE_STUCK_TOP;
        causes->held_bytes[HMK_CAUSE_UNKNOWN] += pending[ITEM_FOREIGN];
        causes->metadata_bytes += pending[ITEM_METADATA];
        causes->held_bytes[cause] += told - in_use;
        if (causes->fill)
            causes->fill[page_index(causes, causes->page)] = (struct page_fill){
                (uint32_t)(causes->page_bytes - told + pending[ITEM_FOREIGN]), (uint32_t)(told - in_use) };
    }
    memset(pending, 0, sizeof(causes->pending));
    causes->page = 0;
}

static void add_whole_pages(struct causes *causes, uintptr_t from, uintptr_t to, enum item item)
{
    static const unsigned char cause_of[ITEM_KINDS] = {
        [ITEM_FREE] = HMK_CAUSE_EDGE, [ITEM_CACHED] = HMK_CAUSE_CACHED, [ITEM_FOREIGN] = HMK_CAUSE_UNKNOWN,
        [ITEM_STUCK] = HMK_CAUSE_STUCK_TOP, [ITEM_TRIM] = HMK_CAUSE_RETURNABLE, [ITEM_TRIM_TOP] = HMK_CAUSE_TOP,
    };
    size_t first = page_index(causes, from);
    uint64_t bytes = residency_sum(causes->extent->resident + first, page_index(causes, to) - first) * causes->page_bytes;
    if (item == ITEM_METADATA)
        causes->metadata_bytes += bytes;
    else
        causes->held_bytes[cause_of[item]] += bytes;
}

void causes_add_long(struct causes *causes, uintptr_t from, uintptr_t to, enum item item)
{
    uintptr_t mask = causes->page_bytes - 1;
    uintptr_t whole = (from + mask) & ~mask;
    uintptr_t whole_end = to & ~mask;
    if (whole > whole_end) {
        causes_add_part(causes, from & ~mask, to - from, item);
        return;
    }
    if (from < whole)
        causes_add_part(causes, from & ~mask, whole - from, item);
    if (whole < whole_end)
        add_whole_pages(causes, whole, whole_end, item);
    if (whole_end < to)
        causes_add_part(causes, whole_end, to - whole_end, item);
}

void causes_add_long_run(struct causes *causes, uintptr_t from, uintptr_t to)
{
    uintptr_t mask = causes->page_bytes - 1;
    uintptr_t first = (from + RUN_HEAD + mask) & ~mask;
    uintptr_t last = to & ~mask;
    if (to - from <= mask + RUN_HEAD || first >= last)
        first = last = to;
    causes_add(causes, from, first, ITEM_FREE);
    causes_add(causes, first, last, ITEM_TRIM);
    causes_add(causes, last, to, ITEM_FREE);
}

uintptr_t causes_first_trimmed(uintptr_t from, uintptr_t to, uint64_t granule)
{
    return to - from > TOP_REST ? to - (to - from - TOP_REST) / granule * granule : to;
}

void causes_add_top(struct causes *causes, uintptr_t from, uintptr_t to, uint64_t granule)
{
    uintptr_t first = causes_first_trimmed(from, to, granule);
    causes_add(causes, from, first, ITEM_FREE);
    causes_add(causes, first, to, ITEM_TRIM_TOP);
}
