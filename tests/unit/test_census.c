/* SPDX-License-Identifier: MIT */
/*
 * The census against the kernel and against glibc: programs that know what they did to the heap take a census, then call
 * malloc_trim(0) and measure what it gave back.  Each runs in a process of its own.
 */
#include "census/blockmap.h"
#include "census/census.h"

#include <check.h>
#include <fcntl.h>
#include <gnu/libc-version.h>
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define REAL_HEAP 0     /* malloc is not glibc's */
#else
#define REAL_HEAP 1
#endif

#define MIB (1024.0 * 1024.0)
#define SITES 64u

static int64_t live_bytes;

static uint64_t count_live(void *context)
{
    (void)context;
    return (uint64_t)__atomic_load_n(&live_bytes, __ATOMIC_RELAXED);
}

static void *born(void *block, size_t bytes, uint32_t site)
{
    struct blockmap_birth birth;
    if (!block)
        ck_abort_msg("no memory");
    blockmap_birth(block, bytes, site, &birth);
    if (!birth.stored || birth.stale)
        ck_abort_msg("birth of %p not recorded", block);
    __atomic_add_fetch(&live_bytes, (int64_t)bytes, __ATOMIC_RELAXED);
    return block;
}

static void *take(size_t bytes, uint32_t site)
{
    void *block = malloc(bytes);
    born(block, bytes, site);
    memset(block, 0x5a, bytes);
    return block;
}

static void drop(void *block)
{
    struct blockmap_block dead;
    if (!blockmap_death(block, 0, &dead))
        ck_abort_msg("death of %p not known", block);
    __atomic_sub_fetch(&live_bytes, (int64_t)dead.requested, __ATOMIC_RELAXED);
    free(block);
}

/* Page by page: the counters behind VmRSS may be off by some pages for each processor.  Anonymous only: the code of
 * malloc_trim itself becomes resident when it first runs. */
static uint64_t resident_now(void)
{
    char text[4096] = { 0 };
    int fd = open("/proc/self/smaps_rollup", O_RDONLY);
    ck_assert(fd >= 0 && read(fd, text, sizeof(text) - 1) > 0);
    close(fd);
    return strtoull(strstr(text, "\nAnonymous:") + 11, NULL, 10) * 1024;
}

/* Without a cache the block waits in a fastbin, of which only the map knows that it is free. */
static uint64_t tcache_key(void)
{
    uint64_t *block = born(malloc(24), 24, 4);
    uint64_t *volatile kept = block;
    block[1] = 0;
    drop(block);
    return kept[1];
}

/* tests/e2e/gates.bats runs these tests under some of glibc's tunables. */
static bool tunable_is(const char *text)
{
    const char *tunables = getenv("GLIBC_TUNABLES");
    return tunables && strcmp(tunables, text) == 0;
}

static bool no_cache_asked(void)
{
    return tunable_is("glibc.malloc.tcache_count=0");
}

/* With it glibc, since 2.35, trims the top in units of huge pages, where the system waits to be asked for those. */
static bool huge_pages_asked(void)
{
    char enabled[64] = "";
    int fd = open("/sys/kernel/mm/transparent_hugepage/enabled", O_RDONLY);
    long got = read(fd, enabled, sizeof(enabled) - 1);
    close(fd);
    return tunable_is("glibc.malloc.hugetlb=1") && atoi(gnu_get_libc_version() + 2) >= 35 && got > 0 &&
        strstr(enabled, "[madvise]");
}

static bool one_arena_asked(void)
{
    return tunable_is("glibc.malloc.arena_max=1");
}

static struct census_request request_now(void)
{
    return (struct census_request){ .kind = HMK_CENSUS_REQUEST, .site_count = SITES, .alone = true, .exact = true,
                                    .live_bytes = count_live, .tcache_key = blockmap.foreign ? 0 : tcache_key(),
                                    .top_granule = huge_pages_asked() ? 2u << 20 : 0 };
}

static uint64_t ledger_sum(const struct hmk_census *census)
{
    uint64_t sum = census->live_bytes + census->slack_bytes + census->metadata_bytes + census->mapped_bytes +
        census->file_bytes + census->shared_bytes + census->stack_bytes + census->self_bytes +
        census->python_live_bytes + (uint64_t)census->unexplained_bytes;
    for (unsigned i = 0; i < HMK_CAUSES; i++)
        sum += census->held_bytes[i];
    return sum;
}

static void print_census(const char *name, const struct census_result *result, uint64_t measured)
{
    const struct hmk_census *census = &result->census;
    static const char *const causes[] = { "returnable", "partial", "edge", "cached", "top", "stuck", "arena", "foreign",
                                          "unknown" };
    if (!getenv("CENSUS_VERBOSE"))
        return;
    fprintf(stderr, "%-24s rss %7.2f heap %7.2f held %7.2f | P1 %7.2f P2 %7.2f measured %7.2f | live %.2f slack %.2f"
            " meta %.2f mapped %.2f file %.2f stack %.2f self %.2f shared %.2f unexplained %.3f | %.1f ms flags %x",
            name, (double)census->rss_bytes / MIB, (double)census->heap_resident_bytes / MIB,
            (double)census->heap_held_bytes / MIB, (double)census->forecast_map_bytes / MIB,
            (double)census->forecast_walk_bytes / MIB, (double)measured / MIB, (double)census->live_bytes / MIB,
            (double)census->slack_bytes / MIB, (double)census->metadata_bytes / MIB, (double)census->mapped_bytes / MIB,
            (double)census->file_bytes / MIB, (double)census->stack_bytes / MIB, (double)census->self_bytes / MIB,
            (double)census->shared_bytes / MIB, (double)census->unexplained_bytes / MIB,
            (double)census->cost_ns / 1e6, census->flags);
    for (unsigned i = 0; i < 9; i++)
        if (census->held_bytes[i])
            fprintf(stderr, " %s %.2f", causes[i], (double)census->held_bytes[i] / MIB);
    fprintf(stderr, "\n");
}

static bool within(uint64_t a, uint64_t b, double share, double bytes)
{
    double difference = a > b ? (double)(a - b) : (double)(b - a);
    return difference <= share * (double)b || difference <= bytes;
}

static uint64_t glibc_in_use(void)
{
#if __GLIBC_PREREQ(2, 33)
    struct mallinfo2 info = mallinfo2();
#else
    struct mallinfo info = mallinfo();
#endif
    return (uint64_t)info.uordblks;
}

/* Older loaders copy the tunables to where the heap will start; glibc's malloc does not know of those bytes. */
static uint64_t before_heap(void)
{
    const char *tunables = getenv("GLIBC_TUNABLES");
    return tunables && atoi(gnu_get_libc_version() + 2) < 34 ? sizeof("GLIBC_TUNABLES=") + strlen(tunables) : 0;
}

static void check_sums(const struct census_result *result)
{
    const struct hmk_census *census = &result->census;
    for (unsigned i = 0; i < 6; i++)
        if (census->identity[i] != 0)
            ck_abort_msg("identity %u is %lld", i, (long long)census->identity[i]);
    ck_assert_uint_eq(ledger_sum(census), census->rss_bytes);
    /* 1 %, but of a process of some MiB a few dozen pages more: what the kernel does with huge pages goes on meanwhile. */
    double allowed = 0.01 * (double)census->rss_bytes;
    ck_assert_msg(within((uint64_t)llabs(census->unexplained_bytes), 0, 0, allowed > 131072 ? allowed : 131072),
                  "unexplained: %lld of %llu", (long long)census->unexplained_bytes,
                  (unsigned long long)census->rss_bytes);
    uint64_t held = 0, live = 0;
    for (uint32_t i = 0; i < result->row_count; i++) {
        held += result->rows[i].held_bytes;
        live += result->rows[i].live_bytes;
    }
    ck_assert_uint_eq(live, (uint64_t)live_bytes);
    ck_assert_uint_eq(held, census->heap_held_bytes + census->metadata_bytes);
    struct hmk_census_arena sum = { 0 };
    for (unsigned i = 0; i < HMK_CENSUS_ARENAS; i++) {
        const struct hmk_census_arena *arena = &census->arena[i];
        sum.live_bytes += arena->live_bytes;
        sum.held_bytes += arena->held_bytes;
        sum.forecast_bytes += arena->forecast_bytes;
        sum.resident_bytes += arena->resident_bytes;
    }
    ck_assert_uint_eq(sum.held_bytes, census->heap_held_bytes);
    ck_assert_uint_eq(sum.forecast_bytes, census->forecast_walk_bytes);
    ck_assert_uint_eq(sum.resident_bytes, census->heap_resident_bytes);
    ck_assert_uint_eq(sum.live_bytes + sum.held_bytes + census->metadata_bytes, census->heap_resident_bytes);
}

/* Takes a census, trims, and compares.  Returns the census for more. */
static struct hmk_census census_and_trim(const char *name, unsigned threads)
{
    struct census_request request = request_now();
    struct census_result result;
    uint64_t in_use_before = glibc_in_use() + before_heap();
    ck_assert(census_take(&request, &result));
    struct hmk_census census = result.census;
    uint64_t in_use = glibc_in_use() + before_heap();
    ck_assert_uint_eq(in_use, in_use_before);   /* the census allocates nothing */
    check_sums(&result);
    ck_assert(census.flags & HMK_CENSUS_WALKED);
    /* Small blocks that were never ours and went into fastbins look as if they were in use. */
    ck_assert_msg(within(result.uordblks, in_use, no_cache_asked() ? 0.001 : 0, 0), "in use: %llu, glibc says %llu",
                  (unsigned long long)result.uordblks, (unsigned long long)in_use);
    uint64_t before = resident_now();
    malloc_trim(0);
    uint64_t after = resident_now();
    uint64_t measured = before > after ? before - after : 0;
    print_census(name, &result, measured);
    census_release(&result);
    ck_assert_msg(within(census.forecast_walk_bytes, measured, 0.005, 65536), "%s: forecast %.3f, measured %.3f", name,
                  (double)census.forecast_walk_bytes / MIB, (double)measured / MIB);
    ck_assert_msg(within(census.forecast_map_bytes, measured, 0.02, 2.2 * MIB * threads),
                  "%s: forecast by the map %.3f, measured %.3f", name, (double)census.forecast_map_bytes / MIB,
                  (double)measured / MIB);
    return census;
}

/* ---- the heap in many states ----------------------------------------------------------------------- */

enum { BLOCKS = 100000 };
static void *blocks[BLOCKS];

static void fill_blocks(size_t bytes)
{
    for (size_t i = 0; i < BLOCKS; i++)
        blocks[i] = take(bytes, 4 + i % 4);
}

static void keep_every(size_t step)
{
    for (size_t i = 0; i < BLOCKS; i++)
        if (i % step)
            drop(blocks[i]);
}

START_TEST(test_top_pin)
{
    fill_blocks(1000);
    void *pin = take(1000, 20);
    keep_every(BLOCKS);
    drop(blocks[0]);
    struct hmk_census census = census_and_trim("top pin of 1000 bytes", 1);
    ck_assert(census.held_bytes[HMK_CAUSE_RETURNABLE] > 90 * MIB);
    drop(pin);
}
END_TEST

START_TEST(test_every_16th)
{
    fill_blocks(1000);
    keep_every(16);
    struct hmk_census census = census_and_trim("survivor every 16th", 1);
    ck_assert(census.held_bytes[HMK_CAUSE_PARTIAL] > 10 * MIB);
}
END_TEST

START_TEST(test_every_256th)
{
    fill_blocks(1000);
    keep_every(256);
    census_and_trim("survivor every 256th", 1);
}
END_TEST

START_TEST(test_three_of_four)
{
    fill_blocks(1000);
    keep_every(4);
    struct hmk_census census = census_and_trim("3 of 4 freed", 1);
    ck_assert(census.forecast_walk_bytes < (huge_pages_asked() ? 3 : 1) * MIB);     /* one unit of the top may be in it */
    ck_assert(census.held_bytes[HMK_CAUSE_PARTIAL] > 60 * MIB);
}
END_TEST

START_TEST(test_pins_beside_5000)
{
    void *pins[20000];
    for (size_t i = 0; i < 20000; i++) {
        blocks[i] = take(5000, 5);
        pins[i] = take(24, 6);
    }
    for (size_t i = 0; i < 20000; i++)
        drop(blocks[i]);
    struct hmk_census census = census_and_trim("5000 beside 24", 1);
    ck_assert(census.forecast_walk_bytes > 10 * MIB && census.forecast_walk_bytes < 25 * MIB);
    for (size_t i = 0; i < 20000; i++)
        drop(pins[i]);
}
END_TEST

START_TEST(test_sawtooth)
{
    for (uint32_t round = 0; round < 4; round++) {
        for (size_t i = 0; i < BLOCKS; i++)
            blocks[i] = take(200 + i % 7 * 100 * (round + 1), 4 + round);
        for (size_t i = 0; i < BLOCKS; i++)
            drop(blocks[i]);
    }
    void *pin = take(500, 9);
    census_and_trim("sawtooth", 1);
    drop(pin);
}
END_TEST

START_TEST(test_dynamic_threshold)
{
    drop(take(31 << 20, 4));
    void *arrays[12], *keepers[12];
    for (size_t i = 0; i < 12; i++) {
        arrays[i] = take(10 << 20, 5);
        keepers[i] = take(5000, 6);
    }
    for (size_t i = 0; i < 12; i++)
        drop(arrays[i]);
    struct hmk_census census = census_and_trim("dynamic threshold", 1);
    ck_assert(census.would_map_bytes > 119 * MIB);
    for (size_t i = 0; i < 12; i++)
        drop(keepers[i]);
}
END_TEST

START_TEST(test_small_heap)
{
    for (size_t i = 0; i < 20000; i++)
        blocks[i] = take(16 + i % 1000, 4 + i % 3);
    for (size_t i = 0; i < 20000; i++)
        drop(blocks[i]);
    census_and_trim("tcache in a small heap", 1);
}
END_TEST

START_TEST(test_mmapped)
{
    void *large[20];
    for (size_t i = 0; i < 20; i++)
        large[i] = take((200 << 10) + i * 5000, 4 + i % 2);
    struct hmk_census census = census_and_trim("mmapped chunks", 1);
    ck_assert(census.live_bytes > 20 * (200 << 10));
    for (size_t i = 0; i < 20; i++)
        drop(large[i]);
}
END_TEST

static uint32_t random_state = 1;

static uint32_t next_random(void)
{
    random_state = random_state * 1664525u + 1013904223u;
    return random_state >> 8;
}

START_TEST(test_random_churn)
{
    for (size_t i = 0; i < 2000000; i++) {
        size_t at = next_random() % (BLOCKS / 2);
        if (blocks[at])
            drop(blocks[at]);
        size_t bytes = next_random() % 64 ? next_random() % 800 : next_random() % 40000;
        blocks[at] = take(bytes, 4 + next_random() % 16);
    }
    for (size_t i = 0; i < BLOCKS; i++)
        if (blocks[i] && next_random() % 10)
            drop(blocks[i]);
    census_and_trim("random churn", 1);
}
END_TEST

static pthread_barrier_t barrier;

static void *arena_thread(void *argument)
{
    size_t me = (size_t)argument;
    enum { EACH = 25000 };
    static void *slots[4][EACH];
    for (size_t i = 0; i < EACH; i++)
        slots[me][i] = take(600 + i % 800, 10 + (uint32_t)me);
    for (size_t i = 0; i < EACH; i++)
        if (i % 500)
            drop(slots[me][i]);
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    return NULL;
}

START_TEST(test_four_arenas)
{
    pthread_t threads[4];
    pthread_barrier_init(&barrier, NULL, 5);
    for (size_t i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, arena_thread, (void *)i);
    pthread_barrier_wait(&barrier);
    struct hmk_census census = census_and_trim("four threads", 5);
    ck_assert_uint_ge(census.arena_count, one_arena_asked() ? 1 : 2);
    ck_assert(census.stack_bytes > 0);
    pthread_barrier_wait(&barrier);
    for (size_t i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
}
END_TEST

static void *stuck_thread(void *argument)
{
    (void)argument;
    static void *slots[40000];
    for (size_t i = 0; i < 40000; i++)
        slots[i] = take(1000, 7);
    for (size_t i = 0; i < 40000; i++)
        drop(slots[i]);
    return NULL;
}

START_TEST(test_stuck_top)
{
    pthread_t thread;
    drop(take(30 << 20, 4));    /* raises the threshold that shrinks arenas */
    pthread_create(&thread, NULL, stuck_thread, NULL);
    pthread_join(thread, NULL);
    struct hmk_census census = census_and_trim("stuck top", 2);
    ck_assert(one_arena_asked() ? census.forecast_walk_bytes > 30 * MIB
                                : census.held_bytes[HMK_CAUSE_STUCK_TOP] > 30 * MIB);
}
END_TEST

START_TEST(test_never_touched)
{
    char *large = malloc(100000);
    free(large);
    for (size_t i = 0; i < 1000; i++) {
        blocks[i] = malloc(100000);
        born(blocks[i], 100000, 8);     /* only the headers' pages become resident */
    }
    struct hmk_census census = census_and_trim("never touched", 1);
    if (!huge_pages_asked())
        ck_assert(census.nonresident_live_bytes > 80 * MIB);
    for (size_t i = 0; i < 1000; i++)
        drop(blocks[i]);
    census_and_trim("never touched, freed", 1);
}
END_TEST

/* Memory that was read but never written maps the page of zeros, which is in no RSS. */
START_TEST(test_zero_pages)
{
    volatile char sum = 0;
    for (size_t i = 0; i < 300; i++) {
        volatile char *block = malloc(100000);
        born((void *)block, 100000, 8);
        blocks[i] = (void *)block;
        for (size_t at = 0; at < 100000; at += 4096)
            sum = (char)(sum + block[at]);
    }
    census_and_trim("pages of zeros", 1);
    for (size_t i = 0; i < 300; i++)
        drop(blocks[i]);
}
END_TEST

static struct census_mapping known[2];

static uint32_t copy_mappings(struct census_mapping *to, uint32_t room, void *context)
{
    (void)context;
    if (room >= 2)
        memcpy(to, known, sizeof(known));
    return 2;
}

START_TEST(test_mappings)
{
    char *memory = mmap(NULL, 64 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *shared = mmap(NULL, 8 << 20, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    memset(memory, 1, 20 << 20);
    memset(memory + (40 << 20), 1, 3 << 20);
    memset(shared, 1, 8 << 20);
    known[0] = (struct census_mapping){ (uintptr_t)memory, (uintptr_t)memory + (32 << 20), 30 };
    known[1] = (struct census_mapping){ (uintptr_t)memory + (32 << 20), (uintptr_t)memory + (64 << 20), 31 };
    struct census_request request = request_now();
    struct census_result result;
    request.mappings = copy_mappings;
    ck_assert(census_take(&request, &result));
    check_sums(&result);
    print_census("mappings", &result, 0);
    uint64_t by_site[SITES] = { 0 };
    for (uint32_t i = 0; i < result.row_count; i++)
        by_site[result.rows[i].site] = result.rows[i].mapped_bytes;
    ck_assert_uint_eq(by_site[30], 20 << 20);
    ck_assert_uint_eq(by_site[31], 3 << 20);
    ck_assert_uint_ge(result.census.shared_bytes, 8 << 20);
    ck_assert_uint_lt(result.census.shared_bytes, 9 << 20);
    census_release(&result);
}
END_TEST

/* Zeroed data of a module lies above a private mapping of its file.  Above a shared one, as of a recording, lies something
 * else, such as a loader's own memory, whose neighbours come and go. */
START_TEST(test_above_shared_file)
{
    const size_t file_bytes = 65536, bytes = 1 << 20;
    FILE *file = tmpfile();
    ck_assert(file && ftruncate(fileno(file), (off_t)file_bytes) == 0);
    char *memory = mmap(NULL, file_bytes + bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(memory + file_bytes, 1, bytes);
    uint64_t mapped[3], files[3];
    for (unsigned i = 0; i < 3; i++) {
        struct census_request request = request_now();
        struct census_result result;
        if (i > 0)
            mmap(memory, file_bytes, PROT_READ, MAP_FIXED | (i == 1 ? MAP_SHARED : MAP_PRIVATE), fileno(file), 0);
        ck_assert(census_take(&request, &result));
        check_sums(&result);
        mapped[i] = result.census.mapped_bytes;
        files[i] = result.census.file_bytes;
        census_release(&result);
    }
    ck_assert_uint_eq(mapped[1], mapped[0]);
    ck_assert_uint_le(mapped[2] + bytes, mapped[0]);
    ck_assert_uint_ge(files[2], files[1] + bytes);
    fclose(file);
}
END_TEST

/* ---- pins ------------------------------------------------------------------------------------------ */

static const struct hmk_pin *find_pin(const struct census_result *result, uint32_t kind, uint32_t site)
{
    for (uint32_t i = 0; i < result->pin_count; i++)
        if (result->pins[i].kind == kind && result->pins[i].site == site)
            return &result->pins[i];
    return NULL;
}

static void print_pins(const struct census_result *result)
{
    for (uint32_t i = 0; i < result->pin_count && getenv("CENSUS_VERBOSE"); i++) {
        const struct hmk_pin *pin = &result->pins[i];
        fprintf(stderr, "    pin kind %u flags %u site %u: %llu blocks %llu bytes gain %.2f cumulative %.2f largest %llu\n",
                pin->kind, pin->flags, pin->site, (unsigned long long)pin->blocks, (unsigned long long)pin->bytes,
                (double)pin->gain_bytes / MIB, (double)pin->cumulative_bytes / MIB,
                (unsigned long long)pin->largest_bytes);
    }
}

/* A block above all others; what lies lower is kept, so that it cannot be used again. */
static void *take_from_top(size_t bytes, uint32_t site)
{
    for (;;) {
        void *block = malloc(bytes);
        if (block > blocks[BLOCKS - 1])
            return born(memset(block, 1, bytes), bytes, site);
    }
}

/* One block above 96 MB of free memory.  Freed, it lets the heap shrink by itself unless it is small enough to be
 * cached. */
static void check_top_pin(size_t bytes)
{
    fill_blocks(1000);
    void *pin = take_from_top(bytes, 20);
    for (size_t i = 0; i < BLOCKS; i++)
        drop(blocks[i]);
    struct census_request request = request_now();
    struct census_result result;
    ck_assert(census_take(&request, &result));
    check_sums(&result);
    print_pins(&result);
    const struct hmk_pin *top = find_pin(&result, HMK_PIN_TOP, 20);
    bool returns = bytes > (no_cache_asked() ? 120 : 1032);
    ck_assert(top && within(top->gain_bytes, 96 << 20, 0.01, 0));
    ck_assert(top->blocks == 1 && top->bytes == bytes && top->address == (uintptr_t)pin);
    ck_assert_uint_eq(top->flags, HMK_PIN_RETURNABLE | (returns ? HMK_PIN_RETURNS_ITSELF : 0u));
    uint64_t gain = top->gain_bytes;
    census_release(&result);
    uint64_t before = resident_now();
    drop(pin);
    int64_t returned = (int64_t)before - (int64_t)resident_now(), expected = returns ? (int64_t)gain : 0;
    int64_t bound = expected / 100 > 262144 ? expected / 100 : 262144;
    ck_assert_msg(llabs(returned - expected) <= bound, "a pin of %zu bytes gave back %lld", bytes, (long long)returned);
}

START_TEST(test_top_pin_40) { check_top_pin(40); } END_TEST
START_TEST(test_top_pin_1032) { check_top_pin(1032); } END_TEST
START_TEST(test_top_pin_1100) { check_top_pin(1100); } END_TEST
START_TEST(test_top_pin_5000) { check_top_pin(5000); } END_TEST

START_TEST(test_top_ladder)
{
    fill_blocks(1000);
    void *pins[3];
    for (uint32_t i = 0; i < 3; i++)
        pins[i] = take_from_top(i == 1 ? 5000 : 600, 30 + i);
    for (size_t i = 0; i < BLOCKS; i++)
        drop(blocks[i]);
    struct census_request request = request_now();
    struct census_result result;
    ck_assert(census_take(&request, &result));
    print_pins(&result);
    const struct hmk_pin *last = find_pin(&result, HMK_PIN_TOP, 30);
    ck_assert(last && last->cumulative_bytes > 95 * MIB && last->blocks == 1);
    ck_assert_uint_eq(last->flags, HMK_PIN_RETURNABLE | (no_cache_asked() ? HMK_PIN_RETURNS_ITSELF : 0u));
    census_release(&result);
    for (uint32_t i = 0; i < 3; i++)
        drop(pins[i]);
    /* Two of them are small: the top is held by chunks that are free for us and cached for glibc. */
    ck_assert(census_take(&request, &result));
    print_pins(&result);
    const struct hmk_pin *cached = find_pin(&result, HMK_PIN_TOP_CACHED, 32);
    ck_assert(no_cache_asked() ? !cached : cached && cached->gain_bytes > 95 * MIB);
    census_release(&result);
}
END_TEST

/* What the ranking says is what freeing the blocks of that site and trimming gives, with the blocks themselves. */
START_TEST(test_what_if)
{
    struct { uint32_t site; size_t bytes; } *made = calloc(BLOCKS, sizeof(*made));
    for (size_t i = 0; i < BLOCKS; i++) {
        bool near_top = i > BLOCKS / 100 * 95;      /* only the first of the ranking has blocks there */
        uint32_t site = i % 97 == 0 && !near_top ? 8 : i % 31 == 0 ? 9 : i % 203 == 0 && !near_top ? 10 : 7;
        made[i].site = site;
        made[i].bytes = 300 + next_random() % 1200;
        blocks[i] = take(made[i].bytes, site);
    }
    for (size_t i = 0; i < BLOCKS; i++)
        if (made[i].site == 7)
            drop(blocks[i]);
    struct census_request request = request_now();
    struct census_result result;
    ck_assert(census_take(&request, &result));
    check_sums(&result);
    print_pins(&result);
    uint64_t trimmed = result.census.forecast_walk_bytes;
    const struct hmk_pin *first = NULL, *second = NULL;
    for (uint32_t i = 0; i < result.pin_count; i++) {
        if (result.pins[i].kind == HMK_PIN_PAGES && !first)
            first = &result.pins[i];
        else if (result.pins[i].kind == HMK_PIN_PAGES && !second)
            second = &result.pins[i];
    }
    ck_assert(first && second && first->site == 9 && second->site == 8);
    uint64_t expected[2] = { first->cumulative_bytes + first->bytes,
                             second->cumulative_bytes + first->bytes + second->bytes };
    uint64_t freed_blocks[2] = { first->blocks, first->blocks + second->blocks };
    census_release(&result);
    uint64_t before = resident_now();
    uint64_t blocks_freed = 0;
    for (unsigned step = 0; step < 2; step++) {
        for (size_t i = 0; i < BLOCKS; i++)
            if (made[i].site == 9 - step) {
                drop(blocks[i]);
                blocks_freed++;
            }
        malloc_trim(0);
        uint64_t returned = before - resident_now() - trimmed;
        if (getenv("CENSUS_VERBOSE"))
            fprintf(stderr, "    step %u: expected %.3f, returned %.3f\n", step, (double)expected[step] / MIB,
                    (double)returned / MIB);
        ck_assert_msg(within(expected[step], returned, 0.02, 65536), "step %u: expected %.3f, returned %.3f", step,
                      (double)expected[step] / MIB, (double)returned / MIB);
        ck_assert(freed_blocks[step] <= blocks_freed);
    }
}
END_TEST

/* Every page has one survivor: all that is free belongs to whom the test says. */
START_TEST(test_owners_and_pins)
{
    enum { COUNT = 20000 };
    for (size_t i = 0; i < COUNT; i++)
        blocks[i] = take(4080, i % 2 ? 11 : 12);     /* chunks of 4096 bytes */
    void **small = calloc(COUNT, sizeof(void *));
    for (size_t i = 0; i < COUNT; i += 2)
        drop(blocks[i]);
    struct census_request request = request_now();
    struct census_result result;
    ck_assert(census_take(&request, &result));
    check_sums(&result);
    struct hmk_census_row row[2] = { 0 };
    for (uint32_t i = 0; i < result.row_count; i++)
        if (result.rows[i].site == 11 || result.rows[i].site == 12)
            row[result.rows[i].site - 11] = result.rows[i];
    ck_assert(within(row[1].held_bytes, COUNT / 2 * 4096, 0.001, 4096));
    ck_assert_uint_eq(row[1].live_bytes, 0);
    ck_assert_uint_eq(row[0].live_bytes, COUNT / 2 * 4080);
    ck_assert(within(row[0].pin_sole_bytes, row[1].held_bytes - row[1].held_page_bytes, 0.001, 4096));
    ck_assert(within(row[0].pin_share_bytes, row[0].pin_sole_bytes, 0.001, 4096));
    census_release(&result);
    free(small);
}
END_TEST

/* ---- other ways of running ------------------------------------------------------------------------- */

/* One block in ten is in the map. */
START_TEST(test_sampled)
{
    void *others[BLOCKS / 10];
    uint64_t kept = 0;
    for (size_t i = 0; i < BLOCKS; i++) {
        size_t bytes = 200 + i % 1000;
        blocks[i] = i % 10 ? memset(malloc(bytes), 1, bytes) : take(bytes, 5);
    }
    for (size_t i = 0; i < BLOCKS; i++) {
        if (i / 50 % 8 == 0) {
            kept += 200 + i % 1000;
        } else if (i % 10) {
            free(blocks[i]);
            others[i / 10] = malloc(2000);  /* over cells of blocks that were freed, unseen */
            free(others[i / 10]);
        } else {
            drop(blocks[i]);
        }
    }
    struct census_request request = request_now();
    struct census_result result;
    request.sampled = true;
    request.exact = false;
    ck_assert(census_take(&request, &result));
    const struct hmk_census *census = &result.census;
    for (unsigned i = 0; i < 6; i++)
        ck_assert_int_eq(census->identity[i], 0);
    ck_assert_uint_eq(ledger_sum(census), census->rss_bytes);
    ck_assert(within(census->live_bytes + census->slack_bytes, kept + BLOCKS / 8 * 16, 0.02, 0));
    uint64_t forecast = census->forecast_walk_bytes;
    ck_assert(census->flags == (HMK_CENSUS_WALKED | HMK_CENSUS_SAMPLED | HMK_CENSUS_ESTIMATED));
    census_release(&result);
    uint64_t before = resident_now();
    malloc_trim(0);
    uint64_t returned = before - resident_now();
    ck_assert(returned > 40 * MIB);
    ck_assert_msg(within(forecast, returned, 0.005, 65536), "forecast %.3f, returned %.3f", (double)forecast / MIB,
                  (double)returned / MIB);
}
END_TEST

/* A heap that is not glibc's: 8 MB of which the test knows each page. */
START_TEST(test_foreign)
{
    enum { PAGES = 2048 };
    blockmap_init(false);
    char *memory = mmap(NULL, PAGES * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct blockmap_block dead;
    for (size_t page = 0; page < PAGES; page++) {
        char *at = memory + page * 4096;
        if (page % 8 == 7)
            continue;                                   /* never touched */
        memset(at, 1, 4096);
        if (page % 8 == 6)
            continue;                                   /* never owned */
        for (size_t i = 0; i < 16; i++) {
            struct blockmap_birth birth;
            blockmap_birth(at + i * 256, 250, page % 2 ? 5 : 6, &birth);
            ck_assert(birth.stored && birth.usable == 256);
            if (page % 8 < 4 || i)
                ck_assert(blockmap_death(at + i * 256, 0, &dead));
        }
    }
    live_bytes = PAGES / 8 * 2 * 250;
    struct census_request request = request_now();
    struct census_result result;
    ck_assert(census_take(&request, &result));
    const struct hmk_census *census = &result.census;
    check_sums(&result);
    ck_assert_uint_eq(census->held_bytes[HMK_CAUSE_FOREIGN], PAGES / 8 * 4 * 4096);
    ck_assert_uint_eq(census->held_bytes[HMK_CAUSE_PARTIAL], PAGES / 8 * 2 * (4096 - 256));
    ck_assert_uint_ge(census->held_bytes[HMK_CAUSE_UNKNOWN], PAGES / 8 * 4096);
    ck_assert_uint_lt(census->held_bytes[HMK_CAUSE_UNKNOWN], PAGES / 8 * 4096 + 65536);
    ck_assert_uint_eq(census->live_bytes, (uint64_t)live_bytes);
    ck_assert_uint_eq(census->flags, HMK_CENSUS_NO_CHUNKS);
    census_release(&result);
}
END_TEST

static volatile bool churning = true;

static void *churn_thread(void *argument)
{
    uint32_t state = (uint32_t)(uintptr_t)argument * 77 + 1;
    static _Thread_local void *mine[2000];
    while (churning) {
        for (unsigned i = 0; i < 20000; i++) {
            state = state * 1664525u + 1013904223u;
            size_t at = (state >> 8) % 2000;
            if (mine[at])
                drop(mine[at]);
            mine[at] = take((state >> 20) % 4000, 4 + state % 50);
        }
        /* Large ones at the end, so that heaps grow and shrink under the census. */
        void *large[64];
        for (unsigned i = 0; i < 64; i++)
            large[i] = take(100000, 60);
        for (unsigned i = 64; i-- > 0;)
            drop(large[i]);
        malloc_trim(0);
    }
    for (unsigned i = 0; i < 2000; i++)
        if (mine[i])
            drop(mine[i]);
    return NULL;
}

START_TEST(test_beside_threads)
{
    pthread_t threads[4];
    for (uintptr_t i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, churn_thread, (void *)i);
    for (unsigned i = 0; i < 200; i++) {
        struct census_request request = request_now();
        struct census_result result;
        request.alone = request.exact = false;
        ck_assert(census_take(&request, &result));
        for (unsigned identity = 0; identity < 6; identity++)
            if (result.census.identity[identity])
                ck_abort_msg("identity %u is %lld", identity, (long long)result.census.identity[identity]);
        ck_assert_uint_eq(ledger_sum(&result.census), result.census.rss_bytes);
        census_release(&result);
    }
    churning = false;
    for (unsigned i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    census_and_trim("after four threads", 5);
}
END_TEST

static void set_up(void)
{
    blockmap_init(true);
}

int main(void)
{
    const TTest *const tests[] = {
        test_top_pin, test_every_16th, test_every_256th, test_three_of_four, test_pins_beside_5000, test_sawtooth,
        test_dynamic_threshold, test_small_heap, test_mmapped, test_random_churn, test_four_arenas, test_stuck_top,
        test_never_touched, test_zero_pages, test_mappings, test_above_shared_file, test_owners_and_pins, test_top_pin_40, test_top_pin_1032,
        test_top_pin_1100, test_top_pin_5000, test_top_ladder, test_what_if, test_sampled, test_foreign,
    };
    Suite *suite = suite_create("census");
    TCase *real = tcase_create("real heap");
    tcase_set_timeout(real, 120);
    tcase_add_checked_fixture(real, set_up, NULL);
    for (size_t i = 0; REAL_HEAP && i < sizeof(tests) / sizeof(tests[0]); i++)
        tcase_add_test(real, tests[i]);
    suite_add_tcase(suite, real);
    TCase *threads = tcase_create("threads");
    tcase_set_timeout(threads, 120);
    tcase_add_checked_fixture(threads, set_up, NULL);
    if (REAL_HEAP)
        tcase_add_test(threads, test_beside_threads);
    suite_add_tcase(suite, threads);
    SRunner *runner = srunner_create(suite);
    srunner_set_fork_status(runner, CK_FORK);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
