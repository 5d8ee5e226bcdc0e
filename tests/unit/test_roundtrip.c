/* SPDX-License-Identifier: MIT */
/* What the writer wrote, as the reader reads it: every table, while the process lives and afterwards. */
#include "contract/read.h"
#include "shim/recording.h"
#include "shim/recording_parts.h"
#include "shim/settings.h"

#include <check.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char path[] = "/tmp/heapmark-test-XXXXXX";
static char options[] = "HEAPMARK_OPTIONS=depth=64:free_sites=1";

static void set_up(void)
{
    char out[64], complaint[100];
    char *environment[] = { out, options, NULL };
    struct settings settings;
    strcpy(path + sizeof(path) - 7, "XXXXXX");
    close(mkstemp(path));
    unlink(path);
    snprintf(out, sizeof(out), "HEAPMARK_OUT=%s", path);
    settings_read(&settings, environment, complaint, sizeof(complaint));
    recording_detach();
    ck_assert(recording_open(&settings, environment));
    ck_assert_str_eq(recording_path(), path);
}

static void tear_down(void)
{
    recording_file_leave(&recording_file);
    unlink(path);
}

static struct read_file *read_back(void)
{
    struct read_error error;
    struct read_file *file = read_open(path, &error);
    ck_assert_msg(file != NULL, "%s", error.sentence);
    return file;
}

/* Bytes that depend on the table and the index, so that a misplaced record is found. */
static void scramble(void *record, size_t bytes, unsigned id, uint64_t index)
{
    uint64_t x = (index + 1) * 0x9e3779b97f4a7c15u ^ (uint64_t)id << 56;
    for (size_t i = 0; i < bytes; i++) {
        x = x * 6364136223846793005u + 1442695040888963407u;
        ((unsigned char *)record)[i] = (unsigned char)(x >> 56);
    }
}

/* Record `index` of a table: scrambled, but with references that exist. */
static void make_record(void *record, enum hmk_table_id id, uint64_t index)
{
    scramble(record, recording_tables[id].record_bytes, id, index);
    switch (id) {
    case HMK_MODULES: {
        struct hmk_module *module = record;
        module->path = 0;
        module->build_id_bytes = 20;
        break;
    }
    case HMK_FRAMES: {
        struct hmk_frame *frame = record;
        frame->parent = (uint32_t)(frame->parent % index);
        frame->ref = HMK_FRAME_NATIVE << HMK_FRAME_KIND_SHIFT | (frame->ref % 3);
        break;
    }
    case HMK_CODES: {
        struct hmk_code *code = record;
        code->file = code->name = 0;
        break;
    }
    case HMK_SITES: {
        struct hmk_site *site = record;
        site->frame %= 100;
        site->flags = HMK_KIND_MAPPING | HMK_SITE_CUT;
        break;
    }
    case HMK_CELL_INDEX: {
        struct hmk_cell_index *cell = record;
        cell->thread = (uint32_t)(index % 20);
        cell->first_site = (uint32_t)index % 500 * HMK_CELLS_PER_PAGE;
        break;
    }
    default:
        break;
    }
}

static union {
    char bytes[4096];
    uint64_t words[512];
} one, other;

static void append_many(enum hmk_table_id id, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        uint64_t index = recording_count(id);
        make_record(&one, id, index);
        ck_assert_uint_eq(recording_append(id, &one), index);
    }
}

static void append_pairs(enum hmk_table_id id, enum hmk_table_id twin, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        uint64_t index = recording_count(id);
        make_record(&one, id, index);
        make_record(&other, twin, index);
        ck_assert_uint_eq(recording_append_pair(id, &one, twin, &other), index);
    }
}

static void compare(const struct read_file *file, enum hmk_table_id id, uint64_t first, uint64_t count)
{
    ck_assert_uint_eq(read_record_bytes(file, id), recording_tables[id].record_bytes);
    ck_assert_uint_eq(read_count(file, id), count);
    for (uint64_t index = first; index < count; index++) {
        make_record(&one, id, index);
        if (memcmp(read_record(file, id, index), &one, recording_tables[id].record_bytes) != 0)
            ck_abort_msg("record %llu of table %s is another one", (unsigned long long)index, read_table_name(id));
    }
    ck_assert_ptr_null(read_record(file, id, count));
}

/* A frame and a site of it at once, over the ends of chunks and among other frames. */
START_TEST(sites_come_with_their_leaf)
{
    enum { SITES = 7000 };
    uint64_t frames = recording_count(HMK_FRAMES), frame[SITES];
    for (uint32_t i = 0; i < SITES; i++) {
        struct hmk_frame leaf = {.code = i, .parent = (uint32_t)frames - 1, .ref = (uint32_t)HMK_FRAME_NATIVE << HMK_FRAME_KIND_SHIFT};
        struct hmk_site site = {.flags = HMK_KIND_MAPPING, .first_ns = i};
        if (i % 3 == 0)
            ck_assert_uint_eq(recording_append(HMK_FRAMES, &leaf), frames++);
        frame[i] = frames++;
        ck_assert_uint_eq(recording_append_site(&leaf, &site), HMK_SITE_FIRST + i);
        ck_assert_uint_eq(site.frame, frame[i]);
    }
    struct read_file *file = read_back();
    ck_assert_uint_eq(read_count(file, HMK_FRAMES), frames);
    ck_assert_uint_eq(read_count(file, HMK_SITES), HMK_SITE_FIRST + SITES);
    ck_assert_uint_eq(read_count(file, HMK_SITE_PEAKS), HMK_SITE_FIRST + SITES);
    static const struct hmk_site_peak none;
    for (uint32_t i = 0; i < SITES; i++) {
        const struct hmk_site *site = read_site(file, HMK_SITE_FIRST + i);
        ck_assert_uint_eq(site->frame, frame[i]);
        ck_assert_uint_eq(site->flags, HMK_KIND_MAPPING);
        ck_assert_uint_eq(site->first_ns, i);
        ck_assert_uint_eq(read_frame(file, frame[i])->code, i);
        ck_assert_mem_eq(read_record(file, HMK_SITE_PEAKS, HMK_SITE_FIRST + i), &none, sizeof none);
    }
    read_close(file);
}
END_TEST

START_TEST(tables_come_back)
{
    append_many(HMK_MODULES, 300);
    append_many(HMK_FRAMES, 9000);
    append_many(HMK_CODES, 700);
    append_pairs(HMK_SITES, HMK_SITE_PEAKS, 5000);
    append_pairs(HMK_THREADS, HMK_HISTOGRAMS, 40);
    append_pairs(HMK_CELL_INDEX, HMK_CELLS, 300);
    struct read_file *file = read_back();
    compare(file, HMK_MODULES, 0, 300);
    compare(file, HMK_FRAMES, 1, 9001);
    compare(file, HMK_CODES, 0, 700);
    compare(file, HMK_SITES, HMK_SITE_FIRST, 5000 + HMK_SITE_FIRST);
    compare(file, HMK_SITE_PEAKS, HMK_SITE_FIRST, 5000 + HMK_SITE_FIRST);
    compare(file, HMK_THREADS, 0, 40);
    compare(file, HMK_HISTOGRAMS, 0, 40);
    compare(file, HMK_CELL_INDEX, 0, 300);
    compare(file, HMK_CELLS, 0, 300);
    read_close(file);
}
END_TEST

START_TEST(header_and_totals_come_back)
{
    recording_live->heap.live_bytes = 12345;
    recording_live->unknown_frees = 6;
    recording_header->unwinder = recording_string("fast", 4);
    recording_end(HMK_STATE_EXITED, 3);
    struct read_file *file = read_back();
    const struct hmk_header *header = read_header(file);
    ck_assert_mem_eq(header, recording_header, sizeof(*header));
    ck_assert_mem_eq(read_live(file), recording_live, sizeof(struct hmk_live));
    ck_assert_uint_eq(header->depth_max, 64);
    ck_assert_uint_eq(header->flags, HMK_FLAG_FREE_SITES);
    ck_assert_str_eq(read_string(file, header->unwinder), "fast");
    ck_assert_str_eq(read_string(file, header->options), "depth=64:free_sites=1");
    ck_assert_uint_eq(read_size(file), recording_live->file_bytes);
    read_close(file);
}
END_TEST

START_TEST(strings_and_events_come_back)
{
    enum { EVENTS = 500 };
    char text[64];
    for (unsigned i = 0; i < EVENTS; i++) {
        snprintf(text, sizeof(text), "event %u%.*s", i, (int)(i % 40), "........................................");
        recording_event(HMK_EVENT_MARK, i, i + 1, i + 2, i + 3, text);
    }
    struct read_file *file = read_back();
    ck_assert_uint_eq(read_count(file, HMK_EVENTS), EVENTS);
    for (unsigned i = 0; i < EVENTS; i++) {
        const struct hmk_event *event = read_event(file, i);
        snprintf(text, sizeof(text), "event %u%.*s", i, (int)(i % 40), "........................................");
        ck_assert_str_eq(read_string(file, event->text), text);
        ck_assert_uint_eq(event->a + event->d, 2 * i + 3);
    }
    read_close(file);
}
END_TEST

/* Bytes, NULs among them, of every length that the writer takes. */
START_TEST(line_tables_come_back)
{
    enum { CODES = 300 };
    static char lines[RECORDING_STRING_LONGEST];
    for (uint32_t i = 0; i < CODES; i++) {
        uint32_t bytes = i == 0 ? RECORDING_STRING_LONGEST : i * 7;
        scramble(lines, bytes, HMK_STRINGS, i);
        struct hmk_code code = { .name = recording_string("<module>", 8), .first_line = i, .version = 3u << 8 | 11,
                                 .lines = recording_string(lines, bytes), .line_bytes = bytes };
        struct hmk_frame frame = { .code = i, .ref = HMK_FRAME_PYTHON << HMK_FRAME_KIND_SHIFT | i };
        ck_assert_uint_eq(recording_append(HMK_CODES, &code), i);
        recording_append(HMK_FRAMES, &frame);
    }
    struct read_file *file = read_back();
    ck_assert_uint_eq(read_count(file, HMK_CODES), CODES);
    for (uint32_t i = 0; i < CODES; i++) {
        const struct hmk_code *code = read_code(file, i);
        const unsigned char *back = read_bytes(file, code->lines, code->line_bytes);
        scramble(lines, code->line_bytes, HMK_STRINGS, i);
        ck_assert_str_eq(read_string(file, code->name), "<module>");
        ck_assert(back != NULL && memcmp(back, lines, code->line_bytes) == 0);
    }
    ck_assert_ptr_null(read_code(file, CODES));
    read_close(file);
}
END_TEST

START_TEST(censuses_come_back)
{
    for (uint32_t i = 0; i < 12; i++) {
        uint64_t rows = recording_append_zeroed(HMK_CENSUS_ROWS, 50 * i + 1);
        uint64_t pins = recording_append_zeroed(HMK_PINS, i + 1);
        struct hmk_census *census = recording_at(HMK_CENSUSES, recording_append_zeroed(HMK_CENSUSES, 1));
        ((struct hmk_census_row *)recording_at(HMK_CENSUS_ROWS, rows))->held_bytes = i;
        ((struct hmk_pin *)recording_at(HMK_PINS, pins + i))->gain_bytes = i;
        census->row_first = rows;
        census->row_count = 50 * i + 1;
        census->pin_first = pins;
        census->pin_count = i + 1;
        census->rss_bytes = i;
        HMK_PUBLISH(census->sequence, i == 7 ? 1u : 2u);
    }
    struct read_file *file = read_back();
    ck_assert_uint_eq(read_count(file, HMK_CENSUSES), 12);
    for (uint32_t i = 0; i < 12; i++) {
        const struct hmk_census *census = read_census(file, i);
        ck_assert(i == 7 ? census == NULL : census != NULL);
        if (!census)
            continue;
        ck_assert_uint_eq(census->rss_bytes, i);
        ck_assert_uint_eq(read_census_row(file, census->row_first)->held_bytes, i);
        ck_assert_uint_eq(read_pin(file, census->pin_first + i)->gain_bytes, i);
    }
    read_close(file);
}
END_TEST

START_TEST(timeline_comes_back)
{
    for (uint64_t i = 0; i < 3000; i++) {
        struct hmk_sample sample = { .time_ns = i * 10000000 + 1, .rss_bytes = i };
        recording_sample(&sample);
        if (i % 100)
            continue;
        struct read_file *file = read_back();
        enum hmk_table_id id = read_timeline(file);
        const struct hmk_sample *last = read_record(file, id, read_count(file, id) - 1);
        ck_assert_uint_eq(last->rss_bytes_max, i);
        ck_assert_uint_eq(last->time_ns, sample.time_ns);
        read_close(file);
    }
}
END_TEST

static bool stop;

static void *append_all_the_time(void *unused)
{
    static const struct hmk_cell_page page;
    static const struct hmk_thread thread;
    static const struct hmk_histogram histogram;
    static const struct hmk_site_peak peak;
    for (uint64_t i = 0; !__atomic_load_n(&stop, __ATOMIC_RELAXED) && i < 600000; i++) {
        struct hmk_frame frame = { .parent = (uint32_t)(i / 2), .code = i };
        struct hmk_site site = { .frame = (uint32_t)recording_append(HMK_FRAMES, &frame) };
        recording_append_pair(HMK_SITES, &site, HMK_SITE_PEAKS, &peak);
        if (i % 1024 == 0)
            recording_append_pair(HMK_THREADS, &thread, HMK_HISTOGRAMS, &histogram);
        struct hmk_cell_index index = { .thread = (uint32_t)(i / 1024) };
        if (i % 512 == 511)
            recording_append_pair(HMK_CELL_INDEX, &index, HMK_CELLS, &page);
        struct hmk_sample sample = { .time_ns = i * 10000000 + 1 };
        if (i % 4 == 0)
            recording_sample(&sample);
        if (i % 256 == 0)
            recording_event(HMK_EVENT_MARK, i, 0, 0, 0, "in between");
    }
    return unused;
}

START_TEST(reading_a_process_that_writes)
{
    pthread_t thread;
    stop = false;
    ck_assert_int_eq(pthread_create(&thread, NULL, append_all_the_time, NULL), 0);
    uint64_t sites = 0;
    for (int i = 0; i < 40; i++) {
        struct read_file *file = read_back();
        ck_assert_uint_ge(read_count(file, HMK_SITES), sites);
        sites = read_count(file, HMK_SITES);
        read_close(file);
    }
    __atomic_store_n(&stop, true, __ATOMIC_RELAXED);
    pthread_join(thread, NULL);
    struct read_file *file = read_back();
    ck_assert_uint_eq(read_count(file, HMK_SITES), recording_count(HMK_SITES));
    read_close(file);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("roundtrip");
    TCase *all = tcase_create("all");
    tcase_add_checked_fixture(all, set_up, tear_down);
    tcase_set_timeout(all, 60);
    tcase_add_test(all, sites_come_with_their_leaf);
    tcase_add_test(all, tables_come_back);
    tcase_add_test(all, header_and_totals_come_back);
    tcase_add_test(all, strings_and_events_come_back);
    tcase_add_test(all, line_tables_come_back);
    tcase_add_test(all, censuses_come_back);
    tcase_add_test(all, timeline_comes_back);
    tcase_add_test(all, reading_a_process_that_writes);
    suite_add_tcase(suite, all);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failures = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failures ? 1 : 0;
}
