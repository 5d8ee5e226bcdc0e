/* SPDX-License-Identifier: MIT */
#include "shim/settings.h"

#include <check.h>

START_TEST(settings_have_defaults)
{
    char complaint[100];
    struct settings settings;
    char *environment[] = { "HEAPMARK_OUTER=no", "HEAPMARK_OUT=", NULL };
    settings_read(&settings, environment, complaint, sizeof(complaint));
    ck_assert_str_eq(complaint, "");
    ck_assert_str_eq(settings.out, "heapmark.%e.%p.hmk");
    ck_assert_str_eq(settings.options, "");
    ck_assert_uint_eq(settings.depth, 256);
    ck_assert_uint_eq(settings.children, SETTINGS_CHILDREN_ALL);
    ck_assert_uint_eq(settings.signal, 1);
    ck_assert_uint_eq(settings.unwinder, SETTINGS_UNWINDER_FAST);
}
END_TEST

START_TEST(settings_are_read)
{
    char complaint[100];
    struct settings settings;
    char *environment[] = { "HEAPMARK_OPTIONS=depth=7::sample=512K:children=no:census=0:unwinder=libunwind:children=fork",
                            "HEAPMARK_OUT=/a/%p", NULL };
    settings_read(&settings, environment, complaint, sizeof(complaint));
    ck_assert_str_eq(complaint, "");
    ck_assert_str_eq(settings.out, "/a/%p");
    ck_assert_uint_eq(settings.depth, 7);
    ck_assert_uint_eq(settings.sample_bytes, 512 << 10);
    ck_assert_uint_eq(settings.children, SETTINGS_CHILDREN_FORK);
    ck_assert_uint_eq(settings.census, 0);
    ck_assert_uint_eq(settings.unwinder, SETTINGS_UNWINDER_LIBUNWIND);
}
END_TEST

START_TEST(settings_complain_once_and_go_on)
{
    static const struct {
        char *options;
        const char *complaint;
    } cases[] = {
        { "HEAPMARK_OPTIONS=dept=7:depth=9", "HEAPMARK_OPTIONS: unknown setting \"dept=7\" was ignored" },
        { "HEAPMARK_OPTIONS=census=2:signal=x:depth=9", "HEAPMARK_OPTIONS: bad value in \"census=2\" was ignored" },
        { "HEAPMARK_OPTIONS=depth=9:children=fo", "HEAPMARK_OPTIONS: bad value in \"children=fo\" was ignored" },
        { "HEAPMARK_OPTIONS=depth=9:depth", "HEAPMARK_OPTIONS: bad value in \"depth\" was ignored" },
        { "HEAPMARK_OPTIONS=depth=9:sample=12x", "HEAPMARK_OPTIONS: bad value in \"sample=12x\" was ignored" },
        { "HEAPMARK_OPTIONS=depth=9:verify=", "HEAPMARK_OPTIONS: bad value in \"verify=\" was ignored" },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char complaint[100];
        struct settings settings;
        char *environment[] = { cases[i].options, NULL };
        settings_read(&settings, environment, complaint, sizeof(complaint));
        ck_assert_str_eq(complaint, cases[i].complaint);
        ck_assert_uint_eq(settings.depth, 9);
        ck_assert_uint_eq(settings.census, 1);
        ck_assert_uint_eq(settings.signal, 1);
        ck_assert_uint_eq(settings.children, SETTINGS_CHILDREN_ALL);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("settings");
    TCase *all = tcase_create("all");
    tcase_add_test(all, settings_have_defaults);
    tcase_add_test(all, settings_are_read);
    tcase_add_test(all, settings_complain_once_and_go_on);
    suite_add_tcase(suite, all);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failures = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failures ? 1 : 0;
}
