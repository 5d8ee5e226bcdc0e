/* SPDX-License-Identifier: MIT */
#include "recording_rules.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const size_t record_bytes[HMK_TABLE_SLOTS] = {
    [HMK_STRINGS] = 1,
    [HMK_MODULES] = sizeof(struct hmk_module),
    [HMK_FRAMES] = sizeof(struct hmk_frame),
    [HMK_SITES] = sizeof(struct hmk_site),
    [HMK_SITE_PEAKS] = sizeof(struct hmk_site_peak),
    [HMK_THREADS] = sizeof(struct hmk_thread),
    [HMK_CELL_INDEX] = sizeof(struct hmk_cell_index),
    [HMK_CELLS] = sizeof(struct hmk_cell_page),
    [HMK_TIMELINE_0] = sizeof(struct hmk_sample),
    [HMK_TIMELINE_1] = sizeof(struct hmk_sample),
    [HMK_EVENTS] = sizeof(struct hmk_event),
    [HMK_CENSUSES] = sizeof(struct hmk_census),
    [HMK_CENSUS_ROWS] = sizeof(struct hmk_census_row),
    [HMK_HISTOGRAMS] = sizeof(struct hmk_histogram),
    [HMK_CODES] = sizeof(struct hmk_code),
    [HMK_PINS] = sizeof(struct hmk_pin),
};

struct rules_file rules_load(const char *path)
{
    struct rules_file file = { NULL, 0 };
    struct stat status;
    int fd = open(path, O_RDONLY);
    if (fd < 0 || fstat(fd, &status) != 0)
        return file;
    file.bytes = malloc((size_t)status.st_size + 1);
    while (file.bytes && file.size < (size_t)status.st_size) {
        ssize_t got = pread(fd, file.bytes + file.size, (size_t)status.st_size - file.size, (off_t)file.size);
        if (got <= 0)
            break;
        file.size += (size_t)got;
    }
    close(fd);
    return file;
}

void rules_unload(struct rules_file *file)
{
    free(file->bytes);
    file->bytes = NULL;
}

const struct hmk_header *rules_header(const struct rules_file *file)
{
    return (const struct hmk_header *)file->bytes;
}

const struct hmk_live *rules_live(const struct rules_file *file)
{
    return (const struct hmk_live *)(file->bytes + 4096);
}

static const struct hmk_table *directory(const struct rules_file *file, unsigned id)
{
    return (const struct hmk_table *)(file->bytes + 8192) + id;
}

uint64_t rules_count(const struct rules_file *file, enum hmk_table_id id)
{
    return directory(file, id)->count;
}

const void *rules_record(const struct rules_file *file, enum hmk_table_id id, uint64_t index)
{
    const struct hmk_table *table = directory(file, id);
    uint64_t records = table->first_records;
    unsigned chunk = 0;
    while (index >= records) {
        index -= records;
        records *= 2;
        chunk++;
    }
    return file->bytes + table->chunk_offset[chunk] + index * table->record_bytes;
}

const char *rules_string(const struct rules_file *file, uint32_t offset)
{
    return offset == 0 ? "" : rules_record(file, HMK_STRINGS, offset);
}

static const char *broken(const char *format, unsigned id, uint64_t number)
{
    static char sentence[200];
    snprintf(sentence, sizeof(sentence), format, id, (unsigned long long)number);
    return sentence;
}

/* ---- rules --------------------------------------------------------------------------------------- */

static const char *header_broken(const struct rules_file *file)
{
    if (file->size < HMK_HEADER_BYTES)
        return broken("table %u: file of %llu bytes has no room for the head", 0, file->size);
    const struct hmk_header *header = rules_header(file);
    if (memcmp(header->magic, "HEAPMARK", 8) != 0)
        return "no magic";
    if (header->version != 1 || header->byte_order != 0x01020304 || header->header_bytes != 12288)
        return "version, byte order or header size";
    if (header->page_bytes < 4096 || (header->page_bytes & (header->page_bytes - 1)))
        return "page size";
    if (rules_live(file)->timeline_active > 1 || rules_live(file)->file_bytes > file->size)
        return "live totals";
    return NULL;
}

/* Each chunk that the count reaches is there, aligned and inside the file. */
static const char *chunks_broken(const struct rules_file *file, unsigned id)
{
    const struct hmk_table *table = directory(file, id);
    uint64_t covered = 0;
    if (table->record_bytes != record_bytes[id])
        return broken("table %u: records of %llu bytes", id, table->record_bytes);
    if (table->record_bytes == 0)
        return table->count ? broken("table %u: unused, but %llu records", id, table->count) : NULL;
    if (table->first_records == 0 || (table->first_records & (table->first_records - 1)))
        return broken("table %u: first chunk of %llu records", id, table->first_records);
    for (unsigned chunk = 0; chunk < HMK_TABLE_CHUNKS; chunk++) {
        uint64_t records = (uint64_t)table->first_records << chunk;
        uint64_t offset = table->chunk_offset[chunk];
        if (offset == 0 && covered < table->count)
            return broken("table %u: chunk %llu is missing", id, chunk);
        if (offset == 0)
            break;
        if (offset % rules_header(file)->page_bytes || offset < 12288)
            return broken("table %u: chunk at %llu", id, offset);
        if (offset + records * table->record_bytes > file->size)
            return broken("table %u: chunk at %llu goes beyond the file", id, offset);
        covered += records;
    }
    return NULL;
}

/* One bit for each page of the file: no page belongs to two chunks. */
static const char *overlap_broken(const struct rules_file *file)
{
    size_t page = rules_header(file)->page_bytes;
    unsigned char *taken = calloc(file->size / page + 2, 1);
    const char *result = NULL;
    for (unsigned id = 0; id < HMK_TABLE_SLOTS && !result; id++) {
        const struct hmk_table *table = directory(file, id);
        for (unsigned chunk = 0; chunk < HMK_TABLE_CHUNKS && table->chunk_offset[chunk] && !result; chunk++) {
            uint64_t first = table->chunk_offset[chunk] / page;
            uint64_t bytes = ((uint64_t)table->first_records << chunk) * table->record_bytes;
            for (uint64_t i = first; i < first + (bytes + page - 1) / page; i++) {
                if (taken[i])
                    result = broken("table %u: page %llu is in two chunks", id, i);
                taken[i] = 1;
            }
        }
    }
    free(taken);
    return result;
}

static const char *strings_broken(const struct rules_file *file)
{
    const struct hmk_table *table = directory(file, HMK_STRINGS);
    if (table->count == 0 || *(const char *)rules_record(file, HMK_STRINGS, 0) != 0)
        return "no empty string at offset 0";
    if (*(const char *)rules_record(file, HMK_STRINGS, table->count - 1) != 0)
        return "the last string has no end";
    uint64_t end = table->first_records;
    for (unsigned chunk = 0; end <= table->count; chunk++, end += (uint64_t)table->first_records << chunk)
        if (*(const char *)rules_record(file, HMK_STRINGS, end - 1) != 0)
            return broken("table %u: a string crosses offset %llu", HMK_STRINGS, end);
    return NULL;
}

static const char *stacks_broken(const struct rules_file *file)
{
    for (uint64_t i = 1; i < rules_count(file, HMK_FRAMES); i++) {
        const struct hmk_frame *frame = rules_record(file, HMK_FRAMES, i);
        if (frame->parent >= i)
            return broken("table %u: frame %llu is not below its parent", HMK_FRAMES, i);
        uint32_t kind = frame->ref >> HMK_FRAME_KIND_SHIFT;
        if (kind > HMK_FRAME_JOIN)
            return broken("table %u: frame %llu is of no kind", HMK_FRAMES, i);
        const struct hmk_frame *below = rules_record(file, HMK_FRAMES, frame->parent);
        if (below->ref >> HMK_FRAME_KIND_SHIFT == HMK_FRAME_JOIN)
            return broken("table %u: frame %llu lies on a join", HMK_FRAMES, i);
        if (kind == HMK_FRAME_JOIN) {
            if (frame->code == 0 || frame->code >= i || frame->parent == 0)
                return broken("table %u: frame %llu joins nothing", HMK_FRAMES, i);
            const struct hmk_frame *leaf = rules_record(file, HMK_FRAMES, frame->code);
            uint32_t leaf_kind = leaf->ref >> HMK_FRAME_KIND_SHIFT;
            if (leaf_kind != HMK_FRAME_PYTHON && leaf_kind != HMK_FRAME_ENTRY)
                return broken("table %u: frame %llu joins no Python path", HMK_FRAMES, i);
            continue;
        }
        bool python = kind == HMK_FRAME_PYTHON || kind == HMK_FRAME_ENTRY;
        if (!python && (frame->ref & 0x0fffffff) > rules_count(file, HMK_MODULES))
            return broken("table %u: frame %llu has no such module", HMK_FRAMES, i);
        if (python && (frame->ref & 0x0fffffff) >= rules_count(file, HMK_CODES))
            return broken("table %u: frame %llu has no such code object", HMK_FRAMES, i);
    }
    for (uint64_t i = 0; i < rules_count(file, HMK_SITES); i++) {
        const struct hmk_site *site = rules_record(file, HMK_SITES, i);
        if (site->frame >= rules_count(file, HMK_FRAMES))
            return broken("table %u: site %llu has no such frame", HMK_SITES, i);
    }
    return rules_count(file, HMK_SITES) >= HMK_SITE_FIRST && rules_count(file, HMK_FRAMES) >= 1 ? NULL
        : "no root frame or no fixed sites";
}

static const char *twins_broken(const struct rules_file *file)
{
    static const unsigned char twins[][2] = {
        { HMK_SITES, HMK_SITE_PEAKS }, { HMK_CELL_INDEX, HMK_CELLS }, { HMK_THREADS, HMK_HISTOGRAMS },
    };
    for (size_t i = 0; i < sizeof(twins) / sizeof(twins[0]); i++)
        if (rules_count(file, twins[i][0]) > rules_count(file, twins[i][1]))
            return broken("table %u is longer than its twin %llu", twins[i][0], twins[i][1]);
    return NULL;
}

static const char *timeline_broken(const struct rules_file *file)
{
    enum hmk_table_id id = rules_live(file)->timeline_active ? HMK_TIMELINE_1 : HMK_TIMELINE_0;
    uint64_t last = 0;
    if (rules_count(file, id) > HMK_TIMELINE_LIMIT)
        return broken("table %u: %llu points", id, rules_count(file, id));
    for (uint64_t i = 0; i < rules_count(file, id); i++) {
        const struct hmk_sample *sample = rules_record(file, id, i);
        if (sample->time_ns <= last)
            return broken("table %u: point %llu is not later than the one before", id, i);
        if (sample->live_bytes_max < sample->live_bytes || sample->rss_bytes_max < sample->rss_bytes)
            return broken("table %u: point %llu has a maximum below its value", id, i);
        last = sample->time_ns;
    }
    return NULL;
}

static const char *events_broken(const struct rules_file *file)
{
    const struct hmk_header *header = rules_header(file);
    const uint32_t strings[] = { header->exe, header->command, header->cwd, header->host, header->libc, header->options,
                                 header->unwinder };
    for (size_t i = 0; i < sizeof(strings) / sizeof(strings[0]); i++)
        if (strings[i] >= rules_count(file, HMK_STRINGS))
            return broken("table %u: header string %llu is out of range", HMK_STRINGS, i);
    if (rules_count(file, HMK_EVENTS) > HMK_EVENT_LIMIT)
        return "too many events";
    for (uint64_t i = 0; i < rules_count(file, HMK_EVENTS); i++) {
        const struct hmk_event *event = rules_record(file, HMK_EVENTS, i);
        if (event->kind == 0 || event->text >= rules_count(file, HMK_STRINGS))
            return broken("table %u: event %llu", HMK_EVENTS, i);
    }
    return NULL;
}

const char *rules_broken(const struct rules_file *file)
{
    const char *result = header_broken(file);
    for (unsigned id = 0; id < HMK_TABLE_SLOTS && !result; id++)
        result = chunks_broken(file, id);
    static const char *(*const rules[])(const struct rules_file *) = {
        overlap_broken, strings_broken, stacks_broken, twins_broken, timeline_broken, events_broken,
    };
    for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]) && !result; i++)
        result = rules[i](file);
    return result;
}

bool rules_unborn(const struct rules_file *file)
{
    static const char none[8];
    return file->size < HMK_HEADER_BYTES || memcmp(file->bytes, none, sizeof(none)) == 0;
}
