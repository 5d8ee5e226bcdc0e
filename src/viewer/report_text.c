/* SPDX-License-Identifier: MIT */
#include "viewer/report.h"

#include "analysis/history.h"
#include "analysis/ledger.h"
#include "analysis/profile.h"
#include "analysis/verdict.h"
#include "base/strbuf.h"
#include "base/xalloc.h"
#include "viewer/filter.h"
#include "viewer/names.h"
#include "viewer/overview.h"
#include "viewer/sites.h"
#include "viewer/units.h"
#include <stdlib.h>

#define SITES_SHORT 5       /* in each table of the default report */
#define SITES_SORTED 20     /* in the one table of --sort */

/* The tables of the default report.  A table without rows is not printed. */
static const struct {
    enum rank_key key;
    enum profile_kind kind;
} default_tables[] = {
    { RANK_HELD, PROFILE_HEAP },
    { RANK_PEAK, PROFILE_HEAP },
    { RANK_LIVE, PROFILE_HEAP },
    { RANK_MAPPED, PROFILE_KINDS },
    { RANK_COUNT, PROFILE_HEAP },
};

static enum profile_kind kind_for(enum rank_key key)
{
    return key == RANK_MAPPED ? PROFILE_KINDS : PROFILE_HEAP;
}

static void put_title(struct strbuf *title, const struct report *report, enum rank_key key)
{
    const struct profile *profile = report->profile;
    const struct profile_sum *heap = &profile->sum[PROFILE_HEAP];
    char a[UNITS_BYTES], b[UNITS_BYTES], c[UNITS_BYTES];

    switch (key) {
    case RANK_LIVE:
        strbuf_printf(title, "Live: %s in %s blocks", units_size(a, heap->live_bytes),
                      units_count(b, heap->live_blocks));
        break;
    case RANK_PEAK:
        strbuf_printf(title, "The heap's peak: %s live in %s blocks, %s in", units_size(a, profile->heap.peak_bytes),
                      units_count(b, profile->heap.peak_blocks), units_duration(c, profile->heap.peak_ns));
        break;
    case RANK_OWN_PEAK:
        strbuf_put(title, "Sites by their own peak, each at its own moment");
        break;
    case RANK_HELD:
        strbuf_printf(title, "Held, by whose freed blocks were there last: %s",
                      units_size(a, (int64_t)heap->held_bytes));
        break;
    case RANK_TOTAL:
        strbuf_printf(title, "Allocated in total: %s in %s calls", units_size(a, (int64_t)heap->allocated_bytes),
                      units_count(b, (int64_t)heap->allocations));
        break;
    case RANK_COUNT:
        strbuf_printf(title, "Busiest: %s calls for %s in all, %s blocks freed before the next call",
                      units_count(a, (int64_t)heap->allocations), units_size(b, (int64_t)heap->allocated_bytes),
                      units_count(c, (int64_t)heap->temporary));
        break;
    case RANK_TEMPORARY:
        strbuf_printf(title, "Temporary: %s of %s blocks were freed by their thread before its next allocation",
                      units_count(a, (int64_t)heap->temporary), units_count(b, (int64_t)heap->allocations));
        break;
    case RANK_MAPPED:
        strbuf_put(title, "Mapped by the program itself");
        break;
    case RANK_PINNED:
        strbuf_put(title, "Held on pages that live blocks share, by the sites of those blocks");
        break;
    case RANK_KEYS:
        break;
    }
}

static size_t limit_of(const struct report_options *options, bool sorted)
{
    return options->limit ? options->limit : sorted ? SITES_SORTED : SITES_SHORT;
}

/* Everything that will be shown is requested before anything is looked up: the symbolizer works module by module. */
static void want(const struct report *report, const struct sites_view *view)
{
    const struct report_options *options = view->options;
    const struct ledger *ledger = ledgers_newest(report->ledgers);

    if (options->sort != RANK_KEYS) {
        sites_want(view, options->sort, kind_for(options->sort), limit_of(options, true));
    } else {
        for (size_t i = 0; i < sizeof default_tables / sizeof *default_tables; i++)
            sites_want(view, default_tables[i].key, default_tables[i].kind, limit_of(options, false));
    }
    for (size_t i = 0; ledger && i < ledger->pin_count; i++)
        names_want(view->names, report->profile->sites[ledger->pins[i].site].frame);
    for (size_t i = 0; i < report->verdict->count; i++)
        if (report->verdict->finding[i].site < report->profile->site_count)
            names_want(view->names, report->profile->sites[report->verdict->finding[i].site].frame);
    names_resolve(view->names);
}

static void put_table(struct strbuf *out, const struct report *report, const struct sites_view *view, enum rank_key key,
                      enum profile_kind kind, size_t limit)
{
    struct strbuf title = STRBUF_INIT;
    put_title(&title, report, key);
    sites_table(out, view, title.text, key, kind, limit);
    strbuf_free(&title);
}

void report_text(const struct report *report, const struct report_options *options, FILE *file)
{
    struct names *names = names_new(report->profile, options->symbols);
    bool *hidden = filter_sites(report->profile, names, options->filter);
    struct sites_view view = { .profile = report->profile, .names = names, .options = options, .hidden = hidden };
    struct strbuf out = STRBUF_INIT;

    want(report, &view);
    overview_verdict(&out, report, &view);
    if (options->sort != RANK_KEYS) {
        put_table(&out, report, &view, options->sort, kind_for(options->sort), limit_of(options, true));
    } else {
        overview_ledger(&out, report, &view);
        overview_pins(&out, report, &view);
        for (size_t i = 0; i < sizeof default_tables / sizeof *default_tables; i++)
            put_table(&out, report, &view, default_tables[i].key, default_tables[i].kind, limit_of(options, false));
        overview_history(&out, report, &view);
        overview_doubts(&out, report, &view);
    }
    fwrite(out.text, 1, out.length, file);
    strbuf_free(&out);
    free(hidden);
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
