/* SPDX-License-Identifier: MIT */
#include "cli/command.h"

#include "base/strbuf.h"
#include "cli/process.h"
#include "contract/read.h"
#include "viewer/json.h"
#include "viewer/plain.h"
#include "viewer/units.h"
#include <getopt.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char help[] =
    "Usage: heapmark info [OPTION]... FILE...\n"
    "Says what a recording is: of which process, in which state, whether it is complete, what was lost.\n\n"
    "  --json         for machines: \"format\": \"heapmark-info\", \"version\": 1\n"
    "  --help\n\n"
    "Example: heapmark info heapmark.*.hmk\n"
    "Exit status: 0 fine, 2 a file could not be read.\n";

/* What could not be recorded, and what it means. */
struct loss {
    const char *key;
    uint64_t count;
    const char *noun, *meaning;
};
#define LOSS_COUNT 9

static void find_losses(const struct hmk_live *live, struct loss losses[LOSS_COUNT])
{
    const struct loss all[LOSS_COUNT] = {
        { "lost_sites", live->lost_sites, "stack", "not recorded; their blocks are counted together" },
        { "lost_events", live->lost_events, "event", "that did not fit into the log" },
        { "lost_reentrant", live->lost_reentrant, "allocation", "made inside a hook, by a signal handler" },
        { "abandoned_events", live->abandoned_events, "allocation", "that a signal handler left by longjmp" },
        { "unknown_frees", live->unknown_frees, "free", "of a block older than heapmark, or of another allocator" },
        { "stale_live", live->stale_live, "free", "missed: a block believed live was seen reused" },
        { "cut_stacks", live->cut_stacks, "stack", "deeper than the depth limit; the root side is missing" },
        { "incomplete_stacks", live->incomplete_stacks, "stack", "ended at a frame nobody could unwind" },
        { "foreign_forks", live->foreign_forks, "fork", "whose child has no recording" },
    };
    memcpy(losses, all, sizeof all);
}

static const char *machine_name(uint32_t machine)
{
    return machine == 62 ? "x86-64" : machine == 183 ? "aarch64" : "unknown machine";
}

static const char *stop_reason(const struct hmk_live *live)
{
    static const char *const reasons[] = { NULL, "the disk is full", "no memory", "no file could be made" };
    return live->stop_reason < sizeof reasons / sizeof *reasons ? reasons[live->stop_reason] : "unknown reason";
}

/* One word for machines. */
static const char *state_word(const struct read_file *file)
{
    switch (read_live(file)->state) {
    case HMK_STATE_RUNNING: {
        enum process_life life = process_life(read_header(file));
        return life == PROCESS_ALIVE ? "running" : life == PROCESS_GONE ? "killed" : "unknown";
    }
    case HMK_STATE_EXITED: return "exited";
    case HMK_STATE_EXITED_FAST: return "exited-fast";
    case HMK_STATE_ABORTED: return "aborted";
    case HMK_STATE_EXECED: return "execed";
    case HMK_STATE_STOPPED: return "stopped";
    default: return "unknown";
    }
}

static void put_state(struct strbuf *out, const struct read_file *file)
{
    const struct hmk_live *live = read_live(file);
    const char *word = state_word(file);

    if (strcmp(word, "running") == 0)
        strbuf_put(out, "running");
    else if (strcmp(word, "killed") == 0)
        strbuf_put(out, "ended without saying so: killed, or in another container");
    else if (strcmp(word, "unknown") == 0)
        strbuf_put(out, "unknown: recorded on another machine or before its last boot, and never ended");
    else if (strcmp(word, "execed") == 0)
        strbuf_put(out, "replaced by exec; the next program has its own recording");
    else if (strcmp(word, "aborted") == 0)
        strbuf_put(out, "aborted");
    else if (strcmp(word, "stopped") == 0)
        strbuf_put(out, "recording was given up");
    else
        strbuf_printf(out, "exited%s", word[6] == 0 ? "" : " by _exit");
    if (live->exit_status >= 0 && strncmp(word, "exited", 6) == 0)
        strbuf_printf(out, " with status %d", live->exit_status);
    if (stop_reason(live))
        strbuf_printf(out, "; new stacks are no longer recorded: %s", stop_reason(live));
}

static uint64_t ran_ns(const struct read_file *file)
{
    const struct hmk_live *live = read_live(file);
    uint64_t end = live->end_ns ? live->end_ns : live->last_ns;
    return end > read_header(file)->start_ns ? end - read_header(file)->start_ns : 0;
}

__attribute__((format(printf, 2, 3)))
static void row(const char *name, const char *format, ...)
{
    struct strbuf raw = STRBUF_INIT, plain = STRBUF_INIT;
    va_list arguments;
    va_start(arguments, format);
    strbuf_vprintf(&raw, format, arguments);
    va_end(arguments);
    plain_put(&plain, raw.text);
    printf("  %-12s %s\n", name, plain.text);
    strbuf_free(&raw);
    strbuf_free(&plain);
}

static void print_losses(const struct hmk_live *live)
{
    struct loss losses[LOSS_COUNT];
    char count[UNITS_BYTES];
    bool any = false;

    find_losses(live, losses);
    for (size_t i = 0; i < LOSS_COUNT; i++) {
        if (losses[i].count == 0)
            continue;
        row(any ? "" : "not recorded", "%s %s",
            units_counted(count, (int64_t)losses[i].count, losses[i].noun), losses[i].meaning);
        any = true;
    }
    if (!any)
        row("complete", "yes, nothing was lost");
    if (live->verify_checked != 0) {
        char wrong[UNITS_BYTES];
        row("verified", "%s stacks compared with the reference unwinder, %s differed",
            units_count(count, (int64_t)live->verify_checked), units_count(wrong, (int64_t)live->verify_wrong));
    }
}

static void print_tables(const struct read_file *file)
{
    char count[UNITS_BYTES], size[UNITS_BYTES];
    puts("  tables       records        space");
    for (unsigned id = 0; id < HMK_TABLE_SLOTS; id++)
        if (read_count(file, id) != 0)
            printf("    %-12s %11s  %10s\n", read_table_name(id), units_count(count, (int64_t)read_count(file, id)),
                   units_size(size, (int64_t)read_chunk_bytes(file, id)));
}

static void print_text(const struct read_file *file)
{
    const struct hmk_header *header = read_header(file);
    const struct hmk_live *live = read_live(file);
    char a[UNITS_BYTES], b[UNITS_BYTES], c[UNITS_BYTES];
    struct strbuf state = STRBUF_INIT;

    put_state(&state, file);
    struct strbuf path = STRBUF_INIT;
    plain_put(&path, read_path(file));
    printf("%s\n", path.text);
    strbuf_free(&path);
    row("program", "%s", read_string(file, header->exe));
    row("command", "%s", read_string(file, header->command));
    row("process", "%" PRIu32 ", child of %" PRIu32 "%s", header->pid, header->ppid,
        header->flags & HMK_FLAG_FORKED ? " by fork: continues its stacks" : "");
    row("started", "%s, ran %s", units_date(a, header->start_realtime_ns), units_duration(b, ran_ns(file)));
    row("state", "%s", state.text);
    row("machine", "%s, %s, %s, pages of %s", read_string(file, header->host), machine_name(header->machine),
        read_string(file, header->libc), units_size(a, header->page_bytes));
    if (header->flags & HMK_FLAG_SAMPLED)
        row("recorded", "one allocation every %s on average", units_size(a, (int64_t)header->sample_bytes));
    else
        row("recorded", "every allocation, stacks of up to %" PRIu32 " frames by %s", header->depth_max,
            read_string(file, header->unwinder));
    if (*read_string(file, header->options))
        row("options", "%s", read_string(file, header->options));
    row("heap", "%s live now, %s at the peak, in %s", units_size(a, live->heap.live_bytes),
        units_size(b, live->heap.peak_bytes), units_counted(c, live->heap.peak_blocks, "block"));
    row("RSS", "%s last, %s at the peak, heapmark itself %s", units_size(a, (int64_t)live->rss_last_bytes),
        units_size(b, (int64_t)live->rss_peak_bytes), units_size(c, (int64_t)live->self_bytes));
    print_losses(live);
    row("file", "%s, format %" PRIu32 ".%" PRIu32 ", written by heapmark %s%s", units_size(a, (int64_t)read_size(file)),
        header->version, header->minor, header->tool_version,
        header->flags & HMK_FLAG_MEMFD ? ", in memory only" : "");
    print_tables(file);
    strbuf_free(&state);
}

static void print_json(const struct read_file *file)
{
    struct json document = json_start(stdout), *json = &document;
    const struct hmk_header *header = read_header(file);
    const struct hmk_live *live = read_live(file);
    struct loss losses[LOSS_COUNT];

    json_open(json, NULL, '{');
    json_string(json, "format", "heapmark-info");
    json_uint(json, "version", 1);
    json_string(json, "path", read_path(file));
    json_uint(json, "file_bytes", read_size(file));
    json_uint(json, "format_version", header->version);
    json_uint(json, "format_minor", header->minor);
    json_string(json, "heapmark", header->tool_version);
    json_string(json, "exe", read_string(file, header->exe));
    json_string(json, "command", read_string(file, header->command));
    json_string(json, "cwd", read_string(file, header->cwd));
    json_string(json, "host", read_string(file, header->host));
    json_string(json, "machine", machine_name(header->machine));
    json_string(json, "libc", read_string(file, header->libc));
    json_string(json, "options", read_string(file, header->options));
    json_string(json, "unwinder", read_string(file, header->unwinder));
    json_uint(json, "depth_max", header->depth_max);
    json_uint(json, "sample_bytes", header->sample_bytes);
    json_uint(json, "page_bytes", header->page_bytes);
    json_uint(json, "pid", header->pid);
    json_uint(json, "ppid", header->ppid);
    json_uint(json, "root_pid", header->root_pid);
    json_bool(json, "forked", (header->flags & HMK_FLAG_FORKED) != 0);
    json_seconds(json, "started_at", header->start_realtime_ns);
    json_seconds(json, "ran_seconds", ran_ns(file));
    json_string(json, "state", state_word(file));
    json_int(json, "exit_status", live->exit_status);
    json_string(json, "stop_reason", stop_reason(live));
    json_open(json, "losses", '{');
    find_losses(live, losses);
    for (size_t i = 0; i < LOSS_COUNT; i++)
        json_uint(json, losses[i].key, losses[i].count);
    json_close(json, '}');
    json_uint(json, "verify_checked", live->verify_checked);
    json_uint(json, "verify_wrong", live->verify_wrong);
    json_open(json, "tables", '{');
    for (unsigned id = 0; id < HMK_TABLE_SLOTS; id++) {
        json_open_line(json, read_table_name(id), '{');
        json_uint(json, "records", read_count(file, id));
        json_uint(json, "bytes", read_chunk_bytes(file, id));
        json_close(json, '}');
    }
    json_close(json, '}');
    json_close(json, '}');
    json_end(json);
}

int cmd_info(int argc, char **argv)
{
    static const struct option options[] = {
        { "json", no_argument, NULL, 'j' }, { "help", no_argument, NULL, 'h' }, { 0 },
    };
    bool as_json = false;
    int status = COMMAND_OK;

    for (int option; (option = command_option(argc, argv, ":h", options)) != -1; ) {
        if (option == 'h')
            return command_help(help);
        if (option == '?')
            return COMMAND_BAD;
        as_json = true;
    }
    if (optind == argc)
        return command_misused("info", "no recording given");

    for (int i = optind; i < argc; i++) {
        struct read_error error;
        struct read_file *file = read_open(argv[i], &error);
        if (!file) {
            status = command_bad("info", "%s", error.sentence);
            continue;
        }
        if (as_json)
            print_json(file);
        else
            print_text(file);
        if (!as_json && i + 1 < argc)
            putchar('\n');
        read_close(file);
    }
    return status;
}
