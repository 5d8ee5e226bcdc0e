/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_CONTRACT_READ_H
#define HEAPMARK_CONTRACT_READ_H

/*
 * Reading a recording: of a live process, a dead one, a truncated copy or a hostile file.
 *
 * read_open copies what is published into private memory, so that nothing changes or disappears under the
 * caller, and checks it once: every chunk lies inside the file and overlaps no other, and every reference from a
 * record to another (parent, frame, module, code, thread, row, site) is in range.  After that the caller may follow
 * references without checks of its own.  Strings and raw bytes are checked when they are asked for.
 *
 * Of a live process the copy is taken in the order that makes references hold (what refers is counted before
 * what it refers to), but counters may be some events apart from each other.
 */

#include "contract/format.h"
#include <stdbool.h>
#include <stddef.h>

struct read_file;

enum read_fault {
    READ_FINE = 0,
    READ_UNREACHABLE,           /* cannot be opened or read; the system's reason is in the sentence */
    READ_EMPTY,
    READ_FOREIGN,               /* not a recording */
    READ_UNBORN,                /* its process ended before the recording was set up */
    READ_OTHER_ORDER,           /* other byte order */
    READ_NEWER,                 /* written by a newer heapmark */
    READ_TRUNCATED,
    READ_DAMAGED,               /* contradicts itself */
    READ_NO_MEMORY
};

struct read_error {
    enum read_fault fault;
    uint64_t offset;            /* in the file, where the fault shows */
    char sentence[400];         /* names the path; no newline */
};

/* NULL and *error set on failure. */
struct read_file *read_open(const char *path, struct read_error *error);
/* The same over bytes in memory, which the result does not refer to afterwards. */
struct read_file *read_memory(const void *bytes, size_t size, const char *name, struct read_error *error);
void read_close(struct read_file *file);

const char *read_path(const struct read_file *file);
uint64_t read_size(const struct read_file *file);           /* of the file when it was opened */
const struct hmk_header *read_header(const struct read_file *file);
const struct hmk_live *read_live(const struct read_file *file);

const char *read_table_name(enum hmk_table_id id);          /* "frames"; NULL: no such table */
uint64_t read_count(const struct read_file *file, enum hmk_table_id id);
uint32_t read_record_bytes(const struct read_file *file, enum hmk_table_id id); /* 0: the table was never used */
/* Bytes that the table's chunks take in the file. */
uint64_t read_chunk_bytes(const struct read_file *file, enum hmk_table_id id);
/* NULL when index >= read_count.  Owned by the file. */
const void *read_record(const struct read_file *file, enum hmk_table_id id, uint64_t index);

/* Never NULL: an offset outside the table or a string without an end reads "(damaged)". */
const char *read_string(const struct read_file *file, uint32_t offset);

/* `bytes` raw bytes of HMK_STRINGS; NULL when they are not all there, or none are asked for. */
const unsigned char *read_bytes(const struct read_file *file, uint32_t offset, uint32_t bytes);

/* A complete census, or NULL: a slot that was being written when it was read, or never was. */
const struct hmk_census *read_census(const struct read_file *file, uint64_t index);

static inline const struct hmk_module *read_module(const struct read_file *file, uint64_t index)
{
    return read_record(file, HMK_MODULES, index);
}

static inline const struct hmk_frame *read_frame(const struct read_file *file, uint64_t index)
{
    return read_record(file, HMK_FRAMES, index);
}

static inline const struct hmk_code *read_code(const struct read_file *file, uint64_t index)
{
    return read_record(file, HMK_CODES, index);
}

static inline const struct hmk_site *read_site(const struct read_file *file, uint64_t index)
{
    return read_record(file, HMK_SITES, index);
}

static inline const struct hmk_site_peak *read_site_peak(const struct read_file *file, uint64_t index)
{
    return read_record(file, HMK_SITE_PEAKS, index);
}

static inline const struct hmk_thread *read_thread(const struct read_file *file, uint64_t index)
{
    return read_record(file, HMK_THREADS, index);
}

static inline const struct hmk_cell_index *read_cell_index(const struct read_file *file, uint64_t index)
{
    return read_record(file, HMK_CELL_INDEX, index);
}

static inline const struct hmk_cell_page *read_cell_page(const struct read_file *file, uint64_t index)
{
    return read_record(file, HMK_CELLS, index);
}

static inline const struct hmk_event *read_event(const struct read_file *file, uint64_t index)
{
    return read_record(file, HMK_EVENTS, index);
}

static inline const struct hmk_census_row *read_census_row(const struct read_file *file, uint64_t index)
{
    return read_record(file, HMK_CENSUS_ROWS, index);
}

static inline const struct hmk_pin *read_pin(const struct read_file *file, uint64_t index)
{
    return read_record(file, HMK_PINS, index);
}

static inline const struct hmk_histogram *read_histogram(const struct read_file *file, uint64_t index)
{
    return read_record(file, HMK_HISTOGRAMS, index);
}

/* Which timeline is valid. */
static inline enum hmk_table_id read_timeline(const struct read_file *file)
{
    return read_live(file)->timeline_active == 0 ? HMK_TIMELINE_0 : HMK_TIMELINE_1;
}

#endif
