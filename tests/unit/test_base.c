/* SPDX-License-Identifier: MIT */
#include "base/array.h"
#include "base/fail.h"
#include "base/pool.h"
#include "base/select.h"
#include "base/strbuf.h"
#include "base/xalloc.h"

#include <check.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

START_TEST(fail_keeps_one_sentence)
{
    struct fail why;
    ck_assert(!fail_say(&why, "%s is %s", "x.hmk", "empty"));
    ck_assert_str_eq(why.text, "x.hmk is empty");
    ck_assert(!fail_say(&why, "cannot read: %s", why.text));
    ck_assert_str_eq(why.text, "cannot read: x.hmk is empty");
    ck_assert(!fail_say(NULL, "nobody cares"));
}
END_TEST

START_TEST(fail_errno_appends_the_reason)
{
    struct fail why;
    errno = ENOENT;
    ck_assert(!fail_errno(&why, "cannot open %s", "x"));
    ck_assert_str_eq(why.text, "cannot open x: No such file or directory");
}
END_TEST

START_TEST(fail_cuts_a_long_sentence)
{
    struct fail why;
    char *word = xmalloc(5000);
    memset(word, 'w', 4999);
    word[4999] = 0;
    errno = EIO;
    ck_assert(!fail_errno(&why, "%s", word));
    ck_assert_uint_eq(strlen(why.text), sizeof why.text - 1);
    free(word);
}
END_TEST

START_TEST(array_grows_and_keeps_items)
{
    ARRAY_OF(uint64_t) numbers = {0};
    for (uint64_t i = 0; i < 10000; i++)
        array_push(&numbers, i * i);
    ck_assert_uint_eq(numbers.count, 10000);
    for (uint64_t i = 0; i < 10000; i++)
        ck_assert_uint_eq(numbers.at[i], i * i);
    array_clear(&numbers);
    ck_assert_uint_eq(*array_add(&numbers), 0);
    ck_assert_uint_eq(numbers.count, 1);
    array_free(&numbers);
    ck_assert_ptr_null(numbers.at);
}
END_TEST

static int by_value(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

START_TEST(array_sorts)
{
    ARRAY_OF(int) numbers = {0};
    array_sort(&numbers, by_value);
    for (int i = 0; i < 100; i++)
        array_push(&numbers, i * 37 % 100);
    array_sort(&numbers, by_value);
    for (int i = 0; i < 100; i++)
        ck_assert_int_eq(numbers.at[i], i);
    array_free(&numbers);
}
END_TEST

START_TEST(strbuf_builds_text)
{
    struct strbuf buffer = STRBUF_INIT;
    ck_assert_str_eq(buffer.text, "");
    strbuf_clear(&buffer);
    strbuf_put(&buffer, "live");
    strbuf_char(&buffer, ' ');
    strbuf_printf(&buffer, "%d %s", 42, "MiB");
    strbuf_fill(&buffer, '.', 3);
    strbuf_put_n(&buffer, "a\0b", 3);
    ck_assert_uint_eq(buffer.length, 17);
    ck_assert_int_eq(memcmp(buffer.text, "live 42 MiB...a\0b", 18), 0);
    strbuf_truncate(&buffer, 4);
    char *text = strbuf_take(&buffer);
    ck_assert_str_eq(text, "live");
    free(text);
    ck_assert_str_eq(buffer.text, "");
    text = strbuf_take(&buffer);
    ck_assert_str_eq(text, "");
    free(text);
    strbuf_free(&buffer);
}
END_TEST

START_TEST(strbuf_grows_by_printf)
{
    struct strbuf buffer = STRBUF_INIT;
    for (int i = 0; i < 2000; i++)
        strbuf_printf(&buffer, "%04d", i);
    ck_assert_uint_eq(buffer.length, 8000);
    ck_assert_int_eq(memcmp(buffer.text + 4 * 1234, "1234", 4), 0);
    strbuf_free(&buffer);
}
END_TEST

START_TEST(pool_keeps_and_interns)
{
    struct pool pool = {0};
    char text[16];
    const char *first = pool_intern(&pool, "site 0");
    for (int i = 0; i < 20000; i++) {
        snprintf(text, sizeof text, "site %d", i);
        ck_assert_str_eq(pool_intern(&pool, text), text);
    }
    ck_assert_ptr_eq(pool_intern(&pool, "site 0"), first);
    ck_assert_ptr_eq(pool_intern_n(&pool, "site 0 and more", 6), first);
    ck_assert_str_eq(pool_intern_n(&pool, "", 0), "");
    char *large = pool_alloc(&pool, 1000000);
    large[0] = large[999999] = 1;
    uint64_t *number = pool_alloc(&pool, 1);
    ck_assert_uint_eq((uintptr_t)number % 16, 0);
    ck_assert_str_eq(first, "site 0");
    pool_free(&pool);
    ck_assert_ptr_null(pool.chunks);
    pool_free(&pool);
}
END_TEST

START_TEST(xalloc_zero_sizes_and_copies)
{
    void *nothing = xmalloc(0);
    ck_assert_ptr_nonnull(nothing);
    free(nothing);
    nothing = xcalloc(0, 8);
    ck_assert_ptr_nonnull(nothing);
    free(nothing);
    char *copy = xstrndup("recording", 6);
    ck_assert_str_eq(copy, "record");
    free(copy);
    copy = xprintf("%s-%d", "a", 1);
    ck_assert_str_eq(copy, "a-1");
    free(copy);
}
END_TEST

static int by_number(const void *a, const void *b)
{
    const unsigned *x = a, *y = b;
    return *x < *y ? -1 : *x > *y;
}

/* Rising, falling and mixed numbers; every count that can be wanted. */
START_TEST(select_sorts_the_first)
{
    enum { COUNT = 97 };
    for (unsigned order = 0; order < 3; order++)
        for (size_t wanted = 0; wanted <= COUNT + 1; wanted++) {
            unsigned items[COUNT];
            for (unsigned i = 0; i < COUNT; i++)
                items[i] = order == 0 ? i : order == 1 ? COUNT - 1 - i : i * 31 % COUNT;
            select_first(items, COUNT, sizeof *items, wanted, by_number);
            for (unsigned i = 0; i < wanted && i < COUNT; i++)
                ck_assert_uint_eq(items[i], i);
            qsort(items, COUNT, sizeof *items, by_number);
            for (unsigned i = 0; i < COUNT; i++)
                ck_assert_uint_eq(items[i], i);
        }
    select_first(NULL, 0, 4, 5, by_number);
}
END_TEST

/* Needs check's fork mode: the call ends the process. */
START_TEST(xalloc_overflow_ends_the_program)
{
    free(xreallocarray(NULL, SIZE_MAX / 2, 3));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("base");
    TCase *tests = tcase_create("base");
    tcase_add_test(tests, fail_keeps_one_sentence);
    tcase_add_test(tests, fail_errno_appends_the_reason);
    tcase_add_test(tests, fail_cuts_a_long_sentence);
    tcase_add_test(tests, array_grows_and_keeps_items);
    tcase_add_test(tests, array_sorts);
    tcase_add_test(tests, select_sorts_the_first);
    tcase_add_test(tests, strbuf_builds_text);
    tcase_add_test(tests, strbuf_grows_by_printf);
    tcase_add_test(tests, pool_keeps_and_interns);
    tcase_add_test(tests, xalloc_zero_sizes_and_copies);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    if (srunner_fork_status(runner) == CK_FORK)
        tcase_add_exit_test(tests, xalloc_overflow_ends_the_program, 2);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
