/* SPDX-License-Identifier: MIT */
#ifndef HEAPMARK_ANALYSIS_HISTORY_H
#define HEAPMARK_ANALYSIS_HISTORY_H

/* The recording along time: the curve, and what happened.  All times count from the start of the recording. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct read_file;

struct history_sample {
    uint64_t time_ns;
    int64_t live_bytes, live_bytes_max;     /* heap; then, and at most within the interval */
    uint64_t rss_bytes, rss_bytes_max;
    uint64_t mapped_bytes;
};

struct history_mark {
    uint64_t time_ns;
    const char *label;
    int64_t live_bytes;
    uint64_t rss_bytes;             /* 0: not read */
};

/* From a PHASE_BEGIN to its PHASE_END, or from a mark to the next one; the first mark ends a span "start". */
struct history_phase {
    const char *label;
    bool between_marks;
    bool open;                      /* never ended: lasts to the end of the recording */
    uint32_t depth;                 /* phases around it in the same thread */
    uint64_t begin_ns, end_ns;
    int64_t live_begin_bytes, live_end_bytes, live_peak_bytes;
    uint64_t rss_begin_bytes, rss_end_bytes, rss_peak_bytes;
    uint64_t samples;               /* points of the curve inside; 0: the peaks are those of its two ends */
};

struct history_trim {
    uint64_t time_ns, duration_ns;
    uint64_t rss_before_bytes, rss_after_bytes;
    uint64_t forecast_bytes;
};

enum history_note_kind {
    HISTORY_FORK,                   /* number: the child's process id */
    HISTORY_EXEC,                   /* text: the path */
    HISTORY_EXEC_FAILED,            /* number: errno; text: the path, if any */
    HISTORY_DEGRADED                /* text: what was switched off and why */
};
struct history_note {
    enum history_note_kind kind;
    uint64_t time_ns;
    uint64_t number;
    const char *text;
};

struct history {
    uint64_t interval_ns;           /* between samples */
    struct history_sample *samples;
    struct history_mark *marks;
    struct history_phase *phases;   /* by begin, outer before inner */
    struct history_trim *trims;
    struct history_note *notes;
    size_t sample_count, mark_count, phase_count, trim_count, note_count;
    uint64_t fork_count;
};

struct history history_read(const struct read_file *file);
void history_free(struct history *history);

/* How live bytes went in the last part of the run: the lowest point of each quarter of the samples. */
struct history_trend {
    bool known;                     /* enough samples */
    int64_t quarter_low_bytes[4];
    int64_t last_bytes;
};
struct history_trend history_trend(const struct history *history);

#endif
