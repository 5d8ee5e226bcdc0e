/* SPDX-License-Identifier: MIT */
#include "contract/read.h"

/*
 * Nothing in the file is believed before it was compared with the file's size or with a count that was.
 * The essay in format.h says what the writer promises; here a broken promise becomes a read_error and
 * never an access out of range.
 */

#include "contract/publish.h"
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct table {
    struct hmk_table directory;
    unsigned char *records;         /* what is published, one chunk behind the other */
};

struct read_file {
    int fd;                         /* while loading; -1: over memory */
    const unsigned char *memory;
    uint64_t size;
    char *path;
    struct hmk_header header;
    struct hmk_live live;
    struct table table[HMK_TABLE_SLOTS];
};

static const struct {
    const char *name;
    uint32_t record_bytes;          /* 0: not interpreted by this version */
    uint64_t limit;
} tables[HMK_TABLE_SLOTS] = {
    [HMK_STRINGS] = { "strings", 1, UINT32_MAX },
    [HMK_MODULES] = { "modules", sizeof(struct hmk_module), 1u << HMK_FRAME_KIND_SHIFT },
    [HMK_FRAMES] = { "frames", sizeof(struct hmk_frame), UINT32_MAX },
    [HMK_SITES] = { "sites", sizeof(struct hmk_site), HMK_SITE_LIMIT },
    [HMK_SITE_PEAKS] = { "site_peaks", sizeof(struct hmk_site_peak), HMK_SITE_LIMIT },
    [HMK_THREADS] = { "threads", sizeof(struct hmk_thread), UINT32_MAX },
    [HMK_CELL_INDEX] = { "cell_index", sizeof(struct hmk_cell_index), UINT32_MAX },
    [HMK_CELLS] = { "cells", sizeof(struct hmk_cell_page), UINT32_MAX },
    [HMK_TIMELINE_0] = { "timeline_0", sizeof(struct hmk_sample), HMK_TIMELINE_LIMIT },
    [HMK_TIMELINE_1] = { "timeline_1", sizeof(struct hmk_sample), HMK_TIMELINE_LIMIT },
    [HMK_EVENTS] = { "events", sizeof(struct hmk_event), HMK_EVENT_LIMIT },
    [HMK_CENSUSES] = { "censuses", sizeof(struct hmk_census), UINT32_MAX },
    [HMK_CENSUS_ROWS] = { "census_rows", sizeof(struct hmk_census_row), UINT32_MAX },
    [HMK_HISTOGRAMS] = { "histograms", sizeof(struct hmk_histogram), UINT32_MAX },
    [HMK_CODES] = { "codes", sizeof(struct hmk_code), 1u << HMK_FRAME_KIND_SHIFT },
    [HMK_PINS] = { "pins", sizeof(struct hmk_pin), UINT32_MAX },
};

/* What refers comes before what it refers to; of two parallel tables, the one that is published last comes first.
 * So each reference of a live recording is into the part that was counted. */
static const unsigned char load_order[HMK_TABLE_SLOTS] = {
    HMK_CENSUSES, HMK_CENSUS_ROWS, HMK_PINS, HMK_EVENTS, HMK_TIMELINE_0, HMK_TIMELINE_1, HMK_CELL_INDEX, HMK_CELLS,
    HMK_THREADS, HMK_HISTOGRAMS, HMK_SITES, HMK_SITE_PEAKS, HMK_FRAMES, HMK_CODES, HMK_MODULES, HMK_STRINGS,
};

#define PAGE_BYTES_MIN 4096u
#define PAGE_BYTES_MAX (1u << 16)

__attribute__((format(printf, 5, 6)))
static bool fault(const struct read_file *file, struct read_error *error, enum read_fault kind, uint64_t offset,
                  const char *format, ...)
{
    error->fault = kind;
    error->offset = offset;
    int used = snprintf(error->sentence, sizeof error->sentence, "%.250s: ", file->path);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error->sentence + used, sizeof error->sentence - (size_t)used, format, arguments);
    va_end(arguments);
    return false;
}

/* ---- bytes of the file -------------------------------------------------------------------------- */

static bool copy_bytes(const struct read_file *file, void *to, uint64_t offset, uint64_t bytes,
                       struct read_error *error)
{
    if (offset > file->size || bytes > file->size - offset)
        return fault(file, error, READ_TRUNCATED, file->size, "truncated: ends at offset %llu, where more is announced",
                     (unsigned long long)file->size);
    if (file->fd < 0) {
        memcpy(to, file->memory + offset, bytes);
        return true;
    }
    for (uint64_t done = 0; done < bytes; ) {
        ssize_t n = pread(file->fd, (char *)to + done, bytes - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return fault(file, error, READ_UNREACHABLE, offset + done, "cannot be read at offset %llu: %s",
                         (unsigned long long)(offset + done), strerror(errno));
        if (n == 0)
            return fault(file, error, READ_TRUNCATED, offset + done, "truncated at offset %llu while it was read",
                         (unsigned long long)(offset + done));
        done += (uint64_t)n;
    }
    return true;
}

static bool find_size(struct read_file *file, struct read_error *error)
{
    struct stat status;
    if (file->fd < 0)
        return true;
    if (fstat(file->fd, &status) != 0)
        return fault(file, error, READ_UNREACHABLE, 0, "cannot be examined: %s", strerror(errno));
    if (S_ISDIR(status.st_mode))
        return fault(file, error, READ_UNREACHABLE, 0, "is a directory, not a recording");
    if (!S_ISREG(status.st_mode))
        return fault(file, error, READ_UNREACHABLE, 0, "is not a regular file");
    file->size = (uint64_t)status.st_size;
    return true;
}

/* ---- header ------------------------------------------------------------------------------------- */

static bool check_magic(const struct read_file *file, const struct hmk_header *header, struct read_error *error)
{
    static const char none[sizeof header->magic];
    if (memcmp(header->magic, HMK_MAGIC, sizeof header->magic) == 0)
        return true;
    if (memcmp(header->magic, none, sizeof none) == 0 && header->header_bytes == HMK_HEADER_BYTES)
        return fault(file, error, READ_UNBORN, 0,
                     "its process ended before the recording was set up (no magic at offset 0)");
    return fault(file, error, READ_FOREIGN, 0, "is not a heapmark recording (no magic at offset 0)");
}

static bool load_header(struct read_file *file, struct read_error *error)
{
    struct hmk_header *header = &file->header;
    uint64_t there = file->size < sizeof *header ? file->size : sizeof *header;

    if (file->size == 0)
        return fault(file, error, READ_EMPTY, 0, "is empty");
    if (!copy_bytes(file, header, 0, there, error))
        return false;
    if (there < offsetof(struct hmk_header, page_bytes)) {
        if (there >= sizeof header->magic && memcmp(header->magic, HMK_MAGIC, sizeof header->magic) == 0)
            return fault(file, error, READ_TRUNCATED, there, "truncated: ends at offset %llu inside the header",
                         (unsigned long long)there);
        return fault(file, error, READ_FOREIGN, 0, "is not a heapmark recording (no magic at offset 0)");
    }
    if (!check_magic(file, header, error))
        return false;
    if (header->byte_order == __builtin_bswap32(HMK_BYTE_ORDER))
        return fault(file, error, READ_OTHER_ORDER, offsetof(struct hmk_header, byte_order),
                     "was written on a machine of the other byte order (offset %zu)",
                     offsetof(struct hmk_header, byte_order));
    if (header->byte_order != HMK_BYTE_ORDER)
        return fault(file, error, READ_DAMAGED, offsetof(struct hmk_header, byte_order),
                     "damaged: no valid byte order at offset %zu", offsetof(struct hmk_header, byte_order));
    if (header->version > HMK_VERSION)
        return fault(file, error, READ_NEWER, offsetof(struct hmk_header, version),
                     "is format version %u, newer than version %u of this heapmark (offset %zu)", header->version,
                     HMK_VERSION, offsetof(struct hmk_header, version));
    if (header->version == 0 || header->header_bytes != HMK_HEADER_BYTES)
        return fault(file, error, READ_DAMAGED, offsetof(struct hmk_header, header_bytes),
                     "damaged: impossible header size at offset %zu", offsetof(struct hmk_header, header_bytes));
    if (file->size < HMK_HEADER_BYTES)
        return fault(file, error, READ_TRUNCATED, file->size, "truncated: ends at offset %llu inside the header",
                     (unsigned long long)file->size);
    if (header->page_bytes < PAGE_BYTES_MIN || header->page_bytes > PAGE_BYTES_MAX
        || (header->page_bytes & (header->page_bytes - 1)) != 0)
        return fault(file, error, READ_DAMAGED, offsetof(struct hmk_header, page_bytes),
                     "damaged: impossible page size at offset %zu", offsetof(struct hmk_header, page_bytes));
    header->tool_version[sizeof header->tool_version - 1] = 0;
    return true;
}

static bool load_live(struct read_file *file, struct read_error *error)
{
    if (!copy_bytes(file, &file->live, HMK_LIVE_OFFSET, sizeof file->live, error))
        return false;
    file->live.request_label[sizeof file->live.request_label - 1] = 0;
    if (file->live.timeline_active > 1)
        return fault(file, error, READ_DAMAGED, HMK_LIVE_OFFSET + offsetof(struct hmk_live, timeline_active),
                     "damaged: impossible timeline at offset %zu",
                     HMK_LIVE_OFFSET + offsetof(struct hmk_live, timeline_active));
    return true;
}

/* ---- tables ------------------------------------------------------------------------------------- */

static uint64_t directory_offset(unsigned id)
{
    return HMK_TABLES_OFFSET + (uint64_t)id * sizeof(struct hmk_table);
}

static bool check_directory(const struct read_file *file, unsigned id, struct read_error *error)
{
    const struct hmk_table *directory = &file->table[id].directory;
    unsigned long long at = directory_offset(id);
    uint32_t record_bytes = directory->record_bytes;

    if (directory->count == 0 && record_bytes == 0)
        return true;
    if (record_bytes == 0 || (tables[id].record_bytes != 0 && record_bytes != tables[id].record_bytes))
        return fault(file, error, READ_DAMAGED, at, "damaged: table %s has records of %u bytes (offset %llu)",
                     tables[id].name, record_bytes, at);
    if (directory->first_records == 0 || (directory->first_records & (directory->first_records - 1)) != 0)
        return fault(file, error, READ_DAMAGED, at, "damaged: table %s has an impossible chunk size (offset %llu)",
                     tables[id].name, at);
    if (directory->count > tables[id].limit)
        return fault(file, error, READ_DAMAGED, at, "damaged: table %s has %llu records, more than there can be "
                     "(offset %llu)", tables[id].name, (unsigned long long)directory->count, at);
    if (directory->count > file->size / record_bytes)
        return fault(file, error, READ_TRUNCATED, at, "truncated: %llu records of table %s do not fit into its "
                     "%llu bytes (offset %llu)", (unsigned long long)directory->count, tables[id].name,
                     (unsigned long long)file->size, at);
    return true;
}

/* Chunk `chunk` of the table: *records of it are published; false when there is a fault. */
static bool check_chunk(const struct read_file *file, unsigned id, unsigned chunk, uint64_t *records,
                        struct read_error *error)
{
    const struct hmk_table *directory = &file->table[id].directory;
    unsigned long long at = directory_offset(id) + offsetof(struct hmk_table, chunk_offset) + chunk * 8ull;
    uint64_t offset = directory->chunk_offset[chunk];
    uint64_t left = directory->count - hmk_chunk_first(chunk, directory->first_records);
    uint64_t capacity = hmk_chunk_records(chunk, directory->first_records);

    *records = left < capacity ? left : capacity;
    if (offset < HMK_HEADER_BYTES || offset % file->header.page_bytes != 0)
        return fault(file, error, READ_DAMAGED, at, "damaged: chunk %u of table %s starts at %llu (offset %llu)", chunk,
                     tables[id].name, (unsigned long long)offset, at);
    if (offset > file->size || *records > (file->size - offset) / directory->record_bytes)
        return fault(file, error, READ_TRUNCATED, file->size,
                     "truncated: ends at offset %llu inside table %s, which goes on to offset %llu",
                     (unsigned long long)file->size, tables[id].name,
                     (unsigned long long)(offset + *records * directory->record_bytes));
    return true;
}

static bool load_table(struct read_file *file, unsigned id, struct read_error *error)
{
    struct table *table = &file->table[id];
    const struct hmk_table *directory = &table->directory;

    if (hmk_chunk_first(HMK_TABLE_CHUNKS, directory->first_records) < directory->count)
        return fault(file, error, READ_DAMAGED, directory_offset(id), "damaged: table %s has more records than its "
                     "chunks hold (offset %llu)", tables[id].name, (unsigned long long)directory_offset(id));
    /* check_directory has compared this with the size of the file. */
    uint64_t all = directory->count * directory->record_bytes;
    if (all == 0)
        return true;
    table->records = malloc(all);
    if (!table->records)
        return fault(file, error, READ_NO_MEMORY, directory->chunk_offset[0],
                     "needs %llu bytes of memory for table %s at offset %llu", (unsigned long long)all, tables[id].name,
                     (unsigned long long)directory->chunk_offset[0]);
    unsigned char *to = table->records;
    for (unsigned chunk = 0; chunk < HMK_TABLE_CHUNKS; chunk++) {
        uint64_t records;
        if (hmk_chunk_first(chunk, directory->first_records) >= directory->count)
            break;
        if (!check_chunk(file, id, chunk, &records, error)
            || !copy_bytes(file, to, directory->chunk_offset[chunk], records * directory->record_bytes, error))
            return false;
        to += records * directory->record_bytes;
    }
    return true;
}

struct extent {
    uint64_t start, end;
    unsigned id;
};

static int extent_compare(const void *a, const void *b)
{
    const struct extent *x = a, *y = b;
    return x->start < y->start ? -1 : x->start > y->start;
}

/* Two chunks at one place mean that one of them is wrong, and would let a small file ask for much memory. */
static bool check_overlap(const struct read_file *file, struct read_error *error)
{
    struct extent extents[HMK_TABLE_SLOTS * HMK_TABLE_CHUNKS];
    size_t count = 0;

    for (unsigned id = 0; id < HMK_TABLE_SLOTS; id++) {
        const struct hmk_table *directory = &file->table[id].directory;
        for (unsigned chunk = 0; chunk < HMK_TABLE_CHUNKS; chunk++) {
            uint64_t records;
            if (hmk_chunk_first(chunk, directory->first_records) >= directory->count)
                break;
            if (!check_chunk(file, id, chunk, &records, error))
                return false;
            uint64_t start = directory->chunk_offset[chunk];
            extents[count++] = (struct extent){ start, start + records * directory->record_bytes, id };
        }
    }
    qsort(extents, count, sizeof *extents, extent_compare);
    for (size_t i = 1; i < count; i++)
        if (extents[i].start < extents[i - 1].end)
            return fault(file, error, READ_DAMAGED, extents[i].start, "damaged: tables %s and %s overlap at offset %llu",
                         tables[extents[i - 1].id].name, tables[extents[i].id].name,
                         (unsigned long long)extents[i].start);
    return true;
}

static bool load_directory(struct read_file *file, struct read_error *error)
{
    for (size_t i = 0; i < HMK_TABLE_SLOTS; i++) {
        unsigned id = load_order[i];
        if (!copy_bytes(file, &file->table[id].directory, directory_offset(id), sizeof(struct hmk_table), error))
            return false;
    }
    /* The file may have grown meanwhile; it never shrinks. */
    if (!find_size(file, error))
        return false;
    for (unsigned id = 0; id < HMK_TABLE_SLOTS; id++)
        if (!check_directory(file, id, error))
            return false;
    return check_overlap(file, error);
}

/* ---- references --------------------------------------------------------------------------------- */

static uint64_t record_offset(const struct read_file *file, enum hmk_table_id id, uint64_t index)
{
    const struct hmk_table *directory = &file->table[id].directory;
    unsigned chunk = hmk_chunk_of(index, directory->first_records);
    return directory->chunk_offset[chunk]
           + (index - hmk_chunk_first(chunk, directory->first_records)) * directory->record_bytes;
}

static bool bad_record(const struct read_file *file, struct read_error *error, enum hmk_table_id id, uint64_t index,
                       const char *what)
{
    unsigned long long offset = record_offset(file, id, index);
    return fault(file, error, READ_DAMAGED, offset, "damaged: record %llu of table %s %s (offset %llu)",
                 (unsigned long long)index, tables[id].name, what, offset);
}

static bool is_join(const struct read_file *file, uint32_t frame)
{
    return read_frame(file, frame)->ref >> HMK_FRAME_KIND_SHIFT == HMK_FRAME_JOIN;
}

static bool check_frames(const struct read_file *file, struct read_error *error)
{
    uint64_t modules = read_count(file, HMK_MODULES), codes = read_count(file, HMK_CODES);
    for (uint64_t i = 1; i < read_count(file, HMK_FRAMES); i++) {
        const struct hmk_frame *frame = read_frame(file, i);
        uint32_t kind = frame->ref >> HMK_FRAME_KIND_SHIFT, number = frame->ref & ((1u << HMK_FRAME_KIND_SHIFT) - 1);
        if (frame->parent >= i)
            return bad_record(file, error, HMK_FRAMES, i, "is not below its parent");
        if ((kind <= HMK_FRAME_SIGNAL || kind == HMK_FRAME_LOOP) && number > modules)
            return bad_record(file, error, HMK_FRAMES, i, "is in a module that does not exist");
        if ((kind == HMK_FRAME_PYTHON || kind == HMK_FRAME_ENTRY) && number >= codes)
            return bad_record(file, error, HMK_FRAMES, i, "is of a code object that does not exist");
        if (kind == HMK_FRAME_JOIN && frame->code >= i)
            return bad_record(file, error, HMK_FRAMES, i, "joins a path that does not exist");
        if (is_join(file, frame->parent) || (kind == HMK_FRAME_JOIN && is_join(file, (uint32_t)frame->code)))
            return bad_record(file, error, HMK_FRAMES, i, "lies on a whole stack");
    }
    return true;
}

static bool check_sites(const struct read_file *file, struct read_error *error)
{
    uint64_t frames = read_count(file, HMK_FRAMES);
    for (uint64_t i = 0; i < read_count(file, HMK_SITES); i++) {
        uint32_t frame = read_site(file, i)->frame;
        if (frame != 0 && frame >= frames)
            return bad_record(file, error, HMK_SITES, i, "has a frame that does not exist");
    }
    for (uint64_t i = 0; i < read_count(file, HMK_CELL_INDEX); i++) {
        const struct hmk_cell_index *index = read_cell_index(file, i);
        if (index->first_site % HMK_CELLS_PER_PAGE != 0 || index->first_site >= HMK_SITE_LIMIT)
            return bad_record(file, error, HMK_CELL_INDEX, i, "is of sites that cannot exist");
        if (index->thread >= read_count(file, HMK_THREADS))
            return bad_record(file, error, HMK_CELL_INDEX, i, "is of a thread that does not exist");
    }
    return true;
}

static bool check_range(uint64_t first, uint64_t count, uint64_t limit)
{
    return count == 0 || (first < limit && count <= limit - first);
}

static bool check_censuses(const struct read_file *file, struct read_error *error)
{
    uint64_t rows = read_count(file, HMK_CENSUS_ROWS), pins = read_count(file, HMK_PINS);
    uint64_t sites = read_count(file, HMK_SITES);

    for (uint64_t i = 0; i < read_count(file, HMK_CENSUSES); i++) {
        const struct hmk_census *census = read_census(file, i);
        if (!census)
            continue;
        if (!check_range(census->row_first, census->row_count, rows))
            return bad_record(file, error, HMK_CENSUSES, i, "has rows that do not exist");
        if (!check_range(census->pin_first, census->pin_count, pins))
            return bad_record(file, error, HMK_CENSUSES, i, "has pins that do not exist");
        for (uint64_t row = census->row_first; row < census->row_first + census->row_count; row++)
            if (read_census_row(file, row)->site >= sites)
                return bad_record(file, error, HMK_CENSUS_ROWS, row, "is of a site that does not exist");
        for (uint64_t pin = census->pin_first; pin < census->pin_first + census->pin_count; pin++)
            if (read_pin(file, pin)->site >= sites)
                return bad_record(file, error, HMK_PINS, pin, "is of a site that does not exist");
    }
    return true;
}

/* A census is rewritten as a whole, with its rows: one whose sequence moved while we copied is copied again,
 * or given up as being written. */
static bool settle_censuses(struct read_file *file, struct read_error *error)
{
    if (file->fd < 0)
        return true;
    for (uint64_t i = 0; i < read_count(file, HMK_CENSUSES); i++) {
        uint64_t offset = record_offset(file, HMK_CENSUSES, i);
        struct hmk_census *census = (struct hmk_census *)read_record(file, HMK_CENSUSES, i);
        uint32_t now;
        if (!copy_bytes(file, &now, offset, sizeof now, error))
            return false;
        if (now != census->sequence)
            census->sequence |= 1;
    }
    return true;
}

/* ---- open and close ----------------------------------------------------------------------------- */

static bool load(struct read_file *file, struct read_error *error)
{
    if (!find_size(file, error) || !load_header(file, error) || !load_live(file, error)
        || !load_directory(file, error))
        return false;
    for (size_t i = 0; i < HMK_TABLE_SLOTS; i++)
        if (!load_table(file, load_order[i], error))
            return false;
    return settle_censuses(file, error) && check_frames(file, error) && check_sites(file, error)
           && check_censuses(file, error);
}

static struct read_file *open_over(int fd, const void *bytes, size_t size, const char *name, struct read_error *error)
{
    struct read_file *file = calloc(1, sizeof *file);
    char *path = strdup(name);
    if (!file || !path) {
        free(file);
        free(path);
        *error = (struct read_error){ READ_NO_MEMORY, 0, "out of memory" };
        return NULL;
    }
    file->fd = fd;
    file->memory = bytes;
    file->size = size;
    file->path = path;
    *error = (struct read_error){ .fault = READ_FINE };
    if (load(file, error))
        return file;
    read_close(file);
    return NULL;
}

struct read_file *read_open(const char *path, struct read_error *error)
{
    /* A FIFO must not block us; what is no regular file is refused later. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        *error = (struct read_error){ .fault = READ_UNREACHABLE };
        snprintf(error->sentence, sizeof error->sentence, "%.250s: cannot be opened: %s", path, strerror(errno));
        return NULL;
    }
    struct read_file *file = open_over(fd, NULL, 0, path, error);
    close(fd);
    if (file)
        file->fd = -1;
    return file;
}

struct read_file *read_memory(const void *bytes, size_t size, const char *name, struct read_error *error)
{
    struct read_file *file = open_over(-1, bytes, size, name, error);
    if (file)
        file->memory = NULL;
    return file;
}

void read_close(struct read_file *file)
{
    if (!file)
        return;
    for (unsigned id = 0; id < HMK_TABLE_SLOTS; id++)
        free(file->table[id].records);
    free(file->path);
    free(file);
}

/* ---- access ------------------------------------------------------------------------------------- */

const char *read_path(const struct read_file *file)
{
    return file->path;
}

uint64_t read_size(const struct read_file *file)
{
    return file->size;
}

const struct hmk_header *read_header(const struct read_file *file)
{
    return &file->header;
}

const struct hmk_live *read_live(const struct read_file *file)
{
    return &file->live;
}

const char *read_table_name(enum hmk_table_id id)
{
    return (unsigned)id < HMK_TABLE_SLOTS ? tables[id].name : NULL;
}

uint64_t read_count(const struct read_file *file, enum hmk_table_id id)
{
    return file->table[id].directory.count;
}

uint32_t read_record_bytes(const struct read_file *file, enum hmk_table_id id)
{
    return file->table[id].directory.record_bytes;
}

uint64_t read_chunk_bytes(const struct read_file *file, enum hmk_table_id id)
{
    const struct hmk_table *directory = &file->table[id].directory;
    uint64_t bytes = 0;
    for (unsigned chunk = 0; chunk < HMK_TABLE_CHUNKS && directory->chunk_offset[chunk] != 0; chunk++)
        bytes += hmk_chunk_records(chunk, directory->first_records) * directory->record_bytes;
    return bytes < file->size ? bytes : file->size;
}

const void *read_record(const struct read_file *file, enum hmk_table_id id, uint64_t index)
{
    const struct table *table = &file->table[id];
    return index < table->directory.count ? table->records + index * table->directory.record_bytes : NULL;
}

/* Bytes from `offset` on that belong together: nothing that a writer stores crosses from one chunk to the next. */
static uint64_t bytes_from(const struct table *table, uint64_t offset)
{
    unsigned chunk = hmk_chunk_of(offset, table->directory.first_records);
    uint64_t end = hmk_chunk_first(chunk + 1, table->directory.first_records);
    return (end < table->directory.count ? end : table->directory.count) - offset;
}

const char *read_string(const struct read_file *file, uint32_t offset)
{
    const struct table *table = &file->table[HMK_STRINGS];
    if (offset == 0)
        return "";
    if (offset >= table->directory.count || !memchr(table->records + offset, 0, bytes_from(table, offset)))
        return "(damaged)";
    return (const char *)table->records + offset;
}

const unsigned char *read_bytes(const struct read_file *file, uint32_t offset, uint32_t bytes)
{
    const struct table *table = &file->table[HMK_STRINGS];
    if (bytes == 0 || offset >= table->directory.count)
        return NULL;
    return bytes <= bytes_from(table, offset) ? table->records + offset : NULL;
}

const struct hmk_census *read_census(const struct read_file *file, uint64_t index)
{
    const struct hmk_census *census = read_record(file, HMK_CENSUSES, index);
    return census && census->sequence != 0 && census->sequence % 2 == 0 ? census : NULL;
}
