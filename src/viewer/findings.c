/* SPDX-License-Identifier: MIT */
#include "viewer/findings.h"

#include "analysis/ledger.h"
#include "analysis/profile.h"
#include "analysis/verdict.h"
#include "analysis/whatif.h"
#include "base/strbuf.h"
#include "viewer/arenas.h"
#include "viewer/report.h"
#include "viewer/sites.h"
#include "viewer/units.h"
#include <inttypes.h>

#define WHERE_COLUMNS 60

static const char *size(char *buffer, uint64_t bytes)
{
    return units_size(buffer, (int64_t)bytes);
}

static void put_where(struct strbuf *out, const struct sites_view *view, const struct verdict_finding *finding)
{
    if (finding->site == VERDICT_NO_SITE)
        strbuf_put(out, "the program");
    else
        sites_where(out, view, finding->site, WHERE_COLUMNS);
}

/* "made in parser_init (parsers.so)", "made at load report.py:3". */
static void put_made(struct strbuf *out, const struct sites_view *view, const struct verdict_finding *finding)
{
    strbuf_put(out, finding->site != VERDICT_NO_SITE && sites_of_python(view, finding->site) ? "made at " : "made in ");
    put_where(out, view, finding);
}

static void put_blocks(struct strbuf *out, const struct verdict_finding *finding)
{
    char blocks[UNITS_BYTES], bytes[UNITS_BYTES];
    strbuf_printf(out, "%s of %s%s", units_counted(blocks, (int64_t)finding->site_blocks, "block"),
                  size(bytes, finding->site_bytes), finding->site_blocks == 1 ? "" : " in all");
}

static void put_others(struct strbuf *out, const struct verdict_finding *finding)
{
    char count[UNITS_BYTES];
    if (finding->sites > 1)
        strbuf_printf(out, ", and %s", units_counted(count, finding->sites - 1, "other site"));
}

/* Blocks that stand in the way, or, without a live one, a free chunk in a cache. */
static void put_pin(struct strbuf *out, const struct report *report, const struct sites_view *view,
                    const struct verdict_finding *finding)
{
    const struct ledger *ledger = report->current;
    bool on_top = false, cached = false, unsampled = false;
    char gain[UNITS_BYTES];

    for (size_t i = 0; ledger && i < ledger->pin_count; i++)
        if (ledger->pins[i].site == finding->site && ledger->pins[i].gain_bytes == finding->gain_bytes) {
            on_top = ledger->pins[i].kind != LEDGER_PIN_PAGES;
            cached = ledger->pins[i].kind == LEDGER_PIN_TOP_CACHED;
            unsampled = ledger->pins[i].unsampled;
        }
    if (cached)
        strbuf_put(out, "a freed block that the allocator caches, ");
    else {
        put_blocks(out, finding);
        strbuf_char(out, ' ');
    }
    if (unsampled && finding->site == 0)
        strbuf_put(out, "(not sampled)");
    else
        put_made(out, view, finding);
    bool one = cached || finding->site_blocks == 1;
    if (on_top && finding->step == VERDICT_STEP_TRIM)
        strbuf_printf(out, " %s above %s of freed memory", one ? "lies" : "lie", size(gain, finding->gain_bytes));
    else
        strbuf_printf(out, " %s %s of freed memory", one ? "keeps" : "keep", size(gain, finding->gain_bytes));
    if (!on_top && finding->sites > 1)
        strbuf_printf(out, " (the first of %" PRIu32 " sets)", finding->sites);
}

/* Findings that name nobody: the bytes, and what they are. */
static const char *const plain_sentences[VERDICT_KINDS] = {
    [VERDICT_UNTOLD] = "are held, mapped, or code: no census of this state tells them apart",
    [VERDICT_RETURNABLE] = "were freed in whole pages, and nobody asked the allocator to return them",
    [VERDICT_TOP_KEPT] = "freed at the top of the heap are kept by the trim threshold",
    [VERDICT_TOP_STUCK] = "freed at the top of threads' arenas, which malloc_trim never trims",
    [VERDICT_CACHED] = "sit in the allocator's per-thread caches",
    [VERDICT_OTHER_ALLOCATOR] = "are in another allocator's cache, which malloc_trim cannot reach",
    [VERDICT_PYTHON_ARENAS] = "are arenas of Python objects, live ones and freed slots between them; malloc_trim cannot "
                              "reach them",
};

/* "most by jv_parser_next (jv_parse.c:92): 3 blocks of 12.0 KiB in all, and 2 other sites" */
static void put_most(struct strbuf *out, const struct sites_view *view, const struct verdict_finding *finding,
                     bool others)
{
    strbuf_put(out, "most by ");
    put_where(out, view, finding);
    strbuf_put(out, ": ");
    put_blocks(out, finding);
    if (others)
        put_others(out, finding);
}

void findings_sentence(struct strbuf *out, const struct report *report, const struct sites_view *view,
                       const struct verdict_finding *finding)
{
    const struct ledger *ledger = report->current;
    char a[UNITS_BYTES], b[UNITS_BYTES], c[UNITS_BYTES];

    size(a, finding->bytes);
    if (plain_sentences[finding->kind]) {
        strbuf_printf(out, "%s %s", a, plain_sentences[finding->kind]);
        return;
    }
    switch (finding->kind) {
    case VERDICT_NOTHING:
        strbuf_put(out, report->life == REPORT_RUNNING ? "nothing wrong: little is held, and nothing keeps growing"
                                                       : "nothing wrong at the end: little is held, and nothing grew to it");
        break;
    case VERDICT_IN_USE:
        strbuf_printf(out, "%s are in use, ", a);
        put_most(out, view, finding, false);
        break;
    case VERDICT_LEAK:
        strbuf_printf(out, "%s never freed, ", a);
        put_most(out, view, finding, true);
        break;
    case VERDICT_GROWTH:
        strbuf_printf(out, "live memory grew to the end; %s were not freed so far, ", a);
        put_most(out, view, finding, true);
        break;
    case VERDICT_CACHE_GROWTH:
        strbuf_printf(out, "live memory grows to the end, to %s; ", a);
        put_most(out, view, finding, false);
        break;
    case VERDICT_PINNED:
        put_pin(out, report, view, finding);
        break;
    case VERDICT_ARENAS_HELD:
        arenas_sentence(out, view, ledger, finding);
        break;
    case VERDICT_PYTHON_OBJECTS:
        strbuf_printf(out, "%s are in use by small Python objects: %s in %s", a,
                      units_counted(b, ledger ? (int64_t)ledger->python.live_blocks : 0, "block"),
                      units_counted(c, ledger ? ledger->python.arena_count : 0, "arena"));
        break;
    case VERDICT_THREAD_ARENAS:
        strbuf_printf(out, "%s freed at the tops of %" PRIu32 " thread arenas, which malloc_trim never trims", a,
                      ledger ? ledger->arena_count - 1 : 0);
        break;
    case VERDICT_FRAGMENTATION:
        strbuf_printf(out, "%s are free bytes between live blocks on the same pages", a);
        if (finding->site != VERDICT_NO_SITE) {
            strbuf_put(out, "; most beside ");
            put_where(out, view, finding);
        }
        break;
    case VERDICT_MAPPINGS:
        strbuf_printf(out, "%s are mappings of the program itself", a);
        if (finding->site != VERDICT_NO_SITE) {
            strbuf_put(out, ", most by ");
            put_where(out, view, finding);
        }
        break;
    default:
        break;
    }
}

/* A running process can be trimmed now; of an ended one we say what it could have done. */
static void put_trim(struct strbuf *out, const struct report *report, const struct verdict_finding *finding)
{
    char a[UNITS_BYTES];
    size(a, finding->step_bytes);
    if (report->life == REPORT_RUNNING)
        strbuf_printf(out, "heapmark trim %" PRIu32 " (predicted: %s)", report->profile->process.pid, a);
    else
        strbuf_printf(out, "malloc_trim(0) at this point (predicted: %s), or run with --trim=on-drop", a);
}

void findings_step(struct strbuf *out, const struct report *report, const struct sites_view *view,
                   const struct verdict_finding *finding)
{
    char a[UNITS_BYTES];

    size(a, finding->step_bytes);
    switch (finding->step) {
    case VERDICT_STEP_TRIM:
        put_trim(out, report, finding);
        break;
    case VERDICT_STEP_FREE:
        strbuf_printf(out, "free %s of ", finding->site_blocks == 1 ? "the block" : "the blocks");
        put_where(out, view, finding);
        strbuf_put(out, finding->then_trim ? ", then trim" : "");
        if (finding->step_bytes)
            strbuf_printf(out, " (predicted: %s)", a);
        break;
    case VERDICT_STEP_LIVE:
        strbuf_put(out, "heapmark report --sort live shows who uses it");
        break;
    case VERDICT_STEP_ARENA_MAX:
        strbuf_printf(out, "%s in the environment, and a trim (predicted: about %s less)",
                      whatif_environment(WHATIF_ARENAS), a);
        break;
    case VERDICT_STEP_THRESHOLDS:
        strbuf_printf(out, "%s in the environment (predicted: about %s less)", whatif_environment(WHATIF_THRESHOLDS), a);
        break;
    case VERDICT_STEP_TCACHE:
        strbuf_printf(out, "%s in the environment", whatif_environment(WHATIF_TCACHE));
        break;
    case VERDICT_STEP_SEPARATE:
        strbuf_put(out, "make long-lived blocks before or apart from short-lived ones; no trim reaches these");
        break;
    case VERDICT_STEP_UNMAP:
        strbuf_put(out, "unmap them, or see heapmark report --sort mapped");
        break;
    case VERDICT_STEP_LEVER:
        strbuf_put(out, "that allocator's own purge; heapmark trim uses it where it knows it");
        break;
    case VERDICT_STEP_SNAPSHOT:
        if (report->life == REPORT_RUNNING)
            strbuf_printf(out, "heapmark snapshot %" PRIu32, report->profile->process.pid);
        break;
    case VERDICT_STEP_DROP:
        arenas_advice(out, report->current, finding);
        break;
    case VERDICT_STEP_PYTHONMALLOC:
        strbuf_put(out, "a run with PYTHONMALLOC=malloc shows every object: who made it, and what it holds");
        break;
    case VERDICT_STEP_NONE:
    case VERDICT_STEPS:
        break;
    }
}
