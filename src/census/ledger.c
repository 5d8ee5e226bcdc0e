/* SPDX-License-Identifier: MIT */
#include "census/ledger.h"

#include "census/allocator_pymalloc.h"
#include "census/areas.h"
#include "census/blockmap.h"
#include "census/extents.h"
#include "census/residency.h"
#include <string.h>
#include "freestanding/sys.h"
#include "freestanding/text.h"
#include "freestanding/banned.h"

#define STATUS_BYTES 4096u
#define OWN_RANGES 4096u
#define BUFFER_BYTES 4096u
#define GUARD_LARGEST (UINT64_C(1) << 20)

struct range {
    uintptr_t start, end;
};

struct walk {
    struct ledger *ledger;
    struct range *own;          /* sorted */
    size_t own_count;
    uint64_t *buffer;           /* the host's stack may be small */
    uint64_t told;              /* bytes of the current area that went to a column */
};

/* ---- status --------------------------------------------------------------------------------------- */

bool ledger_read_status(struct hmk_census *census, struct scratch *scratch)
{
    char *text = scratch_alloc(scratch, STATUS_BYTES);
    if (!text || sys_read_file("/proc/thread-self/status", text, STATUS_BYTES) <= 0)
        return false;
    static const struct {
        const char *key;
        size_t offset;
    } fields[] = {
        { "VmRSS:", offsetof(struct hmk_census, rss_bytes) },
        { "RssAnon:", offsetof(struct hmk_census, rss_anon_bytes) },
        { "RssFile:", offsetof(struct hmk_census, rss_file_bytes) },
        { "RssShmem:", offsetof(struct hmk_census, rss_shmem_bytes) },
        { "VmHWM:", offsetof(struct hmk_census, rss_hwm_bytes) },
        { "VmSwap:", offsetof(struct hmk_census, swap_bytes) },
        { "VmSize:", offsetof(struct hmk_census, vm_bytes) },
    };
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        uint64_t kib;
        if (text_field(text, fields[i].key, &kib))
            *(uint64_t *)((char *)census + fields[i].offset) = kib * 1024;
    }
    return census->rss_bytes != 0;
}

/* ---- heapmark's own memory ------------------------------------------------------------------------ */

static void collect_own(uintptr_t start, size_t bytes, void *context)
{
    struct walk *walk = context;
    uintptr_t mask = sys_page_bytes() - 1;
    if (walk->own_count == OWN_RANGES)
        return;
    size_t at = walk->own_count++;
    while (at > 0 && walk->own[at - 1].start > start) {
        walk->own[at] = walk->own[at - 1];
        at--;
    }
    walk->own[at] = (struct range){ start, (start + bytes + mask) & ~mask };
}

/* The kernel joins neighbours into one area; what it counted there is then all ours, whatever was touched since. */
static void join_own(struct walk *walk)
{
    size_t joined = 0;
    for (size_t i = 1; i < walk->own_count; i++) {
        if (walk->own[i].start <= walk->own[joined].end)
            walk->own[joined].end = walk->own[i].end;
        else
            walk->own[++joined] = walk->own[i];
    }
    if (walk->own_count)
        walk->own_count = joined + 1;
}

/* ---- one range of an area ------------------------------------------------------------------------- */

/* Resident bytes of [from, to), asked from the kernel unless that is the whole area. */
static uint64_t resident(const struct area *area, uintptr_t from, uintptr_t to)
{
    if (from == area->start && to == area->end)
        return area->rss_bytes;
    uint64_t bytes = residency_count(from, to);
    return bytes < area->rss_bytes ? bytes : area->rss_bytes;
}

static void tell(struct walk *walk, uint64_t *column, uint64_t bytes)
{
    *column += bytes;
    walk->told += bytes;
}

static void tell_chunk(struct walk *walk, const struct area *area, const struct ledger_chunk *chunk, uintptr_t from,
                       uintptr_t to)
{
    struct hmk_census *census = walk->ledger->census;
    uint64_t bytes = resident(area, from, to);
    uint64_t live = chunk->requested < bytes ? chunk->requested : bytes;
    tell(walk, &census->live_bytes, live);
    tell(walk, &census->slack_bytes, bytes - live);
    census->nonresident_live_bytes += chunk->requested - live;
}

/* A thread's stack: the kernel does not name them.  glibc puts a guard area below and, on x86-64, the thread's control block
 * near the end; that block's first and third words are its own address. */
static bool ends_in_control_block(const struct walk *walk, uintptr_t end)
{
#if defined(__x86_64__)
    uint64_t *words = walk->buffer;
    uintptr_t start = end - BUFFER_BYTES;
    if (sys_process_read(sys_getpid(), words, (const void *)start, BUFFER_BYTES) != (long)BUFFER_BYTES)
        return false;
    for (size_t i = 0; i + 2 < BUFFER_BYTES / 8; i += 2)
        if (words[i] == start + i * 8 && words[i + 2] == words[i])
            return true;
#else
    (void)walk;
    (void)end;
#endif
    return false;
}

static bool is_thread_stack(const struct walk *walk, const struct area *area)
{
    const struct areas *areas = walk->ledger->areas;
    const struct area *below = area > areas->list ? area - 1 : NULL;
    if (!(area->flags & AREA_WRITE) || area->end - area->start < 8192)
        return false;
    if (below && below->end == area->start && !(below->flags & (AREA_READ | AREA_WRITE | AREA_EXEC)) &&
        below->end - below->start <= GUARD_LARGEST && area_is_private_anonymous(below))
        return true;
    return ends_in_control_block(walk, area->end);
}

/* Zeroed data of a module: it follows a private mapping of the file. */
static bool is_zeroed_data(const struct area *below, uintptr_t from, uint32_t of)
{
    return below && below->end == from && below->flags & of && !(below->flags & AREA_SHARED);
}

/* Anonymous memory that nobody in the heap owns: what the program mapped, stacks, zeroed data of modules. */
static void tell_rest(struct walk *walk, const struct area *area, uintptr_t from, uintptr_t to)
{
    struct ledger *ledger = walk->ledger;
    struct hmk_census *census = ledger->census;
    const struct area *below = area > ledger->areas->list ? area - 1 : NULL;
    uint64_t bytes = resident(area, from, to);
    if (bytes == 0)
        return;
    if (area->flags & AREA_STACK || is_thread_stack(walk, area)) {
        tell(walk, &census->stack_bytes, bytes);
    } else if (from == area->start && is_zeroed_data(below, from, AREA_OWN_LIBRARY)) {
        tell(walk, &census->self_bytes, bytes);
    } else if (from == area->start && is_zeroed_data(below, from, AREA_FILE)) {
        tell(walk, &census->file_bytes, bytes);
    } else {
        tell(walk, &census->mapped_bytes, bytes);
        ledger->mapped_by_site[HMK_SITE_BEFORE] += bytes;
    }
}

static void tell_arena(struct walk *walk, const struct area *area, struct pymalloc_arena *arena, uintptr_t from,
                       uintptr_t to)
{
    struct hmk_census *census = walk->ledger->census;
    bool whole = from == arena->start && to == arena->end && arena->resident_bytes <= area->rss_bytes;
    uint64_t bytes = whole ? arena->resident_bytes : resident(area, from, to);
    uint64_t live = arena->untold_bytes < bytes ? arena->untold_bytes : bytes;
    arena->untold_bytes -= live;
    tell(walk, &census->python_live_bytes, live);
    tell(walk, &census->held_bytes[HMK_CAUSE_ARENA], bytes - live);
}

/* A mapping that the program made, but for the arenas in it. */
static void tell_mapping(struct walk *walk, const struct area *area, uint32_t site, uintptr_t from, uintptr_t to)
{
    struct ledger *ledger = walk->ledger;
    while (from < to) {
        struct pymalloc_arena *arena = pymalloc_from(ledger->pymalloc, from);
        uintptr_t end = arena && arena->start < to ? arena->start : to;
        if (from < end) {
            uint64_t bytes = resident(area, from, end);
            tell(walk, &ledger->census->mapped_bytes, bytes);
            ledger->mapped_by_site[site < ledger->sites ? site : 0] += bytes;
        } else {
            end = arena->end < to ? arena->end : to;
            tell_arena(walk, area, arena, from, end);
        }
        from = end;
    }
}

/* The part [from, to) that belongs neither to the heap nor to heapmark. */
static void tell_mappings(struct walk *walk, const struct area *area, uintptr_t from, uintptr_t to)
{
    struct ledger *ledger = walk->ledger;
    uint32_t low = 0, high = ledger->mapping_count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (ledger->mappings[middle].end <= from)
            low = middle + 1;
        else
            high = middle;
    }
    for (; from < to && low < ledger->mapping_count && ledger->mappings[low].start < to; low++) {
        const struct census_mapping *mapping = &ledger->mappings[low];
        uintptr_t start = mapping->start > from ? mapping->start : from;
        uintptr_t end = mapping->end < to ? mapping->end : to;
        if (from < start)
            tell_rest(walk, area, from, start);
        tell_mapping(walk, area, mapping->site, start, end);
        from = end;
    }
    if (from < to)
        tell_rest(walk, area, from, to);
}

/* ---- areas ---------------------------------------------------------------------------------------- */

static const struct range *own_from(const struct walk *walk, uintptr_t address)
{
    for (size_t i = 0; i < walk->own_count; i++)
        if (walk->own[i].end > address)
            return &walk->own[i];
    return NULL;
}

static const struct ledger_chunk *chunk_from(const struct ledger *ledger, uintptr_t address)
{
    uint32_t low = 0, high = ledger->chunk_count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (ledger->chunks[middle].end <= address)
            low = middle + 1;
        else
            high = middle;
    }
    return low < ledger->chunk_count ? &ledger->chunks[low] : NULL;
}

static const struct extent *extent_from(const struct extents *extents, uintptr_t address)
{
    for (size_t i = 0; i < extents->count; i++)
        if (extents->list[i].end > address)
            return &extents->list[i];
    return NULL;
}

static bool holds_extent(const struct extents *extents, const struct area *area)
{
    const struct extent *extent = extent_from(extents, area->start);
    return extent && extent->start < area->end;
}

static void tell_extent(struct walk *walk, const struct extent *extent, uintptr_t from, uintptr_t to)
{
    size_t page_bytes = sys_page_bytes();
    /* Its columns were filled by the scan. */
    walk->told += residency_sum(extent->resident + (from - extent->start) / page_bytes, (to - from) / page_bytes) *
        page_bytes;
}

static void tell_anonymous(struct walk *walk, const struct area *area)
{
    struct ledger *ledger = walk->ledger;
    uintptr_t at = area->start;
    while (at < area->end) {
        const struct range *own = own_from(walk, at);
        const struct extent *extent = extent_from(ledger->extents, at);
        const struct ledger_chunk *chunk = chunk_from(ledger, at);
        uintptr_t starts[3] = { own ? own->start : UINTPTR_MAX, extent ? extent->start : UINTPTR_MAX,
                                chunk ? chunk->start : UINTPTR_MAX };
        unsigned nearest = starts[0] <= starts[1] && starts[0] <= starts[2] ? 0 : starts[1] <= starts[2] ? 1 : 2;
        uintptr_t start = starts[nearest] > at ? starts[nearest] : at;
        if (start >= area->end) {
            tell_mappings(walk, area, at, area->end);
            return;
        }
        if (at < start)
            tell_mappings(walk, area, at, start);
        uintptr_t end = nearest == 0 ? own->end : nearest == 1 ? extent->end : chunk->end;
        if (end > area->end)
            end = area->end;
        if (nearest == 0)
            tell(walk, &ledger->census->self_bytes, resident(area, start, end));
        else if (nearest == 1)
            tell_extent(walk, extent, start, end);
        else
            tell_chunk(walk, area, chunk, start, end);
        at = end;
    }
}

static void tell_area(struct walk *walk, const struct area *area)
{
    struct hmk_census *census = walk->ledger->census;
    const struct range *own = own_from(walk, area->start);
    walk->told = 0;
    if (area->flags & AREA_OWN_LIBRARY)
        tell(walk, &census->self_bytes, area->rss_bytes);
    else if (own && own->start <= area->start && own->end >= area->end)
        tell(walk, &census->self_bytes, area->rss_bytes);
    else if (area->flags & AREA_SHMEM)
        tell(walk, &census->shared_bytes, area->rss_bytes);
    else if (area->flags & (AREA_FILE | AREA_KERNEL))
        tell(walk, &census->file_bytes, area->rss_bytes);
    else if (area->flags & AREA_SHARED)
        tell(walk, &census->shared_bytes, area->rss_bytes);
    else
        tell_anonymous(walk, area);
    census->unexplained_bytes += (int64_t)area->rss_bytes - (int64_t)walk->told;
}

bool ledger_fill(struct ledger *ledger, struct scratch *scratch)
{
    struct walk walk = { .ledger = ledger };
    walk.own = scratch_alloc(scratch, OWN_RANGES * sizeof(struct range));
    walk.buffer = scratch_alloc(scratch, BUFFER_BYTES);
    if (!walk.own || !walk.buffer)
        return false;
    sys_each_own(collect_own, &walk);
    join_own(&walk);
    uint64_t counted = 0;       /* page by page; the counter behind VmRSS may lag by some pages for each processor */
    for (size_t i = 0; i < ledger->areas->count; i++) {
        const struct area *area = &ledger->areas->list[i];
        counted += area->rss_bytes;
        /* What was empty when the kernel listed it may hold pages of the heap by the time of the scan, which counted them. */
        if (area->rss_bytes || holds_extent(ledger->extents, area))
            tell_area(&walk, area);
    }
    ledger->census->rss_bytes = counted;
    ledger->census->python_arena_bytes = ledger->census->python_live_bytes +
        ledger->census->held_bytes[HMK_CAUSE_ARENA];
    return true;
}
