/* SPDX-License-Identifier: MIT */
/* Sampled mode: sums are right on average, and what is born with a weight dies with it. */

#include "fake_process.h"

#include "shim/marks.h"
#include "shim/recorder.h"
#include "shim/recording.h"
#include "shim/sampling.h"
#include <check.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>

#define HEAP UINT64_C(0x7f0000000000)

static uint64_t next_random(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed >> 11;
}

/* ---- one weight ---------------------------------------------------------------------------------- */

/* The chance that a block is recorded, times its weight, is 1: for all sizes, over many draws. */
START_TEST(chance_times_weight_is_one)
{
    static const size_t sizes[] = {0, 1, 100, 5000, 100000, 524288, 2000000, 50000000};
    struct thread thread = {.random = 12345};
    sampling_start(524288, 0);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        double chance = 1 - exp(-((double)sizes[i] + SAMPLING_OVERHEAD) / 524288), bytes = 0, count = 0;
        enum { ADDRESSES = 4096 };
        for (uintptr_t k = 0; k < ADDRESSES; k++) {
            struct sampling_weight weight = sampling_weight((void *)(HEAP + k * 4096), sizes[i], 4);
            bytes += (double)weight.bytes;
            count += (double)weight.count;
        }
        /* Rounding is by address: 1/64 of a count stands for 4096 addresses. */
        ck_assert_double_le(fabs(count / ADDRESSES * chance - 1), 0.02 * chance + 1e-6);
        ck_assert_double_le(fabs(bytes / ADDRESSES * chance - (double)sizes[i]), 0.02 * chance + 1e-6 * (double)sizes[i]);
    }
    double sum = 0;
    enum { DRAWS = 200000 };
    for (int i = 0; i < DRAWS; i++) {
        sampling_draw(&thread);
        ck_assert(thread.drawn);
        sum += (double)sampling_line.sample_left;
    }
    /* Exponential: the standard error of the mean is mean / sqrt(n). */
    ck_assert_double_le(fabs(sum / DRAWS - 524288), 3 * 524288 / sqrt(DRAWS));
}
END_TEST

START_TEST(exact_mode_weighs_one_and_passes_nothing_over)
{
    struct thread thread = {.drawn = true};
    sampling_line.sample_left = 77;
    struct sampling_weight weight = sampling_weight((void *)HEAP, 1000, 4);
    ck_assert_uint_eq(weight.count, 1);
    ck_assert_uint_eq(weight.bytes, 1000);
    sampling_draw(&thread);
    for (int i = 0; i < 200000; i++)
        ck_assert_msg(!sampling_passes_over(i % 2 ? SIZE_MAX : 0), "at %d", i);
}
END_TEST

/* ---- whole runs ---------------------------------------------------------------------------------- */

enum { RUNS = 300, EVENTS = 2000 };

static size_t size_of(uint64_t *seed)
{
    uint64_t random = next_random(seed);
    return random % 50 == 0 ? (random >> 8) % 300000 : (random >> 8) % 2000;
}

/* The variances that the recording has, over all sites. */
static void add_spreads(double *bytes, double *blocks)
{
    *bytes = *blocks = 0;
    for (uint64_t site = 0; site < recording_count(HMK_SITE_PEAKS); site++) {
        const struct hmk_site_peak *peak = recording_at(HMK_SITE_PEAKS, site);
        *bytes += (double)peak->spread_bytes;
        *blocks += (double)peak->spread_blocks;
    }
}

/* The totals of a run against what it allocated and freed: the mean of many runs within 3 standard errors. */
START_TEST(totals_are_unbiased)
{
    struct moments { double sum, squares, truth; } moment[4] = {{0}};
    sampling_start(20000, 0);
    uint64_t seed = 4711;
    thread_current();
    for (int run = 0; run < RUNS; run++) {
        struct fake_sum before = fake_sum_of_all();
        static size_t bytes[EVENTS];
        double truth[4] = {0};
        thread_self->random = next_random(&seed) | 1;
        sampling_draw(thread_self);
        for (uintptr_t i = 0; i < EVENTS; i++) {
            bytes[i] = size_of(&seed);
            fake_malloc(HEAP + (i << 20), bytes[i], i % 20);
            truth[0] += 1;
            truth[2] += (double)bytes[i];
        }
        for (uintptr_t i = 0; i < EVENTS; i++)
            if (i % 3 != 0)
                fake_free(HEAP + (i << 20));
            else
                truth[1] += 1, truth[3] += (double)bytes[i];
        struct fake_sum after = fake_sum_of_all();
        double seen[4] = {(double)(after.allocations - before.allocations), (double)(after.live_blocks - before.live_blocks),
                          0, (double)(after.live_bytes - before.live_bytes)};
        for (uintptr_t i = 0; i < EVENTS; i += 3)
            fake_free(HEAP + (i << 20));
        for (int k = 0; k < 4; k++) {
            moment[k].sum += seen[k] - truth[k];
            moment[k].squares += (seen[k] - truth[k]) * (seen[k] - truth[k]);
            moment[k].truth += truth[k];
        }
    }
    for (int k = 0; k < 4; k++) {
        if (k == 2)
            continue;
        double mean = moment[k].sum / RUNS, error = sqrt(moment[k].squares / RUNS / RUNS);
        ck_assert_msg(fabs(mean) <= 3 * error, "sum %d: off by %g, standard error %g, truth %g", k, mean, error,
                      moment[k].truth / RUNS);
        ck_assert_double_lt(error, 0.05 * moment[k].truth / RUNS);   /* the test could see a bias of 15 % */
    }
    /* The variances are those of the errors made: allocations of all blocks, live bytes of every third. */
    double bytes, blocks;
    add_spreads(&bytes, &blocks);
    ck_assert_double_le(fabs(blocks / moment[0].squares - 1), 0.25);    /* 3 standard errors of a variance from 300 */
    ck_assert_double_le(fabs(bytes / 3 / moment[3].squares - 1), 0.25);
    /* Nothing lives any more, to the byte: deaths weigh what births did. */
    struct fake_sum end = fake_sum_of_all();
    ck_assert_int_eq(end.live_bytes, 0);
    ck_assert_int_eq(end.live_blocks, 0);
    ck_assert_int_eq(end.slack, 0);
    ck_assert_int_eq(recording_live->heap.live_bytes, 0);
    ck_assert_int_gt(recording_live->heap.peak_bytes, 0);
}
END_TEST

/* Two samples in one: each estimates the whole, and a block that no sample misses is in both. */
START_TEST(halves_estimate_the_whole)
{
    static const size_t sizes[] = {0, 100, 5000, 100000, 524288, 2000000, 50000000};
    enum { ADDRESSES = 20000 };
    sampling_start(524288, 0);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        double x = ((double)sizes[i] + SAMPLING_OVERHEAD) / 524288, chance = 1 - exp(-x), half = 1 - exp(-x / 2);
        double bytes[2] = {0}, both = 0;
        for (uintptr_t k = 0; k < ADDRESSES; k++) {
            bool in[2];
            struct sampling_weight weight = sampling_half((void *)(HEAP + k * 4096), sizes[i], in);
            ck_assert(in[0] || in[1]);
            for (int h = 0; h < 2; h++)
                bytes[h] += in[h] ? (double)weight.bytes : 0;
            both += in[0] && in[1];
        }
        for (int h = 0; h < 2; h++)
            ck_assert_double_le(fabs(bytes[h] / ADDRESSES * chance - (double)sizes[i]), 0.03 * (double)sizes[i] + 1e-9);
        ck_assert_double_le(fabs(both / ADDRESSES - half * half / chance), 0.01);      /* independent */
    }
}
END_TEST

/* A program that comes to the same peak 200 times.  The largest of 200 estimates is far too large, and one large block is
 * no noise. */
START_TEST(the_peak_is_not_that_of_the_noise)
{
    enum { ROUNDS = 200, BLOCKS = 400 };
    sampling_start(4000, HMK_SITE_FIRST);
    uint64_t seed = 1717 + (uint64_t)_i;
    thread_current()->random = next_random(&seed) | 1;
    sampling_draw(thread_self);
    double truth = 0, variance = 0;
    fake_malloc(HEAP + (BLOCKS << 20), 1000000, 1);
    for (int round = 0; round < ROUNDS; round++) {
        for (uintptr_t i = 0; i < BLOCKS; i++) {
            size_t bytes = 100 + i * 7919 % 800;
            double x = ((double)bytes + SAMPLING_OVERHEAD) / 4000;
            /* An address of its own each time: what a sample is in is told by it. */
            fake_malloc(HEAP + (i << 20) + (uintptr_t)round * 2048, bytes, i % 20);
            truth += round == 0 ? (double)bytes : 0;
            variance += round == 0 ? (double)bytes * (double)bytes * exp(-x) / (1 - exp(-x)) : 0;
        }
        for (uintptr_t i = 0; i < BLOCKS; i++)
            fake_free(HEAP + (i << 20) + (uintptr_t)round * 2048);
    }
    truth += 1000000;
    const struct hmk_half *half = recording_live->half;
    double error = sqrt(variance), peak = (double)(half[0].other_bytes + half[1].other_bytes) / 2;
    ck_assert_msg((double)recording_live->heap.peak_bytes > truth + 1.5 * error, "largest %g, truth %g, error %g",
                  (double)recording_live->heap.peak_bytes, truth, error);
    ck_assert_msg(fabs(peak - truth) <= 3 * error, "peak %g, truth %g, error %g", peak, truth, error);
    for (int h = 0; h < 2; h++)
        ck_assert_int_ge(half[h].live_bytes, 1000000);
    fake_free(HEAP + (BLOCKS << 20));
    for (int h = 0; h < 2; h++) {
        ck_assert_int_eq(half[h].live_bytes, 0);
        ck_assert_int_eq(half[h].live_blocks, 0);
    }
}
END_TEST

/* Exact until half of the run, then sampled: blocks of both halves die in the second. */
START_TEST(switching_keeps_totals_consistent)
{
    enum { BLOCKS = 5000 };
    static size_t bytes[BLOCKS];
    uint64_t seed = 99 + (uint64_t)_i;
    double exact = 0, sampled = 0, all_sampled = 0, error = 0;
    uint32_t last_exact = 0;
    for (uintptr_t i = 0; i < BLOCKS / 2; i++) {
        bytes[i] = size_of(&seed);
        last_exact = fake_malloc(HEAP + (i << 20), bytes[i], i % 20);
        exact += (double)bytes[i];
    }
    ck_assert_double_eq((double)recording_live->heap.live_bytes, exact);
    ck_assert(stack_begin_sampling(20000));
    thread_self->random = next_random(&seed) | 1;
    ck_assert_uint_eq(sampling_first_site, recording_count(HMK_SITES));
    for (uintptr_t i = BLOCKS / 2; i < BLOCKS; i++) {
        bytes[i] = size_of(&seed);
        uint32_t site = fake_malloc(HEAP + (i << 20), bytes[i], i % 20);
        ck_assert(site == 0 || site >= sampling_first_site);
        sampled += site != 0;
        all_sampled += (double)bytes[i];
        double x = ((double)bytes[i] + SAMPLING_OVERHEAD) / 20000;
        error += (double)bytes[i] * (double)bytes[i] * (exp(-x) / (1 - exp(-x)));
    }
    ck_assert_double_lt(sampled, BLOCKS / 2);
    double live = (double)recording_live->heap.live_bytes;
    ck_assert_msg(fabs(live - exact - all_sampled) <= 4 * sqrt(error), "live %g, truth %g, standard error %g", live,
                  exact + all_sampled, sqrt(error));
    struct fake_sum one = fake_sum_of(last_exact);
    for (uintptr_t i = BLOCKS; i-- > 0;)
        fake_free(HEAP + (i << 20));
    ck_assert_int_gt(one.live_blocks, 0);
    struct fake_sum end = fake_sum_of_all();
    ck_assert_int_eq(end.live_bytes, 0);
    ck_assert_int_eq(end.live_blocks, 0);
    ck_assert_int_eq(recording_live->heap.live_bytes, 0);
    for (uint64_t site = HMK_SITE_FIRST; site < recording_count(HMK_SITES); site++) {
        const struct hmk_site *record = recording_at(HMK_SITES, site);
        ck_assert_int_eq((record->flags & HMK_SITE_SAMPLED) != 0, site >= sampling_first_site);
    }
}
END_TEST

/* The first event of every thread after the switch is drawn like any other: with many threads that allocate once each, a
 * bias of one interval for each would show. */
START_TEST(first_event_after_the_switch_is_no_sure_hit)
{
    fake_malloc(HEAP, 1, 1);
    ck_assert(stack_begin_sampling(1000000));
    uint64_t seed = 31337;
    int hits = 0;
    for (uintptr_t i = 1; i <= 1000; i++) {
        thread_self->random = next_random(&seed) | 1;
        sampling_line.sample_left = 0;
        thread_self->drawn = false;
        hits += fake_malloc(HEAP + (i << 20), 10000, 1) != 0;
    }
    /* Expected 10 of 1000. */
    ck_assert_int_gt(hits, 0);
    ck_assert_int_lt(hits, 30);
}
END_TEST

START_TEST(temporary_blocks_of_sampled_mode_are_not_those_that_others_passed)
{
    sampling_start(1000, 0);
    thread_current()->random = 7;
    sampling_line.sample_left = 0;
    uint32_t site = fake_malloc(HEAP, 400, 1);
    ck_assert_uint_ne(site, 0);
    fake_free(HEAP);
    int64_t temporary = fake_sum_of(site).temporary;
    ck_assert_int_gt(temporary, 0);
    do {
        fake_free(HEAP);
        temporary = fake_sum_of(site).temporary;
        sampling_line.sample_left = 0;
        ck_assert_uint_eq(fake_malloc(HEAP, 400, 1), site);
    } while (sampling_line.sample_left < 100);
    ck_assert_uint_eq(fake_malloc(HEAP + 4096, 16, 1), 0);
    fake_free(HEAP);
    ck_assert_int_eq(fake_sum_of(site).live_blocks, 0);
    ck_assert_int_eq(fake_sum_of(site).temporary, temporary);
}
END_TEST

/* Every thread's first block is new to the hook, which has no countdown for it. */
static void *one_block(void *hits)
{
    fake_malloc(HEAP + ((uintptr_t)&hits & 0xffff0), 10000, 1);
    *(int *)hits += !marks_clear((void *)(HEAP + ((uintptr_t)&hits & 0xffff0)));
    fake_free(HEAP + ((uintptr_t)&hits & 0xffff0));
    return NULL;
}

START_TEST(first_event_of_a_thread_is_no_sure_hit)
{
    marks_begin();
    sampling_start(1000000, HMK_SITE_FIRST);
    int hits = 0;
    for (int i = 0; i < 2000; i++) {
        pthread_t thread;
        ck_assert_int_eq(pthread_create(&thread, NULL, one_block, &hits), 0);
        pthread_join(thread, NULL);
    }
    /* Expected 20 of 2000. */
    ck_assert_int_gt(hits, 0);
    ck_assert_int_lt(hits, 60);
    ck_assert_int_eq(recording_live->heap.live_blocks, 0);
}
END_TEST

/* ---- marks --------------------------------------------------------------------------------------- */

static uint32_t marks_set(void)
{
    uint32_t set = 0;
    for (uint32_t i = 0; i < MARKS_COUNT; i++)
        set += marks[i] != MARKS_NONE;
    return set;
}

START_TEST(marks_tell_what_may_be_recorded)
{
    char *block = (char *)HEAP;
    ck_assert(!marks_clear(block));         /* exact mode: everything may be */
    marks_pin(block + 640);
    marks_add(block + 64);
    marks_remove(block + 64);
    marks_begin();
    ck_assert(!marks_clear(NULL));
    ck_assert(!marks_clear(block + 640));   /* what was pinned before stays so */
    ck_assert_uint_eq(marks_set(), 2);
    marks_remove(block + 640);
    marks_remove(NULL);
    ck_assert_uint_eq(marks_set(), 2);
    marks_add(block + 64);
    ck_assert(!marks_clear(block + 64));
    ck_assert(marks_clear(block + 96));
    marks_add(block + 64 + ((size_t)MARKS_COUNT << MARKS_SHIFT));
    marks_remove(block + 64);
    ck_assert(!marks_clear(block + 64));
    marks_remove(block + 64 + ((size_t)MARKS_COUNT << MARKS_SHIFT));
    ck_assert(marks_clear(block + 64));
    marks_remove(block + 64);               /* one too many takes nothing from others */
    marks_add(block + 64);
    ck_assert(!marks_clear(block + 64));
    /* More than a byte can count: it stays marked for good. */
    for (int i = 0; i < 300; i++)
        marks_add(block + 128);
    for (int i = 0; i < 300; i++)
        marks_remove(block + 128);
    ck_assert(!marks_clear(block + 128));
    marks_pin(block + 192);
    marks_remove(block + 192);
    ck_assert(!marks_clear(block + 192));
}
END_TEST

/* More blocks than there are bytes: each is found when it dies, and hardly a mark stays. */
START_TEST(no_death_of_a_recorded_block_is_lost)
{
    enum { BLOCKS = 50000 };
    static bool recorded[BLOCKS];
    marks_begin();
    sampling_start(200, HMK_SITE_FIRST);
    int64_t count = 0;
    for (int round = 0; round < 2; round++) {
        for (uintptr_t i = 0; i < BLOCKS; i++) {
            recorded[i] = fake_malloc(HEAP + i * 1040, 1000, i % 20) != 0;
            count += recorded[i];
            ck_assert(!recorded[i] || !marks_clear((void *)(HEAP + i * 1040)));
        }
        ck_assert_int_gt(count, BLOCKS * 9 / 10);
        for (uintptr_t i = 0; i < BLOCKS; i++)
            ck_assert_int_eq(fake_free(HEAP + i * 1040), recorded[i]);
        ck_assert_int_eq(recording_live->heap.live_blocks, 0);
        ck_assert_uint_eq(marks_set(), 1);
        count = 0;
    }
}
END_TEST

/* Births over others that the map believed live, and a realloc that fails. */
START_TEST(stale_and_revived_blocks_are_marked_once)
{
    static const struct unwind_start nowhere;
    struct blockmap_block dead;
    void *block = (void *)(HEAP + 4096);
    marks_begin();
    sampling_start(1, HMK_SITE_FIRST);
    for (int i = 0; i < 10; i++)
        ck_assert_uint_ne(fake_malloc(HEAP + 4096, 1000, 1), 0);
    ck_assert_uint_eq(recording_live->stale_live, 9);
    struct thread *thread = thread_enter();
    ck_assert(recorder_death(thread, block, &nowhere, &dead));
    ck_assert(marks_clear(block));
    recorder_revive(thread, block, &dead);
    ck_assert(!marks_clear(block));
    recorder_death_nested(block);           /* a handler's free, within our event */
    ck_assert(marks_clear(block));
    thread_leave(thread);
    ck_assert_uint_eq(marks_set(), 1);
    ck_assert_int_eq(recording_live->heap.live_blocks, 0);
}
END_TEST

static void *mark_and_unmark(void *seed)
{
    uint64_t random = (uintptr_t)seed;
    static _Thread_local void *kept[64];
    for (int i = 0; i < 200000; i++) {
        uint32_t at = next_random(&random) % 64;
        if (kept[at] != NULL) {
            if (marks_clear(kept[at]))
                return seed;
            marks_remove(kept[at]);
        }
        kept[at] = (void *)(HEAP + next_random(&random) % 16 * 32);     /* all threads meet on 16 bytes */
        marks_add(kept[at]);
    }
    for (int at = 0; at < 64; at++)
        if (kept[at] != NULL)
            marks_remove(kept[at]);
    return NULL;
}

START_TEST(marks_of_many_threads)
{
    pthread_t thread[4];
    marks_begin();
    for (uintptr_t i = 0; i < 4; i++)
        ck_assert_int_eq(pthread_create(&thread[i], NULL, mark_and_unmark, (void *)(i + 1)), 0);
    for (int i = 0; i < 4; i++) {
        void *failed;
        pthread_join(thread[i], &failed);
        ck_assert_ptr_null(failed);
    }
    ck_assert_uint_eq(marks_set(), 1);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        chance_times_weight_is_one, exact_mode_weighs_one_and_passes_nothing_over, totals_are_unbiased, halves_estimate_the_whole,
        first_event_after_the_switch_is_no_sure_hit, first_event_of_a_thread_is_no_sure_hit, marks_tell_what_may_be_recorded,
        no_death_of_a_recorded_block_is_lost, stale_and_revived_blocks_are_marked_once, marks_of_many_threads,
        temporary_blocks_of_sampled_mode_are_not_those_that_others_passed,
    };
    Suite *suite = suite_create("sampling");
    TCase *all = tcase_create("all");
    tcase_add_checked_fixture(all, fake_begin, fake_end);
    tcase_set_timeout(all, 60);
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++)
        tcase_add_test(all, tests[i]);
    tcase_add_loop_test(all, the_peak_is_not_that_of_the_noise, 0, 5);
    tcase_add_loop_test(all, switching_keeps_totals_consistent, 0, 20);
    suite_add_tcase(suite, all);
    SRunner *runner = srunner_create(suite);
    srunner_set_fork_status(runner, CK_FORK);
    srunner_run_all(runner, CK_NORMAL);
    int failures = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failures ? 1 : 0;
}
