/* SPDX-License-Identifier: MIT */
/*
 * The scan of the block map against one that takes its time: random heaps, each judged 16 bytes at a time from the header's
 * description of the cells.  Every sum and the ranking of the pins must be the same.
 */
#include "census/pass_map.h"

#include "census/blockmap.h"
#include "census/extents.h"
#include "census/gaps.h"
#include "census/pins.h"
#include "census/scratch.h"

#include <check.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define HEAP_BYTES (UINT64_C(4) << 20)
#define UNITS (HEAP_BYTES / 16)
#define SITES 700u
#define NOBODY UINT32_MAX

struct live {
    uintptr_t chunk, end;
    uint32_t site;
    size_t requested;
    bool counted;           /* with a pinned page */
};

/* The heap stands around the boundary of two leaves. */
static uintptr_t heap;
static size_t page_bytes;
static unsigned char *used;             /* by unit */
static struct live *blocks;
static uint32_t block_count;
static unsigned char *resident;
static uint64_t random_state;
static int threads_done;

static uint32_t next_random(void)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(random_state >> 33);
}

static void *map_memory(size_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    ck_assert_ptr_ne(memory, MAP_FAILED);
    return memory;
}

/* Where the tests share a process (sanitizers), each starts with an empty map. */
static void build(bool glibc)
{
    memset(blockmap.leaf, 0, sizeof(blockmap.leaf));
    blockmap.first = NULL;
    block_count = 0;
    blockmap_init(glibc);
    page_bytes = (size_t)sysconf(_SC_PAGESIZE);
    uintptr_t memory = (uintptr_t)map_memory(2 * BLOCKMAP_LEAF_BYTES);
    heap = ((memory + HEAP_BYTES + BLOCKMAP_LEAF_BYTES) & ~(BLOCKMAP_LEAF_BYTES - 1)) - HEAP_BYTES / 2;
    used = map_memory(UNITS);
    blocks = map_memory(UNITS * sizeof(blocks[0]));
    resident = map_memory(HEAP_BYTES / page_bytes);
}

static size_t random_size(unsigned most)
{
    return next_random() % (UINT64_C(1) << (2 + next_random() % (most - 1)));
}

static void try_birth(size_t at, size_t requested, uint32_t site)
{
    size_t header = blockmap.foreign ? 0 : 16;
    size_t chunk = blockmap.foreign ? (requested ? (requested + 15) & ~(size_t)15 : 16) :
        blockmap_smallest_chunk(requested) + next_random() % 4 / 3 * 16;
    if (at + chunk / 16 > UNITS || memchr(used + at, 1, chunk / 16))
        return;
    memset(used + at, 1, chunk / 16);
    struct live *live = &blocks[block_count++];
    *live = (struct live){ heap + at * 16, heap + at * 16 + chunk, site, requested, false };
    if (header)
        *(size_t *)(live->chunk + 8) = chunk | 1;
    struct blockmap_birth birth;
    blockmap_birth((void *)(live->chunk + header), requested, site, &birth);
    ck_assert(birth.stored && !birth.stale);
}

static void die(uint32_t i)
{
    struct live *live = &blocks[i];
    struct blockmap_block dead;
    ck_assert(blockmap_death((void *)(live->chunk + (blockmap.foreign ? 0 : 16)), next_random() % 8 ? 0 : 9, &dead));
    memset(used + (live->chunk - heap) / 16, 0, (live->end - live->chunk) / 16);
    *live = blocks[--block_count];
}

/* Sites are chosen from few or from many, so that pages have few or many of them; the largest id is beyond the table. */
static void churn(void)
{
    unsigned most = 6 + next_random() % 13, rounds = 2000 + next_random() % 20000, sites = next_random() % 2 ? 3 : SITES;
    size_t at = 0;
    for (unsigned i = 0; i < rounds; i++) {
        uint32_t site = next_random() % 500 ? 1 + next_random() % sites : SITES + 5;
        if (next_random() % 3 == 0 && block_count)
            die(next_random() % block_count);
        at = next_random() % 16 ? at : next_random() % UNITS;
        /* glibc's chunks leave no hole that is smaller than one. */
        at = blockmap.foreign ? at : at & ~(size_t)1;
        try_birth(at, random_size(most), site);
        at += 2 + next_random() % 4;
    }
    for (uint32_t left = block_count; next_random() % 3 == 0 && left > 0; left--)
        if (next_random() % 16)
            die(left - 1);
    for (size_t i = 0; i < HEAP_BYTES / page_bytes; i++)
        resident[i] = next_random() % 8 != 0;
}

/* ---- the slow scan -------------------------------------------------------------------------------- */

struct expected {
    struct tally tally[SITES];
    uint64_t live_bytes, live_blocks, live_chunk_bytes, live_resident, slack, nonresident, held, held_pages, large;
    struct pins pins;
    uint32_t *owner;            /* by unit: the live block, or NOBODY */
};

static uint32_t known(uint32_t site)
{
    return site < SITES ? site : 0;
}

/* The value of freed bytes.  Between two blocks a cell may be the tail of the first: then the next cell speaks for it. */
static uint32_t value_of(const struct expected *expected, size_t unit)
{
    uintptr_t address = heap + unit * 16;
    if (!blockmap.foreign && address % 32 && unit > 0 && expected->owner[unit - 1] != NOBODY)
        address += 16;
    uint32_t word = blockmap_word(address);
    return word & BLOCKMAP_LIVE ? 0 : word;
}

static void expect_pins(struct expected *expected, size_t first, const uint32_t *order, uint32_t sites,
                        const uint64_t *live_of, uint64_t live, uint64_t held)
{
    struct pin_page page = { .held_bytes = held };
    uint32_t left = (uint32_t)held, live_left = (uint32_t)live;
    for (uint32_t i = 0; i < sites; i++) {
        uint32_t part = (uint32_t)live_of[order[i]];
        uint32_t share = (uint32_t)((uint64_t)left * part / live_left);
        expected->tally[order[i]].share_bytes += share;
        if (part == live)
            expected->tally[order[i]].sole_bytes += held;
        left -= share;
        live_left -= part;
        if (i < PIN_SITES_MOST)
            page.site[i] = order[i];
    }
    page.sites = sites;
    if (sites > PIN_SITES_MOST)
        return;
    uint32_t last = NOBODY;
    for (size_t unit = first; unit < first + page_bytes / 16; unit++) {
        uint32_t i = expected->owner[unit];
        if (i == NOBODY || i == last)
            continue;
        last = i;
        if (!blocks[i].counted) {
            page.blocks++;
            page.block_bytes += blocks[i].requested;
        }
        blocks[i].counted = true;
    }
    pins_add_page(&expected->pins, &page);
}

static void expect_page(struct expected *expected, size_t first)
{
    uint64_t live = 0, requested = 0, live_of[SITES] = { 0 };
    uint32_t order[SITES], sites = 0;
    for (size_t unit = first; unit < first + page_bytes / 16; unit++) {
        uint32_t i = expected->owner[unit];
        if (i == NOBODY)
            continue;
        uintptr_t at = heap + unit * 16, asked = blocks[i].chunk + blocks[i].requested;
        uint32_t site = known(blocks[i].site);
        if (live_of[site] == 0)
            order[sites++] = site;
        live_of[site] += 16;
        live += 16;
        requested += asked <= at ? 0 : asked - at < 16 ? asked - at : 16;
    }
    if (!resident[first * 16 / page_bytes]) {
        expected->nonresident += requested;
        return;
    }
    expected->live_resident += requested;
    expected->slack += live - requested;
    expected->held += page_bytes - live;
    expected->held_pages += live ? 0 : page_bytes;
    for (size_t unit = first; unit < first + page_bytes / 16; unit++) {
        if (expected->owner[unit] != NOBODY)
            continue;
        uint32_t value = value_of(expected, unit);
        struct tally *tally = &expected->tally[known(value & BLOCKMAP_SITE_MASK)];
        tally->held_bytes += 16;
        tally->held_page_bytes += live ? 0 : 16;
        expected->large += value & BLOCKMAP_LARGE ? 16 : 0;
    }
    if (live && live < page_bytes)
        expect_pins(expected, first, order, sites, live_of, live, page_bytes - live);
}

static void expect(struct expected *expected, bool is_main, struct scratch *scratch)
{
    memset(expected, 0, sizeof(*expected));
    ck_assert(pins_init(&expected->pins, SITES, scratch));
    expected->owner = scratch_alloc(scratch, UNITS * sizeof(uint32_t));
    ck_assert_ptr_nonnull(expected->owner);
    memset(expected->owner, 0xff, UNITS * sizeof(uint32_t));
    for (uint32_t i = 0; i < block_count; i++) {
        const struct live *live = &blocks[i];
        struct tally *tally = &expected->tally[known(live->site)];
        blocks[i].counted = false;
        for (uintptr_t at = live->chunk; at < live->end; at += 16)
            expected->owner[(at - heap) / 16] = i;
        tally->live_bytes += live->requested;
        tally->live_blocks++;
        if (is_main && live->chunk > tally->top_block)
            tally->top_block = live->chunk;
        expected->live_bytes += live->requested;
        expected->live_blocks++;
        expected->live_chunk_bytes += live->end - live->chunk;
    }
    for (size_t first = 0; first < UNITS; first += page_bytes / 16)
        expect_page(expected, first);
    pins_rank_pages(&expected->pins);
}

/* ---- both ----------------------------------------------------------------------------------------- */

static void compare(struct expected *expected, const struct pass_map *pass, const struct gaps *gaps)
{
    uint64_t explained = gaps->by_map.metadata_bytes;
    for (unsigned i = 0; i < HMK_CAUSES; i++)
        explained += gaps->by_map.held_bytes[i];
    ck_assert_uint_eq(explained, expected->held);
    ck_assert_uint_eq(pass->odd_blocks, 0);
    ck_assert_uint_eq(pass->live_bytes, expected->live_bytes);
    ck_assert_uint_eq(pass->live_blocks, expected->live_blocks);
    ck_assert_uint_eq(pass->live_chunk_bytes, expected->live_chunk_bytes);
    ck_assert_uint_eq(pass->live_resident_bytes, expected->live_resident);
    ck_assert_uint_eq(pass->slack_resident_bytes, expected->slack);
    ck_assert_uint_eq(pass->nonresident_live_bytes, expected->nonresident);
    ck_assert_uint_eq(pass->held_bytes, expected->held);
    ck_assert_uint_eq(pass->held_page_bytes, expected->held_pages);
    ck_assert_uint_eq(pass->large_held_bytes, expected->large);
    for (uint32_t i = 0; i < SITES; i++) {
        const struct tally *a = pass_map_seen(pass, i), *b = &expected->tally[i];
        expected->tally[i].site = a->site;      /* that of nobody's tally is 0 */
        ck_assert(a->site == i || a == pass->tally);
        if (memcmp(a, b, sizeof(*a)) != 0)
            ck_abort_msg("site %u: live %lu %lu in %lu %lu, held %lu %lu pages %lu %lu, sole %lu %lu share %lu %lu, top"
                         " %lx %lx", i, a->live_bytes, b->live_bytes, a->live_blocks, b->live_blocks, a->held_bytes,
                         b->held_bytes, a->held_page_bytes, b->held_page_bytes, a->sole_bytes, b->sole_bytes,
                         a->share_bytes, b->share_bytes, a->top_block, b->top_block);
    }
    ck_assert_uint_eq(pass->pins->pin_count, expected->pins.pin_count);
    ck_assert_mem_eq(pass->pins->pin, expected->pins.pin, expected->pins.pin_count * sizeof(struct hmk_pin));
}

static void scan_and_compare(enum extent_kind kind)
{
    struct scratch scratch = { NULL };
    struct pass_map pass;
    struct pins pins;
    struct extent extent = { .start = heap, .end = heap + HEAP_BYTES, .kind = kind, .head_end = heap,
                             .resident = resident, .has_top = kind == EXTENT_BREAK };
    struct gaps *gaps = scratch_alloc(&scratch, sizeof(*gaps));
    struct expected *expected = scratch_alloc(&scratch, sizeof(*expected));
    ck_assert(gaps && expected);
    gaps->top_granule = page_bytes;
    ck_assert(pins_init(&pins, SITES, &scratch) && pass_map_init(&pass, SITES, &pins, &scratch));
    gaps_begin(gaps, &extent);
    pass_map_scan(&pass, &extent, gaps);
    gaps_end(gaps);
    pins_rank_pages(&pins);
    expect(expected, kind == EXTENT_BREAK, &scratch);
    compare(expected, &pass, gaps);
    scratch_release(&scratch);
}

static void compare_random_heaps(bool glibc, uint64_t seed)
{
    random_state = seed;
    build(glibc);
    for (unsigned i = 0; i < 15; i++) {
        churn();
        if (glibc)
            scan_and_compare(i % 2 ? EXTENT_BREAK : EXTENT_HEAP);
        else
            scan_and_compare(EXTENT_FOREIGN);
    }
}

START_TEST(test_random_heaps_of_glibc)
{
    compare_random_heaps(true, (uint64_t)_i + 1);
}
END_TEST

START_TEST(test_random_heaps_of_another_allocator)
{
    compare_random_heaps(false, (uint64_t)_i + 1);
}
END_TEST

/* ---- beside threads ------------------------------------------------------------------------------- */

/* Neighbours share pages; what they do at the same time is to each page's record and to cells side by side. */
enum { THREADS = 8, ROUNDS = 1000 };

static void *keep_changing(void *argument)
{
    uintptr_t start = heap + (uintptr_t)argument * (HEAP_BYTES / THREADS) + 7 * 32;
    uintptr_t end = start + HEAP_BYTES / THREADS - 10 * 32;
    uint64_t random = (uintptr_t)argument + 1;
    for (unsigned round = 0; round < ROUNDS; round++) {
        uintptr_t at[64];
        unsigned count = 0;
        uintptr_t next = start;
        for (; count < 64; count++) {
            random = random * 6364136223846793005u + 1442695040888963407u;
            size_t requested = 24 + (random >> 40) % (random >> 62 ? 300 : 20000);
            size_t chunk = blockmap_smallest_chunk(requested);
            if (next + chunk > end)
                break;
            struct blockmap_birth birth;
            *(size_t *)(next + 8) = chunk | 1;
            at[count] = next + 16;
            blockmap_birth((void *)at[count], requested, 1 + (random >> 50) % (SITES - 1), &birth);
            ck_assert(birth.stored && !birth.stale);
            next += chunk + (random >> 36) % 4 * 32;
        }
        for (unsigned i = 0; i < count; i++) {
            struct blockmap_block dead;
            ck_assert(blockmap_death((void *)at[i], 0, &dead));
        }
    }
    return __atomic_add_fetch(&threads_done, 1, __ATOMIC_RELEASE), NULL;
}

/* What is live changes all the time, but every resident byte is in one sum or another. */
static void scan_once(void)
{
    struct scratch scratch = { NULL };
    struct pass_map pass;
    struct pins pins;
    struct extent extent = { .start = heap, .end = heap + HEAP_BYTES, .kind = EXTENT_HEAP, .head_end = heap,
                             .resident = resident };
    struct gaps *gaps = scratch_alloc(&scratch, sizeof(*gaps));
    ck_assert(gaps && pins_init(&pins, SITES, &scratch) && pass_map_init(&pass, SITES, &pins, &scratch));
    gaps_begin(gaps, &extent);
    pass_map_scan(&pass, &extent, gaps);
    gaps_end(gaps);
    ck_assert_uint_eq(pass.live_resident_bytes + pass.slack_resident_bytes + pass.held_bytes, HEAP_BYTES);
    scratch_release(&scratch);
}

START_TEST(test_beside_threads)
{
    build(true);
    memset(resident, 1, HEAP_BYTES / page_bytes);
    pthread_t thread[THREADS];
    for (uintptr_t i = 0; i < THREADS; i++)
        ck_assert_int_eq(pthread_create(&thread[i], NULL, keep_changing, (void *)i), 0);
    while (__atomic_load_n(&threads_done, __ATOMIC_ACQUIRE) < THREADS)
        scan_once();
    for (int i = 0; i < THREADS; i++)
        pthread_join(thread[i], NULL);
    scan_once();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("pass_map");
    TCase *tcase = tcase_create("against a slow scan");
    tcase_set_timeout(tcase, 120);
    tcase_add_loop_test(tcase, test_random_heaps_of_glibc, 0, 4);
    tcase_add_loop_test(tcase, test_random_heaps_of_another_allocator, 0, 4);
    tcase_add_test(tcase, test_beside_threads);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
