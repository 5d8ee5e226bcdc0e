/* SPDX-License-Identifier: MIT */
#include "viewer/arenas.h"

#include "analysis/ledger.h"
#include "analysis/verdict.h"
#include "base/strbuf.h"
#include "viewer/plain.h"
#include "viewer/report.h"
#include "viewer/sites.h"
#include "viewer/style.h"
#include "viewer/units.h"
#include <inttypes.h>

#define TYPE_COLUMNS 30
#define BAR_COLUMNS 24
#define ROWS_SHOWN 5
#define WHERE_COLUMNS 60
#define NOTICE_BYTES (INT64_C(1) << 20)     /* less held is told with --full only */

static uint64_t sparse_held(const struct ledger_python *python)
{
    return python->sparse_bytes > python->sparse_live_bytes ? python->sparse_bytes - python->sparse_live_bytes : 0;
}

/* Never 100 while there is an object. */
static unsigned empty_percent(uint64_t live, uint64_t whole)
{
    unsigned used = whole ? (unsigned)(100 * (double)live / (double)whole) : 0;
    return live > 0 && used == 0 ? 99 : used < 100 ? 100 - used : 0;
}

static void put_type(struct strbuf *out, const struct ledger_keeper *keeper, size_t columns)
{
    switch (keeper->kind) {
    case LEDGER_TABLES: strbuf_put(out, "table or buffer"); break;
    case LEDGER_SPARES: strbuf_put(out, "spare (freed, kept for reuse)"); break;
    case LEDGER_OTHERS: strbuf_put(out, "of other types"); break;
    case LEDGER_OBJECTS: plain_cut_middle(out, keeper->type, columns); break;
    }
}

/* "kept by 299 live objects (299 float)": those that can be named when they keep nearly all, else all. */
static void put_kept(struct strbuf *out, const struct ledger_python *python)
{
    size_t named = ledger_main_keepers(python);
    uint64_t blocks = 0;
    char a[UNITS_BYTES];

    for (size_t i = 0; i < named; i++)
        blocks += python->keepers[i].blocks;
    bool all = named > 0 && python->keepers[named - 1].cumulative_bytes >= sparse_held(python) / 10 * 8;
    strbuf_printf(out, "kept by %s", units_counted(a, (int64_t)(all ? blocks : python->sparse_blocks), "live object"));
    for (size_t i = 0; i < named; i++) {
        strbuf_printf(out, "%s%s ", i == 0 ? " (" : ", ", units_count(a, (int64_t)python->keepers[i].blocks));
        if (python->keepers[i].kind == LEDGER_SPARES)
            strbuf_put(out, "spare");
        else
            put_type(out, &python->keepers[i], TYPE_COLUMNS);
    }
    if (named > 0)
        strbuf_put(out, all ? ")" : ", ...)");
}

/* Nearly empty arenas are kept by few objects, who can be named; in others live and free blocks are mixed. */
static bool is_sparse(const struct ledger_python *python, const struct verdict_finding *finding)
{
    return python->sparse_count > 0 && sparse_held(python) >= finding->bytes / 2;
}

void arenas_sentence(struct strbuf *out, const struct sites_view *view, const struct ledger *ledger,
                     const struct verdict_finding *finding)
{
    const struct ledger_python *python = &ledger->python;
    char a[UNITS_BYTES], b[UNITS_BYTES];

    if (!is_sparse(python, finding)) {
        strbuf_printf(out, "%s are free space in %s, %u %% empty; malloc_trim cannot reach them",
                      units_size(a, (int64_t)finding->bytes),
                      units_counted(b, (int64_t)python->arena_count, "pymalloc arena"),
                      empty_percent((uint64_t)ledger->part[LEDGER_PYTHON], python->arena_bytes));
        return;
    }
    strbuf_printf(out, "%s in %s, %u %% empty, ", units_size(a, (int64_t)sparse_held(python)),
                  units_counted(b, (int64_t)python->sparse_count, "pymalloc arena"),
                  empty_percent(python->sparse_live_bytes, python->sparse_bytes));
    if (finding->site != VERDICT_NO_SITE && sites_of_python(view, finding->site)) {
        strbuf_put(out, "mapped at ");
        sites_where(out, view, finding->site, WHERE_COLUMNS);
        strbuf_put(out, ", ");
    }
    put_kept(out, python);
    strbuf_put(out, "; malloc_trim cannot reach them");
}

void arenas_advice(struct strbuf *out, const struct ledger *ledger, const struct verdict_finding *finding)
{
    char a[UNITS_BYTES];
    if (is_sparse(&ledger->python, finding) && finding->step_bytes > 0)
        strbuf_printf(out, "drop those objects (predicted: %s) or replace them by copies, then gc.collect(); or run with "
                      "PYTHONMALLOC=malloc in the environment, and trim",
                      units_size(a, (int64_t)finding->step_bytes));
    else
        strbuf_put(out, "make short-lived objects in a process of their own; or run with PYTHONMALLOC=malloc in the "
                   "environment, and trim");
}

/* ---- the section -------------------------------------------------------------------------------- */

static void put_title(struct strbuf *out, const struct sites_view *view, const struct ledger *ledger)
{
    const struct ledger_python *python = &ledger->python;
    struct strbuf title = STRBUF_INIT;
    char a[UNITS_BYTES], b[UNITS_BYTES], c[UNITS_BYTES];

    strbuf_printf(&title, "Python's arenas: %s, %s resident, %s in use by %s", units_count(a, python->arena_count),
                  units_size(b, (int64_t)python->arena_bytes), units_size(c, ledger->part[LEDGER_PYTHON]),
                  "small objects");
    strbuf_char(out, '\n');
    style_put(out, view->options->color, STYLE_TITLE, title.text);
    strbuf_char(out, '\n');
    strbuf_free(&title);
}

static void put_head(struct strbuf *out, const struct sites_view *view, const char *head)
{
    style_begin(out, view->options->color, STYLE_FAINT);
    strbuf_put(out, head);
    style_end(out, view->options->color, STYLE_FAINT);
    strbuf_char(out, '\n');
}

static void put_fill(struct strbuf *out, const struct sites_view *view, const struct ledger_python *python)
{
    uint64_t most = 0;
    char a[UNITS_BYTES], b[UNITS_BYTES];

    for (unsigned i = 0; i < LEDGER_FILLS; i++)
        most = python->fill_count[i] > most ? python->fill_count[i] : most;
    put_head(out, view, "     IN USE      ARENAS        HELD");
    for (unsigned i = 0; i < LEDGER_FILLS; i++) {
        if (python->fill_count[i] == 0)
            continue;
        size_t bar = (size_t)((python->fill_count[i] * (uint64_t)BAR_COLUMNS + most - 1) / most);
        strbuf_printf(out, " up to %3u %% %11s %11s  ", ledger_fill_percent[i], units_count(a, python->fill_count[i]),
                      units_size(b, (int64_t)python->fill_held[i]));
        strbuf_fill(out, '#', bar);
        strbuf_char(out, '\n');
    }
    strbuf_printf(out, "  of what is held, %s are in pools without an object\n\n",
                  units_size(a, (int64_t)python->free_pool_bytes));
}

static void put_keeper(struct strbuf *out, const struct sites_view *view, const struct ledger_keeper *keeper)
{
    const struct report_options *options = view->options;
    char a[UNITS_BYTES], b[UNITS_BYTES], c[UNITS_BYTES], d[UNITS_BYTES];

    strbuf_printf(out, "%11s %11s %11s  ", keeper->gain_bytes ? units_size(a, (int64_t)keeper->gain_bytes) : "-",
                  keeper->gain_bytes ? units_size(b, (int64_t)keeper->cumulative_bytes) : "-",
                  units_count(c, (int64_t)keeper->blocks));
    style_begin(out, options->color, STYLE_STRONG);
    put_type(out, keeper, options->width - 37);
    style_end(out, options->color, STYLE_STRONG);
    strbuf_char(out, '\n');
    style_begin(out, options->color, STYLE_FAINT);
    strbuf_printf(out, "%35s    %s in %s", "", units_size(a, (int64_t)keeper->bytes),
                  units_counted(d, keeper->arenas, "arena"));
    style_end(out, options->color, STYLE_FAINT);
    strbuf_char(out, '\n');
    if (keeper->gain_bytes == 0)
        return;
    style_begin(out, options->color, STYLE_FAINT);
    strbuf_printf(out, "%35s    mapped %s ", "", sites_of_python(view, keeper->site) ? "at" : "in");
    sites_where(out, view, keeper->site, options->width - 49);
    style_end(out, options->color, STYLE_FAINT);
    strbuf_char(out, '\n');
}

static void put_keepers(struct strbuf *out, const struct sites_view *view, const struct ledger_python *python)
{
    size_t shown = 0;
    char a[UNITS_BYTES];

    if (python->keeper_count == 0)
        return;
    strbuf_printf(out, "  What keeps the %s of which at most a quarter is in use:\n",
                  units_count(a, python->sparse_count));
    put_head(out, view, "       GAIN    TOGETHER     OBJECTS  TYPE");
    for (; shown < python->keeper_count; shown++) {
        const struct ledger_keeper *keeper = &python->keepers[shown];
        if (!view->options->full && (shown == ROWS_SHOWN || (shown > 0 && keeper->gain_bytes == 0)))
            break;
        put_keeper(out, view, keeper);
    }
    if (shown == python->keeper_count)
        return;
    style_begin(out, view->options->color, STYLE_FAINT);
    strbuf_printf(out, "%35s  %s with --full", "", units_counted(a, (int64_t)(python->keeper_count - shown), "more type"));
    style_end(out, view->options->color, STYLE_FAINT);
    strbuf_char(out, '\n');
}

void arenas_section(struct strbuf *out, const struct report *report, const struct sites_view *view)
{
    const struct ledger *ledger = ledgers_newest(report->ledgers);
    if (!ledger || ledger->python.arena_count == 0 ||
        (!view->options->full && ledger->part[LEDGER_ARENA] < NOTICE_BYTES))
        return;
    put_title(out, view, ledger);
    if (view->options->full)
        put_fill(out, view, &ledger->python);
    put_keepers(out, view, &ledger->python);
}
