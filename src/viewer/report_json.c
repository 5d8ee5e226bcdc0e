/* SPDX-License-Identifier: MIT */
#include "viewer/report.h"

/*
 * "heapmark-report", version 1: docs/heapmark.1 describes its keys.  A key is only ever added; the version is raised
 * when one changes its meaning or goes.  Sizes are bytes, times seconds since the start of the recording.
 */

#include "analysis/history.h"
#include "analysis/ledger.h"
#include "analysis/profile.h"
#include "analysis/verdict.h"
#include "analysis/whatif.h"
#include "base/array.h"
#include "base/strbuf.h"
#include "base/xalloc.h"
#include "viewer/filter.h"
#include "viewer/findings.h"
#include "viewer/json.h"
#include "viewer/names.h"
#include "viewer/sites.h"
#include <stdlib.h>

#define SITES_MANY 10000        /* up to here all are written */
#define SITES_LARGEST 1000      /* of more, so many by each key */

struct writer {
    struct json *json;
    const struct report *report;
    const struct report_options *options;
    struct names *names;
    struct sites_view view;
    bool *listed;                       /* by site id: it is in "sites" */
    ARRAY_OF(const struct profile_site *) sites;    /* in the order of "sites" */
    ARRAY_OF(uint32_t) number;          /* by place of names.h: 1 + its number in "frames", 0 = not there */
    ARRAY_OF(uint32_t) frames;          /* one frame of each place, in the order of "frames" */
};

static void put_process(struct writer *writer)
{
    const struct profile_process *process = &writer->report->profile->process;
    struct json *json = writer->json;

    json_string(json, "recording", process->path);
    json_open(json, "process", '{');
    json_uint(json, "pid", process->pid);
    json_uint(json, "ppid", process->ppid);
    json_uint(json, "root_pid", process->root_pid);
    json_bool(json, "forked", process->forked);
    json_bool(json, "free_sites", process->free_sites);
    json_string(json, "exe", process->exe);
    json_string(json, "command", process->command);
    json_string(json, "cwd", process->cwd);
    json_string(json, "host", process->host);
    json_string(json, "libc", process->libc);
    json_seconds(json, "started_at", process->start_realtime_ns);
    json_seconds(json, "ran", process->ran_ns);
    json_string(json, "state", report_state_name(writer->report));
    json_int(json, "exit_status", process->exit_status);
    json_uint(json, "threads", process->thread_count);
    json_close(json, '}');
    json_open(json, "settings", '{');
    json_string(json, "heapmark", process->tool_version);
    json_string(json, "options", process->options);
    json_string(json, "unwinder", process->unwinder);
    json_uint(json, "depth_max", process->depth_max);
    json_uint(json, "sample_bytes", process->sample_bytes);
    if (process->sampled_from_ns)
        json_seconds(json, "sampled_from", process->sampled_from_ns);
    else
        json_null(json, "sampled_from");
    json_seconds(json, "hooks_cpu", process->spent_ns);
    json_seconds(json, "process_cpu", process->cpu_ns);
    json_uint(json, "page_bytes", process->page_bytes);
    json_close(json, '}');
}

static void put_losses(struct writer *writer)
{
    const struct profile_losses *losses = &writer->report->profile->losses;
    struct json *json = writer->json;

    json_open(json, "losses", '{');
    json_string(json, "stopped", writer->report->profile->process.stop_reason);
    json_uint(json, "sites", losses->sites);
    json_uint(json, "events", losses->events);
    json_uint(json, "reentrant", losses->reentrant);
    json_uint(json, "unknown_frees", losses->unknown_frees);
    json_uint(json, "stale_live", losses->stale_live);
    json_uint(json, "cut_stacks", losses->cut_stacks);
    json_uint(json, "incomplete_stacks", losses->incomplete_stacks);
    json_uint(json, "foreign_forks", losses->foreign_forks);
    json_uint(json, "abandoned_hooks", losses->abandoned);
    json_uint(json, "verify_checked", losses->verify_checked);
    json_uint(json, "verify_wrong", losses->verify_wrong);
    json_close(json, '}');
}

static void put_rss(struct writer *writer)
{
    const struct profile_rss *rss = &writer->report->profile->rss;
    struct json *json = writer->json;

    json_open(json, "rss", '{');
    json_uint(json, "start_bytes", rss->start_bytes);
    json_uint(json, "last_bytes", rss->last_bytes);
    json_seconds(json, "last_at", rss->last_ns);
    json_uint(json, "peak_bytes", rss->peak_bytes);
    json_uint(json, "kernel_peak_bytes", rss->kernel_peak_bytes);
    json_seconds(json, "peak_at", rss->peak_ns);
    json_uint(json, "self_bytes", rss->self_bytes);
    json_close(json, '}');
}

static void put_error(struct json *json, const char *key, double variance, double estimate)
{
    double error = profile_error(variance, estimate);
    json_uint(json, key, error < 9e18 ? (uint64_t)(error + 0.5) : INT64_MAX);     /* a damaged file may say anything */
}

/* The standard errors of sampled mode. */
static void open_errors(struct json *json, const struct profile_estimates *variance, const struct profile_estimates *of)
{
    json_open_line(json, "standard_error", '{');
    put_error(json, "allocations", variance->allocations, of->allocations);
    put_error(json, "allocated_bytes", variance->allocated_bytes, of->allocated_bytes);
    put_error(json, "live_blocks", variance->live_blocks, of->live_blocks);
    put_error(json, "live_bytes", variance->live_bytes, of->live_bytes);
    put_error(json, "peak_blocks", variance->peak_blocks, of->peak_blocks);
    put_error(json, "peak_bytes", variance->peak_bytes, of->peak_bytes);
}

static void put_sum(struct json *json, const char *key, const struct profile_sum *sum, const struct profile_heap *heap)
{
    json_open(json, key, '{');
    json_uint(json, "sites", sum->sites);
    json_uint(json, "allocations", sum->allocations);
    json_uint(json, "allocated_bytes", sum->allocated_bytes);
    json_uint(json, "frees", sum->frees);
    json_uint(json, "freed_bytes", sum->freed_bytes);
    json_uint(json, "temporary", sum->temporary);
    json_int(json, "live_blocks", sum->live_blocks);
    json_int(json, "live_bytes", sum->live_bytes);
    json_int(json, "slack_bytes", sum->slack_bytes);
    if (heap) {
        json_int(json, "peak_bytes", heap->peak_bytes);
        json_int(json, "peak_blocks", heap->peak_blocks);
        json_seconds(json, "peak_at", heap->peak_ns);
        json_uint(json, "peak_error_bytes", heap->error_bytes);
        json_uint(json, "inherited_blocks", heap->inherited_blocks);
        json_uint(json, "inherited_bytes", heap->inherited_bytes);
    }
}

static void put_sums(struct writer *writer)
{
    const struct profile *profile = writer->report->profile;
    const struct profile_sum *heap = &profile->sum[PROFILE_HEAP];
    struct json *json = writer->json;

    put_sum(json, "heap", heap, &profile->heap);
    if (profile->process.has_errors) {
        open_errors(json, &heap->variance, &(struct profile_estimates){
            (double)heap->allocations, (double)heap->allocated_bytes, (double)heap->live_blocks, (double)heap->live_bytes,
            (double)profile->heap.peak_blocks, (double)profile->heap.peak_bytes });
        json_close(json, '}');
    }
    json_close(json, '}');
    put_sum(json, "mappings", &profile->sum[PROFILE_MAPPING], NULL);
    json_close(json, '}');
    put_sum(json, "breaks", &profile->sum[PROFILE_BREAK], NULL);
    json_close(json, '}');
}

/* ---- verdict and ledger ------------------------------------------------------------------------- */

static void put_verdict(struct writer *writer)
{
    const struct verdict *verdict = writer->report->verdict;
    struct json *json = writer->json;
    struct strbuf text = STRBUF_INIT;

    json_string(json, "verdict", verdict_kind_name(verdict->finding[0].kind));
    json_open(json, "findings", '[');
    for (size_t i = 0; i < verdict->count; i++) {
        const struct verdict_finding *finding = &verdict->finding[i];
        json_open(json, NULL, '{');
        json_string(json, "kind", verdict_kind_name(finding->kind));
        json_uint(json, "bytes", finding->bytes);
        if (finding->site == VERDICT_NO_SITE)
            json_null(json, "site");
        else
            json_uint(json, "site", finding->site);
        json_uint(json, "site_blocks", finding->site_blocks);
        json_uint(json, "site_bytes", finding->site_bytes);
        json_uint(json, "gain_bytes", finding->gain_bytes);
        json_uint(json, "sites", finding->sites);
        json_string(json, "step", verdict_step_name(finding->step));
        json_bool(json, "then_trim", finding->then_trim);
        json_uint(json, "step_bytes", finding->step_bytes);
        strbuf_clear(&text);
        findings_sentence(&text, writer->report, &writer->view, finding);
        json_string(json, "sentence", text.text);
        strbuf_clear(&text);
        findings_step(&text, writer->report, &writer->view, finding);
        json_string(json, "advice", text.text);
        json_close(json, '}');
    }
    json_close(json, ']');
    strbuf_free(&text);
}

static const char *const part_names[LEDGER_PARTS] = {
    [LEDGER_LIVE] = "live", [LEDGER_SLACK] = "slack", [LEDGER_PYTHON] = "python_live",
    [LEDGER_RETURNABLE] = "held_returnable",
    [LEDGER_TOP] = "held_top", [LEDGER_PARTIAL] = "held_partial", [LEDGER_EDGE] = "held_edge",
    [LEDGER_CACHED] = "held_cached", [LEDGER_STUCK_TOP] = "held_stuck_top", [LEDGER_ARENA] = "held_arena",
    [LEDGER_FOREIGN] = "held_foreign", [LEDGER_UNUSED] = "held_never_used", [LEDGER_METADATA] = "metadata",
    [LEDGER_MAPPED] = "mapped", [LEDGER_FILES] = "files", [LEDGER_SHARED] = "shared", [LEDGER_STACKS] = "stacks",
    [LEDGER_SELF] = "heapmark", [LEDGER_UNEXPLAINED] = "unexplained",
};

static const char *ledger_kind_name(enum ledger_kind kind)
{
    static const char *const names[] = {
        [LEDGER_AT_EXIT] = "exit", [LEDGER_AT_REQUEST] = "request", [LEDGER_AT_MARK] = "mark",
        [LEDGER_BEFORE_TRIM] = "before-trim", [LEDGER_AFTER_TRIM] = "after-trim", [LEDGER_AT_PEAK] = "rss-peak",
        [LEDGER_AT_DROP] = "drop", [LEDGER_AT_OTHER] = "other",
    };
    return names[kind];
}

/* When the first block of the pin's site was made, and by whom. */
static void put_maker(struct json *json, const struct profile *profile, const struct profile_site *site)
{
    char name[PROFILE_THREAD_NAME];
    profile_thread_name(profile, site->thread, name);
    json_seconds(json, "not_before", site->first_ns);
    json_uint(json, "threads", site->threads);
    json_string(json, "thread", site->threads == 1 ? name : "");
}

static void put_pins(struct json *json, const struct profile *profile, const struct ledger *ledger)
{
    static const char *const kinds[] = {
        [LEDGER_PIN_TOP] = "top", [LEDGER_PIN_TOP_CACHED] = "top-cached", [LEDGER_PIN_PAGES] = "pages",
    };
    json_open(json, "pins", '[');
    for (size_t i = 0; i < ledger->pin_count; i++) {
        const struct ledger_pin *pin = &ledger->pins[i];
        json_open_line(json, NULL, '{');
        json_string(json, "kind", kinds[pin->kind]);
        json_uint(json, "site", pin->site);
        json_uint(json, "arena", pin->arena);
        json_uint(json, "blocks", pin->blocks);
        json_uint(json, "bytes", pin->bytes);
        json_uint(json, "gain_bytes", pin->gain_bytes);
        json_uint(json, "cumulative_bytes", pin->cumulative_bytes);
        json_bool(json, "returns_itself", pin->returns_itself);
        json_bool(json, "returnable", pin->returnable);
        json_bool(json, "unsampled", pin->unsampled);
        json_address(json, "address", pin->address);
        json_uint(json, "largest_bytes", pin->largest_bytes);
        put_maker(json, profile, &profile->sites[pin->site]);
        json_close(json, '}');
    }
    json_close(json, ']');
}

/* "rest": the entry adds up all arenas from that one on. */
static void put_arenas(struct json *json, const struct ledger *ledger)
{
    json_open(json, "arenas", '[');
    for (uint32_t i = 0; i < LEDGER_ARENAS && i < ledger->arena_count; i++) {
        const struct ledger_arena *arena = &ledger->arena[i];
        json_open_line(json, NULL, '{');
        json_uint(json, "arena", i);
        json_bool(json, "rest", i == LEDGER_ARENAS - 1 && ledger->arena_count > LEDGER_ARENAS);
        json_uint(json, "heaps", arena->heaps);
        json_int(json, "resident_bytes", arena->resident_bytes);
        json_int(json, "live_bytes", arena->live_bytes);
        json_int(json, "held_bytes", arena->held_bytes);
        json_int(json, "forecast_bytes", arena->forecast_bytes);
        json_int(json, "cached_bytes", arena->cached_bytes);
        json_int(json, "stuck_bytes", arena->stuck_bytes);
        json_close(json, '}');
    }
    json_close(json, ']');
}

static void put_python(struct json *json, const struct ledger *ledger)
{
    const struct ledger_python *python = &ledger->python;
    json_open(json, "python", '{');
    json_uint(json, "arenas", python->arena_count);
    json_uint(json, "arena_bytes", python->arena_bytes);
    json_uint(json, "live_blocks", python->live_blocks);
    json_uint(json, "pools", python->pool_count);
    json_uint(json, "free_pools", python->free_pool_count);
    json_uint(json, "free_pool_bytes", python->free_pool_bytes);
    json_uint(json, "slot_bytes", python->slot_bytes);
    json_open(json, "fill", '[');
    for (unsigned i = 0; i < LEDGER_FILLS; i++) {
        json_open_line(json, NULL, '{');
        json_uint(json, "up_to_percent", ledger_fill_percent[i]);
        json_uint(json, "arenas", python->fill_count[i]);
        json_uint(json, "held_bytes", python->fill_held[i]);
        json_close(json, '}');
    }
    json_close(json, ']');
    json_uint(json, "sparse_arenas", python->sparse_count);
    json_uint(json, "sparse_bytes", python->sparse_bytes);
    json_uint(json, "sparse_live_bytes", python->sparse_live_bytes);
    json_uint(json, "sparse_blocks", python->sparse_blocks);
    json_uint(json, "seen_blocks", python->seen_blocks);
    json_open(json, "keepers", '[');
    for (size_t i = 0; i < python->keeper_count; i++) {
        static const char *const kinds[] = { [LEDGER_OBJECTS] = "objects", [LEDGER_TABLES] = "tables",
                                             [LEDGER_SPARES] = "spares", [LEDGER_OTHERS] = "others" };
        const struct ledger_keeper *keeper = &python->keepers[i];
        json_open_line(json, NULL, '{');
        json_string(json, "kind", kinds[keeper->kind]);
        json_string(json, "type", keeper->type);
        json_uint(json, "site", keeper->site);
        json_uint(json, "arenas", keeper->arenas);
        json_uint(json, "blocks", keeper->blocks);
        json_uint(json, "bytes", keeper->bytes);
        json_uint(json, "gain_bytes", keeper->gain_bytes);
        json_uint(json, "cumulative_bytes", keeper->cumulative_bytes);
        json_uint(json, "loss_bytes", keeper->loss_bytes);
        json_close(json, '}');
    }
    json_close(json, ']');
    json_close(json, '}');
}

static void put_settings(struct json *json, const struct profile *profile, const struct ledger *ledger)
{
    static const char *const bounds[] = { [WHATIF_ABOUT] = "about", [WHATIF_AT_LEAST] = "at-least", [WHATIF_UP_TO] = "up-to",
                                          [WHATIF_AFTER_TRIM] = "after-trim" };
    struct whatifs settings = whatifs_find(profile, ledger);
    json_open(json, "what_if", '[');
    for (size_t i = 0; i < settings.count; i++) {
        json_open_line(json, NULL, '{');
        json_string(json, "setting", whatif_name(settings.at[i].setting));
        json_string(json, "environment", whatif_environment(settings.at[i].setting));
        json_string(json, "bound", bounds[settings.at[i].bound]);
        json_uint(json, "bytes", settings.at[i].bytes);
        json_close(json, '}');
    }
    json_close(json, ']');
}

static void put_ledger(struct json *json, const struct profile *profile, const struct ledger *ledger)
{
    json_open(json, NULL, '{');
    json_string(json, "kind", ledger_kind_name(ledger->kind));
    json_string(json, "label", ledger->label);
    json_seconds(json, "at", ledger->time_ns);
    json_seconds(json, "took", ledger->cost_ns);
    json_bool(json, "walked", ledger->walked);
    json_bool(json, "exact", ledger->exact);
    json_bool(json, "moving", ledger->moving);
    json_bool(json, "closed", ledger->closed);
    json_bool(json, "chunks_unknown", ledger->chunks_unknown);
    json_bool(json, "rows_cut", ledger->rows_cut);
    json_bool(json, "sampled", ledger->sampled);
    json_uint(json, "rss_bytes", ledger->rss_bytes);
    json_int(json, "sum_bytes", ledger->sum_bytes);
    json_int(json, "held_bytes", ledger->held_bytes);
    json_open(json, "parts", '{');
    for (unsigned i = 0; i < LEDGER_PARTS; i++)
        json_int(json, part_names[i], ledger->part[i]);
    json_close(json, '}');
    if (ledger->estimated) {
        json_open_line(json, "standard_error", '{');
        put_error(json, "live", ledger->live_variance, (double)ledger->part[LEDGER_LIVE]);
        put_error(json, "slack", ledger->slack_variance, (double)ledger->part[LEDGER_SLACK]);
        json_close(json, '}');
    }
    json_uint(json, "forecast_bytes", ledger->forecast_bytes);
    json_uint(json, "forecast_map_bytes", ledger->forecast_map_bytes);
    json_uint(json, "forecast_walk_bytes", ledger->forecast_walk_bytes);
    json_uint(json, "would_map_bytes", ledger->would_map_bytes);
    json_uint(json, "trim_threshold_bytes", ledger->trim_threshold_bytes);
    json_uint(json, "rss_anon_bytes", ledger->rss_anon_bytes);
    json_uint(json, "rss_file_bytes", ledger->rss_file_bytes);
    json_uint(json, "rss_shmem_bytes", ledger->rss_shmem_bytes);
    json_uint(json, "rss_peak_bytes", ledger->rss_peak_bytes);
    json_uint(json, "swap_bytes", ledger->swap_bytes);
    json_uint(json, "vm_bytes", ledger->vm_bytes);
    json_uint(json, "huge_bytes", ledger->huge_bytes);
    json_uint(json, "heap_extent_bytes", ledger->heap_extent_bytes);
    json_uint(json, "heap_resident_bytes", ledger->heap_resident_bytes);
    json_uint(json, "held_page_bytes", ledger->held_page_bytes);
    json_uint(json, "live_blocks", ledger->live_blocks);
    json_uint(json, "nonresident_live_bytes", ledger->nonresident_live_bytes);
    json_uint(json, "arena_count", ledger->arena_count);
    json_uint(json, "heap_count", ledger->heap_count);
    put_arenas(json, ledger);
    json_open_line(json, "identities", '[');
    for (size_t i = 0; i < sizeof ledger->identity / sizeof *ledger->identity; i++)
        json_int(json, NULL, ledger->identity[i]);
    json_close(json, ']');
    put_pins(json, profile, ledger);
    put_settings(json, profile, ledger);
    if (ledger->python.arena_count > 0)
        put_python(json, ledger);
    json_close(json, '}');
}

/* ---- along time --------------------------------------------------------------------------------- */

static void put_phases(struct json *json, const struct history *history)
{
    json_open(json, "phases", '[');
    for (size_t i = 0; i < history->phase_count; i++) {
        const struct history_phase *phase = &history->phases[i];
        json_open_line(json, NULL, '{');
        json_string(json, "label", phase->label);
        json_bool(json, "between_marks", phase->between_marks);
        json_bool(json, "open", phase->open);
        json_uint(json, "depth", phase->depth);
        json_seconds(json, "begin", phase->begin_ns);
        json_seconds(json, "end", phase->end_ns);
        json_int(json, "live_begin_bytes", phase->live_begin_bytes);
        json_int(json, "live_end_bytes", phase->live_end_bytes);
        json_int(json, "live_peak_bytes", phase->live_peak_bytes);
        json_uint(json, "rss_begin_bytes", phase->rss_begin_bytes);
        json_uint(json, "rss_end_bytes", phase->rss_end_bytes);
        json_uint(json, "rss_peak_bytes", phase->rss_peak_bytes);
        json_uint(json, "samples", phase->samples);
        json_close(json, '}');
    }
    json_close(json, ']');
}

static void put_marks_and_trims(struct json *json, const struct history *history)
{
    json_open(json, "marks", '[');
    for (size_t i = 0; i < history->mark_count; i++) {
        json_open_line(json, NULL, '{');
        json_string(json, "label", history->marks[i].label);
        json_seconds(json, "at", history->marks[i].time_ns);
        json_int(json, "live_bytes", history->marks[i].live_bytes);
        json_uint(json, "rss_bytes", history->marks[i].rss_bytes);
        json_close(json, '}');
    }
    json_close(json, ']');
    json_open(json, "trims", '[');
    for (size_t i = 0; i < history->trim_count; i++) {
        const struct history_trim *trim = &history->trims[i];
        json_open_line(json, NULL, '{');
        json_seconds(json, "at", trim->time_ns);
        json_seconds(json, "took", trim->duration_ns);
        json_uint(json, "rss_before_bytes", trim->rss_before_bytes);
        json_uint(json, "rss_after_bytes", trim->rss_after_bytes);
        json_int(json, "returned_bytes", (int64_t)(trim->rss_before_bytes - trim->rss_after_bytes));
        json_uint(json, "forecast_bytes", trim->forecast_bytes);
        json_close(json, '}');
    }
    json_close(json, ']');
}

static void put_history(struct writer *writer)
{
    static const char *const notes[] = {
        [HISTORY_FORK] = "fork", [HISTORY_EXEC] = "exec", [HISTORY_EXEC_FAILED] = "exec-failed",
        [HISTORY_DEGRADED] = "degraded",
    };
    const struct history *history = writer->report->history;
    struct json *json = writer->json;

    put_phases(json, history);
    put_marks_and_trims(json, history);
    json_open(json, "notes", '[');
    for (size_t i = 0; i < history->note_count; i++) {
        json_open_line(json, NULL, '{');
        json_string(json, "kind", notes[history->notes[i].kind]);
        json_seconds(json, "at", history->notes[i].time_ns);
        json_uint(json, "number", history->notes[i].number);
        json_string(json, "text", history->notes[i].text);
        json_close(json, '}');
    }
    json_close(json, ']');
    json_open(json, "timeline", '{');
    json_seconds(json, "interval", history->interval_ns);
    json_string(json, "columns", "at, live_bytes, live_bytes_max, rss_bytes, rss_bytes_max, mapped_bytes");
    json_open(json, "samples", '[');
    for (size_t i = 0; i < history->sample_count; i++) {
        const struct history_sample *sample = &history->samples[i];
        json_open_line(json, NULL, '[');
        json_seconds(json, NULL, sample->time_ns);
        json_int(json, NULL, sample->live_bytes);
        json_int(json, NULL, sample->live_bytes_max);
        json_uint(json, NULL, sample->rss_bytes);
        json_uint(json, NULL, sample->rss_bytes_max);
        json_uint(json, NULL, sample->mapped_bytes);
        json_close(json, ']');
    }
    json_close(json, ']');
    json_close(json, '}');
}

static void put_sizes(struct writer *writer)
{
    const struct profile *profile = writer->report->profile;
    struct json *json = writer->json;

    json_open(json, "sizes", '[');
    for (unsigned i = 0; i < PROFILE_SIZE_CLASSES; i++) {
        uint64_t from, to;
        if (profile->size_class[i] == 0)
            continue;
        profile_size_class(i, &from, &to);
        json_open_line(json, NULL, '{');
        json_uint(json, "from", from);
        if (to == UINT64_MAX)
            json_null(json, "to");
        else
            json_uint(json, "to", to);
        json_uint(json, "allocations", profile->size_class[i]);
        json_close(json, '}');
    }
    json_close(json, ']');
}

/* ---- sites and frames --------------------------------------------------------------------------- */

/* Its number in "frames", where frames of one instruction are one. */
static uint32_t number_of(struct writer *writer, uint32_t frame)
{
    uint32_t place = names_place(writer->names, frame);
    while (writer->number.count <= place)
        array_push(&writer->number, 0);
    if (writer->number.at[place] == 0) {
        array_push(&writer->frames, frame);
        writer->number.at[place] = (uint32_t)writer->frames.count;
    }
    return writer->number.at[place] - 1;
}

static void put_site_errors(struct json *json, const struct profile *profile, const struct profile_site *site)
{
    if (!profile->process.has_errors)
        return;
    open_errors(json, &site->variance, &(struct profile_estimates){
        (double)site->allocations, (double)site->allocated_bytes, (double)site->live_blocks, (double)site->live_bytes,
        (double)site->peak_blocks, (double)site->peak_bytes });
    if (profile->pins_estimated)
        put_error(json, "pin_share_bytes", site->pin_share_variance, (double)site->pin_share_bytes);
    json_close(json, '}');
}

static void put_site(struct writer *writer, const struct profile_site *site)
{
    static const char *const kinds[] = { "heap", "mapping", "break" };
    struct json *json = writer->json;
    struct strbuf where = STRBUF_INIT;
    struct profile_frame frame;

    json_open(json, NULL, '{');
    json_uint(json, "id", site->id);
    json_string(json, "kind", kinds[site->kind]);
    sites_where(&where, &writer->view, site->id, 1000);
    json_string(json, "where", where.text);
    strbuf_free(&where);
    json_open_line(json, "stack", '[');
    for (uint32_t id = site->frame; profile_frame(writer->report->profile, id, &frame); id = frame.parent)
        json_uint(json, NULL, number_of(writer, id));
    json_close(json, ']');
    if (site->cut || site->incomplete || site->guessed) {
        json_bool(json, "cut", site->cut);
        json_bool(json, "incomplete", site->incomplete);
        json_bool(json, "guessed", site->guessed);
    }
    json_seconds(json, "first_at", site->first_ns);
    json_uint(json, "allocations", site->allocations);
    json_uint(json, "allocated_bytes", site->allocated_bytes);
    json_uint(json, "frees", site->frees);
    json_uint(json, "freed_bytes", site->freed_bytes);
    json_uint(json, "temporary", site->temporary);
    json_int(json, "live_blocks", site->live_blocks);
    json_int(json, "live_bytes", site->live_bytes);
    json_int(json, "slack_bytes", site->slack_bytes);
    json_int(json, "peak_blocks", site->peak_blocks);
    json_int(json, "peak_bytes", site->peak_bytes);
    json_int(json, "own_peak_bytes", site->own_peak_bytes);
    json_seconds(json, "own_peak_at", site->own_peak_ns);
    json_uint(json, "held_bytes", site->held_bytes);
    json_uint(json, "held_page_bytes", site->held_page_bytes);
    json_uint(json, "pin_sole_bytes", site->pin_sole_bytes);
    json_uint(json, "pin_share_bytes", site->pin_share_bytes);
    json_uint(json, "mapped_bytes", site->mapped_bytes);
    put_site_errors(json, writer->report->profile, site);
    json_close(json, '}');
}

static void put_frame(struct writer *writer, uint32_t id)
{
    const struct profile *profile = writer->report->profile;
    static const char *const kinds[] = { "native", "signal", "python" };
    struct json *json = writer->json;
    struct profile_frame frame;

    if (!profile_frame(profile, id, &frame))
        return;
    struct names_stack calls = names_frame(writer->names, id);
    json_open_line(json, NULL, '{');
    json_string(json, "kind", kinds[frame.kind]);
    if (frame.module == PROFILE_NO_MODULE)
        json_null(json, "module");
    else
        json_uint(json, "module", frame.module);
    json_address(json, "address", frame.address);
    json_bool(json, "exact", frame.kind != PROFILE_NATIVE);
    json_open(json, "calls", '[');
    for (size_t i = 0; i < calls.count; i++) {
        json_open(json, NULL, '{');
        json_string(json, "function", calls.at[i].function);
        if (calls.at[i].file)
            json_string(json, "file", calls.at[i].file);
        if (calls.at[i].line)
            json_uint(json, "line", calls.at[i].line);
        if (calls.at[i].column)
            json_uint(json, "column", calls.at[i].column);
        json_close(json, '}');
    }
    json_close(json, ']');
    json_close(json, '}');
}

static void put_modules(struct writer *writer)
{
    const struct profile *profile = writer->report->profile;
    struct json *json = writer->json;

    json_open(json, "modules", '[');
    for (size_t i = 0; i < profile->module_count; i++) {
        const struct profile_module *module = &profile->modules[i];
        json_open_line(json, NULL, '{');
        json_string(json, "path", module->path);
        json_hex(json, "build_id", module->build_id, module->build_id_bytes);
        json_address(json, "base", module->base);
        json_bool(json, "unloaded", module->unloaded);
        json_close(json, '}');
    }
    json_close(json, ']');
}

static bool is_eligible(const struct writer *writer, const struct profile_site *site)
{
    bool untouched = site->allocations == 0 && site->frees == 0 && site->held_bytes == 0;
    return !untouched && !(writer->view.hidden && writer->view.hidden[site->id]);
}

static void list_site(struct writer *writer, const struct profile_site *site)
{
    if (writer->listed[site->id] || !is_eligible(writer, site))
        return;
    writer->listed[site->id] = true;
    array_push(&writer->sites, site);
}

static void list_by_id(struct writer *writer, uint32_t id)
{
    if (id < writer->report->profile->site_count)
        list_site(writer, &writer->report->profile->sites[id]);
}

/* Those that the rest of the document names. */
static void list_named(struct writer *writer)
{
    const struct report *report = writer->report;
    for (size_t i = 0; i < report->verdict->count; i++)
        list_by_id(writer, report->verdict->finding[i].site);
    for (size_t i = 0; i < report->ledgers->count; i++) {
        const struct ledger *ledger = &report->ledgers->at[i];
        for (size_t k = 0; k < ledger->pin_count; k++)
            list_by_id(writer, ledger->pins[k].site);
        for (size_t k = 0; k < ledger->python.keeper_count; k++)
            list_by_id(writer, ledger->python.keepers[k].site);
    }
}

static int site_compare(const void *a, const void *b)
{
    const struct profile_site *x = *(const struct profile_site *const *)a, *y = *(const struct profile_site *const *)b;
    return x->id < y->id ? -1 : x->id > y->id;
}

/* Without a key to sort by: all of them, by id; of very many, or when a number is given, the largest by each key. */
static void choose_sites(struct writer *writer)
{
    const struct profile *profile = writer->report->profile;
    const struct report_options *options = writer->options;
    size_t eligible = 0, limit = options->limit;

    for (size_t i = 0; i < profile->site_count; i++)
        eligible += is_eligible(writer, &profile->sites[i]);
    if (limit == 0)
        limit = eligible <= SITES_MANY ? REPORT_ALL : options->sort == RANK_KEYS ? SITES_LARGEST : SITES_MANY;
    if (options->sort == RANK_KEYS && limit == REPORT_ALL) {
        for (size_t i = 0; i < profile->site_count; i++)
            list_site(writer, &profile->sites[i]);
        return;
    }
    for (unsigned key = 0; key < RANK_KEYS; key++) {
        if (options->sort != RANK_KEYS && key != options->sort)
            continue;
        struct rank rank = rank_first(profile, (enum rank_key)key, PROFILE_KINDS, writer->view.hidden, limit);
        for (size_t i = 0; i < rank.count; i++)
            list_site(writer, rank.sites[i]);
        rank_free(&rank);
    }
    if (options->sort == RANK_KEYS) {
        list_named(writer);
        array_sort(&writer->sites, site_compare);
    }
}

static void put_others(struct writer *writer)
{
    static const char *const kinds[PROFILE_KINDS] = { "heap", "mappings", "breaks" };
    const struct profile *profile = writer->report->profile;
    struct profile_sum others[PROFILE_KINDS] = { { 0 } };
    struct json *json = writer->json;
    size_t count = 0;

    for (size_t i = 0; i < profile->site_count; i++)
        if (!writer->listed[i] && is_eligible(writer, &profile->sites[i])) {
            profile_add(&others[profile->sites[i].kind], &profile->sites[i]);
            count++;
        }
    if (count == 0) {
        json_null(json, "others");
        return;
    }
    json_open(json, "others", '{');
    for (unsigned kind = 0; kind < PROFILE_KINDS; kind++) {
        put_sum(json, kinds[kind], &others[kind], NULL);
        json_int(json, "peak_bytes", others[kind].peak_bytes);
        json_int(json, "peak_blocks", others[kind].peak_blocks);
        json_uint(json, "held_bytes", others[kind].held_bytes);
        json_uint(json, "mapped_bytes", others[kind].mapped_bytes);
        json_close(json, '}');
    }
    json_close(json, '}');
}

static void put_sites(struct writer *writer)
{
    json_open(writer->json, "sites", '[');
    for (size_t i = 0; i < writer->sites.count; i++)
        put_site(writer, writer->sites.at[i]);
    json_close(writer->json, ']');
    put_others(writer);
}

/* The names of all that will be written: the symbolizer works module by module. */
static void want_names(struct writer *writer)
{
    const struct profile *profile = writer->report->profile;
    for (size_t i = 0; i < writer->sites.count; i++)
        names_want(writer->names, writer->sites.at[i]->frame, NAMES_ALL);
    for (size_t i = 0; i < writer->report->verdict->count; i++)
        if (writer->report->verdict->finding[i].site < profile->site_count)
            names_want(writer->names, profile->sites[writer->report->verdict->finding[i].site].frame, NAMES_ALL);
    names_resolve(writer->names);
}

void report_json(const struct report *report, const struct report_options *options, FILE *out)
{
    const struct profile *profile = report->profile;
    struct json document = json_start(out), *json = &document;
    struct names *names = names_new(profile, options->symbols);
    bool *hidden = filter_sites(profile, names, options->filter);
    struct writer writer = { .json = json, .report = report, .options = options, .names = names };

    writer.view = (struct sites_view){ .profile = profile, .names = names, .options = options, .hidden = hidden };
    writer.listed = xcalloc(profile->site_count, sizeof *writer.listed);
    choose_sites(&writer);
    want_names(&writer);

    json_open(json, NULL, '{');
    json_string(json, "format", "heapmark-report");
    json_uint(json, "version", 1);
    put_process(&writer);
    put_losses(&writer);
    put_rss(&writer);
    put_sums(&writer);
    put_verdict(&writer);
    if (report->current)
        json_int(json, "current_ledger", report->current - report->ledgers->at);
    else
        json_null(json, "current_ledger");
    json_open(json, "ledgers", '[');
    for (size_t i = 0; i < report->ledgers->count; i++)
        put_ledger(json, report->profile, &report->ledgers->at[i]);
    json_close(json, ']');
    put_history(&writer);
    put_sizes(&writer);
    put_sites(&writer);
    json_open(json, "frames", '[');
    for (size_t i = 0; i < writer.frames.count; i++)
        put_frame(&writer, writer.frames.at[i]);
    json_close(json, ']');
    put_modules(&writer);
    json_close(json, '}');
    json_end(json);

    array_free(&writer.frames);
    array_free(&writer.number);
    array_free(&writer.sites);
    free(writer.listed);
    free(hidden);
    names_free(names);
}
