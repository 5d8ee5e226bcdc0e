/* SPDX-License-Identifier: MIT */
#include "analysis/ledger.h"

#include "base/xalloc.h"
#include "contract/read.h"
#include <stdlib.h>
#include <string.h>

static enum ledger_kind kind_of(uint32_t kind)
{
    switch (kind) {
    case HMK_CENSUS_EXIT: return LEDGER_AT_EXIT;
    case HMK_CENSUS_REQUEST: return LEDGER_AT_REQUEST;
    case HMK_CENSUS_MARK: return LEDGER_AT_MARK;
    case HMK_CENSUS_TRIM_BEFORE: return LEDGER_BEFORE_TRIM;
    case HMK_CENSUS_TRIM_AFTER: return LEDGER_AFTER_TRIM;
    case HMK_CENSUS_RSS_PEAK: return LEDGER_AT_PEAK;
    case HMK_CENSUS_DROP: return LEDGER_AT_DROP;
    default: return LEDGER_AT_OTHER;
    }
}

static void read_parts(struct ledger *ledger, const struct hmk_census *census)
{
    static const unsigned char causes[HMK_CAUSES] = {
        [HMK_CAUSE_RETURNABLE] = LEDGER_RETURNABLE, [HMK_CAUSE_PARTIAL] = LEDGER_PARTIAL,
        [HMK_CAUSE_EDGE] = LEDGER_EDGE, [HMK_CAUSE_CACHED] = LEDGER_CACHED, [HMK_CAUSE_TOP] = LEDGER_TOP,
        [HMK_CAUSE_STUCK_TOP] = LEDGER_STUCK_TOP, [HMK_CAUSE_ARENA] = LEDGER_ARENA,
        [HMK_CAUSE_FOREIGN] = LEDGER_FOREIGN, [HMK_CAUSE_UNKNOWN] = LEDGER_UNUSED,
    };
    int64_t *part = ledger->part;

    for (unsigned i = 0; i < HMK_CAUSES; i++)
        /* A cause that a later minor version added counts as held all the same. */
        part[causes[i] ? causes[i] : LEDGER_UNUSED] += (int64_t)census->held_bytes[i];
    part[LEDGER_LIVE] = (int64_t)census->live_bytes;
    part[LEDGER_SLACK] = (int64_t)census->slack_bytes;
    part[LEDGER_PYTHON] = (int64_t)census->python_live_bytes;
    part[LEDGER_METADATA] = (int64_t)census->metadata_bytes;
    part[LEDGER_MAPPED] = (int64_t)census->mapped_bytes;
    part[LEDGER_FILES] = (int64_t)census->file_bytes;
    part[LEDGER_SHARED] = (int64_t)census->shared_bytes;
    part[LEDGER_STACKS] = (int64_t)census->stack_bytes;
    part[LEDGER_SELF] = (int64_t)census->self_bytes;
    part[LEDGER_UNEXPLAINED] = census->unexplained_bytes;
    for (unsigned i = 0; i < LEDGER_PARTS; i++)
        ledger->sum_bytes += part[i];
    for (unsigned i = LEDGER_HELD_FIRST; i <= LEDGER_HELD_LAST; i++)
        ledger->held_bytes += part[i];
}

static void read_pins(struct ledger *ledger, const struct read_file *file, const struct hmk_census *census)
{
    ledger->pins = xcalloc(census->pin_count, sizeof *ledger->pins);
    for (uint64_t i = 0; i < census->pin_count; i++) {
        const struct hmk_pin *pin = read_pin(file, census->pin_first + i);
        if (pin->kind == HMK_PIN_ARENA)
            continue;
        ledger->pins[ledger->pin_count++] = (struct ledger_pin){
            .kind = pin->kind == HMK_PIN_TOP ? LEDGER_PIN_TOP
                    : pin->kind == HMK_PIN_TOP_CACHED ? LEDGER_PIN_TOP_CACHED : LEDGER_PIN_PAGES,
            .returns_itself = (pin->flags & HMK_PIN_RETURNS_ITSELF) != 0,
            .returnable = (pin->flags & HMK_PIN_RETURNABLE) != 0, .unsampled = (pin->flags & HMK_PIN_UNSAMPLED) != 0,
            .site = pin->site, .arena = pin->arena, .blocks = pin->blocks, .bytes = pin->bytes,
            .gain_bytes = pin->gain_bytes, .cumulative_bytes = pin->cumulative_bytes, .address = pin->address,
            .largest_bytes = pin->largest_bytes,
        };
    }
}

static void read_arenas(struct ledger *ledger, const struct hmk_census *census)
{
    _Static_assert(LEDGER_ARENAS == HMK_CENSUS_ARENAS, "as many places as the census has");
    for (unsigned i = 0; i < LEDGER_ARENAS && i < census->arena_count; i++) {
        const struct hmk_census_arena *arena = &census->arena[i];
        ledger->arena[i] = (struct ledger_arena){
            .resident_bytes = (int64_t)arena->resident_bytes, .live_bytes = (int64_t)arena->live_bytes,
            .held_bytes = (int64_t)arena->held_bytes, .forecast_bytes = (int64_t)arena->forecast_bytes,
            .cached_bytes = (int64_t)arena->cached_bytes, .stuck_bytes = (int64_t)arena->stuck_bytes,
            .heaps = arena->heaps,
        };
    }
}

/* ---- CPython's arenas --------------------------------------------------------------------------- */

const unsigned char ledger_fill_percent[LEDGER_FILLS] = { 1, 5, 10, 25, 50, 75, 90, 100 };
_Static_assert(LEDGER_FILLS == HMK_FILLS, "struct hmk_census says up to where each goes");

static void read_keepers(struct ledger_python *python, const struct read_file *file, const struct hmk_census *census)
{
    python->keepers = xcalloc(census->pin_count, sizeof *python->keepers);
    for (uint64_t i = 0; i < census->pin_count; i++) {
        const struct hmk_pin *pin = read_pin(file, census->pin_first + i);
        if (pin->kind != HMK_PIN_ARENA)
            continue;
        const char *type = read_string(file, (uint32_t)pin->address);
        python->keepers[python->keeper_count++] = (struct ledger_keeper){
            .kind = *type == 0 ? LEDGER_TABLES : strcmp(type, "(spare)") == 0 ? LEDGER_SPARES
                    : strcmp(type, "(other)") == 0 ? LEDGER_OTHERS : LEDGER_OBJECTS,
            .type = type, .site = pin->site, .arenas = pin->arena, .blocks = pin->blocks, .bytes = pin->bytes,
            .gain_bytes = pin->gain_bytes, .cumulative_bytes = pin->cumulative_bytes,
            .loss_bytes = pin->largest_bytes,
        };
    }
}

static void read_python(struct ledger *ledger, const struct read_file *file, const struct hmk_census *census)
{
    ledger->python = (struct ledger_python){
        .arena_count = census->python_arena_count, .pool_count = census->python_pool_count,
        .free_pool_count = census->python_free_pool_count, .arena_bytes = census->python_arena_bytes,
        .live_blocks = census->python_live_blocks, .slot_bytes = census->python_slot_bytes,
        .free_pool_bytes = census->python_free_pool_bytes, .sparse_count = census->python_sparse_count,
        .sparse_bytes = census->python_sparse_bytes, .sparse_live_bytes = census->python_sparse_live_bytes,
        .sparse_blocks = census->python_sparse_blocks, .seen_blocks = census->python_seen_blocks,
    };
    memcpy(ledger->python.fill_count, census->python_fill_count, sizeof census->python_fill_count);
    memcpy(ledger->python.fill_held, census->python_fill_held, sizeof census->python_fill_held);
    read_keepers(&ledger->python, file, census);
}

#define KEEPERS_NAMED 3

size_t ledger_main_keepers(const struct ledger_python *python)
{
    uint64_t all = 0;
    size_t count = 0;
    for (size_t i = 0; i < python->keeper_count; i++)
        all = python->keepers[i].cumulative_bytes > all ? python->keepers[i].cumulative_bytes : all;
    while (count < python->keeper_count && count < KEEPERS_NAMED
           && (count == 0 || python->keepers[count - 1].cumulative_bytes < all / 10 * 9))
        count++;
    return count;
}

static void read_ledger(struct ledger *ledger, const struct read_file *file, const struct hmk_census *census)
{
    uint64_t start_ns = read_header(file)->start_ns;
    bool walked = (census->flags & HMK_CENSUS_WALKED) != 0;

    *ledger = (struct ledger){
        .kind = kind_of(census->kind), .label = read_string(file, census->label),
        .time_ns = census->time_ns > start_ns ? census->time_ns - start_ns : 0, .cost_ns = census->cost_ns,
        .walked = walked, .moving = (census->flags & HMK_CENSUS_MOVING) != 0,
        .exact = (census->flags & HMK_CENSUS_EXACT) != 0,
        .closed = (census->flags & HMK_CENSUS_NOT_CLOSED) == 0,
        .chunks_unknown = (census->flags & HMK_CENSUS_NO_CHUNKS) != 0,
        .rows_cut = (census->flags & HMK_CENSUS_ROWS_CUT) != 0,
        .sampled = (census->flags & HMK_CENSUS_SAMPLED) != 0,
        .estimated = (census->flags & HMK_CENSUS_ESTIMATED) != 0,
        .live_variance = census->live_spread > 0 ? (double)census->live_spread : 0,
        .slack_variance = census->slack_spread > 0 ? (double)census->slack_spread : 0,
        .rss_bytes = census->rss_bytes, .rss_anon_bytes = census->rss_anon_bytes,
        .rss_file_bytes = census->rss_file_bytes, .rss_shmem_bytes = census->rss_shmem_bytes,
        .rss_peak_bytes = census->rss_hwm_bytes, .swap_bytes = census->swap_bytes, .vm_bytes = census->vm_bytes,
        .huge_bytes = census->huge_bytes,
        .forecast_bytes = walked ? census->forecast_walk_bytes : census->forecast_map_bytes,
        .forecast_map_bytes = census->forecast_map_bytes, .forecast_walk_bytes = census->forecast_walk_bytes,
        .would_map_bytes = census->would_map_bytes, .trim_threshold_bytes = census->trim_threshold_bytes,
        .counted_live_bytes = census->live_after, .heap_extent_bytes = census->heap_extent_bytes, .heap_resident_bytes = census->heap_resident_bytes,
        .held_page_bytes = census->held_page_bytes, .live_blocks = census->live_block_count,
        .nonresident_live_bytes = census->nonresident_live_bytes,
        .arena_count = census->arena_count, .heap_count = census->heap_count,
    };
    memcpy(ledger->identity, census->identity, sizeof ledger->identity);
    read_parts(ledger, census);
    read_arenas(ledger, census);
    read_pins(ledger, file, census);
    read_python(ledger, file, census);
}

static int time_compare(const void *a, const void *b)
{
    const struct ledger *x = a, *y = b;
    if (x->time_ns != y->time_ns)
        return x->time_ns < y->time_ns ? -1 : 1;
    return x->slot < y->slot ? -1 : x->slot > y->slot;
}

struct ledgers ledgers_read(const struct read_file *file)
{
    uint64_t slots = read_count(file, HMK_CENSUSES);
    struct ledgers ledgers = { .at = xcalloc(slots, sizeof *ledgers.at) };

    for (uint64_t i = 0; i < slots; i++) {
        const struct hmk_census *census = read_census(file, i);
        if (!census)
            continue;
        read_ledger(&ledgers.at[ledgers.count], file, census);
        ledgers.at[ledgers.count++].slot = i;
    }
    if (ledgers.count > 1)
        qsort(ledgers.at, ledgers.count, sizeof *ledgers.at, time_compare);
    return ledgers;
}

void ledgers_free(struct ledgers *ledgers)
{
    for (size_t i = 0; i < ledgers->count; i++) {
        free(ledgers->at[i].pins);
        free(ledgers->at[i].python.keepers);
    }
    free(ledgers->at);
    *ledgers = (struct ledgers){ 0 };
}

const struct ledger *ledgers_newest(const struct ledgers *ledgers)
{
    return ledgers->count ? &ledgers->at[ledgers->count - 1] : NULL;
}

/* Below both, it is not worth a word. */
#define MORE_HELD_BYTES (INT64_C(4) << 20)
#define MORE_HELD_PART 10
#define CURRENT_BYTES (UINT64_C(1) << 20)
#define CURRENT_PART 20

static bool is_near(uint64_t then, uint64_t now)
{
    uint64_t apart = then > now ? then - now : now - then;
    return apart <= CURRENT_BYTES || apart <= now / CURRENT_PART;
}

const struct ledger *ledgers_current(const struct ledgers *ledgers, uint64_t rss_bytes, uint64_t live_bytes)
{
    const struct ledger *newest = ledgers_newest(ledgers);
    if (!newest || !is_near(newest->rss_bytes, rss_bytes))
        return NULL;
    return newest->counted_live_bytes == 0 || is_near(newest->counted_live_bytes, live_bytes) ? newest : NULL;
}

const struct ledger *ledgers_more_held(const struct ledgers *ledgers)
{
    const struct ledger *newest = ledgers_newest(ledgers), *most = newest;
    for (size_t i = 0; i < ledgers->count; i++)
        if (ledgers->at[i].held_bytes > most->held_bytes)
            most = &ledgers->at[i];
    if (!most || most->held_bytes / 2 < newest->held_bytes || most->held_bytes < MORE_HELD_BYTES
        || most->held_bytes < (int64_t)(most->rss_bytes / MORE_HELD_PART))
        return NULL;
    return most;
}

const struct ledger *ledgers_at_peak(const struct ledgers *ledgers)
{
    const struct ledger *highest = NULL;
    for (size_t i = 0; i < ledgers->count; i++)
        if (!highest || ledgers->at[i].rss_bytes > highest->rss_bytes)
            highest = &ledgers->at[i];
    return highest && highest->kind == LEDGER_AT_PEAK ? highest : NULL;
}
