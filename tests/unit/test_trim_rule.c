/* SPDX-License-Identifier: MIT */
#include "analysis/trim_rule.h"

#include <check.h>

#define MIB (INT64_C(1) << 20)
#define SECOND UINT64_C(1000000000)
#define STEP (SECOND / 10)

/* A process and its launcher: looks ten times a second. */
struct world {
    struct trim_rule rule;
    uint64_t now_ns;
    int64_t live, other;        /* other: resident, never to be returned */
    int64_t held;               /* a trim returns it */
    uint64_t cost_ns;
    unsigned trims;
};

static void begin(struct world *world, uint64_t every_ns)
{
    *world = (struct world){ .now_ns = 1000 * SECOND, .live = MIB, .other = 20 * MIB, .cost_ns = SECOND / 20 };
    trim_rule_start(&world->rule, every_ns, world->now_ns, 0);
}

static uint64_t rss(const struct world *world)
{
    return (uint64_t)(world->live + world->live / 8 + world->other + world->held);
}

static void pass(struct world *world, uint64_t duration_ns)
{
    for (uint64_t end = world->now_ns + duration_ns; world->now_ns < end; world->now_ns += STEP) {
        if (!trim_rule_look(&world->rule, world->now_ns, rss(world), world->live))
            continue;
        uint64_t before = rss(world);
        world->trims++;
        world->held = 0;
        world->now_ns += world->cost_ns;
        trim_rule_trimmed(&world->rule, world->now_ns, world->cost_ns, before, rss(world), world->live);
    }
}

/* Allocates, then frees; what was freed stays resident. */
static void burst(struct world *world, int64_t bytes)
{
    int64_t reused = world->held < bytes ? world->held : bytes;
    world->live += bytes;
    world->held -= reused;
    pass(world, STEP);
    world->live -= bytes;
    world->held += bytes;
}

START_TEST(fires_once_after_a_drop_that_lasts)
{
    struct world world;
    begin(&world, 0);
    pass(&world, 2 * SECOND);
    burst(&world, 500 * MIB);
    pass(&world, 4 * STEP);
    ck_assert_uint_eq(world.trims, 0);      /* not quiet for long enough */
    pass(&world, 10 * SECOND);
    ck_assert_uint_eq(world.trims, 1);
}
END_TEST

START_TEST(sees_what_was_held_before_the_first_look)
{
    struct world world;
    begin(&world, 0);
    trim_rule_start(&world.rule, 0, world.now_ns, 10 * MIB);
    world.held = 500 * MIB;
    pass(&world, 2 * SECOND);
    ck_assert_uint_eq(world.trims, 1);
}
END_TEST

START_TEST(leaves_small_and_moderate_amounts_alone)
{
    struct world world;
    begin(&world, 0);
    pass(&world, SECOND);
    burst(&world, 60 * MIB);
    pass(&world, 10 * SECOND);
    ck_assert_uint_eq(world.trims, 0);
    world.live = 2000 * MIB;
    pass(&world, SECOND);
    burst(&world, 400 * MIB);               /* less than a fifth of RSS */
    pass(&world, 10 * SECOND);
    ck_assert_uint_eq(world.trims, 0);
}
END_TEST

START_TEST(waits_while_live_memory_moves)
{
    struct world world;
    begin(&world, 0);
    pass(&world, SECOND);
    burst(&world, 500 * MIB);
    for (int i = 0; i < 50; i++) {
        world.live += i % 2 ? -20 * MIB : 20 * MIB;
        pass(&world, 2 * STEP);
    }
    ck_assert_uint_eq(world.trims, 0);
    pass(&world, SECOND);
    ck_assert_uint_eq(world.trims, 1);
}
END_TEST

/* What a trim could not return is not tried again until much more is held. */
START_TEST(gives_up_on_what_stays)
{
    struct world world;
    begin(&world, 0);
    pass(&world, SECOND);
    world.other += 500 * MIB;
    pass(&world, 60 * SECOND);
    ck_assert_uint_eq(world.trims, 1);
    world.other += 50 * MIB;
    pass(&world, 60 * SECOND);
    ck_assert_uint_eq(world.trims, 1);
}
END_TEST

/* A program that needs the memory again at once is left in peace longer and longer. */
START_TEST(backs_off_when_memory_comes_back)
{
    struct world world;
    begin(&world, 0);
    pass(&world, SECOND);
    for (int i = 0; i < 600; i++) {
        burst(&world, 500 * MIB);
        pass(&world, 9 * STEP);
    }
    ck_assert_uint_ge(world.trims, 3);
    ck_assert_uint_le(world.trims, 12);     /* pauses of 2, 4, 8, ... seconds in ten minutes */
}
END_TEST

START_TEST(spends_at_most_a_fiftieth_of_the_time)
{
    struct world world;
    begin(&world, 0);
    world.cost_ns = SECOND / 2;
    uint64_t start = world.now_ns;
    for (int i = 0; i < 100; i++) {
        burst(&world, 500 * MIB);
        pass(&world, 10 * SECOND);          /* never regained within five seconds */
    }
    ck_assert_uint_ge(world.trims, 10);
    ck_assert_uint_le(world.trims * world.cost_ns * 50, world.now_ns - start + 50 * world.cost_ns);
}
END_TEST

START_TEST(every_means_every)
{
    struct world world;
    begin(&world, 3 * SECOND);
    pass(&world, 31 * SECOND);
    ck_assert_uint_ge(world.trims, 9);
    ck_assert_uint_le(world.trims, 10);
    world.cost_ns = SECOND;                 /* but not when that would be its main occupation */
    world.trims = 0;
    pass(&world, 200 * SECOND);
    ck_assert_uint_le(world.trims, 5);
}
END_TEST

START_TEST(a_process_that_does_not_answer_is_left_alone_for_a_while)
{
    struct world world;
    begin(&world, 0);
    pass(&world, SECOND);
    world.held = 500 * MIB;
    unsigned wishes = 0;
    for (int i = 0; i < 300; i++, world.now_ns += STEP)
        if (trim_rule_look(&world.rule, world.now_ns, rss(&world), world.live)) {
            wishes++;
            trim_rule_refused(&world.rule, world.now_ns);
        }
    ck_assert_uint_eq(wishes, 3);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("trim rule");
    TCase *tests = tcase_create("rule");
    tcase_add_test(tests, fires_once_after_a_drop_that_lasts);
    tcase_add_test(tests, sees_what_was_held_before_the_first_look);
    tcase_add_test(tests, leaves_small_and_moderate_amounts_alone);
    tcase_add_test(tests, waits_while_live_memory_moves);
    tcase_add_test(tests, gives_up_on_what_stays);
    tcase_add_test(tests, backs_off_when_memory_comes_back);
    tcase_add_test(tests, spends_at_most_a_fiftieth_of_the_time);
    tcase_add_test(tests, every_means_every);
    tcase_add_test(tests, a_process_that_does_not_answer_is_left_alone_for_a_while);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
