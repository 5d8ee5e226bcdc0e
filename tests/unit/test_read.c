/* SPDX-License-Identifier: MIT */
#include "contract/publish.h"
#include "contract/read.h"

#include "synthetic.h"
#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static unsigned char *bytes;
static size_t size;
static struct read_error error;

static void make(void (*kind)(struct synthetic *s))
{
    struct synthetic s;
    kind(&s);
    bytes = synthetic_finish(&s, &size);
}

static struct hmk_table *directory(enum hmk_table_id id)
{
    return (struct hmk_table *)(bytes + HMK_TABLES_OFFSET) + id;
}

static void *first_record(enum hmk_table_id id, uint64_t index)
{
    ck_assert_uint_lt(index, directory(id)->first_records);
    return bytes + directory(id)->chunk_offset[0] + index * directory(id)->record_bytes;
}

static struct hmk_frame *last_frame(void)
{
    const struct hmk_table *frames = directory(HMK_FRAMES);
    uint64_t last = frames->count - 1;
    unsigned chunk = hmk_chunk_of(last, frames->first_records);
    return (struct hmk_frame *)(void *)(bytes + frames->chunk_offset[chunk]) + (last - hmk_chunk_first(chunk, frames->first_records));
}

/* What stands in memory must be refused with this fault, in one line that names the file. */
static void refused(enum read_fault fault)
{
    struct read_file *file = read_memory(bytes, size, "x.hmk", &error);
    ck_assert_ptr_null(file);
    ck_assert_int_eq(error.fault, fault);
    ck_assert_int_eq(strncmp(error.sentence, "x.hmk: ", 7), 0);
    ck_assert_ptr_null(strchr(error.sentence, '\n'));
    ck_assert_uint_lt(strlen(error.sentence), 200);
    free(bytes);
}

START_TEST(reads_back_what_was_written)
{
    make(synthetic_pinned);
    struct read_file *file = read_memory(bytes, size, "x.hmk", &error);
    free(bytes);
    ck_assert_msg(file != NULL, "%s", error.sentence);
    ck_assert_int_eq(error.fault, READ_FINE);
    ck_assert_str_eq(read_path(file), "x.hmk");
    ck_assert_uint_eq(read_size(file), size);
    ck_assert_str_eq(read_string(file, read_header(file)->exe), "/usr/bin/tool");
    ck_assert_str_eq(read_string(file, read_header(file)->host), "host");
    ck_assert_str_eq(read_string(file, 0), "");
    ck_assert_int_eq(read_live(file)->heap.peak_blocks, 1000001);
    ck_assert_uint_eq(read_count(file, HMK_SITES), HMK_SITE_FIRST + 2);
    ck_assert_uint_eq(read_site(file, HMK_SITE_FIRST)->frame, 3);
    ck_assert_uint_eq(read_frame(file, 3)->parent, 2);
    ck_assert_uint_eq(read_frame(file, 3)->code, 0x7f0000003300);
    ck_assert_str_eq(read_string(file, read_module(file, 1)->path), "/usr/lib/libjson.so.1");
    ck_assert_uint_eq(read_cell_page(file, 0)->cell[HMK_SITE_FIRST].allocations, 1000000);
    ck_assert_uint_eq(read_count(file, read_timeline(file)), 40);
    ck_assert_ptr_null(read_record(file, HMK_SITES, HMK_SITE_FIRST + 2));
    ck_assert_ptr_null(read_record(file, HMK_SITES, UINT64_MAX));
    read_close(file);
}
END_TEST

START_TEST(every_record_of_many_chunks_is_found)
{
    struct synthetic s;
    synthetic_start(&s);
    uint32_t module = synthetic_module(&s, "/bin/x", 0), parent = 0, text[500];
    for (uint64_t i = 1; i < 1000; i++)
        parent = synthetic_frame(&s, parent, module, i * 16);
    for (unsigned i = 0; i < 500; i++) {
        char string[32];
        snprintf(string, sizeof string, "string number %u", i);
        text[i] = synthetic_string(&s, string);
    }
    bytes = synthetic_finish(&s, &size);
    struct read_file *file = read_memory(bytes, size, "x.hmk", &error);
    free(bytes);
    ck_assert_msg(file != NULL, "%s", error.sentence);
    for (uint64_t i = 1; i < 1000; i++)
        ck_assert_uint_eq(read_frame(file, i)->code, i * 16);
    for (unsigned i = 0; i < 500; i++) {
        char string[32];
        snprintf(string, sizeof string, "string number %u", i);
        ck_assert_str_eq(read_string(file, text[i]), string);
    }
    read_close(file);
}
END_TEST

START_TEST(a_census_that_was_being_written_is_none)
{
    make(synthetic_pinned);
    struct read_file *file = read_memory(bytes, size, "x.hmk", &error);
    free(bytes);
    ck_assert_uint_eq(read_count(file, HMK_CENSUSES), 2);
    ck_assert_ptr_nonnull(read_census(file, 0));
    ck_assert_ptr_null(read_census(file, 1));
    ck_assert_ptr_null(read_census(file, 2));
    read_close(file);
}
END_TEST

START_TEST(strings_out_of_range_are_named_so)
{
    make(synthetic_start);
    memset(first_record(HMK_STRINGS, 0), 'x', directory(HMK_STRINGS)->first_records);
    struct read_file *file = read_memory(bytes, size, "x.hmk", &error);
    free(bytes);
    ck_assert_ptr_nonnull(file);
    ck_assert_str_eq(read_string(file, 5), "(damaged)");
    ck_assert_str_eq(read_string(file, UINT32_MAX), "(damaged)");
    ck_assert_str_eq(read_string(file, (uint32_t)read_count(file, HMK_STRINGS)), "(damaged)");
    ck_assert_str_eq(read_string(file, 0), "");
    read_close(file);
}
END_TEST

START_TEST(raw_bytes_are_whole_or_none)
{
    struct synthetic s;
    synthetic_start(&s);
    for (unsigned i = 0; i < 20; i++)
        synthetic_string(&s, "so that there are two chunks");
    bytes = synthetic_finish(&s, &size);
    uint32_t chunk = directory(HMK_STRINGS)->first_records, count = (uint32_t)directory(HMK_STRINGS)->count;
    struct read_file *file = read_memory(bytes, size, "x.hmk", &error);
    ck_assert_ptr_nonnull(file);
    ck_assert_mem_eq(read_bytes(file, 1, chunk - 1), (char *)first_record(HMK_STRINGS, 1), chunk - 1);
    ck_assert_ptr_null(read_bytes(file, 1, chunk));
    ck_assert_ptr_null(read_bytes(file, 1, UINT32_MAX));
    ck_assert_ptr_null(read_bytes(file, 1, 0));
    ck_assert_ptr_nonnull(read_bytes(file, count - 1, 1));
    ck_assert_ptr_null(read_bytes(file, count - 1, 2));
    ck_assert_ptr_null(read_bytes(file, count, 1));
    ck_assert_ptr_null(read_bytes(file, UINT32_MAX, 1));
    free(bytes);
    read_close(file);
}
END_TEST

START_TEST(the_head_of_the_file_decides_what_it_is)
{
    size = 0;
    bytes = malloc(1);
    refused(READ_EMPTY);

    size = 5;
    bytes = (unsigned char *)strdup("HEAPM");
    refused(READ_FOREIGN);

    make(synthetic_start);
    memcpy(bytes, "#!/bin/s", 8);
    refused(READ_FOREIGN);

    make(synthetic_start);
    memset(bytes, 0, 8);
    refused(READ_UNBORN);

    make(synthetic_start);
    memset(bytes, 0, size);
    refused(READ_FOREIGN);

    make(synthetic_start);
    ((struct hmk_header *)bytes)->byte_order = __builtin_bswap32(HMK_BYTE_ORDER);
    refused(READ_OTHER_ORDER);

    make(synthetic_start);
    ((struct hmk_header *)bytes)->byte_order = 5;
    refused(READ_DAMAGED);

    make(synthetic_start);
    ((struct hmk_header *)bytes)->version = HMK_VERSION + 1;
    refused(READ_NEWER);

    make(synthetic_start);
    ((struct hmk_header *)bytes)->version = 0;
    refused(READ_DAMAGED);

    make(synthetic_start);
    ((struct hmk_header *)bytes)->page_bytes = 5000;
    refused(READ_DAMAGED);

    make(synthetic_start);
    ((struct hmk_live *)(bytes + HMK_LIVE_OFFSET))->timeline_active = 2;
    refused(READ_DAMAGED);
}
END_TEST

/* Any prefix of a recording is refused as truncated, or is whole because only unused space was cut off. */
START_TEST(every_prefix_is_refused)
{
    make(synthetic_threads);
    size_t whole = size;
    unsigned char *original = bytes;
    for (size_t cut = 8; cut < whole; cut += cut < 200 ? 1 : 997) {
        struct read_file *file = read_memory(original, cut, "x.hmk", &error);
        if (file) {
            ck_assert_uint_gt(cut, whole - 2 * 4096);
            read_close(file);
            continue;
        }
        ck_assert_msg(error.fault == READ_TRUNCATED || (cut < 20 && error.fault == READ_FOREIGN), "%zu: %s", cut,
                      error.sentence);
        ck_assert_uint_le(error.offset, whole);
    }
    free(original);
}
END_TEST

START_TEST(a_directory_that_cannot_be_is_refused)
{
    make(synthetic_pinned);
    directory(HMK_FRAMES)->record_bytes = 24;
    refused(READ_DAMAGED);

    make(synthetic_pinned);
    directory(HMK_FRAMES)->first_records = 3;
    refused(READ_DAMAGED);

    make(synthetic_pinned);
    directory(HMK_FRAMES)->first_records = 0;
    refused(READ_DAMAGED);

    make(synthetic_pinned);
    directory(HMK_FRAMES)->count = UINT64_MAX;
    refused(READ_DAMAGED);

    make(synthetic_pinned);
    directory(HMK_FRAMES)->count = UINT32_MAX;
    refused(READ_TRUNCATED);

    make(synthetic_pinned);
    directory(HMK_SITES)->count = HMK_SITE_LIMIT + 1;
    refused(READ_DAMAGED);

    make(synthetic_pinned);
    directory(HMK_FRAMES)->chunk_offset[0] = 0;
    refused(READ_DAMAGED);

    make(synthetic_pinned);
    directory(HMK_FRAMES)->chunk_offset[0] += 8;
    refused(READ_DAMAGED);

    make(synthetic_pinned);
    directory(HMK_FRAMES)->chunk_offset[0] = UINT64_MAX - 4095;
    refused(READ_TRUNCATED);

    make(synthetic_pinned);
    directory(HMK_FRAMES)->chunk_offset[0] = directory(HMK_SITES)->chunk_offset[0];
    refused(READ_DAMAGED);
    ck_assert_ptr_nonnull(strstr(error.sentence, "overlap"));
}
END_TEST

START_TEST(references_out_of_range_are_refused)
{
    make(synthetic_pinned);
    ((struct hmk_frame *)first_record(HMK_FRAMES, 2))->parent = 2;
    refused(READ_DAMAGED);

    make(synthetic_pinned);
    ((struct hmk_frame *)first_record(HMK_FRAMES, 2))->ref = 3;
    refused(READ_DAMAGED);

    make(synthetic_pinned);
    ((struct hmk_frame *)first_record(HMK_FRAMES, 2))->ref = HMK_FRAME_PYTHON << HMK_FRAME_KIND_SHIFT;
    refused(READ_DAMAGED);
    ck_assert_ptr_nonnull(strstr(error.sentence, "code object"));

    make(synthetic_pinned);
    ((struct hmk_frame *)first_record(HMK_FRAMES, 2))->ref = HMK_FRAME_ENTRY << HMK_FRAME_KIND_SHIFT;
    refused(READ_DAMAGED);

    make(synthetic_pinned);
    ((struct hmk_frame *)first_record(HMK_FRAMES, 2))->ref = HMK_FRAME_LOOP << HMK_FRAME_KIND_SHIFT | 3;
    refused(READ_DAMAGED);

    make(synthetic_python);
    last_frame()->code = directory(HMK_FRAMES)->count - 1;
    refused(READ_DAMAGED);
    ck_assert_ptr_nonnull(strstr(error.sentence, "joins a path that does not exist"));

    /* A whole stack is no part of one. */
    make(synthetic_python);
    last_frame()->code = directory(HMK_FRAMES)->count - 2;
    refused(READ_DAMAGED);
    make(synthetic_python);
    last_frame()->parent = (uint32_t)directory(HMK_FRAMES)->count - 2;
    refused(READ_DAMAGED);
    ck_assert_ptr_nonnull(strstr(error.sentence, "lies on a whole stack"));

    make(synthetic_pinned);
    ((struct hmk_site *)first_record(HMK_SITES, 2))->frame = 99;
    refused(READ_DAMAGED);

    make(synthetic_pinned);
    ((struct hmk_cell_index *)first_record(HMK_CELL_INDEX, 0))->thread = 1;
    refused(READ_DAMAGED);

    make(synthetic_pinned);
    ((struct hmk_cell_index *)first_record(HMK_CELL_INDEX, 0))->first_site = 63;
    refused(READ_DAMAGED);

    make(synthetic_pinned);
    ((struct hmk_census *)first_record(HMK_CENSUSES, 0))->row_count = 2;
    refused(READ_DAMAGED);

    make(synthetic_pinned);
    ((struct hmk_census *)first_record(HMK_CENSUSES, 0))->row_first = UINT64_MAX;
    refused(READ_DAMAGED);

    make(synthetic_pinned);
    ((struct hmk_census_row *)first_record(HMK_CENSUS_ROWS, 0))->site = 99;
    refused(READ_DAMAGED);

    make(synthetic_pinned);
    ((struct hmk_pin *)first_record(HMK_PINS, 0))->site = 99;
    refused(READ_DAMAGED);
    ck_assert_ptr_nonnull(strstr(error.sentence, "offset"));
}
END_TEST

START_TEST(files_are_opened_and_refused_as_files)
{
    char directory_path[] = "/tmp/heapmark-test-XXXXXX", path[64];
    ck_assert_ptr_nonnull(mkdtemp(directory_path));
    ck_assert_ptr_null(read_open(directory_path, &error));
    ck_assert_int_eq(error.fault, READ_UNREACHABLE);

    snprintf(path, sizeof path, "%s/x.hmk", directory_path);
    ck_assert_ptr_null(read_open(path, &error));
    ck_assert_int_eq(error.fault, READ_UNREACHABLE);

    ck_assert_int_eq(mkfifo(path, 0600), 0);
    ck_assert_ptr_null(read_open(path, &error));
    ck_assert_int_eq(error.fault, READ_UNREACHABLE);
    unlink(path);

    make(synthetic_threads);
    int fd = open(path, O_CREAT | O_EXCL | O_WRONLY, 0600);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, bytes, size), (ssize_t)size);
    close(fd);
    struct read_file *file = read_open(path, &error);
    ck_assert_msg(file != NULL, "%s", error.sentence);
    ck_assert_uint_eq(read_size(file), size);
    ck_assert_uint_eq(read_count(file, HMK_THREADS), 2);
    read_close(file);

    ck_assert_int_eq(truncate(path, 20000), 0);
    ck_assert_ptr_null(read_open(path, &error));
    ck_assert_int_eq(error.fault, READ_TRUNCATED);
    free(bytes);
    unlink(path);
    rmdir(directory_path);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("read");
    TCase *tests = tcase_create("read");
    tcase_add_test(tests, reads_back_what_was_written);
    tcase_add_test(tests, every_record_of_many_chunks_is_found);
    tcase_add_test(tests, a_census_that_was_being_written_is_none);
    tcase_add_test(tests, strings_out_of_range_are_named_so);
    tcase_add_test(tests, raw_bytes_are_whole_or_none);
    tcase_add_test(tests, the_head_of_the_file_decides_what_it_is);
    tcase_add_test(tests, every_prefix_is_refused);
    tcase_add_test(tests, a_directory_that_cannot_be_is_refused);
    tcase_add_test(tests, references_out_of_range_are_refused);
    tcase_add_test(tests, files_are_opened_and_refused_as_files);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
