/* SPDX-License-Identifier: MIT */
#include "viewer/overview.h"

#include "analysis/history.h"
#include "analysis/ledger.h"
#include "analysis/profile.h"
#include "analysis/verdict.h"
#include "analysis/whatif.h"
#include "base/strbuf.h"
#include "viewer/findings.h"
#include "viewer/names.h"
#include "viewer/plain.h"
#include "viewer/report.h"
#include "viewer/sites.h"
#include "viewer/style.h"
#include "viewer/units.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define ARENA_NOTICE (INT64_C(1) << 20) /* arenas that hold less are not worth a table */
#define PINS_SHOWN 5
#define PIN_NOTICE (UINT64_C(1) << 20)  /* a first set that holds less is not worth a table */
#define PIN_INDENT "                                       "
#define LABEL_COLUMNS 20

/* ---- words -------------------------------------------------------------------------------------- */

static const struct {
    enum ledger_part part;
    const char *label;
    const char *remark;
} ledger_rows[] = {
    { LEDGER_LIVE, "live, as requested", "" },
    { LEDGER_SLACK, "live, rounding up", "and chunk headers" },
    { LEDGER_PYTHON, "live, Python", "small objects in Python's arenas" },
    { LEDGER_RETURNABLE, "held, returnable", "whole pages; malloc_trim(0) returns them" },
    { LEDGER_TOP, "held, top", "returnable, kept by the trim threshold" },
    { LEDGER_PARTIAL, "held, partial", "free bytes on pages of live blocks" },
    { LEDGER_EDGE, "held, edge", "whole pages at the edge of a free chunk" },
    { LEDGER_CACHED, "held, cached", "freed blocks in the allocator's caches" },
    { LEDGER_STUCK_TOP, "held, stuck top", "tops of thread arenas; never trimmed" },
    { LEDGER_ARENA, "held, arena", "free space in Python's arenas" },
    { LEDGER_FOREIGN, "held, foreign", "another allocator's cache" },
    { LEDGER_UNUSED, "held, never used", "resident, but no block was ever there" },
    { LEDGER_METADATA, "allocator's own", "" },
    { LEDGER_MAPPED, "mappings", "anonymous, by the program itself" },
    { LEDGER_FILES, "files", "code and data of modules, mapped files" },
    { LEDGER_SHARED, "shared memory", "" },
    { LEDGER_STACKS, "stacks", "" },
    { LEDGER_SELF, "heapmark itself", "" },
    { LEDGER_UNEXPLAINED, "unexplained", "" },
};

static const char *ledger_moment(enum ledger_kind kind)
{
    switch (kind) {
    case LEDGER_AT_EXIT: return "at exit";
    case LEDGER_AT_REQUEST: return "at a request";
    case LEDGER_AT_MARK: return "at a mark";
    case LEDGER_BEFORE_TRIM: return "before a trim";
    case LEDGER_AFTER_TRIM: return "after a trim";
    case LEDGER_AT_PEAK: return "at an RSS peak";
    case LEDGER_AT_DROP: return "after a large fall";
    default: return "once";
    }
}

/* ---- the first screen --------------------------------------------------------------------------- */

static void put_title(struct strbuf *out, const struct sites_view *view, const char *title)
{
    strbuf_char(out, '\n');
    style_put(out, view->options->color, STYLE_TITLE, title);
    strbuf_char(out, '\n');
}

static void put_ending(struct strbuf *out, const struct report *report)
{
    const struct profile_process *process = &report->profile->process;
    char a[UNITS_BYTES];

    units_duration(a, process->ran_ns);
    if (report->life == REPORT_RUNNING)
        strbuf_printf(out, "running for %s", a);
    else if (report->life == REPORT_KILLED)
        strbuf_printf(out, "killed after %s", a);
    else if (report->life == REPORT_LIFE_UNKNOWN)
        strbuf_printf(out, "last heard of after %s", a);
    else if (process->state == PROFILE_ABORTED)
        strbuf_printf(out, "aborted after %s", a);
    else if (process->state == PROFILE_EXECED)
        strbuf_printf(out, "replaced by exec after %s", a);
    else if (process->state == PROFILE_STOPPED)
        strbuf_printf(out, "recording ended after %s", a);
    else if (process->exit_status > 0)
        strbuf_printf(out, "exited with status %d after %s", process->exit_status, a);
    else
        strbuf_printf(out, "exited after %s", a);
}

void overview_process(struct strbuf *out, const struct report *report, const struct sites_view *view)
{
    const struct profile_process *process = &report->profile->process;
    const struct profile_sum *heap = &report->profile->sum[PROFILE_HEAP];
    char a[UNITS_BYTES];

    style_begin(out, view->options->color, STYLE_STRONG);
    plain_cut_middle(out, *process->command ? process->command : process->exe, view->options->width);
    style_end(out, view->options->color, STYLE_STRONG);
    strbuf_printf(out, "\npid %" PRIu32 ", ", process->pid);
    put_ending(out, report);
    strbuf_printf(out, ", %s", units_counted(a, (int64_t)heap->allocations, "allocation"));
    if (process->has_errors)
        strbuf_printf(out, " (estimated, %s)",
                      units_error(a, profile_error(heap->variance.allocations, (double)heap->allocations), false));
    else if (process->sample_bytes)
        strbuf_put(out, " (estimated)");
    if (process->thread_count > 1)
        strbuf_printf(out, " by %" PRIu64 " threads", process->thread_count);
    strbuf_put(out, "\n\n");
}

static const char *when(const struct report *report, const struct ledger *ledger)
{
    if (report->life == REPORT_RUNNING)
        return "now";
    return ledger && ledger->kind == LEDGER_AT_EXIT ? "at exit" : "at the end";
}

static void put_rss(struct strbuf *out, const struct report *report, const struct sites_view *view,
                    const struct ledger *ledger)
{
    const struct profile *profile = report->profile;
    const struct profile_rss *rss = &profile->rss;
    uint64_t now = ledger ? ledger->rss_bytes : rss->last_bytes;
    uint64_t peak = rss->peak_bytes;
    char a[UNITS_BYTES], b[UNITS_BYTES], c[UNITS_BYTES], d[UNITS_BYTES];

    if (ledger && ledger->rss_peak_bytes > peak)
        peak = ledger->rss_peak_bytes;
    style_begin(out, view->options->color, STYLE_STRONG);
    strbuf_printf(out, "RSS %s %s, %s at the peak", units_size(a, (int64_t)now), when(report, ledger),
                  units_size(b, (int64_t)peak));
    style_end(out, view->options->color, STYLE_STRONG);
    if (rss->peak_ns)
        strbuf_printf(out, " (%s, %s in)", units_clock(c, profile->process.start_realtime_ns + rss->peak_ns),
                      units_duration(d, rss->peak_ns));
    strbuf_char(out, '\n');
}

static void put_part(struct strbuf *out, const char *label, int64_t bytes, uint64_t whole, const char *remark)
{
    char a[UNITS_BYTES], b[UNITS_BYTES];
    strbuf_printf(out, "  %-*s %11s %7s", LABEL_COLUMNS, label, units_size(a, bytes),
                  units_percent(b, bytes, (int64_t)whole));
    if (*remark)
        strbuf_printf(out, "  %s", remark);
    strbuf_char(out, '\n');
}

static void put_live_remark(struct strbuf *out, const struct profile *profile)
{
    char a[UNITS_BYTES], b[UNITS_BYTES];
    strbuf_printf(out, "%s; peak %s",
                  units_counted(a, profile->sum[PROFILE_HEAP].live_blocks, "block"),
                  units_size(b, profile->heap.peak_bytes));
    if (profile->process.has_errors)
        strbuf_printf(out, " %s", units_error(a, profile_error(profile->sum[PROFILE_HEAP].variance.peak_bytes,
                                                               (double)profile->heap.peak_bytes), true));
}

static void put_own_remark(struct strbuf *out, const struct profile *profile)
{
    const struct profile_process *process = &profile->process;
    char a[UNITS_BYTES];
    if (process->spent_ns != 0 && process->cpu_ns != 0)
        strbuf_printf(out, "and %s of the CPU time", units_percent(a, (int64_t)process->spent_ns,
                                                                   (int64_t)process->cpu_ns));
}

static void put_held_remark(struct strbuf *out, const struct report *report, const struct ledger *ledger)
{
    char a[UNITS_BYTES];
    if (ledger->chunks_unknown) {
        strbuf_put(out, "not glibc's: no trim reaches it");
        return;
    }
    strbuf_printf(out, "%s %s%s",
                  report->life == REPORT_RUNNING ? "malloc_trim(0) would return" : "a trim would have returned",
                  ledger->walked ? "" : ledger->estimated ? "at least " : "up to ",
                  units_size(a, (int64_t)ledger->forecast_bytes));
}

static void put_parts(struct strbuf *out, const struct report *report, const struct ledger *ledger)
{
    const int64_t *part = ledger->part;
    uint64_t whole = ledger->rss_bytes;
    struct strbuf remark = STRBUF_INIT;
    char blocks[UNITS_BYTES];

    put_live_remark(&remark, report->profile);
    put_part(out, "live blocks", part[LEDGER_LIVE] + part[LEDGER_SLACK], whole, remark.text);
    strbuf_clear(&remark);
    if (part[LEDGER_PYTHON] > 0)
        put_part(out, "small Python objects", part[LEDGER_PYTHON], whole,
                 units_counted(blocks, (int64_t)ledger->python.live_blocks, "block"));
    put_held_remark(&remark, report, ledger);
    put_part(out, "freed but still held", ledger->held_bytes, whole, remark.text);
    if (part[LEDGER_MAPPED] > 0)
        put_part(out, "program's mappings", part[LEDGER_MAPPED], whole, "");
    put_part(out, "code, stacks, files", part[LEDGER_FILES] + part[LEDGER_STACKS] + part[LEDGER_SHARED]
             + part[LEDGER_METADATA], whole, "");
    strbuf_clear(&remark);
    put_own_remark(&remark, report->profile);
    put_part(out, "heapmark itself", part[LEDGER_SELF], whole, remark.text);
    if (part[LEDGER_UNEXPLAINED] != 0)
        put_part(out, "unexplained", part[LEDGER_UNEXPLAINED], whole, "");
    strbuf_free(&remark);
}

/* Without a census of this state only what was counted is known. */
static void put_parts_uncounted(struct strbuf *out, const struct report *report)
{
    const struct profile *profile = report->profile;
    struct strbuf remark = STRBUF_INIT;
    int64_t live = profile->sum[PROFILE_HEAP].live_bytes;
    int64_t rss = (int64_t)profile->rss.last_bytes, self = (int64_t)profile->rss.self_bytes;

    put_live_remark(&remark, profile);
    put_part(out, "live blocks", live, profile->rss.last_bytes, remark.text);
    if (rss > live + self)
        put_part(out, "everything else", rss - live - self, profile->rss.last_bytes,
                 report->ledgers->count ? "held, mapped, code: census too old" : "held, mapped, code: no census");
    strbuf_clear(&remark);
    put_own_remark(&remark, profile);
    put_part(out, "heapmark itself", self, profile->rss.last_bytes, remark.text);
    strbuf_free(&remark);
}

/* Words wrapped at the width, continued under the first. */
static void put_wrapped(struct strbuf *out, const char *label, const char *text, unsigned width)
{
    size_t indent = plain_width(label), column = indent;
    strbuf_put(out, label);
    for (const char *word = text; *word; ) {
        size_t length = strcspn(word, " ");
        struct strbuf one = STRBUF_INIT;
        strbuf_put_n(&one, word, length);
        size_t columns = plain_width(one.text);
        if (column > indent && column + columns + 1 > width) {
            strbuf_char(out, '\n');
            strbuf_fill(out, ' ', indent);
            column = indent;
        }
        if (column > indent) {
            strbuf_char(out, ' ');
            column++;
        }
        strbuf_put(out, one.text);
        column += columns;
        word += length;
        word += strspn(word, " ");
        strbuf_free(&one);
    }
    strbuf_char(out, '\n');
}

static size_t largest_held(const struct ledger *ledger)
{
    size_t largest = 0;
    for (size_t i = 0; i < sizeof ledger_rows / sizeof *ledger_rows; i++) {
        enum ledger_part part = ledger_rows[i].part;
        bool held = part >= LEDGER_HELD_FIRST && part <= LEDGER_HELD_LAST;
        if (held && (largest == 0 || ledger->part[part] > ledger->part[ledger_rows[largest].part]))
            largest = i;
    }
    return largest;
}

/* The newest census may have come when all was over. */
static void put_earlier(struct strbuf *out, const struct report *report, const struct sites_view *view)
{
    const struct ledger *ledger = ledgers_more_held(report->ledgers);
    struct strbuf text = STRBUF_INIT;
    char a[UNITS_BYTES], b[UNITS_BYTES], c[UNITS_BYTES], d[UNITS_BYTES];

    if (!ledger)
        return;
    size_t row = largest_held(ledger);
    strbuf_printf(&text, "%s in, %s: %s of %s were held, mostly %s (%s); a trim would have returned %s%s",
                  units_duration(a, ledger->time_ns), ledger_moment(ledger->kind), units_size(b, ledger->held_bytes),
                  units_size(c, (int64_t)ledger->rss_bytes), ledger_rows[row].label + strlen("held, "),
                  ledger_rows[row].remark, ledger->walked ? "" : "up to ",
                  units_size(d, (int64_t)ledger->forecast_bytes));
    put_wrapped(out, "  earlier  ", text.text, view->options->width);
    strbuf_free(&text);
}

static void put_findings(struct strbuf *out, const struct report *report, const struct sites_view *view)
{
    const struct verdict *verdict = report->verdict;
    struct strbuf text = STRBUF_INIT;

    strbuf_char(out, '\n');
    for (size_t i = 0; i < verdict->count && i < 3; i++) {
        strbuf_clear(&text);
        findings_sentence(&text, report, view, &verdict->finding[i]);
        put_wrapped(out, i == 0 ? "  why      " : "  also     ", text.text, view->options->width);
        strbuf_clear(&text);
        findings_step(&text, report, view, &verdict->finding[i]);
        if (text.length)
            put_wrapped(out, "  to do    ", text.text, view->options->width);
    }
    put_earlier(out, report, view);
    strbuf_free(&text);
}

void overview_verdict(struct strbuf *out, const struct report *report, const struct sites_view *view)
{
    const struct ledger *ledger = report->current;
    put_rss(out, report, view, ledger);
    if (ledger)
        put_parts(out, report, ledger);
    else
        put_parts_uncounted(out, report);
    put_findings(out, report, view);
}

/* ---- the ledger --------------------------------------------------------------------------------- */

/* Sampled mode: the two parts of live memory are estimates, and what could not be walked has a row to itself. */
static const char *ledger_remark(char *buffer, size_t bytes, size_t row, const struct ledger *ledger)
{
    enum ledger_part part = ledger_rows[row].part;
    char error[UNITS_BYTES];
    if (ledger->estimated && part == LEDGER_UNUSED)
        return "heaps that could not be walked, as far as it is not taken to be live";
    if (!ledger->estimated || (part != LEDGER_LIVE && part != LEDGER_SLACK))
        return ledger_rows[row].remark;
    double variance = part == LEDGER_LIVE ? ledger->live_variance : ledger->slack_variance;
    if (ledger->slack_variance <= 0 && ledger->part[LEDGER_SLACK] == 0)
        return "with headers and rounding: no live block was sampled that would tell them apart";
    snprintf(buffer, bytes, "%s%sestimated, %s", ledger_rows[row].remark, *ledger_rows[row].remark ? ": " : "",
             units_error(error, profile_error(variance, (double)ledger->part[part]), true));
    return buffer;
}

static void put_ledger_row(struct strbuf *out, const struct sites_view *view, size_t row, const struct ledger *ledger,
                           const struct ledger *peak)
{
    char text[128];
    const char *remark = ledger_remark(text, sizeof text, row, ledger);
    int64_t bytes = ledger->part[ledger_rows[row].part];
    int64_t then = peak ? peak->part[ledger_rows[row].part] : 0;
    char a[UNITS_BYTES];

    if (bytes == 0 && then == 0)
        return;
    strbuf_printf(out, "  %-*s %11s", LABEL_COLUMNS, ledger_rows[row].label, units_size(a, bytes));
    if (peak)
        strbuf_printf(out, " %11s", units_size(a, then));
    size_t used = 2 + LABEL_COLUMNS + 12 + (peak ? 12 : 0) + 3 + strlen(remark);
    if (*remark && used <= view->options->width) {
        strbuf_put(out, "   ");
        style_put(out, view->options->color, STYLE_FAINT, remark);
    }
    strbuf_char(out, '\n');
}

void overview_ledger(struct strbuf *out, const struct report *report, const struct sites_view *view)
{
    const struct ledger *ledger = ledgers_newest(report->ledgers), *peak = ledgers_at_peak(report->ledgers);
    struct strbuf title = STRBUF_INIT;
    char a[UNITS_BYTES], b[UNITS_BYTES];

    if (!ledger)
        return;
    if (peak == ledger)
        peak = NULL;
    strbuf_printf(&title, "Where RSS is: census %s, %s in (it took %s)", ledger_moment(ledger->kind),
                  units_duration(a, ledger->time_ns), units_duration(b, ledger->cost_ns));
    put_title(out, view, title.text);
    strbuf_free(&title);
    if (peak)
        strbuf_printf(out, "  %-*s %11s %11s\n", LABEL_COLUMNS, "", "NOW", "AT PEAK");
    for (size_t i = 0; i < sizeof ledger_rows / sizeof *ledger_rows; i++)
        put_ledger_row(out, view, i, ledger, peak);
    strbuf_printf(out, "  %-*s %11s", LABEL_COLUMNS, "sum", units_size(a, ledger->sum_bytes));
    if (peak)
        strbuf_printf(out, " %11s", units_size(a, peak->sum_bytes));
    strbuf_put(out, "   ");
    if (ledger->sum_bytes == (int64_t)ledger->rss_bytes)
        style_put(out, view->options->color, STYLE_FAINT, "= VmRSS of that instant");
    else
        strbuf_printf(out, "VmRSS of that instant: %s", units_size(a, (int64_t)ledger->rss_bytes));
    strbuf_char(out, '\n');
}

void overview_held(struct strbuf *out, const struct report *report, const struct sites_view *view)
{
    const struct ledger *ledger = ledgers_newest(report->ledgers);
    char a[UNITS_BYTES];
    if (!ledger)
        return;
    strbuf_printf(out, "  %-*s %11s\n", LABEL_COLUMNS, "still held", units_size(a, ledger->held_bytes));
    for (size_t i = 0; i < sizeof ledger_rows / sizeof *ledger_rows; i++)
        if (ledger_rows[i].part >= LEDGER_HELD_FIRST && ledger_rows[i].part <= LEDGER_HELD_LAST)
            put_ledger_row(out, view, i, ledger, NULL);
}

/* ---- arenas ------------------------------------------------------------------------------------- */

static const char *arena_name(char *buffer, size_t bytes, const struct ledger *ledger, uint32_t arena)
{
    if (arena == LEDGER_ARENAS - 1 && ledger->arena_count > LEDGER_ARENAS)
        snprintf(buffer, bytes, "%" PRIu32 " more", ledger->arena_count - arena);
    else if (arena == 0)
        snprintf(buffer, bytes, "main");
    else
        snprintf(buffer, bytes, "%" PRIu32, arena);
    return buffer;
}

void overview_arenas(struct strbuf *out, const struct report *report, const struct sites_view *view)
{
    const struct ledger *ledger = ledgers_newest(report->ledgers);
    char name[UNITS_BYTES], a[UNITS_BYTES], b[UNITS_BYTES], c[UNITS_BYTES], d[UNITS_BYTES], e[UNITS_BYTES];

    if (!ledger || ledger->arena_count < 2 || (ledger->held_bytes < ARENA_NOTICE && !view->options->full))
        return;
    put_title(out, view, "Arenas of the allocator");
    style_begin(out, view->options->color, STYLE_FAINT);
    strbuf_printf(out, "%9s %11s %11s %11s %11s %11s", "ARENA", "RESIDENT", "LIVE", "HELD", "RETURNABLE", "STUCK TOP");
    style_end(out, view->options->color, STYLE_FAINT);
    strbuf_char(out, '\n');
    for (uint32_t i = 0; i < LEDGER_ARENAS && i < ledger->arena_count; i++) {
        const struct ledger_arena *arena = &ledger->arena[i];
        strbuf_printf(out, "%9s %11s %11s %11s %11s %11s\n", arena_name(name, sizeof name, ledger, i),
                      units_size(a, arena->resident_bytes), units_size(b, arena->live_bytes),
                      units_size(c, arena->held_bytes), units_size(d, arena->forecast_bytes),
                      units_size(e, arena->stuck_bytes));
    }
}

/* ---- pins --------------------------------------------------------------------------------------- */

static const char *pin_note(const struct ledger_pin *pin)
{
    if (pin->kind == LEDGER_PIN_PAGES)
        return pin->returnable ? "on shared pages; malloc_trim(0) returns the gain" : "on shared pages";
    if (pin->kind == LEDGER_PIN_TOP_CACHED)
        return pin->returnable ? "a cached free chunk at the top of the heap; returns by malloc_trim(0)"
                               : "a cached free chunk at the top of the heap";
    if (pin->returnable)
        return pin->returns_itself ? "top of the heap; returns by malloc_trim(0), or by itself when freed"
                                   : "top of the heap; returns by malloc_trim(0)";
    return pin->returns_itself ? "top of the heap; returns by itself when freed"
                               : "top of the heap; when freed, still needs a trim";
}

/* Of the blocks only their site is known: when its first one was made, and by whom.  "; made 1.2 s in by thread worker" */
static void put_maker(struct strbuf *out, const struct profile *profile, const struct ledger_pin *pin)
{
    const struct profile_site *site = &profile->sites[pin->site];
    char when[UNITS_BYTES], name[PROFILE_THREAD_NAME];
    if (site->first_ns > 0)
        strbuf_printf(out, "; made %s%s in", site->allocations == 1 ? "" : "not before ",
                      units_duration(when, site->first_ns));
    else
        strbuf_put(out, site->allocations == 1 ? "; made at the start" : "; made since the start");
    if (profile->process.thread_count < 2 || site->threads == 0)
        return;
    profile_thread_name(profile, site->thread, name);
    if (site->threads == 1 && *name)
        strbuf_printf(out, " by thread %s", name);
    else if (site->threads > 1)
        strbuf_printf(out, " by up to %" PRIu32 " threads", site->threads);
}

static uint64_t largest_gain(const struct ledger *ledger)
{
    uint64_t largest = 0;
    for (size_t i = 0; i < ledger->pin_count; i++)
        if (ledger->pins[i].gain_bytes > largest)
            largest = ledger->pins[i].gain_bytes;
    return largest;
}

static void put_pin(struct strbuf *out, const struct sites_view *view, const struct ledger_pin *pin)
{
    const struct report_options *options = view->options;
    struct strbuf note = STRBUF_INIT;
    char a[UNITS_BYTES], b[UNITS_BYTES], c[UNITS_BYTES];

    strbuf_printf(out, "%11s %11s %11s  ", units_size(a, (int64_t)pin->gain_bytes),
                  units_size(b, (int64_t)pin->cumulative_bytes), units_count(c, (int64_t)pin->blocks));
    style_begin(out, options->color, STYLE_STRONG);
    if (pin->unsampled && pin->site == 0)
        strbuf_put(out, pin->blocks == 1 ? "(a block that was not sampled)" : "(blocks that were not sampled)");
    else
        sites_where(out, view, pin->site, options->width - 37);
    style_end(out, options->color, STYLE_STRONG);
    strbuf_char(out, '\n');
    /* A rung of the ladder: blocks of the sites above lie among those of its own. */
    bool mixed = pin->kind == LEDGER_PIN_TOP && !pin->unsampled && (int64_t)pin->blocks > view->profile->sites[pin->site].live_blocks;
    strbuf_printf(&note, "%s%s%s; %s", units_size(a, (int64_t)pin->bytes), pin->blocks == 1 ? "" : " in all",
                  mixed ? ", with blocks of the sets above" : pin->unsampled && pin->site != 0 ? ", most not sampled" : "",
                  pin_note(pin));
    if (!pin->unsampled)
        put_maker(&note, view->profile, pin);
    if (pin->arena != 0)
        strbuf_printf(&note, " (arena %" PRIu32 ")", pin->arena);
    style_begin(out, options->color, STYLE_FAINT);
    put_wrapped(out, PIN_INDENT, note.text, options->width);
    style_end(out, options->color, STYLE_FAINT);
    strbuf_free(&note);
}

void overview_pins(struct strbuf *out, const struct report *report, const struct sites_view *view)
{
    const struct ledger *ledger = ledgers_newest(report->ledgers);
    const struct report_options *options = view->options;
    uint64_t largest = ledger ? largest_gain(ledger) : 0;
    size_t shown = 0;
    char a[UNITS_BYTES];

    if (!ledger || ledger->pin_count == 0 || (!options->full && largest < PIN_NOTICE))
        return;
    put_title(out, view, "What stands in the way: freeing these live blocks would let go");
    style_begin(out, options->color, STYLE_FAINT);
    strbuf_printf(out, "%11s %11s %11s  %s", "GAIN", "TOGETHER", "BLOCKS", "WHERE");
    style_end(out, options->color, STYLE_FAINT);
    strbuf_char(out, '\n');
    for (size_t i = 0; i < ledger->pin_count; i++) {
        /* Many rungs of the ladder let next to nothing go. */
        bool noise = ledger->pins[i].gain_bytes < largest / 200 || shown == PINS_SHOWN;
        if (noise && !options->full)
            continue;
        put_pin(out, view, &ledger->pins[i]);
        shown++;
    }
    if (ledger->pin_count > shown) {
        style_begin(out, options->color, STYLE_FAINT);
        strbuf_printf(out, "%35s  %s with --full", "",
                      units_counted(a, (int64_t)(ledger->pin_count - shown), "more set"));
        style_end(out, options->color, STYLE_FAINT);
        strbuf_char(out, '\n');
    }
}

/* ---- settings ----------------------------------------------------------------------------------- */

static const char *whatif_why(enum whatif_setting setting)
{
    switch (setting) {
    case WHATIF_THRESHOLDS:
        return "blocks of 128 KiB and more get a mapping each, and tops above that go back: freeing a large block no longer "
               "raises both limits";
    case WHATIF_ARENAS:
        return "one heap in place of many, whose tops no trim reaches; threads wait for each other instead";
    case WHATIF_TCACHE:
        return "no freed block is cached, so none keeps the top from being trimmed; malloc and free become slower";
    case WHATIF_SETTINGS:
        break;
    }
    return "";
}

void overview_settings(struct strbuf *out, const struct report *report, const struct sites_view *view)
{
    static const char *const bounds[] = { [WHATIF_ABOUT] = "about", [WHATIF_AT_LEAST] = "at least",
                                          [WHATIF_UP_TO] = "up to", [WHATIF_AFTER_TRIM] = "about" };
    const struct ledger *ledger = ledgers_newest(report->ledgers);
    struct whatifs settings = ledger ? whatifs_find(report->profile, ledger) : (struct whatifs){ .count = 0 };
    char a[UNITS_BYTES];

    if (settings.count == 0)
        return;
    put_title(out, view, "What settings in the environment would change");
    for (size_t i = 0; i < settings.count; i++) {
        const struct whatif *whatif = &settings.at[i];
        strbuf_printf(out, "%9s %11s less  ", bounds[whatif->bound], units_size(a, (int64_t)whatif->bytes));
        style_put(out, view->options->color, STYLE_STRONG, whatif_environment(whatif->setting));
        if (whatif->bound == WHATIF_AFTER_TRIM)
            strbuf_put(out, ", after a trim");
        strbuf_char(out, '\n');
        style_begin(out, view->options->color, STYLE_FAINT);
        put_wrapped(out, "                            ", whatif_why(whatif->setting), view->options->width);
        style_end(out, view->options->color, STYLE_FAINT);
    }
}

/* ---- along time --------------------------------------------------------------------------------- */

static void put_phases(struct strbuf *out, const struct report *report, const struct sites_view *view)
{
    const struct history *history = report->history;
    char a[UNITS_BYTES], b[UNITS_BYTES], c[UNITS_BYTES], d[UNITS_BYTES], e[UNITS_BYTES];

    if (history->phase_count == 0)
        return;
    put_title(out, view, history->mark_count ? "Phases, and from each mark to the next" : "Phases");
    style_begin(out, view->options->color, STYLE_FAINT);
    strbuf_printf(out, "%9s %9s %12s %12s %12s  %s", "FROM", "TOOK", "LIVE AT END", "LIVE PEAK", "RSS PEAK", "PHASE");
    style_end(out, view->options->color, STYLE_FAINT);
    strbuf_char(out, '\n');
    for (size_t i = 0; i < history->phase_count; i++) {
        const struct history_phase *phase = &history->phases[i];
        strbuf_printf(out, "%9s %9s %12s %12s %12s  %*s", units_elapsed(a, phase->begin_ns),
                      units_elapsed(b, phase->end_ns > phase->begin_ns ? phase->end_ns - phase->begin_ns : 0),
                      units_size(c, phase->live_end_bytes), units_size(d, phase->live_peak_bytes),
                      phase->rss_peak_bytes ? units_size(e, (int64_t)phase->rss_peak_bytes) : "-",
                      (int)(phase->depth < 10 ? phase->depth : 10) * 2, "");
        plain_cut_middle(out, phase->label, 40);
        strbuf_put(out, phase->between_marks ? phase->begin_ns ? " (mark)" : "" : phase->open ? " (not ended)" : "");
        strbuf_char(out, '\n');
    }
}

static void put_trims(struct strbuf *out, const struct report *report, const struct sites_view *view)
{
    const struct history *history = report->history;
    char a[UNITS_BYTES], b[UNITS_BYTES], c[UNITS_BYTES], d[UNITS_BYTES], e[UNITS_BYTES];

    if (history->trim_count == 0)
        return;
    put_title(out, view, "Trims");
    style_begin(out, view->options->color, STYLE_FAINT);
    strbuf_printf(out, "%9s %12s %12s %12s %9s", "AT", "RSS BEFORE", "PREDICTED", "RETURNED", "TOOK");
    style_end(out, view->options->color, STYLE_FAINT);
    strbuf_char(out, '\n');
    for (size_t i = 0; i < history->trim_count; i++) {
        const struct history_trim *trim = &history->trims[i];
        strbuf_printf(out, "%9s %12s %12s %12s %9s\n", units_elapsed(a, trim->time_ns),
                      units_size(b, (int64_t)trim->rss_before_bytes), trim->forecast_bytes ? units_size(c, (int64_t)trim->forecast_bytes) : "-",
                      units_size(d, (int64_t)(trim->rss_before_bytes - trim->rss_after_bytes)),
                      units_duration(e, trim->duration_ns));
    }
}

void overview_history(struct strbuf *out, const struct report *report, const struct sites_view *view)
{
    put_phases(out, report, view);
    put_trims(out, report, view);
}

/* ---- doubts ------------------------------------------------------------------------------------- */

static void doubt(struct strbuf *out, const struct sites_view *view, bool *any, const char *sentence)
{
    if (!*any)
        put_title(out, view, "To bear in mind");
    *any = true;
    put_wrapped(out, "  - ", sentence, view->options->width);
}

static void doubt_count(struct strbuf *out, const struct sites_view *view, bool *any, uint64_t count, const char *noun,
                        const char *sentence)
{
    struct strbuf text = STRBUF_INIT;
    char a[UNITS_BYTES];
    if (count == 0)
        return;
    strbuf_printf(&text, "%s %s", units_counted(a, (int64_t)count, noun), sentence);
    doubt(out, view, any, text.text);
    strbuf_free(&text);
}

static void doubt_age(struct strbuf *text, const struct report *report, const struct ledger *ledger)
{
    char a[UNITS_BYTES], b[UNITS_BYTES];
    uint64_t ran_ns = report->profile->process.ran_ns;
    strbuf_printf(text, "the last census was taken %s %s, when RSS was %s",
                  units_duration(a, ran_ns > ledger->time_ns ? ran_ns - ledger->time_ns : 0),
                  report->life == REPORT_RUNNING ? "ago" : "before the end", units_size(b, (int64_t)ledger->rss_bytes));
    if (report->life == REPORT_RUNNING)
        strbuf_printf(text, "; heapmark snapshot %" PRIu32 " takes one now", report->profile->process.pid);
}

static void doubt_moving(struct strbuf *out, const struct report *report, const struct sites_view *view, bool *any)
{
    struct strbuf text = STRBUF_INIT;
    strbuf_put(&text, "the heap was changing while the census was taken: its parts are of different instants");
    if (report->life == REPORT_RUNNING)
        strbuf_printf(&text, "; heapmark snapshot --exact %" PRIu32 " takes one of a single instant",
                      report->profile->process.pid);
    doubt(out, view, any, text.text);
    strbuf_free(&text);
}

static void doubt_ledger(struct strbuf *out, const struct report *report, const struct sites_view *view, bool *any)
{
    const struct ledger *ledger = ledgers_newest(report->ledgers);
    struct strbuf text = STRBUF_INIT;
    char a[UNITS_BYTES];

    if (!ledger) {
        doubt(out, view, any, "no census was taken: held memory and its causes are unknown");
        return;
    }
    if (!report->current) {
        doubt_age(&text, report, ledger);
        doubt(out, view, any, text.text);
    }
    if (ledger->moving)
        doubt_moving(out, report, view, any);
    if (!ledger->closed)
        doubt(out, view, any, "a check of the census did not close: its numbers on held memory are not certain");
    if (ledger->sampled)
        doubt(out, view, any, ledger->estimated ? "sampled mode: who freed what is still held is not told by site, because blocks "
              "that were not sampled may have been there since" : "sampled mode: who holds freed memory, and what pins it, is not told by site");
    if (ledger->rows_cut)
        doubt(out, view, any, "more sites hold freed memory than the census has rows: the smallest are left out");
    if (ledger->chunks_unknown)
        doubt(out, view, any, "the allocator is not glibc's: what is free inside it cannot be told, pages only");
    if (!ledger->walked && !ledger->chunks_unknown && ledger->estimated)
        doubt(out, view, any, "the heap's chunks could not all be walked: the forecast of malloc_trim may be too low");
    else if (!ledger->walked && !ledger->chunks_unknown)
        doubt(out, view, any, "the heap's chunks could not all be walked: the forecast of malloc_trim is an upper "
              "bound, up to 2 MiB a thread too high");
    if (ledger->huge_bytes) {
        strbuf_clear(&text);
        strbuf_printf(&text, "%s of the heap are huge pages: after a trim the kernel may fill the holes again, unless "
                      "/sys/kernel/mm/transparent_hugepage/khugepaged/max_ptes_none is 0",
                      units_size(a, (int64_t)ledger->huge_bytes));
        doubt(out, view, any, text.text);
    }
    if (ledger->swap_bytes) {
        strbuf_clear(&text);
        strbuf_printf(&text, "%s of the process are swapped out and not part of RSS",
                      units_size(a, (int64_t)ledger->swap_bytes));
        doubt(out, view, any, text.text);
    }
    strbuf_free(&text);
}

static void doubt_peak(struct strbuf *out, const struct sites_view *view, bool *any, const struct profile_rss *rss)
{
    struct strbuf text = STRBUF_INIT;
    char a[UNITS_BYTES];
    if (rss->kernel_peak_bytes > rss->peak_bytes + rss->peak_bytes / 100) {
        strbuf_printf(&text, "the kernel's own high-water mark, VmHWM, is %s: heapmark itself took the difference, for the moment of a "
                      "ledger", units_size(a, (int64_t)rss->kernel_peak_bytes));
        doubt(out, view, any, text.text);
    }
    strbuf_free(&text);
}

void overview_doubts(struct strbuf *out, const struct report *report, const struct sites_view *view)
{
    const struct profile_losses *losses = &report->profile->losses;
    const struct profile_process *process = &report->profile->process;
    struct strbuf text = STRBUF_INIT;
    bool any = false;
    char a[UNITS_BYTES], b[UNITS_BYTES];

    if (process->stop_reason) {
        strbuf_printf(&text, "new stacks were no longer recorded: %s; all counts go on", process->stop_reason);
        doubt(out, view, &any, text.text);
    }
    for (size_t i = 0; i < report->history->note_count; i++)
        if (report->history->notes[i].kind == HISTORY_DEGRADED) {
            strbuf_clear(&text);
            plain_put(&text, report->history->notes[i].text);
            doubt(out, view, &any, text.text);
        }
    if (process->sample_bytes) {
        strbuf_clear(&text);
        strbuf_printf(&text, "one allocation in about %s was recorded%s: bytes and counts are estimates%s",
                      units_size(a, (int64_t)process->sample_bytes),
                      process->sampled_from_ns ? " from the moment on when the budget of CPU time was spent" : "",
                      process->has_errors ? ", right within +-1 standard error two times in three" : "");
        doubt(out, view, &any, text.text);
    }
    doubt_peak(out, view, &any, &report->profile->rss);
    doubt_count(out, view, &any, losses->sites, "stack", "not recorded; their blocks are counted together");
    doubt_count(out, view, &any, losses->events, "event", "did not fit into the log");
    doubt_count(out, view, &any, losses->reentrant, "allocation",
                "made inside the allocator by a signal handler, not counted");
    doubt_count(out, view, &any, losses->stale_live, "free", "missed, and found out when the memory was used again");
    doubt_count(out, view, &any, losses->incomplete_stacks, "stack", "ended early, at a frame without unwind information");
    doubt_count(out, view, &any, losses->abandoned, "allocation", "left by a longjmp out of a signal handler");
    doubt_count(out, view, &any, losses->cut_stacks, "stack", "deeper than the limit: the root side is missing");
    if (losses->verify_wrong) {
        strbuf_clear(&text);
        strbuf_printf(&text, "%s of %s stacks differed from the reference unwinder's",
                      units_count(a, (int64_t)losses->verify_wrong), units_count(b, (int64_t)losses->verify_checked));
        doubt(out, view, &any, text.text);
    }
    if (report->profile->heap.error_bytes > (uint64_t)report->profile->heap.peak_bytes / 100) {
        strbuf_clear(&text);
        strbuf_printf(&text, "threads report their bytes in steps: the heap's peak may be %s off",
                      units_size(a, (int64_t)report->profile->heap.error_bytes));
        doubt(out, view, &any, text.text);
    }
    if (process->forked)
        doubt(out, view, &any, "a child of fork: pages that it still shares with its parent count in the RSS of both, and "
              "returning them frees nothing");
    if (report->profile->heap.inherited_blocks) {
        strbuf_clear(&text);
        strbuf_printf(&text, "%s of %s inherited from the parent at the fork, not counted here",
                      units_counted(a, (int64_t)report->profile->heap.inherited_blocks, "block"),
                      units_size(b, (int64_t)report->profile->heap.inherited_bytes));
        doubt(out, view, &any, text.text);
    }
    doubt_ledger(out, report, view, &any);
    strbuf_free(&text);
}
