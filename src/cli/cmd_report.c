/* SPDX-License-Identifier: MIT */
#include "cli/command.h"

#include "base/fail.h"
#include "cli/ask.h"
#include "cli/live.h"
#include "cli/reading.h"
#include "contract/control.h"
#include "contract/read.h"
#include "symbols/symbolizer.h"
#include "viewer/report.h"
#include <getopt.h>
#include <regex.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char help[] =
    "Usage: heapmark report [OPTION]... FILE|PID...\n"
    "Says why the memory of a recorded process is what it is: what is live, what was freed\n"
    "but is still held and why, who made the high-water mark, and what to do.\n\n"
    "  --sort KEY       one table of sites instead of the overview: live, peak (share of\n"
    "                   the heap's peak), own-peak, held, pinned, total, count, temporary, mapped\n"
    "  -n N             sites in a table (5 in the overview, 20 with --sort), 0: all\n"
    "  --depth N        lines of a stack (3 in the overview, 4 with --sort)\n"
    "  --full           whole stacks, names and paths; each stack a row of its own\n"
    "  --filter REGEX   only sites with a function, file or module that matches (extended regex)\n"
    "  --no-symbols     module and offset instead of names\n"
    "  --debuginfod     may fetch debug information from the servers in DEBUGINFOD_URLS\n"
    "  --no-snapshot    do not ask a running process for a census when the last one is out of date\n"
    "  --exact          ask a running process for a census of one instant, by a forked child of it\n"
    "  --json           everything, for machines: \"format\": \"heapmark-report\", \"version\": 1\n"
    "  --color WHEN     auto, always or never; NO_COLOR in the environment means never\n"
    "  --help\n\n"
    "Examples:\n"
    "  heapmark report heapmark.python3.4711.hmk\n"
    "  heapmark report --sort peak -n 3 --full heapmark.jq.4711.hmk\n"
    "  heapmark report --json FILE | jq .verdict\n"
    "Exit status: 0 fine, 2 a file could not be read.\n";

struct request {
    struct report_options options;
    struct symbolizer_options symbols;
    regex_t filter;
    bool json, no_snapshot, exact;
    bool color_always, color_never;
};

static void complain(void *context, const char *sentence)
{
    (void)context;
    fprintf(stderr, "heapmark report: %s\n", sentence);
}

/* On a terminal only, and gone when it is done. */
static void show_progress(void *context, size_t done, size_t total)
{
    (void)context;
    if (done < total)
        fprintf(stderr, "\rlooking up names: %zu of %zu ", done, total);
    else
        fprintf(stderr, "\r%*s\r", 60, "");
}

/* A number that is no file's name is a process: its recording is found among what it has mapped. */
static bool is_process(const char *argument)
{
    uint64_t pid;
    return command_number(argument, INT32_MAX, &pid) && access(argument, F_OK) != 0;
}

/* A running process whose last census tells of another time is asked for one of now.  False: its recording could not be
 * read again. */
static bool refresh(const struct request *request, struct reading *reading, const char *path, struct read_error *error)
{
    const struct ask_options options = { .timeout_ns = ASK_TIMEOUT_NS };
    struct live live;
    struct ask ask;
    struct fail why;

    if (!live_open(&live, path, &why)) {
        command_bad("report", "no census of now: %s", why.text);
        return true;
    }
    bool answered = ask_wait(&ask, &live, request->exact ? HMK_REQUEST_EXACT : HMK_REQUEST_SNAPSHOT, 0, "", &options,
                             &why);
    if (!answered || ask.status != HMK_ANSWER_DONE)
        command_bad("report", "no census of now: %s", answered ? "the process could not take one" : why.text);
    else if (request->exact && ask_exact_doubt(&ask, ask.answer[HMK_EXACT_NOT], ask.answer[HMK_EXACT_INSIDE], &why))
        command_bad("report", "%s", why.text);
    live_close(&live);
    if (!answered)
        return true;
    reading_close(reading);
    return reading_open(reading, path, error);
}

static bool open_fresh(const struct request *request, struct reading *reading, const char *path,
                       struct read_error *error)
{
    if (!reading_open(reading, path, error))
        return false;
    bool stale = reading->report.life == REPORT_RUNNING && (request->exact || !reading->report.current);
    return !stale || request->no_snapshot || refresh(request, reading, path, error);
}

static bool report_one(const struct request *request, const char *path, bool headed)
{
    struct read_error error;
    struct reading reading;

    if (!open_fresh(request, &reading, path, &error)) {
        command_bad("report", "%s", error.sentence);
        return false;
    }
    if (headed)
        printf("==> %s <==\n", path);
    if (request->json)
        report_json(&reading.report, &request->options, stdout);
    else
        report_text(&reading.report, &request->options, stdout);
    reading_close(&reading);
    return true;
}

static int report_files(const struct request *request, char **arguments, int count)
{
    int status = COMMAND_OK;

    for (int i = 0; i < count; i++) {
        bool headed = !request->json && count > 1;
        struct live live;
        struct fail why;
        bool good;
        if (headed && i > 0)
            putchar('\n');
        if (!is_process(arguments[i])) {
            good = report_one(request, arguments[i], headed);
        } else if (live_open(&live, arguments[i], &why)) {
            good = report_one(request, live.path, headed);
            live_close(&live);
        } else {
            good = command_bad("report", "%s", why.text) == COMMAND_OK;
        }
        if (!good)
            status = COMMAND_BAD;
    }
    return status;
}

enum { OPTION_SORT = 256, OPTION_DEPTH, OPTION_FULL, OPTION_FILTER, OPTION_NO_SYMBOLS, OPTION_DEBUGINFOD,
       OPTION_NO_SNAPSHOT, OPTION_EXACT, OPTION_JSON, OPTION_COLOR };

static const struct option options[] = {
    { "sort", required_argument, NULL, OPTION_SORT }, { "depth", required_argument, NULL, OPTION_DEPTH },
    { "full", no_argument, NULL, OPTION_FULL }, { "filter", required_argument, NULL, OPTION_FILTER },
    { "no-symbols", no_argument, NULL, OPTION_NO_SYMBOLS }, { "debuginfod", no_argument, NULL, OPTION_DEBUGINFOD },
    { "no-snapshot", no_argument, NULL, OPTION_NO_SNAPSHOT }, { "exact", no_argument, NULL, OPTION_EXACT },
    { "json", no_argument, NULL, OPTION_JSON }, { "color", required_argument, NULL, OPTION_COLOR },
    { "help", no_argument, NULL, 'h' }, { 0 },
};

static bool set_number(const char *what, uint64_t limit, uint64_t *value)
{
    if (command_number(optarg, limit, value) && *value > 0)
        return true;
    command_misused("report", "'%s' is not a number for %s", optarg, what);
    return false;
}

static bool set_filter(struct request *request)
{
    char reason[200];
    if (request->options.filter) {
        command_misused("report", "one --filter at a time");
        return false;
    }
    int code = regcomp(&request->filter, optarg, REG_EXTENDED | REG_NOSUB);
    if (code == 0) {
        request->options.filter = &request->filter;
        return true;
    }
    regerror(code, &request->filter, reason, sizeof reason);
    command_misused("report", "'%s' is not a regular expression: %s", optarg, reason);
    return false;
}

static bool set_color(struct request *request)
{
    request->color_always = strcmp(optarg, "always") == 0;
    request->color_never = strcmp(optarg, "never") == 0;
    if (request->color_always || request->color_never || strcmp(optarg, "auto") == 0)
        return true;
    command_misused("report", "--color is auto, always or never, not '%s'", optarg);
    return false;
}

static bool set_option(struct request *request, int option)
{
    uint64_t number = 0;
    switch (option) {
    case OPTION_SORT:
        request->options.sort = rank_key_named(optarg);
        if (request->options.sort == RANK_KEYS)
            command_misused("report", "'%s' is no key to sort by", optarg);
        return request->options.sort != RANK_KEYS;
    case 'n':
        if (strcmp(optarg, "0") != 0 && !set_number("-n", UINT32_MAX, &number))
            return false;
        request->options.limit = number ? number : REPORT_ALL;
        return true;
    case OPTION_DEPTH:
        if (!set_number("--depth", 100000, &number))
            return false;
        request->options.depth = (unsigned)number;
        return true;
    case OPTION_FULL: request->options.full = true; return true;
    case OPTION_FILTER: return set_filter(request);
    case OPTION_NO_SYMBOLS: request->options.symbols = NULL; return true;
    case OPTION_DEBUGINFOD: request->symbols.debuginfod = true; return true;
    case OPTION_NO_SNAPSHOT: request->no_snapshot = true; return true;
    case OPTION_EXACT: request->exact = true; return true;
    case OPTION_JSON: request->json = true; return true;
    case OPTION_COLOR: return set_color(request);
    default: return false;
    }
}

int cmd_report(int argc, char **argv)
{
    struct request request = {
        .options = { .sort = RANK_KEYS, .symbols = &request.symbols },
        .symbols = { .complain = complain, .progress = isatty(STDERR_FILENO) ? show_progress : NULL },
    };
    bool good = true;
    int status = COMMAND_BAD;

    for (int option; good && (option = command_option(argc, argv, ":n:h", options)) != -1; ) {
        if (option == 'h')
            return command_help(help);
        good = set_option(&request, option);
    }
    if (good && request.exact && request.no_snapshot) {
        good = false;
        status = command_misused("report", "--exact and --no-snapshot exclude each other");
    }
    if (good && optind == argc)
        status = command_misused("report", "no recording given");
    else if (good) {
        request.options.width = command_width(STDOUT_FILENO);
        request.options.color = request.color_always || (!request.color_never && command_color(STDOUT_FILENO));
        status = report_files(&request, argv + optind, argc - optind);
    }
    if (request.options.filter)
        regfree(&request.filter);
    return status;
}
