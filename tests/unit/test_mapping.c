/* SPDX-License-Identifier: MIT */
/* Intervals of mappings against an oracle that knows the site of every page. */

#include "fake_process.h"

#include "shim/mapping.h"
#include "shim/recording.h"
#include <check.h>
#include <string.h>

enum { PAGES = 600, SITES = 12, PAGE = 4096 };
#define BASE UINT64_C(0x600000000000)

static uint32_t owner[PAGES];
static int64_t births[SITES], deaths[SITES];     /* bytes that each site mapped and lost */
static uint32_t sites[SITES];
static struct thread *thread;

static uint64_t next_random(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed >> 11;
}

static void begin(void)
{
    fake_begin();
    for (uint32_t i = 0; i < SITES; i++)
        sites[i] = fake_site(i);
    thread = thread_current();
    memset(owner, 0xff, sizeof owner);
}

static void oracle_take(uint32_t from, uint32_t to)
{
    for (uint32_t i = from; i < to; i++) {
        if (owner[i] != UINT32_MAX)
            deaths[owner[i]] += PAGE;
        owner[i] = UINT32_MAX;
    }
}

static void oracle_give(uint32_t from, uint32_t to, uint32_t site)
{
    oracle_take(from, to);
    for (uint32_t i = from; i < to; i++)
        owner[i] = site;
    births[site] += (int64_t)(to - from) * PAGE;
}

static void compare(void)
{
    static struct mapping_interval list[PAGES];
    static uint32_t seen[PAGES];
    uint32_t count = mapping_copy(list, PAGES);
    ck_assert_uint_le(count, PAGES);
    memset(seen, 0xff, sizeof seen);
    for (uint32_t i = 0; i < count; i++) {
        ck_assert_uint_lt(list[i].start, list[i].end);
        if (i > 0)
            ck_assert_uint_le(list[i - 1].end, list[i].start);
        for (uint64_t at = list[i].start; at < list[i].end; at += PAGE)
            for (uint32_t k = 0; k < SITES; k++)
                if (sites[k] == list[i].site)
                    seen[(at - BASE) / PAGE] = k;
    }
    ck_assert(memcmp(seen, owner, sizeof seen) == 0);
    for (uint32_t k = 0; k < SITES; k++) {
        struct fake_sum sum = fake_sum_of(sites[k]);
        ck_assert_int_eq(sum.live_bytes, births[k] - deaths[k]);
    }
    ck_assert_int_eq(recording_live->heap.live_bytes, 0);   /* mappings are not heap */
}

START_TEST(intervals_are_the_oracles)
{
    uint64_t seed = UINT64_C(0x9e3779b97f4a7c15) * (uint64_t)(_i + 1);
    for (int i = 0; i < 1500; i++) {
        uint64_t random = next_random(&seed);
        uint32_t from = random % PAGES, length = 1 + (random >> 16) % ((random >> 40) % 8 == 0 ? 200 : 9);
        uint32_t to = from + length < PAGES ? from + length : PAGES, site = (random >> 32) % SITES;
        struct mapping_removed removed;
        if ((random >> 50) % 2) {
            mapping_add(thread, BASE + (uint64_t)from * PAGE, (to - from) * (size_t)PAGE, sites[site]);
            oracle_give(from, to, site);
            continue;
        }
        mapping_remove(thread, BASE + (uint64_t)from * PAGE, (to - from) * (size_t)PAGE, &removed);
        if ((random >> 51) % 4 == 0 && to - from <= MAPPING_PIECES) {
            /* The real call failed: all is as it was, but what came back counts as mapped anew. */
            mapping_put_back(thread, &removed);
            for (uint32_t p = from; p < to; p++)
                if (owner[p] != UINT32_MAX) {
                    deaths[owner[p]] += PAGE;
                    births[owner[p]] += PAGE;
                }
        } else {
            oracle_take(from, to);
        }
        if (i % 100 == 0)
            compare();
    }
    compare();
}
END_TEST

START_TEST(neighbours_of_one_site_become_one)
{
    struct mapping_interval list[4];
    mapping_add(thread, BASE, PAGE, sites[1]);
    mapping_add(thread, BASE + PAGE, PAGE, sites[1]);
    ck_assert_uint_eq(mapping_copy(list, 4), 1);
    mapping_add(thread, BASE + 2 * PAGE, PAGE, sites[2]);
    ck_assert_uint_eq(mapping_copy(list, 4), 2);
    ck_assert_uint_eq(list[0].end, BASE + 2 * PAGE);
    ck_assert_uint_eq(mapping_copy(list, 1), 2);    /* what there is, whatever the room */
}
END_TEST

START_TEST(empty_and_wrapping_ranges_change_nothing)
{
    struct mapping_removed removed;
    struct mapping_interval list[2];
    mapping_add(thread, BASE, PAGE, sites[1]);
    mapping_remove(thread, BASE, 0, &removed);
    ck_assert_uint_eq(removed.count, 0);
    mapping_remove(thread, BASE, SIZE_MAX, &removed);
    ck_assert_uint_eq(removed.count, 0);
    ck_assert_uint_eq(mapping_copy(list, 2), 1);
}
END_TEST

/* More pieces than can be put back: the counters stay right all the same. */
START_TEST(many_intervals_grow_the_list)
{
    enum { MANY = 5000 };
    static struct mapping_interval list[MANY];
    struct mapping_removed removed;
    for (uint64_t i = 0; i < MANY; i++)
        mapping_add(thread, BASE + 2 * i * PAGE, PAGE, sites[i % SITES]);
    ck_assert_uint_eq(mapping_copy(list, MANY), MANY);
    for (uint64_t i = 0; i < MANY; i++)
        ck_assert_uint_eq(list[i].start, BASE + 2 * i * PAGE);
    mapping_remove(thread, BASE, 2 * MANY * (size_t)PAGE, &removed);
    ck_assert_uint_eq(removed.count, MAPPING_PIECES);
    ck_assert_uint_eq(mapping_copy(list, MANY), 0);
    for (uint32_t k = 0; k < SITES; k++)
        ck_assert_int_eq(fake_sum_of(sites[k]).live_bytes, 0);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        neighbours_of_one_site_become_one, empty_and_wrapping_ranges_change_nothing, many_intervals_grow_the_list,
    };
    Suite *suite = suite_create("mapping");
    TCase *all = tcase_create("all");
    tcase_add_checked_fixture(all, begin, fake_end);
    tcase_set_timeout(all, 60);
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++)
        tcase_add_test(all, tests[i]);
    tcase_add_loop_test(all, intervals_are_the_oracles, 0, 30);
    suite_add_tcase(suite, all);
    SRunner *runner = srunner_create(suite);
    srunner_set_fork_status(runner, CK_FORK);
    srunner_run_all(runner, CK_NORMAL);
    int failures = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failures ? 1 : 0;
}
