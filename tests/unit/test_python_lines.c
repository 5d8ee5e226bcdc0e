/* SPDX-License-Identifier: MIT */
#include "symbols/python_lines.h"

#include <check.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct python_place found(uint32_t version, uint32_t first_line, const uint8_t *table, size_t bytes,
                                 uint32_t offset)
{
    /* An allocation of just that size, so that a sanitizer sees the end. */
    uint8_t *exact = malloc(bytes + 1);
    memcpy(exact + 1, table, bytes);
    struct python_lines lines = { version, first_line, exact + 1, bytes };
    struct python_place place;
    bool known = python_lines_find(&lines, offset, &place);
    ck_assert(known == (place.line != 0));
    ck_assert(place.end_line >= place.line);
    free(exact);
    return place;
}
#define LINE(version, first, offset, ...) \
    found(version, first, (const uint8_t[]){ __VA_ARGS__ }, sizeof (const uint8_t[]){ __VA_ARGS__ }, offset).line

START_TEST(pairs_to_the_next_entry)
{
    ck_assert_uint_eq(LINE(0x308, 10, 0, 4, 1, 6, 0xff, 2, 100), 10);
    ck_assert_uint_eq(LINE(0x308, 10, 3, 4, 1, 6, 0xff, 2, 100), 10);
    ck_assert_uint_eq(LINE(0x308, 10, 4, 4, 1, 6, 0xff, 2, 100), 11);
    ck_assert_uint_eq(LINE(0x309, 10, 10, 4, 1, 6, 0xff, 2, 100), 10);
    ck_assert_uint_eq(LINE(0x309, 10, 9999, 4, 1, 6, 0xff, 2, 100), 110);
    ck_assert_uint_eq(LINE(0x309, 10, 8, 0, 127, 0, 127, 255, 0, 3, 1), 264);
    ck_assert_uint_eq(LINE(0x309, 10, 258, 0, 127, 0, 127, 255, 0, 3, 1), 265);
}
END_TEST

START_TEST(pairs_of_ranges)
{
    ck_assert_uint_eq(LINE(0x30a, 10, 3, 4, 1, 6, 0x80, 2, 5), 11);
    ck_assert_uint_eq(LINE(0x30a, 10, 4, 4, 1, 6, 0x80, 2, 5), 0);
    ck_assert_uint_eq(LINE(0x30a, 10, 10, 4, 1, 6, 0x80, 2, 5), 16);
    ck_assert_uint_eq(LINE(0x30a, 10, 12, 4, 1, 6, 0x80, 2, 5), 0);
    ck_assert_uint_eq(LINE(0x30a, 10, 0, 0, 127, 0, 0x81, 4, 3), 13);
}
END_TEST

START_TEST(locations)
{
    static const uint8_t table[] = {
        0x80 | 0 << 3 | 1, 0x25,                    /* two: columns 3 to 8 of the line */
        0x80 | 11 << 3, 9, 20,                      /* one: the next line, columns 10 to 21 */
        0x80 | 13 << 3, 1 | 2 << 1,                 /* one: two lines back, no columns */
        0x80 | 14 << 3, 0x40 | 0, 2, 3, 5, 1,       /* one: 64 lines on, ends 3 later, columns 5 to 1 */
        0x80 | 15 << 3 | 7,                         /* eight of no place */
        0x80 | 9 << 3, 0x7f,                        /* one: columns 80 to 95 */
    };
    struct python_place place = found(0x30b, 7, table, sizeof table, 2);
    ck_assert(place.line == 7 && place.end_line == 7 && place.column == 3 && place.end_column == 8);
    place = found(0x30b, 7, table, sizeof table, 4);
    ck_assert(place.line == 8 && place.column == 10 && place.end_column == 21);
    place = found(0x30c, 7, table, sizeof table, 6);
    ck_assert(place.line == 6 && place.end_line == 6 && place.column == 0);
    place = found(0x30d, 7, table, sizeof table, 8);
    ck_assert(place.line == 70 && place.end_line == 73 && place.column == 5 && place.end_column == 1);
    place = found(0x30f, 7, table, sizeof table, 24);
    ck_assert(place.line == 0 && place.column == 0);
    place = found(0x30f, 7, table, sizeof table, 26);
    ck_assert(place.line == 70 && place.column == 80 && place.end_column == 95);
    place = found(0x30f, 7, table, sizeof table, 28);
    ck_assert(place.line == 0);
    /* A frame that has not begun. */
    place = found(0x30b, 7, table, sizeof table, (uint32_t)-2);
    ck_assert(place.line == 0);
}
END_TEST

START_TEST(any_bytes_give_some_answer)
{
    static const uint32_t versions[] = { 0, 0x308, 0x309, 0x30a, 0x30b, 0x30f, UINT32_MAX };
    uint64_t state = 1;
    for (int round = 0; round < 20000; round++) {
        uint8_t table[40];
        for (size_t i = 0; i < sizeof table; i++) {
            state = state * UINT64_C(6364136223846793005) + 1442695040888963407u;
            table[i] = (uint8_t)(state >> 56);
        }
        uint32_t first_line = round % 3 == 0 ? (uint32_t)(state >> 20) : 1;
        found(versions[round % 7], first_line, table, state >> 33 & 31, state >> 40 & 255);
        found(versions[round % 7], first_line, table, state >> 33 & 31, UINT32_MAX - (state >> 40 & 1));
    }
    ck_assert_uint_eq(found(0x30b, 1, (const uint8_t *)"", 0, 0).line, 0);
}
END_TEST

/* ---- against the interpreters ------------------------------------------------------------------- */

static uint8_t *from_hex(const char *text, size_t *bytes)
{
    uint8_t *table = calloc(strlen(text) / 2 + 1, 1);
    *bytes = 0;
    for (unsigned byte; sscanf(text, "%2x", &byte) == 1; text += 2)
        table[(*bytes)++] = (uint8_t)byte;
    return table;
}

static uint64_t compare_code(char *line)
{
    char *rest, *word = strtok_r(line, " \n", &rest);
    struct python_lines lines = { .version = (uint32_t)atoi(word), .first_line = (uint32_t)atoi(strtok_r(NULL, " ", &rest)) };
    uint8_t *table = from_hex(strtok_r(NULL, " \n", &rest), &lines.bytes);
    uint64_t instructions = 0;

    lines.table = table;
    while ((word = strtok_r(NULL, " \n", &rest))) {
        struct python_place place, want;
        unsigned run;
        ck_assert_int_eq(sscanf(word, "%u:%" SCNu32 ":%" SCNu32 ":%" SCNu32 ":%" SCNu32, &run, &want.line, &want.end_line,
                                &want.column, &want.end_column), 5);
        for (; run > 0; run--, instructions++) {
            python_lines_find(&lines, (uint32_t)instructions * 2, &place);
            if (memcmp(&place, &want, sizeof place) != 0)
                ck_abort_msg("version %x, first line %u, instruction %" PRIu64 ": %u-%u %u-%u, not %u-%u %u-%u",
                             lines.version, lines.first_line, instructions, place.line, place.end_line, place.column,
                             place.end_column, want.line, want.end_line, want.column, want.end_column);
        }
    }
    free(table);
    return instructions;
}

/* False: it could not run the script. */
static bool compare_interpreter(const char *python)
{
    char command[1000];
    snprintf(command, sizeof command, "'%s' -X utf8 " TESTS_DIRECTORY "/unit/python_lines.py", python);
    FILE *answer = popen(command, "r");
    char *line = NULL;
    size_t room = 0;
    uint64_t codes = 0, instructions = 0;

    ck_assert_ptr_nonnull(answer);
    for (; getline(&line, &room, answer) > 0; codes++)
        instructions += compare_code(line);
    free(line);
    int status = pclose(answer);
    printf("%s: %" PRIu64 " instructions of %" PRIu64 " code objects\n", python, instructions, codes);
    return status == 0 && codes > 1000;
}

START_TEST(interpreters_say_the_same)
{
    FILE *list = popen(TESTS_DIRECTORY "/pythons", "r");
    char python[500];
    unsigned asked = 0;

    ck_assert_ptr_nonnull(list);
    while (fgets(python, sizeof python, list)) {
        python[strcspn(python, "\n")] = 0;
        ck_assert_msg(compare_interpreter(python), "%s failed", python);
        asked++;
    }
    pclose(list);
    printf("%u interpreters asked%s\n", asked, asked ? "" : ": skipped");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("python_lines");
    TCase *tests = tcase_create("python_lines");
    tcase_set_timeout(tests, 300);
    tcase_add_test(tests, pairs_to_the_next_entry);
    tcase_add_test(tests, pairs_of_ranges);
    tcase_add_test(tests, locations);
    tcase_add_test(tests, any_bytes_give_some_answer);
    tcase_add_test(tests, interpreters_say_the_same);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
