/* SPDX-License-Identifier: MIT */
/* The list of areas where the address space changed while the kernel wrote it: the lines are those that smaps then has. */
#include "census/areas.h"

#include "census/allocator_pymalloc.h"
#include "census/extents.h"
#include "census/ledger.h"
#include "census/scratch.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE 4096ul

static char *memory;            /* 64 pages, of which the first 16 are resident */
static char text[8192];
static struct scratch scratch;

static void begin(void)
{
    memory = mmap(NULL, 64 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(memory, MAP_FAILED);
    memset(memory, 1, 16 * PAGE);
    text[0] = 0;
    scratch = (struct scratch){ NULL };
}

static void end(void)
{
    scratch_release(&scratch);
    munmap(memory, 64 * PAGE);
}

/* An area of pages [from, to) of the memory. */
static void list(unsigned from, unsigned to, unsigned rss_pages)
{
    size_t used = strlen(text);
    snprintf(text + used, sizeof(text) - used,
             "%lx-%lx rw-p 00000000 00:00 0 \nSize: %16lu kB\nRss: %17lu kB\nAnonymous: %11lu kB\nAnonHugePages: %7lu kB\n",
             (unsigned long)memory + from * PAGE, (unsigned long)memory + to * PAGE, (to - from) * PAGE / 1024,
             rss_pages * PAGE / 1024, rss_pages * PAGE / 1024, rss_pages * PAGE / 1024);
}

static struct areas areas_of_text(void)
{
    char path[] = "/tmp/test_areas.XXXXXX";
    struct areas areas;
    int fd = mkstemp(path);
    ck_assert(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    close(fd);
    ck_assert(areas_read_file(&areas, path, &scratch));
    unlink(path);
    return areas;
}

static void is_area(const struct areas *areas, size_t i, unsigned from, unsigned to, unsigned rss_pages)
{
    ck_assert_uint_lt(i, areas->count);
    ck_assert_uint_eq(areas->list[i].start, (uintptr_t)memory + from * PAGE);
    ck_assert_uint_eq(areas->list[i].end, (uintptr_t)memory + to * PAGE);
    ck_assert_uint_eq(areas->list[i].rss_bytes, rss_pages * PAGE);
    ck_assert_uint_eq(areas->list[i].anonymous_bytes, rss_pages * PAGE);
    ck_assert_uint_eq(areas->list[i].huge_bytes, rss_pages * PAGE);
}

START_TEST(neighbours_are_kept)
{
    list(0, 4, 4);
    list(4, 8, 3);
    list(20, 30, 0);
    struct areas areas = areas_of_text();
    ck_assert_uint_eq(areas.count, 3);
    is_area(&areas, 0, 0, 4, 4);
    is_area(&areas, 1, 4, 8, 3);
    is_area(&areas, 2, 20, 30, 0);
}
END_TEST

START_TEST(an_area_that_grew_counts_once)
{
    list(0, 4, 4);
    list(8, 12, 2);
    list(8, 20, 5);
    list(30, 32, 1);
    struct areas areas = areas_of_text();
    ck_assert_uint_eq(areas.count, 3);
    is_area(&areas, 0, 0, 4, 4);
    is_area(&areas, 1, 8, 20, 5);
    is_area(&areas, 2, 30, 32, 1);
}
END_TEST

START_TEST(areas_that_were_joined_count_once)
{
    list(0, 2, 2);
    list(4, 8, 4);
    list(8, 12, 2);
    list(4, 20, 9);
    struct areas areas = areas_of_text();
    ck_assert_uint_eq(areas.count, 2);
    is_area(&areas, 0, 0, 2, 2);
    is_area(&areas, 1, 4, 20, 9);
}
END_TEST

/* The end of an area was cut off and joined with what follows: of the 24 pages that were listed, 16 are resident now. */
START_TEST(an_area_that_was_cut_keeps_its_start)
{
    list(0, 24, 24);
    list(20, 40, 9);
    struct areas areas = areas_of_text();
    ck_assert_uint_eq(areas.count, 2);
    is_area(&areas, 0, 0, 20, 16);
    is_area(&areas, 1, 20, 40, 9);
}
END_TEST

START_TEST(a_cut_area_has_no_more_than_it_had)
{
    list(0, 24, 7);
    list(20, 40, 9);
    struct areas areas = areas_of_text();
    ck_assert_uint_eq(areas.count, 2);
    is_area(&areas, 0, 0, 20, 7);
}
END_TEST

START_TEST(more_areas_than_the_first_list_holds)
{
    static char many[3000 * 64];
    size_t used = 0;
    char path[] = "/tmp/test_areas.XXXXXX";
    struct areas areas;
    for (unsigned i = 0; i < 2000; i++)
        used += (size_t)snprintf(many + used, sizeof(many) - used, "%x-%x rw-p 00000000 00:00 0\nRss: 4 kB\n", i * 8192,
                                 i * 8192 + 4096);
    int fd = mkstemp(path);
    ck_assert(fd >= 0 && write(fd, many, used) == (ssize_t)used);
    close(fd);
    ck_assert(areas_read_file(&areas, path, &scratch));
    unlink(path);
    ck_assert_uint_eq(areas.count, 2000);
    for (unsigned i = 0; i < 2000; i++)
        ck_assert(areas.list[i].start == i * 8192u && areas.list[i].rss_bytes == 4096);
}
END_TEST

/* The heap's columns come from the scan, which is later than the list: pages that came in between must not be missing from what
 * the ledger compares. */
START_TEST(a_heap_that_was_empty_when_it_was_listed_is_compared)
{
    static unsigned char resident[16];
    static uint64_t mapped[4];
    memset(resident, 1, sizeof(resident));
    list(0, 16, 0);
    list(16, 64, 0);
    struct areas areas = areas_of_text();
    struct extent extent = {
        .start = (uintptr_t)memory, .end = (uintptr_t)memory + 16 * PAGE, .kind = EXTENT_HEAP, .arena = 1,
        .resident = resident, .resident_pages = 16
    };
    struct extents extents = { .list = &extent, .count = 1, .resident_bytes = 16 * PAGE };
    struct pymalloc pymalloc = { 0 };
    struct hmk_census census = { 0 };
    census.held_bytes[HMK_CAUSE_RETURNABLE] = 16 * PAGE;    /* as the scan has it */
    struct ledger ledger = {
        .areas = &areas, .extents = &extents, .pymalloc = &pymalloc, .mapped_by_site = mapped, .sites = 4, .census = &census
    };
    ck_assert(ledger_fill(&ledger, &scratch));
    ck_assert_uint_eq(census.rss_bytes, 0);
    ck_assert_int_eq(census.unexplained_bytes, -(int64_t)(16 * PAGE));
}
END_TEST

/* ---- by the page tables --------------------------------------------------------------------------- */

static char *map_pages(unsigned pages, int protection, int flags)
{
    char *at = mmap(NULL, pages * PAGE, protection, flags | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(at, MAP_FAILED);
    return at;
}

/* Two lists of this very process, one after the other: what the second needed memory for has other bounds in it. */
START_TEST(sums_are_those_of_the_kernels_list)
{
    struct areas sums, areas;
    struct scratch later = { NULL };
    size_t compared = 0;
    char *zeros = map_pages(8, PROT_READ | PROT_WRITE, MAP_PRIVATE), *holes = map_pages(6000, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    char *none = map_pages(8, PROT_NONE, MAP_PRIVATE), *shared = map_pages(8, PROT_READ | PROT_WRITE, MAP_SHARED);
    madvise(holes, 6000 * PAGE, MADV_NOHUGEPAGE);
    for (unsigned i = 0; i < 6000; i += 2)      /* more runs than the kernel is asked for at once */
        holes[i * PAGE] = 1;
    ck_assert_int_eq(zeros[PAGE], 0);           /* the page of zeros: in the page table, but not resident */
    zeros[3 * PAGE] = shared[PAGE] = 1;
    ck_assert(areas_read(&areas, &scratch) && areas_read_sums(&sums, &scratch) && areas_read(&areas, &later));
    for (size_t i = 0; i < areas.count; i++) {
        const struct area *area = &areas.list[i], *sum = areas_from(&sums, area->start);
        if (!sum || sum->start != area->start || sum->end != area->end)
            continue;
        ck_assert_msg(sum->rss_bytes == area->rss_bytes && sum->swap_bytes == area->swap_bytes, "%lx-%lx: %lu and %lu, not %lu and %lu",
                      (unsigned long)area->start, (unsigned long)area->end, (unsigned long)sum->rss_bytes,
                      (unsigned long)sum->swap_bytes, (unsigned long)area->rss_bytes, (unsigned long)area->swap_bytes);
        ck_assert_uint_eq(sum->flags, area->flags & ~(uint32_t)(AREA_WIPED | AREA_LEFT_OUT));
        compared++;
    }
    ck_assert_uint_ge(compared, areas.count - 4);
    ck_assert_uint_ge(areas_from(&sums, (uintptr_t)holes)->rss_bytes, 3000 * PAGE);
    scratch_release(&later);
    munmap(zeros, 8 * PAGE);
    munmap(holes, 6000 * PAGE);
    munmap(none, 8 * PAGE);
    munmap(shared, 8 * PAGE);
}
END_TEST

/* Which of those are resident is for the kernel's own list to say. */
START_TEST(huge_pages_are_counted_by_the_kernels_list)
{
    struct areas areas;
    size_t bytes = 8ul << 20;
    char *huge = map_pages(2048, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    madvise(huge, bytes, MADV_HUGEPAGE);
    memset(huge, 1, bytes);
    ck_assert(areas_read_sums(&areas, &scratch));
    uint64_t resident = 0;
    for (const struct area *area = areas_from(&areas, (uintptr_t)huge); area->start < (uintptr_t)huge + bytes; area++)
        resident += area->rss_bytes;
    ck_assert_uint_ge(resident, bytes);
    munmap(huge, bytes);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        neighbours_are_kept, an_area_that_grew_counts_once, areas_that_were_joined_count_once,
        an_area_that_was_cut_keeps_its_start, a_cut_area_has_no_more_than_it_had, more_areas_than_the_first_list_holds,
        a_heap_that_was_empty_when_it_was_listed_is_compared, sums_are_those_of_the_kernels_list,
        huge_pages_are_counted_by_the_kernels_list,
    };
    Suite *suite = suite_create("areas");
    TCase *all = tcase_create("all");
    tcase_add_checked_fixture(all, begin, end);
    for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++)
        tcase_add_test(all, tests[i]);
    suite_add_tcase(suite, all);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
