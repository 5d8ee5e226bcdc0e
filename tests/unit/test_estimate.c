/* SPDX-License-Identifier: MIT */
/*
 * A census in sampled mode, on glibc's own heap: what the chunk walk says of blocks that are not in the map, and what the
 * recorded ones say of all.  The sample is drawn here, from fixed seeds, so that one heap can be sampled many times.
 */
#include "census/blockmap.h"
#include "census/census.h"

#include <check.h>
#include <fcntl.h>
#include <malloc.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define REAL_HEAP 0     /* malloc is not glibc's */
#else
#define REAL_HEAP 1
#endif

#define INTERVAL 4096.0
#define BLOCKS 120000u
#define SITES 8u
#define PAGES 16384u
#define DRAWS 40u
/* Two-sided, a normal deviate is beyond it once in 10^8; a sum of some hundred samples of like size, less than once in 10^6. */
#define BOUND 5.8

static struct {
    unsigned char *block;       /* NULL: freed */
    uint32_t bytes, site;
} made[BLOCKS];
static bool recorded[BLOCKS];
static uint64_t random_state;

static uint32_t next_random(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint32_t)(random_state >> 20);
}

static double weight_of(size_t requested, uint32_t site)
{
    (void)site;
    return 1 / (1 - exp(-(double)(requested + 16) / INTERVAL));
}

static uint64_t anonymous_now(void)
{
    char text[4096] = { 0 };
    int fd = open("/proc/self/smaps_rollup", O_RDONLY);
    ck_assert(fd >= 0 && read(fd, text, sizeof text - 1) > 0);
    close(fd);
    return strtoull(strstr(text, "\nAnonymous:") + 11, NULL, 10) * 1024;
}

static uint64_t tcache_key(void)
{
    uint64_t *block = malloc(24);
    uint64_t *volatile kept = block;
    free(block);
    return kept[1];
}

static void take(struct census_result *result)
{
    struct census_request request = { .kind = HMK_CENSUS_REQUEST, .site_count = SITES, .alone = true, .sampled = true,
                                      .weight = weight_of, .tcache_key = tcache_key() };
    ck_assert(census_take(&request, result));
    for (unsigned i = 0; i < 6; i++)
        ck_assert_int_eq(result->census.identity[i], 0);
    ck_assert_uint_eq(result->census.flags, HMK_CENSUS_WALKED | HMK_CENSUS_SAMPLED | HMK_CENSUS_ESTIMATED);
}

/* Blocks of three sites on the same pages, one in eight of which stay; not by turns, so that pages differ. */
static void build(uint32_t largest)
{
    random_state = 1;
    for (uint32_t i = 0; i < BLOCKS; i++) {
        made[i].bytes = 24 + next_random() % largest;
        made[i].site = 4 + (next_random() % 8 < 2 ? 0 : 1 + next_random() % 2);
        made[i].block = malloc(made[i].bytes);
        ck_assert_ptr_nonnull(made[i].block);
        memset(made[i].block, 1, made[i].bytes);
    }
    for (uint32_t i = 0; i < BLOCKS; i++)
        if (next_random() % 8) {
            free(made[i].block);
            made[i].block = NULL;
        }
}

static size_t chunk_of(uint32_t i)
{
    return malloc_usable_size(made[i].block) + 8;
}

/* What the test's own blocks share of the free bytes on their pages; each page's live bytes are told by them alone.  Pages
 * that others of the process are on, at both ends of the heap, are few. */
static void find_truth(double share[SITES], double *slack, double *live)
{
    uintptr_t first = (uintptr_t)made[0].block, last = 0;
    for (uint32_t i = 0; i < BLOCKS; i++) {
        uintptr_t at = (uintptr_t)made[i].block;
        first = at && (!first || at < first) ? at : first;
        last = at > last ? at : last;
    }
    first &= ~(uintptr_t)4095;
    static uint32_t in_use[PAGES];      /* a large block would make glibc merge its fastbins */
    ck_assert_uint_lt((last - first) / 4096 + 2, PAGES);
    for (uint32_t i = 0; i < BLOCKS; i++)
        for (size_t byte = 0; made[i].block && byte < chunk_of(i); byte += 16)
            in_use[((uintptr_t)made[i].block - 16 + byte - first) / 4096] += 16;
    for (uint32_t i = 0; i < BLOCKS; i++) {
        if (!made[i].block)
            continue;
        *live += made[i].bytes;
        *slack += (double)(chunk_of(i) - made[i].bytes);
        for (size_t byte = 0; byte < chunk_of(i); byte += 16) {
            uint32_t here = in_use[((uintptr_t)made[i].block - 16 + byte - first) / 4096];
            share[made[i].site] += 16 * (4096.0 - here) / here;
        }
    }
}

static void draw(void)
{
    for (uint32_t i = 0; i < BLOCKS; i++) {
        struct blockmap_birth birth;
        double uniform = (next_random() & 0xffffff) / 16777216.0;
        recorded[i] = made[i].block && uniform * weight_of(made[i].bytes, 0) < 1;
        if (recorded[i])
            blockmap_birth(made[i].block, made[i].bytes, made[i].site, &birth);
    }
}

static void forget(void)
{
    struct blockmap_block dead;
    for (uint32_t i = 0; i < BLOCKS; i++)
        if (recorded[i])
            ck_assert(blockmap_death(made[i].block, 0, &dead));
}

static const struct hmk_census_row *row_of(const struct census_result *result, uint32_t site)
{
    for (uint32_t i = 0; i < result->row_count; i++)
        if (result->rows[i].site == site)
            return &result->rows[i];
    ck_abort_msg("no row of site %u", site);
}

struct deviates {
    double sum, squares;
};

static void deviate(struct deviates *of, double estimate, double variance, double truth)
{
    double z = (estimate - truth) / sqrt(variance);
    ck_assert_msg(fabs(z) < BOUND, "estimate %g, standard error %g, truth %g", estimate, sqrt(variance), truth);
    of->sum += z;
    of->squares += z * z;
}

/* Their mean is 0 and their square's mean is 1.  The stated variance, itself estimated, goes with the estimate: hence the
 * allowance. */
static void check_deviates(const struct deviates *of, const char *what)
{
    double mean = of->sum / DRAWS, square = of->squares / DRAWS;
    ck_assert_msg(fabs(mean) < BOUND / sqrt(DRAWS) + 0.1, "%s: estimates are biased: mean deviate %g", what, mean);
    ck_assert_msg(square > 0.25 && square < 2.6, "%s: standard errors are wrong: mean square deviate %g", what, square);
}

START_TEST(shares_and_slack_are_unbiased_and_so_are_their_errors)
{
    double truth[SITES] = { 0 }, slack = 0, live = 0;
    struct deviates share[SITES] = { { 0 } }, of_slack = { 0 };
    build(400);
    find_truth(truth, &slack, &live);
    for (uint32_t seed = 0; seed < DRAWS; seed++) {
        struct census_result result;
        random_state = 1000 + seed;
        draw();
        take(&result);
        for (uint32_t site = 4; site < 7; site++) {
            const struct hmk_census_row *row = row_of(&result, site);
            deviate(&share[site], (double)row->pin_share_bytes, (double)row->pin_share_spread, truth[site]);
            ck_assert_uint_eq(row->held_bytes + row->held_page_bytes + row->pin_sole_bytes, 0);
        }
        deviate(&of_slack, (double)result.census.slack_bytes, (double)result.census.slack_spread, slack);
        ck_assert_double_eq((double)result.census.live_spread, (double)result.census.slack_spread);
        /* Together they are exact, but for what else the process has: some hundred KiB. */
        double both = (double)(result.census.live_bytes + result.census.slack_bytes);
        ck_assert_msg(both >= live + slack && both < live + slack + 400000, "%g, truth %g", both, live + slack);
        census_release(&result);
        forget();
    }
    check_deviates(&share[4], "site 4");
    check_deviates(&share[5], "site 5");
    check_deviates(&share[6], "site 6");
    check_deviates(&of_slack, "slack");
}
END_TEST

/* glibc without fastbins merges every chunk at once: nothing is to be told apart there. */
static uint64_t in_fastbins(void)
{
#if __GLIBC_PREREQ(2, 43)
    return UINT64_MAX;
#elif __GLIBC_PREREQ(2, 33)
    return mallinfo2().fsmblks;
#else
    return (uint64_t)mallinfo().fsmblks;
#endif
}

/* Chunks of fastbins look as if in use: blocks of up to 120 bytes, seven of eight freed, and nothing that would merge them. */
START_TEST(chunks_of_fastbins_are_free)
{
    double truth[SITES] = { 0 }, slack = 0, live = 0;
    struct census_result result;
    build(80);
    find_truth(truth, &slack, &live);
    random_state = 7;
    draw();
    ck_assert_uint_ge(in_fastbins(), 2u << 20);
    take(&result);
    double both = (double)(result.census.live_bytes + result.census.slack_bytes);
    ck_assert_msg(both >= live + slack && both < live + slack + 400000, "%g, truth %g", both, live + slack);
    uint64_t forecast = result.census.forecast_walk_bytes;
    census_release(&result);
    uint64_t before = anonymous_now();
    malloc_trim(0);
    uint64_t returned = before - anonymous_now();
    ck_assert_msg(returned <= forecast + 65536 && forecast <= returned + 65536, "forecast %llu, returned %llu",
                  (unsigned long long)forecast, (unsigned long long)returned);
}
END_TEST

static const struct hmk_pin *top_pin(const struct census_result *result)
{
    for (uint32_t i = 0; i < result->pin_count; i++)
        if (result->pins[i].kind == HMK_PIN_TOP && result->pins[i].gain_bytes > 1u << 20)
            return &result->pins[i];
    return NULL;
}

/* One block above what was freed: what it holds is known, and, if it was sampled, whose it is. */
static void check_top(bool sampled)
{
    enum { COUNT = 20000, EACH = 1000, LAST = 5000 };
    static void *low[COUNT];
    struct census_result result;
    struct blockmap_birth birth;
    for (uint32_t i = 0; i < COUNT; i++)
        low[i] = memset(malloc(EACH), 1, EACH);
    unsigned char *pin = NULL;
    while (pin < (unsigned char *)low[COUNT - 1])
        pin = malloc(LAST);
    memset(pin, 1, LAST);
    for (uint32_t i = 0; i < COUNT; i++)
        free(low[i]);
    if (sampled)
        blockmap_birth(pin, LAST, 5, &birth);
    take(&result);
    const struct hmk_pin *top = top_pin(&result);
    ck_assert_ptr_nonnull(top);
    ck_assert_uint_eq(top->site, sampled ? 5 : HMK_SITE_NONE);
    ck_assert_uint_eq(top->blocks, 1);
    ck_assert_uint_eq(top->address, (uintptr_t)pin);
    ck_assert_uint_eq(top->bytes, sampled ? LAST : malloc_usable_size(pin) + 8);
    ck_assert_uint_eq(top->flags, HMK_PIN_RETURNABLE | HMK_PIN_RETURNS_ITSELF | (sampled ? 0 : HMK_PIN_UNSAMPLED));
    uint64_t gain = top->gain_bytes;
    census_release(&result);
    uint64_t before = anonymous_now();
    free(pin);
    uint64_t returned = before - anonymous_now();
    ck_assert_msg(returned + 262144 > gain && gain + 262144 > returned, "gain %llu, returned %llu", (unsigned long long)gain,
                  (unsigned long long)returned);
}

START_TEST(a_sampled_block_at_the_top_has_its_site) { check_top(true); } END_TEST
START_TEST(another_at_the_top_has_none) { check_top(false); } END_TEST

int main(void)
{
    const TTest *const tests[] = {
        shares_and_slack_are_unbiased_and_so_are_their_errors, chunks_of_fastbins_are_free,
        a_sampled_block_at_the_top_has_its_site, another_at_the_top_has_none };
    Suite *suite = suite_create("estimate");
    TCase *tcase = tcase_create("real heap");
    tcase_set_timeout(tcase, 120);
    blockmap_init(true);
    for (size_t i = 0; REAL_HEAP && i < sizeof tests / sizeof *tests; i++)
        tcase_add_test(tcase, tests[i]);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
