/* SPDX-License-Identifier: MIT */
#include "analysis/alike.h"
#include "analysis/history.h"
#include "analysis/ledger.h"
#include "analysis/profile.h"
#include "analysis/rank.h"
#include "analysis/verdict.h"

#include "contract/publish.h"
#include "contract/read.h"
#include "synthetic.h"
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MIB(n) ((int64_t)(n) << 20)
#define SECOND UINT64_C(1000000000)

static struct read_file *file;
static struct profile *profile;
static struct ledgers ledgers;
static struct history history;
static struct verdict verdict;

static void analyse(struct synthetic *s)
{
    struct read_error error;
    size_t size;
    unsigned char *bytes = synthetic_finish(s, &size);
    file = read_memory(bytes, size, "x.hmk", &error);
    free(bytes);
    ck_assert_msg(file != NULL, "%s", error.sentence);
    profile = profile_new(file);
    ledgers = ledgers_read(file);
    history = history_read(file);
    verdict = verdict_find(profile, ledgers_newest(&ledgers), &history);
}

static void forget(void)
{
    history_free(&history);
    ledgers_free(&ledgers);
    profile_free(profile);
    read_close(file);
}

#define FIRST HMK_SITE_FIRST

/* ---- sums --------------------------------------------------------------------------------------- */

START_TEST(sites_are_summed_over_threads)
{
    struct synthetic s;
    synthetic_threads(&s);
    analyse(&s);
    const struct profile_site *queue = &profile->sites[FIRST];
    ck_assert_uint_eq(queue->allocations, 1000);
    ck_assert_uint_eq(queue->frees, 900);
    ck_assert_int_eq(queue->live_bytes, MIB(10));
    ck_assert_int_eq(queue->live_blocks, 100);
    ck_assert_int_eq(queue->slack_bytes, 1600);
    ck_assert_uint_eq(queue->temporary, 3);
    ck_assert(queue->cut && !queue->incomplete);
    ck_assert_uint_eq(queue->held_bytes, (uint64_t)MIB(74));
    ck_assert_int_eq(profile->sum[PROFILE_HEAP].live_bytes, MIB(11));
    ck_assert_uint_eq(profile->sum[PROFILE_HEAP].allocations, 1300);
    ck_assert_uint_eq(profile->sum[PROFILE_MAPPING].allocations, 2);
    ck_assert_int_eq(profile->sum[PROFILE_MAPPING].live_bytes, MIB(32));
    ck_assert_uint_eq(profile->sum[PROFILE_MAPPING].mapped_bytes, (uint64_t)MIB(30));
    ck_assert_uint_eq(profile->heap.error_bytes, 2 * 65536);
    ck_assert_uint_eq(profile->process.thread_count, 2);
    ck_assert_str_eq(profile->process.name, "tool");
    ck_assert_int_eq(profile->process.exit_status, 3);
    forget();
}
END_TEST

/* The rule of format.h: stored when the cell was touched after the peak, live when not. */
START_TEST(the_peak_is_put_together_by_epochs)
{
    struct synthetic s;
    synthetic_threads(&s);
    analyse(&s);
    ck_assert_int_eq(profile->sites[FIRST].peak_bytes, MIB(80));
    ck_assert_int_eq(profile->sites[FIRST].peak_blocks, 800);
    ck_assert_int_eq(profile->sites[FIRST + 1].peak_bytes, MIB(1));
    ck_assert_int_eq(profile->sites[FIRST + 1].peak_blocks, 256);
    ck_assert_int_eq(profile->sum[PROFILE_HEAP].peak_bytes, profile->heap.peak_bytes);
    ck_assert(!profile->heap.rising);
    forget();

    synthetic_threads(&s);
    s.live.heap.rising = 1;
    analyse(&s);
    ck_assert_int_eq(profile->sites[FIRST].peak_bytes, MIB(10));
    forget();

    /* What threads have not flushed lies above the recorded peak: now is the peak. */
    synthetic_threads(&s);
    s.live.heap.peak_bytes = MIB(9);
    analyse(&s);
    ck_assert(profile->heap.rising);
    ck_assert_int_eq(profile->heap.peak_bytes, MIB(11));
    ck_assert_int_eq(profile->heap.peak_blocks, 356);
    ck_assert_int_eq(profile->sum[PROFILE_HEAP].peak_bytes, MIB(11));
    forget();
}
END_TEST

/* Errors: of what was allocated as recorded, of a part its share; the peak is what the two half samples say. */
START_TEST(estimates_have_errors)
{
    struct synthetic s;
    synthetic_sampled(&s);
    analyse(&s);
    const struct profile_site *small = &profile->sites[FIRST], *large = &profile->sites[FIRST + 1];
    double whole = (double)MIB(100) * (double)MIB(1) / 4;
    ck_assert(profile->process.has_errors);
    ck_assert_int_eq(profile->heap.peak_bytes, MIB(64));
    ck_assert_int_eq(profile->heap.peak_blocks, 51999);
    ck_assert_int_eq(small->peak_bytes, MIB(49));
    ck_assert_int_eq(small->peak_blocks, 51998);
    ck_assert_int_eq(large->peak_bytes, MIB(15));       /* known exactly */
    ck_assert_int_eq(large->peak_blocks, 1);
    ck_assert_int_eq(profile->sum[PROFILE_HEAP].peak_bytes, MIB(64));
    ck_assert_double_le(fabs(small->variance.allocated_bytes / whole - 1), 1e-6);
    ck_assert_double_le(fabs(small->variance.live_bytes / whole - 0.25), 1e-6);
    ck_assert_double_le(fabs(small->variance.peak_bytes / whole - 0.49), 1e-6);
    ck_assert_double_le(fabs(small->variance.live_blocks / 100000 / 250 - 0.25), 1e-6);
    ck_assert_double_eq(large->variance.allocated_bytes, 0);
    ck_assert_double_eq(profile->sum[PROFILE_HEAP].variance.peak_bytes, small->variance.peak_bytes);
    /* 400 samples of a quarter of a MiB: 5 MiB, and one sample more. */
    ck_assert_double_le(fabs(profile_error(whole, (double)MIB(100)) / (double)MIB(5) - sqrt(1 + 1 / 400.0)), 1e-6);
    ck_assert_double_eq(profile_error(0, 1e9), 0);
    ck_assert_double_eq(profile_error(0, 0), 0);
    ck_assert(profile->pins_estimated);
    ck_assert_uint_eq(small->pin_share_bytes, MIB(5));
    ck_assert_double_eq(small->pin_share_variance, (double)MIB(1) * (double)MIB(1));
    ck_assert_double_eq(large->pin_share_variance, 0);
    forget();

    /* An older writer knew of none of it. */
    synthetic_sampled(&s);
    s.header.minor = 0;
    ((struct hmk_census *)synthetic_record(&s, HMK_CENSUSES, 0))->flags &= ~(uint32_t)HMK_CENSUS_ESTIMATED;
    memset(s.live.half, 0, sizeof s.live.half);
    analyse(&s);
    ck_assert(!profile->process.has_errors);
    ck_assert(!profile->pins_estimated);
    ck_assert_double_eq(profile->sites[FIRST].pin_share_variance, 0);
    ck_assert_int_eq(profile->heap.peak_bytes, MIB(80));
    ck_assert_double_eq(profile->sum[PROFILE_HEAP].variance.peak_bytes, 0);
    forget();
}
END_TEST

START_TEST(a_sites_own_peak_is_never_below_what_it_had)
{
    struct synthetic s;
    synthetic_threads(&s);
    ((struct hmk_site_peak *)synthetic_record(&s, HMK_SITE_PEAKS, FIRST + 1))->peak_bytes = MIB(2);
    analyse(&s);
    ck_assert_int_eq(profile->sites[FIRST].own_peak_bytes, MIB(80));        /* share of the peak */
    ck_assert_uint_eq(profile->sites[FIRST].own_peak_ns, 3 * SECOND);
    ck_assert_int_eq(profile->sites[FIRST + 1].own_peak_bytes, MIB(2));     /* recorded */
    ck_assert_int_eq(profile->sites[FIRST + 2].own_peak_bytes, MIB(32));    /* live now */
    forget();
}
END_TEST

START_TEST(frames_know_their_module)
{
    struct synthetic s;
    struct profile_frame frame;
    synthetic_threads(&s);
    analyse(&s);
    ck_assert(profile_frame(profile, profile->sites[FIRST].frame, &frame));
    ck_assert_uint_eq(frame.module, 0);
    ck_assert_uint_eq(frame.address, 0x2200);
    ck_assert_uint_eq(frame.parent, 1);
    ck_assert(profile_frame(profile, profile->sites[FIRST + 1].frame, &frame));
    ck_assert_uint_eq(frame.module, PROFILE_NO_MODULE);
    ck_assert_uint_eq(frame.address, 0x7fff00001000);
    ck_assert(!profile_frame(profile, 0, &frame));
    ck_assert(!profile_frame(profile, 12345, &frame));
    ck_assert_ptr_nonnull(profile_site_meaning(&profile->sites[HMK_SITE_LOST]));
    ck_assert_ptr_null(profile_site_meaning(&profile->sites[FIRST]));
    forget();
}
END_TEST

START_TEST(size_classes_meet_without_gaps)
{
    uint64_t from, to, last = 0;
    for (unsigned i = 1; i < PROFILE_SIZE_CLASSES; i++) {
        profile_size_class(i, &from, &to);
        ck_assert_uint_eq(from, last + 1);
        ck_assert_uint_eq(hmk_size_class(from), i);
        if (to == UINT64_MAX)
            break;
        ck_assert_uint_eq(hmk_size_class(to), i);
        last = to;
    }
    ck_assert_uint_eq(to, UINT64_MAX);
}
END_TEST

START_TEST(ranks_are_total_and_repeatable)
{
    struct synthetic s;
    synthetic_start(&s);
    uint32_t module = synthetic_module(&s, "/bin/x", 0), frame = synthetic_frame(&s, 0, module, 16);
    for (unsigned i = 0; i < 100; i++) {
        uint32_t site = synthetic_site(&s, frame, HMK_KIND_HEAP);
        *synthetic_cell(&s, 0, site) = (struct hmk_cell){ .allocations = 1, .allocated_bytes = 100 * (i % 5) };
    }
    analyse(&s);
    struct rank rank = rank_sites(profile, RANK_LIVE, PROFILE_HEAP);
    ck_assert_uint_eq(rank.count, 80);
    ck_assert_int_eq(rank.total, 20 * (100 + 200 + 300 + 400));
    for (size_t i = 1; i < rank.count; i++) {
        int64_t before = rank.sites[i - 1]->live_bytes, now = rank.sites[i]->live_bytes;
        ck_assert(before > now || (before == now && rank.sites[i - 1]->id < rank.sites[i]->id));
    }
    rank_free(&rank);
    for (unsigned key = 0; key < RANK_KEYS; key++)
        ck_assert_uint_eq(rank_key_named(rank_key_name(key)), key);
    ck_assert_uint_eq(rank_key_named("size"), RANK_KEYS);
    forget();
}
END_TEST

/* ---- ledger ------------------------------------------------------------------------------------- */

START_TEST(the_ledger_sums_to_rss)
{
    struct synthetic s;
    synthetic_pinned(&s);
    analyse(&s);
    ck_assert_uint_eq(ledgers.count, 1);    /* the other one was being written */
    const struct ledger *ledger = ledgers_newest(&ledgers);
    ck_assert_int_eq(ledger->sum_bytes, MIB(900));
    ck_assert_uint_eq(ledger->rss_bytes, (uint64_t)MIB(900));
    ck_assert_int_eq(ledger->held_bytes, MIB(869) - 2048);
    ck_assert_uint_eq(ledger->forecast_bytes, (uint64_t)MIB(868) - 4096);
    ck_assert(ledger->walked && ledger->closed && !ledger->moving);
    ck_assert_uint_eq(ledger->pin_count, 1);
    ck_assert(ledger->pins[0].kind == LEDGER_PIN_TOP);
    ck_assert(ledger->pins[0].returnable && !ledger->pins[0].returns_itself);
    ck_assert_ptr_null(ledgers_at_peak(&ledgers));
    forget();

    synthetic_threads(&s);
    analyse(&s);
    ck_assert_uint_eq(ledgers.count, 2);
    ck_assert_uint_eq(ledgers_newest(&ledgers)->time_ns, 9 * SECOND);
    ck_assert_uint_eq(ledgers_at_peak(&ledgers)->rss_bytes, (uint64_t)MIB(190));
    for (size_t i = 0; i < ledgers.count; i++)
        ck_assert_int_eq(ledgers.at[i].sum_bytes, (int64_t)ledgers.at[i].rss_bytes);
    ck_assert_uint_eq(ledgers_newest(&ledgers)->arena_count, 9);
    ck_assert_int_eq(ledgers_newest(&ledgers)->arena[7].resident_bytes, MIB(17));
    ck_assert_uint_eq(ledgers_newest(&ledgers)->arena[7].heaps, 2);
    /* Without an accepted walk the block map's forecast counts. */
    ck_assert_uint_eq(ledgers_newest(&ledgers)->forecast_bytes, (uint64_t)MIB(1));
    forget();
}
END_TEST

START_TEST(a_census_that_saw_more_held_is_found)
{
    struct synthetic s;
    struct hmk_census earlier = { .sequence = 2, .kind = HMK_CENSUS_DROP, .time_ns = 1003 * SECOND,
                                  .rss_bytes = (uint64_t)MIB(2000) };
    synthetic_pinned(&s);
    earlier.held_bytes[HMK_CAUSE_PARTIAL] = (uint64_t)MIB(1800);
    synthetic_add(&s, HMK_CENSUSES, &earlier);
    analyse(&s);
    ck_assert_uint_eq(ledgers_newest(&ledgers)->time_ns, 10 * SECOND);
    ck_assert_ptr_nonnull(ledgers_more_held(&ledgers));
    ck_assert_int_eq(ledgers_more_held(&ledgers)->held_bytes, MIB(1800));
    forget();

    synthetic_pinned(&s);
    earlier.held_bytes[HMK_CAUSE_PARTIAL] = (uint64_t)MIB(1000);
    synthetic_add(&s, HMK_CENSUSES, &earlier);
    analyse(&s);
    ck_assert_ptr_null(ledgers_more_held(&ledgers));
    forget();

    synthetic_start(&s);
    analyse(&s);
    ck_assert_ptr_null(ledgers_more_held(&ledgers));
    forget();
}
END_TEST

/* ---- history ------------------------------------------------------------------------------------ */

START_TEST(phases_nest_and_have_their_peaks)
{
    struct synthetic s;
    synthetic_threads(&s);
    analyse(&s);
    ck_assert_uint_eq(history.phase_count, 3);
    const struct history_phase *load = &history.phases[0], *parse = &history.phases[1], *serve = &history.phases[2];
    ck_assert_str_eq(load->label, "load");
    ck_assert_uint_eq(load->depth, 0);
    ck_assert_uint_eq(load->end_ns, 5 * SECOND);
    ck_assert_str_eq(parse->label, "parse");
    ck_assert_uint_eq(parse->depth, 1);
    ck_assert(!parse->open);
    ck_assert_int_eq(parse->live_peak_bytes, MIB(80) + 4096);
    ck_assert_uint_eq(parse->rss_peak_bytes, (uint64_t)MIB(188) + 4096);
    ck_assert(serve->open);
    ck_assert_uint_eq(serve->end_ns, 10 * SECOND);
    ck_assert_int_eq(serve->live_peak_bytes, MIB(11));
    ck_assert_uint_eq(history.fork_count, 1);
    ck_assert_uint_eq(history.note_count, 2);
    forget();
}
END_TEST

START_TEST(marks_make_spans_and_trims_are_listed)
{
    struct synthetic s;
    synthetic_pinned(&s);
    synthetic_event(&s, 8000, HMK_EVENT_MARK, "done", 0, 0);
    analyse(&s);
    ck_assert_uint_eq(history.mark_count, 2);
    ck_assert_uint_eq(history.phase_count, 3);
    ck_assert_str_eq(history.phases[0].label, "start");
    ck_assert_uint_eq(history.phases[0].end_ns, 5 * SECOND);
    ck_assert_int_eq(history.phases[0].live_peak_bytes, MIB(750) + 4096);
    ck_assert_str_eq(history.phases[1].label, "parsed");
    ck_assert(history.phases[1].between_marks && !history.phases[1].open);
    ck_assert_uint_eq(history.phases[1].end_ns, 8 * SECOND);
    ck_assert(history.phases[2].open);
    ck_assert_uint_eq(history.trim_count, 1);
    ck_assert_uint_eq(history.trims[0].forecast_bytes, (uint64_t)MIB(1));
    ck_assert_uint_eq(history.trims[0].duration_ns, 2000000);
    forget();
}
END_TEST

START_TEST(an_end_without_a_beginning_is_ignored)
{
    struct synthetic s;
    synthetic_start(&s);
    synthetic_event(&s, 1000, HMK_EVENT_PHASE_END, "never", 0, 0);
    synthetic_event(&s, 2000, HMK_EVENT_PHASE_BEGIN, "a", 0, 0);
    synthetic_event(&s, 3000, HMK_EVENT_PHASE_BEGIN, "a", 0, 0);
    synthetic_event(&s, 4000, HMK_EVENT_PHASE_END, "a", 0, 0);
    analyse(&s);
    ck_assert_uint_eq(history.phase_count, 2);
    ck_assert(history.phases[0].open);
    ck_assert(!history.phases[1].open);
    ck_assert_uint_eq(history.phases[1].end_ns, 4 * SECOND);
    forget();
}
END_TEST

/* ---- verdict ------------------------------------------------------------------------------------ */

/* A census at exit of a process of 200 MiB, of which the test sets the parts. */
static struct hmk_census census_of(struct synthetic *s)
{
    synthetic_start(s);
    uint32_t module = synthetic_module(s, "/bin/x", 0);
    synthetic_site(s, synthetic_frame(s, 0, module, 16), HMK_KIND_HEAP);
    return (struct hmk_census){ .sequence = 2, .kind = HMK_CENSUS_EXIT, .flags = HMK_CENSUS_WALKED,
                                .time_ns = 1010 * SECOND, .rss_bytes = (uint64_t)MIB(200), .arena_count = 1,
                                .file_bytes = (uint64_t)MIB(20), .self_bytes = (uint64_t)MIB(10) };
}

static enum verdict_kind judged(struct synthetic *s, const struct hmk_census *census)
{
    synthetic_add(s, HMK_CENSUSES, census);
    analyse(s);
    return verdict.finding[0].kind;
}

START_TEST(one_block_under_the_top_is_the_verdict)
{
    struct synthetic s;
    synthetic_pinned(&s);
    analyse(&s);
    ck_assert_int_eq(verdict.finding[0].kind, VERDICT_PINNED);
    ck_assert_uint_eq(verdict.finding[0].site, FIRST + 1);
    ck_assert_uint_eq(verdict.finding[0].site_bytes, 624);
    ck_assert_int_eq(verdict.finding[0].step, VERDICT_STEP_TRIM);
    ck_assert_uint_eq(verdict.finding[0].step_bytes, (uint64_t)MIB(868) - 4096);
    forget();
}
END_TEST

START_TEST(held_memory_is_judged_by_its_cause)
{
    static const struct {
        enum hmk_cause cause;
        uint32_t arenas;
        enum verdict_kind kind;
        enum verdict_step step;
    } cases[] = {
        { HMK_CAUSE_RETURNABLE, 1, VERDICT_RETURNABLE, VERDICT_STEP_TRIM },
        { HMK_CAUSE_TOP, 1, VERDICT_TOP_KEPT, VERDICT_STEP_TRIM },
        { HMK_CAUSE_PARTIAL, 1, VERDICT_FRAGMENTATION, VERDICT_STEP_SEPARATE },
        { HMK_CAUSE_STUCK_TOP, 2, VERDICT_TOP_STUCK, VERDICT_STEP_THRESHOLDS },
        { HMK_CAUSE_STUCK_TOP, 9, VERDICT_THREAD_ARENAS, VERDICT_STEP_THRESHOLDS },
        { HMK_CAUSE_STUCK_TOP, 1300, VERDICT_THREAD_ARENAS, VERDICT_STEP_ARENA_MAX },
        { HMK_CAUSE_CACHED, 1, VERDICT_CACHED, VERDICT_STEP_TCACHE },
        { HMK_CAUSE_ARENA, 1, VERDICT_ARENAS_HELD, VERDICT_STEP_DROP },
        { HMK_CAUSE_FOREIGN, 1, VERDICT_OTHER_ALLOCATOR, VERDICT_STEP_LEVER },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct synthetic s;
        struct hmk_census census = census_of(&s);
        census.held_bytes[cases[i].cause] = (uint64_t)MIB(150);
        census.live_bytes = (uint64_t)MIB(20);
        census.arena_count = cases[i].arenas;
        /* The last place stands for all that have none. */
        census.arena[cases[i].arenas < HMK_CENSUS_ARENAS ? cases[i].arenas - 1 : HMK_CENSUS_ARENAS - 1].stuck_bytes =
            census.held_bytes[HMK_CAUSE_STUCK_TOP];
        census.forecast_walk_bytes = (uint64_t)MIB(150);
        ck_assert_int_eq(judged(&s, &census), cases[i].kind);
        ck_assert_int_eq(verdict.finding[0].step, cases[i].step);
        ck_assert_uint_eq(verdict.finding[0].bytes, (uint64_t)MIB(150));
        forget();
    }
}
END_TEST

/* Few small blocks on the pages: they are named.  Blocks as large as what they hold: it is the pattern. */
START_TEST(pins_of_pages_are_named_when_they_are_few)
{
    for (int few = 0; few < 2; few++) {
        struct synthetic s;
        struct hmk_census census = census_of(&s);
        census.held_bytes[HMK_CAUSE_PARTIAL] = (uint64_t)MIB(150);
        struct hmk_pin pin = { .kind = HMK_PIN_PAGES, .site = FIRST, .blocks = 1200,
                               .bytes = (uint64_t)(few ? 95 << 10 : MIB(100)), .gain_bytes = (uint64_t)MIB(140),
                               .cumulative_bytes = (uint64_t)MIB(140) };
        census.pin_first = synthetic_add(&s, HMK_PINS, &pin);
        census.pin_count = 1;
        ck_assert_int_eq(judged(&s, &census), few ? VERDICT_PINNED : VERDICT_FRAGMENTATION);
        ck_assert_uint_eq(verdict.finding[0].site, FIRST);
        ck_assert_int_eq(verdict.finding[0].step, few ? VERDICT_STEP_FREE : VERDICT_STEP_SEPARATE);
        forget();
    }
}
END_TEST

/* Without ranked sets the rows tell: 24 KiB of one site alone on 120 MiB of pages. */
START_TEST(sites_alone_on_their_pages_are_named_without_sets)
{
    struct synthetic s;
    struct hmk_census census = census_of(&s);
    struct hmk_census_row row = { .site = FIRST, .pin_sole_bytes = (uint64_t)MIB(120),
                                  .pin_share_bytes = (uint64_t)MIB(130) };
    *synthetic_cell(&s, 0, FIRST) = (struct hmk_cell){ .allocations = 1000, .allocated_bytes = 24000 };
    census.held_bytes[HMK_CAUSE_PARTIAL] = (uint64_t)MIB(150);
    census.row_first = synthetic_add(&s, HMK_CENSUS_ROWS, &row);
    census.row_count = 1;
    ck_assert_int_eq(judged(&s, &census), VERDICT_PINNED);
    ck_assert_uint_eq(verdict.finding[0].site, FIRST);
    ck_assert_uint_eq(verdict.finding[0].site_blocks, 1000);
    ck_assert_uint_eq(verdict.finding[0].step_bytes, (uint64_t)MIB(120));
    forget();
}
END_TEST

/* The same small blocks on their pages and at the top of the heap: one finding, and what goes with all of them. */
START_TEST(pins_at_the_top_and_on_pages_are_one_finding)
{
    struct synthetic s;
    struct hmk_census census = census_of(&s);
    struct hmk_pin top = { .kind = HMK_PIN_TOP, .site = FIRST, .blocks = 1200, .bytes = 95 << 10,
                           .gain_bytes = (uint64_t)MIB(160), .cumulative_bytes = (uint64_t)MIB(160) };
    struct hmk_pin pages = { .kind = HMK_PIN_PAGES, .site = FIRST, .blocks = 1200, .bytes = 95 << 10,
                             .gain_bytes = (uint64_t)MIB(130), .cumulative_bytes = (uint64_t)MIB(160) };
    census.held_bytes[HMK_CAUSE_PARTIAL] = (uint64_t)MIB(130);
    census.held_bytes[HMK_CAUSE_RETURNABLE] = (uint64_t)MIB(30);
    census.forecast_walk_bytes = (uint64_t)MIB(30);
    census.pin_first = synthetic_add(&s, HMK_PINS, &top);
    synthetic_add(&s, HMK_PINS, &pages);
    census.pin_count = 2;
    ck_assert_int_eq(judged(&s, &census), VERDICT_PINNED);
    ck_assert_int_eq(verdict.finding[0].step, VERDICT_STEP_FREE);
    ck_assert_uint_eq(verdict.finding[0].step_bytes, (uint64_t)MIB(160));
    ck_assert_uint_eq(verdict.count, 2);
    ck_assert_int_eq(verdict.finding[1].kind, VERDICT_RETURNABLE);
    forget();
}
END_TEST

START_TEST(mappings_and_use_and_nothing)
{
    struct synthetic s;
    struct hmk_census census = census_of(&s);
    census.mapped_bytes = (uint64_t)MIB(170);
    ck_assert_int_eq(judged(&s, &census), VERDICT_MAPPINGS);
    forget();

    census = census_of(&s);
    census.live_bytes = (uint64_t)MIB(165);
    census.held_bytes[HMK_CAUSE_RETURNABLE] = (uint64_t)MIB(5);
    *synthetic_cell(&s, 0, FIRST) = (struct hmk_cell){ .allocations = 1, .allocated_bytes = (uint64_t)MIB(165) };
    ck_assert_int_eq(judged(&s, &census), VERDICT_IN_USE);
    ck_assert_uint_eq(verdict.count, 1);
    ck_assert_uint_eq(verdict.finding[0].site, FIRST);
    forget();

    synthetic_start(&s);
    analyse(&s);
    ck_assert_uint_eq(verdict.count, 1);
    ck_assert_int_eq(verdict.finding[0].kind, VERDICT_NOTHING);
    forget();

    synthetic_start(&s);
    s.live.rss_last_bytes = (uint64_t)MIB(200);
    s.live.self_bytes = (uint64_t)MIB(20);
    analyse(&s);
    ck_assert_int_eq(verdict.finding[0].kind, VERDICT_UNTOLD);
    ck_assert_uint_eq(verdict.finding[0].bytes, (uint64_t)MIB(180));
    forget();
}
END_TEST

START_TEST(pythons_arenas_are_known_by_their_size)
{
    for (uint64_t odd = 0; odd < 2; odd++) {
        struct synthetic s;
        struct hmk_census census = census_of(&s);
        uint32_t python = synthetic_module(&s, "/usr/bin/python3.11", 0);
        uint32_t site = synthetic_site(&s, synthetic_frame(&s, 0, python, 32), HMK_KIND_MAPPING);
        *synthetic_cell(&s, 0, site) = (struct hmk_cell){ .allocations = 170,
                                                          .allocated_bytes = (uint64_t)MIB(170) + odd };
        struct hmk_census_row row = { .site = site, .mapped_bytes = (uint64_t)MIB(170) };
        census.mapped_bytes = (uint64_t)MIB(170);
        census.row_first = synthetic_add(&s, HMK_CENSUS_ROWS, &row);
        census.row_count = 1;
        ck_assert_int_eq(judged(&s, &census), odd ? VERDICT_MAPPINGS : VERDICT_PYTHON_ARENAS);
        forget();
    }
}
END_TEST

START_TEST(a_census_is_current_while_rss_is_near_it)
{
    struct synthetic s;
    synthetic_pinned(&s);
    analyse(&s);
    const struct ledger *newest = ledgers_newest(&ledgers);
    ck_assert_ptr_eq(ledgers_current(&ledgers, (uint64_t)MIB(900), 0), newest);
    ck_assert_ptr_eq(ledgers_current(&ledgers, (uint64_t)MIB(940), 0), newest);
    ck_assert_ptr_null(ledgers_current(&ledgers, (uint64_t)MIB(950), 0));
    ck_assert_ptr_null(ledgers_current(&ledgers, (uint64_t)MIB(10), 0));
    /* Freed since, and still held. */
    ledgers.at[ledgers.count - 1].counted_live_bytes = (uint64_t)MIB(800);
    ck_assert_ptr_eq(ledgers_current(&ledgers, (uint64_t)MIB(900), (uint64_t)MIB(790)), newest);
    ck_assert_ptr_null(ledgers_current(&ledgers, (uint64_t)MIB(900), (uint64_t)MIB(20)));
    forget();
}
END_TEST

START_TEST(growth_to_the_end_is_a_leak_or_a_cache)
{
    struct synthetic s;
    synthetic_leak(&s);
    analyse(&s);
    ck_assert_int_eq(verdict.finding[0].kind, VERDICT_LEAK);
    ck_assert_uint_eq(verdict.finding[0].site, FIRST);
    ck_assert_uint_eq(verdict.finding[0].site_blocks, 65536);
    forget();

    /* As much, in ten seconds. */
    synthetic_leak(&s);
    s.live.last_ns = 1010 * SECOND;
    analyse(&s);
    ck_assert_int_eq(verdict.finding[0].kind, VERDICT_GROWTH);
    forget();

    synthetic_leak(&s);
    struct hmk_cell *cell = synthetic_cell(&s, 0, FIRST);
    cell->allocations += 5000;
    cell->frees += 5000;
    analyse(&s);
    ck_assert_int_eq(verdict.finding[0].kind, VERDICT_CACHE_GROWTH);
    forget();

    /* The same numbers, but live memory stood still in the second half. */
    synthetic_leak(&s);
    for (uint64_t i = 32; i < 64; i++)
        ((struct hmk_sample *)synthetic_record(&s, HMK_TIMELINE_0, i))->live_bytes = MIB(64);
    analyse(&s);
    ck_assert_int_eq(verdict.finding[0].kind, VERDICT_IN_USE);
    forget();
}
END_TEST

/* ---- stacks that agree -------------------------------------------------------------------------- */

static uint32_t python_frame(struct synthetic *s, uint32_t parent, uint32_t code, uint64_t offset)
{
    return synthetic_frame(s, parent, HMK_FRAME_PYTHON << HMK_FRAME_KIND_SHIFT | code, offset);
}

START_TEST(stacks_agree_by_their_leaf_side_and_first_own_line)
{
    struct synthetic s;
    synthetic_start(&s);
    uint32_t module = synthetic_module(&s, "/bin/x", 0);
    for (unsigned i = 0; i < 3; i++)
        synthetic_add(&s, HMK_CODES, &(struct hmk_code){ .version = 0x30b });
    /* Codes 0 and 1 are the program's own, and call code 2 at the root side of what is looked at. */
    uint32_t site[6], leaf;
    for (unsigned i = 0; i < 4; i++) {
        uint32_t own = i == 3 ? 0 : python_frame(&s, 0, i / 2, 8);
        uint32_t library = python_frame(&s, python_frame(&s, own, 2, i), 2, 4);
        leaf = synthetic_frame(&s, synthetic_frame(&s, library, module, 32), module, 16);
        site[i] = synthetic_site(&s, leaf, HMK_KIND_HEAP);
    }
    site[4] = synthetic_site(&s, leaf, HMK_KIND_HEAP);
    site[5] = synthetic_site(&s, synthetic_frame(&s, leaf, module, 16), HMK_KIND_HEAP);
    analyse(&s);
    struct alike alike = alike_find(profile, 3, (bool[]){ true, true, false });
    ck_assert_uint_eq(alike.set[site[0]], alike.set[site[1]]);
    ck_assert_uint_ne(alike.set[site[0]], alike.set[site[2]]);
    ck_assert_uint_ne(alike.set[site[0]], alike.set[site[3]]);
    ck_assert_uint_eq(alike.set[site[3]], alike.set[site[4]]);
    ck_assert_uint_ne(alike.set[site[4]], alike.set[site[5]]);
    /* Sites without a stack agree with nobody. */
    ck_assert_uint_ne(alike.set[HMK_SITE_BEFORE], alike.set[HMK_SITE_LOST]);
    ck_assert_uint_eq(alike.count, HMK_SITE_FIRST + 4);
    alike_free(&alike);
    alike = alike_find(profile, 5, (bool[]){ false, false, false });
    ck_assert_uint_eq(alike.count, HMK_SITE_FIRST + 5);
    alike_free(&alike);
    forget();
}
END_TEST

/* ---- stacks of two paths --------------------------------------------------------------------------- */

static uint32_t node(struct synthetic *s, enum hmk_frame_kind kind, uint32_t parent, uint32_t number, uint64_t code)
{
    return synthetic_frame(s, parent, (uint32_t)kind << HMK_FRAME_KIND_SHIFT | number, code);
}

/* The stack from the leaf as a text: native frames by the letter of their code, Python frames by its digit. */
static const char *stack_text(uint32_t site)
{
    static char text[64];
    struct profile_frame frame;
    size_t length = 0;
    for (uint32_t id = profile->sites[site].frame; profile_frame(profile, id, &frame); id = frame.parent) {
        ck_assert_uint_lt(frame.parent, id);
        ck_assert_int_eq(frame.kind == PROFILE_PYTHON, frame.address < 'a');
        text[length++] = (char)frame.address;
    }
    text[length] = 0;
    return text;
}

START_TEST(native_and_python_paths_are_put_together)
{
    struct synthetic s;
    synthetic_start(&s);
    uint32_t module = synthetic_module(&s, "/bin/x", 0), n[8], p[6];
    synthetic_add(&s, HMK_CODES, &(struct hmk_code){ .version = 0x30b });
    n[0] = node(&s, HMK_FRAME_NATIVE, 0, module, 'a');
    n[1] = node(&s, HMK_FRAME_LOOP, n[0], module, 'l');
    n[2] = node(&s, HMK_FRAME_NATIVE, n[1], module, 'b');
    n[3] = node(&s, HMK_FRAME_LOOP, n[2], module, 'l');
    n[4] = node(&s, HMK_FRAME_LOOP, n[3], module, 'l');
    n[5] = node(&s, HMK_FRAME_SIGNAL, n[4], module, 'c');
    p[0] = node(&s, HMK_FRAME_ENTRY, 0, 0, '0');
    p[1] = node(&s, HMK_FRAME_PYTHON, p[0], 0, '1');
    p[2] = node(&s, HMK_FRAME_ENTRY, p[1], 0, '2');
    p[3] = node(&s, HMK_FRAME_PYTHON, p[2], 0, '3');
    p[4] = node(&s, HMK_FRAME_ENTRY, p[3], 0, '4');
    static const struct {
        uint32_t native, python;
        const char *stack;
    } cases[] = {
        { 5, 4, "c432b10a" }, { 3, 3, "32b10a" }, { 1, 1, "10a" }, { 1, 0, "0a" },
        { 2, 3, "b32a10" },                     /* more groups than loops: the rest is at the root */
        { 5, 1, "c10lbla" }, { 5, 3, "c3210bla" },     /* fewer */
        { 0, 3, "a3210" },
    };
    /* As a writer would put them: pairs after their paths, and nobody below them. */
    uint32_t site[8], plain = synthetic_site(&s, n[5], HMK_KIND_HEAP), python = synthetic_site(&s, p[3], HMK_KIND_HEAP);
    for (unsigned i = 0; i < 8; i++)
        site[i] = synthetic_site(&s, node(&s, HMK_FRAME_JOIN, n[cases[i].native], 0, p[cases[i].python]), HMK_KIND_HEAP);
    analyse(&s);
    for (unsigned i = 0; i < 8; i++)
        ck_assert_str_eq(stack_text(site[i]), cases[i].stack);
    ck_assert_str_eq(stack_text(plain), "cllbla");
    ck_assert_str_eq(stack_text(python), "3210");
    /* What two stacks share is there once. */
    struct profile_frame a, b;
    ck_assert(profile_frame(profile, profile->sites[site[2]].frame, &a));
    ck_assert_uint_eq(a.parent, profile->sites[site[3]].frame);
    ck_assert(profile_frame(profile, profile->sites[site[3]].frame, &b));
    ck_assert_uint_eq(b.parent, n[0]);
    forget();
}
END_TEST

/* Deep paths in many pairs: each node of the whole is made once, and a stack that no writer makes costs nothing. */
START_TEST(many_pairs_of_deep_paths)
{
    enum { DEPTH = 900, PAIRS = 20000 };
    struct synthetic s;
    synthetic_start(&s);
    uint32_t module = synthetic_module(&s, "/bin/x", 0), native[DEPTH], python[DEPTH], below = 0;
    synthetic_add(&s, HMK_CODES, &(struct hmk_code){ .version = 0x30b });
    for (uint32_t i = 0; i < DEPTH; i++)
        native[i] = below = node(&s, i % 3 == 1 ? HMK_FRAME_LOOP : HMK_FRAME_NATIVE, below, module, 'a' + i);
    below = 0;
    for (uint32_t i = 0; i < DEPTH; i++)
        python[i] = below = node(&s, i % 2 == 0 ? HMK_FRAME_ENTRY : HMK_FRAME_PYTHON, below, 0, i);
    uint32_t deep = below;
    for (uint32_t i = 0; i < 10000; i++)
        deep = node(&s, HMK_FRAME_ENTRY, deep, 0, i);
    for (uint32_t i = 0; i < PAIRS; i++)
        synthetic_site(&s, node(&s, HMK_FRAME_JOIN, native[i * 7919 % DEPTH], 0, python[i * 104729 % DEPTH]), HMK_KIND_HEAP);
    uint32_t last = synthetic_site(&s, node(&s, HMK_FRAME_JOIN, native[DEPTH - 1], 0, deep), HMK_KIND_HEAP);
    analyse(&s);
    ck_assert_uint_lt(profile->frame_count, 2 * DEPTH + 10000 + PAIRS + DEPTH * DEPTH);
    for (uint32_t i = 0; i < PAIRS; i += 997) {
        uint32_t left = i * 7919 % DEPTH + 1 + i * 104729 % DEPTH + 1, loops = (i * 7919 % DEPTH + 2) / 3;
        uint32_t groups = i * 104729 % DEPTH / 2 + 1, depth = 0;
        struct profile_frame frame;
        for (uint32_t id = profile->sites[HMK_SITE_FIRST + i].frame; profile_frame(profile, id, &frame); id = frame.parent)
            depth++;
        ck_assert_uint_eq(depth, left - (loops < groups ? loops : groups));
    }
    struct profile_frame frame;
    ck_assert(profile_frame(profile, profile->sites[last].frame, &frame));
    forget();
}
END_TEST

/* ---- size --------------------------------------------------------------------------------------- */

START_TEST(a_hundred_thousand_sites)
{
    struct synthetic s;
    synthetic_start(&s);
    uint32_t module = synthetic_module(&s, "/bin/x", 0);
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < 100000; i++) {
        uint32_t site = synthetic_site(&s, synthetic_frame(&s, i / 2, module, i), HMK_KIND_HEAP);
        uint64_t size = (uint64_t)i * 7919 % 100003;
        if (site % HMK_CELLS_PER_PAGE == 0 || i == 0)
            synthetic_cell(&s, 0, site);
        struct hmk_cell_page *page = synthetic_record(&s, HMK_CELLS, s.table[HMK_CELLS].count - 1);
        page->cell[site % HMK_CELLS_PER_PAGE] = (struct hmk_cell){ .allocations = 2, .allocated_bytes = 2 * size,
                                                                  .frees = 1, .freed_bytes = size };
        bytes += size;
    }
    analyse(&s);
    struct rank rank = rank_sites(profile, RANK_LIVE, PROFILE_HEAP);
    ck_assert_int_eq(rank.total, (int64_t)bytes);
    ck_assert_uint_eq(rank.count, 99999);
    ck_assert_int_eq(rank.sites[0]->live_bytes, 100002);
    struct rank_sum sum = rank_sum(profile, RANK_LIVE, PROFILE_HEAP);
    ck_assert_ptr_eq(sum.largest, rank.sites[0]);
    ck_assert_uint_eq(sum.count, rank.count);
    ck_assert_int_eq(sum.total, rank.total);
    bool *hidden = calloc(profile->site_count, sizeof *hidden);
    hidden[rank.sites[1]->id] = true;
    struct rank first = rank_first(profile, RANK_LIVE, PROFILE_HEAP, hidden, 1000);
    ck_assert_uint_eq(first.count, 1000);
    ck_assert_int_eq(first.total, rank.total);
    for (size_t i = 0; i < first.count; i++)
        ck_assert_ptr_eq(first.sites[i], rank.sites[i == 0 ? 0 : i + 1]);
    free(hidden);
    rank_free(&first);
    rank_free(&rank);
    forget();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("analysis");
    TCase *tests = tcase_create("analysis");
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, sites_are_summed_over_threads);
    tcase_add_test(tests, the_peak_is_put_together_by_epochs);
    tcase_add_test(tests, estimates_have_errors);
    tcase_add_test(tests, a_sites_own_peak_is_never_below_what_it_had);
    tcase_add_test(tests, frames_know_their_module);
    tcase_add_test(tests, size_classes_meet_without_gaps);
    tcase_add_test(tests, ranks_are_total_and_repeatable);
    tcase_add_test(tests, the_ledger_sums_to_rss);
    tcase_add_test(tests, a_census_that_saw_more_held_is_found);
    tcase_add_test(tests, phases_nest_and_have_their_peaks);
    tcase_add_test(tests, marks_make_spans_and_trims_are_listed);
    tcase_add_test(tests, an_end_without_a_beginning_is_ignored);
    tcase_add_test(tests, one_block_under_the_top_is_the_verdict);
    tcase_add_test(tests, held_memory_is_judged_by_its_cause);
    tcase_add_test(tests, pins_of_pages_are_named_when_they_are_few);
    tcase_add_test(tests, sites_alone_on_their_pages_are_named_without_sets);
    tcase_add_test(tests, pins_at_the_top_and_on_pages_are_one_finding);
    tcase_add_test(tests, mappings_and_use_and_nothing);
    tcase_add_test(tests, pythons_arenas_are_known_by_their_size);
    tcase_add_test(tests, a_census_is_current_while_rss_is_near_it);
    tcase_add_test(tests, growth_to_the_end_is_a_leak_or_a_cache);
    tcase_add_test(tests, stacks_agree_by_their_leaf_side_and_first_own_line);
    tcase_add_test(tests, native_and_python_paths_are_put_together);
    tcase_add_test(tests, many_pairs_of_deep_paths);
    tcase_add_test(tests, a_hundred_thousand_sites);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
