/* SPDX-License-Identifier: MIT */
#include "analysis/history.h"

#include "base/array.h"
#include "contract/read.h"
#include <stdlib.h>
#include <string.h>

typedef ARRAY_OF(struct history_sample) sample_array;
typedef ARRAY_OF(struct history_mark) mark_array;
typedef ARRAY_OF(struct history_phase) phase_array;
typedef ARRAY_OF(struct history_trim) trim_array;
typedef ARRAY_OF(struct history_note) note_array;

/* A phase that has begun, while the log is read. */
struct open_phase {
    size_t phase;           /* in phases */
    uint32_t tid;
};

struct reader {
    const struct read_file *file;
    uint64_t start_ns, end_ns;
    sample_array samples;
    mark_array marks;
    phase_array phases;
    trim_array trims;
    note_array notes;
    ARRAY_OF(struct open_phase) open;
    uint64_t forks;
};

static uint64_t since_start(const struct reader *reader, uint64_t ns)
{
    return ns > reader->start_ns ? ns - reader->start_ns : 0;
}

static void read_samples(struct reader *reader)
{
    enum hmk_table_id table = read_timeline(reader->file);
    for (uint64_t i = 0; i < read_count(reader->file, table); i++) {
        const struct hmk_sample *sample = read_record(reader->file, table, i);
        array_push(&reader->samples, (struct history_sample){
            .time_ns = since_start(reader, sample->time_ns), .live_bytes = sample->live_bytes,
            .live_bytes_max = sample->live_bytes_max, .rss_bytes = sample->rss_bytes,
            .rss_bytes_max = sample->rss_bytes_max, .mapped_bytes = sample->mapped_bytes });
    }
}

/* ---- the log ------------------------------------------------------------------------------------ */

static void begin_phase(struct reader *reader, const struct hmk_event *event, const char *label)
{
    struct open_phase open = { reader->phases.count, event->tid };
    uint32_t depth = 0;
    for (size_t i = 0; i < reader->open.count; i++)
        depth += reader->open.at[i].tid == event->tid;
    array_push(&reader->phases, (struct history_phase){
        .label = label, .open = true, .depth = depth, .begin_ns = since_start(reader, event->time_ns),
        .end_ns = reader->end_ns, .live_begin_bytes = event->live_bytes, .rss_begin_bytes = event->rss_bytes });
    array_push(&reader->open, open);
}

/* Ends the innermost open phase of that label, in the same thread if it can be. */
static void end_phase(struct reader *reader, const struct hmk_event *event, const char *label)
{
    size_t found = SIZE_MAX;
    for (size_t i = 0; i < reader->open.count; i++) {
        const struct open_phase *open = &reader->open.at[i];
        bool same_label = *label == 0 || strcmp(reader->phases.at[open->phase].label, label) == 0;
        if (same_label && (open->tid == event->tid || found == SIZE_MAX))
            found = i;
    }
    if (found == SIZE_MAX)
        return;
    struct history_phase *phase = &reader->phases.at[reader->open.at[found].phase];
    phase->open = false;
    phase->end_ns = since_start(reader, event->time_ns);
    phase->live_end_bytes = event->live_bytes;
    phase->rss_end_bytes = event->rss_bytes;
    memmove(&reader->open.at[found], &reader->open.at[found + 1],
            (reader->open.count - found - 1) * sizeof *reader->open.at);
    reader->open.count--;
}

static void add_note(struct reader *reader, const struct hmk_event *event, enum history_note_kind kind)
{
    array_push(&reader->notes, (struct history_note){
        .kind = kind, .time_ns = since_start(reader, event->time_ns), .number = event->a,
        .text = read_string(reader->file, event->text) });
}

static void take_event(struct reader *reader, const struct hmk_event *event)
{
    const char *text = read_string(reader->file, event->text);
    switch (event->kind) {
    case HMK_EVENT_MARK:
        array_push(&reader->marks, (struct history_mark){
            .time_ns = since_start(reader, event->time_ns), .label = text, .live_bytes = event->live_bytes,
            .rss_bytes = event->rss_bytes });
        break;
    case HMK_EVENT_PHASE_BEGIN:
        begin_phase(reader, event, text);
        break;
    case HMK_EVENT_PHASE_END:
        end_phase(reader, event, text);
        break;
    case HMK_EVENT_TRIM:
        array_push(&reader->trims, (struct history_trim){
            .time_ns = since_start(reader, event->time_ns), .duration_ns = event->d, .rss_before_bytes = event->a,
            .rss_after_bytes = event->b, .forecast_bytes = event->c });
        break;
    case HMK_EVENT_FORK:
        reader->forks++;
        add_note(reader, event, HISTORY_FORK);
        break;
    case HMK_EVENT_EXEC:
        add_note(reader, event, HISTORY_EXEC);
        break;
    case HMK_EVENT_EXEC_FAILED:
        add_note(reader, event, HISTORY_EXEC_FAILED);
        break;
    case HMK_EVENT_DEGRADED:
        add_note(reader, event, HISTORY_DEGRADED);
        break;
    default:
        break;
    }
}

/* The log is written by several threads and may be out of order by a little. */
static int mark_compare(const void *a, const void *b)
{
    const struct history_mark *x = a, *y = b;
    return x->time_ns < y->time_ns ? -1 : x->time_ns > y->time_ns;
}

static int phase_compare(const void *a, const void *b)
{
    const struct history_phase *x = a, *y = b;
    if (x->begin_ns != y->begin_ns)
        return x->begin_ns < y->begin_ns ? -1 : 1;
    if (x->end_ns != y->end_ns)
        return x->end_ns > y->end_ns ? -1 : 1;
    if (x->depth != y->depth)
        return x->depth < y->depth ? -1 : 1;
    return strcmp(x->label, y->label);
}

static void add_spans_between_marks(struct reader *reader)
{
    const struct hmk_live *live = read_live(reader->file);
    if (reader->marks.count > 0)
        array_push(&reader->phases, (struct history_phase){
            .label = "start", .between_marks = true, .end_ns = reader->marks.at[0].time_ns,
            .rss_begin_bytes = live->rss_start_bytes, .live_end_bytes = reader->marks.at[0].live_bytes,
            .rss_end_bytes = reader->marks.at[0].rss_bytes });
    for (size_t i = 0; i < reader->marks.count; i++) {
        const struct history_mark *mark = &reader->marks.at[i];
        const struct history_mark *next = i + 1 < reader->marks.count ? mark + 1 : NULL;
        array_push(&reader->phases, (struct history_phase){
            .label = mark->label, .between_marks = true, .open = !next, .begin_ns = mark->time_ns,
            .end_ns = next ? next->time_ns : reader->end_ns, .live_begin_bytes = mark->live_bytes,
            .rss_begin_bytes = mark->rss_bytes, .live_end_bytes = next ? next->live_bytes : 0,
            .rss_end_bytes = next ? next->rss_bytes : 0 });
    }
}

/* ---- the curve under a phase -------------------------------------------------------------------- */

/* First sample at or after the time. */
static size_t sample_at(const struct reader *reader, uint64_t time_ns)
{
    size_t low = 0, high = reader->samples.count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (reader->samples.at[middle].time_ns < time_ns)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void measure_phase(const struct reader *reader, struct history_phase *phase)
{
    const struct hmk_live *live = read_live(reader->file);
    if (phase->open) {
        phase->live_end_bytes = live->heap.live_bytes;
        phase->rss_end_bytes = live->rss_last_bytes;
    }
    bool up = phase->live_end_bytes > phase->live_begin_bytes;
    phase->live_peak_bytes = up ? phase->live_end_bytes : phase->live_begin_bytes;
    up = phase->rss_end_bytes > phase->rss_begin_bytes;
    phase->rss_peak_bytes = up ? phase->rss_end_bytes : phase->rss_begin_bytes;

    for (size_t i = sample_at(reader, phase->begin_ns); i < reader->samples.count; i++) {
        const struct history_sample *sample = &reader->samples.at[i];
        if (sample->time_ns > phase->end_ns)
            break;
        /* The interval of the first sample began before the phase: only its own instant counts. */
        int64_t live_bytes = phase->samples ? sample->live_bytes_max : sample->live_bytes;
        uint64_t rss_bytes = phase->samples ? sample->rss_bytes_max : sample->rss_bytes;
        if (live_bytes > phase->live_peak_bytes)
            phase->live_peak_bytes = live_bytes;
        if (rss_bytes > phase->rss_peak_bytes)
            phase->rss_peak_bytes = rss_bytes;
        phase->samples++;
    }
}

struct history history_read(const struct read_file *file)
{
    const struct hmk_live *live = read_live(file);
    struct reader reader = { .file = file, .start_ns = read_header(file)->start_ns };

    reader.end_ns = since_start(&reader, live->end_ns > live->last_ns ? live->end_ns : live->last_ns);
    read_samples(&reader);
    for (uint64_t i = 0; i < read_count(file, HMK_EVENTS); i++)
        take_event(&reader, read_event(file, i));
    array_sort(&reader.marks, mark_compare);
    add_spans_between_marks(&reader);
    array_sort(&reader.phases, phase_compare);
    for (size_t i = 0; i < reader.phases.count; i++)
        measure_phase(&reader, &reader.phases.at[i]);
    array_free(&reader.open);
    return (struct history){
        .interval_ns = live->timeline_interval_ns,
        .samples = reader.samples.at, .sample_count = reader.samples.count,
        .marks = reader.marks.at, .mark_count = reader.marks.count,
        .phases = reader.phases.at, .phase_count = reader.phases.count,
        .trims = reader.trims.at, .trim_count = reader.trims.count,
        .notes = reader.notes.at, .note_count = reader.notes.count, .fork_count = reader.forks,
    };
}

void history_free(struct history *history)
{
    free(history->samples);
    free(history->marks);
    free(history->phases);
    free(history->trims);
    free(history->notes);
    *history = (struct history){ 0 };
}

struct history_trend history_trend(const struct history *history)
{
    struct history_trend trend = { .known = history->sample_count >= 16 };
    for (size_t quarter = 0; trend.known && quarter < 4; quarter++) {
        size_t from = history->sample_count * quarter / 4, to = history->sample_count * (quarter + 1) / 4;
        int64_t low = history->samples[from].live_bytes;
        for (size_t i = from; i < to; i++)
            if (history->samples[i].live_bytes < low)
                low = history->samples[i].live_bytes;
        trend.quarter_low_bytes[quarter] = low;
    }
    if (trend.known)
        trend.last_bytes = history->samples[history->sample_count - 1].live_bytes;
    return trend;
}
