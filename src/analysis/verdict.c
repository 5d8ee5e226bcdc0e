/* SPDX-License-Identifier: MIT */
#include "analysis/verdict.h"

#include "analysis/history.h"
#include "analysis/ledger.h"
#include "analysis/profile.h"
#include "analysis/rank.h"
#include "analysis/whatif.h"
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define MIB (UINT64_C(1) << 20)

/* Below both, nothing is wrong. */
#define NOTICE_BYTES (4 * MIB)
#define NOTICE_PART 10
/* A site is taken to leak when it freed at most one block in LEAK_FREES and allocated at least LEAK_BLOCKS. */
#define LEAK_FREES 100
#define LEAK_BLOCKS 10
#define LEAK_BYTES MIB
/* Memory that rises for less than this may be a program that loads its data. */
#define LEAK_NS (UINT64_C(60) * 1000000000)
/* Few blocks pin much when they are at most a quarter of what they hold. */
#define PIN_LEVERAGE 4
#define MANY_ARENAS 4
/* Live memory is what a program is for: it is the verdict only when it is three times the rest. */
#define IN_USE_WEIGHT 3

struct judge {
    const struct profile *profile;
    const struct ledger *ledger;
    const struct history *history;
    uint64_t program_rss;       /* without heapmark's own */
    struct verdict verdict;
};

static bool noticeable(const struct judge *judge, uint64_t bytes)
{
    return bytes >= NOTICE_BYTES && bytes >= judge->program_rss / NOTICE_PART;
}

static struct verdict_finding *found(struct judge *judge, enum verdict_kind kind, uint64_t bytes)
{
    static struct verdict_finding spare;
    struct verdict *verdict = &judge->verdict;
    struct verdict_finding *finding = verdict->count < VERDICT_FINDINGS ? &verdict->finding[verdict->count++] : &spare;
    *finding = (struct verdict_finding){ .kind = kind, .bytes = bytes, .site = VERDICT_NO_SITE };
    return finding;
}

static uint64_t part(const struct ledger *ledger, enum ledger_part which)
{
    return ledger->part[which] > 0 ? (uint64_t)ledger->part[which] : 0;
}

/* ---- held memory -------------------------------------------------------------------------------- */

static const struct ledger_pin *first_pin(const struct ledger *ledger, bool top)
{
    for (size_t i = 0; i < ledger->pin_count; i++)
        if ((ledger->pins[i].kind != LEDGER_PIN_PAGES) == top)
            return &ledger->pins[i];
    return NULL;
}

static void blame_pin(struct verdict_finding *finding, const struct ledger_pin *pin)
{
    finding->site = pin->site;
    finding->site_blocks = pin->blocks;
    finding->site_bytes = pin->bytes;
    finding->gain_bytes = pin->gain_bytes;
    finding->then_trim = !pin->returns_itself;
    finding->sites = 1;
}

static void blame_site(struct verdict_finding *finding, const struct profile_site *site)
{
    finding->site = site->id;
    finding->site_blocks = site->live_blocks > 0 ? (uint64_t)site->live_blocks : 0;
    finding->site_bytes = site->live_bytes > 0 ? (uint64_t)site->live_bytes : 0;
}

/* Whole pages that malloc_trim(0) returns: who stands in the way of their going by themselves? */
static void judge_returnable(struct judge *judge)
{
    const struct ledger *ledger = judge->ledger;
    uint64_t bytes = part(ledger, LEDGER_RETURNABLE) + part(ledger, LEDGER_TOP);
    const struct ledger_pin *pin = first_pin(ledger, true);
    struct verdict_finding *finding;

    if (!noticeable(judge, bytes))
        return;
    if (pin && pin->returnable && pin->gain_bytes >= bytes / 2) {
        finding = found(judge, VERDICT_PINNED, bytes);
        blame_pin(finding, pin);
    } else if (part(ledger, LEDGER_TOP) >= bytes / 2) {
        finding = found(judge, VERDICT_TOP_KEPT, bytes);
    } else {
        finding = found(judge, VERDICT_RETURNABLE, bytes);
    }
    finding->step = VERDICT_STEP_TRIM;
    finding->then_trim = false;
    finding->step_bytes = ledger->forecast_bytes;
    if (ledger->forecast_bytes < bytes / 2 && ledger->would_map_bytes >= bytes / 2) {
        finding->step = VERDICT_STEP_THRESHOLDS;
        finding->step_bytes = ledger->would_map_bytes;
    }
}

/* Without ranked sets of pins: the site whose blocks share the most held bytes, and what they hold alone. */
static void blame_largest_sharer(const struct judge *judge, struct verdict_finding *finding)
{
    struct rank_sum rank = rank_sum(judge->profile, RANK_PINNED, PROFILE_HEAP);
    if (rank.largest) {
        blame_site(finding, rank.largest);
        finding->gain_bytes = rank.largest->pin_sole_bytes;
        finding->then_trim = true;
    }
    finding->sites = 1;
}

/* Free bytes between live blocks.  Sets of pins that hold half of it and are small beside it can be named;
 * otherwise it is the pattern of the whole program. */
static void judge_shared_pages(struct judge *judge)
{
    const struct ledger *ledger = judge->ledger;
    uint64_t bytes = part(ledger, LEDGER_PARTIAL) + part(ledger, LEDGER_EDGE);
    uint64_t gain = 0, in_the_way = 0;
    uint32_t sets = 0;

    if (!noticeable(judge, bytes))
        return;
    for (size_t i = 0; i < ledger->pin_count && gain < bytes / 2; i++) {
        if (ledger->pins[i].kind != LEDGER_PIN_PAGES)
            continue;
        gain += ledger->pins[i].gain_bytes;
        in_the_way += ledger->pins[i].bytes;
        sets++;
    }
    const struct ledger_pin *pin = first_pin(ledger, false), *top = first_pin(ledger, true);
    /* The same blocks at the top too: then they keep more than their own pages. */
    if (pin && top && top->site == pin->site && top->gain_bytes > pin->gain_bytes) {
        gain += top->gain_bytes - pin->gain_bytes;
        pin = top;
    }
    struct verdict_finding blamed = { .site = VERDICT_NO_SITE };
    if (pin) {
        blame_pin(&blamed, pin);
        blamed.sites = sets;
    } else {
        blame_largest_sharer(judge, &blamed);
        gain = blamed.gain_bytes;
        in_the_way = blamed.site_bytes;
    }
    bool few = gain >= bytes / 2 && in_the_way <= gain / PIN_LEVERAGE;
    blamed.kind = few ? VERDICT_PINNED : VERDICT_FRAGMENTATION;
    blamed.bytes = bytes;
    blamed.step = few ? VERDICT_STEP_FREE : VERDICT_STEP_SEPARATE;
    blamed.step_bytes = few ? blamed.gain_bytes : 0;
    *found(judge, blamed.kind, bytes) = blamed;
}

static void judge_stuck(struct judge *judge)
{
    uint64_t bytes = part(judge->ledger, LEDGER_STUCK_TOP);
    bool many = judge->ledger->arena_count > MANY_ARENAS;
    if (!noticeable(judge, bytes))
        return;
    struct verdict_finding *finding = found(judge, many ? VERDICT_THREAD_ARENAS : VERDICT_TOP_STUCK, bytes);
    struct whatif thresholds = whatif_of(judge->profile, judge->ledger, WHATIF_THRESHOLDS);
    bool raised = thresholds.bytes >= bytes / 2;
    finding->step = raised ? VERDICT_STEP_THRESHOLDS : VERDICT_STEP_ARENA_MAX;
    finding->then_trim = !raised;
    finding->step_bytes = raised ? thresholds.bytes : bytes;
}

static void judge_caches(struct judge *judge)
{
    static const struct {
        enum ledger_part part;
        enum verdict_kind kind;
        enum verdict_step step;
    } caches[] = {
        { LEDGER_CACHED, VERDICT_CACHED, VERDICT_STEP_TCACHE },
        { LEDGER_FOREIGN, VERDICT_OTHER_ALLOCATOR, VERDICT_STEP_LEVER },
    };
    for (size_t i = 0; i < sizeof caches / sizeof *caches; i++) {
        uint64_t bytes = part(judge->ledger, caches[i].part);
        if (noticeable(judge, bytes))
            found(judge, caches[i].kind, bytes)->step = caches[i].step;
    }
}

/* An arena is unmapped with its last object, and no trim reaches into it. */
static void judge_arenas(struct judge *judge)
{
    const struct ledger_python *python = &judge->ledger->python;
    uint64_t bytes = part(judge->ledger, LEDGER_ARENA);
    size_t named = ledger_main_keepers(python);

    if (!noticeable(judge, bytes))
        return;
    struct verdict_finding *finding = found(judge, VERDICT_ARENAS_HELD, bytes);
    finding->step = VERDICT_STEP_DROP;
    finding->site_blocks = python->sparse_blocks;
    finding->site_bytes = python->sparse_live_bytes;
    for (size_t i = 0; i < named; i++) {
        finding->gain_bytes += python->keepers[i].gain_bytes;
        finding->step_bytes += python->keepers[i].loss_bytes;
    }
    if (named > 0)
        finding->site = python->keepers[0].site;
}

/* ---- live memory -------------------------------------------------------------------------------- */

static bool rising_to_the_end(const struct judge *judge)
{
    struct history_trend trend = history_trend(judge->history);
    const int64_t *low = trend.quarter_low_bytes;
    int64_t grown = low[3] - low[0];

    return trend.known && low[0] < low[1] && low[1] < low[2] && low[2] < low[3]
           && trend.last_bytes >= judge->profile->heap.peak_bytes / 10 * 9
           && grown >= (int64_t)LEAK_BYTES && grown >= trend.last_bytes / 5;
}

static bool never_frees(const struct profile_site *site)
{
    return site->kind == PROFILE_HEAP && site->live_bytes > 0 && site->allocations >= LEAK_BLOCKS
           && site->frees <= site->allocations / LEAK_FREES;
}

static bool has_ended(const struct profile *profile)
{
    return profile->process.state == PROFILE_EXITED || profile->process.state == PROFILE_EXITED_FAST;
}

/* Sites that allocated again and again, freed nothing and stand at their maximum. */
static bool judge_leak(struct judge *judge, bool rising)
{
    const struct profile *profile = judge->profile;
    const struct profile_site *largest = NULL;
    uint64_t bytes = 0;
    uint32_t sites = 0;

    if (!rising && !has_ended(profile))
        return false;
    for (size_t i = 0; i < profile->site_count; i++) {
        const struct profile_site *site = &profile->sites[i];
        if (!never_frees(site) || profile_site_meaning(site))
            continue;
        bytes += (uint64_t)site->live_bytes;
        sites++;
        if (!largest || site->live_bytes > largest->live_bytes)
            largest = site;
    }
    if (bytes < LEAK_BYTES || bytes < (uint64_t)profile->heap.peak_bytes / 4)
        return false;
    bool sure = has_ended(profile) || profile->process.ran_ns >= LEAK_NS;
    struct verdict_finding *finding = found(judge, sure ? VERDICT_LEAK : VERDICT_GROWTH, bytes);
    blame_site(finding, largest);
    finding->sites = sites;
    finding->step = VERDICT_STEP_LIVE;
    return true;
}

static void judge_live(struct judge *judge)
{
    const struct profile *profile = judge->profile;
    int64_t live = profile->sum[PROFILE_HEAP].live_bytes;
    uint64_t bytes = live > 0 ? (uint64_t)live : 0;
    bool rising = rising_to_the_end(judge);

    if (judge->ledger)
        bytes = part(judge->ledger, LEDGER_LIVE) + part(judge->ledger, LEDGER_SLACK);
    if (judge_leak(judge, rising))
        return;
    if (bytes < NOTICE_BYTES || (!rising && bytes < judge->program_rss / 3))
        return;
    struct rank_sum rank = rank_sum(profile, RANK_LIVE, PROFILE_HEAP);
    struct verdict_finding *finding = found(judge, rising ? VERDICT_CACHE_GROWTH : VERDICT_IN_USE, bytes);
    if (rank.largest)
        blame_site(finding, rank.largest);
    finding->sites = (uint32_t)rank.count;
    finding->step = VERDICT_STEP_LIVE;
}

static void judge_python_live(struct judge *judge)
{
    uint64_t bytes = part(judge->ledger, LEDGER_PYTHON);
    if (bytes >= NOTICE_BYTES && bytes >= judge->program_rss / 3)
        found(judge, VERDICT_PYTHON_OBJECTS, bytes)->step = VERDICT_STEP_PYTHONMALLOC;
}

/* CPython maps the arenas of its objects one by one: 256 KiB up to 3.9, 1 MiB since. */
static bool maps_python_arenas(const struct profile *profile, const struct profile_site *site)
{
    struct profile_frame frame;
    if (site->kind != PROFILE_MAPPING || site->allocations == 0 || !profile_frame(profile, site->frame, &frame)
        || frame.module == PROFILE_NO_MODULE)
        return false;
    const char *path = profile->modules[frame.module].path, *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;
    uint64_t each = site->allocated_bytes / site->allocations;
    return (strncmp(name, "python", 6) == 0 || strncmp(name, "libpython", 9) == 0)
           && site->allocated_bytes % site->allocations == 0 && (each == MIB || each == MIB / 4);
}

static bool judge_python_arenas(struct judge *judge)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < judge->profile->site_count; i++)
        if (maps_python_arenas(judge->profile, &judge->profile->sites[i]))
            bytes += judge->profile->sites[i].mapped_bytes;
    if (!noticeable(judge, bytes))
        return false;
    found(judge, VERDICT_PYTHON_ARENAS, bytes)->step = VERDICT_STEP_PYTHONMALLOC;
    return bytes >= part(judge->ledger, LEDGER_MAPPED) / 2;
}

static void judge_mappings(struct judge *judge)
{
    uint64_t bytes = part(judge->ledger, LEDGER_MAPPED);
    if (judge_python_arenas(judge) || !noticeable(judge, bytes))
        return;
    struct rank_sum rank = rank_sum(judge->profile, RANK_MAPPED, PROFILE_KINDS);
    struct verdict_finding *finding = found(judge, VERDICT_MAPPINGS, bytes);
    if (rank.largest) {
        finding->site = rank.largest->id;
        finding->site_blocks = rank.largest->live_blocks > 0 ? (uint64_t)rank.largest->live_blocks : 0;
        finding->site_bytes = rank.largest->mapped_bytes;
    }
    finding->sites = (uint32_t)rank.count;
    finding->step = VERDICT_STEP_UNMAP;
}

static void judge_untold(struct judge *judge)
{
    int64_t live = judge->profile->sum[PROFILE_HEAP].live_bytes;
    uint64_t told = live > 0 ? (uint64_t)live : 0;
    uint64_t bytes = judge->program_rss > told ? judge->program_rss - told : 0;
    /* Code and stacks are always among it. */
    if (noticeable(judge, bytes) && bytes >= judge->program_rss / 2)
        found(judge, VERDICT_UNTOLD, bytes)->step = VERDICT_STEP_SNAPSHOT;
}

/* ---- the order of what matters ------------------------------------------------------------------ */

static uint64_t weight(const struct verdict_finding *finding)
{
    bool in_use = finding->kind == VERDICT_IN_USE || finding->kind == VERDICT_PYTHON_OBJECTS;
    return in_use ? finding->bytes / IN_USE_WEIGHT : finding->bytes;
}

static int finding_compare(const void *a, const void *b)
{
    const struct verdict_finding *x = a, *y = b;
    uint64_t x_weight = weight(x), y_weight = weight(y);
    if (x_weight != y_weight)
        return x_weight > y_weight ? -1 : 1;
    return (int)x->kind - (int)y->kind;
}

struct verdict verdict_find(const struct profile *profile, const struct ledger *ledger, const struct history *history)
{
    struct judge judge = { .profile = profile, .ledger = ledger, .history = history };
    uint64_t rss = ledger ? ledger->rss_bytes : profile->rss.last_bytes;
    uint64_t self = ledger ? part(ledger, LEDGER_SELF) : profile->rss.self_bytes;

    judge.program_rss = rss > self ? rss - self : 0;
    if (ledger) {
        judge_returnable(&judge);
        judge_shared_pages(&judge);
        judge_stuck(&judge);
        judge_caches(&judge);
        judge_arenas(&judge);
        judge_python_live(&judge);
        judge_mappings(&judge);
    } else {
        judge_untold(&judge);
    }
    judge_live(&judge);
    if (judge.verdict.count == 0)
        found(&judge, VERDICT_NOTHING, 0);
    qsort(judge.verdict.finding, judge.verdict.count, sizeof *judge.verdict.finding, finding_compare);
    return judge.verdict;
}

const char *verdict_kind_name(enum verdict_kind kind)
{
    static const char *const names[VERDICT_KINDS] = {
        [VERDICT_NOTHING] = "nothing-wrong", [VERDICT_UNTOLD] = "untold", [VERDICT_IN_USE] = "in-use", [VERDICT_LEAK] = "leak",
        [VERDICT_GROWTH] = "growth", [VERDICT_CACHE_GROWTH] = "cache-growth", [VERDICT_PINNED] = "pinned", [VERDICT_RETURNABLE] = "returnable",
        [VERDICT_TOP_KEPT] = "top-kept", [VERDICT_TOP_STUCK] = "top-stuck",
        [VERDICT_THREAD_ARENAS] = "thread-arenas", [VERDICT_FRAGMENTATION] = "fragmentation",
        [VERDICT_CACHED] = "cached", [VERDICT_ARENAS_HELD] = "arenas-held",
        [VERDICT_OTHER_ALLOCATOR] = "other-allocator", [VERDICT_MAPPINGS] = "mappings",
        [VERDICT_PYTHON_ARENAS] = "python-arenas", [VERDICT_PYTHON_OBJECTS] = "python-objects",
    };
    return names[kind];
}

const char *verdict_step_name(enum verdict_step step)
{
    static const char *const names[VERDICT_STEPS] = {
        [VERDICT_STEP_NONE] = "none", [VERDICT_STEP_SNAPSHOT] = "snapshot", [VERDICT_STEP_TRIM] = "trim", [VERDICT_STEP_FREE] = "free-blocks",
        [VERDICT_STEP_LIVE] = "look-at-live", [VERDICT_STEP_ARENA_MAX] = "set-arena-max",
        [VERDICT_STEP_THRESHOLDS] = "set-thresholds",
        [VERDICT_STEP_TCACHE] = "disable-tcache", [VERDICT_STEP_SEPARATE] = "separate-lifetimes",
        [VERDICT_STEP_UNMAP] = "unmap", [VERDICT_STEP_LEVER] = "allocator-purge",
        [VERDICT_STEP_DROP] = "drop-objects", [VERDICT_STEP_PYTHONMALLOC] = "set-pythonmalloc",
    };
    return names[step];
}
