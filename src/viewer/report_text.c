/* SPDX-License-Identifier: MIT */
#include "viewer/report.h"

#include "analysis/alike.h"
#include "analysis/history.h"
#include "analysis/ledger.h"
#include "analysis/profile.h"
#include "analysis/verdict.h"
#include "base/strbuf.h"
#include "base/xalloc.h"
#include "viewer/arenas.h"
#include "viewer/filter.h"
#include "viewer/names.h"
#include "viewer/overview.h"
#include "viewer/sites.h"
#include "viewer/units.h"
#include <stdlib.h>

/* The tables of the overview.  A table without rows, or of less than `least` in all, is not printed. */
#define MIB (INT64_C(1) << 20)
static const struct {
    enum rank_key key;
    enum profile_kind kind;
    size_t rows;
    int64_t least;
} overview_tables[] = {
    { RANK_PINNED, PROFILE_HEAP, 5, MIB },
    { RANK_HELD, PROFILE_HEAP, 5, MIB },
    { RANK_PEAK, PROFILE_HEAP, 5, 0 },
    { RANK_LIVE, PROFILE_HEAP, 5, 0 },
    { RANK_MAPPED, PROFILE_KINDS, 3, MIB },
    { RANK_COUNT, PROFILE_HEAP, 3, 0 },
};
#define OVERVIEW_TABLES (sizeof overview_tables / sizeof *overview_tables)
#define OVERVIEW_LINES 3
#define SORTED_ROWS 20
#define SORTED_LINES 4

struct tables {
    enum rank_key key[OVERVIEW_TABLES];
    struct sites_table *at[OVERVIEW_TABLES];
    size_t count;
};

/* " (+-1.2 MiB)" behind an estimate. */
static void put_error(struct strbuf *out, const struct profile *profile, double variance, int64_t estimate, bool size)
{
    char error[UNITS_BYTES];
    if (profile->process.has_errors)
        strbuf_printf(out, " (%s)", units_error(error, profile_error(variance, (double)estimate), size));
}

static void put_title(struct strbuf *title, const struct report *report, enum rank_key key)
{
    const struct profile *profile = report->profile;
    const struct profile_sum *heap = &profile->sum[PROFILE_HEAP];
    char a[UNITS_BYTES], b[UNITS_BYTES], c[UNITS_BYTES];

    switch (key) {
    case RANK_LIVE:
        strbuf_printf(title, "Live: %s", units_size(a, heap->live_bytes));
        put_error(title, profile, heap->variance.live_bytes, heap->live_bytes, true);
        strbuf_printf(title, " in %s", units_counted(b, heap->live_blocks, "block"));
        put_error(title, profile, heap->variance.live_blocks, heap->live_blocks, false);
        break;
    case RANK_PEAK:
        strbuf_printf(title, "The heap's peak: %s", units_size(a, profile->heap.peak_bytes));
        put_error(title, profile, heap->variance.peak_bytes, profile->heap.peak_bytes, true);
        strbuf_printf(title, " live in %s", units_counted(b, profile->heap.peak_blocks, "block"));
        put_error(title, profile, heap->variance.peak_blocks, profile->heap.peak_blocks, false);
        strbuf_printf(title, ", %s in", units_duration(c, profile->heap.peak_ns));
        break;
    case RANK_OWN_PEAK:
        strbuf_put(title, "Sites by their own peak, each at its own moment");
        break;
    case RANK_HELD:
        strbuf_printf(title, "Held, by %s: %s%s",
                      profile->process.free_sites ? "who freed the blocks that were there last"
                                                  : "whose freed blocks were there last",
                      units_size(a, (int64_t)heap->held_bytes), report->current ? "" : " at the last census");
        break;
    case RANK_TOTAL:
        strbuf_printf(title, "Allocated in total: %s", units_size(a, (int64_t)heap->allocated_bytes));
        put_error(title, profile, heap->variance.allocated_bytes, (int64_t)heap->allocated_bytes, true);
        strbuf_printf(title, " in %s", units_counted(b, (int64_t)heap->allocations, "call"));
        put_error(title, profile, heap->variance.allocations, (int64_t)heap->allocations, false);
        break;
    case RANK_COUNT:
        strbuf_printf(title, "Busiest: %s for %s in all; freed before the next call: %s",
                      units_counted(a, (int64_t)heap->allocations, "call"), units_size(b, (int64_t)heap->allocated_bytes),
                      units_count(c, (int64_t)heap->temporary));
        break;
    case RANK_TEMPORARY:
        strbuf_printf(title, "Temporary: %s of %s freed by their thread before its next allocation",
                      units_count(a, (int64_t)heap->temporary), units_counted(b, (int64_t)heap->allocations, "block"));
        break;
    case RANK_MAPPED:
        strbuf_put(title, "Mapped by the program itself");
        break;
    case RANK_PINNED:
        strbuf_put(title, "What keeps free bytes on shared pages: the live blocks there, by site");
        break;
    case RANK_KEYS:
        break;
    }
}

static unsigned table_lines(const struct report_options *options)
{
    return options->depth ? options->depth : options->sort == RANK_KEYS ? OVERVIEW_LINES : SORTED_LINES;
}

static void add_table(struct tables *tables, const struct sites_view *view, enum rank_key key, enum profile_kind kind,
                      size_t rows)
{
    const struct report_options *options = view->options;
    tables->key[tables->count] = key;
    tables->at[tables->count++] = sites_table_new(view, key, kind, options->limit ? options->limit : rows,
                                                  table_lines(options));
}

static void want_verdict(const struct report *report, const struct sites_view *view)
{
    const struct profile *profile = report->profile;
    for (size_t i = 0; i < report->verdict->count; i++)
        if (report->verdict->finding[i].site < profile->site_count)
            names_want(view->names, profile->sites[report->verdict->finding[i].site].frame, NAMES_ALL);
}

/* Everything that will be shown is requested before anything is looked up: the symbolizer works module by module. */
static struct tables prepare(const struct report *report, const struct sites_view *view)
{
    const struct profile *profile = report->profile;
    const struct ledger *ledger = ledgers_newest(report->ledgers);
    enum rank_key sort = view->options->sort;
    struct tables tables = { .count = 0 };

    if (sort != RANK_KEYS)
        add_table(&tables, view, sort, sort == RANK_MAPPED ? PROFILE_KINDS : PROFILE_HEAP, SORTED_ROWS);
    for (size_t i = 0; sort == RANK_KEYS && i < OVERVIEW_TABLES; i++) {
        add_table(&tables, view, overview_tables[i].key, overview_tables[i].kind, overview_tables[i].rows);
        /* Ranked sets say more than sites alone. */
        bool told = overview_tables[i].key == RANK_PINNED && ledger && ledger->pin_count > 0 && !ledger->sampled;
        sites_table_cut(tables.at[i], told ? INT64_MAX : overview_tables[i].least);
    }
    for (size_t i = 0; ledger && i < ledger->pin_count; i++)
        names_want(view->names, profile->sites[ledger->pins[i].site].frame, NAMES_ALL);
    for (size_t i = 0; ledger && i < ledger->python.keeper_count; i++)
        names_want(view->names, profile->sites[ledger->python.keepers[i].site].frame, NAMES_ALL);
    want_verdict(report, view);
    names_resolve(view->names);
    return tables;
}

static void put_tables(struct strbuf *out, const struct report *report, struct tables *tables)
{
    struct strbuf title = STRBUF_INIT;
    for (size_t i = 0; i < tables->count; i++) {
        strbuf_clear(&title);
        put_title(&title, report, tables->key[i]);
        sites_table_put(out, tables->at[i], title.text);
        sites_table_free(tables->at[i]);
    }
    strbuf_free(&title);
}

void report_text(const struct report *report, const struct report_options *options, FILE *file)
{
    struct names *names = names_new(report->profile, options->symbols);
    bool *hidden = filter_sites(report->profile, names, options->filter);
    struct alike alike = sites_alike(report->profile, names, table_lines(options));
    struct sites_view view = { .profile = report->profile, .names = names, .options = options, .hidden = hidden,
                               .alike = &alike };
    struct strbuf out = STRBUF_INIT;
    struct tables tables = prepare(report, &view);
    bool overview = options->sort == RANK_KEYS;

    overview_process(&out, report, &view);
    overview_verdict(&out, report, &view);
    if (overview) {
        overview_ledger(&out, report, &view);
        overview_arenas(&out, report, &view);
        overview_pins(&out, report, &view);
        overview_settings(&out, report, &view);
        arenas_section(&out, report, &view);
    }
    size_t before = out.length;
    put_tables(&out, report, &tables);
    if (!overview && out.length == before)
        strbuf_put(&out, "\nNo site to show.\n");
    if (overview) {
        overview_history(&out, report, &view);
        overview_doubts(&out, report, &view);
    }
    fwrite(out.text, 1, out.length, file);
    strbuf_free(&out);
    alike_free(&alike);
    free(hidden);
    names_free(names);
}

void report_summary(const struct report *report, const struct report_options *options, FILE *file)
{
    struct names *names = names_new(report->profile, options->symbols);
    struct sites_view view = { .profile = report->profile, .names = names, .options = options };
    struct strbuf out = STRBUF_INIT;

    want_verdict(report, &view);
    names_resolve(names);
    overview_verdict(&out, report, &view);
    fwrite(out.text, 1, out.length, file);
    strbuf_free(&out);
    names_free(names);
}

void report_held(const struct report *report, const struct report_options *options, FILE *file)
{
    const struct ledger *ledger = ledgers_newest(report->ledgers);
    struct names *names = names_new(report->profile, options->symbols);
    struct sites_view view = { .profile = report->profile, .names = names, .options = options };
    struct strbuf out = STRBUF_INIT;

    for (size_t i = 0; ledger && i < ledger->pin_count; i++)
        names_want(names, report->profile->sites[ledger->pins[i].site].frame, NAMES_ALL);
    for (size_t i = 0; ledger && i < ledger->python.keeper_count; i++)
        names_want(names, report->profile->sites[ledger->python.keepers[i].site].frame, NAMES_ALL);
    names_resolve(names);
    overview_held(&out, report, &view);
    overview_pins(&out, report, &view);
    overview_settings(&out, report, &view);
    arenas_section(&out, report, &view);
    fwrite(out.text, 1, out.length, file);
    strbuf_free(&out);
    names_free(names);
}

const char *report_state_name(const struct report *report)
{
    switch (report->life) {
    case REPORT_RUNNING: return "running";
    case REPORT_KILLED: return "killed";
    case REPORT_LIFE_UNKNOWN: return "unknown";
    case REPORT_ENDED: break;
    }
    switch (report->profile->process.state) {
    case PROFILE_EXITED: return "exited";
    case PROFILE_EXITED_FAST: return "exited-fast";
    case PROFILE_ABORTED: return "aborted";
    case PROFILE_EXECED: return "execed";
    case PROFILE_STOPPED: return "stopped";
    default: return "unknown";
    }
}
