/* SPDX-License-Identifier: MIT */
/*
 * Stacks of every kind that a program can have, taken by both unwinders and compared with libunwind's step-by-step walk:
 * pcs, depth, flags and interrupted frames.  What a memo stands for and what `common` claims are checked too.
 */

#include "freestanding/sys.h"
#include "shim/settings.h"
#include "shim/unwind.h"
#include <alloca.h>
#include <check.h>
#include <dlfcn.h>
#include <link.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <ucontext.h>

#define DEPTH 64
#define KNOWN 4096

struct stack {
    uint64_t pcs[DEPTH];
    uint32_t depth, flags;
};

/* A thread that takes stacks.  Every stack is remembered by its number among `known`. */
struct taker {
    struct unwind_thread *thread;
    struct stack previous;          /* the last result without a memo */
    struct stack *known;            /* 0 is unused */
    uint32_t known_count;
    struct unwind_result last;
    unsigned long taken, memos, wrong;
};

static _Thread_local struct taker *taker;

static void keep(struct stack *stack, const struct unwind_result *result)
{
    memcpy(stack->pcs, result->pcs, result->depth * sizeof *result->pcs);
    stack->depth = result->depth;
    stack->flags = result->flags;
}

static bool is_exact(const struct unwind_result *result, uint32_t i)
{
    return result->exact && result->exact[i / 64] >> i % 64 & 1;
}

static bool same_exact(const struct unwind_result *result, const struct unwind_result *reference)
{
    for (uint32_t i = 1; i <= reference->depth; i++)
        if (is_exact(result, result->depth - i) != is_exact(reference, reference->depth - i))
            return false;
    return true;
}

/* Is the result what it says it is?  Remembers the stack. */
static bool right(struct unwind_result *result, const struct unwind_result *reference)
{
    if (result->memo) {
        const struct stack *known = &taker->known[result->memo];
        taker->memos++;
        *result = (struct unwind_result){ .pcs = known->pcs, .depth = known->depth, .flags = known->flags };
        return unwind_agrees(result, reference);
    }
    bool common = result->common <= result->depth && result->common <= taker->previous.depth
        && memcmp(result->pcs, taker->previous.pcs, result->common * sizeof *result->pcs) == 0;
    keep(&taker->previous, result);
    if (taker->known_count < KNOWN) {
        keep(&taker->known[taker->known_count], result);
        unwind_remember(taker->thread, taker->known_count++);
    }
    return common && unwind_agrees(result, reference) && same_exact(result, reference);
}

static __attribute__((noinline)) void take(void)
{
    struct unwind_start start = unwind_start_here();
    struct unwind_result reference;

    unwind_capture(taker->thread, &start, &taker->last);
    taker->taken++;
    if (!unwind_verify(taker->thread, &start, &reference) || !right(&taker->last, &reference))
        taker->wrong++;
}

static struct taker *new_taker(void)
{
    struct taker *fresh = calloc(1, sizeof *fresh);
    fresh->known = calloc(KNOWN, sizeof *fresh->known);
    fresh->known_count = 1;
    fresh->thread = unwind_thread_new();
    return fresh;
}

static void free_taker(struct taker *old)
{
    free(old->known);
    free(old);
}

static void set_up(const char *unwinder)
{
    struct settings settings = { .depth = DEPTH };

    settings.unwinder = strcmp(unwinder, "libunwind") == 0 ? SETTINGS_UNWINDER_LIBUNWIND : SETTINGS_UNWINDER_FAST;
    ck_assert(unwind_libunwind_open(HELPER_DIRECTORY));
    ck_assert(unwind_init(&settings));
    ck_assert_str_eq(unwind_name(), unwinder);
    taker = new_taker();
    ck_assert_ptr_nonnull(taker->thread);
}

static void set_up_libunwind(void)
{
    set_up("libunwind");
}

static void set_up_fast(void)
{
    set_up("fast");
}

static void tear_down(void)
{
    free_taker(taker);
}

static void ck_assert_all_right(void)
{
    ck_assert_uint_gt(taker->taken, 0);
    ck_assert_uint_eq(taker->wrong, 0);
}

/* ---- frames of all kinds ----------------------------------------------------------------------------- */

static unsigned seed = 1;

static unsigned next_random(void)
{
    seed = seed * 1103515245u + 12345u;
    return seed >> 16;
}

typedef void leaf_function(void);

static __attribute__((noinline)) int recurse(int depth, leaf_function *leaf)
{
    volatile char frame[48];
    frame[depth % 48] = 1;
    if (depth == 0)
        leaf();
    else
        recurse(depth - 1, leaf);
    return frame[depth % 48];
}

static void call(int depth, leaf_function *leaf);

static __attribute__((noinline)) int with_alloca(int depth, leaf_function *leaf)
{
    volatile char *block = alloca(next_random() % 3000 + 1);
    block[0] = 1;
    call(depth, leaf);
    return block[0];
}

static __attribute__((noinline)) int with_alignment(int depth, leaf_function *leaf)
{
    volatile char block[64] __attribute__((aligned(64)));
    block[depth % 64] = 1;
    call(depth, leaf);
    return block[depth % 64];
}

/* Arguments on the stack and an aligned frame: the CFA can only be found through a saved pointer (DRAP on x86-64). */
static __attribute__((noinline)) int with_stack_arguments(int a, int b, int c, int d, int e, int f, int g, int h, int i,
                                                          int depth, leaf_function *leaf)
{
    volatile char block[32] __attribute__((aligned(32)));
    volatile char *more = alloca((size_t)(a + b + c + d + e + f + g + h + i) % 100 + 1);
    block[depth % 32] = more[0] = 1;
    call(depth, leaf);
    return block[depth % 32] + more[0];
}

static __attribute__((noinline)) int with_large_frame(int depth, leaf_function *leaf)
{
    volatile char block[40000];
    block[depth] = 1;
    call(depth, leaf);
    return block[depth];
}

static __attribute__((noinline, optimize("no-omit-frame-pointer"))) int with_frame_pointer(int depth,
                                                                                           leaf_function *leaf)
{
    volatile char block[24];
    block[depth % 24] = 1;
    call(depth, leaf);
    return block[depth % 24];
}

static int compare(const void *a, const void *b)
{
    if (*(const int *)a == 2 && *(const int *)b == 1)
        take();
    return *(const int *)a - *(const int *)b;
}

static __attribute__((noinline)) int through_libc(int depth, leaf_function *leaf)
{
    int numbers[3] = { 2, 1, 3 };
    qsort(numbers, 3, sizeof *numbers, compare);
    call(depth, leaf);
    return numbers[0];
}

static __attribute__((noinline)) void call(int depth, leaf_function *leaf)
{
    if (depth == 0) {
        leaf();
        return;
    }
    for (unsigned times = depth < 4 ? 1 + next_random() % 2 : 1; times > 0; times--) {
        switch (next_random() % 8) {
        case 0: with_alloca(depth - 1, leaf); break;
        case 1: with_alignment(depth - 1, leaf); break;
        case 2: with_stack_arguments(1, 2, 3, 4, 5, 6, 7, 8, depth, depth - 1, leaf); break;
        case 3: with_large_frame(depth - 1, leaf); break;
        case 4: with_frame_pointer(depth - 1, leaf); break;
        case 5: through_libc(depth - 1, leaf); break;
        default: recurse((int)(next_random() % 3), leaf); call(depth - 1, leaf); break;
        }
    }
}

START_TEST(recursion)
{
    for (int depth = 0; depth < 40; depth++)
        recurse(depth, take);
    recurse(5, take);
    recurse(15, take);
    ck_assert_all_right();
}
END_TEST

START_TEST(frames_of_all_kinds)
{
    for (int i = 0; i < 120; i++)
        call(1 + (int)(next_random() % 12), take);
    ck_assert_all_right();
}
END_TEST

/* The caller's frame has the same size whichever function it is, and the frames inside of it do not change. */
static __attribute__((noinline)) int one_caller(leaf_function *leaf)
{
    volatile int frame = 1;
    recurse(3, leaf);
    return frame;
}

static __attribute__((noinline)) int other_caller(leaf_function *leaf)
{
    volatile int frame = 2;
    recurse(3, leaf);
    return frame;
}

START_TEST(callers_that_swap_above_an_unchanged_callee)
{
    int (*const callers[])(leaf_function *) = { one_caller, other_caller };

    for (int i = 0; i < 200; i++)
        callers[next_random() % 2](take);
    ck_assert_all_right();
    if (strcmp(unwind_name(), "fast") == 0)
        ck_assert_uint_gt(taker->memos, 50);
}
END_TEST

START_TEST(a_remembered_stack_gives_its_memo)
{
    static const uint32_t expected[] = { 0, 1, 1, 1 };
    uint32_t memos[4];

    for (unsigned i = 0; i < 4; i++) {
        unsigned long before = taker->memos;
        recurse(7, take);
        memos[i] = (uint32_t)(taker->memos - before);
    }
    ck_assert_mem_eq(memos, expected, sizeof expected);
    ck_assert_all_right();
}
END_TEST

START_TEST(a_reset_thread_remembers_nothing)
{
    for (unsigned i = 0; i < 4; i++) {
        recurse(7, take);
        unwind_thread_reset(taker->thread);
        taker->previous.depth = 0;
    }
    ck_assert_uint_eq(taker->memos, 0);
    ck_assert_all_right();
}
END_TEST

/* ---- depth ------------------------------------------------------------------------------------------- */

START_TEST(a_deep_stack_keeps_its_leaf_side)
{
    recurse(500, take);
    ck_assert_uint_eq(taker->last.depth, DEPTH);
    ck_assert_uint_eq(taker->last.flags, UNWIND_CUT);
    ck_assert_uint_eq(taker->last.pcs[0], taker->last.pcs[1]);
    ck_assert_all_right();
}
END_TEST

/* Takes a stack on the way down and on the way up, at depths around the limit and far beyond what is remembered. */
static __attribute__((noinline)) int go_down(int depth)
{
    volatile char frame[32];
    frame[depth % 32] = 1;
    take();
    if (depth > 0)
        go_down(depth - 1);
    if (depth % 3 == 0)
        recurse(depth % 7, take);
    take();
    return frame[depth % 32];
}

START_TEST(stacks_that_grow_and_shrink_across_the_limit)
{
    go_down(2 * DEPTH);
    go_down(900);
    go_down(DEPTH);
    go_down(3);
    ck_assert_all_right();
}
END_TEST

/* ---- signals ----------------------------------------------------------------------------------------- */

static volatile sig_atomic_t in_capture, handled;

/* The next SIGALRM, in microseconds; 0: none. */
static void arm(long delay)
{
    struct itimerval timer = { .it_value = { 0, delay } };
    setitimer(ITIMER_REAL, &timer, NULL);
}

static void take_in_handler(int signal)
{
    if (!in_capture) {
        in_capture = 1;
        take();
        recurse(2, take);
        in_capture = 0;
        handled++;
    }
    if (signal == SIGALRM)
        arm(200 + handled % 100);
}

static void take_guarded(void)
{
    in_capture = 1;
    take();
    in_capture = 0;
}

static void install(int signal, int flags)
{
    struct sigaction action = { .sa_handler = take_in_handler, .sa_flags = flags };
    sigaction(signal, &action, NULL);
}

static void raise_leaf(void)
{
    raise(SIGUSR1);
}

START_TEST(signal_frames)
{
    install(SIGUSR1, 0);
    for (int i = 0; i < 10; i++) {
        recurse(i, raise_leaf);
        recurse(i, take);
    }
    ck_assert_all_right();
}
END_TEST

START_TEST(signal_frames_on_a_stack_of_their_own)
{
    stack_t alternate = { .ss_size = 256 * 1024 };

    alternate.ss_sp = malloc(alternate.ss_size);
    sigaltstack(&alternate, NULL);
    install(SIGUSR1, SA_ONSTACK);
    for (int i = 0; i < 10; i++) {
        recurse(i, raise_leaf);
        recurse(i, take);
    }
    alternate.ss_flags = SS_DISABLE;
    sigaltstack(&alternate, NULL);
    free(alternate.ss_sp);
    ck_assert_all_right();
}
END_TEST

static void work(void)
{
    for (int i = 0; i < 200; i++)
        recurse(i % 30, take_guarded);
}

/* Interrupts at any instruction, prologues and epilogues among them; our own code excepted. */
START_TEST(signals_at_any_instruction)
{
    handled = 0;
    install(SIGALRM, SA_RESTART);
    arm(200);
    while (handled < 200)
        work();
    arm(0);
    ck_assert_all_right();
}
END_TEST

/* ---- other ways to leave a frame --------------------------------------------------------------------- */

static jmp_buf back;

static void jump(void)
{
    take();
    longjmp(back, 1);
}

START_TEST(longjmp_out_of_frames)
{
    for (volatile int i = 0; i < 100; i++) {
        if (setjmp(back) == 0)
            call(1 + i % 9, jump);
        take();
    }
    ck_assert_all_right();
}
END_TEST

#define COROUTINES 4
static ucontext_t scheduler, coroutines[COROUTINES];
static int running;

static void yield_leaf(void)
{
    take();
    swapcontext(&coroutines[running], &scheduler);
    take();
}

static void coroutine(void)
{
    for (int i = 0; i < 10; i++)
        recurse(3 * running + i, yield_leaf);
}

static __attribute__((noinline)) void *make_coroutine(ucontext_t *context)
{
    getcontext(context);
    context->uc_stack.ss_size = 256 * 1024;
    context->uc_stack.ss_sp = malloc(context->uc_stack.ss_size);
    context->uc_link = &scheduler;
    makecontext(context, coroutine, 0);
    return context->uc_stack.ss_sp;
}

START_TEST(coroutines_on_stacks_that_go_away)
{
    void *stacks[COROUTINES];

    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < COROUTINES; i++)
            stacks[i] = make_coroutine(&coroutines[i]);
        for (int i = 0; i < 11 * COROUTINES; i++) {
            running = i % COROUTINES;
            swapcontext(&scheduler, &coroutines[running]);
            take();
        }
        for (int i = 0; i < COROUTINES; i++)
            free(stacks[i]);
    }
    ck_assert_all_right();
}
END_TEST

/* ---- code without honest unwind data ----------------------------------------------------------------- */

#if defined(__x86_64__)
/* without_data(leaf, fp): calls leaf with fp in the frame pointer's register; no CFI.
 * with_lies(leaf, fp): the same, and its CFI says that the frame pointer is one. */
__asm__(".text\n"
        "without_data:\n push %rbp\n mov %rsi, %rbp\n call *%rdi\n pop %rbp\n ret\n nop\n"
        "with_lies:\n .cfi_startproc\n push %rbp\n mov %rsi, %rbp\n .cfi_def_cfa %rbp, 16\n .cfi_offset %rbp, -16\n"
        " call *%rdi\n pop %rbp\n ret\n .cfi_endproc\n");
#elif defined(__aarch64__)
__asm__(".text\n"
        "without_data:\n stp x29, x30, [sp, -16]!\n mov x29, x1\n blr x0\n ldp x29, x30, [sp], 16\n ret\n nop\n"
        "with_lies:\n .cfi_startproc\n stp x29, x30, [sp, -16]!\n mov x29, x1\n .cfi_def_cfa x29, 16\n"
        " .cfi_offset x29, -16\n .cfi_offset x30, -8\n blr x0\n ldp x29, x30, [sp], 16\n ret\n .cfi_endproc\n");
#endif
void without_data(leaf_function *leaf, uint64_t fp);
void with_lies(leaf_function *leaf, uint64_t fp);

static __attribute__((noinline)) void take_unchecked(void)
{
    struct unwind_start start = unwind_start_here();
    unwind_capture(taker->thread, &start, &taker->last);
}

static void take_deeper(void)
{
    recurse(3, take_unchecked);
}

static __attribute__((noinline)) void beside_wild(uint64_t wild, size_t lower)
{
    volatile char *room = alloca(lower + 16);
    room[0] = 1;
    with_lies(take_deeper, wild);
    ck_assert_uint_ge(taker->last.depth, 5);
    ck_assert(taker->last.flags & UNWIND_INCOMPLETE);
    without_data(take_deeper, wild);
    ck_assert_uint_ge(taker->last.depth, 5);
    ck_assert(taker->last.flags & UNWIND_INCOMPLETE);
}

START_TEST(wild_frame_pointers_end_the_walk)
{
    static uint64_t data[4] = { 8, 8, 8, 8 };
    uint64_t local[4] = { 8, 8, 8, 8 };
    const uint64_t wild[] = {
        0, 1, 8, 0x7fffffffffff, UINT64_MAX - 7, UINT64_C(0x1234567812345678), (uint64_t)data, (uint64_t)local,
        (uint64_t)local + 1, (uint64_t)(uintptr_t)&take_deeper
    };
#ifdef HEAPMARK_CROSS_CHECK_H
    if (sys_readable((const void *)8))      /* qemu 5 does not look at the address when it knows that the call will fail */
        return;
#endif

    for (unsigned i = 0; i < sizeof wild / sizeof *wild; i++) {
        beside_wild(wild[i], 0);
        recurse(2, take);
    }
    /* From every place on a page, by a thread that knows one page of its stack: it may end right above. */
    for (unsigned i = 0; i < 256; i++) {
        struct unwind_thread *whole = taker->thread;
        taker->thread = unwind_thread_new();
        beside_wild(UINT64_C(0x1234567812345678), i * 16);
        taker->thread = whole;
    }
    ck_assert_all_right();
}
END_TEST

/* A frame without unwind data that does keep a frame pointer is passed, and said to be guessed. */
static __attribute__((noinline, optimize("no-omit-frame-pointer"))) int call_without_data(void)
{
    volatile int frame = 1;
    without_data(take_deeper, (uint64_t)__builtin_frame_address(0));
    return frame;
}

/* Where the pair of a frame pointer lies at the bottom of the frame, it tells the caller's frame pointer, and not its sp. */
static __attribute__((noinline, optimize("no-omit-frame-pointer"))) void guess_with_pointer(void)
{
    call_without_data();
    __asm__ volatile("");
}

static __attribute__((noinline, optimize("omit-frame-pointer"))) void guess_without_pointer(void)
{
    call_without_data();
    __asm__ volatile("");
}

static void check_guess(void (*guess)(void), uint32_t flags, uint32_t allowed)
{
    uint64_t outer[DEPTH];
    recurse(0, take_unchecked);
    ck_assert_uint_eq(taker->last.flags, 0);
    uint32_t depth = taker->last.depth - 2;     /* all that called this function */
    memcpy(outer, taker->last.pcs, depth * sizeof *outer);
    recurse(4, take_unchecked);
    ck_assert_uint_eq(taker->last.flags, 0);
    guess();
    ck_assert_uint_eq(taker->last.flags & ~allowed, flags);
    if (taker->last.flags & UNWIND_INCOMPLETE)
        return;
    ck_assert_uint_gt(taker->last.depth, depth + 6);
    ck_assert_mem_eq(taker->last.pcs, outer, depth * sizeof *outer);
}

START_TEST(a_guessed_frame_is_flagged)
{
    check_guess(guess_with_pointer, UNWIND_GUESSED, 0);
    check_guess(guess_without_pointer, UNWIND_GUESSED, UNWIND_INCOMPLETE);
}
END_TEST

/* ---- code that is replaced --------------------------------------------------------------------------- */

/* Where the library was loaded. */
static uint64_t use_plugin(const char *name)
{
    void *library = dlopen(name, RTLD_NOW);
    ck_assert_msg(library != NULL, "%s", dlerror());
    void (*enter)(leaf_function *);
    *(void **)&enter = dlsym(library, "plugin_enter");
    enter(take);
    uint64_t where = ((struct link_map *)library)->l_addr;
    dlclose(library);
    unwind_forget();
    return where;
}

START_TEST(libraries_that_replace_each_other)
{
    int same = 0;

    for (int i = 0; i < 40; i++) {
        uint64_t small = use_plugin(PLUGIN_DIRECTORY "/plugin_small.so");
        uint64_t large = use_plugin(PLUGIN_DIRECTORY "/plugin_large.so");
        same += small == large;
    }
#if defined(__x86_64__)          /* an emulator of the other machine may not reuse addresses */
    ck_assert_int_gt(same, 0);
#endif
    ck_assert_all_right();
}
END_TEST

/* ---- threads ----------------------------------------------------------------------------------------- */

static void *take_many(void *number)
{
    unsigned mine = (unsigned)(uintptr_t)number;

    taker = new_taker();
    for (unsigned i = 0; i < 90; i++) {
        mine = mine * 1103515245u + 12345u;
        recurse((int)(mine >> 16) % 40, take);
        if (i % 30 == 29)
            unwind_forget();
    }
    unsigned long wrong = taker->wrong;
    free_taker(taker);
    return (void *)(uintptr_t)wrong;
}

START_TEST(threads_share_the_rules)
{
    enum { THREADS = 8 };
    pthread_t threads[THREADS];

    for (uintptr_t i = 0; i < THREADS; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, take_many, (void *)i), 0);
    for (int i = 0; i < THREADS; i++) {
        void *wrong;
        pthread_join(threads[i], &wrong);
        ck_assert_ptr_null(wrong);
    }
}
END_TEST

static void add_tests(TCase *tcase)
{
    tcase_add_test(tcase, recursion);
    tcase_add_test(tcase, frames_of_all_kinds);
    tcase_add_test(tcase, callers_that_swap_above_an_unchanged_callee);
    tcase_add_test(tcase, a_remembered_stack_gives_its_memo);
    tcase_add_test(tcase, a_reset_thread_remembers_nothing);
    tcase_add_test(tcase, a_deep_stack_keeps_its_leaf_side);
    tcase_add_test(tcase, stacks_that_grow_and_shrink_across_the_limit);
    tcase_add_test(tcase, signal_frames);
    tcase_add_test(tcase, signal_frames_on_a_stack_of_their_own);
    tcase_add_test(tcase, signals_at_any_instruction);
    tcase_add_test(tcase, longjmp_out_of_frames);
    tcase_add_test(tcase, coroutines_on_stacks_that_go_away);
    tcase_add_test(tcase, libraries_that_replace_each_other);
    tcase_add_test(tcase, threads_share_the_rules);
    tcase_set_timeout(tcase, 120);
}

int main(void)
{
    Suite *suite = suite_create("unwind");
    TCase *libunwind = tcase_create("libunwind"), *fast = tcase_create("fast");

    tcase_add_checked_fixture(libunwind, set_up_libunwind, tear_down);
    add_tests(libunwind);
    suite_add_tcase(suite, libunwind);
    tcase_add_checked_fixture(fast, set_up_fast, tear_down);
    add_tests(fast);
    tcase_add_test(fast, wild_frame_pointers_end_the_walk);
    tcase_add_test(fast, a_guessed_frame_is_flagged);
    suite_add_tcase(suite, fast);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
