/* SPDX-License-Identifier: MIT */
#include "census/census.h"

#include "census/allocator_pymalloc.h"
#include "census/areas.h"
#include "census/blockmap.h"
#include "census/estimate.h"
#include "census/extents.h"
#include "census/fastbins.h"
#include "census/forked.h"
#include "census/gaps.h"
#include "census/ledger.h"
#include "census/pass_map.h"
#include "census/peek.h"
#include "census/pins.h"
#include "census/pyobjects.h"
#include <string.h>
#include "freestanding/sys.h"
#include "freestanding/banned.h"

#define CHUNKS_MOST 65536u      /* the kernel allows 65530 mappings by default */
#define MAPPINGS_MOST 131072u
#define NOISE_SAMPLES 8u        /* so many may come and go during a census while what is live stays the same */

struct taking {
    const struct census_request *request;
    struct census_result *result;
    struct hmk_census *census;
    struct scratch *scratch;
    struct areas areas;
    struct extents extents;
    struct peek peek;
    struct pass_map pass;
    struct gaps gaps;
    struct pins pins;
    struct pymalloc pymalloc;
    struct pyobjects pyobjects;
    struct ledger_chunk *chunks;
    uint32_t chunk_count;
    struct census_mapping *mappings;
    uint32_t mapping_count;
    uint64_t *mapped_by_site;
    uint64_t chunk_live_bytes;
    uint64_t causes_bytes;          /* all that the causes explain, of resident heap */
    bool all_walked;
    struct estimate estimate;       /* in sampled mode */
    struct page_fill *fill;         /* of the extent that is being scanned; NULL in exact mode */
    bool lists_done;                /* then: all chunks of fastbins are known */
    uint64_t untold_bytes;          /* resident, and not in live blocks of the map: of extents that could not be walked */
};

/* ---- outside the heap ----------------------------------------------------------------------------- */

/* Live blocks in a range that is no extent yet: mmapped chunks; anything else makes what lies between those a region of the
 * main arena. */
struct outside {
    struct taking *taking;
    uintptr_t piece;            /* start of what follows the last mmapped chunk */
    bool piece_has_block;
};

static void end_piece(struct outside *outside, uintptr_t end)
{
    if (outside->piece_has_block)
        extents_add(&outside->taking->extents, outside->piece, end,
                    blockmap.foreign ? EXTENT_FOREIGN : EXTENT_REGION);
    outside->piece_has_block = false;
}

static void visit_outside(uintptr_t block, const struct blockmap_extent *extent, void *context)
{
    struct outside *outside = context;
    struct taking *taking = outside->taking;
    uintptr_t mask = sys_page_bytes() - 1;
    uintptr_t start = (block - 16) & ~mask;
    uintptr_t end = (block - 16 + extent->chunk + mask) & ~mask;
    if (!extent->mmapped) {
        outside->piece_has_block = true;
        return;
    }
    if (taking->chunk_count == CHUNKS_MOST || start < outside->piece)
        return;
    end_piece(outside, start);
    outside->piece = end;
    taking->chunks[taking->chunk_count++] = (struct ledger_chunk){ start, end, extent->requested };
    struct tally *tally = pass_map_tally(&taking->pass, extent->site);
    tally->live_bytes += extent->requested;
    tally->live_blocks++;
    if (taking->request->sampled)
        estimate_chunk(&taking->estimate, extent->site, extent->requested);
    taking->chunk_live_bytes += extent->requested;
    taking->census->live_block_count++;
}

static void look_outside(struct taking *taking, uintptr_t from, uintptr_t to)
{
    struct outside outside = { .taking = taking, .piece = from };
    blockmap_each_live_in(from, to, visit_outside, &outside);
    end_piece(&outside, to);
}

static void collect_chunks(struct taking *taking)
{
    for (size_t i = 0; i < taking->areas.count; i++) {
        const struct area *area = &taking->areas.list[i];
        if (!area_is_private_anonymous(area) || !(area->flags & AREA_WRITE))
            continue;
        uintptr_t from = area->start;
        while (from < area->end) {
            uintptr_t to = area->end;
            const struct extent *extent = extents_at(&taking->extents, from);
            if (extent) {
                from = extent->end;
                continue;
            }
            for (size_t e = 0; e < taking->extents.count; e++)
                if (taking->extents.list[e].start > from && taking->extents.list[e].start < to)
                    to = taking->extents.list[e].start;
            look_outside(taking, from, to);
            from = to;
        }
    }
}

/* ---- the heap ------------------------------------------------------------------------------------- */

static void add_causes(struct taking *taking, const struct causes *causes)
{
    struct hmk_census *census = taking->census;
    for (unsigned i = 0; i < HMK_CAUSES; i++) {
        uint64_t bytes = causes->held_bytes[i];
        unsigned cause = i;
        if (causes->extent->kind == EXTENT_FOREIGN && i == HMK_CAUSE_EDGE)
            cause = HMK_CAUSE_FOREIGN;
        census->held_bytes[cause] += bytes;
        taking->causes_bytes += bytes;
    }
    census->metadata_bytes += causes->metadata_bytes;
    taking->causes_bytes += causes->metadata_bytes;
}

/* What the scan has found so far, to tell one extent's part. */
static struct hmk_census_arena running_totals(const struct taking *taking)
{
    const struct hmk_census *census = taking->census;
    const struct pass_map *pass = &taking->pass;
    uint64_t unseen = taking->request->sampled ? census->held_bytes[HMK_CAUSE_UNKNOWN] : 0;
    return (struct hmk_census_arena){
        .live_bytes = pass->live_resident_bytes + pass->slack_resident_bytes + unseen,
        .held_bytes = pass->held_bytes - census->metadata_bytes - unseen,
        .forecast_bytes = census->forecast_walk_bytes,
        .cached_bytes = census->held_bytes[HMK_CAUSE_CACHED],
        .stuck_bytes = census->held_bytes[HMK_CAUSE_STUCK_TOP],
    };
}

static void add_to_arena(struct taking *taking, const struct extent *extent, const struct hmk_census_arena *before)
{
    struct hmk_census_arena after = running_totals(taking);
    uint32_t number = extent->arena < HMK_CENSUS_ARENAS ? extent->arena : HMK_CENSUS_ARENAS - 1;
    struct hmk_census_arena *arena = &taking->census->arena[number];
    arena->resident_bytes += extent->resident_pages * sys_page_bytes();
    arena->live_bytes += after.live_bytes - before->live_bytes;
    arena->held_bytes += after.held_bytes - before->held_bytes;
    arena->forecast_bytes += after.forecast_bytes - before->forecast_bytes;
    arena->cached_bytes += after.cached_bytes - before->cached_bytes;
    arena->stuck_bytes += after.stuck_bytes - before->stuck_bytes;
    arena->heaps++;
}

/* In sampled mode what the map does not know is most likely live: without a walk nobody can tell. */
static void leave_untold(struct taking *taking, const struct causes *causes)
{
    uint64_t sum = causes->metadata_bytes;
    for (unsigned i = 0; i < HMK_CAUSES; i++)
        sum += causes->held_bytes[i];
    taking->untold_bytes += sum;
    taking->causes_bytes += sum;
}

static void end_extent(struct taking *taking, const struct extent *extent)
{
    const struct gaps *gaps = &taking->gaps;
    struct hmk_census *census = taking->census;
    const struct causes *causes = gaps->rejected ? &gaps->by_map : &gaps->by_chunks;
    if (gaps->rejected)
        taking->all_walked = false;
    if (taking->request->sampled) {
        estimate_extent(&taking->estimate, extent, gaps->rejected ? NULL : gaps->fill);
        if (gaps->rejected) {
            leave_untold(taking, causes);
            return;
        }
        census->forecast_map_bytes += causes_forecast(causes);
    } else {
        census->forecast_map_bytes += causes_forecast(&gaps->by_map);
    }
    census->forecast_walk_bytes += causes_forecast(causes);
    add_causes(taking, causes);
}

static void rank_top(struct taking *taking, struct extent *extent)
{
    if (!taking->request->sampled)
        pins_rank_top(&taking->pins, &taking->pass, extent, &taking->gaps);
    else if (!taking->gaps.rejected)
        pins_rank_walls(&taking->pins, extent, &taking->gaps);
}

static void scan_extent(struct taking *taking, struct extent *extent)
{
    struct hmk_census *census = taking->census;
    struct gaps *gaps = &taking->gaps;
    struct hmk_census_arena before = running_totals(taking);
    uint64_t live_before = taking->pass.live_chunk_bytes;
    gaps->fill = taking->fill;
    if (gaps->fill)
        memset(gaps->fill, 0, (extent->end - extent->start) / sys_page_bytes() * sizeof(*gaps->fill));
    gaps_begin(gaps, extent);
    pass_map_scan(&taking->pass, extent, gaps);
    gaps_end(gaps);
    if (extent->kind == EXTENT_BREAK)
        rank_top(taking, extent);
    end_extent(taking, extent);
    taking->result->uordblks += gaps->in_use_bytes + taking->pass.live_chunk_bytes - live_before;
    taking->result->cached_bytes += gaps->cached_bytes;
    if (extent->kind == EXTENT_BREAK && gaps->top)
        census->trim_threshold_bytes = extent->end - gaps->top;
    add_to_arena(taking, extent, &before);
}

static void scan_heap(struct taking *taking)
{
    struct hmk_census *census = taking->census;
    struct pass_map *pass = &taking->pass;
    taking->all_walked = !blockmap.foreign && (taking->lists_done || !taking->request->sampled);
    for (size_t i = 0; i < taking->extents.count; i++)
        scan_extent(taking, &taking->extents.list[i]);
    if (!taking->request->sampled)
        pins_rank_pages(&taking->pins);
    census->live_bytes += pass->live_resident_bytes;
    census->slack_bytes += pass->slack_resident_bytes;
    census->nonresident_live_bytes += pass->nonresident_live_bytes;
    census->live_block_count += pass->live_blocks;
    census->heap_extent_bytes = taking->extents.bytes;
    census->heap_resident_bytes = taking->extents.resident_bytes;
    for (unsigned i = 0; i < HMK_CAUSES; i++)
        census->heap_held_bytes += census->held_bytes[i];
    census->held_page_bytes = pass->held_page_bytes;
    census->would_map_bytes = pass->large_held_bytes;
    census->arena_count = taking->extents.arenas;
    census->heap_count = (uint32_t)taking->extents.count;
    if (taking->all_walked)
        census->flags |= HMK_CENSUS_WALKED;
    if (blockmap.foreign) {
        census->flags |= HMK_CENSUS_NO_CHUNKS;
        census->forecast_map_bytes = census->held_bytes[HMK_CAUSE_FOREIGN];
    }
}

/* The number that an estimate rounds to, of a whole that is known. */
static uint64_t part_of(double estimate, uint64_t whole)
{
    return estimate < (double)whole ? (uint64_t)(estimate + 0.5) : whole;
}

/* In sampled mode a block that the map does not know is most likely live, and the walk says how much is, all in all.  Who owned
 * what was freed is unknown: cells of old blocks shine through below blocks that were passed over. */
static void tell_sampled(struct taking *taking)
{
    struct hmk_census *census = taking->census;
    const struct estimate *estimate = &taking->estimate;
    uint64_t unseen = part_of(estimate->unseen_bytes, taking->untold_bytes);
    uint64_t live = census->live_bytes + census->slack_bytes + census->held_bytes[HMK_CAUSE_UNKNOWN] + unseen;
    census->flags |= HMK_CENSUS_SAMPLED | HMK_CENSUS_ESTIMATED;
    census->slack_bytes = part_of(estimate->slack_bytes, live);
    census->live_bytes = live - census->slack_bytes;
    census->slack_spread = (float)estimate->slack_spread;
    census->live_spread = (float)(estimate->slack_spread + estimate->unseen_spread);
    census->held_bytes[HMK_CAUSE_UNKNOWN] = 0;
    census->held_bytes[blockmap.foreign ? HMK_CAUSE_FOREIGN : HMK_CAUSE_UNKNOWN] = taking->untold_bytes - unseen;
    if (blockmap.foreign)
        census->forecast_map_bytes = census->held_bytes[HMK_CAUSE_FOREIGN];
    census->heap_held_bytes = 0;
    for (unsigned i = 0; i < HMK_CAUSES; i++)
        census->heap_held_bytes += census->held_bytes[i];
    census->held_page_bytes = census->heap_held_bytes - census->held_bytes[HMK_CAUSE_PARTIAL];
    census->would_map_bytes = 0;
    census->live_block_count = 0;
    double blocks = 0;
    for (uint32_t i = 1; i < taking->pass.tallies; i++)
        taking->pass.tally[i] = (struct tally){ .site = taking->pass.tally[i].site };
    for (uint32_t i = 0; i < taking->pass.sites; i++) {
        const struct estimate_site *site = &estimate->site[i];
        if (site->live_blocks == 0)
            continue;
        struct tally *tally = pass_map_tally(&taking->pass, i);
        blocks += site->live_blocks;
        tally->live_bytes = (uint64_t)(site->live_bytes + 0.5);
        tally->live_blocks = (uint64_t)(site->live_blocks + 0.5);
        tally->share_bytes = (uint64_t)(site->share_bytes + 0.5);
    }
    census->live_block_count = (uint64_t)(blocks + 0.5);
}

/* ---- the interpreter's heap ----------------------------------------------------------------------- */

static bool look_at_python(struct taking *taking)
{
    const struct census_request *request = taking->request;
    taking->pymalloc = (struct pymalloc){ .areas = &taking->areas, .peek = &taking->peek,
                                          .minor = request->python_minor };
    taking->pyobjects = (struct pyobjects){ .pymalloc = &taking->pymalloc, .type_type = request->python_type,
                                            .sites = taking->pass.sites };
    bool done = pymalloc_find(&taking->pymalloc, taking->mappings, taking->mapping_count, taking->census,
                              taking->scratch) &&
        pyobjects_rank(&taking->pyobjects, taking->scratch);
    taking->census->python_seen_blocks = taking->pyobjects.seen_blocks;
    return done;
}

static bool join_pins(struct taking *taking)
{
    struct census_result *result = taking->result;
    uint32_t count = taking->pins.pin_count, more = taking->pyobjects.pin_count;
    result->pins = taking->pins.pin;
    result->pin_count = count + more;
    if (more == 0)
        return true;
    result->pins = scratch_alloc(taking->scratch, (count + more) * sizeof(*result->pins));
    if (!result->pins)
        return false;
    memcpy(result->pins, taking->pins.pin, count * sizeof(*result->pins));
    memcpy(result->pins + count, taking->pyobjects.pin, more * sizeof(*result->pins));
    return true;
}

/* ---- the whole ------------------------------------------------------------------------------------ */

static bool note_totals(struct taking *taking)
{
    const struct forked_before *before = taking->request->before;
    struct hmk_census *census = taking->census;
    if (!before)
        return ledger_read_status(census, taking->scratch);
    census->flags |= HMK_CENSUS_EXACT;
    census->rss_bytes = before->status.rss_bytes;
    census->rss_anon_bytes = before->status.rss_anon_bytes;
    census->rss_file_bytes = before->status.rss_file_bytes;
    census->rss_shmem_bytes = before->status.rss_shmem_bytes;
    census->rss_hwm_bytes = before->status.rss_hwm_bytes;
    census->swap_bytes = before->status.swap_bytes;
    census->vm_bytes = before->status.vm_bytes;
    return forked_join(&taking->areas, before, taking->scratch);
}

/* What the map would know if every block were in it. */
static bool prepare_sampled(struct taking *taking)
{
    size_t largest = 0;
    for (size_t i = 0; i < taking->extents.count; i++) {
        const struct extent *extent = &taking->extents.list[i];
        largest = extent->end - extent->start > largest ? extent->end - extent->start : largest;
    }
    taking->fill = scratch_alloc(taking->scratch, (largest / sys_page_bytes() + 1) * sizeof(struct page_fill));
    taking->lists_done = true;
    return taking->fill && (blockmap.foreign || fastbins_mark(&taking->extents, &taking->areas,
                                                              taking->request->allocator_code, &taking->peek,
                                                              taking->scratch, &taking->lists_done));
}

static bool prepare(struct taking *taking)
{
    const struct census_request *request = taking->request;
    uint32_t sites = request->site_count && request->site_count < HMK_SITE_LIMIT ? request->site_count : HMK_SITE_LIMIT;
    struct scratch *scratch = taking->scratch;
    /* First the list of areas, so that nothing below changes what the kernel counted. */
    if (!(request->before ? areas_read : areas_read_sums)(&taking->areas, scratch) || !note_totals(taking) ||
        !peek_init(&taking->peek, request->alone, scratch) ||
        !extents_find(&taking->extents, &taking->areas, &taking->peek, scratch) ||
        !pins_init(&taking->pins, sites, scratch) || !pass_map_init(&taking->pass, sites, &taking->pins, scratch))
        return false;
    taking->chunks = scratch_alloc(scratch, CHUNKS_MOST * sizeof(struct ledger_chunk));
    taking->mapped_by_site = scratch_alloc(scratch, sites * sizeof(uint64_t));
    if (!taking->chunks || !taking->mapped_by_site)
        return false;
    if (request->mappings) {
        taking->mappings = scratch_alloc(scratch, MAPPINGS_MOST * sizeof(struct census_mapping));
        if (!taking->mappings)
            return false;
        uint32_t count = request->mappings(taking->mappings, MAPPINGS_MOST, request->context);
        taking->mapping_count = count < MAPPINGS_MOST ? count : MAPPINGS_MOST;
    }
    taking->estimate.weight = request->weight;
    if (request->sampled && !estimate_init(&taking->estimate, taking->pass.sites, scratch))
        return false;
    collect_chunks(taking);
    taking->gaps.peek = blockmap.foreign ? NULL : &taking->peek;
    taking->gaps.extents = &taking->extents;
    taking->gaps.sampled = request->sampled;
    taking->gaps.tcache_key = request->tcache_key;
    taking->gaps.top_granule = request->top_granule ? request->top_granule : sys_page_bytes();
    return extents_fill(&taking->extents, &taking->areas, scratch) && (!request->sampled || prepare_sampled(taking));
}

static bool fill_ledger(struct taking *taking)
{
    struct ledger ledger = {
        .areas = &taking->areas,
        .extents = &taking->extents,
        .chunks = taking->chunks,
        .chunk_count = taking->chunk_count,
        .mappings = taking->mappings,
        .mapping_count = taking->mapping_count,
        .pymalloc = &taking->pymalloc,
        .mapped_by_site = taking->mapped_by_site,
        .sites = taking->pass.sites,
        .census = taking->census,
    };
    for (size_t i = 0; i < taking->areas.count; i++) {
        const struct area *area = &taking->areas.list[i];
        if (extents_at(&taking->extents, area->start))
            taking->census->huge_bytes += area->huge_bytes;
    }
    return ledger_fill(&ledger, taking->scratch);
}

static uint64_t row_weight(const struct taking *taking, uint32_t site)
{
    const struct tally *tally = pass_map_seen(&taking->pass, site);
    return tally->live_bytes + tally->live_blocks + tally->held_bytes + tally->share_bytes +
        taking->mapped_by_site[site];
}

/* The least weight of which no more than the greatest number of rows have so much: a power of two, or 1. */
static uint64_t least_weight(const struct taking *taking)
{
    uint32_t sites_of[64] = { 0 }, count = 0;
    for (uint32_t i = 0; i < taking->pass.sites; i++) {
        uint64_t weight = row_weight(taking, i);
        if (weight)
            sites_of[63 - __builtin_clzll(weight)]++;
    }
    unsigned bits = 64;
    while (bits > 0 && count + sites_of[bits - 1] <= CENSUS_ROWS_MOST)
        count += sites_of[--bits];
    return bits == 64 ? UINT64_MAX : UINT64_C(1) << bits;
}

static bool fill_rows(struct taking *taking)
{
    struct pass_map *pass = &taking->pass;
    uint64_t least = least_weight(taking);
    struct hmk_census_row *rows = scratch_alloc(taking->scratch, CENSUS_ROWS_MOST * sizeof(*rows));
    if (!rows)
        return false;
    uint32_t count = 0;
    bool sampled = taking->request->sampled;
    if (least > 1)
        taking->census->flags |= HMK_CENSUS_ROWS_CUT;
    for (uint32_t i = 0; i < pass->sites; i++) {
        const struct tally *tally = pass_map_seen(pass, i);
        if (row_weight(taking, i) < least)
            continue;
        rows[count++] = (struct hmk_census_row){
            .site = i,
            .live_bytes = tally->live_bytes,
            .live_blocks = tally->live_blocks,
            .held_bytes = tally->held_bytes,
            .held_page_bytes = tally->held_page_bytes,
            .pin_sole_bytes = tally->sole_bytes,
            .pin_share_bytes = tally->share_bytes,
            .pin_share_spread = sampled ? (float)taking->estimate.site[i].share_spread : 0,
            .mapped_bytes = taking->mapped_by_site[i],
        };
    }
    taking->result->rows = rows;
    taking->result->row_count = count;
    return true;
}

static uint64_t ledger_sum(const struct hmk_census *census)
{
    uint64_t sum = census->live_bytes + census->slack_bytes + census->metadata_bytes + census->mapped_bytes +
        census->file_bytes + census->shared_bytes + census->stack_bytes + census->self_bytes +
        census->python_live_bytes + (uint64_t)census->unexplained_bytes;
    for (unsigned i = 0; i < HMK_CAUSES; i++)
        sum += census->held_bytes[i];
    return sum;
}

/* struct hmk_census says what each is. */
static void check_identities(struct taking *taking)
{
    struct hmk_census *census = taking->census;
    const struct pass_map *pass = &taking->pass;
    uint64_t held_by_site = 0;
    for (uint32_t i = 1; i < pass->tallies; i++)
        held_by_site += pass->tally[i].held_bytes;
    if (taking->request->exact)
        census->identity[0] = (int64_t)(pass->live_bytes + taking->chunk_live_bytes) - (int64_t)census->live_before;
    census->identity[1] = (int64_t)pass->held_bytes - (int64_t)taking->causes_bytes;
    census->identity[3] = (int64_t)taking->request->stale_live;
    census->identity[4] = (int64_t)pass->held_bytes - (int64_t)held_by_site;
    census->identity[5] = (int64_t)taking->extents.resident_bytes - (int64_t)(pass->live_resident_bytes +
        pass->slack_resident_bytes + pass->held_bytes);
}

static void judge(struct taking *taking)
{
    struct hmk_census *census = taking->census;
    census->identity[2] = (int64_t)census->rss_bytes - (int64_t)ledger_sum(census);
    uint64_t change = census->live_after > census->live_before ? census->live_after - census->live_before :
        census->live_before - census->live_after;
    uint64_t noise = taking->request->sample_bytes * NOISE_SAMPLES;
    if (change > (noise > census->live_before / 100 ? noise : census->live_before / 100) || taking->pass.odd_blocks)
        census->flags |= HMK_CENSUS_MOVING;
    if (census->identity[1] || census->identity[2] || census->identity[4] || census->identity[5])
        census->flags |= HMK_CENSUS_NOT_CLOSED;
}

bool census_take(const struct census_request *request, struct census_result *result)
{
    uint64_t start = sys_monotonic_ns();
    memset(result, 0, sizeof(*result));
    struct taking *taking = scratch_alloc(&result->scratch, sizeof(*taking));
    if (!taking)
        return false;
    struct hmk_census *census = &result->census;
    taking->request = request;
    taking->result = result;
    taking->census = census;
    taking->scratch = &result->scratch;
    census->kind = request->kind;
    census->label = request->label;
    census->time_ns = start;
    census->live_before = request->live_bytes ? request->live_bytes(request->context) : 0;
    bool done = prepare(taking);
    if (done) {
        scan_heap(taking);
        census->live_after = request->live_bytes ? request->live_bytes(request->context) : 0;
        check_identities(taking);
        if (request->sampled)
            tell_sampled(taking);
        done = look_at_python(taking) && fill_ledger(taking) && fill_rows(taking) && join_pins(taking);
    }
    if (!done) {
        census_release(result);
        return false;
    }
    judge(taking);
    census->cost_ns = sys_monotonic_ns() - start;
    return true;
}

void census_release(struct census_result *result)
{
    scratch_release(&result->scratch);
    result->rows = NULL;
    result->pins = NULL;
    result->row_count = result->pin_count = 0;
}
