/* SPDX-License-Identifier: MIT */
/* Stacks are taken from within known call chains and compared with what the chain noted and with libunwind's walk. */

#include "shim/settings.h"
#include "shim/unwind.h"
#include <check.h>
#include <stdlib.h>
#include <string.h>

static struct unwind_thread *thread;
static struct unwind_result last;

static __attribute__((noinline)) void take(void)
{
    struct unwind_start start = unwind_start_here();
    unwind_capture(thread, &start, &last);
}

/* As take(), and compares with the oracle. */
static __attribute__((noinline)) void take_and_compare(void)
{
    struct unwind_start start = unwind_start_here();
    struct unwind_result reference;

    unwind_capture(thread, &start, &last);
    if (last.memo)
        return;
    ck_assert(unwind_verify(thread, &start, &reference));
    ck_assert_uint_eq(last.depth, reference.depth);
    ck_assert_uint_eq(last.flags, reference.flags);
    ck_assert(memcmp(last.pcs, reference.pcs, last.depth * sizeof *last.pcs) == 0);
}

static void set_up(const char *unwinder)
{
    struct settings settings = { .depth = 64 };
    settings.unwinder = strcmp(unwinder, "libunwind") == 0 ? SETTINGS_UNWINDER_LIBUNWIND : SETTINGS_UNWINDER_FAST;
    ck_assert(unwind_libunwind_open(HELPER_DIRECTORY));
    ck_assert(unwind_init(&settings));
    ck_assert_str_eq(unwind_name(), unwinder);
    thread = unwind_thread_new();
    ck_assert_ptr_nonnull(thread);
}

static void set_up_libunwind(void)
{
    set_up("libunwind");
}

static void set_up_fast(void)
{
    set_up("fast");
}

static __attribute__((noinline)) int recurse(int depth, void (*leaf)(void))
{
    volatile char frame[48];
    frame[depth % 48] = 1;
    if (depth == 0)
        leaf();
    else
        recurse(depth - 1, leaf);
    return frame[depth % 48];
}

START_TEST(recursion_equals_the_oracle)
{
    for (int depth = 0; depth < 40; depth++)
        recurse(depth, take_and_compare);
    recurse(5, take);
    uint32_t shallow = last.depth;
    recurse(15, take);
    ck_assert_uint_eq(last.depth, shallow + 10);
}
END_TEST

START_TEST(common_counts_the_frames_that_stayed)
{
    uint64_t previous[64];

    recurse(20, take);
    uint32_t depth = last.depth;
    memcpy(previous, last.pcs, depth * sizeof *previous);
    recurse(10, take);
    ck_assert_uint_le(last.common, last.depth);
    ck_assert_uint_gt(last.common, 0);
    ck_assert(memcmp(previous, last.pcs, last.common * sizeof *previous) == 0);
}
END_TEST

START_TEST(a_remembered_stack_gives_its_memo)
{
    static const uint32_t expected[] = { 0, 4711, 4711, 4711 };

    for (unsigned i = 0; i < 4; i++) {
        recurse(7, take);
        ck_assert_uint_eq(last.memo, expected[i]);
        if (!last.memo)
            unwind_remember(thread, 4711);
    }
    recurse(8, take);
    ck_assert_uint_eq(last.memo, 0);
}
END_TEST

START_TEST(a_deep_stack_keeps_its_leaf_side)
{
    recurse(500, take_and_compare);
    ck_assert_uint_eq(last.depth, 64);
    ck_assert_uint_eq(last.flags, UNWIND_CUT);
    ck_assert_uint_eq(last.pcs[0], last.pcs[1]);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("unwind");
    TCase *libunwind = tcase_create("libunwind");

    tcase_add_checked_fixture(libunwind, set_up_libunwind, NULL);
    tcase_add_test(libunwind, recursion_equals_the_oracle);
    tcase_add_test(libunwind, common_counts_the_frames_that_stayed);
    tcase_add_test(libunwind, a_remembered_stack_gives_its_memo);
    tcase_add_test(libunwind, a_deep_stack_keeps_its_leaf_side);
    suite_add_tcase(suite, libunwind);
    TCase *fast = tcase_create("fast");
    tcase_add_checked_fixture(fast, set_up_fast, NULL);
    tcase_add_test(fast, recursion_equals_the_oracle);
    tcase_add_test(fast, common_counts_the_frames_that_stayed);
    tcase_add_test(fast, a_remembered_stack_gives_its_memo);
    tcase_add_test(fast, a_deep_stack_keeps_its_leaf_side);
    suite_add_tcase(suite, fast);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
