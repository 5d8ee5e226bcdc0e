/* SPDX-License-Identifier: MIT */
/*
 * The block map against an oracle that paints every 16 bytes of the heap with the site that last owned them.  The
 * oracle works in bytes of chunks as glibc lays them out: [block - 16, block - 16 + chunk).
 */
#include "census/blockmap.h"

#include <check.h>
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define REAL_HEAP 0     /* malloc is not glibc's */
#else
#define REAL_HEAP 1
#endif

/* libcheck's own assertions cost a system call even where they hold. */
#define sure(condition) \
    do { \
        if (!(condition)) \
            ck_abort_msg("%s", #condition); \
    } while (0)
#define sure_eq(a, b) \
    do { \
        if ((uint64_t)(a) != (uint64_t)(b)) \
            ck_abort_msg("%s is %llu, not %s", #a, (unsigned long long)(a), #b); \
    } while (0)

#define LEAVES (UINT64_C(1) << (BLOCKMAP_ADDRESS_BITS - BLOCKMAP_LEAF_SHIFT))
#define UNITS (BLOCKMAP_LEAF_BYTES / 16)

static uint32_t *oracle[LEAVES];

static uint32_t *oracle_unit(uintptr_t address)
{
    uint32_t **leaf = &oracle[address >> BLOCKMAP_LEAF_SHIFT];
    uint32_t *have = __atomic_load_n(leaf, __ATOMIC_ACQUIRE);
    if (!have) {
        uint32_t *made = mmap(NULL, UNITS * 4, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        sure(made != MAP_FAILED);
        if (__atomic_compare_exchange_n(leaf, &have, made, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
            have = made;
        else
            munmap(made, UNITS * 4);
    }
    return &have[address % BLOCKMAP_LEAF_BYTES / 16];
}

static void oracle_paint(uintptr_t from, size_t bytes, uint32_t value)
{
    for (uintptr_t at = from; at < from + bytes; at += 16)
        *oracle_unit(at) = value;
}

static uint32_t map_word(uintptr_t address)
{
    struct blockmap_leaf *leaf = blockmap_leaf_of(address);
    if (!leaf)
        return 0;
    uint32_t record = leaf->page_record[blockmap_page_index(address)];
    return record ? record : leaf->cell[blockmap_cell_index(address, blockmap.shift)];
}

/* A cell says who owned its lower half last, so the comparison is exact.  Cells of live blocks are not compared: they
 * are compared block by block. */
static size_t count_wrong_cells(uintptr_t from, uintptr_t to, const unsigned char *live_unit)
{
    size_t wrong = 0;
    uintptr_t step = (uintptr_t)1 << blockmap.shift;
    for (uintptr_t at = (from + step - 1) & ~(step - 1); at < to; at += step) {
        if (live_unit && live_unit[(at - from) / 16])
            continue;
        uint32_t word = map_word(at);
        uint32_t expected = *oracle_unit(at);
        uint32_t owner = word & BLOCKMAP_LIVE ? UINT32_MAX : word & BLOCKMAP_SITE_MASK;
        if (owner != expected && ++wrong < 10)
            fprintf(stderr, "%lx: map %x, oracle %u\n", (unsigned long)at, word, expected);
    }
    return wrong;
}

struct random {
    uint64_t state;
};

static uint32_t random_next(struct random *random)
{
    random->state = random->state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(random->state >> 33);
}

/* Mostly small, sometimes large: every power of two up to 2^most is as likely. */
static size_t random_size(struct random *random, unsigned most)
{
    unsigned bits = 3 + random_next(random) % (most - 2);
    return random_next(random) % (UINT64_C(1) << bits);
}

/* ---- a model heap: chunks laid out at will, with headers as glibc writes them ---------------------- */

struct model {
    uintptr_t start;            /* multiple of 32 */
    size_t units;
    unsigned char *used;        /* per unit: covered by a live chunk */
};

struct model_block {
    uintptr_t block;
    size_t requested, chunk;
    uint32_t site;
};

static void *map_memory(size_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    sure(memory != MAP_FAILED);
    return memory;
}

/* Around the boundary of two leaves. */
static struct model model_new(size_t bytes)
{
    uintptr_t memory = (uintptr_t)map_memory(2 * BLOCKMAP_LEAF_BYTES + bytes);
    uintptr_t boundary = (memory + bytes + BLOCKMAP_LEAF_BYTES) & ~(BLOCKMAP_LEAF_BYTES - 1);
    struct model model = { boundary - bytes / 2, bytes / 16, map_memory(bytes / 16) };
    return model;
}

static bool model_take(struct model *model, size_t at, size_t requested, size_t extra, struct model_block *block)
{
    size_t chunk = blockmap.foreign ? (requested ? (requested + 15) & ~(size_t)15 : 16) :
        blockmap_smallest_chunk(requested) + extra;
    if (at + chunk / 16 + 1 > model->units)
        return false;
    for (size_t i = at; i < at + chunk / 16; i++)
        if (model->used[i])
            return false;
    memset(model->used + at, 1, chunk / 16);
    block->block = model->start + at * 16 + (blockmap.foreign ? 0 : 16);
    block->requested = requested;
    block->chunk = chunk;
    if (!blockmap.foreign)
        *(size_t *)(block->block - 8) = chunk | 1;
    return true;
}

static uintptr_t model_chunk(const struct model_block *block)
{
    return block->block - (blockmap.foreign ? 0 : 16);
}

static void model_birth(struct model_block *block, uint32_t site)
{
    struct blockmap_birth birth;
    block->site = site;
    blockmap_birth((void *)block->block, block->requested, site, &birth);
    sure(birth.stored);
    sure(!birth.stale);
    sure_eq(birth.usable, block->chunk - (blockmap.foreign ? 0 : 8));
}

static void model_death(struct model *model, const struct model_block *block, uint32_t painter)
{
    struct blockmap_block dead;
    sure(blockmap_death((void *)block->block, painter, &dead));
    sure_eq(dead.site, block->site);
    sure_eq(dead.requested, block->requested);
    sure_eq(dead.usable, block->chunk - (blockmap.foreign ? 0 : 8));
    sure(!blockmap_death((void *)block->block, painter, &dead));
    oracle_paint(model_chunk(block), block->chunk, painter ? painter : block->site);
    memset(model->used + (model_chunk(block) - model->start) / 16, 0, block->chunk / 16);
}

struct tally {
    uint64_t blocks, bytes, sites;
    uintptr_t last;
};

static void tally_visit(uintptr_t block, const struct blockmap_block *found, void *context)
{
    struct tally *tally = context;
    tally->blocks++;
    tally->bytes += found->requested;
    tally->sites += found->site;
    if (block >> BLOCKMAP_LEAF_SHIFT == tally->last >> BLOCKMAP_LEAF_SHIFT)
        sure(block > tally->last);
    tally->last = block;
}

static void check_model(struct model *model, const struct model_block *blocks, size_t count)
{
    struct tally expected = { 0 }, seen = { 0 };
    for (size_t i = 0; i < count; i++) {
        if (!blocks[i].block)
            continue;
        struct blockmap_block found;
        sure(blockmap_find((void *)blocks[i].block, &found));
        sure_eq(found.requested, blocks[i].requested);
        sure_eq(found.site, blocks[i].site);
        expected.blocks++;
        expected.bytes += found.requested;
        expected.sites += found.site;
    }
    blockmap_each_live(tally_visit, &seen);
    sure_eq(seen.blocks, expected.blocks);
    sure_eq(seen.bytes, expected.bytes);
    sure_eq(seen.sites, expected.sites);
    sure_eq(count_wrong_cells(model->start, model->start + model->units * 16, model->used), 0);
}

static void churn_model(unsigned most_bits, unsigned rounds)
{
    enum { BLOCKS = 3000 };
    static struct model_block blocks[BLOCKS];
    struct model model = model_new(4 << 20);
    struct random random = { 42 + most_bits };
    memset(blocks, 0, sizeof(blocks));
    static const size_t extras[] = { 0, 0, 0, 0, 16, 16, 32, 48, 4096 };
    for (unsigned round = 0; round < rounds; round++) {
        struct model_block *block = &blocks[random_next(&random) % BLOCKS];
        uint32_t site = 4 + random_next(&random) % 1000;
        if (block->block) {
            model_death(&model, block, random_next(&random) % 4 ? 0 : site);
            block->block = 0;
        } else if (model_take(&model, random_next(&random) % model.units, random_size(&random, most_bits),
                              extras[random_next(&random) % 9], block)) {
            model_birth(block, site);
        }
        if (round % (rounds / 8) == 0)
            check_model(&model, blocks, BLOCKS);
    }
    check_model(&model, blocks, BLOCKS);
}

START_TEST(test_model_small_blocks)
{
    blockmap_init(true);
    churn_model(11, 400000);
}
END_TEST

START_TEST(test_model_large_blocks)
{
    blockmap_init(true);
    churn_model(20, 400000);
}
END_TEST

START_TEST(test_model_foreign)
{
    blockmap_init(false);
    churn_model(18, 400000);
}
END_TEST

/* Each size, in every chunk that can hold it with some slack, at both halves of a cell and at the end of a page. */
START_TEST(test_sizes_exact)
{
    blockmap_init(true);
    struct model model = model_new(1 << 20);
    static const size_t extras[] = { 0, 16, 32, 48, 64, 1024, 65536 };
    static const size_t places[] = { 0, 1, 254, 255, 253, 251, 32768 - 1 };
    for (size_t requested = 0; requested < 5100; requested++) {
        for (size_t e = 0; e < 7; e++) {
            for (size_t p = 0; p < 7; p++) {
                struct model_block block;
                sure(model_take(&model, places[p], requested, extras[e], &block));
                model_birth(&block, 7);
                model_death(&model, &block, 0);
            }
        }
    }
    sure_eq(count_wrong_cells(model.start, model.start + model.units * 16, NULL), 0);
}
END_TEST

/* Nor in its page records' shadow: in sampled mode a block that the map does not know comes there and is freed. */
START_TEST(test_nothing_of_a_dead_block_is_found)
{
    blockmap_init(true);
    struct model model = model_new(1 << 20);
    static const size_t extras[] = { 0, 16, 32, 48, 40000, 70000 };
    for (size_t requested = 900; requested < 20000; requested += 331) {
        for (size_t e = 0; e < 6; e++) {
            for (size_t place = 240; place < 260; place++) {
                struct model_block block;
                struct blockmap_block dead;
                sure(model_take(&model, place, requested, extras[e], &block));
                model_birth(&block, 7);
                model_death(&model, &block, 0);
                for (uintptr_t at = block.block; at < block.block + requested; at += 16) {
                    sure(!blockmap_may_live((void *)at));
                    sure(!blockmap_death((void *)at, 0, &dead));
                }
            }
        }
    }
}
END_TEST

START_TEST(test_huge_and_mmapped)
{
    blockmap_init(true);
    static const size_t sizes[] = { 4096, 131072, 1 << 20, (UINT64_C(1) << 26) + 5, (UINT64_C(1) << 30) - 24,
                                    (UINT64_C(1) << 32) + 1 };
    char *memory = map_memory(UINT64_C(5) << 30);
    uintptr_t block = ((uintptr_t)memory + BLOCKMAP_LEAF_BYTES) & ~(BLOCKMAP_LEAF_BYTES - 1);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        for (size_t at = block - 64; at <= block + 4096; at += 16) {
            for (int mmapped = 0; mmapped < 2; mmapped++) {
                if (sizes[i] > 1 << 20 && at % 4096 != 16)
                    continue;
                struct blockmap_birth birth;
                struct blockmap_block found;
                size_t overhead = mmapped ? 16 : 8;
                size_t chunk = (sizes[i] + overhead + 4095) & ~(size_t)4095;
                *(size_t *)(at - 8) = chunk | (mmapped ? 2 : 1);
                blockmap_birth((void *)at, sizes[i], 9, &birth);
                sure(birth.stored && !birth.stale);
                sure_eq(birth.usable, chunk - overhead);
                sure(blockmap_find((void *)at, &found));
                sure_eq(found.requested, sizes[i]);
                sure_eq(found.usable, chunk - overhead);
                sure(blockmap_death((void *)at, 0, &found));
                sure_eq(found.requested, sizes[i]);
                sure_eq(found.usable, chunk - overhead);
                blockmap_revive((void *)at, &found);
                sure(blockmap_death((void *)at, 0, &found));
                sure_eq(found.requested, sizes[i]);
                uint32_t word = map_word(at);
                if (mmapped)
                    sure_eq(word, 0);
                else
                    sure_eq(word & BLOCKMAP_SITE_MASK, 9);
                sure_eq(!!(word & BLOCKMAP_LARGE), !mmapped && sizes[i] >= BLOCKMAP_LARGE_BYTES);
            }
        }
    }
}
END_TEST

START_TEST(test_unknown_addresses)
{
    blockmap_init(true);
    struct blockmap_block dead;
    struct blockmap_birth birth;
    sure(!blockmap_death(NULL, 0, &dead));
    sure(!blockmap_death((void *)16, 0, &dead));
    sure(!blockmap_death((void *)UINT64_C(0x7ffffffffff0), 0, &dead));
    sure(!blockmap_death((void *)UINT64_C(0xfffffffffffffff0), 0, &dead));
    sure(!blockmap_find((void *)UINT64_C(0x800000000010), &dead));
    blockmap_birth((void *)UINT64_C(0x1000000000000), 100, 5, &birth);
    sure(!birth.stored);
    /* A live block, asked for by addresses that are not its own. */
    struct model model = model_new(1 << 20);
    struct model_block block;
    sure(model_take(&model, 1000, 100, 0, &block));
    model_birth(&block, 6);
    for (intptr_t off = -48; off < 48; off++)
        sure(off == 0 || !blockmap_death((void *)(block.block + off), 0, &dead));
    model_death(&model, &block, 0);
}
END_TEST

START_TEST(test_stale_block_is_returned)
{
    blockmap_init(true);
    struct model model = model_new(1 << 20);
    struct model_block block;
    struct blockmap_birth birth;
    static const size_t sizes[] = { 10, 500, 1000, 300000 };
    for (size_t i = 0; i < 4; i++) {
        sure(model_take(&model, 100, sizes[i], 0, &block));
        model_birth(&block, 6);
        size_t other_half = block.block + 16;
        *(size_t *)(block.block - 8) = 64;
        blockmap_birth((void *)block.block, 40, 8, &birth);
        sure(birth.stored && birth.stale);
        sure_eq(birth.old.requested, sizes[i]);
        sure_eq(birth.old.site, 6);
        *(size_t *)(other_half - 8) = 48;
        blockmap_birth((void *)other_half, 40, 9, &birth);
        sure_eq(birth.stale, block.block % 32 == 0);
        struct blockmap_block dead;
        sure(blockmap_death((void *)other_half, 0, &dead));
        blockmap_death((void *)block.block, 0, &dead);
        memset(model.used, 0, model.units);
    }
}
END_TEST

/* Owners of different parts of a page whose record must be expanded, all at once. */

enum { RACERS = 8, RACE_PAGES = 64, RACE_ROUNDS = 500, RACE_UNITS = 29 };
static struct {
    struct model model;
    pthread_barrier_t barrier;
} race;

static void *race_thread(void *argument)
{
    uintptr_t me = (uintptr_t)argument;
    for (unsigned round = 0; round < RACE_ROUNDS; round++) {
        pthread_barrier_wait(&race.barrier);    /* the large block has been freed */
        struct model_block blocks[RACE_PAGES];
        for (size_t page = 0; page < RACE_PAGES; page++) {
            size_t at = page * 256 + me * 31 + round % 3;
            blocks[page] = (struct model_block){ race.model.start + at * 16 + 16, (RACE_UNITS - 1) * 16, RACE_UNITS * 16, 0 };
            *(size_t *)(blocks[page].block - 8) = RACE_UNITS * 16 | 1;
            model_birth(&blocks[page], (uint32_t)(100 + me));
        }
        for (size_t page = 0; page < RACE_PAGES; page++) {
            struct blockmap_block dead;
            sure(blockmap_death((void *)blocks[page].block, 0, &dead));
            sure_eq(dead.requested, (RACE_UNITS - 1) * 16);
            oracle_paint(blocks[page].block - 16, RACE_UNITS * 16, (uint32_t)(100 + me));
        }
        pthread_barrier_wait(&race.barrier);
    }
    return NULL;
}

START_TEST(test_expansion_race)
{
    blockmap_init(true);
    race.model = model_new(1 << 20);
    pthread_t threads[RACERS];
    pthread_barrier_init(&race.barrier, NULL, RACERS + 1);
    for (uintptr_t i = 0; i < RACERS; i++)
        pthread_create(&threads[i], NULL, race_thread, (void *)i);
    for (unsigned round = 0; round < RACE_ROUNDS; round++) {
        struct model_block large;
        sure(model_take(&race.model, 0, RACE_PAGES * 4096 + 2000, 0, &large));
        model_birth(&large, 50 + round % 7);
        model_death(&race.model, &large, 0);
        pthread_barrier_wait(&race.barrier);
        pthread_barrier_wait(&race.barrier);
        uintptr_t end = race.model.start + (RACE_PAGES + 2) * 4096;
        sure_eq(count_wrong_cells(race.model.start, end, NULL), 0);
    }
    for (int i = 0; i < RACERS; i++)
        pthread_join(threads[i], NULL);
}
END_TEST

/* The child of a fork finds a page that another thread of its parent was expanding. */
START_TEST(test_fork_finishes_expansion)
{
    blockmap_init(true);
    struct model model = model_new(1 << 20);
    struct model_block large, small;
    sure(model_take(&model, 0, 100000, 0, &large));
    model_birth(&large, 11);
    model_death(&model, &large, 0);
    struct blockmap_leaf *leaf = blockmap_leaf_of(large.block);
    uint32_t *record = &leaf->page_record[blockmap_page_index(large.block + 8192)];
    sure(*record != 0);
    *record |= BLOCKMAP_BUSY;
    leaf->busy |= 1u << blockmap_page_index(large.block + 8192) / 1024;
    sure(model_take(&model, 514, 50, 0, &small));
    struct blockmap_birth birth;
    blockmap_birth((void *)small.block, 50, 5, &birth);
    sure(!birth.stored);
    blockmap_fork_child();
    sure_eq(*record, 0);
    model_birth(&small, 12);
    sure_eq(count_wrong_cells(model.start, model.start + 100000, model.used), 0);
}
END_TEST

/* Small blocks all over 4 MiB die, but for one in every 256 KiB; then every other MiB goes back to the system. */
START_TEST(test_release_of_unused)
{
    enum { MIB = 1 << 20, BYTES = 4 * MIB, BLOCK = 200, STEP = 1261 };
    static struct model_block small[BYTES / BLOCK], *kept[STEP];
    blockmap_init(true);
    struct model model = model_new(BYTES);
    size_t count = 0, kept_count = 0;
    for (size_t at = 0; model_take(&model, at, BLOCK - 8, 0, &small[count]); at += small[count++].chunk / 16)
        model_birth(&small[count], (uint32_t)(5 + count % 90));
    for (size_t i = 0; i < count; i++) {
        if (i % STEP == 0)
            kept[kept_count++] = &small[i];
        else
            model_death(&model, &small[i], 0);
    }
    blockmap_release_unused();      /* all of the heap is resident */
    sure_eq(count_wrong_cells(model.start, model.start + BYTES, model.used), 0);
    uint64_t before = blockmap_bytes();
    uintptr_t first = (model.start + MIB) & ~(uintptr_t)(MIB - 1);
    for (uintptr_t at = first; at + MIB <= model.start + BYTES; at += 2 * MIB)
        madvise((void *)at, MIB, MADV_DONTNEED);
    blockmap_release_unused();
    uint64_t given = before - blockmap_bytes();
    sure(sysconf(_SC_PAGESIZE) > 4096 || given > 2 * MIB / 8 * 8 / 10);
    for (uintptr_t at = model.start; at < model.start + BYTES; at += 16)
        if (((at & ~(uintptr_t)(MIB - 1)) - first) / MIB % 2 == 0 && at >= first &&
            first + ((at - first) / MIB + 1) * MIB <= model.start + BYTES && !map_word(at & ~(uintptr_t)31))
            *oracle_unit(at & ~(uintptr_t)31) = 0;
    sure_eq(count_wrong_cells(model.start, model.start + BYTES, model.used), 0);
    for (size_t i = 0; i < kept_count; i++) {
        struct blockmap_block found;
        sure(blockmap_find((void *)kept[i]->block, &found));
        sure_eq(found.requested, kept[i]->requested);
        sure_eq(found.site, kept[i]->site);
    }
}
END_TEST

START_TEST(test_no_memory_for_leaf)
{
    blockmap_init(true);
    struct model model = model_new(1 << 20);
    struct model_block block;
    sure(model_take(&model, 0, 100, 0, &block));
    pid_t child = fork();
    if (child == 0) {
        struct rlimit limit = { 0, 0 };
        setrlimit(RLIMIT_AS, &limit);
        struct blockmap_birth birth;
        struct blockmap_block dead;
        for (int i = 0; i < 5000; i++) {
            blockmap_birth((void *)block.block, 100, 5, &birth);
            if (birth.stored || birth.usable != 104 || blockmap_death((void *)block.block, 0, &dead))
                _exit(1);
        }
        _exit(0);
    }
    int status;
    sure_eq(waitpid(child, &status, 0), child);
    sure_eq(status, 0);
}
END_TEST

/* ---- the real heap --------------------------------------------------------------------------------- */

struct real_block {
    void *block;
    size_t requested;
    uint32_t site;
};

static size_t real_chunk(const void *block)
{
    return ((const size_t *)block)[-1] & ~(size_t)7;
}

static bool real_mmapped(const void *block)
{
    return ((const size_t *)block)[-1] & 2;
}

static void real_birth(struct real_block *slot, void *block, size_t requested, uint32_t site)
{
    struct blockmap_birth birth;
    blockmap_birth(block, requested, site, &birth);
    sure(birth.stored);
    sure(!birth.stale);
    sure_eq(birth.usable, malloc_usable_size(block));
    *slot = (struct real_block){ block, requested, site };
}

static void real_death(struct real_block *slot)
{
    struct blockmap_block dead;
    sure(blockmap_death(slot->block, 0, &dead));
    sure_eq(dead.requested, slot->requested);
    sure_eq(dead.site, slot->site);
    sure_eq(dead.usable, malloc_usable_size(slot->block));
    if (!real_mmapped(slot->block))
        oracle_paint((uintptr_t)slot->block - 16, real_chunk(slot->block), slot->site);
}

static void real_step(struct random *random, struct real_block *slot, unsigned most_bits)
{
    uint32_t site = 4 + random_next(random) % 5000;
    size_t requested = random_size(random, most_bits);
    unsigned choice = random_next(random) % 16;
    void *block = NULL;
    if (slot->block && choice < 5) {
        real_death(slot);
        if (!(block = realloc(slot->block, requested + 1)))
            ck_abort_msg("no memory");
        real_birth(slot, block, requested + 1, site);
        return;
    }
    if (slot->block) {
        real_death(slot);
        free(slot->block);
        slot->block = NULL;
        return;
    }
    if (choice < 8)
        block = malloc(requested);
    else if (choice < 12)
        block = calloc(1, requested);
    else if (posix_memalign(&block, (size_t)16 << random_next(random) % 10, requested))
        block = NULL;
    sure(block);
    real_birth(slot, block, requested, site);
}

enum { REAL_BLOCKS = 20000 };
static struct real_block real_blocks[8 * REAL_BLOCKS];  /* a part for each thread, the last one shared */
static pthread_mutex_t real_shared = PTHREAD_MUTEX_INITIALIZER;

static void *real_thread(void *argument)
{
    unsigned me = (unsigned)(uintptr_t)argument;
    struct random random = { 1000 + me };
    for (unsigned i = 0; i < 300000; i++) {
        if (i % 64 == 0) {      /* blocks wander between threads */
            pthread_mutex_lock(&real_shared);
            struct real_block *a = &real_blocks[7 * REAL_BLOCKS + random_next(&random) % 500];
            struct real_block *b = &real_blocks[me * REAL_BLOCKS + random_next(&random) % REAL_BLOCKS];
            struct real_block swapped = *a;
            *a = *b;
            *b = swapped;
            pthread_mutex_unlock(&real_shared);
        }
        real_step(&random, &real_blocks[me * REAL_BLOCKS + random_next(&random) % (REAL_BLOCKS / 4)], 14);
    }
    return NULL;
}

static void check_real(void)
{
    struct tally expected = { 0 }, seen = { 0 };
    for (size_t i = 0; i < 8 * REAL_BLOCKS; i++) {
        struct real_block *slot = &real_blocks[i];
        if (!slot->block)
            continue;
        struct blockmap_block found;
        sure(blockmap_find(slot->block, &found));
        sure_eq(found.requested, slot->requested);
        sure_eq(found.usable, malloc_usable_size(slot->block));
        expected.blocks++;
        expected.bytes += slot->requested;
        expected.sites += slot->site;
    }
    blockmap_each_live(tally_visit, &seen);
    sure_eq(seen.blocks, expected.blocks);
    sure_eq(seen.bytes, expected.bytes);
    sure_eq(seen.sites, expected.sites);
    size_t wrong = 0;
    for (size_t leaf = 0; leaf < LEAVES; leaf++) {
        if (!oracle[leaf])
            continue;
        uintptr_t base = (uintptr_t)leaf << BLOCKMAP_LEAF_SHIFT;
        unsigned char *live = map_memory(UNITS);
        for (size_t i = 0; i < 8 * REAL_BLOCKS; i++) {
            struct real_block *slot = &real_blocks[i];
            if (!slot->block)
                continue;
            uintptr_t from = (uintptr_t)slot->block - 16, to = from + real_chunk(slot->block);
            for (uintptr_t at = from; at < to; at += 16)
                if (at - base < BLOCKMAP_LEAF_BYTES)
                    live[(at - base) / 16] = 1;
        }
        wrong += count_wrong_cells(base, base + BLOCKMAP_LEAF_BYTES, live);
        munmap(live, UNITS);
    }
    sure_eq(wrong, 0);
}

START_TEST(test_real_heap)
{
    blockmap_init(true);
    struct random random = { 7 };
    const char *wanted = getenv("BLOCKMAP_STEPS");
    unsigned long steps = wanted ? strtoul(wanted, NULL, 10) : 1000000;
    for (unsigned long i = 0; i < steps; i++)
        real_step(&random, &real_blocks[random_next(&random) % REAL_BLOCKS], i % 64 ? 12 : 18);
    check_real();
}
END_TEST

START_TEST(test_real_heap_threads)
{
    blockmap_init(true);
    pthread_t threads[4];
    for (uintptr_t i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, real_thread, (void *)i);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    check_real();
}
END_TEST

/* Where the tests share a process (sanitizers), each starts with an empty map. */
static void forget_everything(void)
{
    for (size_t i = 0; i < sizeof(blockmap.leaf) / sizeof(blockmap.leaf[0]); i++) {
        if (blockmap.leaf[i])
            blockmap.leaf[i] = NULL;
        if (oracle[i])
            munmap(oracle[i], UNITS * 4);
        oracle[i] = NULL;
    }
    blockmap.first = NULL;
    memset(real_blocks, 0, sizeof(real_blocks));
}

int main(void)
{
    Suite *suite = suite_create("blockmap");
    TCase *model = tcase_create("model heap");
    tcase_set_timeout(model, 120);
    tcase_add_checked_fixture(model, forget_everything, NULL);
    tcase_add_test(model, test_model_small_blocks);
    tcase_add_test(model, test_model_large_blocks);
    tcase_add_test(model, test_model_foreign);
    tcase_add_test(model, test_sizes_exact);
    tcase_add_test(model, test_nothing_of_a_dead_block_is_found);
    tcase_add_test(model, test_huge_and_mmapped);
    tcase_add_test(model, test_unknown_addresses);
    tcase_add_test(model, test_stale_block_is_returned);
    tcase_add_test(model, test_expansion_race);
    tcase_add_test(model, test_fork_finishes_expansion);
    tcase_add_test(model, test_release_of_unused);
    tcase_add_test(model, test_no_memory_for_leaf);
    suite_add_tcase(suite, model);
    if (REAL_HEAP) {
        TCase *real = tcase_create("real heap");
        tcase_set_timeout(real, 120);
        tcase_add_checked_fixture(real, forget_everything, NULL);
        tcase_add_test(real, test_real_heap);
        tcase_add_test(real, test_real_heap_threads);
        suite_add_tcase(suite, real);
    }
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
