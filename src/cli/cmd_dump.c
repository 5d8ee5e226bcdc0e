/* SPDX-License-Identifier: MIT */
#include "cli/command.h"

#include "base/strbuf.h"
#include "contract/control.h"
#include "contract/read.h"
#include "viewer/plain.h"
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const char help[] =
    "Usage: heapmark dump [OPTION]... FILE\n"
    "Prints a recording as it stands in the file, one record a line, without interpreting it.\n\n"
    "  --table NAME   only this table: header, live, or a table's name as the dump prints it\n"
    "  --from N       start at record N of each table\n"
    "  --limit N      at most N records of each table\n"
    "  --help\n\n"
    "Example: heapmark dump --table events heapmark.jq.4711.hmk\n"
    "The fields are explained in heapmark-format(5).\n";

struct dump {
    const struct read_file *file;
    struct strbuf line;
};

/* ---- pages 0 and 1 ------------------------------------------------------------------------------ */

#define NUMBER(record, field) printf("%s=%" PRIu64 "\n", #field, (uint64_t)(record)->field)
#define SIGNED(record, field) printf("%s=%" PRId64 "\n", #field, (int64_t)(record)->field)

static void put_text(struct dump *dump, const char *name, const char *string)
{
    strbuf_clear(&dump->line);
    plain_put(&dump->line, string);
    printf("%s=%s\n", name, dump->line.text);
}

static void dump_header(struct dump *dump)
{
    const struct hmk_header *h = read_header(dump->file);
    puts("[header]");
    NUMBER(h, version);
    NUMBER(h, minor);
    NUMBER(h, page_bytes);
    printf("flags=0x%" PRIx32 "\n", h->flags);
    NUMBER(h, pid);
    NUMBER(h, ppid);
    NUMBER(h, root_pid);
    NUMBER(h, machine);
    NUMBER(h, start_realtime_ns);
    NUMBER(h, start_ns);
    NUMBER(h, process_start_ticks);
    NUMBER(h, parent_start_ticks);
    printf("boot_id=%016" PRIx64 "%016" PRIx64 "\n", h->boot_id[0], h->boot_id[1]);
    NUMBER(h, sample_bytes);
    NUMBER(h, depth_max);
    put_text(dump, "exe", read_string(dump->file, h->exe));
    put_text(dump, "command", read_string(dump->file, h->command));
    put_text(dump, "cwd", read_string(dump->file, h->cwd));
    put_text(dump, "host", read_string(dump->file, h->host));
    put_text(dump, "libc", read_string(dump->file, h->libc));
    put_text(dump, "options", read_string(dump->file, h->options));
    put_text(dump, "unwinder", read_string(dump->file, h->unwinder));
    put_text(dump, "tool_version", h->tool_version);
}

static void dump_live(struct dump *dump)
{
    const struct hmk_live *l = read_live(dump->file);
    puts("[live]");
    SIGNED(l, heap.live_bytes);
    SIGNED(l, heap.live_blocks);
    SIGNED(l, heap.peak_bytes);
    SIGNED(l, heap.peak_blocks);
    NUMBER(l, heap.peak_ns);
    NUMBER(l, heap.epoch);
    NUMBER(l, heap.rising);
    NUMBER(l, heap.flush_bytes);
    NUMBER(l, heap.threads_seen);
    NUMBER(l, state);
    SIGNED(l, exit_status);
    NUMBER(l, stop_reason);
    NUMBER(l, timeline_active);
    NUMBER(l, timeline_interval_ns);
    NUMBER(l, last_ns);
    NUMBER(l, end_ns);
    NUMBER(l, file_bytes);
    NUMBER(l, rss_start_bytes);
    NUMBER(l, rss_last_bytes);
    NUMBER(l, rss_peak_bytes);
    NUMBER(l, rss_peak_ns);
    NUMBER(l, self_bytes);
    NUMBER(l, lost_sites);
    NUMBER(l, lost_events);
    NUMBER(l, lost_reentrant);
    NUMBER(l, unknown_frees);
    NUMBER(l, stale_live);
    NUMBER(l, cut_stacks);
    NUMBER(l, incomplete_stacks);
    NUMBER(l, verify_checked);
    NUMBER(l, verify_wrong);
    NUMBER(l, foreign_forks);
    NUMBER(l, request_sequence);
    NUMBER(l, request_kind);
    NUMBER(l, answer_sequence);
    NUMBER(l, answer_status);
    NUMBER(l, request_argument);
    put_text(dump, "request_label", l->request_label);
    for (unsigned i = 0; i < sizeof l->answer / sizeof *l->answer; i++)
        printf("answer[%u]=%" PRIu64 "\n", i, l->answer[i]);
    NUMBER(l, control_signal);
    NUMBER(l, module_generation);
    NUMBER(l, inherited_blocks);
    NUMBER(l, inherited_bytes);
    NUMBER(l, spent_ns);
    NUMBER(l, cpu_ns);
    NUMBER(l, sampled_from_ns);
    NUMBER(l, abandoned_events);
    NUMBER(l, own_peak_bytes);
    for (unsigned i = 0; i < 2; i++)
        printf("half[%u]: live_bytes=%" PRId64 " live_blocks=%" PRId64 " peak_bytes=%" PRId64 " other_bytes=%" PRId64
               " other_blocks=%" PRId64 "\n", i, l->half[i].live_bytes, l->half[i].live_blocks, l->half[i].peak_bytes,
               l->half[i].other_bytes, l->half[i].other_blocks);
}

/* ---- records ------------------------------------------------------------------------------------ */

/* A name of the file as the value of a field: quoted, on one line. */
static void put_quoted(struct dump *dump, const char *name, const char *string)
{
    strbuf_clear(&dump->line);
    plain_put(&dump->line, string);
    printf(" %s=\"%s\"", name, dump->line.text);
}

static void dump_module(struct dump *dump, const struct hmk_module *m)
{
    printf("base=0x%" PRIx64 " start=0x%" PRIx64 " end=0x%" PRIx64 " load_ns=%" PRIu64 " unload_ns=%" PRIu64,
           m->base, m->start, m->end, m->load_ns, m->unload_ns);
    fputs(" build_id=", stdout);
    for (uint32_t i = 0; i < m->build_id_bytes && i < sizeof m->build_id; i++)
        printf("%02x", m->build_id[i]);
    put_quoted(dump, "path", read_string(dump->file, m->path));
}

static void dump_frame(const struct hmk_frame *f)
{
    static const char *const kinds[] = { "native", "signal", "python", "loop", "entry", "join" };
    uint32_t kind = f->ref >> HMK_FRAME_KIND_SHIFT;
    printf("parent=%" PRIu32 " kind=%s ref=%" PRIu32 " code=0x%" PRIx64, f->parent, kind < 6 ? kinds[kind] : "?",
           f->ref & ((1u << HMK_FRAME_KIND_SHIFT) - 1), f->code);
}

static void dump_code(struct dump *dump, const struct hmk_code *c)
{
    printf("first_line=%" PRIu32 " version=%" PRIu32 ".%" PRIu32 " lines=%" PRIu32 " line_bytes=%" PRIu32, c->first_line,
           c->version >> 8, c->version & 0xff, c->lines, c->line_bytes);
    put_quoted(dump, "name", read_string(dump->file, c->name));
    put_quoted(dump, "file", read_string(dump->file, c->file));
}

static void dump_site(const struct hmk_site *s)
{
    static const char *const kinds[] = { "heap", "mapping", "break" };
    uint32_t kind = s->flags & 0xff;
    printf("frame=%" PRIu32 " kind=%s cut=%d incomplete=%d guessed=%d first_ns=%" PRIu64, s->frame,
           kind < 3 ? kinds[kind] : "?", (s->flags & HMK_SITE_CUT) != 0, (s->flags & HMK_SITE_INCOMPLETE) != 0,
           (s->flags & HMK_SITE_GUESSED) != 0, s->first_ns);
}

static void dump_thread(struct dump *dump, const struct hmk_thread *t)
{
    char name[sizeof t->name + 1] = "";
    memcpy(name, t->name, sizeof t->name);
    printf("tid=%" PRIu32 " served=%" PRIu32 " start_ns=%" PRIu64 " pending_bytes=%" PRId64 " pending_blocks=%" PRId64,
           t->tid, t->served, t->start_ns, t->pending_bytes, t->pending_blocks);
    put_quoted(dump, "name", name);
}

static void dump_sample(const struct hmk_sample *s)
{
    printf("time_ns=%" PRIu64 " live_bytes=%" PRId64 " live_bytes_max=%" PRId64 " rss_bytes=%" PRIu64
           " rss_bytes_max=%" PRIu64 " mapped_bytes=%" PRIu64,
           s->time_ns, s->live_bytes, s->live_bytes_max, s->rss_bytes, s->rss_bytes_max, s->mapped_bytes);
}

static void dump_event(struct dump *dump, const struct hmk_event *e)
{
    static const char *const kinds[] = { "?", "start", "exit", "exec", "exec_failed", "fork", "mark", "phase_begin",
                                         "phase_end", "trim", "module_load", "module_unload", "abort", "degraded" };
    printf("time_ns=%" PRIu64 " kind=%s tid=%" PRIu32 " a=%" PRIu64 " b=%" PRIu64 " c=%" PRIu64 " d=%" PRIu64
           " live_bytes=%" PRId64 " rss_bytes=%" PRIu64,
           e->time_ns, kinds[e->kind < sizeof kinds / sizeof *kinds ? e->kind : 0], e->tid, e->a, e->b, e->c, e->d,
           e->live_bytes, e->rss_bytes);
    put_quoted(dump, "text", read_string(dump->file, e->text));
}

#define FIELD(field) printf(" %s=%" PRIu64, #field, (uint64_t)c->field)
#define SIGNED_FIELD(field) printf(" %s=%" PRId64, #field, (int64_t)c->field)
static void dump_census_arena(unsigned number, const struct hmk_census_arena *c)
{
    if (c->resident_bytes == 0)
        return;
    printf(" arena[%u]=", number);
    printf("resident:%" PRIu64 ",live:%" PRIu64 ",held:%" PRIu64, c->resident_bytes, c->live_bytes, c->held_bytes);
    printf(",forecast:%" PRIu64 ",cached:%" PRIu64 ",stuck:%" PRIu64 ",heaps:%" PRIu64, c->forecast_bytes,
           c->cached_bytes, c->stuck_bytes, c->heaps);
}

static void dump_python(const struct hmk_census *c)
{
    FIELD(python_live_bytes);
    FIELD(python_arena_bytes);
    FIELD(python_live_blocks);
    FIELD(python_slot_bytes);
    FIELD(python_free_pool_bytes);
    FIELD(python_arena_count);
    FIELD(python_pool_count);
    FIELD(python_free_pool_count);
    FIELD(python_sparse_count);
    FIELD(python_sparse_bytes);
    FIELD(python_sparse_live_bytes);
    FIELD(python_sparse_blocks);
    FIELD(python_seen_blocks);
    for (unsigned i = 0; i < HMK_FILLS; i++)
        printf(" python_fill_count[%u]=%" PRIu32 " python_fill_held[%u]=%" PRIu64, i, c->python_fill_count[i], i,
               c->python_fill_held[i]);
}

static void dump_census(struct dump *dump, const struct hmk_census *c)
{
    printf("sequence=%" PRIu32 " kind=%" PRIu32 " flags=0x%" PRIx32 " time_ns=%" PRIu64, c->sequence, c->kind, c->flags,
           c->time_ns);
    put_quoted(dump, "label", read_string(dump->file, c->label));
    FIELD(cost_ns);
    FIELD(rss_bytes);
    FIELD(rss_anon_bytes);
    FIELD(rss_file_bytes);
    FIELD(rss_shmem_bytes);
    FIELD(rss_hwm_bytes);
    FIELD(swap_bytes);
    FIELD(vm_bytes);
    FIELD(huge_bytes);
    FIELD(live_bytes);
    FIELD(slack_bytes);
    for (unsigned i = 0; i < HMK_CAUSES; i++)
        printf(" held_bytes[%u]=%" PRIu64, i, c->held_bytes[i]);
    FIELD(metadata_bytes);
    FIELD(mapped_bytes);
    FIELD(file_bytes);
    FIELD(shared_bytes);
    FIELD(stack_bytes);
    FIELD(self_bytes);
    SIGNED_FIELD(unexplained_bytes);
    FIELD(heap_extent_bytes);
    FIELD(heap_resident_bytes);
    FIELD(heap_held_bytes);
    FIELD(held_page_bytes);
    FIELD(live_block_count);
    FIELD(nonresident_live_bytes);
    FIELD(arena_count);
    FIELD(heap_count);
    FIELD(forecast_map_bytes);
    FIELD(forecast_walk_bytes);
    FIELD(would_map_bytes);
    for (unsigned i = 0; i < sizeof c->identity / sizeof *c->identity; i++)
        printf(" identity[%u]=%" PRId64, i, c->identity[i]);
    FIELD(row_first);
    FIELD(row_count);
    FIELD(row_capacity);
    FIELD(pin_first);
    FIELD(pin_count);
    FIELD(pin_capacity);
    FIELD(live_before);
    FIELD(live_after);
    FIELD(trim_threshold_bytes);
    printf(" live_spread=%.9g slack_spread=%.9g", (double)c->live_spread, (double)c->slack_spread);
    for (unsigned i = 0; i < HMK_CENSUS_ARENAS; i++)
        dump_census_arena(i, &c->arena[i]);
    if (c->python_arena_count > 0)
        dump_python(c);
}

static void dump_census_row(const struct hmk_census_row *c)
{
    printf("site=%" PRIu32, c->site);
    printf(" pin_share_spread=%.9g", (double)c->pin_share_spread);
    FIELD(live_bytes);
    FIELD(live_blocks);
    FIELD(held_bytes);
    FIELD(held_page_bytes);
    FIELD(pin_sole_bytes);
    FIELD(pin_share_bytes);
    FIELD(mapped_bytes);
}

static void dump_pin(struct dump *dump, const struct hmk_pin *c)
{
    printf("site=%" PRIu32, c->site);
    FIELD(kind);
    FIELD(flags);
    FIELD(arena);
    FIELD(blocks);
    FIELD(bytes);
    FIELD(gain_bytes);
    FIELD(cumulative_bytes);
    FIELD(largest_bytes);
    if (c->kind == HMK_PIN_ARENA)
        put_quoted(dump, "type", read_string(dump->file, (uint32_t)c->address));
    else
        printf(" address=0x%" PRIx64, c->address);
}

static void dump_histogram(const struct hmk_histogram *histogram)
{
    const char *separator = "";
    for (unsigned i = 0; i < HMK_SIZE_CLASSES; i++)
        if (histogram->allocations[i] != 0) {
            printf("%sclass[%u]=%" PRIu64, separator, i, histogram->allocations[i]);
            separator = " ";
        }
}

/* Cells that were never touched are left out. */
static void dump_cells(struct dump *dump, uint64_t index)
{
    const struct hmk_cell_page *page = read_cell_page(dump->file, index);
    const struct hmk_cell_index *place = read_cell_index(dump->file, index);
    for (uint32_t i = 0; i < HMK_CELLS_PER_PAGE; i++) {
        const struct hmk_cell *c = &page->cell[i];
        if (c->allocations == 0 && c->frees == 0)
            continue;
        printf("cells %" PRIu64 ".%" PRIu32 ":", index, i);
        if (place)
            printf(" thread=%" PRIu32 " site=%" PRIu32, place->thread, place->first_site + i);
        FIELD(allocations);
        FIELD(allocated_bytes);
        FIELD(frees);
        FIELD(freed_bytes);
        FIELD(temporary);
        FIELD(epoch);
        SIGNED_FIELD(peak_bytes);
        SIGNED_FIELD(peak_blocks);
        SIGNED_FIELD(pending_bytes);
        SIGNED_FIELD(slack_bytes);
        putchar('\n');
    }
}
#undef FIELD
#undef SIGNED_FIELD

static void dump_raw(const struct dump *dump, enum hmk_table_id id, const unsigned char *record)
{
    for (uint32_t i = 0; i < read_record_bytes(dump->file, id); i++)
        printf("%02x", record[i]);
}

static void dump_record(struct dump *dump, enum hmk_table_id id, uint64_t index)
{
    const void *record = read_record(dump->file, id, index);
    if (id == HMK_CELLS) {
        dump_cells(dump, index);
        return;
    }
    printf("%s %" PRIu64 ": ", read_table_name(id), index);
    switch (id) {
    case HMK_MODULES: dump_module(dump, record); break;
    case HMK_FRAMES: dump_frame(record); break;
    case HMK_CODES: dump_code(dump, record); break;
    case HMK_SITES: dump_site(record); break;
    case HMK_SITE_PEAKS: {
        const struct hmk_site_peak *p = record;
        printf("live_bytes=%" PRId64 " peak_bytes=%" PRId64 " peak_ns=%" PRIu64 " spread_bytes=%g spread_blocks=%g",
               p->live_bytes, p->peak_bytes, p->peak_ns, (double)p->spread_bytes, (double)p->spread_blocks);
        break;
    }
    case HMK_THREADS: dump_thread(dump, record); break;
    case HMK_CELL_INDEX: {
        const struct hmk_cell_index *p = record;
        printf("thread=%" PRIu32 " first_site=%" PRIu32, p->thread, p->first_site);
        break;
    }
    case HMK_TIMELINE_0:
    case HMK_TIMELINE_1: dump_sample(record); break;
    case HMK_EVENTS: dump_event(dump, record); break;
    case HMK_CENSUSES: dump_census(dump, record); break;
    case HMK_CENSUS_ROWS: dump_census_row(record); break;
    case HMK_HISTOGRAMS: dump_histogram(record); break;
    case HMK_PINS: dump_pin(dump, record); break;
    default: dump_raw(dump, id, record);
    }
    putchar('\n');
}

/* Where the line table that begins at `at` ends, else `at`.  A writer appends tables and codes in the same order, so one
 * pass over the codes finds them all. */
static uint64_t after_lines(const struct dump *dump, uint64_t at, uint64_t *next_code)
{
    const struct hmk_code *code;
    while ((code = read_code(dump->file, *next_code)) != NULL && (code->line_bytes == 0 || code->lines < at))
        ++*next_code;
    return code && code->lines == at ? at + code->line_bytes : at;
}

/* Strings are found by their offset, so it stands in front of each. */
static void dump_strings(struct dump *dump, uint64_t from, uint64_t limit)
{
    uint64_t count = read_count(dump->file, HMK_STRINGS), shown = 0, next_code = 0;
    for (uint64_t at = from; at < count && shown < limit; ) {
        uint64_t end = after_lines(dump, at, &next_code);
        if (end > at) {
            printf("strings %" PRIu64 ": (line table of code %" PRIu64 ")\n", at, next_code);
            at = end;
            shown++;
            continue;
        }
        const char *string = read_string(dump->file, (uint32_t)at);
        size_t length = strlen(string);
        if (*(const char *)read_record(dump->file, HMK_STRINGS, at) == 0) {
            at++;
            continue;
        }
        strbuf_clear(&dump->line);
        plain_put(&dump->line, string);
        printf("strings %" PRIu64 ": \"%s\"\n", at, dump->line.text);
        at += length + 1;
        shown++;
    }
}

static void dump_table(struct dump *dump, enum hmk_table_id id, uint64_t from, uint64_t limit)
{
    uint64_t count = read_count(dump->file, id);
    if (count == 0)
        return;
    printf("[%s] records=%" PRIu64 " record_bytes=%" PRIu32 "\n", read_table_name(id), count,
           read_record_bytes(dump->file, id));
    if (id == HMK_STRINGS) {
        dump_strings(dump, from, limit);
        return;
    }
    for (uint64_t i = from; i < count && i - from < limit; i++)
        dump_record(dump, id, i);
}

int cmd_dump(int argc, char **argv)
{
    static const struct option options[] = {
        { "table", required_argument, NULL, 't' }, { "from", required_argument, NULL, 'f' },
        { "limit", required_argument, NULL, 'n' }, { "help", no_argument, NULL, 'h' }, { 0 },
    };
    const char *only = NULL;
    uint64_t from = 0, limit = UINT64_MAX;
    bool found = false;

    for (int option; (option = command_option(argc, argv, ":t:n:h", options)) != -1; ) {
        if (option == 't')
            only = optarg;
        else if (option == 'h')
            return command_help(help);
        else if (option == '?')
            return COMMAND_BAD;
        else if (!command_number(optarg, UINT64_MAX, option == 'f' ? &from : &limit))
            return command_misused("dump", "'%s' is not a number", optarg);
    }
    if (argc - optind != 1)
        return command_misused("dump", argc == optind ? "no recording given" : "one recording at a time");

    struct read_error error;
    struct read_file *file = read_open(argv[optind], &error);
    if (!file)
        return command_bad("dump", "%s", error.sentence);
    struct dump dump = { .file = file, .line = STRBUF_INIT };
    if (!only || strcmp(only, "header") == 0) {
        found = true;
        dump_header(&dump);
    }
    if (!only || strcmp(only, "live") == 0) {
        found = true;
        dump_live(&dump);
    }
    for (unsigned id = 0; id < HMK_TABLE_SLOTS; id++) {
        if (only && strcmp(only, read_table_name(id)) != 0)
            continue;
        found = true;
        dump_table(&dump, id, from, limit);
    }
    strbuf_free(&dump.line);
    read_close(file);
    return found ? COMMAND_OK : command_misused("dump", "there is no table '%s'", only);
}
