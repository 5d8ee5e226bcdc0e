/* SPDX-License-Identifier: MIT */
#include "viewer/frames.h"
#include "viewer/json.h"
#include "viewer/names.h"
#include "viewer/plain.h"
#include "viewer/report.h"
#include "viewer/units.h"

#include "base/strbuf.h"
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char buffer[UNITS_BYTES];

START_TEST(sizes)
{
    ck_assert_str_eq(units_size(buffer, 0), "0 B");
    ck_assert_str_eq(units_size(buffer, 1023), "1023 B");
    ck_assert_str_eq(units_size(buffer, 1024), "1.0 KiB");
    ck_assert_str_eq(units_size(buffer, 9830), "9.6 KiB");
    ck_assert_str_eq(units_size(buffer, 1048575), "1.0 MiB");
    ck_assert_str_eq(units_size(buffer, 96154419), "91.7 MiB");
    ck_assert_str_eq(units_size(buffer, INT64_C(1300) << 20), "1.27 GiB");
    ck_assert_str_eq(units_size(buffer, INT64_C(130) << 30), "130.0 GiB");
    ck_assert_str_eq(units_size(buffer, -2048), "-2.0 KiB");
    ck_assert_str_eq(units_size(buffer, INT64_MIN), "-8.00 EiB");
}
END_TEST

START_TEST(counts_and_parts)
{
    ck_assert_str_eq(units_count(buffer, 0), "0");
    ck_assert_str_eq(units_count(buffer, 999), "999");
    ck_assert_str_eq(units_count(buffer, 1234567), "1,234,567");
    ck_assert_str_eq(units_count(buffer, INT64_MIN), "-9,223,372,036,854,775,808");
    ck_assert_str_eq(units_counted(buffer, 1, "block"), "1 block");
    ck_assert_str_eq(units_counted(buffer, 2000, "block"), "2,000 blocks");
    ck_assert_str_eq(units_percent(buffer, 0, 100), "0 %");
    ck_assert_str_eq(units_percent(buffer, 1, 100000), "<0.1 %");
    ck_assert_str_eq(units_percent(buffer, 42, 1000), "4.2 %");
    ck_assert_str_eq(units_percent(buffer, 999, 1000), "100 %");
    ck_assert_str_eq(units_percent(buffer, 1, 0), "-");
    ck_assert_str_eq(units_percent(buffer, INT64_MIN, 1), "-922337203685477580800 %");
}
END_TEST

START_TEST(durations)
{
    ck_assert_str_eq(units_duration(buffer, 0), "0 us");
    ck_assert_str_eq(units_duration(buffer, 12345), "12 us");
    ck_assert_str_eq(units_duration(buffer, 450400000), "450 ms");
    ck_assert_str_eq(units_duration(buffer, 38200000000), "38.2 s");
    ck_assert_str_eq(units_duration(buffer, 723000000000), "12 min 03 s");
    ck_assert_str_eq(units_duration(buffer, 11520000000000), "3 h 12 min");
    ck_assert_str_eq(units_elapsed(buffer, 38200000000), "38.2 s");
    ck_assert_str_eq(units_elapsed(buffer, 723900000000), "12:03");
    ck_assert_str_eq(units_elapsed(buffer, 11525000000000), "3:12:05");
    ck_assert_str_eq(units_duration(buffer, UINT64_MAX), "5124095 h 34 min");
}
END_TEST

START_TEST(json_is_escaped_and_separated)
{
    char *text;
    size_t length;
    FILE *out = open_memstream(&text, &length);
    struct json json = json_start(out);
    json_open(&json, NULL, '{');
    json_string(&json, "a\"b", "x\\y\n\t\x01\x7f" "\xff" "\xc3\xa9" "\xed\xa0\x80");
    json_open_line(&json, "list", '[');
    json_int(&json, NULL, -1);
    json_open(&json, NULL, '{');
    json_bool(&json, "t", true);
    json_string(&json, "n", NULL);
    json_close(&json, '}');
    json_close(&json, ']');
    json_open(&json, "empty", '[');
    json_close(&json, ']');
    json_seconds(&json, "s", 1500000000);
    json_hex(&json, "h", (const uint8_t *)"\x01\xfe", 2);
    json_address(&json, "p", 0xdeadbeef);
    json_close(&json, '}');
    json_end(&json);
    fclose(out);
    ck_assert_str_eq(text, "{\n  \"a\\\"b\": \"x\\\\y\\n\\t\\u0001\\u007f\\ufffd\xc3\xa9\\ufffd\\ufffd\\ufffd\",\n"
                           "  \"list\": [-1, {\"t\": true, \"n\": null}],\n  \"empty\": [],\n"
                           "  \"s\": 1.500000000,\n  \"h\": \"01fe\",\n  \"p\": \"0xdeadbeef\"\n}\n");
    free(text);
}
END_TEST

START_TEST(no_control_character_reaches_the_terminal)
{
    struct strbuf out = STRBUF_INIT;
    plain_put(&out, "a\033[31mb\nc\x7f\xc2\x9bz\xc3\xa9");
    ck_assert_str_eq(out.text, "a\\x1b[31mb\\x0ac\\x7f\\x9bz\xc3\xa9");
    strbuf_clear(&out);
    plain_cut_middle(&out, "abcdefghijklmnopqrstuvwxyz", 10);
    ck_assert_str_eq(out.text, "abcd...xyz");
    strbuf_clear(&out);
    plain_cut_start(&out, "abcdefghijklmnopqrstuvwxyz", 10);
    ck_assert_str_eq(out.text, "...tuvwxyz");
    strbuf_clear(&out);
    plain_cut_middle(&out, "\xc3\xa9\xc3\xa9\xc3\xa9", 3);
    ck_assert_str_eq(out.text, "\xc3\xa9\xc3\xa9\xc3\xa9");
    ck_assert_uint_eq(plain_width(out.text), 3);
    strbuf_free(&out);
}
END_TEST

/* ---- stacks ------------------------------------------------------------------------------------- */

static struct name named(const char *function, const char *module)
{
    return (struct name){ .function = function, .module = module, .known = strchr(function, '+') == NULL };
}

static size_t headline_of(size_t count, const struct name *at)
{
    struct names_stack stack = { at, count };
    return names_headline(&stack);
}

START_TEST(the_headline_is_who_asked)
{
    struct name cxx[] = {
        named("operator new(unsigned long)", "libstdc++.so.6"),
        named("std::__new_allocator<double>::allocate(unsigned long, void const*)", "app"),
        named("double* std::__relocate_a_1<double, double>(double*, double*)", "app"),
        named("std::pair<std::map<int, int>::iterator, bool> std::map<int, int>::emplace<int>(int&&)", "app"),
        named("shop::Index::add(std::vector<int> const&)", "app"), named("main", "app"),
    };
    ck_assert_uint_eq(headline_of(6, cxx), 4);

    struct name rust[] = { named("alloc::raw_vec::RawVec<T,A>::reserve", "rg"), named("<alloc::vec::Vec<T> as X>::f", "rg"),
                           named("rg::search::run", "rg") };
    ck_assert_uint_eq(headline_of(3, rust), 2);

    struct name python[] = { named("PyObject_Malloc", "python3.11"), named("_PyObject_GC_New", "python3.11"),
                             named("PyList_New", "python3.11"), named("_PyEval_EvalFrameDefault", "python3.11") };
    ck_assert_uint_eq(headline_of(4, python), 2);

    /* A conversion operator is the program's own. */
    struct name conversion[] = { named("Money::operator std::string() const", "app"), named("main", "app") };
    ck_assert_uint_eq(headline_of(2, conversion), 0);

    /* A nameless function gives way to a named caller near it, in the same module only. */
    struct name stripped[] = { named("libjq.so.1+0x1c306", "libjq.so.1"), named("jv_parser_next", "libjq.so.1") };
    ck_assert_uint_eq(headline_of(2, stripped), 1);
    struct name foreign[] = { named("plugin.so+0x1c306", "plugin.so"), named("load", "app") };
    ck_assert_uint_eq(headline_of(2, foreign), 0);

    /* A nameless function that a wrapper calls is the allocator's. */
    struct name inner[] = { named("libsqlite3.so.0+0xa7503", "libsqlite3.so.0"), named("sqlite3Malloc", "libsqlite3.so.0"),
                            named("libsqlite3.so.0+0xa8000", "libsqlite3.so.0"),
                            named("sqlite3_step", "libsqlite3.so.0") };
    ck_assert_uint_eq(headline_of(4, inner), 3);

    /* Nothing but wrappers: the outermost of them. */
    struct name wrappers[] = { named("malloc", "libc.so.6"), named("xmalloc", "app"), named("_start", "app") };
    ck_assert_uint_eq(headline_of(3, wrappers), 1);
    ck_assert_uint_eq(headline_of(0, wrappers), 0);
}
END_TEST

static void shown(const struct name *name, size_t columns, const char *expected)
{
    struct strbuf out = STRBUF_INIT;
    struct report_options options = { .width = 100 };
    frames_put(&out, &options, name, columns, false);
    ck_assert_str_eq(out.text, expected);
    strbuf_free(&out);
}

START_TEST(a_frame_fits_its_columns)
{
    struct name name = { .function = "shop::Index<std::map<int, std::string>, 4>::add(std::vector<int> const&, int)",
                         .file = "/home/user/src/shop.cc", .short_file = "shop.cc", .line = 16, .module = "app", .known = true };
    shown(&name, 120, "shop::Index<std::map<int, std::string>, 4>::add(std::vector<int> const&, int)  shop.cc:16");
    shown(&name, 60, "shop::Index<>::add(std::vector<> const&, int)  shop.cc:16");
    shown(&name, 45, "shop::Index<>::add  shop.cc:16");
    name.file = NULL;
    name.line = 0;
    shown(&name, 60, "shop::Index<>::add(std::vector<> const&, int)  app");
    name.function = "operator<< <int>(int)";
    shown(&name, 60, "operator<< <int>(int)  app");
    name.function = "a_function_whose_name_is_longer_than_there_is_room_for";
    shown(&name, 30, "a_function_who...room_for  app");
    struct name unknown = { .function = "parsers.cpython-311-x86_64-linux-gnu.so+0x5a61c",
                            .module = "parsers.cpython-311-x86_64-linux-gnu.so" };
    shown(&unknown, 60, "parsers.so+0x5a61c");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("viewer");
    TCase *tests = tcase_create("viewer");
    tcase_add_test(tests, sizes);
    tcase_add_test(tests, counts_and_parts);
    tcase_add_test(tests, durations);
    tcase_add_test(tests, json_is_escaped_and_separated);
    tcase_add_test(tests, no_control_character_reaches_the_terminal);
    tcase_add_test(tests, the_headline_is_who_asked);
    tcase_add_test(tests, a_frame_fits_its_columns);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
