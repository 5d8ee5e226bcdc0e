/* SPDX-License-Identifier: MIT */
#ifndef TESTS_SYNTHETIC_H
#define TESTS_SYNTHETIC_H

/*
 * Recordings made in memory, record by record, as a writer would have left them.  Chunks are small, so that
 * every table spreads over several.
 *
 *     struct synthetic s;
 *     synthetic_start(&s);
 *     uint32_t site = synthetic_site(&s, synthetic_frame(&s, 0, 1, 0x401000), HMK_KIND_HEAP);
 *     synthetic_cell(&s, 0, site)->allocations = 3;
 *     size_t size;
 *     unsigned char *bytes = synthetic_finish(&s, &size);      (free it)
 */

#include "contract/format.h"
#include <stddef.h>

struct synthetic_table {
    unsigned char *bytes;
    size_t count, capacity;         /* records */
    uint32_t record_bytes, first_records;
};

struct synthetic {
    struct hmk_header header;
    struct hmk_live live;
    struct synthetic_table table[HMK_TABLE_SLOTS];
};

/* Of process 4194304 (which cannot be), exe "/usr/bin/tool", one thread; started at 1000 s, ran 10 s, exited with 0. */
void synthetic_start(struct synthetic *s);
uint32_t synthetic_string(struct synthetic *s, const char *text);
uint64_t synthetic_add(struct synthetic *s, enum hmk_table_id id, const void *record);
/* Valid until the next record of that table. */
void *synthetic_record(struct synthetic *s, enum hmk_table_id id, uint64_t index);
uint32_t synthetic_module(struct synthetic *s, const char *path, uint64_t base);
/* module: as synthetic_module gave it. */
uint32_t synthetic_frame(struct synthetic *s, uint32_t parent, uint32_t module, uint64_t code);
uint32_t synthetic_site(struct synthetic *s, uint32_t frame, uint32_t flags);
uint32_t synthetic_thread(struct synthetic *s, const char *name);
struct hmk_cell *synthetic_cell(struct synthetic *s, uint32_t thread, uint32_t site);
void synthetic_event(struct synthetic *s, uint64_t at_ms, uint32_t kind, const char *text, uint64_t a, uint64_t b);
void synthetic_sample(struct synthetic *s, uint64_t at_ms, int64_t live_bytes, uint64_t rss_bytes);
/* The file; s is empty afterwards. */
unsigned char *synthetic_finish(struct synthetic *s, size_t *size);

/* ---- whole recordings --------------------------------------------------------------------------- */

/* One small block on top of a large freed heap, a census at exit that says so, a mark and a trim before. */
void synthetic_pinned(struct synthetic *s);
/* Killed while live memory rose at a site that never frees; no census. */
void synthetic_leak(struct synthetic *s);
/* Two threads, frees across them, arenas with stuck tops, phases, a mapping, losses. */
void synthetic_threads(struct synthetic *s);

/* Sampled at 512 KiB: the peak of two halves below the largest estimate, a site of small blocks and one of a single large one. */
void synthetic_sampled(struct synthetic *s);

/* Two stacks of an interpreter, each a pair of a native and a Python path. */
void synthetic_python(struct synthetic *s);

/* That many sites, deep stacks that share their root sides; of a hundred one is a mapping and one moves the break. */
void synthetic_many(struct synthetic *s, uint32_t sites);

struct synthetic_kind {
    const char *name;
    void (*make)(struct synthetic *s);
};
extern const struct synthetic_kind synthetic_kinds[];       /* ends with a NULL name */

#endif
