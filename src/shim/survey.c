/* SPDX-License-Identifier: MIT */
#include "shim/survey.h"

#include "census/blockmap.h"
#include "census/census.h"
#include "freestanding/sys.h"
#include "freestanding/text.h"
#include "shim/mapping.h"
#include "shim/python.h"
#include "shim/real.h"
#include "shim/recording.h"
#include "shim/sampling.h"
#include "shim/spin.h"
#include "shim/start.h"
#include "shim/survey_exact.h"
#include "shim/thread.h"
#include "shim/timeline.h"

#include <errno.h>

extern const char *gnu_get_libc_version(void) __attribute__((weak));

#define KINDS 8
#define RING_LIMIT 32u
static const uint8_t ring_size[KINDS] = {
    [HMK_CENSUS_EXIT] = 2,        [HMK_CENSUS_REQUEST] = RING_LIMIT, [HMK_CENSUS_MARK] = RING_LIMIT,
    [HMK_CENSUS_TRIM_BEFORE] = 8, [HMK_CENSUS_TRIM_AFTER] = 8,       [HMK_CENSUS_RSS_PEAK] = 2,
    [HMK_CENSUS_DROP] = 2,
};
static struct {
    uint32_t taken;
    uint64_t record[RING_LIMIT];
} ring[KINDS];
static struct spin surveying;
static uint64_t top_granule;

#define NEVER UINT64_MAX
static struct {
    uint64_t begun_ns;
    uint64_t spent_ns;
    uint64_t cost_ns, cost_rss_bytes;   /* of the last census of any kind; 0: none yet */
    uint64_t rss_bytes;         /* at the last census of a peak */
    int64_t live_high, live_before;
} watch;

/* ---- what a census needs to know ---------------------------------------------------------------- */

/* glibc asks for huge pages, and trims in units of them, since 2.35 and only where the system waits to be asked. */
static uint64_t huge_page_asked_for(char *const *environment)
{
    static const char name[] = "GLIBC_TUNABLES=", tunable[] = "glibc.malloc.hugetlb=1", asked[] = "[madvise]";
    char text[64];
    const char *end;
    uint64_t bytes, minor;
    bool wanted = false, waits = false;

    for (; *environment != NULL; environment++)
        for (const char *at = *environment; text_starts(*environment, name) && *at != 0; at++)
            wanted |= text_starts(at, tunable);
    if (!wanted || !gnu_get_libc_version || !text_starts(gnu_get_libc_version(), "2.") ||
        !text_parse_size(gnu_get_libc_version() + 2, &end, &minor) || minor < 35 ||
        sys_read_file("/sys/kernel/mm/transparent_hugepage/enabled", text, sizeof text) <= 0)
        return 0;
    for (const char *at = text; *at != 0; at++)
        waits |= text_starts(at, asked);
    if (!waits || sys_read_file("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size", text, sizeof text) <= 0 ||
        !text_parse_size(text, &end, &bytes))
        return 0;
    return bytes;
}

void survey_init(char *const *environment)
{
    watch.begun_ns = sys_monotonic_ns();
    top_granule = huge_page_asked_for(environment);
}

static void add_pending(struct thread *thread, void *sum)
{
    *(int64_t *)sum += HMK_GET(thread->record->pending_bytes);
}

static uint64_t live_now(void *context)
{
    (void)context;
    int64_t live = HMK_GET(recording_live->heap.live_bytes);
    thread_each(add_pending, &live);
    return live > 0 ? (uint64_t)live : 0;
}

_Static_assert(sizeof(struct census_mapping) == sizeof(struct mapping_interval), "the same three fields");
static uint32_t mappings_now(struct census_mapping *to, uint32_t room, void *context)
{
    (void)context;
    return mapping_copy((struct mapping_interval *)to, room);
}

/* glibc leaves a mark in the second word of a block that waits in the thread's cache.  0: there is no such cache. */
static uint64_t tcache_key(void)
{
    if (!start_is_glibc)
        return 0;
    volatile uint64_t *block = real.malloc(24);
    if (block == NULL)
        return 0;
    uintptr_t kept = (uintptr_t)block;
    block[1] = 0;
    real.free((void *)block);
    return ((volatile uint64_t *)kept)[1];
}

static bool is_alone(void)
{
    char status[4096];
    uint64_t threads;
    return sys_read_file("/proc/thread-self/status", status, sizeof status) > 0 &&
           text_field(status, "Threads:", &threads) && threads == 1;
}

/* ---- writing it down ---------------------------------------------------------------------------- */

static uint64_t next_slot(enum hmk_census_kind kind)
{
    static const struct hmk_census empty;
    uint32_t at = ring[kind].taken % ring_size[kind];
    if (ring[kind].taken < ring_size[kind])
        ring[kind].record[at] = recording_append(HMK_CENSUSES, &empty);
    return ring[kind].record[at];
}

/* A place for `count` records that the slot owns; fewer when the disk is full. */
static uint64_t make_room(enum hmk_table_id id, uint64_t *first, uint64_t *capacity, uint64_t count)
{
    if (count <= *capacity)
        return count;
    uint64_t larger = count + count / 4 + 16;
    uint64_t place = recording_append_zeroed(id, larger);
    if (place == RECORDING_NONE)
        return *capacity;
    *first = place;
    *capacity = larger;
    return count;
}

static void copy_records(enum hmk_table_id id, uint64_t first, const void *from, uint64_t count, size_t each)
{
    if (count > 0)
        __builtin_memcpy(recording_at(id, first), from, count * each);
}

/* Of types whose objects keep arenas; the same ones census after census.  A child inherits the parent's strings. */
#define TYPE_NAMES 512u
static uint32_t type_names[TYPE_NAMES];

static uint32_t type_name(const char *name)
{
    uint32_t i = 0;
    for (; i < TYPE_NAMES && type_names[i] != 0; i++)
        if (text_equal(recording_at(HMK_STRINGS, type_names[i]), name))
            return type_names[i];
    return i < TYPE_NAMES ? type_names[i] = recording_string(name, text_length(name)) : 0;
}

static void name_types(const struct census_result *taken)
{
    for (uint32_t i = 0; i < taken->pin_count; i++)
        if (taken->pins[i].kind == HMK_PIN_ARENA)
            taken->pins[i].address = type_name((const char *)taken->pins[i].address);
}

static bool store(const struct census_result *taken, uint64_t record)
{
    struct hmk_census *slot = recording_at(HMK_CENSUSES, record);
    uint32_t sequence = slot->sequence;
    HMK_PUBLISH(slot->sequence, sequence + 1);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    struct hmk_census fresh = taken->census;
    fresh.sequence = sequence + 1;
    fresh.row_first = slot->row_first;
    fresh.row_capacity = slot->row_capacity;
    fresh.pin_first = slot->pin_first;
    fresh.pin_capacity = slot->pin_capacity;
    fresh.row_count = make_room(HMK_CENSUS_ROWS, &fresh.row_first, &fresh.row_capacity, taken->row_count);
    fresh.pin_count = make_room(HMK_PINS, &fresh.pin_first, &fresh.pin_capacity, taken->pin_count);
    if (fresh.row_count < taken->row_count || fresh.pin_count < taken->pin_count)
        fresh.flags |= HMK_CENSUS_ROWS_CUT;
    copy_records(HMK_CENSUS_ROWS, fresh.row_first, taken->rows, fresh.row_count, sizeof *taken->rows);
    copy_records(HMK_PINS, fresh.pin_first, taken->pins, fresh.pin_count, sizeof *taken->pins);
    *slot = fresh;
    HMK_PUBLISH(slot->sequence, sequence + 2);
    return true;
}

void survey_release(void)
{
    if (is_alone())
        blockmap_release_unused();
}

static struct census_request describe(enum hmk_census_kind kind, const char *label)
{
    return (struct census_request){
        .kind = kind,
        .label = label[0] != 0 ? recording_string(label, text_length(label)) : 0,
        .site_count = (uint32_t)recording_count(HMK_SITES),
        .alone = is_alone(),
        .sampled = recording_live->sampled_from_ns != 0 || (recording_header->flags & HMK_FLAG_SAMPLED),
        .weight = sampling_stands_for,
        .sample_bytes = sampling_interval,
        .exact = recording_live->heap.threads_seen < 2 && recording_live->sampled_from_ns == 0,
        .live_bytes = live_now,
        .mappings = mappings_now,
        .allocator_code = (uintptr_t)real.malloc,
        .tcache_key = tcache_key(),
        .top_granule = top_granule,
        .stale_live = recording_live->stale_live,
        .python_minor = python_minor(),
        .python_type = python_type_type(),
    };
}

static void keep(struct census_result *taken, uint64_t record, struct survey_result *result)
{
    const struct hmk_census *census = &taken->census;
    name_types(taken);
    store(taken, record);
    ring[census->kind].taken++;
    result->record = record;
    result->forecast_bytes = census->flags & HMK_CENSUS_WALKED ? census->forecast_walk_bytes
                                                               : census->forecast_map_bytes;
    HMK_SET(recording_live->self_bytes, census->self_bytes);
    watch.spent_ns += census->cost_ns;
    watch.cost_ns = census->cost_ns;
    watch.cost_rss_bytes = census->rss_bytes;
}

static bool take_and_store(enum hmk_census_kind kind, const char *label, struct survey_result *result)
{
    uint64_t record = next_slot(kind);
    if (record == RECORDING_NONE)
        return false;
    struct census_request request = describe(kind, label);
    struct census_result taken;
    if (kind == HMK_CENSUS_TRIM_AFTER)
        survey_release();
    if (kind != HMK_CENSUS_EXIT)        /* the end has read the peak, and nobody reads it after it */
        timeline_own_peak_begin();
    bool done = census_take(&request, &taken);
    if (done) {
        uint64_t peak = recording_live->rss_peak_bytes, rss = taken.census.rss_bytes;
        taken.census.rss_hwm_bytes = peak > rss ? peak : rss;       /* the ledger itself has our memory of the moment, too */
        keep(&taken, record, result);
        census_release(&taken);
    }
    if (kind != HMK_CENSUS_EXIT)
        timeline_own_peak_end();
    return done;
}

bool survey_take(struct thread *thread, enum hmk_census_kind kind, const char *label, struct survey_result *result)
{
    (void)thread;
    *result = (struct survey_result){.record = NEVER};
    if (recording_header == NULL || !spin_try(&surveying))
        return false;
    bool done = take_and_store(kind, label, result);
    spin_unlock(&surveying);
    return done;
}

static bool take_exact(const struct thread *thread, enum hmk_census_kind kind, const char *label,
                       struct survey_result *result)
{
    uint64_t record = next_slot(kind);
    if (record == RECORDING_NONE)
        return false;
    struct census_request request = describe(kind, label);
    struct exact exact;
    bool done = exact_take(thread, &request, &exact);
    result->exact_error = exact.outcome.error;
    result->exact_inside = exact.outcome.inside;
    if (done) {
        keep(&exact.taken, record, result);
        exact_release(&exact);
    } else if (exact.outcome.error == 0) {
        result->exact_error = ECHILD;
    }
    return done;
}

bool survey_take_exact(struct thread *thread, enum hmk_census_kind kind, const char *label, struct survey_result *result)
{
    *result = (struct survey_result){.record = NEVER};
    if (recording_header == NULL || !spin_try(&surveying))
        return false;
    bool done = take_exact(thread, kind, label, result) || take_and_store(kind, label, result);
    spin_unlock(&surveying);
    return done;
}

/* ---- on its own --------------------------------------------------------------------------------- */

#define STEP_BYTES (32u << 20)
/* What the first is taken to cost. */
#define FIRST_NS UINT64_C(1000000)
#define FIRST_NS_A_MIB UINT64_C(40000)

static uint64_t cost_of_next(uint64_t rss)
{
    if (watch.cost_rss_bytes == 0)
        return FIRST_NS + (rss >> 20) * FIRST_NS_A_MIB;
    return rss > watch.cost_rss_bytes ? (uint64_t)((double)watch.cost_ns * (double)rss / (double)watch.cost_rss_bytes) : watch.cost_ns;
}

/* A process that has run for a moment most likely ends, or has grown, before the ledger of a peak is of use.  A fall may be the
 * last event for long: what its ledger costs may be made up for later. */
static bool can_pay(uint64_t rss, uint64_t now, bool fall)
{
    uint64_t share = now > watch.begun_ns ? (now - watch.begun_ns) / 100 : 0;
    return watch.spent_ns <= share && watch.spent_ns + cost_of_next(rss) <= (fall ? 2 * share : share);
}

static void watch_once(void)
{
    struct survey_result ignored;
    int64_t live = (int64_t)live_now(NULL);
    uint64_t rss = HMK_GET(recording_live->rss_last_bytes), now = HMK_GET(recording_live->last_ns);
    bool quiet = live - watch.live_before < live / 64 + 65536 && watch.live_before - live < live / 64 + 65536;
    watch.live_before = live;
    if (live > watch.live_high)
        watch.live_high = live;
    /* In the middle of a large fall one is taken at each halving: the rest may come within the next milliseconds, and after it
     * there may be no event to be woken by. */
    if (watch.live_high - live > STEP_BYTES && (live < watch.live_high / 2 || (quiet && live < watch.live_high / 4 * 3))) {
        if (!can_pay(rss, now, true))
            return;
        watch.live_high = live;
        take_and_store(HMK_CENSUS_DROP, "", &ignored);
    } else if (rss > watch.rss_bytes + watch.rss_bytes / 8 + STEP_BYTES / 4 && can_pay(rss, now, false)) {
        watch.rss_bytes = rss;
        take_and_store(HMK_CENSUS_RSS_PEAK, "", &ignored);
    }
}

void survey_watch(void)
{
    if (recording_header == NULL || !spin_try(&surveying))
        return;
    watch_once();
    spin_unlock(&surveying);
}

void survey_after_fork(void)
{
    spin_reset(&surveying);
    for (unsigned kind = 0; kind < KINDS; kind++)
        ring[kind].taken = 0;
    watch.begun_ns = sys_monotonic_ns();
    watch.spent_ns = 0;
    watch.cost_rss_bytes = 0;
    watch.rss_bytes = 0;
    watch.live_high = 0;
}
