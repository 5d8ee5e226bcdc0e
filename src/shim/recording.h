/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_SHIM_RECORDING_H
#define HEAPMARK_SHIM_RECORDING_H

/*
 * The writer's half of the recording: the file, its tables, and how they grow.
 *
 * Space is allocated on the disk before it is mapped, so that a full disk gives a clean refusal and never a SIGBUS;
 * after a refusal the recording goes on with what it has (live.stop_reason = HMK_STOP_DISK_FULL).  The descriptor is
 * kept open at a high number, close-on-exec; when the host closes it, or reuses its number (checked by fstat identity before each
 * growth), the file is reopened by path and inode, else growth ends.
 *
 * Thread-safe.  Growth and append take one spinlock of our own, never held across a call into the host or libc;
 * recording_fork_child resets it.
 */

#include "contract/format.h"
#include "contract/publish.h"
#include <stdbool.h>
#include <stddef.h>

struct settings;

struct recording_table {
    unsigned char *chunk[HMK_TABLE_CHUNKS];     /* NULL: not mapped */
    uint32_t record_bytes;
    uint32_t first_records;
    uint64_t count;                             /* as published, but in memory that a fork freezes */
    uint64_t limit;                             /* ids that the format allows */
    uint64_t ready;                             /* below, all chunks exist; from here on, nothing was handed out */
    bool full;                                  /* growth was refused; not tried again */
};
extern struct recording_table recording_tables[HMK_TABLE_SLOTS] __attribute__((visibility("hidden")));
extern struct hmk_header *recording_header;
extern struct hmk_live *recording_live __attribute__((visibility("hidden")));  /* never NULL: a static block stands in until the file is open */

/* Makes the file by settings->out, else a memfd, else private memory (then false: nobody will read it).  Fills the header
 * but for what the caller knows (unwinder name), appends the root frame and the fixed sites, then publishes the magic.
 * The pattern takes the letters of core(5): %e base name of the executable, %p pid, %h host, %t seconds, %u user id, %%,
 * and %q{VAR}; a relative one starts at the working directory of this call.  On a clash .1, .2 ... comes before a final
 * ".hmk".  Mode 0600. */
bool recording_open(const struct settings *settings, char *const *environment);
const char *recording_path(void);               /* absolute; "" for a memfd */
const char *recording_problem(void);            /* why there is no file, as a sentence; "" when there is one */

/* Address of record `index`, whose chunk must exist (published, or reserved by the caller).  As hmk_chunk_of and hmk_chunk_first
 * say, but without their division, which every event would pay for: our tables begin with a power of two. */
static inline void *recording_at(enum hmk_table_id id, uint64_t index)
{
    const struct recording_table *table = &recording_tables[id];
    unsigned shift = (unsigned)__builtin_ctz(table->first_records);
    unsigned chunk = 63u - (unsigned)__builtin_clzll((index >> shift) + 1);
    return table->chunk[chunk] + (index - (((UINT64_C(1) << chunk) - 1) << shift)) * table->record_bytes;
}
/* The same for the one table that every event looks into, with all that is known beforehand. */
#define RECORDING_SITES_FIRST 512u
static inline struct hmk_site_peak *recording_site_peak(uint32_t site)
{
    unsigned chunk = 31u - (unsigned)__builtin_clz(site / RECORDING_SITES_FIRST + 1);
    struct hmk_site_peak *first = (struct hmk_site_peak *)(void *)recording_tables[HMK_SITE_PEAKS].chunk[chunk];
    return first + (site - ((1u << chunk) - 1) * RECORDING_SITES_FIRST);
}
uint64_t recording_count(enum hmk_table_id id);

#define RECORDING_NONE UINT64_MAX
/* Appends a record and publishes it; its index, or RECORDING_NONE when there is no room on the disk. */
uint64_t recording_append(enum hmk_table_id id, const void *record);
/* Appends `count` records one after another and shows them at once: all, and the index of the first, or none. */
uint64_t recording_append_many(enum hmk_table_id id, const void *records, uint64_t count);
/* Appends two parallel records at the same index (HMK_SITES with HMK_SITE_PEAKS, HMK_CELL_INDEX with HMK_CELLS, HMK_THREADS with
 * HMK_HISTOGRAMS).  The first table is published last. */
uint64_t recording_append_pair(enum hmk_table_id id, const void *record, enum hmk_table_id twin, const void *twin_record);
/* As recording_append for `leaf`, a frame, and recording_append_pair for `site` whose frame it then is: one lock, all or nothing shown. */
uint64_t recording_append_site(const struct hmk_frame *leaf, struct hmk_site *site);
/* Appends `count` zeroed records that lie together in one chunk; the index of the first (census rows, pins). */
uint64_t recording_append_zeroed(enum hmk_table_id id, uint64_t count);
#define RECORDING_STRING_LONGEST 8191u   /* bytes; fits into the first chunk of HMK_STRINGS with its NUL */
/* Interns nothing: each call appends.  0 when it did not fit. */
uint32_t recording_string(const char *string, size_t length);

void recording_event(uint32_t kind, uint64_t a, uint64_t b, uint64_t c, uint64_t d, const char *text_or_null);
/* Adds a sample (time, live, rss, mapped; a maximum may be left 0: it is raised to the value).  Samples nearer to each other
 * than live.timeline_interval_ns become one point; when the table is full, pairs of points do, and the interval doubles. */
void recording_sample(const struct hmk_sample *sample);

/* In the child of a fork, before anything is written, while no other thread runs: leaves the parent's file and starts the
 * child's own by the same pattern, with the modules, strings, codes, frames and sites that the parent had at the fork (same ids)
 * and all counters zero; live.control_signal and live.module_generation are kept.  Every pointer into the parent's
 * recording is stale afterwards.  False: no file; the child records into private memory. */
bool recording_fork_child(void);
/* In the child of a fork that a signal handler made within a hook: all that the hook may go on to write becomes private memory, at
 * the same addresses.  recording_fork_child follows at the next event. */
void recording_make_private(void);
/* Marks the end; safe to call more than once: the first state stays, but that of an exec or an abort, which may not be the
 * end yet. */
void recording_end(enum hmk_state state, int status);
void recording_abandon_lock(void);              /* what this thread held when a handler left it by longjmp */
void recording_reopen(void);                    /* an exec failed, an abort was survived: RUNNING again */

uint64_t recording_self_bytes(void);            /* mapped and touched by the recording itself */

#endif
