/* SPDX-License-Identifier: MIT */
/* Stacks to sites: equal stacks, and only those, have equal ids, whatever happens to the tables. */

#include "fake_process.h"

#include "freestanding/sys.h"
#include "shim/module.h"
#include "shim/recording.h"
#include "shim/shield.h"
#include "shim/stack.h"
#include "shim/unwind.h"
#include <check.h>
#include <dlfcn.h>
#include <link.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

static const struct unwind_start nowhere;

static uint32_t site_of(const uint64_t *pcs, uint32_t depth, uint32_t flags, enum hmk_site_kind kind)
{
    struct thread *thread = thread_enter();
    if (thread == NULL)
        return UINT32_MAX;
    fake_stack(pcs, depth, flags);
    uint32_t site = stack_site(thread, &nowhere, kind);
    thread_leave(thread);
    return site;
}

/* The frames of a site, root first, as the recording has them. */
static bool has_frames(uint32_t site, const uint64_t *pcs, uint32_t depth)
{
    const struct hmk_site *record = recording_at(HMK_SITES, site);
    uint32_t node = record->frame;
    while (depth > 0) {
        const struct hmk_frame *frame = recording_at(HMK_FRAMES, node);
        if (node == 0 || frame->code != pcs[--depth] || frame->parent >= node)
            return false;
        node = frame->parent;
    }
    return node == 0;
}

/* A stack for each number, with much in common. */
static uint32_t pcs_of(uint32_t number, uint64_t pcs[32])
{
    uint32_t depth = 0, mixed = number * 2654435761u;
    for (unsigned level = 0; level < 8; level++)
        if (mixed >> level & 1)
            pcs[depth++] = 0x10000 + level * 0x1000 + (mixed >> (8 + level * 2) & 3);
    pcs[depth++] = 0x400000 + number;
    return depth;
}

START_TEST(equal_stacks_have_equal_ids)
{
    enum { MANY = 3000 };
    static uint32_t site[MANY];
    uint64_t pcs[32];
    for (uint32_t round = 0; round < 3; round++)
        for (uint32_t i = 0; i < MANY; i++) {
            uint32_t depth = pcs_of(i, pcs), id = site_of(pcs, depth, 0, HMK_KIND_HEAP);
            ck_assert_uint_ge(id, HMK_SITE_FIRST);
            if (round == 0)
                ck_assert_uint_eq(id, HMK_SITE_FIRST + i);
            else
                ck_assert_uint_eq(id, site[i]);
            site[i] = id;
            if (!has_frames(id, pcs, depth))
                ck_abort_msg("site of %u", i);
        }
    ck_assert_uint_eq(recording_count(HMK_SITES), HMK_SITE_FIRST + MANY);
    ck_assert_uint_eq(fake_memos, 0);
    site_of(pcs, pcs_of(1, pcs), 0, HMK_KIND_HEAP);
    ck_assert_uint_eq(site_of(pcs, pcs_of(1, pcs), 0, HMK_KIND_HEAP), site[1]);
    ck_assert_uint_eq(fake_memos, 1);
}
END_TEST

/* Deeper and shallower by turns, so that each capture keeps another part of the one before. */
START_TEST(what_is_kept_of_the_last_stack_is_right)
{
    uint64_t pcs[200], seed = 42;
    static uint32_t site_of_depth[200];
    for (uint32_t i = 0; i < 200; i++)
        pcs[i] = 0x5000 + i * 3;
    for (int i = 0; i < 5000; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        uint32_t depth = 1 + (seed >> 33) % 199, change = (seed >> 50) % 3;
        if (change == 0) {      /* another leaf, never seen */
            uint64_t old = pcs[depth - 1];
            pcs[depth - 1] = 0x900000 + (uint64_t)i;
            uint32_t id = site_of(pcs, depth, 0, HMK_KIND_HEAP);
            if (!has_frames(id, pcs, depth))
                ck_abort_msg("step %d", i);
            pcs[depth - 1] = old;
            continue;
        }
        enum hmk_site_kind kind = change == 1 ? HMK_KIND_HEAP : HMK_KIND_MAPPING;
        uint32_t id = site_of(pcs, depth, 0, kind);
        if (!has_frames(id, pcs, depth))
            ck_abort_msg("step %d", i);
        if (kind == HMK_KIND_HEAP) {
            ck_assert(site_of_depth[depth] == 0 || site_of_depth[depth] == id);
            site_of_depth[depth] = id;
        }
    }
}
END_TEST

START_TEST(kinds_and_flags_are_sites_of_their_own)
{
    uint64_t pcs[32];
    uint32_t depth = pcs_of(7, pcs);
    uint32_t heap = site_of(pcs, depth, 0, HMK_KIND_HEAP), cut = site_of(pcs, depth, UNWIND_CUT, HMK_KIND_HEAP);
    uint32_t mapping = site_of(pcs, depth, 0, HMK_KIND_MAPPING), advice = site_of(pcs, depth, 0, HMK_KIND_ADVICE);
    uint32_t all[] = {heap, cut, mapping, advice};
    static const uint32_t flags[] = {HMK_KIND_HEAP, HMK_KIND_HEAP | HMK_SITE_CUT, HMK_KIND_MAPPING, HMK_KIND_ADVICE};
    for (int i = 0; i < 4; i++) {
        const struct hmk_site *record = recording_at(HMK_SITES, all[i]);
        ck_assert_uint_eq(record->flags, flags[i]);
        ck_assert_uint_eq(record->frame, ((struct hmk_site *)recording_at(HMK_SITES, heap))->frame);
        for (int k = 0; k < i; k++)
            ck_assert_uint_ne(all[i], all[k]);
    }
    ck_assert_uint_eq(site_of(pcs, depth, UNWIND_CUT, HMK_KIND_HEAP), cut);
    ck_assert_uint_eq(site_of(pcs, depth, 0, HMK_KIND_MAPPING), mapping);
    ck_assert_uint_eq(recording_live->cut_stacks, 1);   /* stacks, not events */
    ck_assert_uint_eq(site_of(pcs, 0, 0, HMK_KIND_HEAP), HMK_SITE_BEFORE);
}
END_TEST

/* The unwinder's memory, the hashes and the look-up table start anew; the ids stay. */
START_TEST(a_generation_forgets_addresses_but_not_sites)
{
    uint64_t pcs[32];
    uint32_t depth = pcs_of(3, pcs), site = site_of(pcs, depth, 0, HMK_KIND_HEAP);
    uint64_t count = recording_count(HMK_SITES), frames = recording_count(HMK_FRAMES);
    for (int i = 0; i < 5; i++) {
        uint64_t memos = fake_memos;
        stack_forget();
        ck_assert_uint_eq(site_of(pcs, depth, 0, HMK_KIND_HEAP), site);
        ck_assert_uint_eq(fake_memos, memos);           /* a memo of the old generation would be another module's */
        ck_assert_uint_eq(site_of(pcs, depth, 0, HMK_KIND_HEAP), site);
        ck_assert_uint_eq(fake_memos, memos + 1);
    }
    ck_assert_uint_eq(recording_count(HMK_SITES), count);
    ck_assert_uint_eq(recording_count(HMK_FRAMES), frames);
}
END_TEST

START_TEST(tables_grow)
{
    enum { MANY = 120000 };
    static uint32_t site[MANY];
    uint64_t pcs[32];
    bool good = true;
    for (uint32_t round = 0; round < 2; round++) {
        for (uint32_t i = 0; i < MANY; i++) {
            uint32_t id = site_of(pcs, pcs_of(i, pcs), 0, HMK_KIND_HEAP);
            good = good && (round == 0 ? id == HMK_SITE_FIRST + i : id == site[i]);
            site[i] = id;
        }
        stack_forget();
    }
    for (uint32_t i = 0; i < MANY; i += 37)
        good = good && has_frames(site[i], pcs, pcs_of(i, pcs));
    ck_assert(good);
    ck_assert_uint_eq(recording_count(HMK_SITES), HMK_SITE_FIRST + MANY);
}
END_TEST

static sigjmp_buf way_out;
static volatile sig_atomic_t may_leave;

static void leave(int number)
{
    (void)number;
    if (may_leave) {
        may_leave = 0;
        siglongjmp(way_out, 1);
    }
}

/* The tables are replaced by larger ones seven times, and for long enough to be left in the middle of it. */
START_TEST(handlers_leave_while_stacks_are_new)
{
    enum { MANY = 120000 };
    static uint32_t site[MANY];
    static volatile uint32_t next;
    struct itimerval often = {{0, 400}, {0, 400}}, never = {{0, 0}, {0, 0}};
    static bool good = true;
    uint64_t pcs[32];
    signal(SIGALRM, leave);
    ck_assert_int_eq(setitimer(ITIMER_REAL, &often, NULL), 0);
    sigsetjmp(way_out, 1);
    while (next < MANY) {
        may_leave = 1;
        uint32_t id = site_of(pcs, pcs_of(next, pcs), 0, HMK_KIND_HEAP);
        may_leave = 0;
        site[next++] = id;
    }
    setitimer(ITIMER_REAL, &never, NULL);
    for (uint32_t i = 0; i < MANY; i++)
        good = good && has_frames(site[i], pcs, pcs_of(i, pcs)) &&
               site_of(pcs, pcs_of(i, pcs), 0, HMK_KIND_HEAP) == site[i];
    ck_assert(good);
    ck_assert_uint_gt(recording_live->abandoned_events, 0);
    ck_assert_uint_eq(recording_live->lost_sites, 0);
}
END_TEST

static ucontext_t context[3];
static volatile int running;

static void switch_stacks(int number)
{
    int from = running;
    (void)number;
    running = 3 - from;
    if (from != 0)
        swapcontext(&context[from], &context[running]);
    else
        running = 0;
}

/* In a known module, or all signals would come at the end of its search. */
static void make_many(int which)
{
    uint64_t pcs[20];
    for (uint32_t i = 0; i < 250000; i++) {
        for (uint32_t level = 0; level < 20; level++)
            pcs[level] = (uintptr_t)site_of + 1 + ((i * 2 + (uint32_t)which) * 2654435761u >> level & 1) * 16;
        site_of(pcs, 20, 0, HMK_KIND_HEAP);
    }
    running = 0;
    setcontext(&context[0]);
}

static void prepare(int which)
{
    static unsigned char memory[2][256 << 10];
    ck_assert_int_eq(getcontext(&context[which]), 0);
    context[which].uc_stack.ss_sp = memory[which - 1];
    context[which].uc_stack.ss_size = sizeof memory[0];
    makecontext(&context[which], (void (*)(void))make_many, 1, which);
}

/* Threads of the program's own making, which a timer switches: each comes back to an event that counts as abandoned. */
START_TEST(handlers_switch_stacks_while_stacks_are_new)
{
    struct itimerval often = {{0, 700}, {0, 700}}, never = {{0, 0}, {0, 0}};
    prepare(1);
    prepare(2);
    signal(SIGALRM, switch_stacks);
    setitimer(ITIMER_REAL, &often, NULL);
    running = 1;
    swapcontext(&context[0], &context[1]);
    setitimer(ITIMER_REAL, &never, NULL);
    ck_assert_uint_gt(recording_count(HMK_SITES), 1000);
}
END_TEST

/* The first look-up in a new module, which lists it, is left after so many microseconds; then comes another one. */
static int leave_modules(uint32_t microseconds)
{
    static _Alignas(8) unsigned char scratch[MODULE_SCRATCH];
    struct itimerval once = {.it_value = {0, (suseconds_t)microseconds}}, never = {.it_value = {0, 0}};
    const struct link_map *fresh = dlopen("libresolv.so.2", RTLD_NOW);
    if (fresh == NULL)
        return 2;
    thread_open_gate();     /* wiped by the fork that made this process: it is as a parent here */
    signal(SIGALRM, leave);
    if (sigsetjmp(way_out, 1) == 0) {
        may_leave = 1;
        setitimer(ITIMER_REAL, &once, NULL);
        shield_raise_light();
        module_find((uintptr_t)fresh->l_ld, scratch);
        may_leave = 0;
        shield_lower();
    }
    setitimer(ITIMER_REAL, &never, NULL);
    signal(SIGALRM, SIG_DFL);
    recording_abandon_lock();
    shield_abandon();
    alarm(2);
    shield_raise_light();
    return module_find((uintptr_t)fresh->l_ld, scratch) == 0;
}

START_TEST(handlers_leave_while_modules_are_listed)
{
    for (uint32_t i = 1; i <= 300; i++) {
        int status;
        pid_t child = fork();
        if (child == 0)
            _exit(leave_modules(i));
        ck_assert_int_eq(waitpid(child, &status, 0), child);
        if (status != 0)
            ck_abort_msg("after %u microseconds: status %d", i, status);
    }
}
END_TEST

/* The owner of a shield that was taken as abandoned may come back all the same, by a handler that switched stacks. */
START_TEST(a_shield_that_was_abandoned_is_lowered_in_vain)
{
    uint64_t before, after;
    sys_block_signals(&before);
    sys_restore_signals(&before);
    shield_raise_light();
    shield_raise();
    shield_abandon();
    shield_lower();
    shield_lower();
    ck_assert_uint_eq(shield_self.depth, 0);
    sys_block_signals(&after);
    sys_restore_signals(&before);
    ck_assert_uint_eq(after, before);
    shield_raise();
    ck_assert_uint_ne(shield_self.blocked_at, 0);
    shield_lower();
}
END_TEST

/* ---- threads ------------------------------------------------------------------------------------- */

enum { THREADS = 4, STACKS = 20000 };
static uint32_t found[THREADS][STACKS];

static void *intern_all(void *argument)
{
    uintptr_t me = (uintptr_t)argument;
    uint64_t pcs[32];
    for (uint32_t k = 0; k < STACKS; k++) {
        uint32_t i = me % 2 ? k : STACKS - 1 - k;
        found[me][i] = site_of(pcs, pcs_of(i, pcs), 0, HMK_KIND_HEAP);
        if (me == 0 && k % 5000 == 0)
            stack_forget();
    }
    return NULL;
}

START_TEST(four_threads_agree)
{
    pthread_t thread[THREADS];
    uint64_t pcs[32];
    for (uintptr_t i = 0; i < THREADS; i++)
        ck_assert_int_eq(pthread_create(&thread[i], NULL, intern_all, (void *)i), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(thread[i], NULL);
    ck_assert_uint_eq(recording_count(HMK_SITES), HMK_SITE_FIRST + STACKS);
    for (uint32_t i = 0; i < STACKS; i++) {
        bool good = has_frames(found[0][i], pcs, pcs_of(i, pcs));
        for (int t = 1; t < THREADS; t++)
            good = good && found[t][i] == found[0][i];
        if (!good)
            ck_abort_msg("stack %u", i);
    }
}
END_TEST

static _Atomic int stalled, go_on;

static void stall(int number)
{
    (void)number;
    if (shield_self.depth == 0 || shield_self.blocked_at != 0)
        return;
    stalled = 1;
    while (!go_on)
        sys_nap(1000);
}

static void *make_until_stalled(void *argument)
{
    uint64_t pcs[32];
    for (uint32_t i = 0; !go_on; i++)
        site_of(pcs, pcs_of(i, pcs), 0, HMK_KIND_HEAP);
    return argument;
}

/* A handler keeps a thread that holds the lock: the others do without new sites, and wait for it once. */
START_TEST(a_holder_that_a_handler_stops_is_waited_for_once)
{
    pthread_t thread;
    uint64_t pcs[32];
    uint32_t known = site_of(pcs, pcs_of(1, pcs), 0, HMK_KIND_HEAP), lost = 0;
    signal(SIGALRM, SIG_DFL);       /* the test runner's; with a handler like that the lock is held with signals blocked */
    signal(SIGINT, stall);
    ck_assert_int_eq(pthread_create(&thread, NULL, make_until_stalled, NULL), 0);
    sigset_t interrupt;
    sigemptyset(&interrupt);
    sigaddset(&interrupt, SIGINT);
    pthread_sigmask(SIG_BLOCK, &interrupt, NULL);
    while (!stalled) {
        pthread_kill(thread, SIGINT);
        sys_nap(300);
    }
    uint64_t start = sys_monotonic_ns();
    for (uint32_t i = 1; i <= 8; i++)
        lost += site_of(pcs, pcs_of(UINT32_MAX / 2 + i, pcs), 0, HMK_KIND_HEAP) == HMK_SITE_LOST;
    ck_assert(!stack_begin_sampling(20000));
    uint64_t end = sys_monotonic_ns();
    ck_assert_uint_eq(lost, 8);
    ck_assert_uint_lt(end - start, UINT64_C(4000000000));
    ck_assert_uint_eq(site_of(pcs, pcs_of(1, pcs), 0, HMK_KIND_HEAP), known);
    go_on = 1;
    pthread_join(thread, NULL);
    ck_assert_uint_ne(site_of(pcs, pcs_of(UINT32_MAX / 2, pcs), 0, HMK_KIND_HEAP), HMK_SITE_LOST);
}
END_TEST

static _Thread_local sigjmp_buf end_of_thread;
static _Atomic int gone;

static void end_thread(int number)
{
    (void)number;
    if (shield_self.depth != 0 && shield_self.blocked_at == 0)
        siglongjmp(end_of_thread, 1);
}

static void *make_until_ended(void *argument)
{
    uint64_t pcs[32];
    if (sigsetjmp(end_of_thread, 0) == 0)
        for (uint32_t i = 0;; i++)
            site_of(pcs, pcs_of(i, pcs), 0, HMK_KIND_HEAP);
    gone = 1;
    return argument;
}

/* A handler leaves by longjmp what the thread was doing with the lock, and the thread ends without another event. */
START_TEST(a_thread_that_ends_gives_the_lock_back)
{
    enum { ROUNDS = 20 };
    uint64_t pcs[32];
    site_of(pcs, pcs_of(1, pcs), 0, HMK_KIND_HEAP);
    signal(SIGALRM, SIG_DFL);
    signal(SIGINT, end_thread);
    for (uint32_t round = 0; round < ROUNDS; round++) {
        pthread_t thread;
        gone = 0;
        ck_assert_int_eq(pthread_create(&thread, NULL, make_until_ended, NULL), 0);
        for (sys_nap(2000); !gone; sys_nap(100))
            pthread_kill(thread, SIGINT);
        pthread_join(thread, NULL);
        ck_assert_uint_ne(site_of(pcs, pcs_of(UINT32_MAX / 2 + round, pcs), 0, HMK_KIND_HEAP), HMK_SITE_LOST);
    }
    ck_assert_uint_ge(recording_live->abandoned_events, ROUNDS);
    ck_assert_uint_eq(recording_live->lost_sites, 0);
}
END_TEST

/* ---- no room ------------------------------------------------------------------------------------- */

START_TEST(full_disk_folds_new_stacks_and_keeps_known_ones)
{
    uint64_t pcs[32];
    uint32_t known = site_of(pcs, pcs_of(1, pcs), 0, HMK_KIND_HEAP), lost = 0, i;
    signal(SIGXFSZ, SIG_DFL);
    struct rlimit now = {recording_live->file_bytes, RLIM_INFINITY};
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &now), 0);
    for (i = 2; i < 5000; i++)
        lost += site_of(pcs, pcs_of(i, pcs), 0, HMK_KIND_HEAP) == HMK_SITE_LOST;
    ck_assert_uint_gt(lost, 4000);
    ck_assert_uint_eq(recording_live->lost_sites, lost);
    ck_assert_uint_eq(recording_live->stop_reason, HMK_STOP_DISK_FULL);
    ck_assert_uint_eq(site_of(pcs, pcs_of(1, pcs), 0, HMK_KIND_HEAP), known);
    ck_assert(has_frames(known, pcs, pcs_of(1, pcs)));
    /* Blocks are counted all the same. */
    uint32_t site = fake_malloc(UINT64_C(0x7f0000000000), 100, UINT64_C(1) << 40);
    ck_assert_uint_eq(site, HMK_SITE_LOST);
    ck_assert_int_eq(fake_sum_of(HMK_SITE_LOST).live_bytes, 100);
    ck_assert(fake_free(UINT64_C(0x7f0000000000)));
    ck_assert_int_eq(recording_live->heap.live_bytes, 0);
}
END_TEST

static void *allocate_once(void *argument)
{
    uintptr_t block = UINT64_C(0x7f0000000000) + ((uintptr_t)argument << 16);
    fake_malloc(block, 100, 5);
    return NULL;
}

/* Threads that get no slot are not counted, births and deaths alike; those that have one go on. */
START_TEST(full_disk_refuses_further_threads)
{
    enum { MANY = 40 };
    pthread_t thread[MANY];
    fake_malloc(UINT64_C(0x7e0000000000), 50, 5);
    struct rlimit now = {recording_live->file_bytes, RLIM_INFINITY};
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &now), 0);
    for (uintptr_t i = 0; i < MANY; i++)
        ck_assert_int_eq(pthread_create(&thread[i], NULL, allocate_once, (void *)i), 0);
    for (uintptr_t i = 0; i < MANY; i++)
        pthread_join(thread[i], NULL);
    int64_t pending = 0;
    for (uint64_t i = 0; i < recording_count(HMK_THREADS); i++)
        pending += ((struct hmk_thread *)recording_at(HMK_THREADS, i))->pending_bytes;
    struct fake_sum all = fake_sum_of_all();
    ck_assert_int_eq(recording_live->heap.live_bytes + pending, all.live_bytes);
    for (uintptr_t i = 0; i < MANY; i++)
        fake_free(UINT64_C(0x7f0000000000) + (i << 16));
    ck_assert(fake_free(UINT64_C(0x7e0000000000)));
    ck_assert_int_eq(fake_sum_of_all().live_bytes, 0);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        equal_stacks_have_equal_ids, what_is_kept_of_the_last_stack_is_right, kinds_and_flags_are_sites_of_their_own,
        a_generation_forgets_addresses_but_not_sites, tables_grow, handlers_leave_while_stacks_are_new,
        handlers_switch_stacks_while_stacks_are_new, handlers_leave_while_modules_are_listed,
        a_shield_that_was_abandoned_is_lowered_in_vain, four_threads_agree,
        a_holder_that_a_handler_stops_is_waited_for_once, a_thread_that_ends_gives_the_lock_back,
        full_disk_folds_new_stacks_and_keeps_known_ones, full_disk_refuses_further_threads,
    };
    Suite *suite = suite_create("stack");
    TCase *all = tcase_create("all");
    tcase_add_checked_fixture(all, fake_begin, fake_end);
    tcase_set_timeout(all, 120);
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++)
        tcase_add_test(all, tests[i]);
    suite_add_tcase(suite, all);
    SRunner *runner = srunner_create(suite);
    srunner_set_fork_status(runner, CK_FORK);
    srunner_run_all(runner, CK_NORMAL);
    int failures = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failures ? 1 : 0;
}
