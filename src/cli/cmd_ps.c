/* SPDX-License-Identifier: MIT */
#include "base/array.h"
#include "base/fail.h"
#include "base/strbuf.h"
#include "cli/command.h"
#include "cli/live.h"
#include "cli/process.h"
#include "cli/reading.h"
#include "contract/format.h"
#include "contract/publish.h"
#include "contract/read.h"
#include "viewer/json.h"
#include "viewer/plain.h"
#include "viewer/units.h"
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static const char help[] =
    "Usage: heapmark ps [OPTION]...\n"
    "Lists the processes that are being recorded and that you may look into, the largest first: resident memory, live\n"
    "heap, memory freed but still held (at the newest ledger), time since the start of the recording.\n\n"
    "  --json         for machines: \"format\": \"heapmark-ps\", \"version\": 1\n"
    "  --help\n\n"
    "Exit status: 0.\n";

struct row {
    pid_t pid;
    char *name, *exe, *path;
    uint64_t rss_bytes, age_ns;
    int64_t live_bytes;
    bool held_known;
    int64_t held_bytes;
    uint64_t held_age_ns;
};
typedef ARRAY_OF(struct row) row_array;

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static uint64_t since(uint64_t then_ns)
{
    uint64_t now = now_ns();
    return now > then_ns ? now - then_ns : 0;
}

static void find_held(struct row *row)
{
    struct read_error error;
    struct read_file *file = read_open(row->path, &error);
    if (!file)
        return;
    struct ledgers ledgers = ledgers_read(file);
    const struct ledger *newest = ledgers_newest(&ledgers);
    if (newest) {
        row->held_known = true;
        row->held_bytes = newest->held_bytes;
        row->held_age_ns = row->age_ns > newest->time_ns ? row->age_ns - newest->time_ns : 0;
    }
    ledgers_free(&ledgers);
    read_close(file);
}

static bool add_process(pid_t pid, void *context)
{
    row_array *rows = context;
    struct live live;
    struct fail unused;
    if (!live_open_pid(&live, pid, &unused))
        return true;
    struct strbuf exe = STRBUF_INIT, name = STRBUF_INIT;
    process_exe(pid, &exe);
    process_name(pid, &name);
    struct row *row = array_add(rows);
    row->pid = pid;
    row->rss_bytes = process_rss_bytes(pid);
    row->age_ns = since(live.header->start_ns);
    row->live_bytes = HMK_GET(live.totals->heap.live_bytes);
    row->path = live.path;
    live.path = NULL;
    row->exe = strbuf_take(&exe);
    row->name = strbuf_take(&name);
    live_close(&live);
    find_held(row);
    return true;
}

static int by_rss(const void *a, const void *b)
{
    const struct row *first = a, *second = b;
    if (first->rss_bytes != second->rss_bytes)
        return first->rss_bytes < second->rss_bytes ? 1 : -1;
    return (first->pid > second->pid) - (first->pid < second->pid);
}

static void print_json(const row_array *rows)
{
    struct json json = json_start(stdout);
    json_open(&json, NULL, '{');
    json_string(&json, "format", "heapmark-ps");
    json_uint(&json, "version", 1);
    json_open(&json, "processes", '[');
    for (size_t i = 0; i < rows->count; i++) {
        const struct row *row = &rows->at[i];
        json_open(&json, NULL, '{');
        json_int(&json, "pid", row->pid);
        json_string(&json, "program", row->name);
        json_string(&json, "exe", row->exe);
        json_uint(&json, "rss", row->rss_bytes);
        json_int(&json, "live", row->live_bytes);
        if (row->held_known) {
            json_int(&json, "held", row->held_bytes);
            json_seconds(&json, "held_age_seconds", row->held_age_ns);
        } else {
            json_null(&json, "held");
        }
        json_seconds(&json, "age_seconds", row->age_ns);
        json_string(&json, "recording", row->path);
        json_close(&json, '}');
    }
    json_close(&json, ']');
    json_close(&json, '}');
    json_end(&json);
}

static void print_text(const row_array *rows)
{
    struct strbuf line = STRBUF_INIT;
    char a[UNITS_BYTES], b[UNITS_BYTES], c[UNITS_BYTES], d[UNITS_BYTES];
    if (rows->count == 0) {
        fputs("No process that you may look into is being recorded.\n", stderr);
        return;
    }
    printf("%7s %-15s %11s %11s %22s %9s  %s\n", "PID", "PROGRAM", "RSS", "LIVE", "HELD", "AGE", "RECORDING");
    for (size_t i = 0; i < rows->count; i++) {
        const struct row *row = &rows->at[i];
        strbuf_clear(&line);
        plain_put(&line, row->path);
        char held[2 * UNITS_BYTES] = "-";
        if (row->held_known)
            snprintf(held, sizeof held, "%s, %s ago", units_size(c, row->held_bytes),
                     units_duration(d, row->held_age_ns));
        printf("%7d %-15.15s %11s %11s %22s %9s  %s\n", (int)row->pid, row->name,
               units_size(a, (int64_t)row->rss_bytes), units_size(b, row->live_bytes), held,
               units_duration(d, row->age_ns), line.text);
    }
    strbuf_free(&line);
}

int cmd_ps(int argc, char **argv)
{
    static const struct option options[] = {
        { "json", no_argument, NULL, 'j' }, { "help", no_argument, NULL, 'h' }, { 0 },
    };
    bool as_json = false;
    row_array rows = {0};
    for (int option; (option = command_option(argc, argv, ":h", options)) != -1;) {
        if (option == 'h')
            return command_help(help);
        if (option == '?')
            return COMMAND_BAD;
        as_json = true;
    }
    if (optind != argc)
        return command_misused("ps", "it takes no arguments");
    process_each(add_process, &rows);
    array_sort(&rows, by_rss);
    if (as_json)
        print_json(&rows);
    else
        print_text(&rows);
    for (size_t i = 0; i < rows.count; i++) {
        free(rows.at[i].name);
        free(rows.at[i].exe);
        free(rows.at[i].path);
    }
    array_free(&rows);
    return COMMAND_OK;
}
