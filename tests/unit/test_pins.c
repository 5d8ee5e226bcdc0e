/* SPDX-License-Identifier: MIT */
/* The ladder at the top of a heap that changes between the scan and the ranking: a heap made by hand, so that the one
 * instant in which another thread would have to free a block is simply there. */
#include "census/pins.h"

#include "census/blockmap.h"
#include "census/extents.h"
#include "census/gaps.h"
#include "census/pass_map.h"
#include "census/scratch.h"
#include "contract/format.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define PAGE 4096u
#define PAGES 64u
#define BLOCKS 12u      /* of as many sites: more than the ladder has rungs */
#define CHUNK 512u

static unsigned char *heap;
static unsigned char resident[PAGES];
static struct tally tally[BLOCKS + 1];

/* Block i, of site i + 1, stands at the start of page 4 * i. */
static unsigned char *chunk_of(uint32_t i)
{
    return heap + 4 * PAGE * i;
}

static void build(void)
{
    heap = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(heap, MAP_FAILED);
    blockmap_init(true);
    memset(resident, 1, sizeof resident);
    for (uint32_t i = 0; i < BLOCKS; i++) {
        struct blockmap_birth birth;
        size_t header = CHUNK | 1;
        memcpy(chunk_of(i) + 8, &header, sizeof header);
        blockmap_birth(chunk_of(i) + 16, CHUNK - 8, i + 1, &birth);
        ck_assert(birth.stored && !birth.stale);
        tally[i + 1] = (struct tally){ .top_block = (uintptr_t)chunk_of(i), .site = i + 1 };
    }
}

static void die(uint32_t i)
{
    struct blockmap_block dead;
    ck_assert(blockmap_death(chunk_of(i) + 16, 0, &dead));
}

static uint64_t gain_of_ladder(struct scratch *scratch)
{
    struct pins pins = { .count = 0 };
    ck_assert(pins_init(&pins, BLOCKS + 1, scratch));
    struct pass_map pass = { .tally = tally, .tallies = BLOCKS + 1, .sites = BLOCKS + 1 };
    struct extent extent = {
        .start = (uintptr_t)heap, .end = (uintptr_t)heap + PAGES * PAGE, .kind = EXTENT_BREAK, .has_top = true,
        .head_end = (uintptr_t)heap, .resident = resident, .resident_pages = PAGES
    };
    struct gaps gaps = { .extent = &extent };
    uint64_t sum = 0;
    pins_rank_top(&pins, &pass, &extent, &gaps);
    for (uint32_t i = 0; i < pins.pin_count; i++)
        if (pins.pin[i].kind == HMK_PIN_TOP)
            sum = pins.pin[i].cumulative_bytes;
    return sum;
}

/* Between the lowest block that bounds the ladder (of site 4) and the highest: eight gaps. */
#define GAPS (8u * (4 * PAGE - CHUNK))

START_TEST(test_a_still_heap)
{
    struct scratch scratch = { NULL };
    build();
    ck_assert_uint_eq(gain_of_ladder(&scratch), GAPS);
    scratch_release(&scratch);
}
END_TEST

START_TEST(test_the_block_that_bounds_the_ladder_is_freed)
{
    struct scratch scratch = { NULL };
    build();
    die(3);     /* as another thread may, after the scan saw it */
    ck_assert_uint_eq(gain_of_ladder(&scratch), GAPS + CHUNK);
    scratch_release(&scratch);
}
END_TEST

START_TEST(test_all_blocks_are_freed)
{
    struct scratch scratch = { NULL };
    build();
    for (uint32_t i = 0; i < BLOCKS; i++)
        die(i);
    ck_assert_uint_eq(gain_of_ladder(&scratch), 0);
    scratch_release(&scratch);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("pins");
    TCase *tcase = tcase_create("a heap that moves");
    tcase_add_test(tcase, test_a_still_heap);
    tcase_add_test(tcase, test_the_block_that_bounds_the_ladder_is_freed);
    tcase_add_test(tcase, test_all_blocks_are_freed);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
