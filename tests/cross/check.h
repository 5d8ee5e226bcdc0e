/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_CROSS_CHECK_H
#define HEAPMARK_CROSS_CHECK_H

/* As much of libcheck as test_unwind.c uses, for machines for which it is not installed.  A failure ends the program. */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ck_assert_msg(condition, ...) \
    do { \
        if (!(condition)) { \
            fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, #condition); \
            fprintf(stderr, __VA_ARGS__); \
            fputc('\n', stderr); \
            exit(1); \
        } \
    } while (0)
#define ck_assert(condition) ck_assert_msg(condition, "does not hold")
#define CK_COMPARE(a, operation, b) \
    ck_assert_msg((a) operation (b), "%lld, %lld", (long long)(intptr_t)(a), (long long)(intptr_t)(b))
#define ck_assert_uint_eq(a, b) CK_COMPARE(a, ==, b)
#define ck_assert_uint_gt(a, b) CK_COMPARE(a, >, b)
#define ck_assert_uint_ge(a, b) CK_COMPARE(a, >=, b)
#define ck_assert_int_eq(a, b) CK_COMPARE(a, ==, b)
#define ck_assert_int_gt(a, b) CK_COMPARE(a, >, b)
#define ck_assert_ptr_null(a) ck_assert((a) == NULL)
#define ck_assert_ptr_nonnull(a) ck_assert((a) != NULL)
#define ck_assert_str_eq(a, b) ck_assert(strcmp(a, b) == 0)
#define ck_assert_mem_eq(a, b, bytes) ck_assert(memcmp(a, b, bytes) == 0)

#define START_TEST(name) static void name(void)
#define END_TEST

enum { CK_ENV };
#define CHECK_TESTS 64

typedef struct {
    const char *name;
    void (*set_up)(void), (*tear_down)(void);
    void (*tests[CHECK_TESTS])(void);
    const char *names[CHECK_TESTS];
    int count;
} TCase;

typedef struct {
    TCase *cases[8];
    int count;
} Suite;
typedef Suite SRunner;

static inline Suite *suite_create(const char *name)
{
    (void)name;
    return calloc(1, sizeof(Suite));
}

static inline TCase *tcase_create(const char *name)
{
    TCase *tcase = calloc(1, sizeof *tcase);
    tcase->name = name;
    return tcase;
}

static inline void tcase_add_checked_fixture(TCase *tcase, void (*set_up)(void), void (*tear_down)(void))
{
    tcase->set_up = set_up;
    tcase->tear_down = tear_down;
}

static inline void tcase_add_named(TCase *tcase, void (*test)(void), const char *name)
{
    tcase->names[tcase->count] = name;
    tcase->tests[tcase->count++] = test;
}
#define tcase_add_test(tcase, test) tcase_add_named(tcase, test, #test)

static inline void tcase_set_timeout(TCase *tcase, double seconds)
{
    (void)tcase;
    (void)seconds;
}

static inline void suite_add_tcase(Suite *suite, TCase *tcase)
{
    suite->cases[suite->count++] = tcase;
}

static inline SRunner *srunner_create(Suite *suite)
{
    return suite;
}

static inline void srunner_run_all(SRunner *runner, int mode)
{
    (void)mode;
    for (int i = 0; i < runner->count; i++) {
        TCase *tcase = runner->cases[i];
        const char *wanted = getenv("CK_RUN_CASE");
        if (wanted && strcmp(wanted, tcase->name) != 0)
            continue;
        for (int j = 0; j < tcase->count; j++) {
            printf("%s: %s\n", tcase->name, tcase->names[j]);
            fflush(stdout);
            tcase->set_up();
            tcase->tests[j]();
            tcase->tear_down();
        }
    }
}

static inline int srunner_ntests_failed(SRunner *runner)
{
    (void)runner;
    return 0;
}

static inline void srunner_free(SRunner *runner)
{
    (void)runner;
}

#endif
