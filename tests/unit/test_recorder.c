/* SPDX-License-Identifier: MIT */
/* Counters and the composition of the peak against an oracle that copies everything at every new peak. */

#include "fake_process.h"

#include "census/blockmap.h"
#include "shim/recorder.h"
#include "shim/recording.h"
#include "shim/timeline.h"
#include "freestanding/sys.h"
#include <check.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#define HEAP UINT64_C(0x7f0000000000)

static uint64_t next_random(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed >> 11;
}

/* ---- the oracle ---------------------------------------------------------------------------------- */

enum { STACKS = 500, BLOCKS = 4096, SITES = 1024 };

struct block {
    uintptr_t address;
    size_t bytes;
    uint32_t site;          /* 0: not allocated */
};

static struct block blocks[BLOCKS];
static int64_t live[SITES], live_blocks[SITES], own_peak[SITES], peak[SITES], peak_blocks[SITES];
static int64_t total, total_blocks, peak_total, peak_total_blocks;

static void oracle_add(uint32_t site, int64_t bytes, int64_t count)
{
    live[site] += bytes;
    live_blocks[site] += count;
    total += bytes;
    total_blocks += count;
    if (live[site] > own_peak[site])
        own_peak[site] = live[site];
    if (total > peak_total) {
        peak_total = total;
        peak_total_blocks = total_blocks;
        memcpy(peak, live, sizeof peak);
        memcpy(peak_blocks, live_blocks, sizeof peak_blocks);
    }
}

/* Every block has 64 KiB of addresses of its own. */
static bool make(struct block *block, size_t bytes, uint64_t stack)
{
    block->address = HEAP + ((uintptr_t)(block - blocks) << 16);
    block->bytes = bytes;
    block->site = fake_malloc(block->address, bytes, stack);
    if (block->site == 0 || block->site >= SITES)
        return false;
    oracle_add(block->site, (int64_t)bytes, 1);
    return true;
}

static bool drop(struct block *block)
{
    bool known = fake_free(block->address);
    oracle_add(block->site, -(int64_t)block->bytes, -1);
    block->site = 0;
    return known;
}

/* One event; drifts up and down so that peaks come in series.  In one of them nothing is freed before all blocks are there:
 * a peak far above the others, so that several threads cannot take one of those, which are as good as equal, for it. */
static bool step(uint64_t *seed, uint64_t i)
{
    uint64_t random = next_random(seed);
    struct block *block = &blocks[random % BLOCKS];
    bool growing = i / 700 % 3 != 2;
    if (block->site != 0 && growing && i / 2100 == 3)
        return true;
    if (block->site != 0)
        return (random >> 20) % 4 == 0 || !growing ? drop(block) : true;
    if (!growing && (random >> 20) % 4 != 0)
        return true;
    size_t bytes = (random >> 24) % 64 == 0 ? (random >> 32) % 60000 : (random >> 32) % 700;
    return make(block, bytes, (random >> 48) % STACKS);
}

static bool composition_is_the_oracles(void)
{
    static struct fake_sum sum[SITES];
    const struct hmk_heap *heap = &recording_live->heap;
    bool same = heap->live_bytes == total && heap->live_blocks == total_blocks && heap->peak_bytes == peak_total &&
                heap->peak_blocks == peak_total_blocks;
    fake_sums(sum, SITES);
    for (uint32_t site = HMK_SITE_FIRST; site < SITES; site++)
        same = same && sum[site].live_bytes == live[site] && sum[site].live_blocks == live_blocks[site] &&
               sum[site].peak_bytes == peak[site] && sum[site].peak_blocks == peak_blocks[site];
    return same;
}

/* ---- one thread: to the byte --------------------------------------------------------------------- */

/* 200 seeds, each in a process of its own; 60 looks each at all sites. */
START_TEST(peak_composition_of_one_thread_is_exact)
{
    uint64_t seed = UINT64_C(88172645463325252) * (uint64_t)(_i + 1);
    uint64_t compared = 0;
    for (uint64_t i = 0; i < 9000; i++) {
        if (!step(&seed, i))
            ck_abort_msg("event %lu", (unsigned long)i);
        if (i % 150 == 149) {
            compared++;
            if (!composition_is_the_oracles())
                ck_abort_msg("after event %lu", (unsigned long)i);
        }
    }
    ck_assert_uint_eq(compared, 60);
    for (uint32_t site = HMK_SITE_FIRST; site < recording_count(HMK_SITES); site++) {
        const struct hmk_site_peak *record = recording_at(HMK_SITE_PEAKS, site);
        ck_assert_int_eq(record->live_bytes + thread_cell(thread_self, site)->pending_bytes, live[site]);
        ck_assert_int_eq(record->peak_bytes, own_peak[site]);
    }
}
END_TEST

START_TEST(temporary_blocks_are_those_freed_before_the_next_allocation)
{
    uint32_t site = fake_malloc(HEAP, 100, 1);
    ck_assert(fake_free(HEAP));                         /* temporary */
    ck_assert_uint_eq(fake_malloc(HEAP, 100, 1), site);
    ck_assert_uint_ne(fake_malloc(HEAP + 4096, 10, 2), site);
    ck_assert(fake_free(HEAP));                         /* not: another came in between */
    ck_assert(fake_free(HEAP + 4096));                  /* not either: a free came in between, so the newest is older */
    ck_assert_int_eq(fake_sum_of(site).temporary, 1);
    ck_assert_int_eq(fake_sum_of(site).frees, 2);
    ck_assert_int_eq(fake_sum_of_all().temporary, 2);
}
END_TEST

START_TEST(sizes_and_slack_are_counted)
{
    static const struct { size_t bytes, slack; unsigned size_class; } sizes[] = {
        {0, 16, 0}, {1, 15, 1}, {16, 0, 1}, {17, 15, 2}, {512, 0, 32}, {513, 15, 33}, {1024, 0, 33}, {1025, 15, 34},
        {65536, 0, 39}, {UINT64_C(1) << 33, 0, 56},
    };
    uint64_t expected[HMK_SIZE_CLASSES] = {0};
    int64_t slack = 0;
    uintptr_t at = HEAP;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++, at += UINT64_C(1) << 34) {
        ck_assert_uint_ne(fake_malloc(at, sizes[i].bytes, i), 0);
        expected[sizes[i].size_class]++;
        slack += (int64_t)sizes[i].slack;
    }
    ck_assert_int_eq(fake_sum_of_all().slack, slack);
    const struct hmk_histogram *histogram = thread_self->histogram;
    for (unsigned i = 0; i < HMK_SIZE_CLASSES; i++)
        ck_assert_uint_eq(histogram->allocations[i], expected[i]);
    at = HEAP;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++, at += UINT64_C(1) << 34)
        ck_assert(fake_free(at));
    ck_assert_int_eq(fake_sum_of_all().slack, 0);
    ck_assert_int_eq(recording_live->heap.live_bytes, 0);
}
END_TEST

START_TEST(free_of_an_unknown_block_is_counted_as_such)
{
    ck_assert(!fake_free(HEAP));
    fake_malloc(HEAP, 64, 1);
    ck_assert(fake_free(HEAP));
    ck_assert(!fake_free(HEAP));
    ck_assert_uint_eq(recording_live->unknown_frees, 2);
    ck_assert_int_eq(recording_live->heap.live_bytes, 0);
}
END_TEST

START_TEST(block_whose_free_was_missed_is_retired_when_its_place_is_taken)
{
    uint32_t first = fake_malloc(HEAP, 100, 1), second = fake_malloc(HEAP, 60, 2);
    ck_assert_uint_ne(first, second);
    ck_assert_int_eq(fake_sum_of(first).live_bytes, 0);
    ck_assert_int_eq(fake_sum_of(second).live_bytes, 60);
    ck_assert_int_eq(recording_live->heap.live_bytes, 60);
    ck_assert_int_eq(recording_live->heap.live_blocks, 1);
    ck_assert_uint_eq(recording_live->stale_live, 1);
}
END_TEST

/* realloc that fails: death, then revival, at the peak and below it. */
START_TEST(revival_leaves_no_trace)
{
    static const struct unwind_start nowhere;
    struct blockmap_block dead;
    uint32_t site = fake_malloc(HEAP, 1000, 1), other = fake_malloc(HEAP + 4096, 500, 2);
    struct fake_sum before = fake_sum_of(site);
    for (int round = 0; round < 2; round++) {
        struct thread *thread = thread_enter();
        ck_assert(recorder_death(thread, (void *)HEAP, &nowhere, &dead));
        recorder_revive(thread, (void *)HEAP, &dead);
        thread_leave(thread);
        struct fake_sum after = fake_sum_of(site);
        ck_assert(memcmp(&before, &after, sizeof before) == 0);
        ck_assert_int_eq(recording_live->heap.live_bytes, 1500 - 500 * round);
        ck_assert_int_eq(recording_live->heap.peak_bytes, 1500);
        ck_assert_int_eq(fake_sum_of(other).peak_bytes, 500);
        if (round == 0)
            fake_free(HEAP + 4096);
    }
    const struct hmk_site_peak *own = recording_at(HMK_SITE_PEAKS, site);
    ck_assert_int_eq(own->peak_bytes, 1000);
    ck_assert_int_eq(own->live_bytes, 1000);
    ck_assert(fake_free(HEAP));
    ck_assert_int_eq(fake_sum_of(site).live_blocks, 0);
}
END_TEST

static __attribute__((noinline)) bool enter_deeper(int depth)
{
    volatile char frame[64];
    frame[depth] = 1;
    if (depth > 0)
        return enter_deeper(depth - 1) && frame[depth] == 1;
    struct thread *thread = thread_enter();
    if (thread != NULL)
        thread_leave(thread);
    return thread != NULL;
}

/* A handler frees while its thread is in a hook: the map at once, the counters on the way out; what finds no place is lost
 * and counted. */
START_TEST(frees_of_a_handler_are_counted_on_the_way_out)
{
    enum { MANY = THREAD_DEFERRED + 5 };
    uint32_t site = 0;
    for (uintptr_t i = 0; i < MANY; i++)
        site = fake_malloc(HEAP + i * 4096, 100, 1);
    struct thread *thread = thread_enter();
    for (uintptr_t i = 0; i < MANY; i++) {
        ck_assert(!enter_deeper(3));
        recorder_death_nested((void *)(HEAP + i * 4096));
    }
    ck_assert_int_eq(fake_sum_of(site).live_blocks, MANY);
    thread_leave(thread);
    ck_assert_int_eq(fake_sum_of(site).live_blocks, MANY - (int)THREAD_DEFERRED);
    ck_assert_int_eq(recording_live->heap.live_bytes, 100 * (MANY - (int)THREAD_DEFERRED));
    ck_assert_uint_eq(recording_live->lost_reentrant, MANY + (MANY - THREAD_DEFERRED));
    ck_assert(!fake_free(HEAP));
    /* And again, in place of the first ones. */
    ck_assert_uint_eq(fake_malloc(HEAP, 100, 1), site);
    thread = thread_enter();
    recorder_death_nested((void *)HEAP);
    thread_leave(thread);
    ck_assert_int_eq(fake_sum_of(site).live_blocks, MANY - (int)THREAD_DEFERRED);
}
END_TEST

/* ---- the guard ----------------------------------------------------------------------------------- */

static jmp_buf way_out;

static __attribute__((noinline)) void enter_and_jump(void)
{
    thread_enter();
    longjmp(way_out, 1);
}

START_TEST(hook_left_by_longjmp_does_not_end_the_thread)
{
    fake_malloc(HEAP, 10, 1);
    for (int i = 0; i < 10; i++) {
        if (setjmp(way_out) == 0)
            enter_and_jump();
        ck_assert(i % 2 ? enter_deeper(40) : enter_deeper(0));
    }
    ck_assert_uint_eq(recording_live->abandoned_events, 10);
    ck_assert_uint_eq(recording_live->lost_reentrant, 0);
    ck_assert(fake_free(HEAP));
}
END_TEST

static volatile int nested, entered;

static void try_to_enter(int signal)
{
    (void)signal;
    entered += enter_deeper(20);
    nested++;
}

START_TEST(hook_under_a_handler_is_nested_on_whatever_stack)
{
    static char other_stack[65536];
    stack_t stack = {.ss_sp = other_stack, .ss_size = sizeof other_stack};
    struct sigaction plain = {.sa_handler = try_to_enter}, apart = {.sa_handler = try_to_enter, .sa_flags = SA_ONSTACK};
    sigaltstack(&stack, NULL);
    sigaction(SIGUSR1, &plain, NULL);
    sigaction(SIGUSR2, &apart, NULL);
    struct thread *thread = thread_enter();
    raise(SIGUSR1);
    raise(SIGUSR2);
    ck_assert_uint_ne(thread->busy, 0);
    thread_leave(thread);
    ck_assert_int_eq(nested, 2);
    ck_assert_int_eq(entered, 0);
    ck_assert_uint_eq(recording_live->abandoned_events, 0);
    ck_assert_uint_eq(recording_live->lost_reentrant, 2);
    raise(SIGUSR1);
    raise(SIGUSR2);
    ck_assert_int_eq(entered, 2);
}
END_TEST

/* ---- eight threads ------------------------------------------------------------------------------- */

enum { THREADS = 8 };
static pthread_mutex_t oracle_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_barrier_t all_there;
static uint64_t event;
static bool wrong;

/* Events in turn, so that the oracle knows their order; the recorder gathers them per thread all the same. */
static void *take_turns(void *argument)
{
    uint64_t seed = UINT64_C(0x9e3779b97f4a7c15) * (uintptr_t)argument;
    fake_site(1);
    pthread_barrier_wait(&all_there);
    for (int i = 0; i < 12000; i++) {
        pthread_mutex_lock(&oracle_lock);
        if (!step(&seed, event++ / 4))
            wrong = true;
        pthread_mutex_unlock(&oracle_lock);
    }
    return NULL;
}

static void run_threads(void *(*work)(void *))
{
    pthread_t thread[THREADS];
    pthread_barrier_init(&all_there, NULL, THREADS);
    for (uintptr_t i = 0; i < THREADS; i++)
        ck_assert_int_eq(pthread_create(&thread[i], NULL, work, (void *)(i + 1)), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(thread[i], NULL);
}

static int64_t pending(void)
{
    int64_t sum = 0;
    for (uint64_t i = 0; i < recording_count(HMK_THREADS); i++)
        sum += ((struct hmk_thread *)recording_at(HMK_THREADS, i))->pending_bytes;
    return sum;
}

START_TEST(peak_of_eight_threads_within_half_a_percent)
{
    static struct fake_sum sum[SITES];
    run_threads(take_turns);
    ck_assert(!wrong);
    const struct hmk_heap *heap = &recording_live->heap;
    ck_assert_int_eq(heap->live_bytes + pending(), total);
    ck_assert_int_ge(recording_count(HMK_THREADS), THREADS);
    int64_t bound = peak_total / 200, off = 0, composed = 0;
    ck_assert_int_le(llabs(heap->peak_bytes - peak_total), bound);
    fake_sums(sum, SITES);
    for (uint32_t site = HMK_SITE_FIRST; site < SITES; site++) {
        ck_assert_int_eq(sum[site].live_bytes, live[site]);
        ck_assert_int_eq(sum[site].live_blocks, live_blocks[site]);
        off += llabs(sum[site].peak_bytes - peak[site]);
        composed += sum[site].peak_bytes;
    }
    ck_assert_int_le(llabs(composed - peak_total), bound);
    ck_assert_int_le(off, bound);
}
END_TEST

/* No turns: each thread has addresses of its own, and frees half of what its neighbour made. */
static struct block of_thread[THREADS + 1][2000];

static void *storm(void *argument)
{
    uintptr_t me = (uintptr_t)argument;
    uint64_t seed = me * 7919;
    for (uintptr_t i = 0; i < 2000; i++) {
        struct block *block = &of_thread[me][i];
        block->address = HEAP + (me << 32) + (i << 12);
        block->bytes = next_random(&seed) % 3000;
        block->site = fake_malloc(block->address, block->bytes, next_random(&seed) % STACKS);
        for (uintptr_t k = 0; k < 20; k++) {
            fake_malloc(HEAP + (me << 32) + (5000 << 12), 100 + k, me * 1000 + i % 50);
            fake_free(HEAP + (me << 32) + (5000 << 12));
        }
    }
    pthread_barrier_wait(&all_there);
    uintptr_t next = me % THREADS + 1;
    for (uintptr_t i = 0; i < 2000; i += 2)
        if (!fake_free(of_thread[next][i].address))
            wrong = true;
    return NULL;
}

START_TEST(counters_of_a_storm_of_eight_threads_add_up)
{
    run_threads(storm);
    ck_assert(!wrong);
    int64_t bytes = 0, temporary = THREADS * 2000 * 20;
    for (uintptr_t t = 1; t <= THREADS; t++)
        for (uintptr_t i = 1; i < 2000; i += 2)
            bytes += (int64_t)of_thread[t][i].bytes;
    struct fake_sum all = fake_sum_of_all();
    ck_assert_int_eq(all.live_bytes, bytes);
    ck_assert_int_eq(all.live_blocks, THREADS * 1000);
    ck_assert_int_eq(all.allocations, THREADS * 2000 * 21);
    ck_assert_int_ge(all.temporary, temporary);
    ck_assert_int_eq(recording_live->heap.live_bytes + pending(), bytes);
    ck_assert_int_ge(recording_live->heap.peak_bytes, bytes);
    ck_assert_uint_eq(recording_live->stale_live, 0);
    ck_assert_uint_eq(recording_live->unknown_frees, 0);
}
END_TEST

/* The second thread's first block is large; what the first one did alone must not undo it. */
static void *one_large_block(void *argument)
{
    fake_malloc(HEAP + (UINT64_C(1) << 36) + ((uintptr_t)argument << 30), 100 << 20, 3);
    return NULL;
}

static volatile bool stop;

static void *hammer(void *unused)
{
    while (!stop) {
        fake_malloc(HEAP, 64, 1);
        fake_free(HEAP);
    }
    return unused;
}

START_TEST(a_second_thread_may_begin_in_the_middle_of_an_event)
{
    pthread_t first, second;
    ck_assert_int_eq(pthread_create(&first, NULL, hammer, NULL), 0);
    while (__atomic_load_n(&recording_live->heap.peak_bytes, __ATOMIC_RELAXED) == 0)
        sys_yield();
    ck_assert_int_eq(pthread_create(&second, NULL, one_large_block, (void *)1), 0);
    pthread_join(second, NULL);
    stop = true;
    pthread_join(first, NULL);
    ck_assert_int_eq(recording_live->heap.live_bytes + pending(), 100 << 20);
    ck_assert_int_eq(fake_sum_of_all().live_bytes, 100 << 20);
}
END_TEST

static void *one_of_many(void *argument)
{
    fake_malloc(HEAP + ((uintptr_t)argument << 16), 10, 1);
    return NULL;
}

START_TEST(slots_of_threads_that_ended_are_taken_over)
{
    pthread_t thread;
    for (uintptr_t i = 0; i < 300; i++) {
        ck_assert_int_eq(pthread_create(&thread, NULL, one_of_many, (void *)i), 0);
        pthread_join(thread, NULL);
    }
    ck_assert_uint_lt(recording_count(HMK_THREADS), 30);
    ck_assert_int_eq(fake_sum_of_all().live_blocks, 300);
    ck_assert_int_eq(recording_live->heap.live_bytes + pending(), 3000);
}
END_TEST

static void hold_for_a_moment(size_t bytes)
{
    unsigned char *memory = sys_map_anonymous(bytes);
    ck_assert_ptr_nonnull(memory);
    for (size_t i = 0; i < bytes; i += 4096)
        memory[i] = 1;
    sys_unmap(memory, bytes);
}

START_TEST(memory_of_a_ledger_makes_no_peak)
{
    const uint64_t mib = 1 << 20;
    timeline_read_peak();
    uint64_t before = recording_live->rss_peak_bytes;
    ck_assert_uint_gt(before, 0);
    hold_for_a_moment(16 * mib);        /* the program's, before */
    timeline_own_peak_begin();
    hold_for_a_moment(64 * mib);
    timeline_own_peak_end();
    timeline_read_peak();
    uint64_t with = recording_live->rss_peak_bytes;
    ck_assert_uint_ge(with, before + 8 * mib);
    ck_assert_uint_lt(with, before + 40 * mib);
    hold_for_a_moment(32 * mib);        /* below what it takes to be told apart */
    timeline_read_peak();
    ck_assert_uint_eq(recording_live->rss_peak_bytes, with);
    hold_for_a_moment(128 * mib);
    timeline_read_peak();
    ck_assert_uint_ge(recording_live->rss_peak_bytes, before + 100 * mib);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        temporary_blocks_are_those_freed_before_the_next_allocation, sizes_and_slack_are_counted,
        free_of_an_unknown_block_is_counted_as_such, block_whose_free_was_missed_is_retired_when_its_place_is_taken,
        revival_leaves_no_trace, frees_of_a_handler_are_counted_on_the_way_out,
        hook_left_by_longjmp_does_not_end_the_thread, hook_under_a_handler_is_nested_on_whatever_stack,
        counters_of_a_storm_of_eight_threads_add_up, slots_of_threads_that_ended_are_taken_over,
        memory_of_a_ledger_makes_no_peak,
    };
    Suite *suite = suite_create("recorder");
    TCase *all = tcase_create("all");
    tcase_add_checked_fixture(all, fake_begin, fake_end);
    tcase_set_timeout(all, 120);
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++)
        tcase_add_test(all, tests[i]);
    tcase_add_loop_test(all, peak_composition_of_one_thread_is_exact, 0, 200);
    tcase_add_loop_test(all, peak_of_eight_threads_within_half_a_percent, 0, 5);
    tcase_add_loop_test(all, a_second_thread_may_begin_in_the_middle_of_an_event, 0, 50);
    suite_add_tcase(suite, all);
    SRunner *runner = srunner_create(suite);
    srunner_set_fork_status(runner, CK_FORK);
    srunner_run_all(runner, CK_NORMAL);
    int failures = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failures ? 1 : 0;
}
